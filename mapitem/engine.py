"""All maps of a store in memory: judging writes, and the one place where anything changes.

The engine judges a write and names what has to be done as a list of *operations*, plain tuples of scalars and bytes.
Whoever calls it puts the list into the log and then hands it back to ``apply``, the only place where anything changes:
live writes and replay share it, so that recovery cannot mean something else than writing did.

It knows no file, lock, callback or clock and no object of the user's: instants come in as whole microseconds, data as
packed bytes. Nothing here is thread-safe; the store holds its lock around every call, except where a docstring says
that a read needs none.
"""

from __future__ import annotations

from array import array
from itertools import count

from sortedcontainers import SortedDict

from mapitem.errors import ItemExists, ItemNotFound, LogCorrupt, MapExists, MapNotFound, RevisionMismatch
from mapitem.item import (
    FULL,
    MOST_EVENTS,
    NEVER,
    most_counted,
    pack_row,
    row_created_by,
    row_expires,
    row_number,
    row_tail,
    row_times,
)
from mapitem.limits import looks_like_sid
from mapitem.records import ADD, EXPIRE, FORGET, ITEMS, MAP, MAP_END, MAP_STATE, MAP_TTL, REMOVE, UPDATE
from mapitem.state import ALWAYS_LOOK, MapState, is_due

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

    from mapitem.keyrange import KeyRange
    from mapitem.records import Operation
    from mapitem.state import Draft, Row

    # What an event did: the map, the operation, and the row it replaced (for EXPIRE, the rows), if any.
    Change: TypeAlias = tuple[MapState, Operation, Row | list[Row] | None]

ABSENT = "absent"
"""A condition beside ``None`` (any), ``"*"`` (present) and a revision: there is no such item. No revision spells so."""

_SECOND = 1_000_000
_BYTES_PER_MAP = 200


class Engine:
    """All maps of one store."""

    def __init__(self) -> None:
        self._by_no: dict[int, MapState] = {}
        self._by_name: dict[str, MapState] = {}
        self._by_sid: dict[str, MapState] = {}
        self._next_no = 0
        # What a new map keeps its rows in; a load takes plain dicts and sorts once at its end.
        self._new_rows: type[Any] = SortedDict

    # ------------------------------------------------------------ maps

    def find(self, name_or_sid: str, now: int) -> MapState:
        """The live map of that name or sid, or ``MapNotFound``."""
        by_name = not looks_like_sid(name_or_sid)
        state = (self._by_name if by_name else self._by_sid).get(name_or_sid)
        if state is None or self.is_over(state, now):
            raise MapNotFound(f"no map {name_or_sid!r}", name=name_or_sid, by_name=by_name)
        return state

    def states(self) -> list[MapState]:
        """Every map that was not dropped, the expired ones too, in no order."""
        return list(self._by_no.values())

    def state(self, sid: str) -> MapState:
        """The map of that sid, expired or not; ``MapNotFound`` if it was dropped."""
        try:
            return self._by_sid[sid]
        except KeyError:
            raise MapNotFound(f"no map {sid!r}", name=sid) from None

    def by_no(self, no: int) -> MapState:
        """The map of that number, which was not dropped."""
        return self._by_no[no]

    def watched(self, operations: Sequence[Operation]) -> list[MapState]:
        """The maps that these operations are about and somebody watches. Ask before they are applied: a map may end."""
        states = [self._by_no.get(no) for no in {operation[1] for operation in operations}]
        return [state for state in states if state is not None and state.watchers]

    def live_states(self, now: int) -> list[MapState]:
        """The live maps by name, the nameless last by sid (S2)."""
        live = [state for state in self._by_no.values() if not self.is_over(state, now)]
        return sorted(live, key=lambda state: (state.name is None, state.name or state.sid))

    @staticmethod
    def is_over(state: MapState | Draft, now: int) -> bool:
        """Whether the map was dropped or has expired (T5). Needs no lock."""
        return state.ended is not None or is_due(state.expires, now)

    def check_alive(self, state: MapState | Draft, now: int) -> None:
        """``MapNotFound`` unless the map is live (K6). Needs no lock."""
        if self.is_over(state, now):
            raise MapNotFound(f"the map {state.label} is gone", name=state.name or state.sid)

    # ------------------------------------------------------------ reads

    def row(self, state: MapState | Draft, key: str, now: int) -> Row | None:
        """The row of a live map's present item, or ``None`` (T3). Needs no lock: the row itself says if it is due."""
        row: Row | None = state.rows.get(key)
        return None if row is None or is_due(row_expires(row), now) else row

    def count(self, state: MapState, now: int) -> int:
        """How many items are present. Costs a step for each that is due and not yet removed."""
        if state.torn:
            state.mend()
        return len(state.rows) - len(state.due_keys(now))

    def page(
        self, state: MapState, listing: KeyRange, cut: str | None, backwards: bool, size: int, now: int
    ) -> tuple[list[tuple[str, Row]], bool, bool]:
        """Up to ``size`` items behind the cut in the listing, or in front of it if ``backwards``, in its order.

        Also whether there are items behind these, and whether there are some in front. One consistent look.
        """
        part = listing if cut is None else listing.before(cut) if backwards else listing.after(cut)
        found = self.scan(state, part, now, size + 1)
        more = len(found) > size
        del found[size:]
        if cut is None:
            return found, more, False
        if backwards:
            found.reverse()
            rest = listing.after(listing.cut_after(found[-1][0]) if found else cut)
            return found, bool(self.scan(state, rest, now, 1)), more
        rest = listing.before(listing.cut_before(found[0][0]) if found else cut)
        return found, more, bool(self.scan(state, rest, now, 1))

    def scan(self, state: MapState, part: KeyRange, now: int, limit: int) -> list[tuple[str, Row]]:
        """Up to ``limit`` present items of the range, in the order of the walk: one consistent look."""
        if state.torn:
            state.mend()
        rows = state.rows
        if now < state.quiet_until:
            keys = state.keys(part, limit)
            return list(zip(keys, map(rows.__getitem__, keys), strict=True))
        found: list[tuple[str, Row]] = []
        while limit > len(found):
            wanted = limit - len(found)
            keys = state.keys(part, wanted)
            found += [(key, row) for key in keys if not is_due(row_expires(row := rows[key]), now)]
            if len(keys) < wanted:
                break
            part = part.after(part.cut_after(keys[-1]))
        return found

    # ------------------------------------------------------------ judging writes

    def create_map(
        self, sid: str, name: str | None, created_by: str, ttl: int | None, or_open: bool, now: int
    ) -> tuple[list[Operation], str]:
        """A new map and its sid; an expired one that still bears the name is dropped first (T5).

        If a live one has the name: ``MapExists``, or nothing to do and that one's sid.
        """
        operations: list[Operation] = []
        if name is not None and (old := self._by_name.get(name)) is not None:
            if not self.is_over(old, now):
                if or_open:
                    return [], old.sid
                raise MapExists(f"there is a map named {name!r} already", name=name)
            operations.append((MAP_END, old.no, now, True))
        no = self._next_no
        if no >= MOST_EVENTS:
            # Behind a number that only somebody else can have written.
            no = next(each for each in count() if each not in self._by_no)
        operations.append((MAP, no, sid, name, created_by, now, now, _expiry(now, ttl, NEVER), 0, 0))
        return operations, sid

    def put(
        self,
        state: MapState | Draft,
        key: str,
        data: bytes | None,
        created_by: bytes,
        ttl: int | None,
        collection_ttl: int | None,
        condition: str | None,
        now: int,
    ) -> tuple[list[Operation], Row]:
        """An item written whole, and its new row. ``data=None`` keeps what it had. ``ttl`` is relative, in seconds.

        Raises on the first of: map gone, item there or absent against the condition, another revision (C2). At last
        ``LogCorrupt`` for a map whose count of events is that of a forged file.
        """
        old: Row | None = state.rows.get(key)
        operations: list[Operation] = []
        number = state.counter
        if now >= state.quiet_until:
            self.check_alive(state, now)
            old = self.row(state, key, now)
            operations, number = self._expire_first(state, now)
        if condition is not None:
            judge(key, old, condition)
        if old is None:
            kind = ADD
            created = updated = now
            expires = NEVER
        else:
            kind = UPDATE
            created, updated, expires = row_times(old)
            if updated < now:
                updated = now
            if data is None:
                created_by, data = row_tail(old), b""
            else:
                created_by = row_created_by(old, created_by)
        if ttl is not None:
            expires = _expiry(now, ttl, expires)
        assert data is not None, "an absent item has no data to keep"
        if number >= FULL:
            reason = f"the map {state.label} counts {number} events, more than there ever were: it takes no more items"
            raise LogCorrupt(reason, reason=reason)
        row = pack_row(number, created, updated, expires, created_by, data)
        # The date of the event is the clock's, the item's own does not go back: they differ if the clock did.
        operations.append((kind, state.no, key, row) if updated == now else (kind, state.no, key, row, now))
        if collection_ttl is not None:
            operations.append((MAP_TTL, state.no, _expiry(now, collection_ttl, NEVER)))
        return operations, row

    def remove(self, state: MapState | Draft, key: str, condition: str | None, now: int) -> tuple[list[Operation], Row]:
        """The removal of an item that must be present, and the row as it was."""
        row: Row | None = state.rows.get(key)
        operations: list[Operation] = []
        number = state.counter
        if now >= state.quiet_until:
            self.check_alive(state, now)
            row = self.row(state, key, now)
            operations, number = self._expire_first(state, now)
        if row is None or condition is not None:
            judge(key, row, condition or "*")
        assert row is not None
        operations.append((REMOVE, state.no, key, number, now))
        return operations, row

    def set_map_ttl(self, state: MapState, ttl: int, now: int) -> tuple[list[Operation], None]:
        """A new expiry for a live map: no event, and nothing else (W6)."""
        self.check_alive(state, now)
        return [(MAP_TTL, state.no, _expiry(now, ttl, NEVER))], None

    def remove_map(self, state: MapState, now: int) -> tuple[list[Operation], None]:
        """The end of a live map with all its items."""
        self.check_alive(state, now)
        return [(MAP_END, state.no, now, False)], None

    def purge(self, state: MapState, now: int) -> tuple[list[Operation], int]:
        """The removal of what is due in a live map, and how many items that is."""
        self.check_alive(state, now)
        operations, number = self._expire_first(state, now)
        return operations, number - state.counter

    def purge_all(self, now: int) -> tuple[list[Operation], int]:
        """The removal of every item that is due and every map that has expired, and how many items that is."""
        operations: list[Operation] = []
        gone = 0
        for state in self.states():
            if self.is_over(state, now):
                gone += len(state.rows)
                operations.append((MAP_END, state.no, now, True))
            else:
                expired, count = self.purge(state, now)
                operations += expired
                gone += count
        return operations, gone

    def _expire_first(self, state: MapState | Draft, now: int) -> tuple[list[Operation], int]:
        """What a write has to remove before it may begin (T4), and the number of the write's own event."""
        if now < state.quiet_until or not (keys := state.due_keys(now)):
            return [], state.counter
        return [(EXPIRE, state.no, keys, state.counter, now)], state.counter + len(keys)

    # ------------------------------------------------------------ changing: the one funnel

    def apply(self, operations: Sequence[Operation], place: int, changes: list[Change] | None = None) -> None:
        """Do what the record at ``place`` in the log says, and note in ``changes``, if given, what each event replaced.

        Operations come from this engine's own judgement or, checked, from the log. A record of several operations
        is seen whole or not at all: meanwhile, every read of its maps takes the long way and waits for the lock.
        """
        if len(operations) == 1:
            operation = operations[0]
            if operation[0] <= UPDATE and changes is None:
                # As ``_apply`` begins, without the call: nearly every record is like this.
                written = self._by_no[operation[1]]
                written.put(*operation[2:])
                written.places.append(place)
            else:
                self._apply(operation, place, changes)
            return
        # What is due is absent for every read already: while it is taken out, which may be long, nobody has to wait.
        while operations and operations[0][0] == EXPIRE:
            self._apply(operations[0], place, changes)
            operations = operations[1:]
        if len(operations) <= 1:
            # One write, or none: whole by itself.
            for operation in operations:
                self._apply(operation, place, changes)
            return
        held = [state for no in {operation[1] for operation in operations} if (state := self._by_no.get(no))]
        for state in held:
            state.held = True
            state.quiet_until = ALWAYS_LOOK
        for operation in operations:
            self._apply(operation, place, changes)
        for state in held:
            state.held = False
            state.settle()

    def _apply(self, operation: Operation, place: int, changes: list[Change] | None) -> None:
        kind = operation[0]
        if kind <= UPDATE:  # ADD or UPDATE, first because it is what nearly all operations are
            state = self._by_no[operation[1]]
            old = state.put(*operation[2:])
            state.places.append(place)
            if changes is not None:
                changes.append((state, operation, old))
            return
        if kind == MAP:
            self._apply_map(*operation[1:])
            return
        state = self._by_no[operation[1]]
        if kind == REMOVE:
            row = state.remove(*operation[2:])
            state.places.append(place)
            if changes is not None:
                changes.append((state, operation, row))
        elif kind == EXPIRE:
            if changes is not None:
                changes.append((state, operation, list(map(state.rows.__getitem__, operation[2]))))
            state.expire(*operation[2:])
            state.places += array("Q", [place]) * len(operation[2])
        elif kind == MAP_TTL:
            state.expires = operation[2]
            state.settle()
        elif kind == MAP_END:
            self._apply_map_end(state, *operation[2:])
            if changes is not None:
                changes.append((state, operation, None))
        elif kind == ITEMS:
            state.lay(*operation[2:])
        elif kind == FORGET:
            for key in operation[2]:
                if key in state.rows:
                    state.drop(key)
        elif kind == MAP_STATE:
            _, _, state.updated, state.expires, state.counter, state.oldest = operation
            state.settle()
        else:
            raise AssertionError(f"operation of unknown kind {kind!r}")

    def _apply_map(self, *fields: Any) -> None:
        state = MapState(*fields)
        state.rows = self._new_rows()
        self._by_no[state.no] = state
        self._by_sid[state.sid] = state
        if state.name is not None:
            self._by_name[state.name] = state
        self._next_no = max(self._next_no, state.no + 1)

    def _apply_map_end(self, state: MapState, date: int, expired: bool) -> None:
        # First, so that no read that needs no lock can see an emptied map as a live one.
        state.ended = (date, expired)
        state.quiet_until = ALWAYS_LOOK
        del self._by_no[state.no]
        del self._by_sid[state.sid]
        if state.name is not None:
            del self._by_name[state.name]
        state.rows = type(state.rows)()
        state.heap = []
        state.timed = state.live_bytes = 0

    # ------------------------------------------------------------ the whole, for a base and a load

    @property
    def live_bytes(self) -> int:
        """About how large a base of the present state would be."""
        return sum(state.live_bytes + _BYTES_PER_MAP for state in self._by_no.values())

    def forget_history(self) -> None:
        """From now on the feed of every map begins with its next event."""
        for state in self._by_no.values():
            state.forget_history()

    def take_over(self, before: Engine, now: int) -> None:
        """Let the states of an older look at the same store stand for the same maps here, so that handles go on.

        How a map ended that is gone by now is written nowhere; that it was due says so.
        """
        for old in before.states():
            new = self._by_sid.get(old.sid)
            if new is None:
                old.ended = (old.updated, is_due(old.expires, now))
                old.quiet_until = ALWAYS_LOOK
                continue
            # Whoever reads without the lock meanwhile must not see the one half with the other.
            old.held = True
            old.quiet_until = ALWAYS_LOOK
            for name in MapState.__slots__:
                if name not in ("quiet_until", "watchers"):
                    setattr(old, name, getattr(new, name))
            old.quiet_until = new.quiet_until
            self._by_no[old.no] = self._by_sid[old.sid] = old
            if old.name is not None:
                self._by_name[old.name] = old

    def load(self, records: Iterable[tuple[int, Sequence[Operation]]]) -> None:
        """Apply a whole log, given as (place, operations).

        Rows are sorted once at the end: one insertion at a time costs twice as much. Raises ``ValueError`` or
        ``KeyError`` at a record that does not follow from those before it.
        """
        self._new_rows = dict
        try:
            for place, operations in records:
                for operation in operations:
                    self._check_follows(operation)
                    self._apply(operation, place, None)
        finally:
            self._new_rows = SortedDict
        for state in self.states():
            if state.counter > most_counted(len(state.rows)):
                raise ValueError("a map that counts so far that its items cannot be removed any more")
            state.rows = SortedDict(state.rows)

    def _check_follows(self, operation: Operation) -> None:
        """Event numbers leave no gap, and a map is there before its items: what the log says must add up."""
        kind = operation[0]
        if kind == MAP:
            if operation[1] in self._by_no or operation[2] in self._by_sid or operation[3] in self._by_name:
                raise ValueError("a map that is there already")
            return
        state = self._by_no[operation[1]]
        if kind in (ADD, UPDATE):
            if (operation[2] in state.rows) is (kind == ADD):
                raise ValueError("an item added that was there, or updated that was not")
            number = row_number(operation[3])
        elif kind in (REMOVE, EXPIRE):
            number = operation[3]
        else:
            return
        if number != state.counter:
            raise ValueError(f"event {number} where event {state.counter} belongs")


# ---------------------------------------------------------------- rules with one owner


def _expiry(now: int, ttl: int | None, kept: int) -> int:
    """When something written now expires: ``None`` keeps, 0 clears, else so many seconds from now (T1)."""
    if ttl is None:
        return kept
    return now + ttl * _SECOND if ttl else NEVER


def judge(key: str, row: Row | None, condition: str | None) -> None:
    """Raise unless the item, whose row is given if it is present, is as the condition wants it (C1)."""
    if condition is None:
        return
    if condition == ABSENT:
        if row is not None:
            raise ItemExists(f"there is an item with key {key!r} already", key=key, revision=f"{row_number(row):x}")
        return
    if row is None:
        raise ItemNotFound(f"no item with key {key!r}", key=key)
    actual = f"{row_number(row):x}"
    if condition not in ("*", actual):
        raise RevisionMismatch(
            f"the item with key {key!r} is at revision {actual}, not {condition}",
            key=key,
            expected=condition,
            actual=actual,
        )

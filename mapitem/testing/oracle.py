"""The rules of the store written a second time, as plainly as they can be: a reference to hold the real store against.

A map is a dict of rows and a list of events; a search is a loop, an order is ``sorted``, a write works on a copy of the
map, which takes the map's place if all went well. Nothing is shared with the engine but the values that come back
(``MapItem``, ``Page``), the limits and the errors, so that a mistake made there is not made here too. To be read beside
the rules, which are cited by number: all of them but those on which no result depends, for it is slow on purpose and
knows no file, thread, callback, watch or closing (E3, F3, S1, S3, S4).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from copy import copy, deepcopy
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias

from mapitem import Limits, MapItem, Page
from mapitem.errors import (
    DataTooLarge,
    HistoryCompacted,
    InvalidBounds,
    InvalidData,
    InvalidKey,
    InvalidName,
    InvalidOrder,
    InvalidPageSize,
    InvalidPageToken,
    InvalidRevision,
    InvalidTTL,
    ItemExists,
    ItemNotFound,
    MapExists,
    MapItemError,
    MapNotFound,
    RevisionMismatch,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000  # every instant is a whole number of microseconds since the epoch
LONGEST_TTL = 31_536_000
DEEPEST = 128

Data: TypeAlias = dict[str, Any]
TTL: TypeAlias = int | timedelta | None
Match: TypeAlias = str | None


class Event(NamedTuple):
    """One event (E1). ``kind`` is ``"added"``, ``"updated"``, ``"removed"`` or ``"map_removed"``."""

    kind: str
    map_sid: str
    map_name: str | None
    number: int  # R1; a "map_removed" has none of its own and bears the number of events that the map had
    date: datetime
    key: str | None = None
    item: MapItem | None = None
    previous: MapItem | None = None
    expired: bool = False

    @property
    def revision(self) -> str:
        return f"{self.number:x}"

    @property
    def next_revision(self) -> str:
        return f"{self.number + 1:x}"


class Row(NamedTuple):
    """An item as it lies in a map. Its data lies there as JSON text, so that each reader decodes a copy (D4)."""

    key: str
    text: str
    number: int
    created: int
    updated: int
    expires: int | None
    created_by: str

    @property
    def revision(self) -> str:
        return f"{self.number:x}"  # R2

    def item(self) -> MapItem:
        """I1: a value of its own."""
        return MapItem(
            key=self.key,
            data=json.loads(self.text),
            revision=self.revision,
            date_created=date_of(self.created),
            date_updated=date_of(self.updated),
            date_expires=None if self.expires is None else date_of(self.expires),
            created_by=self.created_by,
        )


class MapState:
    """A map as it lies in the store: its rows, expired ones among them, and all its events so far."""

    def __init__(self, sid: str, name: str | None, now: int, expires: int | None, created_by: str) -> None:
        self.sid = sid
        self.name = name
        self.created = now
        self.updated = now
        self.expires = expires
        self.created_by = created_by
        self.rows: dict[str, Row] = {}  # by key, as it was given (K3); what is dropped from here never comes back (T6)
        self.events: list[Event] = []  # only ever longer: its length is the counter (R1), which outlives the rows (R6)
        self.oldest = 0  # F2: the feed serves the events from this number on

    def draft(self) -> MapState:
        other = copy(self)
        other.rows = dict(self.rows)
        other.events = list(self.events)
        return other

    def put(self, key: str, text: str, now: int, ttl: int | None, map_ttl: int | None, identity: str) -> MapItem:
        old = self.rows.get(key)
        self.rows[key] = row = Row(
            key=key,
            text=text,
            number=len(self.events),  # R3: every write is an event, whatever it changes
            created=old.created if old else now,
            updated=max(old.updated, now) if old else now,  # I2: never backwards
            expires=expiry(ttl, now, kept=old.expires if old else None),
            created_by=old.created_by if old else identity,  # I3
        )
        self.expires = expiry(map_ttl, now, kept=self.expires)  # T2: in the same step
        previous = old.item() if old else None
        self._record("updated" if old else "added", key, now, item=row.item(), previous=previous)
        return row.item()

    def drop(self, key: str, now: int, *, expired: bool = False) -> MapItem:
        row = self.rows.pop(key)
        self._record("removed", key, now, previous=row.item(), expired=expired)  # R4: takes a number too
        return row.item()

    def drop_due(self, now: int) -> int:
        """T4: what is due goes in order of (date_expires, key), each as an event of its own."""
        due = sorted((row.expires or 0, key) for key, row in self.rows.items() if is_due(row.expires, now))
        for _, key in due:
            self.drop(key, now, expired=True)
        return len(due)

    def _record(self, kind: str, key: str, now: int, **more: Any) -> None:
        self.events.append(Event(kind, self.sid, self.name, len(self.events), date_of(now), key, **more))
        self.updated = max(self.updated, now)  # I4


class Oracle:
    """A store of maps, with the public names, signatures, results and errors of ``Store``, as the rules have them.

    Sids and page tokens are the oracle's own: compare only what they lead to. ``events`` lists the events of all maps
    in the order of the writes (E2). Not for several threads.
    """

    def __init__(self, clock: Callable[[], float], identity: str = "system", limits: Limits | None = None) -> None:
        self.limits = limits if limits is not None else Limits()
        self.identity = identity
        self.events: list[Event] = []
        self._clock = clock
        self._states: dict[str, MapState] = {}  # by sid: every map that was not dropped, whether expired or not
        self._created = 0
        self._listings: list[Listing] = []  # what each page token stands for

    def map(self, name: str, *, ttl: TTL = None) -> OracleMap:
        """S2: opens the map of that name, or creates it with that TTL."""
        found = self._named(name)
        if found is None:
            check_name(name, self.limits)  # only now (D5): a name stored under other limits stays readable
        seconds = check_ttl(ttl)
        now = self.now()
        if found is not None and not is_due(found.expires, now):
            return OracleMap(self, found.sid, name)
        check_name(name, self.limits)
        return self._create(name, seconds, now)

    def create_map(self, name: str | None = None, *, ttl: TTL = None) -> OracleMap:
        """S2: a new map; without a name only the sid finds it."""
        if name is not None:
            check_name(name, self.limits)
        seconds = check_ttl(ttl)
        now = self.now()
        found = self._named(name)
        if found is not None and not is_due(found.expires, now):
            raise MapExists(f"there is a map {name!r}", name=str(name))
        return self._create(name, seconds, now)

    def open_map(self, name_or_sid: str) -> OracleMap:
        """S2: the live map of that name or sid."""
        by_sid = looks_like_sid(name_or_sid)
        found = self._states.get(name_or_sid) if by_sid else self._named(name_or_sid)
        if found is None and not by_sid:
            check_name(name_or_sid, self.limits)  # D5 again
        if found is None or is_due(found.expires, self.now()):
            raise MapNotFound(f"no map {name_or_sid!r}", name=name_or_sid, by_name=not by_sid)
        return OracleMap(self, found.sid, found.name)

    def maps(self) -> Iterator[OracleMap]:
        """S2: the live maps, by name, the nameless last by sid."""
        now = self.now()
        live = [state for state in self._states.values() if not is_due(state.expires, now)]
        live.sort(key=lambda state: (state.name is None, state.name or state.sid))
        return iter([OracleMap(self, state.sid, state.name) for state in live])

    def purge(self) -> int:
        """T4, T5: removes what is due in every map, drops expired maps; returns how many items went."""
        now = self.now()
        gone = 0
        for state in list(self._states.values()):
            if is_due(state.expires, now):
                gone += len(state.rows)
                self.drop_map(state, now, expired=True)
            else:
                gone += self.purge_map(state, now)
        return gone

    def compact(self) -> None:
        """S5: what is due goes first, as events (durability M2); then the feeds begin anew. F2 lets them keep more."""
        self.purge()
        for state in self._states.values():
            state.oldest = len(state.events)

    def batch(self) -> OracleBatch:
        """W7: several writes that apply together when the ``with`` block ends well, or not at all."""
        return OracleBatch(self)

    def now(self) -> int:
        """T7."""
        return round(self._clock() * SECOND)

    def live(self, sid: str, now: int) -> MapState:
        """The map of a handle, which belongs to this map and to no later one of the same name (K6)."""
        state = self._states.get(sid)
        if state is None or is_due(state.expires, now):
            raise MapNotFound(f"no map {sid}, or no longer", name=sid)
        return state

    def stores(self, sid: str, key: object) -> bool:
        """Whether the key lies in the map, expired or not."""
        return isinstance(key, str) and sid in self._states and key in self._states[sid].rows

    def purge_map(self, state: MapState, now: int) -> int:
        gone = state.drop_due(now)
        self.events += state.events[len(state.events) - gone :]
        return gone

    def drop_map(self, state: MapState, now: int, *, expired: bool) -> None:
        """E1: one event, none per item, and no number of its own."""
        del self._states[state.sid]
        number = len(state.events)
        self.events.append(Event("map_removed", state.sid, state.name, number, date_of(now), expired=expired))

    def commit(self, steps: list[tuple[OracleMap, Step]]) -> list[MapItem]:
        """W: all the steps, at one reading of the clock, each on what the one before left; or an error and nothing."""
        now = self.now()
        drafts: dict[str, MapState] = {}
        events: list[Event] = []
        results: list[MapItem] = []
        for index, (map, step) in enumerate(steps):
            try:
                draft = drafts.get(map.sid) or self.live(map.sid, now).draft()
                before = len(draft.events)
                draft.drop_due(now)  # T4: first of all; at a later step on the same map nothing is left to drop
                results.append(step(draft, now))
            except MapItemError as error:
                error.index = index  # W7
                raise
            drafts[map.sid] = draft
            events += draft.events[before:]
        self._states.update(drafts)
        self.events += events
        return results

    def keep(self, listing: Listing) -> str:
        """L4: a token for the listing."""
        self._listings.append(listing)
        return f"page-{len(self._listings) - 1}"

    def kept(self, token: str, sid: str) -> Listing:
        """L4: what the token stands for, if it was made here and for this map."""
        tokens = [f"page-{number}" for number in range(len(self._listings))]
        if token not in tokens or self._listings[tokens.index(token)].sid != sid:
            raise InvalidPageToken("not a page token of this map")
        return self._listings[tokens.index(token)]

    def _named(self, name: object) -> MapState | None:
        named = [state for state in self._states.values() if state.name is not None and state.name == name]
        return named[0] if named else None

    def _create(self, name: str | None, ttl: int | None, now: int) -> OracleMap:
        expired = self._named(name)
        if expired is not None:
            self.drop_map(expired, now, expired=True)  # T5: its name is taken again
        self._created += 1
        sid = f"MP{self._created:032x}"  # K6
        self._states[sid] = MapState(sid, name, now, expiry(ttl, now, kept=None), self.identity)
        return OracleMap(self, sid, name)


class OracleMap(Mapping[str, MapItem]):
    """A handle on one map, as the rules have ``Map``."""

    def __init__(self, store: Oracle, sid: str, name: str | None) -> None:
        self.store = store
        self.sid = sid
        self.name = name

    def __repr__(self) -> str:
        return f"OracleMap(sid={self.sid!r}, name={self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OracleMap) and self.store is other.store and self.sid == other.sid  # L1

    def __hash__(self) -> int:
        return hash((id(self.store), self.sid))

    # W: a single write is a batch of one.

    def create(self, key: str, data: Data, *, ttl: TTL = None, collection_ttl: TTL = None) -> MapItem:
        return self._alone("create", key, data, ttl=ttl, collection_ttl=collection_ttl)

    def set(
        self, key: str, data: Data, *, ttl: TTL = None, collection_ttl: TTL = None, if_match: Match = None
    ) -> MapItem:
        return self._alone("set", key, data, ttl=ttl, collection_ttl=collection_ttl, if_match=if_match)

    def update(
        self, key: str, changes: Data, *, ttl: TTL = None, collection_ttl: TTL = None, if_match: Match = None
    ) -> MapItem:
        return self._alone("update", key, changes, ttl=ttl, collection_ttl=collection_ttl, if_match=if_match)

    def remove(self, key: str, *, if_match: Match = None) -> MapItem:
        return self._alone("remove", key, if_match=if_match)

    def set_item_ttl(self, key: str, ttl: TTL, *, if_match: Match = None) -> MapItem:
        return self._alone("set_item_ttl", key, ttl, if_match=if_match)

    def _alone(self, verb: str, *arguments: Any, **options: Any) -> MapItem:
        batch = self.store.batch()
        getattr(batch, verb)(self, *arguments, **options)
        return self._commit(batch.steps)

    def _commit(self, steps: list[tuple[OracleMap, Step]]) -> MapItem:
        try:
            return self.store.commit(steps)[0]
        except MapItemError as error:
            error.index = None  # W7: only of a batch it says which write failed
            raise

    def mutate(
        self,
        key: str,
        fn: Callable[[Data], Data | None],
        *,
        ttl: TTL = None,
        collection_ttl: TTL = None,
        max_attempts: int = 100,
    ) -> MapItem | None:
        """W4: read, call ``fn``, write if nobody else has meanwhile; else again."""
        check_key(key, self.store.limits)
        seconds, map_seconds = check_ttl(ttl), check_ttl(collection_ttl)
        lost = RevisionMismatch()
        for _ in range(max_attempts):
            item: MapItem | None = self.get(key)
            read = item.data if item is not None else {}
            given = deepcopy(read)
            wanted = fn(given)
            if wanted is None:
                if not same(given, read):
                    raise TypeError("fn changed its argument and returned None: return the data")
                return item
            step = self._replacing(key, item, wanted, seconds, map_seconds)
            try:
                return self._commit([(self, step)])
            except RevisionMismatch as error:
                lost = error
        raise lost

    def _replacing(self, key: str, read: MapItem | None, wanted: Data, ttl: int | None, map_ttl: int | None) -> Step:
        """The write of ``mutate``, if the item is as it was read, or absent as it was."""
        expected = "" if read is None else read.revision

        def step(state: MapState, now: int) -> MapItem:
            actual = state.rows[key].revision if key in state.rows else ""
            if actual != expected:
                raise RevisionMismatch("written meanwhile", key=key, expected=expected, actual=actual)
            text = check_data(wanted, self.store.limits)  # W8: last
            return state.put(key, text, now, ttl, map_ttl, self.store.identity)

        return step

    def set_ttl(self, ttl: TTL) -> None:
        """W6: the map's own expiry. No event, no date moves, nothing is removed."""
        seconds = check_given_ttl(ttl)
        now = self.store.now()
        self.store.live(self.sid, now).expires = expiry(seconds, now, kept=None)

    def purge(self) -> int:
        """T4: removes what is due; returns how many items went."""
        now = self.store.now()
        return self.store.purge_map(self.store.live(self.sid, now), now)

    def remove_map(self) -> None:
        """S2: ends the map with all its items."""
        now = self.store.now()
        self.store.drop_map(self.store.live(self.sid, now), now, expired=False)

    # L: reading

    def __getitem__(self, key: str) -> MapItem:
        row = self._find(key)
        if row is None:
            raise ItemNotFound(f"no item {key!r}", key=key)
        return row.item()

    def get(self, key: str, default: Any = None) -> Any:
        row = self._find(key)
        return default if row is None else row.item()

    def __contains__(self, key: object) -> bool:
        rows = self._rows()
        return isinstance(key, str) and key in rows  # L1: what cannot be a key is in no map

    def __len__(self) -> int:
        return len(self._rows())

    def __iter__(self) -> Iterator[str]:
        return (item.key for item in self.range())  # L5

    def range(
        self,
        from_: str | None = None,
        *,
        bounds: str = "inclusive",
        order: str = "asc",
        prefix: str | None = None,
        limit: int | None = None,
    ) -> Iterator[MapItem]:
        """L2. The walk shows the map as it was at the call; L3 would allow more."""
        check_listing(from_, bounds, order, prefix)
        if limit is not None and (type(limit) is not int or limit < 0):
            raise ValueError("limit is an int of at least 0")
        return self._walk(Listing(self.sid, from_, bounds, order, prefix).of(self._rows())[:limit])

    def page(
        self,
        *,
        page_size: int = 50,
        from_: str | None = None,
        bounds: str = "inclusive",
        order: str = "asc",
        prefix: str | None = None,
        page_token: str | None = None,
    ) -> Page:
        """L4. A token is a cut in a listing; the page lies behind the cut, or in front of it on the way back."""
        if type(page_size) is not int or not 1 <= page_size <= 1000:
            raise InvalidPageSize("page_size is an int from 1 to 1000")
        check_listing(from_, bounds, order, prefix)
        listing = Listing(self.sid, from_, bounds, order, prefix)
        if page_token is not None:
            if listing != Listing(self.sid):
                raise InvalidPageToken("a token carries the whole listing")
            listing = self.store.kept(page_token, self.sid)
        rows = listing.of(self._rows())
        cut = sum(listing.is_in_front(row.key) for row in rows)
        if listing.backward:
            start, end = max(0, cut - page_size), cut
        else:
            start, end = cut, min(len(rows), cut + page_size)
        page = rows[start:end]
        back = listing.cut(page[0].key, behind=False) if page else listing
        on = listing.cut(page[-1].key, behind=True) if page else listing
        return Page(
            items=tuple(row.item() for row in page),
            next_page_token=self.store.keep(on._replace(backward=False)) if end < len(rows) else None,
            previous_page_token=self.store.keep(back._replace(backward=True)) if start > 0 else None,
        )

    def changes(self, since: str = "0") -> Iterator[Event]:
        """F1: the events numbered from ``since`` on; they do not say what was there before (E1).

        R5: a token is a revision that the map had, or has now.
        """
        check_revision(since)
        state = self._state()
        tokens = [f"{number:x}" for number in range(len(state.events) + 1)]
        if since not in tokens:
            raise InvalidRevision("no token of this map: beyond its revision, or spelt otherwise")
        number = tokens.index(since)
        if number < state.oldest:
            raise HistoryCompacted("a compaction dropped these events", oldest=f"{state.oldest:x}")
        return iter([event._replace(previous=None) for event in state.events[number:]])

    # S2: the map's own properties

    @property
    def revision(self) -> str:
        return f"{len(self._state().events):x}"  # R2

    @property
    def date_created(self) -> datetime:
        return date_of(self._state().created)

    @property
    def date_updated(self) -> datetime:
        return date_of(self._state().updated)

    @property
    def date_expires(self) -> datetime | None:
        expires = self._state().expires
        return None if expires is None else date_of(expires)

    @property
    def created_by(self) -> str:
        return self._state().created_by

    def _state(self) -> MapState:
        return self.store.live(self.sid, self.store.now())

    def _rows(self) -> dict[str, Row]:
        """What is there now (T3)."""
        now = self.store.now()
        return {key: row for key, row in self._state().rows.items() if not is_due(row.expires, now)}

    def _find(self, key: object) -> Row | None:
        if not self.store.stores(self.sid, key):  # else it is good (D5): what is stored stays readable
            check_key(key, self.store.limits)
        now = self.store.now()
        row = self.store.live(self.sid, now).rows.get(str(key))
        return None if row is None or is_due(row.expires, now) else row

    def _walk(self, rows: list[Row]) -> Iterator[MapItem]:
        for row in rows:
            self._state()  # S2: a walk raises at its next step when the map is gone
            yield row.item()


Step: TypeAlias = Callable[[MapState, int], MapItem]
"""What a verb has left to do once its arguments are good: judge presence and condition, then write; or raise."""


class OracleBatch:
    """W7. Each verb checks its arguments, in the order of C2, and copies its data at the call; the rest is a step."""

    def __init__(self, store: Oracle) -> None:
        self.results: list[MapItem] = []
        self._store = store
        self.steps: list[tuple[OracleMap, Step]] = []

    def __enter__(self) -> OracleBatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()

    def commit(self) -> list[MapItem]:
        self.results = self._store.commit(self.steps)
        return self.results

    def create(self, map: OracleMap, key: str, data: Data, *, ttl: TTL = None, collection_ttl: TTL = None) -> None:
        """W1."""
        text, seconds, map_seconds = self._check(key, data, ttl, collection_ttl, None)

        def step(state: MapState, now: int) -> MapItem:
            if key in state.rows:
                raise ItemExists(f"there is an item {key!r}", key=key, revision=state.rows[key].revision)
            return state.put(key, text, now, seconds, map_seconds, self._store.identity)

        self._add(map, step)

    def set(
        self,
        map: OracleMap,
        key: str,
        data: Data,
        *,
        ttl: TTL = None,
        collection_ttl: TTL = None,
        if_match: Match = None,
    ) -> None:
        """W2."""
        text, seconds, map_seconds = self._check(key, data, ttl, collection_ttl, if_match)

        def step(state: MapState, now: int) -> MapItem:
            judge(state, key, if_match)
            return state.put(key, text, now, seconds, map_seconds, self._store.identity)

        self._add(map, step)

    def update(
        self,
        map: OracleMap,
        key: str,
        changes: Data,
        *,
        ttl: TTL = None,
        collection_ttl: TTL = None,
        if_match: Match = None,
    ) -> None:
        """W3."""
        text, seconds, map_seconds = self._check(key, changes, ttl, collection_ttl, if_match)

        def step(state: MapState, now: int) -> MapItem:
            judge(state, key, if_match)
            old = json.loads(state.rows[key].text) if key in state.rows else {}
            merged = check_data({**old, **json.loads(text)}, self._store.limits)  # W8: last
            return state.put(key, merged, now, seconds, map_seconds, self._store.identity)

        self._add(map, step)

    def remove(self, map: OracleMap, key: str, *, if_match: Match = None) -> None:
        """W5: the result is the item exactly as it was (W8)."""
        check_key(key, self._store.limits)
        check_if_match(if_match)

        def step(state: MapState, now: int) -> MapItem:
            judge(state, key, if_match or "*")
            return state.drop(key, now)

        self._add(map, step)

    def set_item_ttl(self, map: OracleMap, key: str, ttl: TTL, *, if_match: Match = None) -> None:
        """W6."""
        check_key(key, self._store.limits)
        seconds = check_given_ttl(ttl)
        check_if_match(if_match)

        def step(state: MapState, now: int) -> MapItem:
            judge(state, key, if_match or "*")
            return state.put(key, state.rows[key].text, now, seconds, None, self._store.identity)

        self._add(map, step)

    def _check(
        self, key: str, data: Data, ttl: TTL, collection_ttl: TTL, if_match: Match
    ) -> tuple[str, int | None, int | None]:
        """C2: in this order. The data as text, and the times in seconds."""
        check_key(key, self._store.limits)
        text = check_data(data, self._store.limits)
        seconds, map_seconds = check_ttl(ttl), check_ttl(collection_ttl)
        check_if_match(if_match)
        return text, seconds, map_seconds

    def _add(self, map: OracleMap, step: Step) -> None:
        if map.store is not self._store:
            raise ValueError("the map belongs to another store")
        self.steps.append((map, step))


def judge(state: MapState, key: str, if_match: str | None) -> None:
    """C1. What is due was dropped from the state before, so that it is absent here too (T3)."""
    if if_match is None:
        return
    if key not in state.rows:
        raise ItemNotFound(f"no item {key!r}", key=key)
    actual = state.rows[key].revision
    if if_match not in ("*", actual):
        raise RevisionMismatch(f"{key!r} is at {actual}", key=key, expected=if_match, actual=actual)


# K, D, T, C: arguments


def is_good_key(key: object, limits: Limits) -> bool:
    """K1, K2."""
    return isinstance(key, str) and 1 <= len(key) <= limits.max_key_chars and not has_surrogate(key)


def check_key(key: object, limits: Limits) -> None:
    if not is_good_key(key, limits):
        raise InvalidKey("a key is a str of 1 to 320 characters, none of them a lone surrogate")


def check_name(name: object, limits: Limits) -> None:
    """K5, D5."""
    if not is_good_key(name, limits) or looks_like_sid(name):
        raise InvalidName("a name is a good key that does not look like a sid")


def looks_like_sid(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch("[A-Z]{2}[0-9a-fA-F]{32}", name) is not None


def has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def check_data(data: object, limits: Limits) -> str:
    """D1, D3: the data as compact JSON."""
    if type(data) is not dict:
        raise InvalidData("the top is no dict", path="$")
    check_value(data, "$", [])
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode())
    if size > limits.max_data_bytes:
        raise DataTooLarge(f"{size} bytes", size=size, limit=limits.max_data_bytes)
    return text


def check_value(value: object, path: str, above: list[object]) -> None:
    """D1: exact types. ``above`` holds the containers that ``value`` lies in."""
    good = value is None or type(value) is bool
    if type(value) is int:
        good = -(2**63) <= value < 2**64
    elif type(value) is float:
        good = math.isfinite(value)
    elif type(value) is str:
        good = not has_surrogate(value)
    elif type(value) is dict:
        good = len(above) < DEEPEST and all(type(key) is str and not has_surrogate(key) for key in value)
    elif type(value) is list:
        good = len(above) < DEEPEST
    if not good or any(value is container for container in above):
        raise InvalidData(f"{path} is not what JSON can say", path=path)
    if isinstance(value, dict):
        for key, inner in value.items():
            step = f".{key}" if key.isidentifier() else f"[{json.dumps(key, ensure_ascii=False)}]"
            check_value(inner, path + step, [*above, value])
    if isinstance(value, list):
        for index, inner in enumerate(value):
            check_value(inner, f"{path}[{index}]", [*above, value])


def same(one: object, other: object) -> bool:
    """D2: equal down to types, signs of zero and the order of keys."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return repr(one) == repr(other)


def check_ttl(ttl: object) -> int | None:
    """T1: in seconds."""
    seconds = ttl
    if isinstance(ttl, timedelta) and ttl % timedelta(seconds=1) == timedelta(0):
        seconds = ttl // timedelta(seconds=1)
    if seconds is None:
        return None
    if type(seconds) is not int or not 0 <= seconds <= LONGEST_TTL:
        raise InvalidTTL("a ttl is a whole number of seconds from 0 to 31 536 000")
    return seconds


def check_given_ttl(ttl: object) -> int:
    """W6: where ``None`` is refused."""
    seconds = check_ttl(ttl)
    if seconds is None:
        raise InvalidTTL("a ttl has to be given")
    return seconds


def check_if_match(if_match: object) -> None:
    """C1."""
    if if_match is not None and if_match != "*":
        check_revision(if_match)


def check_revision(revision: object) -> None:
    if not isinstance(revision, str) or re.fullmatch("[0-9a-f]+", revision) is None:
        raise InvalidRevision("a revision is lower-case hex")


# T: time


def date_of(instant: int) -> datetime:
    return EPOCH + timedelta(microseconds=instant)


def is_due(expires: int | None, now: int) -> bool:
    """T3: gone from the very instant on."""
    return expires is not None and now >= expires


def expiry(ttl: int | None, now: int, *, kept: int | None) -> int | None:
    """T1: ``None`` keeps what there was, ``0`` clears it, anything else counts from the clock at the write."""
    if ttl is None:
        return kept
    return now + ttl * SECOND if ttl else None


# L: listings


class Listing(NamedTuple):
    """The arguments of a listing, and for a page token the cut: beside ``key``, which need not exist any more."""

    sid: str
    from_: str | None = None
    bounds: str = "inclusive"
    order: str = "asc"
    prefix: str | None = None
    key: str | None = None  # None: in front of everything
    behind: bool = False
    backward: bool = False

    def of(self, rows: dict[str, Row]) -> list[Row]:
        """L2, K4: the rows it holds, in its order, which goes by code point."""
        keys = sorted(rows, reverse=self.order == "desc")
        if self.prefix is not None:
            keys = [key for key in keys if key.startswith(self.prefix)]
        if self.from_ is not None:
            keys = [key for key in keys if (key >= self.from_ if self.order == "asc" else key <= self.from_)]
            if self.bounds == "exclusive":
                keys = [key for key in keys if key != self.from_]
        return [rows[key] for key in keys]

    def cut(self, key: str, *, behind: bool) -> Listing:
        return self._replace(key=key, behind=behind)

    def is_in_front(self, key: str) -> bool:
        """Whether ``key`` comes before the cut."""
        if self.key is None:
            return False
        if key == self.key:
            return self.behind
        return key < self.key if self.order == "asc" else key > self.key


def check_listing(from_: object, bounds: object, order: object, prefix: object) -> None:
    """L2."""
    if any(place is not None and (not isinstance(place, str) or has_surrogate(place)) for place in (from_, prefix)):
        raise InvalidKey("from_ and prefix are str without lone surrogates")
    if bounds not in ("inclusive", "exclusive"):
        raise InvalidBounds("bounds is 'inclusive' or 'exclusive'")
    if order not in ("asc", "desc"):
        raise InvalidOrder("order is 'asc' or 'desc'")

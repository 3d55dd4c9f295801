"""One map in memory: its sorted rows, its counters, and the heap of what will expire.

Here rows are put and dropped and the books about them kept in step: how many expire, from when on something is due, how
much a base would take, where in the log each event lies. What may be done and when, the engine decides. Nothing here is
thread-safe, but for reads of ``rows`` and ``quiet_until`` as described.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from functools import partial
from heapq import heapify, heappop, heappush

from sortedcontainers import SortedDict

from mapitem.item import FIRST_INSTANT, NEVER, row_expires, row_is_timed, row_last_times
from mapitem.records import EXPIRE, REMOVE, UPDATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Any, TypeAlias
    from weakref import WeakSet

    from mapitem.keyrange import KeyRange
    from mapitem.records import Operation
    from mapitem.watch import Watch

    Row: TypeAlias = bytes

ALWAYS_LOOK = -(2**63)
"""``quiet_until`` of a map of which no read may be answered without a second look."""

ITEMS_PER_BLOCK = 128

# How many keys a purge takes out in one call of C, during which no other thread runs: some milliseconds.
_PORTION = 4096


def is_due(expires: int, now: int) -> bool:
    """The rule of expiry, for items and maps alike: due from the very instant on (T3)."""
    return now >= expires


class MapState:
    """One map in memory.

    ``quiet_until`` is an instant before which nothing in the map is due, nor the map itself: a read at an earlier one
    may take what ``rows`` holds, without a lock. It is ``ALWAYS_LOOK`` for a map that has ended or whose store wants
    every read to take the long way. ``gone_by`` is the instant of a purge while it is under way: what is due by then
    is gone for every read, also by a clock that went back. ``torn`` is set while rows and their order may be apart.
    """

    __slots__ = (
        "counter",
        "created",
        "created_by",
        "ended",
        "expires",
        "gone_by",
        "heap",
        "held",
        "live_bytes",
        "name",
        "no",
        "oldest",
        "places",
        "quiet_until",
        "rows",
        "sid",
        "timed",
        "torn",
        "updated",
        "watchers",
    )

    def __init__(
        self,
        no: int,
        sid: str,
        name: str | None,
        created_by: str,
        created: int,
        updated: int,
        expires: int,
        counter: int,
        oldest: int,
    ) -> None:
        self.no = no
        self.sid = sid
        self.name = name
        self.created_by = created_by
        self.created = created
        self.updated = updated
        self.expires = expires
        self.counter = counter
        self.oldest = oldest
        self.rows: SortedDict[str, Row] = SortedDict()
        # (expires, key) of every row that expires, and of some that are gone or changed since: an entry counts only
        # while the row it names has that very expiry. ``timed`` is the number of rows that have one.
        self.heap: list[tuple[int, str]] = []
        self.timed = 0
        # About what a base would take for the rows.
        self.live_bytes = 0
        # Where in the log the record of each event lies, from the oldest served on.
        self.places = array("Q")
        self.ended: tuple[int, bool] | None = None  # the date of the map's end, and whether it expired
        self.watchers: WeakSet[Watch] | None = None  # whom a write has to wake
        self.held = False  # while a record of several operations is being applied
        self.quiet_until = expires
        self.gone_by = ALWAYS_LOOK
        self.torn = False

    @property
    def label(self) -> str:
        """How messages call the map."""
        return self.sid if self.name is None else repr(self.name)

    def forget_history(self) -> None:
        """From now on the map's feed begins with its next event."""
        self.oldest = self.counter
        self.places = array("Q")

    def due_keys(self, now: int) -> list[str]:
        """The keys that are due, in order of (expiry, key). Changes nothing; costs a step for each that is due."""
        if now < self.quiet_until:
            return []
        due = self._current(self._due_entries(now))
        instants = {expires for expires, _ in due}
        if len(instants) * 4 > len(due):
            return [key for _, key in sorted(due)]
        # Many expire at once, as what was written in one batch: to compare no tuples takes a third of the time.
        groups: dict[int, list[str]] = {expires: [] for expires in sorted(instants)}
        for expires, key in due:
            groups[expires].append(key)
        return [key for group in groups.values() for key in self._in_order(group)]

    def _in_order(self, keys: list[str]) -> Iterable[str]:
        if len(keys) < _PORTION or len(keys) * 4 < len(self.rows):
            return sorted(keys)
        # As cheap, and not one long call of C.
        wanted = set(keys)
        return [key for key in _order(self.rows) if key in wanted]

    def _current(self, entries: Collection[tuple[int, str]]) -> Collection[tuple[int, str]]:
        """Those entries of the heap that count, each once: an expiry that was given twice stands there twice."""
        if len(self.heap) == self.timed:
            return entries  # one for each row that expires: all of them count
        rows = self.rows
        return {entry for entry in entries if (row := rows.get(entry[1])) is not None and row_expires(row) == entry[0]}

    def _due_entries(self, now: int) -> list[tuple[int, str]]:
        heap = self.heap
        due: list[tuple[int, str]] = []
        # A heap's children are never smaller than their parent, so that branches that are not due are not entered.
        places = [0] if heap else []
        while places:
            place = places.pop()
            entry = heap[place]
            if not is_due(entry[0], now):
                continue
            due.append(entry)
            if len(due) * 32 > len(heap) + 64:
                # So many that to look at all of them is cheaper than to find one's way; is_due, without the call.
                return [entry for entry in heap if now >= entry[0]]
            places += [child for child in (2 * place + 1, 2 * place + 2) if child < len(heap)]
        return due

    def put(self, key: str, row: Row, date: int | None = None) -> Row | None:
        """Put a row in, and return the one that it replaces: an event, at ``date`` if that is not the row's own."""
        rows = self.rows
        old: Row | None = rows.get(key)
        updated, expires = row_last_times(row)
        if expires < self.quiet_until:
            # Before the row can be seen: a read that needs no lock must not find it without knowing that it expires.
            self.quiet_until = expires
        if old is None:
            self.torn = True
            rows[key] = row
            self.torn = False
            self.live_bytes += len(key) + len(row)
        else:
            # The key has its place in the order already; SortedDict would look for it in a method of its own.
            dict.__setitem__(rows, key, row)  # type: ignore[index]
            self.live_bytes += len(row) - len(old)
            if self.timed and row_is_timed(old):
                self.timed -= 1
                if expires == NEVER:
                    self.settle()
        self.counter += 1
        if date is None:
            # An event without a date of its own has the row's, for then ``updated`` was in step with the clock.
            date = updated
        if self.updated < date:
            self.updated = date
        if expires != NEVER:
            self.timed += 1
            heappush(self.heap, (expires, key))
            self.settle()
        return old

    def drop(self, key: str) -> Row:
        """Take a row out and return it."""
        rows = self.rows
        row: Row = rows[key]
        self.torn = True
        del rows[key]
        self.torn = False
        self.live_bytes -= len(key) + len(row)
        if self.timed and row_is_timed(row):
            self.timed -= 1
            self.settle()
        return row

    def remove(self, key: str, number: int, date: int) -> Row:
        """Take a row out and return it: the event of this number."""
        row = self.drop(key)
        self.counter = number + 1
        if self.updated < date:
            self.updated = date
        return row

    def expire(self, keys: Sequence[str], number: int, date: int) -> None:
        """Take out what was due: an event for each, numbered from ``number`` on."""
        rows = self.rows
        # In this order, so that a read that takes no lock finds all of them or none, whatever the clock does.
        self.torn = True
        self.gone_by = date
        if not self.held:
            self.quiet_until = FIRST_INSTANT
        for start in range(0, len(keys), _PORTION):
            portion = keys[start : start + _PORTION]
            self.live_bytes -= sum(map(len, portion)) + sum(map(len, map(partial(dict.pop, rows), portion)))
        if isinstance(rows, SortedDict):
            order = _order(rows)
            if len(keys) * 4 > len(order):
                # One pass that keeps the rest is cheaper than that many deletions from the middle.
                kept = [key for key in order if key in rows]
                order.clear()
                order.update(kept)
            else:
                for key in keys:
                    order.remove(key)
        self.counter = number + len(keys)
        self.updated = max(self.updated, date)
        all_count = len(self.heap) == self.timed
        self.timed -= len(keys)
        if len(keys) * 4 > len(self.heap):
            left = [entry for entry in self.heap if date < entry[0]] if all_count else []
            old, self.heap = self.heap, left
            if len(left) != self.timed:
                # That was not all of it, as in a log that somebody else wrote: by the keys, at ten times the price.
                self.heap = [entry for entry in old if entry[1] in rows]
            heapify(self.heap)
            while old:  # let go at once, it would be one more long call
                del old[-_PORTION:]
        self.settle()
        self.gone_by = ALWAYS_LOOK
        self.torn = False

    def mend(self) -> None:
        """Put in order what a write or purge that was interrupted left: the store has failed, and reads go on (F2, F3).

        Before every read under the lock of what is ``torn``. Costs what a purge of the whole map would.
        """
        rows: Any = self.rows
        # By the methods of a plain dict: those of a sorted one go by the order, which is what may be torn.
        for key in [key for key, row in dict.items(rows) if is_due(row_expires(row), self.gone_by)]:
            dict.pop(rows, key)
        order = _order(rows)
        order.clear()
        order.update(dict.keys(rows))
        self.heap = [(row_expires(row), key) for key, row in dict.items(rows) if row_is_timed(row)]
        heapify(self.heap)
        self.timed = len(self.heap)
        self.settle()
        self.gone_by = ALWAYS_LOOK
        self.torn = False

    def lay(self, keys: Sequence[str], rows: Sequence[Row]) -> None:
        """Put in a block of a base, over what an earlier one said of the same keys: no events."""
        known = self.rows
        if not known.keys().isdisjoint(keys):
            for key in keys:
                if key in known:
                    self.drop(key)
        known.update(zip(keys, rows, strict=True))
        self.live_bytes += sum(map(len, keys)) + sum(map(len, rows))
        timed = [(row_expires(row), key) for key, row in zip(keys, rows, strict=True) if row_is_timed(row)]
        if timed:
            self.timed += len(timed)
            # One by one: to make the heap anew for each block would cost the square of what expires.
            for entry in timed:
                heappush(self.heap, entry)
            self.settle()

    def settle(self) -> None:
        """Drop what no longer counts from the top of the heap, and say until when nothing is due."""
        heap = self.heap
        rows = self.rows
        if len(heap) > 2 * self.timed + 64:
            self._rebuild_heap()
        while heap and ((row := rows.get(heap[0][1])) is None or row_expires(row) != heap[0][0]):
            heappop(heap)
        if self.ended is None and not self.held:
            self.quiet_until = min(self.expires, heap[0][0]) if heap else self.expires

    def _rebuild_heap(self) -> None:
        """Keep of the heap what counts: cheaper than to pop what does not, where that is much."""
        self.heap[:] = self._current(self.heap)
        heapify(self.heap)

    def keys(self, part: KeyRange, limit: int) -> list[str]:
        """Up to ``limit`` keys of the range, in the order of the walk, due or not."""
        if part.descending:
            return self._keys_down(part, limit)
        # SortedDict keeps its keys in a list of sorted lists, with the last of each in a list of its own. To cut slices
        # from there costs a fifth of what its public methods do, which go by positions in the whole.
        order = _order(self.rows)
        lists: list[list[str]] = order._lists
        place = bisect_left(order._maxes, part.low)
        found: list[str] = []
        start = bisect_left(lists[place], part.low) if place < len(lists) else 0
        high = part.high
        while place < len(lists) and len(found) < limit:
            found += lists[place][start : start + limit - len(found)]
            if high is not None and found and found[-1] >= high:
                del found[bisect_left(found, high) :]
                break
            start = 0
            place += 1
        return found

    def _keys_down(self, part: KeyRange, limit: int) -> list[str]:
        order = _order(self.rows)
        lists: list[list[str]] = order._lists
        high = part.high
        place = len(lists) - 1 if high is None else min(bisect_left(order._maxes, high), len(lists) - 1)
        found: list[str] = []
        end = bisect_left(lists[place], high) if place >= 0 and high is not None else None
        while place >= 0 and len(found) < limit:
            keys = lists[place]
            end = len(keys) if end is None else end
            found += keys[max(0, end - limit + len(found)) : end][::-1]
            if found and found[-1] < part.low:
                while found and found[-1] < part.low:
                    found.pop()
                break
            end = None
            place -= 1
        return found

    def block(self, after: str | None) -> tuple[list[str], list[Row]]:
        """The next rows of a map for a base, due or not, from behind a key on; empty at the end."""
        rows = self.rows
        first = 0 if after is None else rows.bisect_right(after)
        keys = rows.keys()[first : first + ITEMS_PER_BLOCK]
        return keys, [rows[key] for key in keys]


def _order(rows: Any) -> Any:
    """The sorted list under a ``SortedDict``: no part of its public face, but there since its first version."""
    return rows._list


class Draft:
    """A map as a batch has left it so far: judged like the map itself, and thrown away once the batch is judged.

    ``rows`` knows the keys that the batch is about, and no others.
    """

    __slots__ = ("_state", "counter", "ended", "expires", "label", "name", "no", "quiet_until", "rows", "sid")

    def __init__(self, state: MapState, keys: Iterable[str]) -> None:
        self._state = state
        self.no = state.no
        self.sid = state.sid
        self.name = state.name
        self.label = state.label
        self.ended = state.ended
        self.expires = state.expires
        self.counter = state.counter
        self.quiet_until = state.quiet_until
        rows = state.rows
        self.rows: dict[str, Row | None] = {key: rows.get(key) for key in keys}

    def due_keys(self, now: int) -> list[str]:
        return self._state.due_keys(now)

    def take(self, operations: list[Operation]) -> None:
        """Go on from what these operations would leave."""
        for operation in operations:
            kind = operation[0]
            if kind <= UPDATE:
                self.rows[operation[2]] = operation[3]
                self.counter += 1
            elif kind == REMOVE:
                self.rows[operation[2]] = None
                self.counter += 1
            elif kind == EXPIRE:
                self.rows.update(dict.fromkeys(operation[2]))
                self.counter += len(operation[2])
                # A batch has one instant: what was due is gone, and what it writes is not due yet.
                self.quiet_until = NEVER

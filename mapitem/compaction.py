"""Rewriting a log to the present state while writers go on (durability M).

The new log is written block by block, each under the store's lock and in well under a millisecond. What is written to a
map behind the place that was reached is noted and written once more; that gets less, for more is written than comes to
be noted, until the rest fits into one short last step, which puts the new file in the old one's place. Steps are driven
by writers, in proportion to what they append, or by ``store.compact()``: there is no thread.
"""

from __future__ import annotations

from collections import deque

from mapitem.records import (
    ADD,
    EXPIRE,
    FORGET,
    ITEMS,
    MAP,
    MAP_END,
    MAP_STATE,
    REMOVE,
    UPDATE,
    encode_record,
)
from mapitem.state import ITEMS_PER_BLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mapitem.engine import Engine
    from mapitem.newlog import NewLog
    from mapitem.records import Operation
    from mapitem.state import MapState


class Compaction:
    """A base being written to a new log. Every method is called under the store's lock."""

    def __init__(self, engine: Engine, new: NewLog) -> None:
        self._engine = engine
        self.new = new
        # What ended it before its time: until it is over, whatever may come.
        self.failure: BaseException | None = InterruptedError("it was interrupted")
        self._to_come = deque(engine.states())
        self._current: MapState | None = None
        # Up to which key, inclusive, each map was copied; None before the first, absent before its turn.
        self._reached: dict[int, str | None] = {}
        self._complete: set[int] = set()
        # What was written to since it was copied: the keys of each map, and how many of all; a map is here without a
        # key if only where it stands (its counter, its dates) is another by now.
        self._dirty: dict[int, set[str]] = {}
        self._dirty_keys = 0
        # The ends of maps that were begun.
        self._ends: list[Operation] = []

    def note(self, operations: Sequence[Operation]) -> None:
        """A record was applied: what it changed of what was copied already has to be written again. Writes nothing."""
        for operation in operations:
            kind, no = operation[:2]
            if kind == MAP:
                self._to_come.append(self._engine.state(operation[2]))
            elif no not in self._reached:
                continue
            elif kind == MAP_END:
                self._ends.append(operation)
                del self._reached[no]
                self._dirty_keys -= len(self._dirty.pop(no, ()))
            else:
                dirty = self._dirty.setdefault(no, set())
                changed: Sequence[str] = ()
                if kind in (ADD, UPDATE, REMOVE):
                    changed = (operation[2],)
                elif kind == EXPIRE:
                    changed = operation[2]
                if no not in self._complete:
                    reached = self._reached[no]
                    changed = [key for key in changed if reached is not None and key <= reached]
                self._dirty_keys -= len(dirty)
                dirty.update(changed)
                self._dirty_keys += len(dirty)

    def step(self) -> bool:
        """Write one block more. Returns whether so little is left that ``finish`` is as short."""
        # Before all else, for the name of a map that has ended may be given again.
        self._write_ends()
        if self._current is None and self._to_come:
            self._begin(self._to_come.popleft())
        elif self._current is not None:
            self._copy(self._current)
        elif len(self._dirty) + self._dirty_keys <= ITEMS_PER_BLOCK:
            return True
        else:
            no, keys = self._dirty.popitem()
            again = [keys.pop() for _ in range(min(len(keys), ITEMS_PER_BLOCK))]
            self._dirty_keys -= len(again)
            if keys:
                self._dirty[no] = keys
            self._write_again(no, again)
        return False

    def finish(self) -> None:
        """Write the rest; the log is whole then, but for its mark."""
        self._write_ends()
        for no, keys in self._dirty.items():
            self._write_again(no, keys)
        self._dirty.clear()
        self._dirty_keys = 0

    def _begin(self, state: MapState) -> None:
        if state.ended is not None:
            return
        self._current = state
        self._reached[state.no] = None
        self._write(
            (
                MAP,
                state.no,
                state.sid,
                state.name,
                state.created_by,
                state.created,
                state.updated,
                state.expires,
                state.counter,
                state.counter,
            )
        )

    def _copy(self, state: MapState) -> None:
        keys: list[str] = []
        if state.ended is None:
            keys, rows = state.block(self._reached[state.no])
        if keys:
            self._reached[state.no] = keys[-1]
            self._write((ITEMS, state.no, keys, rows))
        if len(keys) < ITEMS_PER_BLOCK:
            self._complete.add(state.no)
            self._current = None

    def _write_again(self, no: int, keys: Iterable[str]) -> None:
        state = self._engine.by_no(no)
        rows = state.rows
        there = sorted(key for key in keys if key in rows)
        gone = sorted(key for key in keys if key not in rows)
        if there:
            self._write((ITEMS, no, there, [rows[key] for key in there]))
        if gone:
            self._write((FORGET, no, gone))
        self._write((MAP_STATE, no, state.updated, state.expires, state.counter, state.counter))

    def _write_ends(self) -> None:
        for operation in self._ends:
            self._write(operation)
        self._ends.clear()

    def _write(self, operation: Operation) -> None:
        self.new.append(encode_record([operation]))


def write_base(engine: Engine, new: NewLog) -> None:
    """The present state as a base, all at once."""
    compaction = Compaction(engine, new)
    while not compaction.step():
        pass
    compaction.finish()

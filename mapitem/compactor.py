"""When a log is rewritten, and in which portions: a share with each write, or all of it by hand (durability M3, M4).

The compactor watches how the log grows beside what is live, begins a compaction when it is time, and takes its steps.
How a base is written is the business of ``compaction``, which is imported when the first one begins. There is no
thread: every method is called under the store's lock, and takes no longer than one step.
"""

from __future__ import annotations

import sys

from mapitem.log import FileLog
from mapitem.memorylog import MemoryLog
from mapitem.records import EXPIRE, rough_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mapitem.compaction import Compaction
    from mapitem.engine import Engine
    from mapitem.records import Operation
    from mapitem.watch import Watch

# Logs under this size are left alone (F2).
COMPACT_FROM_BYTES = 4 * 1024 * 1024
# How many bytes of base are written for each byte appended: the log grows by an eighth of what is live meanwhile, which
# keeps old and new log together under three times that (M4).
_SPEED = 8
# What a step counts for beside the bytes that it writes, for some write none.
_STEP_BYTES = 64


class Compactor:
    """Drives the compactions of one store's log."""

    def __init__(
        self, engine: Engine, log: FileLog | MemoryLog, watches: Iterable[Watch], compact_at: float | None
    ) -> None:
        self._engine = engine
        self._log = log
        self._watches = watches
        self._compact_at = compact_at
        self._debt = 0
        # The one under way, which has to be told of every write.
        self.running: Compaction | None = None
        # Whether the log that was replaced has to be given back yet, portion by portion.
        self._is_releasing = False
        # How large the log is when a write has to look in at ``go_along``.
        self.look_from = COMPACT_FROM_BYTES if compact_at is not None else sys.maxsize

    def go_along(self, operations: Sequence[Operation]) -> None:
        """Do a share of compaction with a write, in proportion to its size. It never fails the write."""
        log = self._log
        if self._is_releasing:
            self._release()
            return
        if self.running is None and not self._is_time():
            return
        try:
            if isinstance(log, MemoryLog):
                self._drop_records(log)
                return
            if self.running is None:
                self.begin()
            # Not for what expired: it was written once, and paid for then. A purge of very many would else write half
            # a base, and sync it, in one call; and what it takes out the new log does not have to hold (M3, M4).
            self._debt += _SPEED * rough_size([operation for operation in operations if operation[0] != EXPIRE])
            while self._debt > 0 and self.running is not None:
                self._debt -= self._advance(log)
        except OSError as error:
            from logging import getLogger

            getLogger("mapitem.compaction").warning("%s: compaction failed: %s", log.path, error)
            # Try again when the log has grown by as much again, not at every write.
            self.look_from = 2 * log.size

    def _is_time(self) -> bool:
        """Whether the log is as large as it may be; if not, at which size to look again."""
        if self._compact_at is None:
            # Looked all the same: what asked for it by hand was interrupted.
            self._look_as_at_first()
            return False
        live = self._engine.live_bytes
        longest = int(COMPACT_FROM_BYTES + self._compact_at * live)
        # What is live may be much less by then: look again before the log has grown by much.
        self.look_from = min(longest, self._log.size + max(COMPACT_FROM_BYTES // 4, live // 16))
        return self._log.size >= longest

    def begin(self) -> None:
        """Begin a compaction, unless one is under way; ``step`` does the rest. In memory there is nothing to write."""
        log = self._log
        if isinstance(log, MemoryLog):
            self._drop_records(log)
        elif self.running is None:
            from mapitem.compaction import Compaction

            if self._is_releasing:
                # The disk may have no room for three.
                log.release_all()
                self._is_releasing = False
            self.running = Compaction(self._engine, log.begin())
            self._debt = 0
            # From now on every write has a share in it.
            self.look_from = 0

    def step(self) -> bool:
        """One step more; whether no compaction is under way any more, and nothing left of the log before."""
        if self.running is not None:
            assert isinstance(self._log, FileLog)
            self._advance(self._log)
        elif self._is_releasing:
            self._release()
        return self.running is None and not self._is_releasing

    def _release(self) -> None:
        if self._log.release():
            self._look_as_at_first()
            self._is_releasing = False

    def _advance(self, log: FileLog) -> int:
        """One step more; about how many bytes it wrote."""
        # Not in use until the step has succeeded: whatever comes between, nobody goes on with what lacks a part.
        compaction, self.running = self.running, None
        assert compaction is not None
        before = compaction.new.size
        try:
            # The write whose share this is has been done, and is not known to last.
            log.check_usable(outcome_unknown=True)
            if compaction.step():
                compaction.finish()
                self._adopt(log, compaction)
            else:
                self.running = compaction
        except BaseException as error:
            # In this order: from then on, by the frames of the error, it holds on to itself and its file.
            self._discard(compaction)
            compaction.failure = error
            raise
        return compaction.new.size - before + _STEP_BYTES

    def _adopt(self, log: FileLog, compaction: Compaction) -> None:
        self._save_backlogs()
        try:
            log.adopt(compaction.new)
            self._forget_history()
            compaction.failure = None
            self._is_releasing = True
            self.look_from = 0
        except BaseException as error:
            if compaction.new.file.placed:
                # The places of the records are those of the old log: without them nobody must go on.
                if log.failed is None:
                    log.fail(error)
                self._forget_history()
            raise

    def stop(self) -> None:
        """Give up the compaction under way, if there is one; the old log stays in use."""
        compaction, self.running = self.running, None
        if compaction is not None:
            self._discard(compaction)

    def _discard(self, compaction: Compaction) -> None:
        self.running = None
        compaction.new.discard()
        self._look_as_at_first()

    def _drop_records(self, log: MemoryLog) -> None:
        self._save_backlogs()
        # In this order: an interruption between the two must leave no place of a record that is gone.
        self._forget_history()
        log.forget()
        self._is_releasing = True
        self.look_from = 0

    def _save_backlogs(self) -> None:
        for watch in list(self._watches):
            watch.save_backlog()

    def _forget_history(self) -> None:
        self._engine.forget_history()
        for watch in list(self._watches):
            watch.forget_history()
        self._look_as_at_first()

    def _look_as_at_first(self) -> None:
        self.look_from = COMPACT_FROM_BYTES if self._compact_at is not None else sys.maxsize

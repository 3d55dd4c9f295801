"""Opening a file: told from what is no store, read whole, judged, mended, and handed over as a log (durability R).

The only room that knows what a crash may leave. It changes nothing before the writer's lock is held, and nothing in a
file that it refuses; who calls it gets an engine with everything in it and a log that is ready, or an error.
"""

from __future__ import annotations

import os
import stat

from mapitem.engine import Engine
from mapitem.errors import LogCorrupt, NotAStore
from mapitem.frames import Scan, corrupt, read_frame, read_header, survey
from mapitem.log import FileLog
from mapitem.newlog import NewFile, NewLog
from mapitem.records import decode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mapitem.disk import Disk
    from mapitem.lock import WriterLock
    from mapitem.records import Operation


def open_to_read(disk: Disk, path: str) -> tuple[Engine, FileLog]:
    """What a file holds at this moment: no lock is taken and nothing changed (R7)."""
    if not disk.exists(path):
        raise NotAStore(f"{path} is not a store: there is no such file", path=path, reason="there is no such file")
    _check_regular(disk, path)
    for tries_left in (2, 1, 0):
        engine = Engine()
        opened = OpenedLog(disk, path, read_only=True)
        # Here and below there is no ``finally``: an interruption on the way out through one would lose the log.
        try:
            opened.load(engine)
            return engine, opened.finish_reading()
        except BaseException as error:
            # It may be a record that a writer elsewhere was in the middle of, and is through with by now.
            again = tries_left and isinstance(error, LogCorrupt) and opened.has_grown()
            opened.close()
            if not again:
                raise
    raise AssertionError("the last try returns or raises")


def open_to_write(disk: Disk, path: str, *, at_power: bool, ahead: bool = True) -> tuple[Engine, FileLog, WriterLock]:
    """The store in a file, which is created if it is missing, with what a crash left mended, under the writer's lock.

    ``at_power``: every write will wait for the disk, and after an unclean end the log goes into a new file (R4).
    ``ahead``: space may be allocated ahead, and mapped where no write waits.
    """
    is_new = not disk.exists(path)
    if is_new:
        # The lock would make the missing directories on its way.
        disk.type(os.path.dirname(path))
    else:
        # What is no store is refused before a lock file is made for it.
        _check_regular(disk, path)
        OpenedLog(disk, path, read_only=True).close()
    # Here and not above: a store that is only read needs none.
    from mapitem.lock import WriterLock

    lock = WriterLock(path)
    try:
        lock.acquire()
        engine = Engine()
        _remove_leftover(disk, path)
        if is_new and not disk.exists(path):
            return engine, _create_log(disk, path, at_power=at_power, ahead=ahead), lock
        opened = OpenedLog(disk, path, read_only=False)
        try:
            opened.load(engine)
            return engine, opened.finish(at_power=at_power, ahead=ahead), lock
        except BaseException:
            opened.close()
            raise
    except BaseException:
        lock.withdraw()
        raise


def _check_regular(disk: Disk, path: str) -> None:
    mode = disk.type(path)
    if not stat.S_ISREG(mode):
        reason = "it is a directory" if stat.S_ISDIR(mode) else "it is no regular file"
        raise NotAStore(f"{path} is not a store: {reason}", path=path, reason=reason)


def _create_log(disk: Disk, path: str, *, at_power: bool, ahead: bool) -> FileLog:
    """A new, empty log in a file that is not there yet: created whole, or not at all (R6)."""
    new = NewLog(disk, path, None)
    try:
        new.finish()
        new.file.put_in_place()
        scan = Scan(disk, new.file.descriptor, new.header)
        for _ in scan:
            raise AssertionError("a new log has no records")
        log = FileLog(disk, path, new.file.descriptor, new.header, scan, ahead=ahead, at_power=at_power)
        new.file.keep()
        return log
    except BaseException:
        new.discard()
        raise


def _remove_leftover(disk: Disk, path: str) -> None:
    """Remove the half-written new file of a process that died, now that the lock says that nobody is writing it."""
    temporary = f"{path}.new"
    if disk.exists(temporary):
        disk.remove(temporary)


class OpenedLog:
    """A file that is being read: ``load`` it into an engine, then ``finish`` for the log."""

    _descriptor = -1

    def __init__(self, disk: Disk, path: str, *, read_only: bool) -> None:
        self._disk = disk
        self._path = path
        self._descriptor = disk.open_read(path) if read_only else disk.open_write(path)
        try:
            self._header = read_header(disk, self._descriptor, path)
            self._scan = Scan(disk, self._descriptor, self._header)
            self._behind_tear = 0  # how many whole records lie behind the bytes that are none
        except BaseException:
            self.close()
            raise

    def records(self) -> Iterator[tuple[int, tuple[Operation, ...]]]:
        """Every record, decoded, with its place; ``LogCorrupt`` at one that is whole and none of ours."""
        for payload in self._scan:
            try:
                operations = decode_record(payload, in_base=not self._scan.based)
            except ValueError as error:
                raise self.corrupt(self.place, str(error)) from None
            yield self.place, operations

    def load(self, engine: Engine) -> None:
        """Apply every record to an empty engine; ``LogCorrupt`` if the file is damaged, torn tails aside (R3)."""
        try:
            engine.load(self.records())
        except (KeyError, ValueError) as error:
            reason = f"a record that does not follow from those before it ({error})"
            raise self.corrupt(self.place, reason) from None
        self.verdict()

    @property
    def place(self) -> int:
        """Where the record begins that was handed out last."""
        return self._scan.place

    def corrupt(self, offset: int, reason: str, after: int = 0) -> LogCorrupt:
        """The error for damage at ``offset``, with what was read so far as the records before it."""
        return corrupt(self._path, offset, reason, self._scan.records, after)

    def verdict(self) -> None:
        """Tell a torn tail from damage (R2, R3): raise ``LogCorrupt``, or ``NotAStore`` for a log without a base."""
        scan = self._scan
        if scan.reason is None and scan.based:
            return
        after, promised = survey(self._disk, self._descriptor, self._header, scan.end, scan.size)
        self._behind_tear = after
        if promised > scan.end or (not scan.based and scan.records + after):
            raise self.corrupt(scan.end, scan.reason or "the log ends within its base", after)
        if not scan.based:
            reason = "it has a header and nothing more"
            raise NotAStore(f"{self._path} is not a store: {reason}", path=self._path, reason=reason)

    def finish(self, *, at_power: bool, ahead: bool) -> FileLog:
        """The log, ready for appending: what is torn is cut, and what is there is on the medium.

        The descriptor is the log's from now on, also if this fails.
        """
        scan = self._scan
        log = FileLog(self._disk, self._path, self._descriptor, self._header, scan, ahead=ahead, at_power=at_power)
        self._descriptor = -1
        try:
            if not scan.is_clean:
                self._mend(log, rewrite=at_power or self._behind_tear > 0)
            elif scan.synced_to < scan.place:
                # Closed without a sync: what this open shows must not vanish (R4).
                log.settle()
        except BaseException:
            log.abandon()
            raise
        return log

    def _mend(self, log: FileLog, *, rewrite: bool) -> None:
        """After an unclean end: cut what is torn, and put on the medium what this open will show (R2, R4)."""
        scan = self._scan
        kept_in = self._keep_tail(log) if scan.torn_bytes else None
        log.recovery = Recovery(scan.torn_bytes, scan.end, scan.reason, kept_in)
        if scan.torn_bytes:
            from logging import getLogger

            getLogger("mapitem.log").warning("%s: dropped a torn tail: %r", self._path, log.recovery)
        if scan.size > scan.end:
            log.cut()
        if rewrite:
            log.write_over()
        else:
            log.settle()

    def _keep_tail(self, log: FileLog) -> str | None:
        """Copy the bytes that will be cut; opening does not fail for want of space for them."""
        scan = self._scan
        path = f"{self._path}.cut-{scan.end}"
        try:
            with NewFile(self._disk, path, self._disk.mode(log.descriptor), beside=self._path) as copy:
                self._disk.copy(log.descriptor, copy.descriptor, scan.end, scan.end + scan.torn_bytes)
                copy.put_in_place()
        except OSError:
            return None
        return path

    def finish_reading(self) -> FileLog:
        """The log, for reading alone."""
        recovery = self.unclean()
        log = FileLog(self._disk, self._path, self._descriptor, self._header, self._scan, is_read_only=True)
        self._descriptor = -1
        log.recovery = recovery
        return log

    def unclean(self) -> Recovery | None:
        """What ``finish`` would have to mend, for those who only read."""
        scan = self._scan
        if scan.is_clean:
            return None
        return Recovery(scan.torn_bytes, scan.end, scan.reason, None)

    def has_grown(self) -> bool:
        """Whether a writer elsewhere has been at the file since it was read.

        Its size tells that, unless the writer had allocated ahead; then a record does, where there was none.
        """
        scan = self._scan
        if self._disk.size(self._descriptor) != scan.size:
            return True
        if scan.reason is None:
            return False
        try:
            read_frame(self._disk, self._descriptor, self._header, scan.end, b"")
        except ValueError:
            return False
        return True

    def close(self) -> None:
        """Let the file go, unless it became a log's. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._disk.close(descriptor)

    def __del__(self) -> None:
        # For an interruption before anybody has it, or at the very beginning of ``close``.
        if self._descriptor >= 0:
            self._disk.close(self._descriptor)


class Recovery:
    """What opening found after an end that was not clean: ``store.recovery`` (durability R2, R5). Immutable.

    ``dropped_bytes`` were cut from ``offset`` on, for ``reason``, and kept in the file ``kept_in`` (``None`` if
    nothing was cut or no copy could be made). With nothing to cut they are 0, the end of the log, ``None`` and
    ``None``.
    """

    __slots__ = ("_dropped_bytes", "_kept_in", "_offset", "_reason")

    def __init__(self, dropped_bytes: int, offset: int, reason: str | None, kept_in: str | None) -> None:
        self._dropped_bytes = dropped_bytes
        self._offset = offset
        self._reason = reason
        self._kept_in = kept_in

    @property
    def dropped_bytes(self) -> int:
        return self._dropped_bytes

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def reason(self) -> str | None:
        return self._reason

    @property
    def kept_in(self) -> str | None:
        return self._kept_in

    def __repr__(self) -> str:
        return (
            f"Recovery(dropped_bytes={self._dropped_bytes}, offset={self._offset}, "
            f"reason={self._reason!r}, kept_in={self._kept_in!r})"
        )

"""The append-only log of a store: in a file (``FileLog``), or nowhere (``MemoryLog``), behind the same few methods.

It takes records in, says where they came to lie, cuts back what failed, knows how far the file is on the medium, and
opens a file after any crash (``docs/durability.md`` P, R, G, F; ``docs/format.md``). What a record means it does not
know. Appending is for one thread at a time, the store's lock sees to that; ``sync`` may run beside it.
"""

from __future__ import annotations

from contextlib import suppress
from threading import RLock

from mapitem.errors import LogCorrupt, NotAStore, StoreClosed, StoreFailed
from mapitem.frames import (
    BASE_END,
    CLOSE,
    FRAME_BYTES,
    HEADER_BYTES,
    Header,
    Scan,
    pack_frame,
    read_frame,
    read_header,
    survey,
)
from mapitem.records import decode_record, encode_record, rough_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from mapitem.disk import Disk
    from mapitem.records import Operation

_COPY_BYTES = 1024 * 1024
_WRITE_BYTES = 64 * 1024
# How much of a new file may wait for the medium: what is synced at once is what a writer waits for.
_SYNC_BYTES = 1024 * 1024


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


class MemoryLog:
    """The log of a store in memory: it keeps the records for the change feed, and everything succeeds."""

    path: str | None = None
    # Taken by nobody: there is no medium to wait for.
    sync_lock = RLock()
    recovery: Recovery | None = None
    failed: BaseException | None = None

    def __init__(self) -> None:
        self._records: list[Sequence[Operation]] = []
        self._dropped = 0
        self.size = 0

    @property
    def position(self) -> int:
        """Moves when, and only when, an append has succeeded."""
        return self._dropped + len(self._records)

    @property
    def synced_position(self) -> int:
        """Memory is all the medium there is."""
        return self.position

    def append(self, operations: Sequence[Operation]) -> int:
        """Append one record and return its place."""
        place = self._dropped + len(self._records)
        self._records.append(operations)
        self.size += rough_size(operations)
        return place

    def read(self, places: Iterable[int]) -> Iterator[Sequence[Operation]]:
        """The records at these places."""
        return (self._records[place - self._dropped] for place in places)

    def forget(self) -> None:
        """Drop every record."""
        self._dropped += len(self._records)
        self._records = []
        self.size = 0

    def sync(self, ticket: int | None = None) -> None:
        pass

    def close(self, *, sync: bool) -> None:
        pass

    def abandon(self) -> None:
        pass


class FileLog:
    """The log in one file. Made by ``create_log`` and by ``OpenedLog.finish``.

    ``position`` counts records and only grows, whatever file they lie in; a *place* is a record's offset in the
    present file.
    """

    def __init__(self, disk: Disk, path: str, descriptor: int, header: Header, scan: Scan) -> None:
        self._disk = disk
        self.path = path
        self._descriptor = descriptor
        self._header = header
        # Whether the file ends in the mark of a clean end, in whose place the next record goes.
        self._is_marked = scan.closed and scan.reason is None
        # Where the next record goes, and its number in this file.
        self._end = scan.place if self._is_marked else scan.end
        self._sequence = scan.sequence - self._is_marked
        self._synced_to = scan.synced_to
        # How many records were appended through this handle, and how many of them are on the medium.
        self.position = 0
        self.synced_position = 0
        # Set while bytes beyond the end may lie in the file: an append that was interrupted.
        self._ragged = False
        self.failed: BaseException | None = None
        self.recovery: Recovery | None = None
        # Re-entrant only so that the store can tell a signal handler that it interrupted the lock's holder.
        self.sync_lock = RLock()
        self._is_read_only = False

    @property
    def size(self) -> int:
        """How large the file is, in bytes."""
        return self._end

    # ------------------------------------------------------------ writing

    def append(self, operations: Sequence[Operation]) -> int:
        """Append one record and return its place. In the page cache when this returns, whole or not at all (F1)."""
        self.check_usable()
        if self._is_marked:
            self._unmark()
        if self._ragged:
            self._cut()
        place = self._end
        self._append(encode_record(operations))
        return place

    def _append(self, payload: bytes) -> None:
        frame = pack_frame(payload, self._sequence, self._synced_to, self._header.seed)
        self._ragged = True
        end = self._end + len(frame)
        try:
            _write_all(self._disk, self._descriptor, frame, self._end)
        except OSError:
            self._cut()
            raise
        except BaseException:
            # Not even the file shall show what was interrupted.
            with suppress(StoreFailed):
                self._cut()
            raise
        # The position first: by it the store knows that there is a record, if an interruption comes between these
        # lines.
        self.position += 1
        self._sequence += 1
        self._end = end
        self._ragged = False

    def _unmark(self) -> None:
        """Take the mark of a clean end off the medium before anything is written: from now on it would lie (R5).

        A mark whose own sync failed may also be in the page cache alone, and would be a hole in front of what follows.
        """
        self._disk.truncate(self._descriptor, self._end)
        try:
            self._disk.sync(self._descriptor)
        except OSError as error:
            raise self.fail(error) from error
        self._is_marked = False

    def _cut(self) -> None:
        """Cut the file back to its last whole record; if even that fails, nobody knows what it holds (F2).

        On the medium too, before anything is written there: what was interrupted may be whole, and records that came
        behind another must not be found behind it after a power cut.
        """
        try:
            self._disk.truncate(self._descriptor, self._end)
            self._disk.sync(self._descriptor)
        except OSError as error:
            raise self.fail(error) from error
        self._ragged = False

    def sync(self, position: int | None = None) -> None:
        """Return once every record before ``position`` (default: every one so far) is on the medium.

        Threads that ask at the same time share one fsync: whoever comes first syncs for all that have appended by then.
        A failed fsync is final (F2): ``StoreFailed`` now and at every write from now on.
        """
        if position is None:
            position = self.position
        with self.sync_lock:
            if self.synced_position >= position and self.failed is None:
                return
            self.check_usable()
            if self._descriptor < 0:
                raise StoreClosed("the store is closed")
            # In this order: a record that is appended between the two is synced, and merely not known to be.
            reached, end = self.position, self._end
            try:
                self._disk.sync(self._descriptor)
            except OSError as error:
                raise self.fail(error) from error
            self.synced_position = reached
            self._synced_to = end

    def close(self, *, sync: bool) -> None:
        """Mark the log as cleanly closed and let the file go, the latter even if the former fails (F5)."""
        if self._descriptor < 0:
            return
        try:
            self.check_usable()
            if self._ragged:
                self._cut()
            if self._is_read_only:
                return
            if not self._is_marked:
                if sync:
                    self.sync()
                self._append(CLOSE)
                if sync:
                    self.sync()
            elif sync:
                # The mark is there; whether who wrote it lived to sync it, nobody knows.
                self._disk.sync(self._descriptor)
        finally:
            with self.sync_lock:  # not from under one who syncs
                self.abandon()

    def abandon(self) -> None:
        """Let the file go as it is. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._disk.close(descriptor)

    def check_usable(self) -> None:
        """``StoreFailed`` after a failure that left the file in doubt."""
        if self.failed is not None:
            raise StoreFailed(f"an earlier failure left the file in doubt ({self.failed}): open the store anew")

    def fail(self, error: BaseException) -> StoreFailed:
        """Take no more records, and the error that says so to whoever met the failure."""
        self.failed = error
        return StoreFailed(
            f"{error}: it is unknown whether the last writes are on the disk; open the store anew", outcome_unknown=True
        )

    # ------------------------------------------------------------ reading

    def read(self, places: Iterable[int]) -> Iterator[Sequence[Operation]]:
        """The records at these places, which are in ascending order; each read once, and many with one system call."""
        window, start = b"", -1
        for place in places:
            window = window[place - start :] if start <= place <= start + len(window) else b""
            try:
                payload, window = read_frame(self._disk, self._descriptor, self._header, place, window)
                operations = decode_record(payload)
            except ValueError as error:
                raise _corrupt(self.path, place, str(error)) from None
            start = place + FRAME_BYTES + len(payload)
            yield operations

    # ------------------------------------------------------------ after a crash

    def settle_end(self, scan: Scan, *, rewrite: bool) -> None:
        """After an unclean end: cut what is torn, and put on the medium what this open will show (R2, R4)."""
        dropped = scan.size - scan.end
        kept_in = self._keep_tail(scan) if dropped else None
        self.recovery = Recovery(dropped, scan.end, scan.reason, kept_in)
        if dropped:
            from logging import getLogger

            getLogger("mapitem.log").warning("%s: dropped a torn tail: %r", self.path, self.recovery)
            self._cut()
        if rewrite:
            self._write_over()
        else:
            self.settle()

    def settle(self) -> None:
        """Put on the medium what was found in the file, and its name: who died may not have come to either (R4)."""
        self._disk.sync(self._descriptor)
        self._disk.sync_directory(self.path)
        self._synced_to = self._end

    def _keep_tail(self, scan: Scan) -> str | None:
        """Copy the bytes that will be cut; opening does not fail for want of space for them."""
        path = f"{self.path}.cut-{scan.end}"
        try:
            with NewFile(self._disk, path, self._disk.mode(self._descriptor), beside=self.path) as copy:
                _copy(self._disk, self._descriptor, copy.descriptor, scan.end, scan.size, 0)
                copy.put_in_place()
        except OSError:
            return None
        return path

    def _write_over(self) -> None:
        """Put the same records, each at the same place, into a new file of another generation.

        After a failed fsync the old file may be in the page cache alone. And whole records that were cut from it may
        come up again in a freed block; of an older generation, they cannot pass for what is written there next.
        """
        new = self.begin()
        try:
            place, window = HEADER_BYTES, b""
            while place < self._end:
                try:
                    payload, window = read_frame(self._disk, self._descriptor, self._header, place, window)
                except ValueError as error:
                    raise _corrupt(self.path, place, str(error)) from None
                new.append(payload)
                place += FRAME_BYTES + len(payload)
            new.flush()
            new.file.put_in_place()
            self._go_on_in(new)
        finally:
            new.discard()

    # ------------------------------------------------------------ a new file in its place, or beside it

    def begin(self, path: str | None = None) -> NewLog:
        """A new log, to take this one's place (``adopt``) or to be a copy of its own at ``path``."""
        return NewLog(self._disk, path or self.path, self._disk.mode(self._descriptor))

    def adopt(self, new: NewLog) -> None:
        """Go on in the new log, which is whole but for its end-of-base mark (M1).

        Before the rename a failure leaves the old log in use; after it, a failure to sync the directory is final (F2).
        So is whatever interrupts from the rename on: it leaves open into which file the next record would have to go.
        """
        with self.sync_lock:
            new.finish()
            try:
                new.file.put_in_place()
                self._go_on_in(new)
            except BaseException as error:
                if new.file.placed is False:
                    raise
                failure = self.fail(error)
                if new.file.placed and new.file.descriptor >= 0:
                    self._go_on_in(new)
                if isinstance(error, OSError):
                    raise failure from error
                raise

    def _go_on_in(self, new: NewLog) -> None:
        old, self._descriptor = self._descriptor, new.file.keep()
        self._header = new.header
        self._end = self._synced_to = new.end
        self._sequence = new.sequence
        self.synced_position = self.position
        self._is_marked = False
        with suppress(OSError):  # what it held is in the new one
            self._disk.close(old)

    def copy_to(self, target: str, lock: AbstractContextManager[object]) -> None:
        """Copy the log as it is now into a new file, whole and marked as cleanly closed (M5).

        The lock is held only to see where the log ends: what was appended never changes. The descriptor is a fresh
        one, for a compaction may replace ours.
        """
        with lock:
            end = self._end
            close_frame = pack_frame(CLOSE, self._sequence, end, self._header.seed)
            if self._is_read_only:
                # The name may lead to another file by now, if the writer compacted; and no writer waits for this lock.
                self._copy_from(self._descriptor, end, close_frame, target)
                return
            descriptor = self._disk.open_read(self.path)
        try:
            self._copy_from(descriptor, end, close_frame, target)
        finally:
            self._disk.close(descriptor)

    def _copy_from(self, descriptor: int, end: int, close_frame: bytes, target: str) -> None:
        disk = self._disk
        with NewFile(disk, target, disk.mode(descriptor)) as new:
            _copy(disk, descriptor, new.descriptor, 0, end, 0)
            _write_all(disk, new.descriptor, close_frame, end)
            new.put_in_place()


class NewFile:
    """A file written beside its final name, and given that name only when it is whole and on the medium (M1)."""

    def __init__(self, disk: Disk, path: str, mode: int | None, *, beside: str | None = None) -> None:
        self._disk = disk
        self._path = path
        # ``beside`` is the log whose leftover the next opening removes, should this one die.
        self._temporary = f"{beside or path}.new"
        self._mode = mode
        # Whether there may be a file to take away again.
        self._is_begun = False
        # Whether the file has its name; None while that is unknown.
        self.placed: bool | None = False
        self.descriptor = -1

    def __enter__(self) -> NewFile:
        self._is_begun = True
        try:
            self.descriptor = self._disk.create(self._temporary, 0o666 if self._mode is None else self._mode)
            if self._mode is not None:
                self._disk.set_mode(self.descriptor, self._mode)  # what create gave was less the umask
        except BaseException as error:
            # One that is no error of create's own may have come just after it.
            if self.descriptor >= 0 or not isinstance(error, OSError):
                self.__exit__()
            self._is_begun = False
            raise
        return self

    def put_in_place(self) -> None:
        """Sync at every level: a torn base would be no prefix. The directory too, for the name."""
        self._disk.sync(self.descriptor)
        self.placed = None
        try:
            self._disk.replace(self._temporary, self._path)
        except OSError:
            self.placed = False
            raise
        self.placed = True
        self._disk.sync_directory(self._path)

    def keep(self) -> int:
        """The descriptor, which the caller closes from now on."""
        descriptor, self.descriptor = self.descriptor, -1
        return descriptor

    def abandon(self) -> None:
        """Let the file go as it is, under whichever name it has."""
        if self.descriptor >= 0:
            self._disk.close(self.keep())

    def __exit__(self, *exception: object) -> None:
        try:
            self.abandon()
        finally:
            if self._is_begun and not self.placed:
                self._is_begun = False
                with suppress(FileNotFoundError):
                    self._disk.remove(self._temporary)


class NewLog:
    """A log being written beside its final name, record by record, up to and with its end-of-base mark."""

    def __init__(self, disk: Disk, path: str, mode: int | None) -> None:
        self._disk = disk
        self.header = Header()
        self.sequence = 0
        self.end = 0
        self._unsynced = 0
        self._waiting = [self.header.pack()]
        self._waiting_bytes = HEADER_BYTES
        # Made by the first flush: by then somebody holds on to this log who will discard it, whatever interrupts.
        self.file = NewFile(disk, path, mode)

    @property
    def size(self) -> int:
        """How many bytes were given to it so far."""
        return self.end + self._waiting_bytes

    def append(self, payload: bytes) -> None:
        """One more record of the base. Written and synced in portions, so that no single call takes long."""
        # All that is in front of it is on the medium before the file gets its name.
        frame = pack_frame(payload, self.sequence, self.size, self.header.seed)
        self.sequence += 1
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        if self._waiting_bytes >= _WRITE_BYTES:
            self.flush()

    def finish(self) -> None:
        """The mark behind the last record. The file still lacks its sync and its name."""
        self.append(BASE_END)
        self.flush()

    def discard(self) -> None:
        """Leave nothing behind. May be called twice, and does nothing to a file that has its name."""
        self.file.__exit__()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        if self.file.descriptor < 0:
            self.file.__enter__()
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        _write_all(self._disk, self.file.descriptor, data, self.end)
        self.end += len(data)
        self._unsynced += len(data)
        if self._unsynced >= _SYNC_BYTES:
            self._disk.sync(self.file.descriptor)
            self._unsynced = 0


def create_log(disk: Disk, path: str) -> FileLog:
    """A new, empty log in a file that is not there yet: created whole, or not at all (R6)."""
    new = NewLog(disk, path, None)
    try:
        new.finish()
        new.file.put_in_place()
        scan = Scan(disk, new.file.descriptor, new.header)
        for _ in scan:
            raise AssertionError("a new log has no records")
        return FileLog(disk, path, new.file.keep(), new.header, scan)
    finally:
        new.discard()


class OpenedLog:
    """A log that is being read: iterate ``records`` to the end, then call ``finish`` (or ``verdict``, to look only)."""

    def __init__(self, disk: Disk, path: str, *, read_only: bool) -> None:
        self._disk = disk
        self._path = path
        self._descriptor = disk.open_read(path) if read_only else disk.open_write(path)
        try:
            self._header = read_header(disk, self._descriptor, path)
            self._scan = Scan(disk, self._descriptor, self._header)
            self._behind_tear = 0  # how many whole records lie behind the bytes that are none
        except BaseException:
            disk.close(self._descriptor)
            raise

    def records(self) -> Iterator[tuple[int, tuple[Operation, ...]]]:
        """Every record, decoded, with its place; ``LogCorrupt`` at one that is whole and none of ours."""
        for payload in self._scan:
            try:
                operations = decode_record(payload, in_base=not self._scan.based)
            except ValueError as error:
                raise self.corrupt(self.place, str(error)) from None
            yield self.place, operations

    @property
    def place(self) -> int:
        """Where the record begins that was handed out last."""
        return self._scan.place

    def corrupt(self, offset: int, reason: str, after: int = 0) -> LogCorrupt:
        """The error for damage at ``offset``, with what was read so far as the records before it."""
        return _corrupt(self._path, offset, reason, self._scan.records, after)

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

    def finish(self, *, rewrite: bool) -> FileLog:
        """The log, ready for appending: what is torn is cut, and what is there is on the medium.

        The descriptor is the log's from now on, also if this fails.
        """
        scan = self._scan
        log = FileLog(self._disk, self._path, self._descriptor, self._header, scan)
        self._descriptor = -1
        try:
            if not scan.closed or scan.reason is not None:
                log.settle_end(scan, rewrite=rewrite or self._behind_tear > 0)
            elif scan.synced_to < scan.place:
                # Closed without a sync: what this open shows must not vanish (R4).
                log.settle()
        except BaseException:
            log.abandon()
            raise
        return log

    def finish_reading(self) -> FileLog:
        """The log, for reading alone."""
        log = FileLog(self._disk, self._path, self._descriptor, self._header, self._scan)
        self._descriptor = -1
        log.recovery = self.unclean()
        log._is_read_only = True
        return log

    def unclean(self) -> Recovery | None:
        """What ``finish`` would have to mend, for those who only read."""
        scan = self._scan
        if scan.closed and scan.reason is None:
            return None
        return Recovery(scan.size - scan.end, scan.end, scan.reason, None)

    def has_grown(self) -> bool:
        """Whether a writer elsewhere has been at the file since it was opened."""
        return self._disk.size(self._descriptor) != self._scan.size

    def close(self) -> None:
        """Let the file go, unless it became a log's."""
        if self._descriptor >= 0:
            self._disk.close(self._descriptor)
            self._descriptor = -1


def remove_leftover(disk: Disk, path: str) -> None:
    """Remove the half-written new file of a process that died, now that the lock says that nobody is writing it."""
    temporary = f"{path}.new"
    if disk.exists(temporary):
        disk.remove(temporary)


def _corrupt(path: str, offset: int, reason: str, before: int = 0, after: int = 0) -> LogCorrupt:
    return LogCorrupt(
        f"{path} is damaged at byte {offset}: {reason} ({before} whole records before, {after} after)",
        path=path,
        offset=offset,
        reason=reason,
        records_before=before,
        records_after=after,
    )


def _copy(disk: Disk, source: int, target: int, start: int, end: int, to: int) -> None:
    """Copy the bytes from ``start`` up to ``end`` of one file to ``to`` and on in another."""
    for offset in range(start, end, _COPY_BYTES):
        part = disk.read(source, min(_COPY_BYTES, end - offset), offset)
        _write_all(disk, target, part, to + offset - start)


def _write_all(disk: Disk, descriptor: int, data: bytes, offset: int) -> None:
    written = disk.write(descriptor, data, offset)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(data):
        more = disk.write(descriptor, view[written:], offset + written)
        if more <= 0:
            raise OSError("the operating system wrote nothing and gave no reason")
        written += more

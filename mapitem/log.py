"""The append-only log of a store in a file (``FileLog``); ``memorylog`` has one without, behind the same few methods.

It takes records in, says where they came to lie, cuts back what failed, and knows how far the file is on the medium
(``docs/durability.md`` P, G, F; ``docs/format.md``). What a record means it does not know, nor how a file came to be
open. Appending is for one thread at a time, the store's lock sees to that; ``sync`` may run beside it.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from threading import Lock

from mapitem.errors import StoreClosed, StoreFailed
from mapitem.frames import (
    CLOSE,
    CUT,
    FRAME_BYTES,
    HEADER_BYTES,
    Header,
    Scan,
    corrupt,
    pack_frame,
    read_frame,
)
from mapitem.newlog import NewFile, NewLog, ReplacedFile
from mapitem.preallocation import Preallocation
from mapitem.records import decode_record, encoder
from mapitem.threadlock import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from mapitem.disk import Disk
    from mapitem.opening import Recovery
    from mapitem.records import Operation

# How long a thread waits, in seconds, to be woken by one that syncs, before it looks for itself: that one may have been
# interrupted.
_PATIENCE = 0.05


class FileLog:
    """The log in one file. Made by ``mapitem.opening``.

    ``position`` counts records and only grows, whatever file they lie in; a *place* is a record's offset in the
    present file.
    """

    def __init__(
        self,
        disk: Disk,
        path: str,
        descriptor: int,
        header: Header,
        scan: Scan,
        *,
        is_read_only: bool = False,
        ahead: bool = False,
        at_power: bool = False,
    ) -> None:
        self._disk = disk
        self.path = path
        self.descriptor = descriptor
        self._header = header
        self._seed = header.seed
        self._encode = encoder()
        # Whether the file ends in the mark of a clean end, in whose place the next record goes.
        self._is_marked = scan.is_clean
        # How large the file is, in bytes, which is where the next record goes; and that one's number.
        self.size = scan.place if self._is_marked else scan.end
        self._sequence = scan.sequence - self._is_marked
        self._synced_to = scan.synced_to
        # How many records were appended through this handle, and how many of them are on the medium.
        self.position = 0
        self.synced_position = 0
        # Set while bytes beyond the end may lie in the file, or in blocks that were freed: an append that was
        # interrupted or refused, or a process before this one that died.
        self._ragged = False
        self._ahead = Preallocation(disk, self.size, is_on=ahead, is_mapped=not at_power)
        self.failed: BaseException | None = None
        self.recovery: Recovery | None = None
        # Re-entrant only so that the store can tell a signal handler that it interrupted the lock's holder.
        self.sync_lock = RLock()
        # A lock that its holder holds for as long as he waits for the disk, and takes from here once the disk has said
        # that all is well. Found here and not held, it tells of one who was interrupted before he knew.
        self._under_way: Lock | None = None
        # Who waits for him meanwhile: up to which record, and a lock that is released to wake him.
        self._waiting: deque[tuple[int, Lock]] = deque()
        self._is_read_only = is_read_only
        self._replaced = ReplacedFile(disk)

    # ------------------------------------------------------------ writing

    def append(self, operations: Sequence[Operation]) -> int:
        """Append one record and return its place. In the page cache when this returns, whole or not at all (F1)."""
        try:
            if self.failed is not None or self._is_marked or self._ragged or self._under_way is not None:
                self._make_ready()
            return self._append(self._encode(operations))
        except OSError:
            if not self._replaced.is_held:
                raise
            # What is left of the log before a compaction may be the very space that is missing.
            self.release_all()
            return self.append(operations)

    def _make_ready(self) -> None:
        self.check_usable()
        if self._is_marked:
            self._unmark()
        self._mend_end()

    def _mend_end(self) -> None:
        """Before anything is written, be it the mark of a clean end: cut what may lie behind the end, and seal that."""
        if self._ragged:
            self.cut()
            self._seal()

    def _append(self, payload: bytes) -> int:
        place = self.size
        frame = pack_frame(payload, self._sequence, self._synced_to, self._seed)
        end = place + len(frame)
        ahead = self._ahead
        self._ragged = True
        try:
            if end <= ahead.mapped_to or (end >= ahead.allocate_from and ahead.extend(self.descriptor, place, end)):
                # A tenth of what a system call costs, and it keeps the interpreter's lock, which a writer beside
                # readers would get back only after a switch interval. Dead or alive, the page cache has it (P1).
                start = ahead.mapped_from
                ahead.window[place - start : end - start] = frame  # type: ignore[index]
            else:
                written = self._disk.write(self.descriptor, frame, place)
                if written < len(frame):
                    self._disk.write_all(self.descriptor, memoryview(frame)[written:], place + written)
        except OSError:
            self.cut()
            raise
        except BaseException:
            # Not even the file shall show what was interrupted.
            with suppress(StoreFailed):
                self.cut()
            raise
        # The position first: by it the store knows that there is a record, if an interruption comes between these
        # lines.
        self.position += 1
        self._sequence += 1
        self.size = end
        self._ragged = False
        return place

    def _unmark(self) -> None:
        """Take the mark of a clean end off the medium before anything is written: from now on it would lie (R5).

        A mark whose own sync failed may also be in the page cache alone, and would be a hole in front of what follows.
        """
        # In one step, for one that is interrupted: from now on the mark is bytes behind the end, and nothing but cut.
        self._is_marked, self._ragged = False, True
        self.cut()
        self._ragged = False

    def cut(self) -> None:
        """Cut the file back to its last whole record; if even that fails, nobody knows what it holds (F2).

        On the medium too, before anything is written there: what was interrupted may be whole, and records that came
        behind another must not be found behind it after a power cut.
        """
        self._ahead.unmap()
        try:
            self._disk.truncate(self.descriptor, self.size)
        except OSError as error:
            raise self.fail(error) from error
        self._sync_file()
        self._ahead.allocated_to = 0

    def _seal(self) -> None:
        """Put a mark where something was cut, and on the medium, before another record goes there.

        What was cut may be whole in a freed block, and come up again in the place of what is written there next: with
        the number that belongs there, and of this generation. In the place of the mark it is not whole, for the mark is
        shorter than any record, and the file ends with it; which is why it goes nowhere that was allocated ahead.
        """
        frame = pack_frame(CUT, self._sequence, self._synced_to, self._seed)
        try:
            self._disk.write_all(self.descriptor, frame, self.size)
        except OSError:
            self.cut()
            raise
        self._sync_file()
        # In one step, for one that is interrupted: the file and the number belong together.
        self._sequence, self.size = self._sequence + 1, self.size + len(frame)
        self._ragged = False

    def sync(self, position: int | None = None) -> None:
        """Return once every record before ``position`` (default: every one so far) is on the medium.

        Threads that ask at the same time share one fsync: whoever comes first syncs for all that have appended by then.
        A failed fsync is final (F2): ``StoreFailed`` now and at every write from now on. What became of the caller's
        own record, whose ``position`` he gives, is as unknown to him as to the one whose sync it was.
        """
        is_for_a_write = position is not None
        if position is None:
            position = self.position
        if self._is_syncing:
            self._wait(position)
            if self.synced_position >= position and self.failed is None:
                return
        try:
            with self.sync_lock:
                self.check_usable(outcome_unknown=is_for_a_write)
                if self.synced_position >= position:
                    return
                if self.descriptor < 0:
                    raise StoreClosed("the store is closed")
                # In this order: a record that is appended between the two is synced, and merely not known to be.
                reached, end = self.position, self.size
                self._sync_file()
                self.synced_position = reached
                self._synced_to = end
        finally:
            self._wake()

    def _sync_file(self) -> None:
        """Sync the file. ``StoreFailed`` if that fails, now and from now on, whatever interrupts (F2, F3).

        The doubt is there before the call, for an interruption may come between its failure and any line that would
        note it. What comes out of the call itself hides no failure: it came before the disk was asked, or after it had
        done what it was asked for. The lock is one of C: nothing comes between the end of its block and its exit.
        """
        under_way = Lock()
        with self.sync_lock, under_way:
            self._under_way = under_way
            try:
                self._disk.sync(self.descriptor)
            except OSError as error:
                raise self.fail(error) from error
            except BaseException:
                self._under_way = None
                raise
            self._under_way = None

    @property
    def _is_syncing(self) -> bool:
        """Whether somebody waits for the disk at this moment."""
        under_way = self._under_way
        return under_way is not None and under_way.locked()

    def _wait(self, position: int) -> None:
        """Let somebody else's sync come to its end.

        On a lock of one's own: where all wait for ``sync_lock``, it goes from hand to hand, one switch of threads after
        the other (16 threads: 5,500 writes a second instead of 8,500). It is no more than a wait: what came of it, the
        caller has to see.
        """
        lock = Lock()
        lock.acquire()
        self._waiting.append((position, lock))
        # Asked again, for who was syncing may have been through with his waking just before.
        if self._is_syncing:
            lock.acquire(timeout=_PATIENCE)

    def _wake(self) -> None:
        """Wake those whose records are on the medium by now, and one of the others, to sync for all of them."""
        waiting = self._waiting
        others: list[tuple[int, Lock]] = []
        while True:
            try:
                position, lock = waiting.popleft()
            except IndexError:  # not asked for before: another thread may be waking, too
                break
            if self.synced_position >= position or self.failed is not None:
                lock.release()
            else:
                others.append((position, lock))
        if others:
            others.pop()[1].release()
            waiting.extend(others)

    def close(self, *, sync: bool) -> None:
        """Mark the log as cleanly closed and let the file go, the latter even if the former fails (F5)."""
        if self.descriptor < 0:
            return
        try:
            self.check_usable()
            self._mend_end()
            if self._is_read_only:
                return
            if not self._is_marked:
                self._ahead.trim(self.descriptor, self.size)
                if sync:
                    self.sync()
                self._append(CLOSE)
                if sync:
                    self.sync()
            elif sync:
                # The mark is there; whether who wrote it lived to sync it, nobody knows.
                self._sync_file()
        finally:
            with self.sync_lock:  # not from under one who syncs
                self.abandon()

    def abandon(self) -> None:
        """Let the file go as it is. May be called twice."""
        self._ahead.unmap()
        self.release_all()
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            self._disk.close(descriptor)

    def check_usable(self, *, outcome_unknown: bool = False) -> None:
        """``StoreFailed`` after a failure that left the file in doubt, or an interruption that may have hidden one."""
        under_way = self._under_way
        # In this order: each sync has a lock of its own, so that one which is here before and after it was seen not to
        # be held belongs to none that is under way.
        if under_way is not None and not under_way.locked() and under_way is self._under_way and self.failed is None:
            self.failed = InterruptedError("a sync was interrupted before anybody knew what came of it")
        if self.failed is not None:
            message = f"an earlier failure left the file in doubt ({self.failed}): open the store anew"
            raise StoreFailed(message, outcome_unknown=outcome_unknown)

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
                payload, window = read_frame(self._disk, self.descriptor, self._header, place, window)
                operations = decode_record(payload)
            except ValueError as error:
                raise corrupt(self.path, place, str(error)) from None
            start = place + FRAME_BYTES + len(payload)
            yield operations

    # ------------------------------------------------------------ after a crash

    def settle(self) -> None:
        """Put on the medium what was found in the file, and its name: who died may not have come to either (R4)."""
        self._disk.sync(self.descriptor)
        self._disk.sync_directory(self.path)
        self._synced_to = self.size
        # What he wrote behind that, or cut, may come up again. By the next append, for an opening shall need no space.
        self._ragged = not self._is_marked

    def write_over(self) -> None:
        """Put the same records, each at the same place, into a new file of another generation.

        After a failed fsync the old file may be in the page cache alone. And whole records that were cut from it may
        come up again in a freed block; of an older generation, they cannot pass for what is written there next.
        """
        new = self.begin()
        try:
            place, window = HEADER_BYTES, b""
            while place < self.size:
                try:
                    payload, window = read_frame(self._disk, self.descriptor, self._header, place, window)
                except ValueError as error:
                    raise corrupt(self.path, place, str(error)) from None
                new.append(payload)
                place += FRAME_BYTES + len(payload)
            new.flush()
            new.file.put_in_place()
            self._go_on_in(new)
            self.release_all()
        finally:
            new.discard()

    # ------------------------------------------------------------ a new file in its place, or beside it

    def begin(self, path: str | None = None) -> NewLog:
        """A new log, to take this one's place (``adopt``) or to be a copy of its own at ``path``."""
        return NewLog(self._disk, path or self.path, self._disk.mode(self.descriptor))

    def adopt(self, new: NewLog) -> None:
        """Go on in the new log, which is whole but for its end-of-base mark (M1).

        Before the rename a failure leaves the old log in use; after it, a failure to sync the directory is final (F2).
        So is whatever interrupts from the rename on: it leaves open into which file the next record would have to go.
        """
        with self.sync_lock:
            new.finish()
            self.check_usable(outcome_unknown=True)
            # Nobody else looks, for that takes one of the two locks held here: so it is success that has to be noted.
            self.failed = InterruptedError("the change to a new file was interrupted")
            try:
                new.file.put_in_place()
                self._go_on_in(new)
            except BaseException as error:
                if new.file.placed is False:
                    self.failed = None
                    raise
                failure = self.fail(error)
                if new.file.placed and new.file.descriptor >= 0:
                    self._go_on_in(new)
                if isinstance(error, OSError):
                    raise failure from error
                raise
            self.failed = None

    def _go_on_in(self, new: NewLog) -> None:
        self._ahead.unmap()
        self.release_all()
        self._replaced.size = self.size
        # In one step, for one that is interrupted: closed is each of the two, and once.
        self._replaced.descriptor, self.descriptor = self.descriptor, new.file.keep()
        self._header = new.header
        self._seed = new.header.seed
        self.size = self._synced_to = new.end
        self._sequence = new.sequence
        self._ahead.start_at(new.end)
        self.synced_position = self.position
        self._is_marked = self._ragged = False
        self._replaced.hold_if_large()

    def release(self) -> bool:
        """Give back a portion of the file that was replaced, and say whether nothing is left of it."""
        return self._replaced.release()

    def release_all(self) -> None:
        """Give back at once what is left of the file that was replaced, if anything is."""
        self._replaced.release_all()

    def copy_to(self, target: str, lock: AbstractContextManager[object]) -> None:
        """Copy the log as it is now into a new file, whole and marked as cleanly closed (M5).

        The lock is held only to see where the log ends: what was appended never changes. The descriptor is a fresh
        one, for a compaction may replace ours.
        """
        with lock:
            end = self.size
            close_frame = pack_frame(CLOSE, self._sequence, end, self._header.seed)
            if self._is_read_only:
                # The name may lead to another file by now, if the writer compacted; and no writer waits for this lock.
                self._copy_from(self.descriptor, end, close_frame, target)
                return
            descriptor = self._disk.open_read(self.path)
        try:
            self._copy_from(descriptor, end, close_frame, target)
        finally:
            self._disk.close(descriptor)

    def _copy_from(self, descriptor: int, end: int, close_frame: bytes, target: str) -> None:
        disk = self._disk
        with NewFile(disk, target, disk.mode(descriptor)) as new:
            disk.copy(descriptor, new.descriptor, 0, end)
            disk.write_all(new.descriptor, close_frame, end)
            new.put_in_place()

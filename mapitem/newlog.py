"""New files: written beside their final name, and given it only when they are whole and on the medium (durability M1).

``NewFile`` is any such file, ``NewLog`` a log in one, written record by record, and ``ReplacedFile`` what had the name
before. What a record means this room does not know.
"""

from __future__ import annotations

from contextlib import suppress

from mapitem.frames import BASE_END, HEADER_BYTES, Header, pack_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mapitem.disk import Disk

_WRITE_BYTES = 64 * 1024
# How much of a new file may wait for the medium: what is synced at once is what a writer waits for.
_SYNC_BYTES = 1024 * 1024
# How much of a file that was replaced is given back at once.
_RELEASE_BYTES = 1024 * 1024


class NewFile:
    """A file written beside its final name, and given that name only when it is whole and on the medium (M1)."""

    descriptor = -1

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
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            self._disk.close(descriptor)

    def __del__(self) -> None:
        # For an interruption on the way out: it writes nothing, and leaves the name to the next opening.
        if self.descriptor >= 0:
            self._disk.close(self.descriptor)

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
        self._disk.write_all(self.file.descriptor, data, self.end)
        self.end += len(data)
        self._unsynced += len(data)
        if self._unsynced >= _SYNC_BYTES:
            self._disk.sync(self.file.descriptor)
            self._unsynced = 0


class ReplacedFile:
    """The file that a new one took the place of, for as long as something of it is left to give back.

    Whoever closes a file last waits until all of its space is free, a millisecond for each MiB. So a large one is held
    open and cut bit by bit, but only if nobody else has it open and no name leads to it: others read on in theirs, also
    while they are at it (R7). To give back raises no ``OSError``: what the file held is in the new one.

    ``descriptor``, which is -1 for none, and ``size`` in bytes are set by whoever had the file open until then. For one
    file and one thread at a time.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.descriptor = -1
        self.size = 0

    @property
    def is_held(self) -> bool:
        """Whether there is one, which takes space."""
        return self.descriptor >= 0

    def hold_if_large(self) -> None:
        """Leave it to ``release``, unless it is small or somebody may read in it: then it is let go at once."""
        if self.size <= _RELEASE_BYTES or not self._disk.is_forgotten(self.descriptor):
            self.release_all()

    def release(self) -> bool:
        """Give back a portion of it, and say whether nothing is left."""
        if self.size > _RELEASE_BYTES:
            self.size -= _RELEASE_BYTES
            with suppress(OSError):
                self._disk.truncate(self.descriptor, self.size)
                return False
        self.release_all()
        return True

    def release_all(self) -> None:
        """Give back at once what is left of it, if anything is."""
        descriptor, self.descriptor, self.size = self.descriptor, -1, 0
        if descriptor >= 0:
            try:  # noqa: SIM105  # the lines of suppress could be interrupted, and the descriptor be lost
                self._disk.close(descriptor)
            except OSError:
                pass

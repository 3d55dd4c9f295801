"""The few things the log asks of the operating system, in one place.

The log reaches files through a ``Disk`` alone, so that a test can put a simulated one under it. Methods raise
``OSError`` and know nothing of what they carry.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Window(Protocol):
        """A part of a file that is mapped into memory; places in it count from where it begins."""

        def __setitem__(self, place: slice, data: bytes, /) -> None: ...
        def close(self) -> None:
            """May be called twice."""


_COPY_BYTES = 1024 * 1024
_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_sync_data = getattr(os, "fdatasync", os.fsync)

if sys.platform == "darwin":
    # There fsync only hands the data to the drive, which may keep it in its cache for long.
    from fcntl import F_FULLFSYNC, fcntl

    def _sync_data(descriptor: int) -> None:
        fcntl(descriptor, F_FULLFSYNC)


if sys.platform == "linux":
    from fcntl import F_SETLEASE, F_UNLCK, F_WRLCK, fcntl


def _seek_and_read(descriptor: int, length: int, offset: int, /) -> bytes:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, length)


def _seek_and_write(descriptor: int, data: bytes | memoryview, offset: int, /) -> int:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, data)


_pread = getattr(os, "pread", _seek_and_read)
_pwrite = getattr(os, "pwrite", _seek_and_write)

# Where a page that posix_fallocate has made room for can be written through a map whatever becomes of the free space,
# so that a full disk is an error of the allocation and never SIGBUS. Not so where a write goes to a new block (btrfs,
# zfs, bcachefs, f2fs) or may have to, because `cp` shares blocks between files (xfs); nor where the space is somebody
# else's (network, overlay, fuse).
_ALLOCATING = (b"ext4", b"tmpfs")


def _promises_space(device: int, mounts: bytes) -> bool:
    """Whether what is allocated on this device can be written for sure; ``mounts`` is Linux's list of them."""
    number = b"%d:%d" % (os.major(device), os.minor(device))
    for line in mounts.splitlines():
        # 27 1 254:0 / /home rw,relatime shared:1 - ext4 /dev/vda rw,discard
        mount, _, file_system = line.partition(b" - ")
        if mount.split(b" ")[2:3] == [number]:
            fields = file_system.split(b" ")  # the one in the middle, the source, may be empty
            kind, options = fields[0], fields[-1]
            # With dax there is no page cache in between: the medium itself is mapped, and space is found at a fault.
            return kind in _ALLOCATING and b"dax" not in options
    return False


class Disk:
    """The real one. Descriptors are the operating system's, offsets and sizes are in bytes."""

    # A file, by device and number, and whether space can be promised there.
    _asked_about: tuple[tuple[int, int], bool] = ((0, 0), False)

    def exists(self, path: str) -> bool:
        """Whether the name is taken, be it by a link that leads nowhere."""
        return os.path.lexists(path)

    def type(self, path: str) -> int:
        """What the name stands for, as ``st_mode`` says it (see ``stat``)."""
        return os.stat(path).st_mode

    def open_read(self, path: str) -> int:
        """A descriptor for reading an existing file."""
        return os.open(path, os.O_RDONLY | _BINARY)

    def open_write(self, path: str) -> int:
        """A descriptor for reading and writing an existing file."""
        return os.open(path, os.O_RDWR | _BINARY)

    def create(self, path: str, mode: int) -> int:
        """A descriptor for a new, empty file, or an old one emptied; ``OSError`` for a link, wherever it leads."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _NO_FOLLOW | _BINARY, mode)

    # No function of Python's own, before whose first line an interruption could lose the descriptor.
    close = staticmethod(os.close)

    def size(self, descriptor: int) -> int:
        return os.fstat(descriptor).st_size

    def mode(self, descriptor: int) -> int:
        """The permission bits."""
        return os.fstat(descriptor).st_mode & 0o7777

    def set_mode(self, descriptor: int, mode: int) -> None:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end of the file."""
        parts = []
        while length > 0:
            part: bytes = _pread(descriptor, length, offset)
            if not part:
                break
            parts.append(part)
            length -= len(part)
            offset += len(part)
        return b"".join(parts)

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        """Write at ``offset`` and return how many bytes the operating system took, which may be fewer than given."""
        written: int = _pwrite(descriptor, data, offset)
        return written

    def write_all(self, descriptor: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of it, in as many calls as it takes."""
        left = memoryview(data)
        while left:
            written = self.write(descriptor, left, offset)
            if written <= 0:
                raise OSError("the operating system wrote nothing and gave no reason")
            left = left[written:]
            offset += written

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Copy the bytes from ``start`` up to ``end`` of one file to the beginning of another."""
        for offset in range(start, end, _COPY_BYTES):
            part = self.read(source, min(_COPY_BYTES, end - offset), offset)
            self.write_all(target, part, offset - start)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def allocate(self, descriptor: int, start: int, end: int) -> None:
        """Make room for the bytes from ``start`` to ``end``, zeros where the file ended before, for sure and for good.

        ``OSError`` if there is none, after which the file may be longer all the same, and where nobody can be sure.
        """
        about = os.fstat(descriptor)
        file = (about.st_dev, about.st_ino)
        asked, may = self._asked_about
        if asked != file:
            # Once for a file, for where much is mounted the answer takes longer than the writes that it is for.
            may = hasattr(os, "posix_fallocate") and _promises_space(about.st_dev, self._mounts())
            self._asked_about = (file, may)
        if not may:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        os.posix_fallocate(descriptor, start, end - start)

    def _mounts(self) -> bytes:
        """Linux's list of what is mounted; ``OSError`` on another system."""
        descriptor = os.open("/proc/self/mountinfo", os.O_RDONLY)
        try:
            return b"".join(iter(lambda: os.read(descriptor, _COPY_BYTES), b""))
        finally:
            os.close(descriptor)

    def map(self, descriptor: int, start: int, end: int) -> Window:
        """The bytes from ``start``, a multiple of the page size, to ``end``, to be written to without a call.

        A page of them must not be touched unless it was allocated, and not after the file was cut in front of it: what
        comes of that is no error but a signal. What was assigned is in the page cache, as after ``write``.
        """
        from mmap import mmap

        try:
            return mmap(descriptor, end - start, offset=start)
        except ValueError as error:
            # Somebody else has cut the file since.
            raise OSError(errno.EINVAL, str(error)) from error

    def is_forgotten(self, descriptor: int) -> bool:
        """Whether the file has no name any more and nobody else has it open: then nobody will. ``False`` if unsure."""
        if sys.platform == "linux":
            with suppress(OSError):
                if os.fstat(descriptor).st_nlink == 0:
                    # Granted only to who is alone with the file, in all processes; given back at once.
                    fcntl(descriptor, F_SETLEASE, F_WRLCK)
                    fcntl(descriptor, F_SETLEASE, F_UNLCK)
                    return True
        return False

    def sync(self, descriptor: int) -> None:
        """Return once the file's content and size are on the medium, what was written through a map included.

        Linux marks a mapped page dirty as it is first written to, and protects it again as it writes it out, so that
        fsync finds all of them (mm/memory.c ``fault_dirty_shared_page``, mm/page-writeback.c
        ``folio_clear_dirty_for_io``). POSIX would ask for msync as well, but maps are used on Linux alone.
        """
        _sync_data(descriptor)

    def sync_directory(self, path: str) -> None:
        """Return once the names in the directory of ``path`` are on the medium."""
        if os.name == "nt":
            return  # directories cannot be opened there, and the file system orders names itself
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: str, target: str) -> None:
        os.replace(source, target)

    def remove(self, path: str) -> None:
        os.unlink(path)

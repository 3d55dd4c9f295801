"""The few things the log asks of the operating system, in one place.

The log reaches files through a ``Disk`` alone, so that a test can put a simulated one under it. Methods raise
``OSError`` and know nothing of what they carry.
"""

from __future__ import annotations

import os
import sys

_COPY_BYTES = 1024 * 1024
_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_sync_data = getattr(os, "fdatasync", os.fsync)

if sys.platform == "darwin":
    # There fsync only hands the data to the drive, which may keep it in its cache for long.
    from fcntl import F_FULLFSYNC, fcntl

    def _sync_data(descriptor: int) -> None:
        fcntl(descriptor, F_FULLFSYNC)


def _seek_and_read(descriptor: int, length: int, offset: int, /) -> bytes:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, length)


def _seek_and_write(descriptor: int, data: bytes | memoryview, offset: int, /) -> int:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, data)


_pread = getattr(os, "pread", _seek_and_read)
_pwrite = getattr(os, "pwrite", _seek_and_write)


class Disk:
    """The real one. Descriptors are the operating system's, offsets and sizes are in bytes."""

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

    def sync(self, descriptor: int) -> None:
        """Return once the file's content and size are on the medium."""
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

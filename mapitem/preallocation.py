"""Space allocated ahead of a log's end, and the map of it that records go through without a system call.

This room decides when space is allocated, how much, and what of it is mapped; a full disk stays an error of the write,
never a signal (durability F1). The bytes in front of the log's end it never touches, and what a record is it does not
know.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from mapitem.frames import ALLOCATED_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mapitem.disk import Disk, Window

# How much a handle appends to a file with plain writes before space ahead is worth the trouble.
_AHEAD_AFTER_BYTES = 8 * 1024
# How much is allocated ahead: an eighth of the file, within these bounds. Little is mapped at a time, for what is
# mapped and was written counts as the memory of the process.
_LEAST_AHEAD_BYTES = 32 * 1024
_MOST_AHEAD_BYTES = 1024 * 1024


class Preallocation:
    """What is allocated behind the last record of a file, and the part of the file that is mapped.

    A record that ends at ``mapped_to`` or before goes into ``window``, whose first byte is the file's at
    ``mapped_from``. One that ends at ``allocate_from`` or behind it may go there as well, if ``extend`` says so. Any
    other is written, and so is every record where this is not on (``is_on``). These fields are the log's to read: it
    compares at each append, and a call would cost more than the comparison.

    Places and sizes are bytes from the beginning of the file. The descriptor comes with each call, for a compaction
    replaces it. For one thread at a time: the one that appends.

    Not mapped where writes wait for the disk (``is_mapped``): who writes to a page that another thread's fsync is
    writing out waits for that in the middle of an assignment, with the interpreter's lock held, and of 16 threads half
    the writes were lost. But a sync that does not have to make the file longer takes two thirds of the time.
    """

    __slots__ = ("_disk", "_is_mapped", "_is_on", "allocate_from", "allocated_to", "mapped_from", "mapped_to", "window")

    def __init__(self, disk: Disk, size: int, *, is_on: bool, is_mapped: bool) -> None:
        self._disk = disk
        self._is_on = is_on
        self._is_mapped = is_mapped
        self.window: Window | None = None
        self.mapped_from = 0
        self.mapped_to = -1
        self.start_at(size)

    def start_at(self, size: int) -> None:
        """Begin with a file of this size that has nothing behind its last record and is not mapped."""
        # How long the file may be, zeros behind the last record included, if that is longer than the log.
        self.allocated_to = 0
        self.allocate_from = size + _AHEAD_AFTER_BYTES if self._is_on else sys.maxsize

    def extend(self, descriptor: int, size: int, end: int) -> bool:
        """Allocate what lies behind ``size``, and map it; whether a record up to ``end`` may go through the map.

        It never fails the record, which has a plain write to go by: where there is no space, that says so (F1).
        """
        ahead = min(max(size // 8, _LEAST_AHEAD_BYTES), _MOST_AHEAD_BYTES)
        if end - size > ahead // 4:
            return False  # large ones are faster with a plain write than page by page
        self.unmap()
        start = size - size % ALLOCATED_BYTES
        stop = end + ahead + -(end + ahead) % ALLOCATED_BYTES
        # Before the call: one that fails may have got half way.
        self.allocated_to = max(self.allocated_to, stop)
        try:
            self._disk.allocate(descriptor, size, stop)
            if not self._is_mapped:
                self.allocate_from = stop
                return False
            self.window = self._disk.map(descriptor, start, stop)
        except OSError:
            with suppress(OSError):
                # Others may need what there is.
                self._disk.truncate(descriptor, size)
            # Again when as much was written as would have been allocated, not at every record.
            self.allocate_from = end + ahead
            return False
        self.allocate_from = 0
        self.mapped_from, self.mapped_to = start, stop
        return True

    def unmap(self) -> None:
        """Let the map go. Before the file is cut, for to touch a page behind its end would be a signal."""
        self.mapped_to = -1
        if self.window is not None:
            self.window.close()
            self.window = None

    def trim(self, descriptor: int, size: int) -> None:
        """Take away what was allocated ahead, and allocate no more: a file that is closed has no zeros at its end."""
        self.allocate_from = sys.maxsize
        self.unmap()
        if self.allocated_to > size:
            self._disk.truncate(descriptor, size)
            self.allocated_to = 0

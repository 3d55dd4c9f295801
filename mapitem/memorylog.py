"""The log of a store in memory (``MemoryLog``): the same few methods as the one in a file, and no file.

It keeps records for the change feed and gives their memory back bit by bit. For one thread at a time, as appending to a
file is: the store's lock sees to that.
"""

from __future__ import annotations

from mapitem.records import rough_size
from mapitem.threadlock import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mapitem.opening import Recovery
    from mapitem.records import Operation

# How many records of a log in memory are given back at once, which takes half a millisecond.
_RELEASE_RECORDS = 4096


class MemoryLog:
    """The log of a store in memory: it keeps the records for the change feed, and everything succeeds."""

    path: str | None = None
    # Taken by nobody: there is no medium to wait for.
    sync_lock = RLock()
    recovery: Recovery | None = None
    failed: BaseException | None = None

    def __init__(self) -> None:
        # A record of one operation, as nearly all are, is that operation.
        self._records: list[Operation | tuple[Operation, ...]] = []
        self._dropped = 0
        self._forgotten: list[Operation | tuple[Operation, ...]] = []
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
        # The cyclic collector leaves a tuple of atoms out of its rounds once it has come by. With another around it,
        # that took two rounds, and so many were left over that it went through all there is at every 50,000th write:
        # a tenth of a second, with a million items.
        self._records.append(operations[0] if len(operations) == 1 else tuple(operations))
        self.size += rough_size(operations)
        return place

    def read(self, places: Iterable[int]) -> Iterator[Sequence[Operation]]:
        """The records at these places."""
        for place in places:
            record = self._records[place - self._dropped]
            yield record if type(record[0]) is tuple else (record,)

    def forget(self) -> None:
        """Drop every record; their memory is given back by ``release``."""
        self._dropped += len(self._records)
        # In this order: an interruption must not leave one list under both names.
        records, self._records = self._records, []
        self._forgotten = records
        self.size = 0

    def release(self) -> bool:
        """Give back a portion of what was dropped, and say whether nothing is left of it.

        All of a million records at once took a tenth of a second, in the middle of somebody's write.
        """
        del self._forgotten[-_RELEASE_RECORDS:]
        return not self._forgotten

    def sync(self, ticket: int | None = None) -> None:
        pass

    def close(self, *, sync: bool) -> None:
        pass

    def abandon(self) -> None:
        pass

"""What the whole records of a damaged log come to, wherever they lie in it: the work of ``repair`` (durability R3).

This room finds records by their checksums alone and does what they say, with gaps between them. The meaning of records
stands here a second time, for the engine's takes for granted that none is missing. It changes no file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from errno import EIO
from typing import TYPE_CHECKING

from mapitem.disk import Disk
from mapitem.frames import (
    BASE_END,
    CLOSE,
    CUT,
    FRAME_BYTES,
    HEADER_BYTES,
    FrameSearch,
    Header,
    end_of_content,
    read_frame,
)
from mapitem.item import NEVER, make_item, most_counted, row_number, row_times
from mapitem.records import (
    ADD,
    EXPIRE,
    FORGET,
    ITEMS,
    MAP,
    MAP_END,
    MAP_STATE,
    MAP_TTL,
    REMOVE,
    UPDATE,
    decode_record,
    is_deeply_sound,
)
from mapitem.state import ITEMS_PER_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mapitem.records import Operation

# Where records were lost, events were, and nobody knows how many: the maps go on counting this much further, so that no
# revision that anybody saw is given again.
_JUMP = 2**32
_PAGE_BYTES = 4096


class PatientDisk(Disk):
    """A disk whose places that cannot be read any more read as zeros, so that what lies around them can be saved."""

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        try:
            return super().read(descriptor, length, offset)
        except OSError as error:
            if error.errno != EIO:
                raise
        end = min(offset + length, self.size(descriptor))
        return b"".join(
            self._read_page(descriptor, place, min(end, (place // _PAGE_BYTES + 1) * _PAGE_BYTES))
            for place in [offset, *range((offset // _PAGE_BYTES + 1) * _PAGE_BYTES, end, _PAGE_BYTES)]
        )

    def _read_page(self, descriptor: int, place: int, end: int) -> bytes:
        try:
            return super().read(descriptor, end - place, place)
        except OSError as error:
            if error.errno != EIO:
                raise
            return bytes(end - place)


@dataclass(slots=True, kw_only=True)
class _SavedMap:
    """A map as the records that are left tell of it. Without a ``sid`` its beginning is lost."""

    sid: str = ""
    name: str | None = None
    created_by: str = ""
    created: int = NEVER
    updated: int = -NEVER
    expires: int = NEVER
    # How many events there were, and whether that is known to be exact: then a later number tells of lost ones.
    counter: int = 0
    is_exact: bool = False
    rows: dict[str, bytes] = field(default_factory=dict)


class Salvage:
    """The whole records of a file and what they come to: ``gather``, ``replay``, then ask.

    ``gaps`` are the (offset, bytes) that belong to no whole record; ``cut_bytes``, how much the file is known to have
    lost at its end. Of the records, ``records`` were used, ``missing`` are as many as the numbers that are left out
    tell of, ``unreadable`` are whole and make no sense. ``lost_changes`` is how many events of items are missing by
    their numbers. ``renamed`` are the new names of maps whose own were lost. ``gave_up``: there may be more behind the
    last whole record, but to look for it would have no end.
    """

    def __init__(self, disk: Disk, descriptor: int, header: Header, reach: Callable[[int], object]) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._header = header
        self._reach = reach  # is told of how much was looked at, of twice the size
        self._size = disk.size(descriptor)
        # Frames that follow each other in place and number: (first number, offset, how many).
        self._runs: list[tuple[int, int, int]] = []
        self._maps: dict[int, _SavedMap] = {}
        self._named: dict[str, int] = {}  # which map was last to begin with this name, or sid
        self._in_base = True
        self.gaps: list[tuple[int, int]] = []
        self.cut_bytes = 0
        self.records = 0
        self.missing = 0
        self.unreadable = 0
        self.lost_changes = 0
        self.renamed: list[str] = []
        self.gave_up = False

    # ------------------------------------------------------------ bytes

    def gather(self) -> bool:
        """Find the whole frames, and the gaps between them. Returns whether there are any frames."""
        search = FrameSearch(self._disk, self._descriptor, self._header.seed, 0, self._size)
        end, promised = HEADER_BYTES, 0
        run, run_offset, count = -1, -1, 0
        for offset, sequence, synced_to, length in search:
            if offset > end:
                self.gaps.append((end, offset - end))
            if count and (offset != end or sequence != run + count):
                self._runs.append((run, run_offset, count))
                count = 0
            if not count:
                run, run_offset = sequence, offset
            count += 1
            end = offset + FRAME_BYTES + length
            promised = max(promised, synced_to)
            self._reach(end)
        if not count:
            return False
        self._runs.append((run, run_offset, count))
        # Zeros at the very end were allocated ahead, and never anything; what was promised there is not.
        content_end = end_of_content(self._disk, self._descriptor, end, self._size)
        if content_end > end:
            self.gaps.append((end, content_end - end))
        self.cut_bytes = max(0, promised - content_end)
        self.gave_up = search.gave_up
        # Blocks may have changed places; of two records with one number, the first was where it belongs.
        self._runs.sort()
        return True

    def replay(self) -> None:
        """Do what the records say, one after the other, as far as they still make sense."""
        expected = 0
        for first, offset, count in self._runs:
            self.missing += max(0, first - expected)
            for sequence, payload in enumerate(self._payloads(offset, count), first):
                if sequence >= expected:
                    expected = sequence + 1
                    self._take(payload)
        self._settle()

    def _payloads(self, offset: int, count: int) -> Iterator[bytes]:
        window = b""
        for number in range(count):
            try:
                payload, window = read_frame(self._disk, self._descriptor, self._header, offset, window)
            except ValueError:
                # It was whole a moment ago: somebody writes to the file, or the medium gives way.
                self.unreadable += count - number
                return
            yield payload
            offset += FRAME_BYTES + len(payload)
            self._reach(self._size + offset)

    def _take(self, payload: bytes) -> None:
        if payload in (CLOSE, CUT):
            return
        if payload == BASE_END:
            self._in_base = False
            for saved in self._maps.values():
                saved.is_exact = not self.missing
            return
        # The mark at the end of the base may be what was lost.
        for in_base in (self._in_base, not self._in_base):
            try:
                operations = decode_record(payload, in_base=in_base)
            except ValueError:
                continue
            if is_deeply_sound(operations):
                for operation in operations:
                    self._apply(operation)
                self.records += 1
                return
        self.unreadable += 1

    # ------------------------------------------------------------ meaning

    def _apply(self, operation: Operation) -> None:
        kind, no, *fields = operation
        if kind == MAP:
            self._begin(no, *fields)
            return
        saved = self._maps.setdefault(no, _SavedMap())
        if kind in (ADD, UPDATE):
            key, row = fields[:2]
            saved.rows[key] = row
            self._count(saved, row_number(row), 1, fields[2] if len(fields) > 2 else row_times(row)[1])
        elif kind in (REMOVE, EXPIRE):
            keys = fields[0] if kind == EXPIRE else (fields[0],)
            for key in keys:
                saved.rows.pop(key, None)
            self._count(saved, fields[1], len(keys), fields[2])
        elif kind == MAP_TTL:
            saved.expires = fields[0]
        elif kind == MAP_END:
            del self._maps[no]
        elif kind == ITEMS:
            saved.rows.update(zip(*fields, strict=True))
        elif kind == FORGET:
            for key in fields[0]:
                saved.rows.pop(key, None)
        else:
            assert kind == MAP_STATE
            updated, saved.expires, counter, _ = fields
            saved.updated = max(saved.updated, updated)
            saved.counter = max(saved.counter, counter)

    def _begin(
        self,
        no: int,
        sid: str,
        name: str | None,
        created_by: str,
        created: int,
        updated: int,
        expires: int,
        counter: int,
        oldest: int,
    ) -> None:
        for label in filter(None, (sid, name)):
            other = self._named.get(label, -1)
            if other in self._maps and label in (self._maps[other].sid, self._maps[other].name):
                # That its name was given again says that it had ended, though the record of that is lost.
                del self._maps[other]
            self._named[label] = no
        self._maps[no] = _SavedMap(
            sid=sid,
            name=name,
            created_by=created_by,
            created=created,
            updated=updated,
            expires=expires,
            counter=counter,
            is_exact=not self._in_base,
        )

    def _count(self, saved: _SavedMap, number: int, events: int, date: int) -> None:
        if saved.is_exact:
            self.lost_changes += max(0, number - saved.counter)
        saved.is_exact = True
        saved.counter = max(saved.counter, number + events)
        saved.updated = max(saved.updated, date)

    def _settle(self) -> None:
        """Give maps whose beginning is lost what a map must have, and have all count on from where none has been."""
        for no, saved in list(self._maps.items()):
            most = most_counted(len(saved.rows))
            for key in [key for key, row in saved.rows.items() if row_number(row) >= most]:
                # No store gets there, and the events that must follow could not.
                del saved.rows[key]
                self.lost_changes += 1
            if not saved.sid:
                if saved.rows:
                    self._name(no, saved)
                else:
                    del self._maps[no]
        jump = 0 if self.is_complete else _JUMP
        for saved in self._maps.values():
            last = max(map(row_number, saved.rows.values()), default=-1)
            saved.counter = min(max(saved.counter, last + 1) + jump, most_counted(len(saved.rows)))

    def _name(self, no: int, saved: _SavedMap) -> None:
        name = f"recovered-{no}"
        while name in self._named:
            name += "-again"
        times = [row_times(row) for row in saved.rows.values()]
        saved.sid = f"MP{os.urandom(16).hex()}"
        saved.name = name
        saved.created_by = make_item("", next(iter(saved.rows.values()))).created_by
        saved.created = min(created for created, _, _ in times)
        saved.updated = max(saved.updated, *(updated for _, updated, _ in times))
        self.renamed.append(name)

    # ------------------------------------------------------------ the result

    @property
    def is_complete(self) -> bool:
        """Whether nothing says that there ever was anything else."""
        return not (
            self.gaps
            or self.cut_bytes
            or self.missing
            or self.unreadable
            or self.lost_changes
            or self.renamed
            or self._in_base
        )

    @property
    def maps(self) -> int:
        return len(self._maps)

    @property
    def items(self) -> int:
        return sum(len(saved.rows) for saved in self._maps.values())

    def base(self) -> Iterator[Operation]:
        """What was saved, as the operations of a base."""
        for no, (_, saved) in enumerate(sorted(self._maps.items())):
            times = (saved.created, saved.updated, saved.expires)
            yield (MAP, no, saved.sid, saved.name, saved.created_by, *times, saved.counter, saved.counter)
            keys = sorted(saved.rows)
            for first in range(0, len(keys), ITEMS_PER_BLOCK):
                block = keys[first : first + ITEMS_PER_BLOCK]
                yield ITEMS, no, block, [saved.rows[key] for key in block]

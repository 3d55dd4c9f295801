"""The bytes of the log: the header, the frames around records, and how to read a file that may be torn or damaged.

``docs/format.md`` gives every byte. This room turns bytes into payloads and back; what a payload means it does not
know, apart from the three marks, and it changes no file.
"""

from __future__ import annotations

import os
from struct import Struct
from zlib import crc32

from mapitem.errors import LogCorrupt, NewerFormat, NotAStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mapitem.disk import Disk

MAGIC = b"\x89mapitem"
MAJOR = 1
MINOR = 0
KNOWN_FLAGS = 0

# magic, major, minor, flags, generation; then the checksum of all that
_HEADER = Struct(">8sHHI16s")
_CHECKSUM = Struct(">I")
HEADER_BYTES = _HEADER.size + _CHECKSUM.size

# marker, length of the payload, sequence number, synced to; then the checksum, then the payload
_FRAME = Struct(">2sIQQ")
_WHOLE_FRAME = Struct(">2sIQQI")
FRAME_BYTES = _WHOLE_FRAME.size
_MARKER = b"\xb5m"

# Three payloads that are msgpack strings, where records are arrays.
BASE_END = b"\xa8base end"
CLOSE = b"\xa5close"
CUT = b"\xa3cut"  # shorter than any record, which is what it is good for

# What is allocated ahead ends at a multiple of this, and so are zeros at the end of any other file no such thing; maps
# begin there, for it is a multiple of every page size.
ALLOCATED_BYTES = 64 * 1024

_WINDOW = 4 * 1024 * 1024
# A number of a record, or a place in a file, that is no such thing but chance.
_IMPLAUSIBLE = 2**48
_PATIENCE = 8
_PATIENCE_BYTES = 16 * 1024 * 1024
# How large the frames may be from which a lost seed is guessed, and how many bytes of them are looked at.
_GUESS_PAYLOAD = 4096
_GUESS_BYTES = 8 * 1024 * 1024
_SMALL_WINDOW = 32 * 1024


class Header:
    """Who wrote the file, and which one it is: a new generation is drawn whenever a log is written anew."""

    __slots__ = ("generation", "seed")

    def __init__(self, generation: bytes | None = None) -> None:
        self.generation = os.urandom(16) if generation is None else generation
        # Checksums start from the generation, so that a stale block of an older file never looks whole.
        self.seed = crc32(self.generation)

    def pack(self) -> bytes:
        head = _HEADER.pack(MAGIC, MAJOR, MINOR, 0, self.generation)
        return head + _CHECKSUM.pack(crc32(head))


def read_header(disk: Disk, descriptor: int, path: str) -> Header:
    """The header of an open file; ``NotAStore``, ``NewerFormat`` or ``LogCorrupt`` if it has none that we can read."""
    head = disk.read(descriptor, HEADER_BYTES, 0)
    if not head.startswith(MAGIC):
        reason = "the file is empty" if not head else "it does not begin as a mapitem log does"
        raise NotAStore(f"{path} is not a store: {reason}", path=path, reason=reason)
    if len(head) < HEADER_BYTES:
        reason = "it ends within its header"
        raise NotAStore(f"{path} is not a store: {reason}", path=path, reason=reason)
    _, major, minor, flags, generation = _HEADER.unpack_from(head)
    if crc32(head[: _HEADER.size]) != _CHECKSUM.unpack_from(head, _HEADER.size)[0]:
        raise LogCorrupt(f"{path} is damaged in its header", path=path, offset=0, reason="header checksum")
    if major > MAJOR:
        version = f"{major}.{minor}"
        raise NewerFormat(f"{path} has format {version}; this version reads {MAJOR}", path=path, version=version)
    if major < 1:
        reason = f"format {major}.{minor} has never been"
        raise NotAStore(f"{path} is not a store: {reason}", path=path, reason=reason)
    if flags & ~KNOWN_FLAGS:
        version = f"{major}.{minor}"
        raise NewerFormat(f"{path} uses features unknown here (flags {flags:#x})", path=path, version=version)
    return Header(generation)


def pack_frame(payload: bytes, sequence: int, synced_to: int, seed: int) -> bytes:
    """A whole frame. ``synced_to`` is how far, in bytes, the file was known to be on the medium at this moment."""
    head = _FRAME.pack(_MARKER, len(payload), sequence, synced_to)
    return head + _CHECKSUM.pack(crc32(payload, crc32(head, seed))) + payload


class Scan:
    """One pass over the whole records of a file, from the first on; iterate over it for their payloads, in order.

    It stops at the end of the file, at the zeros that were allocated ahead there, or at the first bytes that are no
    whole record. Then ``end`` is where the last whole record ends, ``reason`` says what stopped it (``None`` at the end
    or such zeros), ``torn_bytes`` how many bytes lie behind, but for such zeros, and the other fields tell of what was
    read. What a writer elsewhere appends meanwhile is read as well.
    """

    def __init__(self, disk: Disk, descriptor: int, header: Header) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._seed = header.seed
        self.size = disk.size(descriptor)
        self.end = HEADER_BYTES
        self.place = HEADER_BYTES  # where the record begins that was handed out last
        self.records = 0
        self.synced_to = 0
        self.based = False
        self.closed = False
        self.torn_bytes = 0
        self.reason: str | None = None

    def __iter__(self) -> Iterator[bytes]:
        window, start, looked_at = b"", self.end, -1
        while self.end < self.size:
            at = self.end - start
            if len(window) - at < FRAME_BYTES or self._frame_bytes(window, at) > len(window) - at:
                # Read from here on anew, and at least the whole frame.
                window, start, at = self._read_on(), self.end, 0
            payload, synced_to, reason = self._frame(window, at)
            if reason is not None:
                if looked_at == self.end:
                    self._stop(reason)
                    return
                # A writer elsewhere may have been in the middle of it, and be through with it by now.
                window, start, looked_at = b"", self.end, self.end
                self.size = max(self.end, self._disk.size(self._descriptor))
                continue
            self.place = self.end
            self.end += FRAME_BYTES + len(payload)
            self.records += 1
            self.synced_to = max(self.synced_to, synced_to)
            self.closed = payload == CLOSE
            if payload == BASE_END:
                self.based = True
                self.synced_to = self.end  # a base is on the medium before the file gets its name
            elif not self.closed and payload != CUT:
                yield payload

    def _stop(self, reason: str) -> None:
        self.torn_bytes = end_of_content(self._disk, self._descriptor, self.end, self.size) - self.end
        if self.torn_bytes:
            self.reason = reason

    @property
    def sequence(self) -> int:
        """The number of the next record."""
        return self.records

    @property
    def is_clean(self) -> bool:
        """Whether the file ends in the mark of a clean end, with nothing behind it."""
        return self.closed and self.end == self.size

    def _read_on(self) -> bytes:
        """The next window, with the next frame whole if it is; else as much of it as shows that it is not.

        A frame that is longer than a window is not kept in memory before its checksum has shown that it is one.
        """
        disk, descriptor = self._disk, self._descriptor
        window = disk.read(descriptor, _WINDOW, self.end)
        if len(window) < FRAME_BYTES or (length := self._frame_bytes(window, 0)) <= len(window):
            return window
        if length <= self.size - self.end and window.startswith(_MARKER):
            *_, checksum = _WHOLE_FRAME.unpack_from(window)
            if _checksum(disk, descriptor, window, 0, self.end, length - FRAME_BYTES, self._seed) == checksum:
                return disk.read(descriptor, length, self.end)
        return window

    @staticmethod
    def _frame_bytes(window: bytes, at: int) -> int:
        length: int = _WHOLE_FRAME.unpack_from(window, at)[1]
        return FRAME_BYTES + length

    def _frame(self, window: bytes, at: int) -> tuple[bytes, int, str | None]:
        if len(window) - at < FRAME_BYTES:
            return b"", 0, "the file ends within the head of a record"
        marker, length, sequence, synced_to, checksum = _WHOLE_FRAME.unpack_from(window, at)
        if marker != _MARKER:
            return b"", 0, "no record begins here"
        if length > self.size - self.end - FRAME_BYTES:
            return b"", 0, "the file ends within a record"
        body = at + FRAME_BYTES
        payload = window[body : body + length]
        if crc32(payload, crc32(window[at : at + _FRAME.size], self._seed)) != checksum:
            return b"", 0, "a record's checksum is wrong"
        if sequence != self.records:
            return b"", 0, f"record {sequence} stands where record {self.records} belongs"
        if synced_to > self.end:
            return b"", 0, "a record claims that more was synced than there was"
        if payload == BASE_END if self.based else payload in (CLOSE, CUT):
            return b"", 0, "a mark stands where none belongs"
        return payload, synced_to, None


def end_of_content(disk: Disk, descriptor: int, start: int, end: int) -> int:
    """Where the content of a file of ``end`` bytes ends, whose last record ends at ``start``: before zeros ahead."""
    if end % ALLOCATED_BYTES:
        return end
    while end > start:
        place = max(start, end - _WINDOW)
        window = disk.read(descriptor, end - place, place)
        # Almost always all of it, which is seen much faster so than byte by byte.
        if window != bytes(len(window)):
            return place + len(window.rstrip(b"\0"))
        end = place
    return start


def read_frame(disk: Disk, descriptor: int, header: Header, offset: int, window: bytes) -> tuple[bytes, bytes]:
    """The payload of the frame at ``offset``, and a window of what follows it.

    ``window`` is what an earlier call read from ``offset`` on, or empty. ``ValueError`` if the frame is not whole.
    """
    if len(window) < FRAME_BYTES or len(window) < FRAME_BYTES + _WHOLE_FRAME.unpack_from(window)[1]:
        window = disk.read(descriptor, _SMALL_WINDOW, offset)
        if len(window) >= FRAME_BYTES and (length := FRAME_BYTES + _WHOLE_FRAME.unpack_from(window)[1]) > len(window):
            window = disk.read(descriptor, min(length, disk.size(descriptor) - offset), offset)
    if len(window) < FRAME_BYTES:
        raise ValueError("the file ends within the head of a record")
    marker, length, _, _, checksum = _WHOLE_FRAME.unpack_from(window)
    payload = window[FRAME_BYTES : FRAME_BYTES + length]
    if marker != _MARKER or crc32(payload, crc32(window[: _FRAME.size], header.seed)) != checksum:
        raise ValueError("a record's checksum is wrong")
    return payload, window[FRAME_BYTES + length :]


class FrameSearch:
    """The whole frames anywhere between two places: iterate for (offset, sequence number, synced to, payload's length).

    It trusts no length on the way, for one that was damaged leads anywhere: every place where the marker stands is
    tried. Bytes made to look like frames could keep that busy without end: then it stops and sets ``gave_up``.
    """

    def __init__(self, disk: Disk, descriptor: int, seed: int, start: int, end: int) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._seed = seed
        self._start = start
        self._end = end
        self.gave_up = False

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        disk, descriptor, end = self._disk, self._descriptor, self._end
        # How many bytes may be looked at in vain, again and again.
        patience = _PATIENCE_BYTES + _PATIENCE * (end - self._start)
        window, start = b"", self._start
        offset = start
        while offset + FRAME_BYTES <= end:
            if start + len(window) - offset < FRAME_BYTES:
                window, start = disk.read(descriptor, _WINDOW, offset), offset
                if len(window) < FRAME_BYTES:
                    return  # somebody cut the file meanwhile
            at = window.find(_MARKER, offset - start)
            # Without one the last byte may still be the first half of one.
            offset = start + (at if at >= 0 else len(window) - 1)
            if at < 0 or len(window) - at < FRAME_BYTES:
                continue
            _, length, sequence, synced_to, checksum = _WHOLE_FRAME.unpack_from(window, at)
            step = 1
            if length <= end - offset - FRAME_BYTES and max(sequence, synced_to) < _IMPLAUSIBLE:
                if length > patience:
                    self.gave_up = True
                    return
                if _checksum(disk, descriptor, window, at, offset, length, self._seed) == checksum:
                    yield offset, sequence, synced_to, length
                    step = FRAME_BYTES + length
                else:
                    patience -= length
            offset += step


def survey(disk: Disk, descriptor: int, header: Header, start: int, end: int) -> tuple[int, int]:
    """How many whole records lie anywhere between two places, and the furthest that one of them promises as synced.

    What was made to keep the search busy comes from no crash: then everything counts as promised.
    """
    search = FrameSearch(disk, descriptor, header.seed, start, end)
    found = promised = 0
    for _, _, synced_to, _ in search:
        found += 1
        promised = max(promised, synced_to)
    return found, end if search.gave_up else promised


def guess_seed(disk: Disk, descriptor: int) -> int | None:
    """What the checksums of a log start from whose header is lost; ``None`` if nothing in the file looks like one.

    From its checksum the start of a frame can be told, and two frames that agree are no chance.
    """
    size = disk.size(descriptor)
    table = [crc32(bytes([index]), 0xFFFFFFFF) ^ 0xFFFFFFFF for index in range(256)]
    by_first_byte = {entry >> 24: index for index, entry in enumerate(table)}
    sequences: dict[int, int] = {}
    patience = _GUESS_BYTES
    for place in range(0, size, _WINDOW):
        window = disk.read(descriptor, _WINDOW + FRAME_BYTES + _GUESS_PAYLOAD, place)
        at = window.find(_MARKER)
        while 0 <= at < _WINDOW and at + FRAME_BYTES <= len(window):
            _, length, sequence, synced_to, checksum = _WHOLE_FRAME.unpack_from(window, at)
            payload = window[at + FRAME_BYTES : at + FRAME_BYTES + length] if length <= _GUESS_PAYLOAD else b""
            if payload and len(payload) == length and max(sequence, synced_to) < _IMPLAUSIBLE:
                patience -= FRAME_BYTES + length  # so that not even the shortest frames come to many
                if patience < 0:
                    return None
                seed = _unwound(checksum, window[at : at + _FRAME.size] + payload, table, by_first_byte)
                if sequences.setdefault(seed, sequence) != sequence:
                    return seed
            at = window.find(_MARKER, at + 1)
    return None


def _unwound(checksum: int, data: bytes, table: list[int], by_first_byte: dict[int, int]) -> int:
    """The start from which ``crc32`` of the data comes to this checksum."""
    state = checksum ^ 0xFFFFFFFF
    for byte in reversed(data):
        # No two entries of the table begin with the same byte, which is what makes it possible to go back.
        index = by_first_byte[state >> 24]
        state = (state ^ table[index]) << 8 & 0xFFFFFFFF | index ^ byte
    return state ^ 0xFFFFFFFF


def _checksum(disk: Disk, descriptor: int, window: bytes, at: int, offset: int, length: int, seed: int) -> int:
    """What the checksum should be of the frame at ``offset`` in the file, whose head is in the window."""
    checksum = crc32(window[at : at + _FRAME.size], seed)
    body = at + FRAME_BYTES
    if body + length <= len(window):
        return crc32(memoryview(window)[body : body + length], checksum)
    end = offset + FRAME_BYTES + length
    for place in range(offset + FRAME_BYTES, end, _WINDOW):
        checksum = crc32(disk.read(descriptor, min(_WINDOW, end - place), place), checksum)
    return checksum


def corrupt(path: str, offset: int, reason: str, before: int = 0, after: int = 0) -> LogCorrupt:
    """The error for damage at a place in a file, with how many whole records lie before and behind it (R3)."""
    return LogCorrupt(
        f"{path} is damaged at byte {offset}: {reason} ({before} whole records before, {after} after)",
        path=path,
        offset=offset,
        reason=reason,
        records_before=before,
        records_after=after,
    )

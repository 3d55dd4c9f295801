"""``MapItem``, and the one codec between an item and the packed row that engine and log hold.

A row is the msgpack array ``[number, created, updated, expires, created_by, data]``. The first four are always written
as signed 64-bit integers, so that each stands at a fixed place and can be read without decoding the rest: the number of
the event that wrote the row, and three instants in microseconds since 1970-01-01 UTC (``NEVER`` for no expiry). The
layout is part of the log's format.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from gc import get_referents
from struct import Struct

from msgpack import Unpacker, UnpackException, packb, unpackb

from mapitem.errors import LogCorrupt
from mapitem.limits import MAX_DEPTH, encode_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

NEVER = 2**63 - 1
"""The instant that no clock reaches: the expiry of what never expires."""

FIRST_INSTANT = -62_135_596_800_000_000
LAST_INSTANT = 253_402_300_799_999_999
"""The instants that a ``datetime`` can hold: what a file says of others is refused."""

MOST_EVENTS = 2**62
"""More events than any map will ever see: a file that counts further would have the next ones overflow."""

FULL = MOST_EVENTS // 2
"""Where a map takes no more items, which leaves the rest of the numbers for the removals of those it has."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# An array of six and the mark of an int 64, as one number, then four int 64 with a mark between each two.
_HEAD = Struct(">HqBqBqBq")
_HEAD_BYTES = _HEAD.size
_ARRAY_OF_6_AND_INT64 = 0x96D3
_INT64 = 0xD3
_EXPIRES = slice(_HEAD_BYTES - 8, _HEAD_BYTES)
_NUMBER = slice(2, 10)
_NEVER_BYTES = NEVER.to_bytes(8, "big")

# An array that claims to be longer than this is believed only after its elements have been seen.
_LONG_ARRAY = 1024
# As a limit for lengths: not even 0 passes. (-1 would mean msgpack's own limit.)
_NONE_AT_ALL = -2
# The byte before a string of less than 32 bytes, less its length; and what is in front of that string.
_FIXSTR = 0xA0
_FIRST_BYTES = _HEAD_BYTES + 1
_NESTS = frozenset({dict, list})


_pack_head = _HEAD.pack


def most_counted(items: int) -> int:
    """How far a map with so many items may have counted: each may yet be removed, which is an event too (G3)."""
    return MOST_EVENTS - 1 - items


def pack_row(number: int, created: int, updated: int, expires: int, created_by: bytes, data: bytes) -> bytes:
    """A row; ``created_by`` and ``data`` are already msgpack."""
    head: bytes = _pack_head(_ARRAY_OF_6_AND_INT64, number, _INT64, created, _INT64, updated, _INT64, expires)
    return head + created_by + data


# What stands at fixed places, in microseconds each: methods of structs, for a function around them would cost as much
# again. ``created``, ``updated`` and ``expires``; and the last two alone.
row_times: Callable[[bytes], tuple[int, int, int]] = Struct(">11xqxqxq").unpack_from
row_last_times: Callable[[bytes], tuple[int, int]] = Struct(">20xqxq").unpack_from
_numbers: Callable[[bytes], tuple[int]] = Struct(">2xQ").unpack_from


def row_number(row: bytes) -> int:
    """The number of the event that wrote the row (R2)."""
    return _numbers(row)[0]


def row_expires(row: bytes) -> int:
    """When the row expires, in microseconds, or ``NEVER``."""
    return int.from_bytes(row[_EXPIRES], "big", signed=True)


def row_is_timed(row: bytes) -> bool:
    """Whether the row expires at all."""
    return row[_EXPIRES] != _NEVER_BYTES


def row_tail(row: bytes) -> bytes:
    """What follows the four integers: ``created_by`` and ``data``, still packed."""
    return row[_HEAD_BYTES:]


def row_created_by(row: bytes, likely: bytes) -> bytes:
    """``created_by``, still packed. Nothing is decoded if it is the ``likely`` one."""
    if row.startswith(likely, _HEAD_BYTES):
        return likely
    created_by: bytes = packb(_unpack_tail(row)[0])
    return created_by


def look_like_rows(values: Iterable[object]) -> bool:
    """Whether each of these values, read from a file, has a row's head, with numbers nothing behind the log trips over.

    What follows the head is not decoded, which would cost an opening half as much again. The head is unpacked once, and
    many rows are looked at in one call, because this is a good part of what an opening costs.
    """
    unpack_head = _HEAD.unpack_from
    for row in values:
        if type(row) is not bytes or len(row) <= _HEAD_BYTES:
            return False
        array, number, a, created, b, updated, c, expires = unpack_head(row)
        if not (
            array == _ARRAY_OF_6_AND_INT64
            and a == b == c == _INT64
            and 0 <= number < MOST_EVENTS
            and FIRST_INSTANT <= created <= updated <= LAST_INSTANT
            and (expires == NEVER or FIRST_INSTANT <= expires <= LAST_INSTANT)
        ):
            return False
    return True


def is_row(row: object) -> bool:
    """Whether a value read from a file is a row through and through: decodes it and checks its data as a write does."""
    if type(row) is not bytes or not look_like_rows((row,)):
        return False
    try:
        created_by, data = _unpack_tail(row)
        encode_data(data, 2**31)
    except (LogCorrupt, ValueError):
        return False
    return created_by != ""


def is_instant(value: object) -> bool:
    """Whether a value read from a file is an instant that a ``datetime`` can hold."""
    return type(value) is int and FIRST_INSTANT <= value <= LAST_INSTANT


def unpack(packed: bytes, *, use_list: bool = True, max_bin_len: int = -1) -> Any:
    """The msgpack value in ``packed``, or ``ValueError``. Takes memory in proportion to ``packed``, whatever it claims.

    msgpack makes room for as many elements as an array says it has, and arrays nest: without the limit, a megabyte
    that claims to be arrays of arrays would take gigabytes before the lie shows.
    """
    try:
        return unpackb(
            packed, use_list=use_list, max_array_len=_LONG_ARRAY, max_bin_len=max_bin_len, max_ext_len=_NONE_AT_ALL
        )
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:
        if len(packed) <= _LONG_ARRAY:
            raise
    unpacker = Unpacker(max_buffer_size=len(packed))
    unpacker.feed(packed)
    try:
        unpacker.skip()  # makes room for nothing
    except (UnpackException, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    return unpackb(packed, use_list=use_list, max_bin_len=max_bin_len, max_ext_len=_NONE_AT_ALL)


def _unpack_tail(row: bytes) -> tuple[str, dict[str, Any]]:
    """``created_by`` and the data of a row. ``LogCorrupt`` if they are none, which no checksum would tell."""
    try:
        fields: list[Any] = unpack(row, max_bin_len=_NONE_AT_ALL)
    except ValueError as error:
        raise _no_item(str(error)) from None
    created_by, data = fields[4:]
    if type(created_by) is not str or type(data) is not dict:
        raise _no_item("the creator is no string, or the data no object")
    if _is_too_deep(data, len(row)):
        raise _no_item("data nested too deep to be shown or compared")
    return created_by, data


def _is_too_deep(data: dict[str, Any], size: int) -> bool:
    """Whether data that were just unpacked, from so many bytes, are nested deeper than any that the library writes.

    The collector's own way down, all of a level in one call, costs half of what a loop over the containers does. What
    was unpacked shares nothing, so that no level has more values than there were bytes (G3).
    """
    if size <= MAX_DEPTH:
        return False
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        level = get_referents(*level)
        if not level:
            return False
        if len(level) > size:
            return True  # never; but of anything else than JSON the collector might lead through all there is
    return not _NESTS.isdisjoint(map(type, level))


def _no_item(reason: str) -> LogCorrupt:
    return LogCorrupt(f"an item whose content is none, under a right checksum: {reason}", reason=reason)


def date_of(instant: int) -> datetime:
    """An instant in microseconds as an aware UTC ``datetime``."""
    return EPOCH + timedelta(microseconds=instant)


def instant_of(date: datetime) -> int:
    """An aware ``datetime`` in microseconds since 1970-01-01 UTC."""
    return (date - EPOCH) // _MICROSECOND


class MapItem:
    """One item of a map, as it was at one revision (semantics I1–I3). Immutable, equal by value.

    ``data`` is the holder's own copy and may be changed freely: neither the store nor another item sees it (D4). It is
    decoded on first use, once per item object. Dates are aware UTC ``datetime`` values.

    Equality compares key, revision, dates, creator and data, with the data's types (``1`` is not ``1.0``); the order of
    keys in ``data`` does not matter. Items hash by key and revision.

    Items come from a store; the constructor is for tests and for other implementations. It raises ``InvalidData``
    for data that no store could hold and ``ValueError`` for a revision that is not lower-case hex.
    """

    __slots__ = ("_data", "_key", "_row")

    _key: str
    _row: bytes
    _data: dict[str, Any] | None

    def __init__(
        self,
        *,
        key: str,
        data: dict[str, Any],
        revision: str,
        date_created: datetime,
        date_updated: datetime,
        date_expires: datetime | None = None,
        created_by: str = "system",
    ) -> None:
        number = int(revision, 16)
        if f"{number:x}" != revision or not 0 <= number < 2**63:
            raise ValueError(f"a revision is lower-case hex of at most 63 bits, not {revision!r}")
        if type(created_by) is not str:
            raise ValueError(f"created_by is a str, not {created_by!r}")
        expires = NEVER if date_expires is None else instant_of(date_expires)
        self._key = key
        self._row = pack_row(
            number,
            instant_of(date_created),
            instant_of(date_updated),
            expires,
            packb(created_by),
            # Another implementation's limit may be larger than ours: only what JSON can say is checked.
            encode_data(data, 2**31),
        )
        self._data = None

    @property
    def key(self) -> str:
        """The key, unique in its map."""
        return self._key

    @property
    def data(self) -> dict[str, Any]:
        """The item's JSON object: the same ``dict`` each time, yours to change.

        ``LogCorrupt`` for an item that another program put into the file with content that is no JSON object, which
        shows only here: opening does not decode it (``mapitem.repair.check`` does).
        """
        data = self._data
        if data is None:
            row = self._row
            # Behind a short string, whose first byte says its length; the rest of the row would cost as much again.
            start = row[_HEAD_BYTES] - _FIXSTR + _FIRST_BYTES
            packed = row[start:]
            try:
                # As ``unpack`` begins, without the call: a read is little more than this.
                data = unpackb(packed, max_array_len=_LONG_ARRAY, max_bin_len=_NONE_AT_ALL, max_ext_len=_NONE_AT_ALL)
            except (ValueError, RecursionError):
                data = None
            if (
                type(data) is not dict
                or not _FIRST_BYTES < start < _FIRST_BYTES + 32
                or (len(packed) > MAX_DEPTH and _is_too_deep(data, len(packed)))
            ):
                data = _unpack_tail(row)[1]
            if self._data is None:  # or another thread was faster, and its holder has that data already
                self._data = data
            data = self._data
        return data

    @property
    def revision(self) -> str:
        """The revision, opaque: compare it for equality, and give it to ``if_match``."""
        return "%x" % _numbers(self._row)  # noqa: UP031  # half the price of an f-string, for it takes the tuple

    @property
    def date_created(self) -> datetime:
        """When the item was created; an expired or removed key that is created again starts anew."""
        return date_of(row_times(self._row)[0])

    @property
    def date_updated(self) -> datetime:
        """When the item was last written. Never earlier than before, even if the clock went back."""
        return date_of(row_times(self._row)[1])

    @property
    def date_expires(self) -> datetime | None:
        """The instant from which the item is absent, or ``None`` if it never expires."""
        expires = row_expires(self._row)
        return None if expires == NEVER else date_of(expires)

    @property
    def created_by(self) -> str:
        """The identity of the store that created the item."""
        return _unpack_tail(self._row)[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MapItem):
            return NotImplemented
        if self._key != other._key or self._row[:_HEAD_BYTES] != other._row[:_HEAD_BYTES]:
            return False
        if self._data is None and other._data is None and self._row == other._row:
            return True
        return self.created_by == other.created_by and same_data(self.data, other.data)

    def __hash__(self) -> int:
        return hash((self._key, self._row[_NUMBER]))

    def __repr__(self) -> str:
        expires = self.date_expires
        ending = "" if expires is None else f", date_expires={expires.isoformat()}"
        return f"MapItem({_cut(repr(self._key))}, revision={self.revision!r}, data={_cut(repr(self.data))}{ending})"

    def __reduce__(self) -> tuple[Any, ...]:
        row = self._row
        if self._data is not None:
            row = row[:_HEAD_BYTES] + packb(self.created_by) + packb(self._data)
        return make_item, (self._key, row)


_new = object.__new__


def make_item(key: str, row: bytes) -> MapItem:
    """The item of a row; it decodes nothing. The one way in for rows, but for the walk, which spells it out."""
    item = _new(MapItem)
    item._key = key
    item._row = row
    item._data = None
    return item


def same_data(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, types included; the order of keys does not matter."""
    pairs = [(one, other)]
    while pairs:
        one, other = pairs.pop()
        kind = type(one)
        if kind is not type(other):
            return False
        if kind is dict:
            if one.keys() != other.keys():
                return False
            pairs += [(value, other[key]) for key, value in one.items()]
        elif kind is list:
            if len(one) != len(other):
                return False
            pairs += zip(one, other, strict=True)
        elif kind is float:
            if repr(one) != repr(other):  # tells -0.0 from 0.0
                return False
        elif one != other:
            return False
    return True


def _cut(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"

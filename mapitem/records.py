"""The records of the log: lists of operations, and the one encoder and one decoder between them and bytes.

An operation is a plain tuple whose first field is its kind. A record is the operations of one write or one batch; as
bytes it is one msgpack array of arrays. ``docs/format.md`` says the same for readers in other languages. What is
decoded here comes from a file: shapes are checked before anything else sees it, and an unknown kind is an error.
"""

from __future__ import annotations

import re

from msgpack import Packer

from mapitem.item import MOST_EVENTS, NEVER, is_instant, is_row, look_like_rows, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, TypeAlias

    Operation: TypeAlias = tuple[Any, ...]

# The kinds of operation, with their fields. The numbers are part of the log's format: never change or reuse one.
# Instants are in microseconds since 1970-01-01 UTC. A map's number stands for it within one file.
ADD = 1  # map, key, row [, date where it is not the row's ``updated``]: an item that was not there
UPDATE = 2  # the same for one that was
REMOVE = 3  # map, key, number of the event, date
EXPIRE = 4  # map, keys in order of expiry, number of the first event, date
MAP = 5  # map, sid, name or nil, created by, created, updated, expires, events so far, oldest event served (the same)
MAP_TTL = 6  # map, expires
MAP_END = 7  # map, date, whether by expiry
# Only in a base, where of the others MAP and MAP_END occur:
ITEMS = 8  # map, keys, rows: written over what earlier blocks said of these keys
FORGET = 9  # map, keys: taken back from earlier blocks
MAP_STATE = 10  # map, updated, expires, events so far, oldest event served: as at the end of the base


def encoder() -> Callable[[Sequence[Operation]], bytes]:
    """A function that turns a record into bytes, for one thread at a time: making it costs more than using it."""
    pack: Callable[[Sequence[Operation]], bytes] = Packer().pack
    return pack


def encode_record(operations: Sequence[Operation]) -> bytes:
    """A record as bytes."""
    return encoder()(operations)


def rough_size(operations: Sequence[Operation]) -> int:
    """About how many bytes a record would take in a file, without encoding it."""
    size = 40
    for operation in operations:
        size += 20
        if operation[0] in (ADD, UPDATE):
            size += len(operation[2]) + len(operation[3])
        elif operation[0] == EXPIRE:
            size += sum(map(len, operation[2]))
    return size


def decode_record(payload: bytes, *, in_base: bool = False) -> tuple[Operation, ...]:
    """The operations of a record, one of the base or one behind it; ``ValueError`` with the reason if it is none."""
    try:
        operations: Any = unpack(payload, use_list=False)
    except ValueError as error:
        raise ValueError(f"a record that is not msgpack ({error or type(error).__name__})") from None
    if type(operations) is not tuple or not operations:
        raise ValueError("a record that is no array of operations")
    shapes = _BASE_SHAPES if in_base else _SHAPES
    for operation in operations:
        if type(operation) is not tuple or not operation or type(operation[0]) is not int:
            raise ValueError("an operation of no kind")
        shape = shapes.get(operation[0])
        if shape is None:
            where = "within" if in_base else "behind"
            raise ValueError(f"an operation of kind {operation[0]}, which is unknown {where} the base")
        if not shape(operation):
            raise ValueError(f"an operation of kind {operation[0]} with fields of another shape")
    # Rows are not decoded here, but for the few that look as if they held what no reader must be given.
    if _may_hold_no_number(payload) and not all(is_row(row) for row in _rows(operations) if _may_hold_no_number(row)):
        raise ValueError("an item with a float that is no number")
    return operations


def _may_hold_no_number(packed: bytes) -> bool:
    """Whether there are bytes with which a float begins in msgpack that is not finite; some that are finite do too."""
    return _SIGN in packed.translate(_TO_SIGN)


# A mark of a float and the first byte of its sign and exponent: two of the one and two of the other. With all four made
# one, and nothing else left standing, to look for them costs less than half of what four searches do.
_SIGN = b"\x01\x02"
_TO_SIGN = bytes({0xCA: 1, 0xCB: 1, 0x7F: 2, 0xFF: 2}.get(byte, 0) for byte in range(256))


def is_deeply_sound(operations: Iterable[Operation]) -> bool:
    """Whether every row in the record decodes to an item. For ``check``: a load leaves that to who reads the item."""
    return all(map(is_row, _rows(operations)))


def _rows(operations: Iterable[Operation]) -> Iterator[bytes]:
    for operation in operations:
        if operation[0] in (ADD, UPDATE):
            yield operation[3]
        elif operation[0] == ITEMS:
            yield from operation[3]


def _is_put(fields: Operation) -> bool:
    return (
        len(fields) in (4, 5)
        and type(fields[1]) is int
        and type(fields[2]) is str
        and fields[2] != ""
        and look_like_rows((fields[3],))
        and (len(fields) == 4 or is_instant(fields[4]))
    )


def _is_items(fields: Operation) -> bool:
    return (
        len(fields) == 4
        and type(fields[1]) is int
        and _are_keys(fields[2])
        and type(fields[3]) is tuple
        and len(fields[2]) == len(fields[3])
        and look_like_rows(fields[3])
    )


def _fields(*checks: Callable[[Any], bool]) -> Callable[[Operation], bool]:
    """A check of the fields behind the kind, one by one."""

    def check(fields: Operation) -> bool:
        return len(fields) == len(checks) + 1 and all(
            is_right(field) for is_right, field in zip(checks, fields[1:], strict=True)
        )

    return check


def _is_map(fields: Operation) -> bool:
    # No history is kept in a base: the feed begins with what follows.
    return _has_map_fields(fields) and fields[8] == fields[9]


def _is_map_state(fields: Operation) -> bool:
    return _has_map_state_fields(fields) and fields[4] == fields[5]


# Exact types, so that a bool does not pass for an int.


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < MOST_EVENTS


def _is_expiry(value: object) -> bool:
    return is_instant(value) or (type(value) is int and value == NEVER)


def _is_sid(value: object) -> bool:
    return type(value) is str and _SID.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    return type(value) is str and value != ""


def _is_name(value: object) -> bool:
    return value is None or _is_text(value)


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _are_keys(value: object) -> bool:
    """At least one key, all of them strings, none empty and none twice."""
    if type(value) is not tuple or not value or set(map(type, value)) != {str}:
        return False
    keys = set(value)
    return len(keys) == len(value) and "" not in keys


_SID = re.compile(r"MP[0-9a-f]{32}")
_has_map_fields = _fields(
    _is_number, _is_sid, _is_name, _is_text, is_instant, is_instant, _is_expiry, _is_number, _is_number
)
_has_map_state_fields = _fields(_is_number, is_instant, _is_expiry, _is_number, _is_number)
_is_map_end = _fields(_is_number, is_instant, _is_bool)

_SHAPES: dict[int, Callable[[Operation], bool]] = {
    ADD: _is_put,
    UPDATE: _is_put,
    REMOVE: _fields(_is_number, _is_text, _is_number, is_instant),
    EXPIRE: _fields(_is_number, _are_keys, _is_number, is_instant),
    MAP: _is_map,
    MAP_TTL: _fields(_is_number, _is_expiry),
    MAP_END: _is_map_end,
}
_BASE_SHAPES: dict[int, Callable[[Operation], bool]] = {
    MAP: _is_map,
    MAP_END: _is_map_end,
    ITEMS: _is_items,
    FORGET: _fields(_is_number, _are_keys),
    MAP_STATE: _is_map_state,
}

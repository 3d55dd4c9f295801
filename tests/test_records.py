"""The records of the log, by themselves: which operations pass, and which do not (durability G1, G3)."""

from __future__ import annotations

from typing import Any

import pytest
from msgpack import packb, unpackb

from mapitem.item import FIRST_INSTANT, LAST_INSTANT, MOST_EVENTS, NEVER, pack_row
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
    encode_record,
    encoder,
    is_deeply_sound,
    rough_size,
)

SID = "MP" + "0123456789abcdef" * 2
ROW = pack_row(1, 2, 3, NEVER, packb("me"), packb({"a": 1}))
BAD_ROW = pack_row(-1, 2, 3, NEVER, packb("me"), packb({"a": 1}))
NO_ITEM = pack_row(1, 2, 3, NEVER, packb("me"), packb([]))

# Values that belong nowhere, beside those that only another field would take.
JUNK = [None, True, -1, 1.0, "", b"", (), {}]

NUMBERS = ([0, 1, MOST_EVENTS - 1], [None, True, False, -1, MOST_EVENTS, 1.0, "1"])
DATES = ([FIRST_INSTANT, -1, 0, LAST_INSTANT], [None, True, FIRST_INSTANT - 1, LAST_INSTANT + 1, NEVER, 1.0, "1"])
EXPIRIES = ([FIRST_INSTANT, 0, LAST_INSTANT, NEVER], [None, True, FIRST_INSTANT - 1, LAST_INSTANT + 1, NEVER - 1, 1.0])
TEXTS = (["a", "é"], [None, 1, "", b"a", ("a",)])
KEYS = ([("a",), ("b", "a")], [None, "ab", (), ("a", "a"), ("",), ("a", ""), ("a", 1), (b"a",), 1])
ROWS = ([ROW, NO_ITEM], [None, "", b"", ROW[:37], BAD_ROW, 1])
SIDS = (
    [SID, "MP" + "f" * 32],
    [
        None,
        1,
        "",
        SID[:-1],
        SID + "0",
        SID.lower(),
        SID.replace("a", "A"),
        SID.replace("MP", "IS"),
        SID[:-1] + "g",
        SID.encode(),
    ],
)
NAMES = ([None, "m"], ["", 1, b"m", True])
FLAGS = ([True, False], [None, 0, 1, "True"])

# Each kind with a good form, and for each of its fields what else is good there and what is not.
SHAPES: dict[str, list[tuple[tuple[Any, ...], tuple[Any, ...]]]] = {
    "behind": [
        ((ADD, 0, "k", ROW), (NUMBERS, TEXTS, ROWS)),
        ((UPDATE, 0, "k", ROW, 5), (NUMBERS, TEXTS, ROWS, DATES)),
        ((REMOVE, 0, "k", 3, 5), (NUMBERS, TEXTS, NUMBERS, DATES)),
        ((EXPIRE, 0, ("a", "b"), 3, 5), (NUMBERS, KEYS, NUMBERS, DATES)),
        ((MAP_TTL, 0, 5), (NUMBERS, EXPIRIES)),
        ((MAP_END, 0, 5, True), (NUMBERS, DATES, FLAGS)),
        ((MAP, 0, SID, "m", "me", 1, 2, 3, 4, 4), (NUMBERS, SIDS, NAMES, TEXTS, DATES, DATES, EXPIRIES)),
    ],
    "within": [
        ((MAP, 0, SID, "m", "me", 1, 2, 3, 4, 4), (NUMBERS, SIDS, NAMES, TEXTS, DATES, DATES, EXPIRIES)),
        ((MAP_END, 0, 5, True), (NUMBERS, DATES, FLAGS)),
        ((FORGET, 0, ("a", "b")), (NUMBERS, KEYS)),
        ((MAP_STATE, 0, 1, 2, 3, 3), (NUMBERS, DATES, EXPIRIES)),
    ],
}
ALL = [(where, good, fields) for where, shapes in SHAPES.items() for good, fields in shapes]


def decode(operation: object, where: str) -> Any:
    return decode_record(packb([operation]), in_base=where == "within")


@pytest.mark.parametrize(("where", "good", "fields"), ALL)
def test_look_at_each_field(where: str, good: tuple[Any, ...], fields: tuple[Any, ...]) -> None:
    """G3: whatever stands in a field is what the format says, exact types included, or the record is refused."""
    assert decode(good, where) == (good,)
    for place, (right, wrong) in enumerate(fields, 1):
        # The fields in which a map number may be any int are those whose map is looked up.
        for value in right:
            changed = (*good[:place], value, *good[place + 1 :])
            assert decode(changed, where) == (changed,)
        for value in wrong:
            is_looked_up = place == 1 and good[0] in (ADD, UPDATE) and type(value) is int
            if not is_looked_up:
                with pytest.raises(ValueError, match="of another shape"):
                    decode((*good[:place], value, *good[place + 1 :]), where)


@pytest.mark.parametrize(("where", "good", "fields"), ALL)
def test_count_the_fields(where: str, good: tuple[Any, ...], fields: tuple[Any, ...]) -> None:
    """G3: one field too few or too many is another shape."""
    for other in (good[:-1], (*good, 5), (*good, 5, 5), good[:1]):
        if other != (*good, 5) or good[0] != ADD:
            if other == good[:-1] and good[0] == UPDATE:
                continue  # without its date it is whole
            with pytest.raises(ValueError, match="of another shape"):
                decode(other, where)


@pytest.mark.parametrize(
    "operation",
    [
        (MAP, 0, SID, "m", "me", 1, 2, 3, 4, 5),
        (MAP, 0, SID, "m", "me", 1, 2, 3, 5, 4),
        (MAP, 0, SID, "m", "me", 1, 2, 3, -1, -1),
    ],
)
@pytest.mark.parametrize("where", ["within", "behind"])
def test_keep_no_history_in_a_map(operation: tuple[Any, ...], where: str) -> None:
    """F2: a map begins without history: its oldest event served is its next."""
    with pytest.raises(ValueError, match="of another shape"):
        decode(operation, where)


@pytest.mark.parametrize("counts", [(3, 4), (4, 3), (-1, -1), (None, None), (True, True), (MOST_EVENTS, MOST_EVENTS)])
def test_keep_no_history_in_a_base(counts: tuple[Any, Any]) -> None:
    """F2, G3: the same at the end of a base, and both are numbers of events."""
    with pytest.raises(ValueError, match="of another shape"):
        decode((MAP_STATE, 0, 1, 2, *counts), "within")
    with pytest.raises(ValueError, match="of another shape"):
        decode((MAP, 0, SID, "m", "me", 1, 2, 3, *counts), "within")


def test_lay_as_many_rows_as_keys() -> None:
    """G3: a block of a base has a sound row for each of its keys."""
    assert decode((ITEMS, 0, ("a", "b"), (ROW, NO_ITEM)), "within") == ((ITEMS, 0, ("a", "b"), (ROW, NO_ITEM)),)
    for other in (
        (ITEMS, 0, ("a", "b"), (ROW,)),
        (ITEMS, 0, ("a",), (ROW, ROW)),
        (ITEMS, 0, ("a",), (BAD_ROW,)),
        (ITEMS, 0, ("a",), ROW),
        (ITEMS, 0, ("a",), "a"),
        (ITEMS, 0, ("a",), {ROW: 1}),
        (ITEMS, 0, (), ()),
        (ITEMS, 0, ("a", "a"), (ROW, ROW)),
        (ITEMS, True, ("a",), (ROW,)),
        (ITEMS, None, ("a",), (ROW,)),
        (ITEMS, 0, ("a",), (ROW,), 5),
        (ITEMS, 0, ("a",)),
    ):
        with pytest.raises(ValueError, match="of another shape"):
            decode(other, "within")


@pytest.mark.parametrize("where", ["within", "behind"])
def test_know_each_kind_in_its_place(where: str) -> None:
    """G3: an unknown kind is an error, and so is a known one where it does not belong."""
    known = {good[0] for good, _ in SHAPES[where]} | ({ITEMS} if where == "within" else set())
    for kind in [-1, 0, *range(1, 12), 99]:
        if kind not in known:
            with pytest.raises(ValueError, match=f"kind {kind}, which is unknown {where} the base"):
                decode((kind, 0, "k", ROW), where)


@pytest.mark.parametrize("kind", [*JUNK, "1", (1,)])
def test_refuse_an_operation_of_no_kind(kind: object) -> None:
    """G3: the kind of an operation is an int."""
    if type(kind) is not int:
        with pytest.raises(ValueError, match="of no kind"):
            decode((kind, 0, 5), "behind")
    if type(kind) is not tuple or not kind:
        with pytest.raises(ValueError, match="of no kind"):
            decode(kind, "behind")


def test_refuse_what_is_no_record() -> None:
    """G3: a record is an array of at least one operation, and each of them is judged."""
    good = (MAP_TTL, 0, 5)
    assert decode_record(encode_record([good, good])) == (good, good)
    assert encoder()([good]) == encode_record([good]) == packb([good])
    for payload in (b"", b"\xc1", packb([])[:0] + b"\x92\x01"):
        with pytest.raises(ValueError, match="not msgpack"):
            decode_record(payload)
    for value in (None, 1, "x", {}, {"a": 1}, []):
        with pytest.raises(ValueError, match="no array of operations"):
            decode_record(packb(value))
    with pytest.raises(ValueError, match="of another shape"):
        decode_record(packb([good, (MAP_TTL, 0, None)]))
    with pytest.raises(ValueError, match="of another shape"):
        decode_record(packb([(MAP_TTL, 0, None), good]))


def test_look_for_unsound_rows() -> None:
    """R3: a check decodes each row, where a load looks at its head alone."""
    assert is_deeply_sound([(ADD, 0, "k", ROW), (UPDATE, 0, "k", ROW, 5), (REMOVE, 0, "k", 3, 5), (MAP_TTL, 0, 5)])
    assert is_deeply_sound([(ITEMS, 0, ("a", "b"), (ROW, ROW)), (FORGET, 0, ("a",))])
    for bad in ((ADD, 0, "k", NO_ITEM), (UPDATE, 0, "k", NO_ITEM), (ITEMS, 0, ("a", "b"), (ROW, NO_ITEM))):
        assert not is_deeply_sound([bad])
        assert not is_deeply_sound([(ADD, 0, "k", ROW), bad])


def test_number_the_kinds_for_ever() -> None:
    """G1, R6: the numbers of the kinds are the format's."""
    kinds = [ADD, UPDATE, REMOVE, EXPIRE, MAP, MAP_TTL, MAP_END, ITEMS, FORGET, MAP_STATE]
    assert kinds == list(range(1, 11))


@pytest.mark.parametrize("key", ["k", "k" * 300])
@pytest.mark.parametrize("size", [0, 1000])
def test_guess_the_size_of_a_record(key: str, size: int) -> None:
    """F3: a log in memory guesses what a record would take in a file, within the bytes of a few numbers."""
    row = pack_row(1, 2, 3, NEVER, packb("me"), packb({"a": "x" * size}))
    for operations in (
        [(ADD, 0, key, row)],
        [(UPDATE, 0, key, row), (UPDATE, 0, key, row)],
        [(REMOVE, 0, "k", 1, 2)],
        [(EXPIRE, 0, [key] * 9, 1, 2)],
        [(MAP_TTL, 0, 5)],
        [(MAP_TTL, 0, NEVER)] * 50,
    ):
        real = len(packb(operations))
        assert real < rough_size(operations) < real + 40 + 20 * len(operations)


def test_decode_to_tuples_that_need_no_copy() -> None:
    """D4: nothing that is decoded from a record can be changed."""
    operations = decode_record(packb([[EXPIRE, 0, ["a", "b"], 3, 5]]))
    assert operations == ((EXPIRE, 0, ("a", "b"), 3, 5),)
    assert unpackb(packb(operations)) == [[EXPIRE, 0, ["a", "b"], 3, 5]]


@pytest.mark.parametrize("number", ["cb7ff8000000000000", "cbfff0000000000000", "ca7f800000", "caffc00000"])
def test_refuse_floats_that_are_no_numbers(number: str) -> None:
    """G3: NaN and infinity, in either size, in any row of a record; and no row because it merely looks like that."""
    bad = ROW[:37] + packb("me") + b"\x81\xa1n" + bytes.fromhex(number)
    largest = ROW[:37] + packb("me") + b"\x81\xa1n" + bytes.fromhex("cb7fefffffffffffff")
    sign = int.from_bytes(bytes.fromhex(number[:4]), "big")
    alike = pack_row(sign, 2, 3, NEVER, packb("me"), packb({"a": 1}))  # the same bytes, in an event's number
    for rows in ((bad,), (ROW, bad), (alike, bad), (bad, alike, largest)):
        keys = tuple(f"{place}" for place in range(len(rows)))
        with pytest.raises(ValueError, match="a float that is no number"):
            decode_record(encode_record([(ITEMS, 0, keys, rows)]), in_base=True)
    good = (alike, largest, ROW)
    assert decode_record(encode_record([(ITEMS, 0, ("a", "b", "c"), good)]), in_base=True)[0][3] == good
    # A list at the top is no item either, which is not for here to say: the record does not look as if it had a float.
    assert decode_record(encode_record([(ADD, 0, "k", NO_ITEM)]))[0][3] == NO_ITEM

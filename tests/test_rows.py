"""The packed rows of items, by themselves: what is written where, and what of a file passes for a row."""

from __future__ import annotations

import pickle
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgpack import packb, unpackb

from mapitem import LogCorrupt, MapItem
from mapitem.item import (
    EPOCH,
    FIRST_INSTANT,
    FULL,
    LAST_INSTANT,
    MOST_EVENTS,
    NEVER,
    _is_too_deep,
    date_of,
    instant_of,
    is_instant,
    is_row,
    look_like_rows,
    make_item,
    pack_row,
    row_created_by,
    row_expires,
    row_is_timed,
    row_last_times,
    row_number,
    row_tail,
    row_times,
    same_data,
    unpack,
)

instants = st.integers(FIRST_INSTANT, LAST_INSTANT)
creators = st.text(max_size=40)
objects = st.dictionaries(st.text(max_size=3), st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3))

_NO_DATA: dict[str, Any] = {}


def make_row(
    number: int = 0, created: int = 0, updated: int = 0, expires: int = NEVER, by: Any = "me", data: Any = _NO_DATA
) -> bytes:
    return pack_row(number, created, updated, expires, packb(by), packb(data))


@given(
    number=st.integers(0, MOST_EVENTS - 1),
    dates=st.lists(instants, min_size=2, max_size=2).map(sorted),
    expires=st.just(NEVER) | instants,
    by=creators,
    data=objects,
)
def test_read_a_row_as_it_was_packed(
    number: int, dates: list[int], expires: int, by: str, data: dict[str, Any]
) -> None:
    """D2, I1: a row is one msgpack array of six, and each of its fields comes back from its own place."""
    created, updated = dates
    row = make_row(number, created, updated, expires, by, data)
    assert unpackb(row) == [number, created, updated, expires, by, data]
    assert row_number(row) == number
    assert row_times(row) == (created, updated, expires)
    assert row_last_times(row) == (updated, expires)
    assert row_expires(row) == expires
    assert row_is_timed(row) is (expires != NEVER)
    assert row_tail(row) == packb(by) + packb(data)
    assert row_created_by(row, packb("somebody else")) == row_created_by(row, packb(by)) == packb(by)
    assert look_like_rows([row])
    assert is_row(row) is (by != "")
    item = make_item("k", row)
    assert (item.revision, item.created_by, item.data) == (f"{number:x}", by, data)
    assert (item.date_created, item.date_updated) == (date_of(created), date_of(updated))
    assert item.date_expires == (None if expires == NEVER else date_of(expires))
    assert pickle.loads(pickle.dumps(item)) == item


@pytest.mark.parametrize("by", ["", "x", "y" * 31, "y" * 32, "y" * 255, "y" * 256, "é" * 16])
def test_read_data_behind_any_creator(by: str) -> None:
    """I3: creators of every length that msgpack writes in a form of its own: the data behind them are found."""
    item = make_item("k", make_row(by=by, data={"a": [1]}))
    assert (item.data, item.created_by) == ({"a": [1]}, by)


@pytest.mark.parametrize(
    "fields",
    [
        {"number": -1},
        {"number": MOST_EVENTS},
        {"created": FIRST_INSTANT - 1},
        {"created": 1},
        {"updated": LAST_INSTANT + 1},
        {"expires": FIRST_INSTANT - 1},
        {"expires": LAST_INSTANT + 1},
        {"expires": NEVER - 1},
    ],
    ids=str,
)
def test_refuse_a_row_of_impossible_numbers(fields: dict[str, int]) -> None:
    """G3: numbers that the library cannot show or count on from are refused when the file is read."""
    assert not look_like_rows([make_row(**fields)])
    assert not look_like_rows([make_row(), make_row(**fields)])
    assert not is_row(make_row(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"number": 0},
        {"number": MOST_EVENTS - 1},
        {"created": FIRST_INSTANT},
        {"created": LAST_INSTANT, "updated": LAST_INSTANT},
        {"expires": FIRST_INSTANT},
        {"expires": LAST_INSTANT},
    ],
    ids=str,
)
def test_take_a_row_of_extreme_numbers(fields: dict[str, int]) -> None:
    """G3: and what they can hold is taken, to the last."""
    assert look_like_rows([make_row(**fields)])
    assert is_row(make_row(**fields))


def test_tell_a_row_by_its_head() -> None:
    """G3: six fields, four of them integers of eight bytes: each mark is looked at, and something has to follow."""
    row = make_row()
    assert look_like_rows([])
    for place in (0, 1, 10, 19, 28):
        for other in (0, row[place] - 1, row[place] + 1, 255):
            assert not look_like_rows([row[:place] + bytes([other]) + row[place + 1 :]])
    assert not look_like_rows([row[:37]])
    assert look_like_rows([row[:38]])
    for value in (None, 1, "row", bytearray(row), [row], (), row[:5], b""):
        assert not look_like_rows([value])
        assert not is_row(value)


@pytest.mark.parametrize(
    "tail",
    [
        packb("") + packb({}),
        packb(b"me") + packb({}),
        packb(1) + packb({}),
        packb("me") + packb([]),
        packb("me") + packb(None),
        packb("me") + packb({1: 2}),
        packb("me") + packb({"a": b"b"}),
        packb("me") + packb({"a": float("nan")}),
        packb("me") + packb({"a": msgpack.ExtType(1, b"")}),
        packb("me"),
        packb("me") + packb({}) + packb({}),
        packb("me") + packb({})[:-1] + b"\xc1",
    ],
)
def test_refuse_a_row_of_what_is_no_item(tail: bytes) -> None:
    """G3: under a right head, a creator or data that the library would not write are no row."""
    row = make_row()[:37] + tail
    assert look_like_rows([row])
    assert not is_row(row)


@pytest.mark.parametrize("data", [[], None, 1, "x", {"a": b"b"}, {1: 2}, {"a": msgpack.ExtType(1, b"")}])
@pytest.mark.parametrize("by", ["me", "y" * 40])
def test_read_data_that_are_none(data: Any, by: str) -> None:
    """G2: an item whose data are none says so when it is asked for them, and never shows what it should not."""
    item = make_item("k", make_row(by=by, data=data))
    with pytest.raises(LogCorrupt, match="an item whose content is none"):
        _ = item.data


def nested(depth: int) -> dict[str, Any]:
    """Data of so many levels."""
    data: dict[str, Any] = {}
    for _ in range(depth - 1):
        data = {"a": data}
    return data


@pytest.mark.parametrize("by", ["me", "y" * 40])
def test_read_data_as_deep_as_may_be(by: str) -> None:
    """D1, G3: 128 levels are read, and 129 are refused, also where nothing but a file says so."""
    for deep in (nested(127), nested(128), {"a": [0x80] * 200}, {"a": [[]] * 200}, {"a": [{}] * 126}):
        assert make_item("k", make_row(by=by, data=deep)).data == deep
        assert make_item("k", make_row(by=by, data=deep)).created_by == by
        assert is_row(make_row(by=by, data=deep))
    for depth in (129, 130, 300):
        row = make_row(by=by, data=nested(depth))
        assert not is_row(row)
        with pytest.raises(LogCorrupt):
            _ = make_item("k", row).data
        with pytest.raises(LogCorrupt):
            _ = make_item("k", row).created_by


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("use_list", [True, False])
def test_unpack_arrays_of_any_length(count: int, use_list: bool) -> None:
    """G3: an array is believed once its elements were seen, and then comes back as it was asked for."""
    packed = packb([0] * count)
    assert unpack(packed, use_list=use_list) == ([0] * count if use_list else (0,) * count)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x91",
        b"\xc1",
        b"\x01\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\x00\x00\x08\x00" + b"\x00" * 2047,
        b"\x91" * 2000,
        b"\x91" * 3000 + b"\xc0",
        packb([0] * 2000) + b"\x00",
        packb(msgpack.ExtType(1, b"")),
        packb([msgpack.ExtType(1, b"x")] + [0] * 2000),
        packb([msgpack.Timestamp(1)]),
    ],
)
def test_unpack_what_lies(packed: bytes) -> None:
    """G3: bytes that are no value, claim more than they have, nest too deep, or hold what the format does not know."""
    with pytest.raises(ValueError):  # noqa: PT011  # the words are msgpack's
        unpack(packed)


def test_unpack_no_more_binaries_than_asked_for() -> None:
    """G3: the length of a binary can be bounded, in short arrays and in long."""
    for values in ([b"xyz"], [b"xyz"] + [0] * 2000):
        assert unpack(packb(values)) == values
        assert unpack(packb(values), max_bin_len=3) == values
        with pytest.raises(ValueError, match="bin"):
            unpack(packb(values), max_bin_len=2)


def test_know_the_instants_of_a_date() -> None:
    """I2, G3: the first and the last instants are those of ``datetime``, and an instant is an int and no bool."""
    assert date_of(FIRST_INSTANT) == datetime.min.replace(tzinfo=UTC)
    assert date_of(LAST_INSTANT) == datetime.max.replace(tzinfo=UTC)
    assert instant_of(datetime.min.replace(tzinfo=UTC)) == FIRST_INSTANT
    assert instant_of(datetime.max.replace(tzinfo=UTC)) == LAST_INSTANT
    assert (date_of(0), instant_of(EPOCH + timedelta(microseconds=7))) == (EPOCH, 7)
    assert all(map(is_instant, (FIRST_INSTANT, 0, LAST_INSTANT)))
    assert not any(map(is_instant, (FIRST_INSTANT - 1, LAST_INSTANT + 1, NEVER, True, 0.0, "0", None)))
    assert (NEVER, MOST_EVENTS, FULL) == (2**63 - 1, 2**62, 2**61)


def make(**fields: Any) -> MapItem:
    given_: dict[str, Any] = {
        "key": "k",
        "data": {"a": 1},
        "revision": "0",
        "date_created": EPOCH,
        "date_updated": EPOCH,
    }
    return MapItem(**{**given_, **fields})


@pytest.mark.parametrize("revision", ["0", "1", "f", "10", "7" + "f" * 15])
def test_make_an_item_of_any_revision(revision: str) -> None:
    """R2: a revision is lower-case hex of at most 63 bits."""
    assert make(revision=revision).revision == revision


@pytest.mark.parametrize("revision", ["8" + "0" * 15, "f" * 16, "-1", "00", "A", "0x1", " 1", "1_0", "+1"])
def test_make_an_item_of_another_revision(revision: str) -> None:
    """R2: and of nothing else."""
    with pytest.raises(ValueError, match="revision"):
        make(revision=revision)


def test_make_an_item_of_no_creator() -> None:
    """I3: a creator is text, and "system" if none is named."""
    assert make().created_by == "system"
    with pytest.raises(ValueError, match="created_by"):
        make(created_by=None)


def test_make_an_item_of_data_over_the_limit() -> None:
    """D5: an item made by hand may be larger than a store of ours would take."""
    text = "x" * 100_000
    assert make(data={"a": text}).data == {"a": text}


@pytest.mark.parametrize("decoded", [(), ("one",), ("other",), ("one", "other")])
def test_compare_items_before_and_after_they_are_decoded(decoded: tuple[str, ...]) -> None:
    """I1, D4: equal by value, whether the data were looked at or changed or not."""
    items = {"one": make(), "other": make()}
    for name in decoded:
        assert items[name].data == {"a": 1}
    assert items["one"] == items["other"]
    assert items["one"] != make(created_by="me")
    for name in decoded:
        items[name].data["a"] = 2
        assert (
            items["one"] == items["other"] if len(decoded) == 2 and name == "other" else items["one"] != items["other"]
        )
        copy = pickle.loads(pickle.dumps(items[name]))
        assert (copy, copy.data) == (items[name], {"a": 2})


def test_hash_by_key_and_revision() -> None:
    """I1: equal items hash alike, and those of other keys or revisions rarely do."""
    assert hash(make()) == hash(make(data={"a": 2}))
    assert (
        len({hash(make(key=key, revision=revision)) for key in "abc" for revision in ("0", "1", "1" + "0" * 14)}) == 9
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (1, 1.0), (0.0, -0.0), ([1], [1, 1]), ([1, 2], [2, 1]), ([1], [True]), ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": 1}), ({"a": 1}, {"a": 1.0}), ("a", "b"), (None, False), ([], {}), (1, 2), (1.5, 2.5),
    ],
)  # fmt: skip
def test_tell_data_apart(one: Any, other: Any) -> None:
    """D2: types count, and the sign of zero."""
    assert same_data(one, one) is same_data(other, other) is True
    assert same_data(one, other) is same_data(other, one) is False


def test_show_long_keys_and_data_cut() -> None:
    """I1: ``repr`` cuts at 60 characters, and not before."""
    assert f"data={{'a': '{'x' * 51}'}}" in repr(make(data={"a": "x" * 51}))  # 60 characters
    assert f"data={{'a': '{'x' * 52}…" in repr(make(data={"a": "x" * 52}))
    assert repr(make(key="k" * 58)).startswith(f"MapItem('{'k' * 58}', ")
    assert repr(make(key="k" * 59)).startswith(f"MapItem('{'k' * 58}…, ")


def test_compare_items_field_by_field() -> None:
    """I1: each field counts, and of what is no item nothing is said."""
    date = EPOCH + timedelta(seconds=1)
    others = [
        make(key="l"),
        make(data={"a": 2}),
        make(revision="1"),
        make(date_updated=date),
        make(date_created=date),
        make(date_expires=date),
        make(created_by="me"),
    ]
    assert make() == make()
    assert make().key == "k"
    assert all(make() != other for other in others)
    assert make().__eq__("k") is NotImplemented
    assert make() != make(revision="1", data={"a": 1})


def test_decode_no_more_than_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """D4: a read of data decodes these alone, not the row in front of them, which would cost as much again."""
    rows = [make_row(by=by, data=data) for by in ("x", "me", "y" * 31) for data in ({}, {"a": [1]}, {"a": "x" * 300})]
    monkeypatch.setattr("mapitem.item._unpack_tail", None)
    assert [make_item("k", row).data for row in rows] == 3 * [{}, {"a": [1]}, {"a": "x" * 300}]


def test_look_closely_at_deep_data_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """G3: data that cannot be nested too deep is not walked to find that out."""
    monkeypatch.setattr("mapitem.item.encode_data", None)
    assert make_item("k", make_row(by="y" * 40, data={"a": "x" * 300})).data == {"a": "x" * 300}


def depth_of(value: Any) -> int:
    """By a plain definition: scalars are no level."""
    if type(value) is dict:
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if type(value) is list else 0


# What stands beside the way down: containers of its own, and bytes that only look like some.
beside = st.recursive(
    st.sampled_from([None, 0x80, 0x9F9F, 0xDDDD, -1.5e-200, "ÀÜ" * 30, "a" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aĀ", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(
    levels=st.integers(1, 12) | st.integers(124, 133),
    crossroads=st.dictionaries(st.integers(0, 132), st.tuples(st.lists(beside, max_size=3), st.integers(0, 200))),
    by_list=st.lists(st.booleans(), min_size=1, max_size=3),
    ending=st.sampled_from([None, {}, []]),
)
def test_tell_data_too_deep(
    levels: int, crossroads: dict[int, tuple[list[Any], int]], by_list: list[bool], ending: Any
) -> None:
    """D1, G3: what is nested too deep is found whatever stands beside the way down, and nothing else is."""
    data = ending
    for level in range(levels):
        others, empty = crossroads.get(level, ([], 0))
        if by_list[level % len(by_list)] and level < levels - 1:
            data = [*others, *([] for _ in range(empty)), data]
        else:
            data = {**{f"{number}": other for number, other in enumerate(others)}, "down": data, "all": [{}] * empty}
    assert _is_too_deep(data, len(packb(data))) is (depth_of(data) > 128)


@pytest.mark.parametrize("by", ["me", "y" * 40])
def test_read_data_with_long_arrays(by: str) -> None:
    """G3: an array that is believed only once it was seen comes back like any other."""
    data = {"a": list(range(3_000)), "b": [[0] * 1_025]}
    assert make_item("k", make_row(by=by, data=data)).data == data


def test_read_data_behind_no_creator() -> None:
    """G2: where the creator is no text, nothing behind it is taken for data, whatever that may look like."""
    tail = packb(None) + packb({"k" * 29: [{}]})
    assert unpackb(tail[33:]) == {}
    with pytest.raises(LogCorrupt):
        _ = make_item("k", make_row()[:37] + tail).data


def test_decode_while_another_thread_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """D4: the data are the same object for all who hold the item, also for two who ask for the first time at once."""
    item = make()
    others: dict[str, Any] = {"a": 1}

    def decode(packed: bytes, **limits: int) -> dict[str, Any]:
        item._data = others  # the other thread is done first
        return {"a": 1}

    monkeypatch.setattr("mapitem.item.unpackb", decode)
    assert item.data is others
    assert item.data is others


def test_make_no_room_for_lies() -> None:
    """G3: arrays in arrays, each of which claims to be as long as the bytes there are, cost memory for these alone."""
    packed = b"\xdd\x00\x00\x40\x00" * 500 + b"\x00" * 20_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):  # noqa: PT011  # the words are msgpack's
            unpack(packed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


_FOURTEEN = b"".join(b"\xa1" + bytes([letter]) + b"\xc0" for letter in b"abcdefghijklmn")


@pytest.mark.parametrize(
    "head",
    [
        b"\x91", b"\x9f" + b"\xc0" * 14, b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01",
        b"\x81\xa1o", b"\x8f" + _FOURTEEN + b"\xa1o", b"\xde\x00\x01\xa1o", b"\xdf\x00\x00\x00\x01\xa1o",
    ],
)  # fmt: skip
@pytest.mark.parametrize("by", ["me", "y" * 40])
def test_read_data_too_deep_in_every_spelling(head: bytes, by: str) -> None:
    """D1, G3: containers begin with many bytes, and what nests too deep is found whichever they are."""
    for levels, is_good in ((127, True), (128, False), (200, False)):
        row = make_row()[:37] + packb(by) + b"\x81\xa1a" + head * levels + b"\xc0"
        assert is_row(row) is is_good
        if is_good:
            assert len(make_item("k", row).data) == 1
        else:
            with pytest.raises(LogCorrupt):
                _ = make_item("k", row).data

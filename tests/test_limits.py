"""What may be stored, by itself: each check at its edges, and data of every kind against a plain definition."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import sys
import tracemalloc
import weakref
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgpack import ExtType, Timestamp, packb, unpackb

from mapitem import (
    DataTooLarge,
    InvalidData,
    InvalidKey,
    InvalidName,
    InvalidRevision,
    InvalidTTL,
    Limits,
)
from mapitem.limits import (
    _json_bound,
    _survey,
    _weigh,
    check_given_ttl,
    check_if_match,
    check_key,
    check_name,
    check_ttl,
    encode_data,
    is_text,
    looks_like_sid,
    shown,
    shown_text,
)

YEAR = 31_536_000


def test_make_limits() -> None:
    """D5: two whole numbers of at least 1, the service's by default; immutable, equal by value, copied as one."""
    limits = Limits()
    assert (limits.max_key_chars, limits.max_data_bytes) == (320, 16_384)
    assert repr(limits) == "Limits(max_key_chars=320, max_data_bytes=16384)"
    small = Limits(1, 2)
    assert small == Limits(max_data_bytes=2, max_key_chars=1)
    assert hash(small) == hash(Limits(1, 2))
    assert small != Limits(1, 3)
    assert small != Limits(2, 2)
    assert small != (1, 2)
    assert small.__eq__((1, 2)) is NotImplemented
    assert hash(small) != hash(Limits(2, 1))
    assert pickle.loads(pickle.dumps(small)) == copy.deepcopy(small) == small
    with pytest.raises(AttributeError):
        small.max_key_chars = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del small.max_key_chars  # type: ignore[misc]
    with pytest.raises(AttributeError):
        small.other = 5  # type: ignore[attr-defined]
    assert small == Limits(1, 2)
    for name in ("max_key_chars", "max_data_bytes"):
        for value in (0, -1, True, 1.0, "1", None):
            with pytest.raises(ValueError, match=name):
                Limits(**{name: value})


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_show_a_wrong_argument() -> None:
    """X: a message shows what was wrong, cut at 80 characters, and never fails for it."""
    assert shown(Unshowable()) == "<Unshowable>"
    assert shown([1]) == "[1]"
    assert shown("x" * 78) == repr("x" * 78)
    assert shown("x" * 79) == "'" + "x" * 78 + "…"
    assert shown_text("abc", 3) == "abc"
    assert shown_text("abcd", 3) == "ab…"


@given(value=st.text(max_size=5) | st.just("\ud800") | st.just("é\udfff") | st.binary(max_size=3) | st.integers())
def test_know_text(value: Any) -> None:
    """K2: text is a str that UTF-8 can hold, and no subclass of one."""
    surrogates = type(value) is str and any("\ud800" <= letter <= "\udfff" for letter in value)
    assert is_text(value) is (type(value) is str and not surrogates)
    if type(value) is str:
        assert not is_text(type("Text", (str,), {})(value))


@pytest.mark.parametrize("letter", ["a", "é", "\U0010ffff", "\0", "/"], ids=ascii)
@pytest.mark.parametrize("most", [1, 2, 320])
def test_count_the_characters_of_a_key(letter: str, most: int) -> None:
    """K1: 1 to so many characters, in code points; a name's likewise (K5)."""
    for check, error, what in ((check_key, InvalidKey, "a key"), (check_name, InvalidName, "a map's name")):
        for good in (letter, letter * most):
            check(good, most)
        for bad in ("", letter * (most + 1)):
            with pytest.raises(error, match=f"{what} has 1 to {most} characters, not {len(bad)}"):
                check(bad, most)
        for bad_type in (None, 1, letter.encode("utf-8"), type("Text", (str,), {})(letter)):
            with pytest.raises(error, match=f"{what} must be a str, not {type(bad_type).__name__}"):
                check(bad_type, most)
        with pytest.raises(error, match="surrogates"):
            check("\ud800", most)


@pytest.mark.parametrize(
    ("name", "is_sid"),
    [
        ("MP" + "0" * 32, True), ("ZA" + "aF9" * 10 + "00", True), ("mP" + "0" * 32, False), ("M0" + "0" * 32, False),
        ("MP" + "0" * 31, False), ("MP" + "0" * 33, False), ("MP" + "g" * 32, False), ("MP" + "0" * 32 + "\n", False),
        (" MP" + "0" * 32, False), ("", False), (None, False), (b"MP" + b"0" * 32, False),
    ],
)  # fmt: skip
def test_know_a_sid(name: Any, is_sid: bool) -> None:
    """K5: two capitals and 32 hex digits are a sid, and so no name."""
    assert looks_like_sid(name) is is_sid
    if is_sid:
        with pytest.raises(InvalidName, match="SID"):
            check_name(name, 320)
    elif name and isinstance(name, str):
        check_name(name, 320)


def test_check_ttls() -> None:
    """T1: whole seconds from 0 to a year, as an int or a ``timedelta``; ``None`` only where it means something (W6)."""
    for good in (0, 1, YEAR):
        assert check_ttl(good) == check_given_ttl(good) == good
        assert check_ttl(timedelta(seconds=good)) == good
    assert check_ttl(timedelta(days=2, seconds=3)) == 2 * 86_400 + 3
    assert check_ttl(None) is None
    for bad in (
        -1,
        YEAR + 1,
        True,
        False,
        1.0,
        "1",
        timedelta(microseconds=1),
        timedelta(seconds=-1),
        timedelta(days=366),
    ):
        with pytest.raises(InvalidTTL, match="collection_ttl must"):
            check_ttl(bad, "collection_ttl")
        with pytest.raises(InvalidTTL, match=r"^ttl must"):
            check_given_ttl(bad)
    with pytest.raises(InvalidTTL, match="whole seconds"):
        check_ttl(timedelta(seconds=1, microseconds=1))
    with pytest.raises(InvalidTTL):
        check_ttl(type("Delta", (timedelta,), {})(seconds=1))
    with pytest.raises(InvalidTTL, match="must be given"):
        check_given_ttl(None)


def test_check_conditions() -> None:
    """C1: ``None``, ``"*"``, or lower-case hex, compared as text."""
    for good in (None, "*", "0", "00", "1a", "f" * 100):
        assert check_if_match(good) is good
    for bad in ("", "**", "*1", "A", "g", "0x1", " 1", "1\n", "absent", 1, True, b"1", type("Text", (str,), {})("1")):
        with pytest.raises(InvalidRevision, match="if_match must be"):
            check_if_match(bad)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)
objects = st.dictionaries(st.text(max_size=3), values, max_size=5)


def size_of(data: object) -> int:
    return len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())


@given(data=objects)
@example(data={"a": [False] * 4})
@example(data={"a": "\0" * 9})
@example(data={"a": "\0" * 200})
@example(data={"a": [False] * 200})
@example(data={"a": [0.0] * 300})
@example(data={"a": [{}, []], "é": {"b": [1.5, None]}})
def test_pack_data_up_to_its_size(data: dict[str, Any]) -> None:
    """D3: at a limit of its own size data is packed, at any smaller one refused: with its size, if that is near."""
    size = size_of(data)
    assert unpackb(encode_data(data, size)) == data
    assert unpackb(encode_data(data, 10 * size)) == data
    for most in {size - 1, size // 2, size // 9, 1} - {0}:
        with pytest.raises(DataTooLarge) as caught:
            encode_data(data, most)
        assert caught.value.limit == most
        if size <= 10 * most:
            assert caught.value.size == size
        else:
            assert most < caught.value.size <= size


def at_the_end_of_the_stack(work: Any, room: int) -> Any:
    """What a call returns that has only a few more frames left than it needs."""
    depth = 0
    frame = sys._getframe()
    while frame is not None:
        depth += 1
        frame = frame.f_back  # type: ignore[assignment]
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + room)
    try:
        return work()
    finally:
        sys.setrecursionlimit(before)


def test_measure_data_with_a_full_stack() -> None:
    """D1, D3: with no room for a frame per level, the size is counted without, and is the same to the byte."""
    data: dict[str, Any] = {"é\0": {}, "empty": [[], {}], "s": ["x", "\0", 1, 1.5, None, True]}
    for _ in range(40):
        data = {"deeper": [data, {"a": 1, "b": [2, 3]}], "k\0": 2}
    size = size_of(data)
    packed = at_the_end_of_the_stack(lambda: encode_data(data, size), 40)
    assert unpackb(packed) == data
    with pytest.raises(DataTooLarge) as caught:
        at_the_end_of_the_stack(lambda: encode_data(data, size - 1), 40)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)


@pytest.mark.parametrize(
    ("data", "path", "reason"),
    [
        (None, "$", "the top must be a dict, not NoneType"),
        ([], "$", "the top must be a dict, not list"),
        ("x", "$", "the top must be a dict, not str"),
        ((), "$", "tuple is not a type of JSON"),
        (float("nan"), "$", "nan is not finite"),
        ({1: 2}, "$", "a key must be a str, not int"),
        ({"a": {"\ud800": 1}}, "$.a", "a key holds a lone surrogate, which UTF-8 cannot encode"),
        ({"a": [0, "\ud800"]}, "$.a[1]", "a lone surrogate, which UTF-8 cannot encode"),
        ({"a": {"b c": float("inf")}}, '$.a["b c"]', "inf is not finite"),
        ({"a": 2**64}, "$.a", "an int beyond 64 bits"),
        ({"a": -(2**63) - 1}, "$.a", "an int beyond 64 bits"),
        ({"a": 10**5000}, "$.a", "an int beyond 64 bits"),
        ({"a": [[], {"b": b""}]}, "$.a[1].b", "bytes is not a type of JSON"),
        ({"a": 1, "b": [1, [2, {3}]]}, "$.b[1][1]", "set is not a type of JSON"),
        ({"a": [{}, {"x": 1}, {2: 3}]}, "$.a[2]", "a key must be a str, not int"),
        ({"a": type("Int", (int,), {})(1)}, "$.a", "Int is not a type of JSON"),
        ({type("Text", (str,), {})("a"): 1}, "$", "a key must be a str, not Text"),
    ],
)
def test_say_what_is_wrong_with_data(data: Any, path: str, reason: str) -> None:
    """D1: the first thing that is wrong, in the order of the data, and its place; in small data and in large."""
    for whole in (data, {**data, "much": [0] * 3_000}) if type(data) is dict else (data,):
        with pytest.raises(InvalidData) as caught:
            encode_data(whole, 16_384)
        assert (caught.value.path, caught.value.reason) == (path, reason)
        assert str(caught.value) == f"data cannot be stored: at {path}: {reason}"


# What is wrong, and what a check in C might take for something else.
strange = st.sampled_from([
    float("nan"), float("inf"), -float("inf"), b"", b"x", bytearray(), (), (1,), "\ud800", 2**64, -(2**63) - 1, 1j,
    set(), type("Int", (int,), {})(1), type("Float", (float,), {})(1.0), type("Text", (str,), {})("a"),
    type("List", (list,), {})(), type("Dict", (dict,), {})(), ExtType(1, b""), Timestamp(1), memoryview(b"x"),
])  # fmt: skip
strange_keys = st.sampled_from(["a", "\ud800", 1, 1.5, None, True, b"", b"a", (), type("Text", (str,), {})("b")])
anything = st.recursive(
    scalars | scalars | strange,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.dictionaries(strange_keys, inner, max_size=2)
    ),
)


@given(data=st.dictionaries(st.text(max_size=3), anything, max_size=5), most=st.integers(1, 400))
def test_judge_small_and_large_data_alike(data: dict[str, Any], most: int) -> None:
    """D1, D3: which walk looks at data changes nothing about what becomes of them, nor about the error's words."""

    def outcome() -> object:
        try:
            return encode_data(data, most)
        except (InvalidData, DataTooLarge) as error:
            return type(error), str(error)

    expected = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mapitem.limits._MANY", -1)  # nothing is weighed
        assert outcome() == expected


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 0, 1.5, -0.0, sys.float_info.max])
def test_pack_numbers_at_the_bounds(number: float) -> None:
    """D1: the largest and the smallest int of 64 bits and every finite float go in."""
    assert repr(unpackb(encode_data({"a": number}, 400))) == repr({"a": number})


def nested(levels: int, leaf: Any, by_list: bool) -> Any:
    for _ in range(levels):
        leaf = [leaf] if by_list else {"a": leaf}
    return leaf


@pytest.mark.parametrize("by_list", [False, True])
def test_count_the_levels(by_list: bool) -> None:
    """D1: 128 levels with the top's, and a scalar below them; at the 129th it says where."""
    for leaf in (1, "x", None):
        deepest = {"a": nested(127, leaf, by_list)}
        assert unpackb(encode_data(deepest, 16_384)) == deepest
    step = "[0]" if by_list else ".a"
    for leaf in ({}, [], {"a": 1}):
        with pytest.raises(InvalidData, match="nested deeper than 128 levels") as caught:
            encode_data({"a": nested(127, leaf, by_list)}, 16_384)
        assert caught.value.path == "$.a" + step * 127


def test_find_cycles() -> None:
    """D1: a value that contains itself, at the place where it closes; what stands in two places is none."""
    data: dict[str, Any] = {"a": [1, {"b": 2}]}
    data["a"][1]["c"] = data["a"]
    with pytest.raises(InvalidData, match="cycle") as caught:
        encode_data(data, 16_384)
    assert caught.value.path == "$.a[1].c"
    data = {"x": 1}
    data["self"] = data
    with pytest.raises(InvalidData, match="cycle") as caught:
        encode_data(data, 16_384)
    assert caught.value.path == "$.self"
    shared: list[Any] = [1]
    with pytest.raises(InvalidData) as caught:
        encode_data({"a": shared, "b": [shared, shared], "c": b""}, 16_384)
    assert caught.value.path == "$.c"


def test_stop_counting() -> None:
    """D3: beyond ten times the limit it is counted no further, and the size told lies between that and the true one."""
    for data in ({"a": "x" * 1_000}, {"x" * 1_000: 1}, {"a": [0] * 600}, {"a": [1.5] * 400}, {"a": [[[]] * 30] * 30}):
        size = size_of(data)
        with pytest.raises(DataTooLarge) as caught:
            encode_data(data, 50)
        assert 500 < caught.value.size <= size
        assert str(caught.value).startswith(
            f"data of {caught.value.size:,} bytes as compact JSON is over the limit of 50"
        )


def test_pack_from_a_thread_that_lost_its_packer() -> None:
    """D4: after data that could not be packed, the next are packed afresh."""
    for _ in range(3):
        with pytest.raises(InvalidData):
            encode_data({"a": "\ud800"}, 100)
        assert unpackb(encode_data({"a": 1}, 100)) == {"a": 1}


@pytest.mark.parametrize("bad", [float("nan"), {"\ud800": 1}, {1: 2}, 2**64, b""], ids=ascii)
def test_refuse_data_with_a_full_stack(bad: object) -> None:
    """D1: with no room for a frame per level, bad data are found without, too."""
    data: dict[str, Any] = {"bad": bad}
    for _ in range(60):
        data = {"a": data}
    with pytest.raises(InvalidData) as caught:
        at_the_end_of_the_stack(lambda: encode_data(data, 16_384), 40)
    assert caught.value.path.startswith("$" + ".a" * 60)


def test_pack_data_that_change_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """D1, S4: data that another thread changes while they are packed are refused, and not with an error of its own."""

    class Interrupted:
        def pack(self, data: object) -> bytes:
            raise ValueError("dictionary changed size during iteration")

    monkeypatch.setattr("mapitem.limits._idle_packers", [Interrupted()])
    with pytest.raises(InvalidData, match="it was changed while it was being written") as caught:
        encode_data({"a": 1}, 100)
    assert caught.value.path == "$"


def test_forget_data_that_were_refused() -> None:
    """D3: an error, once it is handled, keeps nothing of the data alive, not even until the collector's next round."""

    class Strange:
        pass

    strange = Strange()
    alive = weakref.ref(strange)
    gc.disable()
    try:
        with suppress(InvalidData):
            encode_data({"a": strange}, 100)
        del strange
        assert alive() is None
    finally:
        gc.enable()


def weight(value: Any) -> int:
    """By a plain definition: each value within, and each character of keys and strings."""
    if type(value) is dict:
        return sum(1 + len(key) + weight(inner) for key, inner in value.items())
    if type(value) is list:
        return sum(1 + weight(inner) for inner in value)
    return len(value) if type(value) is str else 0


@given(data=objects)
@example(data={"a": 1.5, "b": [-2.5, "xyz", {"k": [[]]}]})
def test_weigh_good_data(data: dict[str, Any]) -> None:
    """D3: good data weigh what is in them, and no more than their JSON is long: they need no closer look."""
    heavy = weight(data)
    assert _weigh(data, heavy, 128) == heavy <= size_of(data)
    if heavy:
        assert heavy - 1 < _weigh(data, heavy - 1, 128) <= heavy


@pytest.mark.parametrize(
    "bad", [float("nan"), float("inf"), -float("inf"), b"", (), {1: 2}, [set()], object()], ids=repr
)
def test_weigh_bad_data(bad: object) -> None:
    """D1, D3: what is bad is heavier than any limit, wherever it stands and however full the limit is by then."""
    for data in ({"a": bad}, {"a": [1, "x", bad]}, {"a": ["x"], "b": bad}, {"a": {"b": "x"}, "c": [[bad]]}):
        assert _weigh(data, 10_000, 128) == sys.maxsize or _weigh(data, 10_000, 128) > 10_000
    for most in range(10):
        assert _weigh({"a": ["x"], "b": bad}, most, 128) > most


def test_weigh_levels() -> None:
    """D1: a level too many is heavier than any limit; the last one that may be is not."""
    for levels in (1, 2, 3, 128):
        assert _weigh(nested(levels, 1, True), 10_000, levels) == levels
        assert _weigh(nested(levels, 1, True), 10_000, levels - 1) > 10_000 or levels == 1


@pytest.mark.parametrize("inner", [{}, [0]], ids=repr)
def test_leave_what_is_wide_to_the_survey(inner: Any) -> None:
    """D3: containers in one of very many values are not weighed first, for that would mostly be in vain."""
    for values in ([inner] * 33, [inner] + [0] * 32, [0] * 32 + [inner]):
        for wide in (values, {f"{number}": value for number, value in enumerate(values)}):
            assert _weigh({"a": wide}, 10_000, 128) > 10_000
            wide.pop() if type(wide) is list else wide.popitem()
            assert _weigh({"a": wide}, 10_000, 128) == weight({"a": wide})
    assert _weigh({"a": [0] * 33}, 10_000, 128) == 35


def text_of(value: Any) -> str:
    """By a plain definition: all keys and strings, in no order."""
    if type(value) is dict:
        return "".join(key + text_of(inner) for key, inner in value.items())
    if type(value) is list:
        return "".join(map(text_of, value))
    return value if type(value) is str else ""


def values_of(value: Any) -> list[Any]:
    """By a plain definition: each value within."""
    inner = list(value.values()) if type(value) is dict else value if type(value) is list else []
    return [*inner, *(each for deeper in inner for each in values_of(deeper))]


@given(data=objects)
@example(data={"a": 1.5, "b": [-2.5, "xyz", {"k": [[]]}], "c": {"d": {}}})
def test_survey_good_data(data: dict[str, Any]) -> None:
    """D3: good data are counted in full as far as they are allowed to weigh, and not at all if they weigh more."""
    heavy = weight(data)
    seen = _survey(data, heavy)
    assert seen is not None
    values, strings, text = seen
    assert (values, strings) == (len(values_of(data)), sum(type(value) is str for value in values_of(data)))
    assert sorted(text) == sorted(text_of(data))
    assert _survey(data, heavy - 1) is None or heavy == 0


# For each kind of value the one with the longest JSON for what the bound knows of it.
LONGEST: list[Any] = [
    -(2**63), 2**64 - 1, 10_000, 9_999, -1_000, -999, -2.2250738585072014e-308, False, None,
    "", "\0", "\x1f", '"', "\\", "\x7f", "é", "\u2028", "\U0010ffff", [], {},
]  # fmt: skip


def bound_of(data: dict[str, Any], most: int = 10**9) -> float:
    """The bound for data as they are packed; none, if they are not surveyed."""
    seen = _survey(data, most)
    return _json_bound(packb(data), *seen) if seen is not None else float("inf")


@given(data=objects | st.dictionaries(st.text('\0\n"\\a', max_size=3), st.sampled_from(LONGEST)))
@example(data={})
@example(data={str(number): value for number, value in enumerate(LONGEST)})
def test_bound_the_size_from_above(data: dict[str, Any]) -> None:
    """D3: the bound that spares the making of JSON is never below the size of the JSON."""
    assert size_of(data) <= bound_of(data)


@pytest.mark.parametrize("value", LONGEST, ids=ascii)
def test_bound_the_size_of_each_kind(value: Any) -> None:
    """D3: by itself for each kind, in either container and as a key: what one leaves room for, another would need."""
    for many in ([value] * 50, [[value]] * 50, {str(number): value for number in range(50)}):
        assert size_of({"a": many}) <= bound_of({"a": many})
    if type(value) is str:
        assert size_of({value: [{value: [1_000]}] * 50}) <= bound_of({value: [{value: [1_000]}] * 50})


texts = st.recursive(
    st.text(st.characters(min_codepoint=0x23, max_codepoint=0x5B) | st.sampled_from(" é😀"), max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("bä", max_size=3), inner, max_size=4),
)


@given(data=st.dictionaries(st.text("bä", max_size=3), texts, max_size=5))
def test_bound_the_size_of_text_closely(data: dict[str, Any]) -> None:
    """D3: of text that needs no escape the bound is the size, but for some bytes a container and a long string."""

    def halves_too_many(value: Any) -> int:
        if type(value) is str:
            return 5 if len(value.encode()) >= 32 else 0
        inner = list(value.values()) if type(value) is dict else value
        return 6 + 2 * (inner != []) + len(inner) * (type(value) is list) + sum(map(halves_too_many, inner))

    assert bound_of(data) == size_of(data) + halves_too_many(data) // 2 + 1


@pytest.mark.parametrize(
    "bad",
    [float("nan"), float("inf"), b"", (), {1: 2}, {b"": 2}, [set()], object(), True + 1j],
    ids=ascii,
)
def test_survey_no_bad_data(bad: object) -> None:
    """D1, D3: bad data are not surveyed, wherever it stands: they are looked at more closely."""
    for data in ({"a": bad}, {"a": [1, "x", bad]}, {"a": ["x"], "b": bad}, {"a": {"b": "x"}, "c": [[bad]]}):
        assert _survey(data, 10**9) is None


def test_survey_levels() -> None:
    """D1: data nested too deep are not surveyed; to the last level that may be they are."""
    for by_list in (True, False):
        for leaf in (1, [], {}):
            assert _survey({"a": nested(126, leaf, by_list)}, 10**9) is not None
        assert _survey({"a": nested(127, 1, by_list)}, 10**9) is not None
        assert _survey({"a": nested(127, [], by_list)}, 10**9) is None


def test_survey_what_is_shared_without_joining_it() -> None:
    """D3: data that mention a long text often, or themselves, are given up before they take memory or time."""
    long = "x" * 100_000
    endless: list[Any] = []
    endless += [endless, endless]
    wide: Any = "x"
    for _ in range(100):
        wide = [wide] * 3
    many = ["x"] * 1_000_000
    tracemalloc.start()
    try:
        for data in (
            {"a": [long] * 1_000},
            {"a": endless},
            {"a": wide},
            {"a": many},
            {"a": [{long: 1, "b": 2}] * 1_000},
        ):
            assert _survey(data, 163_840) is None
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_bound_up_to_ten_times_the_limit() -> None:
    """D3: with a bound between the limit and ten times the limit it is the JSON that decides, to the byte."""
    for value in (1.5, 10_000, "\n", [1.5], {"k": "\n"}):
        data = {"rows": [value] * 300}
        size = size_of(data)
        assert size < bound_of(data, 10 * size) <= 10 * size
        assert unpackb(encode_data(data, size)) == data
        with pytest.raises(DataTooLarge) as caught:
            encode_data(data, size - 1)
        assert caught.value.size == size


@pytest.mark.parametrize("value", ["a text", "tête", ["a text", 99], {"text": ["a text", None]}], ids=ascii)
def test_measure_what_is_near_the_limit_alone(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    """D3: of data that is mostly text neither is the JSON made, nor is it looked at closely, whatever its size."""
    monkeypatch.setattr("mapitem.limits._json_size", None)
    monkeypatch.setattr("mapitem.limits._explain", None)
    assert unpackb(encode_data({"a": value}, 16_384)) == {"a": value}
    for count in (10, 100, 1_000, 3_000):
        data = {"rows": [value] * count}
        assert unpackb(encode_data(data, 2 * size_of(data))) == data


def test_look_closely_up_to_ten_times_the_limit() -> None:
    """D1, D3: bad data are named up to ten times the limit; what comes later is too large before it is bad."""
    for length in range(20):
        with pytest.raises((InvalidData, DataTooLarge)) as caught:
            encode_data({"a": "x" * length, "b": float("nan")}, 1)
        error: Any = caught.value
        if length <= 6:  # 2 and the text for the first, 2 for the second
            assert (type(error), error.path) == (InvalidData, "$.b")
        else:
            assert (type(error), error.size) == (DataTooLarge, length + 2 if length > 8 else length + 4)


@pytest.mark.parametrize("good", [-(2**63), 2**64 - 1, -1.5, "é", None, True, [], {"k": "x"}])
def test_find_the_bad_among_the_good(good: object) -> None:
    """D1: a closer look passes over what is good, to the last value that fits, and names what is not."""
    with pytest.raises(InvalidData) as caught:
        encode_data({"a": good, "b": [good, good], "c": {"d": good, "e": b""}}, 16_384)
    assert caught.value.path == "$.c.e"

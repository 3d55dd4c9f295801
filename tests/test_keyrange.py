"""Ranges by themselves, without a map: what a listing's arguments select, and what a page token may say."""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64encode
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapitem import InvalidBounds, InvalidKey, InvalidOrder, InvalidPageSize, InvalidPageToken, Page
from mapitem.keyrange import KeyRange, PagePlace, check_limit, check_page_size, following, key_range, read_token

SID = "MP" + "0" * 32
# Few letters, so that keys collide; with them the neighbours of the surrogates and the last character of all.
letters = st.text(st.sampled_from("\0ab\ud7ff\ue000\U0010ffff"), max_size=4)
ranges = st.builds(KeyRange, letters, st.none() | letters, st.booleans())


def is_in(part: KeyRange, key: str) -> bool:
    return part.low <= key and (part.high is None or key < part.high)


def fields(part: KeyRange) -> tuple[str, str | None, bool]:
    return part.low, part.high, part.descending


@given(
    key=letters,
    from_=st.none() | letters,
    bounds=st.sampled_from(["inclusive", "exclusive"]),
    order=st.sampled_from(["asc", "desc"]),
    prefix=st.none() | letters,
)
def test_select_what_the_arguments_say(
    key: str, from_: str | None, bounds: str, order: str, prefix: str | None
) -> None:
    """L2: a key is in the range if it starts with the prefix and lies at ``from_`` or behind it in the order."""
    wanted = prefix is None or key.startswith(prefix)
    if from_ is not None:
        wanted = wanted and (key >= from_ if order == "asc" else key <= from_)
        wanted = wanted and (bounds == "inclusive" or key != from_)
    part = key_range(from_, bounds, order, prefix)
    assert is_in(part, key) is wanted
    assert part.descending is (order == "desc")


@given(key=letters, other=letters)
def test_follow_a_key(key: str, other: str) -> None:
    """K4: between a key and the string that follows it there is none."""
    assert (other > key) is (other >= following(key))


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("", None),
        ("a", "b"),
        ("ab\U0010ffff", "ac"),
        ("\U0010ffff\U0010ffff", None),
        ("a\ud7fe", "a\ud7ff"),
        ("a\ud7ff", "a\ue000"),
        ("a\ue000", "a\ue001"),
    ],
    ids=ascii,
)
def test_end_where_the_prefix_ends(prefix: str, end: str | None) -> None:
    """L2: a prefix is the range up to the next string that starts otherwise, and no surrogate is its end."""
    assert fields(key_range(None, "inclusive", "asc", prefix)) == (prefix, end, False)


@given(part=ranges, key=letters, other=letters)
def test_cut_a_walk_in_two(part: KeyRange, key: str, other: str) -> None:
    """L4: of a walk that is cut at a key, each other key lies behind the cut or in front of it, as in the order."""
    is_behind = other < key if part.descending else other > key
    for place, has_key in ((part.cut_before(key), True), (part.cut_after(key), False)):
        behind, before = part.after(place), part.before(place)
        assert (behind.descending, before.descending) == (part.descending, not part.descending)
        in_behind = is_behind or (has_key and other == key)
        end = part.high
        if in_behind:
            assert is_in(behind, other) is ((part.low <= other) if part.descending else (end is None or other < end))
            assert not is_in(before, other)
        else:
            assert not is_in(behind, other)
            assert is_in(before, other) is ((end is None or other < end) if part.descending else (part.low <= other))


@given(listing=ranges, cut=letters, backwards=st.booleans())
def test_read_a_token_as_it_was_written(listing: KeyRange, cut: str, backwards: bool) -> None:
    """L4: a token carries the listing, the cut and the direction, in the letters that need no quoting in a URL."""
    token = PagePlace(listing, cut, backwards).token(SID)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    place = read_token(token, SID)
    assert (fields(place.listing), place.cut, place.backwards) == (fields(listing), cut, backwards)
    with pytest.raises(InvalidPageToken):
        read_token(token, SID[:-1] + "1")


def made_up(content: object) -> str:
    body = msgpack.packb(content, unicode_errors="surrogatepass")
    return urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).rstrip(b"=").decode()


GOOD = [SID, "a", "b", False, "a", False]


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (0, [None, 1, SID.encode(), SID + "0"]),
        (1, [None, 1, b"a", ["a"], False]),
        (2, [1, b"b", ["b"], False]),
        (3, [None, 0, 1, "asc"]),
        (4, [None, 1, b"a", ["a"], False]),
        (5, [None, 0, 1, ""]),
    ],
)
def test_make_up_a_token_with_a_wrong_field(place: int, values: list[Any]) -> None:
    """L4: each field is looked at: under a right checksum, one of another type is ``InvalidPageToken``."""
    assert read_token(made_up(GOOD), SID).cut == "a"
    assert read_token(made_up([*GOOD[:2], None, *GOOD[3:]]), SID).listing.high is None
    for value in values:
        with pytest.raises(InvalidPageToken):
            read_token(made_up([*GOOD[:place], value, *GOOD[place + 1 :]]), SID)


@pytest.mark.parametrize("content", [GOOD[:5], [*GOOD, False], [], {}, None, "six of"])
def test_make_up_a_token_of_other_fields(content: object) -> None:
    """L4: a token has six fields, no more and no fewer."""
    with pytest.raises(InvalidPageToken):
        read_token(made_up(content), SID)


def test_spell_a_token_otherwise() -> None:
    """L4: base64 can spell the same bytes in several ways, of which one is a token."""
    token = made_up([SID, "a", "bb", False, "a", False])
    assert len(token) % 4  # so that the last letter has bits to spare
    for other in (token + "=", token + "==", token[:-1] + chr(ord(token[-1]) + 1), token + "\n", " " + token):
        with pytest.raises(InvalidPageToken):
            read_token(other, SID)


def test_check_limits_and_sizes_at_their_edges() -> None:
    """L2, L4: ``limit`` is an int of at least 0, ``page_size`` one of 1 to 1000."""
    assert [check_limit(limit) for limit in (None, 0, 1)] == [None, 0, 1]
    assert [check_page_size(size) for size in (1, 2, 999, 1000)] == [1, 2, 999, 1000]
    for limit in (-1, True, False, 1.0, "1"):
        with pytest.raises(ValueError, match="limit must be"):
            check_limit(limit)
    for size in (0, -1, 1001, True, 1.0, "1", None):
        with pytest.raises(InvalidPageSize, match="1000"):
            check_page_size(size)


@pytest.mark.parametrize("name", ["from_", "prefix"])
@pytest.mark.parametrize("value", ["\ud800", b"a", 1, ["a"]])
def test_name_the_bad_argument(name: str, value: object) -> None:
    """L2: ``from_`` and ``prefix`` are any text without lone surrogates, and the error says which of them was not."""
    arguments = {"from_": None, "bounds": "inclusive", "order": "asc", "prefix": None, name: value}
    with pytest.raises(InvalidKey, match=name):
        key_range(**arguments)


@pytest.mark.parametrize("name", ["order", "bounds"])
@pytest.mark.parametrize("value", ["", "up", "ASC", None, 0, ["asc"], type("Text", (str,), {})("asc"), b"asc"])
def test_refuse_another_order_and_other_bounds(name: str, value: object) -> None:
    """L2: of order and bounds there are two each, as exact text."""
    arguments: dict[str, Any] = {"from_": None, "bounds": "inclusive", "order": "asc", "prefix": None}
    if name == "bounds" and type(value) is not str and isinstance(value, str):
        value = type(value)("inclusive")
    with pytest.raises({"order": InvalidOrder, "bounds": InvalidBounds}[name], match=f"{name} must be"):
        key_range(**{**arguments, name: value})


@pytest.mark.parametrize("token", [None, 1, b"", b"AAAA", "é", "A" * 5, "", "A", "AAAAAA", "%%%%", "\ud800"], ids=repr)
def test_read_what_is_no_token(token: object) -> None:
    """L4: whatever is not a token is ``InvalidPageToken``."""
    with pytest.raises(InvalidPageToken):
        read_token(token, SID)


def test_read_a_token_of_any_length() -> None:
    """L4: base64 comes in fours, tokens without their padding do not."""
    lengths = set()
    for count in range(8):
        token = PagePlace(KeyRange("a" * count, None, False), "b", True).token(SID)
        lengths.add(len(token) % 4)
        assert read_token(token, SID).listing.low == "a" * count
        with pytest.raises(InvalidPageToken):  # altered, under the checksum of what it was
            read_token("A" + token[1:], SID)
    assert lengths == {0, 2, 3}


def test_compare_pages() -> None:
    """L4: pages are equal by value, all of it, hash alike then, and show their tokens."""
    one = Page((), "n", "p")
    assert (one.items, one.next_page_token, one.previous_page_token) == ((), "n", "p")
    assert one.__eq__(()) is NotImplemented
    assert one == Page((), "n", "p")
    assert hash(one) == hash(Page((), "n", "p"))
    assert one != Page((), "n", None)
    assert one != Page((), None, "p")
    assert one != ((), "n", "p")
    assert hash(one) != hash(Page((), "n", None))
    assert repr(one) == "Page(0 items, next_page_token='n', previous_page_token='p')"

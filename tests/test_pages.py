"""Pages and their tokens (semantics L4): sizes and ends, the way back, and tokens that are old, foreign or altered."""

from __future__ import annotations

import base64
import string
import zlib
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any
from urllib.parse import quote

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapitem import (
    InvalidBounds,
    InvalidKey,
    InvalidOrder,
    InvalidPageSize,
    InvalidPageToken,
    Map,
    MapNotFound,
    Page,
    Store,
    StoreClosed,
)
from mapitem.testing import ManualClock

LAST = "\U0010ffff"

texts = st.text(st.sampled_from(["\0", "a", "b", "é", "\ud7ff", "\uffff", "\U00010000", LAST]), max_size=3)
keys = texts.filter(bool)
listings = st.fixed_dictionaries(
    {},
    optional={
        "from_": texts,
        "bounds": st.sampled_from(["inclusive", "exclusive"]),
        "order": st.sampled_from(["asc", "desc"]),
        "prefix": texts,
    },
)


def fill(map_: Map, names: Any) -> Map:
    for key in names:
        map_.set(key, {"key": key})
    return map_


def filled(names: Any) -> Map:
    return fill(Store().map("m"), names)


def keys_of(page: Page) -> list[str]:
    return [item.key for item in page.items]


def forwards(map_: Map, page: Page, *sizes: int) -> list[Page]:
    """The page and all behind it, of these sizes in turn."""
    pages = [page]
    while pages[-1].next_page_token is not None:
        assert len(pages) < 1000, "an endless listing"
        size = sizes[len(pages) % len(sizes)]
        pages.append(map_.page(page_size=size, page_token=pages[-1].next_page_token))
    return pages


def backwards(map_: Map, page: Page, *sizes: int) -> list[Page]:
    """All pages in front of the page, the nearest first, of these sizes in turn."""
    pages: list[Page] = []
    while page.previous_page_token is not None:
        assert len(pages) < 1000, "an endless way back"
        page = map_.page(page_size=sizes[len(pages) % len(sizes)], page_token=page.previous_page_token)
        pages.append(page)
    return pages


def joined(pages: list[Page]) -> list[str]:
    return [key for page in pages for key in keys_of(page)]


# ---------------------------------------------------------------- a page, and its size


def test_look_at_a_page(map_: Map) -> None:
    """L4: a page has the first items of the listing, in its order, and the tokens of its neighbours."""
    fill(map_, "cabed")
    page = map_.page(page_size=2)
    assert list(page.items) == [map_["a"], map_["b"]]
    assert type(page.next_page_token) is str
    assert page.previous_page_token is None
    page = map_.page(page_size=2, page_token=page.next_page_token)
    assert keys_of(page) == ["c", "d"]
    assert type(page.next_page_token) is type(page.previous_page_token) is str
    assert keys_of(map_.page(page_size=2, order="desc")) == ["e", "d"]


def test_look_at_a_page_of_an_empty_listing(map_: Map) -> None:
    """L4: a listing without items is one empty page, which has no neighbours."""
    assert map_.page() == Page((), None, None)
    fill(map_, "ab")
    assert map_.page(prefix="c") == map_.page(from_="c") == map_.page(from_="Z", order="desc") == Page((), None, None)


def test_change_a_page(map_: Map) -> None:
    """L4: a page is a value: its fields cannot be set, and its items not exchanged."""
    fill(map_, "ab")
    page = map_.page(page_size=1)
    for name in ("items", "next_page_token", "previous_page_token"):
        with pytest.raises(AttributeError):
            setattr(page, name, None)
    assert not hasattr(page.items, "append")
    assert page == map_.page(page_size=1)
    assert page != map_.page(page_size=2)


@pytest.mark.parametrize("size", [1, 2, 49, 50, 51, 999, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 49, 50, 51, 999, 1000, 1001])
def test_look_at_pages_of_every_size(size: int, count: int) -> None:
    """L4: sizes are 1 to 1000; a page is full, but for the last; one that ends exactly at the end has no next token."""
    map_ = filled(f"{number:04}" for number in range(count))
    page = map_.page(page_size=size)
    assert len(page.items) == min(size, count)
    assert (page.next_page_token is None) is (count <= size)
    if count <= 100:
        pages = forwards(map_, page, size)
        assert [len(page.items) for page in pages[:-1]] == [size] * (len(pages) - 1)
        assert len(pages) == max(1, -(-count // size))
        assert joined(pages) == list(map_)


@pytest.mark.parametrize("arguments", [{}, {"order": "desc"}, {"prefix": "k"}, {"from_": "k000"}])
def test_look_at_a_page_by_default(map_: Map, arguments: dict[str, Any]) -> None:
    """L4: a page has 50 items unless said otherwise."""
    fill(map_, [f"k{number:03}" for number in range(60)])
    page = map_.page(**arguments)
    assert len(page.items) == 50
    assert len(map_.page(page_token=page.next_page_token).items) == 10


@pytest.mark.parametrize("size", [0, -1, 1001, 10**30, -(10**30), 1.0, 50.0, "50", "", b"1", None, [1], float("nan")])
def test_look_at_a_page_of_no_size(map_: Map, size: Any) -> None:
    """L4: what is no int from 1 to 1000 is ``InvalidPageSize``, with a token as without."""
    fill(map_, "abc")
    with pytest.raises(InvalidPageSize):
        map_.page(page_size=size)
    with pytest.raises(InvalidPageSize):
        map_.page(page_size=size, page_token=map_.page(page_size=1).next_page_token)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"from_": "\ud800"}, InvalidKey),
        ({"from_": 1}, InvalidKey),
        ({"prefix": "\udfff"}, InvalidKey),
        ({"prefix": b"a"}, InvalidKey),
        ({"order": "up"}, InvalidOrder),
        ({"order": None}, InvalidOrder),
        ({"bounds": "open"}, InvalidBounds),
        ({"bounds": None}, InvalidBounds),
    ],
)
def test_look_at_a_page_of_bad_arguments(map_: Map, arguments: dict[str, Any], error: type[Exception]) -> None:
    """L4: the other arguments are those of a range, with its errors (L2)."""
    with pytest.raises(error):
        map_.page(**arguments)


def test_look_at_a_page_by_position(map_: Map) -> None:
    """L4: all arguments are given by name."""
    with pytest.raises(TypeError):
        map_.page(10)  # type: ignore[call-arg]


@pytest.mark.parametrize("end", ["removed", "expired", "closed"])
def test_look_at_a_page_after_the_end(store: Store, map_: Map, clock: ManualClock, end: str) -> None:
    """L4: a map that is gone has no pages, by token either."""
    fill(map_, "abc")
    map_.set_ttl(10)
    token = map_.page(page_size=1).next_page_token
    if end == "removed":
        map_.remove_map()
    elif end == "closed":
        store.close()
    clock.advance(10)
    for given_ in (None, token):
        with pytest.raises(StoreClosed if end == "closed" else MapNotFound):
            map_.page(page_token=given_)


# ---------------------------------------------------------------- all pages of a listing


@given(
    names=st.sets(keys, max_size=15),
    listing=listings,
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    back=st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_turn_all_pages(names: set[str], listing: dict[str, Any], sizes: list[int], back: list[int]) -> None:
    """L4: whatever the sizes, all pages together are the range, each item once; and so they are on the way back."""
    map_ = filled(names)
    wanted = [item.key for item in map_.range(**listing)]
    pages = forwards(map_, map_.page(page_size=sizes[0], **listing), *sizes)
    assert joined(pages) == wanted
    assert pages[0].previous_page_token is None
    assert all(page.previous_page_token is not None for page in pages[1:])
    assert all(page.items for page in pages[1:])
    before = backwards(map_, pages[-1], *back)
    assert joined(before[::-1]) == joined(pages[:-1])
    if before:
        assert before[-1].previous_page_token is None
        assert before[-1].next_page_token is not None


@given(names=st.sets(keys, max_size=15), listing=listings, size=st.integers(1, 5))
def test_turn_back_page_by_page(names: set[str], listing: dict[str, Any], size: int) -> None:
    """L4: with the same size and no writes the page before is the very page one came from, and so is the next of it."""
    map_ = filled(names)
    pages = forwards(map_, map_.page(page_size=size, **listing), size)
    for one, other in pairwise(pages):
        again = map_.page(page_size=size, page_token=other.previous_page_token)
        assert again.items == one.items
        assert map_.page(page_size=size, page_token=again.next_page_token).items == other.items
    if len(pages) > 1:
        assert map_.page(page_size=size, page_token=pages[1].previous_page_token).previous_page_token is None


@pytest.mark.parametrize(
    "listing",
    [
        {"from_": "d"},
        {"from_": "c", "bounds": "exclusive"},
        {"from_": "d", "prefix": "d"},
        {"prefix": "d"},
        {"from_": "w", "order": "desc"},
        {"from_": "x", "bounds": "exclusive", "order": "desc"},
        {"from_": "d9", "order": "desc", "prefix": "d"},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_end_where_the_listing_began(map_: Map, listing: dict[str, Any], size: int) -> None:
    """L4: going back ends where the listing began, also when there are items in front of that place, or come to be."""
    fill(map_, ["a", "c", "d", "d1", "d2", "d3", "e", "w", "x"])
    wanted = [item.key for item in map_.range(**listing)]
    pages = forwards(map_, map_.page(page_size=2, **listing), 2)
    fill(map_, ["b", "b1", "x1", "y"])
    before = backwards(map_, pages[-1], size)
    assert joined(before[::-1]) + keys_of(pages[-1]) == wanted
    assert before[-1].previous_page_token is None
    assert joined(forwards(map_, before[-1], size)) == [item.key for item in map_.range(**listing)]


def test_come_to_an_end_that_moves(map_: Map) -> None:
    """L4: whether there is a next page is told as of the page's own look, whatever comes or goes at the end then."""
    fill(map_, "abcd")
    page = map_.page(page_size=2)
    assert map_.page(page_size=2, page_token=page.next_page_token).next_page_token is None
    fill(map_, "e")
    second = map_.page(page_size=2, page_token=page.next_page_token)
    assert keys_of(map_.page(page_size=2, page_token=second.next_page_token)) == ["e"]
    for key in "cde":
        map_.remove(key)
    rest = map_.page(page_size=2, page_token=page.next_page_token)
    assert (rest.items, rest.next_page_token) == ((), None)
    assert joined(backwards(map_, rest, 2)) == ["a", "b"]


# ---------------------------------------------------------------- writes between pages


writes = st.lists(st.tuples(st.sampled_from(["set", "set", "remove", "clear"]), keys), max_size=4)


@given(
    names=st.sets(keys, max_size=12),
    order=st.sampled_from(["asc", "desc"]),
    turns=st.lists(st.tuples(st.integers(1, 4), writes), min_size=1, max_size=8),
    back=st.booleans(),
)
@example(names={"a", "b"}, order="asc", turns=[(1, [("set", "a\0"), ("remove", "a")])], back=False)
@example(names={"a", "b"}, order="desc", turns=[(1, [("remove", "b"), ("set", "aé")])], back=False)
@example(names={"a", "b", "é"}, order="asc", turns=[(1, [("remove", "é"), ("set", "b\0")])], back=True)
def test_write_between_pages(
    names: set[str], order: Any, turns: list[tuple[int, list[tuple[str, str]]]], back: bool
) -> None:
    """L4: across pages, forwards and backwards, what stays comes once and in order, whatever is written (L3)."""
    map_ = filled(names)
    page = map_.page(page_size=turns[0][0], order=order)
    if back:
        page = forwards(map_, page, 3)[-1]
    stayed, ever = set(map_), set(map_)
    found = keys_of(page)[:: -1 if back else 1]
    if back:
        stayed -= {item.key for item in map_.range(from_=found[0], order=order, bounds="exclusive")} if found else set()
    number = 0
    while (token := page.previous_page_token if back else page.next_page_token) is not None:
        assert number < 200, "an endless listing"
        size, between = turns[number % len(turns)]
        for verb, key in between if number < len(turns) else []:
            if verb == "set":
                map_.set(key, {})
                ever.add(key)
            elif verb == "clear":
                for each in list(map_):
                    map_.remove(each)
            elif key in map_:
                map_.remove(key)
            stayed &= set(map_)
        page = map_.page(page_size=size, page_token=token)
        found += keys_of(page)[:: -1 if back else 1]
        number += 1
    assert found == sorted(set(found), key=str.encode, reverse=(order == "desc") is not back)
    assert stayed <= set(found) <= ever


def test_remove_the_anchor_of_a_token(map_: Map) -> None:
    """L4: tokens are anchored at keys, not at counts: neither the key's removal nor others before it move the place."""
    fill(map_, "bcdefg")
    first = map_.page(page_size=2)
    second = map_.page(page_size=2, page_token=first.next_page_token)
    for key in "cde":
        map_.remove(key)
    fill(map_, ["a", "a1", "a2", "b1", "c1"])
    assert keys_of(map_.page(page_size=2, page_token=first.next_page_token)) == ["c1", "f"]
    assert keys_of(map_.page(page_size=2, page_token=second.next_page_token)) == ["f", "g"]
    assert keys_of(map_.page(page_size=2, page_token=second.previous_page_token)) == ["b1", "c1"]


def test_expire_between_pages(map_: Map, clock: ManualClock) -> None:
    """L4: what expires between pages is absent from then on, the anchor too (T3), and the listing goes on behind it."""
    for number, key in enumerate("abcdef"):
        map_.set(key, {}, ttl=10 if number in (1, 2, 5) else None)
    page = map_.page(page_size=2)
    clock.advance(10)
    page = map_.page(page_size=2, page_token=page.next_page_token)
    assert (keys_of(page), page.next_page_token) == (["d", "e"], None)
    assert joined(backwards(map_, page, 2)) == ["a"]


def test_look_once_at_the_clock(make_store: Callable[..., Store]) -> None:
    """L4: a page is one consistent look: none of its items is there though another, which expires later, is not."""
    clock, step = ManualClock(now=1_000.0), 0.001

    def hasty() -> float:
        clock.advance(step)
        return clock()

    map_ = make_store(clock=hasty).map("m")
    names = [f"{number:02}" for number in range(40)]
    for key in names:
        map_.set(key, {}, ttl=10)
    # At each reading some three items more are due, so that two readings for one page would show.
    clock.advance(10 - 41 * step)
    step = 0.003
    sizes = set()
    while left := keys_of(map_.page(page_size=1000)):
        assert left == names[40 - len(left) :]
        sizes.add(len(left))
    assert len(sizes) > 10


# ---------------------------------------------------------------- tokens

URL_SAFE = set(string.ascii_letters + string.digits + "-._~")


@given(
    names=st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=320), min_size=2, max_size=4)
)
def test_put_tokens_into_urls(names: set[str]) -> None:
    """L4: tokens are URL-safe as they are, whatever the keys."""
    map_ = filled(names)
    for page in forwards(map_, map_.page(page_size=1), 1):
        for token in (page.next_page_token, page.previous_page_token):
            if token is not None:
                assert token
                assert set(token) <= URL_SAFE
                assert quote(token, safe="") == token


def test_keep_keys_of_the_longest_in_tokens(map_: Map) -> None:
    """L4: keys of 320 characters of four bytes, and a ``from_`` and prefix beyond that, fit into a token."""
    names = [LAST * 319 + last for last in ("a", "b", "c")]
    fill(map_, names)
    pages = forwards(map_, map_.page(page_size=1, from_="a" * 1000, prefix=LAST * 319), 1)
    assert joined(pages) == names
    assert joined(backwards(map_, pages[-1], 1)) == names[1::-1]


@pytest.mark.parametrize(
    "between", ["nothing", "restart", "compaction", "compaction and restart", "restart and writes"]
)
def test_keep_tokens_for_long(
    store: Store, map_: Map, make_store: Callable[..., Store], backing: str, between: str
) -> None:
    """L4: tokens outlive restart and compaction, and what is there by then comes as if nothing had been."""
    fill(map_, "abcdefgh")
    listing: dict[str, Any] = {"from_": "g", "order": "desc", "bounds": "exclusive"}
    page = map_.page(page_size=2, **listing)
    page = map_.page(page_size=2, page_token=page.next_page_token)
    assert keys_of(page) == ["d", "c"]
    if "compaction" in between:
        store.compact()
    if "restart" in between and backing == "file":
        store.close()
        store = make_store()
    map_ = store.map("m")
    if "writes" in between:
        map_.remove("d")
        fill(map_, ["bb", "dd"])
    assert keys_of(map_.page(page_token=page.next_page_token)) == (
        ["bb", "b", "a"] if "writes" in between else ["b", "a"]
    )
    assert keys_of(map_.page(page_token=page.previous_page_token)) == (
        ["f", "e", "dd"] if "writes" in between else ["f", "e"]
    )


def test_use_a_token_of_another_handle(store: Store, map_: Map) -> None:
    """L4: a token belongs to the map, not to a handle of it, and may be used again and again."""
    fill(map_, "abc")
    token = map_.page(page_size=1).next_page_token
    for handle in (map_, store.map("m"), store.open_map(map_.sid), map_):
        assert keys_of(handle.page(page_size=1, page_token=token)) == ["b"]


ALPHABET = string.ascii_letters + string.digits + "-_.~=+/ %é\0"


def some_tokens(map_: Map) -> list[str]:
    """Tokens of every kind: forwards and backwards, with and without a prefix, in both orders."""
    tokens: list[str] = []
    for listing in ({}, {"order": "desc"}, {"prefix": "k"}, {"from_": "k0", "bounds": "exclusive"}):
        page = map_.page(page_size=1, **listing)  # type: ignore[arg-type]
        page = map_.page(page_size=1, page_token=page.next_page_token)
        tokens += [token for token in (page.next_page_token, page.previous_page_token) if token is not None]
    assert len(tokens) == len(set(tokens)) == 8
    return tokens


def test_alter_a_token_at_each_place(map_: Map) -> None:
    """L4: a token altered in any one character, to any other, is ``InvalidPageToken``."""
    fill(map_, ["k1", "k2", "k3", "k\U0001f600"])
    for number, token in enumerate(some_tokens(map_)):
        for place, letter in product(range(len(token)), "A-" if number else ALPHABET):
            altered = token[:place] + letter + token[place + 1 :]
            if altered != token:
                with pytest.raises(InvalidPageToken):
                    map_.page(page_token=altered)


def test_cut_and_lengthen_a_token(map_: Map) -> None:
    """L4: so is one with something left out, doubled, swapped or added anywhere, padding and white space included."""
    fill(map_, ["k1", "k2", "k3", "k4"])
    for token in some_tokens(map_):
        altered = {token[:end] for end in range(len(token))} | {token[start:] for start in range(1, len(token) + 1)}
        altered |= {token[:place] + token[place + 1 :] for place in range(len(token))}
        altered |= {token[:place] + token[place] + token[place:] for place in range(len(token))}
        altered |= {
            token[:place] + token[place + 1] + token[place] + token[place + 2 :] for place in range(len(token) - 1)
        }
        altered |= {token + more for more in ("=", "==", " ", "\n", "A", "AAAA", token)} | {" " + token, "\n" + token}
        altered |= {token.lower(), token.upper(), token.swapcase(), token[::-1]}
        for each in altered - {token}:
            with pytest.raises(InvalidPageToken):
                map_.page(page_token=each)


@given(token=st.text(max_size=60) | st.text(st.sampled_from(string.ascii_letters + string.digits + "-_"), max_size=120))
def test_make_up_a_token(token: str) -> None:
    """L4: what is no token is ``InvalidPageToken`` and nothing else."""
    map_ = filled("abc")
    with pytest.raises(InvalidPageToken):
        map_.page(page_token=token)


@pytest.mark.parametrize(
    "token", ["", "0", 0, 1, True, 1.0, b"abc", ["a"], ("a",), {}, object(), "\ud800", "é", "a" * 100_000]
)
def test_pass_what_is_no_token(map_: Map, token: Any) -> None:
    """L4: the same for what is no text at all, or empty, or huge."""
    fill(map_, "abc")
    with pytest.raises(InvalidPageToken):
        map_.page(page_token=token)


def test_pass_a_token_as_bytes(map_: Map) -> None:
    """L4: a token is text: its bytes are none."""
    fill(map_, "abc")
    token = map_.page(page_size=1).next_page_token
    assert token is not None
    with pytest.raises(InvalidPageToken):
        map_.page(page_token=token.encode())  # type: ignore[arg-type]


def test_pass_a_foreign_token(store: Store, map_: Map, clock: ManualClock) -> None:
    """L4: a token of another map is ``InvalidPageToken``: in the same store, in another, and of a namesake before."""
    others = [store.map("n"), Store(clock=clock).map("m"), store.create_map()]
    for each in [map_, *others]:
        fill(each, "abc")
    tokens = [each.page(page_size=1).next_page_token for each in others]
    map_.remove_map()
    tokens.append(map_.sid)
    heir = fill(store.map("m"), "abc")
    for token in tokens:
        with pytest.raises(InvalidPageToken):
            heir.page(page_token=token)


def test_pass_the_token_of_the_map_before(store: Store, map_: Map) -> None:
    """L4: a map that bears the name of one that is gone takes none of its tokens."""
    fill(map_, "abc")
    token = map_.page(page_size=1).next_page_token
    map_.remove_map()
    with pytest.raises(InvalidPageToken):
        fill(store.map("m"), "abc").page(page_token=token)


@pytest.mark.parametrize(
    "argument",
    [{"from_": "a"}, {"from_": ""}, {"bounds": "exclusive"}, {"order": "desc"}, {"prefix": "a"}, {"prefix": ""}],
    ids=str,
)
@pytest.mark.parametrize("listing", [{}, {"prefix": "a"}, {"from_": "b", "order": "desc"}], ids=str)
def test_pass_more_than_a_token(map_: Map, listing: dict[str, Any], argument: dict[str, Any]) -> None:
    """L4: with a token only ``page_size`` may be given: all else is ``InvalidPageToken``, what it says itself too."""
    fill(map_, ["a", "a1", "a2", "a3"])
    token = map_.page(page_size=1, **listing).next_page_token
    with pytest.raises(InvalidPageToken):
        map_.page(page_token=token, **argument)
    with pytest.raises(InvalidPageToken):
        map_.page(page_token=token, page_size=2, **argument)
    assert len(map_.page(page_token=token, page_size=2).items) == 2


def test_carry_the_whole_listing(map_: Map) -> None:
    """L4: a token carries order and prefix, and where the listing began; a page may have a size of its own."""
    fill(map_, ["a", "k1", "k2", "k3", "k4", "k5", "z"])
    page = map_.page(page_size=1, prefix="k", order="desc", from_="k5", bounds="exclusive")
    assert keys_of(page) == ["k4"]
    page = map_.page(page_size=2, page_token=page.next_page_token)
    assert keys_of(page) == ["k3", "k2"]
    last = map_.page(page_token=page.next_page_token)
    assert (keys_of(last), last.next_page_token) == (["k1"], None)
    first = map_.page(page_size=1000, page_token=last.previous_page_token)
    assert (keys_of(first), first.previous_page_token) == (["k4", "k3", "k2"], None)


def test_refuse_a_token_of_another_shape(map_: Map) -> None:
    """L4: right checksum, wrong content: InvalidPageToken too; it was a bare TypeError."""
    for content in (5, None, [], [1, 2, 3, 4, 5, 6]):
        body = msgpack.packb(content)
        token = base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).rstrip(b"=").decode()
        with pytest.raises(InvalidPageToken):
            map_.page(page_token=token)

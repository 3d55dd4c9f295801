"""Reading: a map as a ``Mapping``, ranges, and walks while others write (semantics L; for pages, L4, see elsewhere).

What a range has to give is said by a list of keys that is sorted by UTF-8 bytes, filtered and cut by brute force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapitem import (
    InvalidBounds,
    InvalidKey,
    InvalidOrder,
    ItemNotFound,
    Map,
    MapItem,
    MapNotFound,
    Store,
    StoreClosed,
)
from mapitem.testing import ManualClock

LAST = "\U0010ffff"
STILL = ManualClock(now=1_000.0)

# Where orders by UTF-16, by bytes, by NUL-terminated strings and by code points part, and where a successor overflows.
TRICKY = [
    "\0",
    "\x01",
    "a",
    "b",
    "\x7f",
    "\x80",
    "é",
    "\u0301",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0001f600",
    LAST,
]

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
few_text = st.text(st.sampled_from(TRICKY), max_size=4)
texts = few_text | any_text
keys = few_text.filter(bool) | any_text.filter(bool)


def filled(names: set[str] | list[str], clock: Callable[[], float] = STILL) -> Map:
    """A map in memory with these keys, each item telling its own."""
    map_ = Store(clock=clock).map("m")
    for key in names:
        map_.set(key, {"key": key})
    return map_


def expected(
    names: set[str] | list[str],
    from_: str | None = None,
    bounds: str = "inclusive",
    order: str = "asc",
    prefix: str | None = None,
    limit: int | None = None,
) -> list[str]:
    """The keys of a range, by the words of the rule."""
    found = sorted(names, key=str.encode, reverse=order == "desc")
    if from_ is not None and order == "asc":
        found = [key for key in found if key.encode() >= from_.encode()]
    if from_ is not None and order == "desc":
        found = [key for key in found if key.encode() <= from_.encode()]
    if bounds == "exclusive":
        found = [key for key in found if key != from_]
    if prefix is not None:
        found = [key for key in found if key.startswith(prefix)]
    return found if limit is None else found[:limit]


def keys_of(items: Iterator[MapItem]) -> list[str]:
    return [item.key for item in items]


# ---------------------------------------------------------------- L1: a Mapping


def test_read_a_map_as_a_mapping(map_: Map) -> None:
    """L1: a ``Map`` is a read-only ``Mapping`` from keys to items, in order of the keys."""
    assert isinstance(map_, Mapping)
    items = {key: map_.set(key, {"n": n}) for n, key in enumerate(["b", "a", "c"])}
    assert list(map_) == list(map_.keys()) == ["a", "b", "c"]
    assert list(map_.values()) == [items["a"], items["b"], items["c"]]
    assert list(map_.items()) == [("a", items["a"]), ("b", items["b"]), ("c", items["c"])]
    assert dict(map_) == dict(map_.items()) == items
    assert all(type(item) is MapItem for item in map_.values())
    assert len(map_) == len(map_.keys()) == len(map_.values()) == len(map_.items()) == 3


def test_ask_the_views_of_a_map(map_: Map) -> None:
    """L1: the views are those of a ``Mapping``: they follow the map, tell what is in them, and keys go with sets."""
    views: list[Any] = [map_.keys(), map_.values(), map_.items()]
    item = map_.set("a", {"n": 1})
    other = map_.set("b", {"n": 2})
    assert [len(view) for view in views] == [2, 2, 2]
    assert "a" in views[0]
    assert map_.keys() & {"b", "c"} == {"b"}
    assert map_.keys() == {"a", "b"}
    assert item in map_.values()
    assert ("a", item) in map_.items()
    assert ("a", other) not in map_.items()
    assert ("c", item) not in map_.items()
    map_.remove("a")
    assert item not in map_.values()
    assert [list(view) for view in views] == [["b"], [other], [("b", other)]]


def test_match_a_map_by_pattern(map_: Map) -> None:
    """L1: being a ``Mapping``, a map can be matched by its keys."""
    map_.set("a", {"n": 1})
    match map_:
        case {"absent": _}:
            pytest.fail("matched a key that is absent")
        case {"a": item}:
            assert item == map_["a"]
        case _:
            pytest.fail("did not match")


def test_read_by_key(map_: Map) -> None:
    """L1: ``[]`` and ``get`` give the item; ``in`` says whether there is one."""
    item = map_.set("k", {"n": 1})
    assert map_["k"] == map_.get("k") == map_.get("k", "default") == item
    assert "k" in map_


@pytest.mark.parametrize("end", ["never there", "removed", "expired"])
def test_read_what_is_absent(map_: Map, clock: ManualClock, end: str) -> None:
    """L1: an absent key is ``ItemNotFound``, also a ``KeyError``, by ``[]``, and the default by ``get``."""
    if end != "never there":
        map_.set("k", {}, ttl=10)
    if end == "removed":
        map_.remove("k")
    clock.advance(10)
    with pytest.raises(ItemNotFound) as caught:
        map_["k"]
    assert isinstance(caught.value, KeyError)
    assert caught.value.key == "k"
    assert map_.get("k") is None
    default = object()
    assert map_.get("k", default) is map_.get("k", default=default) is default
    assert "k" not in map_
    assert not map_
    assert len(map_) == 0
    assert (list(map_), list(map_.values()), list(map_.items())) == ([], [], [])


@pytest.mark.parametrize(
    "key",
    ["", "k" * 321, "\ud800", None, 0, 1.0, b"k", ("k",), ["k"], {"k"}, {}, object()],
    ids=lambda key: ascii(key)[:12],
)
def test_read_what_is_no_key(map_: Map, key: Any) -> None:
    """L1: of what cannot be a key, hashable or not, ``[]`` and ``get`` raise ``InvalidKey``, and ``in`` says no."""
    map_.set("k", {})
    with pytest.raises(InvalidKey):
        map_[key]
    with pytest.raises(InvalidKey):
        map_.get(key)
    with pytest.raises(InvalidKey):
        map_.get(key, "default")
    assert key not in map_
    keys, items = map_.keys(), map_.items()
    assert key not in keys
    assert (key, map_["k"]) not in items


def test_write_as_to_a_dict(map_: Map) -> None:
    """L1: writes have verbs: there is no assignment, no deletion, and none of what a mutable mapping has."""
    map_.set("k", {})
    assert not isinstance(map_, MutableMapping)
    with pytest.raises(TypeError):
        map_["k"] = {"n": 1}  # type: ignore[index]
    with pytest.raises(TypeError):
        del map_["k"]  # type: ignore[attr-defined]
    for name in ("pop", "popitem", "clear", "setdefault"):
        assert not hasattr(map_, name)
    assert map_["k"].data == {}


def test_ask_whether_a_map_is_empty(map_: Map, clock: ManualClock) -> None:
    """L1: ``bool`` is "not empty", and what has expired does not count."""
    assert not map_
    map_.set("k", {}, ttl=10)
    assert map_
    assert bool(map_) is True
    clock.advance(10)
    assert not map_
    assert bool(map_) is False
    map_.set("other", {})
    assert map_


def test_compare_handles_of_one_map(store: Store, map_: Map) -> None:
    """L1: handles of one map are equal and hash alike, however they were come by; what is in the map is no matter."""
    handles = [map_, store.map("m"), store.open_map("m"), store.open_map(map_.sid), next(store.maps())]
    map_.set("k", {})
    assert all(handle == map_ for handle in handles)
    assert len(set(handles)) == 1
    assert {map_: "found"}[handles[-1]] == "found"


def test_compare_handles_of_different_maps(store: Store, map_: Map, clock: ManualClock) -> None:
    """L1: handles of two maps differ, though the maps hold the same or bear the same name one after the other."""
    others = [store.map("n"), Store(clock=clock).map("m")]
    for each in [map_, *others]:
        each.set("k", {})
    assert all(other != map_ for other in others)
    assert map_ != dict(map_)
    assert map_ != map_.sid
    map_.remove_map()
    heir = store.map("m")
    assert heir != map_
    assert others[0] != map_
    assert len({map_, heir, *others}) == 4


def test_compare_handles_of_two_stores_on_one_file(tmp_path: Any) -> None:
    """L1: the store counts as much as the sid: two looks at one file are two."""
    with Store(tmp_path / "s") as store:
        store.map("m").set("k", {})
        with Store(tmp_path / "s", read_only=True) as look:
            assert look.map("m").sid == store.map("m").sid
            assert look.map("m") != store.map("m")


# ---------------------------------------------------------------- L2: ranges

BOUNDS = ["inclusive", "exclusive"]
ORDERS = ["asc", "desc"]


@given(
    names=st.sets(few_text.filter(bool), max_size=12) | st.sets(keys, max_size=12),
    from_=st.none() | texts,
    prefix=st.none() | texts,
    limit=st.none() | st.integers(0, 14),
    data=st.data(),
)
def test_read_any_range(names: set[str], from_: str | None, prefix: str | None, limit: int | None, data: Any) -> None:
    """L2: for any keys, a range gives what sorting by code point and filtering gives, in each order and bound."""
    map_ = filled(names)
    if names and data.draw(st.booleans()):
        from_ = data.draw(st.sampled_from(sorted(names)))
    if names and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(names)))
        prefix = key[: data.draw(st.integers(0, len(key)))]
    for bounds, order in product(BOUNDS, ORDERS):
        items = list(map_.range(from_, bounds=bounds, order=order, prefix=prefix, limit=limit))  # type: ignore[arg-type]
        assert [item.key for item in items] == expected(names, from_, bounds, order, prefix, limit)
        assert all(item.data == {"key": item.key} for item in items)


WORLD = [
    "\0", "\0\0", "a", "a\0", "a\0b", "a\x01", "a\u0301", "ab", "abc", "a\uffff", "a\U00010000", "a" + LAST,
    "a" + LAST + "x", "a" + LAST * 2, "b", "\ud7ff", "\ud7ffx", "\ue000", "\uffff", "\uffff" + LAST, "\U00010000",
    "\U0001f600", LAST, LAST * 2, LAST * 320, "a" * 320,
]  # fmt: skip
PLACES = [
    None,
    "",
    "a",
    "a\0",
    "aa",
    "a" + LAST,
    "\ud7ff",
    "\ue000",
    "\uffff",
    LAST,
    LAST * 321,
    "a" * 321,
    "a" * 400,
    "zz",
]
PREFIXES = [
    None,
    "",
    "\0",
    "a",
    "a\0",
    "ab",
    "abcd",
    "a" + LAST,
    "\ud7ff",
    "\uffff" + LAST,
    LAST,
    LAST * 2,
    "a" * 321,
    "q",
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_read_ranges_at_every_edge(map_: Map, bounds: Any, order: Any) -> None:
    """L2: places at keys, between them, before, in and behind the prefix; prefixes without a successor; limits."""
    for number, key in enumerate(WORLD):
        map_.set(key, {"n": number})
    for from_, prefix, limit in product(PLACES, PREFIXES, [None, 0, 1, 2, 100]):
        found = keys_of(map_.range(from_, bounds=bounds, order=order, prefix=prefix, limit=limit))
        assert found == expected(WORLD, from_, bounds, order, prefix, limit), (from_, prefix, limit)


def test_read_a_range_by_default(map_: Map) -> None:
    """L2: without arguments all items come, ascending from the first; descending from the last."""
    for key in "bdac":
        map_.set(key, {})
    assert keys_of(map_.range()) == ["a", "b", "c", "d"]
    assert keys_of(map_.range(order="desc")) == ["d", "c", "b", "a"]


def test_read_a_range_from_a_place(map_: Map) -> None:
    """L2: ``from_`` is a place that need not exist: asc gives what is not before it, desc what is not behind it."""
    for key in "bdf":
        map_.set(key, {})
    assert keys_of(map_.range("c")) == keys_of(map_.range("d")) == ["d", "f"]
    assert keys_of(map_.range("e", order="desc")) == keys_of(map_.range("d", order="desc")) == ["d", "b"]
    assert keys_of(map_.range("d", bounds="exclusive")) == ["f"]
    assert keys_of(map_.range("d", bounds="exclusive", order="desc")) == ["b"]
    assert keys_of(map_.range("c", bounds="exclusive")) == ["d", "f"]
    assert keys_of(map_.range("e", bounds="exclusive", order="desc")) == ["d", "b"]
    assert keys_of(map_.range("g")) == keys_of(map_.range("a", order="desc")) == []


def test_read_a_range_in_the_order_of_code_points(map_: Map) -> None:
    """L2: a character above U+FFFF comes behind one at U+FFFF, where UTF-16 would put it before (K4)."""
    for key in ["\uffff", "\U00010000", "\ue000", "\U0001f600", "\ud7ff"]:
        map_.set(key, {})
    ordered = ["\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0001f600"]
    assert keys_of(map_.range()) == list(map_) == ordered
    assert keys_of(map_.range(order="desc")) == ordered[::-1]
    assert keys_of(map_.range("\uffff", bounds="exclusive")) == ordered[3:]
    assert keys_of(map_.range("\U00010000", order="desc", bounds="exclusive")) == ordered[2::-1]


def test_read_the_items_of_a_range(map_: Map, clock: ManualClock) -> None:
    """L2: what comes are items as a read of the key gives them, and none that has expired."""
    map_.set("a", {"n": 1}, ttl=10)
    map_.set("b", {"n": 2}, ttl=20)
    map_.set("c", {"n": 3})
    assert list(map_.range()) == [map_["a"], map_["b"], map_["c"]]
    clock.advance(10)
    assert list(map_.range()) == [map_["b"], map_["c"]]
    assert keys_of(map_.range(limit=1)) == ["b"]
    assert keys_of(map_.range(order="desc", limit=2)) == ["c", "b"]


@pytest.mark.parametrize("size", [31, 32, 33, 255, 256, 257, 288, 289, 600])
def test_read_ranges_of_many_items(size: int) -> None:
    """L2: no size of a map is special, nor a limit around it, nor items in it that have expired."""
    clock = ManualClock(now=1_000.0)
    map_ = Store(clock=clock).map("m")
    names = [f"{number:03}" for number in range(size)]
    for number, key in enumerate(names):
        map_.set(key, {}, ttl=10 if number % 3 == 1 else None)
    for live in (names, [key for number, key in enumerate(names) if number % 3 != 1]):
        for order in ORDERS:
            for limit in (None, len(live) - 1, len(live), len(live) + 1):
                assert keys_of(map_.range(order=order, limit=limit)) == expected(live, order=order, limit=limit)  # type: ignore[arg-type]
        clock.advance(10)


def test_read_a_range_bit_by_bit(map_: Map) -> None:
    """L2: a range is an iterator: it goes forward once, and gives no more behind its end."""
    for key in "abc":
        map_.set(key, {})
    walk = map_.range(limit=2)
    assert iter(walk) is walk
    assert [next(walk).key, next(walk).key] == ["a", "b"]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(walk)
    assert keys_of(map_.range(limit=0)) == []


BAD_ARGUMENTS: list[Any] = [
    *[
        pytest.param({"from_": bad}, InvalidKey, id=f"from_ {bad!a}")
        for bad in ("\ud800", "a\udfff", 1, b"a", ["a"], True)
    ],
    *[
        pytest.param({"prefix": bad}, InvalidKey, id=f"prefix {bad!a}")
        for bad in ("\udc00", "\ud83d\ude00", 0, b"", ("a",))
    ],
    *[
        pytest.param({"order": bad}, InvalidOrder, id=f"order {bad!a}")
        for bad in ("ASC", "", "up", None, 1, ["asc"], b"asc")
    ],
    *[
        pytest.param({"bounds": bad}, InvalidBounds, id=f"bounds {bad!a}")
        for bad in ("Inclusive", "", "open", None, 1, ["inclusive"], b"exclusive")
    ],
    *[
        pytest.param({"limit": bad}, ValueError, id=f"limit {bad!a}")
        for bad in (-1, 1.0, "1", -(10**30), [1], float("inf"))
    ],
]


@pytest.mark.parametrize(("arguments", "error"), BAD_ARGUMENTS)
def test_read_a_range_of_bad_arguments(map_: Map, arguments: dict[str, Any], error: type[Exception]) -> None:
    """L2: a bad argument raises at the call, not at the first ``next``, in an empty map and a full one."""
    with pytest.raises(error):
        map_.range(**arguments)
    map_.set("a", {})
    with pytest.raises(error):
        map_.range(**arguments)
    assert keys_of(map_.range()) == ["a"]


def test_give_the_options_of_a_range_by_name_alone(map_: Map) -> None:
    """L2: only ``from_`` may be given by position."""
    map_.set("a", {})
    assert keys_of(map_.range("a")) == keys_of(map_.range(from_="a")) == ["a"]
    with pytest.raises(TypeError):
        map_.range("a", "exclusive")  # type: ignore[call-arg]


# ---------------------------------------------------------------- L3: walks while others write

WALKS: dict[str, tuple[Callable[[Map], Iterator[Any]], bool]] = {
    "range asc": (lambda map_: map_.range(), False),
    "range desc": (lambda map_: map_.range(order="desc"), True),
    "iter": (lambda map_: iter(map_), False),
    "keys": (lambda map_: iter(map_.keys()), False),
    "values": (lambda map_: iter(map_.values()), False),
    "items": (lambda map_: iter(map_.items()), False),
    "range in a prefix": (lambda map_: map_.range("k", prefix="k"), False),
}


def key_of(found: Any) -> str:
    """The key of what a walk gave: an item, a pair or the key itself."""
    if isinstance(found, tuple):
        key, item = found
        assert key == item.key
        return str(key)
    return found.key if isinstance(found, MapItem) else str(found)


# Actions between steps of a walk, on keys counted from the walk's own place.
actions = st.tuples(
    st.sampled_from(["next", "next", "add", "remove", "replace", "expire", "remove all", "purge"]), st.integers(-40, 80)
)


@given(
    size=st.sampled_from([0, 1, 2, 5, 31, 32, 33, 34, 70]),
    kind=st.sampled_from(list(WALKS)),
    steps=st.lists(actions, max_size=30),
)
@example(size=33, kind="range asc", steps=[("next", 32), ("remove", 0), ("remove", 1), ("add", 0), ("next", 1)])
@example(size=33, kind="range desc", steps=[("next", 32), ("remove", 0), ("remove", 1), ("add", 0), ("next", 1)])
@example(size=34, kind="items", steps=[("next", 1), ("remove", 1), ("remove", 2), ("next", 1)])
@example(size=70, kind="items", steps=[("next", 32), ("remove all", 0), ("next", 1)])
def test_write_between_the_steps_of_a_walk(size: int, kind: str, steps: list[tuple[str, int]]) -> None:
    """L3: whatever is written, a walk never raises, repeats a key or breaks order, and misses none that stays."""
    clock = ManualClock(now=1_000.0)
    # Every other number has an item at first, so that there is room for new ones in between.
    map_ = filled([f"k{number:03}" for number in range(100, 100 + 2 * size, 2)], clock)
    walk, descending = WALKS[kind][0](map_), WALKS[kind][1]
    stayed = set(map_)
    ever = set(map_)
    found: list[str] = []
    place = 100 + 2 * size if descending else 100
    for action, number in steps:
        key = f"k{max(0, place + (-number if descending else number)):03}"
        if action == "next":
            for _, thing in zip(range(max(0, number)), walk, strict=False):
                found.append(key_of(thing))
                place = int(found[-1][1:])
        elif action == "remove all":
            for each in list(map_):
                map_.remove(each)
        elif action == "purge":
            clock.advance(1)
            map_.purge()
        elif action == "remove" and key in map_:
            map_.remove(key)
        elif action in ("add", "replace"):
            map_.set(key, {"new": True})
            ever.add(key)
        elif action == "expire" and key in map_:
            map_.set_item_ttl(key, 1)
        stayed &= set(map_)
    found += [key_of(thing) for thing in walk]
    assert found == sorted(set(found), reverse=descending)
    assert stayed <= set(found) <= ever


@given(
    names=st.sets(few_text.filter(bool), max_size=10),
    order=st.sampled_from(ORDERS),
    writes=st.lists(st.tuples(st.booleans(), few_text.filter(bool)), max_size=10),
)
def test_write_any_keys_between_the_steps_of_a_walk(
    names: set[str], order: Any, writes: list[tuple[bool, str]]
) -> None:
    """L3: nor do keys matter, among them those that follow each other without a gap."""
    map_ = filled(names)
    walk = map_.range(order=order)
    stayed, ever, found = set(names), set(names), []
    for add, key in writes:
        found += [item.key for _, item in zip(range(1), walk, strict=False)]
        if add:
            map_.set(key, {})
            ever.add(key)
        elif key in map_:
            map_.remove(key)
        stayed &= set(map_)
    found += keys_of(walk)
    assert found == sorted(set(found), key=str.encode, reverse=order == "desc")
    assert stayed <= set(found) <= ever


@pytest.mark.parametrize("order", ORDERS)
def test_write_at_each_step_of_a_long_walk(map_: Map, order: Any) -> None:
    """L3: over hundreds of items too: at every step the item itself goes, and others appear on either side of it."""
    names = [f"{number:03}" for number in range(700)]
    for key in names:
        map_.set(key, {})
    found = []
    for number, item in enumerate(map_.range(order=order)):
        found.append(item.key)
        if len(item.key) == 3:
            map_.set(item.key + ("x" if number % 2 else "\0"), {})
            map_.remove(item.key)
        if number % 5 == 0:
            map_.set(item.key[:2], {})
    assert found == sorted(set(found), reverse=order == "desc")
    assert [key for key in found if len(key) == 3 and key.isdigit()] == sorted(names, reverse=order == "desc")


def test_add_for_ever_before_a_walk(map_: Map) -> None:
    """L3: what is added behind the walk's place never comes, so that a walk which adds behind itself ends."""
    for key in "abc":
        map_.set(key, {})
    found = []
    for number, item in enumerate(map_.range(order="desc")):
        found.append(item.key)
        map_.set(f"z{number}", {})
    assert found == ["c", "b", "a"]


def test_replace_during_a_walk(map_: Map) -> None:
    """L3: an item that is replaced meanwhile comes once, as it was or as it is."""
    for number in range(40):
        map_.set(f"{number:02}", {"n": 1})
    data = {}
    for item in map_.range():
        assert item.key not in data
        data[item.key] = item.data
        for number in range(40):
            map_.set(f"{number:02}", {"n": 2})
    assert len(data) == 40
    assert all(each in ({"n": 1}, {"n": 2}) for each in data.values())


@given(
    names=st.sets(few_text.filter(bool), max_size=8), removed=st.sets(few_text.filter(bool), max_size=3), data=st.data()
)
def test_walk_twice_at_once(names: set[str], removed: set[str], data: Any) -> None:
    """L3: walks do not disturb each other, whatever their directions."""
    map_ = filled(names | removed)
    walks = [map_.range(), map_.range(order="desc"), map_.range()]
    found: list[list[str]] = [[], [], []]
    for turn in data.draw(st.lists(st.integers(0, 2), max_size=20)):
        found[turn] += [item.key for _, item in zip(range(1), walks[turn], strict=False)]
    for key in removed:
        map_.remove(key)
    for each, walk in zip(found, walks, strict=True):
        each += keys_of(walk)
    for each, descending in zip(found, (False, True, False), strict=True):
        assert each == sorted(set(each), key=str.encode, reverse=descending)
        assert names - removed <= set(each) <= names | removed


# ---------------------------------------------------------------- walks that cannot go on


@pytest.mark.parametrize("kind", WALKS)
@pytest.mark.parametrize("end", ["removed", "expired", "replaced", "closed"])
@pytest.mark.parametrize("taken", [0, 1, 31, 32, 33, 40])
def test_walk_on_after_the_end(store: Store, map_: Map, clock: ManualClock, kind: str, end: str, taken: int) -> None:
    """L3: a walk over a map that is gone raises ``MapNotFound`` at its next step, in a closed store ``StoreClosed``."""
    for number in range(40):
        map_.set(f"k{number:02}", {})
    map_.set_ttl(10)
    walk = WALKS[kind][0](map_)
    for _ in range(taken):
        next(walk)
    if end == "closed":
        store.close()
    elif end == "expired":
        clock.advance(10)
    else:
        map_.remove_map()
    if end == "replaced":
        store.map("m").set("k99", {})
    with pytest.raises(StoreClosed if end == "closed" else MapNotFound):
        next(walk)


@pytest.mark.parametrize("end", ["removed", "expired", "closed"])
def test_begin_a_walk_after_the_end(store: Store, map_: Map, clock: ManualClock, end: str) -> None:
    """L3: a walk over a map that is gone does not begin: the call raises, and so does iterating over a view."""
    map_.set("k", {})
    views: list[Any] = [map_.keys(), map_.values(), map_.items()]
    map_.set_ttl(10)
    if end == "closed":
        store.close()
    elif end == "removed":
        map_.remove_map()
    clock.advance(10)
    error = StoreClosed if end == "closed" else MapNotFound
    for begin in (
        lambda: map_.range(),
        lambda: map_.range(limit=0),
        lambda: iter(map_),
        lambda: len(map_),
        lambda: bool(map_),
    ):
        with pytest.raises(error):
            begin()
    for view in views:
        with pytest.raises(error):
            list(view)


# ---------------------------------------------------------------- L5: one mechanism


@given(
    names=st.sets(keys, max_size=12),
    from_=st.none() | texts,
    bounds=st.sampled_from(BOUNDS),
    order=st.sampled_from(ORDERS),
    prefix=st.none() | texts,
    size=st.integers(1, 5),
    expired=st.sets(st.integers(0, 11)),
)
def test_read_the_same_by_every_way(
    names: set[str], from_: str | None, bounds: Any, order: Any, prefix: str | None, size: int, expired: set[int]
) -> None:
    """L5: ranges, pages and iteration agree on what is there and on its order, for all that they can be asked."""
    clock = ManualClock(now=1_000.0)
    map_ = filled(names, clock)
    for number, key in enumerate(sorted(names)):
        if number in expired:
            map_.set_item_ttl(key, 10)
    clock.advance(10)
    by_range = list(map_.range(from_, bounds=bounds, order=order, prefix=prefix))
    page = map_.page(page_size=size, from_=from_, bounds=bounds, order=order, prefix=prefix)
    by_page = list(page.items)
    while page.next_page_token is not None:
        page = map_.page(page_size=size, page_token=page.next_page_token)
        by_page += page.items
    assert by_page == by_range
    whole = list(map_.range())
    assert list(map_) == [item.key for item in whole] == [key for key, _ in map_.items()]
    assert list(map_.values()) == [item for _, item in map_.items()] == whole
    assert list(map_.range(order="desc")) == whole[::-1]
    assert [item for item in whole if item in by_range] == (by_range if order == "asc" else by_range[::-1])
    assert len(map_) == len(whole) == len(names) - len([number for number in expired if number < len(names)])


def test_agree_about_what_expires(map_: Map, clock: ManualClock) -> None:
    """L5: all of them leave out an item from the same instant on."""
    map_.set("a", {}, ttl=10)
    map_.set("b", {})
    for hop, left in ((timedelta(seconds=9), ["a", "b"]), (timedelta(seconds=1), ["b"])):
        clock.advance(hop.total_seconds())
        assert list(map_) == keys_of(map_.range()) == [item.key for item in map_.page().items] == left
        assert [key for key, _ in map_.items()] == list(map_.keys()) == left

"""Conditions on a write, and which of several errors is told (semantics C).

The order of errors is one table: each verb lists what can be wrong with a call of it, in the order of the rule, and
every two and three of these mistakes are made at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapitem import (
    DataTooLarge,
    InvalidBounds,
    InvalidData,
    InvalidKey,
    InvalidName,
    InvalidOrder,
    InvalidPageSize,
    InvalidPageToken,
    InvalidRevision,
    InvalidTTL,
    ItemExists,
    ItemNotFound,
    Map,
    MapExists,
    MapItem,
    MapNotFound,
    RevisionMismatch,
    Store,
    StoreClosed,
)
from mapitem.testing import ManualClock


def seen(map_: Map) -> object:
    """All that can be seen of a map."""
    return list(map_.range()), len(map_), map_.revision, map_.date_updated, map_.date_expires


CONDITIONAL: dict[str, Callable[..., MapItem]] = {
    "set": lambda map_, condition: map_.set("k", {"n": 2}, if_match=condition),
    "update": lambda map_, condition: map_.update("k", {"n": 2}, if_match=condition),
    "remove": lambda map_, condition: map_.remove("k", if_match=condition),
    "set_item_ttl": lambda map_, condition: map_.set_item_ttl("k", 60, if_match=condition),
}

verbs = pytest.mark.parametrize("verb", CONDITIONAL)


# ---------------------------------------------------------------- C1: if_match


@verbs
@pytest.mark.parametrize("condition", ["the revision", "*", None])
def test_write_on_a_condition_that_holds(map_: Map, verb: str, condition: str | None) -> None:
    """C1: an item that is present and at the revision, or at any for ``"*"``, is written; ``None`` is no condition."""
    map_.set("other", {})
    item = map_.set("k", {"n": 1})
    written = CONDITIONAL[verb](map_, item.revision if condition == "the revision" else condition)
    assert (written.key, map_.revision) == ("k", "3")
    assert map_.get("k") == (None if verb == "remove" else written)


@verbs
def test_write_at_another_revision(map_: Map, verb: str) -> None:
    """C1: at another revision, earlier or yet to come, it is ``RevisionMismatch`` with both, and nothing written."""
    first = map_.set("k", {"n": 1}).revision
    now = map_.set("k", {"n": 1}).revision
    before = seen(map_)
    for wrong in (first, map_.revision, "ffffffffffffffffffffffff"):
        with pytest.raises(RevisionMismatch) as caught:
            CONDITIONAL[verb](map_, wrong)
        assert (caught.value.key, caught.value.expected, caught.value.actual) == ("k", wrong, now)
        assert seen(map_) == before


@verbs
@pytest.mark.parametrize("end", ["never there", "removed", "expired"])
def test_write_on_a_condition_to_what_is_absent(map_: Map, clock: ManualClock, verb: str, end: str) -> None:
    """C1: an item that is absent is ``ItemNotFound`` on any condition, its own last revision and ``"*"`` included."""
    if end != "never there":
        map_.set("k", {"n": 1}, ttl=10)
    if end == "removed":
        map_.remove("k")
    clock.advance(10)
    before = seen(map_)
    for condition in ("0", "5", "*"):
        with pytest.raises(ItemNotFound) as caught:
            CONDITIONAL[verb](map_, condition)
        assert caught.value.key == "k"
        assert seen(map_) == before


@pytest.mark.parametrize("spelled", ["01", "001", "0001", "00000000000000000001"])
@verbs
def test_compare_revisions_as_text(map_: Map, verb: str, spelled: str) -> None:
    """C1: revisions are compared as text: another spelling of the same number is another revision."""
    map_.set("k", {"n": 1})
    map_.set("k", {"n": 1})
    with pytest.raises(RevisionMismatch) as caught:
        CONDITIONAL[verb](map_, spelled)
    assert (caught.value.expected, caught.value.actual) == (spelled, "1")


def test_match_revisions_of_two_digits(map_: Map) -> None:
    """C1: the condition is the text that the item shows, hexadecimal where it has letters."""
    for _ in range(0x1B):
        item = map_.set("k", {})
    assert item.revision == "1a"
    for wrong in ("26", "a", "1", "a1"):
        with pytest.raises(RevisionMismatch):
            map_.set("k", {}, if_match=wrong)
    assert map_.set("k", {}, if_match="1a").revision == "1b"


class Text(str):
    __slots__ = ()


NO_REVISIONS: list[Any] = [
    "", " ", "A", "1F", "0x1", "-1", "+1", "1_0", " 1", "1 ", "1\n", "\n1", "**", "*1", "1*", '"1"', "W/1", "g", "1.0",
    "٣", "１", "\ud800", "absent", "None", 0, 1, True, 1.0, b"1", ["1"], ("1",), {"1"}, object(), Text("1"), Text("*"),
]  # fmt: skip


@pytest.mark.parametrize("condition", NO_REVISIONS, ids=ascii)
@verbs
def test_write_on_what_is_no_revision(map_: Map, verb: str, condition: Any) -> None:
    """C1: what is neither lower-case hex nor ``"*"`` is ``InvalidRevision``, whether the item is there or not."""
    with pytest.raises(InvalidRevision):
        CONDITIONAL[verb](map_, condition)
    map_.set("k", {"n": 1})
    map_.set("k", {"n": 1})
    before = seen(map_)
    with pytest.raises(InvalidRevision):
        CONDITIONAL[verb](map_, condition)
    assert seen(map_) == before


@given(
    writes=st.lists(st.sampled_from(["k", "other", "remove"]), max_size=20),
    condition=st.just("*")
    | st.integers(0, 25).map("{:x}".format)
    | st.text("0123456789abcdef", min_size=1, max_size=3),
    verb=st.sampled_from(list(CONDITIONAL)),
)
def test_write_on_any_condition(writes: list[str], condition: str, verb: str) -> None:
    """C1: whatever the item went through, a condition holds if and only if it is ``"*"`` or the revision it shows."""
    map_ = Store().map("m")
    for key in writes:
        if key != "remove":
            map_.set(key, {})
        elif "k" in map_:
            map_.remove("k")
    item = map_.get("k")
    before = seen(map_)
    if item is None:
        with pytest.raises(ItemNotFound):
            CONDITIONAL[verb](map_, condition)
    elif condition in ("*", item.revision):
        CONDITIONAL[verb](map_, condition)
        assert seen(map_) != before
        return
    else:
        with pytest.raises(RevisionMismatch):
            CONDITIONAL[verb](map_, condition)
    assert seen(map_) == before


# ---------------------------------------------------------------- C2: the order of errors


CALLS: dict[str, Callable[..., object]] = {
    "create": lambda map_, key, data, **options: map_.create(key, data, **options),
    "set": lambda map_, key, data, **options: map_.set(key, data, **options),
    "update": lambda map_, key, data, **options: map_.update(key, data, **options),
    "mutate": lambda map_, key, data, **options: map_.mutate(key, lambda _: data, **options),
    "remove": lambda map_, key, data, **options: map_.remove(key, **options),
    "set_item_ttl": lambda map_, key, data, ttl=60, **options: map_.set_item_ttl(key, ttl, **options),
    "set_ttl": lambda map_, key, data, ttl=60: map_.set_ttl(ttl),
    "purge": lambda map_, key, data: map_.purge(),
    "remove_map": lambda map_, key, data: map_.remove_map(),
}

# What can be wrong with a call of each verb, in the order in which it is told. "whole" is a merge that is too large, or
# for ``mutate`` what ``fn`` yields.
FAULTS: dict[str, list[str]] = {
    "create": ["closed", "key", "data", "ttl", "collection_ttl", "map", "present"],
    "set": ["closed", "key", "data", "ttl", "collection_ttl", "if_match", "map", "absent", "condition"],
    "update": ["closed", "key", "data", "ttl", "collection_ttl", "if_match", "map", "absent", "condition", "whole"],
    "mutate": ["closed", "key", "ttl", "collection_ttl", "map", "data"],
    "remove": ["closed", "key", "if_match", "map", "absent", "condition"],
    "set_item_ttl": ["closed", "key", "ttl", "if_match", "map", "absent", "condition"],
    "set_ttl": ["closed", "ttl", "map"],
    "purge": ["closed", "map"],
    "remove_map": ["closed", "map"],
}

ERRORS: dict[str, type[Exception]] = {
    "closed": StoreClosed,
    "key": InvalidKey,
    "data": InvalidData,
    "ttl": InvalidTTL,
    "collection_ttl": InvalidTTL,
    "if_match": InvalidRevision,
    "map": MapNotFound,
    "present": ItemExists,
    "absent": ItemNotFound,
    "condition": RevisionMismatch,
    "whole": DataTooLarge,
}


def clash(faults: tuple[str, ...]) -> bool:
    """Whether a call cannot have all these faults at once, such as a condition both malformed and unmet."""
    return any(
        pair <= set(faults)
        for pair in (
            {"if_match", "condition"},
            {"absent", "condition"},
            {"absent", "whole"},
            {"data", "whole"},
            {"key", "present"},
            {"key", "absent"},
            {"key", "condition"},
            {"key", "whole"},
        )
    )


def call_with(store: Store, verb: str, faults: tuple[str, ...]) -> tuple[Map, Callable[[], object]]:
    """A map, and a call on it that has these faults and no others, but that of a store that is closed."""
    map_ = store.create_map()
    map_.set("other", {})
    conditional = "if_match" in FAULTS[verb]
    present = "present" in faults if "present" in FAULTS[verb] else "absent" not in faults
    if present:
        map_.set("k", {"big": "x" * 10_000} if "whole" in faults else {"n": 1})
    options: dict[str, Any] = {name: "soon" for name in ("ttl", "collection_ttl", "if_match") if name in faults}
    if conditional and "if_match" not in faults:
        options["if_match"] = "fff" if "condition" in faults else "*"
    data: Any = [] if "data" in faults else {"more": "x" * 10_000} if "whole" in faults else {"n": 2}
    key = "" if "key" in faults else "k"
    return map_, lambda: CALLS[verb](map_, key, data, **options)


def content(path: Path) -> bytes | None:
    """The bytes of a store's file, if it has one."""
    return path.read_bytes() if path.exists() else None


@pytest.fixture
def made(tmp_path: Path, backing: str) -> Iterator[Callable[[], tuple[Store, Path]]]:
    """Makes a store and the path of its file, again and again; closes all of them at the end."""
    stores: list[Store] = []

    def make() -> tuple[Store, Path]:
        path = tmp_path / f"{len(stores)}.mapitem"
        stores.append(Store(path if backing == "file" else None, clock=ManualClock(now=1_000.0)))
        return stores[-1], path

    yield make
    for store in stores:
        store.close()


@pytest.mark.parametrize("verb", CALLS)
def test_call_with_nothing_wrong(made: Callable[[], tuple[Store, Path]], verb: str) -> None:
    """C2: without a fault the calls of the table do write, so that each of their errors comes from its fault."""
    map_, call = call_with(made()[0], verb, ())
    if verb == "purge":
        assert call() == 0
        return
    before = repr(seen(map_))
    call()
    try:
        assert repr(seen(map_)) != before
    except MapNotFound:
        assert verb == "remove_map"


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_tell_the_first_of_several_faults(made: Callable[[], tuple[Store, Path]], verb: str, count: int) -> None:
    """C2: closed store, arguments (key, data, ttl, collection_ttl, if_match), map, presence, condition; the merge last.

    Nothing is written on any of them: neither the map nor the file changes.
    """
    store, path = made()
    order = FAULTS[verb]
    for faults in combinations(order, count):
        if clash(faults):
            continue
        if "closed" in faults:
            store, path = made()
        map_, call = call_with(store, verb, faults)
        before = seen(map_)
        if "map" in faults:
            map_.remove_map()
        if "closed" in faults:
            store.close()
        on_disk = content(path)
        with pytest.raises(ERRORS[faults[0]]) as caught:
            call()
        assert type(caught.value) is ERRORS[faults[0]], faults
        assert content(path) == on_disk, faults
        if "closed" in faults:
            store, path = made()
        elif "map" not in faults:
            assert seen(map_) == before, faults


@pytest.mark.parametrize("fault", ["ttl", "collection_ttl"])
def test_name_the_ttl_that_is_wrong(map_: Map, fault: str) -> None:
    """C2: of two wrong TTLs the item's is told first, and the message tells which of them it is about."""
    with pytest.raises(InvalidTTL, match=rf"^{fault}\b"):
        map_.set("k", {}, **{fault: -1})  # type: ignore[arg-type]
    with pytest.raises(InvalidTTL, match=r"^ttl\b"):
        map_.set("k", {}, ttl=-1, collection_ttl=-1)


def test_judge_the_arguments_of_mutate_first(map_: Map) -> None:
    """C2: ``mutate`` judges its arguments before the map, and calls ``fn`` only if both are right."""
    calls: list[object] = []

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        calls.append(data)
        return data

    map_.remove_map()
    with pytest.raises(ValueError, match="max_attempts"):
        map_.mutate("k", fn, max_attempts=0)
    with pytest.raises(TypeError):
        map_.mutate("k", None)  # type: ignore[arg-type]
    with pytest.raises(InvalidTTL):
        map_.mutate("k", fn, ttl=-1)
    with pytest.raises(MapNotFound):
        map_.mutate("k", fn)
    assert calls == []


@pytest.mark.parametrize("size", [20_000, 200_000])
def test_judge_the_size_of_data_with_the_arguments(map_: Map, size: int) -> None:
    """C2: data that are too large are a wrong argument: told after the key, before TTLs, map and presence."""
    map_.set("k", {})
    large = {"x": "x" * size}
    for write in (map_.create, map_.set, map_.update):
        with pytest.raises(InvalidKey):
            write("", large)
        with pytest.raises(DataTooLarge):
            write("k", large, ttl=-1)
    map_.remove_map()
    with pytest.raises(DataTooLarge):
        map_.set("k", large)


@pytest.mark.parametrize("end", ["expired", "replaced"])
def test_tell_the_map_before_the_item(store: Store, map_: Map, clock: ManualClock, end: str) -> None:
    """C2: a map that has expired, or whose name another bears, is told before anything about the item."""
    map_.set("k", {"n": 1})
    map_.set_ttl(10)
    if end == "expired":
        clock.advance(10)
    else:
        map_.remove_map()
        store.map("m").set("k", {"n": 1})
    calls: list[Callable[[], object]] = [
        lambda: map_.create("k", {}),
        lambda: map_.set("absent", {}, if_match="*"),
        lambda: map_.set("k", {}, if_match="fff"),
        lambda: map_.update("k", {}, if_match="fff"),
        lambda: map_.remove("absent"),
        lambda: map_.set_item_ttl("absent", 1),
        lambda: map_["absent"],
    ]
    for call in calls:
        with pytest.raises(MapNotFound):
            call()
    with pytest.raises(InvalidRevision):
        map_.set("k", {}, if_match="?")


# ---------------------------------------------------------------- C2 for what is no write of an item


READS: dict[str, tuple[Callable[[Map], object], type[Exception]]] = {
    "get": (lambda map_: map_.get(""), InvalidKey),
    "[]": (lambda map_: map_[""], InvalidKey),
    "get, no text": (lambda map_: map_.get(5), InvalidKey),  # type: ignore[call-overload]
    "[], no text": (lambda map_: map_[5], InvalidKey),  # type: ignore[index]
    "range from": (lambda map_: map_.range("\ud800"), InvalidKey),
    "range bounds": (lambda map_: map_.range(bounds="?"), InvalidBounds),  # type: ignore[arg-type]
    "range order": (lambda map_: map_.range(order="?"), InvalidOrder),  # type: ignore[arg-type]
    "range prefix": (lambda map_: map_.range(prefix="\ud800"), InvalidKey),
    "range limit": (lambda map_: map_.range(limit=-1), ValueError),
    "page size": (lambda map_: map_.page(page_size=0), InvalidPageSize),
    "page order": (lambda map_: map_.page(order="?"), InvalidOrder),  # type: ignore[arg-type]
    "page token": (lambda map_: map_.page(page_token="?"), InvalidPageToken),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("end", ["removed", "expired"])
def test_tell_the_first_fault_of_a_read(store: Store, map_: Map, clock: ManualClock, read: str, end: str) -> None:
    """C2: for reads the same order holds: closed store, then arguments, then the map."""
    call, error = READS[read]
    map_.set_ttl(10)
    if end == "removed":
        map_.remove_map()
    clock.advance(10)
    with pytest.raises(error):
        call(map_)
    store.close()
    with pytest.raises(StoreClosed):
        call(map_)


def test_tell_the_map_before_the_key_that_is_absent(map_: Map) -> None:
    """C2: a map that is gone is told, not that its items are absent; ``in``, too, has no answer then."""
    map_.remove_map()
    with pytest.raises(MapNotFound):
        map_["k"]
    with pytest.raises(MapNotFound):
        map_.get("k")
    for key in ("k", "", 5):
        with pytest.raises(MapNotFound):
            _ = key in map_


def test_tell_the_first_fault_of_making_a_map(store: Store) -> None:
    """C2: for maps the same order holds: closed store, name, TTL, then whether the name is taken."""
    store.create_map("taken")
    with pytest.raises(InvalidName):
        store.create_map("", ttl=-1)
    with pytest.raises(InvalidName):
        store.map("MP" + "0" * 32, ttl=-1)
    with pytest.raises(InvalidTTL):
        store.create_map("taken", ttl=-1)
    with pytest.raises(InvalidTTL):
        store.map("taken", ttl=-1)
    with pytest.raises(InvalidTTL):
        store.map("new", ttl=-1)
    with pytest.raises(MapExists):
        store.create_map("taken")
    assert [map_.name for map_ in store.maps()] == ["taken"]
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.create_map("", ttl=-1),
        lambda: store.map("", ttl=-1),
        lambda: store.open_map(""),
    ]
    for call in calls:
        with pytest.raises(StoreClosed):
            call()


def test_write_nothing_on_a_condition_that_fails_across_a_restart(
    store: Store, map_: Map, make_store: Callable[..., Store], backing: str
) -> None:
    """C2: what failed is not there after a restart either."""
    map_.set("k", {"n": 1})
    for verb in CONDITIONAL.values():
        with pytest.raises(RevisionMismatch):
            verb(map_, "fff")
    before = seen(map_)
    if backing == "file":
        store.close()
        store = make_store()
    assert seen(store.map("m")) == before

"""The verbs that write one item: what each of them does and gives back (semantics W, but for batches, W7).

Conditions and the order of errors have a file of their own, as have times to live; here each verb meets keys that are
there, absent and expired, and functions that do what they should not.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapitem import (
    DataTooLarge,
    InvalidData,
    InvalidTTL,
    ItemExists,
    ItemNotFound,
    Map,
    MapItem,
    MapNotFound,
    RevisionMismatch,
    Store,
    StoreClosed,
)
from mapitem.testing import ManualClock

NOW = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
"""What the clock of the fixtures shows at first."""

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
)
values = st.recursive(
    scalars,
    lambda deeper: st.lists(deeper, max_size=2) | st.dictionaries(st.sampled_from("ab"), deeper, max_size=2),
    max_leaves=3,
)
objects = st.dictionaries(st.sampled_from(["a", "b", "c", "é", "", "\U0001f600"]), values, max_size=3)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def exact(data: object) -> str:
    """The data as text that tells types, signs of zero and the order of keys apart."""
    return json.dumps(data)


def seen(map_: Map) -> object:
    """All that can be seen of a map."""
    return list(map_.range()), len(map_), map_.revision, map_.date_updated, map_.date_expires


def writer(map_: Map, *writes: Callable[[], object], result: object = ...) -> Callable[[dict[str, Any]], Any]:
    """A function for ``mutate`` that makes the next of ``writes`` on each call, as somebody else in between might."""
    left = list(writes)

    def fn(data: dict[str, Any]) -> Any:
        if left:
            left.pop(0)()
        return data | {"n": data.get("n", 0) + 1} if result is ... else result

    return fn


@pytest.fixture
def switch_often() -> Iterator[None]:
    """Let threads take turns far more often than they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# ---------------------------------------------------------------- W1: create


def test_create_what_is_absent(map_: Map) -> None:
    """W1: a key that is absent gets the item, and the next read shows it."""
    assert "k" not in map_
    item = map_.create("k", {"n": 1})
    assert (item.key, item.data, item.revision) == ("k", {"n": 1}, "0")
    assert map_["k"] == item


def test_create_what_is_there(map_: Map, clock: ManualClock) -> None:
    """W1: a key that is present is ``ItemExists``, which tells key and revision; the item stays as it was."""
    map_.set("other", {})
    old = map_.create("k", {"n": 1}, ttl=60)
    clock.advance(1)
    before = seen(map_)
    with pytest.raises(ItemExists) as caught:
        map_.create("k", {"n": 2}, ttl=5, collection_ttl=5)
    assert (caught.value.key, caught.value.revision) == ("k", "1")
    assert seen(map_) == before
    assert map_["k"] == old


def test_create_the_same_again(map_: Map) -> None:
    """W1: the same data are no excuse."""
    map_.create("k", {"n": 1})
    with pytest.raises(ItemExists):
        map_.create("k", {"n": 1})


@pytest.mark.parametrize("end", ["removed", "expired"])
def test_create_what_was_there(map_: Map, clock: ManualClock, end: str) -> None:
    """W1: a key whose item was removed, or has expired, is absent: it may be created, and starts anew."""
    map_.create("k", {"n": 1}, ttl=10)
    clock.advance(10)
    if end == "removed":
        clock.advance(-1)
        map_.remove("k")
    item = map_.create("k", {"m": 2})
    assert (item.data, item.date_expires) == ({"m": 2}, None)
    assert item.date_created == item.date_updated == NOW + seconds(10 if end == "expired" else 9)


def test_create_with_both_ttls(map_: Map) -> None:
    """W1: ``ttl`` is the item's and ``collection_ttl`` the map's, in one step."""
    item = map_.create("k", {}, ttl=10, collection_ttl=20)
    assert (item.date_expires, map_.date_expires) == (NOW + seconds(10), NOW + seconds(20))


def test_create_on_a_condition(map_: Map) -> None:
    """W1: its condition is that the key is absent: it takes no other."""
    with pytest.raises(TypeError):
        map_.create("k", {}, if_match="0")  # type: ignore[call-arg]
    assert "k" not in map_


# ---------------------------------------------------------------- W2: set


def test_set_what_is_absent(map_: Map) -> None:
    """W2: ``set`` creates."""
    item = map_.set("k", {"n": 1}, ttl=10, collection_ttl=20)
    assert (item.data, item.date_created, item.date_updated) == ({"n": 1}, NOW, NOW)
    assert (item.date_expires, map_.date_expires) == (NOW + seconds(10), NOW + seconds(20))
    assert map_["k"] == item


def test_set_what_is_there(map_: Map, clock: ManualClock) -> None:
    """W2: ``set`` replaces the data whole: nothing of the old remains but the creation and the expiry."""
    map_.set("k", {"a": 1, "deep": {"x": 1}}, ttl=60)
    clock.advance(5)
    item = map_.set("k", {"deep": {"y": 2}})
    assert item.data == {"deep": {"y": 2}}
    assert (item.date_created, item.date_updated) == (NOW, NOW + seconds(5))
    assert item.date_expires == NOW + seconds(60)
    assert map_["k"] == item
    assert len(map_) == 1


@given(first=objects, second=objects)
def test_set_any_data_over_any(first: dict[str, Any], second: dict[str, Any]) -> None:
    """W2: whatever was there, what is read afterwards is what was set last."""
    map_ = Store().map("m")
    map_.set("k", first)
    assert exact(map_.set("k", second).data) == exact(map_["k"].data) == exact(second)


def test_set_both_ttls_of_what_is_there(map_: Map, clock: ManualClock) -> None:
    """W2: both TTLs count from this write, and 0 clears."""
    map_.set("k", {}, ttl=60, collection_ttl=60)
    clock.advance(5)
    assert map_.set("k", {}, ttl=10, collection_ttl=20).date_expires == NOW + seconds(15)
    assert map_.date_expires == NOW + seconds(25)
    assert map_.set("k", {}, ttl=0, collection_ttl=0).date_expires is None
    assert map_.date_expires is None


# ---------------------------------------------------------------- W3: update


def test_update_what_is_there(map_: Map, clock: ManualClock) -> None:
    """W3: top-level fields are merged: named ones replaced whole, others kept, nothing below merged."""
    map_.set("k", {"keep": [1], "deep": {"x": 1}, "n": 1}, ttl=60)
    clock.advance(5)
    item = map_.update("k", {"deep": {"y": 2}, "new": None})
    assert item.data == {"keep": [1], "deep": {"y": 2}, "n": 1, "new": None}
    assert (item.date_created, item.date_updated) == (NOW, NOW + seconds(5))
    assert item.date_expires == NOW + seconds(60)
    assert map_["k"] == item


def test_update_what_is_absent(map_: Map) -> None:
    """W3: an absent key starts from ``{}``."""
    item = map_.update("k", {"a": 1}, ttl=10, collection_ttl=20)
    assert (item.data, item.date_expires, map_.date_expires) == ({"a": 1}, NOW + seconds(10), NOW + seconds(20))
    assert map_.update("empty", {}).data == {}


def test_update_what_expired(map_: Map, clock: ManualClock) -> None:
    """W3: an expired item is absent: nothing of it is merged."""
    map_.set("k", {"old": 1}, ttl=10)
    clock.advance(10)
    item = map_.update("k", {"new": 2})
    assert (item.data, item.date_expires) == ({"new": 2}, None)


@given(first=objects, second=objects)
def test_update_any_data_with_any(first: dict[str, Any], second: dict[str, Any]) -> None:
    """W3: it merges as ``dict.update`` does, to the order of the keys, and changes neither argument."""
    map_ = Store().map("m")
    map_.set("k", first)
    merged = json.loads(exact(first))
    merged.update(json.loads(exact(second)))
    given_ = exact(second)
    assert exact(map_.update("k", second).data) == exact(map_["k"].data) == exact(merged)
    assert exact(second) == given_


def test_replace_as_the_rest_verb_does(map_: Map) -> None:
    """W3: what REST calls Update replaces, and only what is there: ``set`` with ``if_match="*"``."""
    with pytest.raises(ItemNotFound):
        map_.set("k", {"b": 2}, if_match="*")
    assert list(map_) == []
    map_.set("k", {"a": 1})
    assert map_.set("k", {"b": 2}, if_match="*").data == {"b": 2}
    assert map_.update("k", {"c": 3}, if_match="*").data == {"b": 2, "c": 3}


def test_update_both_ttls(map_: Map) -> None:
    """W3: both TTLs are set by the same write."""
    map_.set("k", {"a": 1})
    item = map_.update("k", {"b": 2}, ttl=10, collection_ttl=20)
    assert (item.data, item.date_expires, map_.date_expires) == (
        {"a": 1, "b": 2}, NOW + seconds(10), NOW + seconds(20),
    )  # fmt: skip


def test_update_while_others_do(map_: Map, switch_often: None) -> None:
    """W3: a merge is one atomic write: threads that merge their own fields into one item lose none of each other's."""

    def work(name: str) -> None:
        for number in range(60):
            map_.update("k", {f"{name}{number}": number})

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(map_["k"].data) == 240
    assert map_.revision == "f0"


# ---------------------------------------------------------------- W4: mutate


def test_mutate_what_is_there(map_: Map, clock: ManualClock) -> None:
    """W4: what ``fn`` returns replaces the data, and the new item is returned; expiry and creation are kept."""
    map_.set("k", {"n": 1, "old": True}, ttl=60)
    clock.advance(5)
    item = map_.mutate("k", lambda data: {"n": data["n"] + 1})
    assert item is not None
    assert (item.data, item.revision, item.date_created, item.date_updated) == ({"n": 2}, "1", NOW, NOW + seconds(5))
    assert item.date_expires == NOW + seconds(60)
    assert map_["k"] == item


@pytest.mark.parametrize("end", ["never there", "removed", "expired"])
def test_mutate_what_is_absent(map_: Map, clock: ManualClock, end: str) -> None:
    """W4: ``fn`` gets ``{}`` for an absent key, be it removed or expired, and what it returns is created."""
    if end != "never there":
        map_.set("k", {"n": 1}, ttl=10)
    if end == "removed":
        map_.remove("k")
    clock.advance(10)
    got: list[dict[str, Any]] = []
    item = map_.mutate("k", lambda data: got.append(dict(data)) or {"n": 2})  # type: ignore[func-returns-value]
    assert got == [{}]
    assert item is not None
    assert (item.data, item.date_created, item.date_expires) == ({"n": 2}, NOW + seconds(10), None)


def test_mutate_what_was_given(map_: Map) -> None:
    """W4: ``fn`` may change its argument and return it: it is a copy, of the depths too, and a new one each time."""
    old = map_.set("k", {"tags": [{"a": 1}]})
    kept: list[dict[str, Any]] = []

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        data["tags"][0]["a"] += 1
        kept.append(data)
        return data

    item = map_.mutate("k", fn)
    assert item is not None
    assert item.data == {"tags": [{"a": 2}]}
    assert old.data == {"tags": [{"a": 1}]}
    kept[0]["tags"].clear()
    item.data["tags"].clear()
    assert map_["k"].data == {"tags": [{"a": 2}]}
    map_.mutate("k", fn)
    assert kept[0] is not kept[1]
    assert map_["k"].data == {"tags": [{"a": 3}]}


def test_mutate_a_copy_that_is_not_written(map_: Map) -> None:
    """W4: changing the argument is no write: another object returned counts, and so does an exception."""
    map_.set("k", {"tags": []})

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        data["tags"].append("lost")
        return {"other": True}

    map_.mutate("k", fn)
    assert map_["k"].data == {"other": True}


@given(before=objects, after=objects)
def test_mutate_any_data_to_any(before: dict[str, Any], after: dict[str, Any]) -> None:
    """W4: ``fn`` gets exactly what was stored, and exactly what it returns is stored."""
    map_ = Store().map("m")
    map_.set("k", before)
    got: list[str] = []

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        got.append(exact(data))
        return after

    map_.mutate("k", fn)
    assert got == [exact(before)]
    assert exact(map_["k"].data) == exact(after)


def test_mutate_with_both_ttls(map_: Map) -> None:
    """W4: both TTLs are set by the write that succeeds."""
    for _ in range(2):
        item = map_.mutate("k", lambda data: {}, ttl=10, collection_ttl=20)
        assert item is not None
        assert (item.date_expires, map_.date_expires) == (NOW + seconds(10), NOW + seconds(20))
        map_.set("k", {}, ttl=5, collection_ttl=0)


def test_mutate_to_nothing(map_: Map, clock: ManualClock) -> None:
    """W4: ``None`` means no write, of no TTL either, and the current item is returned, or ``None`` if there is none."""
    old = map_.set("k", {"n": 1, "deep": {"x": [1.0, -0.0]}}, ttl=60)
    clock.advance(5)
    before = seen(map_)
    assert map_.mutate("k", lambda data: None, ttl=10, collection_ttl=20) == old
    assert map_.mutate("absent", lambda data: None, ttl=10, collection_ttl=20) is None
    assert seen(map_) == before


def test_mutate_to_nothing_what_expired(map_: Map, clock: ManualClock) -> None:
    """W4: the current item of an expired key is ``None``."""
    map_.set("k", {"n": 1}, ttl=10)
    clock.advance(10)
    assert map_.mutate("k", lambda data: None) is None


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a field more": lambda data: data.update(new=1),
    "a field less": lambda data: data.pop("n"),
    "another value": lambda data: data.update(n=2),
    "another type, equal to Python": lambda data: data.update(n=1.0),
    "a bool for an int": lambda data: data.update(n=True),
    "the sign of zero": lambda data: data.update(zero=0.0),
    "in the depths": lambda data: data["deep"]["list"].append(1),
    "what no store could hold": lambda data: data.update(n={1, 2}),
    "a cycle": lambda data: data["deep"].update(deep=data),
    "nothing left": lambda data: data.clear(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_mutate_without_returning(map_: Map, change: str) -> None:
    """W4: ``None`` after changing the argument, however deep, is a ``TypeError`` that says so; nothing is written."""
    map_.set("k", {"n": 1, "zero": -0.0, "deep": {"list": []}})
    before = seen(map_)

    def fn(data: dict[str, Any]) -> None:
        CHANGES[change](data)

    with pytest.raises(TypeError, match="not returned"):
        map_.mutate("k", fn, ttl=10, collection_ttl=10)
    assert seen(map_) == before


def test_mutate_without_returning_what_is_absent(map_: Map) -> None:
    """W4: the same for a key that is absent."""
    with pytest.raises(TypeError, match="not returned"):
        map_.mutate("k", lambda data: data.update(n=1))
    assert "k" not in map_


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(lambda map_: map_.set("k", {"n": 10}), id="set"),
        pytest.param(lambda map_: map_.set("k", {"n": 1}), id="set to the same"),
        pytest.param(lambda map_: map_.update("k", {"n": 10}), id="update"),
        pytest.param(lambda map_: map_.mutate("k", lambda data: {"n": 10}), id="mutate"),
        pytest.param(lambda map_: map_.set_item_ttl("k", 30), id="its TTL alone"),
        pytest.param(lambda map_: map_.remove("k") if "k" in map_ else map_.create("k", {}), id="removed"),
        pytest.param(lambda map_: (map_.remove("k"), map_.create("k", {"n": 1})), id="removed and created the same"),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_mutate_while_the_item_is_written(map_: Map, between: Callable[[Map], object], times: int) -> None:
    """W4: if the item was written since it was read, ``fn`` is called again on fresh data, until it stays unchanged."""
    map_.set("k", {"n": 1})
    got: list[dict[str, Any]] = []

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        got.append(dict(data))
        if len(got) <= times:
            between(map_)
        return data | {"mine": len(got)}

    item = map_.mutate("k", fn)
    assert len(got) == times + 1
    assert item is not None
    assert item.data == got[-1] | {"mine": times + 1}
    assert map_["k"] == item
    assert all("mine" not in data for data in got)


def test_mutate_while_the_item_appears(map_: Map) -> None:
    """W4: an item that was absent must still be: one created meanwhile is not written over."""
    item = map_.mutate("k", writer(map_, lambda: map_.create("k", {"n": 10, "theirs": True})))
    assert item is not None
    assert (item.data, item.revision) == ({"n": 11, "theirs": True}, "1")


def test_mutate_while_the_item_comes_and_goes(map_: Map) -> None:
    """W4: absent again is absent still, whatever happened in between."""
    got: list[dict[str, Any]] = []

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        got.append(data)
        map_.create("k", {"n": 10})
        map_.remove("k")
        return {"n": 1}

    item = map_.mutate("k", fn)
    assert (got, map_["k"].data) == ([{}], {"n": 1})
    assert item is not None
    assert item.revision == "2"


def test_mutate_while_the_item_expires(map_: Map, clock: ManualClock) -> None:
    """W4: an item that expires while ``fn`` runs is another than the one that was read: ``fn`` starts from ``{}``."""
    map_.set("k", {"n": 1}, ttl=10)
    item = map_.mutate("k", writer(map_, lambda: clock.advance(10)))
    assert item is not None
    assert (item.data, item.date_expires) == ({"n": 1}, None)
    assert item.date_created == NOW + seconds(10)


def test_mutate_while_another_item_is_written(map_: Map) -> None:
    """W4: writes to other keys, and the map's TTL, are no reason to call ``fn`` again."""
    map_.set("k", {"n": 1})
    calls: list[dict[str, Any]] = []

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        calls.append(data)
        map_.set("other", {})
        map_.set_ttl(60)
        return {"n": 2}

    map_.mutate("k", fn)
    assert len(calls) == 1
    assert map_["k"].data == {"n": 2}


def test_mutate_to_nothing_after_a_retry(map_: Map) -> None:
    """W4: ``None`` on a later call is no write either, and the item returned is the other's."""
    map_.set("k", {"n": 1})
    results: list[Any] = [{"n": 2}, None]

    def fn(data: dict[str, Any]) -> Any:
        if len(results) == 2:
            map_.set("k", {"n": 10})
        return results.pop(0)

    item = map_.mutate("k", fn)
    assert item == map_["k"]
    assert map_["k"].data == {"n": 10}


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_mutate_in_vain(map_: Map, attempts: int) -> None:
    """W4: after ``max_attempts`` calls of ``fn`` the last ``RevisionMismatch`` is raised, and nothing of it written."""
    map_.set("k", {"n": 0})
    read: list[str] = []

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        read.append(map_["k"].revision)
        map_.set("k", {"n": len(read)})
        return {"mine": True}

    with pytest.raises(RevisionMismatch) as caught:
        map_.mutate("k", fn, max_attempts=attempts, ttl=10, collection_ttl=10)
    assert len(read) == attempts
    assert (caught.value.key, caught.value.expected, caught.value.actual) == ("k", read[-1], map_["k"].revision)
    assert (map_["k"].data, map_["k"].date_expires, map_.date_expires) == ({"n": attempts}, None, None)


def test_mutate_at_the_last_attempt(map_: Map) -> None:
    """W4: the last of ``max_attempts`` may succeed."""
    map_.set("k", {"n": 0})
    writes = [lambda: map_.set("k", {"n": 10})] * 4
    item = map_.mutate("k", writer(map_, *writes), max_attempts=5)
    assert item is not None
    assert item.data == {"n": 11}


def test_mutate_in_vain_by_default(map_: Map) -> None:
    """W4: there are 100 attempts unless said otherwise."""
    calls: list[object] = []

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        calls.append(map_.set("k", {}))
        return {}

    with pytest.raises(RevisionMismatch):
        map_.mutate("k", fn)
    assert len(calls) == 100


@pytest.mark.parametrize("first", ["absent", "there"])
def test_mutate_in_vain_what_comes_or_goes(map_: Map, first: str) -> None:
    """W4: the same error, and no other, if it was an item appearing or vanishing that came in between."""
    if first == "there":
        map_.set("k", {"n": 1})

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        if "k" in map_:
            map_.remove("k")
        else:
            map_.create("k", {"n": 1})
        return {"mine": True}

    with pytest.raises(RevisionMismatch) as caught:
        map_.mutate("k", fn, max_attempts=1)
    assert caught.value.key == "k"
    assert ("k" in map_) is (first == "absent")


@pytest.mark.parametrize("attempts", [0, -1, 1.0, "1", None])
def test_mutate_with_what_is_no_count(map_: Map, attempts: Any) -> None:
    """W4: ``max_attempts`` is an int of at least 1, else ``ValueError``, before ``fn`` is called."""
    calls: list[object] = []
    with pytest.raises(ValueError, match="max_attempts"):
        map_.mutate("k", lambda data: calls.append(data) or {}, max_attempts=attempts)  # type: ignore[func-returns-value]
    assert (calls, map_.revision) == ([], "0")


@pytest.mark.parametrize("fn", [None, {"n": 1}, "fn"])
def test_mutate_with_what_is_no_function(map_: Map, fn: Any) -> None:
    """W4: ``fn`` is a function, else ``TypeError``; new data in its place are for ``set``."""
    with pytest.raises(TypeError):
        map_.mutate("k", fn)
    assert map_.revision == "0"


@pytest.mark.parametrize(
    "error", [RuntimeError, KeyError, RevisionMismatch, ItemNotFound, KeyboardInterrupt, StopIteration]
)
def test_mutate_with_an_exception(map_: Map, error: type[BaseException]) -> None:
    """W4: an exception in ``fn`` passes through, the very object, without another call and with nothing written."""
    map_.set("k", {"n": 1})
    before = seen(map_)
    raised = error("mine")
    calls: list[object] = []

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        calls.append(data)
        data["n"] = 2
        raise raised

    with pytest.raises(error) as caught:
        map_.mutate("k", fn)
    assert caught.value is raised
    assert len(calls) == 1
    assert seen(map_) == before
    assert map_.set("k", {"n": 3}).revision == "1"


@pytest.mark.parametrize(
    ("result", "error"),
    [([1], InvalidData), (1, InvalidData), ({"n": {1}}, InvalidData), ({"x": "x" * 16_384}, DataTooLarge)],
)
def test_mutate_to_what_is_no_data(map_: Map, result: Any, error: type[Exception]) -> None:
    """W4: what ``fn`` returns obeys the rules of data; if it does not, nothing is written."""
    map_.set("k", {"n": 1})
    before = seen(map_)
    with pytest.raises(error):
        map_.mutate("k", lambda data: result)
    assert seen(map_) == before


def test_mutate_without_a_lock(store: Store, map_: Map) -> None:
    """W4: no lock is held while ``fn`` runs: other threads read, walk and write the store till the end meanwhile."""
    map_.set("k", {"n": 1}, ttl=60)
    told: list[object] = []

    def others() -> None:
        told.append(map_["k"].data)
        told.append(map_.set("other", {"n": 2}).data)
        told.append([item.key for item in map_.range()])
        told.append(len(map_.page().items))
        told.append(store.create_map("another").name)
        told.append(store.purge())
        store.sync()

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        thread = threading.Thread(target=others, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        return {"n": data["n"] + 1}

    item = map_.mutate("k", fn)
    assert item is not None
    assert item.data == {"n": 2}
    assert told == [{"n": 1}, {"n": 2}, ["k", "other"], 2, "another", 0]


def test_mutate_inside_a_mutate(map_: Map) -> None:
    """W4: ``fn`` may use the store itself, the same verb on the same key included."""
    map_.set("k", {"n": 1})
    item = map_.mutate("k", writer(map_, lambda: map_.mutate("k", lambda data: {"n": data["n"] * 10})))
    assert item is not None
    assert item.data == {"n": 11}


@pytest.mark.parametrize("end", ["removed", "expired", "replaced"])
def test_mutate_while_the_map_ends(store: Store, map_: Map, clock: ManualClock, end: str) -> None:
    """W4: a map that ends while ``fn`` runs is ``MapNotFound``, and an heir of its name gets nothing."""
    map_.set("k", {"n": 1})
    map_.set_ttl(10)

    def fn(data: dict[str, Any]) -> dict[str, Any]:
        clock.advance(10 if end == "expired" else 0)
        if end != "expired":
            map_.remove_map()
        if end == "replaced":
            store.map("m").set("k", {"n": 1})
        return {"n": 2}

    with pytest.raises(MapNotFound):
        map_.mutate("k", fn)
    if end == "replaced":
        assert store.map("m")["k"].data == {"n": 1}


def test_mutate_while_the_store_closes(store: Store, map_: Map) -> None:
    """W4: a store that is closed while ``fn`` runs is ``StoreClosed``."""
    map_.set("k", {"n": 1})
    with pytest.raises(StoreClosed):
        map_.mutate("k", writer(map_, store.close))


# ---------------------------------------------------------------- W5: remove


def test_remove_what_is_there(map_: Map, clock: ManualClock) -> None:
    """W5: the item goes, and it alone, and is returned exactly as it was."""
    map_.set("a", {})
    map_.set("k", {"n": 1}, ttl=60)
    clock.advance(1)
    item = map_.update("k", {"m": [2]})
    map_.set("z", {})
    clock.advance(1)
    assert map_.remove("k") == item
    assert list(map_) == ["a", "z"]
    assert map_.get("k") is None


@pytest.mark.parametrize("end", ["never there", "removed", "expired"])
def test_remove_what_is_absent(map_: Map, clock: ManualClock, end: str) -> None:
    """W5: an absent key is ``ItemNotFound``, be it never written, removed before or expired; no event."""
    map_.set("other", {})
    if end != "never there":
        map_.set("k", {}, ttl=10)
    if end == "removed":
        map_.remove("k")
    clock.advance(10)
    before = seen(map_)
    with pytest.raises(ItemNotFound) as caught:
        map_.remove("k")
    assert caught.value.key == "k"
    assert seen(map_) == before


def test_remove_takes_no_ttl(map_: Map) -> None:
    """W5: its only option is the condition."""
    map_.set("k", {})
    with pytest.raises(TypeError):
        map_.remove("k", collection_ttl=5)  # type: ignore[call-arg]
    assert "k" in map_


# ---------------------------------------------------------------- W6: times to live alone


def test_set_the_expiry_of_an_item(map_: Map, clock: ManualClock) -> None:
    """W6: only the expiry changes, and with it, for it is an event (R3), revision and date of the update."""
    old = map_.set("k", {"b": 1, "a": [1.0]}, ttl=60)
    clock.advance(5)
    item = map_.set_item_ttl("k", 10)
    assert exact(item.data) == exact(old.data)
    assert (item.date_created, item.date_updated, item.date_expires) == (NOW, NOW + seconds(5), NOW + seconds(15))
    assert (item.revision, item.created_by, map_.revision) == ("1", old.created_by, "2")
    assert map_["k"] == item
    assert map_.date_expires is None
    assert map_.set_item_ttl("k", timedelta(minutes=1)).date_expires == NOW + seconds(65)
    assert map_.set_item_ttl("k", 0).date_expires is None


@pytest.mark.parametrize("end", ["never there", "removed", "expired"])
def test_set_the_expiry_of_an_absent_item(map_: Map, clock: ManualClock, end: str) -> None:
    """W6: an item must be present, else ``ItemNotFound``: there is nothing to set, and what expired does not return."""
    if end != "never there":
        map_.set("k", {}, ttl=10)
    if end == "removed":
        map_.remove("k")
    clock.advance(10)
    before = seen(map_)
    for ttl in (60, 0):
        with pytest.raises(ItemNotFound):
            map_.set_item_ttl("k", ttl)
    assert seen(map_) == before


def test_set_the_expiry_of_the_map(store: Store, map_: Map, clock: ManualClock) -> None:
    """W6: the map's own expiry: no event, nothing removed, no date moved, and the items keep theirs."""
    map_.set("due", {}, ttl=5)
    item = map_.set("k", {}, ttl=60)
    clock.advance(5)
    updated, revision = map_.date_updated, map_.revision
    map_.set_ttl(10)
    assert map_.date_expires == NOW + seconds(15)
    assert (map_.date_updated, map_.revision, map_.date_created) == (updated, revision, NOW)
    assert map_["k"] == item
    clock.advance(-1)
    assert "due" in map_
    map_.set_ttl(0)
    assert map_.date_expires is None
    map_.set_ttl(timedelta(minutes=1))
    assert map_.date_expires == NOW + seconds(64)


def test_set_the_expiry_to_none(map_: Map) -> None:
    """W6: ``None``, which elsewhere keeps the expiry, is refused by both, as is leaving it out."""
    map_.set("k", {}, ttl=60)
    map_.set_ttl(60)
    before = seen(map_)
    with pytest.raises(InvalidTTL):
        map_.set_item_ttl("k", None)  # type: ignore[arg-type]
    with pytest.raises(InvalidTTL):
        map_.set_ttl(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        map_.set_item_ttl("k")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        map_.set_ttl()  # type: ignore[call-arg]
    assert seen(map_) == before


# ---------------------------------------------------------------- W8: what comes back, and what is judged last


WRITES: dict[str, Callable[[Map], MapItem | None]] = {
    "create": lambda map_: map_.create("new", {"n": 2}),
    "set": lambda map_: map_.set("new", {"n": 2}, ttl=5),
    "set over": lambda map_: map_.set("k", {"n": 2}),
    "update": lambda map_: map_.update("new", {"n": 2}),
    "update over": lambda map_: map_.update("k", {"n": 2}, ttl=5),
    "mutate": lambda map_: map_.mutate("new", lambda data: {"n": 2}),
    "mutate over": lambda map_: map_.mutate("k", lambda data: {"n": 2}, ttl=5),
    "set_item_ttl": lambda map_: map_.set_item_ttl("k", 5),
}


@pytest.mark.parametrize("write", WRITES)
def test_return_what_was_written(map_: Map, clock: ManualClock, write: str) -> None:
    """W8: a write returns the new item, all fields as the next read has them, and an object of its own."""
    map_.set("k", {"n": 1}, ttl=60)
    clock.advance(1)
    item = WRITES[write](map_)
    assert type(item) is MapItem
    assert item == map_[item.key]
    assert (item.revision, item.date_updated) == ("1", NOW + seconds(1))
    item.data["n"] = "changed"
    assert map_[item.key].data != item.data


def test_return_the_removed_as_it_was(map_: Map, clock: ManualClock) -> None:
    """W8: ``remove`` returns the item exactly as it was: last revision, dates, expiry, order of keys."""
    map_.set("k", {"n": 1})
    clock.advance(1)
    old = map_.set("k", {"b": 1, "a": 2}, ttl=60)
    clock.advance(1)
    item = map_.remove("k")
    assert item == old
    assert exact(item.data) == '{"b": 1, "a": 2}'
    assert (item.revision, item.date_updated, item.date_expires) == ("1", NOW + seconds(1), NOW + seconds(61))


BIG = {"big": "x" * 10_000}
MORE = {"more": "y" * 10_000}


def test_merge_beyond_the_limit(map_: Map) -> None:
    """W8: two parts that are each small enough make a whole that is not: ``DataTooLarge``, and nothing is written."""
    map_.set("k", BIG)
    before = seen(map_)
    with pytest.raises(DataTooLarge) as caught:
        map_.update("k", MORE, ttl=10, collection_ttl=10)
    whole = len(json.dumps(BIG | MORE, separators=(",", ":")))
    assert (caught.value.size, caught.value.limit) == (whole, 16_384)
    assert seen(map_) == before
    assert map_.update("other", MORE).data == MORE


def test_judge_the_merge_last(store: Store, map_: Map) -> None:
    """W8: a merge that is too large is told last, after the condition; changes that are too large alone, at once."""
    map_.set("k", BIG)
    with pytest.raises(RevisionMismatch):
        map_.update("k", MORE, if_match="5")
    with pytest.raises(ItemNotFound):
        map_.update("absent", MORE, if_match="*")
    with pytest.raises(DataTooLarge):
        map_.update("k", MORE, if_match="0")
    with pytest.raises(DataTooLarge):
        map_.update("k", {"x": "x" * 16_384}, if_match="5")
    map_.remove_map()
    with pytest.raises(MapNotFound):
        map_.update("k", MORE)


def test_merge_to_exactly_the_limit(map_: Map) -> None:
    """W8: what the merge yields is measured as any data is: the limit itself is allowed, a byte more is not."""
    map_.set("k", {"a": "x" * 10_000})
    rest = 16_384 - len('{"a":"","b":""}') - 10_000
    with pytest.raises(DataTooLarge) as caught:
        map_.update("k", {"b": "y" * (rest + 1)})
    assert caught.value.size == 16_385
    assert len(map_.update("k", {"b": "y" * rest}).data["b"]) == rest


@pytest.mark.parametrize("result", [[1], {"n": {1}}, {"x": "x" * 16_384}], ids=["no dict", "a set inside", "too large"])
def test_judge_what_fn_yields_last(map_: Map, result: Any) -> None:
    """W8: what ``fn`` returned from data that are stale by now is not told: it is called again first."""
    map_.set("k", {"n": 0})
    calls: list[dict[str, Any]] = []

    def fn(data: dict[str, Any]) -> Any:
        calls.append(dict(data))
        if len(calls) == 1:
            map_.set("k", {"n": 10})
            return result
        return {"n": data["n"] + 1}

    item = map_.mutate("k", fn)
    assert item is not None
    assert (calls, item.data) == ([{"n": 0}, {"n": 10}], {"n": 11})


@pytest.mark.parametrize("result", [[1], {"x": "x" * 16_384}], ids=["no dict", "too large"])
def test_judge_what_fn_yields_after_the_map(map_: Map, result: Any) -> None:
    """W8: nor is it told of a map that has ended by then, or after the last attempt."""
    map_.set("k", {})
    with pytest.raises(RevisionMismatch):
        map_.mutate("k", writer(map_, lambda: map_.set("k", {}), result=result), max_attempts=1)
    with pytest.raises(MapNotFound):
        map_.mutate("k", writer(map_, map_.remove_map, result=result))


# ---------------------------------------------------------------- all of it, or an error and nothing


def test_write_options_by_name_alone(map_: Map) -> None:
    """W1–W6: what is an option is given by name: a TTL by position would be too easy to mistake."""
    map_.set("k", {})
    before = seen(map_)
    calls: list[Callable[[], object]] = [
        lambda: map_.create("new", {}, 5),  # type: ignore[call-arg]
        lambda: map_.set("k", {}, 5),  # type: ignore[call-arg]
        lambda: map_.update("k", {}, 5),  # type: ignore[call-arg]
        lambda: map_.mutate("k", lambda data: {}, 5),  # type: ignore[call-arg]
        lambda: map_.remove("k", "0"),  # type: ignore[call-arg]
        lambda: map_.set_item_ttl("k", 5, "0"),  # type: ignore[call-arg]
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert seen(map_) == before


steps = st.lists(
    st.tuples(
        st.sampled_from(["create", "set", "update", "mutate", "skip", "remove", "set_item_ttl"]),
        st.sampled_from("ab"),
        objects,
        st.sampled_from([None, 0, 3]),
    ),
    max_size=25,
)


@given(steps=steps, hops=st.lists(st.integers(0, 2), min_size=25, max_size=25))
def test_write_any_sequence(steps: list[tuple[str, str, dict[str, Any], int | None]], hops: list[int]) -> None:
    """W1–W6: after any writes the map holds what a dict to which the same was done by hand does."""
    clock = ManualClock(now=1_000.0)
    map_ = Store(clock=clock).map("m")
    model: dict[str, tuple[str, float | None]] = {}
    for (verb, key, data, ttl), hop in zip(steps, hops, strict=False):
        now = clock()
        model = {name: (text, end) for name, (text, end) in model.items() if end is None or now < end}
        text, end = model.get(key, ("{}", None))
        new_end = end if ttl is None else now + ttl if ttl else None
        if verb == "create" and key in model:
            with pytest.raises(ItemExists):
                map_.create(key, data, ttl=ttl)
        elif verb in ("remove", "set_item_ttl") and key not in model:
            with pytest.raises(ItemNotFound):
                map_.remove(key) if verb == "remove" else map_.set_item_ttl(key, 3)
        elif verb == "remove":
            assert exact(map_.remove(key).data) == model.pop(key)[0]
        elif verb == "skip":
            item = map_.mutate(key, lambda data: None, ttl=ttl)
            assert (item and exact(item.data)) == (text if key in model else None)
        elif verb == "set_item_ttl":
            map_.set_item_ttl(key, 3)
            model[key] = (text, now + 3)
        elif verb == "update":
            merged = json.loads(text)
            merged.update(data)
            assert exact(map_.update(key, data, ttl=ttl).data) == exact(merged)
            model[key] = (exact(merged), new_end)
        else:
            if verb == "mutate":
                map_.mutate(key, lambda _, data=data: data, ttl=ttl)  # type: ignore[misc]
            else:
                getattr(map_, verb)(key, data, ttl=ttl)
            model[key] = (exact(data), new_end)
        assert {item.key: exact(item.data) for item in map_.range()} == {
            name: text for name, (text, _) in model.items()
        }
        clock.advance(hop)

"""Batches: several writes as one (semantics W7)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapitem import (
    Batch,
    DataTooLarge,
    InvalidData,
    InvalidKey,
    InvalidRevision,
    InvalidTTL,
    ItemExists,
    ItemNotFound,
    Limits,
    Map,
    MapItemError,
    MapNotFound,
    ReentrantUse,
    RevisionMismatch,
    Store,
    StoreClosed,
)
from mapitem.testing import ManualClock
from tests.conftest import NOW, StoreMaker


def state(store: Store) -> list[object]:
    return [(map_.sid, map_.revision, map_.date_expires, list(map_.items())) for map_ in store.maps()]


def test_apply_several_writes_to_several_maps(store: Store) -> None:
    """W7: all of them apply, in order, and ``results`` holds what the single writes would have returned."""
    one, other = store.map("one"), store.map("other")
    one.set("gone", {"old": True})
    with store.batch() as batch:
        batch.create(one, "a", {"n": 1})
        batch.set(other, "b", {"n": 2}, ttl=60)
        batch.update(one, "a", {"m": 3})
        batch.remove(one, "gone")
        batch.set_item_ttl(one, "a", 5)
        assert batch.results == []
        assert "a" not in one
    assert [(item.key, item.revision, item.data) for item in batch.results] == [
        ("a", "1", {"n": 1}),
        ("b", "0", {"n": 2}),
        ("a", "2", {"n": 1, "m": 3}),
        ("gone", "0", {"old": True}),
        ("a", "4", {"n": 1, "m": 3}),
    ]
    assert one["a"] == batch.results[4]
    assert other["b"] == batch.results[1]
    assert "gone" not in one


def test_judge_conditions_against_what_the_batch_left_so_far(store: Store, map_: Map) -> None:
    """W7: a later write sees the earlier ones: presence, revision and merged data."""
    with store.batch() as batch:
        batch.create(map_, "a", {})
        batch.set(map_, "a", {"n": 1}, if_match="0")
        batch.remove(map_, "a", if_match="1")
        batch.create(map_, "a", {"n": 2})
        batch.update(map_, "a", {"m": 1}, if_match="3")
    assert map_["a"].data == {"n": 2, "m": 1}
    assert map_["a"].revision == "4"


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (lambda batch, map_: batch.create(map_, "there", {}), ItemExists),
        (lambda batch, map_: batch.set(map_, "there", {}, if_match="ff"), RevisionMismatch),
        (lambda batch, map_: batch.set(map_, "absent", {}, if_match="*"), ItemNotFound),
        (lambda batch, map_: batch.remove(map_, "absent"), ItemNotFound),
        (lambda batch, map_: batch.set_item_ttl(map_, "absent", 5), ItemNotFound),
        (lambda batch, map_: batch.update(map_, "there", {"more": "y" * 16_000}), DataTooLarge),
    ],
)
def test_apply_nothing_if_one_fails(
    store: Store, map_: Map, fail: Callable[[Batch, Map], None], error: type[MapItemError]
) -> None:
    """W7: one write that fails at the end fails them all, and ``index`` says which it was."""
    map_.set("there", {"x": "z" * 16_000})
    before = state(store)
    with pytest.raises(error) as caught, store.batch() as batch:
        batch.set(map_, "first", {})
        batch.set(store.map("m"), "second", {})
        fail(batch, map_)
        batch.set(map_, "last", {})
    assert caught.value.index == 2
    assert batch.results == []
    assert state(store) == before


def test_raise_for_arguments_at_the_call(store: Store, map_: Map) -> None:
    """W7: each call checks its arguments at once; a batch whose call raised can go on."""
    with store.batch() as batch:
        with pytest.raises(InvalidKey) as caught:
            batch.set(map_, "", {})
        assert caught.value.index is None
        with pytest.raises(InvalidData):
            batch.create(map_, "a", {"x": (1,)})  # a tuple
        with pytest.raises(InvalidData):
            batch.update(map_, "a", [])  # type: ignore[arg-type]
        with pytest.raises(InvalidTTL):
            batch.set(map_, "a", {}, ttl=-1)
        with pytest.raises(InvalidTTL):
            batch.set_item_ttl(map_, "a", None)  # type: ignore[arg-type]
        with pytest.raises(InvalidTTL):
            batch.set(map_, "a", {}, collection_ttl=True)
        with pytest.raises(InvalidRevision):
            batch.remove(map_, "a", if_match="X")
        batch.set(map_, "good", {})
    assert list(map_) == ["good"]


def test_copy_data_at_the_call(store: Store, map_: Map) -> None:
    """W7, D4: changing the data between the call and the end of the block changes nothing."""
    data: dict[str, Any] = {"list": [1]}
    changes: dict[str, Any] = {"more": [1]}
    with store.batch() as batch:
        batch.set(map_, "a", data)
        batch.update(map_, "a", changes)
        data["list"].append(2)
        changes["more"].append(2)
    assert map_["a"].data == {"list": [1], "more": [1]}


def test_leave_everything_when_the_block_raises(store: Store, map_: Map) -> None:
    """W7: an exception in the block passes through, and nothing is written."""
    with pytest.raises(ZeroDivisionError), store.batch() as batch:
        batch.set(map_, "a", {})
        _ = 1 / 0
    assert len(map_) == 0
    assert map_.revision == "0"


def test_refuse_maps_of_another_store(store: Store, map_: Map) -> None:
    """W7: ValueError at the call for a map of another store."""
    with Store() as other, store.batch() as batch:
        with pytest.raises(ValueError, match="own store"):
            batch.set(other.map("m"), "a", {})
        with pytest.raises(ValueError, match="own store"):
            batch.set("m", "a", {})  # type: ignore[arg-type]


def test_judge_dead_maps_at_the_end(store: Store, map_: Map, clock: ManualClock) -> None:
    """W7: the map is judged at the end, with the index; a map that died in between fails the batch."""
    short = store.map("short", ttl=5)
    with pytest.raises(MapNotFound) as caught, store.batch() as batch:
        batch.set(map_, "a", {})
        batch.update(short, "b", {})
        clock.advance(5)
    assert caught.value.index == 1
    assert len(map_) == 0


def test_read_the_clock_once(make_store: StoreMaker) -> None:
    """W7: one reading of the clock for the whole batch, at its end."""
    readings: list[float] = []

    def clock() -> float:
        readings.append(NOW + len(readings))
        return readings[-1]

    store = make_store(clock=clock)
    map_ = store.map("m")
    with store.batch() as batch:
        for key in "abc":
            batch.set(map_, key, {}, ttl=60)
        readings.clear()
    assert len(readings) == 1
    assert len({(item.date_created, item.date_expires) for item in batch.results}) == 1


def test_remove_what_is_due_first_and_once(store: Store, map_: Map, clock: ManualClock) -> None:
    """W7, T4: the first write to each map removes what is due in it; a due key counts as absent throughout."""
    other = store.map("other")
    map_.set("due", {}, ttl=1)
    other.set("due too", {}, ttl=1)
    clock.advance(1)
    with store.batch() as batch:
        batch.create(map_, "due", {"again": True})
        batch.create(map_, "b", {})
    assert [item.revision for item in batch.results] == ["2", "3"]
    assert map_.revision == "4"
    assert other.revision == "1"


def test_leave_what_is_due_when_the_batch_fails(store: Store, map_: Map, clock: ManualClock) -> None:
    """W7, T4: a batch that fails leaves what is due for the next write."""
    map_.set("due", {}, ttl=1)
    clock.advance(1)
    with pytest.raises(ItemNotFound), store.batch() as batch:
        batch.set(map_, "a", {})
        batch.remove(map_, "absent")
    assert map_.revision == "1"


def test_set_the_maps_expiry_within_the_batch(store: Store, map_: Map, clock: ManualClock) -> None:
    """W7, T2: collection_ttl is part of the same step."""
    with store.batch() as batch:
        batch.set(map_, "a", {}, collection_ttl=10)
        batch.set(map_, "b", {}, collection_ttl=20)
    assert map_.date_expires is not None
    assert map_.date_expires.timestamp() == NOW + 20
    with pytest.raises(ItemExists), store.batch() as batch:
        batch.set(map_, "c", {}, collection_ttl=30)
        batch.create(map_, "a", {})
    assert map_.date_expires.timestamp() == NOW + 20


def test_write_nothing_with_an_empty_batch(make_store: StoreMaker) -> None:
    """W7: a batch of nothing is no record."""
    store = make_store()
    store.map("m")
    position = store._log.position
    with store.batch() as batch:
        pass
    assert batch.results == []
    assert store._log.position == position


def test_end_only_once(store: Store, map_: Map) -> None:
    """W7: what ended takes no more writes."""
    with store.batch() as batch:
        batch.set(map_, "a", {})
    with pytest.raises(ValueError, match="ended"):
        batch.set(map_, "b", {})


def test_begin_only_once(store: Store, map_: Map) -> None:
    """W7: a block that has ended, well or not, cannot be entered again.

    It could, and applied its writes a second time, even those of a block that had raised.
    """
    batch = store.batch()
    with pytest.raises(ZeroDivisionError), batch:
        batch.set(map_, "a", {})
        _ = 1 / 0
    with pytest.raises(ValueError, match="ended"):
        batch.__enter__()
    assert len(map_) == 0


def test_refuse_a_closed_store_first(store: Store, map_: Map) -> None:
    """C2: a closed store comes before everything, at the call, in the block and at its end."""
    batch = store.batch()
    batch.set(map_, "a", {})
    store.close()
    with pytest.raises(StoreClosed):
        batch.set(map_, "", {})
    with pytest.raises(StoreClosed):
        store.batch()
    with pytest.raises(StoreClosed):
        batch.__exit__(None, None, None)


def test_respect_the_limits_of_the_store(make_store: StoreMaker) -> None:
    """D5: limits bind writes in a batch as they bind single ones."""
    store = make_store(limits=Limits(max_key_chars=3, max_data_bytes=20))
    map_ = store.map("m")
    with store.batch() as batch:
        with pytest.raises(InvalidKey):
            batch.set(map_, "long", {})
        with pytest.raises(DataTooLarge):
            batch.set(map_, "k", {"x": "y" * 20})


def test_be_one_record(make_store: StoreMaker) -> None:
    """W7: a batch is one record of the log, whatever it holds."""
    store = make_store()
    one, other = store.map("one"), store.map("other")
    position = store._log.position
    with store.batch() as batch:
        for key in "abcdef":
            batch.set(one, key, {})
            batch.set(other, key, {}, collection_ttl=60)
    assert store._log.position == position + 1


def test_be_seen_whole_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """W7: while a batch is being applied every read of its maps waits for its end.

    Such a read, made here by the very thread that applies the batch, is told so: it would wait for itself.
    """
    one, other = store.map("one"), store.map("other")
    apply = store._engine._apply
    seen: list[object] = []

    def spy(*arguments: Any) -> None:
        apply(*arguments)
        for map_ in (one, other):
            try:
                seen.append(map_.get("a"))
            except ReentrantUse:
                seen.append("waits")

    monkeypatch.setattr(store._engine, "_apply", spy)
    with store.batch() as batch:
        batch.set(one, "a", {})
        batch.set(other, "a", {})
    assert seen == ["waits"] * 4
    assert one.get("a") is not None
    assert other.get("a") is not None


def test_survive_a_crash_whole_or_not_at_all(tmp_path: Path, clock: ManualClock) -> None:
    """W7: cut the file at every byte of the batch's record: all of the batch is there, or nothing."""
    path = tmp_path / "store"
    with Store(path, clock=clock) as store:
        one, other = store.map("one"), store.map("other")
        one.set("before", {})
        start = store._log.size
        with store.batch() as batch:
            batch.set(one, "a", {"n": 1})
            batch.set(other, "b", {"n": 2})
            batch.remove(one, "before")
        end = store._log.size
        whole = path.read_bytes()
    for cut in range(start, end + 1):
        torn = tmp_path / f"torn-{cut}"
        torn.write_bytes(whole[:cut])
        with Store(torn, clock=clock) as store:
            keys = [list(map_) for map_ in store.maps()]
        assert keys == ([["a"], ["b"]] if cut == end else [["before"], []])


keys = st.sampled_from("abc")
writes = st.one_of(
    st.tuples(st.just("create"), keys, st.none()),
    st.tuples(st.just("set"), keys, st.sampled_from([None, "*", "0", "1", "2"])),
    st.tuples(st.just("update"), keys, st.sampled_from([None, "*", "0", "1"])),
    st.tuples(st.just("remove"), keys, st.sampled_from([None, "*", "0", "1"])),
    st.tuples(st.just("set_item_ttl"), keys, st.none()),
)


@given(st.lists(writes, max_size=6), st.lists(writes, min_size=1, max_size=6))
def test_equal_the_same_writes_one_by_one(
    before: list[tuple[str, str, str | None]], inside: list[tuple[str, str, str | None]]
) -> None:
    """W7: a batch does what its writes would have done one by one, if each would have succeeded; else nothing."""

    def write(target: Any, first: tuple[Any, ...], move: tuple[str, str, str | None]) -> Any:
        verb, key, condition = move
        more = {} if condition is None else {"if_match": condition}
        if verb == "set_item_ttl":
            return target.set_item_ttl(*first, key, 1)
        if verb == "remove":
            return target.remove(*first, key, **more)
        return getattr(target, verb)(*first, key, {verb: key}, **more)

    clock = ManualClock(now=NOW)
    with Store(clock=clock) as single, Store(clock=clock) as batched:
        for store in (single, batched):
            for move in before:
                try:
                    write(store.map("m"), (), move)
                except MapItemError:
                    continue
        clock.advance(1)
        results: list[object] = []
        failure: tuple[type[MapItemError], int] | None = None
        for index, move in enumerate(inside):
            try:
                results.append(write(single.map("m"), (), move))
            except MapItemError as error:
                failure = type(error), index
                break
        untouched = list(batched.map("m").items()), batched.map("m").revision
        try:
            with batched.batch() as batch:
                for move in inside:
                    write(batch, (batched.map("m"),), move)
        except MapItemError as error:
            assert error.index is not None
            assert (type(error), error.index) == failure
            assert (list(batched.map("m").items()), batched.map("m").revision) == untouched
        else:
            assert failure is None
            assert batch.results == results
            assert list(batched.map("m").items()) == list(single.map("m").items())
            assert batched.map("m").revision == single.map("m").revision

"""``mapitem.testing.FaultyStore``: each fault as its user sees it, and no difference to ``Store`` without one."""

from __future__ import annotations

import errno
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapitem import (
    Event,
    ItemExists,
    ItemNotFound,
    ItemRemoved,
    LogCorrupt,
    Map,
    MapExists,
    MapItem,
    MapItemError,
    MapNotFound,
    MapRemoved,
    RevisionMismatch,
    Store,
    StoreClosed,
    StoreFailed,
)
from mapitem.aio import AsyncStore
from mapitem.testing import FaultyStore, ManualClock, RateLimitExceeded, cut
from mapitem.testing import strategies as some
from mapitem.testing.oracle import Oracle
from mapitem.testing.rates import RateWindow

NOW = 1_700_000_000.0


@pytest.fixture
def open_store(backing: str, tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., FaultyStore]]:
    path = tmp_path / "store.mapitem" if backing == "file" else None
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(FaultyStore(path, clock=clock, **options))


@pytest.fixture
def store(open_store: Callable[..., FaultyStore]) -> FaultyStore:
    return open_store()


@pytest.fixture
def map_(store: FaultyStore) -> Map:
    return store.map("m")


@pytest.fixture
def file_store(tmp_path: Path, clock: ManualClock) -> FaultyStore:
    return FaultyStore(tmp_path / "store.mapitem", clock=clock)


# ---------------------------------------------------------------- without a fault


def outcome(operation: some.Operation, map_: Any) -> Any:
    try:
        result = operation(map_)
    except (MapItemError, ValueError) as error:
        return type(error).__name__
    return repr(getattr(result, "items", result))


@settings(max_examples=50)
@given(st.lists(some.operations(), max_size=20))
def test_behave_as_any_store_without_a_fault(operations: list[some.Operation]) -> None:
    """W, L: whatever is done, a store that is not told to fail does what the oracle does."""
    clock = ManualClock(NOW)
    store = FaultyStore(clock=clock)
    assert isinstance(store, Store)
    map_, oracle = store.map("m"), Oracle(clock).map("m")
    for operation in operations:
        assert outcome(operation, map_) == outcome(operation, oracle), str(operation)
        clock.advance(0.7)


# ---------------------------------------------------------------- conflicts


@pytest.mark.parametrize("times", [0, 1, 3])
def test_conflict_as_often_as_asked_in_mutate(store: FaultyStore, map_: Map, times: int) -> None:
    """W4: the function is called once more for each conflict, each time on what the rival left."""
    map_.set("k", {"mine": 0, "theirs": 0})
    store.faults.conflict("k", times, by=lambda m: m.update("k", {"theirs": m["k"].data["theirs"] + 1}))
    seen = []

    def count(data: dict[str, Any]) -> dict[str, Any]:
        seen.append(data["theirs"])
        return data | {"mine": data["mine"] + 1}

    item = map_.mutate("k", count)
    assert item is not None
    assert item.data == {"mine": 1, "theirs": times}
    assert seen == list(range(times + 1))
    assert item.revision == f"{times + 1:x}"


def test_exhaust_the_attempts_of_mutate(store: FaultyStore, map_: Map) -> None:
    """W4: after ``max_attempts`` conflicts the last one is raised, with the revision that somebody else wrote."""
    map_.set("k", {})
    store.faults.conflict("k", times=5)
    with pytest.raises(RevisionMismatch) as caught:
        map_.mutate("k", lambda data: data | {"x": 1}, max_attempts=5)
    assert (caught.value.expected, caught.value.actual) == ("4", "5")
    assert map_["k"].data == {}


def test_conflict_with_a_condition_of_the_caller(store: FaultyStore, map_: Map) -> None:
    """C1: ``if_match`` fails as it would in earnest, and holds again at the revision that is read afterwards."""
    item = map_.set("k", {"x": 1})
    for write in (
        lambda revision: map_.set("k", {"x": 2}, if_match=revision),
        lambda revision: map_.update("k", {"x": 3}, if_match=revision),
        lambda revision: map_.set_item_ttl("k", 60, if_match=revision),
        lambda revision: map_.remove("k", if_match=revision),
    ):
        before = map_["k"].data
        store.faults.conflict("k")
        with pytest.raises(RevisionMismatch) as caught:
            write(item.revision)
        assert caught.value.actual == map_["k"].revision != item.revision
        assert map_["k"].data == before
        item = write(map_["k"].revision)
    assert "k" not in map_


def test_conflict_where_nothing_was(store: FaultyStore, map_: Map) -> None:
    """W1, W3, W4: somebody else creates the item first."""
    store.faults.conflict("new", by=lambda m: m.set("new", {"theirs": 1}))
    with pytest.raises(ItemExists):
        map_.create("new", {"mine": 1})
    store.faults.conflict("newer")
    seen = []
    map_.mutate("newer", lambda data: seen.append(data) or {"n": len(seen)})
    assert map_["newer"].data == {"n": 2}
    store.faults.conflict("newest", by=lambda m: m.set("newest", {"theirs": 1}))
    assert map_.update("newest", {"mine": 1}).data == {"theirs": 1, "mine": 1}


def test_conflict_by_removal(store: FaultyStore, map_: Map) -> None:
    """C1, W4: a rival may do anything at all, remove the item among it."""
    item = map_.set("k", {"x": 1})
    store.faults.conflict("k", by=lambda m: m.remove("k"))
    with pytest.raises(ItemNotFound):
        map_.set("k", {}, if_match=item.revision)
    map_.set("k", {"x": 1})
    store.faults.conflict("k", by=lambda m: m.remove("k"))
    assert map_.mutate("k", lambda data: {"found": data}).data == {"found": {}}


def test_leave_other_writes_alone(store: FaultyStore, map_: Map) -> None:
    """What no write of somebody else can break is no conditional write, and other keys and maps have their own."""
    map_.set("k", {})
    other = store.map("other")
    store.faults.conflict("k", map=map_)
    map_.set("k", {})
    map_.set("k", {}, if_match="*")
    map_.set_item_ttl("k", 60)
    map_.mutate("j", lambda data: {"x": 1})
    other.create("k", {})
    assert map_["k"].revision == "3"
    with pytest.raises(RevisionMismatch):
        map_.remove("k", if_match="3")
    map_.remove("k")


def test_conflict_in_a_batch(store: FaultyStore, map_: Map) -> None:
    """W7: the error says which write it was, and nothing of the batch is written."""
    item = map_.set("k", {"x": 1})
    for verb, arguments in (
        ("set", ({},)),
        ("update", ({},)),
        ("remove", ()),
        ("set_item_ttl", (60,)),
    ):
        store.faults.conflict("k")
        with pytest.raises(RevisionMismatch) as caught, store.batch() as batch:
            batch.set(map_, "j", {})
            getattr(batch, verb)(map_, "k", *arguments, if_match=map_["k"].revision)
        assert caught.value.index == 1
    store.faults.conflict("new")
    with pytest.raises(ItemExists), store.batch() as batch:
        batch.create(map_, "new", {})
    assert (set(map_), map_["k"].data) == ({"k", "new"}, item.data)


def test_conflict_on_whichever_thread_writes(store: FaultyStore, map_: Map) -> None:
    """Among threads each conflict happens once, and no write is lost for it."""
    map_.set("k", {"n": 0})
    store.faults.conflict("k", times=20)
    calls = []

    def work() -> None:
        for _ in range(10):
            map_.mutate("k", lambda data: calls.append(1) or {"n": data["n"] + 1})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert map_["k"].data == {"n": 40}
    assert len(calls) >= 60


# ---------------------------------------------------------------- rates


def test_refuse_what_the_service_would_not_take(store: FaultyStore, map_: Map, clock: ManualClock) -> None:
    """200 writes within ten seconds and map, then 429 with the service's code until there is room again."""
    store.faults.limit_rates()
    for number in range(200):
        map_.set("k", {"n": number})
        clock.advance(0.01)
    with pytest.raises(RateLimitExceeded) as caught:
        map_.set("k", {"n": 200})
    error = caught.value
    assert (error.status, error.code, error.name) == (429, 54009, map_.sid)
    assert str(error) == f"Rate limit exceeded for write-map-{map_.sid}"
    assert error.retry_after == pytest.approx(8.0)
    assert isinstance(error, MapItemError)
    assert map_["k"].data == {"n": 199}
    store.map("other").set("k", {})  # each map has its own budget
    clock.advance(error.retry_after)
    map_.set("k", {"n": 200})
    with pytest.raises(RateLimitExceeded):
        map_.set("k", {"n": 201})


@pytest.mark.parametrize(
    ("size", "per_second"), [(64, 20), (1024, 20), (2048, 10), (5120, 4), (10_240, 2), (16_384, 2)]
)
def test_take_fewer_writes_of_large_data(clock: ManualClock, size: int, per_second: int) -> None:
    """20 a second up to 1 KiB, 2 a second from 10 KiB on, and between them in proportion: over ten seconds."""
    store = FaultyStore(clock=clock)
    store.faults.limit_rates()
    map_ = store.map("m")
    data = {"s": "x" * (size - 8)}
    for _ in range(10 * per_second):
        map_.set("k", data)
    with pytest.raises(RateLimitExceeded) as caught:
        map_.set("k", data)
    assert caught.value.retry_after == 10.0


WRITES: dict[str, Callable[[Store, Map], object]] = {
    "create": lambda store, map_: map_.create("new", {}),
    "set": lambda store, map_: map_.set("k", {}),
    "update": lambda store, map_: map_.update("k", {}),
    "mutate": lambda store, map_: map_.mutate("k", lambda data: {}),
    "remove": lambda store, map_: map_.remove("k"),
    "set_item_ttl": lambda store, map_: map_.set_item_ttl("k", 1),
    "set_ttl": lambda store, map_: map_.set_ttl(1),
    "remove_map": lambda store, map_: map_.remove_map(),
}


@pytest.mark.parametrize("verb", WRITES)
def test_count_every_verb_that_writes(store: FaultyStore, map_: Map, verb: str) -> None:
    """Each verb takes of the map's budget, and none of them gets past it."""
    map_.set("k", {})
    store.faults.limit_rates(per_second=1, window_seconds=1)
    map_.set("j", {})
    with pytest.raises(RateLimitExceeded):
        WRITES[verb](store, map_)
    store.faults.limit_rates(per_second=1, window_seconds=1)
    WRITES[verb](store, map_)
    if verb != "remove_map":
        with pytest.raises(RateLimitExceeded):
            map_.set("j", {})


def test_count_each_write_of_a_batch(store: FaultyStore, map_: Map) -> None:
    """A batch of three takes the room of three, and takes none if there is too little."""
    store.faults.limit_rates(per_second=4, window_seconds=1)
    for fits in (True, False):
        try:
            with store.batch() as batch:
                for key in "abc":
                    batch.set(map_, key, {"fits": fits})
        except RateLimitExceeded:
            assert not fits
    assert map_["a"].data == {"fits": True}
    map_.set("d", {})
    with pytest.raises(RateLimitExceeded):
        map_.set("e", {})


def test_count_no_reads_and_no_expiry(store: FaultyStore, map_: Map, clock: ManualClock) -> None:
    """Reads, purges, compaction and the making of maps are free, and a rival of our own making is."""
    for key in "abc":
        map_.set(key, {}, ttl=1)
    clock.advance(2)
    store.faults.limit_rates(per_second=1, window_seconds=1)
    store.faults.conflict("k")
    for _ in range(5):
        assert list(map_) == []
        map_.purge()
        store.purge()
        store.compact()
        store.create_map()
    with pytest.raises(ItemExists):
        map_.create("k", {})


def test_tell_arguments_before_rates(store: FaultyStore, map_: Map) -> None:
    """C2: a write with a bad argument is told so, and takes nothing of the budget."""
    store.faults.limit_rates(per_second=1, window_seconds=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="key"):
            map_.set("", {})
    map_.set("k", {})


def test_lift_the_limit(store: FaultyStore, map_: Map) -> None:
    """``clear`` ends it at once."""
    store.faults.limit_rates(per_second=1, window_seconds=1)
    map_.set("k", {})
    store.faults.clear()
    map_.set("k", {})


@given(
    st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 20_000)), max_size=25),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_never_take_more_than_the_budget(moves: list[tuple[int, int]], per_second: int, seconds: int) -> None:
    """Over any window, what was taken is at most the budget; after ``retry_after`` what was refused fits."""
    window = RateWindow(per_second, seconds)
    budget = per_second * seconds * 1024
    now = 10**9
    taken: list[tuple[int, int]] = []
    for step, size in moves:
        now += step * 300_000
        if step < 0:
            taken.clear()  # a clock that goes back begins anew
        cost = min(max(size, 1024), 10_240)
        recent = sum(each for date, each in taken if date > now - seconds * 1_000_000)
        if recent + cost <= budget:
            window.check([size], now, "m")
            window.note([size], now)
            taken.append((now, cost))
            continue
        with pytest.raises(RateLimitExceeded) as caught:
            window.check([size], now, "m")
        wait = caught.value.retry_after
        if wait == float("inf"):
            assert cost > budget
            continue
        later = now + round(wait * 1_000_000)
        assert sum(each for date, each in taken if date > later - seconds * 1_000_000) + cost <= budget
        assert sum(each for date, each in taken if date > later - 1 - seconds * 1_000_000) + cost > budget


# ---------------------------------------------------------------- the disk


@pytest.mark.parametrize("written", [0, 5, 1000])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_fail_an_append(store: FaultyStore, map_: Map, error: int, written: int) -> None:
    """F1: the write raises, nothing is written and nobody told, and the store works on."""
    map_.set("k", {"x": 1})
    heard: list[Event] = []
    store.on(Event, heard.append)
    store.faults.fail_append(error, written=written)
    with pytest.raises(OSError, match=os.strerror(error)) as caught:
        map_.set("k", {"x": 2})
    assert caught.value.errno == error
    assert (map_["k"].data, map_.revision, heard) == ({"x": 1}, "1", [])
    assert map_.set("k", {"x": 3}).revision == "1"
    assert [event.item.data for event in map_.changes()] == [{"x": 1}, {"x": 3}]


def test_fail_the_appends_that_were_asked_for(store: FaultyStore, map_: Map) -> None:
    """Only what has something to write counts: the third and fourth such write fail here."""
    store.faults.fail_append(times=2, after=2)
    map_.set("a", {})
    map_.purge()  # nothing to do
    with pytest.raises(ItemNotFound):
        map_.remove("b")
    map_.set("b", {})
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            map_.set("c", {})
    map_.set("c", {})
    assert list(map_) == ["a", "b", "c"]


def test_find_nothing_of_a_failed_append_in_the_file(file_store: FaultyStore, clock: ManualClock) -> None:
    """F1: after a short write the file is what it was, also for who opens it next."""
    map_ = file_store.map("m")
    map_.set("a", {})
    file_store.faults.fail_append(written=7)
    with pytest.raises(OSError, match="No space"):
        map_.set("b", {})
    file_store.close()
    with Store(file_store._path, clock=clock) as again:
        assert again.recovery is None
        assert list(again.open_map("m")) == ["a"]


def test_fail_a_sync(file_store: FaultyStore) -> None:
    """F2: no more writes until the store is opened anew, while reads go on."""
    map_ = file_store.map("m")
    map_.set("a", {})
    file_store.faults.fail_sync(after=1)
    file_store.sync()
    map_.set("b", {})
    with pytest.raises(StoreFailed) as caught:
        file_store.sync()
    assert caught.value.outcome_unknown
    assert list(map_) == ["a", "b"]
    with pytest.raises(StoreFailed):
        map_.set("c", {})
    with pytest.raises(StoreFailed):
        file_store.close()


def test_fail_a_sync_that_a_write_waits_for(tmp_path: Path) -> None:
    """F2, P1: at ``durability="power"`` the write itself says that its outcome is unknown."""
    with FaultyStore(tmp_path / "s.mapitem", durability="power") as store:
        map_ = store.map("m")
        store.faults.fail_sync()
        with pytest.raises(StoreFailed) as caught:
            map_.set("a", {})
        assert caught.value.outcome_unknown
        store.faults.crash()


def test_have_no_file_in_memory() -> None:
    """What needs a file is refused, not ignored."""
    store = FaultyStore()
    for ask in (store.faults.fail_sync, store.faults.crash):
        with pytest.raises(ValueError, match="in memory"):
            ask()
    assert store.map("m").set("k", {}).revision == "0"


# ---------------------------------------------------------------- crashes


def test_crash(file_store: FaultyStore, clock: ManualClock) -> None:
    """P1, R5: what was acknowledged is there after the crash, which is visible; the crashed store is closed."""
    map_ = file_store.map("m")
    map_.set("a", {"x": 1})
    file_store.faults.crash()
    for use in (lambda: map_.set("b", {}), lambda: map_.get("a"), file_store.faults.crash):
        with pytest.raises(StoreClosed):
            use()
    file_store.close()
    with Store(file_store._path, clock=clock) as again:
        assert again.recovery is not None
        assert again.recovery.dropped_bytes == 0
        assert again.open_map("m")["a"].data == {"x": 1}


def test_crash_while_a_compaction_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M1: the old log is the one that is found, and what was half written is gone; no descriptor is left open."""
    before = len(os.listdir("/dev/fd"))
    store = FaultyStore(tmp_path / "s.mapitem")
    map_ = store.map("m")
    for number in range(2000):
        map_.set(f"{number:04}", {"s": "x" * 200})
    step = store._compact_step

    def crash_in_the_middle() -> bool:
        while len(os.listdir(tmp_path)) < 3:
            assert not step()
        store.faults.crash()
        return step()

    monkeypatch.setattr(store, "_compact_step", crash_in_the_middle)
    with pytest.raises(StoreClosed):
        store.compact()
    with Store(tmp_path / "s.mapitem") as again:
        assert len(again.open_map("m")) == 2000
    assert sorted(os.listdir(tmp_path)) == ["s.mapitem", "s.mapitem.lock"]
    assert len(os.listdir("/dev/fd")) == before


def test_cut_the_file_anywhere(tmp_path: Path) -> None:
    """P3, R2: cut behind any byte, the file is opened with a first part of the writes, or is seen to be damaged."""
    path = tmp_path / "s.mapitem"
    store = FaultyStore(path)
    map_ = store.map("m")
    ends = [os.path.getsize(path)]
    for number in range(4):
        map_.set(f"k{number}", {})
        ends.append(os.path.getsize(path))
    store.faults.crash()
    whole = path.read_bytes()
    opened = []
    near_ends = {end + step for end in ends for step in (-1, 0, 1)}
    for size in sorted({*range(0, len(whole), 7), *near_ends} & set(range(len(whole) + 1))):
        path.write_bytes(whole)
        cut(path, size)
        assert path.read_bytes() == whole[:size]
        try:
            again = Store(path)
        except MapItemError:
            assert not opened, "a longer file is no worse"
            continue
        with again:
            keys = [key for found in again.maps() for key in found]
            assert len(keys) == sum(end <= size for end in ends[1:])
            opened.append(size)
            assert again.recovery is not None
            assert bool(again.recovery.dropped_bytes) == (size not in ends) or size < ends[0]
    assert set(ends) < set(opened)


def test_crash_and_cut_at_once(file_store: FaultyStore, clock: ManualClock) -> None:
    """R2: ``cut_at`` below 0 counts from the end; the last write is torn."""
    map_ = file_store.map("m")
    map_.set("a", {})
    map_.set("b", {})
    file_store.faults.crash(cut_at=-1)
    with Store(file_store._path, clock=clock) as again:
        assert list(again.open_map("m")) == ["a"]
        assert again.recovery.dropped_bytes > 0


def test_cut_too_much(file_store: FaultyStore) -> None:
    """R3, R6: what the file had from its making cannot be missing. A place that is not in the file is an error."""
    file_store.close()
    size = os.path.getsize(file_store._path)
    for at in (size + 1, -size - 1):
        with pytest.raises(ValueError, match="is not in the file"):
            cut(file_store._path, at)
    cut(file_store._path, 60)
    with pytest.raises((LogCorrupt, MapItemError)):
        Store(file_store._path)


# ---------------------------------------------------------------- late expiry


def test_show_what_expired_for_a_while(store: FaultyStore, map_: Map, clock: ManualClock) -> None:
    """An expired item is there for every read and condition, until the lag is over; then rule T3 holds."""
    store.faults.expire_late(by=15)
    item = map_.set("k", {"x": 1}, ttl=10)
    clock.advance(24.9)
    assert item.date_expires.timestamp() < clock()
    assert map_["k"] == item
    assert ("k" in map_, len(map_), list(map_), list(map_.range()), map_.page().items) == (
        True,
        1,
        ["k"],
        [item],
        (item,),
    )
    with pytest.raises(ItemExists):
        map_.create("k", {})
    clock.advance(0.1)
    assert ("k" in map_, len(map_), list(map_), list(map_.range()), map_.page().items) == (False, 0, [], [], ())
    with pytest.raises(ItemNotFound):
        map_.set("k", {}, if_match=item.revision)
    heard: list[Event] = []
    map_.on(Event, heard.append)
    map_.create("k", {"x": 2})
    removed = heard[0]
    assert isinstance(removed, ItemRemoved)
    assert (removed.expired, removed.date.timestamp(), removed.previous) == (True, clock(), item)


def test_write_to_what_shows_late(store: FaultyStore, map_: Map, clock: ManualClock) -> None:
    """T1: a late item is written like any other: it keeps its expiry, or gets a new one and lives."""
    store.faults.expire_late(by=15)
    map_.set("a", {}, ttl=10)
    map_.set("b", {}, ttl=10)
    clock.advance(12)
    assert map_.update("a", {"x": 1}, if_match="0").date_expires.timestamp() == NOW + 10
    assert map_.set_item_ttl("b", 60).date_expires.timestamp() == clock() + 60
    assert map_.purge() == 0
    with store.batch() as batch:
        batch.update(map_, "a", {"x": 2}, if_match="2")
    clock.advance(13)
    assert list(map_) == ["b"]
    assert map_.purge() == 1


def test_show_maps_that_expired_for_a_while(store: FaultyStore, clock: ManualClock) -> None:
    """T5: an expired map and its name are there until the lag is over."""
    store.faults.expire_late(by=15)
    heard: list[Event] = []
    store.on(MapRemoved, heard.append)
    map_ = store.create_map("m", ttl=10)
    map_.set("k", {})
    clock.advance(20)
    assert (store.open_map("m"), list(store.maps()), list(map_)) == (map_, [map_], ["k"])
    with pytest.raises(MapExists):
        store.create_map("m")
    assert store.purge() == 0
    clock.advance(5)
    with pytest.raises(MapNotFound):
        map_.get("k")
    assert store.create_map("m") != map_
    assert [event.expired for event in heard] == [True]


def test_change_the_lag_at_any_time(store: FaultyStore, map_: Map, clock: ManualClock) -> None:
    """Absence is judged anew at each call (T3): a shorter lag hides, a longer one shows."""
    map_.set("k", {}, ttl=10)
    clock.advance(12)
    assert "k" not in map_
    store.faults.expire_late(by=5)
    assert "k" in map_
    store.faults.clear()
    assert "k" not in map_


def longer(operation: some.Operation, lag: int) -> some.Operation:
    """The same call with every time to live longer by the lag."""

    def stretched(ttl: Any) -> Any:
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
        return int(seconds) + lag if seconds and seconds < 1000 else ttl

    args = list(operation.args)
    if operation.verb in ("set_item_ttl", "set_ttl"):
        args[-1] = stretched(args[-1])
    ttls = {name: stretched(ttl) for name, ttl in operation.kwargs.items() if name in ("ttl", "collection_ttl")}
    return operation._replace(args=tuple(args), kwargs=operation.kwargs | ttls)


def test_close_no_file_twice_after_a_crash(tmp_path: Path) -> None:
    """The crash closed the new log of a compaction under way; its finalizer closed that number again, now another's."""
    store = FaultyStore(tmp_path / "store")
    store.map("m").set("a", {})
    store._compactor.begin()
    running = store._compactor.running
    assert running is not None
    running.new.flush()
    descriptor = running.new.file.descriptor
    store.faults.crash()
    with (tmp_path / "other").open("wb") as other:
        assert other.fileno() <= descriptor
        more = [os.dup(other.fileno()) for _ in range(descriptor - other.fileno())]
        assert descriptor in (other.fileno(), *more)
        del running, store
        gc.collect()
        for each in (other.fileno(), *more):
            os.fstat(each)
        for each in more:
            os.close(each)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(some.writes(), st.sampled_from([0, 0.5, 1, 2, 5])), max_size=15), st.sampled_from([0, 1, 3, 60])
)
def test_do_as_if_every_time_to_live_were_longer(moves: list[tuple[some.Operation, float]], lag: int) -> None:
    """A lagging store shows, takes and refuses what the rules say of times to live that are longer by the lag."""
    clock = ManualClock(NOW)
    store = FaultyStore(clock=clock)
    store.faults.expire_late(by=lag)
    map_, oracle = store.map("m"), Oracle(clock).map("m")
    for operation, step in moves:
        ours, theirs = (result_kind(each) for each in ((operation, map_), (longer(operation, lag), oracle)))
        assert ours == theirs, str(operation)
        clock.advance(step)
        assert result_kind((KEYS, map_)) == result_kind((KEYS, oracle))


KEYS = some.Operation("range")


def result_kind(call: tuple[some.Operation, Any]) -> Any:
    """The error, or what was found but for its expiry."""
    operation, map_ = call
    try:
        result = operation(map_)
    except (MapItemError, ValueError) as error:
        return type(error).__name__
    if isinstance(result, list):
        return [(item.key, item.data, item.revision) for item in result]
    return (result.key, result.data, result.revision) if isinstance(result, MapItem) else result


# ---------------------------------------------------------------- together with the rest


def test_work_under_asyncio(tmp_path: Path) -> None:
    """``AsyncStore`` over a faulty store meets its faults."""
    import asyncio

    async def main() -> None:
        with FaultyStore(tmp_path / "s.mapitem", durability="power") as store:
            durable = AsyncStore(store)
            map_ = store.map("m")
            await durable.write(map_.set, "k", {})
            store.faults.fail_append()
            with pytest.raises(OSError, match="No space"):
                await durable.write(map_.set, "k", {"x": 1})
            async with durable.batch() as batch:
                batch.set(map_, "k", {"x": 2})
            assert map_["k"].data == {"x": 2}

    asyncio.run(main())


def test_open_read_only_beside_a_writer(file_store: FaultyStore, clock: ManualClock) -> None:
    """R7: a reader may lag, too, and goes on lagging over a refresh."""
    map_ = file_store.map("m")
    map_.set("k", {}, ttl=10)
    with FaultyStore(file_store._path, clock=clock, read_only=True) as reader:
        reader.faults.expire_late(by=15)
        clock.advance(12)
        assert list(reader.open_map("m")) == ["k"]
        reader.refresh()
        assert list(reader.open_map("m")) == ["k"]
        assert list(map_) == []
    file_store.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda faults: faults.conflict("k", times=-1),
        lambda faults: faults.fail_append(times=True),
        lambda faults: faults.limit_rates(per_second=0),
        lambda faults: faults.limit_rates(window_seconds=-1),
        lambda faults: faults.expire_late(by=-1),
    ],
)
def test_refuse_what_makes_no_sense(call: Callable[[Any], object]) -> None:
    """A fault that could not be meant is an error at once."""
    with pytest.raises(ValueError, match=r"must be|at least"):
        call(FaultyStore().faults)

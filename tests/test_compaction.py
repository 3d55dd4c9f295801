"""Rewriting the log: nothing that can be read changes, writers go on, the file stays small (durability M).

The steps of a compaction are driven by hand here, through ``store._compact_step``, so that writes fall between any two
of them; blocks are made small for that.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kill.workload import feed, look, moves, play

import mapitem.compaction
import mapitem.compactor
import mapitem.memorylog
import mapitem.newlog
import mapitem.preallocation
import mapitem.state
from mapitem import HistoryCompacted, ItemAdded, MapNotFound, Store, StoreFailed
from mapitem.disk import Disk
from mapitem.log import FileLog
from mapitem.memorylog import MemoryLog
from mapitem.testing import ManualClock
from mapitem.testing.oracle import Oracle

NOW = 1_700_000_000.0
KIB = 1024


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of a compaction is a few items, so that small maps are written in many steps."""
    shrink_blocks(monkeypatch, 3)


def shrink_blocks(monkeypatch: pytest.MonkeyPatch, items: int) -> None:
    monkeypatch.setattr(mapitem.state, "ITEMS_PER_BLOCK", items)
    monkeypatch.setattr(mapitem.compaction, "ITEMS_PER_BLOCK", items)


def begin(store: Store) -> None:
    """Begin a compaction and take no step of it yet."""
    with store._reading():
        store._compactor.begin()


def end(store: Store) -> None:
    while not store._compact_step():
        pass


def temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


# ---------------------------------------------------------------- nothing that can be read changes


@st.composite
def schedules(draw: st.DrawFn) -> list[Any]:
    """Moves of the workload, and between them steps of a compaction (a number), in any mixture."""
    plan = moves(draw(st.integers(0, 10_000)), 0, alone=True)
    made = list(islice(plan, draw(st.integers(0, 120))))  # before the compaction begins
    during = list(islice(plan, draw(st.integers(0, 60))))
    steps = draw(st.lists(st.integers(0, 3), min_size=len(during), max_size=len(during)))
    mixed: list[Any] = [*made, "begin"]
    for move, count in zip(during, steps, strict=True):
        mixed += [move, count]
    return [*mixed, "end", *islice(plan, 10)]


@settings(max_examples=settings().max_examples // 2)
@given(schedule=schedules())
def test_show_the_same_with_writes_between_any_two_steps(
    tmp_path_factory: pytest.TempPathFactory, schedule: list[Any]
) -> None:
    """M2, M3: content, order, revisions, dates and expiries are what a model says, whatever was written meanwhile."""
    path = tmp_path_factory.mktemp("compaction") / "store.mapitem"
    clock = ManualClock(NOW)
    oracle = Oracle(clock)
    sids: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as monkeypatch, Store(path, clock=clock, compact_at=None) as store:
        shrink_blocks(monkeypatch, 3)
        for entry in schedule:
            if entry == "begin":
                begin(store)
            elif entry == "end":
                end(store)
            elif isinstance(entry, int):
                for _ in range(entry):
                    store._compact_step()
            else:
                if entry[0] in ("reopen", "sync", "backup", "compact"):
                    continue  # the schedule has a compaction of its own
                instant = clock()
                expected = play(entry, oracle, clock, lambda _: None)
                clock.set(instant)
                assert play(entry, store, clock, lambda _: None) == expected
                sids.update({map_.sid: str(map_.name) for map_ in store.maps()})
        assert look(store) == look(oracle)
        shown = {map_.sid: feed(map_) for map_ in store.maps()}
    assert not temporary(path).exists()
    with Store(path, clock=clock) as store:
        assert store.recovery is None
        assert look(store) == look(oracle)
        for map_ in store.maps():
            assert sids[map_.sid] == map_.name
            oldest, events = feed(map_)
            assert (oldest, events) == shown[map_.sid]
            assert events == feed(oracle.open_map(str(map_.name)))[1][oldest:]


def test_reuse_a_name_while_a_compaction_is_anywhere(tmp_path: Path, small_blocks: None) -> None:
    """M2, K6: a map that ends, and one that takes its name, between any two steps."""
    reached = 0
    for steps in range(40):
        path = tmp_path / f"{steps}.mapitem"
        with Store(path) as store:
            for name in ("a", "b", "c"):
                map_ = store.map(name)
                for number in range(7):
                    map_.set(f"{number}", {"of": name})
            begin(store)
            for _ in range(steps):
                reached = max(reached, store._compact_step())
            dead = store.map("b")
            dead.remove_map()
            new = store.map("b")
            new.set("new", {})
            end(store)
            shown = look(store)
        with Store(path) as store:
            assert look(store) == shown
            assert store.open_map("b").sid == new.sid
            assert list(store.open_map("b")) == ["new"]
            with pytest.raises(MapNotFound):
                store.open_map(dead.sid)
    assert reached, "the compaction was never over before the name was taken again"


def test_go_on_with_pages_and_numbers_after_a_compaction(tmp_path: Path, small_blocks: None) -> None:
    """M2: page tokens, sids, counters and revisions are those of before; no number comes twice."""
    with Store(tmp_path / "store.mapitem") as store:
        map_ = store.map("m")
        for number in range(20):
            map_.set(f"{number:02}", {})
        last = map_.set("gone", {}).revision
        map_.remove("gone")
        page = map_.page(page_size=5)
        before = (map_.sid, map_.revision, map_.date_created, map_.date_updated)
        store.compact()
        assert (map_.sid, map_.revision, map_.date_created, map_.date_updated) == before
        following = map_.page(page_token=page.next_page_token, page_size=5)
        assert [item.key for item in following.items] == ["05", "06", "07", "08", "09"]
        assert int(map_.set("gone", {}).revision, 16) == int(last, 16) + 2
    with Store(tmp_path / "store.mapitem") as store:
        again = store.open_map(before[0]).page(page_token=following.previous_page_token, page_size=5)
        assert again.items == page.items


@pytest.mark.parametrize("by_hand", [True, False])
def test_lose_nothing_under_threads_that_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_hand: bool) -> None:
    """M3: what threads write while log after log is written is all there, as a model of each has it."""
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", 2**62 if by_hand else 16 * KIB)
    shrink_blocks(monkeypatch, 3)
    clock = ManualClock(NOW)
    path = tmp_path / "store.mapitem"
    failures: list[BaseException] = []
    counted = CountingDisk()
    oracles = [Oracle(clock) for _ in range(3)]

    def work(stream: int) -> None:
        try:
            for move in islice(moves(7, stream, alone=False), 400):
                if move[0] in ("sync", "backup", "compact"):
                    continue
                expected = play(move, oracles[stream], clock, lambda _: None)
                assert play(move, store, clock, lambda _: None) == expected
        except BaseException as error:
            failures.append(error)

    with store_on(counted, path, clock=clock, compact_at=1.1) as store:
        threads = [threading.Thread(target=work, args=(stream,)) for stream in range(3)]
        for thread in threads:
            thread.start()
        while by_hand and any(thread.is_alive() for thread in threads):
            store.compact()
        for thread in threads:
            thread.join()
        assert not failures
        assert counted.renames > 3, "too few compactions for this to prove anything"
        for stream, oracle in enumerate(oracles):
            assert look(store, f"s{stream}-") == look(oracle)
    with Store(path, clock=clock) as store:
        for stream, oracle in enumerate(oracles):
            assert look(store, f"s{stream}-") == look(oracle)


class CountingDisk(Disk):
    """The real disk, with a count of what went to it."""

    def __init__(self) -> None:
        self.renames = 0
        self.written = 0

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        self.written += len(data)
        return super().write(descriptor, data, offset)

    def replace(self, source: str, target: str) -> None:
        super().replace(source, target)
        self.renames += 1


def store_on(disk: Disk, path: Path, **options: Any) -> Store:
    class Simulated(Store):
        _disk = disk

    return Simulated(path, **options)


def test_remove_what_is_due_first_and_as_events(tmp_path: Path) -> None:
    """M2: what is due when ``compact`` is called goes as events, which count."""
    clock = ManualClock(NOW)
    with Store(tmp_path / "store.mapitem", clock=clock) as store:
        map_ = store.map("m")
        map_.set("a", {}, ttl=1)
        map_.set("b", {})
        clock.advance(1)
        heard: list[Any] = []
        map_.on(mapitem.Event, heard.append)
        store.compact()
        assert [(event.key, event.expired) for event in heard] == [("a", True)]
        assert map_.revision == "3"
        clock.advance(-1)
        assert list(map_) == ["b"]


def test_keep_an_expiry_that_comes_during_a_compaction(tmp_path: Path, small_blocks: None) -> None:
    """M2, T4: items that become due while blocks are written are carried over, and go with the next write."""
    clock = ManualClock(NOW)
    with Store(tmp_path / "store.mapitem", clock=clock) as store:
        map_ = store.map("m")
        for number in range(10):
            map_.set(f"{number}", {}, ttl=number + 1)
        begin(store)
        for _ in range(3):
            store._compact_step()
        clock.advance(5)
        map_.set("later", {})
        end(store)
        shown = look(store)
        assert list(map_) == ["5", "6", "7", "8", "9", "later"]
    with Store(tmp_path / "store.mapitem", clock=clock) as store:
        assert look(store) == shown
        assert store.map("m").revision == "10"  # 10 items, 5 expiries, 1 write, in hex


# ---------------------------------------------------------------- the size of the file


Shape = Callable[[Random, int], tuple[str, str, int]]
"""The n-th move: a map, a key, and how large a value to set; -1 removes the key, or the map if there is no key."""


def overwrite_few(random: Random, number: int) -> tuple[str, str, int]:
    return "m", f"{random.randrange(5)}", 300


def overwrite_many(random: Random, number: int) -> tuple[str, str, int]:
    return "m", f"{random.randrange(2000)}", 40


def overwrite_in_order(random: Random, number: int) -> tuple[str, str, int]:
    return "m", f"{number % 3000:05}", 60


def large_values(random: Random, number: int) -> tuple[str, str, int]:
    return "m", f"{random.randrange(30)}", 12_000 if number % 3 else 5


def tiny_values(random: Random, number: int) -> tuple[str, str, int]:
    return "m", f"{random.randrange(4000)}", 0


def growing_and_shrinking(random: Random, number: int) -> tuple[str, str, int]:
    return "m", f"{random.randrange(50)}", abs(4000 - number) // 2


def come_and_go(random: Random, number: int) -> tuple[str, str, int]:
    # Half of the moves remove what there is.
    return "m", f"{random.randrange(1500)}", random.choice([-1, 100])


def fill_and_empty(random: Random, number: int) -> tuple[str, str, int]:
    return "m", f"{number % 1500:04}", -1 if number // 1500 % 2 else 150


def many_maps(random: Random, number: int) -> tuple[str, str, int]:
    return f"m{random.randrange(300)}", f"{random.randrange(2)}", 30


def maps_that_come_and_go(random: Random, number: int) -> tuple[str, str, int]:
    return f"m{random.randrange(100)}", "", -1 if number % 7 == 0 else 50


MOVES: dict[Shape, int] = {large_values: 2000}
# The moves over which the largest size of what was live counts: where all is removed at one go, the file follows.
LAG: dict[Shape, int] = {fill_and_empty: 1000}
SHAPES = [
    overwrite_few,
    overwrite_many,
    overwrite_in_order,
    large_values,
    tiny_values,
    growing_and_shrinking,
    come_and_go,
    fill_and_empty,
    many_maps,
    maps_that_come_and_go,
]


@pytest.mark.parametrize("shape", SHAPES)
def test_keep_the_file_small_under_endless_overwriting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: Shape
) -> None:
    """M4: the file stays below twice what is live and a constant; with the one being written, below three times."""
    threshold = 32 * KIB
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", threshold)
    # What is allocated ahead belongs to the constant: about a fourth of the threshold, as in earnest.
    for room in (mapitem.preallocation, mapitem.frames):
        monkeypatch.setattr(room, "ALLOCATED_BYTES", 4 * KIB)
    monkeypatch.setattr(mapitem.preallocation, "_LEAST_AHEAD_BYTES", 2 * KIB)
    monkeypatch.setattr(mapitem.preallocation, "_MOST_AHEAD_BYTES", 8 * KIB)
    constant = 2 * threshold
    path = tmp_path / "store.mapitem"
    random = Random(5)
    counted = CountingDisk()
    live: dict[tuple[str, str], int] = {}
    recent: deque[int] = deque(maxlen=LAG.get(shape, 10) // 10)
    with store_on(counted, path) as store:
        for number in range(MOVES.get(shape, 8000)):
            name, key, size = shape(random, number)
            if size >= 0:
                # What an item takes at the least: a row's head, its creator, the key, the data.
                live[name, key] = 37 + 7 + len(key) + 3 + size
                store.map(name).set(key or "k", {"": "x" * size})
            elif key:
                live.pop((name, key), None)
                with suppress(mapitem.ItemNotFound):
                    store.map(name).remove(key)
            else:
                live.pop((name, key), None)
                store.map(name).remove_map()
            if number % 10 == 0:
                recent.append(sum(live.values()) + 150 * len({name for name, _ in live}))
                there = max(recent)
                old = path.stat().st_size
                assert old < 2 * there + constant, number
                new = temporary(path)
                assert old + (new.stat().st_size if new.exists() else 0) < 3 * there + constant, number
    assert counted.renames > 3
    # What the bound leaves free must not be what makes it hold.
    assert counted.written > 2 * constant


def test_shrink_after_most_of_a_large_store_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M4: what was live when the size was last looked at does not hold up the compaction that is due since."""
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", 32 * KIB)
    path = tmp_path / "store.mapitem"
    with Store(path) as store:
        for number in range(3000):
            store.map("large").set(f"{number}", {"": "x" * 300})
        full = path.stat().st_size
        store.map("large").remove_map()
        appended = 0
        while path.stat().st_size > 64 * KIB:
            store.map("small").set("a", {"": "x" * 300})
            appended += 400
            assert appended < full / 8
    with Store(path) as store:
        assert [map_.name for map_ in store.maps()] == ["small"]


def test_go_on_after_an_interruption_of_what_was_asked_for_by_hand(tmp_path: Path) -> None:
    """F3: a ``compact`` that was interrupted between two lines left the next write to look whether it was time for one.

    With ``compact_at=None`` there is no such time, and the write failed by an assertion.
    """
    with Store(tmp_path / "store.mapitem", compact_at=None) as store:
        store._compactor.look_from = 0
        assert store.map("m").set("a", {}).revision == "0"
        assert store._compactor.look_from == sys.maxsize
        assert store._compactor.running is None


@pytest.mark.parametrize("backing", ["memory", "file"])
def test_never_compact_when_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backing: str) -> None:
    """M3, F2: ``compact_at=None`` keeps every event, also for writes that come while one is made by hand."""
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", KIB)
    with Store(tmp_path / "store.mapitem" if backing == "file" else None, compact_at=None) as store:
        map_ = store.map("m")
        for _ in range(200):
            map_.set("a", {"": "x" * 100})
        assert len(list(map_.changes("0"))) == 200
        if backing == "file":
            begin(store)
            map_.set("a", {})
            end(store)
        else:
            store.compact()
        for _ in range(200):
            map_.set("a", {"": "x" * 100})
        oldest, events = feed(map_)
        assert oldest == (201 if backing == "file" else 200)
        assert len(events) == 200


def test_leave_small_logs_alone(tmp_path: Path) -> None:
    """F2: a log under 4 MiB is not compacted by itself, however little of it is live; one over that is."""
    with Store(tmp_path / "store.mapitem", durability="none") as store:
        map_ = store.map("m")
        size = (tmp_path / "store.mapitem").stat().st_size
        while size < 4 * KIB * KIB - 20 * KIB:
            map_.set("a", {"": "x" * 16_000})
            size += 16_000
        assert next(map_.changes("0")).revision == "0"
        for _ in range(10):
            map_.set("a", {"": "x" * 16_000})
        with pytest.raises(HistoryCompacted):
            map_.changes("0")
        assert (tmp_path / "store.mapitem").stat().st_size < 200 * KIB


def test_compact_a_store_in_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """F3: the log of a store in memory is under the same rule."""
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", 16 * KIB)
    with Store() as store:
        map_ = store.map("m")
        for number in range(2000):
            map_.set(f"{number % 10}", {"n": number})
            assert store._log.size < 32 * KIB
        assert store._log.size > 0
        with pytest.raises(HistoryCompacted) as caught:
            map_.changes("0")
        events = list(map_.changes(caught.value.oldest))
        assert events[-1].next_revision == map_.revision == f"{2000:x}"
        assert {item.key: item.data["n"] for item in map_.range()} == {f"{n % 10}": n for n in range(1990, 2000)}


# ---------------------------------------------------------------- no write waits for the whole


@pytest.mark.parametrize("by_hand", [False, True])
def test_give_back_the_memory_of_old_records_bit_by_bit(monkeypatch: pytest.MonkeyPatch, by_hand: bool) -> None:
    """M3: no write drops all records of a log in memory: that of a million took a tenth of a second.

    The one that has them dropped gives none back, each behind it a portion, and the last of these is the last to look;
    ``compact`` comes back when all are gone.
    """
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", 16 * KIB)
    monkeypatch.setattr(mapitem.memorylog, "_RELEASE_RECORDS", 10)
    with Store(compact_at=None if by_hand else 1.6) as store:
        map_, log = store.map("m"), store._log
        assert isinstance(log, MemoryLog)
        count = 0
        while len(log._records) == count + 1:
            count += 1
            map_.set("a", {"n": count})
            if by_hand and count == 200:
                with store._reading():
                    store._compactor.begin()
        left = [len(log._forgotten)]
        assert left[0] > 100
        if by_hand:
            store._compact_step()
            assert 0 < len(log._forgotten) < left[0]
            store.compact()
            assert not log._forgotten
            return
        while left[-1]:
            assert store._compactor.look_from == 0
            map_.set("a", {})
            left.append(len(log._forgotten))
        assert left == [*range(left[0], 0, -10), 0]
        assert store._compactor.look_from > 0
        assert len(list(map_.changes(f"{count:x}"))) == len(left) - 1


@pytest.mark.parametrize("maps", [1, 2000])
def test_let_each_write_do_its_share_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maps: int) -> None:
    """M3: however large the store, and however many its maps, one small write puts little into the new log."""
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", 128 * KIB)
    counted = CountingDisk()
    with store_on(counted, tmp_path / "store.mapitem", durability="none", compact_at=1.2, mapped=False) as store:
        with store.batch() as batch:
            for number in range(8000):
                batch.set(store.map(f"m{number % maps}"), f"{number}", {"": "x" * 100})
        live = counted.written
        random = Random(1)
        most = written = 0
        handles = [store.map(f"m{number}") for number in range(maps)]
        renames = counted.renames
        while counted.renames < renames + 2:
            before = counted.written
            handles[random.randrange(maps)].set("hot", {"": "x" * 100})
            most = max(most, counted.written - before)
            written += counted.written - before
        assert written > 2 * live
        # One portion of blocks (64 KiB), or the last step with what was dirtied meanwhile.
        assert most < 128 * KIB < live / 6


def test_let_a_purge_pay_for_no_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M3: a purge of very many items writes its own record and hardly more, while a compaction is under way.

    Once its share was in proportion to the keys in that record: half a base in one call, with all its waiting.
    """
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", 128 * KIB)
    counted, clock = CountingDisk(), ManualClock(now=NOW)
    with store_on(counted, tmp_path / "store.mapitem", clock=clock, durability="none") as store:
        map_ = store.map("m")
        with store.batch() as batch:
            for number in range(8000):
                batch.set(map_, f"{number:020}", {"": "x" * 100}, ttl=10 if number % 2 else None)
        begin(store)
        clock.advance(10)
        before = counted.written
        assert map_.purge() == 4000
        assert 4000 * 20 < counted.written - before < 4000 * 22 + 128 * KIB
        map_.set("one more", {})
        end(store)
    with Store(tmp_path / "store.mapitem", clock=clock) as store:
        assert list(store.map("m")) == [*(f"{number:020}" for number in range(0, 8000, 2)), "one more"]


class ReleasingDisk(CountingDisk):
    """The real disk, with a note of each file that is cut, to how many bytes, and of each that is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.cuts: list[int] = []

    def truncate(self, descriptor: int, size: int) -> None:
        about = os.fstat(descriptor)
        super().truncate(descriptor, size)
        if about.st_nlink == 0:
            self.cuts.append(size)
        else:
            # The log in use, where space that was asked for is not promised.
            assert about.st_size == size


def compact_by_writing(store: Store, disk: CountingDisk) -> None:
    """Overwrite one item until the log has been rewritten."""
    map_, renames = store.map("m"), disk.renames
    while disk.renames == renames:
        map_.set("hot", {"": "x" * 100})


def fill(store: Store, items: int = 2000) -> None:
    with store.batch() as batch:
        for number in range(items):
            batch.set(store.map("m"), f"{number}", {"": "x" * 100})


@pytest.fixture
def releasing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ReleasingDisk, Store]]:
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", 128 * KIB)
    monkeypatch.setattr(mapitem.newlog, "_RELEASE_BYTES", 64 * KIB)
    disk = ReleasingDisk()
    with store_on(disk, tmp_path / "store.mapitem", durability="none", compact_at=1.2) as store:
        fill(store)
        yield disk, store


@pytest.mark.skipif(sys.platform != "linux", reason="where nobody can tell who has a file open, it is closed at once")
@pytest.mark.parametrize("by_hand", [False, True])
def test_give_back_the_old_log_bit_by_bit(releasing: tuple[ReleasingDisk, Store], by_hand: bool) -> None:
    """M3: no single write waits until the operating system has freed all of the log that was replaced.

    With a million items, closing it took a fifth of a second.
    """
    disk, store = releasing
    size = store._log.size
    if by_hand:
        store.compact()
    else:
        compact_by_writing(store, disk)
        size = disk.written - os.fstat(store._log.descriptor).st_size  # type: ignore[union-attr]
        for _ in range(100):
            before = len(disk.cuts)
            store.map("m").set("hot", {})
            assert len(disk.cuts) - before <= 1
    assert disk.cuts == sorted(disk.cuts, reverse=True)
    assert size - disk.cuts[0] <= 64 * KIB
    assert 0 < disk.cuts[-1] <= 64 * KIB
    assert all(one - other == 64 * KIB for one, other in zip(disk.cuts, disk.cuts[1:], strict=False))
    assert not store._log._replaced.is_held  # type: ignore[union-attr]
    # And once more, for what is given back must not keep the next compaction from its turn.
    before = len(disk.cuts)
    compact_by_writing(store, disk)
    store.map("m").set("hot", {})
    assert len(disk.cuts) > before


@pytest.mark.parametrize("holder", ["reader", "link", "descriptor"])
def test_cut_no_log_that_somebody_reads(releasing: tuple[ReleasingDisk, Store], tmp_path: Path, holder: str) -> None:
    """R7: a replaced log that is open elsewhere, or has another name, stays as it was."""
    disk, store = releasing
    path = tmp_path / "store.mapitem"
    size = store._log.size
    with ExitStack() as stack:
        if holder == "reader":
            reader = stack.enter_context(Store(path, read_only=True))
        elif holder == "link":
            os.link(path, tmp_path / "link")
        else:
            file = stack.enter_context(path.open("rb"))
        compact_by_writing(store, disk)
        for _ in range(100):
            store.map("m").set("hot", {})
        if holder == "reader":
            assert len(list(reader.map("m").changes())) == 2000
        else:
            held = file.fileno() if holder == "descriptor" else tmp_path / "link"
            assert os.stat(held).st_size >= size
    assert disk.cuts == []


def test_let_the_old_log_go_when_the_store_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F5: what has not been given back yet leaves no descriptor behind, and the next compaction does not lose it."""
    monkeypatch.setattr(mapitem.newlog, "_RELEASE_BYTES", 1 * KIB)
    disk = ReleasingDisk()
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    with store_on(disk, tmp_path / "store.mapitem", durability="none") as store:
        fill(store)
        for _ in range(2):
            renames = disk.renames
            begin(store)
            while disk.renames == renames:
                store._compact_step()
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- history


def test_tell_the_oldest_token_after_a_compaction(tmp_path: Path) -> None:
    """F2: a token of before raises ``HistoryCompacted``, whose ``oldest`` is served; each map has its own."""
    with Store(tmp_path / "store.mapitem") as store:
        one, other = store.map("one"), store.map("other")
        for number in range(20):
            one.set(f"{number}", {})
        other.set("a", {})
        store.compact()
        for map_, oldest in ((one, "14"), (other, "1")):
            with pytest.raises(HistoryCompacted) as caught:
                map_.changes("0")
            assert caught.value.oldest == oldest
            assert list(map_.changes(oldest)) == []
        one.set("new", {})
        assert [event.revision for event in one.changes("14")] == ["14"]


@pytest.mark.parametrize("behind", [1024, 1025])
def test_follow_through_a_compaction_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int) -> None:
    """E3, M3: a watcher up to 1,024 events behind loses none to a compaction; one further behind is told."""
    with Store(tmp_path / "store.mapitem") as store:
        map_ = store.map("m")
        map_.set("before", {})
        with map_.watch(timeout=0) as watch:
            for number in range(behind - 1):
                map_.set("hot", {"n": number})
            # The next write finds the log too large, and so little of it live that its share is the whole.
            monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", KIB)
            store._compactor.look_from = 0
            map_.set("hot", {})
            assert feed(map_)[0] == behind + 1
            if behind > 1024:
                with pytest.raises(HistoryCompacted) as caught:
                    next(watch)
                assert caught.value.oldest == map_.revision
            else:
                map_.set("after", {})
                events = list(watch)
                assert [int(event.revision, 16) for event in events] == list(range(1, behind + 2))
                assert isinstance(events[-1], ItemAdded)
                assert events[-1].key == "after"


# ---------------------------------------------------------------- what fails


class FailingDisk(CountingDisk):
    """The real disk, until it is told to fail at one kind of call; ``error`` may be any exception."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = ""
        self.error: BaseException = OSError(28, "No space left on device")

    def _check(self, call: str) -> None:
        if self.failing == call:
            raise self.error

    def create(self, path: str, mode: int) -> int:
        self._check("create")
        return super().create(path, mode)

    def set_mode(self, descriptor: int, mode: int) -> None:
        self._check("set_mode")
        super().set_mode(descriptor, mode)

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        self._check("write")
        return super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self._check("sync")
        super().sync(descriptor)

    def replace(self, source: str, target: str) -> None:
        self._check("replace")
        super().replace(source, target)
        self._check("after replace")

    def sync_directory(self, path: str) -> None:
        self._check("sync_directory")
        super().sync_directory(path)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[tuple[FailingDisk, Store]]:
    """A disk that will fail, and a store on it with a few items."""
    disk = FailingDisk()
    store = store_on(disk, tmp_path / "store.mapitem")
    map_ = store.map("m")
    for number in range(300):
        map_.set(f"{number:03}", {"n": number})
    yield disk, store
    disk.failing = ""
    with suppress(StoreFailed):
        store.close()


@pytest.mark.parametrize("call", ["create", "set_mode", "write", "sync", "replace"])
def test_go_on_in_the_old_log_when_a_compaction_fails(
    tmp_path: Path, failing: tuple[FailingDisk, Store], call: str
) -> None:
    """F4: before the rename a failure leaves the old log in use, all its history, and no file beside it."""
    disk, store = failing
    map_ = store.map("m")
    shown = look(store)
    disk.failing = call
    with pytest.raises(OSError, match="No space"):
        store.compact()
    disk.failing = ""
    assert not temporary(tmp_path / "store.mapitem").exists()
    assert look(store) == shown
    assert len(list(map_.changes("0"))) == 300
    map_.set("after", {})
    store.compact()
    shown = look(store)
    store.close()
    with Store(tmp_path / "store.mapitem") as store:
        assert look(store) == shown


@pytest.mark.parametrize("call", ["create", "set_mode", "sync", "replace"])
def test_succeed_with_a_write_whose_share_of_a_compaction_fails(
    tmp_path: Path, failing: tuple[FailingDisk, Store], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """F4: the write that triggered it is done and says so, the next ones too, and it is tried again later."""
    disk, store = failing
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", KIB)
    store._compactor.look_from = 0
    map_ = store.map("m")
    disk.failing = call
    for number in range(2000):
        map_.set("a", {"n": number})
    assert disk.renames == 1  # the one that created the file
    assert not temporary(tmp_path / "store.mapitem").exists()
    disk.failing = ""
    for number in range(6000):
        map_.set("a", {"n": number})
    assert disk.renames > 1
    assert (tmp_path / "store.mapitem").stat().st_size < 100 * KIB


def test_fail_the_store_when_the_new_logs_name_may_not_last(tmp_path: Path, failing: tuple[FailingDisk, Store]) -> None:
    """F4, F2: once the new log has its name, a directory that cannot be synced leaves open which a crash shows."""
    disk, store = failing
    shown = look(store)
    disk.failing = "sync_directory"
    with pytest.raises(StoreFailed) as caught:
        store.compact()
    assert caught.value.outcome_unknown
    disk.failing = ""
    with pytest.raises(StoreFailed):
        store.map("m").set("a", {})
    assert look(store) == shown
    with pytest.raises(StoreFailed):
        store.close()
    assert not temporary(tmp_path / "store.mapitem").exists()
    with Store(tmp_path / "store.mapitem") as store:
        assert look(store) == shown


@pytest.mark.parametrize("call", ["create", "write", "sync", "replace", "after replace", "sync_directory"])
def test_lose_no_write_to_an_interrupted_compaction(
    tmp_path: Path, failing: tuple[FailingDisk, Store], call: str
) -> None:
    """F3: after an interruption at any call, what is acknowledged is in the file that bears the name."""
    disk, store = failing
    map_ = store.map("m")
    disk.failing, disk.error = call, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        store.compact()
    disk.failing = ""
    assert not temporary(tmp_path / "store.mapitem").exists()
    try:
        map_.set("after", {})
    except StoreFailed:
        assert call in ("replace", "after replace", "sync_directory")
    shown = look(store)
    with suppress(StoreFailed):
        store.close()
    with Store(tmp_path / "store.mapitem") as store:
        assert look(store) == shown
        assert store.map("m").set("then", {}).key == "then"


def test_go_on_with_no_compaction_that_lacks_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F3, F4: a step failed, and an interruption came just before the compaction was given up for it.

    The next writes went on filling the new file, behind a part that had not been written, and gave it the log's name:
    nothing of it could be read any more.
    """
    shrink_blocks(monkeypatch, 3)
    monkeypatch.setattr(mapitem.newlog, "_WRITE_BYTES", 200)
    disk = FailingDisk()
    store = store_on(disk, tmp_path / "store.mapitem")
    map_ = store.map("m")
    for number in range(300):
        map_.set(f"{number:03}", {"n": number})

    def interrupted(compaction: object) -> None:
        raise KeyboardInterrupt

    begin(store)
    with monkeypatch.context() as patch:
        patch.setattr(store._compactor, "_discard", interrupted)
        disk.failing = "write"
        with pytest.raises(KeyboardInterrupt):
            end(store)
        disk.failing = ""
    for number in range(300):
        map_.set(f"{number:03}", {"n": -number})
    assert disk.renames == 1  # the one that created the file
    store.compact()
    assert not temporary(tmp_path / "store.mapitem").exists()
    shown = look(store)
    store.close()
    with Store(tmp_path / "store.mapitem") as store:
        assert look(store) == shown


def test_tell_whoever_compacts_that_another_threads_step_failed(
    tmp_path: Path, failing: tuple[FailingDisk, Store], small_blocks: None
) -> None:
    """F4: ``compact`` does not return as if it had been done when a writer's share of it failed."""
    disk, store = failing
    map_ = store.map("m")
    step = store._compact_step

    def write_between() -> bool:
        disk.failing = "replace"
        while store._compactor.running is not None:
            map_.set("a", {})
        return step()

    store._compact_step = write_between  # type: ignore[method-assign]
    with pytest.raises(OSError, match="compaction failed"):
        store.compact()


def test_stop_a_compaction_by_closing(tmp_path: Path, small_blocks: None) -> None:
    """F4, F5: a store that is closed in the middle of a compaction leaves the old log, whole, and no other file."""
    path = tmp_path / "store.mapitem"
    store = Store(path)
    for number in range(20):
        store.map("m").set(f"{number}", {})
    shown = look(store)
    begin(store)
    store._compact_step()
    assert store._compactor.running is not None
    store._compactor.running.new.flush()
    assert temporary(path).exists()
    store.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["store.mapitem", "store.mapitem.lock"]
    with Store(path) as store:
        assert store.recovery is None
        assert look(store) == shown


@pytest.mark.skipif(os.name == "nt", reason="there are no such modes")
def test_keep_the_files_mode(tmp_path: Path) -> None:
    """M1: the new file has the old one's mode, whatever the umask says."""
    path = tmp_path / "store.mapitem"
    with Store(path) as store:
        store.map("m").set("a", {})
        path.chmod(0o666)
        before = os.umask(0o077)
        try:
            store.compact()
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == 0o666


class TightDisk(Disk):
    """The real one, but full for as long as a log that was replaced takes its space."""

    store: Store | None = None

    def is_forgotten(self, descriptor: int) -> bool:
        return True

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        if self.store is not None and isinstance(self.store._log, FileLog) and self.store._log._replaced.is_held:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(descriptor, data, offset)


def test_need_no_space_that_the_log_before_still_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F1, M4: a full disk refused every write after a compaction, while the log that it replaced was held for later.

    It was given back bit by bit with the writes that succeeded, and none did. Nor did, behind one that was interrupted,
    the mark that has to come first.
    """
    monkeypatch.setattr(mapitem.newlog, "_RELEASE_BYTES", KIB)
    disk = TightDisk()

    class Tight(Store):
        _disk = disk

    with Tight(tmp_path / "store.mapitem", compact_at=None, mapped=False) as store:
        map_ = store.map("m")
        for again in ("set", "compact", "set behind a cut"):
            disk.store = None
            for number in range(100):
                map_.set("a", {"n": number, "": "x" * 200})
            with store._lock:
                store._compactor.begin()
                while store._compactor.running is not None:
                    store._compactor.step()
            log = store._log
            assert isinstance(log, FileLog)
            if again == "set behind a cut":
                with mock.patch.object(disk, "write", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
                    map_.set("a", {"n": 100})
            assert log._replaced.is_held
            disk.store = store
            if again.startswith("set"):
                map_.set("a", {"n": 100})
            else:
                store.compact()
            assert not log._replaced.is_held
            assert map_["a"].data["n"] in (99, 100)
    with Store(tmp_path / "store.mapitem") as store:
        assert store.recovery is None


def test_tell_a_write_whose_share_fails_that_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F2: another thread's fsync failed between a write and its share of a compaction: the write is done, and may last.

    It was told of the failure as if it had come before, and whoever tried again wrote twice.
    """
    store = Store(tmp_path / "store.mapitem", compact_at=None)
    map_ = store.map("m")
    map_.set("a", {"n": 1})
    begin(store)
    go_along = store._compactor.go_along

    def fail_first(operations: Any) -> None:
        assert isinstance(store._log, FileLog)
        store._log.fail(OSError(errno.EIO, os.strerror(errno.EIO)))
        go_along(operations)

    monkeypatch.setattr(store._compactor, "go_along", fail_first)
    with pytest.raises(StoreFailed) as caught:
        map_.set("a", {"n": 2})
    assert (caught.value.outcome_unknown, map_["a"].data) == (True, {"n": 2})
    monkeypatch.undo()
    with pytest.raises(StoreFailed):
        store.close()
    with Store(tmp_path / "store.mapitem") as again:
        assert again.map("m")["a"].data == {"n": 2}

"""Threads that wait for the medium at the same time, and what each of them may be told (durability P2, P4, L3)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mapitem import Event, Store, StoreClosed, StoreFailed
from mapitem import log as log_room
from mapitem.disk import Disk
from mapitem.log import FileLog


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is not woken by one that syncs waits for ever here, and is found by ``join``."""
    monkeypatch.setattr(log_room, "_PATIENCE", 10_000.0)


class GatedDisk(Disk):
    """The real disk, whose syncs of the log wait at a gate, one after the other, once it is shut."""

    def __init__(self) -> None:
        self.is_shut = False
        self.syncs = 0
        self.error: OSError | None = None
        self._arrived = threading.Semaphore(0)
        self._passes = threading.Semaphore(0)

    def sync(self, descriptor: int) -> None:
        if self.is_shut:
            self.syncs += 1
            self._arrived.release()
            assert self._passes.acquire(timeout=30)
        if self.error is not None:
            raise self.error
        super().sync(descriptor)

    def wait_for_arrival(self) -> None:
        """Return once a sync has come to the gate."""
        assert self._arrived.acquire(timeout=30)

    def let_pass(self) -> None:
        """Let one sync through."""
        self._passes.release()

    def open(self) -> None:
        self.is_shut = False
        for _ in range(100):
            self._passes.release()


@contextmanager
def gated(path: Path, durability: str = "power") -> Iterator[tuple[GatedDisk, Store]]:
    disk = GatedDisk()

    class Simulated(Store):
        _disk = disk

    store = Simulated(path, durability=durability)  # type: ignore[arg-type]
    store.map("m").set("first", {})
    disk.is_shut = True
    try:
        yield disk, store
    finally:
        disk.open()
        disk.error = None
        with suppress(StoreFailed):
            store.close()


def start(count: int, work: Callable[[int], object]) -> tuple[list[threading.Thread], list[Any]]:
    """Threads at work; and, as they end, what each came to: its result or the name of its error."""
    results: list[Any] = []

    def run(number: int) -> None:
        try:
            results.append(work(number))
        except Exception as error:
            results.append(type(error).__name__)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def wait_until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        pass


def test_share_one_sync_among_all_that_wait(tmp_path: Path) -> None:
    """P4: while one thread's sync is under way the others append, and one more sync is enough for all of them."""
    with gated(tmp_path / "store.mapitem") as (disk, store):
        map_ = store.map("m")
        first, told = start(1, lambda _: map_.set("alone", {}).key)
        disk.wait_for_arrival()
        others, results = start(15, lambda number: map_.set(f"{number:02}", {}).key)
        wait_until(lambda: len(map_) == 17)  # all have appended and applied, and none is told so
        assert told == results == []
        disk.let_pass()
        join(first)
        assert told == ["alone"]
        disk.wait_for_arrival()
        # P3: the second sync is not through, and nobody has been told what only it makes sure of.
        assert results == []
        disk.let_pass()
        join(others)
        assert sorted(results) == [f"{number:02}" for number in range(15)]
        assert disk.syncs == 2


def test_wake_all_who_wait_also_where_the_disk_is_slow_to_one_of_them(tmp_path: Path) -> None:
    """P4: who was too late for one sync is there at the next, in whatever order they came to wait."""
    with gated(tmp_path / "store.mapitem") as (disk, store):
        map_ = store.map("m")
        started: list[threading.Thread] = []
        all_results: list[list[Any]] = []
        for number in range(5):
            threads, results = start(3, lambda each, number=number: map_.set(f"{number}-{each}", {}).key)  # type: ignore[misc]
            started += threads
            all_results.append(results)
            wait_until(lambda number=number: len(map_) == 1 + 3 * (number + 1))  # type: ignore[misc]
            disk.wait_for_arrival()
            disk.let_pass()
        disk.open()
        join(started)
        assert [len(results) for results in all_results] == [3] * 5
        assert disk.syncs <= 6


def test_wait_for_nobody_who_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F3: an interruption just before the others are woken costs them time, and no more: each looks for himself."""
    monkeypatch.setattr(log_room, "_PATIENCE", 0.001)
    monkeypatch.setattr(FileLog, "_wake", lambda log: None)
    with gated(tmp_path / "store.mapitem") as (disk, store):
        map_ = store.map("m")
        first, _ = start(1, lambda _: map_.set("alone", {}))
        disk.wait_for_arrival()
        others, results = start(5, lambda number: map_.set(f"{number}", {}).key)
        wait_until(lambda: len(map_) == 7)
        disk.open()
        join(first + others)
        assert sorted(results) == [f"{number}" for number in range(5)]


def test_wake_beside_another_who_wakes(tmp_path: Path) -> None:
    """P2: two threads woke others at once, and one emptied the queue when the other had just seen somebody in it.

    His write, which was on the medium, ended in an IndexError.
    """

    class EmptiedMeanwhile(deque[Any]):
        def __bool__(self) -> bool:
            return True

    with Store(tmp_path / "store.mapitem", durability="power") as store:
        log = store._log
        assert isinstance(log, FileLog)
        log._waiting = EmptiedMeanwhile()
        assert store.map("m").set("a", {}).revision == "0"


def test_tell_callbacks_only_of_what_is_on_the_medium(tmp_path: Path) -> None:
    """P1, E2: at ``"power"`` a callback hears of a write when the write is acknowledged, not before."""
    heard: list[str] = []
    with gated(tmp_path / "store.mapitem") as (disk, store):
        map_ = store.map("m")
        map_.on(Event, lambda event: heard.append(event.key))  # type: ignore[attr-defined]
        threads, _ = start(1, lambda _: map_.set("a", {}))
        disk.wait_for_arrival()
        assert "a" in map_
        assert heard == []
        disk.let_pass()
        join(threads)
        assert heard == ["a"]


def test_sync_nothing_twice(tmp_path: Path) -> None:
    """P2: ``sync`` waits for what is not on the medium yet, and costs nothing if all is."""
    with gated(tmp_path / "store.mapitem", "none") as (disk, store):
        map_ = store.map("m")
        map_.set("a", {})
        assert disk.syncs == 0
        disk.let_pass()
        store.sync()
        store.sync()
        assert disk.syncs == 1
        map_.set("b", {})
        disk.let_pass()
        store.sync()
        assert disk.syncs == 2


def test_cover_with_a_sync_what_came_before_it_only(tmp_path: Path) -> None:
    """P2: a write that comes while the disk is at work may not be on it afterwards: ``sync`` goes once more for it."""
    with gated(tmp_path / "store.mapitem", "process") as (disk, store):
        map_ = store.map("m")
        map_.set("before", {})
        threads, _ = start(1, lambda _: store.sync())
        disk.wait_for_arrival()
        map_.set("during", {})
        disk.let_pass()
        join(threads)
        disk.let_pass()
        store.sync()
        assert disk.syncs == 2


def test_fail_all_that_wait_when_a_sync_fails(tmp_path: Path) -> None:
    """F2, P4: a failed sync is nobody's success: not of him who made it, nor of those who waited for the next one.

    Each is told that nobody knows what became of his write. Those who had waited for somebody else's sync were not.
    """
    with gated(tmp_path / "store.mapitem") as (disk, store):
        map_ = store.map("m")

        def write(key: str) -> bool:
            with pytest.raises(StoreFailed) as caught:
                map_.set(key, {})
            return caught.value.outcome_unknown

        first, told = start(1, lambda _: write("alone"))
        disk.wait_for_arrival()
        others, results = start(7, lambda number: write(f"{number}"))
        wait_until(lambda: len(map_) == 9)
        disk.error = OSError(5, "Input/output error")
        disk.let_pass()
        join(first + others)
        assert told == [True]
        assert results == [True] * 7
        # Whoever begins only now has written nothing.
        assert write("later") is False
        assert "later" not in map_
        assert disk.syncs == 1, "it was tried again as if the first had not failed"


def test_close_with_syncs_under_way(tmp_path: Path) -> None:
    """L3: ``close`` ends each writer that waits with a durable write, and whoever comes later with ``StoreClosed``."""
    with gated(tmp_path / "store.mapitem") as (disk, store):
        map_ = store.map("m")
        first, told = start(1, lambda _: map_.set("alone", {}).key)
        disk.wait_for_arrival()
        others, results = start(5, lambda number: map_.set(f"{number}", {}).key)
        wait_until(lambda: len(map_) == 7)
        closer, _ = start(1, lambda _: store.close())
        wait_until(lambda: store._refusal is not None)
        with pytest.raises(StoreClosed):
            map_.set("late", {})
        disk.open()
        join(first + others + closer)
        assert told == ["alone"]
        assert sorted(results) == [f"{number}" for number in range(5)]
    with Store(tmp_path / "store.mapitem") as store:
        assert store.recovery is None
        assert list(store.map("m")) == ["0", "1", "2", "3", "4", "alone", "first"]


def test_sync_a_store_that_is_closed_meanwhile(tmp_path: Path) -> None:
    """L3: one who syncs while another closes without a sync gets ``StoreClosed`` or a sync, never another file's."""
    with gated(tmp_path / "store.mapitem", "none") as (disk, store):
        store.map("m").set("a", {})
        threads, results = start(2, lambda _: store.sync())
        disk.wait_for_arrival()
        closer, _ = start(1, lambda _: store.close(sync=False))
        wait_until(lambda: store._refusal is not None)
        disk.let_pass()
        disk.open()
        join(threads + closer)
        assert set(map(str, results)) <= {"None", "StoreClosed"}
        assert None in results

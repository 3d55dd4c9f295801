"""Many threads on one store (semantics S4, durability L3): nothing is lost, doubled or torn, and closing is clean.

Threads take turns every few instructions here, so that what may go wrong between two of them does so now and then. What
each thread saw is judged afterwards, by rules that hold for every interleaving.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mapitem import (
    Event,
    ItemExists,
    ItemNotFound,
    ItemRemoved,
    Map,
    MapExists,
    MapNotFound,
    Page,
    RevisionMismatch,
    Store,
    StoreClosed,
)
from mapitem.testing import ManualClock


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Let threads take turns far more often than they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run(*works: Callable[[], object]) -> None:
    """Do all of it at the same time, from one starting shot; raise what one of them raised, or if one hangs."""
    start = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            start.wait(60)
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if failures:
        raise failures[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


def repeat(times: int, work: Callable[[int], object]) -> Callable[[], None]:
    def all_of_it() -> None:
        for number in range(times):
            work(number)

    return all_of_it


# ---------------------------------------------------------------- nothing is lost


def test_count_in_one_item(store: Store, map_: Map) -> None:
    """S4: threads that count in one item by ``mutate`` lose no step, be it absent at first (W4)."""

    def step(number: int) -> None:
        map_.mutate("k", lambda data: {"n": data.get("n", 0) + 1}, max_attempts=100_000)

    run(*[repeat(50, step)] * 6)
    assert (map_["k"].data, map_.revision) == ({"n": 300}, f"{300:x}")


def test_count_in_one_item_by_condition(store: Store, map_: Map) -> None:
    """S4: the same done by hand: of all that write at one revision exactly one succeeds (C1)."""
    map_.set("k", {"n": 0})
    won: list[str] = []
    lost: list[tuple[str, str]] = []

    def step(number: int) -> None:
        while True:
            item = map_["k"]
            try:
                won.append(map_.set("k", {"n": item.data["n"] + 1}, if_match=item.revision).revision)
                return
            except RevisionMismatch as error:
                lost.append((error.expected, error.actual))

    run(*[repeat(40, step)] * 4)
    assert map_["k"].data == {"n": 160}
    assert Counter(won) == Counter(f"{number:x}" for number in range(1, 161))
    assert all(int(expected, 16) < int(actual, 16) for expected, actual in lost)


def test_write_different_keys(store: Store, make_store: Callable[..., Store], backing: str) -> None:
    """S4: writes of many threads to keys and maps of their own are all there, each map with its own count of events."""
    maps = [store.map(name) for name in "ab"]

    def work(name: str) -> Callable[[], None]:
        def step(number: int) -> None:
            for map_ in maps:
                map_.set(f"{name}{number}", {"n": number}, ttl=60)
                map_.set(f"{name}{number}", {"n": number}, ttl=0)
                if number % 3 == 0:
                    map_.remove(f"{name}{number}")

        return repeat(30, step)

    run(*map(work, "abcd"))
    expected = {f"{name}{number}": {"n": number} for name in "abcd" for number in range(30) if number % 3}
    for _ in range(2):
        for map_ in maps:
            assert {item.key: item.data for item in map_.range()} == expected
            assert map_.revision == f"{4 * 70:x}"
        if backing == "file":
            store.close()
            store = make_store()
            maps = [store.map(name) for name in "ab"]


def test_give_each_event_a_number_of_its_own(store: Store, map_: Map) -> None:
    """S4: no two writes get the same revision, and none is left out."""
    given: list[str] = []
    run(*[repeat(60, lambda number: given.append(map_.set(f"{number % 7}", {}).revision))] * 5)
    assert sorted(int(revision, 16) for revision in given) == list(range(300))
    assert [event.revision for event in map_.changes()] == [f"{number:x}" for number in range(300)]


# ---------------------------------------------------------------- races that have one winner


def race(rounds: int, runners: int, step: Callable[[int, int], object]) -> None:
    """In each round all runners at once: ``step(round, runner)``."""
    line = threading.Barrier(runners)

    def runner(number: int) -> Callable[[], None]:
        def work() -> None:
            for each in range(rounds):
                line.wait(60)
                step(each, number)

        return work

    run(*[runner(number) for number in range(runners)])


def test_race_to_create(store: Store, map_: Map) -> None:
    """S4: of threads that create the same key exactly one does; the others are told the winner's revision (W1)."""
    won: list[tuple[int, int, str]] = []
    lost: list[tuple[int, str]] = []

    def step(number: int, runner: int) -> None:
        try:
            item = map_.create(f"k{number}", {"by": runner})
        except ItemExists as error:
            lost.append((number, error.revision))
        else:
            won.append((number, runner, item.revision))

    race(40, 4, step)
    assert sorted(number for number, _, _ in won) == list(range(40))
    assert len(lost) == 120
    assert {(number, revision) for number, _, revision in won} == set(lost)
    assert all(map_[f"k{number}"].data == {"by": runner} for number, runner, _ in won)


def test_race_to_remove(store: Store, map_: Map) -> None:
    """S4: of threads that remove the same item exactly one gets it, for the others it is absent (W5)."""
    for number in range(40):
        map_.set(f"k{number}", {"n": number})
    won: list[int] = []
    lost: list[int] = []

    def step(number: int, runner: int) -> None:
        try:
            won.append(map_.remove(f"k{number}").data["n"])
        except ItemNotFound:
            lost.append(number)

    race(40, 4, step)
    assert sorted(won) == list(range(40))
    assert Counter(lost) == dict.fromkeys(range(40), 3)
    assert list(map_) == []


def test_race_to_open_a_map(store: Store) -> None:
    """S4: threads that open or create the map of one name get the same map (S2)."""
    found: list[tuple[int, str]] = []

    def step(number: int, runner: int) -> None:
        map_ = store.map(f"m{number}")
        map_.set(f"{runner}", {})
        found.append((number, map_.sid))

    race(20, 4, step)
    assert len(set(found)) == 20
    assert [list(map_) for map_ in store.maps()] == [["0", "1", "2", "3"]] * 20


def test_race_to_create_a_map(store: Store) -> None:
    """S4: of threads that create a map of one name exactly one does (S2)."""
    outcomes: list[tuple[int, str]] = []

    def step(number: int, runner: int) -> None:
        try:
            store.create_map(f"m{number}").set("k", {})
        except MapExists:
            outcomes.append((number, "lost"))
        else:
            outcomes.append((number, "won"))

    race(20, 4, step)
    assert Counter(outcomes) == {
        (number, end): 1 if end == "won" else 3 for number in range(20) for end in ("won", "lost")
    }


def test_race_to_remove_a_map(store: Store) -> None:
    """S4: a map is removed once, and a write to it is either before that or ``MapNotFound`` (K6)."""
    removed: list[int] = []
    written: list[int] = []

    def step(number: int, runner: int) -> None:
        map_ = maps[number]
        try:
            if runner < 2:
                map_.remove_map()
                removed.append(number)
            else:
                map_.set("k", {})
                written.append(number)
        except MapNotFound:
            pass

    maps = [store.map(f"m{number}") for number in range(30)]
    race(30, 4, step)
    assert sorted(removed) == list(range(30))
    assert list(store.maps()) == []


# ---------------------------------------------------------------- every read is of some moment


def test_read_and_write_one_key_in_one_order(store: Store, map_: Map) -> None:
    """S4: reads and writes of a key fall into one order that agrees with real time: each seems to happen at an instant.

    Revisions give the order of the writes. What had ended before another thing began must not be later in it, and what
    is read at a revision is what was written there.
    """
    ticks = count()
    map_.set("k", {"by": "start", "n": 0})
    seen: list[tuple[int, int, int, bool, tuple[str, int]]] = []

    def note(began: int, item: Any, wrote: bool) -> None:
        seen.append((began, next(ticks), int(item.revision, 16), wrote, (item.data["by"], item.data["n"])))

    def writes(name: str) -> Callable[[], None]:
        def step(number: int) -> None:
            began = next(ticks)
            data = {"by": name, "n": number}
            note(began, map_.set("k", data) if number % 2 else map_.update("k", data), True)

        return repeat(60, step)

    def reads() -> None:
        for number in range(120):
            began = next(ticks)
            item = map_["k"] if number % 3 else next(map_.range("k")) if number % 2 else map_.page().items[0]
            note(began, item, False)

    run(writes("a"), writes("b"), reads, reads)
    said = {revision: value for _, _, revision, wrote, value in seen if wrote} | {0: ("start", 0)}
    assert sorted(said) == list(range(121))
    assert all(said[revision] == value for _, _, revision, _, value in seen)
    # By real time: the newest revision that anything that ended so far showed must not be missing in what begins now.
    moments = sorted(
        [(began, "began", number) for number, (began, *_) in enumerate(seen)]
        + [(ended, "ended", number) for number, (_, ended, *_) in enumerate(seen)]
    )
    newest = 0
    newest_at_start: dict[int, int] = {}
    for _, what, number in moments:
        revision, wrote = seen[number][2], seen[number][3]
        if what == "began":
            newest_at_start[number] = newest
        else:
            assert revision > newest_at_start[number] or (revision == newest_at_start[number] and not wrote)
            newest = max(newest, revision)


def test_read_whole_items(store: Store, map_: Map) -> None:
    """S4: while others write a reader sees an item as one write left it, never parts of two."""
    map_.set("k", {"a": 0, "b": [0] * 20})
    stop = threading.Event()

    def step(number: int) -> None:
        map_.set("k", {"a": number, "b": [number] * 20}, ttl=number % 5 + 1 if number % 2 else 0)

    def write() -> None:
        try:
            repeat(300, step)()
        finally:
            stop.set()

    def read() -> None:
        while not stop.is_set():
            for item in (map_["k"], *map_.range(), *map_.page().items, *map_.values()):
                assert item.data["b"] == [item.data["a"]] * 20
                assert (item.date_expires is not None) is (item.data["a"] % 2 == 1)

    run(write, read, read)


def test_read_whole_moments(store: Store, map_: Map) -> None:
    """S4: a page is one look: of two keys of which one at least is always there it never shows none (L4)."""
    for number in range(300):
        map_.set(f"k{number:03}", {})
    map_.set("a", {})
    stop = threading.Event()

    def step(number: int) -> None:
        map_.set("z", {})
        map_.remove("a")
        map_.set("a", {})
        map_.remove("z")

    def write() -> None:
        try:
            repeat(150, step)()
        finally:
            stop.set()

    def read() -> None:
        while not stop.is_set():
            for order in ("asc", "desc"):
                page: Page = map_.page(page_size=1000, order=order)
                found = [item.key for item in page.items]
                assert found == sorted(found, reverse=order == "desc")
                assert len(found) - 300 in (1, 2)
                assert {"a", "z"} & {found[0], found[-1]}
            assert len(map_) in (301, 302)

    run(write, read)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_walk_while_others_write(store: Store, map_: Map, order: Any) -> None:
    """S4: a walk never raises, and each item that stays comes once and in order, whatever other threads write (L3)."""
    staying = [f"{number:03}" for number in range(0, 400, 2)]
    for key in staying:
        map_.set(key, {})
    stop = threading.Event()

    def write(offset: int) -> Callable[[], None]:
        def work() -> None:
            number = offset
            while not stop.is_set():
                number = (number + 34) % 400
                map_.set(f"{number & ~1:03}", {"again": True})
                map_.set(f"{number | 1:03}", {}, ttl=60)
                with suppress(ItemNotFound):
                    map_.remove(f"{(number + 134) % 400 | 1:03}")

        return work

    def read() -> None:
        try:
            for _ in range(15):
                found = [item.key for item in map_.range(order=order)]
                assert found == sorted(set(found), reverse=order == "desc")
                assert set(staying) <= set(found)
                page = map_.page(page_size=30, order=order)
                paged = [item.key for item in page.items]
                while page.next_page_token is not None:
                    page = map_.page(page_size=30, page_token=page.next_page_token)
                    paged += [item.key for item in page.items]
                assert paged == sorted(set(paged), reverse=order == "desc")
                assert set(staying) <= set(paged)
        finally:
            stop.set()

    run(write(1), write(200), read)


def test_expire_while_others_read_and_write(make_store: Callable[..., Store]) -> None:
    """S4: what had expired before a read began is not in it, what has not is, and each is removed once (T3, T4)."""
    clock = ManualClock(now=1_000.0)
    store = make_store(clock=clock)
    map_ = store.map("m")
    for number in range(200):
        map_.set(f"{number:03}", {}, ttl=number + 1)
    removed: list[int] = []
    stop = threading.Event()

    def pass_time() -> None:
        try:
            for _ in range(200):
                clock.advance(1)
                removed.append(map_.purge())
        finally:
            stop.set()

    def write() -> None:
        while not stop.is_set():
            map_.set("stays", {})

    def read() -> None:
        while not stop.is_set():
            before = clock()
            found = [int(key) for key in map_ if key != "stays"]
            after = clock()
            assert found == sorted(found)
            assert all(1_001 + number > before for number in found)
            assert set(found) >= {number for number in range(200) if 1_001 + number > after}

    run(pass_time, write, read)
    assert list(map_) in ([], ["stays"])
    assert sum(removed) <= 200
    keys = [event.key for event in map_.changes() if isinstance(event, ItemRemoved)]
    assert sorted(keys) == [f"{number:03}" for number in range(200)]


def test_tell_events_in_the_order_of_the_writes(store: Store, map_: Map) -> None:
    """S4: of writes by many threads each is told once, in their order (E2), also if callbacks write themselves."""
    told: list[str] = []
    with store.on(Event, lambda event: told.append(event.revision)):
        run(*[repeat(60, lambda number: map_.set(f"{number % 5}", {}))] * 4)
    assert told == [f"{number:x}" for number in range(240)]


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("durability", ["process", "power", "none"])
@pytest.mark.parametrize("writers", [1, 4])
def test_close_while_others_write(tmp_path: Path, durability: Any, writers: int) -> None:
    """S4: closing ends each write with success or ``StoreClosed``; what succeeded, and no more, is in the file."""
    path = tmp_path / "s"
    for attempt in range(5):
        store = Store(path, durability=durability)
        map_ = store.map(f"m{attempt}")
        written: list[str] = []
        enough = threading.Event()

        def write(name: str, map_: Map = map_, written: list[str] = written, enough: threading.Event = enough) -> None:
            number = 0
            while True:
                try:
                    written.append(map_.create(f"{name}{number}", {"n": number}).key)
                except StoreClosed:
                    break
                number += 1
                if number == 10:
                    enough.set()
            with pytest.raises(StoreClosed):
                map_.create(f"{name} late", {})

        def close(store: Store = store, enough: threading.Event = enough) -> None:
            assert enough.wait(60)
            store.close()

        run(close, close, *[lambda name=name: write(name) for name in "abcd"[:writers]])
        with pytest.raises(StoreClosed):
            len(map_)
        with Store(path) as store:
            assert store.recovery is None
            assert list(store.map(f"m{attempt}")) == sorted(written)


def test_close_while_others_read(store: Store, map_: Map) -> None:
    """S4: reads and walks under way end with what they asked for or with ``StoreClosed``, and with nothing else."""
    for number in range(500):
        map_.set(f"{number:03}", {}, ttl=60)
    begun = threading.Barrier(4)

    def read(step: Callable[[], object]) -> Callable[[], None]:
        def work() -> None:
            begun.wait(60)
            with suppress(StoreClosed):
                while True:
                    step()

        return work

    def close() -> None:
        begun.wait(60)
        assert len(map_) == 500
        store.close()

    def walk() -> None:
        assert len(list(map_.range())) == 500

    run(
        read(walk),
        read(lambda: map_["100"].data),
        read(lambda: (map_.page(page_size=10), len(map_), list(store.maps()))),
        close,
    )


def test_sync_and_compact_while_others_write(
    store: Store, map_: Map, make_store: Callable[..., Store], backing: str
) -> None:
    """S4: nor do syncs, compactions and purges of other threads lose or double a write (S5)."""
    stop = threading.Event()

    def keep_house() -> None:
        while not stop.is_set():
            store.sync()
            store.compact()
            store.purge()

    def work(name: str) -> Callable[[], None]:
        return repeat(60, lambda number: map_.set(f"{name}{number}", {"n": number}))

    def write() -> None:
        try:
            run(work("a"), work("b"))
        finally:
            stop.set()

    run(write, keep_house)
    for _ in range(2):
        assert {item.key: item.data["n"] for item in map_.range()} == {
            f"{name}{n}": n for name in "ab" for n in range(60)
        }
        assert map_.revision == f"{120:x}"
        if backing == "file":
            store.close()
            store = make_store()
            map_ = store.map("m")

"""Watching a map: past and present without a seam (semantics E3)."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from mapitem import (
    Event,
    HistoryCompacted,
    InvalidRevision,
    ItemAdded,
    Map,
    MapNotFound,
    MapRemoved,
    Store,
    StoreClosed,
    Watch,
)
from mapitem.testing import ManualClock
from mapitem.watch import BACKLOG


def keys(events: list[Event]) -> list[str]:
    return [getattr(event, "key", type(event).__name__) for event in events]


def waiting(watch: Watch, take: Callable[[Watch], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread that takes from the watch, started and known to be waiting for the next event."""
    result: list[Any] = []
    asleep = threading.Event()
    signal = watch._signal
    wait = signal.wait

    def announced(timeout: float | None = None) -> bool:
        asleep.set()
        return wait(timeout)

    signal.wait = announced  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: result.append(take(watch)))
    thread.start()
    assert asleep.wait(10)
    return thread, result


# ---------------------------------------------------------------- for


def test_begin_with_the_next_event(map_: Map) -> None:
    """E3: without ``since``, what was before is not told."""
    map_.set("before", {})
    with map_.watch(timeout=0) as watch:
        assert list(watch) == []
        map_.set("a", {})
        map_.set("b", {})
        assert keys(list(watch)) == ["a", "b"]
        map_.set("c", {})
        assert keys(list(watch)) == ["c"]


def test_go_from_the_past_into_the_present(map_: Map) -> None:
    """E3: first the events since the revision, then those that come; none lost, none twice; ``previous`` is None."""
    for key in "abc":
        map_.set(key, {})
    watch = map_.watch("1", timeout=0)
    assert next(watch).revision == "1"
    map_.set("d", {})
    map_.set("d", {"n": 1})
    events = list(watch)
    assert [event.revision for event in events] == ["2", "3", "4"]
    assert getattr(events[-1], "previous", 0) is None
    assert events == list(map_.changes("2"))


def test_say_how_far_it_has_come(map_: Map) -> None:
    """E3: ``revision`` is the token of the next event, to go on from later."""
    for key in "abc":
        map_.set(key, {})
    watch = map_.watch("0", timeout=0)
    assert watch.revision == "0"
    next(watch)
    assert watch.revision == "1"
    watch.close()
    assert keys(list(map_.watch(watch.revision, timeout=0))) == ["b", "c"]


def test_wake_a_waiting_thread_with_an_event(map_: Map) -> None:
    """E3: one that waits gets the event as it comes, whoever writes it."""
    watch = map_.watch()
    thread, result = waiting(watch, next)
    map_.set("a", {})
    thread.join(10)
    assert keys(result) == ["a"]


def test_wake_a_waiting_thread_by_closing(map_: Map) -> None:
    """E3: closing from another thread wakes the consumer at once, and it ends."""
    watch = map_.watch()
    thread, result = waiting(watch, list)
    watch.close()
    thread.join(10)
    assert result == [[]]
    assert list(watch) == []


def test_end_when_the_store_is_closed(store: Store, map_: Map) -> None:
    """E3: closing the store wakes and ends the watch, without an error."""
    watch = map_.watch()
    thread, result = waiting(watch, list)
    store.close()
    thread.join(10)
    assert result == [[]]


def test_end_after_the_maps_end(store: Store, map_: Map, clock: ManualClock) -> None:
    """E3: MapRemoved is the last event, by removal and by expiry; what was before it is told first."""
    watch = map_.watch()
    map_.set("a", {})
    map_.remove_map()
    assert keys(list(watch)) == ["a", "MapRemoved"]
    assert list(watch) == []
    short = store.map("short", ttl=5)
    watch = short.watch(timeout=0)
    clock.advance(5)
    assert list(watch) == []
    store.purge()
    (event,) = watch
    assert isinstance(event, MapRemoved)
    assert event.expired


def test_wake_a_waiting_thread_with_the_maps_end(map_: Map) -> None:
    """E3: one that waits is told of the map's end."""
    watch = map_.watch()
    thread, result = waiting(watch, list)
    map_.remove_map()
    thread.join(10)
    assert keys(result[0]) == ["MapRemoved"]


@pytest.mark.parametrize("timeout", [-1, True, "1"])
def test_refuse_a_bad_timeout(map_: Map, timeout: Any) -> None:
    """E3: ``timeout`` is a number of seconds."""
    with pytest.raises(ValueError, match="timeout"):
        map_.watch(timeout=timeout)


def test_refuse_bad_tokens_dead_maps_and_closed_stores(store: Store, map_: Map) -> None:
    """E3, F: as for changes, at the call."""
    map_.set("a", {})
    with pytest.raises(InvalidRevision):
        map_.watch("2")
    store.compact()
    with pytest.raises(HistoryCompacted):
        map_.watch("0")
    map_.remove_map()
    with pytest.raises(MapNotFound):
        map_.watch()
    store.close()
    with pytest.raises(StoreClosed):
        map_.watch()


def test_lose_nothing_under_concurrent_writers(store: Store, map_: Map) -> None:
    """E3: watchers that begin in the midst of writing see every event from their token on, once and in order."""
    writers = 4
    turns = 100
    results: list[list[str]] = []
    starts: list[int] = []

    def write(number: int) -> None:
        for turn in range(turns):
            map_.set(f"{number}", {"turn": turn})

    def consume(watch: Watch) -> None:
        seen: list[str] = []
        for event in watch:
            if isinstance(event, MapRemoved):
                break
            seen.append(event.revision)
        results.append(seen)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    consumers = []
    for _ in range(5):
        start = int(map_.revision, 16)
        starts.append(start)
        consumers.append(threading.Thread(target=consume, args=(map_.watch(f"{start:x}"),)))
        consumers[-1].start()
    for thread in threads:
        thread.join()
    map_.remove_map()
    for thread in consumers:
        thread.join(20)
    total = writers * turns
    expected = {tuple(f"{number:x}" for number in range(start, total)) for start in starts}
    assert len(results) == 5
    assert {tuple(seen) for seen in results} == expected


def test_miss_no_event_between_the_look_and_the_wait(map_: Map) -> None:
    """E3: an event that comes just after the watch found nothing, and before it waits, is told."""
    watch = map_.watch(timeout=0)
    look = watch._next
    looks: list[Event | None] = []

    def look_and_be_overtaken() -> Event | None:
        event = look()
        looks.append(event)
        if len(looks) == 1:
            map_.set("late", {})
        return event

    watch._next = look_and_be_overtaken  # type: ignore[method-assign]
    assert keys([next(watch)]) == ["late"]
    assert looks[0] is None


# ---------------------------------------------------------------- compaction


def test_outlive_a_compaction_when_not_far_behind(store: Store, map_: Map) -> None:
    """E3: a watcher within its bound loses nothing to a compaction, though the log no longer has the events."""
    watch = map_.watch(timeout=0)
    for number in range(BACKLOG):
        map_.set("a", {"n": number})
    store.compact()
    map_.set("b", {})
    events = list(watch)
    assert [event.revision for event in events] == [f"{number:x}" for number in range(BACKLOG + 1)]


def test_tell_a_watcher_that_fell_too_far_behind(store: Store, map_: Map) -> None:
    """E3: beyond the bound: HistoryCompacted with the token to go on from; never silent loss."""
    watch = map_.watch(timeout=0)
    for number in range(BACKLOG + 1):
        map_.set("a", {"n": number})
    store.compact()
    map_.set("b", {})
    with pytest.raises(HistoryCompacted) as caught:
        next(watch)
    assert keys(list(map_.watch(caught.value.oldest, timeout=0))) == ["b"]


def test_tell_the_rest_of_an_ended_map_after_a_compaction(store: Store, map_: Map) -> None:
    """E3: a map that ended before the compaction still has its last events for its watchers."""
    watch = map_.watch(timeout=0)
    map_.set("a", {})
    map_.remove_map()
    store.compact()
    assert keys(list(watch)) == ["a", "MapRemoved"]


# ---------------------------------------------------------------- leaks


def test_hold_nothing_of_a_dropped_watch(map_: Map) -> None:
    """E3: a watch that nobody holds is gone, closed or not."""
    watch = map_.watch()
    alive = weakref.ref(watch)
    del watch
    gc.collect()
    assert alive() is None
    map_.set("a", {})


def test_wake_only_those_who_watch_the_map(store: Store, map_: Map) -> None:
    """E3: a write wakes the watches of its own map, and forgets those that are closed.

    Every write to any map woke every watch, also closed ones, and each wake began the timeout anew.
    """
    other = store.map("other").watch()
    closed = map_.watch()
    closed.close()
    for watch in (other, closed):
        watch._signal.clear()
    map_.set("a", {})
    assert not other._signal.is_set()
    assert not closed._signal.is_set()
    assert map_._state.watchers is not None
    assert list(map_._state.watchers) == []


def test_make_no_thread(map_: Map) -> None:
    """E3: no hidden thread per watcher."""
    before = threading.active_count()
    watches = [map_.watch() for _ in range(20)]
    map_.set("a", {})
    assert threading.active_count() == before
    assert [next(watch).revision for watch in watches] == ["0"] * 20


# ---------------------------------------------------------------- async for


def test_watch_under_asyncio(map_: Map) -> None:
    """E3: an async iterator: the past, then what other tasks and threads write."""

    async def consume() -> list[Event]:
        events: list[Event] = []
        async with map_.watch("0") as watch:
            async for event in watch:
                events.append(event)
                if len(events) == 4:
                    break
        return events

    async def main() -> list[Event]:
        map_.set("past", {})
        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        map_.set("task", {})
        await asyncio.to_thread(map_.set, "thread", {})
        map_.set("task again", {})
        return await asyncio.wait_for(task, 10)

    assert keys(asyncio.run(main(), debug=True)) == ["past", "task", "thread", "task again"]


def test_end_an_async_watch(store: Store, map_: Map) -> None:
    """E3: closing it from another task, the timeout, the map's end and the store's close all end the loop."""

    async def consume(watch: Watch) -> list[Event]:
        return [event async for event in watch]

    async def main() -> list[list[Event]]:
        results = [await consume(map_.watch(timeout=0))]
        endings: list[tuple[Watch, Callable[[], None]]] = []
        watch = map_.watch()
        endings.append((watch, watch.close))
        other = store.map("other")
        endings.append((other.watch(), other.remove_map))
        endings.append((map_.watch(), store.close))
        for watch, end in endings:
            task = asyncio.create_task(consume(watch))
            await asyncio.sleep(0)
            assert not task.done()
            end()
            results.append(await asyncio.wait_for(task, 10))
        return results

    assert [keys(events) for events in asyncio.run(main(), debug=True)] == [[], [], ["MapRemoved"], []]


def test_leave_nothing_behind_when_cancelled(map_: Map) -> None:
    """E3: a cancelled consumer leaves no future, no task and no watch; the next one starts where it stopped."""

    async def main() -> weakref.ref[Watch]:
        watch = map_.watch()
        task = asyncio.create_task(anext(watch))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert watch._future is None
        map_.set("a", {})
        assert (await asyncio.wait_for(anext(watch), 10)).revision == "0"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return weakref.ref(watch)

    alive = asyncio.run(main())
    gc.collect()
    assert alive() is None


def test_survive_the_end_of_its_loop(map_: Map) -> None:
    """E3: a write after the loop of an async consumer was closed hurts nobody."""
    watch = map_.watch()

    async def start() -> None:
        task = asyncio.create_task(anext(watch))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(start())
    map_.set("a", {})
    assert isinstance(next(watch), ItemAdded)

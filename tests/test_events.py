"""Events as values, and callbacks (semantics E1, E2)."""

from __future__ import annotations

import gc
import logging
import pickle
import threading
import weakref
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapitem import (
    Event,
    ItemAdded,
    ItemExists,
    ItemRemoved,
    ItemUpdated,
    Map,
    MapRemoved,
    Store,
    StoreClosed,
)
from mapitem.testing import ManualClock
from tests.conftest import NOW, StoreMaker


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# ---------------------------------------------------------------- E1: values


def test_receive_what_each_verb_did(store: Store, map_: Map, clock: ManualClock) -> None:
    """E1: added, updated and removed events with item, previous, number, date and map, one for each write."""
    events: list[Event] = []
    map_.on(Event, events.append)
    first = map_.create("a", {"n": 1})
    clock.advance(1)
    second = map_.set("a", {"n": 2})
    third = map_.set_item_ttl("a", 5)
    clock.advance(1)
    map_.remove("a")
    where = {"map_sid": map_.sid, "map_name": "m"}
    assert events == [
        ItemAdded("a", first, revision="0", date=at(NOW), **where),
        ItemUpdated("a", second, first, revision="1", date=at(NOW + 1), **where),
        ItemUpdated("a", third, second, revision="2", date=at(NOW + 1), **where),
        ItemRemoved("a", third, False, revision="3", date=at(NOW + 2), **where),
    ]
    assert [event.next_revision for event in events] == ["1", "2", "3", "4"]


def test_receive_expiries_with_the_date_of_their_writing(map_: Map, clock: ManualClock) -> None:
    """E1, T4: what was due goes first, in order of (expiry, key), dated when it was written and not when it was due."""
    events: list[Event] = []
    map_.on(Event, events.append)
    map_.set("b", {}, ttl=5)
    map_.set("a", {}, ttl=5)
    map_.set("c", {}, ttl=1)
    clock.advance(60)
    map_.set("a", {"new": True})
    told = [(type(event).__name__, getattr(event, "key", None), event.revision) for event in events[3:]]
    assert told == [
        ("ItemRemoved", "c", "3"),
        ("ItemRemoved", "a", "4"),
        ("ItemRemoved", "b", "5"),
        ("ItemAdded", "a", "6"),
    ]
    for event in events[3:6]:
        assert isinstance(event, ItemRemoved)
        assert event.expired
        assert event.date == at(NOW + 60)
        assert event.previous is not None


def test_end_a_map_as_one_event(store: Store, clock: ManualClock) -> None:
    """E1: remove_map() and expiry are one MapRemoved each, with the map's last revision, and none per item."""
    events: list[Event] = []
    store.on(Event, events.append)
    gone = store.map("gone")
    gone.set("k", {})
    gone.set("l", {})
    gone.remove_map()
    assert events[2:] == [MapRemoved(False, map_sid=gone.sid, map_name="gone", revision="2", date=at(NOW))]
    short = store.map("short", ttl=5)
    short.set("k", {})
    clock.advance(9)
    store.map("short")
    assert events[4:] == [MapRemoved(True, map_sid=short.sid, map_name="short", revision="1", date=at(NOW + 9))]
    assert events[4].next_revision == "1"


def test_date_an_event_by_the_clock_though_it_went_back(map_: Map, clock: ManualClock) -> None:
    """E1, I2: the event's date is the clock's, while the item's date_updated does not go back; in the feed as well."""
    events: list[Event] = []
    map_.on(Event, events.append)
    map_.set("a", {})
    clock.advance(-100)
    item = map_.set("a", {})
    assert events[1].date == at(NOW - 100)
    assert item.date_updated == at(NOW)
    assert [event.date for event in map_.changes()] == [at(NOW), at(NOW - 100)]


def test_give_each_callback_values_of_its_own(map_: Map) -> None:
    """D4: what one callback does to the data is seen by no other callback, result or read."""
    seen: list[dict[str, Any]] = []

    def spoil(event: ItemAdded) -> None:
        event.item.data["list"].append("spoilt")

    map_.on(ItemAdded, spoil)
    map_.on(ItemAdded, lambda event: seen.append(event.item.data))
    result = map_.set("a", {"list": []})
    assert seen == [{"list": []}]
    assert result.data == map_["a"].data == {"list": []}


def test_be_immutable_and_equal_by_value(map_: Map) -> None:
    """E1: events are frozen values: no attribute can be set or deleted; equal ones hash alike; pickling keeps them."""
    events: list[Event] = []
    map_.on(Event, events.append)
    map_.on(Event, events.append)
    map_.set("a", {"n": 1})
    one, other = events
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError):
        one.revision = "7"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del one.date  # type: ignore[misc]
    assert "'a'" in repr(one)
    assert one != ItemRemoved("a", map_sid=one.map_sid, map_name="m", revision="0", date=one.date)
    match one:
        case ItemAdded(key, item):
            assert (key, item.data) == ("a", {"n": 1})
        case _:
            pytest.fail("the pattern did not match")


# ---------------------------------------------------------------- E2: callbacks


@pytest.mark.parametrize("kind", [ItemAdded, ItemUpdated, ItemRemoved, MapRemoved])
def test_hear_only_what_was_asked_for(store: Store, kind: type[Event]) -> None:
    """E2: the kind is an event class; others do not reach the callback."""
    heard: list[Event] = []
    store.on(kind, heard.append)
    map_ = store.map("m")
    map_.set("a", {})
    map_.set("a", {})
    map_.remove("a")
    map_.remove_map()
    assert [type(event) for event in heard] == [kind]


def test_hear_one_map_or_all(store: Store) -> None:
    """E2: map.on tells of one map, store.on of every one, also of maps made later."""
    one, other = store.map("one"), store.map("other")
    of_one: list[Event] = []
    of_all: list[Event] = []
    one.on(Event, of_one.append)
    store.on(Event, of_all.append)
    one.set("a", {})
    other.set("b", {})
    store.map("third").set("c", {})
    assert [event.map_name for event in of_one] == ["one"]
    assert [event.map_name for event in of_all] == ["one", "other", "third"]


def test_hear_nothing_of_a_failed_write(map_: Map) -> None:
    """E2: a write that raises is no event."""
    heard: list[Event] = []
    map_.set("a", {})
    map_.on(Event, heard.append)
    with pytest.raises(ItemExists):
        map_.create("a", {})
    assert heard == []


def test_tell_in_order_though_callbacks_write(map_: Map) -> None:
    """E2: a write made inside a callback is told after what was written before it, to every callback."""
    order: list[tuple[str, str]] = []

    def echo(event: ItemAdded) -> None:
        order.append(("echo", event.key))
        if event.key == "a":
            map_.set("b", {})  # returns before it is told
            order.append(("echo", "returned"))

    map_.on(ItemAdded, echo)
    map_.on(ItemAdded, lambda event: order.append(("plain", event.key)))
    map_.set("a", {})
    assert order == [("echo", "a"), ("echo", "returned"), ("plain", "a"), ("echo", "b"), ("plain", "b")]


def test_call_back_when_the_write_is_done_and_the_lock_released(store: Store, map_: Map) -> None:
    """E2: the callback sees the write, and another thread can write while it runs."""
    seen: list[object] = []

    def look(event: ItemAdded) -> None:
        if event.key != "a":
            return
        seen.append(map_["a"].data)
        thread = threading.Thread(target=lambda: map_.set("from a thread", {}))
        thread.start()
        thread.join(10)
        seen.append(thread.is_alive())

    map_.on(ItemAdded, look)
    map_.set("a", {"n": 1})
    assert seen == [{"n": 1}, False]
    assert "from a thread" in map_


def test_survive_a_callback_that_raises(map_: Map, caplog: pytest.LogCaptureFixture) -> None:
    """E2: it is logged (without key or data) and hurts neither the write nor the other callbacks."""
    heard: list[str] = []

    def fail(event: ItemAdded) -> None:
        raise RuntimeError("of the callback's own")

    map_.on(ItemAdded, fail)
    map_.on(ItemAdded, lambda event: heard.append(event.key))
    with caplog.at_level(logging.ERROR, logger="mapitem.events"):
        item = map_.set("secret-key", {"password": "x"})
    assert heard == ["secret-key"]
    assert map_["secret-key"] == item
    (record,) = caplog.records
    assert record.name == "mapitem.events"
    assert "secret" not in record.getMessage()


def test_unsubscribe_inside_a_callback_at_once(map_: Map) -> None:
    """E2: a handle closed inside a callback hears nothing more, not even the rest of the same record."""
    heard: list[str] = []

    def first(event: ItemAdded) -> None:
        heard.append("first")
        second.close()

    def other(event: ItemAdded) -> None:
        heard.append("second")

    map_.on(ItemAdded, first)
    second = map_.on(ItemAdded, other)
    map_.set("a", {})
    assert heard == ["first"]
    second.close()  # twice does nothing


def test_unsubscribe_itself_in_the_middle_of_a_record(store: Store, map_: Map) -> None:
    """E2: unsubscribing takes effect at once, also between the events of one batch."""
    heard: list[str] = []

    def once(event: ItemAdded) -> None:
        heard.append(event.key)
        handle.close()

    handle = map_.on(ItemAdded, once)
    with store.batch() as batch:
        batch.set(map_, "a", {})
        batch.set(map_, "b", {})
    assert heard == ["a"]


def test_end_a_subscription_with_its_block(map_: Map) -> None:
    """E2: the handle is a context manager."""
    heard: list[Event] = []
    with map_.on(Event, heard.append):
        map_.set("a", {})
    map_.set("b", {})
    assert len(heard) == 1


def test_stay_subscribed_though_the_handle_is_dropped(map_: Map) -> None:
    """E2: dropping the handle does not unsubscribe."""
    heard: list[Event] = []
    map_.on(Event, heard.append)
    gc.collect()
    map_.set("a", {})
    assert len(heard) == 1


def test_hold_nothing_of_a_closed_subscription(map_: Map) -> None:
    """E2: no leak: a closed handle frees its callback, though the handle itself is still held."""

    class Listener:
        def hear(self, event: Event) -> None: ...

    listener = Listener()
    alive = weakref.ref(listener)
    handle = map_.on(Event, listener.hear)
    map_.set("a", {})
    handle.close()
    del handle, listener
    gc.collect()
    assert alive() is None


def test_subscribe_with_what_cannot_be(store: Store, map_: Map) -> None:
    """E2: the kind must be an event class and the callback callable: TypeError at the call."""
    with pytest.raises(TypeError):
        map_.on(str, print)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        store.on("ItemAdded", print)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        store.on(Event, None)  # type: ignore[arg-type]
    store.close()
    with pytest.raises(StoreClosed):
        store.on(Event, print)


def test_hear_only_writes_made_after_subscribing(map_: Map) -> None:
    """E2: whoever subscribes inside a callback hears nothing of the write that is being told."""
    late: list[str] = []

    def subscribe(event: ItemAdded) -> None:
        if event.key == "a":
            map_.set("b", {})
            map_.on(ItemAdded, lambda other: late.append(other.key))

    map_.on(ItemAdded, subscribe)
    map_.set("a", {})
    map_.set("c", {})
    assert late == ["c"]


def test_tell_many_threads_writes_one_at_a_time_in_order(store: Store) -> None:
    """E2: whoever writes, callbacks run one at a time, in the order of the writes, each event once."""
    maps = [store.map(name) for name in "abc"]
    heard: list[Event] = []
    inside = threading.Lock()
    overlaps: list[Event] = []

    def hear(event: Event) -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(event)
            return
        heard.append(event)
        inside.release()

    store.on(Event, hear)

    def write(number: int) -> None:
        for turn in range(50):
            maps[(number + turn) % 3].set(f"{number}-{turn}", {})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert len(heard) == 300
    for map_ in maps:
        numbers = [int(event.revision, 16) for event in heard if event.map_sid == map_.sid]
        assert numbers == list(range(len(numbers)))


def test_order_events_across_maps_as_written(store: Store) -> None:
    """E2: the order of the writes across maps is the order of the callbacks, also within a batch."""
    one, other = store.map("one"), store.map("other")
    heard: list[tuple[str | None, str]] = []
    store.on(ItemAdded, lambda event: heard.append((event.map_name, event.key)))
    with store.batch() as batch:
        batch.set(one, "1", {})
        batch.set(other, "2", {})
        batch.set(one, "3", {})
        assert heard == []
    assert heard == [("one", "1"), ("other", "2"), ("one", "3")]


@given(st.lists(st.tuples(st.sampled_from(["set", "remove", "ttl", "wait"]), st.sampled_from("abc")), max_size=25))
def test_rebuild_the_map_from_its_events(moves: list[tuple[str, str]]) -> None:
    """E1: what callbacks were told, applied to a copy, is the map; ``previous`` is what the copy had."""
    clock = ManualClock(now=NOW)
    with Store(clock=clock) as store:
        map_ = store.map("m")
        copy: dict[str, Any] = {}

        def follow(event: Event) -> None:
            if isinstance(event, ItemAdded):
                assert event.key not in copy
                copy[event.key] = event.item
            elif isinstance(event, ItemUpdated):
                assert copy[event.key] == event.previous
                copy[event.key] = event.item
            elif isinstance(event, ItemRemoved):
                assert copy.pop(event.key) == event.previous

        map_.on(Event, follow)
        for verb, key in moves:
            if verb == "set":
                map_.set(key, {"k": key})
            elif verb == "ttl":
                map_.set(key, {}, ttl=2)
            elif verb == "remove" and key in map_:
                map_.remove(key)
            else:
                clock.advance(1)
        map_.purge()
        assert copy == dict(map_.items())


def test_tell_nobody_of_a_write_before_it_is_durable(make_store: StoreMaker) -> None:
    """E2, durability P1: at "power" a callback runs after the wait for the disk, not before."""
    store = make_store(durability="power")
    order: list[str] = []
    log = store._log
    sync = log.sync

    def slow_sync(position: int | None = None) -> None:
        order.append("sync")
        sync(position)

    log.sync = slow_sync  # type: ignore[method-assign]
    map_ = store.map("m")
    store.on(Event, lambda event: order.append("told"))
    order.clear()
    map_.set("a", {})
    assert order == ["sync", "told"]


def test_tell_the_others_though_one_is_interrupted(store: Store, map_: Map) -> None:
    """E2: what is no Exception passes through to the writer, but only when everybody has been told.

    A KeyboardInterrupt in the first callback cost the others the rest of the record.
    """
    heard: list[str] = []

    def interrupt(event: ItemAdded) -> None:
        raise KeyboardInterrupt

    map_.on(ItemAdded, interrupt)
    map_.on(ItemAdded, lambda event: heard.append(event.key))
    with pytest.raises(KeyboardInterrupt), store.batch() as batch:
        batch.set(map_, "a", {})
        batch.set(map_, "b", {})
    assert heard == ["a", "b"]
    assert list(map_) == ["a", "b"]


def test_forget_the_subscriptions_of_an_ended_map(store: Store) -> None:
    """E2: no leak: nothing can come of a map that ended, and what subscribed to it alone is let go.

    Such subscriptions were kept, and asked at every write, for the life of the store.
    """
    heard: list[Event] = []
    for _ in range(3):
        map_ = store.create_map()
        map_.on(Event, heard.append)
        map_.remove_map()
    assert [type(event) for event in heard] == [MapRemoved] * 3
    assert store._teller.subscriptions == ()

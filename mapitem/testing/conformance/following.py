"""E and F: callbacks, watches and the change feed."""

from __future__ import annotations

import asyncio
import logging
from threading import Thread
from typing import Any

from mapitem.errors import HistoryCompacted, InvalidRevision, ItemExists, MapNotFound
from mapitem.events import Event, ItemAdded, ItemRemoved, ItemUpdated, MapRemoved
from mapitem.testing.conformance import kit
from mapitem.testing.conformance.kit import NOW, Section, check, look


def told(events: Any) -> list[tuple[str, str | None]]:
    return [(type(event).__name__, getattr(event, "key", None)) for event in events]


ALL = [("ItemAdded", "a"), ("ItemAdded", "b"), ("ItemUpdated", "a"), ("ItemRemoved", "b")]


class Events(Section):
    """E: events."""

    def _write_all(self) -> None:
        """What ``ALL`` tells of."""
        self.map.create("a", {"n": 1})
        self.map.set("b", {})
        self.map.set("a", {"n": 2})
        self.map.remove("b")

    @check("events")
    def test_tell_what_happened(self) -> None:
        """E1: one event for each write, of the class that says what happened to the key."""
        heard = self.listen()
        self._write_all()
        self.expect(heard.told(), ALL, "events")

    @check("events")
    def test_tell_items(self) -> None:
        """E1: events carry the item as it is and, for callbacks, as it was before."""
        heard = self.listen()
        first = self.map.create("a", {"n": 1})
        second = self.map.set("a", {"n": 2})
        self.map.remove("a")
        added, updated, removed = heard.so_far()
        self.expect((added.key, look(added.item)), ("a", look(first)), "key and item of ItemAdded")
        self.expect(look(updated.item), look(second), "item of ItemUpdated")
        self.expect_true(updated.previous is not None, "previous of ItemUpdated is None")
        self.expect(look(updated.previous), look(first), "previous of ItemUpdated")
        self.expect_true(removed.previous is not None, "previous of ItemRemoved is None")
        self.expect((look(removed.previous), removed.expired), (look(second), False), "previous and expired")

    @check("events", "clock")
    def test_place_events(self) -> None:
        """E1: each event has the sid and name of the map, and the date on which it was written."""
        heard = self.listen()
        self.clock.advance(5)
        self.map.set("a", {})
        (event,) = heard.so_far()
        self.expect((event.map_sid, event.map_name), (self.map.sid, "m"), "map_sid and map_name")
        self.expect_date(event.date, NOW + 5, "date of the event")

    @check("events")
    def test_number_events(self) -> None:
        """E1, R2: the revision of an event is its number: that of the item it wrote, and a new one for a removal."""
        heard = self.listen()
        item = self.map.set("a", {})
        self.map.remove("a")
        added, removed = heard.so_far()
        self.expect(added.revision, item.revision, "revision of ItemAdded")
        self.expect_true(removed.revision != item.revision, "ItemRemoved has the revision of the item")
        self.expect(removed.previous.revision, item.revision, "revision of the removed item")
        if self.can.exact_revisions:
            self.expect((added.revision, removed.revision), ("0", "1"), "revisions of the events")

    @check("events")
    def test_freeze_events(self) -> None:
        """E1: events are frozen."""
        heard = self.listen()
        self.map.set("a", {})
        for name in ("key", "item", "revision", "date", "map_sid"):
            with self.refused((AttributeError, TypeError), f"event.{name} = …"):
                setattr(heard.so_far()[0], name, None)

    @check("events", "remove_map")
    def test_tell_the_removal_of_a_map(self) -> None:
        """E1: remove_map is one MapRemoved and no event per item, with the map's last revision."""
        heard = self.listen()
        self.fill("a", "b")
        revision = self.map.revision if self.can.map_revision else None
        self.map.remove_map()
        self.expect(heard.told()[2:], [("MapRemoved", None)], "events of remove_map")
        event = heard.so_far()[2]
        self.expect((event.map_sid, event.expired), (self.map.sid, False), "map_sid and expired")
        if self.can.map_revision:
            self.expect(event.revision, revision, "revision of MapRemoved")

    @check("events")
    def test_tell_nothing_of_failures(self) -> None:
        """E1, C2: what failed, and what only read, is told to nobody."""
        self.fill("a")
        heard = self.listen()
        with self.refused(ItemExists, "create of a present key"):
            self.map.create("a", {})
        self.map.get("a")
        list(self.map)
        if self.can.map_ttl:
            self.map.set_ttl(60)
        self.expect(heard.told(), [], "events")

    @check("events")
    def test_choose_kinds(self) -> None:
        """E2: a callback is told of the class of events that it asked for, and Event stands for all."""
        heard: dict[Any, list[Any]] = {kind: [] for kind in (ItemAdded, ItemUpdated, ItemRemoved, MapRemoved, Event)}
        for kind, events in heard.items():
            self.map.on(kind, events.append)
        self._write_all()
        self.bench.adapter.settle(self.store)
        self.expect(told(heard[ItemAdded]), [ALL[0], ALL[1]], "events for ItemAdded")
        self.expect(told(heard[ItemUpdated]), [ALL[2]], "events for ItemUpdated")
        self.expect(told(heard[ItemRemoved]), [ALL[3]], "events for ItemRemoved")
        self.expect(told(heard[Event]), ALL, "events for Event")
        self.expect(told(heard[MapRemoved]), [], "events for MapRemoved")

    @check("events")
    def test_listen_to_a_store(self) -> None:
        """E2: map.on tells of one map, store.on of all, in the order of the writes across maps."""
        other = self.store.map("other")
        one, every = self.listen(), self.listen(self.store)
        self.map.set("a", {})
        other.set("b", {})
        self.map.set("c", {})
        self.expect(heard := one.told(), [("ItemAdded", "a"), ("ItemAdded", "c")], f"events of one map: {heard}")
        self.expect([key for _, key in every.told()], ["a", "b", "c"], "keys of the events of all maps")

    @check("events")
    def test_stop_listening(self) -> None:
        """E2: the handle is a context manager with close; dropping it does not unsubscribe."""
        events: list[Any] = []
        handle = self.map.on(Event, events.append)
        self.map.set("a", {})
        self.bench.adapter.settle(self.store)
        handle.close()
        with self.map.on(Event, events.append):
            self.map.set("b", {})
            self.bench.adapter.settle(self.store)
        self.map.set("c", {})
        self.bench.adapter.settle(self.store)
        self.expect([event.key for event in events], ["a", "b"], "keys of the events")
        self.map.on(Event, events.append)  # and not kept
        self.map.set("d", {})
        self.bench.adapter.settle(self.store)
        self.expect([event.key for event in events], ["a", "b", "d"], "keys of the events")

    @check("events")
    def test_survive_callbacks_that_raise(self) -> None:
        """E2: one that raises hurts neither the write nor the other callbacks."""

        def fail(event: Any) -> None:
            raise LookupError("from a callback")

        self.map.on(Event, fail)
        heard = self.listen()
        logging.disable()
        try:
            self.map.set("a", {})
            told = heard.told()
        finally:
            logging.disable(logging.NOTSET)
        self.expect(("a" in self.map, told), (True, [("ItemAdded", "a")]), "'a' in map, and the other's events")

    @check("events")
    def test_write_in_callbacks(self) -> None:
        """E2: callbacks run when the write is done, and may write; one at a time, in the order of the writes."""
        seen: list[tuple[str, bool]] = []
        running: list[int] = []

        def again(event: Any) -> None:
            self.expect(running, [], "callbacks that run at this moment")
            running.append(1)
            seen.append((event.key, event.key in self.map))
            if len(seen) < 3:
                self.map.set(f"again{len(seen)}", {})
            running.pop()

        self.map.on(ItemAdded, again)
        self.map.set("a", {})
        self.bench.adapter.settle(self.store)
        self.expect(seen, [("a", True), ("again1", True), ("again2", True)], "keys, and whether they were there")

    @check("events", "batches")
    def test_tell_batches_in_order(self) -> None:
        """E2, W7: the events of a batch come in the order of its writes, and of one that fails none comes."""
        heard = self.listen(self.store)
        other = self.store.map("other")
        with self.store.batch() as batch:
            batch.create(self.map, "b", {})
            batch.create(other, "a", {})
            batch.set(self.map, "b", {})
        wanted = [("ItemAdded", "b"), ("ItemAdded", "a"), ("ItemUpdated", "b")]
        self.expect(heard.told(), wanted, "events of the batch")
        with self.refused(ItemExists, "a batch"), self.store.batch() as batch:
            batch.set(self.map, "x", {})
            batch.create(self.map, "b", {})
        self.expect(heard.told(), wanted, "events after a batch that failed")

    @check("watch", "map_revision")
    def test_watch(self) -> None:
        """E3: watch gives the events since a revision, then those that come, none lost and none twice at the seam."""
        self.fill("a")
        since = self.map.revision
        self.map.set("b", {})
        with self.map.watch(since, timeout=0.05) as watch:
            self.map.set("c", {})
            first = next(watch)
            self.map.remove("a")
            keys = [(type(event).__name__, event.key) for event in [first, *watch]]
        self.expect(keys, [("ItemAdded", "b"), ("ItemAdded", "c"), ("ItemRemoved", "a")], "events")

    @check("watch")
    def test_watch_from_now_on(self) -> None:
        """E3: without a revision it begins with the next event; it ends after timeout seconds without one."""
        self.fill("a")
        with self.map.watch(timeout=0.05) as watch:
            self.map.set("b", {})
            self.expect(told(watch), [("ItemAdded", "b")], "events")

    @check("watch", "remove_map")
    def test_watch_to_the_end(self) -> None:
        """E3: it ends after MapRemoved."""
        with self.map.watch() as watch:
            self.map.set("a", {})
            self.map.remove_map()
            self.expect(told(watch), [("ItemAdded", "a"), ("MapRemoved", None)], "events")

    @check("watch", "threads")
    def test_wake_watchers(self) -> None:
        """E3, S4: a watch that waits is woken by another thread's write, and by its own close."""
        seen: list[Any] = []
        watch = self.map.watch(timeout=30)

        def follow() -> None:
            for event in watch:
                seen.append(event)
                if len(seen) == 2:
                    watch.close()

        thread = Thread(target=follow, daemon=True)
        thread.start()
        self.map.set("a", {})
        self.map.set("b", {})
        thread.join(kit.PATIENCE)
        self.expect(thread.is_alive(), False, "whether the watch still waits")
        self.expect(told(seen), [("ItemAdded", "a"), ("ItemAdded", "b")], "events")

    @check("async_watch")
    def test_watch_async(self) -> None:
        """E3: watch is an async iterator too."""

        async def follow() -> list[Any]:
            seen: list[Any] = []
            with self.map.watch() as watch:
                self.map.set("a", {})
                async for event in watch:
                    seen.append(event)
                    if len(seen) == 2:
                        break
                    self.map.set("b", {})
            return seen

        events = asyncio.run(asyncio.wait_for(follow(), kit.PATIENCE))
        self.expect(told(events), [("ItemAdded", "a"), ("ItemAdded", "b")], "events")


class Feed(Section):
    """F: the change feed."""

    @check("feed")
    def test_feed_all(self) -> None:
        """F1, E1: changes() gives the events from the first on, oldest first, without what was before."""
        self.fill("a", "b")
        self.map.set("a", {"n": 5})
        self.map.remove("b")
        events = list(self.map.changes())
        self.expect(told(events), ALL, "events")
        self.expect_data(events[2].item.data, {"n": 5}, "data of the item of ItemUpdated")
        self.expect((events[2].previous, events[3].previous), (None, None), "previous in the feed")
        if self.can.exact_revisions:
            self.expect([event.revision for event in events], ["0", "1", "2", "3"], "revisions of the events")

    @check("feed", "map_revision")
    def test_feed_from_tokens(self) -> None:
        """F1: since=map.revision gives none yet, event.next_revision resumes right after the event."""
        self.expect(list(self.map.changes()), [], "events of a new map")
        tokens = [self.map.revision]
        for key in "abcd":
            self.map.set(key, {})
            tokens.append(self.map.revision)
        events = list(self.map.changes())
        for place, token in enumerate(tokens):
            self.expect([event.key for event in self.map.changes(token)], list("abcd"[place:]), f"keys since {token!r}")
        for event, token in zip(events, tokens[1:], strict=True):
            self.expect(event.next_revision, token, f"next_revision of the event for {event.key!r}")

    @check("feed")
    def test_refuse_tokens(self) -> None:
        """F1: a token beyond the map's revision, or none at all, is InvalidRevision."""
        self.fill("a")
        for token in ("ffff", 5, None, *(("2", "g", "", "A") if self.can.exact_revisions else ())):
            with self.refused(InvalidRevision, f"changes since {token!r} of a map with one event"):
                list(self.map.changes(token))

    @check("feed", "durable")
    def test_feed_over_a_restart(self) -> None:
        """F1: the feed survives a restart."""
        self.fill("a", "b")
        self.map.remove("a")
        before = [(event.revision, *told([event])) for event in self.map.changes()]
        map_ = self.reopened_map()
        map_.set("c", {})
        after = [(event.revision, *told([event])) for event in map_.changes()]
        self.expect(after[:-1], before, "events after a restart")
        self.expect(after[-1][1], ("ItemAdded", "c"), "event written after the restart")

    @check("feed", "item_ttl", "clock", "expiry_events")
    def test_feed_expiries(self) -> None:
        """F1, T4: what expired comes as ItemRemoved with expired=True."""
        self.map.set("a", {}, ttl=10)
        self.clock.advance(10)
        self.map.set("b", {})
        events = list(self.map.changes())
        self.expect(told(events), [("ItemAdded", "a"), ("ItemRemoved", "a"), ("ItemAdded", "b")], "events")
        self.expect(events[1].expired, True, "expired of the second")

    @check("feed", "map_revision")
    def test_bring_a_copy_up_to_date(self) -> None:
        """F2: applying the feed from any token brings a copy to the same state."""
        copies: list[tuple[str, dict[str, Any]]] = [(self.map.revision, {})]
        for step in range(30):
            key = "abcde"[step * 7 % 5]
            if step % 4 == 3 and key in self.map:
                self.map.remove(key)
            else:
                self.map.set(key, {"n": step})
            copies.append((self.map.revision, {item.key: look(item) for item in self.map.range()}))
        wanted = copies[-1][1]
        for token, copy in copies:
            copy = dict(copy)
            for event in self.map.changes(token):
                if type(event).__name__ == "ItemRemoved":
                    del copy[event.key]
                else:
                    copy[event.key] = look(event.item)
            self.expect(copy == wanted, True, f"whether a copy made at {token!r} comes to the present state")

    @check("feed", "compaction", "map_revision")
    def test_compact_the_feed(self) -> None:
        """F2, S5: compaction may drop events: asking for those is HistoryCompacted, whose oldest is served."""
        self.fill("a", "b")
        self.map.set("a", {})
        token = self.map.revision
        self.store.compact()
        try:
            events = list(self.map.changes("0"))
        except HistoryCompacted as error:
            if self.can.error_fields:
                self.expect_true(error.oldest, "oldest of HistoryCompacted is empty")
                list(self.map.changes(error.oldest))
        else:
            self.expect(len(events), 3, "number of events served from the first on")
        self.map.set("c", {})
        self.expect(told(self.map.changes(token)), [("ItemAdded", "c")], "events since the compaction")

    @check("feed", "remove_map")
    def test_end_of_the_feed(self) -> None:
        """F2: the feed does not carry the map's end: MapNotFound."""
        self.fill("a")
        self.map.remove_map()
        with self.refused(MapNotFound, "changes of a map that is gone"):
            list(self.map.changes())

    @check("feed", "map_ttl", "map_revision")
    def test_feed_no_ttl_of_maps(self) -> None:
        """F2, W6: nor its ttl."""
        self.fill("a")
        token = self.map.revision
        self.map.set_ttl(60)
        self.expect(list(self.map.changes(token)), [], "events of set_ttl")

    @check("feed", "map_revision")
    def test_feed_from_where_a_store_lives(self) -> None:
        """F3: the feed holds for every kind of store alike: one that lives in memory keeps its events too."""
        for number in range(300):
            self.map.set("a", {"n": number})
        events = list(self.map.changes())
        self.expect([event.item.data["n"] for event in events], list(range(300)), "data of 300 events")

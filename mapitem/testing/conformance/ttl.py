"""T: times to live, of items and maps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from mapitem.errors import InvalidTTL, ItemNotFound, MapNotFound
from mapitem.testing.conformance.kit import NOW, Section, check

YEAR = 31_536_000
NO_TTLS: tuple[Any, ...] = (-1, YEAR + 1, True, False, 1.0, "1", 2**70, timedelta(milliseconds=1500), timedelta(-1))


class TimeToLive(Section):
    """T: time to live."""

    @check("item_ttl", "clock")
    def test_count_from_the_write(self) -> None:
        """T1: date_expires is the clock at the write plus ttl."""
        for ttl in (1, 60, YEAR, timedelta(seconds=90)):
            self.clock.advance(5)
            seconds = ttl if isinstance(ttl, int) else ttl.total_seconds()
            item = self.map.set("a", {}, ttl=ttl)
            self.expect_date(item.date_expires, self.clock() + seconds, f"date_expires with ttl={ttl!r}")
        self.clock.advance(5)
        self.expect_date(self.map.create("b", {}, ttl=7).date_expires, self.clock() + 7, "date_expires of create")
        if self.can.update:
            self.expect_date(self.map.update("b", {}, ttl=8).date_expires, self.clock() + 8, "date_expires of update")
        if self.can.mutate:
            item = self.map.mutate("b", lambda data: data, ttl=9)
            self.expect_date(item.date_expires, self.clock() + 9, "date_expires of mutate")

    @check("item_ttl")
    def test_refuse_no_ttls(self) -> None:
        """T1: anything but whole seconds from 0 to a year is InvalidTTL, a bool too, and nothing is written."""
        self.fill("a")
        with self.nothing_written("a refused write"):
            for ttl in NO_TTLS:
                with self.refused(InvalidTTL, f"set with ttl={ttl!r}"):
                    self.map.set("a", {}, ttl=ttl)
                with self.refused(InvalidTTL, f"create with ttl={ttl!r}"):
                    self.map.create("b", {}, ttl=ttl)
                with self.refused(InvalidTTL, f"set_item_ttl with {ttl!r}"):
                    self.map.set_item_ttl("a", ttl)

    @check("collection_ttl")
    def test_refuse_no_collection_ttls(self) -> None:
        """T1, T2: so for collection_ttl."""
        for ttl in NO_TTLS:
            with self.refused(InvalidTTL, f"set with collection_ttl={ttl!r}"):
                self.map.set("a", {}, collection_ttl=ttl)
        self.expect(len(self.map), 0, "number of items")

    @check("map_ttl")
    def test_refuse_no_map_ttls(self) -> None:
        """T1: so for a map's ttl, at its creation and later."""
        self.fill("a")
        for ttl in NO_TTLS:
            with self.refused(InvalidTTL, f"map with ttl={ttl!r}"):
                self.store.map("n", ttl=ttl)
            with self.refused(InvalidTTL, f"set_ttl with {ttl!r}"):
                self.map.set_ttl(ttl)

    @check("item_ttl", "clock")
    def test_keep_an_expiry(self) -> None:
        """T1: without a ttl a later write keeps the expiry as it is."""
        self.map.set("a", {}, ttl=60)
        for verb in ("set", "update", "mutate"):
            self.clock.advance(10)
            if verb == "set":
                item = self.map.set("a", {"n": 1})
            elif verb == "update" and self.can.update:
                item = self.map.update("a", {"n": 1})
            elif verb == "mutate" and self.can.mutate:
                item = self.map.mutate("a", lambda data: {"n": 2})
            else:
                continue
            self.expect_date(item.date_expires, NOW + 60, f"date_expires that {verb} returned")
            self.expect_date(self.map["a"].date_expires, NOW + 60, f"date_expires after {verb}")

    @check("item_ttl")
    def test_clear_an_expiry(self) -> None:
        """T1: 0 means never: it clears an expiry, and on creation it gives none."""
        self.expect(self.map.create("a", {}, ttl=0).date_expires, None, "date_expires of create with ttl=0")
        self.map.set("a", {}, ttl=60)
        self.expect(self.map.set("a", {}, ttl=0).date_expires, None, "date_expires after set with ttl=0")
        self.map.set("a", {}, ttl=60)
        self.expect(self.map.set_item_ttl("a", 0).date_expires, None, "date_expires after set_item_ttl with 0")
        self.expect(self.map.create("b", {}).date_expires, None, "date_expires of create without a ttl")

    @check("item_ttl", "clock")
    def test_begin_anew_without_expiry(self) -> None:
        """T1: an item created where one has expired, or was removed, has nothing of that one's expiry."""
        for key in ("expired", "removed"):
            self.map.set(key, {"n": 1}, ttl=10)
        self.map.remove("removed")
        self.clock.advance(10)
        self.expect(self.map.create("removed", {}).date_expires, None, "date_expires where one was removed")
        self.expect(self.map.set("expired", {}).date_expires, None, "date_expires where one has expired")
        self.expect_date(self.map["expired"].date_created, NOW + 10, "date_created where one has expired")

    @check("item_ttl", "clock", "backward_clock")
    def test_count_from_the_clock(self) -> None:
        """T1: date_expires counts from the clock, also when date_updated is ahead of it."""
        self.map.set("a", {})
        self.clock.advance(-100)
        self.expect_date(self.map.set("a", {}, ttl=60).date_expires, NOW - 40, "date_expires while the clock is back")

    @check("item_ttl", "map_ttl")
    def test_not_inherit(self) -> None:
        """T2: items do not inherit their map's ttl."""
        map_ = self.store.map("short", ttl=60)
        self.expect_true(map_.date_expires is not None, "the map has no date_expires")
        self.expect(map_.set("a", {}).date_expires, None, "date_expires of an item in a map with a ttl")

    @check("collection_ttl", "clock")
    def test_set_expiry_of_map_along(self) -> None:
        """T2: collection_ttl sets the map's expiry to now + N, whatever it was; 0 clears it, nothing keeps it."""
        self.map.set("a", {}, collection_ttl=60)
        self.expect_date(self.map.date_expires, NOW + 60, "date_expires of the map")
        self.expect(self.map["a"].date_expires, None, "date_expires of the item")
        self.clock.advance(10)
        self.map.set("a", {})
        self.expect_date(self.map.date_expires, NOW + 60, "date_expires of the map after a plain write")
        self.map.create("b", {}, collection_ttl=30)
        self.expect_date(self.map.date_expires, NOW + 40, "date_expires of the map after create")
        if self.can.update:
            self.map.update("b", {}, collection_ttl=20)
            self.expect_date(self.map.date_expires, NOW + 30, "date_expires of the map after update")
        if self.can.mutate:
            self.map.mutate("b", lambda data: data, collection_ttl=25)
            self.expect_date(self.map.date_expires, NOW + 35, "date_expires of the map after mutate")
        self.map.set("a", {}, collection_ttl=0)
        self.expect(self.map.date_expires, None, "date_expires of the map after collection_ttl=0")

    @check("collection_ttl", "batches", "clock")
    def test_set_expiry_of_map_in_a_batch(self) -> None:
        """T2, W7: so in a batch, by each of its verbs."""
        with self.store.batch() as batch:
            batch.create(self.map, "a", {}, collection_ttl=60)
        self.expect_date(self.map.date_expires, NOW + 60, "date_expires of the map after create in a batch")
        with self.store.batch() as batch:
            batch.set(self.map, "a", {}, collection_ttl=50)
            batch.set(self.map, "b", {})
        self.expect_date(self.map.date_expires, NOW + 50, "date_expires of the map after set in a batch")
        if self.can.update:
            with self.store.batch() as batch:
                batch.update(self.map, "a", {}, collection_ttl=40)
            self.expect_date(self.map.date_expires, NOW + 40, "date_expires of the map after update in a batch")

    @check("collection_ttl")
    def test_not_set_expiry_of_map_in_vain(self) -> None:
        """T2: a write that fails does not set the map's expiry."""
        self.fill("a")
        with self.refused(Exception, "create of a present key"):
            self.map.create("a", {}, collection_ttl=60)
        self.expect(self.map.date_expires, None, "date_expires of the map")

    @check("item_ttl", "clock")
    def test_expire_at_the_instant(self) -> None:
        """T3: from the instant now >= date_expires on an item is absent, for every read; before, it is there."""
        self.map.set("a", {}, ttl=10)
        self.map.set("b", {})
        step = max(self.can.date_resolution, 0.001)
        self.clock.set(NOW + 10 - step)
        self.expect(("a" in self.map, len(self.map)), (True, 2), f"'a' in map, and len, {step} s before")
        self.clock.set(NOW + 10)
        self.expect("a" in self.map, False, "'a' in map at the instant of its expiry")
        self.expect(self.map.get("a"), None, "get('a') at the instant of its expiry")
        self.expect(len(self.map), 1, "len at the instant of an expiry")
        self.expect(list(self.map), ["b"], "keys at the instant of an expiry")
        self.expect(self.keys(), ["b"], "keys of range() at the instant of an expiry")
        with self.refused(ItemNotFound, "map['a'] at the instant of its expiry"):
            self.map["a"]
        if self.can.pages:
            self.expect([item.key for item in self.map.page().items], ["b"], "keys of a page")

    @check("item_ttl", "clock")
    def test_expire_for_conditions(self) -> None:
        """T3: an expired item is absent for create, remove, update, set_item_ttl and conditions."""
        for key in "abcdef":
            self.map.set(key, {"old": 1}, ttl=10)
        revision = self.map["b"].revision
        self.clock.set(NOW + 10)
        with self.refused(ItemNotFound, "remove of an expired item"):
            self.map.remove("c")
        with self.refused(ItemNotFound, "set_item_ttl of an expired item"):
            self.map.set_item_ttl("c", 60)
        if self.can.conditions:
            with self.refused(ItemNotFound, "set with the revision of an expired item"):
                self.map.set("b", {}, if_match=revision)
        if self.can.any_revision:
            with self.refused(ItemNotFound, "set with if_match='*' on an expired item"):
                self.map.set("b", {}, if_match="*")
        self.expect_data(self.map.create("a", {"new": 1}).data, {"new": 1}, "data of create over an expired item")
        if self.can.update:
            self.expect_data(self.map.update("d", {"new": 1}).data, {"new": 1}, "data of update on an expired item")
        if self.can.mutate:
            item = self.map.mutate("e", lambda data: {**data, "new": 1})
            self.expect_data(item.data, {"new": 1}, "data of mutate on an expired item")

    @check("item_ttl", "clock", "limit")
    def test_not_count_expired_items_for_limits(self) -> None:
        """T3, L2: expired items take no room in a limit."""
        for key in "abc":
            self.map.set(key, {}, ttl=10)
        self.fill("d", "e")
        self.clock.set(NOW + 10)
        self.expect([item.key for item in self.map.range(limit=1)], ["d"], "keys of range(limit=1)")

    @check("item_ttl", "clock", "pages")
    def test_not_count_expired_items_for_pages(self) -> None:
        """T3, L4: expired items take no room in a page, and make no page behind it."""
        for key in "abeg":
            self.map.set(key, {}, ttl=10)
        for key in "cdf":
            self.map.set(key, {})
        self.clock.set(NOW + 10)
        page = self.map.page(page_size=2)
        self.expect([item.key for item in page.items], ["c", "d"], "keys of page(page_size=2), 'a' and 'b' expired")
        page = self.map.page(page_size=2, page_token=page.next_page_token)
        self.expect([item.key for item in page.items], ["f"], "keys of the next page, 'e' and 'g' expired")
        self.expect(page.next_page_token, None, "next_page_token when only expired items follow")

    @check("item_ttl", "clock", "backward_clock")
    def test_judge_anew_at_each_call(self) -> None:
        """T3: if the clock goes back before anything removed the item, it is there again."""
        self.map.set("a", {"n": 1}, ttl=10)
        self.clock.set(NOW + 10)
        self.expect((self.map.get("a"), len(self.map), list(self.map)), (None, 0, []), "what is read when it is due")
        self.clock.set(NOW + 9)
        self.expect(list(self.map), ["a"], "keys when the clock is back")

    @check("item_ttl", "clock", "exact_revisions", "map_revision")
    def test_change_nothing_by_reading(self) -> None:
        """T4: reads never change state: an item that is due is removed by no read."""
        self.map.set("a", {}, ttl=10)
        self.clock.set(NOW + 10)
        self.expect((self.map.get("a"), len(self.map), list(self.map.range())), (None, 0, []), "what is read")
        self.expect(self.map.revision, "1", "revision of the map after reads of what is due")

    @check("item_ttl", "clock", "exact_revisions", "expiry_events")
    def test_remove_what_is_due_first(self) -> None:
        """T4: a successful write first removes what is due, each as an event of its own."""
        self.map.set("a", {}, ttl=10)
        self.map.set("b", {}, ttl=10)
        self.clock.set(NOW + 10)
        self.expect(self.map.set("c", {}).revision, "4", "revision of a write when two items were due")

    @check("item_ttl", "clock", "expiry_events", "events")
    def test_tell_what_is_due_in_order(self) -> None:
        """T4, E1: in order of (date_expires, key), as expired, with the date of the write."""
        self.map.set("late", {}, ttl=20)
        for key in ("c", "a", "b"):
            self.map.set(key, {}, ttl=10)
        self.map.set("aa", {}, ttl=15)
        heard = self.listen()
        self.clock.set(NOW + 30)
        self.map.set("z", {})
        self.expect([key for _, key in heard.told()], ["a", "b", "c", "aa", "late", "z"], "keys of the events")
        for event in heard.so_far()[:5]:
            self.expect((type(event).__name__, event.expired), ("ItemRemoved", True), f"event for {event.key!r}")
            self.expect_date(event.date, NOW + 30, f"date of the event for {event.key!r}")

    @check("item_ttl", "clock", "purge")
    def test_leave_what_is_due_if_the_write_fails(self) -> None:
        """T4: a write that fails leaves what is due for the next."""
        self.map.set("a", {}, ttl=10)
        self.fill("b")
        self.clock.set(NOW + 10)
        with self.refused(Exception, "create of a present key"):
            self.map.create("b", {})
        self.expect(self.map.purge(), 1, "number of items that are left to purge")

    @check("item_ttl", "clock", "purge")
    def test_purge(self) -> None:
        """T4: purge removes what is due without a write, and returns how many items went."""
        for key in ("a", "b"):
            self.map.set(key, {}, ttl=10)
        self.map.set("c", {})
        other = self.store.map("other")
        other.set("a", {}, ttl=10)
        self.expect((self.map.purge(), self.store.purge()), (0, 0), "what purge returns when nothing is due")
        self.clock.set(NOW + 10)
        self.expect(self.map.purge(), 2, "what map.purge returns")
        self.expect(self.map.purge(), 0, "what map.purge returns again")
        self.expect(self.store.purge(), 1, "what store.purge returns")
        self.expect(list(self.map), ["c"], "keys that are left")

    @check("map_ttl", "clock")
    def test_expire_map(self) -> None:
        """T5: from the instant of its expiry on a map is absent with all its items."""
        self.fill("a")
        self.map.set_ttl(10)
        self.clock.set(NOW + 9)
        self.expect(list(self.map), ["a"], "keys one second before")
        self.clock.set(NOW + 10)
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: self.map.get("a"),
            "[]": lambda: self.map["a"],
            "in": lambda: "a" in self.map,
            "len": lambda: len(self.map),
            "iter": lambda: list(self.map),
            "range": lambda: list(self.map.range()),
            "set": lambda: self.map.set("a", {}),
            "remove": lambda: self.map.remove("a"),
            "set_ttl": lambda: self.map.set_ttl(0),
            "open_map by name": lambda: self.store.open_map("m"),
            "open_map by sid": lambda: self.store.open_map(self.map.sid),
        }
        self.all_refused(MapNotFound, calls, "in an expired map")
        if self.can.list_maps:
            self.expect([map_.name for map_ in self.store.maps()], [], "names of the live maps")

    @check("map_ttl", "clock")
    def test_take_the_name_again(self) -> None:
        """T5, K6: the name of an expired map may be used again, with a new sid and without the items."""
        self.fill("a")
        self.map.set_ttl(10)
        self.clock.set(NOW + 10)
        again = self.store.create_map("m") if self.can.create_map else self.store.map("m")
        self.expect_true(again.sid != self.map.sid, "the new map has the sid of the old one")
        self.expect((list(again), again.date_expires), ([], None), "keys and expiry of the new map")
        with self.refused(MapNotFound, "len by a handle on the expired map"):
            len(self.map)

    @check("map_ttl", "clock", "events")
    def test_tell_the_end_of_a_map(self) -> None:
        """T5, E1: the end of an expired map is one MapRemoved, when its name is taken again, and no event per item."""
        heard = self.listen(self.store)
        self.fill("a", "b")
        self.map.set_ttl(10)
        self.clock.set(NOW + 10)
        self.expect(len(heard.so_far()), 2, "number of events before the name is taken again")
        self.store.map("m")
        self.expect(heard.told()[2:], [("MapRemoved", None)], "events when it was")
        self.expect(heard.so_far()[2].expired, True, "expired of the event")

    @check("map_ttl", "clock", "purge")
    def test_purge_expired_maps(self) -> None:
        """T5, T4: store.purge drops expired maps and counts their items."""
        self.fill("a", "b")
        self.map.set_ttl(10)
        self.store.map("other").set("a", {})
        self.clock.set(NOW + 10)
        self.expect(self.store.purge(), 2, "what purge returns")
        if self.can.backward_clock:
            self.clock.set(NOW)
            with self.refused(MapNotFound, "len of the purged map when the clock is back"):
                len(self.map)

    @check("map_ttl")
    def test_open_without_touching_the_expiry(self) -> None:
        """T5, S2: the ttl given to store.map is for a new map: one that is there keeps its own."""
        expires = self.store.map("n", ttl=60).date_expires
        self.expect(self.store.map("n", ttl=1000).date_expires, expires, "date_expires when opened again")
        self.expect(self.store.map("n").date_expires, expires, "date_expires when opened without a ttl")

    @check("item_ttl", "clock", "backward_clock", "expiry_events")
    def test_stay_removed(self) -> None:
        """T6: what was removed by expiry stays removed when the clock goes back."""
        self.map.set("a", {}, ttl=10)
        self.clock.set(NOW + 10)
        self.map.set("b", {})
        self.clock.set(NOW)
        self.expect(list(self.map), ["b"], "keys when the clock is back")
        if self.can.durable:
            self.expect(list(self.reopened_map()), ["b"], "keys when the clock is back, after a restart")

    @check("item_ttl", "clock", "durable")
    def test_keep_expiries_over_a_restart(self) -> None:
        """T6, T3: a restart keeps expiries."""
        self.map.set("a", {}, ttl=10)
        self.map.set("b", {}, ttl=20)
        map_ = self.reopened_map()
        self.expect_date(map_["a"].date_expires, NOW + 10, "date_expires after a restart")
        self.clock.set(NOW + 10)
        self.expect(list(map_), ["b"], "keys when one has expired")

    @check("clock")
    def test_ask_the_clock(self) -> None:
        """T7: time is the clock that was given, not the machine's."""
        for now in (NOW + 1000, 10.0):
            self.clock.set(now)
            map_ = self.bench.make_store().map("m")
            self.expect_date(map_.set("a", {}).date_created, now, "date_created")

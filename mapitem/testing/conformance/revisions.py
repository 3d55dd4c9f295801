"""R and I: how writes are counted and dated."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from mapitem.errors import RevisionMismatch
from mapitem.testing.conformance.kit import NOW, Section, check


class Revisions(Section):
    """R: revisions."""

    def _all_differ(self, revisions: list[str], what: str) -> None:
        __tracebackhide__ = True
        for place, revision in enumerate(revisions):
            if revision in revisions[:place]:
                raise AssertionError(f"{what}: {revision!r} comes again in {revisions}")

    @check("map_revision")
    def test_count_events_of_each_map(self) -> None:
        """R1: each map counts its own events: what happens in one does not move another's revision."""
        other = self.store.map("other")
        before = other.revision
        self.fill("a", "b")
        self.map.remove("a")
        self.expect(other.revision, before, "revision of a map in which nothing happened")

    @check("exact_revisions")
    def test_number_from_0(self) -> None:
        """R2: the first event of a map is 0, and item.revision is the number of its last, in lower-case hex."""
        self.expect(self.map.create("a", {}).revision, "0", "revision of the first item")
        self.expect(self.map.create("b", {}).revision, "1", "revision of the second")
        self.expect(self.map.set("a", {}).revision, "2", "revision of the first when written again")
        self.expect(self.map["b"].revision, "1", "revision of the second then")
        for _ in range(8):
            self.map.set("b", {})
        self.expect(self.map["b"].revision, "a", "revision given by the event of number 10")
        for _ in range(6):
            self.map.set("b", {})
        self.expect(self.map["b"].revision, "10", "revision given by the event of number 16")

    @check("exact_revisions", "map_revision")
    def test_show_number_of_events(self) -> None:
        """R2: map.revision is the number of events so far, so that a new map is at 0."""
        self.expect(self.map.revision, "0", "revision of a new map")
        self.map.create("a", {})
        self.expect(self.map.revision, "1", "revision after one event")
        self.map.remove("a")
        self.expect(self.map.revision, "2", "revision after two")

    @check()
    def test_write_the_same(self) -> None:
        """R3: a write of the same data is a new event, with a new revision."""
        self.map.set("a", {"x": 1})
        revisions = [self.map["a"].revision, self.map.set("a", {"x": 1}).revision]
        if self.can.update:
            revisions += [self.map.update("a", {}).revision, self.map.update("a", {"x": 1}).revision]
        if self.can.mutate:
            revisions.append(self.map.mutate("a", lambda data: data).revision)
        self._all_differ(revisions, "revisions of one item, written again and again")

    @check("item_ttl")
    def test_write_only_a_ttl(self) -> None:
        """R3, W6: set_item_ttl is a new event too."""
        first = self.map.set("a", {}).revision
        second = self.map.set_item_ttl("a", 60).revision
        self._all_differ([first, second, self.map.set_item_ttl("a", 60).revision], "revisions by set_item_ttl")

    @check("map_ttl", "map_revision")
    def test_set_ttl_of_map(self) -> None:
        """R3: setting a map's TTL is no event."""
        self.fill("a")
        before = self.map.revision, self.map["a"].revision
        self.map.set_ttl(60)
        self.expect((self.map.revision, self.map["a"].revision), before, "revisions of map and item")

    @check()
    def test_never_show_a_revision_again(self) -> None:
        """R4: a key removed and created again has a revision that it never had: no ABA."""
        revisions = []
        for _ in range(4):
            revisions.append(self.map.create("a", {}).revision)
            self.map.remove("a")
        self._all_differ(revisions, "revisions of a key that was removed and created again")

    @check("conditions")
    def test_refuse_a_revision_from_before_the_removal(self) -> None:
        """R4, C1: a condition on the item that was there before fails on the one that is there now."""
        old = self.map.create("a", {"n": 1}).revision
        self.map.remove("a")
        self.map.create("a", {"n": 1})
        with self.refused(RevisionMismatch, "set with the revision of the item that was removed"):
            self.map.set("a", {}, if_match=old)

    @check("exact_revisions")
    def test_take_a_number_for_removals(self) -> None:
        """R4: removal takes a number, and the item that it returns keeps its last revision."""
        self.fill("a", "b")
        self.expect(self.map.remove("a").revision, "0", "revision of the removed item")
        self.expect(self.map.create("a", {}).revision, "3", "revision of the item created then")

    @check()
    def test_show_revisions_as_text(self) -> None:
        """R5: a revision is text, and stands still until the item is written."""
        self.fill("a", "b")
        revision = self.map["a"].revision
        self.expect_true(isinstance(revision, str) and revision, f"{revision!r} is no text")
        self.map.set("b", {})
        self.map.get("a")
        self.expect(self.map["a"].revision, revision, "revision of an item that was not written")
        if self.can.exact_revisions:
            self.expect_true(re.fullmatch("[0-9a-f]+", revision), f"{revision!r} is no lower-case hex (C1)")

    @check("feed", "map_revision")
    def test_resume_at_map_revision(self) -> None:
        """R5, F1: map.revision is the token from which the feed goes on."""
        self.fill("a")
        token = self.map.revision
        self.map.set("b", {})
        self.expect([event.key for event in self.map.changes(token)], ["b"], "keys of the events since then")

    @check()
    def test_count_on_when_empty(self) -> None:
        """R6: the counter survives the removal of all items."""
        self.fill("a", "b", "c")
        revisions = [item.revision for item in self.map.range()]
        for key in "abc":
            self.map.remove(key)
        revisions.append(self.map.create("d", {}).revision)
        self._all_differ(revisions, "revisions before and after all was removed")
        if self.can.exact_revisions:
            self.expect(revisions[-1], "6", "revision after three items were added and removed")

    @check("durable")
    def test_count_on_after_restart(self) -> None:
        """R6: the counter survives a restart, also when the last event was a removal."""
        self.fill("a", "b")
        revisions = [item.revision for item in self.map.range()]
        self.map.remove("b")
        before = self.map.revision if self.can.map_revision else None
        map_ = self.reopened_map()
        if self.can.map_revision:
            self.expect(map_.revision, before, "revision of the map after a restart")
        self.expect(map_["a"].revision, revisions[0], "revision of an item after a restart")
        revisions.append(map_.create("b", {}).revision)
        self._all_differ(revisions, "revisions before and after a restart")

    @check("compaction")
    def test_count_on_after_compaction(self) -> None:
        """R6: the counter survives compaction, also of an empty map."""
        revisions = [self.map.create("a", {}).revision]
        self.map.remove("a")
        self.store.compact()
        if self.can.durable:
            self.reopened_map()
        revisions.append(self.map.create("a", {}).revision)
        self._all_differ(revisions, "revisions before and after a compaction")


class Items(Section):
    """I: items, their dates and their creator."""

    @check("frozen_items")
    def test_freeze_items(self) -> None:
        """I1: an item is immutable."""
        item = self.map.set("a", {"n": 1})
        for name in ("key", "data", "revision", "date_created", "date_updated", "date_expires", "created_by"):
            with self.refused((AttributeError, TypeError), f"item.{name} = …"):
                setattr(item, name, None)

    @check("frozen_items")
    def test_compare_items(self) -> None:
        """I1: items are equal by value: two reads of one item are, and no two versions of it."""
        written = self.map.set("a", {"n": 1})
        self.expect_true(self.map["a"] == written, f"{self.map['a']!r} should equal {written!r}")
        self.expect_true(self.map["a"] != self.map.set("a", {"n": 1}), "items of two revisions should differ")

    @check("frozen_items")
    def test_show_items(self) -> None:
        """I1: repr of an item is short, however long its data."""
        self.map.set("a", {"s": "x" * 10_000})
        self.expect_true(len(repr(self.map["a"])) < 1_000, f"repr of {len(repr(self.map['a']))} characters")

    @check()
    def test_show_dates_in_utc(self) -> None:
        """I2: dates are aware and in UTC, and equal when the item is new."""
        item = self.map.create("a", {})
        for name in ("date_created", "date_updated"):
            value: Any = getattr(item, name)
            self.expect_true(isinstance(value, datetime), f"{name} is {value!r}")
            self.expect(value.utcoffset(), timedelta(0), f"offset of {name}")
        self.expect(item.date_updated, item.date_created, "date_updated of a new item")
        self.expect(item.date_expires, None, "date_expires of an item without a ttl")

    @check("clock")
    def test_date_items(self) -> None:
        """I2: date_created stays, date_updated is when the item was last written."""
        self.map.create("a", {})
        for verb in ("set", "update", "mutate", "set_item_ttl"):
            self.clock.advance(10)
            if verb == "set":
                self.map.set("a", {})
            elif verb == "update" and self.can.update:
                self.map.update("a", {"n": 1})
            elif verb == "mutate" and self.can.mutate:
                self.map.mutate("a", lambda data: data)
            elif verb == "set_item_ttl" and self.can.item_ttl:
                self.map.set_item_ttl("a", 1000)
            else:
                continue
            self.expect_date(self.map["a"].date_created, NOW, f"date_created after {verb}")
            self.expect_date(self.map["a"].date_updated, self.clock(), f"date_updated after {verb}")

    @check("clock")
    def test_date_items_anew(self) -> None:
        """I2: a key that was removed and is created again has a new date_created."""
        self.map.create("a", {})
        self.map.remove("a")
        self.clock.advance(10)
        self.expect_date(self.map.create("a", {}).date_created, NOW + 10, "date_created of the new item")

    @check("clock")
    def test_date_items_finely(self) -> None:
        """I2: dates are as fine as a millisecond, or as the store declares."""
        self.clock.set(NOW + 0.789)
        self.expect_date(self.map.create("a", {}).date_created, NOW + 0.789, "date_created")

    @check("clock", "backward_clock")
    def test_date_items_never_back(self) -> None:
        """I2: date_updated never goes back, even if the clock does."""
        self.map.create("a", {})
        self.clock.advance(-100)
        item = self.map.set("a", {"n": 1})
        self.expect_date(item.date_updated, NOW, "date_updated of an item written while the clock is 100 s back")
        self.expect_date(item.date_created, NOW, "date_created")
        self.expect_date(self.map.create("b", {}).date_created, NOW - 100, "date_created of a new item")

    @check("created_by")
    def test_name_creator(self) -> None:
        """I3: created_by is system unless the store has another identity."""
        self.expect(self.map.create("a", {}).created_by, "system", "created_by of an item")
        self.expect(self.map.set("a", {}).created_by, "system", "created_by of an item written again")
        self.expect(self.map.created_by, "system", "created_by of the map")

    @check("created_by", "identity")
    def test_name_another_creator(self) -> None:
        """I3: created_by is the identity of the store."""
        map_ = self.bench.make_store(identity="alice").map("m")
        self.expect(map_.set("a", {}).created_by, "alice", "created_by of an item")
        self.expect(map_.created_by, "alice", "created_by of the map")

    @check("clock", "map_dates")
    def test_date_maps(self) -> None:
        """I4: a map's date_updated is that of its last event, removals included; at first its creation."""
        self.expect_date(self.map.date_created, NOW, "date_created of the map")
        self.expect_date(self.map.date_updated, NOW, "date_updated of a new map")
        self.clock.advance(10)
        self.map.set("a", {})
        self.expect_date(self.map.date_updated, NOW + 10, "date_updated after set")
        self.clock.advance(10)
        self.map.remove("a")
        self.expect_date(self.map.date_updated, NOW + 20, "date_updated after remove")
        self.clock.advance(10)
        self.map.get("a")
        self.expect_date(self.map.date_updated, NOW + 20, "date_updated after a read")
        self.expect_date(self.map.date_created, NOW, "date_created of the map")

    @check("clock", "map_dates", "backward_clock")
    def test_date_maps_never_back(self) -> None:
        """I4: a map's date_updated never goes back."""
        self.fill("a")
        self.clock.advance(-100)
        self.map.set("b", {})
        self.expect_date(self.map.date_updated, NOW, "date_updated after a write while the clock is 100 s back")

"""The count of events that gives items and maps their revisions (semantics R).

Revisions are opaque to users (R5); these tests look inside, for the numbers are the contract of the log and the feed.
"""

from __future__ import annotations

from collections.abc import Callable
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
    ItemAdded,
    ItemExists,
    ItemNotFound,
    ItemRemoved,
    ItemUpdated,
    Map,
    RevisionMismatch,
    Store,
)
from mapitem.testing import ManualClock


def reopen(store: Store, make_store: Callable[..., Store], backing: str) -> Store:
    """What a restart leaves: a file is closed and opened again; a store in memory, which has none, stays."""
    if backing == "memory":
        return store
    store.close()
    return make_store()


def apply_batch(store: Store, *writes: Callable[[Batch], object]) -> None:
    with store.batch() as batch:
        for write in writes:
            write(batch)


def told(map_: Map) -> list[tuple[str, str, str]]:
    """The feed from the start: kind, key and number of each event."""
    kinds = {ItemAdded: "added", ItemUpdated: "updated", ItemRemoved: "removed"}
    events: list[Any] = list(map_.changes())
    return [(kinds[type(event)], event.key, event.revision) for event in events]


# ---------------------------------------------------------------- R1, R2: events and their numbers


def test_count_from_zero(map_: Map) -> None:
    """R2: a new map is at ``"0"``; its first item has ``"0"``, its second ``"1"``; the map has the number of events."""
    assert map_.revision == "0"
    assert map_.create("first", {}).revision == "0"
    assert map_.revision == "1"
    assert map_.create("second", {}).revision == "1"
    assert map_.revision == "2"
    assert (map_["first"].revision, map_["second"].revision) == ("0", "1")


def test_count_added_updated_and_removed(map_: Map) -> None:
    """R1: each item added, updated or removed is one event, by whichever verb, and the feed shows its number."""
    assert map_.create("a", {}).revision == "0"
    assert map_.set("b", {}).revision == "1"
    assert map_.update("c", {}).revision == "2"
    assert map_.mutate("d", lambda data: data).revision == "3"  # type: ignore[union-attr]
    assert map_.set("a", {"n": 1}).revision == "4"
    assert map_.update("b", {"n": 1}).revision == "5"
    assert map_.mutate("c", lambda data: {"n": 1}).revision == "6"  # type: ignore[union-attr]
    assert map_.set_item_ttl("d", 60).revision == "7"
    assert map_.remove("a").revision == "4"
    assert map_.revision == "9"
    assert [(item.key, item.revision) for item in map_.range()] == [("b", "5"), ("c", "6"), ("d", "7")]
    assert told(map_)[-3:] == [("updated", "c", "6"), ("updated", "d", "7"), ("removed", "a", "8")]
    assert map_.create("a", {}).revision == "9"


def test_count_each_write_of_a_batch(store: Store, map_: Map) -> None:
    """R1: each write of a batch is an event of its own, in the order of the calls, each map counting for itself."""
    other = store.map("other")
    with store.batch() as batch:
        batch.set(map_, "a", {})
        batch.set(other, "x", {})
        batch.set(map_, "a", {})
        batch.remove(map_, "a")
        batch.set(map_, "b", {})
        batch.set_item_ttl(other, "x", 5)
    assert [None if item is None else item.revision for item in batch.results] == ["0", "0", "1", "1", "3", "1"]
    assert (map_.revision, other.revision) == ("4", "2")
    assert told(map_) == [("added", "a", "0"), ("updated", "a", "1"), ("removed", "a", "2"), ("added", "b", "3")]


def test_count_each_map_apart(store: Store, map_: Map) -> None:
    """R1: each map counts its own events."""
    other, nameless = store.map("other"), store.create_map()
    for _ in range(3):
        map_.set("k", {})
    assert other.set("k", {}).revision == "0"
    assert map_.set("k", {}).revision == "3"
    assert nameless.set("k", {}).revision == "0"
    assert (map_.revision, other.revision, nameless.revision) == ("4", "1", "1")


def test_count_in_lower_case_hex(store: Store, map_: Map, make_store: Callable[..., Store], backing: str) -> None:
    """R2: revisions are lower-case hex without prefix or padding: after ``"9"`` ``"a"``, after ``"f"`` ``"10"``."""
    revisions = [map_.set(f"{number % 7}", {}).revision for number in range(300)]
    assert revisions[9:18] == ["9", "a", "b", "c", "d", "e", "f", "10", "11"]
    assert (revisions[171], revisions[255], revisions[256], revisions[299]) == ("ab", "ff", "100", "12b")
    assert revisions == [f"{number:x}" for number in range(300)]
    assert map_.revision == "12c"
    assert [item.revision for item in map_.range()] == [f"{number:x}" for number in (294, 295, 296, 297, 298, 299, 293)]
    map_ = reopen(store, make_store, backing).map("m")
    assert map_.revision == "12c"
    assert [item.revision for item in map_.range()] == ["126", "127", "128", "129", "12a", "12b", "125"]


def test_count_expiry_as_removal(map_: Map, clock: ManualClock) -> None:
    """R1: an expiry is a removal with a number of its own, taken when it is carried out, before that of the write."""
    map_.set("late", {}, ttl=20)
    map_.set("early", {}, ttl=10)
    map_.set("stays", {})
    clock.advance(20)
    assert map_.revision == "3"
    assert map_.set("new", {}).revision == "5"
    assert map_.revision == "6"
    assert told(map_) == [
        ("added", "late", "0"), ("added", "early", "1"), ("added", "stays", "2"),
        ("removed", "early", "3"), ("removed", "late", "4"), ("added", "new", "5"),
    ]  # fmt: skip


def test_count_nothing_for_what_writes_nothing(store: Store, map_: Map, clock: ManualClock) -> None:
    """R1: reads, refused writes, a ``mutate`` without a result and an empty batch are no events."""
    item = map_.set("k", {"n": 1})
    failing: list[tuple[type[Exception], Callable[[], object]]] = [
        (ItemExists, lambda: map_.create("k", {})),
        (ItemNotFound, lambda: map_.remove("absent")),
        (ItemNotFound, lambda: map_.set_item_ttl("absent", 1)),
        (RevisionMismatch, lambda: map_.set("k", {}, if_match="5")),
        (RevisionMismatch, lambda: map_.remove("k", if_match="5")),
        (InvalidKey, lambda: map_.set("", {})),
        (InvalidData, lambda: map_.set("k", [])),  # type: ignore[arg-type]
        (DataTooLarge, lambda: map_.set("k", {"a": "x" * 20_000})),
        (InvalidTTL, lambda: map_.set("k", {}, ttl=-1)),
        (InvalidRevision, lambda: map_.set("k", {}, if_match="?")),
    ]
    for error, write in failing:
        with pytest.raises(error):
            write()
    assert map_.mutate("k", lambda data: None) == item
    assert map_.mutate("absent", lambda data: None) is None
    with store.batch():
        pass
    with pytest.raises(ItemExists):
        apply_batch(store, lambda batch: batch.set(map_, "other", {}), lambda batch: batch.create(map_, "k", {}))
    assert [map_["k"], map_.get("absent"), len(map_), list(map_.range()), map_.purge()] == [item, None, 1, [item], 0]
    assert map_.revision == "1"
    assert map_.set("k", {}).revision == "1"


# ---------------------------------------------------------------- R3: every write is an event


def test_write_the_same_again(map_: Map) -> None:
    """R3: a write that changes nothing is an event like any other, by every verb."""
    map_.create("k", {"n": 1}, ttl=60)
    assert map_.set("k", {"n": 1}).revision == "1"
    assert map_.update("k", {"n": 1}).revision == "2"
    assert map_.update("k", {}).revision == "3"
    assert map_.mutate("k", lambda data: data).revision == "4"  # type: ignore[union-attr]
    assert map_.set_item_ttl("k", 60).revision == "5"
    assert map_["k"].data == {"n": 1}
    assert told(map_)[1:] == [("updated", "k", f"{number}") for number in range(1, 6)]


def test_write_only_a_ttl(map_: Map) -> None:
    """R3: a write of an item's TTL alone is an event, and gives the item its number; clearing one too."""
    map_.create("k", {"n": 1})
    assert map_.set_item_ttl("k", 60).revision == "1"
    assert map_.set_item_ttl("k", 0).revision == "2"
    assert (map_["k"].revision, map_.revision) == ("2", "3")


def test_set_the_ttl_of_the_map(store: Store, map_: Map, make_store: Callable[..., Store], backing: str) -> None:
    """R3: setting a map's TTL is no event, alone or with the write of an item, which stays one."""
    map_.create("k", {})
    map_.set_ttl(60)
    map_.set_ttl(0)
    assert (map_.revision, map_["k"].revision) == ("1", "0")
    assert map_.set("k", {}, collection_ttl=60).revision == "1"
    assert map_.revision == "2"
    map_ = reopen(store, make_store, backing).map("m")
    assert (map_.revision, told(map_)) == ("2", [("added", "k", "0"), ("updated", "k", "1")])


# ---------------------------------------------------------------- R4: removal


def test_remove_and_create_again(store: Store, map_: Map, make_store: Callable[..., Store], backing: str) -> None:
    """R4: a key removed and created again, over and over and across restarts, never shows a revision it had."""
    seen = []
    for _ in range(5):
        seen.append(map_.create("k", {}).revision)
        seen.append(map_.set("k", {}).revision)
        map_.remove("k")
        store = reopen(store, make_store, backing)
        map_ = store.map("m")
    assert seen == ["0", "1", "3", "4", "6", "7", "9", "a", "c", "d"]


def test_match_a_revision_of_before_removal(map_: Map) -> None:
    """R4: a condition on a revision from before the removal fails on the item created anew with the same data."""
    old = map_.create("k", {"n": 1}).revision
    map_.remove("k")
    new = map_.create("k", {"n": 1}).revision
    with pytest.raises(RevisionMismatch) as caught:
        map_.set("k", {}, if_match=old)
    assert (caught.value.expected, caught.value.actual) == (old, new) == ("0", "2")


def test_match_a_revision_of_before_expiry(map_: Map, clock: ManualClock) -> None:
    """R4: the same for an expiry: its removal takes a number, and the key created by the same write the next."""
    old = map_.create("k", {"n": 1}, ttl=10).revision
    clock.advance(10)
    new = map_.create("k", {"n": 1}).revision
    assert (old, new) == ("0", "2")
    with pytest.raises(RevisionMismatch):
        map_.remove("k", if_match=old)


def test_tell_both_numbers_of_a_removal(map_: Map, clock: ManualClock) -> None:
    """R4: the removed item keeps its last revision, in the result and in the event; the event has its own."""
    heard: list[Any] = []
    with map_.on(ItemRemoved, heard.append):
        map_.set("a", {})
        map_.set("a", {}, ttl=10)
        map_.set("b", {})
        assert map_.remove("b").revision == "2"
        clock.advance(10)
        map_.purge()
    assert [(event.key, event.previous.revision, event.revision) for event in heard] == [
        ("b", "2", "3"),
        ("a", "1", "4"),
    ]
    assert map_.revision == "5"


# ---------------------------------------------------------------- R5: opaque tokens


def test_use_a_revision_as_it_is(map_: Map) -> None:
    """R5: a revision is a ``str`` to compare for equality: what a read gave is what a condition takes."""
    for number in range(20):
        map_.set("k", {"n": number})
    item = map_["k"]
    assert type(item.revision) is type(map_.revision) is str
    assert map_.set("k", {}, if_match=item.revision).revision != item.revision
    with pytest.raises(RevisionMismatch):
        map_.set("k", {}, if_match=item.revision)


def test_resume_the_feed_at_a_revision(map_: Map) -> None:
    """R5: ``map.revision`` is the resume token of the feed: exactly the events since are told."""
    for number in range(18):
        map_.set("k", {"n": number})
    token = map_.revision
    assert list(map_.changes(since=token)) == []
    map_.set("new", {})
    map_.remove("k")
    events: list[Any] = list(map_.changes(since=token))
    assert [(event.key, event.revision) for event in events] == [("new", "12"), ("k", "13")]


# ---------------------------------------------------------------- R6: counters last


def test_count_on_after_everything_went(
    store: Store, map_: Map, make_store: Callable[..., Store], backing: str
) -> None:
    """R6: the counter survives removal of all items, then a compaction that has none left to keep, then a restart."""
    for number in range(20):
        map_.set(f"{number}", {}, ttl=10)
    for key in list(map_):
        map_.remove(key)
    assert (len(map_), map_.revision) == (0, "28")
    store.compact()
    assert map_.revision == "28"
    for _ in range(2):
        store = reopen(store, make_store, backing)
        assert store.map("m").revision == "28"
        store.compact()
    assert store.map("m").create("0", {}).revision == "28"
    assert store.map("m").revision == "29"


def test_count_on_after_everything_expired(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str
) -> None:
    """R6: the same after every item expired: a compaction removes what is due, as events, and forgets no number."""
    for number in range(3):
        map_.set(f"{number}", {}, ttl=10)
    clock.advance(10)
    store.compact()
    map_ = reopen(store, make_store, backing).map("m")
    assert map_.revision == "6"
    assert map_.set("0", {}).revision == "6"


def test_begin_anew_with_a_new_map(store: Store, map_: Map) -> None:
    """R6: counters belong to the map, not to its name: a new map of the same name begins at ``"0"``."""
    map_.set("k", {})
    map_.remove_map()
    assert store.map("m").revision == "0"
    assert store.map("m").set("k", {}).revision == "0"


# ---------------------------------------------------------------- all of it, against a count by hand


class ByHand:
    """What R says a map's numbers are: the number and the expiry of each live item, and the events so far."""

    def __init__(self) -> None:
        self.events = 0
        self.items: dict[str, tuple[int, float]] = {}
        self.key_of_number: dict[int, str] = {}

    def live(self, now: float) -> dict[str, str]:
        return {key: f"{number:x}" for key, (number, expiry) in self.items.items() if now < expiry}

    def purge(self, now: float) -> None:
        for _, key in sorted((expiry, key) for key, (_, expiry) in self.items.items() if now >= expiry):
            del self.items[key]
            self.events += 1

    def write(self, key: str, now: float, ttl: float | None) -> str:
        self.purge(now)
        kept = self.items.get(key, (0, NEVER))[1]
        self.items[key] = (self.events, kept if ttl is None else now + ttl)
        assert self.events not in self.key_of_number  # no ABA: whatever became of the item, its number is taken
        self.key_of_number[self.events] = key
        self.events += 1
        return f"{self.events - 1:x}"

    def remove(self, key: str, now: float) -> str:
        self.purge(now)
        self.events += 1
        return f"{self.items.pop(key)[0]:x}"


NEVER = float("inf")
on_items = st.tuples(st.sampled_from(["set", "set short", "create", "update", "remove", "ttl"]), st.sampled_from("abc"))
on_all = st.tuples(st.sampled_from(["later", "purge", "restart", "compact", "map ttl", "fail"]), st.just("a"))


@given(steps=st.lists(on_items | on_items | on_all, min_size=15, max_size=40))
def test_count_any_sequence(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]) -> None:
    """R1–R4, R6: after any steps every item and the map have the revisions that counting by hand gives."""
    path = tmp_path_factory.mktemp("revisions") / "store.mapitem"
    clock, model = ManualClock(now=1_000.0), ByHand()
    store = Store(path, clock=clock)
    try:
        for step, key in steps:
            map_, now = store.map("m"), clock()
            if step == "later":
                clock.advance(1)
            elif step == "restart":
                store.close()
                store = Store(path, clock=clock)
            elif step == "compact":
                store.compact()
                model.purge(now)
            elif step == "purge":
                map_.purge()
                model.purge(now)
            elif step == "map ttl":
                map_.set_ttl(100_000)
            elif step == "set":
                assert map_.set(key, {}).revision == model.write(key, now, None)
            elif step == "set short":
                assert map_.set(key, {}, ttl=3).revision == model.write(key, now, 3)
            elif step == "update":
                assert map_.update(key, {}).revision == model.write(key, now, None)
            elif step == "create" and key not in model.live(now):
                assert map_.create(key, {}).revision == model.write(key, now, None)
            elif step == "ttl" and key in model.live(now):
                assert map_.set_item_ttl(key, 2).revision == model.write(key, now, 2)
            elif step == "remove" and key in model.live(now):
                assert map_.remove(key).revision == model.remove(key, now)
            else:
                with pytest.raises((RevisionMismatch, ItemNotFound)):
                    map_.set(key, {}, if_match="ffffff")
            map_ = store.map("m")
            assert {item.key: item.revision for item in map_.range()} == model.live(clock())
            assert map_.revision == f"{model.events:x}"
    finally:
        store.close()

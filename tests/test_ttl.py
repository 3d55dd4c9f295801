"""Time to live: which are allowed, when an item or a map is absent, and when it goes for good (semantics T)."""

from __future__ import annotations

import decimal
import enum
import fractions
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapitem import (
    Batch,
    DataTooLarge,
    Event,
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
    MapNotFound,
    MapRemoved,
    RevisionMismatch,
    Store,
)
from mapitem.testing import ManualClock

NOW = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
"""What the clock of the fixtures shows at first."""

YEAR = 31_536_000


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


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


def removals(map_: Map) -> list[tuple[str, str]]:
    """Keys and numbers of the removals in the feed, each of them an expiry."""
    events = [event for event in map_.changes() if isinstance(event, ItemRemoved)]
    assert all(event.expired for event in events)
    return [(event.key, event.revision) for event in events]


@pytest.fixture
def heard(store: Store) -> Iterator[list[Any]]:
    """Every event of the store, as it is told."""
    events: list[Any] = []
    with store.on(Event, events.append):
        yield events


# ---------------------------------------------------------------- T1: which are allowed


TTL_VERBS = [
    "create", "set", "set over", "update", "update over", "mutate", "mutate over", "set_item_ttl",
    "batch.create", "batch.set", "batch.update", "batch.set_item_ttl",
]  # fmt: skip


def write_with_ttl(store: Store, map_: Map, verb: str, ttl: Any) -> Any:
    """The item of one write with a TTL; "over" writes to the key ``old``, which is there."""
    with store.batch() as batch:
        writes: dict[str, Callable[[], Any]] = {
            "create": lambda: map_.create("new", {}, ttl=ttl),
            "set": lambda: map_.set("new", {}, ttl=ttl),
            "set over": lambda: map_.set("old", {}, ttl=ttl),
            "update": lambda: map_.update("new", {}, ttl=ttl),
            "update over": lambda: map_.update("old", {}, ttl=ttl),
            "mutate": lambda: map_.mutate("new", lambda data: data, ttl=ttl),
            "mutate over": lambda: map_.mutate("old", lambda data: data, ttl=ttl),
            "set_item_ttl": lambda: map_.set_item_ttl("old", ttl),
            "batch.create": lambda: batch.create(map_, "new", {}, ttl=ttl),
            "batch.set": lambda: batch.set(map_, "old", {}, ttl=ttl),
            "batch.update": lambda: batch.update(map_, "old", {}, ttl=ttl),
            "batch.set_item_ttl": lambda: batch.set_item_ttl(map_, "old", ttl),
        }
        item = writes[verb]()
    return item or batch.results[0]


ALLOWED = [
    pytest.param(1, 1, id="1"),
    pytest.param(YEAR, YEAR, id="a year"),
    pytest.param(timedelta(seconds=1), 1, id="timedelta of 1 s"),
    pytest.param(timedelta(minutes=2), 120, id="timedelta of 2 min"),
    pytest.param(timedelta(days=365), YEAR, id="timedelta of a year"),
    pytest.param(timedelta(milliseconds=3_000), 3, id="timedelta of 3 000 ms"),
    pytest.param(timedelta(days=1, seconds=-1), 86_399, id="timedelta of a day less a second"),
    pytest.param(0, 0, id="0"),
    pytest.param(timedelta(0), 0, id="timedelta of nothing"),
]


class Seconds(enum.IntEnum):
    MINUTE = 60


NOT_ALLOWED = [
    pytest.param(-1, id="-1"),
    pytest.param(YEAR + 1, id="a year and a second"),
    pytest.param(10**30, id="beyond 64 bits"),
    pytest.param(10**5000, id="an int without a text"),
    pytest.param(-(10**5000), id="a negative int without a text"),
    pytest.param(True, id="True"),
    pytest.param(False, id="False"),
    pytest.param(1.0, id="a whole float"),
    pytest.param(0.0, id="0.0"),
    pytest.param(0.5, id="0.5"),
    pytest.param(float("nan"), id="nan"),
    pytest.param(float("inf"), id="infinity"),
    pytest.param("60", id="str"),
    pytest.param("", id="empty str"),
    pytest.param(b"60", id="bytes"),
    pytest.param([60], id="list"),
    pytest.param(decimal.Decimal(60), id="Decimal"),
    pytest.param(fractions.Fraction(60), id="Fraction"),
    pytest.param(NOW, id="datetime"),
    pytest.param(object(), id="object"),
    pytest.param(timedelta(seconds=-1), id="timedelta of -1 s"),
    pytest.param(timedelta(seconds=0.5), id="timedelta of half a second"),
    pytest.param(timedelta(microseconds=1), id="timedelta of a microsecond"),
    pytest.param(timedelta(seconds=1, microseconds=1), id="timedelta of a second and a microsecond"),
    pytest.param(timedelta(microseconds=-1), id="timedelta of a microsecond ago"),
    pytest.param(timedelta(days=365, seconds=1), id="timedelta of a year and a second"),
    pytest.param(timedelta(days=365, microseconds=1), id="timedelta of a year and a microsecond"),
    pytest.param(timedelta.max, id="longest timedelta"),
    pytest.param(timedelta.min, id="shortest timedelta"),
]


@pytest.mark.parametrize("verb", TTL_VERBS)
@pytest.mark.parametrize(("ttl", "length"), ALLOWED)
def test_write_with_a_ttl(store: Store, map_: Map, clock: ManualClock, verb: str, ttl: Any, length: int) -> None:
    """T1: whole seconds from 0 to a year, as ``int`` or ``timedelta``, give the expiry now + ttl; 0 means never."""
    map_.set("old", {}, ttl=77)
    clock.advance(0.25)
    item = write_with_ttl(store, map_, verb, ttl)
    assert item.date_expires == (NOW + seconds(0.25) + seconds(length) if length else None)
    assert map_[item.key] == item


@pytest.mark.parametrize("ttl", NOT_ALLOWED)
def test_write_with_what_is_no_ttl(store: Store, map_: Map, ttl: Any) -> None:
    """T1: everything else is ``InvalidTTL`` by every verb, and nothing is written."""
    old = map_.set("old", {}, ttl=77)
    for verb in TTL_VERBS:
        with pytest.raises(InvalidTTL):
            write_with_ttl(store, map_, verb, ttl)
    assert (list(map_.range()), map_.revision) == ([old], "1")


COLLECTION_VERBS = ["create", "set", "update", "mutate", "batch.create", "batch.set", "batch.update"]


def write_with_collection_ttl(store: Store, map_: Map, verb: str, ttl: Any) -> None:
    if verb.startswith("batch"):
        with store.batch() as batch:
            getattr(batch, verb.removeprefix("batch."))(map_, "new", {}, collection_ttl=ttl)
    elif verb == "mutate":
        map_.mutate("new", lambda data: data, collection_ttl=ttl)
    else:
        getattr(map_, verb)("new", {}, collection_ttl=ttl)


@pytest.mark.parametrize("ttl", NOT_ALLOWED)
def test_give_a_map_what_is_no_ttl(store: Store, map_: Map, ttl: Any) -> None:
    """T1: a map's TTL obeys the same rule, given at creation, to a map that is there, later, or with an item."""
    map_.set_ttl(60)
    uses: list[Callable[[], object]] = [
        lambda: store.map("new", ttl=ttl),
        lambda: store.map("m", ttl=ttl),
        lambda: store.create_map("new", ttl=ttl),
        lambda: store.create_map(ttl=ttl),
        lambda: map_.set_ttl(ttl),
        *(partial(write_with_collection_ttl, store, map_, verb, ttl) for verb in COLLECTION_VERBS),
    ]
    for use in uses:
        with pytest.raises(InvalidTTL):
            use()
    assert [each.name for each in store.maps()] == ["m"]
    assert (map_.date_expires, map_.revision) == (NOW + seconds(60), "0")


@pytest.mark.parametrize(("ttl", "length"), ALLOWED)
def test_give_a_map_a_ttl(store: Store, map_: Map, clock: ManualClock, ttl: Any, length: int) -> None:
    """T1: the same values are allowed for a map, with the same meaning."""
    clock.advance(0.25)
    expiry = NOW + seconds(0.25) + seconds(length) if length else None
    assert store.map("new", ttl=ttl).date_expires == expiry
    assert store.create_map("other", ttl=ttl).date_expires == expiry
    assert store.create_map(ttl=ttl).date_expires == expiry
    map_.set_ttl(ttl)
    assert map_.date_expires == expiry
    for verb in COLLECTION_VERBS:
        each = store.create_map(ttl=77)
        write_with_collection_ttl(store, each, verb, ttl)
        assert each.date_expires == expiry


def test_invalid_ttl_is_a_value_error_of_the_service(map_: Map) -> None:
    """T1: ``InvalidTTL`` is a ``ValueError`` with the service's status and code (X)."""
    with pytest.raises(ValueError, match=r"ttl") as caught:
        map_.set("k", {}, ttl=-1)
    error: Any = caught.value
    assert (type(error), error.status, error.code) == (InvalidTTL, 400, 54011)


def test_give_no_ttl_where_one_is_needed(store: Store, map_: Map) -> None:
    """T1: ``None`` means nothing to ``set_item_ttl`` and ``set_ttl``: both refuse it (W6), in a batch at the call."""
    item = map_.set("k", {}, ttl=60)
    with pytest.raises(InvalidTTL):
        map_.set_item_ttl("k", None)  # type: ignore[arg-type]
    with pytest.raises(InvalidTTL):
        map_.set_ttl(None)  # type: ignore[arg-type]
    with store.batch() as batch, pytest.raises(InvalidTTL):
        batch.set_item_ttl(map_, "k", None)  # type: ignore[arg-type]
    assert batch.results == []
    assert map_["k"] == item


@pytest.mark.parametrize("explicit", [False, True])
def test_create_without_a_ttl(store: Store, map_: Map, clock: ManualClock, explicit: bool) -> None:
    """T1: without a TTL, or with ``None``, what is created never expires."""
    given_ttl: dict[str, Any] = {"ttl": None, "collection_ttl": None} if explicit else {}
    map_.create("a", {}, **given_ttl)
    map_.set("b", {}, **given_ttl)
    map_.update("c", {}, **given_ttl)
    map_.mutate("d", lambda data: data, **given_ttl)
    assert [item.date_expires for item in map_.range()] == [None] * 4
    assert map_.date_expires is None
    assert store.create_map(**({"ttl": None} if explicit else {})).date_expires is None
    clock.advance(10**9)
    assert list(map_) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("explicit", [False, True])
def test_write_again_without_a_ttl(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str, explicit: bool
) -> None:
    """T1: ``None`` on a later write keeps the expiry as it is, by every verb, also the one that replaces the data."""
    given_ttl: dict[str, Any] = {"ttl": None} if explicit else {}
    map_.create("timed", {}, ttl=60)
    map_.create("timeless", {})
    for key, expiry in {"timed": NOW + seconds(60), "timeless": None}.items():
        clock.advance(7)
        for item in (
            map_.set(key, {"n": 1}, **given_ttl),
            map_.update(key, {"n": 2}, **given_ttl),
            map_.mutate(key, lambda data: {}, **given_ttl),
            map_.set(key, {"n": 1}, if_match="*", **given_ttl),
        ):
            assert item is not None
            assert item.date_expires == expiry
        with store.batch() as batch:
            batch.set(map_, key, {}, **given_ttl)
            batch.update(map_, key, {}, **given_ttl)
        assert [item.date_expires for item in batch.results if item is not None] == [expiry] * 2
    map_ = reopen(store, make_store, backing).map("m")
    assert (map_["timed"].date_expires, map_["timeless"].date_expires) == (NOW + seconds(60), None)


def test_write_over_what_expired_without_a_ttl(map_: Map, clock: ManualClock) -> None:
    """T1: an expired item has no expiry left to keep: a write without TTL creates one that never expires."""
    for key in "abc":
        map_.set(key, {}, ttl=5)
    clock.advance(5)
    items = [map_.set("a", {}), map_.update("b", {}), map_.mutate("c", lambda data: data)]
    assert [item.date_expires for item in items if item is not None] == [None] * 3
    clock.advance(10**6)
    assert len(map_) == 3


def test_clear_an_expiry(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str
) -> None:
    """T1: ``0`` clears the expiry of an item for good, by every verb and across a restart."""
    writes: dict[str, Callable[[str], object]] = {
        "set": lambda key: map_.set(key, {}, ttl=0),
        "update": lambda key: map_.update(key, {}, ttl=0),
        "mutate": lambda key: map_.mutate(key, lambda data: data, ttl=0),
        "set_item_ttl": lambda key: map_.set_item_ttl(key, 0),
    }
    for key, write in writes.items():
        map_.set(key, {}, ttl=5)
        write(key)
        assert map_[key].date_expires is None
    clock.advance(10)
    map_.purge()
    map_ = reopen(store, make_store, backing).map("m")
    assert set(map_) == set(writes)


@pytest.mark.parametrize("first", [5, 500])
def test_move_an_expiry(map_: Map, clock: ManualClock, first: int) -> None:
    """T1: a new TTL counts from its write, be it earlier or later than the one before, which no longer matters."""
    map_.set("k", {}, ttl=first)
    clock.advance(4)
    assert map_.set("k", {}, ttl=50).date_expires == NOW + seconds(54)
    clock.advance(49)
    assert (map_.purge(), "k" in map_) == (0, True)
    clock.advance(1)
    assert ("k" in map_, map_.purge()) == (False, 1)
    clock.advance(first)
    assert map_.purge() == 0


def test_expire_by_the_clock_though_the_date_is_held(map_: Map, clock: ManualClock) -> None:
    """T1: when the clock went back the expiry counts from the clock, though ``date_updated`` stays (I2)."""
    map_.set("k", {})
    clock.advance(-1_000)
    for item in (map_.set("k", {}, ttl=10), map_.update("k", {}, ttl=10), map_.set_item_ttl("k", 10)):
        assert (item.date_updated, item.date_expires) == (NOW, NOW - seconds(990))
    clock.advance(9)
    assert "k" in map_
    clock.advance(1)
    assert "k" not in map_


def test_give_the_same_expiry_again(map_: Map, clock: ManualClock) -> None:
    """T1: an expiry that is given twice, or moved and moved back, or kept by a later write, is one expiry."""
    for ttl in (10, 20, 10, None, 10):
        map_.set("k", {}, ttl=ttl)
    map_.set("other", {})
    clock.advance(10)
    assert (len(map_), list(map_)) == (1, ["other"])
    assert (map_.purge(), map_.revision) == (1, "7")
    clock.advance(10)
    assert (map_.purge(), len(map_)) == (0, 1)


# ---------------------------------------------------------------- T2: items and their map


def test_keep_expiries_of_items_and_map_apart(store: Store, clock: ManualClock) -> None:
    """T2: items do not inherit their map's TTL, and a map does not take an item's."""
    map_ = store.map("m", ttl=60)
    assert map_.create("a", {}).date_expires is None
    assert map_.create("b", {}, ttl=5).date_expires == NOW + seconds(5)
    assert map_.date_expires == NOW + seconds(60)
    map_.set_ttl(600)
    assert (map_["a"].date_expires, map_["b"].date_expires) == (None, NOW + seconds(5))
    clock.advance(5)
    assert list(map_) == ["a"]


@pytest.mark.parametrize("verb", COLLECTION_VERBS)
def test_set_the_expiry_of_the_map_with_an_item(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str, verb: str
) -> None:
    """T2: ``collection_ttl`` sets the map's expiry to now + N, whatever it was, and no item's; it is one event."""
    for before in (0, 5, 5_000):
        map_ = store.create_map(ttl=before)
        clock.advance(1)
        write_with_collection_ttl(store, map_, verb, 60)
        expiry = map_.date_created + seconds(61)
        assert (map_.date_expires, map_["new"].date_expires, map_.revision) == (expiry, None, "1")
    store = reopen(store, make_store, backing)
    map_ = store.open_map(map_.sid)
    assert map_.date_expires == expiry
    clock.advance(60)
    with pytest.raises(MapNotFound):
        map_.get("new")


@pytest.mark.parametrize("verb", COLLECTION_VERBS)
def test_clear_the_expiry_of_the_map_with_an_item(
    store: Store, clock: ManualClock, make_store: Callable[..., Store], backing: str, verb: str
) -> None:
    """T2: ``collection_ttl=0`` clears the map's expiry, and ``None`` leaves it as it is."""
    map_ = store.create_map(ttl=60)
    clock.advance(1)
    write_with_collection_ttl(store, map_, verb, None)
    assert map_.date_expires == NOW + seconds(60)
    map_.remove("new")
    write_with_collection_ttl(store, map_, verb, 0)
    assert map_.date_expires is None
    store = reopen(store, make_store, backing)
    clock.advance(10**6)
    assert list(store.open_map(map_.sid)) == ["new"]


def test_set_both_expiries_at_once(map_: Map) -> None:
    """T2: ``ttl`` and ``collection_ttl`` of one write each set their own."""
    item = map_.set("k", {}, ttl=5, collection_ttl=60)
    assert (item.date_expires, map_.date_expires) == (NOW + seconds(5), NOW + seconds(60))
    item = map_.update("k", {}, ttl=0, collection_ttl=7)
    assert (item.date_expires, map_.date_expires) == (None, NOW + seconds(7))


def test_set_the_expiry_of_the_map_by_the_last_of_a_batch(store: Store, map_: Map) -> None:
    """T2: in a batch each map has the expiry that the last write which gave one says."""
    other = store.map("other")
    with store.batch() as batch:
        batch.set(map_, "a", {}, collection_ttl=60)
        batch.set(map_, "b", {}, collection_ttl=30)
        batch.set(map_, "c", {})
        batch.set(other, "a", {}, collection_ttl=9)
    assert (map_.date_expires, other.date_expires) == (NOW + seconds(30), NOW + seconds(9))


def test_fail_with_a_collection_ttl(store: Store, map_: Map, make_store: Callable[..., Store], backing: str) -> None:
    """T2: the map's expiry is set in the same atomic step: a write that fails leaves it, for whichever reason."""
    map_.set("k", {"a": "x" * 10_000})
    map_.set_ttl(600)
    failing: list[tuple[type[Exception], Callable[[], object]]] = [
        (ItemExists, lambda: map_.create("k", {}, collection_ttl=60)),
        (RevisionMismatch, lambda: map_.set("k", {}, if_match="9", collection_ttl=60)),
        (ItemNotFound, lambda: map_.update("absent", {}, if_match="*", collection_ttl=60)),
        (DataTooLarge, lambda: map_.update("k", {"b": "x" * 10_000}, collection_ttl=60)),
        (InvalidData, lambda: map_.mutate("k", lambda data: {1: 2}, collection_ttl=60)),  # type: ignore[dict-item]
        (ZeroDivisionError, lambda: map_.mutate("k", lambda data: {"n": 1 // 0}, collection_ttl=60)),
        (InvalidTTL, lambda: map_.set("k", {}, ttl=-1, collection_ttl=60)),
        (InvalidKey, lambda: map_.set("", {}, collection_ttl=0)),
    ]
    for error, write in failing:
        with pytest.raises(error):
            write()
    map_.mutate("k", lambda data: None, collection_ttl=60)  # no write, so no step to be part of
    with pytest.raises(ItemExists):
        apply_batch(
            store,
            lambda batch: batch.set(map_, "new", {}, collection_ttl=60),
            lambda batch: batch.create(map_, "k", {}),
        )
    assert (map_.date_expires, map_.revision) == (NOW + seconds(600), "1")
    assert reopen(store, make_store, backing).map("m").date_expires == NOW + seconds(600)


def test_open_a_map_with_another_ttl(store: Store) -> None:
    """T2: a TTL given on opening counts only if the map is created by it; one that is there keeps its own (S2)."""
    store.map("timed", ttl=60)
    store.map("timeless")
    assert store.map("timed", ttl=5).date_expires == store.map("timed", ttl=0).date_expires == NOW + seconds(60)
    assert store.map("timed").date_expires == NOW + seconds(60)
    assert store.map("timeless", ttl=5).date_expires is None


# ---------------------------------------------------------------- T3: absent from the instant on


PRESENCE: dict[str, Callable[[Store, Map], bool]] = {
    "[]": lambda store, map_: _found(lambda: map_["b"]),
    "get": lambda store, map_: map_.get("b") is not None,
    "in": lambda store, map_: "b" in map_,
    "len": lambda store, map_: len(map_) == 3,
    "iteration": lambda store, map_: list(map_) == ["a", "b", "c"],
    "keys": lambda store, map_: "b" in map_.keys(),  # noqa: SIM118
    "values": lambda store, map_: [item.key for item in map_.values()] == ["a", "b", "c"],
    "items": lambda store, map_: [key for key, _ in map_.items()] == ["a", "b", "c"],
    "range": lambda store, map_: [item.key for item in map_.range()] == ["a", "b", "c"],
    "range desc": lambda store, map_: [item.key for item in map_.range(order="desc")] == ["c", "b", "a"],
    "range from": lambda store, map_: next(map_.range("b")).key == "b",
    "range limit": lambda store, map_: [item.key for item in map_.range(limit=2)] == ["a", "b"],
    "range prefix": lambda store, map_: list(map_.range(prefix="b")) != [],
    "page": lambda store, map_: [item.key for item in map_.page().items] == ["a", "b", "c"],
    "page of 2": lambda store, map_: [item.key for item in map_.page(page_size=2).items] == ["a", "b"],
    "token of a page of 2": lambda store, map_: map_.page(page_size=2).next_page_token is not None,
    "create": lambda store, map_: not _found(lambda: map_.create("b", {})),
    "set if_match": lambda store, map_: _found(lambda: map_.set("b", {}, if_match="1")),
    "set if_match *": lambda store, map_: _found(lambda: map_.set("b", {}, if_match="*")),
    "update if_match": lambda store, map_: _found(lambda: map_.update("b", {}, if_match="1")),
    "update if_match *": lambda store, map_: _found(lambda: map_.update("b", {}, if_match="*")),
    "update merges": lambda store, map_: "n" in map_.update("b", {}).data,
    "mutate": lambda store, map_: "n" in map_.mutate("b", lambda data: data).data,  # type: ignore[union-attr]
    "mutate without result": lambda store, map_: map_.mutate("b", lambda data: None) is not None,
    "remove": lambda store, map_: _found(lambda: map_.remove("b")),
    "remove if_match": lambda store, map_: _found(lambda: map_.remove("b", if_match="1")),
    "set_item_ttl": lambda store, map_: _found(lambda: map_.set_item_ttl("b", 5)),
    "set_item_ttl if_match *": lambda store, map_: _found(lambda: map_.set_item_ttl("b", 5, if_match="*")),
    "batch.create": lambda store, map_: (
        not _found(lambda: apply_batch(store, lambda batch: batch.create(map_, "b", {})))
    ),
    "batch.set": lambda store, map_: _found(
        lambda: apply_batch(store, lambda batch: batch.set(map_, "b", {}, if_match="*"))
    ),
    "batch.update": lambda store, map_: _found(
        lambda: apply_batch(store, lambda batch: batch.update(map_, "b", {}, if_match="1"))
    ),
    "batch.remove": lambda store, map_: _found(lambda: apply_batch(store, lambda batch: batch.remove(map_, "b"))),
    "batch.set_item_ttl": lambda store, map_: _found(
        lambda: apply_batch(store, lambda batch: batch.set_item_ttl(map_, "b", 5))
    ),
}


def _found(use: Callable[[], object]) -> bool:
    try:
        use()
    except (ItemNotFound, ItemExists):
        return False
    return True


@pytest.mark.parametrize("at", [0, 9.999, 10, 10**6])
@pytest.mark.parametrize("use", PRESENCE)
def test_use_an_item_around_its_expiry(store: Store, map_: Map, clock: ManualClock, use: str, at: float) -> None:
    """T3: before the instant of its expiry an item is there, from then on absent, to each read and condition."""
    map_.set("a", {})
    map_.set("b", {"n": 1}, ttl=10)
    map_.set("c", {})
    clock.advance(at)
    assert PRESENCE[use](store, map_) is (at < 10)


@pytest.mark.parametrize("use", PRESENCE)
def test_use_an_item_when_the_clock_went_back(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str, use: str
) -> None:
    """T3: absence is judged anew at each call: if nothing removed it, it is there when the clock went back."""
    map_.set("a", {})
    map_.set("b", {"n": 1}, ttl=10)
    map_.set("c", {})
    clock.advance(10)
    assert (len(map_), map_.get("b"), list(map_)) == (2, None, ["a", "c"])
    store = reopen(store, make_store, backing)
    map_ = store.map("m")
    assert map_.get("b") is None
    clock.advance(-0.5)
    assert PRESENCE[use](store, map_) is True


def test_meet_an_expired_item_inside_a_batch(store: Store, map_: Map, clock: ManualClock) -> None:
    """T3: within a batch an expired key is absent till the batch itself creates it."""
    map_.set("b", {"n": 1}, ttl=10)
    clock.advance(10)
    with store.batch() as batch:
        batch.create(map_, "b", {"n": 2})
        batch.update(map_, "b", {"m": 3})
    assert map_["b"].data == {"n": 2, "m": 3}
    assert (map_["b"].date_created, map_["b"].date_expires) == (NOW + seconds(10), None)


@given(now=st.floats(0, 4_000_000_000), ttl=st.integers(1, YEAR))
def test_expire_at_the_date_that_is_shown(now: float, ttl: int) -> None:
    """T3: whatever fraction the clock had, the item is absent at ``date_expires`` and there a millisecond before."""
    clock = ManualClock(now=now)
    with Store(clock=clock) as store:
        map_ = store.map("m")
        expiry = map_.set("k", {}, ttl=ttl).date_expires
        assert expiry is not None
        clock.set((expiry - timedelta(milliseconds=1)).timestamp())
        assert ("k" in map_, len(map_), map_.purge()) == (True, 1, 0)
        clock.set(expiry.timestamp())
        assert ("k" in map_, len(map_), map_.purge()) == (False, 0, 1)


def test_list_nothing_but_expired_items(map_: Map, clock: ManualClock) -> None:
    """T3: a map of expired items is an empty one to every listing, however many there are."""
    for number in range(1_200):
        map_.set(f"{number:04}", {}, ttl=10)
    map_.set("5", {}, ttl=20)
    clock.advance(10)
    page = map_.page(page_size=1)
    assert ([item.key for item in page.items], page.next_page_token, page.previous_page_token) == (["5"], None, None)
    assert (list(map_), len(map_), [item.key for item in map_.range(order="desc")]) == (["5"], 1, ["5"])
    clock.advance(10)
    assert (list(map_), len(map_), bool(map_), map_.page().items) == ([], 0, False, map_.page().items[:0])


def test_walk_while_items_expire(map_: Map, clock: ManualClock) -> None:
    """T3: a walk under way tells no item that expired before the walk's own reading of it began (L3)."""
    for number in range(2_000):
        map_.set(f"{number:04}", {}, ttl=10 if number % 2 else 0)
    walk = map_.range()
    assert next(walk).key == "0000"
    clock.advance(10)
    rest = [item.key for item in walk]
    assert set(rest) >= {f"{number:04}" for number in range(2, 2_000, 2)}
    assert not {f"{number:04}" for number in range(1_501, 2_000, 2)} & set(rest)


# ---------------------------------------------------------------- T4: who removes, and in which order


def due_items(map_: Map, clock: ManualClock) -> None:
    """Put in items that are due in the order b, d, a, c, é, 😀, by expiry and then key; x and y are not due."""
    for key, ttl in {"é": 8, "a": 7, "c": 8, "😀": 8, "x": 1_000, "d": 5, "y": 0, "b": 5}.items():
        map_.set(key, {}, ttl=ttl)
    clock.advance(10)


IN_ORDER = [("b", "8"), ("d", "9"), ("a", "a"), ("c", "b"), ("é", "c"), ("😀", "d")]


WRITES: dict[str, Callable[[Store, Map], object]] = {
    "create": lambda store, map_: map_.create("new", {}),
    "set": lambda store, map_: map_.set("x", {}),
    "update": lambda store, map_: map_.update("x", {}),
    "mutate": lambda store, map_: map_.mutate("x", lambda data: data),
    "remove": lambda store, map_: map_.remove("x"),
    "set_item_ttl": lambda store, map_: map_.set_item_ttl("x", 60),
    "write to a due key": lambda store, map_: map_.set("d", {}),
    "batch": lambda store, map_: apply_batch(store, lambda batch: batch.set(map_, "new", {})),
    "batch.remove": lambda store, map_: apply_batch(store, lambda batch: batch.remove(map_, "x")),
}


@pytest.mark.parametrize("write", WRITES)
def test_remove_what_is_due_before_a_write(
    store: Store, map_: Map, clock: ManualClock, heard: list[Any], write: str
) -> None:
    """T4: a write first removes what is due, each an event with a number of its own, by expiry and then key."""
    due_items(map_, clock)
    del heard[:]
    WRITES[write](store, map_)
    assert [(event.key, event.revision) for event in heard[:-1]] == IN_ORDER
    assert {type(event) for event in heard[:-1]} == {ItemRemoved}
    assert all(event.expired and event.previous.key == event.key for event in heard[:-1])
    assert all(event.date == NOW + seconds(10) for event in heard)
    assert heard[-1].revision == "e"
    assert not (isinstance(heard[-1], ItemRemoved) and heard[-1].expired)
    assert map_.revision == "f"
    feed: list[Any] = list(map_.changes(since="8"))
    assert [(event.key, event.revision) for event in feed] == [*IN_ORDER, (heard[-1].key, "e")]
    assert map_.purge() == 0


def test_write_to_a_due_key(map_: Map, clock: ManualClock, heard: list[Any]) -> None:
    """T4: a write to a key that is itself due removes it first, so that the key is added, not updated."""
    map_.set("k", {"n": 1}, ttl=10)
    clock.advance(10)
    map_.set("k", {"n": 2})
    assert [type(event) for event in heard] == [ItemAdded, ItemRemoved, ItemAdded]
    assert [event.revision for event in heard] == ["0", "1", "2"]
    map_.set("k", {"n": 3})
    assert type(heard[-1]) is ItemUpdated


def test_purge_a_map(store: Store, map_: Map, clock: ManualClock, heard: list[Any]) -> None:
    """T4: ``map.purge()`` removes the same in the same order without a write, and says how many; others keep theirs."""
    other = store.map("other")
    other.set("k", {}, ttl=5)
    due_items(map_, clock)
    del heard[:]
    assert map_.purge() == 6
    assert [(event.key, event.revision) for event in heard] == IN_ORDER
    assert removals(map_) == IN_ORDER
    assert (map_.purge(), map_.revision, list(map_)) == (0, "e", ["x", "y"])
    assert other.revision == "1"
    clock.advance(-10)
    assert "k" in other


def test_purge_a_store(store: Store, map_: Map, clock: ManualClock, heard: list[Any]) -> None:
    """T4: ``store.purge()`` does so in every map, and counts all items of the expired maps that it drops."""
    nameless, doomed, empty = store.create_map(), store.map("doomed", ttl=10), store.map("empty", ttl=10)
    nameless.set("k", {}, ttl=5)
    for key, ttl in {"a": 0, "b": 5, "c": 1_000}.items():
        doomed.set(key, {}, ttl=ttl)
    due_items(map_, clock)
    del heard[:]
    assert store.purge() == 6 + 1 + 3
    assert [(event.key, event.revision) for event in heard if event.map_sid == map_.sid] == IN_ORDER
    assert [(event.key, event.revision) for event in heard if event.map_sid == nameless.sid] == [("k", "1")]
    assert {event.map_sid for event in heard if isinstance(event, MapRemoved)} == {doomed.sid, empty.sid}
    assert len(heard) == 6 + 1 + 2
    assert (store.purge(), len(heard)) == (0, 9)


def test_purge_nothing(store: Store, map_: Map, clock: ManualClock, heard: list[Any]) -> None:
    """T4: without anything due both return 0 and do nothing, in an empty store too."""
    assert (map_.purge(), store.purge()) == (0, 0)
    map_.set("k", {}, ttl=10)
    clock.advance(9.999)
    assert (map_.purge(), store.purge()) == (0, 0)
    assert ([type(event) for event in heard], map_.revision) == ([ItemAdded], "1")


READS: dict[str, Callable[[Store, Map], object]] = {
    "get": lambda store, map_: [map_.get(key) for key in "abcdxy"],
    "in": lambda store, map_: ["a" in map_, "x" in map_],
    "len": lambda store, map_: len(map_),
    "iteration": lambda store, map_: list(map_),
    "range": lambda store, map_: [list(map_.range()), list(map_.range(order="desc", prefix="a"))],
    "page": lambda store, map_: [map_.page(), map_.page(page_size=1)],
    "properties": lambda store, map_: [map_.revision, map_.date_updated, map_.date_expires, repr(map_)],
    "changes": lambda store, map_: list(map_.changes()),
    "maps": lambda store, map_: [list(store.maps()), store.map("m"), store.open_map(map_.sid)],
    "mutate without result": lambda store, map_: map_.mutate("x", lambda data: None),
    "empty batch": lambda store, map_: store.batch().__enter__().__exit__(None, None, None),
}


@pytest.mark.parametrize("read", READS)
def test_read_while_items_are_due(
    store: Store, map_: Map, clock: ManualClock, heard: list[Any], tmp_path: Path, read: str
) -> None:
    """T4: reads never change state: no number, no event, no byte on disk; what is due can still be gone back to."""
    due_items(map_, clock)
    del heard[:]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    READS[read](store, map_)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert (heard, map_.revision, map_.date_updated) == ([], "8", NOW)
    clock.advance(-10)
    assert len(map_) == 8


def test_fail_while_items_are_due(store: Store, map_: Map, clock: ManualClock, heard: list[Any]) -> None:
    """T4: a write that fails leaves what is due for the next: no number, no event, and the clock may go back to it."""
    due_items(map_, clock)
    del heard[:]
    failing: list[tuple[type[Exception], Callable[[], object]]] = [
        (ItemExists, lambda: map_.create("x", {})),
        (ItemNotFound, lambda: map_.remove("a")),
        (ItemNotFound, lambda: map_.set_item_ttl("a", 5)),
        (RevisionMismatch, lambda: map_.set("x", {}, if_match="0")),
        (ItemNotFound, lambda: map_.set("a", {}, if_match="*")),
        (InvalidRevision, lambda: map_.set("x", {}, if_match="X")),
        (InvalidKey, lambda: map_.set("", {})),
        (InvalidData, lambda: map_.set("x", [])),  # type: ignore[arg-type]
        (DataTooLarge, lambda: map_.update("x", {"a": "x" * 20_000})),
        (InvalidTTL, lambda: map_.set("x", {}, ttl=-1)),
        (ItemNotFound, lambda: apply_batch(store, lambda batch: batch.remove(map_, "a"))),
    ]
    for error, write in failing:
        with pytest.raises(error):
            write()
    with pytest.raises(ItemExists):
        apply_batch(store, lambda batch: batch.set(map_, "new", {}), lambda batch: batch.create(map_, "x", {}))
    assert (heard, map_.revision, map_.date_updated) == ([], "8", NOW)
    clock.advance(-10)
    assert len(map_) == 8
    clock.advance(10)
    assert map_.set("x", {}).revision == "e"


def test_write_what_is_no_write_while_items_are_due(
    store: Store, map_: Map, clock: ManualClock, heard: list[Any]
) -> None:
    """T4: setting the map's TTL removes nothing (W6), nor does a write to another map."""
    due_items(map_, clock)
    other = store.map("other")
    del heard[:]
    map_.set_ttl(1_000)
    map_.set_ttl(0)
    other.set("k", {})
    assert ([event.map_sid for event in heard], map_.revision) == ([other.sid], "8")
    clock.advance(-10)
    assert len(map_) == 8


def test_batch_while_items_are_due(store: Store, map_: Map, clock: ManualClock) -> None:
    """T4: a batch first removes what is due in each map that it writes to, and in no other."""
    maps = [store.map(name) for name in ("one", "two", "three")]
    for each in maps:
        each.set("due", {}, ttl=10)
    clock.advance(10)
    with store.batch() as batch:
        batch.set(maps[0], "k", {})
        batch.set(maps[1], "k", {})
        batch.set(maps[0], "l", {})
    assert [item.revision for item in batch.results if item is not None] == ["2", "2", "3"]
    assert [each.revision for each in maps] == ["4", "3", "1"]


def test_remove_what_is_due_atomically_with_the_write(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str
) -> None:
    """T4: the removals and the write are one step: to a reader, and after a restart, all of them happened."""
    due_items(map_, clock)
    seen: list[tuple[str, int]] = []
    with map_.on(Event, lambda event: seen.append((map_.revision, len(map_)))):
        map_.set("new", {})
    assert seen == [("f", 3)] * 7
    map_ = reopen(store, make_store, backing).map("m")
    assert (map_.revision, removals(map_)) == ("f", IN_ORDER)


def test_start_no_threads(make_store: Callable[..., Store], clock: ManualClock) -> None:
    """T4: nothing happens on hidden threads: none is started, by expiry, purge, events or compaction."""
    before = threading.enumerate()
    with make_store() as store:
        map_ = store.map("m", ttl=1_000)
        with store.on(Event, lambda event: None):
            due_items(map_, clock)
            list(map_.range())
            assert threading.enumerate() == before
            map_.set("new", {}, ttl=5)
            clock.advance(5)
            assert (map_.purge(), store.purge()) == (1, 0)
            store.compact()
        assert threading.enumerate() == before
    assert threading.enumerate() == before


# ---------------------------------------------------------------- T5: maps


@pytest.mark.parametrize("at", [0, 9, 9.999, 10, 10.001, 10**6])
def test_use_a_map_around_its_expiry(store: Store, clock: ManualClock, at: float) -> None:
    """T5: from the instant of its expiry a map is absent with all its items: by name, sid, list and handle."""
    map_ = store.map("m", ttl=10)
    store.map("other")
    map_.set("k", {})
    clock.advance(at)
    assert [each.name for each in store.maps()] == (["m", "other"] if at < 10 else ["other"])
    uses: list[Callable[[], object]] = [
        lambda: store.open_map("m"),
        lambda: store.open_map(map_.sid),
        lambda: map_["k"],
        lambda: map_.set("k", {}),
        lambda: map_.set("k", {}, collection_ttl=0),
        lambda: map_.set_ttl(10),
        lambda: map_.purge(),
        lambda: apply_batch(store, lambda batch: batch.set(map_, "k", {})),
        lambda: map_.date_expires,
    ]
    for use in uses:
        if at >= 10:
            with pytest.raises(MapNotFound):
                use()
        else:
            use()


def test_use_a_map_when_the_clock_went_back(
    store: Store, clock: ManualClock, make_store: Callable[..., Store], backing: str
) -> None:
    """T5: till something drops it an expired map is only absent: when the clock goes back it is there again (T3)."""
    map_ = store.map("m", ttl=10)
    item = map_.set("k", {"n": 1})
    clock.advance(10)
    with pytest.raises(MapNotFound):
        map_.set("k", {"n": 2})
    store.map("other").set("k", {})
    store = reopen(store, make_store, backing)
    with pytest.raises(MapNotFound):
        store.open_map("m")
    clock.advance(-1)
    again = store.open_map("m")
    assert (again.sid, again["k"], again.revision) == (map_.sid, item, "1")
    assert store.map("m").sid == map_.sid


@pytest.mark.parametrize("take", ["map", "create_map"])
def test_take_the_name_of_an_expired_map(store: Store, clock: ManualClock, heard: list[Any], take: str) -> None:
    """T5: its name may be used again, for a new, empty map with a new sid; that drops the old one, with one event."""
    old = store.map("m", ttl=10)
    for key in "abc":
        old.set(key, {}, ttl=5)
    old.set("d", {})
    clock.advance(10)
    del heard[:]
    new = getattr(store, take)("m")
    assert new.sid != old.sid
    assert (len(new), new.revision, new.date_expires, new.date_created) == (0, "0", None, NOW + seconds(10))
    assert [(type(event), event.map_sid, event.map_name) for event in heard] == [(MapRemoved, old.sid, "m")]
    assert (heard[0].expired, heard[0].revision, heard[0].date) == (True, "4", NOW + seconds(10))
    assert store.purge() == 0
    assert len(heard) == 1


def test_drop_expired_maps_at_purge_alone(store: Store, clock: ManualClock, heard: list[Any]) -> None:
    """T5: but for its name being taken, only ``store.purge()`` drops an expired map, one without a name too."""
    named, nameless, other = store.map("m", ttl=10), store.create_map(ttl=10), store.map("other")
    named.set("k", {})
    nameless.set("k", {}, ttl=5)
    clock.advance(10)
    del heard[:]
    list(store.maps())
    other.set("k", {})
    other.purge()
    store.map("yet another")
    store.create_map()
    for name in ("m", named.sid, nameless.sid):
        with pytest.raises(MapNotFound):
            store.open_map(name)
    assert [type(event) for event in heard] == [ItemAdded]
    assert store.purge() == 2
    assert sorted((type(event).__name__, event.map_sid, event.expired) for event in heard[1:]) == sorted(
        ("MapRemoved", map_.sid, True) for map_ in (named, nameless)
    )
    assert store.purge() == 0


@pytest.mark.parametrize(
    "drop", [lambda store: store.purge(), lambda store: store.map("m")], ids=["purge", "name taken"]
)
def test_keep_handles_dead_when_the_clock_goes_back(
    store: Store, clock: ManualClock, drop: Callable[[Store], object]
) -> None:
    """T5: dropped is dropped: the clock going back does not bring a map back, nor its handles."""
    map_ = store.map("m", ttl=10)
    map_.set("k", {})
    clock.advance(10)
    drop(store)
    clock.advance(-10)
    with pytest.raises(MapNotFound):
        map_.get("k")
    with pytest.raises(MapNotFound):
        store.open_map(map_.sid)
    assert store.map("m").sid != map_.sid


def test_extend_a_map_before_its_expiry(store: Store, clock: ManualClock) -> None:
    """T5: a map's expiry may be moved or cleared while it lives, and the earlier one no longer matters."""
    map_ = store.map("m", ttl=10)
    clock.advance(9)
    map_.set_ttl(10)
    clock.advance(9)
    assert map_.date_expires == NOW + seconds(19)
    map_.set_ttl(0)
    clock.advance(10**6)
    assert (store.purge(), len(map_)) == (0, 0)
    assert map_.date_expires is None
    map_.set_ttl(1)
    clock.advance(1)
    with pytest.raises(MapNotFound):
        len(map_)


def test_give_an_heir_the_expiry_it_asks_for(store: Store, clock: ManualClock) -> None:
    """T5: a map that takes an expired one's name takes neither its expiry nor its items, also at the same instant."""
    store.map("m", ttl=10).set("k", {})
    clock.advance(10)
    heir = store.map("m", ttl=10)
    assert heir.date_expires == NOW + seconds(20)
    clock.advance(10)
    third = store.create_map("m")
    assert third.sid != heir.sid
    assert "k" not in third


# ---------------------------------------------------------------- T6: gone stays gone


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("remove", [
    lambda store, map_: map_.purge(),
    lambda store, map_: store.purge(),
    lambda store, map_: map_.set("other", {}),
    lambda store, map_: map_.update("k", {}) and map_.remove("k"),
    lambda store, map_: store.compact(),
], ids=["map.purge", "store.purge", "write", "write to it", "compact"])  # fmt: skip
def test_keep_removed_what_expired(
    store: Store,
    map_: Map,
    clock: ManualClock,
    make_store: Callable[..., Store],
    backing: str,
    remove: Callable[[Store, Map], object],
    compact: bool,
) -> None:
    """T6: what was removed by expiry stays removed when the clock goes back, after restart and compaction too."""
    map_.set("k", {}, ttl=10)
    clock.advance(10)
    remove(store, map_)
    clock.advance(-10)
    assert "k" not in map_
    if compact:
        store.compact()
    map_ = reopen(store, make_store, backing).map("m")
    assert "k" not in map_
    clock.advance(-1_000)
    assert (map_.get("k"), map_.purge()) == (None, 0)
    assert int(map_.create("k", {}).revision, 16) >= 2


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize(
    "drop", [lambda store: store.purge(), lambda store: store.map("m")], ids=["purge", "name taken"]
)
def test_keep_dropped_maps_that_expired(
    store: Store,
    clock: ManualClock,
    make_store: Callable[..., Store],
    backing: str,
    drop: Callable[[Store], object],
    compact: bool,
) -> None:
    """T6: the same for a map: dropped after its expiry it stays so, whatever the clock, restart and compaction."""
    map_ = store.map("m", ttl=10)
    map_.set("k", {})
    clock.advance(10)
    drop(store)
    clock.advance(-10)
    if compact:
        store.compact()
    store = reopen(store, make_store, backing)
    with pytest.raises(MapNotFound):
        store.open_map(map_.sid)
    assert "k" not in store.map("m")


def test_keep_expiries_across_a_restart(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str
) -> None:
    """T6: an expiry goes on across restart and compaction, for items and maps, be it reached before or after."""
    doomed = store.map("doomed", ttl=10)
    doomed.set("k", {})
    for key, ttl in {"early": 5, "late": 15, "cleared": 5, "never": 0}.items():
        map_.set(key, {}, ttl=ttl)
    map_.set_item_ttl("cleared", 0)
    for _ in range(2):
        store = reopen(store, make_store, backing)
        store.compact()
    clock.advance(9)
    assert (list(store.map("m")), list(store.map("doomed"))) == (["cleared", "late", "never"], ["k"])
    clock.advance(1)
    store = reopen(store, make_store, backing)
    assert [each.name for each in store.maps()] == ["m"]
    clock.advance(5)
    assert list(store.map("m")) == ["cleared", "never"]
    assert store.purge() == 2 + 1


# ---------------------------------------------------------------- T7: the clock


def test_take_the_time_of_day_by_default() -> None:
    """T7: without a clock a store takes ``time.time``."""
    assert inspect.signature(Store).parameters["clock"].default is time.time


def test_take_any_callable_as_clock(make_store: Callable[..., Store]) -> None:
    """T7: a clock is any callable that gives seconds, and is asked anew at each call; an ``int`` will do."""
    reading: list[float] = [1_000]
    map_ = make_store(clock=lambda: reading[0]).map("m")
    item = map_.set("k", {}, ttl=10)
    assert item.date_updated.timestamp() == 1_000
    reading[0] = 1_009.75
    assert "k" in map_
    reading[0] = 1_010
    assert "k" not in map_


def test_give_each_store_its_clock() -> None:
    """T7: the clock is the store's own: two stores live in two times."""
    early, late = ManualClock(now=0.0), ManualClock(now=1_000.0)
    with Store(clock=early) as one, Store(clock=late) as other:
        one.map("m").set("k", {}, ttl=10)
        other.map("m").set("k", {}, ttl=10)
        late.advance(10)
        assert ("k" in one.map("m"), "k" in other.map("m")) == (True, False)


def test_move_a_clock_by_hand() -> None:
    """T7: the clock of ``mapitem.testing`` stands still until it is moved, by a step or to a time, also back."""
    clock = ManualClock(now=100.0)
    assert (clock(), clock()) == (100.0, 100.0)
    clock.advance(1.5)
    assert clock() == 101.5
    clock.advance(-2)
    assert clock() == 99.5
    clock.set(7)
    assert clock() == 7.0
    assert ManualClock()() == 0.0


# ---------------------------------------------------------------- all of it, against a table kept by hand


class Table:
    """A map as T says it is: for each key its value and the instant of its expiry, and what was removed, in order."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[int, float]] = {}
        self.removed: list[str] = []

    def live(self, now: float) -> dict[str, int]:
        return {key: value for key, (value, expiry) in sorted(self.items.items()) if now < expiry}

    def purge(self, now: float) -> int:
        due = sorted((expiry, key) for key, (_, expiry) in self.items.items() if now >= expiry)
        for _, key in due:
            del self.items[key]
            self.removed.append(key)
        return len(due)

    def write(self, key: str, value: int, ttl: int | None, now: float) -> None:
        self.purge(now)
        kept = self.items.get(key, (0, NEVER))[1]
        self.items[key] = (value, kept if ttl is None else NEVER if ttl == 0 else now + ttl)


NEVER = float("inf")
the_keys = st.sampled_from(["a", "b", "\uffff", "😀"])
ttls = st.sampled_from([None, None, 0, 1, 2, 3, 10])
writes = st.tuples(st.sampled_from(["set", "set", "update", "create", "ttl", "remove"]), the_keys, ttls)
hops = st.tuples(st.just("clock"), st.just(""), st.sampled_from([1, 1, 2, 0.5, -1, -3, 7]))
others = st.tuples(st.sampled_from(["purge", "store purge", "restart", "compact"]), st.just(""), st.none())


@given(steps=st.lists(writes | writes | hops | others, min_size=15, max_size=40))
def test_expire_any_sequence(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    """T1, T3, T4, T6: after any writes, clock hops both ways, purges and restarts a map is what the table says."""
    path = tmp_path_factory.mktemp("ttl") / "store.mapitem"
    clock, table = ManualClock(now=1_000.0), Table()
    store = Store(path, clock=clock)
    try:
        for number, (step, key, ttl) in enumerate(steps):
            map_, now = store.map("m"), clock()
            present = key in table.live(now)
            if step == "clock":
                clock.advance(ttl)
            elif step == "restart":
                store.close()
                store = Store(path, clock=clock)
            elif step == "compact":
                store.compact()
                table.purge(now)
            elif step == "purge":
                assert map_.purge() == table.purge(now)
            elif step == "store purge":
                assert store.purge() == table.purge(now)
            elif step in ("set", "update"):
                getattr(map_, step)(key, {"n": number}, ttl=ttl)
                table.write(key, number, ttl, now)
            elif step == "create" and not present:
                map_.create(key, {"n": number}, ttl=ttl)
                table.write(key, number, ttl, now)
            elif step == "ttl" and present:
                map_.set_item_ttl(key, ttl or 0)
                table.write(key, table.items[key][0], ttl or 0, now)
            elif step == "remove" and present:
                map_.remove(key)
                table.purge(now)
                del table.items[key]
            else:
                refused: dict[str, Callable[[], object]] = {
                    "create": partial(map_.create, key, {}),
                    "ttl": partial(map_.set_item_ttl, key, 1),
                    "remove": partial(map_.remove, key),
                }
                with pytest.raises(ItemExists if step == "create" else ItemNotFound):
                    refused[step]()
            map_, live = store.map("m"), table.live(clock())
            assert {item.key: item.data["n"] for item in map_.range()} == live
            assert (len(map_), list(map_), bool(map_)) == (len(live), list(live), bool(live))
            assert [map_.get(key) is not None for key in table.items] == [key in live for key in table.items]
    finally:
        store.close()


@given(steps=st.lists(writes | writes | hops, min_size=15, max_size=40))
def test_remove_in_order_in_any_sequence(steps: list[Any]) -> None:
    """T4: whatever was written and whenever, what expires is removed, and told, in the order of (expiry, key)."""
    clock, table = ManualClock(now=1_000.0), Table()
    removed: list[str] = []
    with Store(clock=clock) as store:
        map_ = store.map("m")
        with map_.on(ItemRemoved, lambda event: removed.append(event.key)):
            for number, (step, key, ttl) in enumerate(steps):
                if step == "clock":
                    clock.advance(ttl)
                elif step != "remove":
                    map_.set(key, {}, ttl=ttl)
                    table.write(key, number, ttl, clock())
                else:
                    assert map_.purge() == table.purge(clock())
                assert removed == table.removed

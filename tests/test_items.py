"""``MapItem`` as a value, and the dates and creators of items and maps (semantics I)."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapitem import InvalidTTL, ItemExists, ItemNotFound, ItemRemoved, Map, MapItem, RevisionMismatch, Store
from mapitem.testing import ManualClock

NOW = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
"""What the clock of the fixtures shows at first."""

FIELDS: dict[str, Any] = {
    "key": "k",
    "data": {"n": 1},
    "revision": "1f",
    "date_created": NOW,
    "date_updated": NOW + timedelta(seconds=1),
    "date_expires": NOW + timedelta(seconds=60),
    "created_by": "ada",
}

OTHER_FIELDS: dict[str, Any] = {
    "key": "K",
    "data": {"n": 2},
    "revision": "20",
    "date_created": NOW - timedelta(milliseconds=1),
    "date_updated": NOW + timedelta(seconds=2),
    "date_expires": None,
    "created_by": "system",
}


def item_of(**changes: Any) -> MapItem:
    return MapItem(**{**FIELDS, **changes})


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def reopen(store: Store, make_store: Callable[..., Store], backing: str, **options: Any) -> Store:
    """What a restart leaves: a file is closed and opened again; a store in memory, which has none, stays."""
    if backing == "memory":
        return store
    store.close()
    return make_store(**options)


# ---------------------------------------------------------------- I1: a value


@pytest.mark.parametrize("field", FIELDS)
def test_assign_a_field(map_: Map, field: str) -> None:
    """I1: no field of an item can be assigned or deleted, be the item written, read or made by hand."""
    map_.set("k", {"n": 1})
    for item in (map_.set("k", {"n": 1}), map_["k"], next(map_.range()), item_of()):
        before = getattr(item, field)
        with pytest.raises(AttributeError):
            setattr(item, field, OTHER_FIELDS[field])
        with pytest.raises(AttributeError):
            setattr(item, field, before)
        with pytest.raises(AttributeError):
            delattr(item, field)
        assert getattr(item, field) == before


def test_assign_another_attribute(map_: Map) -> None:
    """I1: an item takes no attributes beyond its fields."""
    for item in (map_.set("k", {}), map_["k"], item_of()):
        with pytest.raises(AttributeError):
            item.note = "mine"  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            item.__dict__  # noqa: B018


def test_make_an_item_from_its_fields() -> None:
    """I1: an item made by hand has the fields it was given, without an expiry too."""
    for fields in (FIELDS, OTHER_FIELDS):
        item = MapItem(**fields)
        assert {field: getattr(item, field) for field in FIELDS} == fields
    with pytest.raises(TypeError):
        MapItem("k", {})  # type: ignore[call-arg]


@pytest.mark.parametrize("revision", ["", "-1", "+1", "0x1", "01", " 1", "1\n", "1_0", "A", "g", "*"])
def test_make_an_item_of_no_revision(revision: str) -> None:
    """I1: what is no revision that a store could give (R2) makes no item."""
    with pytest.raises(ValueError, match=r"."):
        item_of(revision=revision)


def test_make_an_item_of_data_changed_later() -> None:
    """I1: an item made by hand keeps a copy of its data, as one from a store does."""
    data = {"list": [1]}
    item = item_of(data=data)
    data["list"].append(2)
    assert item.data == {"list": [1]}
    assert item == item_of(data={"list": [1]})


def test_compare_items_by_value(map_: Map) -> None:
    """I1: two reads of one item are equal, and equal to one made by hand from the same fields, and hash alike."""
    written = map_.set("k", {"n": [1, {"a": None}]}, ttl=60)
    reads = [written, map_["k"], map_.get("k"), next(map_.range()), map_.page().items[0]]
    by_hand = MapItem(**{field: getattr(written, field) for field in FIELDS})
    assert all(one == other for one in [*reads, by_hand] for other in [*reads, by_hand])
    assert not any(one != other for one in [*reads, by_hand] for other in [*reads, by_hand])
    assert len({*reads, by_hand}) == 1
    assert map_.set("k", {"n": [1, {"a": None}]}) != written


@pytest.mark.parametrize("field", FIELDS)
def test_compare_items_that_differ(field: str) -> None:
    """I1: items that differ in any one field are not equal."""
    assert item_of() == item_of()
    assert item_of(**{field: OTHER_FIELDS[field]}) != item_of()
    assert (item_of(**{field: OTHER_FIELDS[field]}) == item_of()) is False


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("nest", [lambda value: value, lambda value: [0, value], lambda value: {"x": [value]}])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (1.0, True),
        (0, False),
        (0, 0.0),
        (0.0, -0.0),
        ("", None),
        ([], {}),
        (0, None),
        ("1", 1),
        ([1], [1, 1]),
    ],
)
def test_compare_data_by_type(nest: Callable[[Any], Any], one: Any, other: Any, decoded: bool) -> None:
    """I1, D2: data that Python calls equal but that is of another type makes another value, decoded already or not."""
    items = [item_of(data={"a": nest(value)}) for value in (one, other, one, other)]
    if decoded:
        for item in items:
            assert item.data
    assert items[0] == items[2]
    assert items[1] == items[3]
    assert items[0] != items[1]


def test_compare_items_with_something_else() -> None:
    """I1: an item equals only items."""
    item = item_of()
    for other in (None, item.data, item.key, FIELDS, object(), tuple(FIELDS.values())):
        assert (item == other) is False
        assert item != other

    class Anything:
        def __eq__(self, other: object) -> bool:
            return True

    assert item == Anything()


def test_compare_items_of_different_expiry(map_: Map) -> None:
    """I1: an expiry is part of the value."""
    assert item_of(date_expires=None) == item_of(date_expires=None)
    assert item_of(date_expires=NOW) != item_of(date_expires=NOW + timedelta(milliseconds=1))


def test_compare_dates_of_other_zones() -> None:
    """I1: a date is an instant: one given in another time zone is the same value, and is read in UTC."""
    zone = timezone(timedelta(hours=5, minutes=30))
    item = item_of(**{field: FIELDS[field].astimezone(zone) for field in FIELDS if field.startswith("date")})
    assert item == item_of()
    assert item.date_created.utcoffset() == item.date_updated.utcoffset() == timedelta(0)


def test_show_an_item() -> None:
    """I1: ``repr`` names key, revision and data."""
    shown = repr(item_of(key="players", data={"score": 7}, revision="2a"))
    assert shown.startswith("MapItem(")
    assert all(part in shown for part in ("'players'", "'2a'", "{'score': 7}"))


@pytest.mark.parametrize(
    "data",
    [
        {"a": "x" * 16_000},
        {"x" * 16_000: 1},
        {f"{number}": number for number in range(1_000)},
        {"a": [[["deep"]]] * 1_000},
        {"a": "\x00" * 2_000},
        {"a": "😀" * 4_000},
    ],
    ids=["long string", "long key of the object", "many fields", "many lists", "escapes", "emoji"],
)
def test_show_an_item_of_long_data(map_: Map, data: dict[str, Any]) -> None:
    """I1: ``repr`` stays short: long data, and the longest key, are cut."""
    item = map_.set("k" * 320, data, ttl=60)
    assert len(repr(item)) < 400
    assert "\n" not in repr(item)
    assert item.data == data


def test_copy_an_item(map_: Map) -> None:
    """I1: a copied or pickled item is equal to the first, before its data was decoded and after."""
    map_.set("k", {"list": [1, 1.0, True, {"a": -0.0}]}, ttl=60)
    for use in (lambda item: None, lambda item: item.data):
        item = map_["k"]
        use(item)
        for twin in (
            copy.copy(item),
            copy.deepcopy(item),
            *(pickle.loads(pickle.dumps(item, number)) for number in range(2, 6)),
        ):
            assert type(twin) is MapItem
            assert twin == item
            assert hash(twin) == hash(item)
            assert repr(twin) == repr(item)


def test_change_data_of_a_deep_copy(map_: Map) -> None:
    """I1, D4: a deep copy and an unpickled item have data of their own."""
    map_.set("k", {"list": [1]})
    item = map_["k"]
    for twin in (copy.deepcopy(item), pickle.loads(pickle.dumps(item))):
        twin.data["list"].append(2)
        assert item.data == {"list": [1]}


# ---------------------------------------------------------------- I2: dates of items


def test_date_an_item(store: Store, map_: Map, clock: ManualClock) -> None:
    """I2: dates come from the store's clock; on creation both are the same, a later write moves the second alone."""
    clock.advance(5)
    item = map_.create("k", {}, ttl=60)
    assert (item.date_created, item.date_updated) == (NOW + seconds(5), NOW + seconds(5))
    writes: list[Callable[[], Any]] = [
        lambda: map_.set("k", {"n": 1}),
        lambda: map_.update("k", {"n": 2}),
        lambda: map_.mutate("k", lambda data: data),
        lambda: map_.set_item_ttl("k", 60),
        lambda: map_.set("k", {}, if_match="*"),
    ]
    for after, write in enumerate(writes, start=6):
        clock.advance(1)
        written = write()
        assert (written.date_created, written.date_updated) == (NOW + seconds(5), NOW + seconds(after))
        assert map_["k"] == written
    assert map_.remove("k").date_updated == NOW + seconds(10)


@pytest.mark.parametrize("verb", ["create", "set", "update", "mutate", "batch.create", "batch.set", "batch.update"])
def test_date_an_item_created_by_any_verb(store: Store, map_: Map, clock: ManualClock, verb: str) -> None:
    """I2: on creation, by whichever verb, ``date_created == date_updated``, which is the time of the write."""
    clock.advance(1.5)
    with store.batch() as batch:
        writes: dict[str, Callable[[], object]] = {
            "create": lambda: map_.create("k", {}),
            "set": lambda: map_.set("k", {}),
            "update": lambda: map_.update("k", {}),
            "mutate": lambda: map_.mutate("k", lambda data: data),
            "batch.create": lambda: batch.create(map_, "k", {}),
            "batch.set": lambda: batch.set(map_, "k", {}),
            "batch.update": lambda: batch.update(map_, "k", {}),
        }
        writes[verb]()
    item = map_["k"]
    assert item.date_created == item.date_updated == NOW + seconds(1.5)


def test_date_in_utc(store: Store, map_: Map) -> None:
    """I2: every date is an aware ``datetime`` in UTC."""
    item = map_.set("k", {}, ttl=60, collection_ttl=60)
    for date in (
        item.date_created,
        item.date_updated,
        item.date_expires,
        map_.date_created,
        map_.date_updated,
        map_.date_expires,
    ):
        assert type(date) is datetime
        assert date.tzinfo is not None
        assert date.utcoffset() == timedelta(0)
    assert item.date_created.isoformat() == "2023-11-14T22:13:20+00:00"


@given(now=st.floats(0, 4_000_000_000, allow_nan=False), ttl=st.integers(1, 31_536_000))
def test_date_to_the_millisecond(tmp_path_factory: pytest.TempPathFactory, now: float, ttl: int) -> None:
    """I2: dates are precise to the millisecond at least, whatever the clock says, and the same after a restart."""
    path = tmp_path_factory.mktemp("dates") / "store.mapitem"
    with Store(path, clock=ManualClock(now=now)) as store:
        written = store.map("m").set("k", {}, ttl=ttl)
        map_dates = store.map("m").date_created, store.map("m").date_updated
    assert abs(written.date_created.timestamp() - now) < 0.001
    assert written.date_expires == written.date_created + seconds(ttl)
    assert written.date_created == written.date_updated == map_dates[0] == map_dates[1]
    with Store(path, clock=ManualClock(now=now)) as store:
        assert store.map("m")["k"] == written
        assert (store.map("m").date_created, store.map("m").date_updated) == map_dates


def test_date_within_a_second(map_: Map, clock: ManualClock) -> None:
    """I2: fractions of a second are kept: writes a millisecond apart have dates a millisecond apart."""
    clock.set(1_700_000_000.25)
    assert map_.set("k", {}).date_created == NOW + timedelta(milliseconds=250)
    clock.set(1_700_000_000.2515)
    assert (
        timedelta(milliseconds=1) <= map_.set("k", {}).date_updated - map_["k"].date_created < timedelta(milliseconds=2)
    )


def test_date_with_a_clock_that_goes_back(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str
) -> None:
    """I2: when the clock goes back ``date_updated`` stays where it was, restart or not, till the clock is past it."""
    map_.set("k", {})
    clock.advance(10)
    map_.set("k", {})
    clock.advance(-10_000)
    for write in (map_.set, map_.update):
        assert write("k", {}).date_updated == NOW + seconds(10)
    assert map_.set_item_ttl("k", 0).date_updated == NOW + seconds(10)
    map_ = reopen(store, make_store, backing).map("m")
    item = map_.set("k", {})
    assert (item.date_created, item.date_updated) == (NOW, NOW + seconds(10))
    clock.advance(10_000.5)
    assert map_.set("k", {}).date_updated == NOW + seconds(10.5)


@given(moves=st.lists(st.tuples(st.integers(-100, 100), st.booleans()), min_size=5, max_size=20))
def test_date_never_backwards(moves: list[tuple[int, bool]]) -> None:
    """I2, I4: however the clock moves, no date of an item or a map is earlier than it was, nor than its creation."""
    clock = ManualClock(now=1_000_000.0)
    with Store(clock=clock) as store:
        map_ = store.map("m")
        item_date = map_date = map_.set("k", {}).date_created
        for move, on_the_item in moves:
            clock.advance(move)
            item = map_.set("k" if on_the_item else "other", {})
            assert item.date_updated >= item.date_created
            assert map_["k"].date_updated >= item_date
            assert map_.date_updated >= map_date
            assert map_.date_updated >= map_["k"].date_updated
            item_date, map_date = map_["k"].date_updated, map_.date_updated
        assert item_date >= map_.date_created


def test_date_an_item_created_again(map_: Map, clock: ManualClock) -> None:
    """I2: a key removed or expired and created again is a new item, with dates of its own."""
    map_.create("removed", {})
    map_.create("expired", {}, ttl=5)
    map_.remove("removed")
    clock.advance(10)
    for key in ("removed", "expired"):
        item = map_.set(key, {})
        assert item.date_created == item.date_updated == NOW + seconds(10)


def test_date_a_batch_at_one_reading(make_store: Callable[..., Store]) -> None:
    """I2: one write reads the clock once, and so does a batch (W7): all its dates agree, to the last digit."""
    readings = iter(range(1_000_000, 2_000_000))
    store = make_store(clock=lambda: float(next(readings)))
    one, other = store.map("one"), store.map("other")
    item = one.set("k", {}, ttl=60, collection_ttl=1_000_000)
    assert item.date_created == item.date_updated
    assert item.date_expires == item.date_updated + seconds(60)
    assert one.date_updated == item.date_updated
    assert one.date_expires == item.date_updated + seconds(1_000_000)
    with store.batch() as batch:
        batch.set(one, "a", {})
        batch.set(other, "b", {}, ttl=60)
        batch.update(one, "c", {})
    dates = [item.date_updated for item in batch.results if item is not None]
    assert len(set(dates)) == 1
    assert len(dates) == 3
    assert other["b"].date_expires == dates[0] + seconds(60)


# ---------------------------------------------------------------- I3: who created


def test_name_the_creator_by_default(store: Store, map_: Map) -> None:
    """I3: without an identity items and maps are created by ``"system"``."""
    assert map_.set("k", {}).created_by == "system"
    assert map_["k"].created_by == map_.created_by == store.create_map().created_by == "system"


def test_name_the_creator(make_store: Callable[..., Store]) -> None:
    """I3: ``created_by`` is the store's identity, any text, for items and maps, by every verb and in batches."""
    store = make_store(identity="Ada 😀/\x00")
    map_ = store.map("m")
    with store.batch() as batch:
        batch.create(map_, "a", {})
        batch.set(map_, "b", {})
        batch.update(map_, "c", {})
    map_.create("d", {})
    map_.set("e", {})
    map_.update("f", {})
    map_.mutate("g", lambda data: data)
    assert {item.created_by for item in map_.range()} == {map_.created_by} == {"Ada 😀/\x00"}
    assert len(map_) == 7


@pytest.mark.parametrize("backing", ["file"])  # a store in memory has one identity all its life
def test_keep_the_creator(make_store: Callable[..., Store]) -> None:
    """I3: the creator is kept from creation, whoever writes later; a key created again is the new writer's."""
    with make_store(identity="ada") as store:
        for key in ("set", "update", "mutate", "ttl", "removed"):
            store.map("m").set(key, {}, ttl=1_000)
    with make_store(identity="bob") as store:
        map_ = store.map("m")
        map_.set("set", {"n": 1})
        map_.update("update", {"n": 1})
        map_.mutate("mutate", lambda data: {"n": 1})
        map_.set_item_ttl("ttl", 0)
        assert map_.remove("removed").created_by == "ada"
        map_.set("removed", {})
        map_.set("new", {})
        store.compact()
    with make_store() as store:
        map_ = store.map("m")
        assert {item.key: item.created_by for item in map_.range()} == {
            "set": "ada", "update": "ada", "mutate": "ada", "ttl": "ada", "removed": "bob", "new": "bob",
        }  # fmt: skip
        assert map_.created_by == "ada"


# ---------------------------------------------------------------- I4: the date of a map


def test_date_a_new_map(store: Store, clock: ManualClock, make_store: Callable[..., Store], backing: str) -> None:
    """I4: at first a map's ``date_updated`` is its creation, and opening it again moves nothing."""
    clock.advance(1)
    assert store.map("m").date_updated == store.map("m").date_created == NOW + seconds(1)
    clock.advance(1)
    store.map("m", ttl=60)
    store = reopen(store, make_store, backing)
    assert store.map("m").date_updated == store.map("m").date_created == NOW + seconds(1)


def test_date_a_map_by_its_events(store: Store, map_: Map, clock: ManualClock) -> None:
    """I4: each event of the map, a removal too, gives it its date; the creation stays, and other maps do not move."""
    other = store.map("other")
    writes: list[Callable[[], object]] = [
        lambda: map_.create("k", {}),
        lambda: map_.set("k", {}),
        lambda: map_.update("k", {}),
        lambda: map_.mutate("k", lambda data: data),
        lambda: map_.set_item_ttl("k", 60),
        lambda: map_.remove("k"),
    ]
    for after, write in enumerate(writes, start=1):
        clock.advance(1)
        write()
        assert map_.date_updated == NOW + seconds(after)
    assert map_.date_created == other.date_updated == NOW


def test_date_a_map_by_an_expiry(map_: Map, clock: ManualClock) -> None:
    """I4: an expiry is an event too, at the time it is carried out, not at the instant the item expired."""
    map_.set("k", {}, ttl=10)
    clock.advance(25)
    assert map_.date_updated == NOW
    heard: list[Any] = []
    with map_.on(ItemRemoved, heard.append):
        assert map_.purge() == 1
    assert map_.date_updated == NOW + seconds(25)
    assert [event.date for event in heard] == [NOW + seconds(25)]


def test_date_a_map_by_nothing_else(store: Store, map_: Map, clock: ManualClock) -> None:
    """I4: what is no event leaves the map's date alone: reads, refused writes, its own TTL, a purge of nothing."""
    map_.set("k", {})
    clock.advance(10)
    map_.get("k")
    list(map_.range())
    map_.set_ttl(60)
    map_.set_ttl(0)
    assert map_.purge() == store.purge() == 0
    failing: list[tuple[type[Exception], Callable[[], object]]] = [
        (ItemExists, lambda: map_.create("k", {})),
        (ItemNotFound, lambda: map_.remove("absent")),
        (RevisionMismatch, lambda: map_.set("k", {}, if_match="9")),
        (InvalidTTL, lambda: map_.set("k", {}, ttl=-1)),
    ]
    for error, write in failing:
        with pytest.raises(error):
            write()
    map_.mutate("k", lambda data: None)
    assert map_.date_updated == NOW


def test_date_a_map_with_a_clock_that_goes_back(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str
) -> None:
    """I4: a map's ``date_updated`` never goes backwards, by whichever event, nor across a restart."""
    clock.advance(10)
    map_.set("k", {}, ttl=1)
    clock.advance(-100)
    map_.set("other", {})
    map_.remove("other")
    assert map_.date_updated == NOW + seconds(10)
    map_ = reopen(store, make_store, backing).map("m")
    map_.set("other", {})
    assert map_.date_updated == NOW + seconds(10)
    clock.advance(100.5)
    assert map_.purge() == 0
    clock.advance(0.5)
    assert map_.purge() == 1
    assert map_.date_updated == NOW + seconds(11)


def test_keep_the_dates_of_a_map(
    store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str
) -> None:
    """I4: the date survives restart and compaction, also when the last event was a removal that left nothing."""
    map_.set("k", {})
    clock.advance(10)
    map_.remove("k")
    clock.advance(10)
    store.compact()
    store = reopen(store, make_store, backing)
    map_ = store.map("m")
    assert (map_.date_created, map_.date_updated) == (NOW, NOW + seconds(10))
    store.compact()
    map_ = reopen(store, make_store, backing).map("m")
    assert (map_.date_created, map_.date_updated) == (NOW, NOW + seconds(10))

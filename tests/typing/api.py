"""What the type checkers make of the public API: never run, read by mypy (strict) and by pyright.

Each ``assert_type`` fails the check if a call's type is another, ``Any`` included. The counterpart, what must
not pass, is ``mistakes.py``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, assert_type

from mapitem import (
    Batch,
    DataTooLarge,
    Event,
    HistoryCompacted,
    InvalidData,
    ItemAdded,
    ItemExists,
    ItemNotFound,
    ItemRemoved,
    ItemUpdated,
    Limits,
    LogCorrupt,
    Map,
    MapItem,
    MapItemError,
    MapNotFound,
    MapRemoved,
    Page,
    Recovery,
    RevisionMismatch,
    Store,
    StoreFailed,
    Subscription,
    Watch,
)
from mapitem.aio import AsyncStore
from mapitem.testing import ManualClock


def open_stores(path: Path) -> None:
    assert_type(Store(), Store)
    Store("file")
    Store(path, durability="power", clock=ManualClock(now=1.5), identity="ann", limits=Limits(max_key_chars=9))
    Store(os.fspath(path), durability="none", read_only=True, compact_at=None)
    with Store(path) as store:
        assert_type(store, Store)
        assert_type(store.durability, Literal["none", "process", "power"])
        assert_type(store.recovery, Recovery | None)
        assert_type(store.sync(), None)
        assert_type(store.compact(), None)
        assert_type(store.backup(path), None)
        assert_type(store.refresh(), None)
        assert_type(store.purge(), int)
    assert_type(store.close(), None)


def find_maps(store: Store) -> None:
    assert_type(store.map("users"), Map)
    assert_type(store.map("users", ttl=timedelta(days=1)), Map)
    assert_type(store.create_map(), Map)
    assert_type(store.create_map("users", ttl=60), Map)
    assert_type(store.open_map("users"), Map)
    assert_type(store.maps(), Iterator[Map])


def ask_a_map(users: Map) -> None:
    assert_type(users.sid, str)
    assert_type(users.name, str | None)
    assert_type(users.revision, str)
    assert_type(users.date_created, datetime)
    assert_type(users.date_updated, datetime)
    assert_type(users.date_expires, datetime | None)
    assert_type(users.created_by, str)
    assert_type(users.set_ttl(timedelta(hours=1)), None)
    assert_type(users.purge(), int)
    assert_type(users.remove_map(), None)


def ask_an_item(item: MapItem) -> None:
    assert_type(item.key, str)
    assert_type(item.data, dict[str, Any])
    assert_type(item.revision, str)
    assert_type(item.date_created, datetime)
    assert_type(item.date_updated, datetime)
    assert_type(item.date_expires, datetime | None)
    assert_type(item.created_by, str)


def write(users: Map) -> None:
    assert_type(users.create("taylor", {"country": "UK"}, ttl=60, collection_ttl=timedelta(days=1)), MapItem)
    assert_type(users.set("taylor", {"tags": ["a", 1, 1.5, None, {}, True]}, ttl=0, if_match="*"), MapItem)
    assert_type(users.update("taylor", {"country": "IE"}, if_match="0"), MapItem)
    assert_type(users.remove("taylor", if_match="1f"), MapItem)
    assert_type(users.set_item_ttl("taylor", 60, if_match="2"), MapItem)


def write_what_has_a_narrower_type(users: Map, numbers: dict[str, int], lists: dict[str, list[str]]) -> None:
    users.create("numbers", numbers)
    users.set("lists", lists)
    users.update("numbers", numbers)


def write_a_batch(store: Store, users: Map) -> None:
    with store.batch() as batch:
        assert_type(batch, Batch)
        assert_type(batch.create(users, "taylor", {}, ttl=60, collection_ttl=0), None)
        assert_type(batch.set(users, "taylor", {}, if_match="0"), None)
        assert_type(batch.update(users, "taylor", {}), None)
        assert_type(batch.set_item_ttl(users, "taylor", timedelta(days=1)), None)
        assert_type(batch.remove(users, "taylor", if_match="*"), None)
    assert_type(batch.results, list[MapItem])


def mutate(users: Map) -> None:
    def older(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"age": data["age"] + 1}

    def older_if_known(data: dict[str, Any]) -> dict[str, Any] | None:
        return older(data) if "age" in data else None

    assert_type(users.mutate("taylor", older, ttl=60, collection_ttl=0, max_attempts=3), MapItem | None)
    assert_type(users.mutate("taylor", older_if_known), MapItem | None)
    assert_type(users.mutate("taylor", lambda data: {**data, "seen": True}), MapItem | None)


def read(users: Map) -> None:
    assert_type(users["taylor"], MapItem)
    assert_type(users.get("taylor"), MapItem | None)
    assert_type(users.get("taylor", None), MapItem | None)
    assert_type(users.get("taylor", 0), MapItem | int)
    assert_type("taylor" in users, bool)
    assert_type(len(users), int)
    for key in users:
        assert_type(key, str)
    for key, item in users.items():
        assert_type(key, str)
        assert_type(item, MapItem)
    as_mapping: Mapping[str, MapItem] = users
    assert_type(dict(as_mapping), dict[str, MapItem])


def read_ranges(users: Map, order: Literal["asc", "desc"], bounds: Literal["inclusive", "exclusive"]) -> None:
    assert_type(users.range(), Iterator[MapItem])
    assert_type(users.range("m", bounds="exclusive", order="desc", prefix="t", limit=10), Iterator[MapItem])
    users.range(bounds=bounds, order=order)
    page = users.page(page_size=10, from_="m", bounds=bounds, order=order, prefix="t")
    assert_type(page, Page)
    assert_type(page.items, tuple[MapItem, ...])
    assert_type(page.next_page_token, str | None)
    assert_type(page.previous_page_token, str | None)
    assert_type(users.page(page_token=page.next_page_token), Page)


def listen(store: Store, users: Map) -> None:
    def added(event: ItemAdded) -> None:
        assert_type((event.key, event.item), tuple[str, MapItem])
        assert_type((event.map_sid, event.map_name, event.revision), tuple[str, str | None, str])
        assert_type(event.date, datetime)

    def anything(event: Event) -> int:
        if isinstance(event, ItemUpdated):
            assert_type((event.item, event.previous), tuple[MapItem, MapItem | None])
        elif isinstance(event, ItemRemoved):
            assert_type((event.previous, event.expired), tuple[MapItem | None, bool])
        elif isinstance(event, MapRemoved):
            assert_type(event.expired, bool)
        return 0

    assert_type(users.on(ItemAdded, added), Subscription)
    assert_type(store.on(Event, anything), Subscription)
    users.on(ItemRemoved, anything)
    users.on(ItemUpdated, lambda event: event.item.data)
    with users.on(MapRemoved, print) as subscription:
        assert_type(subscription, Subscription)
    assert_type(subscription.close(), None)


def follow(users: Map) -> None:
    assert_type(users.changes(), Iterator[Event])
    for event in users.changes(since=users.revision):
        assert_type(event.next_revision, str)
    with users.watch("0", timeout=1.5) as watch:
        assert_type(watch, Watch)
        assert_type(next(watch), Event)
        assert_type(watch.revision, str)
    take_iterators(watch, watch)


def take_iterators(forwards: Iterator[Event], in_tasks: AsyncIterator[Event]) -> None:
    """What a watch has to pass as."""


async def follow_in_a_task(users: Map) -> None:
    async with users.watch(timeout=1) as watch:
        async for event in watch:
            assert_type(event, Event)


async def write_in_a_task(store: Store, users: Map) -> None:
    waiting = AsyncStore(store)
    assert_type(await waiting.write(users.set, "taylor", {}, ttl=60), MapItem)
    assert_type(await waiting.write(store.purge), int)
    async with waiting.batch() as batch:
        assert_type(batch, Batch)
    assert_type(await waiting.close(), None)


def handle_errors(users: Map) -> None:
    try:
        users.set("taylor", {}, if_match="0")
    except RevisionMismatch as mismatch:
        assert_type((mismatch.key, mismatch.expected, mismatch.actual), tuple[str, str, str])
    except ItemExists as exists:
        assert_type((exists.key, exists.revision), tuple[str, str])
    except DataTooLarge as large:
        assert_type((large.size, large.limit), tuple[int, int])
    except InvalidData as invalid:
        assert_type((invalid.path, invalid.reason), tuple[str, str])
    except HistoryCompacted as compacted:
        assert_type(compacted.oldest, str)
    except LogCorrupt as corrupt:
        assert_type((corrupt.path, corrupt.offset, corrupt.records_before), tuple[str, int, int])
    except StoreFailed as failed:
        assert_type(failed.outcome_unknown, bool)
    except MapItemError as error:
        assert_type((error.status, error.code, error.index), tuple[int | None, int | None, int | None])


def handle_as_builtin_errors(item: ItemNotFound, map_: MapNotFound, data: DataTooLarge) -> None:
    lookups: list[KeyError] = [item, map_]
    values: list[ValueError] = [data]
    ours: list[MapItemError] = [item, map_, data]
    assert_type((lookups, values, ours), tuple[list[KeyError], list[ValueError], list[MapItemError]])


def move_the_clock(clock: ManualClock) -> None:
    assert_type(clock(), float)
    clock.advance(1)
    clock.set(0.5)

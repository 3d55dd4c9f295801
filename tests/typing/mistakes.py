"""What the type checkers must refuse: never run, read by mypy (strict) and by pyright.

Every line with a mistake says so to both. A mistake that is no longer found makes its comment an unused one, and
that is an error, too: ``warn_unused_ignores`` of mypy, ``reportUnnecessaryTypeIgnoreComment`` of pyright.
"""

from __future__ import annotations

from mapitem import Event, ItemAdded, ItemRemoved, Limits, Map, MapItem, Store
from mapitem.aio import AsyncStore


def open_stores_wrongly() -> None:
    Store(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Store("file", durability="fsync")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Store("file", "power")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Store(limits=Limits(max_data_bytes="16 KiB"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def write_as_to_a_dict(users: Map) -> None:
    users["taylor"] = {"country": "UK"}  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    del users["taylor"]  # type: ignore[attr-defined]  # pyright: ignore[reportIndexIssue]
    users.clear()  # type: ignore[attr-defined]  # pyright: ignore


def change_what_is_immutable(item: MapItem, users: Map) -> None:
    item.key = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    item.revision = "1"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    users.name = "people"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def change_an_event(event: ItemAdded) -> None:
    event.key = "x"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    event.date = event.item.date_created  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def write_wrongly(users: Map) -> None:
    users.set("taylor", ["UK"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.set(7, {})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.set("taylor", {1: "UK"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    users.set("taylor", {}, ttl=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.set("taylor", {}, if_match=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.set("taylor", {}, 60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    users.create("taylor", {}, if_match="*")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    users.set_item_ttl("taylor", None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.mutate("taylor", lambda data: 3)  # type: ignore[arg-type,return-value]  # pyright: ignore
    users.mutate("taylor", len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def write_a_batch_wrongly(store: Store, users: Map) -> None:
    with store.batch() as batch:
        batch.set("taylor", {})  # type: ignore[call-arg,arg-type]  # pyright: ignore[reportCallIssue]
        batch.create(users, "taylor", {}, if_match="*")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def listen_wrongly(users: Map) -> None:
    def removed(event: ItemRemoved) -> None:
        pass

    users.on("itemAdded", print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.on(ItemAdded, removed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.on(Event, removed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def write_wrongly_in_a_task(store: Store, users: Map) -> None:
    waiting = AsyncStore(store)
    await waiting.write(users.set, 7, {})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await waiting.write(users.set, "taylor")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def read_wrongly(users: Map) -> None:
    users.range(order="up")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.range(bounds="open")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    users.page(page_size="50")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _ = users.get("taylor").data  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]

"""How the golden files were made: stores on a fixed clock and fixed random numbers, and what they held as JSON.

Run once for each version of the format, as ``python -m tests.golden.make``. It never writes over a file that is there:
a golden file says for ever what a released version wrote, and is read for ever (durability R6). Add a new one instead.
The JSON is what the store that wrote the file showed and told of by its public face, not what reading it back gave.
Instants are whole microseconds since 1970-01-01 UTC, and numbers of events plain numbers, as in the file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import mapitem
from mapitem import Event, HistoryCompacted, ItemAdded, ItemRemoved, ItemUpdated, Map, MapItem, MapRemoved, Store
from mapitem.testing import ManualClock

FOLDER = Path(__file__).parent
NOW = 1_700_000_000.0
NEVER = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def main() -> None:
    for build in (empty, every_operation, compacted, unclean, torn):
        path = FOLDER / f"{build.__name__.replace('_', '-')}-1.0.mapitem"
        if path.exists():
            print(f"{path.name} is there already, and stays")
            continue
        with mock.patch("os.urandom", _fixed_urandom(build.__name__)):
            expected = build(path, ManualClock(now=NOW))
        path.with_name(f"{path.name}.lock").unlink()
        log = path.read_bytes()
        expected = {"made_by": mapitem.__version__, "sha256": sha256(log).hexdigest(), **expected}
        path.with_suffix(".json").write_text(
            json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        print(f"{path.name}: {len(log)} bytes")


# ---------------------------------------------------------------- the files


def empty(path: Path, clock: ManualClock) -> dict[str, Any]:
    """A store that was created and closed."""
    with Store(path, clock=clock) as store:
        events = Events(store)
        return content(store, events, clock)


def every_operation(path: Path, clock: ManualClock) -> dict[str, Any]:
    """Every kind of operation that may follow a base, in single records and in batches, over two openings."""
    with Store(path, clock=clock, identity="alice", compact_at=None) as store:
        events = Events(store)
        users = store.map("users")
        users.create("taylor", {"country": "UK", "level": 30})
        users.create("é", {"composed": True})
        users.create("e\u0301", {"composed": False})
        users.create("a/b\0😀", every_value(), ttl=3600)
        users.create("k" * 320, {})
        clock.advance(0.25)
        users.update("taylor", {"level": 31}, ttl=60)
        clock.advance(-10)
        users.set("taylor", {"level": 32})  # written before it was updated last: the event has a date of its own
        users.create("before", {"clock": "back"})
        clock.advance(20.5)
        users.remove("é")
        short = store.map("short", ttl=5)
        nameless = store.create_map(ttl=86_400)
        nameless.set("only", {"a": 1}, ttl=30, collection_ttl=1000)
        users.set_ttl(100_000)
        gone = store.map("gone")
        gone.set("x", {})
        gone.remove_map()
        store.map("empty")
        short.set("lost with its map", {})
    clock.advance(60)
    with Store(path, clock=clock, identity="bob", compact_at=None) as store:
        events.follow(store)
        users = store.map("users")
        users.set("e\u0301", {"by": "bob"})  # first taylor goes, who is due
        store.map("short")  # in place of the one that expired
        with store.batch() as batch:
            batch.create(users, "b1", {"n": 1}, ttl=1000)
            batch.update(users, "b1", {"m": 2})
            batch.set_item_ttl(users, "b1", 0)
            batch.remove(users, "before")
            batch.set(store.map("empty"), "no longer", {"empty": True}, collection_ttl=50)
        users.create("due", {"and": "still in the file"}, ttl=1)
        clock.advance(2)
        return content(store, events, clock)


def compacted(path: Path, clock: ManualClock) -> dict[str, Any]:
    """A base that was written while others wrote: items written again, forgotten ones, a map that ended meanwhile."""
    with Store(path, clock=clock, compact_at=None) as store:
        events = Events(store)
        first, second, third = (store.map(name) for name in ("first", "second", "third"))
        for number in range(150):
            first.set(f"{number:03}", {"n": number}, ttl=number)
        second.set("a", {"of": "second"})
        third.set("a", {"of": "third"})
        third.set("b", {"of": "third"})
        third.remove("a")
        store._compactor.begin()
        store._compactor.look_from = sys.maxsize  # writes take no share: the steps are ours
        for _ in range(5):
            store._compact_step()  # the first two maps, whole
        clock.advance(1.5)  # one item is due, and goes with the next write
        with store.batch() as batch:
            batch.set(first, "005", {"written": "again"})
            batch.remove(first, "007")
            batch.create(first, "007x", {"new": True}, ttl=500)
        second.remove_map()
        third.set("b", {"written": "again"}, collection_ttl=700)
        store.map("fourth").set("a", {"of": "fourth"})
        while not store._compact_step():
            pass
        events.told.clear()  # they are not in the new file
        clock.advance(1)
        first.update("005", {"and": "behind the base"})
        first.remove("006")
        return content(store, events, clock)


def unclean(path: Path, clock: ManualClock) -> dict[str, Any]:
    """What is on the disk while a store at ``"power"`` is open: every record promises the ones before it."""
    return _unclean(path, clock, 0)


def torn(path: Path, clock: ManualClock) -> dict[str, Any]:
    """The same, with the last record torn."""
    return _unclean(path, clock, 25)


def _unclean(path: Path, clock: ManualClock, cut: int) -> dict[str, Any]:
    with Store(path, clock=clock, durability="power") as store:
        events = Events(store)
        things = store.map("things", ttl=1000)
        things.set("a", {"n": 1}, ttl=100)
        things.set("b", {"n": 2})
        expected = content(store, events, clock)
        size = path.stat().st_size
        if cut:
            things.set("c", {"n": 3})
        log = path.read_bytes()[: -cut or None]
    path.write_bytes(log)
    return {**expected, "clean": False, "dropped_bytes": len(log) - size}


def every_value() -> dict[str, Any]:
    """Data with every type of JSON and the ends of their ranges."""
    return {
        "null": None,
        "bools": [True, False],
        "ints": [0, -1, 127, 128, -32, -33, 2**32, -(2**63), 2**64 - 1],
        "floats": [1.0, -0.0, 1.5, 1e308, 5e-324],
        "texts": ["", "\0", "é", "€", "😀", "long " * 60],
        "nested": {"b": [[], {}], "a": {"": [{"deep": [1]}]}},
        "long": list(range(20)),
        "wide": {f"{number}": number for number in range(17)},
    }


# ---------------------------------------------------------------- what a store holds


class Events:
    """What the stores told of, as the reader of the log gives it."""

    def __init__(self, store: Store) -> None:
        self.told: list[dict[str, Any]] = []
        self.follow(store)

    def follow(self, store: Store) -> None:
        store.on(Event, lambda event: self.told.append(event_fields(event)))


def content(store: Store, events: Events, clock: Callable[[], float]) -> dict[str, Any]:
    """Everything a store shows, and the events it told of."""
    return {
        "now": round(clock() * 1_000_000),
        "clean": True,
        "dropped_bytes": 0,
        "maps": {map_.sid: map_fields(map_) for map_ in store.maps()},
        "events": list(events.told),
    }


def map_fields(map_: Map) -> dict[str, Any]:
    return {
        "sid": map_.sid,
        "name": map_.name,
        "created_by": map_.created_by,
        "created": instant(map_.date_created),
        "updated": instant(map_.date_updated),
        "expires": instant(map_.date_expires),
        "revision": int(map_.revision, 16),
        "oldest": _oldest(map_),
        "items": {key: item_fields(item) for key, item in map_.items()},
    }


def item_fields(item: MapItem) -> dict[str, Any]:
    return {
        "revision": int(item.revision, 16),
        "created": instant(item.date_created),
        "updated": instant(item.date_updated),
        "expires": instant(item.date_expires),
        "created_by": item.created_by,
        "data": item.data,
    }


def event_fields(event: Event) -> dict[str, Any]:
    fields = {"map": event.map_sid, "revision": int(event.revision, 16), "date": instant(event.date)}
    match event:
        case ItemAdded(key, item):
            return {**fields, "kind": "added", "key": key, "item": item_fields(item)}
        case ItemUpdated(key, item):
            return {**fields, "kind": "updated", "key": key, "item": item_fields(item)}
        case ItemRemoved(key, _, expired):
            return {**fields, "kind": "expired" if expired else "removed", "key": key}
        case MapRemoved(expired):
            return {**fields, "kind": "map expired" if expired else "map removed"}
    raise TypeError(f"an event of unknown kind: {event!r}")


def instant(date: datetime | None) -> int:
    return NEVER if date is None else (date - _EPOCH) // timedelta(microseconds=1)


def _oldest(map_: Map) -> int:
    try:
        map_.changes(since="0")
    except HistoryCompacted as error:
        return int(error.oldest, 16)
    return 0


def _fixed_urandom(seed: str) -> Callable[[int], bytes]:
    numbers: Iterator[int] = count()
    return lambda size: sha256(f"{seed} {next(numbers)}".encode()).digest()[:size]


if __name__ == "__main__":
    assert os.name == "posix", "golden files come from one place"
    main()

"""mapitem as a user has it: every check, revision, expiry and event of the library is on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks.engines.base import Data, Engine, batches
from mapitem import Event, Store


class MapItemProcess(Engine):
    """In one file, at the default durability."""

    packages = ("mapitem",)
    durability = "process: survives kill -9"
    level: Any = "process"
    mapped = True
    maps_file = True
    file: str | None = "store.mapitem"

    def open(self, **options: Any) -> None:
        if self.now is not time.time:
            options["clock"] = self.now
        path = None if self.file is None else self.folder / self.file
        self.store = Store(path, durability=self.level, mapped=self.mapped, **options)
        self.map = self.store.map("bench")

    def close(self) -> None:
        self.store.close()

    def provoke(self) -> None:
        # Compaction begins when the log has grown by a tenth, and runs just as it would have at the default of 1.6.
        self.close()
        self.open(compact_at=1.1)
        self.first_file = self.inode()

    def rewritten(self) -> bool:
        return self.inode() != self.first_file

    def inode(self) -> int:
        return 0 if self.file is None else (self.folder / self.file).stat().st_ino

    def put(self, key: str, data: Data) -> None:
        self.map.set(key, data)

    def get(self, key: str) -> Data | None:
        item = self.map.get(key)
        return None if item is None else item.data

    def peek(self, key: str) -> object:
        return self.map.get(key)

    def has(self, key: str) -> bool:
        return key in self.map

    def delete(self, key: str) -> None:
        self.map.remove(key)

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        map_ = self.map
        for some in batches(pairs):
            with self.store.batch() as batch:
                for key, data in some:
                    batch.set(map_, key, data)

    def create(self, key: str, data: Data) -> None:
        self.map.create(key, data)

    def update(self, key: str, changes: Data) -> None:
        self.map.update(key, changes)

    def mutate(self, key: str, fn: Callable[[Data], Data]) -> None:
        self.map.mutate(key, fn)

    def token(self, key: str) -> Any:
        return self.map[key].revision

    def cas(self, key: str, token: Any, data: Data) -> None:
        self.map.set(key, data, if_match=token)

    def range(self, start: str, count: int) -> list[tuple[str, Data]]:
        return [(item.key, item.data) for item in self.map.range(start, limit=count)]

    def range_down(self, start: str, count: int) -> list[tuple[str, Data]]:
        return [(item.key, item.data) for item in self.map.range(start, order="desc", limit=count)]

    def range_keys(self, start: str, count: int) -> list[Any]:
        return [(item.key, item.revision) for item in self.map.range(start, limit=count)]

    def scan(self) -> Iterator[tuple[str, Data]]:
        return ((item.key, item.data) for item in self.map.range())

    def scan_down(self) -> Iterator[tuple[str, Data]]:
        return ((item.key, item.data) for item in self.map.range(order="desc"))

    def compact(self) -> None:
        self.store.compact()

    def put_timed(self, key: str, data: Data, ttl: int) -> None:
        self.map.set(key, data, ttl=ttl)

    def subscribe(self, callback: Callable[[Any], object]) -> Callable[[], object]:
        return self.map.on(Event, callback).close

    def feed(self, count: int) -> list[Any]:
        return list(self.map.changes(f"{int(self.map.revision, 16) - count:x}"))

    def reap(self) -> object:
        return self.map.purge()


class MapItemMemory(MapItemProcess):
    """Without a file."""

    provoke = rewritten = None

    durability = "none: memory"
    file = None
    maps_file = False


class MapItemPlain(MapItemProcess):
    """Each record a system call, as it is on file systems that cannot promise the space for a map."""

    mapped = False
    maps_file = False


class MapItemPower(MapItemProcess):
    durability = "power: waits for the disk"
    level = "power"

"""The limits: what mapitem is made of, bare. No store of packed items in Python can be faster than these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from msgpack import packb, unpackb
from sortedcontainers import SortedDict

from benchmarks.engines.base import Data, Engine


class Dict(Engine):
    """A dict of packed bytes: no order, no log, no locks, no checks."""

    packages = ("msgpack",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: dict[str, bytes] = {}

    def open(self) -> None:
        pass

    def put(self, key: str, data: Data) -> None:
        self.rows[key] = packb(data)

    def get(self, key: str) -> Data | None:
        packed = self.rows.get(key)
        return None if packed is None else unpackb(packed)

    def peek(self, key: str) -> object:
        return self.rows.get(key)

    def has(self, key: str) -> bool:
        return key in self.rows

    def delete(self, key: str) -> None:
        del self.rows[key]

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        self.rows.update((key, packb(data)) for key, data in pairs)


class Sorted(Dict):
    """A ``SortedDict`` of packed bytes: ordered, too."""

    packages = ("sortedcontainers",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: Any = SortedDict()

    def range(self, start: str, count: int) -> list[tuple[str, Data]]:
        rows = self.rows
        return [(key, unpackb(rows[key])) for key in islice(rows.irange(start), count)]

    def range_down(self, start: str, count: int) -> list[tuple[str, Data]]:
        rows = self.rows
        return [(key, unpackb(rows[key])) for key in islice(rows.irange(None, start, reverse=True), count)]

    def range_keys(self, start: str, count: int) -> list[Any]:
        return list(islice(self.rows.irange(start), count))

    def scan(self) -> Iterator[tuple[str, Data]]:
        return ((key, unpackb(packed)) for key, packed in self.rows.items())

    def scan_down(self) -> Iterator[tuple[str, Data]]:
        rows = self.rows
        return ((key, unpackb(rows[key])) for key in reversed(rows))

"""What a benchmark asks of an engine: one face for every store, and what byte stores have in common.

Each call of a workload is one Python call of a method here, for ours as for the others, so that all carry the same
overhead (about 0.05 µs). Whoever keeps bytes encodes with ``msgpack.packb`` and decodes with ``unpackb``, and every
``get`` hands out a dict that the caller may change.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

from msgpack import packb, unpackb

Data = dict[str, Any]

BATCH = 1000
"""How many items go into one batch of a bulk load."""


def batches(pairs: Iterable[tuple[str, Data]]) -> Iterator[list[tuple[str, Data]]]:
    """The pairs in lists of up to ``BATCH``."""
    left = iter(pairs)
    while batch := list(islice(left, BATCH)):
        yield batch


class Skip(Exception):
    """Why an engine cannot run here: shown in the report."""


class Engine(ABC):
    """A store that is opened in a folder of its own. Optional abilities are ``None`` where an engine lacks them."""

    durability: ClassVar[str] = "none: memory"
    """What a write survives once it has returned."""

    clock: ClassVar[str] = "cpu"
    """``"wall"`` if the work is done outside the calling thread, which its CPU time would not show."""

    maps_file: ClassVar[bool] = False
    """Whether it writes through a memory map, past the system calls that are counted."""

    # Optional abilities, beside those below.
    range: Callable[[str, int], list[tuple[str, Data]]] | None = None
    """Up to so many items, data decoded, from a key on."""
    range_down: Callable[[str, int], list[tuple[str, Data]]] | None = None
    range_keys: Callable[[str, int], list[Any]] | None = None
    """The same without data: keys, and revisions where there are any."""
    scan: Callable[[], Iterator[tuple[str, Data]]] | None = None
    """All items in the order of the keys, data decoded."""
    scan_down: Callable[[], Iterator[tuple[str, Data]]] | None = None
    compact: Callable[[], None] | None = None
    put_timed: Callable[[str, Data, int], None] | None = None
    """Put with a time to live in seconds."""
    subscribe: Callable[[Callable[[Any], object]], Callable[[], object]] | None = None
    """Have a callback told of every write; returns what ends it."""
    feed: Callable[[int], list[Any]] | None = None
    """The last so many events."""
    provoke: Callable[[], None] | None = None
    """Have it keep house soon, for a look at the pauses."""
    rewritten: Callable[[], bool] | None = None
    """Whether it has kept house since."""
    reap: Callable[[], object] | None = None
    """Remove what is due."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = Lock()
        # Seconds since 1970; set another before ``open`` to have time under control.
        self.now: Callable[[], float] = time.time

    packages: ClassVar[tuple[str, ...]] = ()
    """What has to be installed: any of these distributions."""

    @classmethod
    def version(cls) -> str:
        """Of the library behind it; ``Skip`` with the reason if the engine cannot run here."""
        for package in cls.packages:
            with suppress(PackageNotFoundError):
                return version(package)
        raise Skip(f"not installed: {' or '.join(cls.packages)}")

    @abstractmethod
    def open(self) -> None: ...

    def close(self) -> None:  # noqa: B027 - nothing to let go of in memory
        """Let go; what is on disk may be opened again by another engine of the same kind and folder."""

    def for_thread(self) -> Engine:
        """The engine as another thread may use it. Itself, unless connections must not be shared."""
        return self

    @abstractmethod
    def put(self, key: str, data: Data) -> None: ...

    @abstractmethod
    def get(self, key: str) -> Data | None: ...

    @abstractmethod
    def peek(self, key: str) -> object:
        """As ``get``, with nothing decoded."""

    @abstractmethod
    def has(self, key: str) -> bool: ...

    @abstractmethod
    def delete(self, key: str) -> None: ...

    @abstractmethod
    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        """Put many, in batches of ``BATCH`` where the engine has batches."""

    # What the rest is built of unless the engine has a verb of its own: the lock makes read and write one step.

    def create(self, key: str, data: Data) -> None:
        """Put what is not there yet."""
        with self.lock:
            if self.has(key):
                raise KeyError(key)
            self.put(key, data)

    def update(self, key: str, changes: Data) -> None:
        """Merge fields into an item."""
        with self.lock:
            self.put(key, (self.get(key) or {}) | changes)

    def mutate(self, key: str, fn: Callable[[Data], Data]) -> None:
        with self.lock:
            self.put(key, fn(self.get(key) or {}))

    def token(self, key: str) -> Any:
        """What ``cas`` compares: the revision, or the value itself."""
        return self.peek(key)

    def cas(self, key: str, token: Any, data: Data) -> None:
        """Put if the item is still what the token says."""
        with self.lock:
            if self.peek(key) != token:
                raise ValueError(key)
            self.put(key, data)


class Bytes(Engine):
    """An engine of bytes by bytes: give ``read`` and ``write`` and the rest follows."""

    @abstractmethod
    def read(self, key: str) -> bytes | None: ...

    @abstractmethod
    def write(self, key: str, packed: bytes) -> None: ...

    def put(self, key: str, data: Data) -> None:
        self.write(key, packb(data))

    def get(self, key: str) -> Data | None:
        packed = self.read(key)
        return None if packed is None else unpackb(packed)

    def peek(self, key: str) -> object:
        return self.read(key)

    def has(self, key: str) -> bool:
        return self.read(key) is not None

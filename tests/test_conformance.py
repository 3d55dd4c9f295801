"""The conformance kit on stores that conform: each check that their capabilities allow must pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance.faults import MEMORY, SQLITE, MapProxy, StoreProxy
from conformance.sqlite_store import SQLiteStore

from mapitem import Store
from mapitem.testing import ManualClock
from mapitem.testing.conformance import Capabilities, Conformance


class TestMemoryStore(Conformance):
    """Without those that are about files."""

    max_examples = 40

    capabilities = MEMORY

    def make_store(self, clock: ManualClock, **options: Any) -> Store:
        return Store(clock=clock, **options)


class TestFileStore(Conformance):
    """All of it."""

    max_examples = 40

    _made = 0

    def make_store(self, clock: ManualClock, **options: Any) -> Store:
        self._made += 1
        self._clock = clock
        return Store(self.folder / f"{self._made}.mapitem", clock=clock, **options)

    def reopen(self, store: Store) -> Store:
        store.close()
        return self.open_again(store)

    def open_again(self, store: Store) -> Store:
        return Store(self._path(store), clock=self._clock)

    def open_read_only(self, store: Store) -> Store:
        return Store(self._path(store), clock=self._clock, read_only=True)

    def _path(self, store: Store) -> Path:
        path = store._path
        assert path is not None
        return Path(path)


class TestSQLiteStore(Conformance):
    """An implementation that shares nothing with ours."""

    max_examples = 40

    capabilities = SQLITE

    _made = 0

    def make_store(self, clock: ManualClock, **options: Any) -> SQLiteStore:
        self._made += 1
        return SQLiteStore(str(self.folder / f"{self._made}.sqlite"), clock=clock, sync=False, **options)

    def reopen(self, store: SQLiteStore) -> SQLiteStore:
        store.close()
        return SQLiteStore(store.path, clock=store.clock)

    def open_read_only(self, store: SQLiteStore) -> SQLiteStore:
        return SQLiteStore(store.path, clock=store.clock, read_only=True)


BARE_STORE = ("map", "open_map")
BARE_MAP = ("sid", "name", "create", "set", "remove", "get", "range")


class Bare(MapProxy):
    """A map with nothing but what every store must have."""

    def __getattr__(self, name: str) -> Any:
        if name not in BARE_MAP:
            raise AttributeError(name)
        return super().__getattr__(name)


class BareStore(StoreProxy):
    map_proxy = Bare

    def __getattribute__(self, name: str) -> Any:
        if name not in BARE_STORE and not name.startswith("_") and name not in ("inner", "map_proxy"):
            raise AttributeError(name)
        return super().__getattribute__(name)


class TestBareStore(Conformance):
    """A store that has nothing that can be declared away passes what is left: no check asks for more than it needs."""

    max_examples = 20
    capabilities = Capabilities.only()

    def make_store(self, clock: ManualClock) -> BareStore:
        return BareStore(Store(clock=clock))


class TestStoreAsTheService(Conformance):
    """As an adapter to a service would declare itself: its own clock, whole seconds, opaque revisions, some keys."""

    max_examples = 20
    capabilities = Capabilities(
        **dict.fromkeys(["clock", "exact_revisions", "expiry_events", "error_order", "field_order"], False),
        **dict.fromkeys(["durable", "locking", "read_only", "previous_pages", "unnamed_maps"], False),
        date_resolution=1.0,
        items_per_page=1000,
        accepts_key=str.isascii,
    )

    def make_store(self, clock: ManualClock, **options: Any) -> Store:
        return Store(**options)

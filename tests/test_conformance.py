"""The conformance kit on stores that conform: each check that their capabilities allow must pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance.sqlite_store import SQLiteStore

from mapitem import Store
from mapitem.testing import ManualClock
from mapitem.testing.conformance import Capabilities, Conformance

SQLITE = Capabilities(
    # It has no word of what happened, and nothing to compact.
    **dict.fromkeys(["events", "feed", "watch", "async_watch", "compaction"], False),
    # Its limits are fixed, and its pages go one way.
    **dict.fromkeys(["limits", "data_paths", "depth_limit", "previous_pages", "locking"], False),
)


class TestMemoryStore(Conformance):
    """Without those that are about files."""

    max_examples = 40

    capabilities = Capabilities(durable=False, locking=False, read_only=False)

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

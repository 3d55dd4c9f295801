"""The rivals in files: SQLite, LMDB, LevelDB, RocksDB, ZODB and diskcache, each as its own manual has it used.

Imports are at the top of each class's ``open`` or ``version``, so that one that is not installed is skipped alone.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from msgpack import packb, unpackb

from benchmarks.engines.base import Bytes, Data, Engine, batches

_PROCESS = "process: survives kill -9"
_POWER = "power: waits for the disk"
_MAP_BYTES = 16 * 2**30
# For LevelDB and RocksDB, as their manuals advise for random reads: a Bloom filter, and a cache that holds everything.
_BLOOM_BITS = 10
_CACHE_BYTES = 512 * 2**20


class SQLite(Engine):
    """The standard library's sqlite3: a table by key, each write a transaction of its own."""

    durability = _PROCESS
    pragmas: tuple[str, ...] = ("journal_mode=WAL", "synchronous=NORMAL")
    file: str | None = "store.sqlite"

    @classmethod
    def version(cls) -> str:
        return sqlite3.sqlite_version

    def open(self) -> None:
        name = ":memory:" if self.file is None else self.folder / self.file
        self.db = sqlite3.connect(name, isolation_level=None, check_same_thread=False, timeout=60)
        for pragma in self.pragmas:
            self.db.execute(f"PRAGMA {pragma}")
        self.run = self.db.execute
        if self.file is None or not self.run("SELECT name FROM sqlite_master").fetchall():
            self.run("CREATE TABLE items (key TEXT PRIMARY KEY, data BLOB, expires REAL) WITHOUT ROWID")
            self.run("CREATE INDEX due ON items (expires) WHERE expires IS NOT NULL")

    def close(self) -> None:
        self.db.close()

    def for_thread(self) -> Engine:
        if self.file is None:
            return self  # the module's own lock keeps threads apart
        other = type(self)(self.folder)
        other.open()
        return other

    def put(self, key: str, data: Data) -> None:
        self.run("REPLACE INTO items (key, data) VALUES (?, ?)", (key, packb(data)))

    def get(self, key: str) -> Data | None:
        row = self.run("SELECT data FROM items WHERE key = ?", (key,)).fetchone()
        return None if row is None else unpackb(row[0])

    def peek(self, key: str) -> object:
        row = self.run("SELECT data FROM items WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def has(self, key: str) -> bool:
        return self.run("SELECT 1 FROM items WHERE key = ?", (key,)).fetchone() is not None

    def delete(self, key: str) -> None:
        self.run("DELETE FROM items WHERE key = ?", (key,))

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        for batch in batches(pairs):
            self.run("BEGIN")
            rows = [(key, packb(data)) for key, data in batch]
            self.db.executemany("REPLACE INTO items (key, data) VALUES (?, ?)", rows)
            self.run("COMMIT")

    def create(self, key: str, data: Data) -> None:
        self.run("INSERT INTO items (key, data) VALUES (?, ?)", (key, packb(data)))

    def cas(self, key: str, token: Any, data: Data) -> None:
        changed = self.run("UPDATE items SET data = ? WHERE key = ? AND data = ?", (packb(data), key, token))
        if not changed.rowcount:
            raise ValueError(key)

    def range(self, start: str, count: int) -> list[tuple[str, Data]]:
        rows = self.run("SELECT key, data FROM items WHERE key >= ? ORDER BY key LIMIT ?", (start, count))
        return [(key, unpackb(packed)) for key, packed in rows]

    def range_down(self, start: str, count: int) -> list[tuple[str, Data]]:
        rows = self.run("SELECT key, data FROM items WHERE key <= ? ORDER BY key DESC LIMIT ?", (start, count))
        return [(key, unpackb(packed)) for key, packed in rows]

    def range_keys(self, start: str, count: int) -> list[Any]:
        rows = self.run("SELECT key FROM items WHERE key >= ? ORDER BY key LIMIT ?", (start, count))
        return [key for (key,) in rows]

    def scan(self) -> Iterator[tuple[str, Data]]:
        return ((key, unpackb(packed)) for key, packed in self.run("SELECT key, data FROM items ORDER BY key"))

    def scan_down(self) -> Iterator[tuple[str, Data]]:
        return ((key, unpackb(packed)) for key, packed in self.run("SELECT key, data FROM items ORDER BY key DESC"))

    def compact(self) -> None:
        self.run("VACUUM")

    def put_timed(self, key: str, data: Data, ttl: int) -> None:
        self.run("REPLACE INTO items (key, data, expires) VALUES (?, ?, ?)", (key, packb(data), self.now() + ttl))

    def reap(self) -> object:
        return self.run("DELETE FROM items WHERE expires <= ?", (self.now(),)).rowcount


class SQLiteMemory(SQLite):
    durability = "none: memory"
    pragmas = ()
    file = None


class SQLiteFull(SQLite):
    durability = _POWER
    pragmas = ("journal_mode=WAL", "synchronous=FULL")


class LMDB(Bytes):
    """py-lmdb; with sync off a commit is in the page cache when it returns."""

    packages = ("lmdb",)
    durability = _PROCESS
    sync = False

    def open(self) -> None:
        import lmdb

        self.env = lmdb.open(str(self.folder / "lmdb"), map_size=_MAP_BYTES, sync=self.sync, metasync=self.sync)
        self.begin = self.env.begin

    def close(self) -> None:
        self.env.close()

    def read(self, key: str) -> bytes | None:
        with self.begin() as transaction:
            return transaction.get(key.encode())

    def write(self, key: str, packed: bytes) -> None:
        with self.begin(write=True) as transaction:
            transaction.put(key.encode(), packed)

    def put(self, key: str, data: Data) -> None:
        with self.begin(write=True) as transaction:
            transaction.put(key.encode(), packb(data))

    def get(self, key: str) -> Data | None:
        with self.begin() as transaction:
            packed = transaction.get(key.encode())
        return None if packed is None else unpackb(packed)

    def delete(self, key: str) -> None:
        with self.begin(write=True) as transaction:
            transaction.delete(key.encode())

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        for batch in batches(pairs):
            with self.begin(write=True) as transaction:
                transaction.cursor().putmulti([(key.encode(), packb(data)) for key, data in batch])

    def cas(self, key: str, token: Any, data: Data) -> None:
        name = key.encode()
        with self.begin(write=True) as transaction:
            if transaction.get(name) != token:
                raise ValueError(key)
            transaction.put(name, packb(data))

    def range(self, start: str, count: int) -> list[tuple[str, Data]]:
        with self.begin() as transaction:
            cursor = transaction.cursor()
            cursor.set_range(start.encode())
            return [(key.decode(), unpackb(packed)) for key, packed in islice(cursor.iternext(), count)]

    def range_down(self, start: str, count: int) -> list[tuple[str, Data]]:
        with self.begin() as transaction:
            cursor = transaction.cursor()
            if not cursor.set_range(start.encode()):
                cursor.last()
            elif cursor.key() != start.encode():
                cursor.prev()
            return [(key.decode(), unpackb(packed)) for key, packed in islice(cursor.iterprev(), count)]

    def range_keys(self, start: str, count: int) -> list[Any]:
        with self.begin() as transaction:
            cursor = transaction.cursor()
            cursor.set_range(start.encode())
            return [key.decode() for key in islice(cursor.iternext(values=False), count)]

    def scan(self) -> Iterator[tuple[str, Data]]:
        with self.begin() as transaction:
            for key, packed in transaction.cursor():
                yield key.decode(), unpackb(packed)

    def scan_down(self) -> Iterator[tuple[str, Data]]:
        with self.begin() as transaction:
            cursor = transaction.cursor()
            cursor.last()
            for key, packed in cursor.iterprev():
                yield key.decode(), unpackb(packed)


class LMDBSync(LMDB):
    durability = _POWER
    sync = True


class LevelDB(Bytes):
    """plyvel."""

    packages = ("plyvel", "plyvel-ci")
    durability = _PROCESS
    sync = False

    def open(self) -> None:
        import plyvel

        self.db = plyvel.DB(
            str(self.folder / "leveldb"),
            create_if_missing=True,
            bloom_filter_bits=_BLOOM_BITS,
            lru_cache_size=_CACHE_BYTES,
        )

    def close(self) -> None:
        self.db.close()

    def read(self, key: str) -> bytes | None:
        return self.db.get(key.encode())

    def write(self, key: str, packed: bytes) -> None:
        self.db.put(key.encode(), packed, sync=self.sync)

    def put(self, key: str, data: Data) -> None:
        self.db.put(key.encode(), packb(data))

    def get(self, key: str) -> Data | None:
        packed = self.db.get(key.encode())
        return None if packed is None else unpackb(packed)

    def has(self, key: str) -> bool:
        return self.db.get(key.encode()) is not None

    def delete(self, key: str) -> None:
        self.db.delete(key.encode())

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        for some in batches(pairs):
            with self.db.write_batch() as batch:
                for key, data in some:
                    batch.put(key.encode(), packb(data))

    def range(self, start: str, count: int) -> list[tuple[str, Data]]:
        with self.db.iterator(start=start.encode()) as rows:
            return [(key.decode(), unpackb(packed)) for key, packed in islice(rows, count)]

    def range_down(self, start: str, count: int) -> list[tuple[str, Data]]:
        with self.db.iterator(stop=start.encode(), include_stop=True, reverse=True) as rows:
            return [(key.decode(), unpackb(packed)) for key, packed in islice(rows, count)]

    def range_keys(self, start: str, count: int) -> list[Any]:
        with self.db.iterator(start=start.encode(), include_value=False) as keys:
            return [key.decode() for key in islice(keys, count)]

    def scan(self) -> Iterator[tuple[str, Data]]:
        return ((key.decode(), unpackb(packed)) for key, packed in self.db.iterator())

    def scan_down(self) -> Iterator[tuple[str, Data]]:
        return ((key.decode(), unpackb(packed)) for key, packed in self.db.iterator(reverse=True))

    def compact(self) -> None:
        self.db.compact_range()


class LevelDBSync(LevelDB):
    durability = _POWER
    sync = True

    def put(self, key: str, data: Data) -> None:
        self.db.put(key.encode(), packb(data), sync=True)


class RocksDB(Bytes):
    """rocksdict in raw mode."""

    packages = ("rocksdict",)
    durability = _PROCESS
    sync = False

    def open(self) -> None:
        from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteOptions

        blocks = BlockBasedOptions()
        blocks.set_bloom_filter(_BLOOM_BITS, False)
        blocks.set_block_cache(Cache(_CACHE_BYTES))
        settings = Options(raw_mode=True)
        settings.set_block_based_table_factory(blocks)
        self.db = Rdict(str(self.folder / "rocksdb"), settings)
        self.batch = WriteBatch
        if self.sync:
            options = WriteOptions()
            options.sync = True
            self.db.set_write_options(options)

    def close(self) -> None:
        self.db.close()

    def read(self, key: str) -> bytes | None:
        return self.db.get(key.encode())

    def write(self, key: str, packed: bytes) -> None:
        self.db[key.encode()] = packed

    def put(self, key: str, data: Data) -> None:
        self.db[key.encode()] = packb(data)

    def get(self, key: str) -> Data | None:
        packed = self.db.get(key.encode())
        return None if packed is None else unpackb(packed)

    def delete(self, key: str) -> None:
        del self.db[key.encode()]

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        for some in batches(pairs):
            batch = self.batch(raw_mode=True)
            for key, data in some:
                batch.put(key.encode(), packb(data))
            self.db.write(batch)

    def range(self, start: str, count: int) -> list[tuple[str, Data]]:
        rows = self.db.items(from_key=start.encode())
        return [(key.decode(), unpackb(packed)) for key, packed in islice(rows, count)]

    def range_down(self, start: str, count: int) -> list[tuple[str, Data]]:
        rows = self.db.items(backwards=True, from_key=start.encode())
        return [(key.decode(), unpackb(packed)) for key, packed in islice(rows, count)]

    def range_keys(self, start: str, count: int) -> list[Any]:
        return [key.decode() for key in islice(self.db.keys(from_key=start.encode()), count)]

    def scan(self) -> Iterator[tuple[str, Data]]:
        return ((key.decode(), unpackb(packed)) for key, packed in self.db.items())

    def scan_down(self) -> Iterator[tuple[str, Data]]:
        return ((key.decode(), unpackb(packed)) for key, packed in self.db.items(backwards=True))

    def compact(self) -> None:
        self.db.compact_range(None, None)


class RocksDBSync(RocksDB):
    durability = _POWER
    sync = True


class ZODB(Bytes):
    """A BTree of packed bytes in a FileStorage whose commits do not wait for the disk; its cache holds everything."""

    packages = ("ZODB",)
    durability = _PROCESS

    def open(self) -> None:
        import transaction
        from BTrees.OOBTree import OOBTree
        from ZODB import DB
        from ZODB.FileStorage import FileStorage

        sys.modules[FileStorage.__module__].fsync = None  # its own way to leave it out, where a system has none
        self.db = DB(FileStorage(str(self.folder / "zodb.fs")), cache_size=10_000_000)
        self.manager = transaction.TransactionManager()
        root = self.db.open(self.manager).root()
        if "items" not in root:
            root["items"] = OOBTree()
            self.manager.commit()
        self.tree = root["items"]

    def close(self) -> None:
        self.manager.abort()
        self.db.close()

    def read(self, key: str) -> bytes | None:
        return self.tree.get(key)

    def write(self, key: str, packed: bytes) -> None:
        self.tree[key] = packed
        self.manager.commit()

    def has(self, key: str) -> bool:
        return key in self.tree

    def delete(self, key: str) -> None:
        del self.tree[key]
        self.manager.commit()

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        # A commit writes whole buckets: a batch of a thousand scattered keys would write nearly all of them.
        for key, data in pairs:
            self.tree[key] = packb(data)
        self.manager.commit()

    def range(self, start: str, count: int) -> list[tuple[str, Data]]:
        return [(key, unpackb(packed)) for key, packed in islice(self.tree.iteritems(start), count)]

    def range_keys(self, start: str, count: int) -> list[Any]:
        return list(islice(self.tree.iterkeys(start), count))

    def scan(self) -> Iterator[tuple[str, Data]]:
        return ((key, unpackb(packed)) for key, packed in self.tree.iteritems())


class DiskCache(Bytes):
    """diskcache.Cache with nothing ever thrown out."""

    packages = ("diskcache",)
    durability = _PROCESS

    def open(self) -> None:
        import diskcache

        # Every value in the database and none in a file of its own, as for the others.
        self.cache = diskcache.Cache(
            str(self.folder / "diskcache"), eviction_policy="none", size_limit=2**40, disk_min_file_size=2**20
        )

    def close(self) -> None:
        self.cache.close()

    def read(self, key: str) -> bytes | None:
        return self.cache.get(key)

    def write(self, key: str, packed: bytes) -> None:
        self.cache.set(key, packed)

    def has(self, key: str) -> bool:
        return key in self.cache

    def delete(self, key: str) -> None:
        self.cache.delete(key)

    def load(self, pairs: Iterable[tuple[str, Data]]) -> None:
        for some in batches(pairs):
            with self.cache.transact():
                for key, data in some:
                    self.cache.set(key, packb(data))

    def create(self, key: str, data: Data) -> None:
        if not self.cache.add(key, packb(data)):
            raise KeyError(key)

    def cas(self, key: str, token: Any, data: Data) -> None:
        with self.cache.transact():
            if self.cache.get(key) != token:
                raise ValueError(key)
            self.cache.set(key, packb(data))

    def put_timed(self, key: str, data: Data, ttl: int) -> None:
        # It counts from the real clock.
        self.cache.set(key, packb(data), expire=ttl + self.now() - time.time())

    def reap(self) -> object:
        return self.cache.expire(now=self.now())

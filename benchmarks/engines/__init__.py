"""All engines by name, and whether each can run here."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from benchmarks.engines.base import Engine

OWN = ("mapitem", "mapitem:memory", "mapitem:plain", "mapitem:power")
LIMITS = ("dict", "sorteddict")
_CLASSES = {
    "mapitem": "own.MapItemProcess",
    "mapitem:memory": "own.MapItemMemory",
    "mapitem:plain": "own.MapItemPlain",
    "mapitem:power": "own.MapItemPower",
    "dict": "limits.Dict",
    "sorteddict": "limits.Sorted",
    "leveldb": "embedded.LevelDB",
    "lmdb": "embedded.LMDB",
    "rocksdb": "embedded.RocksDB",
    "sqlite": "embedded.SQLite",
    "sqlite:memory": "embedded.SQLiteMemory",
    "zodb": "embedded.ZODB",
    "diskcache": "embedded.DiskCache",
    "cachetools": "memory.TTLCache",
    "redis": "memory.Redis",
    "fakeredis": "memory.FakeRedis",
    "leveldb:sync": "embedded.LevelDBSync",
    "lmdb:sync": "embedded.LMDBSync",
    "rocksdb:sync": "embedded.RocksDBSync",
    "sqlite:full": "embedded.SQLiteFull",
}
NAMES = tuple(_CLASSES)


def engine_class(name: str) -> type[Engine]:
    """The class behind a name; ``Skip`` with the reason if it cannot run here."""
    room, _, kind = _CLASSES[name].partition(".")
    cls: type[Engine] = getattr(import_module(f"benchmarks.engines.{room}"), kind)
    cls.version()
    return cls


def make(name: str, folder: Path) -> Engine:
    """An engine that is not open yet."""
    return engine_class(name)(folder)

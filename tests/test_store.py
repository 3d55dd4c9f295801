"""``Store``: opening and closing, its maps, one writer at a time, forks, compaction (semantics S); torn files.

What opening makes of a file whose end is torn is durability R1, R2, R4 and R5.

What can be done with a store and a map stands in one table, checked for completeness: what is refused after closing,
after a fork, on a dead handle or on a store to read only is refused for all of it.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mapitem
from mapitem import (
    Event,
    HistoryCompacted,
    InvalidName,
    InvalidTTL,
    Map,
    MapExists,
    MapNotFound,
    NotAStore,
    Store,
    StoreClosed,
    StoreForked,
    StoreLocked,
    StoreReadOnly,
)
from mapitem.testing import ManualClock

NOW = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
"""What the clock of the fixtures shows at first."""

Use = Callable[[], object]


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def seen(map_: Map) -> object:
    """All that can be seen of a map."""
    dates = map_.date_created, map_.date_updated, map_.date_expires
    return map_.sid, map_.name, map_.created_by, map_.revision, dates, list(map_.range()), len(map_)


def all_seen(store: Store) -> object:
    return [seen(map_) for map_ in store.maps()]


def content(folder: Path) -> dict[str, bytes | None]:
    """Every name in the folder, with the bytes of the files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def reopen(store: Store, make_store: Callable[..., Store], backing: str) -> Store:
    """What a restart leaves: a file is closed and opened again; a store in memory, which has none, stays."""
    if backing == "memory":
        return store
    store.close()
    return make_store()


# ---------------------------------------------------------------- all that can be done


def batch_of(store: Store, map_: Map) -> None:
    with store.batch() as batch:
        batch.set(map_, "k", {})


def store_reads(store: Store, folder: Path) -> dict[str, Use]:
    return {
        "map": lambda: store.map("m"),
        "open_map": lambda: store.open_map("m"),
        "maps": lambda: list(store.maps()),
        "on": lambda: store.on(Event, print).close(),
        "backup": lambda: store.backup(folder / "backup"),
        "__enter__": lambda: store.__enter__(),
        "sync": lambda: store.sync(),
    }


def store_writes(store: Store, map_: Map) -> dict[str, Use]:
    return {
        "map, new": lambda: store.map("new"),
        "create_map": lambda: store.create_map("newer"),
        "create_map, nameless": lambda: store.create_map(),
        "purge": lambda: store.purge(),
        "compact": lambda: store.compact(),
        "batch": lambda: batch_of(store, map_),
    }


def map_reads(map_: Map) -> dict[str, Use]:
    return {
        "revision": lambda: map_.revision,
        "date_created": lambda: map_.date_created,
        "date_updated": lambda: map_.date_updated,
        "date_expires": lambda: map_.date_expires,
        "created_by": lambda: map_.created_by,
        "[]": lambda: map_["k"],
        "[], absent": lambda: map_.get("absent"),
        "get": lambda: map_.get("k"),
        "in": lambda: "k" in map_,
        "in, no key": lambda: map_.__contains__(5),
        "len": lambda: len(map_),
        "bool": lambda: bool(map_),
        "iter": lambda: list(map_),
        "iter, the call": lambda: iter(map_),
        "keys": lambda: list(map_.keys()),
        "values": lambda: list(map_.values()),
        "items": lambda: list(map_.items()),
        "range": lambda: map_.range(),
        "page": lambda: map_.page(),
        "changes": lambda: map_.changes(),
        "watch": lambda: map_.watch().close(),
        "on": lambda: map_.on(Event, print).close(),
    }


def map_writes(map_: Map) -> dict[str, Use]:
    return {
        "create": lambda: map_.create("new", {}),
        "set": lambda: map_.set("k", {}),
        "update": lambda: map_.update("k", {}),
        "mutate": lambda: map_.mutate("k", lambda data: data),
        "set_item_ttl": lambda: map_.set_item_ttl("k", 0),
        "remove": lambda: map_.remove("k"),
        "set_ttl": lambda: map_.set_ttl(0),
        "purge": lambda: map_.purge(),
        "remove_map": lambda: map_.remove_map(),
    }


def every_use(store: Store, map_: Map, folder: Path) -> dict[str, Use]:
    """All of it, the reads first and what leaves little to read last."""
    tables = [
        ("map", map_reads(map_)),
        ("store", store_reads(store, folder)),
        ("store", store_writes(store, map_)),
        ("map", map_writes(map_)),
    ]
    return {f"{what}: {name}": use for what, table in tables for name, use in table.items()}


def check_all_raise(error: type[Exception], uses: dict[str, Use]) -> None:
    assert {name: outcome(use) for name, use in uses.items()} == {name: error.__name__ for name in uses}


def outcome(use: Use) -> str:
    """The name of what the use raised, or "done"."""
    try:
        use()
    except Exception as error:
        return type(error).__name__
    return "done"


def test_list_every_use(store: Store, map_: Map, tmp_path: Path) -> None:
    """S1: the table of uses leaves out nothing but what answers on every store and handle."""
    names = {name.split(",")[0] for name in every_use(store, map_, tmp_path)}
    # ``refresh`` is for stores to read only; of a closed store these can be asked still.
    answers = {"store": {"close", "durability", "limits", "recovery", "refresh"}, "map": {"sid", "name"}}
    for what, kind in (("store", Store), ("map", Map)):
        public = {name for name in dir(kind) if not name.startswith("_")} - answers[what]
        assert {f"{what}: {name}" for name in public} - names == set()


def test_use_everything(store: Store, map_: Map, tmp_path: Path) -> None:
    """S1: on an open store each of these uses succeeds, so that what raises below does so for the reason given."""
    map_.set("k", {})
    uses = every_use(store, map_, tmp_path)
    assert {name: outcome(use) for name, use in uses.items()} == {name: "done" for name in uses}


# ---------------------------------------------------------------- S1: opening and closing


def test_open_a_store_in_memory() -> None:
    """S1: without a path a store lives in memory, empty, and no other store sees what is in it."""
    with Store() as store, Store() as other:
        assert list(store.maps()) == []
        store.map("m").set("k", {})
        assert list(other.maps()) == []
        assert store.recovery is None


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_open_a_store_on_file(tmp_path: Path, kind: Callable[[Any], Any]) -> None:
    """S1: a path, as text, ``os.PathLike`` or bytes, is created if missing, and what was written is there later on."""
    path = tmp_path / "é 1.mapitem"
    with Store(kind(str(path))) as store:
        store.map("m").set("k", {"n": 1})
        before = all_seen(store)
    assert path.is_file()
    with Store(path) as store:
        assert all_seen(store) == before
        assert store.recovery is None


def test_use_a_store_as_a_context_manager(make_store: Callable[..., Store]) -> None:
    """S1: ``with`` gives the store itself and closes it at the end, also after an exception, which passes."""
    store = make_store()
    with store as entered:
        assert entered is store
        store.map("m")
    with pytest.raises(StoreClosed):
        store.map("m")
    store = make_store()
    with pytest.raises(RuntimeError, match="mine"), store:
        raise RuntimeError("mine")
    with pytest.raises(StoreClosed):
        store.map("m")


def test_close_twice(store: Store, map_: Map) -> None:
    """S1: ``close`` may be called twice, and more often."""
    map_.set("k", {})
    for _ in range(3):
        store.close()


def test_use_a_closed_store(store: Store, map_: Map, tmp_path: Path) -> None:
    """S1: after ``close`` every use of the store, its maps and walks under way raises ``StoreClosed``."""
    for number in range(40):
        map_.set(f"k{number}", {})
    walks: list[Iterator[Any]] = [map_.range(), iter(map_), iter(map_.items()), map_.changes()]
    for walk in walks:
        next(walk)
    map_.set("k", {})
    store.close()
    check_all_raise(StoreClosed, every_use(store, map_, tmp_path))
    check_all_raise(StoreClosed, {f"walk {number}": walk.__next__ for number, walk in enumerate(walks[:3])})
    assert repr(store)
    assert repr(map_)
    assert (map_.name, len(map_.sid)) == ("m", 34)
    assert content(tmp_path).get("backup") is None


def test_keep_what_was_read_from_a_closed_store(store: Store, map_: Map) -> None:
    """S1: items that were read are their holder's, and outlive the store."""
    map_.set("k", {"n": [1]})
    item, page = map_["k"], map_.page()
    store.close()
    assert item.data == page.items[0].data == {"n": [1]}


def test_open_with_every_option(tmp_path: Path) -> None:
    """S1: the options are durability, clock, identity, limits and read_only, each given by name."""
    clock = ManualClock(now=1_000.0)
    with Store(
        tmp_path / "s",
        durability="power",
        clock=clock,
        identity="ada",
        limits=mapitem.Limits(max_key_chars=3),
        read_only=False,
    ) as store:
        assert (store.durability, store.limits) == ("power", mapitem.Limits(max_key_chars=3))
        item = store.map("m").set("abc", {})
        assert (item.created_by, store.map("m").created_by, item.date_created.timestamp()) == ("ada", "ada", 1_000.0)
        with pytest.raises(mapitem.InvalidKey):
            store.map("m").set("abcd", {})
    with pytest.raises(TypeError):
        Store(tmp_path / "s", "power")  # type: ignore[call-arg]


def test_open_with_the_defaults(tmp_path: Path) -> None:
    """S1: the default durability is ``"process"``, the identity ``"system"``."""
    with Store(tmp_path / "s") as store:
        assert store.durability == Store().durability == "process"
        assert store.map("m").set("k", {}).created_by == "system"


@pytest.mark.parametrize("durability", ["", "Power", "fsync", None, 1, True])
def test_open_with_no_durability(tmp_path: Path, durability: Any) -> None:
    """S1: another durability is a ``ValueError``, and no file is created."""
    with pytest.raises(ValueError, match="durability"):
        Store(tmp_path / "s", durability=durability)
    assert content(tmp_path) == {}


@pytest.mark.parametrize("closed", [True, False])
def test_forget_to_close_a_store(tmp_path: Path, closed: bool) -> None:
    """S1: a store on file that is forgotten open gives a ``ResourceWarning`` and frees the file with all writes."""
    store = Store(tmp_path / "s")
    store.map("m").set("k", {"n": 1})
    if closed:
        store.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del store
        gc.collect()
    assert [each.category for each in caught] == ([] if closed else [ResourceWarning])
    assert closed or str(tmp_path / "s") in str(caught[0].message)
    # A warning knows its source, and would keep the store.
    caught.clear()
    gc.collect()
    with Store(tmp_path / "s") as store:
        assert store.map("m")["k"].data == {"n": 1}
        assert (store.recovery is None) is closed


def test_forget_to_close_a_store_in_memory() -> None:
    """S1: a store in memory holds nothing that would have to be let go: no warning."""
    store = Store()
    store.map("m").set("k", {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del store
        gc.collect()
    assert caught == []


def test_hold_a_store_by_its_map() -> None:
    """S1: a map that is held keeps its store usable."""
    map_ = Store().map("m")
    gc.collect()
    map_.set("k", {})
    assert list(map_) == ["k"]


# ---------------------------------------------------------------- S1: reading only


def test_read_only(tmp_path: Path) -> None:
    """S1: with ``read_only`` all reads work and every write is ``StoreReadOnly``; no file is created or changed."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with Store(folder / "s") as store:
        store.map("m").set("k", {"n": 1}, ttl=60)
        before = all_seen(store)
    (folder / "s.lock").unlink(missing_ok=True)
    on_disk = content(folder)
    with Store(folder / "s", read_only=True) as store:
        map_ = store.map("m")
        assert all_seen(store) == before
        check_all_raise(StoreReadOnly, store_writes(store, map_) | map_writes(map_))
        reads = store_reads(store, tmp_path) | map_reads(map_)
        assert {name: outcome(use) for name, use in reads.items()} == {name: "done" for name in reads}
        assert all_seen(store) == before
    assert content(folder) == on_disk
    with Store(tmp_path / "backup") as store:
        assert all_seen(store) == before


def test_read_only_a_missing_file(tmp_path: Path) -> None:
    """S1: a missing file to read only is ``NotAStore``, and is not created."""
    for path in (tmp_path / "s", tmp_path / "no folder" / "s"):
        with pytest.raises(NotAStore) as caught:
            Store(path, read_only=True)
        assert (caught.value.path, bool(caught.value.reason)) == (str(path), True)
    assert content(tmp_path) == {}


def test_read_only_beside_a_writer(tmp_path: Path) -> None:
    """S1: any number may read beside the one writer, and see what was there when they opened."""
    with Store(tmp_path / "s") as store:
        store.map("m").set("a", {})
        with Store(tmp_path / "s", read_only=True) as one, Store(tmp_path / "s", read_only=True) as two:
            store.map("m").set("b", {})
            assert list(one.map("m")) == list(two.map("m")) == ["a"]
            with pytest.raises(MapNotFound):
                one.open_map("other")
        with Store(tmp_path / "s", read_only=True) as later:
            assert list(later.map("m")) == ["a", "b"]
        assert in_another_process(tmp_path / "s") == "StoreLocked"
        store.map("m").set("c", {})


def test_use_a_closed_store_to_read_only(tmp_path: Path) -> None:
    """S1: after ``close`` it is ``StoreClosed`` for writes too, whatever else would refuse them."""
    with Store(tmp_path / "s") as store:
        store.map("m").set("k", {})
    store = Store(tmp_path / "s", read_only=True)
    map_ = store.map("m")
    store.close()
    check_all_raise(StoreClosed, every_use(store, map_, tmp_path))


# ---------------------------------------------------------------- opening what is no store (durability R6, R8)


def bytes_of_a_store(folder: Path) -> bytes:
    """What creation wrote: the file of a store that was not used yet. It is gone again."""
    path = folder / "made"
    with Store(path):
        data = path.read_bytes()
    for each in folder.iterdir():
        each.unlink()
    return data


FOREIGN = {
    "empty": b"",
    "one byte": b"\0",
    "text": b"hello, world\n" * 100,
    "zeros": bytes(4096),
    "JSON": b'{"m": {"k": {}}}',
    "SQLite": b"SQLite format 3\0" + bytes(4080),
    "msgpack": b"\x81\xa1k\x80",
    "a bad magic": b"\x89mapitex" + bytes(100),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("read_only", [False, True])
def test_open_a_foreign_file(tmp_path: Path, kind: str, read_only: bool) -> None:
    """S1: an empty or foreign file is ``NotAStore`` that tells which; it stays as it was, with nothing beside it."""
    path = tmp_path / "s"
    path.write_bytes(FOREIGN[kind])
    before = content(tmp_path)
    with pytest.raises(NotAStore) as caught:
        Store(path, read_only=read_only)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert ("empty" in caught.value.reason) is (kind == "empty")
    assert content(tmp_path) == before


@pytest.mark.parametrize("read_only", [False, True])
def test_open_a_directory(tmp_path: Path, read_only: bool) -> None:
    """S1: a directory is ``NotAStore``, and nothing is created in it or beside it."""
    (tmp_path / "s").mkdir()
    before = content(tmp_path)
    with pytest.raises(NotAStore, match="directory"):
        Store(tmp_path / "s", read_only=read_only)
    assert content(tmp_path) == before


@pytest.mark.parametrize("read_only", [False, True])
def test_open_what_never_ends(tmp_path: Path, read_only: bool) -> None:
    """S1: a pipe or a device is ``NotAStore`` too, and nobody waits for it to speak."""
    os.mkfifo(tmp_path / "s")
    for path in (tmp_path / "s", "/dev/zero"):
        with pytest.raises(NotAStore):
            Store(path, read_only=read_only)
    assert os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("read_only", [False, True])
def test_open_a_file_without_a_base(tmp_path: Path, read_only: bool) -> None:
    """S1: a file that ends within its header or base is ``NotAStore``, and stays as it is, with nothing beside it."""
    whole = bytes_of_a_store(tmp_path)
    path = tmp_path / "s"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        before = content(tmp_path)
        with pytest.raises(NotAStore):
            Store(path, read_only=read_only)
        assert content(tmp_path) == before, size
    path.write_bytes(whole)
    with Store(path, read_only=read_only) as store:
        assert list(store.maps()) == []


def test_open_in_a_missing_folder(tmp_path: Path) -> None:
    """S1: a missing folder is the operating system's error, and is not created."""
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "no folder" / "s")
    assert content(tmp_path) == {}


def test_open_again_after_a_failure(tmp_path: Path) -> None:
    """S1: a failing open leaves no lock behind: with the cause gone the path can be opened at once."""
    path = tmp_path / "s"
    path.write_bytes(b"foreign")
    for _ in range(3):
        with pytest.raises(NotAStore):
            Store(path)
    path.unlink()
    with Store(path) as store:
        store.map("m")


# ---------------------------------------------------------------- S2: maps


def test_open_a_map_or_create_it(store: Store, clock: ManualClock) -> None:
    """S2: ``map`` creates a map, with that TTL, if there is none of the name; else it opens it, and its TTL stays."""
    map_ = store.map("m", ttl=60)
    assert (map_.name, map_.date_expires, map_.revision, len(map_)) == ("m", NOW + seconds(60), "0", 0)
    map_.set("k", {})
    clock.advance(5)
    again = store.map("m", ttl=5)
    assert again == map_
    assert (again.date_expires, list(again)) == (NOW + seconds(60), ["k"])
    assert store.map("other").date_expires is None


def test_create_a_map(store: Store) -> None:
    """S2: ``create_map`` creates, with that TTL; a name that is taken is ``MapExists``, and the map there stays."""
    map_ = store.create_map("m", ttl=60)
    map_.set("k", {})
    before = all_seen(store)
    with pytest.raises(MapExists) as caught:
        store.create_map("m", ttl=5)
    assert caught.value.name == "m"
    assert all_seen(store) == before
    assert map_.date_expires == NOW + seconds(60)


@pytest.mark.parametrize("end", ["removed", "expired"])
def test_create_a_map_of_a_name_that_is_free_again(store: Store, clock: ManualClock, end: str) -> None:
    """S2: a name is free once its map was removed or has expired; the new map has none of the old."""
    old = store.create_map("m", ttl=10)
    old.set("k", {})
    clock.advance(9)
    if end == "removed":
        old.remove_map()
    else:
        clock.advance(1)
    new = store.create_map("m")
    assert (new.sid != old.sid, len(new), new.revision, new.date_expires) == (True, 0, "0", None)
    assert [map_.sid for map_ in store.maps()] == [new.sid]


def test_create_maps_without_a_name(store: Store, make_store: Callable[..., Store], backing: str) -> None:
    """S2: a map without a name is found by its sid alone; there may be many."""
    maps = [store.create_map(), store.create_map(None, ttl=60)]
    assert [map_.name for map_ in maps] == [None, None]
    assert maps[0] != maps[1]
    assert maps[1].date_expires == NOW + seconds(60)
    maps[0].set("k", {})
    sid = maps[0].sid
    store = reopen(store, make_store, backing)
    found = store.open_map(sid)
    assert (found.sid, found.name, list(found)) == (sid, None, ["k"])
    assert len(list(store.maps())) == 2
    for name in ("None", "nameless"):
        with pytest.raises(MapNotFound):
            store.open_map(name)


def test_open_a_map_that_is_there(store: Store, map_: Map, make_store: Callable[..., Store], backing: str) -> None:
    """S2: ``open_map`` finds a map by name and by sid, across a restart."""
    map_.set("k", {})
    sid = map_.sid
    store = reopen(store, make_store, backing)
    assert store.open_map("m") == store.open_map(sid) == store.map("m")
    assert list(store.open_map(sid)) == ["k"]


@pytest.mark.parametrize("end", ["never there", "removed", "expired"])
def test_open_a_map_that_is_not_there(store: Store, clock: ManualClock, end: str) -> None:
    """S2: ``open_map`` never creates: by name or sid it is ``MapNotFound``, which tells what was asked for."""
    map_ = store.create_map("m" if end != "never there" else "other", ttl=10)
    sid = map_.sid if end != "never there" else "MP" + "0" * 32
    if end == "removed":
        map_.remove_map()
    clock.advance(10)
    with pytest.raises(MapNotFound) as caught:
        store.open_map("m")
    assert (caught.value.name, caught.value.code) == ("m", 54300)
    with pytest.raises(MapNotFound) as caught:
        store.open_map(sid)
    assert (caught.value.name, caught.value.code) == (sid, 54200)
    assert list(store.maps()) == []


@pytest.mark.parametrize(
    "name", ["", "m" * 321, "\ud800", None, 5, b"m", ["m"], {}, object()], ids=lambda name: ascii(name)[:12]
)
def test_open_a_map_of_what_is_no_name(store: Store, name: Any) -> None:
    """S2: what is no name is ``InvalidName`` to ``open_map`` too, and nothing else takes it."""
    with pytest.raises(InvalidName):
        store.open_map(name)
    with pytest.raises(InvalidName):
        store.map(name)
    if name is not None:
        with pytest.raises(InvalidName):
            store.create_map(name)
    assert list(store.maps()) == []


@pytest.mark.parametrize("make", [Store.map, Store.create_map])
def test_make_a_map_with_a_bad_ttl(store: Store, make: Callable[..., Map]) -> None:
    """S2: a TTL that is none is ``InvalidTTL``, and no map is made."""
    with pytest.raises(InvalidTTL):
        make(store, "m", ttl=-1)
    assert list(store.maps()) == []


def test_list_the_maps(store: Store, clock: ManualClock, make_store: Callable[..., Store], backing: str) -> None:
    """S2: ``maps`` is an iterator of the live maps by name, in the order of code points, the nameless last by sid."""
    names = ["b", "a", "\U00010000", "\uffff", "é", "a\0", "Z"]
    for name in names:
        store.map(name)
    nameless = sorted(store.create_map().sid for _ in range(5))
    store.map("removed").remove_map()
    store.map("expired", ttl=10)
    store.create_map(ttl=10)
    clock.advance(10)
    for each in (store, reopen(store, make_store, backing)):
        if each is store and backing == "file":
            continue
        found = list(each.maps())
        assert [map_.name for map_ in found] == [*sorted(names), *[None] * 5]
        assert [map_.sid for map_ in found[len(names) :]] == nameless
        walk = each.maps()
        assert iter(walk) is walk
        assert all(type(map_) is Map for map_ in walk)


def test_list_the_maps_while_they_change(store: Store) -> None:
    """S2: making and removing maps meanwhile does not disturb the iterator."""
    for name in "abc":
        store.map(name)
    found = []
    for map_ in store.maps():
        found.append(map_.name)
        map_.remove_map()
        store.map(f"new {map_.name}")
    assert found == ["a", "b", "c"]
    assert [map_.name for map_ in store.maps()] == ["new a", "new b", "new c"]


def test_ask_a_map_what_it_is(make_store: Callable[..., Store], clock: ManualClock) -> None:
    """S2: a map has sid, name, revision, three dates and its creator."""
    store = make_store(identity="ada")
    map_ = store.map("m", ttl=60)
    clock.advance(5)
    map_.set("k", {})
    assert map_.sid.startswith("MP")
    assert (map_.name, map_.revision, map_.created_by) == ("m", "1", "ada")
    assert (map_.date_created, map_.date_updated, map_.date_expires) == (NOW, NOW + seconds(5), NOW + seconds(60))
    for name in ("sid", "name", "revision", "date_created", "date_updated", "date_expires", "created_by"):
        with pytest.raises(AttributeError):
            setattr(map_, name, None)


@pytest.mark.parametrize("name", ["m", None])
def test_remove_a_map(store: Store, make_store: Callable[..., Store], backing: str, name: str | None) -> None:
    """S2: ``remove_map`` ends a map with all its items, for good; others stay."""
    map_ = store.create_map(name)
    other = store.map("other")
    map_.set("k", {})
    other.set("k", {})
    sid = map_.sid
    map_.remove_map()
    with pytest.raises(MapNotFound):
        map_.remove_map()
    before = all_seen(store)
    store = reopen(store, make_store, backing)
    assert all_seen(store) == before
    assert [map_.name for map_ in store.maps()] == ["other"]
    with pytest.raises(MapNotFound):
        store.open_map(sid)


@pytest.mark.parametrize("end", ["removed", "by another handle", "expired", "replaced"])
def test_use_a_dead_handle(store: Store, map_: Map, clock: ManualClock, end: str) -> None:
    """S2: on a dead handle ``sid``, ``name`` and ``repr`` answer; all else, walks under way too, is ``MapNotFound``."""
    for number in range(40):
        map_.set(f"k{number}", {})
    map_.set("k", {})
    map_.set_ttl(10)
    sid, text = map_.sid, repr(map_)
    walks: list[Iterator[Any]] = [map_.range(), iter(map_), iter(map_.items()), iter(map_.values())]
    for walk in walks:
        next(walk)
    if end == "expired":
        clock.advance(10)
    else:
        (store.open_map("m") if end == "by another handle" else map_).remove_map()
    if end == "replaced":
        store.map("m").set("k", {})
    assert (map_.sid, map_.name, repr(map_)) == (sid, "m", text)
    check_all_raise(MapNotFound, map_reads(map_) | map_writes(map_))
    check_all_raise(MapNotFound, {f"walk {number}": walk.__next__ for number, walk in enumerate(walks)})
    with pytest.raises(MapNotFound):
        batch_of(store, map_)
    if end == "replaced":
        assert list(store.map("m")) == ["k"]


def test_name_maps_as_they_are_named(store: Store, make_store: Callable[..., Store], backing: str) -> None:
    """S2: maps are told apart by their names, exactly as given, and keep their items apart."""
    names = ["m", "M", " m", "m\0", "é", "e\u0301", "a/../b", "\U0001f600" * 320]
    for name in names:
        store.map(name).set("k", {"map": name})
    store = reopen(store, make_store, backing)
    assert [store.open_map(name)["k"].data["map"] for name in names] == names


# ---------------------------------------------------------------- S3: one writer

OPEN = """
import sys
from mapitem import Store
try:
    Store(sys.argv[1]).close()
except Exception as error:
    print(type(error).__name__)
else:
    print("opened")
"""

HOLD = """
import sys
from mapitem import Store
map_ = (store := Store(sys.argv[1], durability=sys.argv[2])).map("m")
for number in range(100):
    map_.set(f"{number:03}", {"n": number})
print("ready", flush=True)
sys.stdin.read()
"""

ENVIRONMENT = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(mapitem.__file__))}


def in_another_process(path: Path | str) -> str:
    """What another process gets that opens the path for writing: the name of the error, or "opened"."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(path)], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def holder(path: Path, durability: str = "process") -> subprocess.Popen[str]:
    """Another process that has the path open, with a hundred items in the map ``m``, until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), durability],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def spellings(folder: Path) -> dict[str, Any]:
    """Other ways to say ``folder/s``."""
    os.symlink(folder / "s", folder / "link")
    os.symlink("link", folder / "link to the link")
    os.symlink(folder, folder / "folder")
    (folder / "deep").mkdir()
    return {
        "the same": folder / "s",
        "text": str(folder / "s"),
        "bytes": os.fsencode(folder / "s"),
        "up and down": f"{folder}/deep/../s",
        "dots and slashes": f"{folder}/.//s",
        "relative": os.path.relpath(folder / "s"),
        "a symbolic link": folder / "link",
        "a link to a link": folder / "link to the link",
        "a link to the folder": folder / "folder" / "s",
        "a relative link": os.path.relpath(folder / "folder" / "link"),
    }


def test_open_a_second_writer(tmp_path: Path) -> None:
    """S3: a second writer on the path, however it is spelled, is ``StoreLocked``, which names it; the first goes on."""
    with Store(tmp_path / "s") as store:
        store.map("m").set("a", {})
        for spelling, path in spellings(tmp_path).items():
            with pytest.raises(StoreLocked) as caught:
                Store(path)
            assert caught.value.path == str(tmp_path / "s"), spelling
            assert str(tmp_path / "s") in str(caught.value)
        for path in (tmp_path / "s", tmp_path / "link to the link", tmp_path / "folder" / "s"):
            assert in_another_process(path) == "StoreLocked"
        store.map("m").set("b", {})
    assert in_another_process(tmp_path / "s") == "opened"
    with Store(tmp_path / "link") as store:
        assert list(store.map("m")) == ["a", "b"]
        with pytest.raises(StoreLocked):
            Store(tmp_path / "s")


def test_open_by_a_path_that_changes_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3: a path is resolved once, at opening: neither changing the directory nor moving a link leads elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    os.symlink("s", "link")
    with Store("link") as store:
        store.map("m").set("a", {})
        monkeypatch.chdir("elsewhere")
        os.unlink(tmp_path / "link")
        store.map("m").set("b", {})
        store.compact()
        assert in_another_process(tmp_path / "s") == "StoreLocked"
    assert os.listdir(tmp_path / "elsewhere") == []
    with Store(tmp_path / "s") as store:
        assert list(store.map("m")) == ["a", "b"]


def test_hold_the_lock_through_everything(tmp_path: Path) -> None:
    """S3: whatever the process does with the file, no second writer gets in before ``close``."""
    with Store(tmp_path / "s") as store:
        store.map("m").set("a", {})
        for _ in range(2):
            with pytest.raises(StoreLocked):
                Store(tmp_path / "s")
        Store(tmp_path / "s", read_only=True).close()
        (tmp_path / "s").read_bytes()
        store.compact()
        store.backup(tmp_path / "backup")
        assert in_another_process(tmp_path / "s") == "StoreLocked"
        assert in_another_process(tmp_path / "backup") == "opened"
    assert in_another_process(tmp_path / "s") == "opened"


def test_open_what_another_process_has_open(tmp_path: Path) -> None:
    """S3: a writer in another process is seen, and once it has ended the path can be opened."""
    other = holder(tmp_path / "s")
    with pytest.raises(StoreLocked):
        Store(tmp_path / "s")
    with Store(tmp_path / "s", read_only=True) as store:
        assert len(store.map("m")) == 100
    other.communicate("", timeout=60)
    with Store(tmp_path / "s") as store:
        assert len(store.map("m")) == 100


@pytest.mark.parametrize("durability", ["process", "power"])
def test_open_what_a_killed_process_had_open(tmp_path: Path, durability: str) -> None:
    """S3: the lock dies with its holder, however it dies, and what was acknowledged is there (durability P1, R5)."""
    other = holder(tmp_path / "s", durability)
    other.kill()
    other.communicate(timeout=60)
    assert other.returncode == -signal.SIGKILL
    with Store(tmp_path / "s") as store:
        assert [item.data["n"] for item in store.map("m").range()] == list(range(100))
        assert store.recovery is not None
        store.map("m").set("more", {})
    with Store(tmp_path / "s") as store:
        assert len(store.map("m")) == 101
        assert store.recovery is None


def test_open_two_paths(tmp_path: Path) -> None:
    """S3: the lock is the path's: other stores in the same folder are open at the same time, copies included."""
    with Store(tmp_path / "s") as one:
        one.map("m").set("a", {})
        shutil.copy(tmp_path / "s", tmp_path / "copy")
        with Store(tmp_path / "t") as two, Store(tmp_path / "copy") as copy:
            two.map("m").set("b", {})
            copy.map("m").set("c", {})
            assert [list(each.map("m")) for each in (one, two, copy)] == [["a"], ["b"], ["a", "c"]]


# ---------------------------------------------------------------- S4: forks (for threads see test_threads.py)


class Child:
    """A fork of this process that does one thing and ends. It is killed should it hang."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._answer, answer = os.pipe()
        gate, self._gate = os.pipe()
        with warnings.catch_warnings():
            # Newer Pythons warn of a fork beside threads, which is what some of these tests are about.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            try:
                signal.alarm(60)
                os.close(self._gate)
                os.read(gate, 1)
                os.write(answer, repr(act()).encode())
            except BaseException as error:
                os.write(answer, f"raised {error!r}".encode())
            finally:
                os._exit(0)
        os.close(answer)
        os.close(gate)

    def result(self) -> str:
        """Let the child act, and wait for its end: the ``repr`` of what it returned."""
        os.close(self._gate)
        with os.fdopen(self._answer, "rb") as answer:
            told = answer.read().decode()
        assert os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]) == 0
        return told


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")


@needs_fork
@pytest.mark.parametrize("read_only", [False, True])
def test_use_a_store_on_file_after_a_fork(tmp_path: Path, read_only: bool) -> None:
    """S4: in the child every use of a store on file, its maps and walks is ``StoreForked``; the parent's goes on."""
    with Store(tmp_path / "s") as store:
        for number in range(40):
            store.map("m").set(f"k{number}", {})
        store.map("m").set("k", {})
    with Store(tmp_path / "s", read_only=read_only) as store:
        map_ = store.map("m")
        walks: list[Iterator[Any]] = [map_.range(), iter(map_), iter(map_.items())]
        for walk in walks:
            next(walk)
        uses = every_use(store, map_, tmp_path) | {f"walk {n}": walk.__next__ for n, walk in enumerate(walks)}
        uses |= {
            "bad key": lambda: map_.set("", {}),
            "bad name": lambda: store.map(""),
            "bad limit": lambda: map_.range(limit=-1),
        }
        told = Child(lambda: {name: outcome(use) for name, use in uses.items()}).result()
        assert told == repr({name: "StoreForked" for name in uses})
        assert not (tmp_path / "backup").exists()
        assert [next(walks[1]), len(map_)] == ["k0", 41]


@needs_fork
def test_leave_the_parent_alone_after_a_fork(tmp_path: Path) -> None:
    """S4: the child's closing and its end change nothing for the parent: its lock, its file, its writes."""
    with Store(tmp_path / "s") as store:
        map_ = store.map("m")
        map_.set("a", {})
        before = (tmp_path / "s").read_bytes()

        def act() -> object:
            for _ in range(2):
                with suppress(StoreForked):
                    store.close()
            with suppress(StoreForked):
                store.__exit__(None, None, None)
            gc.collect()
            return outcome(lambda: store.map("m")), outcome(lambda: Store(tmp_path / "s"))

        assert Child(act).result() == repr(("StoreForked", "StoreLocked"))
        assert (tmp_path / "s").read_bytes() == before
        assert in_another_process(tmp_path / "s") == "StoreLocked"
        map_.set("b", {})
    with Store(tmp_path / "s") as store:
        assert (list(store.map("m")), store.recovery) == (["a", "b"], None)


@needs_fork
def test_open_anew_beside_an_idle_child(tmp_path: Path) -> None:
    """S4: a child that only waits does not keep the lock after the parent closed; the parent may open again."""
    store = Store(tmp_path / "s")
    store.map("m").set("a", {})
    old = store
    child = Child(lambda: (outcome(lambda: old.map("m")), outcome(lambda: Store(tmp_path / "s"))))
    try:
        store.close()
        assert in_another_process(tmp_path / "s") == "opened"
        store = Store(tmp_path / "s")
        store.map("m").set("b", {})
    finally:
        told = child.result()
    assert told == repr(("StoreForked", "StoreLocked"))
    store.close()


@needs_fork
def test_open_anew_in_the_child(tmp_path: Path) -> None:
    """S4: once the parent has closed, the child can open the file itself, and write; the parent then reads it."""
    store = Store(tmp_path / "s")
    store.map("m").set("a", {})

    def act() -> object:
        with Store(tmp_path / "s") as mine:
            mine.map("m").set("b", {})
            return list(mine.map("m"))

    child = Child(act)
    store.close()
    assert child.result() == repr(["a", "b"])
    with Store(tmp_path / "s") as store:
        assert list(store.map("m")) == ["a", "b"]


@needs_fork
def test_fork_while_a_thread_is_inside(tmp_path: Path) -> None:
    """S4: the child is refused without waiting for a lock that a thread held which does not exist in it."""
    inside, go_on = threading.Event(), threading.Event()
    slow = threading.local()

    def clock() -> float:
        if getattr(slow, "is_", False):
            inside.set()
            assert go_on.wait(60)
        return 1_000.0

    with Store(tmp_path / "s", clock=clock) as store:
        map_ = store.map("m", ttl=1_000)
        map_.set("k", {}, ttl=500)

        def work() -> None:
            slow.is_ = True
            len(map_)

        thread = threading.Thread(target=work)
        thread.start()
        assert inside.wait(60)
        try:
            uses = every_use(store, map_, tmp_path)
            told = Child(lambda: {name: outcome(use) for name, use in uses.items()}).result()
        finally:
            go_on.set()
            thread.join(60)
        assert told == repr({name: "StoreForked" for name in uses})
        assert len(map_) == 1


@needs_fork
def test_use_a_store_in_memory_after_a_fork(tmp_path: Path) -> None:
    """S4: a store in memory is the child's own copy: it works there, and neither sees what the other writes."""
    with Store() as store:
        map_ = store.map("m")
        map_.set("k", {"n": 1})

        def act() -> object:
            before = map_["k"].data
            map_.set("k", {"n": 2})
            uses = every_use(store, map_, tmp_path)
            told = {name: outcome(use) for name, use in uses.items()}
            store.close()
            return before, map_.name, {name for name, what in told.items() if what != "done"}

        child = Child(act)
        map_.set("parent", {})
        assert child.result() == repr(({"n": 1}, "m", set()))
        assert (map_["k"].data, list(map_)) == ({"n": 1}, ["k", "parent"])


@needs_fork
def test_fork_a_store_in_memory_while_others_write() -> None:
    """S4: whenever the fork comes, the child's copy is whole, and writing to it waits for nobody."""
    with Store() as store:
        map_ = store.map("m")
        stop = threading.Event()

        def work() -> None:
            number = 0
            while not stop.is_set():
                map_.set("a", {"n": number})
                map_.set("b", {"n": number})
                number += 1

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                assert Child(lambda: (map_.set("k", {}).key, len(list(map_)) == len(map_))).result() == repr(
                    ("k", True)
                )
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert "k" not in map_


# ---------------------------------------------------------------- S5: compaction, sync, backup, recovery


def test_compact(store: Store, map_: Map, clock: ManualClock, make_store: Callable[..., Store], backing: str) -> None:
    """S5: a compaction rewrites the log to the present state, is no event, and changes but the feed's start."""
    other = store.create_map(ttl=500)
    for number in range(200):
        map_.set(f"{number % 10}", {"n": number, "x": "x" * 100}, ttl=1_000 if number % 3 else 0)
        clock.advance(0.5)
    map_.remove("5")
    other.set("k", {})
    map_.set_ttl(2_000)
    page = map_.page(page_size=3)
    size = store_bytes(store)
    before, told = all_seen(store), [repr(event) for event in map_.changes()]
    store.compact()
    assert (all_seen(store), map_.revision) == (before, "c9")
    assert len(told) == 201
    with pytest.raises(HistoryCompacted) as caught:
        list(map_.changes())
    assert list(map_.changes(since=caught.value.oldest)) == []
    if backing == "file":
        assert store_bytes(store) < size / 4
    assert map_.set("new", {}).revision == "c9"
    before = all_seen(store)
    store = reopen(store, make_store, backing)
    assert all_seen(store) == before
    assert store.map("m").page(page_token=page.next_page_token).items[0].key == "3"


def store_bytes(store: Store) -> int:
    """The size of the store's file, of which its ``repr`` tells the path; 0 in memory."""
    path = repr(store)[len("Store(") : -1].strip("'")
    return os.path.getsize(path) if path else 0


def test_compact_an_empty_store(store: Store, make_store: Callable[..., Store], backing: str) -> None:
    """S5: a store without maps, and a map without items, can be compacted, more than once."""
    store.compact()
    store.map("m")
    before = all_seen(store)
    for _ in range(2):
        store.compact()
    assert all_seen(reopen(store, make_store, backing)) == before


def test_sync(store: Store, map_: Map) -> None:
    """S5: ``sync`` changes nothing that can be read."""
    map_.set("k", {})
    before = all_seen(store)
    store.sync()
    assert all_seen(store) == before


def test_back_up(store: Store, map_: Map, clock: ManualClock, tmp_path: Path) -> None:
    """S5: a backup is a store on file of its own, with all that there was, sids included (durability M5)."""
    map_.set("k", {"n": 1}, ttl=60)
    store.create_map().set("k", {})
    before = all_seen(store)
    store.backup(tmp_path / "backup")
    map_.set("later", {})
    with Store(tmp_path / "backup", clock=clock) as copy:
        assert all_seen(copy) == before
        assert copy.recovery is None
        copy.map("m").set("other", {})
    assert list(map_) == ["k", "later"]


def test_tell_of_no_recovery(store: Store, make_store: Callable[..., Store], backing: str) -> None:
    """S5: after a clean end there is no recovery to tell of, nor in a new store or in memory."""
    assert store.recovery is None
    store.map("m").set("k", {})
    assert store.recovery is None
    assert reopen(store, make_store, backing).recovery is None


# ---------------------------------------------------------------- the torn tail (durability R1, R2, R4, R5)


WRITES: list[Callable[[Map], object]] = [
    lambda map_: map_.set("a", {"n": 1}),
    lambda map_: map_.set("b", {"text": "é" * 20}, ttl=60),
    lambda map_: map_.update("a", {"m": [None, 1.5]}),
    lambda map_: map_.remove("b"),
    lambda map_: map_.set_ttl(3_600),
    lambda map_: map_.set("\U0001f600", {"deep": {"er": {}}}, collection_ttl=0),
]


class Torn:
    """A store that was not closed: its bytes, and after each write how many there were and what could be seen."""

    def __init__(self, folder: Path, clock: ManualClock, closed: bool = False) -> None:
        path = folder / "whole"
        self.sizes: list[int] = []
        self.states: list[object] = []
        with Store(path, clock=clock) as store:
            map_ = store.map("m")
            self._note(path, store)
            for write in WRITES:
                clock.advance(1)
                write(map_)
                self._note(path, store)
            self.data = path.read_bytes()
        if closed:
            self.data = path.read_bytes()

    def _note(self, path: Path, store: Store) -> None:
        self.sizes.append(path.stat().st_size)
        self.states.append(all_seen(store))

    def whole_writes(self, size: int) -> int:
        """How many of the writes lie whole within so many bytes."""
        return sum(each <= size for each in self.sizes) - 1


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("durability", ["process", "power"])
def test_open_a_file_cut_at_each_byte(tmp_path: Path, clock: ManualClock, closed: bool, durability: Any) -> None:
    """S1: cut anywhere, a log opens with exactly the writes that are whole, says so, and what is written next stays.

    Durability R1, R2 and R5; after a first new write, R4: a second crash or a clean end brings back neither the torn
    bytes nor the state before.
    """
    torn = Torn(tmp_path, clock, closed)
    path = tmp_path / "s"
    step = 1 if durability == "process" else 7
    first = torn.sizes[-2 if closed else -4]
    for size in range(first, len(torn.data) + (not closed), step):
        path.write_bytes(torn.data[:size])
        number = torn.whole_writes(size)
        if size % 10 == 0 or size in torn.sizes:
            with Store(path, clock=clock, read_only=True) as store:
                assert all_seen(store) == torn.states[number], size
                assert store.recovery is not None
            assert path.read_bytes() == torn.data[:size]
        with Store(path, clock=clock, durability=durability) as store:
            assert all_seen(store) == torn.states[number], size
            assert store.recovery is not None
            end = torn.sizes[number]
            assert (store.recovery.offset, store.recovery.dropped_bytes) == (end, size - end), size
            assert (store.recovery.reason is None) is (size == end)
            if size > end:
                assert store.recovery.kept_in is not None
                assert Path(store.recovery.kept_in).read_bytes() == torn.data[end:size]
                os.unlink(store.recovery.kept_in)
            store.map("m").set("new", {"n": size})
            after = all_seen(store)
            crashed = path.read_bytes()
        if size % 10 == 0 or size in torn.sizes:
            with Store(path, clock=clock) as store:
                assert all_seen(store) == after, size
                assert store.recovery is None
        path.write_bytes(crashed)
        with Store(path, clock=clock) as store:
            assert all_seen(store) == after, size
            assert store.recovery is not None
            assert store.recovery.dropped_bytes == 0


def test_open_a_file_cut_before_its_close_mark(tmp_path: Path, clock: ManualClock) -> None:
    """S1: nor does it matter that the log was closed once, and went on: only its end counts (durability R5)."""
    path = tmp_path / "s"
    for key in "ab":
        with Store(path, clock=clock) as store:
            store.map("m").set(key, {})
            crashed = path.read_bytes()
    path.write_bytes(crashed)
    with Store(path, clock=clock) as store:
        assert list(store.map("m")) == ["a", "b"]
        assert store.recovery is not None


@pytest.fixture(scope="module", params=[False, True], ids=["crashed", "closed"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Torn:
    """A file that is whole, without and with the mark of a clean end."""
    return Torn(tmp_path_factory.mktemp("whole"), ManualClock(now=1_000.0), request.param)


@settings(max_examples=40)
@given(garbage=st.binary(min_size=1, max_size=200) | st.integers(1, 9_000).map(bytes))
def test_open_a_file_with_garbage_at_its_end(
    whole: Torn, tmp_path_factory: pytest.TempPathFactory, garbage: bytes
) -> None:
    """S1: what is appended to a log that is no record is dropped with notice, and never served (durability R2, G2)."""
    folder, clock = tmp_path_factory.mktemp("garbage"), ManualClock(now=1_000.0)
    path = folder / "s"
    path.write_bytes(whole.data + garbage)
    with Store(path, clock=clock) as store:
        assert all_seen(store) == whole.states[-1]
        assert store.recovery is not None
        assert store.recovery.dropped_bytes == len(garbage)
        assert store.recovery.kept_in is not None
        assert Path(store.recovery.kept_in).read_bytes() == garbage
        store.map("m").set("new", {})
        after = all_seen(store)
    with Store(path, clock=clock) as store:
        assert all_seen(store) == after
        assert store.recovery is None
    shutil.rmtree(folder)


def test_open_a_file_with_parts_of_itself_at_its_end(tmp_path: Path, clock: ManualClock) -> None:
    """S1: nor whole records at its end that do not belong there: doubled ones, and another log's (durability G1)."""
    (tmp_path / "other").mkdir()
    torn, other = Torn(tmp_path, clock), Torn(tmp_path / "other", clock)
    path = tmp_path / "s"
    tails = [each.data[one:two] for each in (torn, other) for one, two in zip(each.sizes, each.sizes[1:], strict=False)]
    for tail in tails:
        path.write_bytes(torn.data + tail)
        with Store(path, clock=clock) as store:
            assert all_seen(store) == torn.states[-1]
            assert store.recovery is not None
            assert store.recovery.dropped_bytes == len(tail)


def test_tell_of_a_torn_tail(tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """S1: dropping a torn tail is warned of in the log of the program, without keys and data (durability R2)."""
    torn = Torn(tmp_path, clock)
    path = tmp_path / "s"
    path.write_bytes(torn.data[:-3])
    Store(path, clock=clock).close()
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert warned[0].name.startswith("mapitem")
    assert str(path) in warned[0].getMessage()
    assert "deep" not in caplog.text
    caplog.clear()
    Store(path, clock=clock).close()
    assert caplog.records == []

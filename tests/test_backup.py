"""``store.backup``: a consistent copy, on the medium when it returns, while writers go on (durability M5)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kill.workload import feed

import mapitem.disk
from mapitem import HistoryCompacted, Store, StoreClosed, StoreFailed
from mapitem.disk import Disk


class WatchedDisk(Disk):
    """The real disk; it calls ``before`` with the name of each call, and the path or descriptor that it is about."""

    def __init__(self) -> None:
        self.before: Callable[[str, Any], object] = lambda call, what: None

    def create(self, path: str, mode: int) -> int:
        self.before("create", path)
        return super().create(path, mode)

    def set_mode(self, descriptor: int, mode: int) -> None:
        self.before("set_mode", descriptor)
        super().set_mode(descriptor, mode)

    def open_read(self, path: str) -> int:
        self.before("open_read", path)
        return super().open_read(path)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        self.before("read", descriptor)
        return super().read(descriptor, length, offset)

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        self.before("write", descriptor)
        return super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self.before("sync", descriptor)
        super().sync(descriptor)

    def replace(self, source: str, target: str) -> None:
        self.before("replace", source)
        super().replace(source, target)

    def sync_directory(self, path: str) -> None:
        self.before("sync_directory", path)
        super().sync_directory(path)


def store_on(disk: Disk, path: Path | None, **options: Any) -> Store:
    class Simulated(Store):
        _disk = disk

    return Simulated(path, **options)


def fill(store: Store) -> None:
    for number in range(200):
        store.map("m").set(f"{number:03}", {"n": number, "text": "x" * 50}, ttl=number % 3 * 1000)
    store.map("n").set("a", {})
    store.map("n").remove("a")
    store.map("gone").remove_map()
    store.create_map().set("nameless", {})


@pytest.fixture(params=["memory", "file", "compacted file"])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store with some maps."""
    path = None if request.param == "memory" else tmp_path / "store.mapitem"
    with Store(path) as store:
        fill(store)
        if request.param == "compacted file":
            store.compact()
        yield store


def everything(store: Store) -> dict[str, Any]:
    """As ``look``, with the sids, and the nameless maps too."""
    return {
        map_.sid: (
            map_.name,
            map_.revision,
            map_.date_created,
            map_.date_updated,
            map_.date_expires,
            map_.created_by,
            list(map_.range()),
        )
        for map_ in store.maps()
    }


def test_write_a_store_like_any_other(full: Store, tmp_path: Path) -> None:
    """M5: the copy opens as one cleanly closed, shows the same to the last sid and date, and goes on by itself."""
    before = everything(full)
    full.backup(tmp_path / "copy")
    assert everything(full) == before
    full.map("m").set("later", {})
    with Store(tmp_path / "copy") as copy:
        assert copy.recovery is None
        assert everything(copy) == before
        map_ = copy.map("m")
        assert map_.set("next", {}).revision == before[map_.sid][1]
    with Store(tmp_path / "copy") as copy:
        assert copy.recovery is None
        assert "next" in copy.map("m")
        assert "later" not in copy.map("m")
    assert not (tmp_path / "copy.new").exists()


def test_keep_the_history_of_a_file(tmp_path: Path) -> None:
    """M5, F1: the copy of a file serves the same feed; that of a store in memory begins it anew, and says so."""
    for path in (tmp_path / "store.mapitem", None):
        with Store(path) as store:
            for number in range(10):
                store.map("m").set("a", {"n": number})
            target = tmp_path / f"copy of {path is None}"
            store.backup(target)
            shown = feed(store.map("m"))
        with Store(target) as copy:
            if path is not None:
                assert feed(copy.map("m")) == shown
            else:
                with pytest.raises(HistoryCompacted) as caught:
                    copy.map("m").changes("0")
                assert caught.value.oldest == copy.map("m").revision == "a"


def test_back_up_an_empty_store(tmp_path: Path) -> None:
    """M5: of nothing there is a copy too."""
    for path in (tmp_path / "store.mapitem", None):
        with Store(path) as store:
            target = tmp_path / f"copy of {path is None}"
            store.backup(target)
        with Store(target) as copy:
            assert copy.recovery is None
            assert list(copy.maps()) == []


@pytest.mark.parametrize("spelling", ["itself", "a link to it", "another file", "a folder", "a broken link"])
def test_refuse_to_overwrite(full: Store, tmp_path: Path, spelling: str) -> None:
    """M5: a target that is there, be it the store's own file, is ``FileExistsError``; nothing changes."""
    own = tmp_path / "store.mapitem"
    if spelling in ("itself", "a link to it") and not own.exists():
        pytest.skip("a store in memory has no file")
    target = tmp_path / "target"
    if spelling == "itself":
        target = tmp_path / "folder" / ".." / "store.mapitem"
        (tmp_path / "folder").mkdir()
    elif spelling == "a link to it":
        target.symlink_to(own)
    elif spelling == "another file":
        target.write_bytes(b"precious")
    elif spelling == "a folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    if spelling == "a broken link":
        # It leads to a name that is free: that is where the copy goes.
        full.backup(target)
        assert (tmp_path / "nowhere").exists()
        return
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()}
    with pytest.raises(FileExistsError):
        full.backup(target)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir() if each.is_file()} == before


def test_copy_the_moment_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M5: writes, removals and a whole compaction between any two portions of the copying are not in the copy."""
    monkeypatch.setattr(mapitem.disk, "_COPY_BYTES", 1000)
    disk = WatchedDisk()
    with store_on(disk, tmp_path / "store.mapitem") as store:
        fill(store)
        portions = (tmp_path / "store.mapitem").stat().st_size // 1000
        assert portions > 10
        moves: dict[int, Callable[[], object]] = {
            1: lambda: store.map("m").set("000", {"n": -1}),
            2: lambda: store.compact(),
            3: lambda: store.map("m").remove("001"),
            5: lambda: store.map("n").remove_map(),
            7: lambda: store.compact(),
            9: lambda: store.map("m").set("later", {}),
        }
        shown = everything(store)
        count = 0

        def meanwhile(call: str, descriptor: Any) -> None:
            nonlocal count
            if call == "read" and disk.before is meanwhile:
                count += 1
                disk.before = lambda call, what: None
                moves.get(count, int)()
                disk.before = meanwhile

        disk.before = meanwhile
        store.backup(tmp_path / "copy")
        disk.before = lambda call, what: None
        assert count > 9
        assert "later" in store.map("m")
    with Store(tmp_path / "copy") as copy:
        assert copy.recovery is None
        assert everything(copy) == shown


@pytest.mark.parametrize("backing", ["memory", "file"])
def test_copy_no_half_of_what_threads_write(tmp_path: Path, backing: str) -> None:
    """M5: of a batch there is all or nothing in each copy, and what was acknowledged before the call is in it."""
    with Store(tmp_path / "store.mapitem" if backing == "file" else None) as store:
        one, other = store.map("one"), store.map("other")
        acknowledged = 0
        stop = threading.Event()

        def work() -> None:
            nonlocal acknowledged
            number = 0
            while not stop.is_set():
                number += 1
                with store.batch() as batch:
                    batch.set(one, "a", {"n": number})
                    batch.set(other, "a", {"n": number})
                acknowledged = number
                if number % 100 == 0:
                    store.compact()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            while not acknowledged:
                pass
            for attempt in range(12):
                before = acknowledged
                store.backup(tmp_path / f"{attempt}")
                after = acknowledged
                with Store(tmp_path / f"{attempt}", read_only=True) as copy:
                    assert copy.recovery is None
                    number = copy.map("one")["a"].data["n"]
                    assert copy.map("other")["a"].data["n"] == number
                    assert before <= number <= after + 1
                    assert copy.map("one").revision == copy.map("other").revision == f"{number:x}"
        finally:
            stop.set()
            thread.join(30)


@pytest.mark.parametrize("backing", ["memory", "file"])
def test_give_the_copy_its_name_last(tmp_path: Path, backing: str) -> None:
    """M5, M1: written beside its name, synced, named, and the folder synced, so that a crash leaves all or none."""
    disk = WatchedDisk()
    with store_on(disk, tmp_path / "store.mapitem" if backing == "file" else None) as store:
        fill(store)
        calls: list[str] = []
        disk.before = lambda call, what: calls.append(call)
        store.backup(tmp_path / "copy")
        changing = [call for call in calls if call not in ("open_read", "read")]
        writes = changing.count("write")
        assert changing[0] == "create"
        assert writes > 0
        assert changing[-3:] == ["sync", "replace", "sync_directory"]
        assert changing.index("sync") > max(place for place, call in enumerate(changing) if call == "write")


@pytest.mark.parametrize("backing", ["memory", "file"])
@pytest.mark.parametrize("call", ["create", "set_mode", "open_read", "read", "write", "sync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_leave_nothing_when_it_fails(tmp_path: Path, backing: str, call: str, error: BaseException) -> None:
    """M5, F1: a backup that fails raises, leaves no file, and the store goes on; the next one succeeds."""
    disk = WatchedDisk()
    with store_on(disk, tmp_path / "store.mapitem" if backing == "file" else None) as store:
        fill(store)
        shown = everything(store)
        failed = []

        def fail(this: str, what: Any) -> None:
            if this == call:
                failed.append(call)
                raise error

        disk.before = fail
        with suppress(OSError, KeyboardInterrupt):
            store.backup(tmp_path / "copy")
        disk.before = lambda call, what: None
        if backing == "memory" and call in ("open_read", "read", "set_mode"):
            assert not failed
            return
        assert failed
        assert not [each for each in tmp_path.iterdir() if each.name.startswith("copy")]
        assert not (tmp_path / "store.mapitem.new").exists()
        assert everything(store) == shown
        store.map("m").set("after", {})
        store.backup(tmp_path / "copy")
    with Store(tmp_path / "copy") as copy:
        assert "after" in copy.map("m")


def test_back_up_a_store_that_has_failed(tmp_path: Path) -> None:
    """M5, F2: reads go on in a failed store, and a backup is a reading: what it shows can be saved from it."""
    disk = WatchedDisk()
    store = store_on(disk, tmp_path / "store.mapitem", durability="power")
    fill(store)

    def fail(call: str, what: Any) -> None:
        if call == "sync":
            raise OSError(5, "Input/output error")

    disk.before = fail
    with pytest.raises(StoreFailed):
        store.map("m").set("in doubt", {})
    disk.before = lambda call, what: None
    store.backup(tmp_path / "copy")
    with suppress(StoreFailed):
        store.close()
    with Store(tmp_path / "copy") as copy:
        assert copy.recovery is None
        assert len(copy.map("m")) >= 200


def test_refuse_a_closed_store(full: Store, tmp_path: Path) -> None:
    """S1: a closed store makes no copy, and no file."""
    full.close()
    with pytest.raises(StoreClosed):
        full.backup(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.skipif(os.name == "nt", reason="there are no such modes")
def test_give_the_copy_the_files_mode(tmp_path: Path) -> None:
    """M5: who may not read the store may not read its copy."""
    with Store(tmp_path / "store.mapitem") as store:
        (tmp_path / "store.mapitem").chmod(0o600)
        store.backup(tmp_path / "copy")
        assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_keep_writers_waiting_for_no_portion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M5: the lock is not held while bytes are copied: another thread writes between any two portions."""
    monkeypatch.setattr(mapitem.disk, "_COPY_BYTES", 1000)
    disk = WatchedDisk()
    with store_on(disk, tmp_path / "store.mapitem") as store:
        fill(store)
        written = 0

        def meanwhile(call: str, descriptor: Any) -> None:
            nonlocal written
            if call == "read" and threading.current_thread() is threading.main_thread():
                thread = threading.Thread(target=lambda: store.map("m").set("meanwhile", {}))
                thread.start()
                thread.join(10)
                assert not thread.is_alive(), "it waits for the copying"
                written += 1

        disk.before = meanwhile
        store.backup(tmp_path / "copy")
        disk.before = lambda call, what: None
        assert written > 10


@pytest.mark.parametrize("ending", ["new", "lock"])
def test_backup_refuses_names_that_will_not_last(tmp_path: Path, ending: str) -> None:
    """M5: ``store.backup("store.new")`` wrote a whole copy, and the next compaction of ``store`` wrote over it."""
    with Store(tmp_path / "store") as store:
        store.map("m").set("a", {})
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(ValueError, match="will not last"):
            store.backup(tmp_path / f"store.{ending}")
        assert sorted(os.listdir(tmp_path)) == before


def test_follow_no_link_that_lies_where_the_copy_is_written(tmp_path: Path) -> None:
    """M1, M5: a link with the name of the new file was followed: what it led to was lost, and the copy was the link."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    with Store(tmp_path / "store") as store:
        store.map("m").set("a", {"n": 1})
        for name in ("copy.new", "store.new"):
            (tmp_path / name).symlink_to(victim)
        with pytest.raises(OSError, match="symbolic link"):
            store.backup(tmp_path / "copy")
        with pytest.raises(OSError, match="symbolic link"):
            store.compact()
        assert not (tmp_path / "copy").exists()
        store.map("m").set("b", {"n": 2})
    assert victim.read_text() == "precious"
    with Store(tmp_path / "store") as store:  # who opens it takes away what lies there
        store.compact()
        assert list(store.map("m")) == ["a", "b"]
    assert victim.read_text() == "precious"

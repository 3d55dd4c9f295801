"""Opening a file to read it only: beside a writer, on media that cannot be written, without a trace (durability R7).

The plain cases are in ``test_store``; the writer beside the reader is another store in this process, for neither knows
of the other but through the file.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kill.workload import feed, look

import mapitem.compactor
from mapitem import (
    Event,
    HistoryCompacted,
    LogCorrupt,
    MapNotFound,
    MapRemoved,
    NotAStore,
    Store,
    StoreReadOnly,
)
from mapitem.disk import Disk
from mapitem.testing import ManualClock

NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two maps, closed."""
    path = tmp_path / "store.mapitem"
    with Store(path) as store:
        for number in range(20):
            store.map("m").set(f"{number:02}", {"n": number})
        store.map("other").set("a", {}, ttl=60)
    return path


@pytest.fixture
def writer(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


@pytest.fixture
def reader(path: Path, writer: Store) -> Iterator[Store]:
    """The file opened to read, while ``writer`` has it open."""
    with Store(path, read_only=True) as store:
        yield store


def on_disk(disk: Disk, path: Path, **options: Any) -> Store:
    class Simulated(Store):
        _disk = disk

    return Simulated(path, read_only=True, **options)


def trace(folder: Path) -> dict[str, tuple[int, ...]]:
    """What would tell of anything done in the folder."""
    names = [".", *os.listdir(folder)]
    return {
        name: (each.st_ino, each.st_size, each.st_mode, each.st_mtime_ns, each.st_ctime_ns)
        for name in names
        for each in [os.stat(folder / name)]
    }


def use(store: Store) -> None:
    """Everything that a reader can do."""
    look(store)
    for map_ in store.maps():
        feed(map_)
        map_.page(page_size=2)
        with map_.watch(timeout=0) as watch:
            list(watch)
    store.refresh()
    store.sync()


class ReadingDisk(Disk):
    """The real disk, where nothing can be changed; ``before_read`` is called before each read."""

    def __init__(self, before_read: Callable[[], object] = lambda: None) -> None:
        self.before_read = before_read

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        self.before_read()
        return super().read(descriptor, length, offset)

    def open_write(self, path: str) -> int:
        raise OSError(30, "Read-only file system")

    def create(self, path: str, mode: int) -> int:
        raise OSError(30, "Read-only file system")

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        raise OSError(28, "No space left on device")

    def truncate(self, descriptor: int, size: int) -> None:
        raise OSError(30, "Read-only file system")

    def set_mode(self, descriptor: int, mode: int) -> None:
        raise OSError(30, "Read-only file system")

    def sync_directory(self, path: str) -> None:
        raise OSError(30, "Read-only file system")

    def replace(self, source: str, target: str) -> None:
        raise OSError(30, "Read-only file system")

    def remove(self, path: str) -> None:
        raise OSError(30, "Read-only file system")


# ---------------------------------------------------------------- no trace


@pytest.mark.parametrize("ending", ["closed", "torn", "half compacted"])
@pytest.mark.parametrize("durability", ["process", "power"])
def test_leave_no_trace(path: Path, ending: str, durability: Any) -> None:
    """R7: no lock, no file, not a byte or a time is another for having been read; nothing is mended either."""
    (path.parent / "store.mapitem.lock").unlink()
    if ending == "torn":
        with path.open("ab") as file:
            file.write(b"\xb5m\0\0half a record")
    elif ending == "half compacted":
        path.with_name(f"{path.name}.new").write_bytes(b"\x89mapitem")
    before = trace(path.parent)
    with on_disk(ReadingDisk(), path, durability=durability) as store:
        use(store)
        assert len(store.map("m")) == 20
        if ending == "torn":
            assert store.recovery is not None
            assert (store.recovery.dropped_bytes, store.recovery.kept_in) == (17, None)
            assert store.recovery.offset == path.stat().st_size - 17
        else:
            assert store.recovery is None
    assert trace(path.parent) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_read_what_may_not_be_written() -> None:
    """R7: who may only read the file and its folder can open it, and cannot open it to write."""
    # pytest's own folders are closed to others, and the super-user may write anywhere.
    with tempfile.TemporaryDirectory(prefix="mapitem-") as folder:
        path = Path(folder) / "store.mapitem"
        with Store(path) as store:
            store.map("m").set("a", {"n": 1})
        (path.parent / "store.mapitem.lock").unlink()
        path.chmod(0o444)
        path.parent.chmod(0o555)
        before = trace(path.parent)
        answer, end = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                with Store(path, read_only=True) as store:
                    use(store)
                    told = str(store.map("m")["a"].data)
                try:
                    Store(path)
                except PermissionError as error:
                    told += f" {type(error).__name__}"
                os.write(end, told.encode())
            except BaseException as error:
                os.write(end, repr(error).encode())
            finally:
                os._exit(0)
        os.close(end)
        with os.fdopen(answer) as pipe:
            told = pipe.read()
        os.waitpid(pid, 0)
        after = trace(path.parent)
        path.parent.chmod(0o755)
    assert told == "{'n': 1} PermissionError"
    assert after == before


def test_refuse_to_read_what_is_not_there(tmp_path: Path) -> None:
    """R7, S1: a missing file is ``NotAStore``, and stays missing."""
    with pytest.raises(NotAStore):
        Store(tmp_path / "none", read_only=True)
    (tmp_path / "link").symlink_to("none")
    with pytest.raises((NotAStore, FileNotFoundError)):
        Store(tmp_path / "link", read_only=True)
    assert os.listdir(tmp_path) == ["link"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors cannot be listed here")
def test_let_the_file_go_when_forgotten_or_closed(path: Path) -> None:
    """F5: a reader that is forgotten open gives a ``ResourceWarning`` and its descriptor back, as a closed one does."""
    descriptors = set(os.listdir("/proc/self/fd"))
    with Store(path, read_only=True) as store:
        store.refresh()
    assert set(os.listdir("/proc/self/fd")) == descriptors
    store = Store(path, read_only=True)
    with pytest.warns(ResourceWarning, match="was not closed"):
        del store  # the last reference
    assert set(os.listdir("/proc/self/fd")) == descriptors


# ---------------------------------------------------------------- beside a writer


def test_show_the_state_of_its_opening(writer: Store, reader: Store) -> None:
    """R7: what the writer does, compactions and removals included, is not seen before ``refresh``; then it is."""
    shown = look(reader), feed(reader.map("m"))
    moves: list[Callable[[], object]] = [
        lambda: writer.map("m").set("00", {"n": -1}),
        lambda: writer.map("m").remove("01"),
        lambda: writer.compact(),
        lambda: writer.map("other").remove_map(),
        lambda: writer.map("new").set("a", {}),
        lambda: writer.compact(),
        lambda: writer.map("m").set("after", {}),
    ]
    for move in moves:
        move()
        assert (look(reader), feed(reader.map("m"))) == shown
    reader.refresh()
    assert look(reader) == look(writer)
    assert feed(reader.map("m")) == feed(writer.map("m"))
    with pytest.raises(HistoryCompacted):
        reader.map("m").changes("0")


def test_go_on_with_handles_over_a_refresh(writer: Store, reader: Store) -> None:
    """R7: handles of maps that are still there show what is new; those of maps that are gone are dead, for good."""
    kept, gone, replaced = reader.map("m"), reader.map("other"), reader.open_map(reader.map("m").sid)
    walk = kept.range()
    assert next(walk).key == "00"
    dead_walk = gone.range()
    writer.map("m").set("19", {"new": True})
    writer.map("m").set("50", {})
    old_sid = gone.sid
    writer.map("other").remove_map()
    writer.map("other").set("b", {})
    reader.refresh()
    assert kept["19"].data == replaced["19"].data == {"new": True}
    assert len(kept) == 21
    assert kept == reader.map("m")
    keys = [item.key for item in walk]
    assert keys == sorted(keys)
    assert set(keys) >= {f"{number:02}" for number in range(1, 20)}
    for dead in (lambda: gone.get("a"), lambda: len(gone), lambda: next(dead_walk), lambda: gone.revision):
        with pytest.raises(MapNotFound):
            dead()
    assert (gone.sid, gone.name) == (old_sid, "other")
    assert list(reader.map("other")) == ["b"]
    reader.refresh()
    with pytest.raises(MapNotFound):
        gone.get("a")
    assert kept["50"].data == {}


def test_tell_a_watcher_what_a_refresh_brings(writer: Store, reader: Store) -> None:
    """R7, E3: a watch on a reader goes on at each refresh, none lost and none twice, and ends with its map."""
    map_ = reader.map("m")
    with map_.watch(since="12", timeout=0) as watch, reader.map("other").watch(timeout=0) as dying:
        assert [event.revision for event in watch] == ["12", "13"]
        writer.map("m").set("a", {})
        assert list(watch) == []
        reader.refresh()
        assert [event.revision for event in watch] == ["14"]
        writer.map("m").remove("a")
        writer.map("other").remove_map()
        reader.refresh()
        reader.refresh()
        assert [event.revision for event in watch] == ["15"]
        assert [type(event) for event in dying] == [MapRemoved]
        writer.map("m").set("a", {})
        writer.compact()
        reader.refresh()
        with pytest.raises(HistoryCompacted):
            next(watch)


@pytest.mark.parametrize("expired", [True, False])
def test_tell_a_watcher_whether_the_map_expired(tmp_path: Path, expired: bool) -> None:
    """E1, R7: a map that had expired and was dropped was told as removed by hand after a refresh."""
    clock = ManualClock(now=NOW)
    with Store(tmp_path / "store", clock=clock) as writer:
        short = writer.map("short", ttl=10)
        with Store(tmp_path / "store", read_only=True, clock=clock) as reader:
            watch = reader.open_map("short").watch(timeout=0)
            if expired:
                clock.advance(10)
                writer.purge()
            else:
                short.remove_map()
            reader.refresh()
            assert [(type(event), getattr(event, "expired", None)) for event in watch] == [(MapRemoved, expired)]


@pytest.mark.parametrize("damage", ["gone", "empty", "foreign", "damaged", "a directory"])
def test_keep_the_old_state_when_a_refresh_fails(path: Path, damage: str) -> None:
    """R7: if ``refresh`` raises, the store is as it was before: content, feed, handles; a later one may succeed."""
    with Store(path, read_only=True) as reader:
        map_ = reader.map("m")
        shown = look(reader), feed(map_)
        path.rename(path.with_name("aside"))
        whole = path.with_name("aside").read_bytes()
        if damage == "a directory":
            path.mkdir()
        elif damage != "gone":
            middle = len(whole) // 2
            damaged = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
            path.write_bytes({"empty": b"", "foreign": b"something else", "damaged": damaged}[damage])
        for _ in range(2):
            if damage == "damaged":
                # The file was synced to its end when it was closed.
                with pytest.raises(LogCorrupt):
                    reader.refresh()
            else:
                with pytest.raises(NotAStore):
                    reader.refresh()
            assert (look(reader), feed(map_)) == shown
            assert list(map_.changes("0"))
        if damage == "a directory":
            path.rmdir()
        path.with_name("aside").replace(path)
        reader.refresh()
        assert (look(reader), feed(map_)) == shown


def test_keep_the_old_state_when_the_clock_fails_in_a_refresh(path: Path, writer: Store) -> None:
    """R7: a clock that raised in ``refresh`` left the new file under the old state: its feed was read from there."""
    clock = ManualClock(now=1_000.0)
    times: list[Any] = []
    with Store(path, read_only=True, clock=lambda: times.pop() if times else clock()) as reader:
        map_ = reader.map("m")
        shown = look(reader), feed(map_)
        writer.map("m").set("new", {"text": "x" * 100})
        writer.compact()
        times.append("no time at all")
        with pytest.raises(ValueError, match="clock"):
            reader.refresh()
        assert (look(reader), feed(map_)) == shown
        reader.refresh()
        assert map_["new"].data == {"text": "x" * 100}


def test_read_again_what_looked_damaged_in_mid_write(path: Path, writer: Store) -> None:
    """R7: a record seen half written, with whole ones behind it, looks like damage; no test saw it read anew."""
    map_ = writer.map("m")
    map_.set("whole", {"n": 0})
    place = path.stat().st_size
    map_.set("half", {"n": 1})
    writer.sync()
    map_.set("behind", {"n": 2})

    class MidWrite(Disk):
        is_through = False

        def read(self, descriptor: int, length: int, offset: int) -> bytes:
            data = super().read(descriptor, length, offset)
            if self.is_through or not offset <= place < offset + len(data):
                return data
            self.is_through = True
            map_.set("later", {"n": 3})
            return data[: place - offset] + bytes(len(data) - (place - offset))

    disk = MidWrite()
    with on_disk(disk, path) as reader:
        assert disk.is_through
        assert look(reader) == look(writer)


def test_open_in_the_middle_of_a_record(path: Path, writer: Store) -> None:
    """R7, R5: a record that the writer is in the middle of is not there yet, as ``recovery`` says; then it is."""
    writer.map("m").set("before", {})
    size = path.stat().st_size
    writer.map("m").set("last", {"text": "x" * 100})
    whole = path.read_bytes()
    os.truncate(path, size + 50)
    with Store(path, read_only=True) as reader:
        assert "last" not in reader.map("m")
        assert reader.recovery is not None
        assert (reader.recovery.offset, reader.recovery.dropped_bytes) == (size, 50)
        path.write_bytes(whole)
        reader.refresh()
        assert reader.recovery.dropped_bytes == 0
        assert reader.map("m")["last"].data == {"text": "x" * 100}


@pytest.mark.parametrize("reads", range(1, 5))
def test_open_while_a_writer_goes_on(path: Path, writer: Store, reads: int) -> None:
    """R7: whatever the writer adds between any two reads of the file, what is shown is a state that it had."""
    writer._durability = "power"
    count = 0
    states: list[Any] = []

    def write() -> None:
        nonlocal count
        count += 1
        if count == reads:
            for number in range(3):
                states.append(look(writer))
                writer.map("m").set("written", {"n": number, "text": "x" * 2000})
            states.append(look(writer))

    with on_disk(ReadingDisk(write), path) as reader:
        shown = look(reader)
        assert shown in (states or [look(writer)])
        assert reader.recovery is None or reader.recovery.dropped_bytes >= 0


def test_take_no_half_record_of_a_writer_for_damage(path: Path, writer: Store) -> None:
    """R7, R3: a record seen half, then whole with synced ones behind it, is a writer at work, not ``LogCorrupt``."""
    writer._durability = "power"
    writer.map("m").set("before", {})
    size = path.stat().st_size
    writer.map("m").set("half", {"text": "x" * 500})
    for number in range(3):
        writer.map("m").set(f"more {number}", {})
    whole = path.read_bytes()
    os.truncate(path, size + 300)

    class Watched(ReadingDisk):
        has_met_it = False

        def read(self, descriptor: int, length: int, offset: int) -> bytes:
            data = super().read(descriptor, length, offset)
            self.has_met_it |= offset + len(data) == size + 300
            return data

        def size(self, descriptor: int) -> int:
            # Only once the reader has met the half record does the writer come to the end of it.
            if self.has_met_it:
                path.write_bytes(whole)
            return super().size(descriptor)

    disk = Watched()
    with on_disk(disk, path) as reader:
        assert disk.has_met_it
        keys = set(reader.map("m"))
        assert "before" in keys
        assert ("half" in keys) == ("more 2" in keys)
        reader.refresh()
        assert "more 2" in reader.map("m")


def test_open_while_the_writer_compacts(path: Path, writer: Store) -> None:
    """R7, M1: a compaction that takes the file's place in the middle of an opening is not noticed."""
    expected = look(writer)
    for reads in range(1, 5):
        count = 0

        def compact(reads: int = reads) -> None:
            nonlocal count
            count += 1
            if count == reads:
                writer.compact()

        with on_disk(ReadingDisk(compact), path) as reader:
            assert look(reader) == expected
            assert len(list(reader.map("m").changes(f"{feed(reader.map('m'))[0]:x}"))) in (0, 20)
            reader.refresh()
            assert look(reader) == expected


def test_judge_expiry_by_its_own_clock(path: Path) -> None:
    """R7, T3: what is due is absent, though nobody removed it; a refresh does not bring it back."""
    clock = ManualClock(NOW)
    with Store(path, clock=clock) as writer, Store(path, read_only=True, clock=clock) as reader:
        writer.map("m").set("short", {}, ttl=5)
        writer.map("brief", ttl=5)
        reader.refresh()
        assert "short" in reader.map("m")
        clock.advance(5)
        assert "short" not in reader.map("m")
        reader.refresh()
        assert "short" not in reader.map("m")
        assert "brief" not in [map_.name for map_ in reader.maps()]
        assert reader.map("m").revision == writer.map("m").revision


def test_refuse_to_write(reader: Store, path: Path, tmp_path: Path) -> None:
    """S1: writes are ``StoreReadOnly``; what only reads is served, and a backup is a reading."""
    map_ = reader.map("m")
    writes: list[Callable[[], object]] = [
        lambda: map_.set("a", {}),
        lambda: map_.remove("00"),
        lambda: map_.purge(),
        lambda: map_.remove_map(),
        lambda: map_.set_ttl(5),
        lambda: reader.create_map(),
        lambda: reader.map("new"),
        lambda: reader.batch(),
        lambda: reader.purge(),
        lambda: reader.compact(),
    ]
    for write in writes:
        with pytest.raises(StoreReadOnly):
            write()
    with map_.on(Event, print):
        pass


@pytest.mark.parametrize("compacted", [False, True])
def test_back_up_what_it_shows(writer: Store, reader: Store, tmp_path: Path, compacted: bool) -> None:
    """M5, R7: a backup of a reader is of the state that it shows, also when the file has been replaced since."""
    shown = look(reader)
    writer.map("m").set("later", {"text": "x" * 3000})
    if compacted:
        writer.compact()
        writer.map("m").set("later still", {})
    reader.backup(tmp_path / "backup")
    with Store(tmp_path / "backup") as copy:
        assert copy.recovery is None
        assert look(copy) == shown


def test_read_the_feed_of_a_file_that_was_compacted_by_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R7, F1: the feed of the state that is shown is served whole, although the writer's own begins later by now."""
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", 4096)
    with Store(path) as writer, Store(path, read_only=True) as reader:
        walk = reader.map("m").changes("0")
        first = next(walk)
        for number in range(500):
            writer.map("m").set("hot", {"n": number})
        with pytest.raises(HistoryCompacted):
            writer.map("m").changes("0")
        assert [first.revision, *(event.revision for event in walk)] == [f"{number:x}" for number in range(20)]

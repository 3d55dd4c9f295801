"""Appending through a map of the file's end: when, what it leaves behind, and that it gives way to a plain write.

Crashes and failing calls are tried over maps as over plain writes by ``test_crash``, ``test_faults`` and ``test_kill``;
here stand the rules that are about maps alone.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from unittest import mock

import pytest
from damage_campaign import memory_folder
from hypothesis import given
from hypothesis import strategies as st
from log_reader import read_log
from test_log import MAP_RECORD, Recorder, record, stored
from test_log import open_log as open_plainly
from test_processes import fork, idle_child, in_child, open_files

import mapitem.disk
import mapitem.preallocation
from mapitem import LogCorrupt, NotAStore, Store, StoreFailed
from mapitem.disk import Disk
from mapitem.frames import ALLOCATED_BYTES, CLOSE, CUT, FRAME_BYTES, HEADER_BYTES, Header, pack_frame
from mapitem.log import FileLog
from mapitem.opening import open_to_read
from mapitem.records import encode_record
from mapitem.repair import check, repair

KIB = 1024


def may_map(folder: str | Path) -> bool:
    """Whether space is promised there: not on most file systems, nor in a chroot, of whose mount Linux may not tell."""
    try:
        return mapitem.disk._promises_space(os.stat(folder).st_dev, Disk()._mounts())
    except OSError:
        return False


class MapRecorder(Recorder):
    """The real disk, which takes every file system for one that promises space, and notes what is mapped."""

    def __init__(self) -> None:
        super().__init__()
        self.mapped: list[RecordedWindow] = []

    def _mounts(self) -> bytes:
        return b""

    def allocate(self, descriptor: int, start: int, end: int) -> None:
        self._note("allocate")
        with mock.patch.object(mapitem.disk, "_promises_space", return_value=True):
            super().allocate(descriptor, start, end)

    def map(self, descriptor: int, start: int, end: int) -> RecordedWindow:
        self._note("map")
        window = RecordedWindow(self, super().map(descriptor, start, end))
        self.mapped.append(window)
        return window

    def truncate(self, descriptor: int, size: int) -> None:
        assert not self.mapped, "the file is cut while it is mapped"
        super().truncate(descriptor, size)


class RecordedWindow:
    def __init__(self, disk: MapRecorder, window: Any) -> None:
        self._disk = disk
        self._window = window

    def __setitem__(self, place: slice, data: bytes) -> None:
        self._disk._note("assign")
        self._window[place] = data

    def close(self) -> None:
        self._window.close()
        with suppress(ValueError):
            self._disk.mapped.remove(self)


def open_log(disk: Disk, path: str, *, rewrite: bool = False, map_after: int = 0) -> FileLog:
    """A log that maps after so many bytes."""
    with mock.patch.object(mapitem.preallocation, "_AHEAD_AFTER_BYTES", map_after):
        return open_plainly(disk, path, rewrite=rewrite)


pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space cannot be allocated ahead here")


@pytest.fixture
def disk() -> MapRecorder:
    return MapRecorder()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "log.mapitem")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps from the first record on."""
    monkeypatch.setattr(mapitem.preallocation, "_AHEAD_AFTER_BYTES", 0)


@pytest.fixture
def log(disk: MapRecorder, path: str) -> Iterator[FileLog]:
    log = open_log(disk, path)
    log.append(MAP_RECORD)
    assert disk.taken()[-3:] == ["allocate", "map", "assign"]
    yield log
    disk.refused.clear()
    log.abandon()
    assert (disk.open, disk.mapped) == (set(), [])


# ---------------------------------------------------------------- appending


def test_append_without_a_call(log: FileLog, disk: MapRecorder, path: str) -> None:
    """P1: a record is in the file when its append has returned, and nothing was asked of the operating system."""
    places = [log.append(record(number)) for number in range(50)]
    assert disk.taken() == ["assign"] * 50
    numbers, scan = stored(path)
    assert (numbers, scan.end, scan.reason, scan.torn_bytes) == (list(range(50)), log.size, None, 0)
    assert scan.size == os.path.getsize(path) == ALLOCATED_BYTES
    assert [operations[0][2] for operations in log.read(places)] == list(range(50))
    log.sync()
    assert disk.taken() == ["sync"]


def test_begin_to_map_only_when_it_is_worth_it(disk: MapRecorder, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file to which little is written stays as small as that, and its first writes are plain."""
    monkeypatch.setattr(mapitem.preallocation, "_AHEAD_AFTER_BYTES", 8 * KIB)
    log = open_log(disk, path, map_after=8 * KIB)
    first = log.size
    log.append(MAP_RECORD)
    disk.taken()
    while log.size < first + 8 * KIB - 300:
        log.append(record(1))
        assert os.path.getsize(path) == log.size
    assert set(disk.taken()) == {"write"}
    for _ in range(10):
        log.append(record(1))
    assert "assign" in disk.taken()
    new = log.begin()
    new.append(encode_record(MAP_RECORD))
    log.adopt(new)
    disk.taken()
    log.append(record(2))
    assert disk.taken() == ["write"]
    log.close(sync=False)


def test_move_on_with_the_file(log: FileLog, disk: MapRecorder, path: str) -> None:
    """A small part is mapped at a time; what is allocated ahead grows with the file, up to a MiB or so."""
    moves: list[tuple[int, int]] = []
    length = 0
    while log.size < 10 * KIB * KIB:
        log.append(record(7, 100))
        assert len(disk.mapped) == 1
        length = max(length, log._ahead.mapped_to - log._ahead.mapped_from)
        if disk.taken() != ["assign"]:
            moves.append((log.size, os.path.getsize(path) - log.size))
    assert length <= (1024 + 2 * 64) * KIB
    assert moves[0][1] < 128 * KIB
    assert all(ahead < size // 8 + 128 * KIB for size, ahead in moves)
    assert 512 * KIB < moves[-1][1] <= (1024 + 64) * KIB
    assert len(moves) < 40
    assert stored(path)[1].end == log.size


def test_write_plainly_what_is_large(log: FileLog, disk: MapRecorder, path: str) -> None:
    """A record that no part of the file was mapped for is one plain write; smaller ones go on through a map."""
    log.append(record(1, 20_000))
    assert disk.taken() == ["write"]
    log.append(record(2))
    assert disk.taken() == ["allocate", "map", "assign"]
    log.append(record(3, 20_000))
    log.append(record(4, 20_000))
    assert [call for call in disk.taken() if call != "assign"] == ["write"] * 2
    log.append(record(5))
    assert [number for number in dict.fromkeys(stored(path)[0])] == [1, 2, 3, 4, 5]


def test_allocate_and_do_not_map_where_writes_wait(tmp_path: Path) -> None:
    """P4: at ``"power"`` a page may be on its way to the disk; writes go into space that is there, but by calls."""
    disk = MapRecorder()

    class Simulated(Store):
        _disk = disk

    path = tmp_path / "store"
    with Simulated(path, durability="power") as store:
        map_ = store.map("m")
        for number in range(2000):
            map_.set(f"{number % 7}", {"text": "x" * 100})
            assert os.path.getsize(path) % (64 * KIB) == 0
        assert disk.calls.count("allocate") < 10
        assert not {"map", "assign"} & set(disk.calls)
        size = store._log.size
    assert size < os.path.getsize(path) < size + 100
    with Store(path) as store:
        assert store.recovery is None
        assert len(store.map("m")) == 7


def test_write_plainly_when_told_so(tmp_path: Path) -> None:
    """``mapped=False``: every append is a write, and the file ends with its last record always."""
    disk = MapRecorder()

    class Simulated(Store):
        _disk = disk

    for level in ("process", "power"):
        with Simulated(tmp_path / "store", mapped=False, durability=level) as store:  # type: ignore[arg-type]
            for number in range(500):
                store.map("m").set(f"{number}", {"text": "x" * 100})
                assert os.path.getsize(tmp_path / "store") == store._log.size
            store.compact()
            store.map("m").set("a", {})
            assert not {"allocate", "map", "assign"} & set(disk.calls)
    with Simulated(tmp_path / "store") as store:
        store.map("m").set("a", {})
        assert {"allocate", "map", "assign"} <= set(disk.calls)
    for wrong in (None, 1, "no"):
        with pytest.raises(TypeError, match="mapped must be a bool"):
            Store(mapped=wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------- where it may be


@pytest.mark.parametrize(
    ("kind", "options", "may"),
    [
        ("ext4", "rw,discard", True),
        ("tmpfs", "rw,size=4k", True),
        ("ext4", "rw,dax=always", False),
        *[(kind, "rw", False) for kind in ("xfs", "btrfs", "zfs", "overlay", "nfs4", "fuse.sshfs", "9p", "ext3")],
    ],
)
def test_map_only_where_space_is_promised(kind: str, options: str, may: bool) -> None:
    """F1: a page that is allocated can be written for sure: not where writes go to new blocks, or over a network."""
    mounts = (
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        f"30 27 8:1 / /a\\040-\\040b rw,relatime shared:1 master:2 - {kind} /dev/sda1 {options}\n"
        "31 27 8:17 / /other rw - xfs /dev/sdb1 rw\n"
    ).encode()
    assert mapitem.disk._promises_space(os.makedev(8, 1), mounts) is may
    assert not mapitem.disk._promises_space(os.makedev(8, 17), mounts)
    assert not mapitem.disk._promises_space(os.makedev(8, 2), mounts)
    assert not mapitem.disk._promises_space(os.makedev(8, 1), b"")


def test_know_a_file_system_that_has_no_source() -> None:
    """F1: ``mount -t tmpfs "" DIR`` leaves a field of the list empty, which once failed every write to the file."""
    mounts = b"22 27 0:44 / /mnt rw,relatime - tmpfs  rw,size=40960k\n"
    assert mapitem.disk._promises_space(os.makedev(0, 44), mounts)
    assert not mapitem.disk._promises_space(os.makedev(0, 45), mounts + b"x\n\n1 2 0:45\n")


def test_ask_for_the_mounts_once(path: str) -> None:
    """Where a thousand file systems are mounted, to read their list at each allocation took longer than the writes."""

    class Asked(Disk):
        times = 0

        def _mounts(self) -> bytes:
            self.times += 1
            return super()._mounts()

    disk = Asked()
    log = open_log(disk, path)
    log.append(MAP_RECORD)
    for number in range(5000):
        log.append(record(number))
    log.close(sync=False)
    assert disk.times == 1


def test_write_plainly_where_nothing_is_promised(path: str) -> None:
    """F1: on another file system, and where mounts cannot be asked for, a store is as it would be without maps."""

    class Elsewhere(Recorder):
        def __init__(self, mounts: bytes | None) -> None:
            super().__init__()
            self._list = mounts

        def _mounts(self) -> bytes:
            if self._list is None:
                raise FileNotFoundError(2, "no /proc")
            return self._list

        def map(self, descriptor: int, start: int, end: int) -> Any:
            raise AssertionError("mapped all the same")

    for mounts in (None, b""):
        disk = Elsewhere(mounts)
        log = open_log(disk, path)
        if log.position == 0 and log.size < 100:
            log.append(MAP_RECORD)
        for number in range(3):
            log.append(record(number))
        assert os.path.getsize(path) == log.size
        log.close(sync=False)
    assert stored(path)[0] == [0, 1, 2] * 2


# ---------------------------------------------------------------- F1: no space, no map


@pytest.mark.parametrize("refused", ["allocate", "map"])
@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EOPNOTSUPP, errno.ENODEV, errno.ENOMEM]
)
def test_write_plainly_what_cannot_be_mapped(path: str, refused: str, code: int) -> None:
    """F1: neither fails the write; nothing is left allocated, and it is tried again only when much was written."""
    disk = MapRecorder()
    log = open_log(disk, path)
    disk.refused[refused] = OSError(code, "no")
    log.append(MAP_RECORD)
    disk.taken()
    for number in range(100):
        log.append(record(number))
    assert disk.taken() == ["write"] * 100
    assert (os.path.getsize(path), log.failed) == (log.size, None)
    disk.refused.clear()
    while "assign" not in (calls := disk.taken()):
        log.append(record(0, 10))
        assert log.size < 40 * KIB
    assert calls == ["allocate", "map", "assign"]
    log.append(record(1000))
    assert stored(path)[0][-1] == 1000
    log.close(sync=True)
    assert stored(path)[1].is_clean


def test_take_away_what_was_allocated_in_vain(disk: MapRecorder, path: str) -> None:
    """F1: an allocation that fails half way may have made the file longer; the space is given back to others."""
    log = open_log(disk, path)

    def by_half(descriptor: int, start: int, end: int) -> None:
        os.posix_fallocate(descriptor, start, (end - start) // 2)
        raise OSError(errno.ENOSPC, "full")

    disk.allocate = by_half  # type: ignore[method-assign]
    log.append(MAP_RECORD)
    assert os.path.getsize(path) == log.size
    # And where not even that succeeds, the end takes it away.
    log._ahead.allocate_from = 0
    disk.refused["truncate"] = OSError(errno.EIO, "no")
    log.append(record(1))
    assert os.path.getsize(path) > log.size
    assert stored(path)[0] == [1]
    disk.refused.clear()
    log.close(sync=True)
    assert stored(path)[1].is_clean


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize("at", ["assign", "allocate", "map"])
def test_cut_what_was_interrupted(log: FileLog, disk: MapRecorder, path: str, at: str, error: BaseException) -> None:
    """F3: an append that is interrupted is not in the file, whose map is let go before it is cut."""
    if at != "assign":
        log._ahead.unmap()
    size = log.size
    disk.refused[at] = error
    with pytest.raises(type(error)):
        log.append(record(1))
    assert disk.taken()[-2:] == ["truncate", "sync"]
    assert (os.path.getsize(path), log.size, log.failed) == (size, size, None)
    disk.refused.clear()
    assert log.append(record(2)) == size + FRAME_BYTES + len(CUT)
    # The mark of the cut goes where nothing was allocated ahead.
    assert disk.taken() == ["truncate", "sync", "write", "sync", "allocate", "map", "assign"]
    assert stored(path)[0] == [2]


def test_cut_an_append_that_was_interrupted_when_it_was_done(log: FileLog, disk: MapRecorder, path: str) -> None:
    """F3: a whole record whose append was interrupted behind the assignment is cut, and not found by anybody."""
    window = log._ahead.window

    class Interrupting:
        def __setitem__(self, place: slice, data: bytes) -> None:
            window[place] = data  # type: ignore[index]
            raise KeyboardInterrupt

        def close(self) -> None:
            window.close()  # type: ignore[union-attr]

    log._ahead.window = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        log.append(record(1))
    assert stored(path)[0] == []
    log.append(record(2))
    assert stored(path)[0] == [2]


FULL_DISK = """
    import errno, os, sys
    from mapitem import Store
    folder, mapped = sys.argv[1], sys.argv[2] == "True"
    store = Store(f"{folder}/store", mapped=mapped, compact_at=None)
    map_ = store.map("m")
    map_.set("0", {"text": "x" * 9000})
    for number in range(1, 40):
        map_.set(f"{number}", {"text": "x" * 300})
    assert (store._log._ahead.window is not None) is mapped
    # Somebody else takes all the space there is; what was allocated stays ours.
    with open(f"{folder}/other", "wb", buffering=0) as other:
        try:
            while True:
                other.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    refused = 0
    for number in range(40, 3000):
        before = map_.revision
        try:
            map_.set(f"{number}", {"text": "x" * 300})
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            assert f"{number}" not in map_ and map_.revision == before
            refused += 1
    count = len(map_)
    assert refused > 2000, refused
    os.unlink(f"{folder}/other")
    for number in range(3000, 3400):
        map_.set(f"{number}", {"text": "x" * 300})
    assert (store._log._ahead.window is not None) is mapped
    store.close()
    with Store(f"{folder}/store") as store:
        assert store.recovery is None
        assert len(store.map("m")) == count + 400
    print("served", count)
"""


@pytest.mark.parametrize("mapped", [True, False])
def test_meet_a_full_disk_with_an_error(tmp_path: Path, mapped: bool) -> None:
    """F1: a file system that is full in earnest: ``ENOSPC`` and no signal, and writes again when there is space."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = 'mount -t tmpfs -o size=512k tmpfs "$1" && exec "$2" -c "$3" "$1" "$4"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", str(folder), sys.executable, "", str(mapped)]
    try:
        subprocess.run([*command[:-2], "", str(mapped)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    command[-2] = textwrap.dedent(FULL_DISK)
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(mapitem.__file__))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("served")


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("sync", [True, False])
def test_leave_no_zeros_when_closed(log: FileLog, disk: MapRecorder, path: str, sync: bool) -> None:
    """R5: what was allocated ahead is taken away before the mark of a clean end."""
    log.append(record(1))
    size = log.size
    disk.taken()
    log.close(sync=sync)
    assert disk.taken() == (["truncate", "sync", "write", "sync"] if sync else ["truncate", "write"])
    assert os.path.getsize(path) == size + FRAME_BYTES + len(CLOSE)
    assert (stored(path)[1].is_clean, disk.open, disk.mapped) == (True, set(), [])


def test_take_the_mark_off_before_anything_is_mapped(log: FileLog, disk: MapRecorder, path: str) -> None:
    """R5: the mark of a clean end is off the medium before the file is allocated or written to."""
    log.close(sync=True)
    again = open_log(disk, path)
    disk.taken()
    again.append(record(1))
    assert disk.taken() == ["truncate", "sync", "allocate", "map", "assign"]
    again.close(sync=True)
    assert stored(path)[0] == [1]


def test_let_go_even_if_the_zeros_stay(log: FileLog, disk: MapRecorder, path: str) -> None:
    """F5: a close that cannot take them away raises, and has let go; the next opening mends it."""
    log.append(record(1))
    disk.refused["truncate"] = OSError(errno.EIO, "no")
    with pytest.raises(OSError, match="no"):
        log.close(sync=True)
    assert (disk.open, disk.mapped, log.descriptor) == (set(), [], -1)
    disk.refused.clear()
    again = open_log(disk, path)
    assert again.recovery is not None
    assert (again.recovery.dropped_bytes, os.path.getsize(path)) == (0, again.size)
    again.close(sync=True)
    assert stored(path)[0] == [1]


def test_let_the_map_go_with_a_log_that_failed(path: str) -> None:
    """F5: what is in doubt takes no more writes, and is let go, map and all."""
    disk = MapRecorder()
    log = open_log(disk, path)
    log.append(MAP_RECORD)
    assert len(disk.mapped) == 1
    disk.refused["sync"] = OSError(errno.EIO, "no")
    for attempt in (log.sync, lambda: log.append(record(1)), lambda: log.close(sync=True)):
        with pytest.raises(StoreFailed):
            attempt()
    assert (disk.open, disk.mapped) == (set(), [])


def test_map_the_new_file_after_a_compaction(log: FileLog, disk: MapRecorder, path: str) -> None:
    """M1: the map of the old file is let go with it, and never written to again."""
    log.append(record(1))
    new = log.begin()
    new.append(encode_record(MAP_RECORD))
    log.adopt(new)
    assert disk.mapped == []
    assert os.path.getsize(path) == log.size
    disk.taken()
    log.append(record(2))
    assert disk.taken() == ["allocate", "map", "assign"]
    assert stored(path)[0] == [2]


def test_go_on_through_the_map_if_the_new_file_fails(log: FileLog, disk: MapRecorder, path: str) -> None:
    """F4: a compaction that fails before the rename leaves the old log in use, map and all."""
    new = log.begin()
    new.append(encode_record(MAP_RECORD))
    disk.refused["replace"] = OSError(errno.EIO, "no")
    with pytest.raises(OSError, match="no"):
        log.adopt(new)
    new.discard()
    disk.taken()
    log.append(record(1))
    assert disk.taken() == ["assign"]
    assert stored(path)[0] == [1]


# ---------------------------------------------------------------- zeros behind the last record


def unclean(path: str, records: int = 3) -> tuple[bytes, int]:
    """The content of a log that was left open, without zeros, and where its last record begins."""
    disk = MapRecorder()
    log = open_log(disk, path)
    log.append(MAP_RECORD)
    for number in range(records):
        place = log.append(record(number))
    size = log.size
    log.abandon()
    return Path(path).read_bytes()[:size], place


def padded(log: bytes, more: int = 0) -> bytes:
    return log.ljust(ALLOCATED_BYTES * (1 + more), b"\0")


@pytest.mark.parametrize("rewrite", [False, True])
def test_open_a_log_with_zeros_behind(path: str, rewrite: bool) -> None:
    """R2, R4, R5: what was allocated ahead is cut, and nothing was dropped; the end was unclean all the same."""
    log, _ = unclean(path)
    Path(path).write_bytes(padded(log, more=3))
    report = check(path)
    assert (report.state, report.torn_bytes, report.offset, report.records) == ("unclean", 0, None, 4)
    with Store(path, read_only=True) as reader:
        assert repr(reader.recovery) == f"Recovery(dropped_bytes=0, offset={len(log)}, reason=None, kept_in=None)"
    assert read_log(Path(path))["dropped_bytes"] == 0
    saved = repair(path, f"{path}.out")
    assert (saved.complete, saved.lost_bytes, saved.records) == (True, 0, 4)
    again = open_log(Disk(), path, rewrite=rewrite)
    assert again.recovery is not None
    assert (again.recovery.dropped_bytes, again.recovery.offset, again.recovery.reason) == (0, len(log), None)
    assert os.path.getsize(path) == again.size == len(log)
    assert sorted(os.listdir(os.path.dirname(path))) == ["log.mapitem", "log.mapitem.lock", "log.mapitem.out"]
    again.append(record(9))
    again.close(sync=True)
    assert stored(path)[0] == [0, 1, 2, 9]


@pytest.mark.parametrize("kept", [1, 10, FRAME_BYTES, FRAME_BYTES + 3])
def test_drop_a_torn_record_in_front_of_zeros(path: str, kept: int) -> None:
    """R2: the bytes of the torn record are dropped and kept aside; the zeros behind it do not count."""
    log, place = unclean(path)
    torn = log[: place + kept].rstrip(b"\0")
    Path(path).write_bytes(padded(torn))
    assert check(path).torn_bytes == len(torn) - place
    again = open_log(Disk(), path)
    assert again.recovery is not None
    assert (again.recovery.dropped_bytes, again.recovery.offset) == (len(torn) - place, place)
    assert Path(str(again.recovery.kept_in)).read_bytes() == torn[place:]
    again.close(sync=True)
    assert stored(path)[0] == [0, 1]


def test_count_zeros_that_nobody_allocated(path: str) -> None:
    """R2, G2: at the end of a file of any other size zeros are what was lost, and told."""
    log, place = unclean(path)
    Path(path).write_bytes(log[:place] + bytes(len(log) - place))
    with Store(path, read_only=True) as reader:
        assert reader.recovery is not None
        assert reader.recovery.dropped_bytes == len(log) - place
    assert read_log(Path(path))["dropped_bytes"] == len(log) - place
    assert not repair(path, f"{path}.out").complete


@pytest.mark.parametrize("is_promised", [False, True])
def test_tell_zeros_in_the_middle(path: str, is_promised: bool) -> None:
    """R2, R3: zeros with a whole record behind are a tear, or damage if that record says they had been synced."""
    log, _ = unclean(path, 1)
    header = Header(log[16:32])
    payloads = [encode_record(record(number)) for number in range(3)]
    end = len(log)
    for number, payload in enumerate(payloads):
        log += pack_frame(payload, 3 + number, len(log) if is_promised else end, header.seed)
    frame = len(pack_frame(payloads[0], 0, 0, 0))
    Path(path).write_bytes(padded(log[:end] + bytes(frame) + log[end + frame :]))
    if is_promised:
        with pytest.raises(LogCorrupt) as caught:
            open_log(Disk(), path)
        assert (caught.value.offset, caught.value.records_after) == (end, 2)
        assert check(path).damaged
    else:
        again = open_log(Disk(), path)
        assert again.recovery is not None
        assert again.recovery.dropped_bytes == len(log.rstrip(b"\0")) - end
        again.append(record(9))
        again.close(sync=True)
        assert stored(path)[0] == [0, 9]
    assert not repair(path, f"{path}.out").complete or not is_promised


def test_refuse_a_header_with_nothing_but_zeros(path: str) -> None:
    """R6: zeros are no base."""
    log, _ = unclean(path)
    for what, error in ((log[:HEADER_BYTES], "a header and nothing more"), (b"", "it does not begin")):
        Path(path).write_bytes(padded(what))
        with pytest.raises(NotAStore, match=error):
            open_log(Disk(), path)
        assert Path(path).read_bytes() == padded(what)


def test_take_a_mark_in_front_of_zeros_for_none(path: str) -> None:
    """R5: who died between the mark and the end of what it takes away did not close the file."""
    unclean(path)
    open_log(Disk(), path).close(sync=True)
    assert stored(path)[1].is_clean
    Path(path).write_bytes(padded(Path(path).read_bytes()))
    assert not read_log(Path(path))["clean"]
    again = open_log(Disk(), path)
    assert again.recovery is not None
    again.append(record(9))
    again.close(sync=True)
    assert stored(path)[0] == [0, 1, 2, 9]


@given(
    kept=st.integers(0, 200),
    tail=st.binary(max_size=60) | st.just(b""),
    blocks=st.integers(0, 2),
    pad=st.sampled_from([0, 0, 1, 5000]),
)
def test_read_any_tail_as_the_other_reader_does(kept: int, tail: bytes, blocks: int, pad: int) -> None:
    """G1, R2: whatever stands behind the records, zeros or not, both readers see the same end of the log."""
    with memory_folder() as folder:
        path = f"{folder}/log"
        log, place = unclean(path)
        content = log[: place + kept] + tail
        if blocks:
            content = content.ljust(ALLOCATED_BYTES * blocks + pad, b"\0")
        Path(path).write_bytes(content)
        other = read_log(Path(path))
        with Store(path, read_only=True) as reader:
            assert reader.recovery is not None
            assert reader.recovery.dropped_bytes == other["dropped_bytes"]
        assert check(path).torn_bytes == other["dropped_bytes"]


def test_read_long_zeros_with_little_memory(path: str) -> None:
    """G3: zeros at the end are looked through in portions, however many there are."""
    log, _ = unclean(path)
    with open(path, "wb") as file:
        file.write(log)
        file.truncate(ALLOCATED_BYTES * 1600)  # 100 MiB, of which the disk has nothing
    longest = 0

    class Watched(Disk):
        def read(self, descriptor: int, length: int, offset: int) -> bytes:
            nonlocal longest
            longest = max(longest, length)
            return super().read(descriptor, length, offset)

    _, reading = open_to_read(Watched(), path)
    assert (reading.size, longest) == (len(log), 4 * KIB * KIB)
    reading.abandon()


# ---------------------------------------------------------------- beside a writer


def test_read_beside_a_writer_whose_file_keeps_its_size(path: str) -> None:
    """R7: a record seen half written in a file that does not grow, with synced ones behind it, was taken for damage.

    That a writer had been at the file was told by its size alone.
    """
    disk = MapRecorder()
    log = open_log(disk, path)
    log.append(MAP_RECORD)
    place = log.append(record(1))
    log.sync()
    log.append(record(2))
    size = os.path.getsize(path)

    class MidWrite(Disk):
        looks = 0

        def read(self, descriptor: int, length: int, offset: int) -> bytes:
            data = super().read(descriptor, length, offset)
            if not offset <= place < offset + len(data) or self.looks == 2:
                return data
            self.looks += 1
            return data[: place - offset] + bytes(30) + data[place - offset + 30 :]

    midway = MidWrite()
    _, reading = open_to_read(midway, path)
    assert (midway.looks, os.path.getsize(path)) == (2, size)
    assert (reading.size, reading.recovery is not None) == (log.size, True)
    reading.abandon()
    log.abandon()


def test_read_what_a_writer_appends_meanwhile(path: str) -> None:
    """R7: what a writer puts where zeros were read a moment ago is read as well, and is no torn tail."""
    disk = MapRecorder()
    log = open_log(disk, path)
    log.append(MAP_RECORD)

    class Watched(Disk):
        reads = 0

        def read(self, descriptor: int, length: int, offset: int) -> bytes:
            data = super().read(descriptor, length, offset)
            self.reads += 1
            if self.reads == 2:  # the first is the header
                log.append(record(1))
            return data

    _, reading = open_to_read(Watched(), path)
    assert reading.recovery is not None
    assert (reading.recovery.dropped_bytes, reading.recovery.reason) == (0, None)
    assert reading.size == log.size
    reading.abandon()
    log.abandon()


def test_refresh_beside_a_writer(tmp_path: Path) -> None:
    """R7: a reader sees what was written through a map, at each refresh, across compactions."""
    with Store(tmp_path / "store") as writer, Store(tmp_path / "store", read_only=True) as reader:
        for number in range(50):
            writer.map("m").set(f"{number}", {"n": number})
            if number % 10 == 9:
                reader.refresh()
                assert len(reader.map("m")) == number + 1
                writer.compact()
        writer.map("m").set("last", {})
        reader.refresh()
        assert "last" in reader.map("m")
        reader.backup(tmp_path / "copy")
        writer.backup(tmp_path / "other")
    for copy in ("copy", "other"):
        with Store(tmp_path / copy) as store:
            assert (store.recovery, len(store.map("m"))) == (None, 51)


# ---------------------------------------------------------------- descriptors, forks, deaths

on_linux = pytest.mark.skipif(sys.platform != "linux" or not may_map(gettempdir()), reason="nothing can be mapped here")


def mappings(folder: Path) -> list[str]:
    """Which files in the folder are mapped into this process."""
    with open("/proc/self/maps") as maps:
        return [line.split()[-1].rpartition("/")[2] for line in maps if f" {folder}/" in line]


@contextmanager
def real_store(tmp_path: Path, **options: Any) -> Iterator[Store]:
    with Store(tmp_path / "store", **options) as store:
        store.map("m").set("a", {"n": 1})
        if not mappings(tmp_path):
            pytest.skip("temporary files lie where nothing can be mapped")
        yield store


@on_linux
def test_leave_neither_map_nor_descriptor(tmp_path: Path) -> None:
    """F5, R8: a map is let go with the file, however it ends: closed, compacted, cut, forgotten."""
    with real_store(tmp_path) as store:
        assert mappings(tmp_path) == ["store"]
        store.compact()
        assert mappings(tmp_path) == []
        store.map("m").set("b", {})
        assert mappings(tmp_path) == ["store"]
        assert open_files(tmp_path).count("store") == 2  # a map has a descriptor of its own
        store._log.cut()
        assert (mappings(tmp_path), open_files(tmp_path)) == ([], ["store", "store.lock"])
        store.map("m").set("c", {})
    assert (mappings(tmp_path), open_files(tmp_path)) == ([], [])
    store = Store(tmp_path / "store")
    store.map("m").set("d", {})
    with pytest.warns(ResourceWarning):
        del store
    assert (mappings(tmp_path), open_files(tmp_path)) == ([], [])


@on_linux
def test_keep_the_parents_map_when_the_child_lets_go(tmp_path: Path) -> None:
    """L2: the child of a fork has neither map nor descriptor, and what the parent writes through its own goes on."""
    with real_store(tmp_path) as store:
        seen = in_child(lambda: (mappings(tmp_path), open_files(tmp_path)))
        assert seen == repr(([], []))
        store.map("m").set("b", {"n": 2})
        with idle_child():
            store.map("m").set("c", {"n": 3})
            store.close()
            with Store(tmp_path / "store") as again:
                assert (again.recovery, list(again.map("m"))) == (None, ["a", "b", "c"])


@on_linux
def test_survive_the_death_of_the_process(tmp_path: Path) -> None:
    """P1: what was assigned to the map is in the file when its process is killed, and nothing of it is torn."""

    def die() -> None:
        store = Store(tmp_path / "store")
        for number in range(300):
            store.map("m").set(f"{number:03}", {"n": number})
        os.kill(os.getpid(), 9)

    pid, answer = fork(die)
    os.close(answer)
    os.waitpid(pid, 0)
    with Store(tmp_path / "store") as store:
        assert store.recovery is not None
        assert store.recovery.dropped_bytes == 0
        assert [item.data["n"] for item in store.map("m").range()] == list(range(300))

"""The log and new files by themselves: what reaches the disk and in which order, and what a failing call leaves."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapitem import LogCorrupt, StoreClosed, StoreFailed
from mapitem.disk import Disk
from mapitem.frames import BASE_END, CUT, FRAME_BYTES, HEADER_BYTES, Scan, read_header
from mapitem.log import FileLog
from mapitem.memorylog import MemoryLog
from mapitem.newlog import NewFile, NewLog
from mapitem.opening import OpenedLog, Recovery, open_to_read, open_to_write
from mapitem.records import MAP_TTL, encode_record, rough_size

MAP_RECORD = [(5, 0, "MP" + "0" * 32, "m", "me", 0, 0, 5, 0, 0)]


def record(number: int, count: int = 1) -> list[Any]:
    return [(MAP_TTL, 0, number)] * count


class Recorder(Disk):
    """The real disk. It notes the calls that change something, reads apart, and refuses those it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.reads = 0
        self.refused: dict[str, BaseException] = {}
        self.short = 0
        self.open: set[int] = set()
        self.written: list[tuple[int, int]] = []

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refused:
            raise self.refused[name]

    def taken(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls

    def open_read(self, path: str) -> int:
        descriptor = super().open_read(path)
        self.open.add(descriptor)
        return descriptor

    def open_write(self, path: str) -> int:
        descriptor = super().open_write(path)
        self.open.add(descriptor)
        return descriptor

    def create(self, path: str, mode: int) -> int:
        self._note("create")
        descriptor = super().create(path, mode)
        self.open.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self.open.remove(descriptor)
        super().close(descriptor)
        if "close" in self.refused:
            raise self.refused["close"]

    def set_mode(self, descriptor: int, mode: int) -> None:
        self._note("set_mode")
        super().set_mode(descriptor, mode)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        self.reads += 1
        return super().read(descriptor, length, offset)

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        self._note("write")
        if self.short:
            data, self.short = data[: self.short], 0
        self.written.append((offset, len(data)))
        return super().write(descriptor, data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        self._note("truncate")
        super().truncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        self._note("sync")
        super().sync(descriptor)

    def sync_directory(self, path: str) -> None:
        self._note("sync_directory")
        super().sync_directory(path)

    def replace(self, source: str, target: str) -> None:
        self._note("replace")
        super().replace(source, target)

    def remove(self, path: str) -> None:
        self._note("remove")
        super().remove(path)


# What the log does before the first record behind a cut.
SEALING = ["truncate", "sync", "write", "sync"]
SEAL_BYTES = FRAME_BYTES + len(CUT)


@pytest.fixture
def disk() -> Recorder:
    return Recorder()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "log.mapitem")


def open_log(disk: Disk, path: str, *, rewrite: bool = False) -> FileLog:
    _, log, lock = open_to_write(disk, path, at_power=rewrite)
    lock.release()
    return log


@pytest.fixture
def log(disk: Recorder, path: str) -> Iterator[FileLog]:
    log = open_log(disk, path)
    log.append(MAP_RECORD)
    disk.taken()
    yield log
    disk.refused.clear()
    log.abandon()
    assert not disk.open


def stored(path: str) -> tuple[list[int], Scan]:
    """The fourth field of each operation of each record behind the first, as they are in the file, and the scan."""
    disk = Disk()
    opened = OpenedLog(disk, path, read_only=True)
    try:
        numbers = [
            operation[2] for _, operations in opened.records() for operation in operations if operation[0] == MAP_TTL
        ]
        return numbers, opened._scan
    finally:
        opened.close()


# ---------------------------------------------------------------- in memory


@given(steps=st.lists(st.integers(1, 3) | st.just(0), max_size=20))
def test_keep_records_in_memory(steps: list[int]) -> None:
    """F3: places go on over a compaction, the records behind it are found by them, and the size is theirs."""
    log = MemoryLog()
    kept: dict[int, list[Any]] = {}
    count = 0
    for step in steps:
        if step:
            operations = record(count, step)
            place = log.append(operations)
            assert place == count
            kept[place] = operations
            count += 1
        else:
            assert log.forget() is None
            kept.clear()
        assert log.position == log.synced_position == count
        assert log.size == sum(map(rough_size, kept.values()))
        assert [list(each) for each in log.read(kept)] == list(kept.values())
    log.sync()
    log.close(sync=True)
    log.abandon()
    assert (log.path, log.recovery, log.failed) == (None, None, None)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="how the collector goes its rounds is a matter of the version")
def test_leave_no_records_in_memory_to_the_collector() -> None:
    """What it has come by once it passes over: records that it kept in mind made it go through the whole store."""
    log = MemoryLog()
    for number in range(50):
        log.append(record(number))
    gc.collect(0)
    assert not any(map(gc.is_tracked, log._records))


# ---------------------------------------------------------------- appending


def test_append_and_read(log: FileLog, disk: Recorder, path: str) -> None:
    """P1: a record is in the file when its append has returned, at the place that was told; one write each."""
    places = [log.append(record(number)) for number in range(5)]
    assert disk.taken() == ["write"] * 5
    assert places == sorted(set(places))
    assert places[0] == places[1] - FRAME_BYTES - len(encode_record(record(0)))
    assert (log.position, log.synced_position, log.failed, log.recovery) == (6, 0, None, None)
    assert [operations[0][2] for operations in log.read(places)] == [0, 1, 2, 3, 4]
    assert [operations[0][2] for operations in log.read([places[1], places[3]])] == [1, 3]
    numbers, scan = stored(path)
    assert (numbers, scan.end, scan.reason, scan.closed) == ([0, 1, 2, 3, 4], log.size, None, False)


def test_read_many_records_with_few_calls(log: FileLog, disk: Recorder) -> None:
    """E3: the feed reads what lies side by side with one system call for many."""
    places = [log.append(record(number)) for number in range(200)]
    disk.reads = 0
    assert [operations[0][2] for operations in log.read(places)] == list(range(200))
    assert disk.reads < 10
    assert [operations[0][2] for operations in log.read(places[::20])] == list(range(0, 200, 20))


def test_read_a_damaged_record(log: FileLog, disk: Recorder, path: str) -> None:
    """G2: damage that came after the opening shows where the record is read, with its place."""
    places = [log.append(record(number)) for number in range(3)]
    with open(path, "r+b") as file:
        file.seek(places[1] + FRAME_BYTES)
        file.write(b"\xff")
    with pytest.raises(LogCorrupt) as caught:
        list(log.read(places))
    assert (caught.value.path, caught.value.offset) == (path, places[1])


def test_write_the_rest_of_a_short_write(log: FileLog, disk: Recorder, path: str) -> None:
    """F1: where the operating system took a part, the rest follows, and nothing is written twice."""
    disk.written.clear()
    disk.short = 5
    place = log.append(record(7, 3))
    (first, taken), (second, rest) = disk.written
    assert (first, taken, second) == (place, 5, place + 5)
    assert taken + rest == FRAME_BYTES + len(encode_record(record(7, 3)))
    assert stored(path)[0] == [7, 7, 7]


def test_cut_what_could_not_be_written(log: FileLog, disk: Recorder, path: str) -> None:
    """F1: a failed write is cut off, on the medium too; the log goes on as if it had never been."""
    place = log.append(record(1))
    size = log.size
    disk.taken()
    disk.refused["write"] = OSError(28, "full")
    with pytest.raises(OSError, match="full"):
        log.append(record(2))
    assert disk.taken() == ["write", "truncate", "sync"]
    assert (log.size, log.position, log.failed) == (size, 2, None)
    disk.refused.clear()
    assert (next_place := log.append(record(3))) == size + SEAL_BYTES
    assert disk.taken() == [*SEALING, "write"]
    log.append(record(4))
    assert disk.taken() == ["write"]
    assert stored(path)[0] == [1, 3, 4]
    assert [operations[0][2] for operations in log.read([place, next_place])] == [1, 3]


@pytest.mark.parametrize("refused", ["truncate", "sync"])
@pytest.mark.parametrize("error", [OSError(5, "bad disk"), KeyboardInterrupt()], ids=repr)
def test_fail_where_nothing_could_be_cut(log: FileLog, disk: Recorder, refused: str, error: BaseException) -> None:
    """F2, F3: what could not be cut either leaves the file in doubt: no more is written, and the error says so."""
    disk.refused = {"write": error, refused: OSError(5, "no cut")}
    with pytest.raises(StoreFailed if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        log.append(record(2))
    if isinstance(caught.value, StoreFailed):
        assert caught.value.outcome_unknown
    assert str(log.failed) == "[Errno 5] no cut"
    disk.refused.clear()
    disk.taken()
    for attempt in (lambda: log.append(record(3)), log.sync, lambda: log.sync(0), log.check_usable):
        with pytest.raises(StoreFailed, match="an earlier failure left the file in doubt"):
            attempt()
    with pytest.raises(StoreFailed):
        log.close(sync=True)
    assert disk.taken() == []
    assert log.descriptor == -1


def test_cut_what_was_interrupted(log: FileLog, disk: Recorder, path: str) -> None:
    """F3: a write that is interrupted is not in the file, and the interruption goes on."""
    size = log.size
    disk.refused["write"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        log.append(record(2))
    assert disk.taken() == ["write", "truncate", "sync"]
    disk.refused.clear()
    assert (log.append(record(3)), log.failed) == (size + SEAL_BYTES, None)
    assert stored(path)[0] == [3]


def test_cut_before_the_next_write(log: FileLog, disk: Recorder, path: str) -> None:
    """F3: where even the cut was interrupted, the next write begins with it; so does the end."""
    for ending in (False, True):
        disk.refused = {"write": KeyboardInterrupt(), "truncate": KeyboardInterrupt()}
        with pytest.raises(KeyboardInterrupt):
            log.append(record(2))
        disk.refused.clear()
        disk.taken()
        if ending:
            log.close(sync=False)
            assert disk.taken() == [*SEALING, "write"]
        else:
            log.append(record(3))
            assert disk.taken() == [*SEALING, "write"]
    assert stored(path)[0] == [3]


# ---------------------------------------------------------------- the medium


def test_sync_what_was_appended(log: FileLog, disk: Recorder, path: str) -> None:
    """P2, P4: one sync is for all that were there before it, and nobody syncs what is on the medium already."""
    log.append(record(1))
    log.sync()
    assert (disk.taken(), log.synced_position, log.position) == (["write", "sync"], 2, 2)
    log.sync()
    log.sync(2)
    log.sync(1)
    assert disk.taken() == []
    log.append(record(2))
    log.sync(2)
    assert disk.taken() == ["write"]
    size = log.size
    log.sync(3)
    log.append(record(3))
    assert disk.taken() == ["sync", "write"]
    assert stored(path)[1].synced_to == size


def test_sync_no_more_than_there_was(log: FileLog, disk: Recorder) -> None:
    """P4: what is appended while a sync runs is not taken for synced."""

    def append_meanwhile(descriptor: int) -> None:
        log.append(record(1))

    disk.sync = append_meanwhile  # type: ignore[method-assign]
    log.sync()
    assert (log.synced_position, log.position) == (1, 2)


def test_fail_for_good_with_a_sync(log: FileLog, disk: Recorder) -> None:
    """F2: a failed fsync is final: it is never tried again as if the first had not failed."""
    disk.refused["sync"] = OSError(5, "no sync")
    with pytest.raises(StoreFailed, match="no sync") as caught:
        log.sync()
    assert caught.value.outcome_unknown
    assert log.synced_position == 0
    disk.refused.clear()
    disk.taken()
    for attempt in (log.sync, lambda: log.append(record(1))):
        with pytest.raises(StoreFailed):
            attempt()
    assert disk.taken() == []


# ---------------------------------------------------------------- the end, and going on after it


@pytest.mark.parametrize("sync", [True, False])
def test_mark_a_clean_end(log: FileLog, disk: Recorder, path: str, sync: bool) -> None:
    """P2, R5: a close syncs what there is, marks the end and syncs the mark; it may be called again."""
    log.append(record(1))
    disk.taken()
    log.close(sync=sync)
    log.close(sync=sync)
    assert disk.taken() == (["sync", "write", "sync"] if sync else ["write"])
    assert not disk.open
    assert stored(path)[1].closed
    with pytest.raises(StoreClosed):
        log.sync(99)


def test_go_on_behind_a_clean_end(log: FileLog, disk: Recorder, path: str) -> None:
    """R5: the mark is taken off the medium before anything is written in its place."""
    log.append(record(1))
    end = log.size
    log.close(sync=True)
    disk.taken()
    again = open_log(disk, path)
    assert (again.size, again.recovery, again.position, disk.taken()) == (end, None, 0, [])
    assert again.append(record(2)) == end
    assert disk.taken() == ["truncate", "sync", "write"]
    again.append(record(3))
    assert disk.taken() == ["write"]
    again.close(sync=True)
    assert stored(path)[0] == [1, 2, 3]
    # And where nothing was written, the mark is synced, for nobody knows whether its writer lived to do it.
    again = open_log(disk, path)
    disk.taken()
    again.close(sync=True)
    assert disk.taken() == ["sync"]
    again = open_log(disk, path)
    disk.taken()
    again.close(sync=False)
    assert (disk.taken(), disk.open, stored(path)[0]) == ([], set(), [1, 2, 3])


def test_fail_where_the_mark_stays(log: FileLog, disk: Recorder, path: str) -> None:
    """F2: a mark that could not be taken off the medium would lie about what follows."""
    log.close(sync=True)
    again = open_log(disk, path)
    disk.refused["sync"] = OSError(5, "no sync")
    with pytest.raises(StoreFailed, match="no sync"):
        again.append(record(2))
    assert again.failed is not None
    disk.refused.clear()
    again.abandon()
    again.abandon()


def test_let_go_even_if_the_end_fails(log: FileLog, disk: Recorder) -> None:
    """F5: whatever fails in a close, the descriptor is released."""
    disk.refused["write"] = OSError(28, "full")
    with pytest.raises(OSError, match="full"):
        log.close(sync=True)
    assert log.descriptor == -1
    assert not disk.open


def test_close_what_was_only_read(log: FileLog, disk: Recorder, path: str) -> None:
    """R7: who only reads writes nothing, at the end neither."""
    log.close(sync=True)
    disk.taken()
    _, reading = open_to_read(disk, path)
    reading.close(sync=True)
    assert (disk.taken(), disk.open) == ([], set())


# ---------------------------------------------------------------- after an unclean end


def test_settle_what_was_found(log: FileLog, disk: Recorder, path: str) -> None:
    """R4, R5: after an unclean end what is shown is put on the medium, file and name; and the recovery says so."""
    log.append(record(1))
    log.abandon()
    disk.taken()
    again = open_log(disk, path)
    assert disk.taken() == ["sync", "sync_directory"]
    recovery = again.recovery
    assert isinstance(recovery, Recovery)
    assert (recovery.dropped_bytes, recovery.offset, recovery.reason, recovery.kept_in) == (0, again.size, None, None)
    end = again.size
    again.append(record(2))
    assert stored(path)[1].synced_to == end
    again.abandon()


@pytest.mark.parametrize("rewrite", [False, True])
def test_cut_a_torn_tail(log: FileLog, disk: Recorder, path: str, rewrite: bool) -> None:
    """R2, R4: bytes behind the last whole record are kept aside and cut, and at "power" the log is written anew."""
    log.append(record(1))
    end = log.size
    log.abandon()
    with open(path, "ab") as file:
        file.write(b"torn")
    header = read_header(disk, descriptor := disk.open_read(path), path).generation
    disk.close(descriptor)
    disk.taken()
    again = open_log(disk, path, rewrite=rewrite)
    calls = disk.taken()
    assert again.recovery is not None
    assert repr(again.recovery) == (
        f"Recovery(dropped_bytes=4, offset={end}, reason='the file ends within the head of a record', "
        f"kept_in='{path}.cut-{end}')"
    )
    assert Path(f"{path}.cut-{end}").read_bytes() == b"torn"
    kept = ["create", "set_mode", "write", "sync", "replace", "sync_directory", "truncate", "sync"]
    assert calls[: len(kept)] == kept
    anew = ["create", "set_mode", "write", "sync", "replace", "sync_directory"]
    assert calls[len(kept) :] == (anew if rewrite else ["sync", "sync_directory"])
    assert (again.size, os.path.getsize(path)) == (end, end)
    assert again.append(record(2)) == end + (0 if rewrite else SEAL_BYTES)
    again.close(sync=True)
    assert stored(path)[0] == [1, 2]
    descriptor = disk.open_read(path)
    assert (read_header(disk, descriptor, path).generation != header) is rewrite
    disk.close(descriptor)


def test_open_though_the_tail_cannot_be_kept(log: FileLog, disk: Recorder, path: str) -> None:
    """R2: where there is no space for a copy of the tail, the store opens without one, and leaves no part of it."""
    log.abandon()
    with open(path, "ab") as file:
        file.write(b"torn")
    disk.refused["create"] = OSError(28, "full")
    again = open_log(disk, path)
    assert again.recovery is not None
    assert (again.recovery.dropped_bytes, again.recovery.kept_in) == (4, None)
    assert sorted(os.listdir(os.path.dirname(path))) == ["log.mapitem", "log.mapitem.lock"]
    again.abandon()


def test_settle_a_clean_end_that_may_not_be_on_the_medium(log: FileLog, disk: Recorder, path: str) -> None:
    """R4: a log that was closed without a sync is synced before it is shown; one that was synced need not be."""
    log.append(record(1))
    log.close(sync=False)
    disk.taken()
    again = open_log(disk, path)
    assert (disk.taken(), again.recovery) == (["sync", "sync_directory"], None)
    again.close(sync=True)
    disk.taken()
    again = open_log(disk, path)
    assert disk.taken() in ([], ["sync", "sync_directory"])
    again.abandon()


# ---------------------------------------------------------------- a new log in its place


def test_adopt_a_new_log(log: FileLog, disk: Recorder, path: str) -> None:
    """M1: the new log is synced before it gets the name; then the old file is let go and the position stays."""
    log.append(record(1))
    disk.taken()
    new = log.begin()
    new.append(encode_record(MAP_RECORD))
    log.adopt(new)
    assert disk.taken() == ["create", "set_mode", "write", "sync", "replace", "sync_directory"]
    assert len(disk.open) == 1
    assert (log.position, log.synced_position, log.size) == (2, 2, os.path.getsize(path))
    place = log.append(record(3))
    log.sync()
    assert [operations[0][2] for operations in log.read([place])] == [3]
    numbers, scan = stored(path)
    assert (numbers, scan.based, scan.reason) == ([3], True, None)
    new.discard()
    assert os.path.exists(path)


@pytest.mark.parametrize("refused", ["create", "set_mode", "write", "sync", "replace"])
def test_keep_the_old_log_if_the_new_one_fails(log: FileLog, disk: Recorder, path: str, refused: str) -> None:
    """F4: before the rename a failure leaves the old log in use, and nothing behind."""
    log.append(record(1))
    new = log.begin()
    new.append(encode_record(MAP_RECORD))
    disk.refused[refused] = OSError(28, "full")
    with pytest.raises(OSError, match="full"):
        log.adopt(new)
    disk.refused.clear()
    new.discard()
    assert (log.failed, len(disk.open)) == (None, 1)
    log.append(record(2))
    assert stored(path)[0] == [1, 2]
    assert not os.path.exists(f"{path}.new")


@pytest.mark.parametrize("error", [OSError(5, "no"), KeyboardInterrupt()], ids=repr)
def test_fail_if_the_name_is_in_doubt(log: FileLog, disk: Recorder, path: str, error: BaseException) -> None:
    """F2, F3, F4: once the new log has its name, a failed directory sync or an interruption is final; reads go on."""
    place = log.append(record(1))
    new = log.begin()
    new.append(encode_record(MAP_RECORD))
    disk.refused["sync_directory"] = error
    with pytest.raises(StoreFailed if isinstance(error, OSError) else KeyboardInterrupt):
        log.adopt(new)
    disk.refused.clear()
    new.discard()
    assert log.failed is error
    assert (os.path.exists(path), os.path.exists(f"{path}.new"), len(disk.open)) == (True, False, 1)
    assert stored(path)[1].based
    assert disk.size(log.descriptor) == log.size == os.path.getsize(path)
    assert place


def test_interrupt_a_rename(log: FileLog, disk: Recorder, path: str) -> None:
    """F3: an interruption in the rename leaves it open into which file the next record would go: no more is taken."""
    place = log.append(record(1))
    new = log.begin()
    disk.refused["replace"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        log.adopt(new)
    disk.refused.clear()
    assert isinstance(log.failed, KeyboardInterrupt)
    new.discard()
    assert not os.path.exists(f"{path}.new")
    assert len(disk.open) == 1
    assert [operations[0][2] for operations in log.read([place])] == [1]


def test_interrupt_what_follows_a_rename(log: FileLog, disk: Recorder, path: str) -> None:
    """F3: an interruption while the log changes files leaves it with the new one, and takes that from it no more."""
    new = log.begin()
    new.append(encode_record(MAP_RECORD))
    new.finish()

    class Header:
        @property
        def seed(self) -> int:
            raise KeyboardInterrupt

    old, new.header, seed = log.descriptor, Header(), new.header  # type: ignore[assignment]
    new.finish = lambda: None  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        log.adopt(new)
    assert isinstance(log.failed, KeyboardInterrupt)
    assert log.descriptor in disk.open - {old}
    assert read_header(disk, log.descriptor, path).seed == seed.seed
    log.abandon()
    assert disk.open == set()


@pytest.mark.parametrize("call", ["sync", "cut", "sync_directory"])
def test_know_of_a_failure_that_was_never_noted(path: str, call: str) -> None:
    """F2, F3: an interruption took the place of a failed sync before anybody had noted it: more was written as if it
    had not failed. It may come between any two lines, and more than once.
    """
    disk = Recorder()
    log = open_log(disk, path)
    log.append(MAP_RECORD)

    def interrupted(error: BaseException) -> StoreFailed:
        raise KeyboardInterrupt

    log.fail = interrupted  # type: ignore[method-assign]
    disk.refused["sync" if call == "cut" else call] = OSError(5, "bad disk")
    new = log.begin()
    new.append(encode_record(MAP_RECORD))
    with pytest.raises(KeyboardInterrupt):
        {"sync": log.sync, "cut": log.cut, "sync_directory": lambda: log.adopt(new)}[call]()
    del log.fail
    disk.refused.clear()
    new.discard()
    disk.taken()
    for attempt in (lambda: log.append(record(2)), log.sync, lambda: log.sync(0), log.check_usable):
        with pytest.raises(StoreFailed, match="interrupted"):
            attempt()
    with pytest.raises(StoreFailed):
        log.close(sync=True)
    assert disk.taken() == []


def test_begin_a_log_elsewhere(log: FileLog, disk: Recorder, path: str) -> None:
    """M5: a new log may be for another place, and has the mode of this one."""
    os.chmod(path, 0o600)
    new = log.begin(f"{path}.other")
    new.append(encode_record(MAP_RECORD))
    new.finish()
    new.file.put_in_place()
    new.file.abandon()
    assert stored(f"{path}.other")[1].based
    assert os.stat(f"{path}.other").st_mode & 0o777 == 0o600
    log.append(record(1))
    assert stored(path)[0] == [1]


def test_let_the_old_file_go_even_if_that_fails(log: FileLog, disk: Recorder, path: str) -> None:
    """M1: what the old file held is in the new one: a failing close of it hurts nobody."""
    new = log.begin()
    new.append(encode_record(MAP_RECORD))
    disk.refused["close"] = OSError(5, "no close")
    log.adopt(new)
    disk.refused.clear()
    assert (log.failed, len(disk.open)) == (None, 1)
    log.append(record(1))
    assert stored(path)[0] == [1]


def test_mark_the_end_of_a_new_log(log: FileLog, disk: Recorder, path: str) -> None:
    """P2, R5: a new log in place of one that ended cleanly has no such end yet, and gets one of its own."""
    log.close(sync=True)
    again = open_log(disk, path)
    new = again.begin()
    new.append(encode_record(MAP_RECORD))
    again.adopt(new)
    disk.taken()
    again.close(sync=True)
    assert disk.taken() == ["write", "sync"]
    assert stored(path)[1].closed
    again = open_log(disk, path)
    assert again.recovery is None
    again.abandon()


def test_copy_what_was_read_though_a_writer_compacted(log: FileLog, disk: Recorder, path: str, tmp_path: Path) -> None:
    """M5, R7: who only reads copies what it sees, though its name leads to another file by now."""
    log.append(record(1))
    log.close(sync=True)
    _, reading = open_to_read(disk, path)
    again = open_log(disk, path)
    new = again.begin()
    new.append(encode_record(MAP_RECORD))
    again.adopt(new)
    target = str(tmp_path / "copy.mapitem")
    reading.copy_to(target, Lock())
    assert stored(target)[0] == [1]
    reading.abandon()
    again.abandon()


def test_copy_without_the_lock(log: FileLog, disk: Recorder, tmp_path: Path) -> None:
    """M5: writers go on while the bytes are copied: the lock is held for a look at the end alone."""
    lock = Lock()
    copy = disk.copy
    held = []

    def watched(*arguments: int) -> None:
        held.append(lock.locked())
        copy(*arguments)

    disk.copy = watched  # type: ignore[method-assign]
    log.copy_to(str(tmp_path / "copy.mapitem"), lock)
    assert held == [False]


def test_copy_a_log(log: FileLog, disk: Recorder, path: str, tmp_path: Path) -> None:
    """M5: a copy is whole, marked as cleanly closed, and on the medium; the original goes on."""
    log.append(record(1))
    size = log.size
    disk.taken()
    target = str(tmp_path / "copy.mapitem")
    log.copy_to(target, Lock())
    assert disk.taken() == ["create", "set_mode", "write", "write", "sync", "replace", "sync_directory"]
    numbers, scan = stored(target)
    assert (numbers, scan.closed, scan.reason, scan.place, scan.synced_to) == ([1], True, None, size, size)
    assert len(disk.open) == 1
    log.append(record(2))
    _, reading = open_to_read(disk, path)
    other = str(tmp_path / "other.mapitem")
    reading.copy_to(other, Lock())
    reading.abandon()
    assert stored(other)[0] == [1, 2]
    with pytest.raises(FileNotFoundError):
        log.copy_to(str(tmp_path / "missing" / "copy"), Lock())
    assert len(disk.open) == 1


# ---------------------------------------------------------------- new files


@pytest.mark.parametrize("mode", [None, 0o600, 0o644, 0o400])
def test_place_a_new_file(disk: Recorder, path: str, mode: int | None) -> None:
    """M1: written beside its name, synced, and given the name with the mode of the one it stands for."""
    before = os.umask(0o027)
    try:
        with NewFile(disk, path, mode) as new:
            assert (os.path.exists(f"{path}.new"), os.path.exists(path), new.placed) == (True, False, False)
            disk.write_all(new.descriptor, b"content", 0)
            new.put_in_place()
            assert new.placed is True
    finally:
        os.umask(before)
    assert disk.taken() == [
        "create",
        *([] if mode is None else ["set_mode"]),
        "write",
        "sync",
        "replace",
        "sync_directory",
    ]
    assert Path(path).read_bytes() == b"content"
    assert os.stat(path).st_mode & 0o777 == (0o640 if mode is None else mode)
    assert (os.listdir(os.path.dirname(path)), disk.open) == (["log.mapitem"], set())


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_create_a_file_as_others_do(disk: Recorder, path: str, mask: int) -> None:
    """R6: a file that stands for no other gets the mode that the process gives its files."""
    before = os.umask(mask)
    try:
        with NewFile(disk, path, None) as new:
            new.put_in_place()
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("refused", ["create", "set_mode", "sync", "replace", "sync_directory"])
@pytest.mark.parametrize("error", [OSError(5, "no"), KeyboardInterrupt()], ids=repr)
def test_leave_nothing_of_a_new_file_that_failed(disk: Recorder, path: str, refused: str, error: BaseException) -> None:
    """R8, F4: whatever fails or interrupts, no temporary file and no descriptor is left; a name once given stays."""
    Path(path).write_bytes(b"old")
    disk.refused[refused] = error
    with pytest.raises(type(error)), NewFile(disk, path, 0o600) as new:
        disk.write_all(new.descriptor, b"new", 0)
        new.put_in_place()
    assert Path(path).read_bytes() == (b"new" if refused == "sync_directory" else b"old")
    assert (os.listdir(os.path.dirname(path)), disk.open) == (["log.mapitem"], set())


def test_take_a_file_away_once(disk: Recorder, path: str) -> None:
    """R8: what was discarded once is not looked for again: by then the name may be somebody else's."""
    new = NewFile(disk, path, None, beside=f"{path}.log")
    new.__exit__()
    assert disk.taken() == []
    with new:
        assert os.listdir(os.path.dirname(path)) == ["log.mapitem.log.new"]
    assert disk.taken() == ["create", "remove"]
    new.__exit__()
    assert disk.taken() == []
    with suppress(FileNotFoundError), NewFile(disk, path, None):
        os.unlink(f"{path}.new")  # somebody else was faster


def test_leave_alone_what_could_not_be_created(disk: Recorder, path: str) -> None:
    """R8: where nothing was created nothing is taken away, neither at once nor later."""
    new = NewFile(disk, path, 0o600)
    disk.refused["create"] = OSError(13, "no permission")
    for _ in range(2):
        with pytest.raises(OSError, match="no permission"):
            new.__enter__()
        new.__exit__()
    assert disk.taken() == ["create", "create"]


def test_take_away_what_was_created_and_interrupted(disk: Recorder, path: str) -> None:
    """R8, F3: an interruption that comes just as the file was created leaves none."""
    create = disk.create

    def interrupted(path: str, mode: int) -> int:
        disk.close(create(path, mode))
        raise KeyboardInterrupt

    disk.create = interrupted  # type: ignore[method-assign]
    new = NewFile(disk, path, None)
    with pytest.raises(KeyboardInterrupt):
        new.__enter__()
    assert os.listdir(os.path.dirname(path)) == []
    assert disk.taken() == ["create", "remove"]
    new.__exit__()
    assert disk.taken() == []


def test_hand_over_a_descriptor(disk: Recorder, path: str) -> None:
    """M1: a descriptor that was kept is the keeper's to close."""
    with NewFile(disk, path, None) as new:
        new.put_in_place()
        descriptor = new.keep()
        assert new.descriptor == -1
    assert disk.open == {descriptor}
    disk.close(descriptor)


@pytest.mark.parametrize("size", [10, 70_000])
def test_write_a_new_log_in_portions(disk: Recorder, path: str, size: int) -> None:
    """M3: a new log is written in portions of 64 KiB, and synced each MiB, so that no single call takes long."""
    new = NewLog(disk, path, None)
    assert (new.size, new.end, new.sequence, disk.taken()) == (HEADER_BYTES, 0, 0, [])
    new.flush()
    assert (new.size, new.end) == (HEADER_BYTES, HEADER_BYTES)
    assert disk.taken() == ["create", "write"]
    new.flush()
    assert disk.taken() == []
    payload = encode_record([(1, 0, "k", b"x" * size)])
    expected = HEADER_BYTES
    count = 40
    for number in range(count):
        new.append(payload)
        expected += FRAME_BYTES + len(payload)
        assert (new.size, new.sequence) == (expected, number + 1)
        assert new.size - new.end < 64 * 1024
    written = disk.taken()
    assert written.count("write") == (0 if size == 10 else count)
    per_sync = -(-(1024 * 1024) // (FRAME_BYTES + len(payload)))
    assert written.count("sync") == (0 if size == 10 else count // per_sync)
    new.finish()
    assert (new.size, new.end, new.sequence) == (expected + FRAME_BYTES + len(BASE_END), new.size, count + 1)
    new.file.put_in_place()
    descriptor = new.file.keep()
    scan = Scan(disk, descriptor, new.header)
    assert list(scan) == [payload] * count
    assert (scan.reason, scan.based, scan.end) == (None, True, new.end)
    disk.close(descriptor)
    new.discard()
    new.discard()
    assert os.path.exists(path)


def test_discard_a_new_log(disk: Recorder, path: str) -> None:
    """R8: a new log that is given up leaves nothing, whether it came to write or not."""
    NewLog(disk, path, None).discard()
    new = NewLog(disk, path, None)
    new.append(b"x" * 100_000)
    new.discard()
    new.discard()
    assert (os.listdir(os.path.dirname(path)), disk.open) == ([], set())


# ---------------------------------------------------------------- at the edges


class Low(Disk):
    """A disk whose descriptors begin at 0, as those of a program do that has closed its standard input."""

    def __init__(self) -> None:
        self.real: dict[int, int] = {}

    def _low(self, real: int) -> int:
        low = min(set(range(100)) - set(self.real))
        self.real[low] = real
        return low

    def open_read(self, path: str) -> int:
        return self._low(super().open_read(path))

    def open_write(self, path: str) -> int:
        return self._low(super().open_write(path))

    def create(self, path: str, mode: int) -> int:
        return self._low(super().create(path, mode))

    def close(self, descriptor: int) -> None:
        super().close(self.real.pop(descriptor))

    def size(self, descriptor: int) -> int:
        return super().size(self.real[descriptor])

    def mode(self, descriptor: int) -> int:
        return super().mode(self.real[descriptor])

    def set_mode(self, descriptor: int, mode: int) -> None:
        super().set_mode(self.real[descriptor], mode)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        return super().read(self.real[descriptor], length, offset)

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        return super().write(self.real[descriptor], data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        super().truncate(self.real[descriptor], size)

    def sync(self, descriptor: int) -> None:
        super().sync(self.real[descriptor])


def test_use_the_lowest_descriptors(path: str, tmp_path: Path) -> None:
    """F5, R8: 0 is a descriptor like any other, to be used and to be let go."""
    disk = Low()
    for number in range(3):
        log = open_log(disk, path)
        assert log.descriptor == 0
        if number == 0:
            log.append(MAP_RECORD)
        log.append(record(number))
        log.sync()
        log.copy_to(str(tmp_path / f"copy{number}"), Lock())
        assert list(disk.real) == [0]
        log.close(sync=True)
        assert disk.real == {}
    assert stored(path)[0] == [0, 1, 2]
    with NewFile(disk, path, None) as new:
        assert new.descriptor == 0
    assert disk.real == {}
    set_mode = disk.set_mode

    def refuse_mode(descriptor: int, mode: int) -> None:
        raise OSError(1, "no")

    disk.set_mode = refuse_mode  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no"):
        NewFile(disk, path, 0o600).__enter__()
    assert (disk.real, os.path.exists(f"{path}.new")) == ({}, False)
    disk.set_mode = set_mode  # type: ignore[method-assign]
    new_log = NewLog(disk, path, None)
    for _ in range(3):
        new_log.append(b"x" * 100_000)
    assert list(disk.real) == [0]
    new_log.discard()
    assert disk.real == {}
    opened = OpenedLog(disk, path, read_only=True)
    opened.close()
    assert disk.real == {}
    log = open_log(disk, path)
    new_log = log.begin()
    log.abandon()
    new_log.append(encode_record(MAP_RECORD))
    new_log.finish()
    assert new_log.file.descriptor == 0
    new_log.file.put_in_place()
    new_log.discard()
    assert disk.real == {}
    # The rename went through, and the sync of the directory did not: the new file is the log's all the same.
    lowest = disk.open_read(path)
    log = open_log(disk, path)
    disk.close(lowest)
    new_log = log.begin()
    new_log.append(encode_record(MAP_RECORD))
    new_log.flush()
    assert (log.descriptor, new_log.file.descriptor) == (1, 0)

    def refuse(path: str) -> None:
        raise OSError(5, "no")

    disk.sync_directory = refuse  # type: ignore[method-assign]
    with pytest.raises(StoreFailed):
        log.adopt(new_log)
    assert (log.descriptor, new_log.file.descriptor, list(disk.real)) == (0, -1, [0])
    log.abandon()
    assert disk.real == {}


def test_write_over_a_log_that_was_damaged_meanwhile(log: FileLog, disk: Recorder, path: str) -> None:
    """R3, R4: nothing damaged is carried over into a new file, and the old one stays."""
    places = [log.append(record(number, 20_000)) for number in range(3)]  # so that parts are written
    with open(path, "r+b") as file:
        file.seek(places[1] + FRAME_BYTES)
        file.write(b"\xff")
    before = Path(path).read_bytes()
    with pytest.raises(LogCorrupt) as caught:
        log.write_over()
    assert (caught.value.path, caught.value.offset) == (path, places[1])
    assert (Path(path).read_bytes(), len(disk.open)) == (before, 1)
    assert sorted(os.listdir(os.path.dirname(path))) == ["log.mapitem", "log.mapitem.lock"]


def test_write_over_a_log(log: FileLog, disk: Recorder, path: str) -> None:
    """R4: the same records at the same places, in a file of another generation, on the medium."""
    places = [log.append(record(number)) for number in range(3)]
    before = stored(path)[1]
    size = log.size
    descriptor = disk.open_read(path)
    old = read_header(disk, descriptor, path)
    disk.close(descriptor)
    disk.taken()
    log.write_over()
    assert disk.taken() == ["create", "set_mode", "write", "sync", "replace", "sync_directory"]
    descriptor = disk.open_read(path)
    assert read_header(disk, descriptor, path).generation != old.generation
    disk.close(descriptor)
    assert (log.size, os.path.getsize(path)) == (size, size)
    assert [operations[0][2] for operations in log.read(places)] == [0, 1, 2]
    log.append(record(3))
    numbers, after = stored(path)
    assert (numbers, after.records, after.synced_to) == ([0, 1, 2, 3], before.records + 1, size)


@pytest.mark.parametrize("missing", [1, 0, -1])
def test_write_portions_of_64_kib(disk: Recorder, path: str, missing: int) -> None:
    """M3: what waits is written as soon as it is 64 KiB, and not a byte sooner."""
    new = NewLog(disk, path, None)
    new.flush()
    disk.taken()
    new.append(b"x" * (64 * 1024 - FRAME_BYTES - missing))
    assert disk.taken() == ([] if missing > 0 else ["write"])
    new.discard()


@pytest.mark.parametrize("missing", [1, 0, -1])
def test_sync_each_mib(disk: Recorder, path: str, missing: int) -> None:
    """M3: what is written is synced as soon as it is a MiB, and not a byte sooner; then counting begins anew."""
    new = NewLog(disk, path, None)
    waiting = HEADER_BYTES
    for _ in range(3):
        disk.taken()
        new.append(b"x" * (1024 * 1024 - FRAME_BYTES - waiting - missing))
        calls = [call for call in disk.taken() if call != "create"]
        assert calls == (["write"] if missing > 0 else ["write", "sync"])
        if missing > 0:
            new.append(b"")
            new.flush()
            assert disk.taken() == ["write", "sync"]
        waiting = 0
    new.discard()

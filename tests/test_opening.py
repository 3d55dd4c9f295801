"""Opening by itself: what is told apart, what is tried again, and what is left behind where it fails (durability R)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mapitem import LogCorrupt, NotAStore
from mapitem.disk import Disk
from mapitem.engine import Engine
from mapitem.frames import BASE_END, FRAME_BYTES, HEADER_BYTES, Header, pack_frame
from mapitem.log import FileLog
from mapitem.opening import OpenedLog, Recovery, open_to_read, open_to_write
from mapitem.records import MAP_TTL, encode_record

MAP_RECORD = encode_record([(5, 0, "MP" + "0" * 32, "m", "me", 0, 0, 5, 0, 0)])
TTL_RECORD = encode_record([(MAP_TTL, 0, 7)])


class Watched(Disk):
    """The real disk, with a list of what was opened and a set of what is open still."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.open: set[int] = set()
        self.looks: list[Callable[[str], bool]] = []

    def exists(self, path: str) -> bool:
        return self.looks.pop(0)(path) if self.looks else super().exists(path)

    def open_read(self, path: str) -> int:
        self.opened.append("read")
        self.open.add(descriptor := super().open_read(path))
        return descriptor

    def open_write(self, path: str) -> int:
        self.opened.append("write")
        self.open.add(descriptor := super().open_write(path))
        return descriptor

    def create(self, path: str, mode: int) -> int:
        self.opened.append("create")
        self.open.add(descriptor := super().create(path, mode))
        return descriptor

    def close(self, descriptor: int) -> None:
        self.open.remove(descriptor)
        super().close(descriptor)


@pytest.fixture
def disk() -> Watched:
    return Watched()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "log.mapitem")


def opened_to_write(disk: Disk, path: str, *, rewrite: bool = False) -> tuple[Engine, FileLog]:
    engine, log, lock = open_to_write(disk, path, at_power=rewrite)
    lock.release()
    return engine, log


def make(path: str, *payloads: bytes, synced_to: int = 0) -> list[int]:
    """A file of these records, and where each begins, with the end at last; the last one says how far it was synced."""
    header = Header(b"generation of 16")
    data = header.pack()
    places = [len(data)]
    for sequence, payload in enumerate(payloads):
        promise = synced_to if sequence == len(payloads) - 1 else 0
        data += pack_frame(payload, sequence, promise, header.seed)
        places.append(len(data))
    Path(path).write_bytes(data)
    return places


def names(path: str) -> list[str]:
    return sorted(name.removeprefix("log.mapitem") for name in os.listdir(os.path.dirname(path)))


def test_create_what_is_missing(disk: Watched, path: str) -> None:
    """R6: a missing file is created whole: a header, the mark of the end of its base, and nothing else."""
    engine, log = opened_to_write(disk, path)
    assert engine.states() == []
    assert (log.size, log.recovery) == (os.path.getsize(path), None)
    assert log.size == HEADER_BYTES + FRAME_BYTES + len(BASE_END)
    assert disk.opened == ["create"]
    log.abandon()
    assert disk.open == set()
    assert names(path) == ["", ".lock"]


def test_make_no_directories(disk: Watched, tmp_path: Path) -> None:
    """R6: a directory that is missing is not made."""
    with pytest.raises(FileNotFoundError):
        open_to_write(disk, str(tmp_path / "missing" / "log"), at_power=False)
    assert os.listdir(tmp_path) == []


def test_read_before_writing(disk: Watched, path: str) -> None:
    """R6: what is there is looked at without a lock first, opened for writing under it, and let go on both."""
    make(path, BASE_END)
    _, log = opened_to_write(disk, path)
    assert (disk.opened, len(disk.open)) == (["read", "write"], 1)
    log.abandon()
    assert disk.open == set()


@pytest.mark.parametrize("content", [b"", b"something else", Header().pack()[:-1]])
def test_make_no_lock_for_what_is_no_store(disk: Watched, path: str, content: bytes) -> None:
    """R6, R8: a foreign file is refused as it is, and no lock is left beside it."""
    Path(path).write_bytes(content)
    for attempt in (lambda: open_to_write(disk, path, at_power=False), lambda: open_to_read(disk, path)):
        with pytest.raises(NotAStore):
            attempt()
    assert (names(path), disk.open, Path(path).read_bytes()) == ([""], set(), content)


def test_name_what_is_no_file(disk: Watched, path: str, tmp_path: Path) -> None:
    """R6: a directory, another thing that is no file, and nothing at all are refused as what they are."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    for where, reason in ((str(tmp_path), "it is a directory"), (fifo, "it is no regular file")):
        for attempt in (open_to_read, lambda disk, path: open_to_write(disk, path, at_power=False)):
            with pytest.raises(NotAStore) as caught:
                attempt(disk, where)
            assert (caught.value.path, caught.value.reason) == (where, reason)
    with pytest.raises(NotAStore) as caught:
        open_to_read(disk, path)
    assert (caught.value.path, caught.value.reason) == (path, "there is no such file")
    assert os.listdir(tmp_path) == ["fifo"]


def test_remove_what_a_dead_process_left(disk: Watched, path: str) -> None:
    """R1, R8: the new file of a process that died while it wrote one is removed, whether the store is there or not."""
    for _ in range(2):
        Path(f"{path}.new").write_bytes(b"half")
        opened_to_write(disk, path)[1].abandon()
        assert names(path) == ["", ".lock"]


def test_open_what_another_created_meanwhile(disk: Watched, path: str) -> None:
    """L1, R6: a file that somebody created while we waited for its lock is opened, and not made anew."""
    make(path, MAP_RECORD, BASE_END)
    disk.looks = [lambda path: False]
    engine, log = opened_to_write(disk, path)
    assert [state.name for state in engine.states()] == ["m"]
    log.abandon()


def test_miss_what_another_removed_meanwhile(disk: Watched, path: str) -> None:
    """R6: a file that was there and is gone under the lock is not replaced by an empty one."""
    make(path, MAP_RECORD, BASE_END)

    def remove(leftover: str) -> bool:
        os.unlink(path)
        return False

    disk.looks = [os.path.exists, remove]
    with pytest.raises(FileNotFoundError):
        open_to_write(disk, path, at_power=False)
    assert names(path) in ([], [".lock"])
    assert disk.open == set()


@pytest.mark.parametrize(("failures", "loads"), [(0, 1), (1, 2), (2, 3), (3, 3)])
def test_read_again_where_a_writer_was_at_it(
    disk: Watched, path: str, monkeypatch: pytest.MonkeyPatch, failures: int, loads: int
) -> None:
    """R7: what looks damaged may be a record that a writer is in the middle of: it is read three times at most."""
    make(path, MAP_RECORD, BASE_END)
    tries = []
    load = OpenedLog.load

    def watched(opened: OpenedLog, engine: Engine) -> None:
        assert engine.states() == []
        tries.append(engine)
        if len(tries) <= failures:
            with open(path, "ab") as file:
                file.write(pack_frame(TTL_RECORD, 1 + len(tries), 0, Header(b"generation of 16").seed))
            raise opened.corrupt(1, "seemingly")
        load(opened, engine)

    monkeypatch.setattr(OpenedLog, "load", watched)
    if failures < 3:
        engine, log = open_to_read(disk, path)
        assert engine is tries[-1]
        assert [state.name for state in engine.states()] == ["m"]
        log.abandon()
    else:
        with pytest.raises(LogCorrupt, match="seemingly"):
            open_to_read(disk, path)
    assert (len(tries), disk.open) == (loads, set())


def test_read_once_what_nobody_is_writing(disk: Watched, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: damage in a file that does not change is damage, at once."""
    make(path, MAP_RECORD, BASE_END)
    tries = []

    def damaged(opened: OpenedLog, engine: Engine) -> None:
        tries.append(engine)
        raise opened.corrupt(1, "really")

    monkeypatch.setattr(OpenedLog, "load", damaged)
    with pytest.raises(LogCorrupt, match="really"):
        open_to_read(disk, path)
    assert (len(tries), disk.open) == (1, set())


@pytest.mark.parametrize(
    ("payloads", "place", "reason"),
    [
        ((MAP_RECORD, BASE_END, b"\xc1"), 2, "not msgpack"),
        ((MAP_RECORD, TTL_RECORD, BASE_END), 1, "unknown within the base"),
        ((BASE_END, encode_record([(8, 0, ["a"], [b""])])), 1, "unknown behind the base"),
        ((BASE_END, TTL_RECORD), 1, "does not follow from those before it"),
        ((MAP_RECORD, BASE_END, MAP_RECORD), 2, "a map that is there already"),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_refuse_a_whole_record_that_is_none_of_ours(
    disk: Watched, path: str, payloads: tuple[bytes, ...], place: int, reason: str, read_only: bool
) -> None:
    """R3, G3: a record under a right checksum that means nothing is damage, at the place where it begins."""
    places = make(path, *payloads)
    before = Path(path).read_bytes()
    with pytest.raises(LogCorrupt, match=reason) as caught:
        if read_only:
            open_to_read(disk, path)
        else:
            open_to_write(disk, path, at_power=False)
    assert (caught.value.path, caught.value.offset) == (path, places[place])
    assert (caught.value.records_before, caught.value.records_after) == (place + 1, 0)
    assert (Path(path).read_bytes(), disk.open) == (before, set())


def test_refuse_a_log_without_a_base(disk: Watched, path: str) -> None:
    """R6: a header alone is no store; records without the end of their base are a damaged one."""
    make(path)
    for attempt in (lambda: open_to_write(disk, path, at_power=False), lambda: open_to_read(disk, path)):
        with pytest.raises(NotAStore) as caught:
            attempt()
        assert caught.value.reason == "it has a header and nothing more"
    with open(path, "ab") as file:
        file.write(b"torn")
    with pytest.raises(NotAStore):
        open_to_read(disk, path)
    places = make(path, MAP_RECORD)
    with pytest.raises(LogCorrupt, match="the log ends within its base") as caught:
        open_to_read(disk, path)
    assert (caught.value.offset, caught.value.records_before, caught.value.records_after) == (places[1], 1, 0)
    places = make(path, MAP_RECORD, TTL_RECORD, TTL_RECORD)
    data = bytearray(Path(path).read_bytes())
    data[places[1] + FRAME_BYTES] ^= 1
    Path(path).write_bytes(bytes(data))
    with pytest.raises(LogCorrupt) as caught:
        open_to_read(disk, path)
    assert (caught.value.offset, caught.value.records_before, caught.value.records_after) == (places[1], 1, 1)
    assert disk.open == set()


def damaged(path: str, synced_to: int, *, first: int = 3) -> list[int]:
    """A log with a damaged record and two whole ones behind it, which say how far the log was synced."""
    places = make(path, MAP_RECORD, BASE_END, TTL_RECORD, TTL_RECORD, TTL_RECORD, TTL_RECORD, synced_to=synced_to)
    data = bytearray(Path(path).read_bytes())
    data[places[first] + FRAME_BYTES] ^= 1
    Path(path).write_bytes(bytes(data))
    return places


def test_tell_damage_from_a_torn_tail(disk: Watched, path: str) -> None:
    """R2, R3: a bad record that a later one promises as synced is damage; one that nobody promised was torn."""
    places = damaged(path, 0)
    end, size = places[3], places[-1]
    damaged(path, end + 1)
    before = Path(path).read_bytes()
    with pytest.raises(LogCorrupt) as caught:
        open_to_read(disk, path)
    assert (caught.value.offset, caught.value.records_before, caught.value.records_after) == (end, 3, 2)
    assert caught.value.reason != "the log ends within its base"
    with pytest.raises(LogCorrupt):
        open_to_write(disk, path, at_power=False)
    assert (Path(path).read_bytes(), names(path), disk.open) == (before, [""], set())
    damaged(path, end)
    _, log = open_to_read(disk, path)
    recovery: Any = log.recovery
    assert (recovery.dropped_bytes, recovery.offset, recovery.kept_in) == (size - end, end, None)
    assert recovery.reason
    log.abandon()
    _, log = opened_to_write(disk, path)
    recovery = log.recovery
    assert (recovery.dropped_bytes, recovery.offset, recovery.kept_in) == (size - end, end, f"{path}.cut-{end}")
    assert os.path.getsize(recovery.kept_in) == size - end
    log.abandon()


@pytest.mark.parametrize("rewrite", [False, True])
@pytest.mark.parametrize("first", [3, 4, 5])
def test_write_anew_where_whole_records_lie_behind_a_tear(disk: Watched, path: str, rewrite: bool, first: int) -> None:
    """R4: records that were cut may come up again in a freed block, and must not pass for new ones."""
    places = damaged(path, 0, first=first)
    _, log = opened_to_write(disk, path, rewrite=rewrite)
    assert log.size == os.path.getsize(path) == places[first]
    is_new = Path(path).read_bytes()[:HEADER_BYTES] != Header(b"generation of 16").pack()
    assert is_new is (rewrite or first < 5)
    log.abandon()
    assert disk.open == set()


@pytest.mark.parametrize("rewrite", [False, True])
def test_cut_what_lies_behind_a_clean_end(disk: Watched, path: str, rewrite: bool) -> None:
    """R2, R5: bytes behind the mark of a clean end are a torn tail like any: told, kept aside, and cut."""
    _, log = opened_to_write(disk, path)
    log.append([(5, 0, "MP" + "0" * 32, "m", "me", 0, 0, 5, 0, 0)])
    log.close(sync=True)
    end = os.path.getsize(path)
    _, log = open_to_read(disk, path)
    assert log.recovery is None
    log.abandon()
    with open(path, "ab") as file:
        file.write(b"torn")
    disk.opened.clear()
    _, log = open_to_read(disk, path)
    assert disk.opened == ["read"]
    assert repr(log.recovery).startswith(f"Recovery(dropped_bytes=4, offset={end}, reason='")
    log.abandon()
    _, log = opened_to_write(disk, path, rewrite=rewrite)
    assert repr(log.recovery).startswith(f"Recovery(dropped_bytes=4, offset={end}, reason='")
    assert log.size == os.path.getsize(path) == end
    log.append([(MAP_TTL, 0, 9)])
    log.close(sync=True)
    engine, log = open_to_read(disk, path)
    assert (log.recovery, [state.expires for state in engine.states()]) == (None, [9])
    log.abandon()


def test_read_an_unclean_end(disk: Watched, path: str) -> None:
    """R5: who only reads is told of an end that was not clean, also where nothing was lost."""
    places = make(path, MAP_RECORD, BASE_END)
    _, log = open_to_read(disk, path)
    assert repr(log.recovery) == f"Recovery(dropped_bytes=0, offset={places[-1]}, reason=None, kept_in=None)"
    log.abandon()


def test_warn_of_a_torn_tail(disk: Watched, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """R2: what is dropped is told in the log of the program, too; an end that dropped nothing is not."""
    make(path, MAP_RECORD, BASE_END)
    opened_to_write(disk, path)[1].abandon()
    assert caplog.records == []
    with open(path, "ab") as file:
        file.write(b"torn")
    opened_to_write(disk, path)[1].abandon()
    assert [(entry.name, entry.levelname) for entry in caplog.records] == [("mapitem.log", "WARNING")]
    assert "dropped_bytes=4" in caplog.text


def test_let_go_of_what_fails_in_the_end(disk: Watched, path: str) -> None:
    """R8: where what was found cannot be put on the medium, the opening fails, and holds nothing."""
    make(path, MAP_RECORD, BASE_END)

    def refuse(descriptor: int) -> None:
        raise OSError(5, "no sync")

    disk.sync = refuse  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no sync"):
        open_to_write(disk, path, at_power=False)
    assert disk.open == set()


def test_see_that_a_file_has_grown(disk: Watched, path: str) -> None:
    """R7: a file of another size than at the opening has had a writer."""
    make(path, BASE_END)
    opened = OpenedLog(disk, path, read_only=True)
    assert not opened.has_grown()
    with open(path, "ab") as file:
        file.write(b"x")
    assert opened.has_grown()
    opened.close()
    opened.close()
    assert disk.open == set()


def test_show_a_recovery() -> None:
    """R2, R5: bytes, offset, reason, and where the cut bytes were kept; read-only."""
    recovery = Recovery(4, 99, "why", "there")
    assert (recovery.dropped_bytes, recovery.offset, recovery.reason, recovery.kept_in) == (4, 99, "why", "there")
    assert repr(recovery) == "Recovery(dropped_bytes=4, offset=99, reason='why', kept_in='there')"
    for name in ("dropped_bytes", "offset", "reason", "kept_in"):
        with pytest.raises(AttributeError):
            setattr(recovery, name, None)


@pytest.mark.parametrize("failing", ["put_in_place", "scan"])
def test_leave_nothing_of_a_store_that_could_not_be_created(
    disk: Watched, path: str, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """R6, R8: a file that could not be created whole is not there, and nothing is held open."""

    def refuse(*arguments: object) -> None:
        raise OSError(28, "full")

    if failing == "put_in_place":
        disk.replace = refuse  # type: ignore[method-assign]
    else:
        monkeypatch.setattr("mapitem.opening.Scan", refuse)
    with pytest.raises(OSError, match="full"):
        open_to_write(disk, path, at_power=False)
    assert disk.open == set()
    assert names(path) == ([] if failing == "put_in_place" else [""]) or names(path) == [
        ".lock",
        *([""] if failing == "scan" else []),
    ]

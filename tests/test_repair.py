"""``check`` and ``repair`` (durability R3): what they say of a file, and what of a damaged one comes into a new one."""

from __future__ import annotations

import errno
import os
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgpack
import pytest
from damage_campaign import BEFORE_ALL, DAMAGES, HastyStore, assemble, memory_folder, pack, pack_row, put, split
from golden.make import map_fields
from hypothesis import given
from hypothesis import strategies as st
from log_reader import BASE_END, CLOSE, FRAME, HEADER, row_fields

from mapitem import LogCorrupt, NewerFormat, NotAStore, Store, frames
from mapitem.disk import Disk
from mapitem.frames import read_header
from mapitem.item import MOST_EVENTS, NEVER
from mapitem.repair import CheckReport, RepairReport, check, repair
from mapitem.salvage import Salvage
from mapitem.testing import ManualClock

NOW = 1_700_000_000.0
GOLDEN = sorted(Path(__file__).with_name("golden").glob("*.mapitem"))
Maps = dict[str, dict[str, Any]]


def shown(path: Path) -> Maps:
    """All that is in a file, due or not, by sid."""
    with HastyStore(path, clock=ManualClock(now=BEFORE_ALL), read_only=True) as store:
        return content(store)


def content(store: Store) -> Maps:
    return {map_.sid: map_fields(map_) for map_ in store.maps()}


def items_of(maps: Maps) -> set[str]:
    """Every item with its sid and key, as something to compare."""
    return {repr((sid, *item)) for sid, map_ in maps.items() for item in map_["items"].items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A closed store: a map with "a", "b" and "c" (revisions 0, 1, 2; "b" was written again as 3), and an empty one."""
    path = tmp_path / "store"
    with Store(path, clock=ManualClock(now=NOW), durability="power") as store:
        m = store.map("m")
        m.set("a", {"n": 0}, ttl=60)
        m.set("b", {"n": 1})
        m.set("c", {"n": 2})
        m.set("b", {"n": 3})
        store.map("empty", ttl=100)
    (tmp_path / "store.lock").unlink()
    return path


def frames_of(path: Path) -> list[bytes]:
    return split(path.read_bytes())


def without(path: Path, *numbers: int) -> None:
    """Zero the frames of these numbers, of which 0 is the end of the base."""
    log = bytearray(path.read_bytes())
    place = HEADER.size
    for number, frame in enumerate(frames_of(path)):
        if number in numbers:
            log[place : place + len(frame)] = bytes(len(frame))
        place += len(frame)
    path.write_bytes(log)


# ---------------------------------------------------------------- any life, any damage


class Life(NamedTuple):
    """A log, what its store held at last, and every item, with sid and key, that it ever held."""

    log: bytes
    last: Maps
    items: set[str]
    revisions: dict[str, int]
    older: bytes


moves = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "expiring", "remove", "batch", "end", "sync", "compact", "tick"]),
        st.sampled_from(["one", "two"]),
        st.sampled_from("abcd"),
    ),
    min_size=8,
    max_size=50,
)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    level = draw(st.sampled_from(["none", "process", "power"]))
    clock = ManualClock(now=NOW)
    items: set[str] = set()
    revisions: dict[str, int] = {}
    older = b""
    with memory_folder() as folder:
        path = Path(folder) / "log"
        with HastyStore(path, durability=level, clock=clock, compact_at=None) as store:
            for number, move in enumerate(draw(moves)):
                if move[0] == "compact":
                    older = path.read_bytes()
                make_move(store, clock, number, *move)
                last = at_the_beginning(store, clock)
                items |= items_of(last)
                revisions |= {sid: map_["revision"] for sid, map_ in last.items()}
            last = at_the_beginning(store, clock)
            log = path.read_bytes()
        if draw(st.booleans()):
            log = path.read_bytes()
    return Life(log, last, items, revisions, older)


def at_the_beginning(store: Store, clock: ManualClock) -> Maps:
    """What the store holds, due or not."""
    now = clock()
    clock.set(BEFORE_ALL)
    maps = content(store)
    clock.set(now)
    return maps


def make_move(store: Store, clock: ManualClock, number: int, move: str, name: str, key: str) -> None:
    map_ = store.map(name)
    if move in ("set", "expiring"):
        map_.set(key, {"n": number, "µm": "µm" * (number % 7)}, ttl=3 if move == "expiring" else None)
    elif move == "remove":
        with suppress(KeyError):
            map_.remove(key)
    elif move == "batch":
        with store.batch() as batch:
            batch.set(map_, key, {"n": number}, ttl=5, collection_ttl=1000)
            batch.set(store.map("three"), key * 2, {"n": number})
    elif move == "end":
        map_.remove_map()
    elif move == "sync":
        store.sync()
    elif move == "compact":
        store.compact()
    else:
        clock.advance(2)


@given(life=lives(), damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1)), max_size=4))
def test_repair_uses_every_whole_record_and_counts_the_rest(life: Life, damage: list[tuple[float, bytes]]) -> None:
    """R3: whatever is written over a log, the repair is what its whole records come to, and its figures add up."""
    log = bytearray(life.log)
    for share, garbage in damage:
        place = HEADER.size + int(share * (len(log) - HEADER.size))
        log[place : place + len(garbage)] = garbage[: len(log) - place]
    left: list[tuple[int, bytes]] = []
    whole_bytes, place = 0, HEADER.size
    frames = split(life.log)
    for number, frame in enumerate(frames):
        if log[place : place + len(frame)] == frame:
            left.append((number, frame[FRAME.size :]))
            whole_bytes += len(frame)
        place += len(frame)
    with memory_folder() as folder:
        path, out = Path(folder) / "log", Path(folder) / "out"
        path.write_bytes(log)
        if not left:
            with pytest.raises(NotAStore):
                repair(path, out)
            return
        report = repair(path, out)
        found, maps = check(out), shown(out)
    expected = replay([payload for _, payload in left])

    assert found.clean
    assert (found.maps, found.items) == (report.maps, report.items) == (len(maps), len(items_of(maps)))
    named = {sid: map_["items"] for sid, map_ in maps.items() if map_["name"] not in report.renamed_maps}
    assert named == {map_["sid"]: map_["items"] for map_ in expected if map_["sid"]}
    nameless = [map_["items"] for map_ in maps.values() if map_["name"] in report.renamed_maps]
    assert nameless == [map_["items"] for map_ in expected if not map_["sid"]]

    assert report.records == sum(payload not in (BASE_END, CLOSE) for _, payload in left)
    assert report.lost_bytes == len(log) - HEADER.size - whole_bytes == sum(size for _, size in report.gaps)
    assert report.lost_records == left[-1][0] + 1 - len(left)
    assert report.lost_changes <= events_in(frames) - events_in([FRAME.size * b" " + payload for _, payload in left])
    assert report.unreadable_records == report.cut_bytes == 0
    assert report.complete is (len(left) == len(frames))
    for sid, map_ in maps.items():
        if report.complete:
            assert map_["revision"] == life.revisions[sid]
        else:
            assert map_["revision"] > life.revisions.get(sid, 0)
    if report.complete:
        assert unfed(maps) == unfed(life.last)


def unfed(maps: Maps) -> Maps:
    """Without where the feed begins, which a repair does not keep."""
    return {sid: {**map_, "oldest": None} for sid, map_ in maps.items()}


def replay(payloads: list[bytes]) -> list[dict[str, Any]]:
    """What these records come to, whatever is missing between them: maps by number; a lost beginning has no sid."""
    maps: dict[int, dict[str, Any]] = {}
    for payload in payloads:
        for kind, no, *fields in [] if payload in (BASE_END, CLOSE) else msgpack.unpackb(payload):
            if kind == 5:
                for other in [other for other, map_ in maps.items() if map_["name"] == fields[1] is not None]:
                    del maps[other]
                maps[no] = {"sid": fields[0], "name": fields[1], "items": {}}
                continue
            map_ = maps.setdefault(no, {"sid": None, "name": None, "items": {}})
            if kind in (1, 2):
                map_["items"][fields[0]] = row_fields(fields[1])
            elif kind in (3, 4, 9):
                for key in [fields[0]] if kind == 3 else fields[0]:
                    map_["items"].pop(key, None)
            elif kind == 7:
                del maps[no]
            elif kind == 8:
                map_["items"].update(zip(fields[0], map(row_fields, fields[1]), strict=True))
    return [map_ for _, map_ in sorted(maps.items()) if map_["sid"] or map_["items"]]


def events_in(frames: list[bytes]) -> int:
    """How many events of items these frames tell of, or in a base stand for."""
    count = 0
    for payload in (frame[FRAME.size :] for frame in frames):
        for operation in [] if payload in (BASE_END, CLOSE) else msgpack.unpackb(payload):
            count += {4: len(operation[2]) if operation[0] == 4 else 0, 6: 0, 7: 0, 9: 0, 10: 0}.get(operation[0], 1)
            if operation[0] in (5, 10):
                count += operation[-1]
            elif operation[0] == 8:
                count += len(operation[2])
    return count


@given(life=lives(), damages=st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=3), seed=st.integers(0, 2**32))
def test_repair_makes_nothing_up(life: Life, damages: list[Callable[..., None]], seed: int) -> None:
    """R3: after any damage the repair holds only items that were once there, at that revision and in that map.

    The file stays as it was, nothing is left but the result, and no map will give a revision again.
    """
    log = bytearray(life.log)
    for damage in damages:
        damage(log, Random(seed), life.older)
    with memory_folder() as folder:
        path, out = Path(folder) / "log", Path(folder) / "out"
        path.write_bytes(log)
        try:
            report = repair(path, out)
        except NotAStore:
            assert os.listdir(folder) == ["log"]
            return
        assert sorted(os.listdir(folder)) == ["log", "out"]
        assert path.read_bytes() == log
        assert check(out).clean
        maps = shown(out)
    once_there = life.items | {re.sub(r"^\('MP\w+'", "('", item) for item in life.items}
    lost_sids = [sid for sid, map_ in maps.items() if map_["name"] in report.renamed_maps]
    assert len(lost_sids) == len(report.renamed_maps)
    for item in items_of(maps):
        sid = item[2:36]
        assert (re.sub(r"^\('MP\w+'", "('", item) if sid in lost_sids else item) in once_there
    if not report.complete:
        assert all(map_["revision"] > life.revisions.get(sid, 0) for sid, map_ in maps.items())


@given(life=lives(), damages=st.lists(st.sampled_from(DAMAGES), max_size=2), seed=st.integers(0, 2**32))
def test_check_says_what_an_opening_finds(life: Life, damages: list[Callable[..., None]], seed: int) -> None:
    """R3: a file is clean, unclean, torn or damaged exactly as an opening finds it, with the same figures."""
    log = bytearray(life.log)
    for damage in damages:
        damage(log, Random(seed), life.older)
    with memory_folder() as folder:
        path = Path(folder) / "log"
        path.write_bytes(log)
        try:
            report: CheckReport | None = check(path)
        except NotAStore:
            report = None
        assert os.listdir(folder) == ["log"]
        assert path.read_bytes() == log
        try:
            with HastyStore(path, clock=ManualClock(now=BEFORE_ALL), read_only=True) as store:
                recovery, maps = store.recovery, content(store)
        except NotAStore:
            assert report is None or (report.state, report.offset) == ("damaged", 0)
            return
        except LogCorrupt as error:
            assert report is not None
            assert (report.state, report.offset, report.reason) == ("damaged", error.offset, error.reason)
            if error.offset:
                assert report.records_after == error.records_after
            return
    assert report is not None
    assert (report.size, report.maps, report.items) == (len(log), len(maps), len(items_of(maps)))
    if recovery is None:
        assert report.state == "clean"
    else:
        assert report.state == ("torn" if recovery.dropped_bytes else "unclean")
        assert report.torn_bytes == recovery.dropped_bytes
    if report.state == "torn":
        assert recovery is not None
        assert (report.offset, report.reason) == (recovery.offset, recovery.reason)
    else:
        assert (report.offset, report.reason, report.torn_bytes, report.records_after) == (None, None, 0, 0)


# ---------------------------------------------------------------- golden files


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_check_golden_files(golden: Path) -> None:
    """R6: each golden file is in the state that its name says, and nothing is made beside it."""
    before = sorted(golden.parent.iterdir())
    expected = {"unclean-1.0": "unclean", "torn-1.0": "torn"}.get(golden.stem, "clean")
    report = check(golden)
    assert report.state == expected
    assert report.items == len(items_of(shown(golden)))
    assert sorted(golden.parent.iterdir()) == before


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_repair_golden_files_without_each_record(golden: Path) -> None:
    """R3: whichever frame of a golden file is lost, every item that stands in another is saved."""
    log, last = golden.read_bytes(), shown(golden)
    written = [frame[FRAME.size :] for frame in split(log)]
    at_last = [(key, item) for map_ in last.values() for key, item in map_["items"].items()]
    place = HEADER.size
    for number, frame in enumerate(split(log)):
        damaged = bytearray(log)
        damaged[place : place + len(frame)] = bytes(len(frame))
        place += len(frame)
        with memory_folder() as folder:
            path, out = Path(folder) / "log", Path(folder) / "out"
            path.write_bytes(damaged)
            if len(written) <= 2 and not any(map(rows_of, written)):
                continue  # an empty store has nothing to lose
            report = repair(path, out)
            saved = [(key, item) for map_ in shown(out).values() for key, item in map_["items"].items()]
        others = [row for payload in written[:number] + written[number + 1 :] for row in rows_of(payload)]
        assert not [item for item in at_last if item in others and item not in saved]
        assert not [item for item in saved if item not in others]
        assert not report.complete
        assert report.lost_bytes >= len(frame)


def rows_of(payload: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The items that a record writes."""
    found: list[tuple[str, dict[str, Any]]] = []
    for kind, _, *fields in [] if payload in (BASE_END, CLOSE) else msgpack.unpackb(payload):
        if kind in (1, 2):
            found.append((fields[0], row_fields(fields[1])))
        elif kind == 8:
            found += zip(fields[0], map(row_fields, fields[1]), strict=True)
    return found


# ---------------------------------------------------------------- what check says


def test_check_sound_file(file: Path) -> None:
    """R3: of a sound file, what is in it; due items are counted, for they are in it."""
    report = check(file)
    assert report == CheckReport(
        path=str(file),
        state="clean",
        size=file.stat().st_size,
        records=6,
        maps=2,
        items=3,
        torn_bytes=0,
        offset=None,
        reason=None,
        records_after=0,
    )
    assert str(report) == (
        f"{file}: sound, closed properly\n  6 records, 2 maps, 3 items, {file.stat().st_size:,} bytes"
    )


def test_check_file_in_use(file: Path) -> None:
    """R3: a file that a writer has open is checked beside it, and is unclean."""
    with Store(file) as store:
        store.open_map("m").set("d", {})
        report = check(file)
        assert (report.state, report.records) == ("unclean", 7)
        assert "in use" in str(report)
    assert check(file).clean


def test_check_torn_file(tmp_path: Path) -> None:
    """R2: a torn tail is told with its place, and how many whole records behind it the next opening would drop."""
    path = tmp_path / "store"
    with Store(path) as store:
        m = store.map("m")
        m.set("a", {})
        start = path.stat().st_size
        m.set("b", {})
        m.set("c", {})
        log = bytearray(path.read_bytes())
    log[start + 30] ^= 1
    path.write_bytes(log)
    report = check(path)
    assert (report.state, report.offset, report.torn_bytes) == ("torn", start, len(log) - start)
    assert (report.records, report.items, report.records_after) == (2, 1, 1)
    assert report.reason == "a record's checksum is wrong"
    assert "1 whole record\n" in str(report)
    assert f"drops {len(log) - start} bytes" in str(report)


def test_check_damaged_file(file: Path) -> None:
    """R3: damage is told with its place, and what lies before and behind it."""
    first, second = (len(frame) for frame in frames_of(file)[:2])
    without(file, 2)
    report = check(file)
    assert (report.state, report.offset) == ("damaged", HEADER.size + first + second)
    assert (report.records, report.maps, report.items, report.records_after) == (1, 1, 0, 5)
    assert str(report).startswith(f"{file}: damaged\n  at byte {report.offset} of ")


def test_check_looks_into_items(tmp_path: Path) -> None:
    """R3: an item that another program wrote, and whose data are none, is damage to ``check``."""
    path = tmp_path / "store"
    path.write_bytes(log_with(row(0, data=[1])))
    assert (check(path).state, check(path).reason) == ("damaged", "an item whose content is none")


def test_check_compares_items_with_the_count_of_their_map(tmp_path: Path) -> None:
    """R3: an item of a base with a number that its map has yet to give is damage to ``check``."""
    path = tmp_path / "store"
    path.write_bytes(assemble([pack([begin(1, events=5)]), pack([[8, 1, ["a"], [row(5)]]]), BASE_END, CLOSE]))
    assert (check(path).state, check(path).reason) == ("damaged", "an item with a later number than its map has given")


def test_check_record_that_does_not_follow(tmp_path: Path) -> None:
    """R3: a whole record that does not follow from those before it is damage, as to an opening."""
    path = tmp_path / "store"
    path.write_bytes(assemble([BASE_END, pack([[1, 7, "a", row(0)]])]))
    report = check(path)
    assert report.damaged
    with pytest.raises(LogCorrupt) as caught, Store(path, read_only=True):
        pass
    assert (caught.value.offset, caught.value.reason) == (report.offset, report.reason)


def test_check_file_with_damaged_header(file: Path) -> None:
    """R3: a log whose header is damaged, even in its first bytes, is damaged, and not "no store"."""
    for place in (0, 9, 20, 34):
        log = bytearray(file.read_bytes())
        log[place] ^= 255
        put(file, bytes(log))
        report = check(file)
        assert (report.state, report.offset, report.records, report.records_after) == ("damaged", 0, 0, 8)
        log[place] ^= 255
        put(file, bytes(log))


def test_check_again_what_a_writer_was_in_the_middle_of(file: Path) -> None:
    """R7: what looks damaged in a file that has grown meanwhile is looked at again."""
    sound = file.read_bytes()
    without(file, 2)
    file.write_bytes(file.read_bytes()[:-3])
    looks = []

    def writer_goes_on(done: int, total: int) -> None:
        looks.append(done)
        if done == total:  # at the end of a look
            put(file, sound)

    assert check(file, writer_goes_on).clean
    assert len(looks) == 2 + 2


# ---------------------------------------------------------------- what repair saves


def repaired(path: Path) -> tuple[RepairReport, Store]:
    """The report, and the result opened, at a time when nothing is due."""
    out = path.with_name("out")
    report = repair(path, out)
    return report, Store(out, clock=ManualClock(now=NOW), read_only=True)


def test_repair_sound_file(file: Path) -> None:
    """R3: of a sound file all is there: items, revisions, dates, expiries, and nothing is lost."""
    before = shown(file)
    report, store = repaired(file)
    with store:
        assert store.recovery is None
    assert unfed(shown(Path(report.out))) == unfed(before)
    assert report == RepairReport(
        path=str(file),
        out=str(file.with_name("out")),
        complete=True,
        records=6,
        maps=2,
        items=3,
        lost_bytes=0,
        gaps=(),
        cut_bytes=0,
        lost_records=0,
        lost_changes=0,
        unreadable_records=0,
        renamed_maps=(),
        gave_up=False,
    )
    assert str(report) == f"{report.out}: all that {file} holds\n  6 records, 2 maps, 3 items"


def test_repair_without_an_update(file: Path) -> None:
    """R3: what a lost record changed is as before; the loss is told in bytes, records and changes."""
    frames = frames_of(file)
    without(file, 5)
    report, store = repaired(file)
    with store:
        assert {item.key: item.data["n"] for item in store.open_map("m").values()} == {"a": 0, "b": 1, "c": 2}
    assert report.gaps == ((HEADER.size + sum(map(len, frames[:5])), len(frames[5])),)
    assert (report.lost_bytes, report.lost_records, report.complete) == (len(frames[5]), 1, False)
    # No later event of the map is there to tell of the one that is missing.
    assert report.lost_changes == 0
    assert f"lost: {len(frames[5])} bytes in one place" in str(report)
    assert "lost: at least 1 record\n" in str(report)


def test_repair_counts_lost_changes_by_their_numbers(file: Path) -> None:
    """R3: events that lie in lost records in front of a whole one are counted."""
    without(file, 2, 3)
    report, store = repaired(file)
    with store:
        assert list(store.open_map("m")) == ["b", "c"]
    assert (report.lost_records, report.lost_changes) == (2, 2)
    assert "at least 2 changes of items" in str(report)


def test_repair_without_a_removal(file: Path) -> None:
    """R3: what a lost record removed is back, with its revision."""
    with Store(file, clock=ManualClock(now=NOW)) as store:
        store.open_map("m").remove("c")
        store.open_map("m").set("d", {})
    without(file, 7)
    report, store = repaired(file)
    with store:
        assert [(item.key, item.revision) for item in store.open_map("m").values()][1:] == [
            ("b", "3"),
            ("c", "2"),
            ("d", "5"),
        ]
    assert report.lost_changes == 1
    assert "back after they were removed" in str(report)


def test_repair_never_gives_a_revision_twice(file: Path) -> None:
    """R3, semantics R2: after a loss maps count on from far above what anybody can have seen."""
    with Store(file, clock=ManualClock(now=NOW)) as store:
        seen = store.open_map("m").set("d", {"last": True}).revision
    without(file, 7)
    report, store = repaired(file)
    store.close()
    with Store(report.out, clock=ManualClock(now=NOW)) as store:
        assert int(store.open_map("m").set("d", {}).revision, 16) > int(seen, 16)


def test_repair_without_the_beginning_of_a_map(file: Path) -> None:
    """R3: items whose map's beginning is lost are in a map with a new sid and a name that says so."""
    sid = next(iter(shown(file)))
    without(file, 1)
    report, store = repaired(file)
    assert report.renamed_maps == ("recovered-0",)
    with store:
        found = store.open_map("recovered-0")
        assert found.sid != sid
        assert found.created_by == "system"
        assert (found.date_created, found.date_updated) == (found["a"].date_created, found["b"].date_updated)
        assert {item.key: item.data["n"] for item in found.values()} == {"a": 0, "b": 3, "c": 2}
        assert [map_.name for map_ in store.maps()] == ["empty", "recovered-0"]
    assert "'recovered-0'" in str(report)


def test_repair_finds_a_free_name(tmp_path: Path) -> None:
    """R3: a name that says "recovered" does not stand in for one that is taken."""
    path = tmp_path / "store"
    with Store(path) as store:
        store.map("first").set("a", {})
        store.map("recovered-0")
    without(path, 1)
    report, store = repaired(path)
    with store:
        assert sorted(str(map_.name) for map_ in store.maps()) == ["recovered-0", "recovered-0-again"]
    assert report.renamed_maps == ("recovered-0-again",)


def test_repair_without_the_end_of_a_map(tmp_path: Path) -> None:
    """R3: a map whose end is lost is back; unless its name was given again, which says that it had ended."""
    path = tmp_path / "store"
    with Store(path) as store:
        for _ in range(2):
            store.map("again").set("a", {})
            store.map("again").remove_map()
        again = store.map("again").sid
        store.map("once").set("b", {})
        store.open_map("once").remove_map()
    without(path, 3, 6, 10)
    report, store = repaired(path)
    with store:
        assert [(map_.name, list(map_)) for map_ in store.maps()] == [("again", []), ("once", ["b"])]
        assert store.open_map("again").sid == again
    assert report.lost_records == 3


def test_repair_without_the_end_of_the_base(tmp_path: Path) -> None:
    """R3: records are read for what they are when the mark between base and log is lost."""
    path = tmp_path / "store"
    with Store(path) as store:
        m = store.map("m")
        for key in "abc":
            m.set(key, {})
        store.compact()
        m.remove("a")
        m.set("d", {})
    log_frames = frames_of(path)
    without(path, [frame[FRAME.size :] for frame in log_frames].index(BASE_END))
    report, store = repaired(path)
    with store:
        assert list(store.open_map("m")) == ["b", "c", "d"]
    assert (report.lost_records, report.unreadable_records, report.complete) == (1, 0, False)


def test_repair_without_the_end_of_a_map_in_the_base(tmp_path: Path) -> None:
    """R3: after a gap in the base a map's count is not known exactly, and no change is called lost that was not."""
    path = tmp_path / "store"
    base = [pack([begin(1, events=3)]), pack([[8, 1, ["a", "b"], [row(2), row(4)]]])]
    state = [10, 1, int(NOW * 1_000_000), NEVER, 5, 5]
    path.write_bytes(assemble([*base, pack([state]), BASE_END, pack([[1, 1, "c", row(5)]]), CLOSE]))
    assert check(path).clean
    without(path, 2)
    report = repair(path, tmp_path / "out")
    assert (report.lost_records, report.lost_changes, report.items) == (1, 0, 3)


def test_repair_file_that_was_cut_within_its_base(tmp_path: Path) -> None:
    """R3: a file that ends with a whole record, but before its base does, was longer: not all of it is there."""
    path = tmp_path / "store"
    path.write_bytes(assemble([pack([begin(1, events=1)]), pack([[8, 1, ["a"], [row(0)]]])], promise=False))
    assert (check(path).state, check(path).reason) == ("damaged", "the log ends within its base")
    report, store = repaired(path)
    with store:
        assert list(store.open_map("m")) == ["a"]
    assert (report.complete, report.lost_bytes, report.lost_records) == (False, 0, 0)
    assert str(report).endswith("items may be missing, out of date, or back after they were removed")


def test_repair_file_with_damaged_header(file: Path) -> None:
    """R3: a damaged header is no hindrance: the checksums' beginning is found from the records themselves."""
    before = shown(file)
    file.write_bytes(b"\0" * HEADER.size + file.read_bytes()[HEADER.size :])
    report, store = repaired(file)
    store.close()
    assert report.complete
    assert unfed(shown(Path(report.out))) == unfed(before)


def test_repair_file_that_was_cut(file: Path) -> None:
    """R3: a record that promises more than there is says that the file was longer, and by how much at least."""
    frames = frames_of(file)
    log = file.read_bytes()
    # In front stands the rest of the log, and then the close mark, which promises all of it.
    file.write_bytes(log[: HEADER.size + len(frames[0])] + frames[-1])
    report = repair(file, file.with_name("out"))
    size = file.stat().st_size
    assert report.cut_bytes == len(log) - len(frames[-1]) - size
    assert not report.complete
    assert f"at least {report.cut_bytes} bytes at the end" in str(report)


def test_repair_blocks_in_another_order(file: Path) -> None:
    """R3: records that changed places, or are there twice, are used in the order of their numbers, and once."""
    before = shown(file)
    frames = frames_of(file)
    order = [0, 4, 5, 1, 2, 3, 2, 6, 7, 5]
    file.write_bytes(file.read_bytes()[: HEADER.size] + b"".join(frames[number] for number in order))
    report = repair(file, file.with_name("out"))
    assert (report.complete, report.records) == (True, 6)
    assert unfed(shown(file.with_name("out"))) == unfed(before)


def test_repair_with_garbage_between_records(file: Path) -> None:
    """R3: bytes that were put between two records cost neither of them, and are told as what they are."""
    before = shown(file)
    log, place = file.read_bytes(), HEADER.size + sum(map(len, frames_of(file)[:3]))
    file.write_bytes(log[:place] + b"garbage" + log[place:])
    report = repair(file, file.with_name("out"))
    assert (report.records, report.gaps, report.unreadable_records) == (6, ((place, 7),), 0)
    assert items_of(shown(file.with_name("out"))) == items_of(before)


def test_repair_keeps_expiries(file: Path) -> None:
    """R3: times to live go on; what is due is in the new file as it was in the old one."""
    without(file, 5)
    report, store = repaired(file)
    with store:
        expires = [store.open_map("m")["a"].date_expires, store.open_map("empty").date_expires]
    assert [date.timestamp() - NOW for date in expires if date] == [60, 100]
    assert check(report.out).items == 3


def test_repair_leaves_out_records_that_make_no_sense(tmp_path: Path) -> None:
    """R3: whole records of something else are left out, and counted."""
    path = tmp_path / "store"
    path.write_bytes(log_with(row(0), pack([[77, 1]]), pack([[1, 1, "bad", row(1, data=[1])]])))
    report, store = repaired(path)
    with store:
        assert list(store.open_map("m")) == ["a"]
    assert (report.records, report.unreadable_records, report.complete) == (2, 2, False)
    assert "left out: 2 records that made no sense" in str(report)


def test_repair_what_the_disk_cannot_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: a place that the disk cannot read is a gap like any other, and costs no more than what lies in it."""
    with Store(file, clock=ManualClock(now=NOW)) as store:
        for number in range(300):
            store.open_map("m").set(f"{number:03}", {"text": "x" * 100})
    bad = range(3 * 4096, 4 * 4096)
    monkeypatch.setattr("mapitem.disk._pread", pread_without(bad))
    with pytest.raises(OSError, match="Input/output"):
        check(file)
    report = repair(file, file.with_name("out"))
    monkeypatch.undo()
    assert len(report.gaps) == 1
    assert report.gaps[0][0] <= bad.start
    assert 4096 <= report.lost_bytes < 4096 + 2 * 300
    assert report.lost_records == report.lost_changes
    assert len(items_of(shown(file.with_name("out")))) == 303 - report.lost_records


def pread_without(bad: range) -> Callable[..., bytes]:
    def pread(descriptor: int, length: int, offset: int) -> bytes:
        if offset < bad.stop and offset + length > bad.start:
            if offset >= bad.start:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            length = bad.start - offset
        return os.pread(descriptor, length, offset)

    return pread


def test_repair_file_that_changes_meanwhile(file: Path) -> None:
    """R3: records that were whole when they were found, and are not when they are read, are told as lost."""
    sound = file.read_bytes()
    file.write_bytes(sound)

    def spoil(done: int, total: int) -> None:
        without(file, 4)

    report = repair(file, file.with_name("out"), spoil)
    assert report.unreadable_records == 4
    assert not report.complete
    assert list(next(map_ for map_ in shown(file.with_name("out")).values() if map_["items"])["items"]) == ["a", "b"]


# ---------------------------------------------------------------- hostile bytes


def begin(no: int, *, name: str | None = "m", events: int = 0) -> list[Any]:
    instant = int(NOW * 1_000_000)
    return [5, no, f"MP{no:032x}", name, "system", instant, instant, NEVER, events, events]


def row(number: int, data: Any = None) -> bytes:
    instant = int(NOW * 1_000_000)
    return pack_row([number, instant, instant, NEVER], "system", {} if data is None else data)


def log_with(first: bytes, *more: bytes) -> bytes:
    """A log of a map "m" with this row under "a", and these payloads behind it."""
    return assemble([BASE_END, pack([begin(1)]), pack([[1, 1, "a", first]]), *more])


def test_repair_log_that_counts_to_the_end(tmp_path: Path) -> None:
    """R3: an item with the last number there is made the repair write a map whose count no opening accepts."""
    path = tmp_path / "store"
    last = MOST_EVENTS - 1
    payloads = [pack([begin(1, events=last)]), BASE_END]
    path.write_bytes(assemble([*payloads, pack([[1, 1, "a", row(last)]]), pack([[1, 2, "b", row(last - 2)]])]))
    report, store = repaired(path)
    with store:
        assert [list(map_) for map_ in store.maps()] == [[], ["b"]]
    assert report.lost_changes >= 1
    assert check(report.out).clean


def test_repair_gives_up_on_what_keeps_it_busy(file: Path) -> None:
    """G3: bytes made to look like the heads of long records end the search; that it was not ended is told."""
    head = struct.pack(">2sIQQI", b"\xb5m", 400_000, 1, 1, 0)
    log = file.read_bytes()
    file.write_bytes(log + head * (800_000 // len(head)) + frames_of(file)[-1])
    report = repair(file, file.with_name("out"))
    assert (report.gave_up, report.complete, report.items) == (True, False, 3)
    assert report.gaps == ((len(log), file.stat().st_size - len(log)),)
    assert f"not searched to its end: what lies from byte {len(log):,} on" in str(report)


def test_guess_of_a_lost_header_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G3: false records of one byte, of which each cost the guess a hundred times its size in memory, end it soon."""
    monkeypatch.setattr(frames, "_GUESS_BYTES", 27 * 1000)
    false = b"".join(struct.pack(">2sIQQI", b"\xb5m", 1, number, 1, number) + b"x" for number in range(1000))
    log = file.read_bytes()[HEADER.size :]
    file.write_bytes(bytes(HEADER.size) + false[: 27 * 900] + log)
    assert check(file).records_after == 8
    file.write_bytes(bytes(HEADER.size) + false + log)
    with pytest.raises(NotAStore):
        check(file)


def test_repair_takes_no_memory_for_each_record(tmp_path: Path) -> None:
    """G3: a log of many records of one item costs the memory of that item, and nothing for each record."""
    path = tmp_path / "store"
    updates = [pack([[2, 1, "a", row(number)]]) for number in range(1, 20_000)]
    path.write_bytes(log_with(row(0), *updates, CLOSE))
    disk = Disk()
    descriptor = disk.open_read(str(path))
    tracemalloc.start()
    try:
        salvage = Salvage(disk, descriptor, read_header(disk, descriptor, str(path)), lambda done: None)
        assert salvage.gather()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        disk.close(descriptor)
    assert held < 10_000
    assert repair(path, tmp_path / "out").records == 20_001


# ---------------------------------------------------------------- files and refusals


def test_repair_changes_nothing_and_takes_no_lock(file: Path) -> None:
    """R3: a repair beside a writer takes no lock, and leaves the file as it is, to the byte and the date."""
    with Store(file):
        before = file.read_bytes(), file.stat().st_mtime_ns
        names = {path.name for path in file.parent.iterdir()}
        repair(file, file.with_name("out"))
        assert (file.read_bytes(), file.stat().st_mtime_ns) == before
        assert {path.name for path in file.parent.iterdir()} == names | {"out"}
    with Store(file.with_name("out")) as store:
        assert store.recovery is None


def test_repair_gives_the_new_file_the_mode_of_the_old(file: Path) -> None:
    """M1: what only its owner could read stays so."""
    file.chmod(0o600)
    repair(file, file.with_name("out"))
    assert file.with_name("out").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("taken", ["out", "out.new", "store"])
def test_repair_overwrites_nothing(file: Path, taken: str) -> None:
    """R3: a name that is taken is refused, as is one whose temporary name is, and the old file itself."""
    path = file.with_name(taken)
    if taken != "store":
        path.write_text("mine")
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        repair(file, file.with_name("store" if taken == "store" else "out"))
    assert path.read_bytes() == before
    assert {entry.name for entry in file.parent.iterdir()} == {"store", taken}


@pytest.mark.parametrize("name", ["store.new", "store.lock"])
def test_repair_refuses_names_that_will_not_last(file: Path, name: str) -> None:
    """R3: ``repair store store.new`` saved everything, and the next opening of ``store`` removed it as a leftover."""
    with pytest.raises(ValueError, match="will not last"):
        repair(file, file.with_name(name))
    assert [entry.name for entry in file.parent.iterdir()] == ["store"]


@pytest.mark.parametrize("failing", ["write", "sync", "replace", "create", "set_mode"])
def test_repair_that_fails_leaves_nothing(file: Path, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: on a full disk, or one that fails otherwise, there is no new file, no temporary one, and the old one."""
    before = file.read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Disk, failing, fail)
    with pytest.raises(OSError, match="No space"):
        repair(file, file.with_name("out"))
    monkeypatch.undo()
    assert [entry.name for entry in file.parent.iterdir()] == ["store"]
    assert file.read_bytes() == before


@pytest.mark.parametrize("share", [0, 0.4, 0.7])
def test_repair_that_is_interrupted_leaves_nothing(tmp_path: Path, share: float) -> None:
    """R3: Ctrl-C leaves the folder as it was, whenever it comes: while records are found, read or written."""
    path = tmp_path / "store"
    with HastyStore(path) as store, store.batch() as batch:
        for number in range(300):
            batch.set(store.map("m"), f"{number}", {"text": "x" * 16_000})
    path.with_name("store.lock").unlink()

    def interrupt(done: int, total: int) -> None:
        if done > share * total:
            seen.append([entry.name for entry in tmp_path.iterdir()])
            raise KeyboardInterrupt

    seen: list[list[str]] = []
    with pytest.raises(KeyboardInterrupt):
        repair(path, tmp_path / "out", interrupt)
    assert sorted(seen[0]) == (["out.new", "store"] if share == 0.7 else ["store"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_repair_into_missing_folder(file: Path) -> None:
    """R3: no folder is made on the way."""
    with pytest.raises(FileNotFoundError):
        repair(file, file.with_name("nowhere") / "out")
    assert [entry.name for entry in file.parent.iterdir()] == ["store"]


def test_repair_of_what_is_no_store(tmp_path: Path) -> None:
    """R6: an empty, foreign or missing file, a folder, and a header alone are refused with the reason."""
    path = tmp_path / "thing"
    attempts: list[tuple[Callable[[], object], str]] = [
        (lambda: None, "no such file"),
        (path.touch, "empty"),
        (lambda: path.write_text("Dear diary,\n"), "does not begin"),
        (lambda: path.write_bytes(assemble([])), "no whole record|header and nothing more"),
        (lambda: (path.unlink(), path.mkdir()), "no regular file"),
    ]
    for make, reason in attempts:
        make()
        for look in (check, lambda path: repair(path, tmp_path / "out")):
            with pytest.raises(NotAStore, match=reason) as caught:
                look(path)
            assert caught.value.path == str(path)
            assert [entry.name for entry in tmp_path.iterdir()] in ([], ["thing"])


def test_repair_of_a_newer_format(file: Path) -> None:
    """R6: what a newer version wrote is refused, and not repaired to what this one makes of it."""
    log = file.read_bytes()
    head = log[:8] + (2).to_bytes(2, "big") + log[10:32]
    file.write_bytes(head + zlib.crc32(head).to_bytes(4, "big") + log[36:])
    with pytest.raises(NewerFormat):
        check(file)
    with pytest.raises(NewerFormat):
        repair(file, file.with_name("out"))
    assert [entry.name for entry in file.parent.iterdir()] == ["store"]


def test_follow_links(file: Path) -> None:
    """L1: a link is followed, and the report names what it leads to."""
    link = file.with_name("link")
    link.symlink_to(file)
    assert check(link).path == str(file)
    assert repair(link, file.with_name("out")).path == str(file)


def test_progress_comes_to_its_end(tmp_path: Path) -> None:
    """R3: progress is told in bytes that only grow, up to all of them, and not at each record."""
    path = tmp_path / "store"
    with Store(path) as store, store.batch() as batch:
        m = store.map("m")
        for number in range(300):
            batch.set(m, f"{number}", {"text": "x" * 10_000})
    with Store(path) as store:
        for number in range(300):
            store.open_map("m").set(f"{number}", {"text": "x" * 10_000})
    for look, times in ((check, 1), (lambda path, told: repair(path, tmp_path / "out", told), 3)):
        told: list[tuple[int, int]] = []
        look(path, lambda done, total: told.append((done, total)))  # noqa: B023
        total = times * path.stat().st_size
        assert {total_told for _, total_told in told} == {total}
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert told[-1] == (total, total)
        assert 3 * times <= len(told) < 20


def test_needs_no_extra() -> None:
    """``mapitem.repair`` is library: it loads neither the command nor what it needs."""
    code = "import sys, mapitem.repair; print({'click', 'rich', 'mapitem.cli'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

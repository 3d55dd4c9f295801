"""Damaged and hostile files: every bit and truncation of small ones, random damages of larger ones, a fuzzer (V4).

The damages and the judge are in ``tests/damage_campaign``; the long form is ``python -m tests.proof --only damages``.
Each test prints how much it tried, and fails if it tries far less than it used to.
"""

from __future__ import annotations

import os
import struct
import sys
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pytest
from damage_campaign import (
    DAMAGES,
    SUBJECTS,
    HastyStore,
    Raw,
    Subject,
    assemble,
    compacted_subject,
    every_bit,
    every_splice,
    every_truncation,
    hostile_files,
    judge,
    judge_repair,
    large_subject,
    live_with,
    memory_folder,
    pack,
    pack_row,
    random_damages,
    small_subject,
    split,
)
from hypothesis import given
from hypothesis import strategies as st
from log_reader import FRAME, HEADER

from mapitem import LogCorrupt, MapItemError, NewerFormat
from mapitem.item import FIRST_INSTANT, FULL, LAST_INSTANT, MOST_EVENTS, NEVER
from mapitem.repair import check
from mapitem.testing import ManualClock

SMALL = pytest.mark.parametrize(
    ("make", "level", "closed"),
    [
        (small_subject, "power", True),
        (small_subject, "process", False),
        (compacted_subject, "power", False),
        (compacted_subject, "process", True),
    ],
)
Make = Callable[..., Subject]

# A map "m" with one item, as records.
_ROW = b"\x96\xd3" + bytes(8) + (b"\xd3" + (1_700_000_000_000_000).to_bytes(8, "big")) * 2 + b"\xd3\x7f" + b"\xff" * 7
MAP = [5, 0, "MP" + "0" * 32, "m", "system", 0, 0, 2**63 - 1, 0, 0]
ROW = _ROW + msgpack.packb("system") + msgpack.packb({"n": 1})
BASE_END = b"\xa8base end"
CLOSE = b"\xa5close"


def _try_all(subject: Subject, ways: Any, *, every: int, since: int = 0) -> Counter[str]:
    """What the store makes of all these files, each ``every``-th of them written to and another one repaired."""
    outcomes: Counter[str] = Counter()
    with memory_folder() as folder:
        path = Path(folder) / "log"
        for number, log in enumerate(ways):
            if log == subject.log:
                continue
            outcomes[judge(subject, log, path, thorough=number % every == 0)] += 1
            if number % every == every // 2:
                outcomes[f"repair: {judge_repair(subject, log, path)}"] += 1
    print(f"{subject.name}: {dict(outcomes)}")
    return outcomes


# ---------------------------------------------------------------- every one


@SMALL
def test_sees_every_flipped_bit(make: Make, level: str, closed: bool) -> None:
    """G2, V4: the right data, a refusal, or a torn tail with notice; never other data."""
    subject = make(level, closed=closed)
    outcomes = _try_all(subject, every_bit(subject.log), every=80)
    assert outcomes["right"] + outcomes["refused"] + outcomes["prefix"] == 8 * len(subject.log) > 3_600
    assert outcomes["repair: partly"] + outcomes["repair: complete"] > len(subject.log) / 12
    # R2, R3: what was promised as on the medium is no torn tail.
    frames = split(subject.log)
    last = len(frames[-1])
    if closed:
        # Only of the mark at the end may a bit be wrong; each of its loss is a notice and nothing else.
        assert outcomes["prefix"] == 0
        assert outcomes["right"] == 8 * last
    elif level == "power":
        assert outcomes["prefix"] == 8 * last
        assert outcomes["right"] == 0


@SMALL
def test_sees_every_truncation(make: Make, level: str, closed: bool) -> None:
    """G2, V4: cut off within its base a file is refused; behind it, what is left is a state that was."""
    subject = make(level, closed=closed)
    outcomes = _try_all(subject, every_truncation(subject.log), every=10)
    frames = split(subject.log)
    base = HEADER.size + sum(map(len, frames[: 1 + next(n for n, each in enumerate(frames) if BASE_END in each)]))
    assert outcomes["refused"] == base
    assert outcomes["right"] == (len(frames[-1]) if closed else 0)
    assert outcomes["prefix"] == len(subject.log) - base - outcomes["right"] > 100


@pytest.mark.parametrize(("make", "level", "closed"), SUBJECTS)
def test_sees_every_frame_out_of_its_place(make: Make, level: str, closed: bool) -> None:
    """G1, V4: whole frames left out, doubled, moved to the end and exchanged, each with each."""
    subject = make(level, closed=closed)
    outcomes = _try_all(subject, every_splice(subject.log), every=8)
    assert outcomes["right"] + outcomes["refused"] + outcomes["prefix"] > 20
    # Only where every record stands as before is all of it shown; what is behind them is a torn tail.
    records = subject.log[: -len(split(subject.log)[-1])] if closed else subject.log
    untouched = sum(log.startswith(records) and log != subject.log for log in every_splice(subject.log))
    assert outcomes["right"] == untouched


@SMALL
def test_tells_where_the_damage_is(make: Make, level: str, closed: bool, tmp_path: Path) -> None:
    """R3: the offset of the damaged record, how many whole ones lie before it and how many after."""
    subject = make("power", closed=closed)
    frames = split(subject.log)
    place = HEADER.size
    path = tmp_path / "log"
    for number, frame in enumerate(frames[:-1]):
        log = bytearray(subject.log)
        log[place + len(frame) - 1] ^= 0x40
        path.write_bytes(log)
        with pytest.raises(LogCorrupt) as caught:
            HastyStore(path)
        assert caught.value.path == str(path)
        assert caught.value.offset == place
        assert "checksum" in caught.value.reason
        assert (caught.value.records_before, caught.value.records_after) == (number, len(frames) - number - 1)
        assert path.read_bytes() == log
        assert os.listdir(tmp_path) == ["log"]
        place += len(frame)


def test_opens_an_older_log_with_notice_when_its_first_block_stands_in_place_of_the_new_one(tmp_path: Path) -> None:
    """R2, G2: a state that was, and a notice of all the bytes that were dropped, which are kept.

    The first block of the log before a compaction, header and base included, came to lie over that of the new one. No
    byte of what remains says that this is not a file of that age with other files' blocks at its end, which a power cut
    can leave: refusing it would be refusing to open after a crash. The check had taken the older state for none.
    """
    subject = large_subject("power", Random(2), closed=True)
    base_end = subject.older.index(BASE_END) + len(BASE_END)
    log = subject.older[:base_end] + subject.log[base_end:]
    assert len(log) == len(subject.log)
    with memory_folder() as folder:
        assert judge(subject, log, Path(folder) / "log", thorough=True) == "older"
        assert judge_repair(subject, log, Path(folder) / "log") == "partly"
    path = tmp_path / "log"
    path.write_bytes(log)
    with HastyStore(path, clock=ManualClock(now=0.0)) as store:
        assert store.recovery is not None
        assert store.recovery.dropped_bytes == len(log) - base_end
        assert Path(str(store.recovery.kept_in)).read_bytes() == log[base_end:]


# ---------------------------------------------------------------- at random


@pytest.mark.parametrize("seed", range(4))
def test_sees_random_damages_of_larger_files(seed: int, tmp_path: Path) -> None:
    """G2, V4: bits, sectors and ranges flipped, zeroed, swapped, doubled, moved, cut out; repairs judged too."""
    counts: Counter[str] = Counter()
    with memory_folder() as folder:
        random_damages(Random(seed), counts, Path(folder) / "log", 120)
    print(dict(counts))
    for outcome in ("refused", "right", "prefix"):
        assert counts[f"damaged files {outcome}"] > 1
    assert sum(count for what, count in counts.items() if what.startswith("damaged files")) == 120
    assert counts["repairs of them partly"] > 15


def test_lives_with_hostile_files() -> None:
    """G3, V4: records that no store would write, under right checksums: documented errors, or a store that works."""
    counts: Counter[str] = Counter()
    with memory_folder() as folder:
        hostile_files(Random(20261123), counts, Path(folder) / "log", 500)
    print(dict(counts))
    assert counts["hostile files refused"] > 150
    assert counts["hostile files opened"] > 100


# The ends of what a file may say.
NUMBERS = st.sampled_from([0, 1, MOST_EVENTS // 2 - 1, MOST_EVENTS // 2, *range(MOST_EVENTS - 5, MOST_EVENTS)])
INSTANTS = st.sampled_from([FIRST_INSTANT, FIRST_INSTANT + 1, -1, 0, LAST_INSTANT - 1, LAST_INSTANT])
EXPIRIES = INSTANTS | st.just(NEVER)
TEXTS = st.sampled_from(["a", "\0", "MP" + "0" * 32, "\U0010ffff" * 400])
HEADS = st.tuples(NUMBERS, INSTANTS, INSTANTS, EXPIRIES).map(lambda head: [head[0], *sorted(head[1:3]), head[3]])


@given(
    begin=st.tuples(NUMBERS, st.none() | TEXTS, TEXTS, INSTANTS, INSTANTS, EXPIRIES, NUMBERS),
    heads=st.lists(HEADS, max_size=3),
    again=st.none() | st.tuples(INSTANTS, EXPIRIES, NUMBERS),
    then=st.sampled_from(["nothing", "add", "update", "remove", "expire", "ttl", "end"]),
    date=INSTANTS,
    expires=EXPIRIES,
)
def test_lives_with_the_ends_of_every_range(
    begin: tuple[Any, ...], heads: list[Any], again: tuple[Any, ...] | None, then: str, date: int, expires: int
) -> None:
    """G3, M1: whatever a file says that opens, writes, expiries and compactions leave one that opens again."""
    no, name, created_by, created, updated, map_expires, events = begin
    keys = [f"k{number}" for number in range(len(heads))]
    rows = [pack_row(head, created_by, {}) for head in heads]
    payloads = [[5, no, "MP" + "1" * 32, name, created_by, created, updated, map_expires, events, events]]
    if keys:
        payloads.append([8, no, keys, rows])
    if again is not None:
        events = again[2]
        payloads.append([10, no, *again, events])
    row = pack_row([events, min(0, date), date, expires], created_by, {})
    behind: dict[str, list[Any]] = {
        "add": [1, no, "new", row],
        "update": [2, no, "k0", row],
        "remove": [3, no, "k0", events, date],
        "expire": [4, no, keys, events, date],
        "ttl": [6, no, expires],
        "end": [7, no, date, False],
    }
    log = [*(pack([operation]) for operation in payloads), BASE_END]
    log += [pack([behind[then]])] if then in behind else []
    with memory_folder() as folder:
        assert live_with(assemble(log), Path(folder) / "log") in ("opened", "refused")


@pytest.mark.parametrize("count", [FULL, MOST_EVENTS - 3])
def test_writes_no_count_that_no_opening_takes(count: int, tmp_path: Path) -> None:
    """G3: a map with the highest count there is opened and took a write, and the next opening refused the file.

    Now it takes no more items; but what it has can still be removed, or expire, and so can each of its items.
    """
    path = tmp_path / "log"
    begin = [*MAP[:8], count, count]
    items = [8, 0, ["a", "b"], [ROW, pack_row([0, 0, 0, 5_000_000], "system", {})]]
    path.write_bytes(assemble([pack([begin]), pack([items]), BASE_END]))
    with HastyStore(path, clock=ManualClock(now=0.0)) as store:
        map_ = store.map("m")
        for write in (lambda: map_.set("c", {}), lambda: map_.update("a", {}), lambda: map_.set_item_ttl("a", 5)):
            with pytest.raises(LogCorrupt, match="counts"):
                write()
        with pytest.raises(LogCorrupt, match="counts"), store.batch() as batch:
            batch.set(map_, "c", {})
        assert list(map_) == ["a", "b"]
        store.map("another").set("c", {})
        map_.remove("a")
    with HastyStore(path, clock=ManualClock(now=10.0)) as store:
        store.compact()
        assert (list(store.map("m")), int(store.map("m").revision, 16)) == ([], count + 2)
    with HastyStore(path, clock=ManualClock(now=10.0)) as store:
        assert store.recovery is None
        assert list(store.map("another")) == ["c"]


def test_takes_items_up_to_the_count_that_is_full(tmp_path: Path) -> None:
    """G3: the item before takes the last number that an item may have; of a batch none is taken that would go on."""
    path = tmp_path / "log"
    begin = [*MAP[:8], FULL - 1, FULL - 1]
    path.write_bytes(assemble([pack([begin]), BASE_END]))
    with HastyStore(path, clock=ManualClock(now=0.0)) as store:
        map_ = store.map("m")
        with pytest.raises(LogCorrupt, match="counts"), store.batch() as batch:
            batch.set(map_, "a", {})
            batch.set(map_, "b", {})
        assert map_.set("a", {}).revision == f"{FULL - 1:x}"
        with pytest.raises(LogCorrupt, match="counts"):
            map_.set("a", {})
        store.compact()
    with HastyStore(path, clock=ManualClock(now=0.0)) as store:
        assert list(store.map("m")) == ["a"]


def test_refuses_a_count_that_leaves_no_room_for_what_must_go(tmp_path: Path) -> None:
    """G3: each item of a map may yet expire, which counts: that much room there must be."""
    for count, shows in ((MOST_EVENTS - 3, True), (MOST_EVENTS - 2, False)):
        begin = [*MAP[:8], count, count]
        log = assemble([pack([begin]), pack([[8, 0, ["a", "b"], [ROW, ROW]]]), BASE_END])
        shown, _ = _open(tmp_path / "log", log)
        assert (shown == ["LogCorrupt"]) is not shows


def test_numbers_a_new_map_behind_the_last_number_there_is(tmp_path: Path) -> None:
    """G3: behind a map with the highest number a new one got a number that no opening takes, not one that is free."""
    path = tmp_path / "log"
    maps = [[5, no, "MP" + f"{at}" * 32, f"m{at}", *MAP[4:]] for at, no in enumerate([MOST_EVENTS - 1, 0])]
    path.write_bytes(assemble([*(pack([each]) for each in maps), BASE_END]))
    for _ in range(2):
        with HastyStore(path, clock=ManualClock(now=0.0)) as store:
            for name in ("m2", "m3"):
                store.map(name).set("a", {"in": name})
            store.map("m0").set("a", {"in": "m0"})
            store.map("m2").remove_map()
            store.map("m2").set("a", {"in": "m2"})
            assert [map_["a"].data["in"] for map_ in store.maps() if "a" in map_] == ["m0", "m2", "m3"]
            store.compact()


def test_damages_in_every_way() -> None:
    """V4: each way to damage a file changes it, or the sweeps try less than they say."""
    subject = large_subject("power", Random(1), closed=True)
    for damage in DAMAGES:
        random = Random(1)
        logs = set()
        for _ in range(20):
            log = bytearray(subject.log)
            damage(log, random, subject.older)
            logs.add(bytes(log))
        assert len(logs - {subject.log}) > 5, damage


# ---------------------------------------------------------------- G3, each by itself


def _open(path: Path, log: bytes) -> tuple[list[Any], int]:
    """What the file shows (an error as its name), and the most memory that Python took for it."""
    path.write_bytes(log)
    tracemalloc.start()
    try:
        with HastyStore(path, read_only=True, clock=ManualClock(now=0.0)) as store:
            shown: list[Any] = [[map_.name, *map_.values()] for map_ in store.maps()]
    except MapItemError as error:
        shown = [type(error).__name__]
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return shown, peak


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 2**24, 5000])
@pytest.mark.parametrize("honest", [True, False])
def test_makes_no_room_for_what_a_length_claims(length: int, honest: bool, tmp_path: Path) -> None:
    """G3: a frame that claims to be longer than the file is none, whatever its checksum, and costs nothing."""
    whole = assemble([pack([MAP]), BASE_END])
    frame = split(assemble([pack([MAP]), BASE_END, pack([[1, 0, "k", ROW]])]))[-1]
    liar = bytearray(frame)
    liar[2:6] = length.to_bytes(4, "big")
    if honest:
        # The checksum is right for the bytes that there are.
        liar[22:26] = zlib.crc32(bytes(liar[:22] + liar[26:]), zlib.crc32(whole[16:32])).to_bytes(4, "big")
    shown, peak = _open(tmp_path / "log", whole + bytes(liar))
    assert shown == [["m"]]  # a torn tail
    assert peak < 8_000_000


@pytest.mark.parametrize(
    "head", [b"\xdd\x00\x0f\xff\xff", b"\xdc\xff\xff", b"\xdc\x20\x00", b"\xdf\x00\x07\xff\xff", b"\x9f"]
)
def test_makes_no_room_for_what_nested_arrays_claim(head: bytes, tmp_path: Path) -> None:
    """G3: a megabyte of arrays in arrays, each of which claims a million elements, takes no gigabytes."""
    hostile = Raw(head * (1_000_000 // len(head)))
    for payloads in ([hostile, BASE_END], [pack([MAP]), BASE_END, hostile]):
        shown, peak = _open(tmp_path / "log", assemble([bytes(each) for each in payloads]))
        assert shown == ["LogCorrupt"]
        assert peak < 40_000_000


def test_makes_no_room_for_a_length_that_was_damaged_under_an_open_store(tmp_path: Path) -> None:
    """G3, R3: what the feed reads from a file that somebody wrote to meanwhile is looked at as carefully."""
    path = tmp_path / "log"
    with HastyStore(path, clock=ManualClock(now=0.0)) as store:
        map_ = store.map("m")
        before = path.stat().st_size
        map_.set("k", {"n": 1})
        log = bytearray(path.read_bytes())
        log[before + 2] ^= 0x40  # the length's highest byte
        path.write_bytes(log)
        with pytest.raises(LogCorrupt) as caught:
            list(map_.changes("0"))
        assert caught.value.offset == before
        assert map_["k"].data == {"n": 1}


def test_gives_up_a_search_that_was_made_to_last(tmp_path: Path) -> None:
    """G3: bytes that look like frames without end are damage after a bounded look, not a torn tail after hours."""
    whole = assemble([pack([MAP]), BASE_END])
    room = 250_000
    tail = bytearray()
    while len(tail) + FRAME.size < room:
        tail += FRAME.pack(b"\xb5m", room - len(tail) - FRAME.size, 0, 0, 0)
    shown, peak = _open(tmp_path / "log", whole + bytes(tail.ljust(room, b"\0")))
    assert shown == ["LogCorrupt"]
    assert peak < 20_000_000


@pytest.mark.parametrize(
    "operation",
    [
        [0, 0],
        [11, 0],
        [-1, 0],
        [True, 0],
        ["1", 0],
        [8, 0, ["k"], [ROW]],
        [9, 0, ["k"]],
        [1, 0, "k", ROW, 0, 0],
        [1, 0, "k"],
        [1, 0, "", ROW],
        [1, 0, b"k", ROW],
        [1, 0, "k", ROW[:36]],
        [1, 0, "k", b"\x95" + ROW[1:]],
        [1, 0, "k", ROW.decode("latin-1")],
        [2, 0, "k", ROW],
        [1, 1, "k", ROW],
        [3, 0, "k", 0, 0],
        [4, 0, ["k"], 0, 0],
        [4, 0, [], 0, 0],
        [6, 0, -(2**63)],
        [6, 0, "never"],
        [7, 0, 0, 1],
        [7, 0, 2**60, True],
        [5, 1, "MP" + "0" * 31, "n", "system", 0, 0, 2**63 - 1, 0, 0],
        [5, 1, "MP" + "1" * 32, "m", "system", 0, 0, 2**63 - 1, 0, 0],
        [5, 0, "MP" + "1" * 32, "n", "system", 0, 0, 2**63 - 1, 0, 0],
        [5, 1, "MP" + "1" * 32, "", "system", 0, 0, 2**63 - 1, 0, 0],
        [5, 1, "MP" + "1" * 32, "n", "system", 0, 0, 2**63 - 1, 1, 0],
        [5, 1, "MP" + "1" * 32, "n", "system", 0, 0, 2**63 - 1, 2**62, 2**62],
        [1, 0, "k", ROW[:2] + (1).to_bytes(8, "big") + ROW[10:]],
        [1, 0, "k", ROW[:29] + b"\xd3\x40" + bytes(7) + ROW[37:]],
    ],
    ids=repr,
)
def test_refuses_what_no_store_would_write(operation: list[Any], tmp_path: Path) -> None:
    """G3: shapes are checked, unknown kinds are errors, and what does not follow from what was before is refused."""
    shown, _ = _open(tmp_path / "log", assemble([pack([MAP]), BASE_END, pack([[1, 0, "k0", ROW]])]))
    assert shown[0][0] == "m"
    assert [item.key for item in shown[0][1:]] == ["k0"]
    shown, _ = _open(tmp_path / "log", assemble([pack([MAP]), BASE_END, pack([operation])]))
    assert shown == ["LogCorrupt"]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc0", b"\x90", b"\x91\xc0", b"\x91\x90", b"\xc1", b"\x81\x00\x00", pack([[1, 0, "k", ROW]]) + b"\0"],
)
def test_refuses_a_record_that_is_none(payload: bytes, tmp_path: Path) -> None:
    """G3: a whole frame under a right checksum that holds no operations is damage, in the base and behind it."""
    for payloads in ([payload, BASE_END], [pack([MAP]), BASE_END, payload]):
        shown, _ = _open(tmp_path / "log", assemble(payloads))
        assert shown == ["LogCorrupt"]


@pytest.mark.parametrize(
    ("payloads", "shows"),
    [
        ([BASE_END, BASE_END], []),
        ([BASE_END, pack([MAP]), BASE_END], [["m"]]),
        ([BASE_END, CLOSE, BASE_END], []),
        ([CLOSE, BASE_END], ["LogCorrupt"]),
        ([pack([MAP]), CLOSE, BASE_END], ["LogCorrupt"]),
    ],
)
def test_takes_a_mark_in_no_other_place(payloads: list[bytes], shows: list[Any], tmp_path: Path) -> None:
    """G1: a second end of a base is a torn tail, with notice; a clean end within a base is damage."""
    shown, _ = _open(tmp_path / "log", assemble(payloads))
    assert shown == shows
    if shows != ["LogCorrupt"]:
        with HastyStore(tmp_path / "log", read_only=True) as store:
            assert store.recovery is not None
            assert store.recovery.dropped_bytes == FRAME.size + len(BASE_END)


def test_takes_a_clean_end_with_records_behind_it_for_none(tmp_path: Path) -> None:
    """G1, R5: a mark that is not at the end means nothing, neither the first nor what a crash cuts off the second."""
    path = tmp_path / "log"
    for payloads, clean in (([BASE_END, CLOSE, pack([MAP])], False), ([BASE_END, CLOSE, pack([MAP]), CLOSE], True)):
        path.write_bytes(assemble(payloads))
        with HastyStore(path, read_only=True, clock=ManualClock(now=0.0)) as store:
            assert [map_.name for map_ in store.maps()] == ["m"]
            assert (store.recovery is None) is clean


@pytest.mark.parametrize(("major", "flags"), [(2, 0), (1, 1), (1, 2**31), (65535, 2**32 - 1)])
def test_leaves_a_file_of_the_future_alone(major: int, flags: int, tmp_path: Path) -> None:
    """R6: a newer major version, or a flag that this one does not know, is refused, and the file stays as it is."""
    head = struct.pack(">8sHHI16s", b"\x89mapitem", major, 0, flags, bytes(range(16)))
    log = head + zlib.crc32(head).to_bytes(4, "big") + assemble([BASE_END])[HEADER.size :]
    shown, _ = _open(tmp_path / "log", log)
    assert shown == ["NewerFormat"]
    with pytest.raises(NewerFormat):
        HastyStore(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == log
    assert os.listdir(tmp_path) == ["log"]


HEAD = ROW[:37]
SYSTEM = msgpack.packb("system")


@pytest.mark.parametrize(
    "rest",
    [
        SYSTEM,
        SYSTEM + b"\x80\xc0",
        SYSTEM + b"\xc0",
        SYSTEM + b"\x90",
        SYSTEM + b"\x81\xa1n\xc4\x01a",  # bytes
        SYSTEM + b"\x81\xa1n\xd4\x05a",  # an extension
        SYSTEM + b"\x81\xa1n\xd6\xff\0\0\0\0",  # an instant
        SYSTEM + b"\x81\x01\x01",  # a key that is no string
        SYSTEM + b"\x81\xa1n" + b"\x91" * 128 + b"\xc0",  # too deep
        SYSTEM + b"\x81\xa1n" + b"\x91" * 1100 + b"\xc0",
        SYSTEM + b"\x81\xa1n\xa1\xff",  # no UTF-8
        b"\xc0\x80",
        b"\x01\x80",
    ],
    ids=lambda rest: repr(rest[:20]),
)
def test_shows_no_content_that_is_none(rest: bytes, tmp_path: Path) -> None:
    """G3: an opening looks at the heads of items alone; who reads the content of one that has none is told."""
    path = tmp_path / "log"
    path.write_bytes(assemble([pack([MAP]), BASE_END, pack([[1, 0, "k", HEAD + rest]])]))
    with HastyStore(path, read_only=True, clock=ManualClock(now=0.0)) as store:
        item = store.map("m")["k"]
        assert item.revision == "0"
        with pytest.raises(LogCorrupt):
            str((item.created_by, item.data))
    report = check(path)
    assert report.damaged


@pytest.mark.parametrize(
    "number", [b"\xcb\x7f\xf8" + bytes(6), b"\xcb\xff\xf0" + bytes(6), b"\xca\x7f\x80\0\0", b"\xca\xff\xc0\0\0"]
)
def test_serves_no_float_that_is_no_number(number: bytes, tmp_path: Path) -> None:
    """G3: NaN and infinity under a right checksum were handed to readers; such a record is refused as damage is."""
    path = tmp_path / "log"
    path.write_bytes(assemble([pack([MAP]), BASE_END, pack([[1, 0, "k", HEAD + SYSTEM + b"\x81\xa1n" + number]])]))
    with pytest.raises(LogCorrupt, match="a float that is no number"):
        HastyStore(path, read_only=True, clock=ManualClock(now=0.0))
    largest = b"\xcb\x7f\xef" + b"\xff" * 6
    path.write_bytes(assemble([pack([MAP]), BASE_END, pack([[1, 0, "k", HEAD + SYSTEM + b"\x81\xa1n" + largest]])]))
    with HastyStore(path, read_only=True, clock=ManualClock(now=0.0)) as store:
        assert store.map("m")["k"].data == {"n": sys.float_info.max}


def test_tells_of_a_promise_that_cannot_be(tmp_path: Path) -> None:
    """G1, G3: no record can know more to be synced than there was when it was written."""
    whole = assemble([pack([MAP]), BASE_END])
    payload = pack([[1, 0, "k", ROW]])
    for synced_to, shows in ((len(whole), True), (len(whole) + 1, False)):
        head = struct.pack(">2sIQQ", b"\xb5m", len(payload), 2, synced_to)
        checksum = zlib.crc32(head + payload, zlib.crc32(whole[16:32])).to_bytes(4, "big")
        shown, _ = _open(tmp_path / "log", whole + head + checksum + payload)
        assert (shown == ["LogCorrupt"]) is not shows

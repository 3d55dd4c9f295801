"""Crashes on a simulated disk: every workload at every level, whole lives drawn at random, and what they once found.

The disk, the workloads and the checks are in ``tests/crash``; the long form is ``python -m tests.crash.campaign``. Each
test prints how many states it tried, and fails if it tries far fewer than it used to.
"""

from __future__ import annotations

from random import Random

import pytest
from crash.checks import KILL, POWER, Effort, Tally, check_opening, crash, live
from crash.simdisk import KEPT, Fault, Medium, SimDisk
from crash.workloads import (
    LEVELS,
    PATH,
    WORKLOADS,
    Run,
    Step,
    around,
    forget,
    in_turn,
    open_store,
    start,
    surroundings,
    view,
)
from msgpack import packb

from mapitem import Store, StoreFailed
from mapitem.frames import CUT, FRAME_BYTES

WRITES: list[Step] = [("open",), ("map", "m"), ("set", "m", "a", {"n": 1})]


# ---------------------------------------------------------------- the disk itself


def test_keeps_on_the_simulated_disk_what_was_synced_and_may_lose_the_rest() -> None:
    """V1: bytes behind the last sync are kept, lost, torn, zero or anything; those in front of it stay."""
    disk = SimDisk()
    descriptor = disk.create("/sim/f", 0o600)
    disk.sync_directory("/sim/f")
    disk.write(descriptor, b"synced", 0)
    disk.sync(descriptor)
    disk.write(descriptor, b"loose", 6)
    left = {files["/sim/f"] for files in disk.medium.power_cuts(Random(1), 0, thorough=True)}
    assert all(content.startswith(b"synced") for content in left)
    assert {b"synced", b"syncedloose", b"syncedlo", b"syncedlo\0\0\0", b"synced\0\0ose", b"synced" + bytes(5)} <= left


def test_drops_any_subset_of_unsynced_writes_on_the_simulated_disk() -> None:
    """V1: a later write may be on the medium without an earlier one."""
    disk = SimDisk()
    descriptor = disk.create("/sim/f", 0o600)
    disk.sync_directory("/sim/f")
    for place, letter in enumerate((b"a", b"b", b"c")):
        disk.write(descriptor, letter, place)
    left = {files["/sim/f"] for files in disk.medium.power_cuts(Random(1), 0, thorough=False)}
    assert {b"", b"a", b"ab", b"abc", b"\0b", b"\0\0c", b"a\0c", b"\0bc"} <= left


def test_loses_names_on_the_simulated_disk_until_the_directory_is_synced() -> None:
    """V1: a rename may be on the medium in either half, or not at all, whatever was synced in the file."""
    disk = SimDisk(Medium.of({"/sim/f": b"old"}))
    descriptor = disk.create("/sim/f.new", 0o600)
    disk.write(descriptor, b"new", 0)
    disk.sync(descriptor)
    disk.replace("/sim/f.new", "/sim/f")

    def left() -> list[dict[str, bytes]]:
        return [dict(files) for files in disk.medium.power_cuts(Random(1), 0, thorough=False)]

    for files in ({"/sim/f": b"old"}, {"/sim/f": b"new"}, {"/sim/f": b"old", "/sim/f.new": b"new"}):
        assert files in left()
    disk.sync_directory("/sim/f")
    assert {tuple(files.items()) for files in left()} == {(("/sim/f", b"new"),)}


def test_believes_no_sync_on_the_simulated_disk_after_one_that_failed() -> None:
    """V1: what a failed sync left behind may be lost although a later sync of the same file succeeds."""
    disk = SimDisk(plan=lambda kind, call: Fault(5) if kind == "sync" and call < 4 else None)
    descriptor = disk.create("/sim/f", 0o600)
    disk.sync_directory("/sim/f")
    disk.write(descriptor, b"a", 0)
    with pytest.raises(OSError, match="error"):
        disk.sync(descriptor)
    disk.write(descriptor, b"b", 1)
    disk.sync(descriptor)
    left = {files["/sim/f"] for files in disk.medium.power_cuts(Random(1), 0, thorough=False)}
    assert {b"ab", b"\0b"} <= left
    assert b"a" not in left


# ---------------------------------------------------------------- everything, everywhere


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_holds_its_promises_whatever_a_crash_leaves(name: str, level: str) -> None:
    """P3, R1, R2, R5, M1: at each point of a workload, killed or cut off from power, once or several times in a row."""
    tally = Tally()
    with around(name, mapped=in_turn(name, level)):
        run = start(name, level)
        most = 6 if name == "compaction by itself" else 14
        crash(run, tally, Random(20261123), Effort(samples=2, depth=3, deeper=0.01, most=most))
    print(f"{name} at {level!r}: {tally}")
    assert tally.tried > 2 * len(run.disk.trace)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_holds_its_promises_in_every_state_that_a_short_life_could_leave(level: str, mapped: bool) -> None:
    """P3: a map, three writes and a close, torn at every byte and with every subset of what was not synced."""
    tally = Tally()
    with around("tiny", mapped=mapped):
        run = start("tiny", level)
        crash(run, tally, Random(20261123), Effort(samples=20, thorough=True, depth=3, deeper=0.01, probe=0.1))
    print(f"{level!r}: {tally}")
    assert tally.tried > 800


def test_holds_its_promises_through_whole_lives() -> None:
    """P3, R1, R4: sessions at changing levels, each ended by a crash or a close, openings too; drawn at random."""
    tally = Tally()
    for seed in range(120):
        live(seed, tally)
    print(tally)
    assert tally.tried > 2_500
    assert max(tally.by_depth) >= 4


# ---------------------------------------------------------------- what they found


def _opened(medium: Medium, level: str = "process") -> tuple[SimDisk, Store]:
    disk = SimDisk(medium)
    return disk, open_store(disk, durability=level)


def _after_power_cut(disk: SimDisk, *, content: bool = False, names: bool = False) -> Medium:
    """The worst, unless told otherwise: nothing arrived that was not synced."""
    return Medium.of(disk.medium.left(content=content, names=names))


def test_tells_of_an_unclean_end_of_which_nothing_is_left() -> None:
    """R5: a power cut took every write of the session; the mark of the clean end before must not show instead."""
    with surroundings():
        run = Run.of([*WRITES, ("close",), ("open",), ("set", "m", "a", {"n": 2})])
        _, store = _opened(_after_power_cut(run.disk))
        assert view(store) == run.states[-2]
        assert store.recovery is not None
        forget(store)


def test_tells_of_no_unclean_end_when_a_new_store_was_closed_unused() -> None:
    """R5: a store that was created and closed was not marked as closed, for nothing was in it."""
    with surroundings():
        run = Run.of([("open",), ("close",)])
        _, store = _opened(run.disk.medium)
        assert store.recovery is None
        store.close()


def test_keeps_the_mark_of_a_clean_end_that_another_process_did_not_live_to_sync() -> None:
    """R5: one process died between writing its mark and syncing it, the next opened, wrote nothing, and closed."""
    with surroundings():
        run = Run.of([*WRITES, ("close",)])
        last_sync = max(place for place, entry in enumerate(run.disk.trace) if entry[0] == "sync")
        medium = run.before.clone()
        for entry in run.disk.trace[:last_sync]:
            medium.apply(entry)
        disk, store = _opened(medium)
        assert store.recovery is None
        store.close()
        disk, store = _opened(_after_power_cut(disk))
        assert store.recovery is None
        store.close()


def test_keeps_what_an_open_has_shown_of_a_store_closed_without_sync() -> None:
    """R4: close(sync=False) is a clean end of which nothing need be on the medium; an open that shows it syncs it."""
    with surroundings():
        run = Run.of([*WRITES, ("close", False)], level="none")
        disk, store = _opened(run.disk.medium)
        assert view(store) == run.states[-1]
        forget(store)
        disk, store = _opened(_after_power_cut(disk))
        assert view(store) == run.states[-1]
        forget(store)


def test_keeps_writes_behind_a_mark_whose_sync_failed() -> None:
    """P1: a mark of a clean end whose fsync failed may be in the page cache alone: a hole before what follows."""
    with surroundings():
        run = Run.of([*WRITES])
        disk = run.disk
        disk, store = _opened(disk.medium)
        store.open_map("m").set("b", {"n": 2})
        syncs: list[int] = []
        disk.plan = lambda kind, call: Fault(5) if kind == "sync" and (syncs.append(call) or len(syncs) == 2) else None
        with pytest.raises(StoreFailed):
            store.close()
        disk, store = _opened(disk.medium, "power")
        store.open_map("m").set("c", {"n": 3})
        before = view(store)
        forget(store)
        disk, store = _opened(_after_power_cut(disk), "power")
        assert view(store) == before
        forget(store)


def test_syncs_the_name_of_a_log_that_was_left_without() -> None:
    """P2: a process died between the rename and the sync of the directory; the next one's sync must not be in vain."""
    with surroundings():
        run = Run.of([("open",)])
        rename = next(place for place, entry in enumerate(run.disk.trace) if entry[0] == "replace")
        medium = run.before.clone()
        for entry in run.disk.trace[: rename + 1]:
            medium.apply(entry)
        disk, store = _opened(medium)
        store.map("m").set("a", {"n": 1})
        store.sync()
        before = view(store)
        forget(store)
        disk, store = _opened(_after_power_cut(disk))
        assert view(store) == before
        forget(store)


@pytest.mark.parametrize("level", LEVELS)
def test_lets_no_dropped_record_come_up_again_out_of_a_freed_block(level: str) -> None:
    """P3: a record behind a torn one was dropped, another ends now where it began, and its block comes up again."""
    with surroundings():
        run = Run.of([*WRITES, ("sync",), ("set", "m", "b", {"n": 2}), ("set", "m", "c", {"n": 3})])
        node = run.disk.medium.find(PATH)
        assert node is not None
        lost, kept = node.loose
        left = Medium.of({PATH: node.image([("junk", bytes(len(lost.data or b""))), KEPT])})
        again = Run(SimDisk(left), model=run.models[2], clock=run.clock)
        again.level = level
        for step in (("open",), ("set", "m", "d", {"n": 4}), ("set", "m", "e", {"n": 5})):
            again.do(step)
        node = again.disk.medium.find(PATH)
        assert node is not None
        assert again.store is not None
        forget(again.store)
        image = node.cache[: kept.at] + run.disk.medium.files()[PATH][kept.at :]
        promise = again.promise._replace(power=0, unclean=None)
        check_opening(SimDisk(Medium.of({PATH: image})), again.states, promise, kind=POWER, level="power")


@pytest.mark.parametrize("level", LEVELS)
def test_lets_no_dropped_record_come_up_again_behind_a_mark(level: str) -> None:
    """P3: as above, where it is the second of two dropped records whose number fits, for a mark comes first."""
    with surroundings():
        writes: list[Step] = [("set", "m", key, {"n": number}) for number, key in enumerate("bcd")]
        run = Run.of([*WRITES, ("sync",), *writes])
        node = run.disk.medium.find(PATH)
        assert node is not None
        lost, _, kept = node.loose
        length = len(lost.data or b"")
        left = Medium.of({PATH: node.image([("junk", bytes(length)), KEPT, KEPT])})
        again = Run(SimDisk(left), model=run.models[2], clock=run.clock)
        again.level = level
        mark = FRAME_BYTES + len(CUT)
        more = kept.at - lost.at - mark - length - len(packb({"": "x" * 32})[1:]) + 32
        assert more >= 32
        for step in (("open",), ("set", "m", "e", {"n": 4, "": "x" * more}), ("set", "m", "f", {"n": 5})):
            again.do(step)
        node = again.disk.medium.find(PATH)
        assert node is not None
        assert again.store is not None
        forget(again.store)
        image = node.cache[: kept.at].ljust(kept.at, b"\0") + run.disk.medium.files()[PATH][kept.at :]
        promise = again.promise._replace(power=0, unclean=None)
        check_opening(SimDisk(Medium.of({PATH: image})), again.states, promise, kind=POWER, level="power")


def test_cuts_a_torn_tail_at_once_and_tells_of_it_once() -> None:
    """R2, R4: an opening that writes nothing and dies leaves nothing of the tail to the next."""
    with surroundings():
        run = Run.of(WRITES)
        assert run.store is not None
        node, end = run.disk.medium.find(PATH), run.store._log.size
        assert node is not None
        forget(run.store)
        run.disk.medium.apply(("truncate", node.number, end))
        run.disk.medium.apply(("write", node.number, end, b"torn"))
        for dropped in (4, 0):
            store = open_store(run.disk, durability="process")
            assert store.recovery is not None
            assert store.recovery.dropped_bytes == dropped
            assert len(run.disk.medium.files()[PATH]) == end
            forget(store)


def test_leaves_no_half_copy_of_the_bytes_that_an_opening_was_about_to_cut() -> None:
    """R8: the copy of a torn tail is made under the one temporary name that the next opening takes away."""
    with surroundings():
        run = Run.of([*WRITES, ("set", "m", "b", {"n": 2})])
        torn = {PATH: run.disk.medium.files()[PATH][:-3]}
        disk, store = _opened(Medium.of(torn))
        forget(store)
        for end in range(len(disk.trace)):
            medium = Medium.of(torn)
            for entry in disk.trace[: end + 1]:
                medium.apply(entry)
            promise = run.promise._replace(kill=0, unclean=None)
            check_opening(SimDisk(medium), run.states, promise, kind=KILL, level="process")

"""A disk that refuses calls, and exceptions in the middle of the store's work: every workload, every call, every line.

What fails and what is held against it is in ``tests/crash/faults``; the long form of the sweeps is
``python -m tests.crash.campaign``. Each sweep prints how much it tried. Below the sweeps each clause has an example of
its own.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest
from crash.checks import Tally
from crash.faults import CALLS, FAULTS, Planned, calls_of, every_fault, fail, interrupt, pairs_of_faults, plan_of
from crash.simdisk import Fault, Medium, SimDisk
from crash.workloads import LEVELS, PATH, WORKLOADS, Run, Step, around, forget, in_turn, open_store, surroundings, view

import mapitem
from mapitem import Event, LogCorrupt, NotAStore, Store, StoreClosed, StoreFailed, StoreReadOnly
from mapitem.frames import CUT
from mapitem.opening import Recovery

ROOMS = os.path.dirname(mapitem.__file__) + os.sep

# ---------------------------------------------------------------- sweeps


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_survives_the_failure_of_each_call(name: str, level: str) -> None:
    """F1–F5: each call of a workload refused in turn, once and for good (of the long workloads, some of them)."""
    tally = Tally()
    with around(name, mapped=in_turn(name, level)):
        plans = list(every_fault(name, level))
    step = max(1, len(plans) // 40)
    for plan in plans[:: step if step % 2 or step == 1 else step + 1]:
        with around(name, mapped=in_turn(name, level)):
            fail(name, level, plan, tally, Random(1))
    print(f"{name} at {level!r}: {tally.tried} states after {len(plans[::step])} of {len(plans)} failures")
    assert tally.tried > 60


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_survives_the_failure_of_each_call_of_a_short_life(level: str, mapped: bool) -> None:
    """F1–F5: all the calls of the shortest workload, refused in each way that their kind knows."""
    tally = Tally()
    with around("tiny", mapped=mapped):
        plans = list(every_fault("tiny", level))
    for plan in plans:
        with around("tiny", mapped=mapped):
            fail("tiny", level, plan, tally, Random(1))
    print(f"{level!r}: {tally.tried} states after {len(plans)} failures")
    assert len(plans) > (60 if mapped and level != "power" else 90)


@pytest.mark.parametrize("name", WORKLOADS)
def test_survives_the_failure_of_two_calls(name: str) -> None:
    """V2: pairs of failures drawn at random, often one soon after the other, as when undoing the first fails too."""
    tally = Tally()
    for level in LEVELS:
        with around(name, mapped=in_turn(name, level)):
            plans = list(pairs_of_faults(name, level, Random(20261123), 12))
        for plan in plans:
            with around(name, mapped=in_turn(name, level)):
                fail(name, level, plan, tally, Random(1))
    print(f"{name}: {tally.tried} states")


@pytest.mark.parametrize("name", CALLS)
def test_stays_in_step_whatever_line_is_interrupted(name: str) -> None:
    """F3: acknowledged or not, memory and log in step or the store failed, no lock held (at every eleventh line)."""
    tally = Tally()
    exceptions = (KeyboardInterrupt, MemoryError, KeyboardInterrupt)
    for offset, (level, raising) in enumerate(zip(LEVELS, exceptions, strict=True)):
        at = 1 + 3 * offset
        while True:
            with surroundings(at, compact_from=300, mapped=True):
                if not interrupt(name, level, at, raising, tally, Random(at)):
                    break
            at += 11
    print(f"{name}: {tally.tried} states")
    assert tally.tried > 20


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(("level", "probe"), [("none", True), ("process", True), ("process", False), ("power", True)])
def test_stays_in_step_at_each_line_of_a_write(level: str, probe: bool, mapped: bool) -> None:
    """F3, V2: the same at every single line of a plain write, with writes behind it or none."""
    tally = Tally()
    at = 1
    while True:
        with surroundings(at, mapped=mapped):
            if not interrupt("long set", level, at, KeyboardInterrupt, tally, Random(at), probe=probe):
                break
        at += 1
    print(f"{level!r}: {at - 1} lines, {tally.tried} states")
    assert tally.tried > 6 * 100


@pytest.mark.parametrize("probe", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_forgets_no_failure_that_an_interruption_hides(name: str, probe: bool) -> None:
    """F2, F3: each write, sync and cut of a call failed in turn, and the call interrupted at each line from there on.

    The interruption took the failure's place if it came before the line that noted it: the store went on to write after
    a failed fsync, and a compaction to fill a file in which a part was missing.
    """
    tally = Tally()
    level = "process" if name in ("sync", "compact") else "power"
    failing, at = -1, 2
    while at > 1:  # else there was nothing left to fail
        failing, at = failing + 1, 1
        while True:
            with surroundings(at, compact_from=300, mapped=False):
                if not interrupt(name, level, at, KeyboardInterrupt, tally, Random(at), probe=probe, failing=failing):
                    break
            at += 1
    print(f"{name}: {failing} failures, {tally.tried} states")
    assert failing > 0
    assert tally.tried > 10


@pytest.mark.parametrize("level", LEVELS)
def test_knows_whether_a_purge_that_nobody_sees_was_written(level: str) -> None:
    """V2: a compaction was refused the write that drops an expired map, and the check took it for written.

    Nobody sees the difference, and so it asked the store in vain: once after the refusal, and once more when the store
    had failed and was opened anew. Then the map was still in the file, and a crash was said to have brought it back.
    """
    steps: list[Step] = [
        *[("open", level), ("map", "n", 20), ("set", "n", "a", {"n": 1}), ("tick", 30), ("map", "p")],
        *[("compact",), ("set", "p", "b", {"n": 2}), ("sync",)],
    ]
    tally = Tally()
    with surroundings():
        writes = [call for call, kind in enumerate(calls_of(steps, level)) if kind == "write"]
    for call in writes:
        for plan in (
            [Planned(call, Fault(errno.EDQUOT, 0.9), ("write",))],
            [Planned(call, Fault(errno.EIO, 1.0)), Planned(call + 1, Fault(errno.EIO))],
            [Planned(call, Fault(errno.EIO, 1.0)), Planned(call + 2, Fault(errno.EIO))],
        ):
            with surroundings():
                fail(steps, level, plan, tally, Random(1))
    assert tally.tried > 60


def test_knows_a_failure_for_every_call_of_the_disk() -> None:
    """V2: no kind of call is left out of the sweeps."""
    made: set[str] = set()
    for name in WORKLOADS:
        for level in LEVELS:
            with around(name, mapped=in_turn(name, level)):
                made.update(calls_of(name, level))
    kinds = {"open_write", "remove", "set_mode"} | made
    assert kinds == FAULTS.keys()


# ---------------------------------------------------------------- F1: writes that fail


@contextmanager
def at_work() -> Iterator[Run]:
    """A store with one item, at work on a disk that can be told to fail."""
    with surroundings():
        run = Run()
        for step in (("open",), ("map", "m"), ("set", "m", "a", {"n": 1})):
            run.do(step)
        run.events.clear()
        yield run
        if run.store is not None:
            forget(run.store)


@pytest.fixture
def run() -> Iterator[Run]:
    with at_work() as run:
        yield run


def _failing(run: Run, kind: str, fault: Fault, *, times: int = 1, skip: int = 0) -> None:
    """Let the next calls of this kind fail."""
    left = [skip, times]

    def plan(each: str, call: int) -> Fault | None:
        if each != kind:
            return None
        if left[0] > 0:
            left[0] -= 1
            return None
        left[1] -= 1
        return fault if left[1] >= 0 else None

    run.disk.plan = plan


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EINTR])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_undoes_a_write_that_the_disk_refuses(run: Run, error: int, share: float) -> None:
    """F1: the log is cut back, the call raises, memory is as before, no event is told, and the next write succeeds."""
    assert run.store is not None
    before, content = view(run.store), run.disk.medium.files()[PATH]
    _failing(run, "write", Fault(error, share))
    with pytest.raises(OSError, match=os.strerror(error)) as raised:
        run.store.open_map("m").set("b", {"n": 2})
    assert raised.value.errno == error
    assert view(run.store) == before
    assert run.disk.medium.files()[PATH] == content
    assert run.events == []
    run.do(("set", "m", "b", {"n": 2}))
    assert len(run.events) == 1


def test_works_again_when_there_is_space_again(run: Run) -> None:
    """F1: while the disk is full every write fails, afterwards they succeed, without opening the store anew."""
    assert run.store is not None
    _failing(run, "write", Fault(errno.ENOSPC, 0.5), times=20)
    for _ in range(20):
        with pytest.raises(OSError, match="space"):
            run.store.open_map("m").set("b", {"pad": "x" * 100})
    run.compare()
    run.do(("set", "m", "b", {"n": 2}))
    run.do(("close",))


def test_goes_on_after_a_short_write(run: Run) -> None:
    """F1: what the operating system did not take at once is written with further calls."""
    _failing(run, "write", Fault(None, 0.3), times=3)
    run.do(("set", "m", "b", {"n": 2}))
    run.do(("close",))
    run.do(("open",))
    run.compare()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("cut", "mapped"), [("refused", False), ("refused, and closed", False), ("killed", False), ("killed", True)]
)
def test_lets_no_refused_write_come_up_again(level: str, cut: str, mapped: bool) -> None:
    """P3, F1: a write that was refused had got to the medium whole, and was cut; a power cut came into the next one.

    That one was of the same length, and in its place the freed block came up again that had held the first: of the
    right place, number and generation, so that it was taken for one that had been acknowledged, with others behind it.
    The same with a process that was killed before the cut was synced, so that the next one did not know of any; and
    with a store that was closed in between, whose mark of a clean end the next write took off.
    """
    with surroundings(mapped=mapped):
        run = Run()
        run.level = level
        for step in (("open", level), ("map", "m"), ("sync",)):
            run.do(step)
        assert run.store is not None
        if cut.startswith("refused"):
            _failing(run, "write", Fault(errno.EIO, 1.0))
            with pytest.raises(OSError, match="output"):
                run.store.open_map("m").set("a", {"n": 1})
            if cut == "refused, and closed":
                run.do(("close",))
                run.do(("open", level))
        else:
            end = run.store._log.size
            run.store.open_map("m").set("a", {"n": 1})
            forget(run.store)
            node = run.disk.medium.find(PATH)
            assert node is not None
            run.disk.medium.apply(("truncate", node.number, end))
            run.do(("open", level))
        states = [view(run.store)]
        for step in (("set", "m", "a", {"n": 2}), ("set", "m", "b", {"n": 2})):
            run.do(step)
            states.append(view(run.store))
            for left in run.disk.medium.power_cuts(Random(1), 50, thorough=False):
                again = open_store(SimDisk(Medium.of(left)))
                assert view(again) in states
                forget(again)
        forget(run.store)


def test_takes_no_room_for_the_mark_of_a_cut_from_a_store_on_a_full_disk(run: Run) -> None:
    """F1: where not even that mark can be written, it is tried again, and the log is no longer than it was."""
    assert run.store is not None
    before = run.disk.medium.files()[PATH]
    _failing(run, "write", Fault(errno.ENOSPC, 0.5), times=5)
    for _ in range(5):
        with pytest.raises(OSError, match="space"):
            run.store.open_map("m").set("b", {"n": 2})
        assert run.disk.medium.files()[PATH] == before
    run.do(("set", "m", "b", {"n": 2}))
    assert run.disk.medium.files()[PATH].count(CUT) == 1
    run.do(("set", "m", "c", {"n": 2}))
    assert run.disk.medium.files()[PATH].count(CUT) == 1
    run.do(("close",))
    run.do(("open",))
    assert run.store.recovery is None
    run.compare()


def test_fails_where_the_mark_of_a_cut_cannot_be_synced(run: Run) -> None:
    """F2: as anywhere else, what a sync that failed left is not known, and the store takes no more writes."""
    assert run.store is not None
    _failing(run, "write", Fault(errno.ENOSPC))
    with pytest.raises(OSError, match="space"):
        run.store.open_map("m").set("b", {"n": 2})
    _failing(run, "sync", Fault(errno.EIO), skip=1)
    with pytest.raises(StoreFailed) as raised:
        run.store.open_map("m").set("b", {"n": 2})
    assert raised.value.outcome_unknown
    run.compare()


def test_undoes_a_batch_that_the_disk_refuses(run: Run) -> None:
    """F1, W7: all of it."""
    assert run.store is not None
    _failing(run, "write", Fault(errno.ENOSPC, 0.9))
    map_ = run.store.open_map("m")
    with pytest.raises(OSError, match="space"), run.store.batch() as batch:
        batch.set(map_, "b", {"n": 2})
        batch.remove(map_, "a")
    run.compare()
    assert run.events == []


# ---------------------------------------------------------------- F2: nobody knows


@pytest.mark.parametrize(("kind", "level"), [("sync", "power"), ("truncate", "process")])
def test_refuses_writes_once_the_outcome_is_unknown(kind: str, level: str) -> None:
    """F2: after a failed fsync, or a failed cut: this call says so, writes are refused, reads go on."""
    with surroundings():
        run = Run()
        for step in (("open", level), ("map", "m"), ("set", "m", "a", {"n": 1})):
            run.do(step)
        store, map_ = run.store, run._open("m")
        assert store is not None
        run.disk.plan = lambda each, call: (
            Fault(errno.EIO, 0.5) if each in (kind, "write")[: 1 + (kind != "sync")] else None
        )
        with pytest.raises(StoreFailed) as raised:
            map_.set("b", {"n": 2})
        assert raised.value.outcome_unknown
        run.disk.plan = None
        entries = len(run.disk.trace)
        for write in (
            lambda: map_.set("c", {}),
            lambda: map_.remove("a"),
            lambda: store.map("other"),
            store.purge,
            store.compact,
        ):
            # purge has nothing to do and might return as if all were well
            with pytest.raises(StoreFailed) as refused:
                write()
            assert not refused.value.outcome_unknown
        assert map_["a"].data == {"n": 1}
        assert next(map_.range()).key == "a"
        with pytest.raises(StoreFailed):
            store.sync()
        with pytest.raises(StoreFailed):
            store.close()
        assert len(run.disk.trace) == entries
        with pytest.raises(StoreClosed):
            map_.get("a")
        run.disk.distrusted.clear()
        again = open_store(run.disk, durability=level)
        assert again.open_map("m")["a"].data == {"n": 1}
        assert again.recovery is not None
        again.open_map("m").set("c", {"n": 3})
        again.close()


def test_rewrites_the_log_at_power_after_a_failed_fsync() -> None:
    """R4, F2: what the failed fsync left in the page cache alone is on the medium once an open has shown it."""
    with surroundings():
        run = Run()
        for step in (("open", "power"), ("map", "m"), ("set", "m", "a", {"n": 1})):
            run.do(step)
        _failing(run, "sync", Fault(errno.EIO))
        with pytest.raises(StoreFailed):
            run.call(("set", "m", "b", {"n": 2}))
        assert run.store is not None
        with pytest.raises(StoreFailed):
            run.store.close()
        again = open_store(run.disk, durability="power")
        again.open_map("m").set("c", {"n": 3})
        before = view(again)
        forget(again)
        after = open_store(SimDisk(Medium.of(run.disk.medium.left(content=False, names=True))), durability="power")
        assert view(after) == before
        forget(after)


# ---------------------------------------------------------------- F4, F5, R7, R8: compaction, closing, opening


@pytest.mark.parametrize("kind", ["create", "set_mode", "write", "sync", "replace", "mode"])
def test_keeps_the_old_log_when_compaction_fails(run: Run, kind: str) -> None:
    """F4: before the rename: nothing has changed, no file is left, and compaction works when the disk does."""
    assert run.store is not None
    content = run.disk.medium.files()
    _failing(run, kind, Fault(errno.ENOSPC, 0.5))
    with pytest.raises(OSError, match="space"):
        run.store.compact()
    assert run.disk.medium.files() == content
    assert len(run.disk.descriptors) == 1
    run.compare()
    run.do(("set", "m", "b", {"n": 2}))
    run.do(("compact",))
    run.do(("close",))
    run.do(("open",))
    run.compare()


@pytest.mark.parametrize("kind", ["create", "set_mode"])
@pytest.mark.parametrize("is_done", [False, True])
def test_leaves_no_new_file_when_its_making_is_interrupted(run: Run, kind: str, is_done: bool) -> None:
    """F4, F3: an interruption before or behind the call that makes the new file, or gives it its mode.

    The file was left: what was raised behind the call that made it looked like that call's own failure.
    """
    assert run.store is not None
    content, call = run.disk.medium.files(), getattr(run.disk, kind)

    def interrupted(*arguments: Any) -> None:
        if is_done:
            call(*arguments)
        raise KeyboardInterrupt

    setattr(run.disk, kind, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.store.compact()
    delattr(run.disk, kind)
    assert run.disk.medium.files() == content
    # What create opened and could not return, nobody can close.
    assert len(run.disk.descriptors) == 1 + (kind == "create" and is_done)
    run.do(("set", "m", "b", {"n": 2}))
    run.do(("compact",))
    run.compare()


def test_fails_when_the_name_of_the_compacted_log_cannot_be_synced(run: Run) -> None:
    """F4: after the rename it is F2: the next open shows all, whichever of the two logs it finds."""
    assert run.store is not None
    _failing(run, "sync_directory", Fault(errno.EIO))
    with pytest.raises(StoreFailed) as raised:
        run.store.compact()
    assert raised.value.outcome_unknown
    run.compare()
    with pytest.raises(StoreFailed):
        run.store.open_map("m").set("b", {})
    for names in (False, True):
        disk = SimDisk(Medium.of(run.disk.medium.left(content=False, names=names)))
        if names:
            store = open_store(disk)
            assert view(store) == run.states[-1]
            forget(store)


@pytest.mark.parametrize("kind", ["write", "sync", "truncate", "close"])
def test_lets_go_of_everything_when_closing_fails(tmp_path: Path, kind: str) -> None:
    """F5: close() raises, and has released the lock and every descriptor; the next open finds all there was."""
    with surroundings(real_lock=True):
        run = Run(path=str(tmp_path / "store"))
        descriptors = os.listdir("/proc/self/fd")
        for step in (("open",), ("map", "m"), ("set", "m", "a", {"n": 1})):
            run.do(step)
        run.disk.plan = lambda each, call: Fault(errno.EIO, 0.5) if each in (kind, "write") else None
        assert run.store is not None
        with pytest.raises((OSError, StoreFailed)):
            run.store.close()
        run.store.close()
        assert run.disk.descriptors == {}
        assert os.listdir("/proc/self/fd") == descriptors
        run.disk.plan = None
        run.do(("open", "power"))
        run.compare()
        run.do(("close",))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("state", ["new", "clean", "torn"])
def test_leaves_nothing_behind_when_opening_fails(tmp_path: Path, level: str, state: str) -> None:
    """R8: each call of an opening refused in turn: no lock, no descriptor, no temporary file; the next one succeeds."""
    path = str(tmp_path / "store")
    steps: list[Step] = [("open",), ("map", "m"), ("set", "m", "a", {"n": 1})]
    with surroundings():
        run = Run.of([*steps, ("close",)] if state == "clean" else steps)
    files = {} if state == "new" else {path: run.disk.medium.files()[PATH][: -3 if state == "torn" else None]}
    with surroundings(real_lock=True):
        disk = SimDisk(Medium.of(files))
        forget(open_store(disk, path, durability=level))
        for call in range(disk.calls):
            Path(f"{path}.lock").unlink(missing_ok=True)
            disk = SimDisk(Medium.of(files), plan=plan_of([Planned(call, Fault(errno.EIO, 0.5))]))
            descriptors = os.listdir("/proc/self/fd")
            try:
                store = open_store(disk, path, durability=level)
            except (OSError, StoreFailed):
                assert disk.descriptors == {}
                assert os.listdir("/proc/self/fd") == descriptors
                assert not disk.exists(f"{path}.new") or ("remove", -1) in disk.failed
                assert os.listdir(tmp_path) == []
                disk.plan = None
                store = open_store(disk, path, durability=level)
            disk.plan = None  # for a call that this opening did not come to
            assert ("m" in view(store)) is (state != "new")
            store.close()


@pytest.mark.parametrize("how", [{}, {"durability": "power"}, {"read_only": True}], ids=["process", "power", "reading"])
@pytest.mark.parametrize("state", ["new", "unclean", "torn"])
def test_leaves_nothing_behind_when_opening_is_interrupted(tmp_path: Path, how: dict[str, Any], state: str) -> None:
    """R8: a Ctrl-C while a file was opened could leave its descriptor open for ever, or its lock with the traceback.

    The descriptor changed hands before the log was there to take it, or was lost with the log on the way out of a
    ``finally``. Here the interruption comes wherever the interpreter looks for signals: at the entry of a function, and
    behind a call of C; but not right behind ``os.open``, where Python itself has lost what was opened.
    """
    if how.get("read_only") and state == "new":
        pytest.skip("there is nothing to read")
    with Store(tmp_path / "model") as model:
        model.map("m").set("a", {"n": 1})
        content = (tmp_path / "model").read_bytes()[: -3 if state == "torn" else None]
    at = 0
    while True:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir()
        path = folder / "store"
        if state != "new":
            path.write_bytes(content)
        store = None
        with suppress(KeyboardInterrupt), _interrupted(at) as places:
            store = Store(path, **how)
        left = [link for link in map(_target, os.listdir("/proc/self/fd")) if link.startswith(str(folder))]
        if store is not None:
            store.close()
            break
        assert left == [], places
        assert {each.name for each in folder.iterdir()} <= {"store", *(path.name for path in folder.glob("*.cut-*"))}
        if not how.get("read_only"):
            Store(path).close()
    assert at > 50


def test_opens_without_a_copy_of_a_torn_tail_when_there_is_no_space_for_one() -> None:
    """R1, R2: on a full disk the tail is cut and told, and nothing is kept; no test saw that the opening succeeds."""
    with surroundings():
        run = Run.of([("open",), ("map", "m"), ("set", "m", "a", {"n": 1})])
        disk = SimDisk(Medium.of({PATH: run.disk.medium.files()[PATH][:-3]}))
        disk.plan = lambda kind, call: Fault(errno.ENOSPC, 0.0) if kind in ("create", "write") else None
        store = open_store(disk, PATH)
        assert store.recovery is not None
        assert store.recovery.dropped_bytes > 0
        assert store.recovery.kept_in is None
        assert set(disk.medium.files()) == {PATH}
        disk.plan = None
        store.close()


@contextmanager
def _interrupted(at: int) -> Iterator[list[str]]:
    """``KeyboardInterrupt`` at the ``at``-th place where the interpreter looks for signals; the list says where."""
    left = at
    places: list[str] = []

    def step(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        code = frame.f_code
        if event not in ("call", "c_return") or not code.co_filename.startswith(ROOMS) or argument is os.open:
            return
        if code.co_name == "__del__":
            return  # a finalizer would swallow it
        left -= 1
        if left == 0:
            places.append(f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}")
            raise KeyboardInterrupt

    gc.disable()
    before = sys.getprofile()
    sys.setprofile(step)
    try:
        yield places
    finally:
        sys.setprofile(before)
        gc.enable()


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def test_opens_for_reading_on_a_disk_that_takes_no_write() -> None:
    """R7: read-only media, or a full disk, after any crash: what is there is shown, and no call changes anything."""
    tally = Tally()
    random = Random(20261123)
    for name in ("verbs", "batches", "compaction by hand"):
        with around(name):
            run = Run.of(WORKLOADS[name], level="process")
            medium = run.before.clone()
            for entry in run.disk.trace:
                medium.apply(entry)
                files = medium.power_cut(random)
                if PATH not in files:
                    continue
                disk = SimDisk(Medium.of(files))
                disk.read_only = True
                store = open_store(disk, read_only=True)
                shown = view(store)
                assert shown in run.states
                with pytest.raises(StoreReadOnly):
                    store.map("no such map")
                recovery = store.recovery
                store.close()
                assert disk.trace == []
                assert disk.descriptors == {}
                writing = open_store(SimDisk(Medium.of(files)))
                assert view(writing) == shown
                assert _cut_of(writing.recovery) == _cut_of(recovery)
                forget(writing)
                tally.count(1)
    print(tally)
    assert tally.tried > 60


def _cut_of(recovery: Recovery | None) -> object:
    return None if recovery is None else (recovery.dropped_bytes, recovery.offset, recovery.reason)


@pytest.mark.parametrize("read_only", [False, True])
def test_leaves_nothing_behind_when_a_file_is_refused(tmp_path: Path, read_only: bool) -> None:
    """R8, R6: a foreign and a damaged file: no lock, no descriptor, no other file, and not a byte changed."""
    path = str(tmp_path / "store")
    with surroundings():
        run = Run.of([("open",), ("map", "m"), ("sync",), ("set", "m", "a", {"n": 1})])
    damaged = bytearray(run.disk.medium.files()[PATH])
    damaged[100] ^= 1
    with surroundings(real_lock=True):
        for content, error in ((b"foreign", NotAStore), (b"", NotAStore), (bytes(damaged), LogCorrupt)):
            disk = SimDisk(Medium.of({path: content}))
            descriptors = os.listdir("/proc/self/fd")
            with pytest.raises(error):
                open_store(disk, path, read_only=read_only)
            assert disk.trace == []
            assert disk.descriptors == {}
            assert os.listdir("/proc/self/fd") == descriptors
            assert os.listdir(tmp_path) == []


def test_writes_nothing_for_a_store_forgotten_open(run: Run) -> None:
    """F5: the finalizer warns and lets go; nothing reaches the disk, not even the mark of a clean end."""
    store, run.store = run.store, None
    run.do(("tick", 1))
    entries = len(run.disk.trace)
    assert store is not None
    with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031  # it warns within either
        del store
        gc.collect()
    assert len(run.disk.trace) == entries
    assert run.disk.descriptors == {}


def test_writes_nothing_later_that_an_error_refused(run: Run) -> None:
    """F5: no buffer holds back what failed: the bytes of a refused write never reach the disk."""
    assert run.store is not None
    _failing(run, "write", Fault(errno.ENOSPC))
    with pytest.raises(OSError, match="space"):
        run.store.open_map("m").set("refused", {"secret": "refused"})
    run.do(("set", "m", "b", {"n": 2}))
    run.do(("close",))
    assert not any(b"refused" in entry[3] for entry in run.disk.trace if entry[0] == "write")  # type: ignore[operator]


def test_tells_no_event_of_a_write_that_failed(run: Run) -> None:
    """F1: neither to callbacks nor in the feed."""
    assert run.store is not None
    map_ = run.store.open_map("m")
    told: list[Event] = []
    map_.on(Event, told.append)
    revision = map_.revision
    _failing(run, "write", Fault(errno.EIO, 1.0))
    with pytest.raises(OSError, match="error"):
        map_.set("b", {})
    assert told == []
    assert list(map_.changes(since=revision)) == []
    assert map_.revision == revision

"""Making the disk refuse calls, and raising exceptions in the middle of the store's work (durability F, V2).

``fail`` performs a workload while planned calls fail; a step that the disk refused is tried again, so that a store that
is not as usable as before shows. ``interrupt`` raises an exception at one executed line of a call. What is wrong comes
out as a ``Finding`` whose message begins with the clause.
"""

from __future__ import annotations

import dis
import errno
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count, dropwhile
from random import Random
from types import CodeType, FrameType
from typing import Any, NamedTuple

import sortedcontainers

import mapitem
from mapitem import StoreFailed
from mapitem.frames import Scan, read_header

from .checks import KILL, POWER, Tally, check_opening
from .simdisk import Fault, Medium, SimDisk
from .workloads import (
    PATH,
    WORKLOADS,
    Finding,
    Model,
    PretendedLock,
    Run,
    State,
    Step,
    brief,
    forget,
    open_store,
    same,
    shown,
    view,
)

FAULTS: dict[str, tuple[Fault, ...]] = {
    "write": (
        Fault(errno.ENOSPC),
        Fault(errno.ENOSPC, 0.5),
        Fault(errno.EDQUOT, 0.9),
        Fault(errno.EFBIG),
        Fault(errno.EIO, 1.0),
        Fault(errno.EINTR, 0.3),
        Fault(None, 0.5),
        Fault(None, 0.0),
    ),
    "sync": (Fault(errno.EIO), Fault(errno.ENOSPC)),
    "sync_directory": (Fault(errno.EIO),),
    "truncate": (Fault(errno.EIO),),
    "allocate": (Fault(errno.ENOSPC), Fault(errno.EDQUOT, 0.5), Fault(errno.EOPNOTSUPP)),
    "map": (Fault(errno.ENOMEM),),
    "create": (Fault(errno.ENOSPC), Fault(errno.EMFILE)),
    "replace": (Fault(errno.ENOSPC),),
    "remove": (Fault(errno.EIO),),
    "open_read": (Fault(errno.EMFILE),),
    "open_write": (Fault(errno.EACCES),),
    "close": (Fault(errno.EIO),),
    "read": (Fault(errno.EIO),),
    "size": (Fault(errno.EIO),),
    "mode": (Fault(errno.EIO),),
    "set_mode": (Fault(errno.EPERM),),
}
# What fails together for as long as a disk is full.
FULL = ("write", "create", "allocate")


class Planned(NamedTuple):
    """A call that fails, by its number; ``sticky``: and so do all of these kinds from then on."""

    call: int
    fault: Fault
    sticky: tuple[str, ...] = ()


def plan_of(faults: Sequence[Planned]) -> Callable[[str, int], Fault | None]:
    """The plan for a ``SimDisk``."""

    def plan(kind: str, call: int) -> Fault | None:
        for planned in faults:
            if call == planned.call or (call > planned.call and kind in planned.sticky):
                return planned.fault
        return None

    return plan


def calls_of(name: str | list[Step], level: str) -> list[str]:
    """The kinds of the calls that a workload makes when none fails."""
    kinds: list[str] = []
    disk = SimDisk(plan=lambda kind, call: kinds.append(kind))
    trial = Trial(disk, name, level)
    trial.perform()
    return kinds


def every_fault(name: str | list[Step], level: str) -> Iterator[list[Planned]]:
    """Each call made to fail in turn, in each way that its kind knows, once and for good."""
    for call, kind in enumerate(calls_of(name, level)):
        for fault in FAULTS[kind]:
            yield [Planned(call, fault)]
            if fault.error is not None:
                yield [Planned(call, fault, FULL if fault.error == errno.ENOSPC and kind in FULL else (kind,))]


def pairs_of_faults(name: str | list[Step], level: str, random: Random, count: int) -> Iterator[list[Planned]]:
    """Two calls that fail, drawn at random; often soon after one another."""
    kinds = calls_of(name, level)
    for _ in range(count):
        first = random.randrange(len(kinds))
        second = first + random.choice((1, 1, 1, 2, 3, random.randrange(1, 40)))
        every = [fault for faults in FAULTS.values() for fault in faults if fault.error is not None]
        sticky = random.choice(((), (), (random.choice(kinds),)))
        yield [Planned(first, random.choice(FAULTS[kinds[first]])), Planned(second, random.choice(every), sticky)]


class Trial(Run):
    """A workload on a disk that refuses calls: what may be on the disk is ``models[promise.kill:promise.high + 1]``."""

    def __init__(self, disk: SimDisk, name: str | list[Step], level: str) -> None:
        """``name`` is that of a workload, or steps that make sense also if one before them was refused for good."""
        super().__init__(disk, compact_at=1.1 if name == "compaction by itself" or isinstance(name, list) else None)
        self.level = level
        self.workload = WORKLOADS[name] if isinstance(name, str) else name
        self.failed = False
        self.refusals = 0
        self.tally = Tally()
        self.random = Random(level)

    def perform(self) -> None:
        for step in self.workload:
            self.attempt(step)
        self.disk.plan = None
        if self.store is not None:
            self._attempt_close()

    def attempt(self, step: Step) -> None:
        """Perform a step; if the disk refuses, three times more, the last time on a disk that has recovered."""
        if step[0] == "open":
            self.level = step[1] if len(step) > 1 else self.level
        for tries_left in (3, 2, 1, 0):
            if not self._attempt(step):
                return
            self.refusals += 1
            if tries_left == 1:
                self.disk.plan = None
        raise Finding(f"F1: {step} is refused though the disk has recovered")

    def _attempt(self, step: Step) -> bool:
        """Whether the disk refused."""
        special = {"tick": self._do_tick, "open": self._attempt_open, "close": self._attempt_close}.get(step[0])
        if special is self._do_tick:
            self.clock.advance(step[1])
            return False
        if special is not None:
            return bool(special(*step[1:]))  # type: ignore[operator]
        if self.store is None:
            return False
        failures = len(self.disk.failed)
        refused = (self._attempt_plain if step[0] in ("sync", "backup") else self._attempt_write)(step)
        self._check_after(step, self.disk.failed[failures:])
        if self.failed:
            self._reopen()
        return refused

    # ------------------------------------------------------------ opening and closing

    def _attempt_open(self, level: str | None = None) -> bool:
        self.disk.failed.clear()
        self.disk.distrusted.clear()
        try:
            self.store = self.open_it()
        except (OSError, StoreFailed):
            self._check_let_go()
            return True
        seen, held = view(self.store), self._held()
        for place in range(self.promise.high, self.promise.kill - 1, -1):
            if same(self.states[place], held) and same(shown(self.states[place], self.clock()), seen):
                break
        else:
            raise Finding(
                f"F2: opened anew, the store shows {brief(seen)}, not {brief(self.states[self.promise.kill])}"
            )
        self.failed = False
        self.model = self.models[place]
        del self.states[place + 1 :], self.models[place + 1 :]
        self._learn_sids()
        self.states[place] = self.model.state()
        self._mark(kill=place, power=place, high=place, exists=True, unclean=None)
        return False

    def _held(self) -> State:
        """What the file holds, also of what is due: whether the write that takes that away is in it, nobody sees."""
        store = open_store(SimDisk(self.disk.medium.clone()))
        held = view(store)
        forget(store)
        return held

    def _attempt_close(self, sync: bool = True) -> bool:
        if self.store is None:
            return False
        store, self.store = self.store, None
        here = self.promise.high
        retried = len(self.disk.retried)
        self._mark(unclean=None)
        try:
            store.close(sync=sync)
        except (OSError, StoreFailed):
            pass
        else:
            if self.failed:
                raise Finding("F2: a store that failed was closed as if it had not")
            self._mark(kill=here, power=here if sync else self.promise.power)
        if len(self.disk.retried) > retried:
            raise Finding("F2: close() retried an fsync that had failed")
        self._check_let_go()
        return False

    def _reopen(self) -> None:
        """After a failure that left the file in doubt: let go and open anew."""
        assert self.store is not None
        trace = [entry for entry in self.disk.trace if entry[0] != "mark"]
        before = view(self.store)
        try:
            name = next(iter(before))
        except StopIteration:
            name = None
        try:
            if name is None:
                self.store.create_map("late")
            else:
                self.store.open_map(name).set("late", {})
        except StoreFailed:
            pass
        else:
            raise Finding("F2: a store that failed took a write")
        if trace != [entry for entry in self.disk.trace if entry[0] != "mark"]:
            raise Finding("F2: a store that failed wrote to the disk")
        if not same(before, view(self.store)):
            raise Finding("F2: a store that failed does not go on being read")
        self._attempt_close()
        for _ in range(3):
            if not self._attempt_open():
                return
        self.disk.plan = None
        if self._attempt_open():
            raise Finding("F2: the store cannot be opened anew though the disk has recovered")

    def _check_let_go(self) -> None:
        if PretendedLock.held:
            raise Finding("F5: the lock is not released")
        if self.disk.descriptors:
            raise Finding(f"F5: {len(self.disk.descriptors)} descriptors are left open")
        if self.disk.windows:
            raise Finding("F5: a part of a file is left mapped")
        if self.disk.exists(f"{PATH}.new") and not any(kind == "remove" for kind, _ in self.disk.failed):
            raise Finding("R8: a temporary file is left")

    # ------------------------------------------------------------ other steps

    def _attempt_plain(self, step: Step) -> bool:
        assert self.store is not None
        try:
            if step[0] == "sync":
                self.store.sync()
            elif not self.disk.exists(step[1]):
                self.store.backup(step[1])
        except StoreFailed as error:
            self._fail(error)
            return False
        except OSError:
            if step[0] == "sync":
                raise Finding("F2: a failed fsync is no StoreFailed") from None
            removed = any(kind == "remove" for kind, _ in self.disk.failed)
            if self.disk.exists(f"{step[1]}.new") and not removed:
                raise Finding("F4: a failed backup left a temporary file") from None
            return True
        if step[0] == "sync":
            here = self.promise.high
            self._mark(kill=here, power=here)
        return False

    def _attempt_write(self, step: Step) -> bool:
        try:
            model, expected = self.model.after(step, self.clock())
        except KeyError:
            return False  # it builds on a step that was refused for good
        assert self.store is not None
        here, position = self.promise.high, self.store._log.position
        changed = model.state() != self.model.state()
        events, failures = len(self.events), len(self.disk.failed)
        self._note(model, here + changed)
        self._mark(high=here + changed)
        try:
            result = self.call(step)
        except StoreFailed as error:
            self._fail(error)
            self.model = model if same(shown(model.state(), self.clock()), self._view()) else self.model
        except OSError as error:
            if step[0] != "compact":
                self._check_refused(step, events, self.disk.failed[failures:], error)
                self._mark(high=here)
            elif self.store._log.position > position:
                self.model = model  # what was due is gone, for that was a write of its own
                self._acknowledge(here + changed, changed=changed)
            else:
                self._mark(high=here)
            return True
        else:
            self.model = model
            self._learn_sids()
            self._note(model, here + changed)
            if result != expected:
                raise Finding(f"W8: {step} returned {result!r}, not {expected!r}")
            self._acknowledge(here + changed, changed=changed)
        return False

    def _note(self, model: Model, place: int) -> None:
        del self.states[place:], self.models[place:]
        self.states.append(model.state())
        self.models.append(model)

    def _view(self) -> Any:
        assert self.store is not None
        return view(self.store)

    def _fail(self, error: StoreFailed) -> None:
        if self.failed or not error.outcome_unknown:
            raise Finding(f"F2: the failure does not say that the outcome is unknown: {error}")
        self.failed = True

    def _check_refused(self, step: Step, events: int, failures: Sequence[tuple[str, int]], error: OSError) -> None:
        if len(self.events) != events:
            raise Finding(f"F1: {step} failed, and an event was told")
        node = self.disk.medium.find(PATH)
        own = {"truncate", *(kind for kind, number in failures if kind == "write" and node and number == node.number)}
        if failures and not any(kind in own for kind, _ in failures):
            raise Finding(f"F4: {step} failed with {error!r} for a failure of compaction: {failures}") from error

    def _check_after(self, step: Step, failures: Sequence[tuple[str, int]]) -> None:
        """What holds behind every step, refused or not."""
        assert self.store is not None
        self.compare()
        if self.disk.retried:
            raise Finding(f"F2: {step} retried an fsync that had failed")
        removed = any(kind == "remove" for kind, _ in self.disk.failed)
        if self.store._compactor.running is None and self.disk.exists(f"{PATH}.new") and not removed:
            raise Finding(f"F4: {step} left a temporary file")
        if not self.failed and (reason := _unsound(self.disk)):
            raise Finding(f"F1: {step} did not cut the log back: {reason}")
        if failures:
            self._crash_now()

    def _crash_now(self) -> None:
        """Look at a few of the states that crashes would leave right behind a failure."""
        medium, promise = self.disk.medium, self.promise._replace(unclean=None)
        self.tally.count(0)
        check_opening(SimDisk(medium.clone()), self.states, promise, kind=KILL, level=self.level, probe=False)
        if medium.is_settled() or medium.is_in_limbo(PATH):
            return
        for files in medium.power_cuts(self.random, 1, thorough=False, most=6):
            self.tally.count(0)
            check_opening(SimDisk(Medium.of(files)), self.states, promise, kind=POWER, level=self.level, probe=False)


def _unsound(disk: SimDisk) -> str | None:
    """What is behind the last whole record of the log, but for zeros that could not be taken away again."""
    looking = SimDisk(disk.medium)
    descriptor = looking.open_read(PATH)
    scan = Scan(looking, descriptor, read_header(looking, descriptor, PATH))
    for _ in scan:
        pass
    return scan.reason if looking.read(descriptor, scan.size, scan.end).strip(b"\0") else None


def fail(name: str | list[Step], level: str, faults: Sequence[Planned], tally: Tally, random: Random) -> int:
    """Perform a workload while these calls fail, and look at what crashes would leave then. Raises a ``Finding``.

    Returns how many calls failed.
    """
    trial = Trial(SimDisk(plan=plan_of(faults)), name, level)
    trial.tally, trial.random = tally, random
    try:
        trial.perform()
        medium = trial.disk.medium
        tally.count(0)
        promise = trial.promise._replace(unclean=None)
        check_opening(SimDisk(medium.clone()), trial.states, promise, kind=KILL, level=level)
        if not medium.is_in_limbo(PATH):
            for _ in range(3):
                tally.count(0)
                left = Medium.of(medium.power_cut(random))
                check_opening(SimDisk(left), trial.states, promise, kind=POWER, level=level, probe=False)
    except Finding as finding:
        finding.add_note(f"{name} at {level!r} with {list(faults)}; failed: {trial.disk.failed}")
        raise
    return trial.disk.faults


# ---------------------------------------------------------------- exceptions out of thin air

_ROOMS = tuple(os.path.dirname(module.__file__ or "") + os.sep for module in (mapitem, sortedcontainers))


class Interrupted(NamedTuple):
    """A call that is interrupted."""

    before: list[Step]  # on a store that was opened
    step: Step
    compact_at: float | None


CALLS: dict[str, Interrupted] = {
    "set": Interrupted([("map", "m"), ("set", "m", "a", {"n": 1})], ("set", "m", "a", {"n": 2}), None),
    "long set": Interrupted([("map", "m")], ("set", "m", "a", {"pad": "x" * 500}), None),
    "create": Interrupted(
        [("map", "m"), ("set", "m", "b", {"n": 1}, 5), ("tick", 6)], ("create", "m", "a", {"n": 2}, 30), None
    ),
    "remove": Interrupted([("map", "m"), ("set", "m", "a", {"n": 1}, 60)], ("remove", "m", "a"), None),
    "mutate": Interrupted([("map", "m"), ("set", "m", "a", {"n": 1})], ("mutate", "m", "a", {"n": 2}), None),
    "map": Interrupted([("map", "m", 5), ("set", "m", "a", {"n": 1}), ("tick", 6)], ("map", "m"), None),
    "batch": Interrupted(
        [("map", "m"), ("map", "n"), ("set", "m", "a", {"n": 1}), ("set", "m", "b", {"n": 1}, 5), ("tick", 6)],
        ("batch", ("set", "m", "c", {"n": 3}), ("remove", "m", "a"), ("create", "n", "a", {"n": 4}, 9)),
        None,
    ),
    "first after a clean end": Interrupted([("map", "m"), ("close",), ("open",)], ("set", "m", "a", {"n": 1}), None),
    "compact": Interrupted(
        [("map", "m"), *[("set", "m", f"k{number}", {"n": number}) for number in range(5)]],
        ("compact",),
        None,
    ),
    "write that compacts": Interrupted(
        [("map", "m"), *[("set", "m", f"k{number % 2}", {"pad": "x" * 100}) for number in range(8)]],
        ("set", "m", "k0", {"pad": "y" * 100}),
        1.1,
    ),
    "sync": Interrupted([("map", "m"), ("set", "m", "a", {"n": 1})], ("sync",), None),
    "close": Interrupted([("map", "m"), ("set", "m", "a", {"n": 1})], ("close",), None),
}


class _Interrupter:
    """Raises an exception at the n-th line that the library executes, or at the n-th from a moment on."""

    def __init__(self, at: int, raising: type[BaseException], has_begun: Callable[[], bool] = lambda: True) -> None:
        self._left = at
        self._raising = raising
        self._has_begun = has_begun
        self.where: str | None = None
        self.skipped = False

    def run(self, call: Callable[[], object]) -> None:
        before = sys.gettrace()
        # A finalizer that happens to run meanwhile would swallow the exception.
        gc.disable()
        sys.settrace(self._enter)
        try:
            call()
        finally:
            sys.settrace(before)
            gc.enable()

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        # A finalizer would swallow the exception.
        is_ours = frame.f_code.co_filename.startswith(_ROOMS) and frame.f_code.co_name != "__del__"
        return self._step if is_ours else None

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and self._has_begun():
            self._left -= 1
            if self._left == 0:
                code = frame.f_code
                self.where = f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}"
                if frame.f_lasti in _closed_places(frame.f_code):
                    self.skipped = True
                else:
                    raise self._raising("injected")
        return self._step


# What may fail just before an interruption.
_HIDDEN = ("write", "sync", "sync_directory", "truncate")

_closed: dict[CodeType, frozenset[int]] = {}


def _closed_places(code: CodeType) -> frozenset[int]:
    """Where there seems to be a line, but nothing can come between: the way out of a ``with`` block, and an empty word.

    The interpreter looks for signals behind a call, at a jump backwards and at the entry of a function. The next call
    on the way out is the exit itself, for a lock one of C, as is ``release``; and ``try`` does nothing at all. Nor does
    it look between an exception and the exit that is told of it.
    """
    if code not in _closed:
        every = list(dis.get_instructions(code))
        places = {each.offset for each in every if each.opname == "NOP"}
        for place, first in enumerate(every):
            if any(each.argval in ("release", "_turn") for each in every[place : place + 3]) or any(
                each.opname == "WITH_EXCEPT_START" for each in every[place : place + 2]
            ):
                places.add(first.offset)
            # Behind what keeps the value of a ``return``: how often, and how ``None`` is loaded, is the version's.
            leaving = list(dropwhile(lambda each: each.opname == "SWAP", every[place : place + 5]))[:3]
            if len(leaving) == 3 and all(each.opname.startswith("LOAD_CO") and each.argval is None for each in leaving):
                places.add(first.offset)
        _closed[code] = frozenset(places)
    return _closed[code]


def interrupt(
    call_or_name: Interrupted | str,
    level: str,
    at: int,
    raising: type[BaseException],
    tally: Tally,
    random: Random,
    *,
    probe: bool | None = None,
    failing: int | None = None,
) -> bool:
    """Raise an exception at the ``at``-th line of a call, and see that the store is in step with its log (F3).

    ``probe``: write to it afterwards; else it is closed at once, without a write that might cover what is left in the
    file (``None``: now this, now that). ``failing``: what it asks of the disk fails at this place among its writes,
    syncs and cuts, and lines are counted from there on: what the interruption hides then is not forgotten (F1, F2).
    Returns whether the call was long enough to be interrupted there. Call it within ``surroundings``.
    """
    if probe is None:
        probe = random.random() < 0.6
    steps, step, compact_at = CALLS[call_or_name] if isinstance(call_or_name, str) else call_or_name
    run = Run(compact_at=compact_at)
    run.level = level
    for each in [("open",), *steps]:
        run.do(each)
    store = run.store
    assert store is not None
    after = run.model if step[0] in ("sync", "close") else run.model.after(step, run.clock())[0]
    places = count()

    def plan(kind: str, _: int) -> Fault | None:
        return Fault(errno.EIO, 0.5) if kind in _HIDDEN and next(places) == failing else None

    if failing is not None:
        run.disk.plan = plan
    interrupter = _Interrupter(at, raising, lambda: failing is None or run.disk.faults > 0)
    call: Callable[[], object] = getattr(store, step[0]) if step[0] in ("sync", "close") else lambda: run.call(step)
    try:
        interrupter.run(call)
    except raising as error:
        if str(error) != "injected":
            raise
    except (OSError, StoreFailed):
        if failing is None:
            raise
        forget(store)
        return interrupter.skipped
    else:
        forget(store)
        return interrupter.skipped
    run.disk.plan = None
    tally.count(0)
    try:
        # A descriptor changes hands before it is closed: rather one too many is left open than one closed twice.
        may_leak = (interrupter.where or "").endswith((" keep", " abandon", " release_all"))
        closing = step[0] == "close"
        _check_interrupted(
            run, after, closing=closing, probe=probe and not closing, may_leak=may_leak, tally=tally, random=random
        )
    except Finding as finding:
        finding.add_note(f"{raising.__name__} at line {at} of {call_or_name} at {level!r}, {interrupter.where}")
        raise
    return True


def _check_interrupted(
    run: Run, after: Model, *, closing: bool, probe: bool, may_leak: bool, tally: Tally, random: Random
) -> None:
    store = run.store
    assert store is not None
    if store._lock._is_owned() or store._log.sync_lock._is_owned() or store._teller._turn is not None:
        raise Finding("F3: a lock is held")
    here = len(run.states) - 1
    promise = run.promise._replace(high=here + 1, unclean=None)
    run.states.append(after.state())
    # Of the log itself or its name: a new file whose sync failed is thrown away instead.
    is_final = run.disk.medium.is_in_limbo(PATH)
    if probe:
        try:
            store.map("probe")
            item = store.open_map("probe").set("probe", {"n": 0})
        except StoreFailed:
            pass
        else:
            if is_final:
                raise Finding("F2: a write was taken after a failed fsync")
            seen = view(store)
            for model in (run.model, after):
                probed, _ = model.after(("map", "probe"), run.clock())
                probed, expected = probed.after(("set", "probe", "probe", {"n": 0}), run.clock())
                if item == expected and same(shown(probed.state(), run.clock()), seen):
                    break
            else:
                raise Finding(f"F3: memory is neither as before nor as after: {brief(seen)}")
            created, _ = model.after(("map", "probe"), run.clock())
            run.states[here + 1 :] = [
                *([model.state()] if model is after else []),
                created.state(),
                probed.state(),
            ]
            last = len(run.states) - 1
            promise = promise._replace(
                kill=last if run.level != "none" else promise.kill,
                power=last if run.level == "power" else promise.power,
                high=last,
            )
    for kind in (KILL, *[POWER] * 4 * (not run.disk.medium.is_in_limbo(PATH))):
        left = run.disk.medium.clone() if kind == KILL else Medium.of(run.disk.medium.power_cut(random))
        tally.count(0)
        check_opening(SimDisk(left), run.states, promise, kind=kind, level=run.level, probe=kind == KILL)
    try:
        store.close()
    except StoreFailed:
        pass
    else:
        if is_final and not closing:
            raise Finding("F2: a store was closed as if no fsync had failed")
        if not closing:
            promise = promise._replace(unclean=False)
    if run.disk.retried:
        raise Finding("F2: an fsync that had failed was retried")
    if PretendedLock.held:
        raise Finding("F5: the lock is not released")
    if len(run.disk.descriptors) > may_leak:
        raise Finding(f"F5: {len(run.disk.descriptors)} descriptors are left open")
    if run.disk.windows:
        raise Finding("F5: a part of a file is left mapped")
    check_opening(SimDisk(run.disk.medium.clone()), run.states, promise, kind=KILL, level=run.level)

"""Crashing, failing and interrupting the store everywhere, and holding what is left against the list of its states.

Three ways. ``crash`` takes the trace of a run and tries the states that a death of the process or a power cut could
leave at each point of it, then crashes the recovery of these as well (durability P3, R1, R2, R4, R5, M1, M5). ``fail``
performs a workload while the disk refuses calls (F1, F2, F4, F5, R7, R8). ``interrupt`` raises an exception at each
executed line of a call (F3). What is wrong comes out as a ``Finding`` whose message begins with the clause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from mapitem import MapItemError, Store
from mapitem.testing import ManualClock

from .simdisk import Entry, Medium, SimDisk
from .workloads import (
    ALLOCATED_BYTES,
    LEVELS,
    NOW,
    PATH,
    Finding,
    Model,
    Promise,
    Run,
    State,
    Step,
    brief,
    forget,
    open_store,
    random_step,
    same,
    surroundings,
    view,
)

POWER, KILL = "power cut", "kill"


class Tally:
    """How many states were tried, and which of them were seen before."""

    def __init__(self) -> None:
        self.made = 0
        self.tried = 0
        self.by_depth: dict[int, int] = {}
        self._seen: set[int] = set()

    def is_new(self, *what: object) -> bool:
        self.made += 1
        mark = hash(what)
        if mark in self._seen:
            return False
        self._seen.add(mark)
        return True

    def count(self, depth: int) -> None:
        self.tried += 1
        self.by_depth[depth] = self.by_depth.get(depth, 0) + 1

    def __str__(self) -> str:
        deep = ", ".join(
            f"{count:,} after {depth} crashes" for depth, count in sorted(self.by_depth.items()) if depth > 1
        )
        return f"{self.tried:,} states tried" + (f" ({deep})" if deep else "")


# ---------------------------------------------------------------- one state after a crash


def check_opening(
    disk: SimDisk, states: Sequence[State], promise: Promise, *, kind: str, level: str, probe: bool = True
) -> int:
    """Open what a crash left, and see that it is what was promised; the place of the state that it shows (P3).

    Then write, close and open again. Leaves the trace of the opening in ``disk.trace``, cut before the first write.
    """
    low = promise.power if kind == POWER else promise.kill
    left = disk.medium.files()
    if promise.exists and PATH not in left:
        raise Finding("R6: the file of an opened store is gone")
    store = _open(disk, level)
    opened = len(disk.trace)
    place = _find(view(store), states, low, promise.high)
    _check_recovery(store, left.get(PATH, b""), disk, promise)
    _check_leftovers(disk, open_files=1)
    if probe:
        _check_going_on(disk, store, states[place], level)
    forget(store)
    del disk.trace[opened:]
    _check_backups(left, states, promise, kind)
    return place


def _open(disk: SimDisk, level: str) -> Store:
    try:
        return open_store(disk, durability=level, compact_at=None)
    except (MapItemError, OSError, AssertionError) as error:
        raise Finding(f"R1: opening failed: {error!r}") from error


def _find(seen: State, states: Sequence[State], low: int, high: int) -> int:
    for place in range(high, low - 1, -1):
        if same(states[place], seen):
            return place
    for place, state in enumerate(states):
        if same(state, seen):
            which = "lost a write that was promised" if place < low else "shows a write that was not made yet"
            raise Finding(f"P3: the store {which}: state {place}, not {low} to {high}: {brief(seen)}")
    raise Finding(f"P3: no state that ever was: {brief(seen)}; allowed are {low} to {high}: {brief(states[high])}")


def _check_recovery(store: Store, left: bytes, disk: SimDisk, promise: Promise) -> None:
    recovery = store.recovery
    if promise.unclean is not None and (recovery is not None) is not promise.unclean:
        raise Finding(f"R5: recovery is {recovery} after an end that was {'un' if promise.unclean else ''}clean")
    if recovery is not None and recovery.dropped_bytes:
        cut = left[recovery.offset :]
        if len(left) % ALLOCATED_BYTES == 0:
            cut = cut.rstrip(b"\0")
        kept = disk.medium.files().get(recovery.kept_in or "")
        if len(cut) != recovery.dropped_bytes or kept != cut or not recovery.reason:
            raise Finding(f"R2: {recovery} for {len(cut)} bytes cut, of which {kept!r} were kept")


def _check_leftovers(disk: SimDisk, *, open_files: int) -> None:
    if len(disk.descriptors) != open_files:
        raise Finding(f"R8: {len(disk.descriptors)} descriptors open, not {open_files}")
    if disk.windows:
        raise Finding("R8: a part of a file is mapped before anything was written")
    if disk.exists(f"{PATH}.new"):
        raise Finding("R8: a temporary file is left")


def _check_going_on(disk: SimDisk, store: Store, state: State, level: str) -> None:
    """What recovered takes writes: revisions go on behind the last one, and all is there after a clean end."""
    for name, sheet in state.items():
        item = store.open_map(name).set("probe", {"n": 1})
        if item.revision != sheet[1]:
            raise Finding(f"P3: the next revision of {name} is {item.revision}, not {sheet[1]}")
    written = view(store)
    store.close()
    again = _open(disk, level)
    if not same(written, view(again)):
        raise Finding(f"P3: after a clean end the store shows {brief(view(again))}, not {brief(written)}")
    if again.recovery is not None and state:
        raise Finding(f"R5: recovery is {again.recovery} after a clean end")
    forget(again)


def _check_backups(left: dict[str, bytes], states: Sequence[State], promise: Promise, kind: str) -> None:
    for path, place, done in promise.backups:
        if path not in left:
            if done:
                raise Finding(f"M5: the backup {path} is gone")
            continue
        store = open_store(SimDisk(Medium.of({path: left[path]})), path, read_only=True)
        if not same(states[place], view(store)) or store.recovery is not None:
            raise Finding(f"M5: the backup shows {brief(view(store))}, not {brief(states[place])}")
        store.close()


# ---------------------------------------------------------------- crashes


class Effort(NamedTuple):
    """How much is tried at each point of a trace."""

    samples: int = 4  # states drawn at random, beside the systematic ones
    thorough: bool = False
    systematic: bool = True
    depth: int = 1  # crashes in a row
    deeper: float = 0.02  # the share of states whose recovery is crashed as well
    probe: float = 0.25  # the share of states that are written to
    most: int | None = None  # of the systematic states after a power cut, at most so many at each point


def crash(run: Run, tally: Tally, random: Random, effort: Effort, *, level: str | None = None) -> None:
    """Try what a crash could leave at every point of this run. Raises the first ``Finding``."""
    _crash(run.before, run.disk.trace, run.states, Promise(), tally, random, effort, level or run.level, 1)


def _crash(
    before: Medium,
    trace: Sequence[Entry],
    states: Sequence[State],
    promise: Promise,
    tally: Tally,
    random: Random,
    effort: Effort,
    level: str,
    depth: int,
) -> None:
    medium = before.clone()
    sampled = depth > 1
    for place, entry in enumerate((("mark", promise), *trace)):
        if entry[0] == "mark":
            promise = entry[1]  # type: ignore[assignment]
        else:
            for torn in _torn(entry, random, effort.thorough and not sampled):
                one = medium.clone()
                one.apply(torn)
                _try(one, KILL, states, promise, tally, random, effort, level, depth)
            medium.apply(entry)
        _try(medium.clone(), KILL, states, promise, tally, random, effort, level, depth)
        if medium.is_settled():
            continue
        if sampled or not effort.systematic:
            cuts: Iterable[dict[str, bytes]] = (medium.power_cut(random) for _ in range(effort.samples))
        else:
            cuts = medium.power_cuts(random, effort.samples, thorough=effort.thorough, most=effort.most)
        for files in cuts:
            if tally.is_new(*sorted(files.items()), promise, level):
                try:
                    _try(Medium.of(files), POWER, states, promise, tally, random, effort, level, depth)
                except Finding as finding:
                    finding.add_note(f"power cut behind entry {place} of the trace: {_line(entry)}")
                    raise


def _torn(entry: Entry, random: Random, thorough: bool) -> Iterator[Entry]:
    """A write that the process did not live to see done."""
    if entry[0] not in ("write", "mapped"):
        return
    kind, number, at, data = entry
    length = len(data)  # type: ignore[arg-type]
    if not length:
        return
    for tear in range(1, length) if thorough else sorted({random.randrange(length) for _ in range(2)} - {0}):
        yield (kind, number, at, data[:tear])  # type: ignore[index]
        if kind == "mapped":
            # What copies bytes in memory need not begin at the beginning.
            yield (kind, number, at + tear, data[tear:])  # type: ignore[index,operator]


def _try(
    medium: Medium,
    kind: str,
    states: Sequence[State],
    promise: Promise,
    tally: Tally,
    random: Random,
    effort: Effort,
    level: str,
    depth: int,
) -> None:
    tally.count(depth)
    before = medium.clone()
    disk = SimDisk(medium)
    probe = random.random() < effort.probe
    try:
        place = check_opening(disk, states, promise, kind=kind, level=level, probe=probe)
        if depth < effort.depth and random.random() < effort.deeper:
            # Until the opening is done the old promise holds, but for what is gone for good; then what it has shown.
            low = promise.power if kind == POWER else promise.kill
            during = promise._replace(kill=low, unclean=None)
            shown_now = ("mark", promise._replace(kill=place, power=place, high=place, exists=True, unclean=None))
            _crash(before, [*disk.trace, shown_now], states, during, tally, random, effort, level, depth + 1)
    except Finding as finding:
        finding.add_note(f"crash {depth} was a {kind}, opened at {level!r}")
        raise


def _line(entry: Entry) -> str:
    return " ".join(f"{len(each)} bytes" if isinstance(each, bytes) else str(each) for each in entry)


# ---------------------------------------------------------------- whole lives


def live(seed: int, tally: Tally, *, sessions: int = 6) -> None:
    """The life of one store, drawn at random: it is opened, written to and crashed, or closed, again and again.

    Levels change from one opening to the next, and openings are crashed too. Raises the first ``Finding``.
    """
    random = Random(seed)
    with surroundings(seed, compact_from=random.choice((None, 500, 1200)), mapped=True):
        compact_at = random.choice((None, 1.1, 1.6))
        medium, kind, promise, clock = Medium(), KILL, Promise(), ManualClock(now=NOW)
        models = [Model()]
        story: list[str] = []
        try:
            for _ in range(sessions):
                level = random.choice(LEVELS)
                medium, place = _recover(medium, kind, promise, models, level, tally, random, story)
                run = Run(SimDisk(medium), model=models[place], clock=clock, compact_at=compact_at)
                run.mapped = random.random() < 0.7  # one session so, the next otherwise
                _session(run, level, random, story)
                _glance(run, tally, random)
                medium, kind, promise = _random_crash(run, random)
                models = run.models
                story.append(f"{kind}, {promise}")
        except Finding as finding:
            finding.add_note(f"seed {seed}; " + " | ".join(story))
            raise


def _recover(
    medium: Medium,
    kind: str,
    promise: Promise,
    models: list[Model],
    level: str,
    tally: Tally,
    random: Random,
    story: list[str],
) -> tuple[Medium, int]:
    """The medium as it is when nothing crashes any more, and the place of the state that it holds."""
    states = [model.state() for model in models]
    depth = 1
    while True:
        disk = SimDisk(medium.clone())
        tally.count(depth)
        place = check_opening(disk, states, promise, kind=kind, level=level, probe=random.random() < 0.2)
        if random.random() < 0.6 or depth == 5:
            return medium, place
        low = promise.power if kind == POWER else promise.kill
        promise = promise._replace(kill=low, unclean=None)
        done = random.randrange(len(disk.trace) + 1)
        for entry in disk.trace[:done]:
            medium.apply(entry)
        if done == len(disk.trace):
            promise = promise._replace(kill=place, power=place, high=place, exists=True)
        depth += 1
        kind = random.choice((KILL, POWER))
        if kind == POWER:
            medium = Medium.of(medium.power_cut(random))
        story.append(f"{kind} behind {done} of {len(disk.trace)} while opening at {level!r}")


def _session(run: Run, level: str, random: Random, story: list[str]) -> None:
    steps: list[Step] = []
    run.level = level
    for step in _random_steps(run, random):
        steps.append(step)
        run.do(step)
        if step[0] == "open":
            run.compare()
    story.append(repr(steps))
    if run.store is not None:
        forget(run.store)


def random_run(level: str, random: Random, *, compact_at: float | None = 1.1, reopens: bool = True) -> Run:
    """A new store that has performed steps drawn at random. Call it within ``surroundings``."""
    run = Run(compact_at=compact_at)
    run.level = level
    for step in _random_steps(run, random):
        if reopens or step[0] not in ("close", "backup"):
            run.do(step)
    if run.store is not None:
        forget(run.store)
    return run


def _random_steps(run: Run, random: Random) -> Iterator[Step]:
    yield ("open", run.level)
    for _ in range(random.randrange(14)):
        roll = random.random()
        if roll < 0.06:
            yield ("sync",)
        elif roll < 0.12:
            yield ("compact",)
        elif roll < 0.14:
            yield ("backup", f"/sim/copy-{random.randrange(10**9)}")
        else:
            yield random_step(run.model, random, run.clock())
    if random.random() < 0.25:
        yield ("close",) if run.level != "none" or random.random() < 0.7 else ("close", False)


def _glance(run: Run, tally: Tally, random: Random) -> None:
    """A few states that crashes at random points of the run could have left."""
    medium = run.before.clone()
    promise: Promise | None = None  # before the first mark the store was not open yet: that is for ``_recover``
    for entry in run.disk.trace:
        if entry[0] == "mark":
            promise = entry[1]  # type: ignore[assignment]
        medium.apply(entry)
        if promise is not None and random.random() < 0.15:
            kind = random.choice((KILL, POWER, POWER))
            left = medium.clone() if kind == KILL else Medium.of(medium.power_cut(random))
            tally.count(1)
            check_opening(SimDisk(left), run.states, promise, kind=kind, level=random.choice(LEVELS), probe=False)


def _random_crash(run: Run, random: Random) -> tuple[Medium, str, Promise]:
    trace = run.disk.trace
    opened = next(place for place, entry in enumerate(trace) if entry[0] == "mark")
    end = random.choice((len(trace), random.randrange(opened + 1, len(trace) + 1)))
    medium, promise = run.before.clone(), Promise()
    for entry in trace[:end]:
        if entry[0] == "mark":
            promise = entry[1]  # type: ignore[assignment]
        medium.apply(entry)
    kind = random.choice((KILL, POWER))
    if kind == POWER:
        return Medium.of(medium.power_cut(random)), kind, promise
    if end < len(trace):
        for torn in list(_torn(trace[end], random, False))[:1]:
            medium.apply(torn)
    return medium, kind, promise

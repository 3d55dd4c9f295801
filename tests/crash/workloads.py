"""What stores are made to do on the simulated disk, beside a plain list of the states that they pass through.

A *step* is a tuple, a verb and its arguments. ``Model`` says what each has to lead to, from the rules alone, and never
reads the store. ``Run`` performs steps on a store over a ``SimDisk``, holds each result against the model, keeps every
state that the store passed through in order, and marks in the disk's trace what is promised at each moment. Crashes are
not made here.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, ClassVar, NamedTuple, TypeAlias
from unittest import mock

import mapitem.lock
from mapitem import Event, Map, MapItem, Store, StoreClosed
from mapitem.testing import ManualClock

from .simdisk import SimDisk

Step: TypeAlias = tuple[Any, ...]
# Instead of 64 KiB.
ALLOCATED_BYTES = 64
# By name of map: sid (None where it is not known), revision, created, updated, expires, items in order of their keys.
State: TypeAlias = dict[str, tuple[Any, ...]]

NOW = 1_700_000_000.0
# Before anything could be due, so that what is there shows, due or not.
LONG_AGO = NOW - 1e9
PATH = "/sim/store"
LEVELS = ("none", "process", "power")


class Finding(AssertionError):
    """Something that a clause forbids. The message begins with the clause."""


# ---------------------------------------------------------------- what has to be


class _Sheet:
    """One map of the model."""

    def __init__(self, sid: str | None, now: datetime, expires: datetime | None) -> None:
        self.sid = sid
        self.counter = 0
        self.created = self.updated = now
        self.expires = expires
        self.items: dict[str, MapItem] = {}

    def clone(self) -> _Sheet:
        other = copy(self)
        other.items = dict(self.items)
        return other

    def touch(self, now: datetime) -> None:
        self.updated = max(self.updated, now)

    def expire(self, now: datetime) -> None:
        due = sorted((item.date_expires, key) for key, item in self.items.items() if _is_due(item.date_expires, now))
        for _, key in due:
            del self.items[key]
            self.counter += 1
            self.touch(now)


class Model:
    """The maps as they have to be: the rules of semantics R, T and W as plainly as these steps need them."""

    def __init__(self) -> None:
        self.sheets: dict[str, _Sheet] = {}

    def clone(self) -> Model:
        other = Model()
        other.sheets = {name: sheet.clone() for name, sheet in self.sheets.items()}
        return other

    def state(self) -> State:
        return {
            name: (
                sheet.sid,
                f"{sheet.counter:x}",
                sheet.created,
                sheet.updated,
                sheet.expires,
                tuple(sheet.items[key] for key in sorted(sheet.items)),
            )
            for name, sheet in self.sheets.items()
        }

    def after(self, step: Step, seconds: float) -> tuple[Model, Any]:
        """The model after this step at this time, and what the step has to return."""
        now = datetime.fromtimestamp(seconds, UTC)
        model = self.clone()
        return model, getattr(model, f"_{step[0]}")(now, *step[1:])

    def _map(self, now: datetime, name: str, ttl: int | None = None) -> None:
        if name in self.sheets and not _is_due(self.sheets[name].expires, now):
            return
        self.sheets[name] = _Sheet(None, now, _expiry(now, ttl, None))

    def _set(
        self, now: datetime, name: str, key: str, data: Any, ttl: int | None = None, map_ttl: int | None = None
    ) -> MapItem:
        sheet = self.sheets[name]
        sheet.expire(now)
        old = sheet.items.get(key)
        item = MapItem(
            key=key,
            data=data if data is not None or old is None else old.data,
            revision=f"{sheet.counter:x}",
            date_created=now if old is None else old.date_created,
            date_updated=now if old is None else max(now, old.date_updated),
            date_expires=_expiry(now, ttl, None if old is None else old.date_expires),
            created_by="system",
        )
        sheet.items[key] = item
        sheet.counter += 1
        sheet.touch(now)
        if map_ttl is not None:
            sheet.expires = _expiry(now, map_ttl, None)
        return item

    _create = _set

    def _update(self, now: datetime, name: str, key: str, changes: dict[str, Any]) -> MapItem:
        self.sheets[name].expire(now)
        old = self.sheets[name].items.get(key)
        return self._set(now, name, key, {**(old.data if old else {}), **changes})

    _mutate = _update

    def _item_ttl(self, now: datetime, name: str, key: str, ttl: int) -> MapItem:
        return self._set(now, name, key, None, ttl)

    def _remove(self, now: datetime, name: str, key: str) -> MapItem:
        sheet = self.sheets[name]
        sheet.expire(now)
        sheet.counter += 1
        sheet.touch(now)
        return sheet.items.pop(key)

    def _map_ttl(self, now: datetime, name: str, ttl: int) -> None:
        self.sheets[name].expires = _expiry(now, ttl, None)

    def _purge_map(self, now: datetime, name: str) -> int:
        before = len(self.sheets[name].items)
        self.sheets[name].expire(now)
        return before - len(self.sheets[name].items)

    def _purge(self, now: datetime) -> int:
        gone = 0
        for name, sheet in list(self.sheets.items()):
            if _is_due(sheet.expires, now):
                gone += len(sheet.items)
                del self.sheets[name]
            else:
                gone += self._purge_map(now, name)
        return gone

    def _compact(self, now: datetime) -> None:
        self._purge(now)

    def _remove_map(self, now: datetime, name: str) -> None:
        del self.sheets[name]

    def _batch(self, now: datetime, *steps: Step) -> list[MapItem]:
        return [getattr(self, f"_{verb}")(now, *arguments) for verb, *arguments in steps]


def _is_due(expires: datetime | None, now: datetime) -> bool:
    return expires is not None and now >= expires


def _expiry(now: datetime, ttl: int | None, kept: datetime | None) -> datetime | None:
    if ttl is None:
        return kept
    return now + timedelta(seconds=ttl) if ttl else None


# ---------------------------------------------------------------- what is


def view(store: Store) -> State:
    """What a store shows, through its public face."""
    return {
        each.name or each.sid: (
            each.sid,
            each.revision,
            each.date_created,
            each.date_updated,
            each.date_expires,
            tuple(each.values()),
        )
        for each in store.maps()
    }


def shown(state: State, seconds: float) -> State:
    """What of a state reads show at this time."""
    now = datetime.fromtimestamp(seconds, UTC)
    return {
        name: (*sheet[:5], tuple(item for item in sheet[5] if not _is_due(item.date_expires, now)))
        for name, sheet in state.items()
        if not _is_due(sheet[4], now)
    }


def same(expected: State, seen: State) -> bool:
    """Whether they are equal; a sid that was never told is any."""
    if expected.keys() != seen.keys():
        return False
    return all(sheet[1:] == seen[name][1:] and sheet[0] in (None, seen[name][0]) for name, sheet in expected.items())


def brief(state: State) -> str:
    """A state in a line, for messages."""
    return (
        "; ".join(
            f"{name}@{sheet[1]}: " + (" ".join(f"{item.key}={item.revision}" for item in sheet[5]) or "empty")
            for name, sheet in sorted(state.items())
        )
        or "no maps"
    )


# ---------------------------------------------------------------- the surroundings


class PretendedLock:
    """Stands for the lock where only the disk matters: the real one is a file of the real disk, and slow."""

    held: ClassVar[set[PretendedLock]] = set()

    def __init__(self, path: str) -> None:
        pass

    def acquire(self) -> None:
        self.held.add(self)

    def release(self) -> None:
        self.held.discard(self)

    withdraw = release


@contextmanager
def surroundings(
    seed: int = 0, *, compact_from: int | None = None, real_lock: bool = False, mapped: bool | None = None
) -> Iterator[None]:
    """Everything random from a seed, no log messages, and small thresholds: a compaction goes on over many writes.

    ``mapped``: whether appends go through a map of a small part of the file (default: with every other seed).
    """
    random = Random(seed)
    # With a record of any size through a map, or with one map after the other and large records between them.
    ahead = 2400 if seed % 3 == 0 else 480
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(os, "urandom", random.randbytes))
        thresholds = {
            "COMPACT_FROM_BYTES": 1 << 22 if compact_from is None else compact_from,
            "_STEP_BYTES": 64,
            "_SPEED": 2,
            "ITEMS_PER_BLOCK": 2,
            "_WRITE_BYTES": 150,
            "_SYNC_BYTES": 600,
            "_COPY_BYTES": 256,
            "ALLOCATED_BYTES": ALLOCATED_BYTES,
            "_AHEAD_AFTER_BYTES": 0 if (seed % 2 == 1 if mapped is None else mapped) else 1 << 30,
            "_LEAST_AHEAD_BYTES": ahead,
            "_MOST_AHEAD_BYTES": ahead + 160,
        }
        for name, value in thresholds.items():
            # A constant that another room imported is there as well.
            rooms = [
                module for path, module in sys.modules.items() if path.startswith("mapitem.") and name in vars(module)
            ]
            assert rooms, f"no room has a {name}"
            for module in rooms:
                stack.enter_context(mock.patch.object(module, name, value))
        if not real_lock:
            stack.enter_context(mock.patch.object(mapitem.lock, "WriterLock", PretendedLock))
            stack.callback(PretendedLock.held.clear)
        logger = logging.getLogger("mapitem")
        was, logger.level = logger.level, logging.CRITICAL
        stack.callback(logger.setLevel, was)
        yield


def open_store(disk: SimDisk, path: str = PATH, **options: Any) -> Store:
    """A store over this disk."""
    store = Store.__new__(Store)
    store._disk = disk
    Store.__init__(store, path, **{"clock": ManualClock(now=LONG_AGO), **options})
    return store


def forget(store: Store) -> None:
    """Let a store go as the death of its process would: nothing is written."""
    lock, store._writer_lock = store._writer_lock, None
    store._refusal = (StoreClosed, "its process died")
    store._log.abandon()
    if lock is not None:
        lock.release()


# ---------------------------------------------------------------- running


class Promise(NamedTuple):
    """What must be there after a crash: a state from ``kill`` (or ``power``) to ``high``, by place in the list."""

    kill: int = 0  # the earliest state allowed after the death of the process
    power: int = 0  # the earliest state allowed after a power cut
    high: int = 0  # the latest: with what is in flight
    exists: bool = False  # whether the file must be there
    unclean: bool | None = None  # whether the end must be told to be unclean, must not, or either
    backups: tuple[tuple[str, int, bool], ...] = ()  # path, state, whether it must be there


class Run:
    """A store at work on a disk; crashes are held against ``states``, and ``models`` is the same list to go on from."""

    def __init__(
        self,
        disk: SimDisk | None = None,
        *,
        path: str = PATH,
        model: Model | None = None,
        clock: ManualClock | None = None,
        compact_at: float | None = None,
    ) -> None:
        self.disk = disk if disk is not None else SimDisk()
        self.before = self.disk.medium.clone()
        self.path = path
        self.clock = clock if clock is not None else ManualClock(now=NOW)
        self.compact_at = compact_at
        self.mapped = True
        self.store: Store | None = None
        self.level = "process"
        self.model = model if model is not None else Model()
        self.models = [self.model]
        self.states: list[State] = [self.model.state()]
        self.promise = Promise()
        self.events: list[Event] = []
        self.steps: list[Step] = []  # what was performed

    @classmethod
    def of(cls, steps: Sequence[Step], *, level: str = "process", compact_at: float | None = None) -> Run:
        """A new store that has performed these steps. ``("open",)`` opens at the level given here."""
        run = cls(compact_at=compact_at)
        run.level = level
        for step in steps:
            run.do(step)
        if run.store is not None:
            forget(run.store)
        return run

    def do(self, step: Step) -> None:
        """Perform a step that must succeed."""
        self.steps.append(step)
        special: Callable[..., None] | None = getattr(self, f"_do_{step[0]}", None)
        if special is not None:
            special(*step[1:])
            return
        model, expected = self.model.after(step, self.clock())
        changed = model.state() != self.model.state()
        if changed:
            self.states.append(model.state())
            self.models.append(model)
        here = len(self.states) - 1
        self._mark(high=here)
        result = self.call(step)
        self.model = self.models[here] = model
        self._learn_sids()
        self.states[here] = model.state()
        if result != expected:
            raise Finding(f"W8: {step} returned {result!r}, not {expected!r}")
        self._acknowledge(here, changed=changed)

    def _acknowledge(self, here: int, *, changed: bool) -> None:
        self._mark(
            kill=here if self.level != "none" else self.promise.kill,
            power=here if self.level == "power" else self.promise.power,
            # Before the first write there is nothing that a crash could interrupt.
            unclean=True if changed else self.promise.unclean,
        )

    def _mark(self, **changes: Any) -> None:
        self.promise = self.promise._replace(**changes)
        self.disk.mark(self.promise)

    def _learn_sids(self) -> None:
        assert self.store is not None
        for name, sheet in self.model.sheets.items():
            if sheet.sid is None:
                sheet.sid = self.store.open_map(name).sid

    def compare(self) -> None:
        """Hold what the store shows now against the model."""
        assert self.store is not None
        expected, seen = shown(self.model.state(), self.clock()), view(self.store)
        if not same(expected, seen):
            raise Finding(f"F1: the store shows {brief(seen)}, not {brief(expected)}")

    # ------------------------------------------------------------ steps of their own

    def _do_tick(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def _do_open(self, level: str | None = None, **options: Any) -> None:
        self.level = level or self.level
        self.store = self.open_it(**options)
        here = len(self.states) - 1
        self._mark(kill=here, power=here, exists=True, unclean=None)

    def open_it(self, **options: Any) -> Store:
        about = {"clock": self.clock, "durability": self.level, "compact_at": self.compact_at, "mapped": self.mapped}
        store = open_store(self.disk, self.path, **about, **options)
        store.on(Event, self.events.append)
        return store

    def _do_sync(self) -> None:
        assert self.store is not None
        self.store.sync()
        here = len(self.states) - 1
        self._mark(kill=here, power=here)

    def _do_close(self, sync: bool = True) -> None:
        assert self.store is not None
        self._mark(unclean=None)
        self.store.close(sync=sync)
        self.store = None
        here = len(self.states) - 1
        if sync:
            self._mark(kill=here, power=here, unclean=False)
        else:
            self._mark(kill=here)

    def _do_backup(self, target: str) -> None:
        assert self.store is not None
        here, others = len(self.states) - 1, self.promise.backups
        self._mark(backups=(*others, (target, here, False)))
        self.store.backup(target)
        self._mark(backups=(*others, (target, here, True)))

    # ------------------------------------------------------------ steps that change maps

    def call(self, step: Step) -> Any:
        """What the store's own call returns."""
        store = self.store
        assert store is not None
        verb, *arguments = step
        if verb == "map":
            store.map(arguments[0], ttl=arguments[1] if len(arguments) > 1 else None)
            return None
        if verb == "batch":
            with store.batch() as batch:
                for each, name, *rest in arguments:
                    _call(batch, each, self._open(name), *rest)
            return batch.results
        if verb in ("purge", "compact"):
            return getattr(store, verb)()
        return _call(self._open(arguments[0]), verb, *arguments[1:])

    def _open(self, name: str) -> Map:
        assert self.store is not None
        return self.store.open_map(name)


def _call(target: Any, verb: str, *arguments: Any) -> Any:
    """One verb of ``Map``, or of ``Batch`` with the map as first argument."""
    if verb in ("set", "create"):
        place = 3 if isinstance(arguments[0], Map) else 2
        names = ("ttl", "collection_ttl")
        return getattr(target, verb)(*arguments[:place], **dict(zip(names, arguments[place:], strict=False)))
    if verb == "mutate":
        key, changes = arguments
        return target.mutate(key, lambda data: {**data, **changes})
    method = {"item_ttl": "set_item_ttl", "map_ttl": "set_ttl", "purge_map": "purge"}.get(verb, verb)
    return getattr(target, method)(*arguments)


# ---------------------------------------------------------------- the workloads


def _data(number: int, size: int = 8) -> dict[str, Any]:
    return {"n": number, "pad": str(number % 10) * size}


TINY: list[Step] = [
    ("open",),
    ("map", "m"),
    ("set", "m", "a", {"n": 1}),
    ("set", "m", "a", {"n": 2}),
    ("remove", "m", "a"),
    ("close",),
]

VERBS: list[Step] = [
    ("open",),
    ("map", "m"),
    ("create", "m", "a", _data(1)),
    ("set", "m", "b", _data(2)),
    ("set", "m", "a", _data(3), 60),
    ("update", "m", "a", {"more": [1, 2]}),
    ("mutate", "m", "b", {"n": -1}),
    ("sync",),
    ("item_ttl", "m", "b", 90),
    ("map_ttl", "m", 1000),
    ("set", "m", "c", _data(4), None, 2000),
    ("remove", "m", "a"),
    ("map", "other", 500),
    ("create", "other", "a", {}),
    ("remove_map", "other"),
    ("map", "other"),
    ("close",),
    ("open",),
    ("set", "m", "d", _data(5)),
    ("tick", -100),
    ("set", "m", "d", _data(6)),
    ("close",),
]

BATCHES: list[Step] = [
    ("open",),
    ("map", "m"),
    ("map", "n"),
    ("batch", ("create", "m", "a", _data(1)), ("create", "n", "a", _data(2)), ("set", "m", "b", _data(3), 10)),
    ("batch", ("update", "m", "a", {"n": 9}), ("remove", "n", "a"), ("item_ttl", "m", "a", 10)),
    ("tick", 20),
    ("batch", ("set", "m", "c", _data(4)), ("set", "m", "c", _data(5)), ("set", "n", "z", _data(6))),
    ("close",),
]

EXPIRY: list[Step] = [
    ("open",),
    ("map", "m"),
    ("map", "short", 30),
    ("set", "short", "s", _data(0)),
    ("set", "m", "a", _data(1), 10),
    ("set", "m", "b", _data(2), 20),
    ("set", "m", "c", _data(3), 5),
    ("tick", 10),
    ("set", "m", "d", _data(4)),
    ("tick", 15),
    ("purge_map", "m"),
    ("tick", 10),
    ("map", "short", 30),
    ("set", "m", "e", _data(5), 1),
    ("tick", 40),
    ("purge",),
    ("close",),
]

BY_HAND: list[Step] = [
    ("open",),
    ("map", "m"),
    ("set", "m", "a", _data(1)),
    ("set", "m", "b", _data(2)),
    ("set", "m", "c", _data(3), 5),
    ("remove", "m", "b"),
    ("tick", 5),
    ("compact",),
    ("set", "m", "d", _data(4)),
    ("remove", "m", "a"),
    ("remove", "m", "d"),
    ("compact",),
    ("compact",),
    ("set", "m", "e", _data(5)),
    ("close",),
]

# With surroundings(compact_from=…): compactions begin and end in the middle of these.
BY_ITSELF: list[Step] = [
    ("open",),
    ("map", "m"),
    ("map", "n", 400),
    *[("set", "m", f"k{number % 5}", _data(number, 20)) for number in range(12)],
    ("batch", ("set", "n", "x", _data(1, 10)), ("remove", "m", "k1")),
    *[("set", "n", f"k{number % 3}", _data(number, 20), 30) for number in range(8)],
    ("tick", 31),
    ("remove_map", "n"),
    ("map", "n"),
    *[("set", "m", f"k{number % 3}", _data(number, 20)) for number in range(8)],
    ("close",),
]

SESSIONS: list[Step] = [
    ("open", "none"),
    ("map", "m"),
    ("set", "m", "a", _data(1)),
    ("close", False),
    ("open", "process"),
    ("set", "m", "b", _data(2)),
    ("close",),
    ("open", "power"),
    ("close",),
    ("open", "power"),
    ("set", "m", "c", _data(3)),
    ("close",),
    ("open", "none"),
    ("set", "m", "d", _data(4)),
    ("sync",),
    ("set", "m", "e", _data(5)),
    ("close",),
    ("open", "process"),
    ("remove", "m", "e"),
    ("sync",),
    ("close",),
]

BACKUPS: list[Step] = [
    ("open",),
    ("map", "m"),
    ("set", "m", "a", _data(1)),
    ("backup", "/sim/copy"),
    ("set", "m", "b", _data(2)),
    ("compact",),
    ("backup", "/sim/copy-2"),
    ("remove", "m", "a"),
    ("close",),
]

# Large enough records for several reads and writes each.
LARGE: list[Step] = [
    ("open",),
    ("map", "m"),
    ("set", "m", "a" * 300, _data(1, 900)),
    ("set", "m", "a" * 300, _data(2, 1200)),
    ("batch", *[("set", "m", f"k{number}", _data(number, 150)) for number in range(6)]),
    ("compact",),
    ("set", "m", "z", _data(9, 10)),
    ("close",),
]

WORKLOADS: dict[str, list[Step]] = {
    "tiny": TINY,
    "verbs": VERBS,
    "batches": BATCHES,
    "expiry": EXPIRY,
    "compaction by hand": BY_HAND,
    "compaction by itself": BY_ITSELF,
    "sessions": SESSIONS,
    "backups": BACKUPS,
    "large": LARGE,
}
COMPACT_FROM = 900


def start(name: str, level: str) -> Run:
    """The workload of that name, performed on a new store. Call it within ``surroundings``."""
    return Run.of(WORKLOADS[name], level=level, compact_at=1.1 if name == "compaction by itself" else None)


@contextmanager
def around(name: str, seed: int = 0, *, real_lock: bool = False, mapped: bool | None = None) -> Iterator[None]:
    """The surroundings of the workload of that name."""
    compact_from = COMPACT_FROM if name == "compaction by itself" else None
    with surroundings(seed, compact_from=compact_from, real_lock=real_lock, mapped=mapped):
        yield


def in_turn(name: str, level: str = "process") -> bool:
    """Whether this workload allocates ahead at this level, and maps that if writes do not wait: half of all do."""
    return (list(WORKLOADS).index(name) + LEVELS.index(level)) % 2 == 0


def random_step(model: Model, random: Random, seconds: float) -> Step:
    """A step that makes sense on this model at this time: one that no rule refuses."""
    now = datetime.fromtimestamp(seconds, UTC)
    live = [name for name, sheet in model.sheets.items() if not _is_due(sheet.expires, now)]
    if not live or random.random() < 0.08:
        return ("map", random.choice("mnop"), random.choice((None, None, 20, 300)))
    roll = random.random()
    if roll < 0.05:
        return ("tick", random.choice((1, 5, 5, 30, -3)))
    if roll < 0.08:
        return ("purge",)
    if roll < 0.10:
        return ("remove_map", random.choice(live))
    if roll < 0.22:
        return _random_batch(model, random, live, now)
    return _random_write(model, random, random.choice(live), now)


def _random_write(model: Model, random: Random, name: str, now: datetime, *, batch: bool = False) -> Step:
    present = [key for key, item in model.sheets[name].items.items() if not _is_due(item.date_expires, now)]
    key = random.choice(("a", "b", "c", "d", "é\0/", "k" * 40))
    data = _data(random.randrange(100), random.choice((0, 3, 10, 60, 200)))
    ttl = random.choice((None, None, None, 0, 5, 40))
    roll = random.random()
    if roll < 0.25 and present:
        return ("remove", name, random.choice(present))
    if roll < 0.35 and present:
        return ("item_ttl", name, random.choice(present), random.choice((0, 5, 40)))
    if roll < 0.5:
        return ("update" if batch or roll < 0.42 else "mutate", name, key, data)
    if roll < 0.55 and not batch:
        return ("map_ttl", name, random.choice((0, 30, 1000)))
    if roll < 0.65 and key not in present:
        return ("create", name, key, data, ttl)
    return ("set", name, key, data, ttl, None if batch else random.choice((None, None, None, 60, 0)))


def _random_batch(model: Model, random: Random, live: list[str], now: datetime) -> Step:
    draft = model
    steps: list[Step] = []
    for _ in range(random.randrange(1, 5)):
        step = _random_write(draft, random, random.choice(live), now, batch=True)
        draft, _ = draft.after(step, now.timestamp())
        steps.append(step)
    return ("batch", *steps)

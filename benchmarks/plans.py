"""Which engines do what in which run: everything, what the table of targets needs, or ours and the limits alone."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.runner import LOAD, Runner
from benchmarks.workloads import WORKLOADS

OWN = ("mapitem", "mapitem:memory", "mapitem:plain")
LIMITS = ("dict", "sorteddict")
RIVALS = (
    "leveldb",
    "lmdb",
    "rocksdb",
    "sqlite",
    "sqlite:memory",
    "zodb",
    "diskcache",
    "cachetools",
    "redis",
    "fakeredis",
)
SYNCED = ("mapitem:power", "leveldb:sync", "lmdb:sync", "rocksdb:sync", "sqlite:full")

# Not in every phase: with a million items these would take minutes to load, or tell nothing new.
_FEW_ITEMS = ("mapitem:plain", "cachetools", "diskcache", "redis", "fakeredis")
_GROWING = ("readrandom", "readmissing", "scan100", "overwrite", "create", "delete", "cas", "feed100")
_BY_VALUE = (LOAD, "readrandom", "readrandom_keys_only", "scan100", "overwrite", "update")
_SIZES = ("memory", "open", "compact", "pauses", "growth")
MEASURES = (*_SIZES, "threads", "fsync", "expire", "written", "import")
"""What can be asked for beside the workloads."""


class Plan(NamedTuple):
    """A run. Fields that end in ``engines`` are further bounds on ``engines``."""

    engines: tuple[str, ...]
    workloads: tuple[str, ...]
    items: int
    repeat: int
    passes: int = 1
    values: tuple[tuple[str, int], ...] = (("1k", 20_000), ("12k", 2_000), ("12k-text", 2_000))
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    size_engines: tuple[str, ...] = tuple(name for name in (*OWN, *LIMITS, *RIVALS) if name not in _FEW_ITEMS)
    growing: tuple[str, ...] = _GROWING
    opens: int = 3
    expiries: int = 1
    calls: int = 300_000
    thread_engines: tuple[str, ...] = ("mapitem", "mapitem:memory", "sorteddict", *RIVALS[:4])
    threads: tuple[tuple[int, int], ...] = ((1, 0), (4, 0), (4, 1))
    sync_engines: tuple[str, ...] = SYNCED
    syncs: tuple[int, ...] = (1, 4, 16, 64)
    expire_engines: tuple[str, ...] = ("mapitem", "mapitem:memory", "cachetools", "sqlite", "sqlite:memory")
    measures: tuple[str, ...] = MEASURES
    seconds: float = 0.4
    """How long a run of threads takes."""

    def chosen(self, wanted: tuple[str, ...]) -> Plan:
        """Only these workloads and measures; pieces only at the plan's first number of items."""
        return self._replace(
            workloads=tuple(name for name in self.workloads if name in wanted),
            measures=tuple(name for name in self.measures if name in wanted),
            values=self.values if LOAD in wanted or len(wanted) > 3 else (),
        )


ALL = Plan((*OWN, *LIMITS, *RIVALS, *SYNCED), tuple(WORKLOADS), 100_000, repeat=6, passes=2)

OURS = Plan(
    (*OWN, *LIMITS, "mapitem:power"),
    tuple(WORKLOADS),
    100_000,
    repeat=4,
    values=(("1k", 5_000), ("12k", 1_000)),
    sizes=(10_000, 100_000),
    size_engines=("mapitem", *LIMITS),
    opens=2,
    calls=20_000,
    threads=((4, 1),),
    syncs=(1, 16),
    expire_engines=("mapitem",),
    seconds=0.3,
)

# The rows of the table of targets, and nothing else.
_TARGET_READS = (LOAD, "readrandom", "readmissing", "contains", "scan100", "scan100_keys")
_TARGET_WRITES = ("overwrite", "create", "update", "cas", "delete", "overwrite_ttl", "overwrite_on")
TARGETS = Plan(
    ("mapitem", "mapitem:memory", "mapitem:power", *LIMITS, *RIVALS[:4], "zodb", "cachetools"),
    (*_TARGET_READS, *_TARGET_WRITES),
    100_000,
    repeat=9,
    passes=2,
    values=(("12k", 2_000),),
    size_engines=("mapitem", "sorteddict", "lmdb", "sqlite"),
    growing=("readrandom", "scan100", "overwrite"),
    expiries=2,
    thread_engines=("mapitem", "sorteddict", "rocksdb"),
    threads=((4, 1),),
    sync_engines=("mapitem:power",),
    syncs=(1, 16),
    expire_engines=("mapitem", "cachetools"),
    measures=(*_SIZES, "threads", "fsync", "expire"),
)


def carry_out(plan: Plan, runner: Runner) -> None:
    """All phases of the plan, one after the other."""

    # Those that wait for the disk are for one phase, and would make every other one wait.
    quick = [name for name in plan.engines if name not in SYNCED]
    synced = [name for name in plan.engines if name in SYNCED and name in plan.sync_engines]
    repeat = plan.repeat

    def able(names: tuple[str, ...]) -> list[str]:
        return [name for name in names if name in quick]

    if plan.workloads:
        runner.say(f"{len(plan.workloads)} workloads on {len(quick)} engines, {plan.items:,} items")
        runner.pieces(quick, list(plan.workloads), plan.items, "small", repeat, plan.passes)
        for kind, items in plan.values:
            runner.say(f"values of kind {kind}")
            some = [name for name in plan.workloads if name in _BY_VALUE]
            fast = [name for name in quick if name != "fakeredis"]
            runner.pieces(fast, some, min(items, plan.items), kind, repeat)
    if any(name in plan.measures for name in _SIZES):
        growing = list(plan.growing) if "growth" in plan.measures else []
        opens = plan.opens if "open" in plan.measures or "pauses" in plan.measures else 0
        for items in plan.sizes:
            runner.say(f"memory, opening and growth, {items:,} items")
            calls = plan.calls if "pauses" in plan.measures and items == max(plan.sizes) else 0
            names = able(plan.size_engines)
            runner.sizes(names, growing, items, opens=opens, repeat=repeat, calls=calls)
    if "threads" in plan.measures and (names := able(plan.thread_engines)):
        runner.say("threads")
        runner.threads(names, plan.items, list(plan.threads), plan.seconds, max(3, repeat // 2))
    if "fsync" in plan.measures and synced:
        runner.say("fsync")
        runner.fsync(synced, min(plan.items, 1000), list(plan.syncs), plan.seconds, max(3, repeat // 2))
    if "expire" in plan.measures and (names := able(plan.expire_engines)):
        runner.say("expire")
        runner.expire(names, plan.items, plan.expiries)
    if "written" in plan.measures:
        runner.say("written")
        runner.written(quick, min(plan.items, 20_000), 2.0)
    if "import" in plan.measures:
        runner.say("imports")
        runner.imports(15)

"""What is done to an engine, piece by piece, in the vocabulary of LevelDB's ``db_bench``.

A workload is given a ``Bench`` and how many operations to do. It prepares keys and values first and returns the piece
itself, which alone is timed, and if need be what sets the engine back afterwards. Every piece leaves the items as many
as it found them, so that workloads can be run in any choice and number. Reads come first: a store that keeps old
versions reads more slowly after many writes, and should be seen at its best.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from benchmarks import data
from benchmarks.engines import make
from benchmarks.engines.base import Engine

RANGE = 100
"""How many items a range of ``scan100`` has."""
DAY = 86_400
_WALK = 20_000
"""How many items ``readseq`` walks over: enough to show what the next one costs."""


class Piece(NamedTuple):
    """The work that is timed, what is done after it, and how many operations it was if not as many as asked for."""

    run: Callable[[], object]
    after: Callable[[], object] | None = None
    count: int | None = None


class Workload(NamedTuple):
    name: str
    about: str
    prepare: Callable[[Bench, int], Piece]
    needs: tuple[str, ...]


class Bench:
    """An engine that holds items number 0 up to ``items``, and the numbers to work on."""

    def __init__(self, name: str, folder: Path, items: int, kind: str, seed: int) -> None:
        self.name = name
        self.folder = folder
        self.items = items
        self.kind = kind
        self.random = Random(seed)
        self.version = 0
        self.loaded = 0
        self._next_fresh = 2 * items
        self._scratch: Engine | None = None
        self._scratch_items = self._scratches = 0
        self.engine = make(name, self._folder("main"))

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def close(self) -> None:
        self.engine.close()
        if self._scratch is not None:
            self._scratch.close()

    def value(self, number: int) -> dict[str, Any]:
        return data.value(self.kind, number, self.version)

    def pairs(self, numbers: Any) -> list[tuple[str, dict[str, Any]]]:
        return [(data.key(number), self.value(number)) for number in numbers]

    def some(self, count: int) -> list[int]:
        """Numbers of items that are there, with repeats as chance has it."""
        self.version += 1
        return self.random.choices(range(self.items), k=count)

    def different(self, count: int) -> list[int]:
        """Numbers of items that are there, each once."""
        self.version += 1
        return self.random.sample(range(self.items), min(count, self.items))

    def present(self, count: int) -> list[str]:
        return [data.key(number) for number in self.some(count)]

    def missing(self, count: int) -> list[str]:
        return [data.key(number) for number in self.random.choices(range(self.items, 2 * self.items), k=count)]

    def fresh(self, count: int) -> list[int]:
        """Numbers of items that never were there."""
        first, self._next_fresh = self._next_fresh, self._next_fresh + count
        return list(range(first, first + count))

    def warm_up(self) -> None:
        """Have everything imported that opening needs."""
        engine = make(self.name, self._folder("warm"))
        engine.open()
        engine.close()

    def scratch(self, count: int) -> tuple[Engine, list[int]]:
        """Another engine of the kind, which grows up to as many items and begins anew; and the numbers to add next."""
        if self._scratch is None or self._scratch_items >= self.items:
            if self._scratch is not None:
                self._scratch.close()
            self._scratches += 1
            self._scratch_items = 0
            self._scratch = make(self.name, self._folder(f"scratch-{self._scratches}"))
            self._scratch.open()
        first = self._scratch_items
        self._scratch_items += count
        return self._scratch, list(range(first, first + count))

    def forget_scratch(self) -> None:
        if self._scratch is not None:
            self._scratch_items = self.items


WORKLOADS: dict[str, Workload] = {}


def workload(*needs: str) -> Callable[[Callable[[Bench, int], Piece]], Callable[[Bench, int], Piece]]:
    """Put a function on the list; ``needs`` are the abilities that not every engine has."""

    def listed(prepare: Callable[[Bench, int], Piece]) -> Callable[[Bench, int], Piece]:
        assert prepare.__doc__
        WORKLOADS[prepare.__name__] = Workload(prepare.__name__, prepare.__doc__, prepare, needs)
        return prepare

    return listed


# ---------------------------------------------------------------- filling


@workload()
def fillseq(bench: Bench, count: int) -> Piece:
    """Write new items one by one, in the order of their keys, into a store that begins empty."""
    engine, numbers = bench.scratch(count)
    put = engine.put
    # Behind all that is there, and in order.
    pairs = [(f"user:{number:08}", bench.value(number)) for number in numbers]

    def run() -> None:
        for key, value in pairs:
            put(key, value)

    return Piece(run)


@workload()
def fillrandom(bench: Bench, count: int) -> Piece:
    """The same in random order."""
    engine, numbers = bench.scratch(count)
    put, pairs = engine.put, bench.pairs(numbers)

    def run() -> None:
        for key, value in pairs:
            put(key, value)

    return Piece(run)


@workload()
def fillbatch(bench: Bench, count: int) -> Piece:
    """Load items in random order in batches of a thousand, from none up to all of them; per item."""
    first = bench.loaded
    numbers = range(first, min(first + count, bench.items))
    bench.loaded = numbers.stop
    load, pairs = bench.engine.load, bench.pairs(numbers)
    return Piece(lambda: load(pairs), count=len(pairs))


# ---------------------------------------------------------------- reading


@workload()
def readrandom(bench: Bench, count: int) -> Piece:
    """Get items that are there, data decoded, in random order."""
    get, keys = bench.engine.get, bench.present(count)

    def run() -> None:
        for key in keys:
            get(key)

    return Piece(run)


@workload()
def readrandom_keys_only(bench: Bench, count: int) -> Piece:
    """Get items without looking at their data."""
    peek, keys = bench.engine.peek, bench.present(count)

    def run() -> None:
        for key in keys:
            peek(key)

    return Piece(run)


@workload()
def readmissing(bench: Bench, count: int) -> Piece:
    """Get what is not there."""
    get, keys = bench.engine.get, bench.missing(count)

    def run() -> None:
        for key in keys:
            get(key)

    return Piece(run)


@workload()
def contains(bench: Bench, count: int) -> Piece:
    """Ask whether a key is there: half are."""
    has, keys = bench.engine.has, bench.present(count // 2) + bench.missing(count - count // 2)
    bench.random.shuffle(keys)

    def run() -> None:
        for key in keys:
            has(key)

    return Piece(run)


@workload("scan")
def readseq(bench: Bench, count: int) -> Piece:
    """Walk over items in order, data decoded; per item."""
    return _walk(bench, bench.engine.scan)


@workload("scan_down")
def readreverse(bench: Bench, count: int) -> Piece:
    """The same backwards."""
    return _walk(bench, bench.engine.scan_down)


def _walk(bench: Bench, scan: Callable[[], Any]) -> Piece:
    count = min(bench.items, _WALK)
    return Piece(lambda: deque(islice(scan(), count), maxlen=0), count=count)


@workload("range")
def scan100(bench: Bench, count: int) -> Piece:
    """Read 100 items from a key on, data decoded; per range."""
    return _ranges(bench, count, bench.engine.range)


@workload("range_down")
def scan100_reverse(bench: Bench, count: int) -> Piece:
    """The same backwards."""
    return _ranges(bench, count, bench.engine.range_down)


@workload("range_keys")
def scan100_keys(bench: Bench, count: int) -> Piece:
    """The keys of 100 items from a key on, with their revisions where there are any; per range."""
    return _ranges(bench, count, bench.engine.range_keys)


def _ranges(bench: Bench, count: int, read: Callable[[str, int], object]) -> Piece:
    starts = bench.present(count)

    def run() -> None:
        for start in starts:
            read(start, RANGE)

    return Piece(run)


# ---------------------------------------------------------------- writing


@workload()
def overwrite(bench: Bench, count: int) -> Piece:
    """Put over items that are there, in random order."""
    put, pairs = bench.engine.put, bench.pairs(bench.some(count))

    def run() -> None:
        for key, value in pairs:
            put(key, value)

    return Piece(run)


@workload()
def create(bench: Bench, count: int) -> Piece:
    """Put items that must not be there yet."""
    create, delete, pairs = bench.engine.create, bench.engine.delete, bench.pairs(bench.fresh(count))

    def run() -> None:
        for key, value in pairs:
            create(key, value)

    def after() -> None:
        for key, _ in pairs:
            delete(key)

    return Piece(run, after)


@workload()
def update(bench: Bench, count: int) -> Piece:
    """Merge one field into an item."""
    update, keys, changes = bench.engine.update, bench.present(count), {"level": bench.version}

    def run() -> None:
        for key in keys:
            update(key, changes)

    return Piece(run)


@workload()
def cas(bench: Bench, count: int) -> Piece:
    """Put if the item is still as it was read before (`if_match`; elsewhere the value is compared)."""
    cas, token = bench.engine.cas, bench.engine.token
    writes = [(key, token(key), value) for key, value in bench.pairs(bench.different(count))]

    def run() -> None:
        for key, was, value in writes:
            cas(key, was, value)

    return Piece(run, count=len(writes))


@workload()
def mutate(bench: Bench, count: int) -> Piece:
    """Read, change by a function and write back as one step."""
    mutate, keys, version = bench.engine.mutate, bench.present(count), bench.version

    def change(value: dict[str, Any]) -> dict[str, Any]:
        value["level"] = version
        return value

    def run() -> None:
        for key in keys:
            mutate(key, change)

    return Piece(run)


@workload()
def delete(bench: Bench, count: int) -> Piece:
    """Delete items that are there."""
    delete, load = bench.engine.delete, bench.engine.load
    pairs = bench.pairs(bench.different(min(count, bench.items // 2)))

    def run() -> None:
        for key, _ in pairs:
            delete(key)

    return Piece(run, lambda: load(pairs), len(pairs))


@workload("put_timed")
def overwrite_ttl(bench: Bench, count: int) -> Piece:
    """Put over items that are there, with a time to live."""
    put, pairs = bench.engine.put_timed, bench.pairs(bench.some(count))

    def run() -> None:
        for key, value in pairs:
            put(key, value, DAY)

    return Piece(run)


@workload("subscribe")
def overwrite_on(bench: Bench, count: int) -> Piece:
    """Put over items that are there, while a callback hears of each."""
    piece = overwrite(bench, count)
    assert bench.engine.subscribe is not None
    stop = bench.engine.subscribe(lambda event: None)
    return Piece(piece.run, stop)


@workload()
def batch10(bench: Bench, count: int) -> Piece:
    """Put over items that are there, ten in a batch; per item."""
    load, groups = bench.engine.load, [bench.pairs(bench.some(10)) for _ in range(max(1, count // 10))]

    def run() -> None:
        for group in groups:
            load(group)

    return Piece(run, count=10 * len(groups))


@workload("feed")
def feed100(bench: Bench, count: int) -> Piece:
    """Read the last 100 events of the change feed; per 100 events."""
    feed = bench.engine.feed
    assert feed is not None

    def run() -> None:
        for _ in range(count):
            feed(RANGE)

    return Piece(run)

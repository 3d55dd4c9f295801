"""The table of targets, row by row, from the figures of a run: ``python -m benchmarks.targets RESULT.json``.

Without a file it measures first, as ``python -m benchmarks.run --targets`` does. ``--write`` puts the table between the
markers in README.md.

Stage 1 is to be no worse than the best rival, the summit to be near the limits. Ratios compare medians of one run. A
row with several figures is met if all are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import markdown, short
from benchmarks.result import Result
from benchmarks.runner import BARE

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- targets: begin -->", "<!-- targets: end -->"

_MAIN, _MILLION, _LARGE = 100_000, 1_000_000, 2_000


class Bound(NamedTuple):
    """A figure of ours beside what it must not exceed; ``None`` where one of the two was not measured."""

    ours: float | None
    bound: float | None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.ours is None or self.bound is None:
            return None
        return self.ours >= self.bound if self.at_least else self.ours <= self.bound


class Row(NamedTuple):
    """What is asked, our figures in words, and the bounds of the two stages; an empty list: nothing is asked."""

    what: str
    figure: str
    stage_1: list[Bound]
    stage_1_words: str
    summit: list[Bound]
    summit_words: str


class Figures:
    """The run's figures by short names."""

    def __init__(self, result: Result) -> None:
        self._result = result

    def us(self, engine: str, workload: str, items: int = _MAIN, kind: str = "small") -> float | None:
        """The median of a workload, in µs."""
        found = self._result.find(engine, workload, items, kind)
        return None if found is None else float(found["us"])

    def value(self, engine: str, workload: str, label: str, items: int | None = None) -> float | None:
        """The median of one of a measure's numbers."""
        return self._result.value(engine, workload, label, items)


class Other(NamedTuple):
    """What a figure of ours is set beside, and how many times as much ours may be."""

    times: float
    name: str
    figure: float | None

    def words(self) -> str:
        return f"≤ {self.times:g} × {self.name}"

    def bound(self, ours: float | None) -> list[Bound]:
        return [Bound(ours, _times(self.times, self.figure))]


def _times(factor: float, figure: float | None) -> float | None:
    return None if figure is None else factor * figure


def _ratio(ours: float | None, other: float | None) -> float | None:
    return None if ours is None or not other else ours / other


def _say(number: float | None, unit: str = "") -> str:
    return "–" if number is None else f"{short(number)}{unit}"


def _beside(what: str, ours: float | None, unit: str, stage_1: Other, summit: Other | None) -> Row:
    """A row of one figure that is to be no more than so many times another."""
    others = {other.name: other.figure for other in (stage_1, summit) if other is not None}
    ratios = ", ".join(f"{_say(_ratio(ours, figure))} × {name}" for name, figure in others.items())
    figure = f"{_say(ours)}{unit} = {ratios}"
    if summit is None:
        return Row(what, figure, stage_1.bound(ours), stage_1.words(), [], "")
    return Row(what, figure, stage_1.bound(ours), stage_1.words(), summit.bound(ours), summit.words())


def rows(result: Result) -> Iterator[Row]:
    """All rows, in the order of the table."""
    f = Figures(result)
    yield from _reads_and_writes(f.us)
    yield _threads(f)
    yield from _power(f)
    yield from _opening(f)
    yield from _memory_and_expiry(f)
    yield from _pauses_and_growth(f)
    yield from _large(f.us)


def _reads_and_writes(us: Callable[[str, str], float | None]) -> Iterator[Row]:
    get = "readrandom"
    limit = Other(1.15, "SortedDict + unpackb", us("sorteddict", get))
    yield _beside("get, data read", us("mapitem", get), " µs", Other(1, "lmdb", us("lmdb", get)), limit)
    for what, workload in (("get missing", "readmissing"), ("`in`", "contains")):
        level, bare = Other(1, "LevelDB", us("leveldb", workload)), Other(1.5, "dict", us("dict", workload))
        yield _beside(what, us("mapitem", workload), " µs", level, bare)
    put, level_put = us("mapitem", "overwrite"), us("leveldb", "overwrite")
    limit = Other(2, "SortedDict + packb", us("sorteddict", "overwrite"))
    yield _beside("set over an existing key, process", put, " µs", Other(1, "LevelDB", level_put), limit)
    for what, engine, workload in (
        ("set in memory", "mapitem:memory", "overwrite"),
        ("create, process", "mapitem", "create"),
        ("update, process", "mapitem", "update"),
        ("conditional set, process", "mapitem", "cas"),
    ):
        level, ours = Other(1.2, "LevelDB's set", level_put), Other(1.15, "our set", put)
        yield _beside(what, us(engine, workload), " µs", level, ours)
    level_scan = us("leveldb", "scan100")
    level, warm = Other(1, "LevelDB", level_scan), Other(1, "ZODB's warm cache", us("zodb", "scan100"))
    yield _beside("range of 100, data read", us("mapitem", "scan100"), " µs", level, warm)
    half, quarter = (Other(times, "LevelDB's with data", level_scan) for times in (0.5, 0.25))
    yield _beside("range of 100, keys and revisions", us("mapitem", "scan100_keys"), " µs", half, quarter)
    for what, workload in (("bulk load, a batch", "fillbatch"), ("delete", "delete")):
        first, last = (Other(times, "LevelDB", us("leveldb", workload)) for times in (1.5, 1))
        yield _beside(what, us("mapitem", workload), " µs an item", first, last)
    # Not asked for, but what a reader should know: the same with every item timed, and with a subscriber.
    for what, workload in (("set with a time to live", "overwrite_ttl"), ("set with a subscriber", "overwrite_on")):
        yield Row(what, f"{_say(us('mapitem', workload))} µs", [], "", [], "")


def _large(us: Callable[[str, str, int, str], float | None]) -> Iterator[Row]:
    for what, workload, times, name, engine in (
        ("12 KiB values: set", "overwrite", 1.3, "LevelDB", "leveldb"),
        ("12 KiB values: get", "readrandom", 1.05, "dict + unpackb", "dict"),
    ):
        other = Other(times, name, us(engine, workload, _LARGE, "12k"))
        yield _beside(what, us("mapitem", workload, _LARGE, "12k"), " µs", other, None)


def _threads(f: Figures) -> Row:
    ours, rocks, limit = (
        [f.value(engine, "threads 4+1", label) for label in ("reads_s", "writes_s")]
        for engine in ("mapitem", "rocksdb", "sorteddict")
    )
    return Row(
        "4 readers + 1 writer",
        " + ".join(_say(number) for number in ours)
        + " a second; RocksDB "
        + " + ".join(_say(number) for number in rocks)
        + "; SortedDict "
        + " + ".join(_say(number) for number in limit),
        [Bound(one, other, at_least=True) for one, other in zip(ours, rocks, strict=True)],
        "ahead of RocksDB in both",
        [Bound(one, _times(0.7, other), at_least=True) for one, other in zip(ours, limit, strict=True)],
        "≥ 0.7 × SortedDict in both",
    )


def _power(f: Figures) -> Iterator[Row]:
    one, many, bare = (
        f.value(engine, workload, "writes_s")
        for engine, workload in (("mapitem:power", "fsync 1"), ("mapitem:power", "fsync 16"), (BARE, "fsync 1"))
    )
    wait, bare_wait = _ratio(1e6, one), _ratio(1e6, bare)
    yield _beside("power, 1 thread", wait, " µs a write", Other(1.1, "a bare append and fsync", bare_wait), None)
    yield Row(
        "power, 16 threads",
        f"{_say(many)} writes a second = {_say(_ratio(many, one))} × one thread's",
        [Bound(many, _times(4, one), at_least=True)],
        "≥ 4 × one thread's",
        [Bound(many, _times(8, one), at_least=True)],
        "≥ 8 × one thread's",
    )


def _opening(f: Figures) -> Iterator[Row]:
    for items, milliseconds in ((_MAIN, 150.0), (_MILLION, 1600.0)):
        ours, rival = (_times(0.001, f.us(engine, "open", items)) for engine in ("mapitem", "sqlite"))
        yield Row(
            f"open {items:,}, compacted, to the first answer",
            f"{_say(ours)} ms = {_say(_ratio(ours, rival))} × sqlite",
            [Bound(ours, milliseconds)],
            f"≤ {milliseconds:,.0f} ms",
            [Bound(ours, _times(3, rival))],
            "≤ 3 × sqlite",
        )


def _memory_and_expiry(f: Figures) -> Iterator[Row]:
    ours, limit, lmdb = (
        f.value(engine, "memory", "bytes_per_item", _MILLION) for engine in ("mapitem", "sorteddict", "lmdb")
    )
    first, last = Other(1.75, "SortedDict of packed bytes", limit), Other(1, "lmdb", lmdb)
    yield _beside("resident bytes an item at a million", ours, "", first, last)
    expire, rival = f.us("mapitem", "expire"), Other(1, "TTLCache", f.us("cachetools", "expire"))
    yield _beside("expire 100,000 items", expire, " µs an item", rival, None)
    reader, writer, loop = (
        f.value("mapitem", "expire", label) for label in ("reader_ms", "writer_ms", "beside_a_loop_ms")
    )
    yield Row(
        "others' longest wait meanwhile",
        f"reader {_say(reader)} ms, writer {_say(writer)} ms (beside a mere loop: {_say(loop)} ms)",
        [Bound(reader, 10.0), Bound(writer, 10.0)],
        "≤ 10 ms",
        [],
        "",
    )


def _pauses_and_growth(f: Figures) -> Iterator[Row]:
    wall, cpu, limit, rewritten = (
        f.value(engine, "pauses", label, _MILLION)
        for engine, label in (
            ("mapitem", "put_wall_max"),
            ("mapitem", "put_cpu_max"),
            ("sorteddict", "put_wall_max"),
            ("mapitem", "rewritten"),
        )
    )
    note = "" if rewritten is None or rewritten > 0 else " (no compaction came to its end!)"
    yield Row(
        "longest single write, compaction at a million",
        f"{_say(_times(0.001, wall))} ms, of it computing at most {_say(_times(0.001, cpu))} ms "
        f"(SortedDict here: {_say(_times(0.001, limit))} ms){note}",
        [Bound(_times(0.001, wall), 50.0)],
        "≤ 50 ms",
        [Bound(_times(0.001, wall), 5.0)],
        "≤ 5 ms",
    )

    def grown(engine: str, workload: str) -> float | None:
        few, many = (f.us(engine, f"growth {workload}", items) for items in (10_000, _MILLION))
        return _ratio(many, few)

    names = {"get": "readrandom", "set": "overwrite", "range": "scan100"}
    growth = {verb: grown("mapitem", workload) for verb, workload in names.items()}
    bare = {verb: grown("sorteddict", workload) for verb, workload in names.items()}
    yield Row(
        "growth from 10,000 to a million",
        ", ".join(f"{verb} {_say(ratio)} × (SortedDict {_say(bare[verb])} ×)" for verb, ratio in growth.items()),
        [Bound(ratio, 1.6) for ratio in growth.values()],
        "cost × ≤ 1.6",
        [],
        "",
    )


def verdict(bounds: list[Bound]) -> str:
    """Whether all are met, and what is missing to it where one is not."""
    if not bounds:
        return "–"
    if any(bound.met is None for bound in bounds):
        return "not measured"
    return "met" if all(bound.met for bound in bounds) else "**missed**"


def table(result: Result) -> str:
    """The table as Markdown, and where and when it was measured."""
    lines = [
        [
            row.what,
            row.figure,
            row.stage_1_words or "–",
            verdict(row.stage_1),
            row.summit_words or "–",
            verdict(row.summit),
        ]
        for row in rows(result)
    ]
    content = result.content
    first, summit = ([line[place] for line in lines if line[place] != "–"] for place in (3, 5))
    machine = f"{content['cpus']} × {content['processor']}"
    about = (
        f"{content['date']}, commit {content['commit']}, {content['python']}, {machine}. "
        f"Stage 1: {first.count('met')} of {len(first)} met. Summit: {summit.count('met')} of {len(summit)}."
    )
    head = ["", "mapitem", "stage 1", "", "summit", ""]
    return f"{about}\n\n{markdown(head, lines)}"


def write_readme(text: str) -> None:
    """Put the table between the markers."""
    page = README.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.targets", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("result", type=Path, nargs="?", help="JSON of a run; default: measure now")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the JSON goes, if it is measured now")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    arguments = parser.parse_args()
    if arguments.result is not None:
        result = Result.read(arguments.result)
    else:
        from benchmarks.plans import TARGETS
        from benchmarks.run import run

        result = run(TARGETS)
        if arguments.out is not None:
            result.write(arguments.out)
    text = table(result)
    print(text)
    if arguments.write:
        write_readme(text)


if __name__ == "__main__":
    main()

"""The table of targets, row by row, from the figures of a run: ``python -m benchmarks.targets RESULT.json``.

Without a file it measures first, as ``python -m benchmarks.run --targets`` does. ``--write`` puts the table between the
markers in README.md.

Stage 1 is to be no worse than the best rival, the summit to be near the limits. Ratios compare medians of one run. A
row with several figures is met if all are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
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


def _times(factor: float, figure: float | None) -> float | None:
    return None if figure is None else factor * figure


def _ratio(ours: float | None, other: float | None) -> float | None:
    return None if ours is None or not other else ours / other


def _say(number: float | None, unit: str = "") -> str:
    return "–" if number is None else f"{short(number)}{unit}"


def _x(ours: float | None, other: float | None) -> str:
    ratio = _ratio(ours, other)
    return "–" if ratio is None else f"{ratio:.2f} ×"


def rows(result: Result) -> Iterator[Row]:
    """All rows, in the order of the table."""
    f = Figures(result)
    us = f.us
    get, lmdb_get, sorted_get = us("mapitem", "readrandom"), us("lmdb", "readrandom"), us("sorteddict", "readrandom")
    yield Row(
        "get, data read",
        f"{_say(get)} µs = {_x(get, lmdb_get)} lmdb, {_x(get, sorted_get)} SortedDict",
        [Bound(get, lmdb_get)],
        "≤ 1 × lmdb",
        [Bound(get, _times(1.15, sorted_get))],
        "≤ 1.15 × SortedDict + unpackb",
    )
    for what, workload in (("get missing", "readmissing"), ("`in`", "contains")):
        ours, level, bare = us("mapitem", workload), us("leveldb", workload), us("dict", workload)
        yield Row(
            what,
            f"{_say(ours)} µs = {_x(ours, level)} LevelDB, {_x(ours, bare)} dict",
            [Bound(ours, level)],
            "≤ LevelDB",
            [Bound(ours, _times(1.5, bare))],
            "≤ 1.5 × dict",
        )
    put, level_put, sorted_put = us("mapitem", "overwrite"), us("leveldb", "overwrite"), us("sorteddict", "overwrite")
    yield Row(
        "set over an existing key, process",
        f"{_say(put)} µs = {_x(put, level_put)} LevelDB, {_x(put, sorted_put)} SortedDict",
        [Bound(put, level_put)],
        "≤ 1 × LevelDB",
        [Bound(put, _times(2, sorted_put))],
        "≤ 2 × SortedDict + packb",
    )
    for what, engine, workload in (
        ("set in memory", "mapitem:memory", "overwrite"),
        ("create, process", "mapitem", "create"),
        ("update, process", "mapitem", "update"),
        ("conditional set, process", "mapitem", "cas"),
    ):
        ours = us(engine, workload)
        yield Row(
            what,
            f"{_say(ours)} µs = {_x(ours, level_put)} LevelDB's set, {_x(ours, put)} our set",
            [Bound(ours, _times(1.2, level_put))],
            "≤ 1.2 × LevelDB's set",
            [Bound(ours, _times(1.15, put))],
            "≤ 1.15 × our set",
        )
    scan, level_scan, warm_scan = us("mapitem", "scan100"), us("leveldb", "scan100"), us("zodb", "scan100")
    yield Row(
        "range of 100, data read",
        f"{_say(scan)} µs = {_x(scan, level_scan)} LevelDB, {_x(scan, warm_scan)} ZODB",
        [Bound(scan, level_scan)],
        "≤ 1 × LevelDB",
        [Bound(scan, warm_scan)],
        "≤ ZODB's warm cache",
    )
    keys = us("mapitem", "scan100_keys")
    yield Row(
        "range of 100, keys and revisions",
        f"{_say(keys)} µs = {_x(keys, level_scan)} LevelDB's range with data, {_x(keys, warm_scan)} ZODB's",
        [Bound(keys, _times(0.5, level_scan))],
        "≤ 0.5 × LevelDB's with data",
        [Bound(keys, _times(0.25, level_scan))],
        "≤ 0.25 × LevelDB's with data",
    )
    for what, workload, first, last in (("bulk load, a batch", "fillbatch", 1.5, 1), ("delete", "delete", 1.5, 1)):
        ours, level = us("mapitem", workload), us("leveldb", workload)
        yield Row(
            what,
            f"{_say(ours)} µs an item = {_x(ours, level)} LevelDB",
            [Bound(ours, _times(first, level))],
            f"≤ {first} × LevelDB",
            [Bound(ours, _times(last, level))],
            f"≤ {last} × LevelDB",
        )
    yield _threads(f)
    yield from _power(f)
    yield from _opening(f)
    yield from _memory_and_expiry(f)
    yield from _pauses_and_growth(f)
    put_12k, level_12k = us("mapitem", "overwrite", _LARGE, "12k"), us("leveldb", "overwrite", _LARGE, "12k")
    get_12k, bare_12k = us("mapitem", "readrandom", _LARGE, "12k"), us("dict", "readrandom", _LARGE, "12k")
    yield Row(
        "12 KiB values: set",
        f"{_say(put_12k)} µs = {_x(put_12k, level_12k)} LevelDB",
        [Bound(put_12k, _times(1.3, level_12k))],
        "≤ 1.3 × LevelDB",
        [],
        "",
    )
    yield Row(
        "12 KiB values: get",
        f"{_say(get_12k)} µs = {_x(get_12k, bare_12k)} dict + unpackb",
        [Bound(get_12k, _times(1.05, bare_12k))],
        "≤ 1.05 × unpackb",
        [],
        "",
    )


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
    yield Row(
        "power, 1 thread",
        f"{_say(wait)} µs a write = {_x(wait, bare_wait)} a bare append and fsync",
        [Bound(wait, _times(1.1, bare_wait))],
        "≤ 1.1 × one fsync",
        [],
        "",
    )
    yield Row(
        "power, 16 threads",
        f"{_say(many)} writes a second = {_x(many, one)} one thread's",
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
            f"{_say(ours)} ms = {_x(ours, rival)} sqlite",
            [Bound(ours, milliseconds)],
            f"≤ {milliseconds:,.0f} ms",
            [Bound(ours, _times(3, rival))],
            "≤ 3 × sqlite",
        )


def _memory_and_expiry(f: Figures) -> Iterator[Row]:
    ours, limit, lmdb = (
        f.value(engine, "memory", "bytes_per_item", _MILLION) for engine in ("mapitem", "sorteddict", "lmdb")
    )
    yield Row(
        "resident bytes an item at a million",
        f"{_say(ours)} = {_x(ours, limit)} SortedDict, {_x(ours, lmdb)} lmdb",
        [Bound(ours, _times(1.75, limit))],
        "≤ 1.75 × SortedDict of packed bytes",
        [Bound(ours, lmdb)],
        "≤ lmdb",
    )
    expire, rival = f.us("mapitem", "expire"), f.us("cachetools", "expire")
    reader, writer, loop = (
        f.value("mapitem", "expire", label) for label in ("reader_ms", "writer_ms", "beside_a_loop_ms")
    )
    yield Row(
        "expire 100,000 items",
        f"{_say(expire)} µs an item = {_x(expire, rival)} TTLCache",
        [Bound(expire, rival)],
        "≤ TTLCache",
        [],
        "",
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
    growth = {
        verb: _ratio(f.us("mapitem", workload, _MILLION), f.us("mapitem", workload, 10_000))
        for verb, workload in (("get", "readrandom"), ("set", "overwrite"), ("range", "scan100"))
    }
    bare = _ratio(f.us("sorteddict", "readrandom", _MILLION), f.us("sorteddict", "readrandom", 10_000))
    yield Row(
        "growth from 10,000 to a million",
        ", ".join(f"{verb} {_say(ratio)} ×" for verb, ratio in growth.items()) + f" (SortedDict's get {_say(bare)} ×)",
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
        [row.what, row.figure, row.stage_1_words, verdict(row.stage_1), row.summit_words or "–", verdict(row.summit)]
        for row in rows(result)
    ]
    content = result.content
    first = sum(line[3] == "met" for line in lines)
    asked = [line[5] for line in lines if line[5] != "–"]
    machine = f"{content['cpus']} × {content['processor']}"
    about = (
        f"{content['date']}, commit {content['commit']}, {content['python']}, {machine}. "
        f"Stage 1: {first} of {len(lines)} met. Summit: {asked.count('met')} of {len(asked)}."
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

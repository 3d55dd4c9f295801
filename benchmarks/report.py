"""Tables of a run, as Markdown that is readable as plain text, too: ``python -m benchmarks.report RESULT.json``."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engines import NAMES
from benchmarks.result import Result


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns are aligned in the text, too; all but the first to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|".join("-" * (width + 2) if not index else "-" * (width + 1) + ":" for index, width in enumerate(widths))
    return "\n".join([line(lines[0]), f"|{rule}|", *map(line, lines[1:])])


def short(number: float) -> str:
    """Three digits or so."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _grid(result: Result, items: int, kind: str, cell: Callable[[dict[str, Any]], str | None]) -> str:
    """Engines down, workloads across."""
    figures = [f for f in result.figures if f["items"] == items and f["value"] == kind]
    cells = {(f["engine"], f["workload"]): text for f in figures if (text := cell(f)) is not None}
    workloads = list(dict.fromkeys(workload for _, workload in cells))
    names = [name for name in NAMES if any(engine == name for engine, _ in cells)]
    rows = [[workload, *(cells.get((name, workload), "–") for name in names)] for workload in workloads]
    return markdown(["", *names], rows) if rows else ""


def _us(figures: dict[str, Any]) -> str | None:
    if "us" not in figures or figures["workload"] == "open":
        return None
    return short(figures["us"])


def summary_tables(result: Result) -> str:
    """All medians of a run."""
    parts = []
    for items, kind in dict.fromkeys((f["items"], f["value"]) for f in result.figures):
        if grid := _grid(result, items, kind, _us):
            parts.append(f"### {items:,} items, {kind}: µs per operation\n\n{grid}")
    parts += filter(
        None,
        (threads_table(result), fsync_table(result), sizes_table(result), growth_table(result), pauses_table(result)),
    )
    for engine, workload, label in (("mapitem", "import", "ratio"), ("mapitem", "expire", "writer_ms")):
        if (value := result.value(engine, workload, label)) is not None:
            parts.append(f"{engine}, {workload}, {label}: {value:.2f}")
    return "\n\n".join(parts)


def _values_table(result: Result, prefix: str, head: str, cell: Callable[[dict[str, Any]], str]) -> str:
    found = [f for f in result.figures if f["workload"].startswith(prefix) and "values" in f]
    if not found:
        return ""
    columns = list(dict.fromkeys(f["workload"] for f in found))
    names = list(dict.fromkeys(f["engine"] for f in found))
    by_place = {(f["engine"], f["workload"]): cell(f["values"]) for f in found}
    rows = [[name, *(by_place.get((name, column), "–") for column in columns)] for name in names]
    return f"### {head}\n\n" + markdown(["", *columns], rows)


def threads_table(result: Result) -> str:
    def cell(values: dict[str, Any]) -> str:
        reads, writes = values["reads_s"]["median"], values["writes_s"]["median"]
        return f"{reads:,.0f} + {writes:,.0f}" if writes else f"{reads:,.0f}"

    return _values_table(result, "threads ", "Readers + writers: reads + writes a second", cell)


def fsync_table(result: Result) -> str:
    head = "Waiting for the disk: writes a second, by threads"
    return _values_table(result, "fsync ", head, lambda values: f"{values['writes_s']['median']:,.0f}")


def sizes_table(result: Result) -> str:
    """Memory, opening, compaction and what is written, by number of items."""
    rows = []
    for name in NAMES:
        for items in sorted({f["items"] for f in result.figures if f["workload"] == "memory"}):
            memory, opened = result.value(name, "memory", "bytes_per_item", items), result.find(name, "open", items)
            if memory is None:
                continue
            compacted = result.find(name, "compact", items)
            rows.append(
                [
                    name,
                    f"{items:,}",
                    f"{memory:,.0f}",
                    f"{opened['values']['bytes_per_item']['median']:,.0f}" if opened else "–",
                    short(opened["us"] / 1000) if opened else "–",
                    short(compacted["us"] * items / 1000) if compacted else "–",
                ]
            )
    head = ["", "items", "resident bytes an item", "after opening", "open to first answer, ms", "compact, ms"]
    parts = [f"### Memory and opening\n\n{markdown(head, rows)}"] if rows else []
    written = [
        [f["engine"], short(f["values"]["written"]["median"])] for f in result.figures if f["workload"] == "written"
    ]
    if written:
        parts.append("### Bytes written for each byte put\n\n" + markdown(["", "written"], written))
    return "\n\n".join(parts)


def growth_table(result: Result) -> str:
    """For each workload the exponent e of cost ~ items**e, fitted over all numbers of items."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for f in result.figures:
        if f["workload"].startswith("growth ") and "us" in f:
            place = f["engine"], f["workload"].removeprefix("growth ")
            points.setdefault(place, []).append((math.log(f["items"]), math.log(f["us"])))
    fits = {
        place: statistics.linear_regression(*zip(*some, strict=True)) for place, some in points.items() if len(some) > 1
    }
    if not fits:
        return ""
    workloads = list(dict.fromkeys(workload for _, workload in fits))
    names = [name for name in NAMES if any(engine == name for engine, _ in fits)]
    rows = [
        [workload, *(f"{fits[name, workload].slope:.2f}" if (name, workload) in fits else "–" for name in names)]
        for workload in workloads
    ]
    return "### Growth: the exponent of the number of items\n\n" + markdown(["", *names], rows)


def pauses_table(result: Result) -> str:
    """Single calls."""
    clocks = (("wall", "p50"), ("wall", "p99"), ("wall", "max"), ("cpu", "max"))
    labels = [f"{verb}_{clock}_{label}" for verb in ("put", "get") for clock, label in clocks]
    rows = [
        [f["engine"], f"{f['items']:,}", *(short(f["values"][label]["median"]) for label in labels)]
        for f in result.figures
        if f["workload"] == "pauses"
    ]
    head = ["", "items", *(label.replace("_", " ") for label in labels)]
    return f"### Single calls, µs\n\n{markdown(head, rows)}" if rows else ""


if __name__ == "__main__":
    print(summary_tables(Result.read(Path(sys.argv[1]))))

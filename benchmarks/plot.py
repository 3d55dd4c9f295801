"""Pictures of a run: ``python -m benchmarks.plot RESULT.json FOLDER``. Only reads the JSON.

What is ours is drawn in one strong colour and the limits in grey, in every picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.engines import NAMES
from benchmarks.result import Result

_STYLES: dict[str, tuple[str, str]] = {
    "mapitem": ("#d1002a", "o"),
    "mapitem:memory": ("#f08a9d", "o"),
    "mapitem:plain": ("#f6b8c3", "o"),
    "dict": ("#777777", "|"),
    "sorteddict": ("#222222", "|"),
    "leveldb": ("#1f77b4", "s"),
    "lmdb": ("#2ca02c", "D"),
    "rocksdb": ("#ff9d3b", "^"),
    "sqlite": ("#8c564b", "v"),
    "sqlite:memory": ("#c9a79f", "v"),
    "zodb": ("#9467bd", "P"),
    "diskcache": ("#17becf", "X"),
    "cachetools": ("#bcbd22", "*"),
    "redis": ("#4b3fa0", "<"),
    "fakeredis": ("#a59fd6", ">"),
}
_ORDER = (
    *("readrandom", "readrandom_keys_only", "readmissing", "contains", "readseq", "readreverse"),
    *("scan100", "scan100_reverse", "scan100_keys"),
    *("fillbatch", "fillseq", "fillrandom", "overwrite", "create", "update", "cas", "mutate", "delete"),
)


def _number(value: float, _: Any = None) -> str:
    return f"{value:g}" if value < 1000 else f"{value:,.0f}"


def _plain(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(_number))
    axis.set_minor_formatter(NullFormatter())


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def _caption(result: Result) -> str:
    content = result.content
    return (
        f"{content['python']}, {content['cpus']} × {content['processor']}, {content['date'][:10]}, {content['commit']}"
    )


def operations(result: Result, path: Path) -> bool:
    """Every workload on a row of its own, every engine a mark on it."""
    rows = [workload for workload in _ORDER if result.find("mapitem", workload, kind="small")]
    if not rows:
        return False
    items = max(f["items"] for f in result.figures if f["workload"] == rows[0] and f["engine"] == "mapitem")
    items = 100_000 if result.find("mapitem", rows[0], 100_000) else items
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(rows) + 1.6))
    for name, (colour, mark) in _STYLES.items():
        places = [
            (found["us"], -index)
            for index, workload in enumerate(rows)
            if (found := result.find(name, workload, items)) is not None and "us" in found
        ]
        if places:
            # Ours on top, then the limits, as tall ticks; size, order and line of a mark.
            size, order, line = (95, 4, 0.6) if name == "mapitem" else (190, 3, 2.2) if mark == "|" else (34, 2, 0.6)
            across, down = zip(*places, strict=True)
            axes.scatter(across, down, s=size, c=colour, marker=mark, label=name, zorder=order, linewidths=line)
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.set_yticks([-index for index in range(len(rows))], rows)
    axes.grid(axis="both", color="#e4e4e4", zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("µs per operation (logarithmic; further left is faster)")
    axes.set_title(f"{items:,} items of about 120 bytes\n", fontsize=12)
    axes.text(0.5, 1.01, _caption(result), transform=axes.transAxes, ha="center", fontsize=8, color="#555555")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    _save(figure, path)
    return True


def growth(result: Result, path: Path) -> bool:
    """Cost against the number of items."""
    panels = [("growth readrandom", "get"), ("growth overwrite", "set"), ("growth scan100", "range of 100")]
    figure, all_axes = plt.subplots(1, 3, figsize=(13, 4))
    drawn = False
    for axes, (workload, title) in zip(all_axes, panels, strict=True):
        for name, (colour, mark) in _STYLES.items():
            points = sorted(
                (f["items"], f["us"])
                for f in result.figures
                if f["engine"] == name and f["workload"] == workload and f["value"] == "small" and "us" in f
            )
            if len(points) > 1:
                drawn = True
                thick = 2.6 if name == "mapitem" else 1.2
                axes.plot(*zip(*points, strict=True), color=colour, marker=mark, lw=thick, label=name, ms=6)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _plain(axes.xaxis)
        axes.yaxis.set_major_formatter(FuncFormatter(_number))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda v, _: _number(v) if str(f"{v:e}")[0] in "235" else ""))
        axes.grid(color="#e4e4e4", which="both", lw=0.6)
        axes.set_title(title)
        axes.set_xlabel("items")
    all_axes[0].set_ylabel("µs per operation")
    if not drawn:
        plt.close(figure)
        return False
    all_axes[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9)
    figure.suptitle(_caption(result), fontsize=8, color="#555555", y=1.0)
    _save(figure, path)
    return True


def _bars(axes: Any, pairs: list[tuple[str, float]], title: str, unit: str, *, log: bool = False) -> None:
    pairs = sorted(pairs, key=lambda pair: pair[1])
    names, values = [name for name, _ in pairs], [value for _, value in pairs]
    axes.barh(range(len(names)), values, color=[_STYLES.get(name, ("#555555", ""))[0] for name in names])
    axes.set_yticks(range(len(names)), names)
    for index, value in enumerate(values):
        axes.text(value, index, f" {_number(round(value, 2 if value < 10 else 0))}", va="center", fontsize=8)
    if log:
        axes.set_xscale("log")
        _plain(axes.xaxis)
        axes.set_xlim(right=max(values) * 4)
    else:
        axes.set_xlim(right=max(values) * 1.2)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)


def sizes(result: Result, path: Path) -> bool:
    """Memory and opening at the largest number of items."""
    numbers = [f["items"] for f in result.figures if f["workload"] == "memory"]
    if not numbers:
        return False
    items = max(numbers)
    memory = [
        (name, bytes_)
        for name in NAMES
        if (bytes_ := result.value(name, "memory", "bytes_per_item", items)) is not None
    ]
    opened = [(name, found["us"] / 1000) for name in NAMES if (found := result.find(name, "open", items))]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 0.35 * len(memory) + 1.6))
    _bars(left, memory, f"memory at {items:,} items, loaded", "resident bytes an item")
    _bars(right, opened, f"open {items:,} items, to the first answer", "ms (logarithmic)", log=True)
    figure.suptitle(_caption(result), fontsize=8, color="#555555", y=1.0)
    figure.tight_layout()
    _save(figure, path)
    return True


def together(result: Result, path: Path) -> bool:
    """Threads, waiting for the disk, and pauses."""
    figure, all_axes = plt.subplots(2, 2, figsize=(12, 6.5))
    panels = [
        ("4 readers + 1 writer: reads", "reads a second", "threads 4+1", "reads_s", 1.0, False),
        ("4 readers + 1 writer: writes", "writes a second", "threads 4+1", "writes_s", 1.0, False),
        ("16 threads, each write on the disk", "writes a second", "fsync 16", "writes_s", 1.0, False),
        ("longest single write", "ms (logarithmic)", "pauses", "put_wall_max", 0.001, True),
    ]
    for axes, (title, unit, workload, label, factor, log) in zip(all_axes.flat, panels, strict=True):
        pairs = [
            (f["engine"].removesuffix(":power").removesuffix(":sync"), f["values"][label]["median"] * factor)
            for f in result.figures
            if f["workload"] == workload
        ]
        if pairs:
            _bars(axes, pairs, title, unit, log=log)
        else:
            axes.set_axis_off()
    figure.suptitle(_caption(result), fontsize=8, color="#555555", y=1.0)
    figure.tight_layout()
    _save(figure, path)
    return True


PICTURES = {"operations": operations, "growth": growth, "sizes": sizes, "together": together}


def draw(result: Result, folder: Path) -> list[Path]:
    """All pictures for which the run has figures."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / f"{name}.png": picture for name, picture in PICTURES.items()}
    return [path for path, picture in paths.items() if picture(result, path)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    for path in draw(Result.read(arguments.result), arguments.folder):
        print(path)


if __name__ == "__main__":
    main()

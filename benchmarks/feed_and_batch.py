"""What the change feed and batches cost: `python benchmarks/feed_and_batch.py`, about half a minute.

Two tables, medians of interleaved repeats in microseconds, on a file at durability "process". The first shows that the
cost of reading the feed from a recent token follows the events returned and not the size of the log; the second sets
writes in batches beside single ones.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from pathlib import Path

from mapitem import Map, Store

LOGS = (1_000, 10_000, 100_000)
RECENT = (1, 10, 100, 1_000)
BATCHES = (1, 10, 100, 1_000)
ITEMS = 20_000
REPEATS = 7


def value(number: int) -> dict[str, object]:
    return {"id": number, "name": "Foo Bar", "level": number % 50, "username": f"foo_bar_{number}", "active": True}


def seconds(map_: Map, since: str) -> float:
    start = time.perf_counter()
    for _ in map_.changes(since):
        pass
    return time.perf_counter() - start


def feed(folder: Path) -> None:
    print("change feed: microseconds for the events since a recent token")
    print(f"{'events in the log':>18}" + "".join(f"{count:>10,}" for count in RECENT) + "   <- events returned")
    stores = {size: Store(folder / f"feed-{size}", compact_at=None) for size in LOGS}
    maps = {size: store.map("m") for size, store in stores.items()}
    for size, map_ in maps.items():
        for number in range(size):
            map_.set(f"{number % 997}", value(number))
    times: dict[tuple[int, int], list[float]] = {}
    for _ in range(REPEATS):
        for count in RECENT:
            for size, map_ in maps.items():
                since = f"{int(map_.revision, 16) - count:x}"
                times.setdefault((size, count), []).append(seconds(map_, since))
    for size in LOGS:
        print(f"{size:>18,}" + "".join(f"{statistics.median(times[size, count]) * 1e6:>10,.0f}" for count in RECENT))
    for store in stores.values():
        store.close()


def write(folder: Path, name: str, size: int) -> float:
    """Seconds for all items, in batches of ``size`` (0: single writes)."""
    with Store(folder / name) as store:
        map_ = store.map("m")
        start = time.perf_counter()
        if size == 0:
            for number in range(ITEMS):
                map_.set(f"user:{number:06}", value(number))
        else:
            for first in range(0, ITEMS, size):
                with store.batch() as batch:
                    for number in range(first, first + size):
                        batch.set(map_, f"user:{number:06}", value(number))
        return time.perf_counter() - start


def batches(folder: Path) -> None:
    print(f"\nwriting {ITEMS:,} new items: microseconds per item")
    times: dict[int, list[float]] = {}
    for repeat in range(REPEATS):
        for size in (0, *BATCHES):
            times.setdefault(size, []).append(write(folder, f"batch-{size}-{repeat}", size) / ITEMS)
    single = statistics.median(times[0])
    for size, results in times.items():
        name = "single writes" if size == 0 else f"batches of {size:,}"
        spread = f"{min(results) * 1e6:.1f}-{max(results) * 1e6:.1f}"
        median = statistics.median(results)
        print(f"{name:>18}{median * 1e6:>10.1f}  ({spread})  {median / single:.2f} x single")


if __name__ == "__main__":
    print(f"CPython {platform.python_version()}, {platform.system()} {platform.machine()}\n")
    with tempfile.TemporaryDirectory() as name:
        feed(Path(name))
        batches(Path(name))

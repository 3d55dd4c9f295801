"""How many writes a second ``durability="power"`` acknowledges with 1, 4, 16 and 64 threads, which share fsyncs.

Run ``python benchmarks/group_commit.py --folder DIR`` with a folder on the disk in question. Each thread sets keys of
its own, one after the other; beside them runs the least that one thread could do: append as many bytes to a file and
sync it. The settings take turns, so that a busy spell of the machine or of the disk hits all, and what is compared are
medians. The target: 16 threads write at least 4 times what one does, and one waits for little more than its fsync.
"""

from __future__ import annotations

import argparse
import os
import platform
import threading
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from mapitem import Store
from mapitem.disk import Disk

THREADS = (1, 4, 16, 64)
DATA = {"name": "Taylor", "points": 30, "tags": ["a", "b", "c"], "text": "x" * 60}
RECORD_BYTES = 220
TARGET = 4.0


class CountingDisk(Disk):
    """The real disk, with a count of its syncs."""

    def __init__(self) -> None:
        self.syncs = 0

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        super().sync(descriptor)


def bare(folder: Path, seconds: float) -> float:
    """Appends and syncs a second of one thread without any store."""
    disk = Disk()
    descriptor = disk.create(str(folder / "bare"), 0o600)
    record = bytes(RECORD_BYTES)
    written = 0
    began = perf_counter()
    while perf_counter() - began < seconds:
        disk.write(descriptor, record, written * RECORD_BYTES)
        disk.sync(descriptor)
        written += 1
    elapsed = perf_counter() - began
    disk.close(descriptor)
    os.unlink(folder / "bare")
    return written / elapsed


def grouped(folder: Path, threads: int, seconds: float) -> tuple[float, float]:
    """Writes a second of so many threads on one store, and writes per fsync."""
    disk = CountingDisk()

    class Counted(Store):
        _disk = disk

    counts = [0] * threads
    path = folder / "store.mapitem"
    with Counted(path, durability="power", compact_at=None) as store:
        map_ = store.map("m")
        before = disk.syncs
        start = threading.Barrier(threads + 1)
        stop = threading.Event()

        def work(number: int) -> None:
            start.wait()
            while not stop.is_set():
                map_.set(f"{number:02}-{counts[number] % 100:02}", DATA)
                counts[number] += 1

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        start.wait()
        began = perf_counter()
        stop.wait(seconds)
        stop.set()
        for worker in workers:
            worker.join()
        elapsed = perf_counter() - began
        syncs = disk.syncs - before
    for name in ("store.mapitem", "store.mapitem.lock"):
        (folder / name).unlink()
    return sum(counts) / elapsed, sum(counts) / syncs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="runs of each setting (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="length of a run (default: 0.5)")
    parser.add_argument("--folder", type=Path, default=None, help="where to write (default: the temporary folder)")
    arguments = parser.parse_args()
    plain: list[float] = []
    rates: dict[int, list[float]] = {threads: [] for threads in THREADS}
    shares: dict[int, list[float]] = {threads: [] for threads in THREADS}
    with TemporaryDirectory(prefix="mapitem-", dir=arguments.folder) as name:
        for _ in range(arguments.repeats):
            plain.append(bare(Path(name), arguments.seconds))
            for threads in THREADS:
                rate, share = grouped(Path(name), threads, arguments.seconds)
                rates[threads].append(rate)
                shares[threads].append(share)
    one = median(rates[1])
    print(f"CPython {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs")
    print(f"medians of {arguments.repeats} interleaved runs of {arguments.seconds} s each")
    print(f"{'':>12} {'writes/s':>10} {'µs a write':>11} {'writes per fsync':>17} {'× one thread':>13}")
    print(
        f"{'bare fsync':>12} {median(plain):>10,.0f} {1e6 / median(plain):>11,.0f} {1:>17} {median(plain) / one:>13.2f}"
    )
    for threads in THREADS:
        rate = median(rates[threads])
        share = median(shares[threads])
        label = f"{threads} thread{'s' * (threads > 1)}"
        print(f"{label:>12} {rate:>10,.0f} {1e6 / rate:>11,.0f} {share:>17.1f} {rate / one:>13.2f}")
    print(f"16 threads: {median(rates[16]) / one:.1f} × one thread (target: at least {TARGET})")


if __name__ == "__main__":
    main()

"""What cannot be cut into pieces of some milliseconds: threads, waiting for the disk, pauses, expiry, bytes written.

Each measure runs in a worker on its engine and returns plain numbers. They are read on the wall clock and not scaled,
unless a name says otherwise; what is compared are medians of runs that took turns.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import threading
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter, perf_counter_ns, thread_time_ns
from typing import Any

from msgpack import packb

from benchmarks import data
from benchmarks.timing import Sample, timed
from benchmarks.workloads import DAY, Bench

_PAUSES_SECONDS = 3.0
"""After so long a slow engine has shown what it does; who is to keep house meanwhile gets ten times as long."""

RECORD_BYTES = 220
"""About what one small item takes in a log: what the bare appends write."""


def resident_bytes() -> int:
    """Of this process, once what is free has been handed back."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def written_bytes() -> dict[str, int]:
    """What this process has written so far: to files by system calls, and to the disk by any way."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return {"calls": int(fields["wchar"]), "disk": int(fields["write_bytes"])}


def together(jobs: list[Callable[[threading.Event], int]], seconds: float) -> tuple[list[int], float]:
    """Run each job on a thread until it is told to stop; what each has counted, and for how long they ran."""
    counts = [0] * len(jobs)
    stop, start = threading.Event(), threading.Barrier(len(jobs) + 1)

    def work(number: int) -> None:
        start.wait()
        counts[number] = jobs[number](stop)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    start.wait()
    began = perf_counter()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return counts, perf_counter() - began


def threads(bench: Bench, readers: int, writers: int, seconds: float) -> dict[str, float]:
    """Gets and puts a second of so many threads on one store."""

    def reader() -> Callable[[threading.Event], int]:
        engine, keys = bench.engine.for_thread(), bench.present(2000)

        def read(stop: threading.Event) -> int:
            done, get = 0, engine.get
            while True:
                for key in keys:
                    get(key)
                    done += 1
                    if not done & 31 and stop.is_set():
                        return done

        return read

    def writer() -> Callable[[threading.Event], int]:
        engine, pairs = bench.engine.for_thread(), bench.pairs(bench.some(2000))

        def write(stop: threading.Event) -> int:
            done, put = 0, engine.put
            while True:
                for key, value in pairs:
                    put(key, value)
                    done += 1
                    if not done & 7 and stop.is_set():
                        return done

        return write

    jobs = [reader() for _ in range(readers)] + [writer() for _ in range(writers)]
    counts, elapsed = together(jobs, seconds)
    return {"reads_s": sum(counts[:readers]) / elapsed, "writes_s": sum(counts[readers:]) / elapsed}


def fsync(bench: Bench, count: int, seconds: float) -> dict[str, float]:
    """Puts a second of so many threads that wait for the disk. 0 threads: bare appends and syncs, without a store."""
    if not count:
        return {"writes_s": _bare_syncs(bench.folder, seconds)}

    def writer(number: int) -> Callable[[threading.Event], int]:
        engine = bench.engine.for_thread()

        def write(stop: threading.Event) -> int:
            done, put, value = 0, engine.put, bench.value(number)
            while not stop.is_set():
                put(f"{number:02}-{done % 100:02}", value)
                done += 1
            return done

        return write

    counts, elapsed = together([writer(number) for number in range(count)], seconds)
    return {"writes_s": sum(counts) / elapsed}


def _bare_syncs(folder: Path, seconds: float) -> float:
    descriptor = os.open(folder / "bare", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    sync, record, written = getattr(os, "fdatasync", os.fsync), bytes(RECORD_BYTES), 0
    began = perf_counter()
    while perf_counter() - began < seconds:
        os.pwrite(descriptor, record, written * RECORD_BYTES)
        sync(descriptor)
        written += 1
    elapsed = perf_counter() - began
    os.close(descriptor)
    return written / elapsed


def pauses(bench: Bench, count: int) -> dict[str, float]:
    """How long single calls take, in µs: a put over each of so many items, then as many gets.

    ``cpu`` is the calling thread's own time: a long call whose ``cpu`` is short waited for the machine or the disk.
    """
    figures: dict[str, float] = {}
    walls, cpus = array("q"), array("q")

    def note(verb: str) -> None:
        for name, times in (("wall", sorted(walls)), ("cpu", sorted(cpus))):
            for label, place in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)):
                figures[f"{verb}_{name}_{label}"] = times[min(len(times) - 1, int(place * len(times)))] / 1000
        del walls[:], cpus[:]

    if bench.engine.provoke is not None:
        bench.engine.provoke()
    put, get, rewritten, began = bench.engine.put, bench.engine.get, bench.engine.rewritten, perf_counter()
    while True:
        elapsed = perf_counter() - began
        if (len(walls) >= count or elapsed > _PAUSES_SECONDS) and (
            rewritten is None or rewritten() or elapsed > 10 * _PAUSES_SECONDS
        ):
            break
        for key, value in bench.pairs(bench.some(min(count, 5000))):
            wall, cpu = perf_counter_ns(), thread_time_ns()
            put(key, value)
            cpus.append(thread_time_ns() - cpu)
            walls.append(perf_counter_ns() - wall)
    figures["puts"] = len(walls)
    note("put")
    began = perf_counter()
    while len(walls) < count and perf_counter() - began < _PAUSES_SECONDS:
        for key in bench.present(min(count, 5000)):
            wall, cpu = perf_counter_ns(), thread_time_ns()
            get(key)
            cpus.append(thread_time_ns() - cpu)
            walls.append(perf_counter_ns() - wall)
    note("get")
    if bench.engine.rewritten is not None:
        figures["rewritten"] = float(bench.engine.rewritten())
    return figures


def written(bench: Bench, most: int, seconds: float) -> dict[str, float]:
    """Bytes written for each byte of key and packed value, over many puts of random items."""
    before, stored, done, began = written_bytes(), 0, 0, perf_counter()
    while done < most and perf_counter() - began < seconds:
        for key, value in bench.pairs(bench.some(500)):
            bench.engine.put(key, value)
            stored += len(key) + len(packb(value))
            done += 1
    after = written_bytes()
    kind = "disk" if bench.engine.maps_file else "calls"
    return {"written": (after[kind] - before[kind]) / stored, "puts": done}


def expire(bench: Bench) -> dict[str, Any]:
    """Remove what is due: half of the items, in one call. Also how long others wait meanwhile, in ms.

    ``beside_a_loop`` is what a reader waits beside a thread that merely computes: so long may Python let it.
    """
    result: dict[str, Any] = {"sample": _expire(bench, None)[0]}
    engine = bench.engine
    if type(engine).__name__.startswith("MapItem"):
        key, value = data.key(bench.items - 1), bench.value(1)
        result["reader_ms"] = _expire(bench, lambda: engine.get(key))[1]
        result["writer_ms"] = _expire(bench, lambda: engine.put(key, value))[1]
        result["beside_a_loop_ms"] = _longest(lambda: engine.get(key), _compute)[1]
    return result


def _expire(bench: Bench, other: Callable[[], object] | None) -> tuple[Sample, float]:
    engine, half = bench.engine, bench.items // 2
    clock = [4_000_000_000.0]  # some engines ask the real clock, too: in the future nothing is due by that
    engine.close()
    shutil.rmtree(engine.folder)
    engine.folder.mkdir()
    engine.now = lambda: clock[0]
    engine.open()
    put = engine.put_timed
    assert put is not None
    assert engine.reap is not None
    for numbers in (range(half), range(half, 2 * half)):
        for number in numbers:
            put(data.key(number), bench.value(number), DAY)
        clock[0] += DAY / 2 + 1
    if other is None:
        return timed(engine.reap, half), 0.0
    # Where a write removes what is due, the writer may do all of it: that, too, is what others have to wait.
    return timed(lambda: None, 1), _longest(other, engine.reap)[1]


def _longest(other: Callable[[], object], busy: Callable[[], object]) -> tuple[int, float]:
    """How often the one was called while the other ran on a thread of its own, and its longest call in ms."""
    done = threading.Event()

    def work() -> None:
        busy()
        done.set()

    thread = threading.Thread(target=work)
    calls, longest = 0, 0.0
    thread.start()
    while not calls or not done.is_set():
        began = perf_counter()
        other()
        longest = max(longest, perf_counter() - began)
        calls += 1
    thread.join()
    return calls, longest * 1000


def _compute() -> None:
    end = perf_counter() + 0.3
    while perf_counter() < end:
        sum(range(100))

"""Lets workers take turns, phase by phase, and keeps what they measured.

A phase starts a worker for each engine, has all of them do the same, one after the other and in a new order each time,
and ends them. What fails in one worker is noted, and the others go on.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.engines import engine_class
from benchmarks.result import Result
from benchmarks.timing import Sample, quietest, summary
from benchmarks.worker import Worker, WorkerFailed

LOAD = "fillbatch"
_LOAD_PARTS = 10

BARE = "bare fsync"
"""Stands among the engines for appends and syncs without any store."""


class Runner:
    """All samples and figures of a run, by engine, workload, number of items and kind of value."""

    def __init__(self, folder: Path, seed: int, piece_seconds: float) -> None:
        self._began = time.perf_counter()
        self._folder = folder
        self._random = Random(seed)
        self._piece_seconds = piece_seconds
        self._samples: dict[tuple[str, str, int, str], list[Sample]] = {}
        self._figures: dict[tuple[str, str, int, str], list[dict[str, float]]] = {}
        self.failures: list[str] = []

    def say(self, what: str) -> None:
        """Tell whoever waits what comes now."""
        print(f"{time.perf_counter() - self._began:6.1f} s  {what}", file=sys.stderr)

    # ------------------------------------------------------------ phases

    def pieces(
        self, names: list[str], workloads: list[str], items: int, kind: str, repeat: int, passes: int = 1
    ) -> None:
        """Workloads that come in pieces: ``repeat`` pieces in each of so many passes with new processes."""
        for _ in range(passes):
            with self._crew(names, items, kind) as crew:
                self._all(crew, "open")
                self._load_in_parts(crew, items, kind)
                # Nobody reads from the ruins of a load: each is seen at its best.
                self._all(crew, "compact")
                self._pieces(crew, [workload for workload in workloads if workload != LOAD], items, kind, repeat)

    def sizes(self, names: list[str], workloads: list[str], items: int, *, opens: int, repeat: int, calls: int) -> None:
        """What depends on how many items there are: memory, opening, single calls, and workloads for their growth.

        Whoever has a file is compacted, closed and opened again in new processes.
        """
        with TemporaryDirectory(dir=self._folder) as folder:
            crew = self._start(names, items, "small", Path(folder))
            try:
                self._all(crew, "open")
                for name, bytes_ in self._all(crew, "load"):
                    self._note(name, "memory", items, "small", {"bytes_per_item": bytes_ / items})
                on_file = [name for name in crew if engine_class(name).durability != "none: memory"]
                for name, sample in self._all({name: crew[name] for name in on_file}, "compact"):
                    if sample is not None:
                        self._sample(name, "compact", items, "small", sample)
                for _ in range(opens):
                    for name in self._random.sample(on_file, len(on_file)):
                        self._end({name: crew.pop(name)})
                        crew |= self._start([name], items, "small", Path(folder))
                        for _, (sample, bytes_) in self._all({name: crew[name]}, "open_and_read"):
                            self._sample(name, "open", items, "small", sample)
                            self._note(name, "open", items, "small", {"bytes_per_item": bytes_ / items})
                self._pieces(crew, workloads, items, "small", repeat, prefix="growth ")
                if calls:
                    for name, figures in self._all(crew, "measure", "pauses", calls):
                        self._note(name, "pauses", items, "small", figures)
            finally:
                self._end(crew)

    def threads(
        self, names: list[str], items: int, settings: list[tuple[int, int]], seconds: float, repeat: int
    ) -> None:
        """So many readers and writers at once."""
        with self._crew(names, items, "small") as crew:
            self._all(crew, "open")
            self._all(crew, "load")
            for _ in range(repeat):
                for readers, writers in settings:
                    for name, figures in self._all(crew, "measure", "threads", readers, writers, seconds):
                        self._note(name, f"threads {readers}+{writers}", items, "small", figures)

    def fsync(self, names: list[str], items: int, settings: list[int], seconds: float, repeat: int) -> None:
        """Writes that wait for the disk, by so many threads; beside them, syncs without a store."""
        with self._crew(names, items, "small") as crew:
            self._all(crew, "open")
            self._all(crew, "load")
            first = next(iter(crew))
            for _ in range(repeat):
                for _, figures in self._all({first: crew[first]}, "measure", "fsync", 0, seconds):
                    self._note(BARE, "fsync 1", items, "small", figures)
                for threads in settings:
                    for name, figures in self._all(crew, "measure", "fsync", threads, seconds):
                        self._note(name, f"fsync {threads}", items, "small", figures)

    def expire(self, names: list[str], due: int, repeat: int) -> None:
        """Removing so many items that are due, among as many that are not."""
        able = [name for name in names if engine_class(name).put_timed is not None]
        for _ in range(repeat):
            with self._crew(able, 2 * due, "small") as crew:
                self._all(crew, "open")
                for name, figures in self._all(crew, "measure", "expire"):
                    self._sample(name, "expire", due, "small", figures.pop("sample"))
                    if figures:
                        self._note(name, "expire", due, "small", figures)

    def written(self, names: list[str], items: int, seconds: float) -> None:
        """Bytes written for each byte put, over five puts for each item."""
        local = [name for name in names if engine_class(name).durability not in ("none: memory", "the server's memory")]
        with self._crew(local, items, "small") as crew:
            self._all(crew, "open")
            self._all(crew, "load")
            for name, figures in self._all(crew, "measure", "written", 5 * items, seconds):
                self._note(name, "written", items, "small", figures)

    def imports(self, repeat: int) -> None:
        """``import mapitem`` beside the import of what it needs."""
        from benchmarks.import_time import compare

        base, ours = compare(repeat)
        self._note("mapitem", "import", 0, "small", {"ms": ours * 1000, "ratio": ours / base})
        self._note("sorteddict", "import", 0, "small", {"ms": base * 1000, "ratio": 1.0})

    # ------------------------------------------------------------ the crew

    @contextmanager
    def _crew(self, names: list[str], items: int, kind: str) -> Iterator[dict[str, Worker]]:
        with TemporaryDirectory(dir=self._folder) as folder:
            crew = self._start(names, items, kind, Path(folder))
            try:
                yield crew
            finally:
                self._end(crew)

    def _start(self, names: list[str], items: int, kind: str, folder: Path) -> dict[str, Worker]:
        crew = {}
        for name in names:
            place = folder / name.replace(":", "-")
            place.mkdir(exist_ok=True)
            crew[name] = Worker(name, place, items, kind, self._random.randrange(2**31))
        return crew

    def _end(self, crew: dict[str, Worker]) -> None:
        for worker in crew.values():
            try:
                worker.close()
            except WorkerFailed as error:
                self._fail(error)

    def _all(self, crew: dict[str, Worker], command: str, *values: Any) -> list[tuple[str, Any]]:
        """The answers of all who did not fail; they take turns, in any order."""
        answers = []
        for name in self._random.sample(list(crew), len(crew)):
            try:
                answers.append((name, crew[name].ask(command, *values)))
            except WorkerFailed as error:
                self._fail(error)
        return answers

    def _fail(self, error: WorkerFailed) -> None:
        self.failures.append(str(error))
        print(error, file=sys.stderr)

    def _load_in_parts(self, crew: dict[str, Worker], items: int, kind: str) -> None:
        part = max(1, items // _LOAD_PARTS)
        for _ in range(-(-items // part)):
            for name, sample in self._all(crew, "piece", LOAD, part):
                self._sample(name, LOAD, items, kind, sample)

    def _pieces(
        self, crew: dict[str, Worker], workloads: list[str], items: int, kind: str, repeat: int, prefix: str = ""
    ) -> None:
        for workload in workloads:
            able = {name: crew[name] for name, can in self._all(crew, "can", workload) if can}
            able = {name: crew[name] for name, _ in self._all(able, "begin", workload, self._piece_seconds)}
            for _ in range(repeat):
                for name, sample in self._all(able, "piece", workload):
                    # What was compacted and opened anew is another thing to measure than what has just been loaded.
                    self._sample(name, prefix + workload, items, kind, sample)

    # ------------------------------------------------------------ what was measured

    def _sample(self, name: str, workload: str, items: int, kind: str, sample: Sample) -> None:
        self._samples.setdefault((name, workload, items, kind), []).append(sample)

    def _note(self, name: str, workload: str, items: int, kind: str, figures: dict[str, float]) -> None:
        self._figures.setdefault((name, workload, items, kind), []).append(figures)

    def put_into(self, result: Result) -> None:
        """Everything measured so far, summed up."""
        quiet = quietest([sample for samples in self._samples.values() for sample in samples])
        for key in dict.fromkeys([*self._samples, *self._figures]):
            name, workload, *_ = key
            figures: dict[str, Any] = {}
            if samples := self._samples.get(key):
                # An opening waits for threads of the engine's own, and for the disk.
                clock = "wall" if workload == "open" else engine_class(name).clock
                figures |= summary(samples, quiet, clock)
            if runs := self._figures.get(key):
                figures["values"] = {
                    label: {
                        "median": statistics.median(run[label] for run in runs),
                        "low": min(run[label] for run in runs),
                        "high": max(run[label] for run in runs),
                        "runs": len(runs),
                    }
                    for label in runs[0]
                }
            result.add(*key, figures)

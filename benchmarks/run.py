"""``python -m benchmarks.run``: measure, show, and write the figures as JSON. README.md says what is measured how."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import engines
from benchmarks.data import VALUES
from benchmarks.engines.base import Skip
from benchmarks.result import Result, describe
from benchmarks.timing import Sample, quietest, summary
from benchmarks.worker import Worker, WorkerFailed
from benchmarks.workloads import WORKLOADS

_LOAD = "fillbatch"
_LOAD_PARTS = 10


class Runner:
    """Lets workers take turns and keeps their samples."""

    def __init__(self, names: list[str], folder: Path, seed: int) -> None:
        self.names = names
        self.folder = folder
        self.random = Random(seed)
        self.samples: dict[tuple[str, str, int, str], list[Sample]] = {}
        self.failures: list[str] = []

    def measure(self, workloads: list[str], items: int, kind: str, repeat: int, passes: int) -> None:
        """Every workload on every engine that can: ``repeat`` pieces in each of so many passes with new processes."""
        for _ in range(passes):
            crew: dict[str, Worker] = {}
            try:
                with TemporaryDirectory(dir=self.folder) as folder:
                    for name in self.names:
                        place = Path(folder, name.replace(":", "-"))
                        place.mkdir()
                        crew[name] = Worker(name, place, items, kind, self.random.randrange(2**31))
                    self._pass(crew, workloads, items, kind, repeat)
            finally:
                for worker in crew.values():
                    self._ask(worker, "close")

    def _pass(self, crew: dict[str, Worker], workloads: list[str], items: int, kind: str, repeat: int) -> None:
        part = max(1, items // _LOAD_PARTS)
        for _ in range(-(-items // part)):
            self._round(crew, _LOAD, items, kind, part)
        for workload in workloads:
            if workload == _LOAD:
                continue
            able = {name: worker for name, worker in crew.items() if self._ask(worker, "can", workload)}
            for name, worker in list(able.items()):
                if self._ask(worker, "begin", workload) is WorkerFailed:
                    del able[name]
            for _ in range(repeat):
                self._round(able, workload, items, kind, None)

    def _round(self, crew: dict[str, Worker], workload: str, items: int, kind: str, count: int | None) -> None:
        for name in self.random.sample(list(crew), len(crew)):
            sample = self._ask(crew[name], "piece", workload, count)
            if sample is not WorkerFailed:
                self.samples.setdefault((name, workload, items, kind), []).append(sample)

    def _ask(self, worker: Worker, command: str, *values: Any) -> Any:
        """The answer; the class ``WorkerFailed`` in its place if there is none."""
        try:
            return worker.ask(command, *values) if command != "close" else worker.close()
        except WorkerFailed as error:
            self.failures.append(str(error))
            print(error, file=sys.stderr)
            return WorkerFailed


def show(result: Result, items: int, kind: str) -> None:
    """Medians in microseconds as a table: workloads down, engines across."""
    figures = [f for f in result.content["figures"] if f["items"] == items and f["value"] == kind and "us" in f]
    names = [name for name in engines.NAMES if any(f["engine"] == name for f in figures)]
    print(f"\n{items:,} items, {kind}: µs per operation, medians")
    print(" " * 22 + "".join(f"{name[:14]:>15}" for name in names))
    for workload in dict.fromkeys(f["workload"] for f in figures):
        cells = [result.find(name, workload, items, kind) for name in names]
        print(f"{workload:<22}" + "".join(f"{'–' if c is None else format(c['us'], '.2f'):>15}" for c in cells))


def chosen(text: str | None, known: list[str]) -> list[str]:
    """The names of a comma-separated list, each of which must be known."""
    if text is None:
        return known
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", metavar="WORKLOADS", help="comma-separated; default: all")
    parser.add_argument("--engines", metavar="ENGINES", help="comma-separated; default: mapitem and the limits")
    parser.add_argument("--items", default="100000", help="comma-separated numbers of items (default: 100000)")
    parser.add_argument("--values", default="small", help=f"comma-separated, of {', '.join(VALUES)}")
    parser.add_argument("--repeat", type=int, default=10, help="pieces of each workload in each pass (default: 10)")
    parser.add_argument("--passes", type=int, default=1, help="times that all begins anew, in new processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where stores are made (default: the temporary folder)")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    began = time.perf_counter()
    workloads = chosen(arguments.only, list(WORKLOADS))
    default = ",".join((*engines.OWN[:2], *engines.LIMITS))
    names: list[str] = []
    skipped: dict[str, str] = {}
    for name in chosen(arguments.engines or default, list(engines.NAMES)):
        try:
            engines.engine_class(name)
            names.append(name)
        except Skip as reason:
            skipped[name] = str(reason)
            print(f"{name} is left out: {reason}")
    result = Result({**describe(names, arguments.seed, vars(arguments)), "skipped": skipped, "figures": []})
    with TemporaryDirectory(prefix="benchmarks-", dir=arguments.folder) as folder:
        runner = Runner(names, Path(folder), arguments.seed)
        for items in map(int, arguments.items.split(",")):
            for kind in chosen(arguments.values, list(VALUES)):
                runner.measure(workloads, items, kind, arguments.repeat, arguments.passes)
    quiet = quietest([sample for samples in runner.samples.values() for sample in samples])
    for (name, workload, items, kind), samples in runner.samples.items():
        result.add(name, workload, items, kind, summary(samples, quiet, engines.engine_class(name).clock))
    result.content["options"] = {name: str(value) for name, value in vars(arguments).items()}
    result.content["seconds"] = round(time.perf_counter() - began, 1)
    result.content["failures"] = runner.failures
    for items in map(int, arguments.items.split(",")):
        for kind in chosen(arguments.values, list(VALUES)):
            show(result, items, kind)
    print(f"\n{result.content['seconds']} s")
    if arguments.out is not None:
        result.write(arguments.out)


if __name__ == "__main__":
    main()

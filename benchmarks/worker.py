"""A process for each engine, so that none sees another's heap, garbage or threads; and the runner's end of it.

Workers sit idle until it is their turn. Only one works at a time.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmarks import data, measures
from benchmarks.result import ROOT
from benchmarks.timing import Sample, timed
from benchmarks.workloads import WORKLOADS, Bench

PIECE_SECONDS = 0.015
"""About how long a piece is to take: long beside the clock, short beside the moods of the machine."""
_MOST = 5000


class WorkerFailed(Exception):
    """What went wrong in a worker, with its traceback."""


class Commands:
    """What a worker can do. Each method is a command; its arguments and result go through a pipe."""

    def __init__(self, name: str, folder: Path, items: int, kind: str, seed: int) -> None:
        self.bench = Bench(name, folder, items, kind, seed)
        self.engine = self.bench.engine
        self.counts: dict[str, int] = {}

    def open(self) -> None:
        self.engine.open()

    def open_and_read(self) -> tuple[Sample, int]:
        """Open what is there and get one item: the time, and the bytes that are resident since."""
        self.bench.warm_up()
        before = measures.resident_bytes()
        key = data.key(self.bench.items // 2)

        def run() -> None:
            self.engine.open()
            assert self.engine.get(key) is not None

        sample = timed(run, 1)
        return sample, measures.resident_bytes() - before

    def load(self) -> int:
        """Load all items, keep nothing else, and return the bytes that are resident since."""
        bench = self.bench
        before = measures.resident_bytes()
        self.engine.load((data.key(number), bench.value(number)) for number in range(bench.items))
        return measures.resident_bytes() - before

    def compact(self) -> Sample | None:
        """Per item; ``None`` if there is no such thing."""
        return None if self.engine.compact is None else timed(self.engine.compact, self.bench.items)

    def close(self) -> None:
        self.bench.close()

    def can(self, workload: str) -> bool:
        return all(getattr(self.engine, need) is not None for need in WORKLOADS[workload].needs)

    def begin(self, workload: str, seconds: float) -> None:
        """Find out how many operations make a piece of so many seconds; this warms up, too."""
        self.bench.forget_scratch()
        count = 10
        while True:
            sample = self._piece(workload, count)
            if sample.count > 2 * count or sample.took.wall > seconds / 8 or count >= _MOST:
                break
            count *= 5
        self.counts[workload] = max(1, min(_MOST, int(count * seconds / sample.took.wall)))
        self.bench.forget_scratch()

    def piece(self, workload: str, count: int | None = None) -> Sample:
        return self._piece(workload, self.counts[workload] if count is None else count)

    def _piece(self, workload: str, count: int) -> Sample:
        piece = WORKLOADS[workload].prepare(self.bench, count)
        sample = timed(piece.run, count if piece.count is None else piece.count)
        if piece.after is not None:
            piece.after()
        return sample

    def measure(self, name: str, *arguments: Any) -> Any:
        return getattr(measures, name)(self.bench, *arguments)


class Worker:
    """A process that works on one engine. ``ask`` waits for the answer; ``close`` ends the process."""

    def __init__(self, engine: str, folder: Path, items: int, kind: str, seed: int) -> None:
        self.engine = engine
        command = [sys.executable, "-m", "benchmarks.worker", engine, str(folder), str(items), kind, str(seed)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, command: str, *values: Any) -> Any:
        """The command's result; ``WorkerFailed`` if it raised, or the process died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((command, values), self._process.stdin)
            self._process.stdin.flush()
            good, answer = pickle.load(self._process.stdout)
        except (EOFError, OSError) as error:
            raise WorkerFailed(f"{self.engine}: the process died ({error!r})") from None
        if not good:
            raise WorkerFailed(f"{self.engine}: {command}{values}: {answer}")
        return answer

    def close(self) -> None:
        try:
            self.ask("close")
        finally:
            self._process.communicate()  # closes its input, at which it ends whatever happened


def _serve(arguments: list[str]) -> None:
    """Obey the commands on standard input until it ends. What an engine prints goes to standard error."""
    # Ctrl-C is for the runner, which then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    name, folder, items, kind, seed = arguments
    commands: Commands | None = None
    while True:
        try:
            command, values = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if commands is None:
                commands = Commands(name, Path(folder), int(items), kind, int(seed))
            answer = True, getattr(commands, command)(*values)
        except Exception:
            answer = False, traceback.format_exc()
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1:])

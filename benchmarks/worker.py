"""A process for each engine, so that none sees another's heap, garbage or threads; and the runner's end of it.

Workers sit idle until it is their turn. Only one works at a time.
"""

from __future__ import annotations

import traceback
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.timing import Sample, timed
from benchmarks.workloads import WORKLOADS, Bench

_SECONDS = 0.015
"""About how long a piece is to take: long beside the clock, short beside the moods of the machine."""
_MOST = 5000


class WorkerFailed(Exception):
    """What went wrong in a worker, with its traceback."""


class Commands:
    """What a worker can do. Each method is a command; its arguments and result go through a pipe."""

    def __init__(self, name: str, folder: Path, items: int, kind: str, seed: int) -> None:
        self.bench = Bench(name, folder, items, kind, seed)
        self.counts: dict[str, int] = {}

    def close(self) -> None:
        self.bench.close()

    def can(self, workload: str) -> bool:
        return all(getattr(self.bench.engine, need) is not None for need in WORKLOADS[workload].needs)

    def begin(self, workload: str) -> None:
        """Find out how many operations make a piece; this warms up, too."""
        self.bench.forget_scratch()
        count = 50
        while True:
            sample = self._piece(workload, count)
            if sample.count != count or sample.took.wall > _SECONDS / 8 or count >= _MOST:
                break
            count *= 4
        self.counts[workload] = max(1, min(_MOST, int(count * _SECONDS / sample.took.wall)))
        self.bench.forget_scratch()

    def piece(self, workload: str, count: int | None = None) -> Sample:
        return self._piece(workload, self.counts[workload] if count is None else count)

    def _piece(self, workload: str, count: int) -> Sample:
        piece = WORKLOADS[workload].prepare(self.bench, count)
        sample = timed(piece.run, count if piece.count is None else piece.count)
        if piece.after is not None:
            piece.after()
        return sample


def _serve(pipe: Connection, *arguments: Any) -> None:
    commands: Any = None
    while True:
        try:
            name, values = pipe.recv()
        except EOFError:
            return
        try:
            if commands is None:
                commands = Commands(*arguments)
            pipe.send((True, getattr(commands, name)(*values)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
        if name == "close":
            return


class Worker:
    """A process that works on one engine. ``ask`` waits for the answer; ``close`` ends the process."""

    def __init__(self, engine: str, folder: Path, items: int, kind: str, seed: int) -> None:
        self.engine = engine
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, engine, folder, items, kind, seed), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, command: str, *values: Any) -> Any:
        """The command's result; ``WorkerFailed`` if it raised, or the process died."""
        try:
            self._pipe.send((command, values))
            good, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerFailed(f"{self.engine}: the process died ({error!r})") from None
        if not good:
            raise WorkerFailed(f"{self.engine}: {command}{values}: {answer}")
        return answer

    def close(self) -> None:
        try:
            self.ask("close")
        except WorkerFailed:
            self._process.terminate()
            raise
        finally:
            self._pipe.close()
            self._process.join()

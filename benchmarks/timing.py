"""How a piece of work is timed on a machine that others use, too.

Around each piece runs a loop of known work, the *spin*. It says how slow the machine is just then, and the piece's time
is divided by that. Two clocks are read: the CPU time of the calling thread, which does not run while somebody else has
the core, and the wall.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from time import perf_counter, thread_time
from typing import Any, NamedTuple

_SPINS = 20_000


class Times(NamedTuple):
    """Seconds on the two clocks."""

    cpu: float
    wall: float


class Sample(NamedTuple):
    """One piece of work: its times, how many operations it was, and a spin's mean times around it."""

    took: Times
    count: int
    spin: Times


def _clocked(run: Callable[[], object]) -> Times:
    wall, cpu = perf_counter(), thread_time()
    run()
    return Times(thread_time() - cpu, perf_counter() - wall)


def _spin() -> None:
    total = 0
    for number in range(_SPINS):
        total += number & 7


def timed(run: Callable[[], object], count: int) -> Sample:
    """Run it once; ``count`` is how many operations it does."""
    before = _clocked(_spin)
    took = _clocked(run)
    after = _clocked(_spin)
    return Sample(took, count, Times((before.cpu + after.cpu) / 2, (before.wall + after.wall) / 2))


def summary(samples: Sequence[Sample], quiet: Times, clock: str) -> dict[str, Any]:
    """Microseconds per operation, were the machine as quiet as at its quietest spin.

    Median, quartiles and minimum on the clock that counts for the engine; the median on both.
    """
    on_clock = {
        name: [
            getattr(took, name) / count / (getattr(spin, name) / getattr(quiet, name)) * 1e6
            for took, count, spin in samples
        ]
        for name in Times._fields
    }
    times = on_clock[clock]
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return {
        "us": statistics.median(times),
        "low": quartiles[0],
        "high": quartiles[2],
        "min": min(times),
        "clock": clock,
        "cpu_us": statistics.median(on_clock["cpu"]),
        "wall_us": statistics.median(on_clock["wall"]),
        "samples": len(times),
        "operations": sum(sample.count for sample in samples),
    }


def quietest(samples: Sequence[Sample]) -> Times:
    """The shortest spin of a run, on each clock; 0 for a run without samples, where nothing has to be scaled."""
    return Times(
        min((sample.spin.cpu for sample in samples), default=0.0),
        min((sample.spin.wall for sample in samples), default=0.0),
    )

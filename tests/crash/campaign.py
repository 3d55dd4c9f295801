"""The long form of what ``test_crash`` and ``test_faults`` run for seconds: rounds upon rounds, each from its own seed.

    python -m tests.crash.campaign --minutes 30 [--seed N] [--only PART]

Three parts: ``crashes`` (durability V1), ``failures`` and ``interruptions`` (V2). The rounds of each walk through all
workloads, levels, calls and lines, so that after some hundred of them every single one has had its turn; what goes on
beside that is drawn at random. A finding is printed with the command that shows it again, and makes the program exit
with 1. ``tests.proof`` runs all of V with the same ``main``.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, product
from pathlib import Path
from random import Random
from time import perf_counter
from typing import NamedTuple

from .checks import Effort, Tally, crash, live, random_run
from .faults import CALLS, Interrupted, every_fault, fail, interrupt, pairs_of_faults
from .workloads import COMPACT_FROM, LEVELS, WORKLOADS, Finding, Step, around, random_step, start, surroundings

Figures = Counter[str]

_MOST_FINDINGS = 20
_WORKLOADS = list(product(WORKLOADS, LEVELS))
_CALLS = list(product(CALLS, LEVELS, (KeyboardInterrupt, MemoryError)))


# ---------------------------------------------------------------- the rounds


def crashes(seed: int, figures: Figures) -> None:
    """Some lives, one of the workloads, and one drawn at random: crashed everywhere, opened at any level."""
    random = Random(f"crashes {seed}")
    tally = Tally()
    name, level = _WORKLOADS[seed % len(_WORKLOADS)]
    thorough = name == "tiny" or seed // len(_WORKLOADS) % 4 == 3
    effort = Effort(samples=3, depth=4, deeper=0.01, most=30, thorough=thorough, probe=0.1 if thorough else 0.25)
    for number in range(12):
        live(12 * seed + number, tally)
    with around(name, seed):
        crash(start(name, level), tally, random, effort, level=random.choice((level, level, *LEVELS)))
    with surroundings(seed, compact_from=random.choice((None, 500, COMPACT_FROM))):
        run = random_run(random.choice(LEVELS), random)
        crash(run, tally, random, effort, level=random.choice((run.level, *LEVELS)))
    figures["states after crashes"] += tally.tried
    figures["of them after several crashes in a row"] += sum(tally.by_depth.values()) - tally.by_depth.get(1, 0)


def failures(seed: int, figures: Figures) -> None:
    """An eighth of all the ways in which one call of a workload can fail, and some pairs; and steps drawn at random."""
    random = Random(f"failures {seed}")
    tally = Tally()
    name, level = _WORKLOADS[seed % len(_WORKLOADS)]
    with around(name, mapped=seed % 2 == 0):
        plans = list(islice(every_fault(name, level), seed // len(_WORKLOADS) % 8, None, 8))
        pairs = list(pairs_of_faults(name, level, random, 25))
    for plan in plans + pairs:
        with around(name, mapped=seed % 2 == 0):
            figures["calls that failed"] += fail(name, level, plan, tally, random)
    level = random.choice(LEVELS)
    with surroundings(seed, compact_from=500):
        steps = _hardy(random_run(level, random).steps)
    with surroundings(seed, compact_from=500):
        more = list(every_fault(steps, level))
        more = [*random.sample(more, min(20, len(more))), *pairs_of_faults(steps, level, random, 20)]
    for plan in more:
        with surroundings(seed, compact_from=500):
            figures["calls that failed"] += fail(steps, level, plan, tally, random)
    plans += more[:-20]
    pairs += more[-20:]
    figures["plans of one failing call"] += sum(not plan[0].sticky for plan in plans)
    figures["plans of calls that fail for good"] += sum(bool(plan[0].sticky) for plan in plans)
    figures["plans of two failing calls"] += len(pairs)
    figures["states after failures"] += tally.tried


def _hardy(steps: list[Step]) -> list[Step]:
    """The same, but for what makes sense only if an earlier step was not refused."""
    return [
        ("batch", *_hardy(list(step[1:])))
        if step[0] == "batch"
        else ("set", *step[1:])
        if step[0] == "create"
        else step
        for step in steps
        if step[0] != "item_ttl"
    ]


def interruptions(seed: int, figures: Figures) -> None:
    """A fourth of the lines of one call, also behind a failure, and of a step drawn at random: exceptions there."""
    random = Random(f"interruptions {seed}")
    tally = Tally()
    name, level, raising = _CALLS[seed % len(_CALLS)]
    at = 1 + seed // len(_CALLS) % 4
    while True:
        with surroundings(at, compact_from=300):
            if not interrupt(name, level, at, raising, tally, random):
                break
        figures["exceptions in mid-work"] += 1
        at += 4
    failing = 0
    while _behind_a_failure(seed, failing, tally, random, figures):
        failing += 1
    drawn = _random_interruption(random, seed)
    at = random.randrange(1, 12)
    while True:
        with surroundings(seed, compact_from=300):
            if not interrupt(drawn, random.choice(LEVELS), at, raising, tally, random):
                break
        figures["exceptions in mid-work"] += 1
        at += random.randrange(1, 24)
    figures["states after exceptions"] += tally.tried


def _behind_a_failure(seed: int, failing: int, tally: Tally, random: Random, figures: Figures) -> bool:
    """The same call, with what it asks of the disk failing at one place; whether it asks that often."""
    name, level, raising = _CALLS[seed % len(_CALLS)]
    first = at = 1 + seed // len(_CALLS) % 4
    while True:
        with surroundings(seed, compact_from=300):
            if not interrupt(name, level, at, raising, tally, random, failing=failing):
                return at > first
        figures["exceptions in mid-work"] += 1
        at += 4


def _random_interruption(random: Random, seed: int) -> Interrupted:
    """Steps drawn at random, the last of them to be interrupted."""
    with surroundings(seed, compact_from=300):
        compact_at = random.choice((None, 1.1))
        run = random_run("process", random, compact_at=compact_at, reopens=False)
        clock, model = run.clock(), run.model
        step = random_step(model, random, clock)
        while step[0] == "tick":
            step = random_step(model, random, clock)
    return Interrupted(run.steps[1:], step, compact_at)


class Part(NamedTuple):
    """One kind of rounds. ``round(seed, figures)`` counts what it did and raises what it found."""

    round: Callable[[int, Figures], None]
    share: float = 1.0  # of the time, beside those of the others


PARTS = {
    "crashes": Part(crashes, 2.0),
    "failures": Part(failures, 1.5),
    "interruptions": Part(interruptions),
}


# ---------------------------------------------------------------- the campaign


class Campaign:
    """Rounds of several parts, whose share of the time is kept; ``figures`` by part."""

    def __init__(self, parts: dict[str, Part], seed: int, program: str) -> None:
        self.figures: dict[str, Figures] = {name: Counter() for name in parts}
        self.rounds: Counter[str] = Counter()
        self.seconds: dict[str, float] = dict.fromkeys(parts, 0.0)
        self.findings = 0
        self._parts = parts
        self._seed = seed
        self._program = program

    def run(self, minutes: float, rounds: int | None = None) -> None:
        """Until the time is over, or each part has had so many rounds."""
        end = perf_counter() + 60 * minutes
        while perf_counter() < end and self.findings < _MOST_FINDINGS:
            waiting = [name for name in self._parts if rounds is None or self.rounds[name] < rounds]
            if not waiting:
                break
            self._round(min(waiting, key=lambda name: self.seconds[name] / self._parts[name].share))

    def _round(self, name: str) -> None:
        seed = self._seed + self.rounds[name]
        began = perf_counter()
        try:
            self._parts[name].round(seed, self.figures[name])
        except Exception as error:
            self.findings += 1
            print(f"FINDING in {name}, again by: {self._program} --only {name} --seed {seed} --rounds 1")
            if isinstance(error, Finding):
                print("\n".join([str(error), *getattr(error, "__notes__", ())]), flush=True)
            else:
                traceback.print_exception(error, file=sys.stdout)
        self.rounds[name] += 1
        self.seconds[name] += perf_counter() - began

    def report(self) -> Iterable[str]:
        """What was done, as the lines of a Markdown table, and what was found."""
        yield "| part | rounds | seeds | minutes | figures |"
        yield "|---|---:|---|---:|---|"
        for name, rounds in self.rounds.items():
            figures = ", ".join(f"{count:,} {what}" for what, count in self.figures[name].items())
            seeds = f"{self._seed} to {self._seed + rounds - 1}"
            yield f"| {name} | {rounds:,} | {seeds} | {self.seconds[name] / 60:.1f} | {figures} |"
        yield ""
        counted = [
            count for figures in self.figures.values() for what, count in figures.items() if what.startswith("states")
        ]
        minutes = sum(self.seconds.values()) / 60
        yield f"In {minutes:.0f} minutes {sum(counted):,} states after crashes and failures; {self.findings} findings."


def put_into_page(page: Path, mark: str, lines: Iterable[str]) -> None:
    """Replace what a page has between ``<!-- MARK -->`` and ``<!-- end of MARK -->``."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, found, rest = text.partition(begin)
    _, found_too, after = rest.partition(end)
    if not found or not found_too:
        raise ValueError(f"{page} has no place for the {mark}")
    page.write_text(before + begin + "\n".join(["", *lines, "", ""]) + end + after, encoding="utf-8")


def main(parts: dict[str, Part], program: str, description: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run a campaign as the command line says, print the report, and return the exit code: 1 if something was found."""
    parser = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=None, help="for how long (default: 1, or as --rounds takes)")
    parser.add_argument("--rounds", type=int, metavar="N", help="so many rounds of each part")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; the next ones count on from it")
    parser.add_argument("--only", choices=list(parts), action="append", help="this part; may be given several times")
    parser.add_argument("--page", type=Path, help="write the figures into this page as well")
    options = parser.parse_args(arguments)
    chosen = {name: part for name, part in parts.items() if options.only is None or name in options.only}
    campaign = Campaign(chosen, options.seed, program)
    minutes = options.minutes
    if minutes is None:
        minutes = 1.0 if options.rounds is None else 1e6
    silenced = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # of torn tails and failed compactions we know
    try:
        campaign.run(minutes, options.rounds)
    finally:
        logging.disable(silenced)
    report = list(campaign.report())
    print("\n".join(report))
    if options.page is not None:
        command = f"`{program} --minutes {minutes:g} --seed {options.seed}`:"
        put_into_page(options.page, "figures", [command, "", *report])
    return 1 if campaign.findings else 0


if __name__ == "__main__":
    sys.exit(main(PARTS, "python -m tests.crash.campaign", __doc__))

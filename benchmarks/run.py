"""``python -m benchmarks.run``: measure, show, and write the figures as JSON. README.md says what is measured how.

Without options: mapitem and the limits alone, in two minutes. ``--all``: everything. ``--targets``: what the table of
targets needs, and the table.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import engines, plans
from benchmarks.data import VALUES
from benchmarks.engines.base import Skip
from benchmarks.report import summary_tables
from benchmarks.result import Result, describe
from benchmarks.runner import Runner
from benchmarks.worker import PIECE_SECONDS
from benchmarks.workloads import WORKLOADS


def names_in(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a comma-separated list, each of which must be known."""
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are: {', '.join(known)}")
    return names


def plan_of(arguments: argparse.Namespace) -> plans.Plan:
    """What the command line asks for."""
    plan = plans.ALL if arguments.all else plans.TARGETS if arguments.targets else plans.OURS
    if arguments.engines is not None:
        # Asked for by name, an engine takes part wherever it can.
        names = names_in(arguments.engines, engines.NAMES)
        plan = plan._replace(
            engines=names, size_engines=names, thread_engines=names, sync_engines=names, expire_engines=names
        )
    if arguments.only is not None:
        plan = plan._replace(workloads=tuple(WORKLOADS), measures=plans.MEASURES)
        plan = plan.chosen(names_in(arguments.only, (*WORKLOADS, *plans.MEASURES)))
    if arguments.items is not None:
        sizes = tuple(map(int, arguments.items.split(",")))
        plan = plan._replace(items=sizes[0], sizes=sizes)
    if arguments.values is not None:
        kinds = names_in(arguments.values, VALUES)
        plan = plan._replace(values=tuple((kind, plan.items) for kind in kinds if kind != "small"))
    if arguments.repeat is not None:
        plan = plan._replace(repeat=arguments.repeat)
    if arguments.passes is not None:
        plan = plan._replace(passes=arguments.passes)
    return plan


def run(plan: plans.Plan, *, seed: int = 1, folder: Path | None = None, piece_seconds: float = PIECE_SECONDS) -> Result:
    """Carry the plan out, without the engines that cannot run here, and return what was measured."""
    began = time.perf_counter()
    able: list[str] = []
    skipped: dict[str, str] = {}
    for name in plan.engines:
        try:
            engines.engine_class(name).version()
            able.append(name)
        except Skip as reason:
            skipped[name] = str(reason)
            print(f"{name} is left out: {reason}")
    result = Result({**describe(able, seed), "skipped": skipped})
    with TemporaryDirectory(prefix="benchmarks-", dir=folder) as place:
        runner = Runner(Path(place), seed, piece_seconds)
        try:
            plans.carry_out(plan._replace(engines=tuple(able)), runner)
        except KeyboardInterrupt:
            runner.failures.append("interrupted: what was measured until then is here")
    runner.put_into(result)
    result.content |= {"seconds": round(time.perf_counter() - began, 1), "failures": runner.failures}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="every engine, about a quarter of an hour")
    which.add_argument("--targets", action="store_true", help="what the table of targets needs, and the table")
    parser.add_argument("--only", metavar="WORKLOADS", help="comma-separated names of workloads and measures")
    parser.add_argument("--engines", metavar="ENGINES", help="comma-separated names of engines")
    parser.add_argument("--items", metavar="NUMBERS", help="of items, comma-separated; the first is the main one")
    parser.add_argument("--values", metavar="KINDS", help=f"beside small, comma-separated, of {', '.join(VALUES[1:])}")
    parser.add_argument("--repeat", type=int, metavar="N", help="pieces of each workload in each pass")
    parser.add_argument("--passes", type=int, metavar="N", help="times that workloads begin anew, in new processes")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where stores are made (default: a temporary one)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the JSON goes")
    arguments = parser.parse_args()
    result = run(plan_of(arguments), seed=arguments.seed, folder=arguments.folder)
    if arguments.out is not None:
        result.write(arguments.out)
    print(summary_tables(result))
    if arguments.targets:
        from benchmarks.targets import table

        print(table(result))
    print(f"{result.content['seconds']} s" + (f", written to {arguments.out}" if arguments.out else ""))
    if result.content["failures"]:
        raise SystemExit(f"{len(result.content['failures'])} measurements failed")


if __name__ == "__main__":
    main()

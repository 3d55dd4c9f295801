"""Break the library in every small way, one at a time, and say which ways no test notices.

One process collects the tests and notes which lines each of them reaches. Then it forks a child for each mutant: the
child changes the function's code and runs the tests that reach the statement, those first that found the neighbours
out, until one fails. What acts only while a module is imported is imported anew, with the mutant in it. See README.md
beside this file; from the project's root::

    python -m tests.mutation.campaign [MODULE ...] [--sample N --seed N] [--jobs N]

Exits with 1 if a mutant survives that ``survivors.toml`` does not justify, or if it justifies what is gone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import resource
import select
import signal
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from shutil import rmtree
from tempfile import mkdtemp
from time import perf_counter, process_time
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings

from .mutants import UNCHANGED, CannotPatch, Mutant, MutantFinder, mutants_of, patch

PROJECT = Path(__file__).parents[2]
PACKAGE = "mapitem"
SURVIVORS = Path(__file__).with_name("survivors.toml")
MODULES = (
    "keyrange",
    "item",
    "limits",
    "engine",
    "state",
    "log",
    "memorylog",
    "preallocation",
    "newlog",
    "opening",
    "records",
)

# The tests of the modules by themselves: quick, and enough. Others can be named; those that start other processes or
# the command line do not see the mutant, and those of threads judge by luck.
_TESTS = ("keyrange", "rows", "limits", "records", "state", "engine", "log", "mapped", "opening")
# Tests near to a module come first. And what acts at import is tried with these alone, for they have to be collected
# anew for each such mutant.
_NEAR: dict[str, Sequence[str]] = {
    "keyrange": ("keyrange",),
    "item": ("rows", "records"),
    "limits": ("limits",),
    "engine": ("engine",),
    "state": ("state", "engine"),
    "log": ("log", "opening"),
    "memorylog": ("log",),
    "preallocation": ("mapped",),
    "newlog": ("log", "opening"),
    "opening": ("opening", "log"),
    "records": ("records", "engine"),
}
_LONGEST_TEST = 10.0  # seconds, noting what it reaches, of a test that is too slow to be run for each mutant
_MEMORY = 4 * 2**30


class Outcome(NamedTuple):
    """What became of a mutant: ``killed``, ``timeout``, ``survived`` or ``unreached``, and by which test."""

    verdict: str
    test: str | None
    tests_run: int


# ---------------------------------------------------------------- justified survivors


class Justified(NamedTuple):
    """A line of ``survivors.toml``."""

    module: str
    function: str
    line: str
    changes: tuple[str, ...]
    why: str


def justified() -> list[Justified]:
    with SURVIVORS.open("rb") as file:
        tables: dict[str, list[dict[str, Any]]] = tomllib.load(file)
    return [
        Justified(module, entry["in"], entry["line"], tuple(entry["changes"]), entry["why"])
        for module, entries in tables.items()
        for entry in entries
    ]


def path_of(module: str) -> Path:
    return PROJECT / PACKAGE / f"{module}.py"


# ---------------------------------------------------------------- which test reaches which line


class Tracer:
    """Notes the lines of some files that are executed. A function that shows nothing new for long is let go."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files = {str(path): path.stem for path in paths}
        self._calls: Counter[CodeType] = Counter()
        self.lines: set[tuple[str, int]] = set()

    def start(self) -> None:
        self._calls.clear()
        self.lines = set()
        sys.settrace(self)

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        module = self._files.get(code.co_filename)
        if module is None:
            return None
        self._calls[code] += 1
        if self._calls[code] > 1000:
            return None
        lines = self.lines

        def line(frame: FrameType, event: str, argument: object) -> Any:
            if event == "line":
                lines.add((module, frame.f_lineno))
            return line

        return line


class Reach(NamedTuple):
    """What a test reaches, in how many seconds. ``None``: it has a tracer of its own, and may reach all."""

    seconds: float
    lines: frozenset[tuple[str, int]] | None


def lines_at_import() -> set[tuple[str, int]]:
    """The lines that are executed when the package is imported."""

    def look() -> set[tuple[str, int]]:
        tracer = Tracer(map(path_of, MODULES))
        tracer.start()
        for module in MODULES:
            importlib.import_module(f"{PACKAGE}.{module}")
        sys.settrace(None)
        return tracer.lines

    return in_child(look)


def in_child(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, done in a fork."""
    return begin_in_child(work)()


def begin_in_child(work: Callable[[], Any]) -> Callable[[], Any]:
    """Have a fork do something; call what comes back for what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            answer = pickle.dumps(work())
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)
    os.close(writing)

    def wait() -> Any:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        return pickle.loads(answer)

    return wait


# ---------------------------------------------------------------- the tests, in a process that has collected them


class Session:
    """A pytest plugin that runs mutants in place of the tests."""

    def __init__(self, mutants: list[Mutant], jobs: int, folder: Path, cache: Path | None, patience: float) -> None:
        self._mutants = mutants
        self._jobs = jobs
        self._folder = folder
        self._cache = cache
        self._patience = patience
        self._items: list[pytest.Item] = []
        self._reach: dict[str, Reach] = {}
        self._kills: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._has_failed = False
        self.controls: list[tuple[Mutant, Outcome]] = []
        self.outcomes: list[tuple[Mutant, Outcome]] = []
        self.at_import: list[Mutant] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._has_failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = session.items
        self._learn_reach()
        self._run_all([unchanged(module) for module in sorted({mutant.module for mutant in self._mutants})])
        self.controls, self.outcomes = self.outcomes, []
        if all(outcome.verdict == "survived" for _, outcome in self.controls):
            self._run_all(self._mutants)
        return True

    # ------------------------------------------------------------ what each test reaches

    def _learn_reach(self) -> None:
        by_file: defaultdict[Path, list[pytest.Item]] = defaultdict(list)
        for item in self._items:
            by_file[item.path].append(item)
        known: dict[str, dict[str, Reach]] = {}
        if self._cache and self._cache.exists():
            known = pickle.loads(self._cache.read_bytes())
        keys = {}
        for path in by_file:
            sources = [path, PROJECT / "tests" / "conftest.py", *map(path_of, MODULES)]
            keys[path] = sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
        new = sorted((path for path in by_file if keys[path] not in known), key=lambda path: -len(by_file[path]))

        def trace(paths: list[Path]) -> dict[str, dict[str, Reach]]:
            become_child()
            return {keys[path]: self._trace(by_file[path]) for path in paths}

        print(f"  noting what the tests of {len(new)} of {len(by_file)} files reach", flush=True)
        parts = [new[start :: self._jobs] for start in range(self._jobs)]
        for answer in [begin_in_child(lambda part=part: trace(part)) for part in parts]:  # type: ignore[misc]
            known.update(answer())
        if self._cache:
            self._cache.write_bytes(pickle.dumps(known))
        for path in by_file:
            self._reach.update(known[keys[path]])

    def _trace(self, items: list[pytest.Item]) -> dict[str, Reach]:
        tracer = Tracer(map(path_of, MODULES))
        found = {}
        for item, following in _pairs(items):
            self._has_failed = False
            began = process_time()
            tracer.start()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            is_ours = sys.gettrace() is tracer
            sys.settrace(None)
            if not self._has_failed:
                found[item.nodeid] = Reach(process_time() - began, frozenset(tracer.lines) if is_ours else None)
        return found

    # ------------------------------------------------------------ one mutant after the other

    def _run_all(self, mutants: list[Mutant]) -> None:
        running: dict[int, _Run] = {}
        waiting = iter(mutants)
        began = perf_counter()
        is_over = False
        while running or not is_over:
            while len(running) < self._jobs and not is_over:
                mutant = next(waiting, None)
                if mutant is None:
                    is_over = True
                elif tests := self._tests_for(mutant):
                    run = self._start(mutant, tests)
                    running[run.pipe] = run
                else:
                    self._note(mutant, Outcome("unreached", None, 0), began)
            if not running:
                continue
            ready, _, _ = select.select(list(running), [], [], 0.2)
            for pipe, run in list(running.items()):
                outcome = run.look(pipe in ready)
                if outcome is None:
                    continue
                del running[pipe]
                rmtree(run.folder, ignore_errors=True)
                if outcome.verdict == "unpatched":
                    self.at_import.append(run.mutant)
                else:
                    self._note(run.mutant, outcome, began)

    def _note(self, mutant: Mutant, outcome: Outcome, began: float) -> None:
        self.outcomes.append((mutant, outcome))
        if outcome.test:
            self._kills[mutant.module, mutant.function][outcome.test] += 1
            self._kills[mutant.module, ""][outcome.test] += 1
        if mutant.index != UNCHANGED:
            report_progress(mutant, outcome, len(self.outcomes), len(self._mutants), began)

    def _tests_for(self, mutant: Mutant) -> list[pytest.Item]:
        """The tests that reach a mutant, the telling and the quick first, and not all forms of one test at once."""
        wanted = {(mutant.module, line) for line in mutant.lines}
        here = self._kills[mutant.module, mutant.function]
        near = self._kills[mutant.module, ""]
        own = {Path(path) for path in test_paths(_NEAR[mutant.module])}
        costs: list[tuple[float, int]] = []
        for number, item in enumerate(self._items):
            reach = self._reach.get(item.nodeid)
            if reach is None or reach.seconds > _LONGEST_TEST:
                continue
            if reach.lines is None or not wanted.isdisjoint(reach.lines):
                merit = 1 + 20 * here[item.nodeid] + near[item.nodeid] + 20 * (item.path in own)
                costs.append(((reach.seconds + 0.005) / merit, number))
        forms: Counter[str] = Counter()
        order: list[tuple[float, int]] = []
        for cost, number in sorted(costs):
            function = self._items[number].nodeid.partition("[")[0]
            forms[function] += 1
            order.append((cost * forms[function], number))
        chosen: list[pytest.Item] = []
        seconds = 0.0
        for _, number in sorted(order):
            seconds += self._reach[self._items[number].nodeid].seconds
            if chosen and seconds > self._patience and mutant.index != UNCHANGED:
                break
            chosen.append(self._items[number])
        return chosen

    def _start(self, mutant: Mutant, tests: list[pytest.Item]) -> _Run:
        reading, writing = os.pipe()
        folder = Path(mkdtemp(dir=self._folder))
        child = os.fork()
        if not child:
            try:
                os.close(reading)
                self._be_mutant(mutant, tests, writing, folder)
            finally:
                os._exit(1)
        os.close(writing)
        return _Run(mutant, tests, [self._reach[test.nodeid].seconds for test in tests], child, reading, folder)

    def _be_mutant(self, mutant: Mutant, tests: list[pytest.Item], pipe: int, folder: Path) -> None:
        become_child()
        tests[0].config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
        try:
            if mutant.index != UNCHANGED:
                patch(path_of(mutant.module), mutant)
        except CannotPatch:
            os.write(pipe, _say(_UNPATCHED))
            os._exit(0)
        for number, (item, following) in enumerate(_pairs(tests)):
            os.write(pipe, _say(number))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._has_failed:
                os.write(pipe, _say(_KILLED))
                os._exit(0)
        os.write(pipe, _say(_SURVIVED))
        os._exit(0)


def become_child() -> None:
    """Say nothing, take no more memory than is decent, and be a group that can be ended."""
    os.setpgid(0, 0)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


_UNPATCHED, _KILLED, _SURVIVED = 2**31 - 1, 2**31 - 2, 2**31 - 3


def _say(number: int) -> bytes:
    return number.to_bytes(4, "big")


class _Run:
    """A mutant that is being tested in a child."""

    def __init__(
        self, mutant: Mutant, tests: list[pytest.Item], seconds: list[float], child: int, pipe: int, folder: Path
    ) -> None:
        self.mutant = mutant
        self.pipe = pipe
        self.folder = folder
        self._tests = [test.nodeid for test in tests]
        self._seconds = seconds
        self._child = child
        self._at = 0
        self._deadline = perf_counter() + 20

    def look(self, is_ready: bool) -> Outcome | None:
        """The outcome, once there is one."""
        if not is_ready:
            if perf_counter() < self._deadline:
                return None
            return self._end("timeout")
        said = os.read(self.pipe, 4096)
        for start in range(0, len(said), 4):
            number = int.from_bytes(said[start : start + 4], "big")
            if number == _UNPATCHED:
                return self._end("unpatched")
            if number == _SURVIVED:
                return self._end("survived")
            if number == _KILLED:
                return self._end("killed")
            self._at = number
            self._deadline = perf_counter() + 5 + 20 * self._seconds[number]
        # Without a last word it died of the mutant: of memory, or of a signal.
        return None if said else self._end("killed")

    def _end(self, verdict: str) -> Outcome:
        end_group(self._child)
        os.close(self.pipe)
        test = self._tests[self._at] if verdict in ("killed", "timeout") else None
        return Outcome(verdict, test, self._at + 1)


def end_group(child: int) -> None:
    """End a child of ours and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _pairs(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    return zip(items, [*items[1:], None], strict=True)


# ---------------------------------------------------------------- what acts at import


def run_at_import(mutant: Mutant, folder: Path) -> Outcome:
    """The same in a process that has not imported the package yet."""
    base = Path(mkdtemp(dir=folder))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            become_child()
            MutantFinder(PACKAGE, mutant, path_of(mutant.module)).install()
            first = _First()
            names = test_paths(_NEAR[mutant.module])
            # Even an error of collection, as when the import fails, is a failure.
            code = pytest.main([*_options(base), "-x", *names], plugins=[first])
            os.write(writing, b"survived" if code == 0 else (first.test or "import").encode())
        finally:
            os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], 300)
    said = os.read(reading, 4096).decode() if ready else ""
    end_group(child)
    os.close(reading)
    rmtree(base, ignore_errors=True)
    if said == "survived":
        return Outcome("survived", None, 0)
    return Outcome("killed" if ready else "timeout", said or None, 0)


def unchanged(module: str) -> Mutant:
    """The module as it is: what is tried first, as a control, with every test that reaches any of it."""
    return Mutant(module, "", "", "nothing", UNCHANGED, range(1, 10_000), at_import=False)


def check_control(outcomes: list[tuple[Mutant, Outcome]]) -> None:
    """No test may find out what was not changed: it would find out every mutant."""
    for control, outcome in outcomes:
        if outcome.verdict != "survived":
            sys.exit(
                f"{control.module}, as it is, was {outcome.verdict} by {outcome.test}: nothing can be said of mutants"
            )


def run_all_at_import(mutants: list[Mutant], folder: Path) -> list[tuple[Mutant, Outcome]]:
    outcomes = []
    began = perf_counter()
    for number, mutant in enumerate(mutants, 1):
        outcome = run_at_import(mutant, folder)
        outcomes.append((mutant, outcome))
        report_progress(mutant, outcome, number, len(mutants), began)
    return outcomes


class _First:
    """Remembers the first test that fails."""

    test: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.test is None:
            self.test = report.nodeid


def test_paths(names: Iterable[str]) -> list[str]:
    paths = [PROJECT / "tests" / f"test_{name}.py" for name in names]
    return [str(path) for path in paths if path.exists()]


def _options(base: Path) -> list[str]:
    # No traceback is made and nothing is captured: that costs more than most of the tests.
    quiet = [
        "-q",
        "-s",
        "--tb=no",
        "--no-header",
        "--no-summary",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
    ]
    return [*quiet, f"--rootdir={PROJECT}", f"--basetemp={base}", "-o", "tmp_path_retention_policy=failed"]


# ---------------------------------------------------------------- the campaign


def report_progress(mutant: Mutant, outcome: Outcome, done: int, of: int, began: float) -> None:
    if outcome.verdict in ("survived", "unreached"):
        print(f"  {outcome.verdict}: {mutant.module}:{mutant.function} | {mutant.line} | {mutant.change}", flush=True)
    if done % 50 == 0:
        print(f"  {done} of {of} after {perf_counter() - began:.0f} s", flush=True)


def campaign(
    mutants: list[Mutant], tests: Sequence[str], jobs: int, cache: Path | None, patience: float
) -> list[tuple[Mutant, Outcome]]:
    """The outcome of each mutant."""
    folder = Path(mkdtemp(prefix="mapitem-mutation-"))
    try:
        early = lines_at_import()
        at_import = [m for m in mutants if m.at_import or any((m.module, line) in early for line in m.lines)]
        later = [m for m in mutants if m not in set(at_import)]

        def session() -> tuple[list[tuple[Mutant, Outcome]], list[tuple[Mutant, Outcome]], list[Mutant]]:
            plugin = Session(later, jobs, folder, cache, patience)
            pytest.main([*_options(folder / "collection"), *test_paths(tests)], plugins=[plugin])
            return plugin.controls, plugin.outcomes, plugin.at_import

        controls, outcomes, unpatched = in_child(session) if later else ([], [], [])
        check_control(controls)
        at_import += unpatched
        print(f"{len(at_import)} mutants that act at import", flush=True)
        again = [unchanged(module) for module in sorted({mutant.module for mutant in at_import})]
        check_control([(control, run_at_import(control, folder)) for control in again])
        parts = [at_import[start::jobs] for start in range(jobs)]
        for answer in [begin_in_child(lambda part=part: run_all_at_import(part, folder)) for part in parts]:  # type: ignore[misc]
            outcomes += answer()
        return outcomes
    finally:
        rmtree(folder, ignore_errors=True)


def table(outcomes: list[tuple[Mutant, Outcome]], excused: set[tuple[str, str, str, str]]) -> str:
    """The score by module, as Markdown."""
    rows: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for mutant, outcome in outcomes:
        for name in (mutant.module, "**all**"):
            row = rows[name]
            row["mutants"] += 1
            row[outcome.verdict] += 1
            if outcome.verdict in ("survived", "unreached"):
                row["justified" if mutant.name in excused else "unjustified"] += 1
    lines = [
        "| module | mutants | killed | of these by time-out | survived, justified | survived, unjustified | score |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in [*MODULES, "**all**"]:
        if row := rows.get(name):
            killed = row["killed"] + row["timeout"]
            cells = (row["mutants"], killed, row["timeout"], row["justified"], row["unjustified"])
            lines.append(f"| {name} | {' | '.join(map(str, cells))} | {100 * killed / row['mutants']:.1f} % |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: {' '.join(MODULES)}")
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants of each module, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutants at the same time (default: 2)")
    parser.add_argument("--examples", type=int, default=30, metavar="N", help="of each property (default: 30)")
    parser.add_argument("--patience", type=float, default=10, metavar="S", help="seconds of tests for a mutant")
    parser.add_argument(
        "--tests", nargs="+", default=_TESTS, metavar="NAME", help="test files, as pages for test_pages.py"
    )
    parser.add_argument("--function", metavar="NAME", help='only those of this function, or with "" of none')
    parser.add_argument("--survivors-of", type=Path, metavar="FILE", help="only those that survived in this report")
    parser.add_argument("--reach", type=Path, metavar="FILE", help="keep here which test reaches which line")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write every outcome here, as JSON")
    arguments = parser.parse_args()
    for module in arguments.modules:
        if module not in MODULES:
            parser.error(f"no module {module!r}")

    if os.environ.get("PYTHONHASHSEED") != "0":  # the same order of sets each time
        os.execve(
            sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"}
        )
    os.chdir(PROJECT)
    os.environ["HYPOTHESIS_PROFILE"] = "mutation"
    settings.register_profile(
        "mutation",
        max_examples=arguments.examples,
        deadline=None,
        derandomize=True,
        # Whoever counts failures has no use for a small one.
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    began = perf_counter()
    chosen: list[Mutant] = []
    for module in arguments.modules or MODULES:
        mutants = mutants_of(module, path_of(module))
        if arguments.function is not None:
            mutants = [mutant for mutant in mutants if mutant.function == arguments.function]
        if arguments.sample is not None and arguments.sample < len(mutants):
            mutants = Random(f"{arguments.seed} {module}").sample(mutants, arguments.sample)
        chosen += mutants
    if arguments.survivors_of:
        report = json.loads(arguments.survivors_of.read_text())
        survived = {tuple(entry["name"]) for entry in report if entry["verdict"] in ("survived", "unreached")}
        chosen = [mutant for mutant in chosen if mutant.name in survived]
    print(f"{len(chosen)} mutants", flush=True)
    outcomes = campaign(chosen, arguments.tests, arguments.jobs, arguments.reach, arguments.patience)

    excused = {(entry.module, entry.function, entry.line, change) for entry in justified() for change in entry.changes}
    if arguments.report:
        entries = [{"name": mutant.name, **outcome._asdict()} for mutant, outcome in outcomes]
        arguments.report.write_text(json.dumps(entries, indent=1, ensure_ascii=False))
    for mutant, outcome in outcomes:
        if outcome.verdict in ("killed", "timeout") and mutant.name in excused:
            print(f"justified, and yet killed by {outcome.test}: {' | '.join(mutant.name)}")
    print(table(outcomes, excused))
    print(f"{perf_counter() - began:.0f} s")
    known = {mutant.name for module in MODULES for mutant in mutants_of(module, path_of(module))}
    stale = sorted(excused - known)
    for name in stale:
        print(f"justified, and no mutant any more: {' | '.join(name)}")
    bad = [m for m, outcome in outcomes if outcome.verdict in ("survived", "unreached") and m.name not in excused]
    for mutant in bad:
        print(f"unjustified: {' | '.join(mutant.name)}")
    return 1 if bad or stale else 0


if __name__ == "__main__":
    sys.exit(main())

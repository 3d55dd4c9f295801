"""How long ``import mapitem`` takes, beside ``import sortedcontainers, msgpack``, which it cannot do without.

Run ``python benchmarks/import_time.py``. Each import is timed in an interpreter of its own, from the inside, so
that the start of Python is not counted; the two take turns, so that a busy spell of the machine hits both. What
is compared are medians. The target is a ratio below 1.5.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
BASE = "sortedcontainers, msgpack"
OURS = "mapitem"
TARGET = 1.5


def import_seconds(modules: str, bytecode: str) -> float:
    """The seconds that ``import modules`` takes in a fresh interpreter that finds its bytecode in that folder."""
    code = f"from time import perf_counter as now\nbegan = now()\nimport {modules}\nprint(now() - began)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # One folder of bytecode for both: where an environment forbids to write it, ours would be compiled at each run.
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    # In the project's folder, so that it is this tree's mapitem that is timed, installed or not.
    command = [sys.executable, "-c", code]
    child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return float(child.stdout)


def compare(repeats: int) -> tuple[float, float]:
    """The median seconds of the base and of ours, over ``repeats`` interleaved runs of each."""
    with TemporaryDirectory() as bytecode:
        for modules in (BASE, OURS):
            import_seconds(modules, bytecode)  # writes the bytecode and warms the page cache
        pairs = [(import_seconds(BASE, bytecode), import_seconds(OURS, bytecode)) for _ in range(repeats)]
    return median(base for base, _ in pairs), median(ours for _, ours in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=31, metavar="N", help="runs of each (default: 31)")
    repeats = parser.parse_args().repeats
    base, ours = compare(repeats)
    print(f"CPython {platform.python_version()}, {platform.machine()}, medians of {repeats} interleaved runs")
    print(f"  import {BASE:<28} {base * 1000:7.2f} ms")
    print(f"  import {OURS:<28} {ours * 1000:7.2f} ms")
    print(f"  ratio {ours / base:.2f} (target: below {TARGET})")


if __name__ == "__main__":
    main()

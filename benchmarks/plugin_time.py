"""What having mapitem installed adds to the start of pytest, and to ``import hypothesis``, where neither uses it.

Run ``python benchmarks/plugin_time.py`` in an environment in which mapitem is installed with its extra ``testing``.
Each run is an interpreter of its own, which tells the processor time that it took. Timed are whole runs of pytest on
one test that has nothing to do with mapitem, with the plugin and with ``-p no:mapitem``, in turns; and, since so small
a difference drowns in the noise of whole runs, what is done on top alone: import and registration of pytest's plugin
(target: below 2 ms), and of Hypothesis's, most of which is a room of Hypothesis that it imports itself as soon as
somebody asks it for a type. Told are the fastest of the whole runs, and medians of the rest.
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

TARGET_MS = 2.0

RUN = """
from time import process_time as now
import contextlib, io, sys
import pytest
with contextlib.redirect_stdout(io.StringIO()):
    code = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]])
print(now() * 1000)
assert code == 0 and "mapitem" not in sys.modules
"""
ALONE = """
from time import process_time as now
import pytest
from _pytest.config import get_config
config = get_config()
manager = config.pluginmanager
began = now()
import _mapitem_pytest
manager.register(_mapitem_pytest, "mapitem")
print((now() - began) * 1000)
"""
HYPOTHESIS = """
from time import process_time as now
import sys
import hypothesis
began = now()
import _mapitem_hypothesis
_mapitem_hypothesis.register()
print((now() - began) * 1000)
assert "mapitem" not in sys.modules
"""


def milliseconds(code: str, folder: str, *arguments: str, **variables: str) -> float:
    """What ``code`` prints in an interpreter of its own that is started in ``folder``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    environment = {**kept, "PYTHONPYCACHEPREFIX": os.path.join(folder, "bytecode"), **variables}
    command = [sys.executable, "-c", code, *arguments]
    child = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return float(child.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=31, metavar="N", help="runs of each (default: 31)")
    repeats = parser.parse_args().repeats
    with TemporaryDirectory() as folder:
        Path(folder, "test_nothing.py").write_text("def test_nothing():\n    pass\n", encoding="utf-8")

        def start(*arguments: str) -> float:
            return milliseconds(RUN, folder, *arguments)

        def alone() -> float:
            return milliseconds(HYPOTHESIS, folder, HYPOTHESIS_NO_PLUGINS="1")

        start(), start("-p", "no:mapitem"), milliseconds(ALONE, folder), alone()  # writes the bytecode
        pairs = [(start("-p", "no:mapitem"), start()) for _ in range(repeats)]
        plugin = median(milliseconds(ALONE, folder) for _ in range(repeats))
        entry_point = median(alone() for _ in range(repeats))
    # The fastest of each: what a busy machine adds to processor time is all noise, and it only ever adds.
    without, with_ours = min(base for base, _ in pairs), min(ours for _, ours in pairs)
    difference = f"difference {with_ours - without:+.1f} ms"
    print(f"CPython {platform.python_version()}, {platform.machine()}, {repeats} interleaved runs")
    print(f"  a run of pytest, the fastest: without {without:.1f} ms, with {with_ours:.1f} ms, {difference}")
    print(f"  the plugin of pytest alone      {plugin:6.2f} ms (target: below {TARGET_MS:g} ms)")
    print(f"  the plugin of Hypothesis alone  {entry_point:6.2f} ms")


if __name__ == "__main__":
    main()

"""The JSON of a run: where it ran, and one figure for each engine, workload, number of items and kind of value."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.engines import engine_class

ROOT = Path(__file__).resolve().parent.parent


def describe(engines: list[str], seed: int) -> dict[str, Any]:
    """The machine, the versions and the moment."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "seed": seed,
        "command": " ".join(["python -m benchmarks.run", *sys.argv[1:]]),
        "engines": {
            name: {"version": (cls := engine_class(name)).version(), "durability": cls.durability, "clock": cls.clock}
            for name in engines
        },
    }


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


class Result:
    """A run's figures, to be looked up."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        content.setdefault("figures", [])

    @classmethod
    def read(cls, path: Path) -> Result:
        return cls(json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.content, indent=1) + "\n")

    @property
    def figures(self) -> list[dict[str, Any]]:
        """One for each engine, workload, number of items and kind of value."""
        found: list[dict[str, Any]] = self.content["figures"]
        return found

    def add(self, engine: str, workload: str, items: int, kind: str, figures: dict[str, Any]) -> None:
        """Note what was measured."""
        self.figures.append({"engine": engine, "workload": workload, "items": items, "value": kind, **figures})

    def find(self, engine: str, workload: str, items: int | None = None, kind: str = "small") -> dict[str, Any] | None:
        """One measurement, or ``None`` if it was not made; without ``items`` the first of any number."""
        for figures in self.figures:
            if (figures["engine"], figures["workload"], figures["value"]) == (engine, workload, kind) and (
                items is None or figures["items"] == items
            ):
                return figures
        return None

    def value(self, engine: str, workload: str, label: str, items: int | None = None) -> float | None:
        """The median of one of a measure's numbers, or ``None``."""
        found = self.find(engine, workload, items)
        return None if found is None or "values" not in found else float(found["values"][label]["median"])

"""README.md is a promise: its first program runs as pasted, and what it names is there.

Its other examples, those with ``>>>``, are doctests and run with the rest.
"""

from __future__ import annotations

import builtins
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mapitem
from mapitem import Map, Store

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = ["README.md", "CHANGELOG.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    """The fenced blocks of README.md in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_run_the_first_program_as_pasted(tmp_path: Path) -> None:
    """The first program runs in an empty folder, twice, and prints what the comments beside its lines say."""
    program = blocks("python")[0]
    assert ">>>" not in program
    expected = [line.partition("  # ")[2] for line in program.splitlines() if " print(" in f" {line}"]
    assert len(expected) >= 3
    for _ in range(2):
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"
        command = [sys.executable, "-W", "error", "-c", code]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines() == expected


def test_give_each_command_whole() -> None:
    """Either command begins with a new environment and is one whole line, the very one that .ci/run takes."""
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
    assert [command.rpartition("/python -m ")[2] for command in commands] == ["mapitem demo", "pytest"]
    assert all("pip install -q" in command for command in commands)


def test_name_extras_that_exist() -> None:
    """Every extra that README.md tells to install is one of the project's."""
    named = re.findall(r"(?:mapitem|\.)\[(\w+)\]", README)
    assert named
    assert set(named) <= set(PROJECT["optional-dependencies"])


def test_name_verbs_that_exist() -> None:
    """Every ``store.verb`` and ``map.verb`` of Python that README.md names is one of ``Store`` or ``Map``."""
    # Verbs in camelCase are the JavaScript SDK's, and map.py is a file.
    named = re.findall(r"\b(store|map)\.(?!py\b)([a-z_]+)\b", README)
    assert len(named) > 20
    kinds = {"store": Store, "map": Map}
    assert not [f"{kind}.{verb}" for kind, verb in named if not hasattr(kinds[kind], verb)]


def test_name_errors_that_exist() -> None:
    """Every error that the section on errors names is importable from ``mapitem``, or Python's own."""
    section = README.partition("\n### Errors\n")[2].partition("\n## ")[0]
    named = re.findall(r"`([A-Z]\w+)`", section)
    assert len(named) > 10
    assert not [name for name in named if not hasattr(mapitem, name) and not hasattr(builtins, name)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_link_to_files_that_exist(document: str) -> None:
    """No link within the project is broken, and no file is missing that is named in code font by its path."""
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in target]
    assert not [target for target in links if not (path.parent / target).exists()]
    files = re.findall(r"`((?:mapitem|tests|docs|benchmarks)/[\w./-]+)`", text)
    assert not [target for target in files if not (ROOT / target).exists()]

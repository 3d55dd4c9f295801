"""The types that users meet: ``tests/typing`` is judged by mypy, strictly, as the project itself configures it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "tests" / "typing"

pytest.importorskip("mypy", reason="mypy is not installed: it comes with the extra 'test'")


def mypy(path: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """A run over one file. In the project's folder, so that it reads the configuration and this very package."""
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), "--no-pretty", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_judge_every_call_of_the_public_api(cache: Path) -> None:
    """Each call in ``api.py`` has the type stated there, and none of them is ``Any``."""
    result = mypy(EXAMPLES / "api.py", cache)
    assert result.returncode == 0, result.stdout + result.stderr


def test_refuse_every_mistake(cache: Path, tmp_path: Path) -> None:
    """Each line of ``mistakes.py`` that is said to be wrong is refused, for that reason, and no other line is."""
    source = (EXAMPLES / "mistakes.py").read_text(encoding="utf-8")
    said = {number for number, line in enumerate(source.splitlines(), 1) if "# type: ignore[" in line}
    assert mypy(EXAMPLES / "mistakes.py", cache).returncode == 0
    bare = tmp_path / "mistakes.py"
    bare.write_text(source.replace("# type: ignore[", "# was: ["), encoding="utf-8")
    found = mypy(bare, cache).stdout.splitlines()
    assert {int(line.split(":")[1]) for line in found if ": error:" in line} == said

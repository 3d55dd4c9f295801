"""docs/twilio.md is a promise: its programs run as they stand. Its examples with ``>>>`` are doctests.

And what it says of installing: nothing is asked for before it is used, and what is missing is named.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import serving

from mapitem import Store

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "twilio.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of the guide in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def test_run_the_tests_of_the_guide(tmp_path: Path) -> None:
    """The guide's tests run as pasted, each in a file of its own, with nothing but the plugin's fixtures."""
    programs = blocks("python")
    for number, program in enumerate(programs):
        (tmp_path / f"test_{number}.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(programs)} passed" in result.stdout


def test_run_the_lines_for_node(node: Path, store: Store) -> None:
    """The five lines for Node.js run as they stand but for the port; the two of ``redirect.js`` are those we run."""
    program, redirect = blocks("js")
    assert len(program.splitlines()) == 5
    assert redirect == (Path(__file__).parent / "node" / "redirect.js").read_text(encoding="utf-8")
    with serving(store) as url:
        program = program.replace("http://127.0.0.1:8080", url)
        command = ["node", "-e", program]
        result = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert "data: { level: 30 }" in result.stdout
    assert store.open_map("users")["taylor"].data == {"level": 30}


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("LocalHttpClient", "twilio", "twilio"),
        ("LocalHttpClient", "requests", "twilio"),
        ("AsyncLocalHttpClient", "twilio", "twilio"),
        ("local_client", "twilio", "twilio"),
        ("app", "starlette", "server"),
    ],
)
def test_name_the_extra_that_is_missing(name: str, package: str, extra: str) -> None:
    """``import mapitem.twilio`` needs no extra; what does names the one it needs."""
    code = f"""
import sys
sys.modules[{package!r}] = None
import mapitem.twilio
assert not {{"twilio", "starlette", "uvicorn", "requests"}} & {{each for each in sys.modules if sys.modules[each]}}
try:
    mapitem.twilio.{name}
except ModuleNotFoundError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert f"pip install 'mapitem[{extra}]'" in result.stdout, result.stderr


def test_name_the_extra_that_the_command_misses() -> None:
    """``mapitem serve`` without the server's packages ends with one line and an exit code, and makes no file."""
    for package in ("starlette", "uvicorn"):
        code = f"import sys; sys.modules[{package!r}] = None; from mapitem.cli import main; main(['serve', '--memory'])"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert result.returncode != 0
        assert "pip install 'mapitem[server]'" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_have_no_other_names() -> None:
    """``mapitem.twilio`` has the names that it lists, and says so of others."""
    import mapitem.twilio

    assert all(hasattr(mapitem.twilio, name) for name in dir(mapitem.twilio))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mapitem.twilio.nothing

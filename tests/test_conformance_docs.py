"""docs/conformance.md is enough for a stranger: its example runs as pasted, and what it says of the kit is so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from conformance.faults import FAULTS, SOURCE
from conformance.faults import __file__ as faults_file

from mapitem.testing.conformance import Capabilities, Conformance
from mapitem.testing.conformance.kit import Adapter

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def block_with(start: str, language: str = "python") -> str:
    (found,) = (block for block in blocks(language) if block.startswith(start))
    return found


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the two files of the example, as pasted but for fewer stories."""
    (tmp_path / "notes.py").write_text(block_with("# notes.py"), encoding="utf-8")
    test = block_with("# test_notes.py").replace("    capabilities", "    max_examples = 60\n\n    capabilities")
    (tmp_path / "test_notes.py").write_text(test, encoding="utf-8")
    return tmp_path


def test_run_the_example(folder: Path) -> None:
    """The example passes, and its report is the one on the page; as JSON it says the same."""
    result = run_pytest(folder, "-p", "mapitem.testing.parity", "--mapitem-parity=parity.json", "test_notes.py")
    assert result.returncode == 0, result.stdout
    shown = [line for line in block_with("TestNotes: ", "text").splitlines() if line != "…"]
    assert len(shown) > 4
    assert [line for line in shown if line not in result.stdout.splitlines()] == []
    (report,) = json.loads((folder / "parity.json").read_text(encoding="utf-8"))
    assert report["store"] == "TestNotes"
    assert report["rules"]["K3"] == {"outcome": "passed", "reasons": ["declares no `prefix`"]}
    assert report["rules"]["W3"] == {"outcome": "skipped", "reasons": ["declares no `update`"]}
    assert len(report["checks"]) > 180
    assert {check["outcome"] for check in report["checks"]} == {"passed", "skipped"}


def test_make_the_mistake(folder: Path) -> None:
    """With the mistake of which the page tells, it fails with the lines that the page shows, and the report says so."""
    source = (folder / "notes.py").read_text(encoding="utf-8")
    assert source.count("key <= from_") == 1
    (folder / "notes.py").write_text(source.replace("key <= from_", "key < from_"), encoding="utf-8")
    plugins = ["-p", "mapitem.testing.parity", "-p", "_hypothesis_pytestplugin", "--hypothesis-seed=0"]
    result = run_pytest(folder, *plugins, "-k", "TestReading or TestModel", "test_notes.py")
    assert result.returncode == 1, result.stdout
    told = [re.sub(r"^E +", "", line).strip() for line in result.stdout.splitlines() if line.startswith("E ")]
    told = [line.removeprefix("mapitem.testing.conformance.kit.RuleBroken: ") for line in told]
    check, story = (block for block in blocks("text") if block.startswith("L2: "))
    assert [line for line in check.splitlines() if line not in told] == []
    # How far a story is shortened is Hypothesis's business: only its shape is held.
    shape = r"L2: keys of what \w\.range\(.*order='desc'.*\) returned: .*, should be .*"
    assert re.fullmatch(shape, story.splitlines()[0])
    assert [line for line in told if re.fullmatch(shape, line)] != []
    assert {"after", "store.map('m')"} <= set(told) & set(map(str.strip, story.splitlines()))
    assert re.search(r"^L2 +failed +L2: from_ is a place", result.stdout, re.MULTILINE)
    assert re.search(r"^L1 +passed", result.stdout, re.MULTILINE)
    # A traceback used to end in ten lines of the kit, which say nothing of the store: it ends at the line of the check.
    assert "def test_range(self)" in result.stdout
    assert "def expect(self, got" not in result.stdout


def test_report_what_breaks_outside_checks(tmp_path: Path) -> None:
    """A check that cannot even begin is failed in the report, and tests that are no checks are not in it."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["mapitem.testing.parity"]\n')
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "from mapitem.testing.conformance import Conformance, Section, check\n"
        "class One(Section):\n"
        "    @check()\n"
        "    def test_it(self):\n"
        '        """W1: nothing."""\n'
        "class TestStore(Conformance):\n"
        "    sections = (One,)\n"
        "    @pytest.fixture(autouse=True)\n"
        "    def broken(self):\n"
        "        raise OSError('no service')\n"
        "def test_else():\n"
        "    pass\n"
    )
    result = run_pytest(tmp_path, "--mapitem-parity=parity.json")
    assert result.returncode == 1, result.stdout
    (report,) = json.loads((tmp_path / "parity.json").read_text(encoding="utf-8"))
    assert report["rules"] == {"W1": {"outcome": "failed", "reasons": ["no service"]}}
    assert "TestStore: 1 rules: 0 passed, 1 failed, 0 skipped" in result.stdout


@pytest.mark.parametrize(
    "start", ["from mapitem.testing.conformance import Conformance, Section", "from mapitem import Store"]
)
def test_run_the_other_programs(start: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The short programs of the page run, and print what the comments say."""
    program = block_with(start)
    exec(compile(program, "conformance.md", "exec"), {"__name__": "page"})
    expected = [line.partition("  # ")[2] for line in program.splitlines() if line.startswith("print(")]
    assert capsys.readouterr().out.splitlines() == expected


def test_tell_all_capabilities() -> None:
    """The table has each capability with its meaning, as the class has it."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert {each.name: each.metadata["meaning"] for each in fields(Capabilities)}.items() <= rows.items()


def test_tell_all_methods() -> None:
    """The table of methods has what an adapter may give, and the page names each class of tests."""
    given = set(re.findall(r"^\| `(\w+)\(\w+\)` \|", PAGE, re.MULTILINE))
    public = {name for name, value in vars(Adapter).items() if callable(value) and not name.startswith("_")}
    assert given == public - {"finish"}
    for section in Conformance.sections:
        assert f"`Test{section.__name__}`" in PAGE


def test_tell_all_mistakes() -> None:
    """The table has each mistake with its rule, and the example's capabilities are those in the source."""
    rows = re.findall(r"^\| (\w\d?) \| (.+?) \| `test_\w+` \| [\d.]+ \|$", PAGE, re.MULTILINE)
    assert rows == [(fault.rule, fault.name) for fault in FAULTS]
    assert block_with("SQLITE = ").strip() in Path(faults_file).read_text(encoding="utf-8")
    assert f"{len(FAULTS)} of them" in PAGE
    assert "self.find(" in SOURCE

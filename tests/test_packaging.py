"""The package as users get it: a wheel is built, installed into an environment elsewhere, and used from there.

Nothing is fetched: the backend builds in this environment, and the new one borrows the dependencies of this.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

import mapitem

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# What `import mapitem` may not cost: the extras, and the slow rooms of the standard library.
TOO_MUCH = {
    *("click", "rich", "pytest", "hypothesis", "starlette", "uvicorn", "twilio", "filelock"),
    *("asyncio", "dataclasses", "inspect", "logging", "typing", "unittest"),
}


def build(target: str, folder: Path) -> Path:
    """The path of the wheel or sdist, built by the project's own backend."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel installed and nothing of this tree in sight."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = ["-m", "pip", "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([str(python), *install], check=True, capture_output=True)
    # Last on the path, and its own .pth files are not read: an editable install of this tree stays invisible.
    site_packages = run(python, "import sysconfig; print(sysconfig.get_path('purelib'))", folder).strip()
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(site_packages) / "borrowed.pth").write_text("\n".join(sorted(borrowed)), encoding="utf-8")
    return python


def run(python: Path, code: str, folder: Path) -> str:
    """What ``code`` prints in an interpreter of its own that is started in ``folder``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(python), "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_pack_the_package_alone(wheel: Path) -> None:
    """The wheel holds every file of mapitem/, the marker of its types included, two plugins, and else only metadata."""
    package = [path for path in (ROOT / "mapitem").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    expected = {path.relative_to(ROOT).as_posix() for path in package}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == expected | {"_mapitem_hypothesis.py", "_mapitem_pytest.py"}
    assert "mapitem/py.typed" in packed


def test_ask_for_three_packages(wheel: Path) -> None:
    """Whoever installs mapitem gets sortedcontainers, msgpack and filelock with it, and nothing else unasked."""
    metadata_file = f"mapitem-{PROJECT['version']}.dist-info/METADATA"
    metadata = Parser().parsestr(zipfile.ZipFile(wheel).read(metadata_file).decode())
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split("[<>=!~ ]", line)[0] for line in required} == {"sortedcontainers", "msgpack", "filelock"}
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"


def test_pack_what_the_tests_need_into_the_sdist(tmp_path: Path) -> None:
    """The source archive is the project: package, tests, docs, benchmarks, and nothing that runs leave behind."""
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names}
    assert tops >= {"mapitem", "tests", "docs", "benchmarks", "pyproject.toml", "README.md", "LICENSE"}
    assert names >= {
        "mapitem/py.typed",
        "_mapitem_pytest.py",
        "_mapitem_hypothesis.py",
        "tests/conftest.py",
        "tests/typing/api.py",
        "CHANGELOG.md",
    }
    left_behind = re.compile(r"__pycache__|\.pyc$|_cache/|^\.hypothesis|^\.venv|^dist/")
    assert not [name for name in names if left_behind.search(name)]


def test_use_the_installed_package_elsewhere(installed: Path, tmp_path: Path) -> None:
    """The installed package, imported from a folder of its own, writes a file and reads it again."""
    code = """
import mapitem
with mapitem.Store("elsewhere.mapitem") as store:
    store.map("users").set("taylor", {"country": "UK"})
with mapitem.Store("elsewhere.mapitem") as store:
    print(mapitem.__file__)
    print(store.open_map("users")["taylor"].data)
"""
    where, data = run(installed, code, tmp_path).splitlines()
    assert installed.parent.parent in Path(where).parents
    assert data == "{'country': 'UK'}"


def test_run_the_installed_command(installed: Path, tmp_path: Path) -> None:
    """The console script is there and leads to the command."""
    command = [str(installed.parent / "mapitem"), "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "demo" in result.stdout


def test_import_without_the_extras(installed: Path, tmp_path: Path) -> None:
    """``import mapitem`` and a store in memory load no extra and nothing slow but what the packages below do."""
    code = """
import json, sys
import sortedcontainers, msgpack
before = set(sys.modules)
import mapitem
mapitem.Store().map("users").set("taylor", {"country": "UK"})
print(json.dumps([name for name in sys.modules if name not in before]))
"""
    loaded = {name.partition(".")[0] for name in json.loads(run(installed, code, tmp_path))}
    assert "mapitem" in loaded
    assert not loaded & TOO_MUCH


def test_import_public_names_alone() -> None:
    """``from mapitem import *`` and ``dir(mapitem)`` show the names that are promised, no module and no helper."""
    names: dict[str, Any] = {}
    exec("from mapitem import *", names)
    names.pop("__builtins__")
    assert set(names) == set(mapitem.__all__)
    assert {name for name in dir(mapitem) if not name.startswith("_")} == set(names)


def test_tell_one_version() -> None:
    """The version of the package is the newest one that CHANGELOG.md tells of."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"]

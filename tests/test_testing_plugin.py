"""The pytest plugin, as it is installed: what its fixtures give, and that it costs nobody anything who does not ask."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import _mapitem_pytest

pytest_plugins = ["pytester"]


def test_be_found_by_pytest() -> None:
    """The plugin is loaded through an entry point of its own name, from a module beside the package."""
    (ours,) = [each for each in entry_points(group="pytest11") if each.name == "mapitem"]
    assert ours.value == "_mapitem_pytest"
    assert ours.load() is _mapitem_pytest


def test_import_nothing_at_the_top() -> None:
    """Apart from pytest and two rooms of the standard library that pytest has loaded anyway, nothing is imported."""
    tree = ast.parse(Path(_mapitem_pytest.__file__).read_text(encoding="utf-8"))
    imports = {each.names[0].name for each in tree.body if isinstance(each, ast.Import)}
    imports |= {each.module or "" for each in tree.body if isinstance(each, ast.ImportFrom)}
    assert imports == {"__future__", "collections.abc", "contextlib", "pytest"}


def test_leave_mapitem_alone_where_nobody_asks(pytester: pytest.Pytester) -> None:
    """In a run that uses none of the fixtures, mapitem is never imported: neither at the start nor later."""
    pytester.makepyfile("""
        import sys

        import pytest

        at_collection = "mapitem" in sys.modules

        def test_one():
            assert "_mapitem_pytest" in sys.modules
            assert not at_collection

        @pytest.fixture(scope="session", autouse=True)
        def at_the_end():
            yield
            assert "mapitem" not in sys.modules
    """)
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=1)


def test_give_a_store_of_its_own_to_each_test(pytester: pytest.Pytester) -> None:
    """S1: each test gets an empty store in memory, open, on the clock that it can move; afterwards it is closed."""
    pytester.makepyfile("""
        import pytest

        from mapitem import Store, StoreClosed

        stores = []

        @pytest.mark.parametrize("turn", [0, 1])
        def test_start_empty(mapitem_store, mapitem_clock, turn):
            assert isinstance(mapitem_store, Store)
            assert not list(mapitem_store.maps())
            item = mapitem_store.map("m").set("a", {}, ttl=10)
            assert item.date_created.isoformat() == "2026-01-01T00:00:00+00:00"
            mapitem_clock.advance(10)
            assert "a" not in mapitem_store.map("m")
            stores.append(mapitem_store)

        def test_close_at_the_end():
            one, other = stores
            assert one is not other
            for store in stores:
                with pytest.raises(StoreClosed):
                    store.map("m")

        def test_make_it_fail(mapitem_store):
            mapitem_store.faults.fail_append()
            with pytest.raises(OSError):
                mapitem_store.map("m")
    """)
    pytester.runpytest_inprocess("-W", "error").assert_outcomes(passed=4)


def test_give_a_store_on_file(pytester: pytest.Pytester) -> None:
    """S1: the file lies in the test's ``tmp_path``, the clock is the same, and both stores may be used at once."""
    pytester.makepyfile("""
        from mapitem import Store

        def test_open_again(mapitem_file_store, mapitem_store, mapitem_clock, tmp_path):
            assert mapitem_file_store.map("m").set("a", {}) == mapitem_store.map("m").set("a", {})
            mapitem_file_store.close()
            with Store(tmp_path / "store.mapitem") as store:
                assert list(store.map("m")) == ["a"]
                assert not list(tmp_path.glob("*.tmp*"))

        def test_start_empty(mapitem_file_store):
            assert not list(mapitem_file_store.maps())
    """)
    pytester.runpytest_inprocess("-W", "error").assert_outcomes(passed=2)


def test_end_well_after_a_failure_that_was_asked_for(pytester: pytest.Pytester) -> None:
    """F2, F5: a store that a test made fail, or a fault that it left behind, is no error at the test's end."""
    pytester.makepyfile("""
        import pytest

        from mapitem import StoreFailed

        def test_fail(mapitem_file_store):
            mapitem_file_store.map("m")
            mapitem_file_store.faults.fail_sync()
            with pytest.raises(StoreFailed):
                mapitem_file_store.sync()

        def test_leave_faults_behind(mapitem_file_store, mapitem_store):
            for store in (mapitem_file_store, mapitem_store):
                store.map("m").set("a", {})
                store.faults.fail_append()
            mapitem_file_store.faults.fail_sync()

        def test_crash(mapitem_file_store):
            mapitem_file_store.map("m")
            mapitem_file_store.faults.crash()
    """)
    pytester.runpytest_inprocess("-W", "error").assert_outcomes(passed=3)


def test_list_the_fixtures(pytester: pytest.Pytester) -> None:
    """``pytest --fixtures`` shows four, all prefixed, of function scope, each with a line that says what it is."""
    result = pytester.runpytest_inprocess("--fixtures", "-v")
    lines = [line for line in result.outlines if "_mapitem_pytest.py" in line]
    assert [line.split(" -- ")[0].strip() for line in lines] == [
        "mapitem_clock",
        "mapitem_store",
        "mapitem_file_store",
        "mapitem_twilio",
    ]
    assert not any("scope]" in line for line in lines)
    result.stdout.fnmatch_lines(
        ["*The clock of both stores*", "*An empty ``Store`` in memory*", "*As ``mapitem_store``*", "*rest.Client*"]
    )


def test_stay_out_if_told_to(pytester: pytest.Pytester) -> None:
    """``-p no:mapitem`` takes the fixtures away."""
    pytester.makepyfile("def test_one(mapitem_store): pass")
    result = pytester.runpytest_inprocess("-p", "no:mapitem")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'mapitem_store' not found*"])


def test_do_without_hypothesis(tmp_path: Path) -> None:
    """The fixtures need pytest alone: of the extra's two packages the other may be missing."""
    (tmp_path / "hypothesis.py").write_text("raise ImportError('it is not there')\n", encoding="utf-8")
    (tmp_path / "test_it.py").write_text("def test_one(mapitem_store): mapitem_store.map('m')\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_run_the_example_of_the_documentation(pytester: pytest.Pytester) -> None:
    """The test file in docs/testing.md passes as it stands, and fails if the code under test loses a write."""
    page = (Path(__file__).parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    (example,) = re.findall("```python\n(# test_basket.py\n.+?)```", page, re.DOTALL)
    pytester.makepyfile(test_basket=example)
    pytester.runpytest_inprocess("-W", "error").assert_outcomes(passed=3)
    atomic = 'baskets.mutate(customer, lambda data: {"articles": [*data.get("articles", []), article]}, ttl=1800)'
    assert atomic in example
    careless = 'baskets.create(customer, {"articles": [article]}, ttl=1800)'
    pytester.makepyfile(test_basket=example.replace(atomic, careless))
    pytester.runpytest_inprocess("-W", "error").assert_outcomes(passed=1, failed=2)


def test_use_the_fixtures_here(mapitem_store: object, mapitem_clock: object, clock: object) -> None:
    """The project's own tests run with the plugin installed: its names and ours are different ones."""
    assert mapitem_clock is not clock
    assert type(mapitem_store).__name__ == "FaultyStore"

"""For pytest: the parity reports of the conformance kit, on the terminal and, with ``--mapitem-parity=FILE``, as JSON.

It is not loaded by itself. Name it: ``pytest -p mapitem.testing.parity``, or in the topmost conftest.py
``pytest_plugins = ["mapitem.testing.parity"]``. Under xdist the reports of all workers come together.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from mapitem.testing.conformance.kit import RuleBroken
from mapitem.testing.conformance.report import Report, Result

PROPERTY = "mapitem_parity"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mapitem")
    group.addoption("--mapitem-parity", metavar="FILE", help="write the parity reports of conformance tests as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Parity(config), "mapitem-parity")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    rules = getattr(getattr(item, "function", None), "rules", None)
    adapter = getattr(getattr(item, "cls", None), "adapter", None)
    if rules and adapter is not None and (call.when == "call" or report.failed):
        message = ""
        if call.excinfo is not None:
            message = str(call.excinfo.value)
            if isinstance(call.excinfo.value, RuleBroken):
                rules = call.excinfo.value.rules
        told = [adapter.__name__, item.name, list(rules), report.outcome, message]
        # As text, so that it travels between processes and into other reports.
        report.user_properties.append((PROPERTY, json.dumps(told)))
    return report


class Parity:
    """Gathers the results as they come, and tells them at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reports: dict[str, Report] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY:
                store, check, rules, outcome, message = json.loads(str(value))
                result = Result(check, tuple(rules), outcome, message)
                self._reports.setdefault(store, Report(store)).results.append(result)

    def pytest_sessionfinish(self) -> None:
        file = self._config.getoption("--mapitem-parity")
        if file and not hasattr(self._config, "workerinput"):
            reports = [report.as_dict() for report in self._reports.values()]
            Path(file).write_text(json.dumps(reports, ensure_ascii=False, indent=1), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for report in self._reports.values():
            terminalreporter.section(f"parity of {report.store}")
            terminalreporter.write_line(report.text())

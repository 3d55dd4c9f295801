"""The conformance kit on stores with one mistake each: it has to see every one, name the rule, and say it briefly."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conformance.faults import FAULTS, Change, FileAdapter, MemoryAdapter, Wrapped, caught
from conformance.sqlite_store import SQLiteStore

from mapitem.testing.conformance import kit, machine, run
from mapitem.testing.conformance.kit import RuleBroken
from mapitem.testing.conformance.machine import Model
from mapitem.testing.conformance.report import RULES, run_checks
from mapitem.testing.conformance.sections import SECTIONS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "PATIENCE", 0.5)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.rule} {fault.name}")
def test_see_mistake(fault: Change | Wrapped) -> None:
    """A check of the broken rule fails; what it says opens with the rule, and is short."""
    found = caught(fault)
    assert found is not None
    assert re.match(r"[A-Z]\d|X", found.message)
    assert fault.rule in found.message.partition(":")[0].split(", ")
    assert len(found.message.split("\n")) <= 3
    assert len(found.message) < 800


def test_see_mistake_by_the_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does the state machine, and the story that it tells is short."""
    (fault,) = (each for each in FAULTS if each.name == "each item counts its own revisions")
    adapter = fault.adapter()
    adapter.max_examples = 50
    monkeypatch.setattr(machine, "STEPS", 10)  # the fewer, the sooner the story is short
    (found,) = run_checks(adapter, [Model])
    assert found.outcome == "failed"
    assert "R4" in found.rules
    told, _, story = found.message.partition("\nafter\n")
    assert told.startswith(", ".join(found.rules))
    assert 2 <= len(story.split("\n")) <= 8, story


def test_have_mistakes_for_each_section() -> None:
    """At least thirty, all different, and among them some for every section of the rules."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 100
    assert {fault.rule[0] for fault in FAULTS} == set("KDRITWCLEFSX")


def test_make_only_the_mistake() -> None:
    """Without a change the same adapters find nothing wrong: it is the mistake that is seen."""

    class Whole:
        SQLiteStore = SQLiteStore

    sections = [section for section in SECTIONS if section is not Model]
    for base in (MemoryAdapter, FileAdapter):
        report = run(type("Whole", (base,), {"module": Whole}), sections=sections)
        assert report.failures == []
        assert len(report.results) > 150


def test_check_every_rule() -> None:
    """Every rule of docs/semantics.md has a check in the kit, and every check names rules that are there."""
    text = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    stated = [*re.findall(r"^- \*\*([A-Z]\d)\*\*", text, re.MULTILINE), "X", "Oracle"]
    assert list(RULES) == stated
    checks = [check for section in SECTIONS for check in vars(section).values() if hasattr(check, "rules")]
    assert len(checks) > 180
    assert {rule for check in checks for rule in check.rules} == set(stated)


def test_end_quickly_on_what_raises() -> None:
    """A store that cannot even be made fails each check by name, not the kit."""

    class Broken(MemoryAdapter):
        def make_store(self, clock: object, **options: object) -> object:
            raise OSError("no disk")

    report = run(Broken, sections=SECTIONS[:1])
    assert {result.outcome for result in report.results} == {"failed"}
    assert all("raised OSError(no disk)" in result.message for result in report.results)
    assert issubclass(RuleBroken, AssertionError)

"""The parity report: rule by rule, what of it a store keeps, and ``run``, which makes one without pytest's runner."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytest

from mapitem.testing.conformance.kit import LACKS, Adapter, RuleBroken, Section

RULES = (
    *("K1", "K2", "K3", "K4", "K5", "K6"),
    *("D1", "D2", "D3", "D4", "D5"),
    *("R1", "R2", "R3", "R4", "R5", "R6"),
    *("I1", "I2", "I3", "I4"),
    *("T1", "T2", "T3", "T4", "T5", "T6", "T7"),
    *("W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8"),
    *("C1", "C2"),
    *("L1", "L2", "L3", "L4", "L5"),
    *("E1", "E2", "E3"),
    *("F1", "F2", "F3"),
    *("S1", "S2", "S3", "S4", "S5"),
    *("X", "Oracle"),
)
"""The rules of docs/semantics.md in their order; ``Oracle`` is the state machine, which is about all of them."""

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """What became of one check: for ``failed`` the message is what is wrong, for ``skipped`` what is not declared."""

    check: str
    rules: tuple[str, ...]
    outcome: Outcome
    message: str = ""


class Report:
    """The results of one store, by rule.

    A rule is ``failed`` if one of its checks is, ``passed`` if one passed and none failed, and else ``skipped``. A rule
    that passed in part, for some of its checks were skipped, says which capabilities are missing.
    """

    def __init__(self, store: str, results: Iterable[Result] = ()) -> None:
        self.store = store
        self.results = list(results)

    @property
    def failures(self) -> list[Result]:
        return [result for result in self.results if result.outcome == "failed"]

    def outcomes(self) -> dict[str, Outcome]:
        """Each rule with its outcome; one of which no check ran at all is not there."""
        outcomes: dict[str, Outcome] = {}
        for name in RULES:
            found = {result.outcome for result in self._about(name)}
            for outcome in ("failed", "passed", "skipped"):
                if outcome in found:
                    outcomes[name] = outcome
                    break
        return outcomes

    def text(self) -> str:
        """A line per rule, and one of totals."""
        outcomes = self.outcomes()
        totals = ", ".join(f"{list(outcomes.values()).count(each)} {each}" for each in ("passed", "failed", "skipped"))
        lines = [f"{self.store}: {len(outcomes)} rules: {totals}"]
        for name, outcome in outcomes.items():
            reasons = "; ".join(self._reasons(name))
            in_part = "in part: " if reasons and outcome == "passed" else ""
            lines.append(f"{name:7}{outcome:9}{in_part}{reasons}".rstrip())
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """What ``json`` holds: the store, its rules with outcome and reasons, and each single check."""
        rules = {
            name: {"outcome": outcome, "reasons": self._reasons(name)} for name, outcome in self.outcomes().items()
        }
        return {"store": self.store, "rules": rules, "checks": [asdict(result) for result in self.results]}

    def json(self) -> str:
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=1)

    def _about(self, rule: str) -> list[Result]:
        return [result for result in self.results if rule in result.rules]

    def _reasons(self, rule: str) -> list[str]:
        """First lines, each once: of what failed if anything did, else of what was skipped."""
        about = self._about(rule)
        found = [result for result in about if result.outcome == "failed"]
        if found:
            return list(dict.fromkeys(" ".join(result.message.split("\n")[:2]) for result in found))
        messages = dict.fromkeys(result.message for result in about if result.outcome == "skipped")
        missing = [message.removeprefix(LACKS) for message in messages if message.startswith(LACKS)]
        others = [message for message in messages if not message.startswith(LACKS)]
        return [LACKS + ", ".join(missing), *others] if missing else others


def run(conformance: type[Adapter], *, sections: Iterable[type[Section]] | None = None) -> Report:
    """Runs the checks of a subclass of ``Conformance``, or those of some sections, here and now."""
    report = Report(conformance.__name__)
    report.results += run_checks(conformance, sections)
    return report


def run_checks(conformance: type[Adapter], sections: Iterable[type[Section]] | None = None) -> Iterator[Result]:
    """As ``run``, check by check."""
    chosen: Any = getattr(conformance, "sections", ()) if sections is None else sections
    for section in chosen:
        tests = type(section.__name__, (section,), {"adapter": conformance})
        # As they stand in the section.
        for name in dict.fromkeys(name for each in reversed(tests.__mro__) for name in vars(each)):
            if name.startswith("test_"):
                yield _run_check(f"{section.__name__}.{name}", getattr(tests(), name))


def _run_check(name: str, check: Callable[[], None]) -> Result:
    rules: tuple[str, ...] = check.rules  # type: ignore[attr-defined]
    try:
        check()
    except pytest.skip.Exception as skipped:
        return Result(name, rules, "skipped", str(skipped))
    except RuleBroken as broken:
        return Result(name, broken.rules, "failed", str(broken))
    return Result(name, rules, "passed")

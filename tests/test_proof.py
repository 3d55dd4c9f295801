"""The program that proves for as long as it is told, and the page that says what is proved (durability V)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from crash.campaign import Campaign, Part, main, put_into_page
from crash.safeguards import SAFEGUARDS
from proof import ALL_PARTS

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "proof.md"
CLAUSES = TESTS.parent / "docs" / "durability.md"


def _fine(seed: int, figures: Counter[str]) -> None:
    figures["things tried"] += seed


def _broken(seed: int, figures: Counter[str]) -> None:
    figures["things tried"] += 1
    assert seed != 12, "P3: twelve"


def test_runs_each_part_for_some_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    """V: every part does something in each round and finds nothing; the summary says how much."""
    assert main(ALL_PARTS, "prove", None, ["--rounds", "1", "--seed", "7"]) == 0
    said = capsys.readouterr().out
    for name in ALL_PARTS:
        assert re.search(rf"\| {name} \| 1 \| 7 to 7 \| .*\d ", said), said
    assert "0 findings" in said


def test_exits_with_1_on_a_finding_and_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    """V: a finding is printed with the command that repeats it; the rounds behind it go on."""
    parts = {"fine": Part(_fine), "broken": Part(_broken)}
    assert main(parts, "prove", None, ["--rounds", "5", "--seed", "10"]) == 1
    said = capsys.readouterr().out
    assert "FINDING in broken, again by: prove --only broken --seed 12 --rounds 1\n" in said
    assert "P3: twelve" in said
    assert "| broken | 5 | 10 to 14 |" in said
    assert "1 findings." in said
    assert main(parts, "prove", None, ["--rounds", "1", "--seed", "12", "--only", "broken"]) == 1
    assert main(parts, "prove", None, ["--rounds", "1", "--seed", "12", "--only", "fine"]) == 0


def test_shares_the_time_as_told() -> None:
    """V: the part that had least of its share is next."""
    campaign = Campaign({"one": Part(_fine, 1.0), "two": Part(_fine, 1.0)}, 0, "prove")
    campaign.run(1.0, rounds=3)
    assert campaign.rounds == {"one": 3, "two": 3}


def test_writes_into_a_page_between_marks(tmp_path: Path) -> None:
    """V: what stood between the marks is replaced, the rest kept; a page without them is an error."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n", encoding="utf-8")
    put_into_page(page, "figures", ["new"])
    assert page.read_text(encoding="utf-8") == ("before\n<!-- figures -->\n\nnew\n\n<!-- end of figures -->\nafter\n")
    with pytest.raises(ValueError, match="no place"):
        put_into_page(page, "safeguards", [])


# ---------------------------------------------------------------- the page


def _rows(heading: str) -> list[list[str]]:
    """The cells of the first table behind a heading."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    table = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert table, heading
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[0].splitlines()[2:]]


def test_names_a_check_for_every_clause() -> None:
    """V: docs/proof.md names tests for each clause of docs/durability.md, and each of them is there."""
    clauses = re.findall(r"^- \*\*([A-Z]\d)\*\*", CLAUSES.read_text(encoding="utf-8"), re.MULTILINE)
    rows = {row[0]: row[1] for row in _rows("Clause by clause")}
    assert list(rows) == clauses
    assert len(clauses) > 30
    for clause, checks in rows.items():
        named = re.findall(r"`(\w+)::(\w+)`", checks)
        assert named, clause
        for module, test in named:
            source = (TESTS / f"{module}.py").read_text(encoding="utf-8")
            assert re.search(rf"^def {test}\(", source, re.MULTILINE), f"{clause}: {module}::{test}"


def test_has_every_safeguard_in_its_table() -> None:
    """V: the table is the one that the program makes; made anew by ``python -m tests.crash.safeguards --page``."""
    named = [row[0] for row in _rows("That the proof can fail") if row[0]]
    assert named == [safeguard.name for safeguard in SAFEGUARDS]

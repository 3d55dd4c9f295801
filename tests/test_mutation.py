"""The campaign of mutants: what it breaks, that it sees survivors, and that each excuse is about what is there."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from mutation import campaign, mutants


def test_excuse_what_there_is() -> None:
    """Each justified survivor is a mutant that there is, is named once, and has its reason.

    Only the function was looked for: when lines of it had changed, excuses for what was gone stayed.
    """
    known = {
        mutant.name for module in campaign.MODULES for mutant in mutants.mutants_of(module, campaign.path_of(module))
    }
    seen = set()
    for entry in campaign.justified():
        assert entry.module in campaign.MODULES, entry
        assert entry.line == entry.line.strip() != "", entry
        assert len(entry.why) > 10, entry
        assert entry.changes, entry
        for change in entry.changes:
            name = (entry.module, entry.function, entry.line, change)
            assert name in known, f"no mutant any more: {' | '.join(name)}"
            assert name not in seen, f"twice: {' | '.join(name)}"
            seen.add(name)


SOURCE = '''
"""A room."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMIT = 10


def edge(value: int, *, step: int = 2) -> bool:
    """Words."""
    assert value > 0, "no mutant"
    if value < LIMIT and not step:
        raise ValueError(f"{value + 1}")
    try:
        return min(value, step) >= 3
    except TypeError:
        value += 1
    return True
'''


def test_break_in_every_way(tmp_path: Path) -> None:
    """What is changed, line by line; and neither words, types, assertions nor what is formatted into a message."""
    path = tmp_path / "room.py"
    path.write_text(SOURCE)
    found = [(mutant.line, mutant.change) for mutant in mutants.mutants_of("room", path)]
    assert found == [
        ("LIMIT = 10", "10 → 11"),
        ("LIMIT = 10", "10 → 9"),
        ("def edge(value: int, *, step: int = 2) -> bool:", "2 → 3"),
        ("def edge(value: int, *, step: int = 2) -> bool:", "2 → 1"),
        ("if value < LIMIT and not step:", "and → or"),
        ("if value < LIMIT and not step:", "without value < LIMIT"),
        ("if value < LIMIT and not step:", "without not step"),
        ("if value < LIMIT and not step:", "not (value < LIMIT and (not step))"),
        ("if value < LIMIT and not step:", "< → <="),
        ("if value < LIMIT and not step:", "< → >="),
        ("if value < LIMIT and not step:", "without not"),
        ('raise ValueError(f"{value + 1}")', "removed"),
        ("return min(value, step) >= 3", "return None"),
        ("return min(value, step) >= 3", ">= → >"),
        ("return min(value, step) >= 3", ">= → <"),
        ("return min(value, step) >= 3", "min → max"),
        ("return min(value, step) >= 3", "3 → 4"),
        ("return min(value, step) >= 3", "3 → 2"),
        ("except TypeError:", "not caught"),
        ("value += 1", "removed"),
        ("value += 1", "+= → -="),
        ("value += 1", "1 → 2"),
        ("value += 1", "1 → 0"),
        ("return True", "True → False"),
    ]


def test_put_each_mutant_into_functions_that_exist(tmp_path: Path) -> None:
    """A mutant changes the very functions that others hold already, or says that it acts at import."""
    path = tmp_path / "room.py"
    path.write_text(SOURCE)
    for mutant in mutants.mutants_of("room", path):
        tree = compile(ast.parse(SOURCE), str(path), "exec")
        names: dict[str, object] = {}
        exec(tree, names)
        held: Any = names["edge"]
        before = held.__code__
        if mutant.at_import:
            assert mutant.function == ""
            continue
        mutants.patch(path, mutant)
        assert held.__code__ != before


def test_say_what_cannot_be_patched(tmp_path: Path) -> None:
    """A function that nobody holds cannot be changed: that is said, and never passed over."""
    path = tmp_path / "other.py"
    path.write_text(SOURCE)
    mutant = mutants.mutants_of("other", path)[-1]
    with pytest.raises(mutants.CannotPatch):
        mutants.patch(path, mutant)


def test_count_by_module() -> None:
    """The score counts what was killed; a survivor is unjustified unless its very name is excused."""
    found = mutants.mutants_of("keyrange", campaign.path_of("keyrange"))[:4]
    verdicts = ["killed", "timeout", "survived", "unreached"]
    outcomes = [(mutant, campaign.Outcome(verdict, None, 1)) for mutant, verdict in zip(found, verdicts, strict=True)]
    table = campaign.table(outcomes, {found[2].name})
    assert "| keyrange | 4 | 2 | 1 | 1 | 1 | 50.0 % |" in table.splitlines()


def test_refuse_to_score_what_fails_by_itself() -> None:
    """Before any mutant the modules are tried as they are: a test that fails then would find out every mutant."""
    control = campaign.unchanged("keyrange")
    campaign.check_control([(control, campaign.Outcome("survived", None, 9))])
    for verdict in ("killed", "timeout", "unreached"):
        with pytest.raises(SystemExit, match="keyrange, as it is, was"):
            campaign.check_control([(control, campaign.Outcome(verdict, "test_x", 9))])

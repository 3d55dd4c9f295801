"""The demo: its data, its story in a terminal, and that it would notice if something were wrong."""

from __future__ import annotations

import io
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mapitem import Store, StoreFailed
from mapitem.demo import Session, UnicodeDatabase, named_characters, properties, run_demo, same
from mapitem.testing import ManualClock

SLICE = 1000
STEPS = ["Load", "Close", "Read", "Pages", "Conflict", "Mutate", "Time to live", "Compact", "Check"]

characters = st.characters(exclude_categories=["Cs"])


def screen(**options: Any) -> Console:
    """A console that writes into a string, as if it were a pipe unless ``options`` say otherwise."""
    return Console(**{"file": io.StringIO(), "highlight": False, "markup": False, "emoji": False, **options})


def text_on(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# ------------------------------------------------------------ the data


@given(char=characters)
def test_properties_say_what_unicodedata_says(char: str) -> None:
    """Each property is what ``unicodedata`` or ``str`` answers; one that does not apply is left out."""
    data = properties(char)
    assert (data["char"], data["code_point"]) == (char, ord(char))
    for name in ("category", "bidirectional", "combining", "east_asian_width"):
        assert data[name] == getattr(unicodedata, name)(char)
    assert data["mirrored"] is (unicodedata.mirrored(char) == 1)
    assert data.get("decomposition", "") == unicodedata.decomposition(char)
    for name in ("decimal", "digit", "numeric"):
        assert data.get(name) == getattr(unicodedata, name)(char, None)
    for name in ("upper", "lower", "title"):
        assert data.get(name, char) == getattr(char, name)()
        assert data.get(name) != char
    assert None not in data.values()


@given(char=characters)
def test_properties_are_storable(char: str) -> None:
    """D2: what the demo stores comes back equal, types included."""
    with Store() as store:
        store.map("m").set("key", properties(char))
        assert same(store.map("m").get("key"), properties(char))


def test_named_characters_are_those_with_a_name() -> None:
    """The demo's characters are all that have a name, each once, in code-point order, cut at the limit."""
    everything = named_characters()
    assert set(everything) == {chr(code) for code in range(0x110000) if unicodedata.name(chr(code), "")}
    assert everything == sorted(set(everything))
    assert named_characters(7) == everything[:7] == list(' !"#$%&')


@pytest.mark.parametrize("data", [{"n": 1.0}, {"n": True}, {"n": 1, "m": 2}, {}, {"m": 1}])
def test_same_tells_types_apart(data: dict[str, Any]) -> None:
    """D2: 1, 1.0 and True differ, so the demo's check sees a change of type."""
    with Store() as store:
        m = store.map("m")
        m.set("key", {"n": 1})
        assert same(m.get("key"), {"n": 1})
        assert not same(m.get("key"), data)
        assert not same(m.get("other"), data)


# ------------------------------------------------------------ the story


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo on a slice of the database: its file, and what it printed."""
    path = tmp_path_factory.mktemp("demo") / "unicode.mapitem"
    console = screen()
    assert run_demo(path, limit=SLICE, console=console) == 0
    return path, text_on(console)


def test_demo_leaves_the_whole_slice_in_the_file(told: tuple[Path, str]) -> None:
    """D2: the file holds each character under its name with its properties, and nothing else."""
    path, _ = told
    with Store(path, read_only=True) as store:
        stored = {item.key: item.data for item in store.open_map("characters").range()}
        assert stored == {unicodedata.name(char): properties(char) for char in named_characters(SLICE)}
        assert {key: item.data for key, item in store.open_map("notes").items()} == {"pi": {"votes": 1000, "by": "Ann"}}


def test_demo_tells_each_step_with_its_time(told: tuple[Path, str]) -> None:
    """Every step has a number, a title and the time that it took, in order."""
    _, text = told
    titles = re.findall(r"^(\d)\. (.*?)[^-]-+ [\d.]+ m?s$", text, re.MULTILINE)
    assert [int(number) for number, _ in titles] == list(range(1, len(STEPS) + 1))
    for (_, title), start in zip(titles, STEPS, strict=True):
        assert title.startswith(start)


def test_demo_fits_a_plain_terminal_of_80_columns(told: tuple[Path, str]) -> None:
    """In a pipe: no escape sequences, no progress bar, no line over 80 columns, two screens in all."""
    _, text = told
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 66
    assert "\x1b" not in text
    assert "\r" not in text


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("L1", "π U+03C0  category Ll, upper Π, revision"),
        ("L2", "π U+03C0  GREEK SMALL LETTER PI"),
        ("L2", "φ U+03C6  GREEK SMALL LETTER PHI"),
        ("L2", "3 items: ½ ¼ ¾"),
        ("C1", "RevisionMismatch: expected '0', actual '1'"),
        ("W4", "{'votes': 1000, 'by': 'Ann'}"),
        ("T4", "1 item removed"),
        ("D2", "1,000 characters and 1 note compared: 0 differences"),
    ],
)
def test_demo_shows_result(told: tuple[Path, str], rule: str, line: str) -> None:
    """L1, L2, C1, W4, T4, D2: the results that the story is about."""
    assert f"\n    {line}" in told[1], rule


def test_demo_shows_pages_forth_and_back(told: tuple[Path, str]) -> None:
    """L4: the second page is another, and the way back shows the first again."""
    pages = re.findall(r">>> (?:one|two|back) = .*\n    (.*)", told[1])
    assert len(pages) == 3
    assert pages[0] == pages[2] != pages[1]


def test_demo_shows_expiry_at_the_instant(told: tuple[Path, str]) -> None:
    """T3, T6: there after 59 seconds, gone after 60, and gone after a restart in the past."""
    assert re.findall(r"'hello' in notes\n    (.*)", told[1]) == ["True", "False", "False"]


def test_demo_runs_whole(tmp_path: Path) -> None:
    """D2: every named character of the database goes in and comes out unchanged."""
    console = screen()
    assert run_demo(tmp_path / "unicode.mapitem", console=console) == 0
    count = len(named_characters())
    assert f"{count:,} characters and 1 note compared: 0 differences" in text_on(console)
    assert count > 100_000
    assert max(map(len, text_on(console).splitlines())) <= 80


# ------------------------------------------------------------ what if something were wrong


def test_demo_counts_each_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check sees what was changed, is missing or one too many, and the note; it names them."""
    console = screen()

    def spoil(session: Session) -> None:
        spoilt, notes = session.names["characters"], session.names["notes"]
        spoilt.update("DIGIT ONE", {"decimal": 1.0})
        spoilt.remove("DIGIT TWO")
        spoilt.set("NO CHARACTER", {})
        spoilt.set("NO CHARACTER EITHER", {})
        notes.update("pi", {"votes": 999})

    monkeypatch.setattr("mapitem.demo._restart_in_the_past", spoil)
    assert run_demo(tmp_path / "d", limit=SLICE, console=console) == 5
    assert "1 note compared: 5 differences" in text_on(console)
    assert re.findall("differs: (.*)", text_on(console)) == ["DIGIT ONE", "DIGIT TWO"]


def test_demo_that_fails_closes_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L1 of durability: when a step raises, the file is free again."""

    def trip(session: Session) -> None:
        raise RuntimeError("tripped")

    monkeypatch.setattr("mapitem.demo._read_pages", trip)
    with pytest.raises(RuntimeError, match="tripped"):
        run_demo(tmp_path / "d", limit=SLICE, console=screen())
    with Store(tmp_path / "d") as store:
        assert len(store.open_map("characters")) == SLICE


def test_demo_that_is_interrupted_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F3 of durability: Ctrl-C may fail the store, so that closing raises; the caller still sees the Ctrl-C."""

    def interrupt(session: Session) -> None:
        raise KeyboardInterrupt

    def close_with_error(store: Store) -> None:
        close(store)
        raise StoreFailed("in doubt")

    close = Store.close
    monkeypatch.setattr("mapitem.demo._reopen", interrupt)
    monkeypatch.setattr(Store, "close", close_with_error)
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path / "d", limit=SLICE, console=screen())


# ------------------------------------------------------------ how it is told


def test_session_shows_the_lines_that_it_runs() -> None:
    """Statements get a prompt each, continued lines the other one; the last expression's value comes back."""
    console = screen()
    session = Session(console, start=1)
    with session.step("Counting"):
        value = session.run("total = start\nfor n in range(3):\n    total += n\ntotal")
        session.tell(f"{value} in all")
    assert value == 4
    assert text_on(console).splitlines()[1:] == [
        ">>> total = start",
        ">>> for n in range(3):",
        "...     total += n",
        ">>> total",
        "    4 in all",
    ]


def test_session_runs_statement_without_value() -> None:
    """A last line that is no expression gives ``None``, and its names stay for the next."""
    session = Session(screen())
    with session.step("Naming"):
        assert session.run("n = 5") is None
        assert session.run("n; n + 1") == 6


def test_session_prints_step_that_fails() -> None:
    """When a line raises, what was shown up to it is on the screen."""
    console = screen()
    session = Session(console)
    with pytest.raises(ZeroDivisionError), session.step("Dividing"):
        session.run("1 / 0")
    title, line = text_on(console).splitlines()
    assert title.startswith("1. Dividing -")
    assert line == ">>> 1 / 0"


def test_titles_end_at_the_same_column() -> None:
    """Titles are ruled to 80 columns, however wide the terminal is."""
    console = screen(width=120)
    session = Session(console)
    for title in ("Short", "A longer title"):
        with session.step(title):
            pass
    assert [len(line) for line in text_on(console).splitlines()] == [80, 80]


def test_database_shows_progress_to_a_person_only() -> None:
    """The bar is drawn in a terminal and taken away at the end; a pipe sees nothing of it."""
    watched, piped = screen(force_terminal=True, width=80, _environ={}), screen()
    for console in (watched, piped):
        database = UnicodeDatabase(named_characters(SLICE), console)
        pairs = list(database)
        assert [pair for chunk in database.chunks() for pair in chunk] == pairs
        assert [data["char"] for _, data in pairs] == named_characters(SLICE)
        assert [name for name, _ in pairs] == [unicodedata.name(char) for char in named_characters(SLICE)]
    assert "1000/1000" in text_on(watched)
    assert text_on(piped) == ""


def test_demo_keeps_colours_to_terminals(tmp_path: Path) -> None:
    """A terminal gets colours, one with NO_COLOR none, and the words are the same."""
    coloured = screen(force_terminal=True, width=80, color_system="standard", _environ={})
    plain = screen(force_terminal=True, width=80, _environ={"NO_COLOR": "1"})
    for console in (coloured, plain):
        session = Session(console)
        with session.step("Colours"):
            session.run("1 + 1")
    assert "\x1b[36m1 + 1" in text_on(coloured)
    assert re.search(r"\x1b\[3\d", text_on(plain)) is None
    assert ">>> " in text_on(plain)


def test_clock_of_the_demo_is_moved_by_hand(told: tuple[Path, str]) -> None:
    """T7: an hour of the demo's time passes in no time, and the file's dates are those of its own clock."""
    path, _ = told
    with Store(path, read_only=True, clock=ManualClock()) as store:
        dates = {item.date_created for item in store.open_map("characters").range()}
        assert len(dates) == 1
        assert dates.pop().microsecond == 0

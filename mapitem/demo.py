"""The demonstration: the Unicode character database that Python carries, put through what the library does.

The data are real and nobody made them for this: each named character is an item, its name the key, its
properties the data. This room owns the story and how it is told in a terminal. It uses the library through
its public names alone, and what it shows as a line of Python is the very line that it runs.
"""

from __future__ import annotations

import ast
import sys
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from mapitem import MapItem, RevisionMismatch, Store, StoreFailed
from mapitem.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_WIDTH = 80
_CHUNK = 4000


def named_characters(limit: int | None = None) -> list[str]:
    """Characters that have a name in Python's Unicode database, in code-point order, at most ``limit``."""
    everything = map(chr, range(sys.maxunicode + 1))
    return list(islice((char for char in everything if unicodedata.name(char, None)), limit))


def properties(char: str) -> dict[str, Any]:
    """What the Unicode database says of a character, as an item's data; what does not apply is left out."""
    always = {
        "char": char,
        "code_point": ord(char),
        "category": unicodedata.category(char),
        "bidirectional": unicodedata.bidirectional(char),
        "combining": unicodedata.combining(char),
        "east_asian_width": unicodedata.east_asian_width(char),
        "mirrored": bool(unicodedata.mirrored(char)),
    }
    upper, lower, title = char.upper(), char.lower(), char.title()
    sometimes = {
        "decomposition": unicodedata.decomposition(char) or None,
        "decimal": unicodedata.decimal(char, None),
        "digit": unicodedata.digit(char, None),
        "numeric": unicodedata.numeric(char, None),
        "upper": upper if upper != char else None,
        "lower": lower if lower != char else None,
        "title": title if title != char else None,
    }
    return always | {name: value for name, value in sometimes.items() if value is not None}


def same(item: MapItem | None, data: dict[str, Any]) -> bool:
    """Whether the item is there and holds exactly ``data``: types and order of fields too (semantics D2)."""
    return item is not None and repr(item.data) == repr(data)


def run_demo(path: Path, *, limit: int | None = None, console: Console | None = None) -> int:
    """Write the demo's store to ``path``, which must not exist, and tell of it on ``console`` (or stdout).

    Returns how many items were not, at the end, what had been stored: 0, if all is well. ``limit`` keeps to
    the first characters, 1000 at least, for a quick run. Raises what the library raises; the store is
    closed in any case.
    """
    console = console or Console(highlight=False, markup=False, emoji=False)
    database = UnicodeDatabase(named_characters(limit), console)
    session = Session(
        console,
        Store=Store,
        ManualClock=ManualClock,
        ThreadPoolExecutor=ThreadPoolExecutor,
        same=same,
        database=database,
        path=path,
        clock=ManualClock(now=time.time() // 1),
    )
    _introduce(console, len(database))
    try:
        _load(session)
        _reopen(session)
        _read_ranges(session)
        _read_pages(session)
        _collide(session)
        _mutate(session)
        _expire(session)
        _restart_in_the_past(session)
        differences = _check(session)
    except BaseException:
        # Ctrl-C in the middle of a write fails the store, and closing says so: the Ctrl-C is what matters.
        with suppress(StoreFailed, OSError):
            _close(session)
        raise
    _close(session)
    return differences


class UnicodeDatabase:
    """Iterates over name and properties of each character, behind a progress bar where somebody watches one.

    ``seconds`` is what the last loop over it took for itself; looking the properties up and drawing the bar
    do not count.
    """

    def __init__(self, characters: Sequence[str], console: Console) -> None:
        self.seconds = 0.0
        self._characters = characters
        self._console = console

    def __len__(self) -> int:
        return len(self._characters)

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self) -> Iterator[list[tuple[str, dict[str, Any]]]]:
        """The same in lists of a few thousand, so that each can go into the store as one batch."""
        self.seconds = 0.0
        with self._progress() as progress:
            task = progress.add_task("characters", total=len(self))
            for start in range(0, len(self), _CHUNK):
                chars = self._characters[start : start + _CHUNK]
                chunk = [(unicodedata.name(char), properties(char)) for char in chars]
                began = time.perf_counter()
                yield chunk
                self.seconds += time.perf_counter() - began
                progress.update(task, advance=len(chunk), refresh=True)

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        unwatched = not self._console.is_interactive
        # Drawn between two chunks, not by rich's thread, which would take its time out of what is measured.
        return Progress(*columns, console=self._console, auto_refresh=False, transient=True, disable=unwatched)


class Session:
    """A session played from a script: what it shows as a line of Python is what it runs.

    ``names`` are the session's variables. What a step shows is printed when the step is over, below its
    title and the time that its lines took.
    """

    def __init__(self, console: Console, **names: Any) -> None:
        self.names = names
        self._console = console
        self._lines: list[Text] = []
        self._seconds = 0.0
        self._steps = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One titled part of the story; what it has shown is printed even if it fails."""
        self._steps += 1
        self._lines.clear()
        self._seconds = 0.0
        try:
            yield
        finally:
            self._print_title(f"{self._steps}. {title} ", f" {_duration(self._seconds)}")
            for line in self._lines:
                self._console.print(line, soft_wrap=True)

    def run(self, source: str) -> Any:
        """Show and run ``source``; returns the value of its last line, if that is an expression."""
        tree = ast.parse(source)
        self._show(source, {statement.lineno for statement in tree.body})
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        began = time.perf_counter()
        try:
            exec(compile(tree, "<demo>", "exec"), self.names)
            if isinstance(last, ast.Expr):
                return eval(compile(ast.Expression(last.value), "<demo>", "eval"), self.names)
        finally:
            self._seconds += time.perf_counter() - began

    def tell(self, result: str) -> None:
        """Show a line of result."""
        self._lines.append(Text("    " + result))

    def _show(self, source: str, statements: set[int]) -> None:
        for number, line in enumerate(source.splitlines(), start=1):
            prompt = ">>> " if number in statements else "... "
            self._lines.append(Text.assemble((prompt, "dim"), (line, "cyan")))

    def _print_title(self, title: str, time_taken: str) -> None:
        rule = "-" * (_WIDTH - len(title) - len(time_taken))
        self._console.print(Text.assemble((title, "bold"), (rule, "dim"), (time_taken, "dim")), soft_wrap=True)


def _close(session: Session) -> None:
    if "store" in session.names:
        session.names["store"].close()


def _introduce(console: Console, count: int) -> None:
    version = unicodedata.unidata_version
    text = (
        "mapitem keeps ordered maps of JSON items, each with a revision, in one file.\n"
        f"Here it gets {count:,} named characters of Unicode {version}, as Python has them:\n"
        "the key is the name, the data are the properties. What stands behind >>> is run.\n"
    )
    console.print(text, soft_wrap=True)


def _load(session: Session) -> None:
    database: UnicodeDatabase = session.names["database"]
    with session.step("Load in batches: each is applied whole or not at all"):
        session.run("store = Store(path, clock=clock); characters = store.map('characters')")
        session.run(
            "for chunk in database.chunks():\n"
            "    with store.batch() as batch:\n"
            "        for key, data in chunk: batch.create(characters, key, data)"
        )
        speed = len(database) / database.seconds
        session.tell(f"{len(database):,} writes in {_duration(database.seconds)}: {speed:,.0f} per second")


def _reopen(session: Session) -> None:
    with session.step("Close the file, and open it again"):
        session.run("store.close(); store = Store(path, clock=clock)")
        session.run("characters = store.open_map('characters')")
        count, revision = session.run("len(characters), characters.revision")
        session.tell(f"{count:,} items, revision {revision}; the file has {_megabytes(session)}")


def _read_ranges(session: Session) -> None:
    with session.step("Read by key, and in the order of keys from any place"):
        pi = session.run("pi = characters['GREEK SMALL LETTER PI']; pi")
        session.tell(f"{_sign(pi)}  category {pi.data['category']}, upper {pi.data['upper']}, revision {pi.revision}")
        _tell_items(session, session.run("list(characters.range(pi.key, limit=2))"))
        backwards = session.run("list(characters.range(pi.key, bounds='exclusive', order='desc', limit=2))")
        _tell_items(session, backwards)
        fractions = session.run("list(characters.range(prefix='VULGAR FRACTION'))")
        session.tell(f"{len(fractions)} items: " + " ".join(item.data["char"] for item in fractions))


def _read_pages(session: Session) -> None:
    with session.step("Pages: tokens lead forth and back"):
        session.run("one = characters.page(page_size=4, prefix='GREEK CAPITAL')")
        session.tell(_signs(session.names["one"].items))
        session.run("two = characters.page(page_size=4, page_token=one.next_page_token)")
        session.tell(_signs(session.names["two"].items))
        session.run("back = characters.page(page_size=4, page_token=two.previous_page_token)")
        session.tell(_signs(session.names["back"].items))


def _collide(session: Session) -> None:
    with session.step("Conflict: two writers hold the same revision, one of them wins"):
        session.run("notes = store.map('notes')")
        session.run("ann = bob = notes.create('pi', {'votes': 0}).revision")
        session.run("notes.update('pi', {'by': 'Ann'}, if_match=ann)")
        try:
            session.run("notes.update('pi', {'by': 'Bob'}, if_match=bob)")
        except RevisionMismatch as error:
            session.tell(f"RevisionMismatch: expected {error.expected!r}, actual {error.actual!r}; nothing written")


def _mutate(session: Session) -> None:
    with session.step("Mutate: read, change, write; again if somebody was faster"):
        session.run("add_one = lambda data: data | {'votes': data['votes'] + 1}")
        # One attempt fails only because another vote was counted, so a thousand are enough for whoever is unlucky.
        session.run("vote = lambda _: notes.mutate('pi', add_one, max_attempts=1000)")
        session.run("with ThreadPoolExecutor(4) as pool: done = list(pool.map(vote, range(1000)))")
        counted = session.run("notes['pi'].data")
        session.tell(f"{counted}: of 1000 votes from 4 threads none is lost")


def _expire(session: Session) -> None:
    with session.step("Time to live, on a clock that is moved by hand"):
        session.run("notes.set('hello', {'text': 'I have a minute'}, ttl=60)")
        session.tell(str(session.run("clock.advance(59); 'hello' in notes")))
        session.tell(str(session.run("clock.advance(1); 'hello' in notes")))
        session.tell(f"{session.run('notes.purge()')} item removed for good")


def _restart_in_the_past(session: Session) -> None:
    with session.step("Compact, and restart with the clock set back: gone is gone"):
        session.run("store.compact(); store.close()")
        session.tell(f"the file has {_megabytes(session)}")
        session.run("store = Store(path, clock=ManualClock(now=clock() - 60))")
        session.run("characters, notes = store.open_map('characters'), store.open_map('notes')")
        session.tell(str(session.run("'hello' in notes")))


def _check(session: Session) -> int:
    characters = session.names["characters"]
    with session.step("Check every item against unicodedata again"):
        differing: list[str] = session.run("[key for key, data in database if not same(characters.get(key), data)]")
        stored, expected = session.run("len(characters), len(database)")
        note_differs = not session.run("same(notes.get('pi'), {'votes': 1000, 'by': 'Ann'})")
        missing = sum(key not in characters for key in differing)
        strange: int = stored - (expected - missing)
        differences: int = len(differing) + strange + note_differs
        session.tell(f"{expected:,} characters and 1 note compared: {differences} differences")
        for key in differing[:3]:
            session.tell(f"differs: {key}")
    return differences


def _tell_items(session: Session, items: Sequence[MapItem]) -> None:
    for item in items:
        session.tell(f"{_sign(item)}  {item.key}")


def _sign(item: MapItem) -> str:
    return f"{item.data['char']} U+{item.data['code_point']:04X}"


def _signs(items: Sequence[MapItem]) -> str:
    return "   ".join(map(_sign, items))


def _megabytes(session: Session) -> str:
    return f"{session.names['path'].stat().st_size / 1e6:.2f} MB"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"

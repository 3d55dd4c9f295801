"""Taking a safeguard out of the library, in memory, and calling a check to see whether it misses it.

What the safeguards are, and which checks watch over them, ``safeguards`` knows; nothing here knows a line of the
library. Lines are found by their text, in whichever function of whichever room they stand.
"""

from __future__ import annotations
import __future__

import gc
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

import mapitem
from mapitem import MapItemError

_TESTS = str(Path(__file__).parent.parent)
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)  # where pytest puts it too

# Rooms that need an optional package, or that have nothing to do with the file.
_OTHER_ROOMS = {"__main__", "aio", "cli", "demo", "repair", "testing", "twilio"}


class Check(NamedTuple):
    """A test by module and name, and its arguments; folders and the like it gets as from pytest."""

    test: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        what = ", ".join(getattr(each, "__name__", _shortened(str(each))) for each in self.arguments)
        return f"`{self.test.replace('.', '::')}`" + (f" ({what})" if what else "")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


class Safeguard(NamedTuple):
    """One thing that keeps the file safe, how to take it out, and the checks that miss it then.

    An edit is written as a difference: lines of one function of the library, which begin with a space if they stay,
    with ``-`` if they are taken out, and with ``+`` if they are put in; then another space. ``…`` is any text; a line
    that is taken out and put in again is moved.
    """

    name: str
    clauses: str
    edits: tuple[str, ...]
    checks: tuple[Check, ...]


class Caught(NamedTuple):
    """What came of a check without the safeguard.

    ``said`` is ``None`` if it passed. ``is_real``: it failed as it should, by what it asserts or by an error of the
    library's, and not because this module or the check itself is at fault.
    """

    check: Check
    said: str | None
    is_real: bool
    seconds: float


# ---------------------------------------------------------------- taking a safeguard out


@contextmanager
def without(safeguard: Safeguard) -> Iterator[None]:
    """The library as it is without the safeguard."""
    edited: dict[FunctionType, str] = {}
    for edit in safeguard.edits:
        lines = textwrap.dedent(edit).strip("\n").splitlines()
        pattern = _pattern([line for line in lines if line[0] != "+"])
        found = [function for function, source in _functions().items() if pattern.search(source)]
        if len(found) != 1:
            raise LookupError(f"{len(found)} functions of the library have these lines:{edit}")
        function = found[0]
        edited[function] = pattern.sub(_replacement(lines), edited.get(function, _functions()[function]))
    before = {function: function.__code__ for function in edited}
    try:
        for function, source in edited.items():
            function.__code__ = _compiled(function, source)
        yield
    finally:
        for function, code in before.items():
            function.__code__ = code


def _pattern(lines: list[str]) -> re.Pattern[str]:
    """The lines at any indentation, each a group."""
    texts = [re.escape(line[2:]).replace("…", ".*?") for line in lines]
    first, *rest = texts
    return re.compile(
        rf"^(?P<indent> *)({first})$" + "".join(rf"\n(?P=indent)({text})$" for text in rest), re.MULTILINE
    )


def _replacement(lines: list[str]) -> Callable[[re.Match[str]], str]:
    """What stands in place of lines that were found."""
    old = [line[2:] for line in lines if line[0] != "+"]

    def replace(match: re.Match[str]) -> str:
        found = dict(zip(old, match.groups()[1:], strict=True))
        return "\n".join(match["indent"] + found.get(line[2:], line[2:]) for line in lines if line[0] != "-")

    return replace


@cache
def _functions() -> dict[FunctionType, str]:
    """Every function and method of the core, with its source."""
    found: dict[FunctionType, str] = {}
    for room in pkgutil.iter_modules(mapitem.__path__):
        if room.name in _OTHER_ROOMS:
            continue
        module = importlib.import_module(f"mapitem.{room.name}")
        members = [each for each in vars(module).values() if getattr(each, "__module__", None) == module.__name__]
        for owner in [module, *(each for each in members if isinstance(each, type))]:
            for member in vars(owner).values():
                function = _unwrapped(member)
                if function is not None and function.__module__ == module.__name__:
                    try:
                        found[function] = textwrap.dedent(inspect.getsource(function))
                    except OSError:
                        continue  # made by a dataclass or the like
    return found


def _unwrapped(member: object) -> FunctionType | None:
    member = getattr(member, "fget", None) or getattr(member, "__func__", member)
    return member if isinstance(member, FunctionType) else None


def _compiled(function: FunctionType, source: str) -> CodeType:
    # At the same lines of the same file, for tracebacks and for those who count lines.
    place = "\n" * (function.__code__.co_firstlineno - 1)
    code = compile(
        place + source, function.__code__.co_filename, "exec", __future__.annotations.compiler_flag, dont_inherit=True
    )
    names: dict[str, Any] = {}
    exec(code, dict(function.__globals__), names)
    made = _unwrapped(names[function.__name__])
    assert made is not None
    return made.__code__


# ---------------------------------------------------------------- looking whether anybody misses it


def look(safeguard: Safeguard) -> list[Caught]:
    """What each of the checks says without the safeguard."""
    with without(safeguard):
        return [_run(check) for check in safeguard.checks]


def _run(check: Check) -> Caught:
    began = process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of stores that the check leaves open when it fails
        said, is_real = _outcome(check)
        gc.collect()
    return Caught(check, said, is_real, process_time() - began)


def _outcome(check: Check) -> tuple[str | None, bool]:
    try:
        _call(check)
    except (AssertionError, pytest.fail.Exception) as error:
        return _first_line(error), True
    except (MapItemError, OSError) as error:
        return f"{type(error).__name__}: {_first_line(error)}", True
    except Exception as error:
        return f"{type(error).__name__}: {_first_line(error)}", False
    return None, False


def _first_line(error: BaseException) -> str:
    text = str(error)
    if not text and error.__traceback__ is not None:
        # A plain assertion, which pytest would have words for.
        text = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return (text.splitlines() or [""])[0]


def _call(check: Check) -> None:
    module_name, name = check.test.split(".")
    module = importlib.import_module(module_name)
    test: Callable[..., object] = getattr(module, name)
    left = list(check.arguments)
    with ExitStack() as stack:
        arguments = {}
        for parameter in inspect.signature(test).parameters:
            if parameter == "tmp_path":
                arguments[parameter] = Path(stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
            elif parameter == "path":
                arguments[parameter] = (
                    f"{stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True))}/log.mapitem"
                )
            elif parameter == "monkeypatch":
                arguments[parameter] = stack.enter_context(pytest.MonkeyPatch.context())
            elif parameter == "run":
                arguments[parameter] = stack.enter_context(module.at_work())
            else:
                arguments[parameter] = left.pop(0)
        assert not left, check
        test(**arguments)

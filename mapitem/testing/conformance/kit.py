"""How a check is written and run: the base of the sections, ``check``, and the adapter that a user derives from.

A section is a class of checks; a check is a method whose docstring opens with the rules that it is about. It makes the
store when it first asks for it, so that a check that is skipped costs nothing. This room knows no single rule.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from mapitem.events import Event
from mapitem.testing.clock import ManualClock
from mapitem.testing.conformance.capabilities import Capabilities
from mapitem.testing.oracle import same

NOW = 1_700_000_000.0
"""What the clock shows when a check begins: a whole second, in 2023."""

LACKS = "declares no "
"""How the reason of a skip begins, if it is a capability."""

PATIENCE = 10.0
"""How many seconds a check waits for another thread before it says that the thread hangs."""

Check = TypeVar("Check", bound=Callable[..., None])
RULES = re.compile(r"((?:(?:[KDRITWCLEFS]\d|X|Oracle)(?:, )?)+): ")


class RuleBroken(AssertionError):
    """A check failed. The message opens with the rules; ``rules`` lists them."""

    def __init__(self, rules: Iterable[str], message: str) -> None:
        self.rules = tuple(rules)
        super().__init__(f"{', '.join(self.rules)}: {message}")


class Adapter:
    """The store under test: how to make one, and what it can do. Users derive from ``Conformance`` instead.

    One adapter object serves one check, or one run of the state machine. It must not define ``__init__``.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()

    max_examples: ClassVar[int | None] = None
    """How many stories the state machine tries; by default as many as hypothesis's profile says."""

    _folder: Path | None = None

    def make_store(self, clock: ManualClock) -> Any:
        """A new, empty store whose time is ``clock()``, in seconds since 1970.

        May be called several times for one adapter object; the stores know nothing of each other. With the capability
        ``identity`` or ``limits`` it is also called with that as a keyword argument.
        """
        raise NotImplementedError("give make_store(self, clock)")

    def close(self, store: Any) -> None:
        """Let the store go. Called once for each store of ``make_store`` or ``reopen``, also when it was closed before.

        By default ``store.close()`` if there is the capability ``closing``.
        """
        if self.capabilities.closing:
            store.close()

    def reopen(self, store: Any) -> Any:
        """Close the store and open what it left behind, on the same clock. For the capability ``durable``."""
        raise NotImplementedError("with the capability `durable`, give reopen(self, store)")

    def settle(self, store: Any) -> None:
        """Return when callbacks and feeds have been told of all that was written: for stores that tell with a delay."""

    def open_again(self, store: Any) -> Any:
        """Open for writing what ``store`` has open for writing. For the capability ``locking``."""
        raise NotImplementedError("with the capability `locking`, give open_again(self, store)")

    def open_read_only(self, store: Any) -> Any:
        """Open to read only what ``store`` has written, after it was closed. For the capability ``read_only``."""
        raise NotImplementedError("with the capability `read_only`, give open_read_only(self, store)")

    @property
    def folder(self) -> Path:
        """An empty folder for files, of this adapter object alone; removed afterwards."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="conformance-"))
        return self._folder

    def finish(self) -> None:
        """For the kit: removes the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None


class Bench:
    """An adapter at work: the clock, and the stores that it made, which are closed at the end."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.can = adapter.capabilities
        self.clock = ManualClock(NOW)
        self._open: list[Any] = []

    def make_store(self, **options: Any) -> Any:
        store = self.adapter.make_store(self.clock, **options)
        self._open.append(store)
        return store

    def reopen(self, store: Any) -> Any:
        again = self.adapter.reopen(store)
        self._open = [each for each in self._open if each is not store]
        self._open.append(again)
        return again

    def adopt(self, store: Any) -> Any:
        """A store that the adapter opened by another door, to be closed with the rest."""
        self._open.append(store)
        return store

    def finish(self) -> None:
        try:
            while self._open:
                self.adapter.close(self._open.pop())
        finally:
            self.adapter.finish()


class Section:
    """The base of all sections. In a check: ``store`` is a new store, ``map`` an empty map ``"m"`` of it."""

    adapter: ClassVar[type[Adapter]]

    _bench: Bench | None = None
    _store: Any = None
    _map: Any = None

    @property
    def can(self) -> Capabilities:
        return self.adapter.capabilities

    @property
    def bench(self) -> Bench:
        if self._bench is None:
            self._bench = Bench(self.adapter())
        return self._bench

    @property
    def clock(self) -> ManualClock:
        return self.bench.clock

    @property
    def store(self) -> Any:
        if self._store is None:
            self._store = self.bench.make_store()
        return self._store

    @property
    def map(self) -> Any:
        if self._map is None:
            self._map = self.store.map("m")
        return self._map

    def finish(self) -> None:
        if self._bench is not None:
            self._bench.finish()

    # ------------------------------------------------------------ what checks are made of

    def fill(self, *keys: str) -> Any:
        """The map with these keys, each with its number as data."""
        for number, key in enumerate(keys):
            self.map.set(key, {"n": number})
        return self.map

    def reopened_map(self) -> Any:
        """The map ``"m"`` after the store was closed and opened again."""
        self._store = self.bench.reopen(self.store)
        self._map = self._store.open_map("m")
        return self._map

    def accepted(self, *keys: str) -> list[str]:
        """Those of the keys that the store declares to take; the check is skipped if there are none."""
        found = [key for key in keys if self.can.accepts_key(key)]
        if not found:
            pytest.skip("declares by `accepts_key` to take none of the keys")
        return found

    def keys(self) -> list[str]:
        return [item.key for item in self.map.range()]

    @contextmanager
    def nothing_written(self, what: str) -> Iterator[None]:
        """The block must leave the map as it was, to the last revision and date."""
        before = self._snapshot()
        yield
        after = self._snapshot()
        if before != after:
            raise AssertionError(f"{what} changed the map from {shown(before)} to {shown(after)}")

    def _snapshot(self) -> object:
        items = [look(item) for item in self.map.range()]
        return items, self.map.revision if self.can.map_revision else None

    def listen(self, to: Any = None) -> Heard:
        """The events of the map, or of what has an ``on``, from now on."""
        heard = Heard(self)
        (self.map if to is None else to).on(Event, heard.events.append)
        return heard

    def expect(self, got: object, wanted: object, what: str) -> None:
        """Equal, down to types and signs of zero."""
        __tracebackhide__ = True
        if not same(plain(got), plain(wanted)):
            raise AssertionError(f"{what}: {shown(got)}, should be {shown(wanted)}")

    def expect_data(self, got: object, wanted: object, what: str) -> None:
        """Equal as data, as exactly as the store declares to keep them."""
        __tracebackhide__ = True
        if not same_data(got, wanted, self.can):
            raise AssertionError(f"{what}: {shown(got)}, should be {shown(wanted)}")

    def expect_date(self, got: object, seconds: float | None, what: str) -> None:
        """The date of that instant of the clock, as finely as the store declares to keep dates."""
        __tracebackhide__ = True
        wanted = None if seconds is None else date(seconds)
        if not same_date(got, wanted, self.can.date_resolution):
            raise AssertionError(f"{what}: {shown(got)}, should be {shown(wanted)}")

    def expect_true(self, condition: object, what: str) -> None:
        __tracebackhide__ = True
        if not condition:
            raise AssertionError(what)

    @contextmanager
    def refused(self, errors: type[Exception] | tuple[type[Exception], ...], what: str) -> Iterator[Caught]:
        """The block must raise one of these; ``.error`` is then what it raised."""
        caught = Caught()
        expected = errors if isinstance(errors, tuple) else (errors,)
        names = " or ".join(error.__name__ for error in expected)
        try:
            yield caught
        except expected as error:
            caught.error = error
        except Exception as error:
            raise AssertionError(f"{what}: raised {type(error).__name__}({error}), should raise {names}") from error
        else:
            raise AssertionError(f"{what}: raised nothing, should raise {names}")

    def all_refused(self, error: type[Exception], calls: Mapping[str, Callable[[], object]], what: str) -> None:
        """Each of the calls must raise the error."""
        for name, call in calls.items():
            with self.refused(error, f"{name} {what}"):
                call()


class Heard:
    """Events that a callback got."""

    def __init__(self, section: Section) -> None:
        self.events: list[Any] = []
        self._section = section

    def so_far(self) -> list[Any]:
        self._section.bench.adapter.settle(self._section.store)
        return list(self.events)

    def told(self) -> list[tuple[str, str | None]]:
        """Class and key of each event."""
        return [(type(event).__name__, getattr(event, "key", None)) for event in self.so_far()]


class Caught:
    """What ``refused`` has caught, once its block is over."""

    error: Any = None


def check(*needs: str) -> Callable[[Check], Check]:
    """Makes a method a check that needs these capabilities. Its docstring opens with the rules: ``W5, R4: …``."""

    def decorate(method: Check) -> Check:
        text = " ".join((method.__doc__ or "").split())
        found = RULES.match(text)
        assert found is not None, f"{method.__name__} names no rule"
        rules, claim = found[1].split(", "), text[found.end() :]

        @wraps(method)
        def run(self: Section) -> None:
            __tracebackhide__ = True
            for name in needs:
                if not self.can.has(name):
                    pytest.skip(f"{LACKS}`{name}`")
            try:
                try:
                    method(self)
                finally:
                    self.finish()
            except (RuleBroken, pytest.skip.Exception):
                raise
            except Exception as error:
                told = str(error) if isinstance(error, AssertionError) else f"raised {type(error).__name__}({error})"
                # With the traceback of the mistake itself, so that no second one is shown beside it.
                raise RuleBroken(rules, f"{claim}\n{told}").with_traceback(error.__traceback__) from None

        run.rules = tuple(rules)  # type: ignore[attr-defined]
        run.needs = needs  # type: ignore[attr-defined]
        return run  # type: ignore[return-value]

    return decorate


# ---------------------------------------------------------------- comparing


def plain(value: object) -> object:
    """Iterators and views as lists."""
    return list(value) if isinstance(value, Iterator) else value


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:120]} … {text[-60:]}"


def date(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def same_date(got: object, wanted: datetime | None, resolution: float) -> bool:
    if wanted is None or got is None:
        return got is wanted
    if not isinstance(got, datetime) or got.utcoffset() != timedelta(0):
        return False
    # Two dates of one instant lie less than the resolution apart, however they were cut; floats are no finer than this.
    return abs((got - wanted).total_seconds()) < max(resolution, 2e-6)


def same_data(got: object, wanted: object, can: Capabilities) -> bool:
    if can.exact_numbers and can.field_order:
        return same(got, wanted)
    return same(loose(got, can), loose(wanted, can))


def loose(value: object, can: Capabilities) -> object:
    """Data without what the store declares not to keep."""
    if isinstance(value, dict):
        pairs = [(name, loose(inner, can)) for name, inner in value.items()]
        return dict(pairs if can.field_order else sorted(pairs, key=lambda pair: pair[0]))
    if isinstance(value, list):
        return [loose(inner, can) for inner in value]
    if isinstance(value, int | float) and not can.exact_numbers:
        return float(value) + 0.0
    return value


def look(item: Any) -> tuple[object, ...]:
    """An item as a value that tells types and the order of fields apart."""
    dates = item.date_created, item.date_updated, item.date_expires
    return item.key, repr(item.data), item.revision, *dates


def keys_of(items: Iterable[Any]) -> list[str]:
    return [item.key for item in items]

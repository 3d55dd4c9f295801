"""Fixtures that every test shares: a clock that stands still, and a store in memory and on file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from mapitem import Map, Store
from mapitem.testing import ManualClock

# quick: while writing code. ci: the same examples every time. long: a campaign, of as many examples as
# HYPOTHESIS_EXAMPLES says (see "Contributing" in the README).
settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile(
    "ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "long",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "20000")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

NOW = 1_700_000_000.0


class StoreMaker:
    """Opens stores of one backing on one clock and closes them all at the end of the test."""

    def __init__(self, backing: str, folder: Path, clock: ManualClock, stack: ExitStack) -> None:
        self.backing = backing
        self.path = folder / "store.mapitem" if backing == "file" else None
        self._clock = clock
        self._stack = stack

    def __call__(self, **options: Any) -> Store:
        """A store; on file every call opens the same path, so the one before must be closed first."""
        return self._stack.enter_context(Store(self.path, **{"clock": self._clock, **options}))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=NOW)


@pytest.fixture(params=["memory", "file"])
def backing(request: pytest.FixtureRequest) -> str:
    """``"memory"`` or ``"file"``: every test that uses a store runs on both."""
    return str(request.param)


@pytest.fixture
def make_store(backing: str, tmp_path: Path, clock: ManualClock) -> Iterator[StoreMaker]:
    with ExitStack() as stack:
        yield StoreMaker(backing, tmp_path, clock, stack)


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    return make_store()


@pytest.fixture
def map_(store: Store) -> Map:
    """An empty map that never expires, named ``m``."""
    return store.map("m")

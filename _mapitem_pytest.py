"""The pytest plugin: a store in memory, one on file, the clock of both, and a client of Twilio, as fixtures.

Beside the package and not in it, so that pytest, which loads the plugins of whatever is installed, does not import
mapitem: that would cost every run, and what is imported before a measurement of coverage begins counts as not covered.
Fixtures import what they need when a test asks for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from twilio.rest import Client

    from mapitem.testing import FaultyStore, ManualClock


@pytest.fixture
def mapitem_clock() -> ManualClock:
    """The clock of both stores: it stands at 2026-01-01 00:00 UTC until a test moves it."""
    from mapitem.testing import ManualClock

    return ManualClock(now=1_767_225_600.0)


@pytest.fixture
def mapitem_store(mapitem_clock: ManualClock) -> Iterator[FaultyStore]:
    """An empty ``Store`` in memory, closed at the end of the test; ``mapitem_store.faults`` makes it fail."""
    from mapitem.testing import FaultyStore

    with FaultyStore(clock=mapitem_clock) as store:
        yield store


@pytest.fixture
def mapitem_file_store(mapitem_clock: ManualClock, tmp_path: Path) -> Iterator[FaultyStore]:
    """As ``mapitem_store``, in the file ``store.mapitem`` in the test's ``tmp_path``."""
    from mapitem import StoreFailed
    from mapitem.testing import FaultyStore

    store = FaultyStore(tmp_path / "store.mapitem", clock=mapitem_clock)
    yield store
    # What the test made fail is no failure of its end.
    with suppress(StoreFailed):
        store.close()


@pytest.fixture
def mapitem_twilio(mapitem_store: FaultyStore) -> Client:
    """A ``twilio.rest.Client`` that ``mapitem_store`` answers, in process; needs the extra ``twilio``."""
    from mapitem.twilio import local_client

    return local_client(mapitem_store)

"""A client of the service for one test: a fresh store in memory, a clock moved by hand, and the client over both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twilio.rest import Client

from mapitem import Store
from mapitem.testing import ManualClock
from mapitem.twilio.client import LocalHttpClient

NOW = 1_700_000_000.0
"""What the clock of a fresh client shows: a whole second, in 2023."""


class LocalClient(Client):
    """A ``twilio.rest.Client`` that talks to ``store``, whose time is ``clock``."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        super().__init__("AC" + "0" * 32, "token", http_client=LocalHttpClient(store))  # type: ignore[no-untyped-call]
        self.store = store
        self.clock = clock


@contextmanager
def local_twilio(clock: ManualClock | None = None) -> Iterator[LocalClient]:
    """A client over a new, empty store in memory, which is closed at the end. The body of the fixture of that name.

    >>> with local_twilio() as client:
    ...     users = client.sync.v1.services("default").sync_maps.create(unique_name="users", ttl=60)
    ...     client.clock.advance(60)
    ...     list(client.store.maps())
    []
    """
    clock = clock or ManualClock(NOW)
    with Store(clock=clock) as store:
        yield LocalClient(store, clock)

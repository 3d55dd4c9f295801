"""The conformance kit, driven through the real Python client: in process, and over HTTP to a server of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from adapter import ClientStore
from loopback import ACCOUNT, Shelf, http_client, running
from twilio.rest import Client

from mapitem import Store
from mapitem.testing import ManualClock
from mapitem.testing.conformance import Capabilities, Conformance
from mapitem.twilio import LocalHttpClient

REST = Capabilities(
    # The REST interface has no such thing.
    **dict.fromkeys(["update", "mutate", "batches", "purge", "prefix"], False),
    **dict.fromkeys(["events", "feed", "watch", "async_watch"], False),
    **dict.fromkeys(["closing", "durable", "locking", "read_only", "compaction"], False),
    # Python's shapes, which our adapter does without.
    **dict.fromkeys(["mapping", "strict_walks"], False),
    # JSON makes lists of tuples, and an error on the wire is a code and a message.
    **dict.fromkeys(["exact_types", "data_paths", "error_fields"], False),
    date_resolution=1.0,
    items_per_page=100,
    # What a form cannot carry is refused before the rest is sent to be judged.
    error_order=False,
    # HTTP clients take these out of a path, even escaped.
    accepts_key=lambda key: key not in (".", ".."),
)


class TestInProcess(Conformance):
    """Through ``LocalHttpClient``."""

    max_examples = 10

    capabilities = REST

    def make_store(self, clock: ManualClock, **options: Any) -> ClientStore:
        transport = LocalHttpClient(Store(clock=clock, **options))
        return ClientStore(Client(ACCOUNT, "token", http_client=transport))


SHELF = Shelf()


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """One server for all the stores of ``TestOverHTTP``."""
    with running(SHELF) as TestOverHTTP.url:
        yield


class TestOverHTTP(Conformance):
    """Through a server on a real socket."""

    max_examples = 3

    capabilities = REST

    url = ""

    def make_store(self, clock: ManualClock, **options: Any) -> ClientStore:
        self._clients = getattr(self, "_clients", ExitStack())
        path = SHELF.add(Store(clock=clock, **options))
        return ClientStore(self._clients.enter_context(http_client(self.url + path)))

    def close(self, store: ClientStore) -> None:
        self._clients.close()

"""Fixtures of the service's edge: a store in memory, and the real Python client over it in process and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from loopback import ACCOUNT, http_client, serving
from twilio.rest import Client

from mapitem import Store
from mapitem.testing import ManualClock
from mapitem.twilio import LocalHttpClient
from mapitem.twilio.router import Router
from mapitem.twilio.wire import Request


@pytest.fixture
def store(clock: ManualClock) -> Iterator[Store]:
    """In memory only: what a store on file does differently is not this edge's business."""
    with Store(clock=clock) as store:
        yield store


@pytest.fixture(params=["in process", "over HTTP"])
def client(request: pytest.FixtureRequest, store: Store) -> Iterator[Client]:
    """The unmodified client of the twilio package, over both of our transports."""
    if request.param == "in process":
        yield Client(ACCOUNT, "token", http_client=LocalHttpClient(store))
        return
    with serving(store) as url, http_client(url) as client:
        yield client


@pytest.fixture
def maps(client: Client) -> Any:
    """The list of maps of the service ``default``."""
    return client.sync.v1.services("default").sync_maps


@pytest.fixture
def items(maps: Any) -> Any:
    """The items of a new map ``m``; called with a key, that item."""
    maps.create(unique_name="m")
    return maps("m").sync_map_items


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


@pytest.fixture
def ask(store: Store) -> Callable[..., Answer]:
    """``ask(method, path, form, …)``: a request as it stands on the wire, ``path`` relative to the service's maps."""
    return asking(Router(store))


def asking(router: Router) -> Callable[..., Answer]:
    def ask(
        method: str,
        path: str,
        form: Mapping[str, object] | None = None,
        *,
        query: str = "",
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        response = router.answer(
            Request(
                method=method,
                path=(path if path.startswith("/") else f"/v1/Services/default/Maps/{path}".rstrip("/")).encode(),
                query=query.encode(),
                headers={name.replace("_", "-"): value for name, value in headers.items()},
                body=urlencode(form or {}).encode() if body is None else body,
            )
        )
        return Answer(response.status, response.headers, json.loads(response.body) if response.body else None)

    return ask

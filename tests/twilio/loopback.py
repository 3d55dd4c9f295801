"""The application on a real socket of this machine, in a thread of the test, and a client that speaks to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from mapitem import Store
from mapitem.twilio import app
from mapitem.twilio.serve import listen, url_of

ACCOUNT = "AC" + "1" * 32


def serving(store: Store, credentials: tuple[str, str] | None = None) -> AbstractContextManager[str]:
    """The URL at which ``store`` is served for the length of the block."""
    return running(app(store, credentials=credentials))


class Shelf:
    """One application for many stores, each under a path of its own, for starting a server takes its time."""

    def __init__(self) -> None:
        self._apps: dict[str, ASGIApp] = {}

    def add(self, store: Store) -> str:
        """Serve one more store; returns its path."""
        path = f"/{len(self._apps)}"
        self._apps[path] = app(store)
        return path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = "/" + scope["path"].split("/", 2)[1]
        await self._apps[path]({**scope, "root_path": path}, receive, send)


@contextmanager
def running(application: ASGIApp) -> Iterator[str]:
    """The URL at which the application runs for the length of the block."""
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(application, http="h11", ws="none", lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            # The socket listens already: who comes before the server is ready waits for it.
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def http_client(url: str, account: str = ACCOUNT, token: str = "token") -> Iterator[Client]:
    """The twilio package's own client, with nothing changed but the host."""
    transport = TwilioHttpClient()
    client = Client(account, token, http_client=transport)
    client.sync.base_url = url
    try:
        yield client
    finally:
        transport.session.close()

"""The application on a real socket of this machine, in a thread of the test, and a client that speaks to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from mapitem import Store
from mapitem.twilio import app

ACCOUNT = "AC" + "1" * 32


@contextmanager
def serving(store: Store, credentials: tuple[str, str] | None = None) -> Iterator[str]:
    """The URL at which ``store`` is served for the length of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app(store, credentials=credentials), http="h11", ws="none", lifespan="off", log_level="critical"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            # The socket listens already: who comes before the server is ready waits for it.
            yield "http://{}:{}".format(*listener.getsockname())
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

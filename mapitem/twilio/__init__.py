"""The service's edge: what clients of Twilio Sync Maps talk to, over a store.

Code that was written for the service keeps its client, and only what answers is swapped: ``LocalHttpClient(store)`` for
the Python package ``twilio``, in process and without a socket; ``app(store)``, an ASGI application, for every other
client, which ``python -m mapitem serve`` runs. Both are thin shells around one router (``router``), and the wire format
stands in one file (``wire``). Needs the extras ``mapitem[twilio]`` or ``mapitem[server]``; importing this room needs
neither::

    from mapitem import Store
    from mapitem.twilio import LocalHttpClient
    from twilio.rest import Client

    client = Client("AC…", "token", http_client=LocalHttpClient(Store()))
    client.sync.v1.services("default").sync_maps.create(unique_name="users")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mapitem.twilio.client import AsyncLocalHttpClient, LocalHttpClient, MangledKeyWarning, local_client
    from mapitem.twilio.server import app

__all__ = ["AsyncLocalHttpClient", "LocalHttpClient", "MangledKeyWarning", "app", "local_client"]

# Where each name lives, the extra that it needs, and the packages of that extra that it imports.
_CLIENT = ("mapitem.twilio.client", "twilio", ("twilio", "requests"))
_SERVER = ("mapitem.twilio.server", "server", ("starlette",))
_ROOMS = {
    "AsyncLocalHttpClient": _CLIENT,
    "LocalHttpClient": _CLIENT,
    "MangledKeyWarning": _CLIENT,
    "local_client": _CLIENT,
    "app": _SERVER,
}


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module 'mapitem.twilio' has no attribute {name!r}")
    room, extra, packages = _ROOMS[name]
    try:
        return getattr(import_module(room), name)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] not in packages:
            raise
        raise ModuleNotFoundError(
            f"mapitem.twilio.{name} needs the package {packages[0]}: pip install 'mapitem[{extra}]'", name=missing.name
        ) from missing


def __dir__() -> list[str]:
    return [*__all__]

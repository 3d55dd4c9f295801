"""Transports for the Python package ``twilio``: its client runs unmodified, and a store answers instead of the service.

This room knows how that client calls a transport and what it does to keys on the way. What a request means is the
router's to say.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlencode

from requests.structures import CaseInsensitiveDict
from twilio.http import AsyncHttpClient, HttpClient
from twilio.http.response import Response as TwilioResponse

from mapitem import Store
from mapitem.twilio import wire
from mapitem.twilio.router import Router

if TYPE_CHECKING:
    from twilio.rest import Client

_log = logging.getLogger(__name__)

_URL = re.compile(r"(?P<base>[a-zA-Z]+://(?P<host>[^/?#]*))(?P<rest>.*)", re.DOTALL)
# The URLs that come with a query: those of following pages, which the client uses as they are.
_PAGE = re.compile(r"(?P<path>/v1/Services/[^/]+/Maps(?:/[^/]+/Items)?)\?(?P<query>.*)", re.DOTALL)
_ITEM = re.compile(r"(?P<items>/v1/Services/[^/]+/Maps/[^/]+/Items)/(?P<key>.+)", re.DOTALL)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


class MangledKeyWarning(UserWarning):
    """A key (or a map's name) that the twilio package puts into the URL unescaped, and that HTTP would mangle there.

    In process ``?``, ``#``, ``.``, ``..`` and the ``/`` in a key arrive as they are, and escapes as ``%2F`` are
    decoded, once. Over HTTP, and so at the real service, the same call reaches another key or map, or none.
    """


class LocalHttpClient(HttpClient):
    """``Client(account_sid, token, http_client=LocalHttpClient(store))``: the client's calls go to ``store``.

    Serves Sync Maps and their items; all else of the client's API is answered with 501. Any account and token will do,
    unless ``credentials``, a pair of both, says which. Thread-safe, as the store is. Errors come as the client's own:
    ``TwilioRestException`` with ``.status`` and ``.code``. A key that the client would not send unharmed over HTTP
    raises a ``MangledKeyWarning``.

    >>> from mapitem import Store
    >>> from twilio.rest import Client
    >>> store = Store()
    >>> client = Client("AC" + "0" * 32, "token", http_client=LocalHttpClient(store))
    >>> maps = client.sync.v1.services("default").sync_maps
    >>> maps.create(unique_name="users").revision
    '0'
    >>> maps("users").sync_map_items.create(key="taylor", data={"level": 30}, item_ttl=3600).data
    {'level': 30}
    >>> store.open_map("users")["taylor"].data
    {'level': 30}
    """

    def __init__(self, store: Store, *, credentials: tuple[str, str] | None = None) -> None:
        super().__init__(_log, is_async=False)
        self._router = Router(store, credentials=credentials)

    def request(
        self,
        method: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Mapping[str, object] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> TwilioResponse:
        """For the client: the store's answer. ``timeout`` and ``allow_redirects`` mean nothing here."""
        try:
            request = _request(method, uri, params, data, headers, auth)
        except wire.Refusal as refusal:
            return _shown(wire.answer_refusal(refusal))
        return _shown(self._router.answer(request))


class AsyncLocalHttpClient(AsyncHttpClient):
    """As ``LocalHttpClient``, for the client's ``…_async`` methods.

    Nothing waits but writes of a store with ``durability="power"``, whose requests therefore go to a thread.
    """

    def __init__(self, store: Store, *, credentials: tuple[str, str] | None = None) -> None:
        super().__init__(_log, is_async=True)
        self._router = Router(store, credentials=credentials)
        self._waits = store.durability == "power"

    async def request(  # type: ignore[override]  # as the client's own, whose base is not asynchronous
        self,
        method: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Mapping[str, object] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> TwilioResponse:
        """For the client: the store's answer. ``timeout`` and ``allow_redirects`` mean nothing here."""
        try:
            request = _request(method, uri, params, data, headers, auth)
        except wire.Refusal as refusal:
            return _shown(wire.answer_refusal(refusal))
        if self._waits:
            return _shown(await asyncio.to_thread(self._router.answer, request))
        return _shown(self._router.answer(request))


def local_client(store: Store) -> Client:
    """A ``twilio.rest.Client`` of a made-up account over ``store``: the body of the fixture ``mapitem_twilio``.

    >>> from mapitem import Store
    >>> maps = local_client(Store()).sync.v1.services("default").sync_maps
    >>> maps.create(unique_name="users").unique_name
    'users'
    """
    from twilio.rest import Client  # large, and a transport alone does without

    return Client("AC" + "0" * 32, "token", http_client=LocalHttpClient(store))  # type: ignore[no-untyped-call]


def _request(
    method: str,
    url: str,
    params: Mapping[str, object] | None,
    data: Mapping[str, object] | None,
    headers: Mapping[str, object] | None,
    auth: tuple[str, str] | None,
) -> wire.Request:
    """The call as a request; 501 if it is for another product of Twilio."""
    parts = _URL.fullmatch(url)
    if parts is None or (parts["host"].endswith(".twilio.com") and not parts["host"].startswith("sync.")):
        raise wire.Refusal(501, 20501, f"mapitem serves Twilio Sync, not {url.partition('?')[0]}")
    path, query = _path_and_query(parts["rest"])
    given = {name.lower(): str(value) for name, value in (headers or {}).items()}
    if auth is not None:
        given.setdefault("authorization", "Basic " + base64.b64encode(":".join(auth).encode()).decode())
    return wire.Request(
        method=method.upper(),
        path=path.encode("utf-8", "surrogatepass"),
        query=query.encode("utf-8", "surrogatepass") if query else _encode(params),
        headers=given,
        body=_encode(data),
        base_url=parts["base"],
    )


def _shown(response: wire.Response) -> TwilioResponse:
    return TwilioResponse(response.status, response.body.decode(), CaseInsensitiveDict(response.headers))


def _encode(fields: Mapping[str, object] | None) -> bytes:
    """A form or a query as HTTP clients write them: ``None`` is left out. What no UTF-8 holds, the router refuses."""
    given = [(name, value) for name, value in (fields or {}).items() if value is not None]
    return urlencode(given, doseq=True, errors="surrogatepass").encode()


# ---------------------------------------------------------------- keys that the client does not escape


def _path_and_query(rest: str) -> tuple[str, str]:
    """What stands behind the host as a path and a query. The client puts keys into the path as they are.

    What is no page's URL is therefore all path, to its last character, and a slash in a key is escaped here.
    """
    page = _PAGE.fullmatch(rest)
    path, query = (page["path"], page["query"]) if page else (rest, "")
    trap = _trap(path)
    if trap is not None:
        _warn(trap)
    if len(_ESCAPE.findall(path)) != path.count("%"):
        path = path.replace("%", "%25")  # as HTTP clients do
    item = _ITEM.fullmatch(path)
    if item is not None:
        path = f"{item['items']}/{item['key'].replace('/', '%2F')}"
    return path, query


def _trap(path: str) -> str | None:
    """What in the path an HTTP client would not send as it stands there, and what to do about it."""
    escape_it = "escape keys and names with urllib.parse.quote(key, safe='')"
    for character, effect in (("?", "begins the query"), ("#", "ends the URL")):
        if character in path:
            return f"over HTTP the {character!r} in {path!r} {effect}, and another resource is reached: {escape_it}"
    item = _ITEM.fullmatch(path)
    if item is not None and "/" in item["key"]:
        return f"over HTTP the '/' in the key {item['key']!r} divides the path, and it is not reached: {escape_it}"
    for segment in path.split("/"):
        if unquote_to_bytes(segment.encode("utf-8", "surrogatepass")) in (b".", b".."):
            return f"over HTTP {segment!r} is taken out of {path!r}, and another resource is reached: use no such key"
    escapes = _ESCAPE.findall(path)
    if len(escapes) != path.count("%"):
        return f"the '%' in {path!r} is not escaped: {escape_it}"
    for escape in escapes:
        meant = chr(int(escape, 16))
        if _UNRESERVED.fullmatch(meant):
            return f"'%{escape}' in {path!r} is read as {meant!r}, for its '%' is not escaped: {escape_it}"
    return None


def _warn(message: str) -> None:
    """Warn where the user's code called the client, however deep the client calls us."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("mapitem", "twilio"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, MangledKeyWarning, stacklevel=level)

"""The ASGI application: how a request comes off a socket and an answer goes back. What it means, the router says."""

from __future__ import annotations

import logging
import re
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Router as Application
from starlette.types import ASGIApp, Receive, Scope, Send

from mapitem import Store
from mapitem.twilio import wire
from mapitem.twilio.router import Router

_log = logging.getLogger(__name__)

_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


def app(store: Store, *, credentials: tuple[str, str] | None = None) -> ASGIApp:
    """``store`` behind the service's HTTP interface, as an ASGI application to run or to mount anywhere.

    ``credentials``, an account SID and a token, are asked for if they are given; else anybody may do anything. The
    store stays the caller's, to be closed when the server has ended. Absolute URLs in answers follow the ``Host`` that
    the client spoke to, and the path under which the application is mounted.
    """
    # A router without a route, for Starlette's own decode the path before they match it.
    return Application(default=_Endpoint(store, Router(store, credentials=credentials)), redirect_slashes=False)


class _Endpoint:
    def __init__(self, store: Store, router: Router) -> None:
        self._router = router
        self._waits = store.durability == "power"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        try:
            response = await self._answer(HttpRequest(scope, receive))
        except ClientDisconnect:
            return  # half a body is no request
        await HttpResponse(response.body, response.status, response.headers)(scope, receive, send)

    async def _answer(self, http: HttpRequest) -> wire.Response:
        try:
            request = await _read(http)
        except wire.Refusal as refusal:
            return wire.answer_refusal(refusal)
        try:
            if self._waits:
                return await run_in_threadpool(self._router.answer, request)
            return self._router.answer(request)
        except Exception:
            _log.exception("a request failed")
            return wire.answer_error(500, 20500, "Internal server error")


async def _read(http: HttpRequest) -> wire.Request:
    """The request as the router takes it, once all of its body is there; 413 as soon as that is too long."""
    announced = http.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > wire.MAX_BODY_BYTES:
        raise wire.body_too_large()
    body = bytearray()
    async for chunk in http.stream():
        body += chunk
        if len(body) > wire.MAX_BODY_BYTES:
            raise wire.body_too_large()
    root = http.scope.get("root_path", "")
    path = http.scope.get("raw_path") or quote(http.scope["path"]).encode()
    return wire.Request(
        method=http.method,
        path=path.removeprefix(quote(root).encode()),
        query=http.scope["query_string"],
        headers={name: ", ".join(http.headers.getlist(name)) for name in http.headers},
        body=bytes(body),
        base_url=f"{http.scope['scheme']}://{_host(http)}{quote(root)}",
    )


def _host(http: HttpRequest) -> str:
    """The host that the client speaks to, or that it came in by if what it says is none."""
    said = http.headers.get("host", "")
    if _HOST.fullmatch(said):
        return said
    host, port = http.scope.get("server") or ("", None)
    if port is None:
        return "localhost"  # it came by a Unix socket, whose path is no host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""The ASGI application on a real socket: what comes off it, whole, cut off or too long, and what goes back."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from loopback import serving
from starlette.applications import Starlette
from starlette.routing import Mount

import mapitem.twilio.server
from mapitem import Map, Store
from mapitem.twilio import app
from mapitem.twilio.wire import MAX_BODY_BYTES

MAPS = "/v1/Services/default/Maps"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    with serving(store) as url:
        yield url


@pytest.fixture
def map_(store: Store) -> Map:
    return store.map("m")


def ask(
    url: str, method: str, path: str, form: dict[str, str] | None = None, **headers: str
) -> tuple[int, dict[str, str], Any]:
    """One request, whose path goes out as it is; the headers come back in lower case, the body as JSON or empty."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        body = None if form is None else urlencode(form)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, (FORM if form is not None else {}) | given)
        response = connection.getresponse()
        text = response.read()
        names = {name.lower(): value for name, value in response.getheaders()}
        return response.status, names, json.loads(text) if text else None
    finally:
        connection.close()


def exchange(url: str, sent: bytes, *, end: bool = False) -> bytes:
    """What the server says to these bytes until it closes the connection; ``end`` closes our half first."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        heard = b""
        try:
            connection.sendall(sent)
            if end:
                with suppress(OSError):  # it is no longer connected when the server was quicker to close it
                    connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65_536):
                heard += chunk
        except ConnectionError:
            pass  # it closed while something was still on the way to it
        return heard


# ---------------------------------------------------------------- resources on the wire


def test_speak_the_resource_over_http(url: str) -> None:
    """REST: 201, 200, 204; JSON bodies; the ETag is the revision; URLs follow the host that was spoken to."""
    status, headers, body = ask(url, "POST", MAPS, {"UniqueName": "m"})
    assert (status, headers["etag"], headers["content-type"]) == (201, '"0"', "application/json")
    assert body["url"] == f"{url}/v1/Services/{body['service_sid']}/Maps/{body['sid']}"
    status, headers, item = ask(url, "POST", f"{MAPS}/m/Items", {"Key": "k", "Data": '{"a": "é"}'})
    assert (status, headers["etag"], item["data"]) == (201, '"0"', {"a": "é"})
    status, headers, item = ask(url, "POST", f"{MAPS}/m/Items/k", {"Data": "{}"}, If_Match='"0"')
    assert (status, headers["etag"], item["revision"]) == (200, '"1"', "1")
    assert ask(url, "GET", urlsplit(item["url"]).path)[2] == item
    assert ask(url, "DELETE", f"{MAPS}/m/Items/k", If_Match="0")[0] == 412
    assert ask(url, "DELETE", f"{MAPS}/m/Items/k", If_Match="1")[::2] == (204, None)
    assert ask(url, "HEAD", f"{MAPS}/m")[::2] == (200, None)


def test_follow_the_host_that_was_spoken_to(url: str, map_: Map) -> None:
    """REST: absolute URLs lead back to where the client came from; a host that is none is left out of them."""
    listed = ask(url, "GET", f"{MAPS}?PageSize=1", Host="sync.example.com:81")[2]
    assert listed["maps"][0]["url"].startswith("http://sync.example.com:81/v1/")
    assert listed["meta"]["url"].startswith("http://sync.example.com:81/v1/")
    for bad in ("evil.example/x?", "a b", "é", '"><script>', "h:99999999", ""):
        assert ask(url, "GET", f"{MAPS}/m", Host=bad)[2]["url"].startswith(f"{url}/v1/")


def test_take_escaped_keys_as_they_are(url: str, map_: Map) -> None:
    """The wire: keys are percent-decoded once; an escaped slash or dot is never a real one, and ``..`` is a key."""
    for path, key in {
        "a%2Fb": "a/b",
        "%2Fa": "/a",
        "%252F": "%2F",
        "a%3Fb%23": "a?b#",
        "%00": "\0",
        "%0A": "\n",
        "a%0Ab": "a\nb",
        "..": "..",
        ".": ".",
        "%2E%2E": "..",
        "..%2F..": "../..",
        "%C3%A9": "é",
        "%F0%9F%98%80": "\U0001f600",
        "+": "+",
        "%2B": "+",
        "a;b=c": "a;b=c",
        "%20": " ",
    }.items():
        map_.set(key, {"key": key})
        status, _, item = ask(url, "GET", f"{MAPS}/m/Items/{path}")
        assert (status, item and item["data"]) == (200, {"key": key})


@pytest.mark.parametrize(
    "path",
    ["%FF", "%C3", "%ED%A0%80", "%C0%AE%C0%AE", "%", "%2", "%zz", "a%", "%u0041"],
)
def test_refuse_what_is_no_utf8(url: str, map_: Map, path: str) -> None:
    """The wire: a key that is not UTF-8 then, or has a malformed escape, is refused and never replaced."""
    assert ask(url, "GET", f"{MAPS}/m/Items/{path}")[2]["code"] == 54209
    assert ask(url, "DELETE", f"{MAPS}/{path}")[2]["code"] == 54302
    assert ask(url, "GET", f"{MAPS}?PageToken={path}")[0] == 400


@pytest.mark.parametrize(
    "path",
    [f"{MAPS}/m/", f"{MAPS}/m/Items/", f"{MAPS}/", f"{MAPS}/m//", f"{MAPS}/m/Items/k/", f"{MAPS}/m/Items/../"],
)
def test_never_take_a_path_with_a_slash_at_its_end_for_another(url: str, map_: Map, path: str) -> None:
    """HTTP clients turn the key ``..`` into ``DELETE …/Maps/m/``: it must never remove the map, nor do anything."""
    map_.set("k", {})
    for method in ("GET", "POST", "DELETE"):
        status, _, body = ask(url, method, path, {"Ttl": "1", "Key": "x", "Data": "{}"} if method == "POST" else None)
        assert 400 <= status < 500
        assert body["code"] in (20404, 54209, 20004)
    assert list(map_) == ["k"]
    assert map_.date_expires is None


def test_refuse_the_rest_of_a_key_as_a_query(url: str, map_: Map) -> None:
    """The key ``k?x``, if its ``?`` was not escaped, must not become the key ``k``."""
    map_.set("k", {})
    for path in (f"{MAPS}/m/Items/k?x", f"{MAPS}/m?x/Items/k", f"{MAPS}/m?x"):
        status, _, body = ask(url, "DELETE", path)
        assert (status, body["code"]) == (400, 20001)
        assert list(map_) == ["k"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "m/Items/k", "GET, POST, DELETE"),
        ("PATCH", "m", "GET, POST, DELETE"),
        ("DELETE", "m/Items", "GET, POST"),
        ("OPTIONS", "m/Items", "GET, POST"),
        ("BREW", "m", "GET, POST, DELETE"),
    ],
)
def test_refuse_other_verbs(url: str, map_: Map, method: str, path: str, allow: str) -> None:
    """Unknown verbs are 405, and the answer says which ones there are."""
    status, headers, body = ask(url, method, f"{MAPS}/{path}")
    assert (status, headers["allow"], body["code"], body["status"]) == (405, allow, 20004, 405)


def test_answer_errors_in_one_form(url: str) -> None:
    """The wire: an error body has ``code``, ``message``, ``more_info`` and ``status``, and no more."""
    for path, status in ((f"{MAPS}/nowhere", 404), ("/", 404), ("/v1/Services/default/Documents", 501)):
        heard, headers, body = ask(url, "GET", path)
        assert (heard, headers["content-type"]) == (status, "application/json")
        assert set(body) == {"code", "message", "more_info", "status"}
        assert body["more_info"] == f"https://www.twilio.com/docs/errors/{body['code']}"
        assert body["status"] == status


# ---------------------------------------------------------------- credentials


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_ask_for_credentials(store: Store) -> None:
    """Credentials that are configured are asked for: 401 and 20003 if they are missing, unreadable or others."""
    with serving(store, credentials=("AC1", "s:é")) as url:
        assert ask(url, "POST", MAPS, {"UniqueName": "m"}, Authorization=basic("AC1:s:é"))[0] == 201
        for bad in ("AC1:s", "AC1:s:é ", "AC2:s:é", "AC1", "", ":s:é", "ac1:s:é"):
            status, headers, body = ask(url, "GET", f"{MAPS}/m", Authorization=basic(bad))
            assert (status, body["code"], body["message"]) == (401, 20003, "Authenticate")
            assert headers["www-authenticate"].startswith("Basic ")
        for unreadable in ("Basic", "Basic !", "Basic QUM", "Bearer QUMxOnM6w6k=", "Basic /w==", ""):
            assert ask(url, "GET", f"{MAPS}/m", Authorization=unreadable)[2]["code"] == 20003
        assert ask(url, "GET", "/anything")[0] == ask(url, "DELETE", f"{MAPS}/m")[0] == 401


def test_take_any_credentials_while_none_are_configured(url: str) -> None:
    """Any account and token, even none or an unreadable one; an account's SID is shown as it was said."""
    account = "AC" + "a" * 32
    shown = [
        ask(url, "POST", MAPS, {}, Authorization=said)[2]["account_sid"]
        for said in (basic(f"{account}:t"), basic("SK1:t"), "Basic !", "Bearer x")
    ]
    assert shown == [account, *["AC" + "0" * 32] * 3]


# ---------------------------------------------------------------- bodies


def test_refuse_a_long_body_unread(url: str, map_: Map) -> None:
    """A body over the limit is refused from its announcement alone, and the connection closed."""
    head = f"POST {MAPS}/m/Items HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode()
    heard = exchange(url, head)
    assert heard.startswith(b"HTTP/1.1 413 ")
    assert b'"code": 54006' in heard
    assert b"connection: close" in heard.lower()


def test_refuse_a_long_body_that_was_not_announced(url: str, map_: Map) -> None:
    """A body in chunks is refused as soon as it is too long, without waiting for its end."""
    head = f"POST {MAPS}/m/Items HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    heard = exchange(url, head + b"%x\r\n" % (MAX_BODY_BYTES + 1) + b"x" * (MAX_BODY_BYTES + 1))
    assert heard.startswith(b"HTTP/1.1 413 ")


def test_take_a_body_of_the_limit(url: str, map_: Map) -> None:
    """A body of exactly the limit is read; an ordinary one in chunks, too."""
    form = {"Key": "k", "Data": "{}", "Other": ""}
    form["Other"] = "x" * (MAX_BODY_BYTES - len(urlencode(form)))
    assert ask(url, "POST", f"{MAPS}/m/Items", form)[0] == 201
    chunks = b"7\r\nKey=l&D\r\n8\r\nata=%7B}\r\n0\r\n\r\n"
    head = f"POST {MAPS}/m/Items HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert exchange(url, head.encode() + chunks).startswith(b"HTTP/1.1 201 ")
    assert list(map_) == ["k", "l"]


@pytest.mark.parametrize("length", [b"Content-Length: 50", b"Transfer-Encoding: chunked"])
def test_take_half_a_body_for_no_request(url: str, map_: Map, length: bytes) -> None:
    """A client that is cut off in the middle has asked for nothing, even where the half is a form in itself."""
    body = b"Key=k&Data=%7B%7D"
    half = b"%x\r\n%b\r\n" % (len(body), body) if b"chunked" in length else body
    head = f"POST {MAPS}/m/Items HTTP/1.1\r\nHost: x\r\n".encode()
    heard = exchange(url, head + length + b"\r\n\r\n" + half, end=True)
    assert b" 201 " not in heard
    assert ask(url, "GET", f"{MAPS}/m/Items")[2]["items"] == []


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xf4\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\n\r\n",
        b"GET /v1/Services/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET " + b"/x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/Services/d/Maps HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/Services/d/Maps HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /v1/Services/d/Maps HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET http://x/v1/Services/d/Maps/m HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_survive_what_is_no_http(url: str, map_: Map, sent: bytes) -> None:
    """Whatever comes off a socket is answered with a 4xx, or by closing it, and the server goes on."""
    heard = exchange(url, sent, end=True)
    assert heard[:10] in (b"", b"HTTP/1.1 4")
    assert ask(url, "GET", f"{MAPS}/m")[0] == 200


# ---------------------------------------------------------------- the application


def url_shown(application: Any, path: str, raw_path: bytes, **scope: Any) -> str:
    """The ``url`` of the resource at this path, asked for without a server between."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asked = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": raw_path,
        "root_path": "",
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(application(asked | scope, receive, send))
    assert sent[0]["status"] == 200
    return str(json.loads(sent[1]["body"])["url"])


def test_mount_it_anywhere(store: Store) -> None:
    """The application may be mounted under a path, of which its URLs tell."""
    store.map("m").set("k", {})
    outer = Starlette(routes=[Mount("/a b", app(store))])
    path, raw_path = "/a b/v1/Services/default/Maps/m/Items/k", b"/a%20b/v1/Services/default/Maps/m/Items/k"
    url = url_shown(outer, path, raw_path, headers=[(b"host", b"h")], server=("127.0.0.1", 80))
    assert url.startswith("https://h/a%20b/v1/Services/IS")


@pytest.mark.parametrize(
    ("server", "host"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80), "[::1]:80"),
        (("/tmp/s", None), "localhost"),
        (None, "localhost"),
    ],
)
def test_show_urls_to_who_says_no_host(store: Store, map_: Map, server: Any, host: str) -> None:
    """REST: absolute URLs are usable as they are, also for a client of HTTP/1.0, which need not say a ``Host``.

    At an IPv6 address they once began ``http://::1:80/``, and at a Unix socket with the path of its file.
    """
    path = f"{MAPS}/m"
    assert url_shown(app(store), path, path.encode(), server=server).startswith(f"https://{host}/v1/Services/IS")


def test_close_a_websocket(store: Store) -> None:
    """Other protocols than HTTP are turned away."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(app(store)(scope, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_wait_for_the_disk_on_a_thread(tmp_path: Path) -> None:
    """With ``durability="power"`` a request waits for the disk, and the others do not wait for it."""
    with Store(tmp_path / "s.mapitem", durability="power") as store, serving(store) as url:
        assert ask(url, "POST", MAPS, {"UniqueName": "m"})[0] == 201
        assert ask(url, "POST", f"{MAPS}/m/Items", {"Key": "k", "Data": "{}"})[0] == 201
        assert list(store.open_map("m")) == ["k"]


def test_answer_our_own_mistakes_too(store: Store, url: str, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """A mistake in the router itself is logged and answered with 500 in the service's form; the server goes on."""

    def broken(*arguments: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(mapitem.twilio.router.Router, "answer", broken)
    status, _, body = ask(url, "GET", MAPS)
    assert (status, body["code"]) == (500, 20500)
    assert "broken on purpose" in caplog.text
    monkeypatch.undo()
    assert ask(url, "GET", MAPS)[0] == 200


def test_say_nothing_to_a_client_that_is_gone(store: Store, map_: Map) -> None:
    """Half a body is no request, and no error of ours either: nothing is done, nothing answered, nothing raised."""
    heard = [
        {"type": "http.request", "body": b"Key=k&Data={}", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return heard.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": f"{MAPS}/m/Items",
        "raw_path": f"{MAPS}/m/Items".encode(),
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(app(store)(scope, receive, send))
    assert sent == []
    assert list(map_) == []

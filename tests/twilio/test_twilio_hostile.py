"""Whatever is asked, there is an answer, and nothing is reached but what the path names.

The requests are made of what has fooled servers before: dots, slashes and escapes in paths, forms that are none, JSON
without an end. What a path may reach is worked out here once more, in another way than the router does it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twilio.base.exceptions import TwilioException
from twilio.rest import Client

from mapitem import Map, Store
from mapitem.testing import ManualClock
from mapitem.testing import strategies as some
from mapitem.twilio import LocalHttpClient, MangledKeyWarning, app
from mapitem.twilio.router import Router
from mapitem.twilio.wire import Request

NOW = 1_700_000_000.0
NAMES = ("m", "a/b", "..", "m/Items/k", "é")
KEYS = ("k", "..", "", "a/b", "/", "?", "a?b", "%", "%2F", "é", "Items", "m")


def furnished() -> Store:
    """A store with a few maps of few items, whose names and keys are those that a trick would reach for."""
    store = Store(clock=ManualClock(NOW))
    for name in NAMES:
        map_ = store.create_map(name)
        for key in filter(None, KEYS):
            map_.set(key, {"in": name})
    return store


def contents(store: Store) -> dict[str, tuple[Any, dict[str, Any]]]:
    """All that can be seen, by the map's sid: its name and expiry, and revision and data of each item."""
    return {
        map_.sid: ((map_.name, map_.date_expires), {item.key: (item.revision, item.data) for item in map_.range()})
        for map_ in store.maps()
    }


# ---------------------------------------------------------------- requests of all kinds

NAMES_OR_TEXT = st.sampled_from(NAMES) | st.text(max_size=4)
METHODS = st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS", "get", "X" * 99])


def escaped(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Texts as path segments, escaped well, twice, in part, or not at all."""
    ways: list[Callable[[str], str]] = [
        lambda text: quote(text, safe=""),
        lambda text: quote(quote(text, safe=""), safe=""),
        quote,
        quote_plus,
        lambda text: text,
    ]
    return st.builds(lambda text, way: way(text).encode(), texts, st.sampled_from(ways))


SEGMENTS = st.one_of(
    escaped(st.sampled_from([*NAMES, *KEYS])),
    escaped(some.keys()),
    st.sampled_from([b"", b".", b"..", b"%2e%2E", b"%2F..%2Fm", b"..;", b"\\", b"%5C", b"%", b"%GG", b"%FF", b"%00"]),
    st.sampled_from([b"v1", b"Services", b"Maps", b"Items", b"Permissions", b"Documents", b"maps", b"%4Daps"]),
    st.sampled_from([b"MP" + b"0" * 32, b"\xff", b"\xc3\xa9", b"k" * 321, b"a" * 5000]),
    st.binary(max_size=6),
)


@st.composite
def paths(draw: st.DrawFn) -> bytes:
    """Mostly paths of the service with something wrong in them, and some that are nothing at all."""
    service, map_, key, more = (draw(SEGMENTS) for _ in range(4))
    maps = b"/v1/Services/" + draw(st.sampled_from([b"default", service])) + b"/Maps"
    shapes = [
        maps,
        maps + b"/" + map_,
        maps + b"/" + map_ + b"/Items",
        maps + b"/" + map_ + b"/Items/" + key,
        maps + b"/m/Items/" + key,
        maps + b"/m/Items/" + key + b"/" + more,
        maps + b"/m/" + more + b"/" + key,
        maps + b"/m/Items/../../" + map_,
        b"/" + b"/".join([service, map_, key, more]),
        service,
    ]
    return draw(st.sampled_from(shapes)) + draw(st.sampled_from([b"", b"", b"", b"/", b"//", b"/.", b"/.."]))


VALUES = st.one_of(
    some.texts(max_size=8),
    st.sampled_from(["", "0", "1", "60", "-1", "31536000", "31536001", "1e3", "9" * 4400, "null", "NaN", "true"]),
    st.sampled_from(["{}", '{"a":1}', '{"a":1,"a":2}', "[]", "{", '{"a":NaN}', '{"a":1e999}', '{"a":"\\ud800"}']),
    st.sampled_from(["[" * 20_000, '{"a":' * 2000, '{"a":%s}' % ("9" * 4400), '{"a":"' + "x" * 17_000 + '"}']),
    st.sampled_from(["asc", "desc", "inclusive", "exclusive", "50", "1000", "1001", *NAMES, *KEYS]),
    some.values().map(json.dumps),
)
FIELDS = st.sampled_from(
    [
        *("Key", "Data", "Data", "Ttl", "ItemTtl", "CollectionTtl", "UniqueName", "key", "x"),
        *("PageSize", "Page", "PageToken", "From", "Order", "Bounds"),
    ]
)


def forms() -> st.SearchStrategy[bytes]:
    """Forms and queries, mostly well-formed."""
    pairs = st.tuples(FIELDS, VALUES).map(lambda pair: f"{quote_plus(pair[0])}={quote_plus(pair[1])}".encode())
    good = st.lists(pairs, max_size=4).map(b"&".join)
    broken = st.sampled_from(
        [b"&&=&=x", b"Key=%", b"Key=%FF", b"Data=%ED%A0%80", b"Key", b"=", b"&" * 200, b"\xff=\xfe"]
    )
    return st.one_of(good, good, good, broken, st.binary(max_size=20))


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "if-match": st.sampled_from(["*", "0", '"0"', "-1", "", '"', "x", 'W/"0"', "0, 1", "é", "f" * 5000]),
        "content-type": st.sampled_from(
            [
                "application/x-www-form-urlencoded",
                "APPLICATION/X-WWW-FORM-URLENCODED; charset=x",
                "application/json",
                "",
            ]
        ),
        "authorization": st.sampled_from(["Basic", "Basic eDp5", "Basic =", "Basic \xff", "Bearer x", ""]),
        "host": st.sampled_from(["h", "h:80", "", "a b", "\xff", "h/../?"]),
    },
)


def by_router(store: Store, method: str, path: bytes, query: bytes, headers: dict[str, str], body: bytes) -> Any:
    request = Request(method=method, path=path, query=query, headers=headers, body=body)
    response = Router(store).answer(request)
    return response.status, response.headers, response.body


def by_asgi(store: Store, method: str, path: bytes, query: bytes, headers: dict[str, str], body: bytes) -> Any:
    sent: list[Any] = []
    chunks = [{"type": "http.request", "body": part, "more_body": True} for part in (body[:5], body[5:])]
    chunks.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return chunks.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "server": ("127.0.0.1", 1),
    }
    asyncio.run(app(store)(scope, receive, send))
    got = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], got, b"".join(message["body"] for message in sent[1:])


def reach(store: Store, method: str, path: bytes) -> tuple[str | None, str | None, bool]:
    """What a request may change: the sid of a map, a key in it, and whether new maps or items may come.

    Told by one expression from the raw path; ``None`` for none, and for every key.
    """
    found = re.fullmatch(rb"/v1/Services/[^/]+/Maps(?:/(?P<map>[^/]*)(?P<items>/Items(?:/(?P<key>[^/]*))?)?)?", path)
    if found is None or method not in ("POST", "DELETE"):
        return None, None, False
    if found["map"] is None:
        return None, None, method == "POST"
    named = [map_.sid for map_ in store.maps() if unquote_to_bytes(found["map"]) in (map_.sid.encode(), bytes_of(map_))]
    key = None if found["key"] is None else unquote_to_bytes(found["key"]).decode("utf-8", "replace")
    return (named or [None])[0], key, found["items"] is not None and found["key"] is None


def bytes_of(map_: Map) -> bytes:
    return (map_.name or "").encode()


@pytest.mark.parametrize("ask", [by_router, by_asgi])
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data(), method=METHODS, path=paths(), query=st.just(b"") | forms(), headers=HEADERS, body=forms())
def test_answer_whatever_is_asked(
    ask: Any, data: Any, method: str, path: bytes, query: bytes, headers: dict[str, str], body: bytes
) -> None:
    """Hostile input: no request gives a 500, each answer is one of the wire, and only what the path names changes."""
    with furnished() as store:
        before = contents(store)
        sid, key, may_add = reach(store, method, path)
        status, got, text = ask(store, method, path, query, headers, body)
        assert 200 <= status < 500 or status == 501
        if status == 204:
            assert text == b""
        else:
            body_ = json.loads(text)
            assert text.isascii()
            assert got[next(name for name in got if name.lower() == "content-type")] == "application/json"
        if status >= 400:
            assert set(body_) == {"code", "message", "more_info", "status"}
            assert (body_["status"], type(body_["code"])) == (status, int)
            assert contents(store) == before, "an error changed something"
            return
        after = contents(store)
        for each in before.keys() | after.keys():
            if each not in before:
                assert sid is None, "a map came where none was asked for"
                assert may_add
                continue
            if each != sid:
                assert after[each] == before[each], "another map was reached"
                continue
            if each not in after:
                assert (method, key) == ("DELETE", None), "the map went where an item was meant"
                assert not may_add
                continue
            old, new = before[each][1], after[each][1]
            for one in old.keys() | new.keys():
                changed = old.get(one) != new.get(one)
                assert not changed or one == key or (may_add and one not in old), "another item was reached"


@pytest.mark.filterwarnings("ignore::mapitem.twilio.MangledKeyWarning")
@given(key=some.keys() | st.text(max_size=12), name=NAMES_OR_TEXT, verb=st.integers(0, 5))
def test_reach_nothing_else_through_the_client(key: str, name: str, verb: int) -> None:
    """The client writes keys into the URL as they are: in process each reaches its own item or map, or nothing.

    A name with a slash in it has to be escaped, for ``m/Items/k`` is a path.
    """
    name = name.replace("/", "")
    with furnished() as store:
        before = contents(store)
        maps = Client("AC1", "t", http_client=LocalHttpClient(store)).sync.v1.services("default").sync_maps
        calls: list[Callable[[], object]] = [
            lambda: maps("m").sync_map_items(key).delete(),
            lambda: maps("m").sync_map_items(key).update(data={"new": 1}),
            lambda: maps("m").sync_map_items(key).fetch(),
            lambda: maps("m").sync_map_items.list(from_=key),
            lambda: maps(name).delete(),
            lambda: maps(name).sync_map_items(key).delete(),
        ]
        try:
            calls[verb]()
        except TwilioException as error:
            status = getattr(error, "status", None) or error.args[1].status_code
            assert 400 <= status < 500 or status == 501
        except (AttributeError, KeyError, StopIteration):
            # The client strips slashes from the URL's end: of the key "/" is left the list of items, or the map, whose
            # resource it then fails to read.
            assert (key + name).strip("/") != key + name
        after = contents(store)
        changed = {
            (was[0][0], one)
            for sid, was in before.items()
            for one in (was[1] if sid in after else [None])
            if sid not in after or after[sid][1].get(one) != was[1][one]  # type: ignore[index]
        }
        # Escapes are decoded once, and slashes at the end are gone before we see them.
        meant = {
            unquote_to_bytes(text.rstrip("/").encode("utf-8", "replace")).decode("utf-8", "replace")
            for text in (key, name)
        }
        assert all(
            (one in meant or one == key) if one is not None else (map_name in meant) for map_name, one in changed
        )


def test_warn_before_it_hurts() -> None:
    """The client: a deletion of the key ``..`` would be one of the map over HTTP; here it warns and is the key's."""
    with furnished() as store:
        maps = Client("AC1", "t", http_client=LocalHttpClient(store)).sync.v1.services("default").sync_maps
        with pytest.warns(MangledKeyWarning, match="is taken out"):
            maps("m").sync_map_items("..").delete()
        assert ".." not in store.open_map("m")
        assert "k" in store.open_map("m")

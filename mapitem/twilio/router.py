"""The router: one request in, one response out. Which resource a path names, and which call of the store a verb is.

One object serves any number of threads, for it holds nothing but the store. It uses the store through its public names
alone and knows no socket; all text of the wire is read and written in ``wire``. Its one promise beside the service's
behaviour: whatever the request, it answers, and reaches no resource but the one that the path names.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hmac import compare_digest
from typing import Any, TypeAlias, TypeVar

from mapitem import (
    InvalidPageSize,
    InvalidPageToken,
    ItemExists,
    ItemNotFound,
    Map,
    MapItemError,
    MapNotFound,
    RevisionMismatch,
    Store,
    StoreReadOnly,
)
from mapitem.twilio import wire
from mapitem.twilio.wire import Place, Refusal, Request, Response

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_ABSENT = "-1"
_DEFAULT_PAGE_SIZE = 50
# Resources of a Sync service, and of a map, that exist there and not here.
_UNSERVED = {b"Lists", b"Documents", b"Streams"}


class Router:
    """Answers for a store. ``credentials``, account SID and token, are asked for if they are given."""

    def __init__(self, store: Store, *, credentials: tuple[str, str] | None = None) -> None:
        if credentials is not None:
            account, token = credentials
            if not account or not token or ":" in account:
                raise ValueError("credentials must be an account SID and a token")
        self._store = store
        self._credentials = credentials

    def answer(self, request: Request) -> Response:
        """The response to ``request``. Raises nothing that a request could be the cause of."""
        try:
            return self._answer(request)
        except Refusal as refusal:
            return wire.answer_refusal(refusal)
        except (ItemNotFound, MapNotFound):
            return wire.answer_error(404, 20404, _not_found(request))
        except StoreReadOnly as error:
            return wire.answer_error(403, 20403, str(error))
        except MapItemError as error:
            status = error.status or 503
            return wire.answer_error(status, error.code or 20000 + status, str(error))
        except OSError as error:
            _log.error("the store could not serve a request: %s", error)
            return wire.answer_error(503, 20503, f"the store could not serve it: {error.strerror or error}")

    def _answer(self, request: Request) -> Response:
        account = self._authenticate(request)
        verbs, call = self._find(request, account)
        verb = verbs.get("GET" if request.method == "HEAD" else request.method)
        if verb is None:
            allowed = ", ".join(verbs)
            raise Refusal(405, 20004, f"this resource answers {allowed}", headers={"Allow": allowed})
        if request.query and verb not in (_list_maps, _list_items):
            # No request of the service has one: it is the rest of a key whose "?" was not escaped.
            raise Refusal(400, 20001, "this resource takes no query: a '?' in a key has to be escaped, as %3F")
        return verb(call)

    def _authenticate(self, request: Request) -> str:
        """The account SID that the caller goes by; 401 if credentials are asked for and these are not they."""
        given = wire.read_credentials(request)
        if self._credentials is None:
            return "" if given is None else given[0]
        if given is None or not compare_digest(":".join(given).encode(), ":".join(self._credentials).encode()):
            raise Refusal(401, 20003, "Authenticate", headers={"WWW-Authenticate": 'Basic realm="Twilio API"'})
        return self._credentials[0]

    def _find(self, request: Request, account: str) -> tuple[Verbs, Call]:
        """The verbs of the resource that the path names, and the call to give to one of them."""

        def call(service: bytes, map_: bytes | None = None, key: bytes | None = None) -> Call:
            name = wire.percent_decode(service, code=20001, what="the service's SID")
            return Call(
                self._store,
                request,
                Place(request.base_url, account, name),
                "" if map_ is None else wire.percent_decode(map_, code=54302, what="the map's name"),
                "" if key is None else wire.percent_decode(key, code=54209, what="the key"),
            )

        # Compared as it came and decoded only then, so that an escaped slash or dot is never taken for a real one.
        match request.path.split(b"/"):
            case [b"", b"v1", b"Services", service, b"Maps"] if service:
                return _MAPS, call(service)
            case [b"", b"v1", b"Services", service, b"Maps", map_] if service and map_:
                return _MAP, call(service, map_)
            case [b"", b"v1", b"Services", service, b"Maps", map_, b"Items"] if service:
                return _ITEMS, call(service, map_)
            case [b"", b"v1", b"Services", service, b"Maps", map_, b"Items", key] if service:
                return _ITEM, call(service, map_, key)
            case [b"", b"v1", b"Services", service, b"Maps", _, b"Permissions", *_] if service:
                raise Refusal(501, 20501, "mapitem does not serve the Permissions of Maps")
            case [b"", b"v1", b"Services", service, kind, *_] if service and kind in _UNSERVED:
                raise Refusal(501, 20501, f"mapitem serves the Maps of Twilio Sync, and no {kind.decode()}")
            case [b"", b"v1", b"Services"] | [b"", b"v1", b"Services", _]:
                raise Refusal(501, 20501, "mapitem serves Maps in any service, and not the Services themselves")
            case [*_, b""]:
                # HTTP clients make /Maps/m/ of the key "..": to take that for the map would be the end of it.
                detail = "a path that ends in '/' names nothing (HTTP clients turn the keys '.' and '..' into one)"
                raise Refusal(404, 20404, f"{_not_found(request)}: {detail}")
        raise Refusal(404, 20404, _not_found(request))


def _not_found(request: Request) -> str:
    path = request.path.removeprefix(b"/v1").decode("ascii", "backslashreplace")
    return f"The requested resource {path} was not found"


@dataclass(frozen=True)
class Call:
    """A request that has found its resource: what the path said, and on demand what query and body say."""

    store: Store
    request: Request
    place: Place
    map_name: str
    key: str

    @cached_property
    def form(self) -> dict[str, str]:
        return wire.read_form(self.request)

    @cached_property
    def query(self) -> dict[str, str]:
        return wire.read_fields(self.request.query, code=20001, what="the query")

    def on_map(self, verb: Callable[[Map], Result]) -> tuple[Map, Result]:
        """The map that the path names, and what ``verb`` returns for it.

        Arguments are judged before the map (C2), and it takes a map to judge them: where there is none, an empty one.
        """
        try:
            map_ = self.store.open_map(self.map_name)
        except MapNotFound:
            with Store(limits=self.store.limits) as empty, suppress(ItemNotFound, RevisionMismatch, InvalidPageToken):
                verb(empty.create_map())
            raise
        return map_, verb(map_)

    def show_map(self, status: int, map_: Map) -> Response:
        return wire.answer(status, wire.show_map(map_, self.place))


Verbs: TypeAlias = dict[str, Callable[[Call], Response]]


# ---------------------------------------------------------------- maps


def _create_map(call: Call) -> Response:
    ttl = wire.read_ttl(call.form, "CollectionTtl", "Ttl")
    return call.show_map(201, call.store.create_map(call.form.get("UniqueName"), ttl=ttl))


def _fetch_map(call: Call) -> Response:
    return call.show_map(200, call.store.open_map(call.map_name))


def _update_map(call: Call) -> Response:
    ttl = wire.read_ttl(call.form, "CollectionTtl", "Ttl")
    if ttl is None:
        raise Refusal(400, 54010, "give Ttl or CollectionTtl")
    map_, _ = call.on_map(lambda map_: map_.set_ttl(ttl))
    return call.show_map(200, map_)


def _delete_map(call: Call) -> Response:
    call.store.open_map(call.map_name).remove_map()
    return wire.answer_nothing()


def _list_maps(call: Call) -> Response:
    size = _page_size(call)
    maps = list(call.store.maps())
    places = [(map_.name is None, map_.name or map_.sid) for map_ in maps]
    start, end = 0, size
    if "PageToken" in call.query:
        place, backwards = wire.read_maps_token(call.query["PageToken"])
        if backwards:
            end = bisect_left(places, place)
            start = max(end - size, 0)
        else:
            start = bisect_right(places, place)
            end = start + size
    shown = []
    for map_ in maps[start:end]:
        with suppress(MapNotFound):  # it expired since it was listed
            shown.append(wire.show_map(map_, call.place))
    page = wire.show_list(
        "maps",
        shown,
        url=call.place.maps_url,
        query=call.query,
        page_size=size,
        next_token=wire.write_maps_token(places[end - 1], backwards=False) if 0 < end < len(maps) else None,
        previous_token=wire.write_maps_token(places[start], backwards=True) if 0 < start < len(maps) else None,
    )
    return wire.answer(200, page)


def _page_size(call: Call) -> int:
    """How many resources to return at most."""
    size = wire.read_number(call.query.get("PageSize", str(_DEFAULT_PAGE_SIZE)))
    if not isinstance(size, int) or not 1 <= size <= 1000:
        raise InvalidPageSize(f"PageSize must be a whole number from 1 to 1000, not {size!r:.80}")
    return min(size, wire.MAX_ITEMS_PER_PAGE)


# ---------------------------------------------------------------- items


def _create_item(call: Call) -> Response:
    form = call.form
    data = wire.read_data(form)
    ttl, map_ttl = wire.read_ttl(form, "ItemTtl", "Ttl"), wire.read_ttl(form, "CollectionTtl")
    map_, item = call.on_map(lambda map_: map_.create(form.get("Key", ""), data, ttl=ttl, collection_ttl=map_ttl))
    return wire.answer(201, wire.show_item(item, map_, call.place))


def _fetch_item(call: Call) -> Response:
    map_, item = call.on_map(lambda map_: map_[call.key])
    return wire.answer(200, wire.show_item(item, map_, call.place))


def _update_item(call: Call) -> Response:
    form, key, if_match = call.form, call.key, wire.read_if_match(call.request)
    condition = "*" if if_match is None else if_match  # it replaces, and never creates
    ttl, map_ttl = wire.read_ttl(form, "ItemTtl", "Ttl"), wire.read_ttl(form, "CollectionTtl")
    if "Data" not in form and ttl is None:
        raise Refusal(400, 54010, "give Data, ItemTtl or Ttl; CollectionTtl goes with one of them only")
    if "Data" not in form:
        if if_match == _ABSENT:
            call.on_map(lambda map_: _refuse_present(map_, key))
        # Merging no field at all leaves the data as it is.
        map_, item = call.on_map(lambda map_: map_.update(key, {}, ttl=ttl, collection_ttl=map_ttl, if_match=condition))
        return wire.answer(200, wire.show_item(item, map_, call.place))
    data = wire.read_data(form)
    if if_match == _ABSENT:
        try:
            map_, item = call.on_map(lambda map_: map_.create(key, data, ttl=ttl, collection_ttl=map_ttl))
        except ItemExists as error:
            raise _mismatch(key, error.revision) from error
        return wire.answer(201, wire.show_item(item, map_, call.place))
    map_, item = call.on_map(lambda map_: map_.set(key, data, ttl=ttl, collection_ttl=map_ttl, if_match=condition))
    return wire.answer(200, wire.show_item(item, map_, call.place))


def _delete_item(call: Call) -> Response:
    if_match = wire.read_if_match(call.request)
    if if_match == _ABSENT:
        call.on_map(lambda map_: _refuse_present(map_, call.key))
    call.on_map(lambda map_: map_.remove(call.key, if_match=if_match))
    return wire.answer_nothing()


def _refuse_present(map_: Map, key: str) -> None:
    """The condition "absent" on a request that needs an item: it is not there, or it is."""
    raise _mismatch(key, map_[key].revision)


def _mismatch(key: str, actual: str) -> RevisionMismatch:
    message = f"the item with key {key!r} is there, at revision {actual}"
    return RevisionMismatch(message, key=key, expected=_ABSENT, actual=actual)


def _list_items(call: Call) -> Response:
    query = call.query
    listing: dict[str, Any] = (
        {"page_token": query["PageToken"]}
        if "PageToken" in query
        else {
            argument: query[name]
            for argument, name in (("from_", "From"), ("bounds", "Bounds"), ("order", "Order"))
            if name in query
        }
    )
    size = _page_size(call)
    map_, page = call.on_map(lambda map_: map_.page(page_size=size, **listing))
    shown = wire.show_list(
        "items",
        [wire.show_item(item, map_, call.place) for item in page.items],
        url=call.place.items_url(map_),
        query=query,
        page_size=size,
        next_token=page.next_page_token,
        previous_token=page.previous_page_token,
    )
    return wire.answer(200, shown)


_MAPS: Verbs = {"GET": _list_maps, "POST": _create_map}
_MAP: Verbs = {"GET": _fetch_map, "POST": _update_map, "DELETE": _delete_map}
_ITEMS: Verbs = {"GET": _list_items, "POST": _create_item}
_ITEM: Verbs = {"GET": _fetch_item, "POST": _update_item, "DELETE": _delete_item}

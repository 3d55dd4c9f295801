"""The wire format of Twilio Sync Maps: how a request is read, and how answers are written.

The one place that knows names of parameters and fields, forms, JSON, dates, ETags and error bodies. It knows no verb
and calls no store; of maps and items it only reads what they show. ``Request`` and ``Response`` are plain values, so
that the same router serves a client in process and a socket.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode
from zlib import crc32

from mapitem import InvalidData, InvalidPageToken, Map, MapItem

MAX_BODY_BYTES = 1024 * 1024
"""A longer body is refused without being read. The largest item needs some 100 KiB, percent-encoded."""

MAX_FIELDS = 100
"""More parameters than any request of the service has; a form of more is refused."""

MAX_ITEMS_PER_PAGE = 100
"""``PageSize`` may be up to 1000, and the service returns no more than this."""

_SIDS = {kind: re.compile(kind + "[0-9a-fA-F]{32}") for kind in ("AC", "IS")}
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DIGITS = re.compile(r"[0-9]{1,18}")
_FORM = "application/x-www-form-urlencoded"

# The service's own sentences, by code; what we know beyond that is put behind a colon.
_SENTENCES = {
    54003: "Invalid If-Match header",
    54006: "Request entity too large",
    54008: "Invalid request body: the type of one of the attributes is invalid",
    54010: "No parameters specified",
    54011: "Invalid TTL",
    54205: "The revision of the Map Item does not match the expected revision",
    54206: "Invalid Map Item data",
    54208: "An Item with given key already exists in the Map",
    54209: "Invalid Map Item key",
    54301: "Unique name already exists",
    54302: (
        "Invalid unique name. Expected a string with length 1-320 not matching the SID pattern [A-Z]{2}[a-f0-9]{32}"
    ),
    54451: "Invalid 'Order' query parameter",
    54452: "Invalid 'Bounds' query parameter",
    54453: "Invalid 'PageToken' query parameter",
    54454: "Invalid 'PageSize' query parameter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, wherever it came from.

    ``path`` and ``query`` are as they stood in the request line, still percent-encoded; ``headers`` have lower-case
    names; ``base_url`` is what stands before the path in absolute URLs, without a slash at its end.
    """

    method: str
    path: bytes
    query: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    base_url: str = "https://sync.twilio.com"


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: JSON in ASCII, or an empty body with 204."""

    status: int
    headers: dict[str, str]
    body: bytes


class Refusal(Exception):
    """An answer that is no success and was found at this edge, before or beside the store's own errors."""

    def __init__(self, status: int, code: int, detail: str = "", *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}


# ---------------------------------------------------------------- reading


def percent_decode(raw: bytes, *, code: int, what: str) -> str:
    """``raw`` decoded, once; 400 with ``code`` for a malformed escape and for what is not UTF-8 then."""
    if _BAD_PERCENT.search(raw):
        raise Refusal(400, code, f"a malformed percent-encoding in {what}")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Refusal(400, code, f"{what} is not UTF-8") from None


def read_fields(raw: bytes, *, code: int, what: str) -> dict[str, str]:
    """The fields of a form or a query string; 400 with ``code`` if it is malformed or says something twice."""
    if raw.count(b"&") >= MAX_FIELDS:
        raise Refusal(400, code, f"more than {MAX_FIELDS} parameters in {what}")
    fields: dict[str, str] = {}
    for pair in filter(None, raw.split(b"&")):
        name, value = (
            percent_decode(part.replace(b"+", b" "), code=code, what=what) for part in (*pair.split(b"=", 1), b"")[:2]
        )
        if name in fields:
            # Which one counts, clients and servers have never agreed upon.
            raise Refusal(400, code, f"a parameter is given twice in {what}")
        fields[name] = value
    return fields


def read_form(request: Request) -> dict[str, str]:
    """The parameters of a POST: 413 for a body over the limit, 415 for one that is no form, 400 for a malformed one."""
    if len(request.body) > MAX_BODY_BYTES:
        raise body_too_large()
    kind = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    if request.body and kind != _FORM:
        raise Refusal(415, 20415, f"the body must be {_FORM}")
    return read_fields(request.body, code=54008, what="the body")


def body_too_large() -> Refusal:
    """Closes the connection, for the rest of such a body is not waited for."""
    return Refusal(413, 54006, f"a body has at most {MAX_BODY_BYTES} bytes", headers={"Connection": "close"})


def read_data(fields: Mapping[str, str]) -> Any:
    """The JSON value of ``Data``, whatever its type, which the map judges; 54206 if it is missing or ``null``."""
    if "Data" not in fields:
        raise Refusal(400, 54206, "The 'Data' parameter cannot be null")
    try:
        data = json.loads(fields["Data"])
    except RecursionError:
        raise InvalidData("nested too deep") from None
    except ValueError as error:
        raise InvalidData(f"Data is not JSON: {error}") from None
    if data is None:
        raise Refusal(400, 54206, "The 'Data' parameter cannot be null")
    return data


def read_ttl(fields: Mapping[str, str], *names: str) -> Any:
    """The first of these parameters that says something, or ``None``; an empty one says nothing."""
    return next((read_number(fields[name]) for name in names if fields.get(name)), None)


def read_number(text: str) -> int | str:
    """A whole number, or the text as it came: the store refuses it then, in the order of its own rules (C2)."""
    return int(text) if _DIGITS.fullmatch(text) else text


def read_page_number(query: Mapping[str, str]) -> int:
    """``Page``, which is the client's own: it is only handed back."""
    page = read_number(query.get("Page", "0"))
    if not isinstance(page, int):
        raise Refusal(400, 20001, "Page must be a whole number")
    return page


def read_if_match(request: Request) -> str | None:
    """The condition: a revision, raw or in quotes, ``*``, ``-1`` for "absent", or text that the store refuses."""
    given = request.headers.get("if-match")
    if given is None:
        return None
    given = given.strip(" \t")
    is_quoted = len(given) > 2 and given[0] == given[-1] == '"'
    return given[1:-1] if is_quoted and given != '"*"' else given


def read_credentials(request: Request) -> tuple[str, str] | None:
    """User and password of basic authentication; ``None`` if they are missing or unreadable."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


# ---------------------------------------------------------------- writing


class Place:
    """Where in the service a resource is said to be: its account, its service, and the URLs that follow."""

    def __init__(self, base_url: str, account: str, service: str) -> None:
        self.account_sid = _sid("AC", account)
        self.service_sid = _sid("IS", service)
        self.maps_url = f"{base_url}/v1/Services/{self.service_sid}/Maps"

    def map_url(self, map_: Map) -> str:
        return f"{self.maps_url}/{map_.sid}"

    def items_url(self, map_: Map) -> str:
        return f"{self.map_url(map_)}/Items"


def _sid(kind: str, text: str) -> str:
    """``text`` if it is a SID of that kind. All others, ``default`` among them, share one."""
    return text if _SIDS[kind].fullmatch(text) else kind + "0" * 32


def show_date(date: datetime | None) -> str | None:
    """Whole seconds with a Z: twilio-python hands out any other form as plain text."""
    return None if date is None else date.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def show_map(map_: Map, place: Place) -> dict[str, Any]:
    """The fields of a Map resource."""
    url = place.map_url(map_)
    return {
        "sid": map_.sid,
        "unique_name": map_.name,
        "account_sid": place.account_sid,
        "service_sid": place.service_sid,
        "url": url,
        "links": {"items": f"{url}/Items", "permissions": f"{url}/Permissions"},
        "revision": map_.revision,
        "date_expires": show_date(map_.date_expires),
        "date_created": show_date(map_.date_created),
        "date_updated": show_date(map_.date_updated),
        "created_by": map_.created_by,
    }


def show_item(item: MapItem, map_: Map, place: Place) -> dict[str, Any]:
    """The fields of a Map Item resource."""
    return {
        "key": item.key,
        "account_sid": place.account_sid,
        "service_sid": place.service_sid,
        "map_sid": map_.sid,
        "url": f"{place.items_url(map_)}/{quote(item.key, safe='')}",
        "revision": item.revision,
        "data": item.data,
        "date_expires": show_date(item.date_expires),
        "date_created": show_date(item.date_created),
        "date_updated": show_date(item.date_updated),
        "created_by": item.created_by,
    }


def show_list(
    key: str,
    shown: list[dict[str, Any]],
    *,
    url: str,
    query: Mapping[str, str],
    page_size: int,
    next_token: str | None,
    previous_token: str | None,
) -> dict[str, Any]:
    """A page of resources under ``key``, with ``meta``. Its URLs repeat the listing's own parameters."""
    page = read_page_number(query)
    listing = {name: query[name] for name in ("From", "Bounds", "Order") if name in query}
    listing["PageSize"] = query.get("PageSize", str(page_size))

    def page_url(number: int, token: str | None) -> str:
        place = {"Page": str(number)} if token is None else {"Page": str(number), "PageToken": token}
        return f"{url}?{urlencode(listing | place, quote_via=quote)}"

    return {
        key: shown,
        "meta": {
            "key": key,
            "page": page,
            "page_size": page_size,
            "url": page_url(page, query.get("PageToken")),
            "first_page_url": page_url(0, None),
            "next_page_url": None if next_token is None else page_url(page + 1, next_token),
            "previous_page_url": None if previous_token is None else page_url(max(page - 1, 0), previous_token),
        },
    }


def answer(status: int, shown: dict[str, Any]) -> Response:
    """A resource or a list of them. A resource's revision is its ETag."""
    headers = {"Content-Type": "application/json"}
    if "revision" in shown:
        headers["ETag"] = f'"{shown["revision"]}"'
    return Response(status, headers, json.dumps(shown, separators=(",", ":")).encode())


def answer_nothing() -> Response:
    """What a deletion is answered with."""
    return Response(204, {}, b"")


def answer_error(status: int, code: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error: the service's sentence for the code, if it has one, and ``detail``."""
    body = {
        "code": code,
        "message": ": ".join(part for part in (_SENTENCES.get(code), detail) if part),
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return Response(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode())


def answer_refusal(refusal: Refusal) -> Response:
    """As ``answer_error``."""
    return answer_error(refusal.status, refusal.code, refusal.detail, refusal.headers)


# ---------------------------------------------------------------- tokens for lists of maps


def write_maps_token(place: tuple[bool, str], *, backwards: bool) -> str:
    """A place in the list of maps as a page token. The checksum is there against accidents, not against forgers."""
    body = json.dumps([backwards, *place]).encode()
    return base64.urlsafe_b64encode(body + crc32(body).to_bytes(4, "big")).rstrip(b"=").decode()


def read_maps_token(token: str) -> tuple[tuple[bool, str], bool]:
    """The place, and whether the page lies before it; ``InvalidPageToken`` for what was never written so."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        backwards, is_nameless, text = json.loads(raw[:-4])
        if write_maps_token((is_nameless, text), backwards=backwards) == token and isinstance(text, str):
            return (bool(is_nameless), text), bool(backwards)
    except (ValueError, TypeError, RecursionError):
        pass
    raise InvalidPageToken("not a page token of the list of maps")

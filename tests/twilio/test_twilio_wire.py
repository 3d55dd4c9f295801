"""Requests as they stand on the wire that no client makes, and what becomes of errors that are not of this edge."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import asking

from mapitem import MapItemError, Store
from mapitem.testing import ManualClock
from mapitem.twilio.router import Router
from mapitem.twilio.wire import MAX_FIELDS


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"Key=k&Data={}", 201, None),
        ('Key=é&Data={"a":"é"}'.encode(), 201, None),
        (b"&&Key=k&&Data=%7B%7D&", 201, None),
        (b"Key=k&Data={}&Unknown=1&=", 201, None),
        (b"Key=k=k&Data={}", 201, None),
        (b"", 400, 54206),
        (b"Key=k", 400, 54206),
        (b"Key&Data={}", 400, 54209),
        (b"Data={}", 400, 54209),
        (b"key=k&data={}", 400, 54206),
        (b"Key=k&Data", 400, 54008),
        (b"Key=k&Data={}&Key=k", 400, 54008),
        (b"Key=k&Data={}&Ttl=&Ttl=", 400, 54008),
        (b"Key=%&Data={}", 400, 54008),
        (b"Key=%FF&Data={}", 400, 54008),
        (b"Key=\xff&Data={}", 400, 54008),
        (b"Key=k&Data={}" + b"&" * (MAX_FIELDS - 2), 201, None),
        (b"Key=k&Data={}" + b"&" * (MAX_FIELDS - 1), 400, 54008),
        (b"x" * (1024 * 1024 + 1), 413, 54006),
    ],
)
def test_read_forms(ask: Callable[..., Any], store: Store, body: bytes, status: int, code: int | None) -> None:
    """The wire: forms are read strictly: nothing twice, nothing malformed, nothing without an end."""
    store.map("m")
    answer = ask("POST", "m/Items", body=body)
    assert (answer.status, answer.body.get("code")) == (status, code)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/x-www-form-urlencoded", 201),
        ("Application/X-WWW-Form-URLencoded; charset=UTF-8", 201),
        ("application/json", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ],
)
def test_read_forms_only(ask: Callable[..., Any], store: Store, kind: str, status: int) -> None:
    """The wire: a body of another type is refused, whatever is in it; without a type it is a form."""
    store.map("m")
    assert ask("POST", "m/Items", {"Key": "k", "Data": "{}"}, content_type=kind).status == status
    assert ask("POST", "m/Items", {"Key": "l", "Data": "{}"}).status == 201


def test_read_the_last_of_two_equal_fields_in_data(ask: Callable[..., Any], store: Store) -> None:
    """D1: data is what JSON says, read as every common reader does."""
    store.map("m")
    assert ask("POST", "m/Items", {"Key": "k", "Data": '{"a":1,"a":2}'}).body["data"] == {"a": 2}


def test_let_queries_say_nothing_twice(ask: Callable[..., Any], store: Store) -> None:
    """The wire: as forms, so queries; of parameters that are unknown here nothing is said."""
    store.map("m")
    assert ask("GET", "m/Items", query="Order=asc&Order=desc").body["code"] == 20001
    assert ask("GET", "m/Items", query="Order=%").body["code"] == 20001
    assert ask("GET", "m/Items", query="HideExpired=true&Order=desc").status == 200


class Refused(MapItemError):
    """An error that this edge has never heard of."""


@pytest.mark.parametrize(
    ("own_status", "own_code", "status", "code"),
    [(429, 54009, 429, 54009), (410, None, 410, 20410), (None, None, 503, 20503)],
)
def test_pass_every_error_on(
    ask: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    own_status: int | None,
    own_code: int | None,
    status: int,
    code: int,
) -> None:
    """X: whatever error the store raises, its status and code are the answer's; what has none is 503."""

    def create_map(*arguments: Any, **options: Any) -> None:
        error = Refused("Rate limit exceeded for write-map-MP1")
        error.status, error.code = own_status, own_code
        raise error

    monkeypatch.setattr(Store, "create_map", create_map)
    answer = ask("POST", "", {})
    assert (answer.status, answer.body["status"], answer.body["code"]) == (status, status, code)
    assert answer.body["message"] == "Rate limit exceeded for write-map-MP1"


def test_say_that_the_store_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """X: a store that is closed, one for reading only, and a disk that refuses, are told as what they are."""
    clock = ManualClock(1_700_000_000.0)
    with Store(tmp_path / "s", clock=clock) as store:
        store.map("m").set("k", {})
        with monkeypatch.context() as patch:

            def full(*arguments: Any, **options: Any) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(type(store), "create_map", full)
            answer = asking(Router(store))("POST", "", {})
            assert (answer.status, answer.body["code"]) == (503, 20503)
            assert "No space left on device" in answer.body["message"]
    assert asking(Router(store))("GET", "m").status == 503
    with Store(tmp_path / "s", clock=clock, read_only=True) as store:
        ask = asking(Router(store))
        assert ask("GET", "m/Items/k").status == 200
        answer = ask("POST", "m/Items", {"Key": "l", "Data": "{}"})
        assert (answer.status, answer.body["code"]) == (403, 20403)


def test_take_slashes_and_dots_in_the_service_for_its_name(ask: Callable[..., Any], store: Store) -> None:
    """The wire: an escaped slash is no slash, wherever it stands; an empty service is none."""
    store.map("m")
    assert ask("GET", "/v1/Services/a%2FMaps%2Fm/Maps/m").status == 200
    assert ask("GET", "/v1/Services/../Maps/m").status == 200
    assert ask("GET", "/v1/Services//Maps/m").status == 404
    assert ask("GET", "/v1/Services/%FF/Maps/m").body["code"] == 20001
    assert ask("GET", "/v1/Services/default/Maps/m%2FItems").status == 404
    assert ask("GET", "/v1/Services/default/M%61ps/m").status == 404
    assert ask("GET", f"/v1/Services/default/Maps/m?{urlencode({'x': 1})}").status == 404

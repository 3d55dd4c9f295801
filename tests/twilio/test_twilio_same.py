"""Any sequence of calls through the real client comes to the same as the same sequence on the plain API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from adapter import ClientStore
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import ACCOUNT, http_client, serving
from twilio.rest import Client

from mapitem import Map, MapItem, MapItemError, Page, Store
from mapitem.testing import ManualClock
from mapitem.testing import strategies as some
from mapitem.twilio import LocalHttpClient

NOW = 1_700_000_000.0

# What HTTP clients take out of a path, and only then what is no key at all.
KEYS = some.keys().filter(lambda key: key not in (".", "..")) | st.sampled_from(["", "k" * 321])
DATA = some.data() | some.small_data() | st.sampled_from([[], {"a": "x" * 17_000}, None])
SECONDS = st.sampled_from([None, None, None, 0, 1, 2, 60, 31_536_000, -1, 31_536_001])
MATCHES = st.sampled_from([None, None, "current", "*", "0", "5", "x", "-2"])
LISTINGS = st.fixed_dictionaries(
    {},
    optional={
        "from_": KEYS,
        "bounds": st.sampled_from(["inclusive", "exclusive", "both"]),
        "order": st.sampled_from(["asc", "desc", "up"]),
    },
)

OPERATIONS = st.one_of(
    st.tuples(st.just("create"), KEYS, DATA, SECONDS, SECONDS),
    st.tuples(st.just("set"), KEYS, DATA, SECONDS, SECONDS, MATCHES),
    st.tuples(st.just("set_item_ttl"), KEYS, SECONDS.filter(lambda ttl: ttl is not None), MATCHES),
    st.tuples(st.just("remove"), KEYS, MATCHES),
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("range"), LISTINGS),
    st.tuples(st.just("pages"), LISTINGS, some.page_sizes()),
    st.tuples(st.just("set_ttl"), SECONDS.filter(lambda ttl: ttl is not None)),
    st.tuples(st.just("map")),
    st.tuples(st.just("advance"), st.sampled_from([1, 1, 59, 60])),
    st.tuples(st.just("remove_map")),
)


def perform(store: Any, map_: Any, clock: ManualClock, operation: tuple[Any, ...]) -> Any:
    """What one operation comes to, be it a value or an error, in a form that can be compared."""
    verb, *arguments = operation
    try:
        return seen(VERBS[verb](store, map_, *arguments))
    except MapItemError as error:
        return type(error).__name__


def matched(map_: Any, key: str, if_match: str | None) -> dict[str, str]:
    if if_match == "current":
        item = map_.get(key)
        if_match = "0" if item is None else item.revision
    return {} if if_match is None else {"if_match": if_match}


def pages(map_: Any, listing: dict[str, Any], size: int) -> Iterator[Any]:
    page = map_.page(**listing, page_size=size)
    yield page.items
    while page.next_page_token is not None:
        page = map_.page(page_token=page.next_page_token, page_size=size)
        yield page.items
    while page.previous_page_token is not None:
        page = map_.page(page_token=page.previous_page_token, page_size=size)
        yield page.items


VERBS: dict[str, Callable[..., Any]] = {
    "create": lambda store, map_, key, data, ttl, map_ttl: map_.create(key, data, ttl=ttl, collection_ttl=map_ttl),
    "set": lambda store, map_, key, data, ttl, map_ttl, match: map_.set(
        key, data, ttl=ttl, collection_ttl=map_ttl, **matched(map_, key, match)
    ),
    "set_item_ttl": lambda store, map_, key, ttl, match: map_.set_item_ttl(key, ttl, **matched(map_, key, match)),
    "remove": lambda store, map_, key, match: map_.remove(key, **matched(map_, key, match)),
    "get": lambda store, map_, key: map_.get(key),
    "range": lambda store, map_, listing: list(map_.range(**listing)),
    "pages": lambda store, map_, listing, size: list(pages(map_, listing, size)),
    "set_ttl": lambda store, map_, ttl: map_.set_ttl(ttl),
    "map": lambda store, map_: store.map("m"),
    "remove_map": lambda store, map_: map_.remove_map(),
}


def seen(value: Any) -> Any:
    if isinstance(value, MapItem):
        dates = value.date_created, value.date_updated, value.date_expires
        return value.key, repr(value.data), value.revision, dates, value.created_by
    if isinstance(value, list | tuple):
        return [seen(each) for each in value]
    if value is None or isinstance(value, Page):
        return value
    return value.name, value.revision, value.date_created, value.date_updated, value.date_expires, value.created_by


@contextmanager
def in_process(store: Store) -> Iterator[Client]:
    yield Client(ACCOUNT, "token", http_client=LocalHttpClient(store))


@contextmanager
def over_http(store: Store) -> Iterator[Client]:
    with serving(store) as url, http_client(url) as client:
        yield client


def compare(connect: Callable[[Store], Any], operations: list[tuple[Any, ...]]) -> None:
    clock = ManualClock(NOW)
    with Store(clock=clock) as plain, Store(clock=clock) as behind, connect(behind) as client:
        there = ClientStore(client)
        here_map: Map | Any = plain.map("m")
        there_map = there.map("m")
        for operation in operations:
            if operation[0] == "advance":
                clock.advance(operation[1])
                continue
            here = perform(plain, here_map, clock, operation)
            assert perform(there, there_map, clock, operation) == here
            if operation[0] == "map":
                here_map, there_map = plain.map("m"), there.map("m")
        assert state(behind) == state(plain)


def state(store: Store) -> list[Any]:
    """All that a store holds, as it lies there."""
    return [[seen(map_), [seen(item) for item in map_.range()]] for map_ in store.maps()]


@given(st.lists(OPERATIONS, max_size=15))
def test_do_through_the_client_what_the_plain_api_does(operations: list[tuple[Any, ...]]) -> None:
    """Values, revisions, dates, errors and their order: the client adds nothing and loses nothing, in process."""
    compare(in_process, operations)


@settings(max_examples=15)
@given(st.lists(OPERATIONS, max_size=15))
def test_do_over_http_what_the_plain_api_does(operations: list[tuple[Any, ...]]) -> None:
    """The same through a real socket."""
    compare(over_http, operations)


@pytest.mark.parametrize("connect", [in_process, over_http])
def test_compare_a_long_listing(connect: Callable[[Store], Any]) -> None:
    """The same for more items than a page holds, by pages that lead forth and back."""
    writes = [("create", f"{number:03}", {"n": number}, None, None) for number in range(103)]
    compare(connect, [*writes, ("range", {}), ("range", {"order": "desc", "from_": "100"}), ("pages", {}, 40)])

"""The Python package ``twilio``, unmodified, in process and over HTTP: each call of the resource, and its errors.

Facts that have no rule number are named by what they are about: the wire, the codes, the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from loopback import ACCOUNT
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client

from mapitem import Store
from mapitem.testing import ManualClock
from mapitem.twilio import AsyncLocalHttpClient, LocalHttpClient, MangledKeyWarning, local_client

NOW = datetime.fromtimestamp(1_700_000_000, UTC)


def refused(call: Callable[[], object]) -> tuple[int, int | None]:
    """Status and code of the error that the call raises."""
    with pytest.raises(TwilioRestException) as caught:
        call()
    return caught.value.status, caught.value.code


def etag(response: Any) -> str:
    """The client hands headers out in a plain dict, in whatever case they came."""
    return {name.lower(): value for name, value in response.headers.items()}["etag"]


# ---------------------------------------------------------------- maps


def test_create_a_map(maps: Any, store: Store) -> None:
    """S2, REST create map: 201, and every property of the resource; revision "0", both dates equal."""
    response = maps.create_with_http_info(unique_name="users", ttl=3600)
    created = response.data
    assert response.status_code == 201
    assert created.sid == store.open_map("users").sid
    assert (created.unique_name, created.revision, created.created_by) == ("users", "0", "system")
    assert created.date_created == created.date_updated == NOW
    assert created.date_expires.timestamp() == NOW.timestamp() + 3600
    assert created.account_sid == ACCOUNT
    assert created.service_sid == "IS" + "0" * 32
    assert created.url.endswith(f"/v1/Services/{created.service_sid}/Maps/{created.sid}")
    assert created.links == {"items": f"{created.url}/Items", "permissions": f"{created.url}/Permissions"}


def test_create_a_map_without_a_name(maps: Any, store: Store) -> None:
    """S2: without a name only the sid finds it."""
    created = maps.create()
    assert (created.unique_name, created.date_expires) == (None, None)
    assert maps(created.sid).fetch().sid == created.sid
    assert [map_.sid for map_ in store.maps()] == [created.sid]


def test_fetch_update_and_delete_a_map_by_sid_and_name(maps: Any) -> None:
    """REST: {MapSid} is the sid or the unique name, everywhere; 200, 200, 204."""
    sid = maps.create(unique_name="m").sid
    assert maps("m").fetch().sid == maps(sid).fetch().sid == sid
    assert maps("m").update(ttl=60).date_expires.timestamp() == NOW.timestamp() + 60
    assert maps(sid).update(collection_ttl=0).date_expires is None
    assert maps("m").delete_with_http_info().status_code == 204
    assert refused(maps(sid).fetch) == refused(maps("m").fetch) == (404, 20404)


def test_prefer_the_specific_ttl(maps: Any, items: Any) -> None:
    """T1, REST: ``Ttl`` is an alias, ignored where ``CollectionTtl`` of a map or ``ItemTtl`` of an item is given."""
    assert maps("m").update(ttl=5, collection_ttl=60).date_expires.timestamp() == NOW.timestamp() + 60
    assert items.create(key="k", data={}, ttl=5, item_ttl=60).date_expires.timestamp() == NOW.timestamp() + 60
    assert items("k").update(ttl=60, item_ttl=5).date_expires.timestamp() == NOW.timestamp() + 5


def test_list_maps(maps: Any) -> None:
    """S2: maps by name, the nameless last by sid, in pages of any size, forth and back."""
    named = [maps.create(unique_name=name).sid for name in ("b", "é", "a", "c", "/")]
    nameless = sorted(maps.create().sid for _ in range(2))
    sids = [named[4], named[2], named[0], named[3], named[1], *nameless]
    for size in (1, 2, 3, 7, 50):
        # The limit ends a walk whose tokens lead round in a circle: it is to fail, and not to hang.
        assert [map_.sid for map_ in maps.list(page_size=size, limit=20)] == sids
    assert [map_.sid for map_ in maps.list(limit=2)] == sids[:2]
    first = maps.page(page_size=3)
    assert first.previous_page_url is None
    second = first.next_page()
    third = second.next_page()
    assert third.next_page() is None
    assert [map_.sid for map_ in third.previous_page()] == [map_.sid for map_ in second] == sids[3:6]
    assert third.previous_page().previous_page().previous_page_url is None


def test_keep_walking_the_maps_while_they_change(maps: Any) -> None:
    """L3 for the list of maps: its tokens are anchored at names, so that none comes twice and none is left out."""
    for name in "abcdef":
        maps.create(unique_name=name)
    page = maps.page(page_size=3)
    maps("c").delete()
    maps.create(unique_name="aa")
    assert [map_.unique_name for map_ in page.next_page()] == ["d", "e", "f"]


def test_refuse_what_maps_refuse(maps: Any) -> None:
    """X: a name that is taken, one that is none, a time to live that is none, an update without a parameter."""
    maps.create(unique_name="m")
    assert refused(lambda: maps.create(unique_name="m")) == (409, 54301)
    assert refused(lambda: maps.create(unique_name="MP" + "0" * 32)) == (400, 54302)
    assert refused(lambda: maps.create(unique_name="")) == (400, 54302)
    assert refused(lambda: maps.create(unique_name="x" * 321)) == (400, 54302)
    for bad in (-1, 31_536_001, "soon", "1.0", True, "9" * 5000):
        assert refused(lambda bad=bad: maps.create(ttl=bad)) == (400, 54011)
        assert refused(lambda bad=bad: maps("m").update(ttl=bad)) == (400, 54011)
    assert refused(lambda: maps("m").update()) == (400, 54010)
    assert refused(lambda: maps("m").update(ttl="")) == (400, 54010)
    assert refused(lambda: maps("n").update(ttl=1)) == (404, 20404)
    assert refused(lambda: maps("n").delete()) == (404, 20404)


# ---------------------------------------------------------------- items


def test_create_an_item(items: Any, store: Store) -> None:
    """W1, REST create item: 201 with every property, ``data`` included."""
    data = {"name": "Foo Bar", "level": 30, "é": [None, True, 1.0, -0.0, 2**64 - 1, "\U0001f600\0"]}
    response = items.create_with_http_info(key="foo", data=data, item_ttl=3600)
    item = response.data
    assert response.status_code == 201
    assert etag(response) == '"0"'
    assert (item.key, item.revision, item.created_by, item.account_sid) == ("foo", "0", "system", ACCOUNT)
    assert repr(item.data) == repr(store.open_map("m")["foo"].data) == repr(data)
    assert item.date_created == item.date_updated == NOW
    assert item.date_expires.timestamp() == NOW.timestamp() + 3600
    assert item.map_sid == store.open_map("m").sid
    assert item.url.endswith(f"/v1/Services/{item.service_sid}/Maps/{item.map_sid}/Items/foo")


def test_fetch_update_and_delete_an_item(items: Any, clock: ManualClock) -> None:
    """REST: 200, 200 with the new revision, 204; an update replaces and never merges; the ETag is the revision (R2)."""
    items.create(key="k", data={"a": 1})
    items.create(key="l", data={})
    clock.advance(5)
    response = items("k").update_with_http_info(data={"b": 2})
    assert (response.status_code, response.data.revision, etag(response)) == (200, "2", '"2"')
    response = items("k").fetch_with_http_info()
    assert (response.status_code, etag(response)) == (200, '"2"')
    assert (response.data.data, response.data.revision) == ({"b": 2}, "2")
    assert response.data.date_updated.timestamp() == response.data.date_created.timestamp() + 5
    assert items("k").delete_with_http_info().status_code == 204
    assert refused(items("k").fetch) == (404, 20404)
    assert items.create(key="k", data={}).revision == "4"


def test_tell_the_revision_of_a_map_as_its_etag(maps: Any, items: Any) -> None:
    """R2: the map's revision counts the events, and is its ETag on every response with the map."""
    items.create(key="k", data={})
    assert etag(maps("m").fetch_with_http_info()) == '"1"'
    assert etag(maps("m").update_with_http_info(ttl=5)) == '"1"'


def test_say_the_service_s_404(maps: Any, items: Any) -> None:
    """REST: whatever is absent is 20404, and the message names the path without the version."""
    with pytest.raises(TwilioRestException) as caught:
        items("nobody").fetch()
    path = "/Services/default/Maps/m/Items/nobody"
    assert f"The requested resource {path} was not found" in caught.value.msg
    for call in (
        lambda: items("nobody").update(data={}),
        lambda: items("nobody").delete(),
        lambda: maps("nowhere").fetch(),
        lambda: maps("nowhere").sync_map_items("k").fetch(),
        lambda: maps("nowhere").sync_map_items.create(key="k", data={}),
        lambda: maps("MP" + "0" * 32).sync_map_items("k").delete(),
    ):
        assert refused(call) == (404, 20404)


def test_refuse_what_items_refuse(items: Any) -> None:
    """X: a key that is taken or none, data that is missing, no JSON, no object, too large; bad times to live."""
    items.create(key="k", data={})
    assert refused(lambda: items.create(key="k", data={})) == (409, 54208)
    for bad in ("", "k" * 321):
        assert refused(lambda bad=bad: items.create(key=bad, data={})) == (400, 54209)
    for bad in ("", "{", "not-valid-json", '{name:"x"}', [1], "1", '"text"', '{"a": NaN}', '{"a": 1e999}', 5):
        assert refused(lambda bad=bad: items.create(key="l", data=bad)) == (400, 54008)
        assert refused(lambda bad=bad: items("k").update(data=bad)) == (400, 54008)
    assert refused(lambda: items.create(key="l", data="[" * 100_000)) == (400, 54008)
    assert refused(lambda: items.create(key="l", data='{"a": %s}' % ("9" * 5000))) == (400, 54008)
    assert refused(lambda: items.create(key="l", data='{"a": "\\ud800"}')) == (400, 54008)
    for missing in (None, "null"):
        assert refused(lambda missing=missing: items.create(key="l", data=missing)) == (400, 54206)
    assert refused(lambda: items.create(key="l", data={"a": "x" * 16_384})) == (413, 54006)
    assert items.create(key="l", data={"a": "é" * 8_188}).revision == "1"  # 16 384 bytes as D3 counts them
    for bad in (-1, 31_536_001, "soon", "0x1", "١"):
        assert refused(lambda bad=bad: items.create(key="n", data={}, ttl=bad)) == (400, 54011)
        assert refused(lambda bad=bad: items("k").update(item_ttl=bad)) == (400, 54011)
        assert refused(lambda bad=bad: items("k").update(data={}, collection_ttl=bad)) == (400, 54011)
    assert items("k").fetch().revision == "0"


def test_need_a_parameter_to_update(items: Any) -> None:
    """REST: an update without a parameter, or with ``CollectionTtl`` alone, is 54010; an empty ``Ttl`` is none."""
    items.create(key="k", data={})
    assert refused(lambda: items("k").update()) == (400, 54010)
    assert refused(lambda: items("k").update(collection_ttl=5)) == (400, 54010)
    assert refused(lambda: items("k").update(ttl="", item_ttl="", collection_ttl=5)) == (400, 54010)


def test_set_the_expiry_of_item_and_map_at_once(maps: Any, items: Any) -> None:
    """T1, T2: an expiry alone is a write that keeps the data; ``CollectionTtl`` goes with it."""
    items.create(key="k", data={"a": 1}, collection_ttl=500)
    assert maps("m").fetch().date_expires.timestamp() == NOW.timestamp() + 500
    item = items("k").update(item_ttl=60, collection_ttl=600)
    assert (item.data, item.revision) == ({"a": 1}, "1")
    assert item.date_expires.timestamp() == NOW.timestamp() + 60
    assert maps("m").fetch().date_expires.timestamp() == NOW.timestamp() + 600
    assert items("k").update(data={}).date_expires.timestamp() == NOW.timestamp() + 60
    assert items("k").update(item_ttl=0).date_expires is None
    items("k").update(data={}, collection_ttl=0)
    assert maps("m").fetch().date_expires is None


def test_expire(maps: Any, items: Any, clock: ManualClock) -> None:
    """T3, T5: from the very instant an item, and a map with all that is in it, is absent."""
    items.create(key="k", data={}, item_ttl=60)
    maps("m").update(ttl=61)
    clock.advance(59.5)
    assert items("k").fetch().key == "k"
    clock.advance(0.5)
    assert refused(items("k").fetch) == (404, 20404)
    assert items.list() == []
    assert items.create(key="k", data={}).revision == "2"
    clock.advance(1)
    assert refused(maps("m").fetch) == refused(items("k").fetch) == (404, 20404)
    assert maps.create(unique_name="m").revision == "0"


def test_show_whole_seconds(items: Any, clock: ManualClock) -> None:
    """The wire: dates have no fraction, for the client hands out any other form as text."""
    clock.advance(0.75)
    item = items.create(key="k", data={}, ttl=1)
    assert item.date_created == NOW
    assert item.date_expires.timestamp() == NOW.timestamp() + 1


@pytest.mark.parametrize(("year", "shown"), [(-62_000_000_000, "0005"), (-30_000_000_000, "1019")])
def test_show_years_of_four_digits(year: int, shown: str) -> None:
    """The wire: a year has four digits, also where the C library would write fewer."""
    with Store(clock=ManualClock(year)) as store:
        created = local_client(store).sync.v1.services("default").sync_maps.create()
        assert isinstance(created.date_created, datetime)
        assert f"{created.date_created.year:04}" == shown


# ---------------------------------------------------------------- conditions


def test_update_on_a_condition(items: Any) -> None:
    """C1: the revision, raw or as the ETag has it, in quotes; ``*``; 412 and 54205 for another, 54003 for none."""
    items.create(key="k", data={})
    assert items("k").update(data={"n": 1}, if_match="0").revision == "1"
    assert items("k").update(data={"n": 2}, if_match='"1"').revision == "2"
    assert items("k").update(ttl=5, if_match="2").revision == "3"
    assert items("k").update(data={"n": 3}, if_match="*").revision == "4"
    for stale in ("0", '"3"', "04", "f" * 40):
        assert refused(lambda stale=stale: items("k").update(data={}, if_match=stale)) == (412, 54205)
        assert refused(lambda stale=stale: items("k").update(ttl=5, if_match=stale)) == (412, 54205)
    for bad in ("x", "G", '"', '""', '"*"', 'W/"4"', "4, 5", "0x4", "-2"):
        assert refused(lambda bad=bad: items("k").update(data={}, if_match=bad)) == (400, 54003)
        assert refused(lambda bad=bad: items("k").update(ttl=5, if_match=bad)) == (400, 54003)
    assert refused(lambda: items("l").update(data={}, if_match="0")) == (404, 20404)
    assert refused(lambda: items("l").update(data={}, if_match="*")) == (404, 20404)
    assert items("k").fetch().data == {"n": 3}


def test_put_if_absent(items: Any, store: Store) -> None:
    """The service's ``If-Match: -1``: written if the key is absent, 412 if it is there."""
    response = items("k").update_with_http_info(data={"n": 1}, ttl=5, if_match="-1")
    assert (response.status_code, response.data.revision) == (201, "0")
    assert response.data.date_expires.timestamp() == NOW.timestamp() + 5
    assert refused(lambda: items("k").update(data={}, if_match="-1")) == (412, 54205)
    assert refused(lambda: items("k").update(ttl=5, if_match="-1")) == (412, 54205)
    assert refused(lambda: items("l").update(ttl=5, if_match="-1")) == (404, 20404)
    assert store.open_map("m")["k"].data == {"n": 1}


def delete(client: Client, key: str, if_match: str) -> int:
    """A deletion on a condition, past the client's own verb, which forgets the condition."""
    url = client.sync.absolute_url(f"v1/Services/default/Maps/m/Items/{key}")
    return client.request("DELETE", url, headers={"If-Match": if_match}).status_code


def test_delete_on_a_condition(client: Client, items: Any) -> None:
    """C1, W5: as for an update."""
    items.create(key="k", data={})
    assert [delete(client, "k", each) for each in ("1", '"1"', "-1", "x", "")] == [412, 412, 412, 400, 400]
    assert [delete(client, "l", each) for each in ("1", "*", "-1", "x")] == [404, 404, 404, 400]
    assert delete(client, "k", '"0"') == 204
    assert refused(items("k").fetch) == (404, 20404)


def test_know_that_the_client_forgets_the_condition_of_a_deletion(items: Any) -> None:
    """The client: its ``delete(if_match=…)`` sends no ``If-Match``. The guide says so until this fails."""
    items.create(key="k", data={})
    assert items("k").delete(if_match="5") is True


def test_judge_arguments_before_the_map(maps: Any) -> None:
    """C2: arguments first, then the map, then presence and condition."""
    items = maps("nowhere").sync_map_items
    assert refused(lambda: items.create(key="k", data=[])) == (400, 54008)
    assert refused(lambda: items.create(key="k" * 321, data={}, ttl=-1)) == (400, 54209)
    assert refused(lambda: items("k").update(data={"a": "x" * 20_000})) == (413, 54006)
    assert refused(lambda: items("k").update(ttl=-1, if_match="x")) == (400, 54011)
    assert refused(lambda: items("k").update(data={}, if_match="x")) == (400, 54003)
    assert refused(lambda: items("k").update(data={}, if_match="-1")) == (404, 20404)
    assert refused(lambda: maps("nowhere").update(ttl=-1)) == (400, 54011)
    assert refused(items("k" * 321).fetch) == (400, 54209)


# ---------------------------------------------------------------- lists


def keys(listed: Any) -> list[str]:
    return [item.key for item in listed]


@pytest.fixture
def twelve(items: Any) -> Any:
    for number in range(12):
        items.create(key=f"k{number:02}", data={"n": number})
    return items


def test_list_items(twelve: Any) -> None:
    """L2, REST: in the order of keys, from a place that need not exist, up or down, with or without an equal key."""
    every = [f"k{number:02}" for number in range(12)]
    assert keys(twelve.list()) == every
    assert keys(twelve.list(order="desc")) == every[::-1]
    assert keys(twelve.list(from_="k03")) == keys(twelve.list(from_="k02x")) == every[3:]
    assert keys(twelve.list(from_="k03", bounds="exclusive")) == every[4:]
    assert keys(twelve.list(from_="k03", order="desc")) == every[3::-1]
    assert keys(twelve.list(from_="k03", order="desc", bounds="exclusive")) == every[2::-1]
    assert keys(twelve.list(limit=5)) == keys(twelve.list(limit=5, page_size=2)) == every[:5]
    assert keys(twelve.stream(page_size=5)) == every
    assert [item.data["n"] for item in twelve.list()] == list(range(12))


@pytest.mark.parametrize("size", [1, 5, 6, 11, 12, 13])
def test_page_items(twelve: Any, size: int) -> None:
    """L4: pages forth and back, by the URLs that each page has; none behind the last, none before the first."""
    wanted = [f"k{number:02}" for number in range(9, 0, -1)]
    page = twelve.page(from_="k10", bounds="exclusive", order="desc", page_size=size)
    pages = []
    while page is not None:
        pages.append(page)
        page = page.next_page()
    seen = [keys(page) for page in pages]
    assert [key for each in seen for key in each] == [*wanted, "k00"]
    assert all(len(each) == size for each in seen[:-1])
    for here, before in zip(pages[::-1], [*seen[-2::-1], None], strict=True):
        back = here.previous_page()
        assert (None if back is None else keys(back)) == before


def test_tell_all_of_meta(client: Client, twelve: Any) -> None:
    """REST: ``meta`` has seven fields; its URLs are absolute, usable as they are, and repeat the listing."""
    base = client.sync.base_url
    page = twelve.page(from_="k 1", bounds="exclusive", order="asc", page_size=5)
    assert page.next_page_url.startswith(f"{base}/v1/Services/IS")
    meta = page._payload["meta"]
    url = meta["next_page_url"].partition("?")[0] + "?From=k%201&Bounds=exclusive&Order=asc&PageSize=5&Page="
    assert {name: meta[name] for name in meta if name != "next_page_url"} == {
        "key": "items",
        "page": 0,
        "page_size": 5,
        "url": url + "0",
        "first_page_url": url + "0",
        "previous_page_url": None,
    }
    meta = page.next_page()._payload["meta"]
    assert (meta["page"], meta["first_page_url"]) == (1, url + "0")
    assert meta["previous_page_url"].startswith(url + "0&PageToken=")
    assert client.request("GET", meta["url"]).text == client.request("GET", page.next_page_url).text
    assert client.request("GET", meta["first_page_url"]).status_code == 200


def test_return_a_hundred_at_most(items: Any, store: Store) -> None:
    """REST, the contradiction of 100 and 1000: up to 1000 is accepted, and no more than 100 come."""
    with store.batch() as batch:
        for number in range(120):
            batch.set(store.open_map("m"), f"{number:03}", {})
    assert [len(list(items.page(page_size=size))) for size in (1, 100, 101, 1000)] == [1, 100, 100, 100]
    assert len(list(items.page())) == 50
    assert len(items.list()) == len(items.list(limit=1000)) == 120


def test_refuse_bad_listings(twelve: Any, maps: Any) -> None:
    """X: 54451, 54452, 54453 and 54454. The client raises no typed error for a list, and has no code then."""

    def code(**listing: Any) -> int:
        with pytest.raises(TwilioException) as caught:
            twelve.page(**listing)
        response = caught.value.args[1]
        assert response.status_code == 400
        return int(response.text.partition('"code": ')[2].partition(",")[0])

    assert [code(order=order) for order in ("up", "ASC", "")] == [54451] * 3
    assert [code(bounds=bounds) for bounds in ("both", "")] == [54452] * 2
    assert [code(page_token=token) for token in ("x", "", "é", "=" * 9)] == [54453] * 4
    assert [code(page_size=size) for size in (1001, -1, 0, "", "ten", "1.0", "9" * 5000)] == [54454] * 7
    assert code(page_number="x") == 20001
    for listing in ({"page_size": 1001}, {"page_token": "x"}, {"page_token": "W10"}, {"page_number": -1}):
        with pytest.raises(TwilioException):
            maps.page(**listing)
    with pytest.raises(TwilioException):
        maps("nowhere").sync_map_items.list()


def test_take_a_token_for_the_whole_listing(twelve: Any) -> None:
    """L4, REST: a page token carries its listing; what else comes with it, but ``PageSize``, says nothing."""
    token = twelve.page(from_="k03", page_size=2).next_page_url.rpartition("PageToken=")[2]
    assert keys(twelve.page(page_token=token, order="desc", from_="a", page_size=3)) == ["k05", "k06", "k07"]


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    "key", ["a b", "é", "a+b", "a&b=c", "a\nb", "\0", "\U0001f600" * 320, "!*'();:@,$[]", "__proto__"]
)
def test_reach_keys_that_the_client_sends_unharmed(items: Any, key: str) -> None:
    """K2: every key that HTTP can carry, as the client writes it into the URL."""
    quoted = quote(key, safe="")
    items.create(key=key, data={"k": key})
    assert items(quoted).fetch().data == {"k": key}
    assert items(quoted).update(data={}).key == key
    assert keys(items.list(from_=key, limit=1)) == [key]
    assert items(quoted).delete() is True


@pytest.mark.parametrize(
    "key", ["a/b", "/a", "a//b", "?", "a?b=c", "#", "a#b", "100%", "%41", "a%2Fb", "../m", "a/../b"]
)
def test_reach_escaped_keys(items: Any, key: str) -> None:
    """The wire: keys are percent-decoded once, so that a caller who escapes them reaches every one."""
    items.create(key=key, data={"k": key})
    assert items(quote(key, safe="")).fetch().data == {"k": key}
    assert items(quote(key, safe="")).delete() is True
    assert items.list() == []


def test_follow_the_urls_of_items_and_maps(client: Client, maps: Any) -> None:
    """REST: ``url`` is absolute and leads back, whatever the key and the map's name."""
    map_ = maps.create(unique_name="a/../b?%41")
    assert maps(quote(map_.unique_name, safe="")).fetch().url == map_.url
    for key in ("a/b", "?#%41", "é"):
        item = maps(map_.sid).sync_map_items.create(key=key, data={})
        assert client.request("GET", item.url).status_code == 200
    assert client.request("GET", map_.url).status_code == 200
    assert client.request("GET", map_.links["items"]).status_code == 200


@pytest.fixture
def local(store: Store) -> Any:
    """The items of a new map ``m``, in process."""
    maps = Client(ACCOUNT, "token", http_client=LocalHttpClient(store)).sync.v1.services("default").sync_maps
    maps.create(unique_name="m")
    return maps("m").sync_map_items


@pytest.mark.parametrize("key", ["a?b", "?", "a#b", "#", ".", "..", "100%", "a%b"])
def test_warn_of_keys_that_http_would_mangle(local: Any, key: str) -> None:
    """The client: it writes keys into the URL as they are. In process they arrive, and the warning names the trap."""
    local.create(key=key, data={"k": key})
    local.create(key="a", data={"k": "a"})
    with pytest.warns(MangledKeyWarning, match="is taken out" if "." in key else f"'{key.strip('ab10')}'"):
        assert local(key).fetch().data == {"k": key}
    with pytest.warns(MangledKeyWarning) as warned:
        local(key).delete()
    assert warned[0].filename == __file__, "a warning belongs to the line that can be mended"
    assert keys(local.list()) == ["a"]


@pytest.mark.parametrize("key", ["a%41b", "%2E%2e", "%7e"])
def test_warn_of_escapes_that_nobody_meant(local: Any, key: str) -> None:
    """The client: ``%41`` in a key that was not escaped is read as ``A``, here as over HTTP."""
    with pytest.warns(MangledKeyWarning, match="use no such key" if "2E" in key else "is read as"):
        assert refused(local(key).fetch) == (404, 20404)


def test_warn_of_names_that_http_would_mangle(store: Store, local: Any) -> None:
    """The client: over HTTP, deleting an item of the map ``m?x`` deletes the map ``m``."""
    maps = Client(ACCOUNT, "token", http_client=LocalHttpClient(store)).sync.v1.services("default").sync_maps
    maps.create(unique_name="m?x")
    with pytest.warns(MangledKeyWarning):
        maps("m?x").sync_map_items.create(key="k", data={})
    with pytest.warns(MangledKeyWarning):
        assert keys(maps("m?x").sync_map_items.list()) == ["k"]
    with pytest.warns(MangledKeyWarning):
        maps("m?x").sync_map_items("k").delete()
    assert [map_.name for map_ in store.maps()] == ["m", "m?x"]


@pytest.mark.parametrize("key", ["a/b", "a//b", "/a", "Items/a", "m/Items/a", "a/../b", "./a"])
def test_take_a_slash_as_part_of_the_key_in_process(local: Any, key: str) -> None:
    """In process, an unescaped ``/`` in a key is that key, and no other resource.

    It once arrived without a word, so that tests passed here of code that finds nothing at the service; and of keys
    with a ``..`` between slashes it was said to use none such, though they only have to be escaped.
    """
    local.create(key=key, data={"k": key})
    with pytest.warns(MangledKeyWarning, match=f"the '/' in the key '{key}' divides the path.*: escape keys"):
        assert local(key).fetch().data == {"k": key}
    with pytest.warns(MangledKeyWarning):
        assert local(key).update(data={}).key == key
    with pytest.warns(MangledKeyWarning):
        assert local(key).delete() is True
    assert local.create(key=key, data={}).key == local(quote(key, safe="")).fetch().key, "escaped, it is no trap"


def test_take_a_lone_surrogate_for_what_it_is(local: Any) -> None:
    """K2: no key holds one, and it never becomes another key; a form with one is no UTF-8."""
    assert refused(lambda: local.create(key="a\ud800", data={})) == (400, 54008)
    assert refused(local("a\ud800").fetch) == (400, 54209)


# ---------------------------------------------------------------- the client's surroundings


def test_take_any_account_and_service(client: Client, items: Any) -> None:
    """Any account and token, any service's sid or name, lead to the store; a sid is shown as it was said."""
    items.create(key="k", data={})
    sid = "IS" + "a" * 32
    for service, shown in ((sid, sid), ("default", "IS" + "0" * 32), ("ServiceSid", "IS" + "0" * 32)):
        item = client.sync.v1.services(service).sync_maps("m").sync_map_items("k").fetch()
        assert (item.service_sid, item.account_sid) == (shown, ACCOUNT)


def test_serve_sync_maps_and_nothing_else(client: Client) -> None:
    """Lists, Documents, Streams, Permissions and services are answered with a clear 501."""
    service = client.sync.v1.services("default")
    for call in (
        lambda: service.documents.create(),
        lambda: service.documents("d").fetch(),
        lambda: service.sync_lists.create(),
        lambda: service.sync_lists("l").sync_list_items("1").fetch(),
        lambda: service.sync_streams("s").stream_messages.create(data={}),
        lambda: service.sync_maps("m").sync_map_permissions("ada").fetch(),
        lambda: service.fetch(),
        lambda: client.sync.v1.services.create(),
    ):
        assert refused(call) == (501, 20501)


def test_serve_no_other_product_in_process(store: Store) -> None:
    """A client in process that turns to another product of Twilio gets a clear 501, and reaches nobody."""
    client = local_client(store)
    assert refused(lambda: client.messages.create(to="+1", from_="+2", body="x")) == (501, 20501)
    assert refused(lambda: client.verify.v2.services("VA").fetch()) == (501, 20501)


def test_ask_for_credentials(store: Store) -> None:
    """Credentials that are configured are checked, in process too: else 401 and 20003."""
    transport = LocalHttpClient(store, credentials=(ACCOUNT, "secret"))
    good = Client(ACCOUNT, "secret", http_client=transport).sync.v1.services("default").sync_maps
    assert good.create(unique_name="m").account_sid == ACCOUNT
    for account, token in ((ACCOUNT, "wrong"), ("AC" + "2" * 32, "secret"), (ACCOUNT, "secret ")):
        bad = Client(account, token, http_client=transport).sync.v1.services("default").sync_maps
        assert refused(bad("m").fetch) == refused(bad("nowhere").fetch) == (401, 20003)


@pytest.mark.parametrize("credentials", [("", "t"), ("AC", ""), ("A:C", "t")])
def test_refuse_credentials_that_nobody_could_give(store: Store, credentials: tuple[str, str]) -> None:
    """Credentials are an account SID and a token; a mistake in them shows at once."""
    with pytest.raises(ValueError, match="account SID"):
        LocalHttpClient(store, credentials=credentials)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_run_asynchronously(tmp_path: Any, durability: Any) -> None:
    """The client's asynchronous verbs, with writes that wait for the disk and with ones that do not."""

    async def run(store: Store) -> None:
        client = Client(ACCOUNT, "token", http_client=AsyncLocalHttpClient(store))
        maps = client.sync.v1.services("default").sync_maps
        await maps.create_async(unique_name="m")
        items = maps("m").sync_map_items
        await asyncio.gather(*(items.create_async(key=f"{n:02}", data={"n": n}) for n in range(60)))
        assert (await items("07").update_async(data={}, if_match=store.open_map("m")["07"].revision)).data == {}
        with pytest.raises(TwilioRestException, match="412"):
            await items("07").update_async(data={}, if_match="0")
        assert len(await items.list_async()) == 60
        assert await items("07").delete_async() is True
        with pytest.warns(MangledKeyWarning) as warned, pytest.raises(TwilioRestException):
            await items("a?b").fetch_async()
        assert warned[0].filename == __file__

    with Store(tmp_path / "s.mapitem", durability=durability) as store:
        asyncio.run(run(store))


def test_find_the_other_client_s_revision_stale(items: Any, store: Store) -> None:
    """C1: the client and the plain API write to the same items, and see each other's revisions."""
    revision = items.create(key="k", data={}).revision
    store.open_map("m").set("k", {"by": "api"})
    assert refused(lambda: items("k").update(data={}, if_match=revision)) == (412, 54205)

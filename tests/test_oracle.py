"""The oracle held against the rules: examples computed by hand, for whoever wants to trust the model tests.

It knows the oracle alone. That the real store does the same is what ``test_model.py`` shows.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mapitem import Limits, MapItem
from mapitem.errors import (
    DataTooLarge,
    HistoryCompacted,
    InvalidBounds,
    InvalidData,
    InvalidKey,
    InvalidName,
    InvalidOrder,
    InvalidPageSize,
    InvalidPageToken,
    InvalidRevision,
    InvalidTTL,
    ItemExists,
    ItemNotFound,
    MapExists,
    MapItemError,
    MapNotFound,
    RevisionMismatch,
)
from mapitem.testing import ManualClock
from mapitem.testing.oracle import Oracle, OracleMap

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=NOON.timestamp())


@pytest.fixture
def oracle(clock: ManualClock) -> Oracle:
    return Oracle(clock)


@pytest.fixture
def scores(oracle: Oracle) -> OracleMap:
    return oracle.create_map("scores")


def kinds(oracle: Oracle) -> list[str]:
    return [event.kind for event in oracle.events]


def keys_of(items: Any) -> list[str]:
    return [item.key for item in items]


# K


@pytest.mark.parametrize("key", ["k", "k" * 320, "\U0001f600" * 320, "\0", "..", "a/b?c#d%2F"])
def test_set_with_any_good_key(scores: OracleMap, key: str) -> None:
    """K1, K2: 1 to 320 code points, every character."""
    assert scores.set(key, {}).key == key


@pytest.mark.parametrize("key", ["", "k" * 321, "\U0001f600" * 321, "\ud800", None, 1, b"k", []])
def test_refuse_bad_key(scores: OracleMap, key: Any) -> None:
    """K1, K2, L1: the verbs and reads raise, ``in`` says no."""
    for call in (lambda: scores.set(key, {}), lambda: scores.remove(key), lambda: scores.get(key), lambda: scores[key]):
        with pytest.raises(InvalidKey):
            call()
    assert key not in scores


def test_order_keys_by_code_point(scores: OracleMap) -> None:
    """K3, K4: two spellings of é are two keys; U+FFFF comes before the astral ones."""
    for key in ["\U00010000", "é", "\uffff", "e\u0301", "z"]:
        scores.set(key, {})
    assert list(scores) == ["e\u0301", "z", "é", "\uffff", "\U00010000"]


@pytest.mark.parametrize("name", ["", "n" * 321, "MP" + "0" * 32, "XY" + "aF" * 16, "\udfff", 7])
def test_refuse_bad_name(oracle: Oracle, name: Any) -> None:
    """K5: a name is a good key that does not look like a sid."""
    for call in (oracle.map, oracle.create_map):
        with pytest.raises(InvalidName):
            call(name)
    assert list(oracle.maps()) == []


def test_create_map_under_freed_name(oracle: Oracle, scores: OracleMap) -> None:
    """K6: a new sid, and the old handle belongs to the map that ended."""
    scores.remove_map()
    again = oracle.create_map("scores")
    again.set("k", {})
    assert again.sid != scores.sid
    assert again != scores
    with pytest.raises(MapNotFound) as caught:
        scores.get("k")
    assert (caught.value.status, caught.value.code) == (404, 54200)


# D


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([], "$"),
        (None, "$"),
        ({1: 1}, "$"),
        ({"tags": ["a", "b", "c", {1}]}, "$.tags[3]"),
        ({"a b": {"c": (1,)}}, '$["a b"].c'),
        ({"a": {"\ud800": 1}}, "$.a"),
        ({"a": float("nan")}, "$.a"),
        ({"a": -float("inf")}, "$.a"),
        ({"a": 2**64}, "$.a"),
        ({"a": -(2**63) - 1}, "$.a"),
        ({"é": "\udfff"}, "$.é"),
    ],
)
def test_refuse_bad_data(scores: OracleMap, data: Any, path: str) -> None:
    """D1: the path names the place; a bad key is reported at its dict."""
    with pytest.raises(InvalidData) as caught:
        scores.set("k", data)
    assert caught.value.path == path
    assert len(scores) == 0


def test_refuse_level_129(scores: OracleMap) -> None:
    """D1: the top object is level 1, scalars are no level."""

    def nested(levels: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for _ in range(levels - 1):
            data = {"a": data}
        return data

    scores.set("deep", nested(128))
    with pytest.raises(InvalidData) as caught:
        scores.set("k", nested(129))
    assert caught.value.path == "$" + ".a" * 128


def test_refuse_cycle(scores: OracleMap) -> None:
    """D1: a cycle is reported where it closes; the same value twice is none."""
    twice: dict[str, Any] = {}
    scores.set("fine", {"a": twice, "b": twice})
    data: dict[str, Any] = {"a": {"b": []}}
    data["a"]["b"].append(data["a"])
    with pytest.raises(InvalidData) as caught:
        scores.set("k", data)
    assert caught.value.path == "$.a.b[0]"


def test_return_data_as_written(scores: OracleMap) -> None:
    """D2: types, the sign of zero and the order of keys."""
    scores.set("k", {"b": 1, "a": 1.0, "c": True, "z": -0.0})
    assert repr(scores["k"].data) == "{'b': 1, 'a': 1.0, 'c': True, 'z': -0.0}"


def test_refuse_data_over_limit(scores: OracleMap) -> None:
    """D3: bytes of compact JSON in UTF-8; 16 384 fit, one more does not."""
    scores.set("k", {"s": "é" * 8_188})  # {"s":""} takes 8
    with pytest.raises(DataTooLarge) as caught:
        scores.set("k", {"s": "é" * 8_188 + "x"})
    assert (caught.value.size, caught.value.limit) == (16_385, 16_384)


def test_copy_in_and_out(scores: OracleMap) -> None:
    """D4: nothing that a caller does to what was passed or read reaches the store."""
    data = {"list": [1]}
    written = scores.set("k", data)
    data["list"].append(2)
    written.data["list"].append(3)
    scores["k"].data["list"].append(4)
    assert scores["k"].data == {"list": [1]}


def test_read_what_other_limits_let_in(clock: ManualClock) -> None:
    """D5: limits bind writes only."""
    oracle = Oracle(clock, limits=Limits(max_key_chars=400))
    wide = oracle.map("n" * 400)
    wide.set("k" * 400, {})
    oracle.limits = Limits()
    assert oracle.open_map("n" * 400) == wide
    assert wide["k" * 400].key in wide
    with pytest.raises(InvalidKey):
        wide.set("k" * 400, {})
    with pytest.raises(InvalidKey):
        wide.get("l" * 400)


# R


def test_number_events(scores: OracleMap) -> None:
    """R1-R4: from 0, every write one, removals too, in lower-case hex."""
    assert scores.revision == "0"
    assert scores.create("a", {}).revision == "0"
    assert scores.create("b", {}).revision == "1"
    assert scores.set("a", {}).revision == "2"
    assert scores.remove("a").revision == "2"
    assert scores.revision == "4"
    assert scores.create("a", {}).revision == "4"
    for _ in range(5):
        scores.set_item_ttl("b", 5)
    assert scores["b"].revision == "9"
    assert scores.revision == "a"
    scores.set_ttl(60)
    assert scores.revision == "a"


# I


def test_date_item_and_map(oracle: Oracle, clock: ManualClock, scores: OracleMap) -> None:
    """I2-I4: date_updated never goes back, date_created stays, an expiry counts from the clock."""
    oracle.identity = "alice"
    clock.advance(10)
    created = scores.create("k", {"n": 1})
    assert created == MapItem(
        key="k",
        data={"n": 1},
        revision="0",
        date_created=NOON + timedelta(seconds=10),
        date_updated=NOON + timedelta(seconds=10),
        date_expires=None,
        created_by="alice",
    )
    oracle.identity = "bob"
    clock.advance(-5)
    updated = scores.set("k", {}, ttl=1)
    assert (updated.date_created, updated.date_updated) == (created.date_created, created.date_updated)
    assert updated.date_expires == NOON + timedelta(seconds=6)
    assert updated.created_by == "alice"
    assert scores.date_created == NOON
    assert scores.date_updated == NOON + timedelta(seconds=10)
    assert scores.created_by == "system"


# T


@pytest.mark.parametrize("ttl", [-1, 31_536_001, True, 1.0, "1", timedelta(milliseconds=1500), timedelta(-1)])
def test_refuse_bad_ttl(oracle: Oracle, scores: OracleMap, ttl: Any) -> None:
    """T1, W6: ``None`` is refused only where it would mean nothing."""
    for call in (
        lambda: scores.set("k", {}, ttl=ttl),
        lambda: scores.set("k", {}, collection_ttl=ttl),
        lambda: oracle.map("scores", ttl=ttl),
        lambda: scores.set_item_ttl("k", ttl),
        lambda: scores.set_item_ttl("k", None),
        lambda: scores.set_ttl(ttl),
        lambda: scores.set_ttl(None),
    ):
        with pytest.raises(InvalidTTL):
            call()


def test_keep_or_clear_expiry(scores: OracleMap) -> None:
    """T1: ``None`` keeps, ``0`` clears, anything else counts anew."""
    expires = NOON + timedelta(seconds=60)
    assert scores.set("k", {}, ttl=timedelta(minutes=1)).date_expires == expires
    assert scores.set("k", {}).date_expires == expires
    assert scores.update("k", {"a": 1}, ttl=0).date_expires is None
    assert scores.set_item_ttl("k", 31_536_000).date_expires == NOON + timedelta(days=365)
    assert scores.create("l", {}, ttl=0).date_expires is None


def test_set_expiry_of_map_with_item(scores: OracleMap) -> None:
    """T2: ``collection_ttl`` sets the map's, and items do not inherit it."""
    assert scores.set("k", {}, collection_ttl=60).date_expires is None
    assert scores.date_expires == NOON + timedelta(seconds=60)
    scores.update("k", {})
    assert scores.date_expires == NOON + timedelta(seconds=60)
    scores.set("k", {}, collection_ttl=0)
    assert scores.date_expires is None


def test_hide_item_from_its_instant_on(clock: ManualClock, scores: OracleMap) -> None:
    """T3, T4: absent for reads and conditions from the very instant; reads change nothing, so it can come back."""
    scores.set("k", {}, ttl=1)
    clock.set(NOON.timestamp() + 0.999999)
    assert "k" in scores
    clock.set(NOON.timestamp() + 1)
    assert ("k" in scores, len(scores), list(scores), scores.get("k")) == (False, 0, [], None)
    with pytest.raises(ItemNotFound):
        scores.set("k", {}, if_match="*")
    assert scores.revision == "1"
    clock.set(NOON.timestamp())
    assert scores["k"].revision == "0"


def test_remove_due_items_before_write(oracle: Oracle, clock: ManualClock, scores: OracleMap) -> None:
    """T4, T6: in order of (date_expires, key), numbered before the write, and for good."""
    scores.set("late", {}, ttl=2)
    scores.set("b", {}, ttl=1)
    scores.set("a", {}, ttl=1)
    clock.advance(2)
    assert scores.create("late", {}).revision == "6"
    expired = oracle.events[3:6]
    assert [(event.key, event.number, event.expired) for event in expired] == [
        ("a", 3, True),
        ("b", 4, True),
        ("late", 5, True),
    ]
    assert [event.previous.revision for event in expired if event.previous] == ["2", "1", "0"]
    clock.advance(-2)
    assert list(scores) == ["late"]


def test_leave_due_items_when_write_fails(clock: ManualClock, scores: OracleMap) -> None:
    """T4: a write that fails removes nothing."""
    scores.set("k", {}, ttl=1)
    clock.advance(1)
    with pytest.raises(ItemNotFound):
        scores.remove("k")
    assert scores.revision == "1"
    assert scores.purge() == 1
    assert scores.purge() == 0
    assert scores.revision == "2"


def test_expire_map(oracle: Oracle, clock: ManualClock, scores: OracleMap) -> None:
    """T5: absent with its items, back if the clock goes back, dropped with one event when the name is taken again."""
    scores.set("k", {})
    scores.set_ttl(5)
    clock.advance(5)
    assert list(oracle.maps()) == []
    for call in (lambda: oracle.open_map("scores"), lambda: oracle.open_map(scores.sid), lambda: len(scores)):
        with pytest.raises(MapNotFound):
            call()
    clock.advance(-1)
    assert list(scores) == ["k"]
    clock.advance(1)
    again = oracle.map("scores")
    assert (again.sid != scores.sid, len(again), again.date_expires) == (True, 0, None)
    assert kinds(oracle) == ["added", "map_removed"]
    clock.advance(-1)
    with pytest.raises(MapNotFound):
        len(scores)


def test_purge_store(oracle: Oracle, clock: ManualClock, scores: OracleMap) -> None:
    """T4, T5: due items of live maps, and expired maps with all they hold, are counted."""
    scores.set("due", {}, ttl=1)
    scores.set("stays", {})
    gone = oracle.create_map(ttl=1)
    gone.set("a", {})
    gone.set("b", {})
    clock.advance(1)
    assert oracle.purge() == 3
    assert oracle.purge() == 0
    assert list(scores) == ["stays"]
    assert kinds(oracle)[-2:] == ["removed", "map_removed"]


# W


def test_create_item_that_exists(scores: OracleMap) -> None:
    """W1: with the revision that is there."""
    scores.create("k", {"n": 1})
    with pytest.raises(ItemExists) as caught:
        scores.create("k", {"n": 2})
    assert (caught.value.key, caught.value.revision) == ("k", "0")
    assert scores["k"].data == {"n": 1}


def test_set_and_update(scores: OracleMap) -> None:
    """W2, W3: one replaces whole, the other merges the top level, from ``{}`` if absent."""
    scores.set("k", {"a": {"x": 1}, "b": 2})
    assert list(scores.update("k", {"c": 3, "a": {"y": 1}}).data.items()) == [("a", {"y": 1}), ("b", 2), ("c", 3)]
    assert scores.set("k", {"z": 0}).data == {"z": 0}
    assert scores.update("new", {"n": 1}).data == {"n": 1}


def test_check_merge_last(scores: OracleMap) -> None:
    """W8: what a merge yields is judged after the condition, the changes themselves before."""
    half = {"a": "x" * 10_000}
    scores.set("k", half)
    with pytest.raises(RevisionMismatch):
        scores.update("k", {"b": "x" * 10_000}, if_match="7")
    with pytest.raises(DataTooLarge):
        scores.update("k", {"b": "x" * 10_000}, if_match="0")
    with pytest.raises(DataTooLarge):
        scores.update("k", {"b": "x" * 17_000}, if_match="7")
    assert scores["k"].data == half


def test_mutate_again_after_conflict(scores: OracleMap) -> None:
    """W4: called again on fresh data until nobody wrote meanwhile."""
    scores.set("k", {"n": 0})
    seen = []

    def add(data: dict[str, Any]) -> dict[str, Any]:
        seen.append(dict(data))
        if len(seen) == 1:
            scores.set("k", {"n": 10})
        data["n"] += 1
        return data

    item = scores.mutate("k", add)
    assert item is not None
    assert (item.data, item.revision) == ({"n": 11}, "2")
    assert seen == [{"n": 0}, {"n": 10}]


def test_mutate_gives_up(scores: OracleMap) -> None:
    """W4: the last mismatch, when every attempt lost."""

    def lose(data: dict[str, Any]) -> dict[str, Any]:
        scores.set("k", {})
        return data

    with pytest.raises(RevisionMismatch) as caught:
        scores.mutate("k", lose, max_attempts=2)
    assert (caught.value.expected, caught.value.actual) == ("0", "1")


def test_mutate_without_write(scores: OracleMap) -> None:
    """W4: ``None`` writes nothing; a changed argument that was not returned is a mistake."""

    def forget(data: dict[str, Any]) -> None:
        data["n"] = 1.0

    assert scores.mutate("k", lambda data: None) is None
    scores.set("k", {"n": 1})
    assert scores.mutate("k", lambda data: None) == scores["k"]
    with pytest.raises(TypeError):
        scores.mutate("k", forget)
    with pytest.raises(ZeroDivisionError):
        scores.mutate("k", lambda data: {"n": 1 // 0})
    assert scores.revision == "1"


def test_apply_batch_whole(oracle: Oracle, scores: OracleMap) -> None:
    """W7: in order, each on what the one before left, in several maps."""
    other = oracle.create_map()
    with oracle.batch() as batch:
        batch.create(scores, "k", {"n": 1})
        batch.update(scores, "k", {"m": 2}, if_match="0")
        batch.set(other, "k", {}, collection_ttl=9)
        batch.remove(scores, "k", if_match="1")
        batch.set_item_ttl(other, "k", 5)
        assert len(scores) == 0
    assert [item.revision for item in batch.results] == ["0", "1", "0", "1", "1"]
    assert batch.results[3].data == {"n": 1, "m": 2}
    assert (scores.revision, len(scores)) == ("3", 0)
    assert (other.revision, other.date_expires) == ("2", NOON + timedelta(seconds=9))


def test_apply_batch_not_at_all(oracle: Oracle, clock: ManualClock, scores: OracleMap) -> None:
    """W7, T4: the error says which write failed, and nothing happened, expiry included."""
    scores.set("due", {}, ttl=1)
    clock.advance(1)
    batch = oracle.batch()
    batch.create(scores, "k", {})
    batch.remove(scores, "absent")
    with pytest.raises(ItemNotFound) as caught, batch:
        pass
    assert getattr(caught.value, "index", None) == 1
    assert scores.revision == "1"
    with pytest.raises(InvalidKey), oracle.batch() as batch:
        batch.remove(scores, "")
    with pytest.raises(ValueError, match="another store"), oracle.batch() as batch:
        batch.create(Oracle(clock).map("m"), "k", {})
    assert (scores.revision, "k" in scores) == ("1", False)


# C


def test_judge_condition(scores: OracleMap) -> None:
    """C1: present, and at that revision, compared as text."""
    scores.set("k", {})
    for if_match in ("1", "00"):
        with pytest.raises(RevisionMismatch) as caught:
            scores.remove("k", if_match=if_match)
        assert (caught.value.key, caught.value.expected, caught.value.actual) == ("k", if_match, "0")
    assert scores.set("k", {}, if_match="0").revision == "1"
    assert scores.set_item_ttl("k", 0, if_match="*").revision == "2"
    for if_match in ("*", "2"):
        with pytest.raises(ItemNotFound):
            scores.set("absent", {}, if_match=if_match)


def test_order_errors(scores: OracleMap) -> None:
    """C2: key, data, ttl, collection_ttl, if_match, then map, presence, condition."""
    bad: list[tuple[type[MapItemError], tuple[Any, Any, Any, Any, Any]]] = [
        (InvalidKey, ("", [], -1, -1, "A")),
        (InvalidData, ("k", [], -1, -1, "A")),
        (InvalidTTL, ("k", {}, -1, 0, "A")),
        (InvalidTTL, ("k", {}, 0, -1, "A")),
        (InvalidRevision, ("k", {}, 0, 0, "A")),
        (MapNotFound, ("k", {}, 0, 0, "0")),
    ]
    scores.remove_map()
    for error, (key, data, ttl, collection_ttl, if_match) in bad:
        with pytest.raises(error):
            scores.set(key, data, ttl=ttl, collection_ttl=collection_ttl, if_match=if_match)


# L


@pytest.fixture
def letters(oracle: Oracle) -> OracleMap:
    letters = oracle.create_map("letters")
    for key in ["a", "b", "ba", "bb", "c", "d"]:
        letters.set(key, {})
    return letters


def test_read_as_mapping(letters: OracleMap) -> None:
    """L1."""
    assert letters["b"].revision == "1"
    assert (letters.get("x"), letters.get("x", 7), "x" in letters, len(letters)) == (None, 7, False, 6)
    with pytest.raises(KeyError):
        letters["x"]
    assert letters == letters.store.open_map("letters")
    assert len({letters, letters.store.open_map(letters.sid)}) == 1
    assert (bool(letters), bool(letters.store.create_map())) == (True, False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "a b ba bb c d"),
        ({"order": "desc"}, "d c bb ba b a"),
        ({"from_": "b"}, "b ba bb c d"),
        ({"from_": "b", "bounds": "exclusive"}, "ba bb c d"),
        ({"from_": "aa", "bounds": "exclusive"}, "b ba bb c d"),
        ({"from_": "bab", "order": "desc"}, "ba b a"),
        ({"from_": "ba", "order": "desc", "bounds": "exclusive"}, "b a"),
        ({"bounds": "exclusive"}, "a b ba bb c d"),
        ({"prefix": "b"}, "b ba bb"),
        ({"prefix": "b", "order": "desc", "limit": 2}, "bb ba"),
        ({"prefix": "b", "from_": "ba"}, "ba bb"),
        ({"prefix": "b", "from_": "z"}, ""),
        ({"prefix": "b", "from_": "z", "order": "desc"}, "bb ba b"),
        ({"limit": 0}, ""),
        ({"from_": ""}, "a b ba bb c d"),
    ],
)
def test_list_range(letters: OracleMap, arguments: dict[str, Any], expected: str) -> None:
    """L2: ``from_`` is a place, ``prefix`` a filter."""
    assert keys_of(letters.range(**arguments)) == expected.split()


def test_refuse_bad_range(letters: OracleMap) -> None:
    """L2: at the call, not at the first step."""
    bad: list[tuple[type[Exception], dict[str, Any]]] = [
        (InvalidKey, {"from_": "\ud800"}),
        (InvalidKey, {"prefix": 1}),
        (InvalidOrder, {"order": "ASC"}),
        (InvalidBounds, {"bounds": None}),
        (ValueError, {"limit": -1}),
    ]
    for error, arguments in bad:
        with pytest.raises(error):
            letters.range(**arguments)


def test_turn_pages(letters: OracleMap) -> None:
    """L4: there and back; no token beyond either end."""
    first = letters.page(page_size=2, order="desc", from_="c")
    assert (keys_of(first.items), first.previous_page_token) == (["c", "bb"], None)
    second = letters.page(page_size=3, page_token=first.next_page_token)
    assert (keys_of(second.items), second.next_page_token) == (["ba", "b", "a"], None)
    back = letters.page(page_size=1, page_token=second.previous_page_token)
    assert keys_of(back.items) == ["bb"]
    assert keys_of(letters.page(page_token=back.next_page_token).items) == ["ba", "b", "a"]
    start = letters.page(page_size=5, page_token=back.previous_page_token)
    assert (keys_of(start.items), start.previous_page_token) == (["c"], None)


def test_turn_pages_while_written(letters: OracleMap) -> None:
    """L3, L4: anchored at keys: what was there all the time comes once, whatever else came or went."""
    first = letters.page(page_size=2)
    for key in ["b", "ba"]:
        letters.remove(key)
    letters.set("aa", {})
    second = letters.page(page_size=2, page_token=first.next_page_token)
    assert keys_of(second.items) == ["bb", "c"]
    assert keys_of(letters.page(page_size=2, page_token=second.previous_page_token).items) == ["a", "aa"]


def test_refuse_bad_page(oracle: Oracle, letters: OracleMap) -> None:
    """L4: sizes out of bounds, tokens of elsewhere, and arguments that the token carries."""
    token = letters.page(page_size=1).next_page_token
    for size in (0, 1001, 1.0, "1"):
        with pytest.raises(InvalidPageSize):
            letters.page(page_size=size)  # type: ignore[arg-type]
    for bad in ("", f"{token}x", None if token is None else token[:-1] + "9"):
        with pytest.raises(InvalidPageToken):
            letters.page(page_token=bad)
    with pytest.raises(InvalidPageToken):
        letters.page(page_token=token, order="desc")
    with pytest.raises(InvalidPageToken):
        oracle.create_map().page(page_token=token)


# E, F


def test_tell_events(oracle: Oracle, clock: ManualClock, scores: OracleMap) -> None:
    """E1, F1: what each write makes, and the feed, which does not say what was before."""
    added = scores.set("k", {"n": 1})
    clock.advance(1)
    updated = scores.set("k", {"n": 2})
    clock.advance(-1)
    scores.remove("k")
    scores.remove_map()
    assert [(event.kind, event.revision, event.key, event.item, event.previous) for event in oracle.events] == [
        ("added", "0", "k", added, None),
        ("updated", "1", "k", updated, added),
        ("removed", "2", "k", None, updated),
        ("map_removed", "3", None, None, None),
    ]
    assert [event.date - NOON for event in oracle.events] == [timedelta(seconds=s) for s in (0, 1, 0, 0)]
    with pytest.raises(MapNotFound):
        scores.changes()


def test_follow_feed(scores: OracleMap) -> None:
    """F1: from a token on; the map's revision gives none yet."""
    for n in range(3):
        scores.set("k", {"n": n})
    events = list(scores.changes("1"))
    assert [(event.revision, event.previous) for event in events] == [("1", None), ("2", None)]
    assert list(scores.changes(events[-1].next_revision)) == []
    for bad in ("4", "*", "A"):
        with pytest.raises(InvalidRevision):
            scores.changes(bad)


def test_compact(oracle: Oracle, clock: ManualClock, scores: OracleMap) -> None:
    """F2, S5, M2: what is due goes as events; then only what comes after is served, and nothing else changed."""
    scores.set("due", {}, ttl=1)
    scores.set("k", {"n": 1})
    clock.advance(1)
    oracle.compact()
    assert (scores.revision, list(scores), scores["k"].revision) == ("3", ["k"], "1")
    with pytest.raises(HistoryCompacted) as caught:
        scores.changes("2")
    assert caught.value.oldest == "3"
    scores.remove("k")
    assert [event.kind for event in scores.changes("3")] == ["removed"]


# S


def test_find_maps(oracle: Oracle, scores: OracleMap) -> None:
    """S2: by name or sid; listed by name, the nameless last."""
    nameless = oracle.create_map()
    early = oracle.map("a", ttl=5)
    assert list(oracle.maps()) == [early, scores, nameless]
    assert oracle.map("scores", ttl=5) == scores
    assert (scores.date_expires, early.date_expires) == (None, NOON + timedelta(seconds=5))
    assert (oracle.open_map("scores"), oracle.open_map(nameless.sid)) == (scores, nameless)
    with pytest.raises(MapExists) as exists:
        oracle.create_map("scores")
    assert exists.value.name == "scores"
    with pytest.raises(MapNotFound) as absent:
        oracle.open_map("none")
    assert (absent.value.name, absent.value.code) == ("none", 54300)
    with pytest.raises(InvalidName):
        oracle.open_map("")


def test_use_dead_handle(scores: OracleMap) -> None:
    """S2: only sid, name and repr answer, and a walk ends with an error at its next step."""
    scores.set("a", {})
    scores.set("b", {})
    walk = iter(scores)
    next(walk)
    scores.remove_map()
    assert scores.name == "scores"
    assert scores.sid in repr(scores)
    for call in (
        lambda: scores.revision,
        lambda: scores.date_expires,
        lambda: scores.range(),
        lambda: scores.page(),
        lambda: scores.get("a"),
        lambda: "a" in scores,
        lambda: scores.set_ttl(1),
        lambda: scores.purge(),
        lambda: scores.remove_map(),
        lambda: next(walk),
    ):
        with pytest.raises(MapNotFound):
            call()


def test_say_which_write_of_a_batch_failed(oracle: Oracle, scores: OracleMap) -> None:
    """W7: by index, and only of a batch: a single write is not its own number 0."""
    with pytest.raises(ItemNotFound) as caught:
        scores.remove("k")
    assert caught.value.index is None
    with pytest.raises(ItemNotFound) as caught, oracle.batch() as batch:
        batch.set(scores, "a", {})
        batch.remove(scores, "k")
    assert caught.value.index == 1


def test_import_without_the_extra() -> None:
    """``mapitem.testing`` itself needs neither pytest nor hypothesis."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['pytest', 'hypothesis']))\n"
        "from mapitem.testing import ManualClock, Oracle\n"
        "print(Oracle(ManualClock()).map('m').create('a', {}).revision)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("0\n", "")

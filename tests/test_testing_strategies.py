"""``mapitem.testing.strategies`` and the types that Hypothesis learns of by its entry point.

A strategy is tested by what it must make, what it must be able to make, and what stores say to it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Optional

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import mapitem
from mapitem import (
    DataTooLarge,
    Event,
    InvalidKey,
    InvalidName,
    InvalidPageSize,
    InvalidRevision,
    ItemAdded,
    ItemRemoved,
    ItemUpdated,
    Limits,
    Map,
    MapItem,
    MapItemError,
    MapRemoved,
    Page,
    Store,
)
from mapitem.testing import ManualClock
from mapitem.testing import strategies as some
from mapitem.testing.oracle import Oracle, same


def drawn(strategy: SearchStrategy[Any], count: int) -> list[Any]:
    """So many draws, the same ones every time."""
    values: list[Any] = []

    @settings(
        max_examples=count,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(value: object) -> None:
        values.append(value)

    draw()
    return values


def size_of(data: dict[str, Any]) -> int:
    """D3."""
    return len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())


# ---------------------------------------------------------------- good and bad


@given(some.keys(), some.data(), some.ttls(), some.names())
def test_make_what_a_store_takes(key: str, data: dict[str, Any], ttl: Any, name: str) -> None:
    """K1–K5, D1, T1: what is not called bad is taken by a store and comes back as it was."""
    item = Store().map(name).create(key, data, ttl=ttl)
    assert (item.key, same(item.data, data)) == (key, True)


@given(some.bad_names(), some.bad_keys(), some.bad_page_sizes(), some.bad_revisions())
def test_make_what_a_store_refuses(name: Any, key: Any, page_size: Any, revision: Any) -> None:
    """K1, K2, K5, L4, C1: what is called bad is refused."""
    store = Store()
    with pytest.raises(InvalidName):
        store.create_map(name) if name is not None else store.map(name)
    map_ = store.map("m")
    with pytest.raises(InvalidKey):
        map_.set(key, {})
    with pytest.raises(InvalidPageSize):
        map_.page(page_size=page_size)
    with pytest.raises(InvalidRevision):
        map_.set("a", {}, if_match=revision)


@given(
    st.sampled_from([64, 1000, some.SIZE_LIMIT]).flatmap(lambda limit: st.tuples(st.just(limit), some.edge_data(limit)))
)
def test_make_data_that_only_just_fit(case: tuple[int, dict[str, Any]]) -> None:
    """D3: within three bytes of the limit, and taken."""
    limit, data = case
    assert limit - 3 <= size_of(data) <= limit
    Store(limits=Limits(max_data_bytes=limit)).map("m").set("a", data)


@settings(max_examples=40)
@given(some.bad_edge_data())
def test_make_data_that_do_not_fit(data: dict[str, Any]) -> None:
    """D3: beyond the limit, refused with their size."""
    with pytest.raises(DataTooLarge) as caught:
        Store().map("m").set("a", data)
    assert caught.value.size == size_of(data) > some.SIZE_LIMIT


NASTY: dict[str, Callable[[str], bool]] = {
    "320 characters": lambda key: len(key) == 320,
    "slash": lambda key: key == "/",
    "dots": lambda key: key == "..",
    "question mark": lambda key: "?" in key and len(key) > 1,
    "hash": lambda key: "#" in key and len(key) > 1,
    "escaped slash": lambda key: key == "%2F",
    "NUL": lambda key: "\0" in key,
    "combining mark": lambda key: key == "e\u0301",
    "last of the basic plane": lambda key: key == "\uffff",
    "astral": lambda key: key > "\uffff" and key[0] > "\uffff",
}


@pytest.fixture(scope="module")
def thousand_keys() -> list[str]:
    keys: list[str] = drawn(some.keys(), 1000)
    return keys


@pytest.mark.parametrize("kind", NASTY)
def test_make_every_nasty_key(kind: str, thousand_keys: list[str]) -> None:
    """K1–K4: each kind of key that is known to break something comes up in a thousand draws."""
    assert any(map(NASTY[kind], thousand_keys))


def test_make_keys_that_meet() -> None:
    """Many keys are of the small shared alphabet, so that those of one example are often the same."""
    examples = drawn(st.lists(some.keys(), min_size=20, max_size=20), 30)
    keys = [key for example in examples for key in example]
    assert sum(key in some.COMMON_KEYS for key in keys) > len(keys) / 3
    assert sum(len(set(example)) for example in examples) < len(keys) * 0.8


def test_make_keys_that_are_a_character_too_long() -> None:
    """K1: 321 characters, one-byte ones and astral ones."""
    assert {"k" * 321, "\U0001f600" * 321} <= {key for key in drawn(some.bad_keys(), 200) if isinstance(key, str)}


# ---------------------------------------------------------------- what comes out of a store


@settings(max_examples=40)
@given(some.items())
def test_make_items(item: MapItem) -> None:
    """I1, I2: an item is created, then updated, then expires, and its key and data could be written."""
    assert item.date_created <= item.date_updated
    assert item.date_expires is None or item.date_expires > item.date_updated
    assert Store().map("m").set(item.key, item.data).data == item.data


@settings(max_examples=40)
@given(some.items(keys=st.just("k"), data=st.just({"x": 1})))
def test_make_items_of_keys_and_data_of_your_own(item: MapItem) -> None:
    """A strategy given for keys or data is the one that is drawn from."""
    assert (item.key, item.data) == ("k", {"x": 1})


@settings(max_examples=40)
@given(some.pages())
def test_make_pages(page: Page) -> None:
    """L4: in order, upwards or downwards, and never empty in front of others."""
    keys = [item.key for item in page.items]
    assert keys in (sorted(set(keys)), sorted(set(keys), reverse=True))
    assert keys or page.next_page_token is None


def test_make_pages_from_anywhere() -> None:
    """L4: first, middle, last and only pages."""
    neighbours = {
        (page.previous_page_token is not None, page.next_page_token is not None) for page in drawn(some.pages(), 80)
    }
    assert len(neighbours) == 4


@settings(max_examples=40)
@given(some.maps(keys=st.sampled_from("xy")))
def test_make_maps(map_: Map) -> None:
    """A map of its own, to be written to."""
    assert set(map_) <= {"x", "y"}
    assert map_.set("z", {}).revision == f"{len(map_) - 1:x}"


# ---------------------------------------------------------------- whole operations


CONDITION_FAILED = {"ItemNotFound", "RevisionMismatch"}
ERRORS = {"ItemExists", *CONDITION_FAILED}


def outcome(operation: some.Operation, map_: Any) -> Any:
    """What can be compared of a call's result."""
    try:
        result = operation(map_)
    except (MapItemError, ValueError) as error:
        return type(error).__name__
    if isinstance(result, list):
        return [repr(item) for item in result]
    return repr(result.items) if isinstance(result, Page) else repr(result)


@given(st.lists(some.operations(), max_size=30))
def test_make_operations_for_any_implementation(operations: list[some.Operation]) -> None:
    """W, L: the same operations lead to the same results on the store and on the oracle."""
    clock = ManualClock(1_700_000_000.0)
    map_, other = Store(clock=clock).map("m"), Oracle(clock).map("m")
    for operation in operations:
        assert outcome(operation, map_) == outcome(operation, other), str(operation)
        clock.advance(0.5)


def test_make_operations_that_succeed_and_fail() -> None:
    """W1–W6: every verb meets what it can meet on a small map, and goes well now and then."""
    outcomes: dict[str, set[str]] = {}
    for operation in drawn(some.writes(), 500):
        map_ = Store().map("m")
        for key in ("a", "ab", "c"):
            map_.set(key, {"x": 1})
        result = outcome(operation, map_)
        outcomes.setdefault(operation.verb, set()).add(result if result in ERRORS else "well")
    assert outcomes == {
        "create": {"well", "ItemExists"},
        "set": {"well", *CONDITION_FAILED},
        "update": {"well", *CONDITION_FAILED},
        "mutate": {"well"},
        "remove": {"well", *CONDITION_FAILED},
        "set_item_ttl": {"well", *CONDITION_FAILED},
        "set_ttl": {"well"},
        "purge": {"well"},
    }


def test_copy_the_arguments_for_each_call() -> None:
    """D4: an operation can be made twice, whatever the first map did with its arguments."""

    class Spoiler:
        def set(self, key: str, data: dict[str, Any]) -> None:
            data["spoilt"] = True

    operation = some.Operation("set", ("a", {"x": 1}))
    operation(Spoiler())
    assert operation == some.Operation("set", ("a", {"x": 1}))
    assert str(operation) == "set('a', {'x': 1})"


def test_draw_operations_from_strategies_of_your_own() -> None:
    """Keys, data and ttls that were given are the ones in the operations."""

    for operation in drawn(some.operations(keys=st.just("k"), data=st.just({"own": 1}), ttls=st.just(7)), 200):
        if operation.args:
            assert operation.args[0] == "k" or operation.verb == "set_ttl"
            assert operation.args[1:] in ((), ({"own": 1},), (7,))
        assert operation.kwargs.get("ttl", 7) == 7


# ---------------------------------------------------------------- from_type


@pytest.mark.parametrize("kind", [MapItem, Page, Limits, Map, Event, ItemAdded, ItemUpdated, ItemRemoved, MapRemoved])
def test_resolve_the_types_of_the_library(kind: type) -> None:
    """``st.from_type`` makes instances of each type."""
    assert all(isinstance(value, kind) for value in drawn(st.from_type(kind), 4))


def test_resolve_every_kind_of_event() -> None:
    """E1: ``from_type(Event)`` makes all four."""
    assert len({type(event) for event in drawn(st.from_type(Event), 25)}) == 4


def test_infer_the_types_in_annotations() -> None:
    """Annotated arguments, optional ones and containers among them, are filled without a word."""

    def count(item: MapItem, last: Optional[Page], events: list[Event]) -> int:  # noqa: UP045
        assert isinstance(item, MapItem)
        assert last is None or isinstance(last, Page)
        assert all(isinstance(event, Event) for event in events)
        return len(events)

    assert max(drawn(st.builds(count), 8)) > 0


def run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_hypothesis_without_importing_mapitem() -> None:
    """The entry point costs no import of mapitem, and works whichever of the two is imported first."""
    code = (
        "import sys, hypothesis.strategies as st; print('mapitem' in sys.modules, '_mapitem_hypothesis' in sys.modules)"
    )
    assert run(code) == "False True"
    use = "print(type(st.from_type(MapItem).wrapped_strategy) is not None, 'mapitem.testing.strategies' in sys.modules)"
    for imports in ("from hypothesis import strategies as st; from mapitem import MapItem",
                    "from mapitem import MapItem; from hypothesis import strategies as st"):  # fmt: skip
        assert run(f"import sys; {imports}; {use}") == "True True"


def test_let_the_users_own_strategy_go_first() -> None:
    """A strategy registered for one of the types is the one that ``from_type`` uses."""
    code = """
from hypothesis import strategies as st
from mapitem import Limits
st.register_type_strategy(Limits, st.just(Limits(7, 7)))
print(st.from_type(Limits))
"""
    assert run(code) == "just(Limits(max_key_chars=7, max_data_bytes=7))"


def test_register_by_the_documented_way_where_the_lazy_one_is_gone() -> None:
    """Should Hypothesis lose the table that its own extras use, the types are registered all the same."""
    code = """
import os
os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"
from hypothesis import strategies as st
from hypothesis.strategies._internal import types
import _mapitem_hypothesis
lookup, types._global_extra_lookup = types._global_extra_lookup, None
_mapitem_hypothesis.register()
types._global_extra_lookup = lookup
import mapitem
print([repr(st.from_type(kind)).split(",")[0] for kind in (mapitem.MapItem, mapitem.ItemRemoved)])
"""
    assert run(code) == "['builds(_item', 'builds(_event']"


def test_import_testing_without_the_extras() -> None:
    """``import mapitem.testing`` works where neither pytest nor hypothesis is installed."""
    code = """
import sys
sys.modules["pytest"] = sys.modules["hypothesis"] = None
import mapitem.testing
print(len(mapitem.testing.FaultyStore().map("m")))
"""
    assert run(code) == "0"


def test_name_every_strategy() -> None:
    """What the module offers is in ``__all__``, and only strategies and what belongs to them."""
    offered = {name for name in some.__all__ if name.islower()}
    for name in offered:
        strategy = getattr(some, name)
        assert isinstance(strategy(32) if name == "data_of_size" else strategy(), SearchStrategy), name
    assert {"keys", "operations", "edge_data"} <= offered
    assert mapitem.__name__ not in offered

"""An item's data: what may be stored, how large it may be, and that nobody shares it with the store (semantics D)."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import json
import json.encoder
import re
import struct
import sys
import tracemalloc
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgpack
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from mapitem import Batch, DataTooLarge, Event, InvalidData, InvalidKey, InvalidName, Limits, Map, Store
from mapitem.testing import ManualClock

LIMIT = 16_384

one_map_for_all_examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([-(2**63), 2**64 - 1, 2**63, 2**53 + 1, -1, 0, 1, 0.0, -0.0, 1.0, 5e-324, 1.7976931348623157e308])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
objects = st.dictionaries(st.text(max_size=8), values, max_size=6)


def reopen(store: Store, make_store: Callable[..., Store], backing: str, **options: Any) -> Store:
    """What a restart leaves: a file is closed and opened again; a store in memory, which has none, stays."""
    if backing == "memory":
        return store
    store.close()
    return make_store(**options)


def exact(value: Any) -> Any:
    """What two values share only if their types, the order of their keys and the bits of their floats agree too."""
    kind = type(value)
    if kind is dict:
        return kind, [(key, exact(inner)) for key, inner in value.items()]
    if kind is list:
        return kind, [exact(inner) for inner in value]
    return kind, struct.pack(">d", value) if kind is float else value


def json_bytes(data: Any) -> int:
    """The measure of D3, by its own words."""
    return len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())


def nested(depth: int, innermost: Any = None) -> dict[str, Any]:
    """Data of ``depth`` levels, the top object the first and lists in turn with objects below it."""
    value: Any = [] if innermost is None else innermost
    for level in range(depth - 1, 1, -1):
        value = {"d": value} if level % 2 else [value]
    return {"d": value}


WRITES: dict[str, Callable[[Map, Any], Any]] = {
    "create": lambda map_, data: map_.create("k", data),
    "set": lambda map_, data: map_.set("k", data),
    "update": lambda map_, data: map_.update("k", data),
    "mutate": lambda map_, data: map_.mutate("k", lambda _: data),
}

BATCH_WRITES: dict[str, Callable[[Batch, Map, Any], object]] = {
    "create": lambda batch, map_, data: batch.create(map_, "k", data),
    "set": lambda batch, map_, data: batch.set(map_, "k", data),
    "update": lambda batch, map_, data: batch.update(map_, "k", data),
}


# ---------------------------------------------------------------- D1: what is refused


class IntSub(int):
    pass


class FloatSub(float):
    pass


class StrSub(str):
    __slots__ = ()


class ListSub(list[Any]):
    pass


class DictSub(dict[str, Any]):
    pass


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Flags(enum.IntFlag):
    ON = 1


class Point(NamedTuple):
    x: int


class LyingDict(dict[str, Any]):
    """Looks empty to a check and is full to an encoder, or the other way round."""

    def items(self) -> Any:
        return {"lie": 1}.items()

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class LyingKey(str):
    """Equals every key."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("a")


class Impostor:
    """Says of itself that it is a ``dict``."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return dict

    def keys(self) -> list[str]:
        return ["a"]

    def __getitem__(self, key: str) -> int:
        return 1


class Hostile:
    """Raises from whatever an error message might ask of it."""

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __str__(self) -> str:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        raise ZeroDivisionError


def refused_values() -> Iterator[Any]:
    """What is refused at any place in the data."""
    for name, value in {
        "tuple": (1, 2),
        "empty tuple": (),
        "bytes": b"x",
        "bytearray": bytearray(b"x"),
        "memoryview": memoryview(b"x"),
        "set": {1},
        "frozenset": frozenset({1}),
        "complex": 1j,
        "datetime": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        "date": datetime.date(2024, 1, 1),
        "timedelta": datetime.timedelta(1),
        "Decimal": decimal.Decimal("1.5"),
        "Fraction": fractions.Fraction(1, 2),
        "UUID": uuid.UUID(int=1),
        "range": range(3),
        "generator": (each for each in "abc"),
        "iterator": iter([1]),
        "dict view": {}.keys(),
        "array": array.array("i", [1]),
        "object": object(),
        "type": dict,
        "function": len,
        "module": json,
        "Ellipsis": ...,
        "NotImplemented": NotImplemented,
        "namedtuple": Point(1),
        "deque": collections.deque([1]),
        "OrderedDict": collections.OrderedDict(a=1),
        "defaultdict": collections.defaultdict(int, a=1),
        "Counter": collections.Counter("a"),
        "UserDict": collections.UserDict({"a": 1}),
        "UserList": collections.UserList([1]),
        "UserString": collections.UserString("a"),
        "mappingproxy": types.MappingProxyType({"a": 1}),
        "namespace": types.SimpleNamespace(a=1),
        "int subclass": IntSub(1),
        "float subclass": FloatSub(1.0),
        "str subclass": StrSub("a"),
        "list subclass": ListSub([1]),
        "dict subclass": DictSub(a=1),
        "IntEnum, which would pass for an int": Number.ONE,
        "IntFlag": Flags.ON,
        "StrEnum": Word.A,
        "lying dict": LyingDict(a=1),
        "lying str": LyingKey("a"),
        "impostor": Impostor(),
        "hostile": Hostile(),
        "msgpack extension": msgpack.ExtType(1, b"x"),
        "msgpack timestamp": msgpack.Timestamp(1),
        "nan": float("nan"),
        "infinity": float("inf"),
        "minus infinity": float("-inf"),
        "2**64": 2**64,
        "-2**63-1": -(2**63) - 1,
        "an int without a text": 10**5000,
        "a negative int without a text": -(10**5000),
        "high surrogate": "\ud800",
        "low surrogate": "\udfff",
        "surrogate inside": "a\udc80b",
        "pair of surrogates": "\ud83d\ude00",
    }.items():
        yield pytest.param(value, id=name)


REFUSED = list(refused_values())


@pytest.mark.parametrize("value", REFUSED)
def test_write_a_refused_value_anywhere(map_: Map, value: Any) -> None:
    """D1: what is no value of JSON by exact type is refused wherever it stands, and the path names the place."""
    places: list[tuple[dict[str, Any], str]] = [
        ({"a": value}, "$.a"),
        ({"ok": 1, "a": [0, {}, [], value]}, "$.a[3]"),
        ({"tags": ["x", "y", "z", value]}, "$.tags[3]"),
        ({"a": {"b": {"c": value}}, "z": 1}, "$.a.b.c"),
        ({"a": [[[[value]]]]}, "$.a[0][0][0][0]"),
        ({"a": [{"b": [1, {"c": value}]}]}, "$.a[0].b[1].c"),
        ({"a b": {"": value}}, '$["a b"][""]'),
    ]
    for data, path in places:
        with pytest.raises(InvalidData) as caught:
            map_.set("k", data)
        assert caught.value.path == path
        assert path in str(caught.value)
    assert map_.revision == "0"


NO_DICTS: list[Any] = [None, True, 0, 1, 1.5, "", "a", [], [{}], [["a", 1]]]
TOPS = [*REFUSED, *(pytest.param(top, id=f"plain {type(top).__name__}") for top in NO_DICTS)]


@pytest.mark.parametrize("top", TOPS)
def test_write_another_top_level(map_: Map, top: Any) -> None:
    """D1: the top is a ``dict`` and nothing else, neither a list, a scalar, pairs, nor a mapping of another type."""
    with pytest.raises(InvalidData) as caught:
        map_.set("k", top)
    assert caught.value.path == "$"
    assert map_.revision == "0"


@pytest.mark.parametrize("verb", WRITES)
def test_refuse_bad_data_by_every_verb(map_: Map, verb: str) -> None:
    """D1: every verb that takes data judges it alike and writes nothing."""
    kept = map_.set("k", {"a": 1}) if verb != "create" else None
    revision = map_.revision
    for data, path in [([], "$"), ({"a": (1,)}, "$.a"), ({"a": [{1: 2}]}, "$.a[0]"), ({"a": float("nan")}, "$.a")]:
        with pytest.raises(InvalidData) as caught:
            WRITES[verb](map_, data)
        assert caught.value.path == path
    assert map_.get("k") == kept
    assert map_.revision == revision


@pytest.mark.parametrize("verb", BATCH_WRITES)
def test_batch_bad_data(store: Store, map_: Map, verb: str) -> None:
    """D1: so does every verb of a batch, at the call (W7)."""
    with store.batch() as batch, pytest.raises(InvalidData) as caught:
        BATCH_WRITES[verb](batch, map_, {"a": [0, (1,)]})
    assert caught.value.path == "$.a[1]"
    assert map_.revision == "0"


def test_invalid_data_is_a_value_error_of_the_service(map_: Map) -> None:
    """D1: ``InvalidData`` is a ``ValueError`` with status, code and a reason (X)."""
    with pytest.raises(ValueError, match=r"\$\.a") as caught:
        map_.set("k", {"a": b""})
    error: Any = caught.value
    assert (type(error), error.status, error.code) == (InvalidData, 400, 54008)
    assert "bytes" in error.reason


BAD_KEYS = [
    1, 0, True, None, 1.5, b"a", (), ("a",), frozenset(), StrSub("a"), Word.A, Number.ONE, LyingKey("b"), object(),
    "\ud800", "a\udfffb", "\ud83d\ude00",
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
def test_write_a_bad_key_at_every_depth(map_: Map, key: Any) -> None:
    """D1: a key that is no exact ``str``, or that UTF-8 cannot hold, is reported at the ``dict`` that has it."""
    places: list[tuple[Any, str]] = [
        ({key: 1}, "$"),
        ({"first": 1, key: 1}, "$"),
        ({"a": {"b": {"ok": 1, key: 1}}}, "$.a.b"),
        ({"a": [0, {"b": {key: 1}}]}, "$.a[1].b"),
        ({"a": [0, {key: {"b": 1}}]}, "$.a[1]"),
    ]
    for data, path in places:
        with pytest.raises(InvalidData) as caught:
            map_.set("k", data)
        assert caught.value.path == path
    assert map_.revision == "0"


STEPS = {
    "a": ".a", "_": "._", "snake_case2": ".snake_case2", "class": ".class", "A": ".A",
    "": '[""]', " ": '[" "]', "a b": '["a b"]', "a-b": '["a-b"]', "2": '["2"]', "2a": '["2a"]', "a.b": '["a.b"]',
    "[0]": '["[0]"]', '"': r'["\""]', "\\": r'["\\"]', "\n": r'["\n"]', "\x00": r'["\u0000"]', "a\n": r'["a\n"]',
    "/": '["/"]', "$": '["$"]', "'": "[\"'\"]",
}  # fmt: skip


@pytest.mark.parametrize(("key", "step"), STEPS.items(), ids=ascii)
def test_name_the_place_by_its_keys(map_: Map, key: str, step: str) -> None:
    """D1: in a path a key that is an identifier follows a dot, any other stands in brackets as JSON."""
    places: list[tuple[Any, str]] = [
        ({key: b""}, f"${step}"),
        ({"x": [{key: {"y": b""}}]}, f"$.x[0]{step}.y"),
        ({key: {key: {1: 1}}}, f"${step}{step}"),
    ]
    for data, path in places:
        with pytest.raises(InvalidData) as caught:
            map_.set("k", data)
        assert caught.value.path == path


def follow(path: str, data: Any) -> Any:
    """What stands in ``data`` at a path."""
    rest = path.removeprefix("$")
    while rest:
        if match := re.match(r"\.(\w+)", rest):
            data = data[match[1]]
        elif match := re.match(r"\[(\d+)\]", rest):
            data = data[int(match[1])]
        else:
            match = re.match(r'\[("(?:[^"\\]|\\.)*")\]', rest)
            assert match is not None, path
            data = data[json.loads(match[1])]
        rest = rest[match.end() :]
    return data


@one_map_for_all_examples
@given(
    data=objects,
    places=st.data(),
    bad=st.sampled_from([b"bad", 2**64, float("inf"), "\udc00", (), {1: 1}, {"\ud800": 1}]),
)
def test_find_the_place_by_its_path(map_: Map, data: dict[str, Any], places: st.DataObject, bad: Any) -> None:
    """D1: one bad value anywhere in any data is found, and its path leads to it."""
    container: Any = data
    while True:
        inner = [
            each
            for each in (container.values() if type(container) is dict else container)
            if type(each) in (dict, list)
        ]
        if not inner or places.draw(st.booleans()):
            break
        container = places.draw(st.sampled_from(inner))
    if type(container) is dict:
        container[places.draw(st.text(max_size=5))] = bad
    else:
        container.insert(places.draw(st.integers(0, len(container))), bad)
    with pytest.raises(InvalidData) as caught:
        map_.set("k", data)
    assert follow(caught.value.path, data) is bad
    assert map_.revision == "0"


@pytest.mark.parametrize("number", [-(2**63), 2**64 - 1, 2**63, 2**63 - 1, -(2**31), 0])
def test_write_integers_at_the_bounds(map_: Map, number: int) -> None:
    """D1: integers from −2^63 to 2^64−1 are data, bounds included."""
    assert map_.set("k", {"a": [number]}).data == {"a": [number]}
    assert map_["k"].data == {"a": [number]}


# ---------------------------------------------------------------- D1: depth and cycles


@pytest.mark.parametrize("scalar", [None, True, 1, 1.5, "x"])
def test_write_data_of_128_levels(
    store: Store, map_: Map, make_store: Callable[..., Store], backing: str, scalar: Any
) -> None:
    """D1: 128 levels are allowed, the top object being the first; a scalar below the last is no level."""
    for data in (nested(128), nested(128, [scalar]), nested(128, {"d": scalar}), nested(127, [[], scalar])):
        assert map_.set("k", data).data == data
        assert map_["k"].data == data
    store = reopen(store, make_store, backing)
    assert store.map("m")["k"].data == nested(127, [[], scalar])


def test_write_data_of_129_levels(map_: Map) -> None:
    """D1: the 129th level is refused where it begins, be it an empty list or an object, alone or beside others."""
    lists: Any = []
    for _ in range(127):
        lists = [lists]
    dicts: Any = {}
    for _ in range(128):
        dicts = {"d": dicts}
    mixed_path = "$" + ".d[0]" * 64
    for data, path in [
        ({"a": lists}, "$.a" + "[0]" * 127),
        (dicts, "$" + ".d" * 128),
        ({"ok": [], "a": {"b": 1}, "d": dicts["d"]}, "$" + ".d" * 128),
        (nested(129), mixed_path),
        (nested(129, {}), mixed_path),
        (nested(128, [0, 1, []]), mixed_path[:-3] + "[2]"),
    ]:
        with pytest.raises(InvalidData) as caught:
            map_.set("k", data)
        assert caught.value.path == path
    assert map_.revision == "0"


@pytest.mark.parametrize("depth", [500, 1_000, 1_024, 2_000, 100_000])
@pytest.mark.parametrize("verb", WRITES)
def test_write_data_far_too_deep(map_: Map, verb: str, depth: int) -> None:
    """D1: however deep, the answer is ``InvalidData`` where level 129 begins, never a ``RecursionError``."""
    data = nested(depth)
    with pytest.raises(InvalidData) as caught:
        WRITES[verb](map_, data)
    assert caught.value.path == "$" + ".d[0]" * 64
    assert map_.revision == "0"


@pytest.mark.parametrize("verb", WRITES)
def test_write_deep_data_from_a_deep_stack(map_: Map, verb: str) -> None:
    """D1: never a ``RecursionError``, also when the caller left room for fewer calls than the data has levels."""
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1

    def descend(calls: int) -> Any:
        return descend(calls - 1) if calls else WRITES[verb](map_, nested(128, ["x" * 5_000]))

    descend(sys.getrecursionlimit() - depth - 80)
    assert map_["k"].data == nested(128, ["x" * 5_000])


def test_write_cyclic_data(map_: Map) -> None:
    """D1: a cycle is refused where it closes."""
    top: dict[str, Any] = {"a": 1}
    top["self"] = top
    ring: list[Any] = [1, 2]
    ring.append(ring)
    far: dict[str, Any] = {"b": [0, {"c": None}]}
    far["b"][1]["c"] = far["b"]
    back: dict[str, Any] = {"b": [0, {"c": None}]}
    back["b"][1]["c"] = back
    for data, path in [(top, "$.self"), ({"x": ring}, "$.x[2]"), (far, "$.b[1].c"), (back, "$.b[1].c")]:
        with pytest.raises(InvalidData) as caught:
            map_.set("k", data)
        assert caught.value.path == path
    long_way: dict[str, Any] = {}
    end = long_way
    for _ in range(300):
        end["a"] = end = {}
    end["a"] = long_way
    with pytest.raises(InvalidData) as caught:
        map_.set("k", long_way)
    assert caught.value.path == "$" + ".a" * 128
    assert map_.revision == "0"


def test_write_data_with_shared_parts(map_: Map) -> None:
    """D1: the same object in several places is no cycle, also beside itself, below its sibling and inside a list."""
    leaf = {"x": [1]}
    pair = [leaf, leaf]
    data = {"a": leaf, "b": [leaf, {"c": leaf}, pair, pair], "d": pair}
    item = map_.set("k", data)
    assert item.data == data
    item.data["a"]["x"].append(2)
    assert item.data["b"] == [{"x": [1]}, {"c": {"x": [1]}}, [{"x": [1]}] * 2, [{"x": [1]}] * 2]


def laughs(leaf: Any, fan: int, depth: int) -> dict[str, Any]:
    for _ in range(depth):
        leaf = [leaf] * fan
    return {"a": leaf}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(laughs("lol", 10, 9), id="the classic"),
        pytest.param(laughs("lol", 2, 120), id="2 to the 120th"),
        pytest.param(laughs([], 10, 9), id="nothing but lists"),
        pytest.param(laughs({}, 10, 9), id="nothing but objects"),
        pytest.param(laughs({"a": 1, "b": 2}, 10, 9), id="objects"),
        pytest.param(laughs("x" * 900, 9_000, 1), id="one string 9 000 times"),
        pytest.param(laughs("é" * 400, 90, 2), id="a wider string, on two floors"),
        pytest.param(laughs({"k" * 900: 1}, 4_000, 1), id="one long key 4 000 times"),
        pytest.param({"a": [[0] * 400] * 4_000}, id="one list 4 000 times"),
    ],
)
def test_refuse_shared_data_that_would_unfold(make_store: Callable[..., Store], data: dict[str, Any]) -> None:
    """D1, D3: data that is small in memory and huge as text is ``DataTooLarge``, at a bounded cost in memory."""
    map_ = make_store(limits=Limits(max_data_bytes=1_000)).map("m")
    tracemalloc.start()
    try:
        with pytest.raises(DataTooLarge) as caught:
            map_.set("k", data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (caught.value.size > 1_000, caught.value.limit) == (True, 1_000)
    assert peak < 2_000_000
    assert map_.revision == "0"


@pytest.mark.parametrize("backing", ["memory"])  # refused before any log is reached
def test_refuse_a_long_string_and_forget_it(map_: Map) -> None:
    """D3: nothing of data that was refused is kept, however long it was."""
    tracemalloc.start()
    try:
        with pytest.raises(DataTooLarge):
            map_.set("k", {"a": "x" * 30_000_000})
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


# ---------------------------------------------------------------- D2: what comes back


@one_map_for_all_examples
@given(data=objects)
def test_read_what_was_written(map_: Map, data: dict[str, Any]) -> None:
    """D2: what is read equals what was written: types, order of keys, sign of zero, every bit of a float."""
    assume(json_bytes(data) <= LIMIT)
    wanted = exact(data)
    item = map_.set("k", data)
    reads = [item, map_["k"], map_.get("k"), next(map_.range()), map_.page().items[0], next(iter(map_.values()))]
    assert [exact(read.data) for read in reads if read is not None] == [wanted] * 6
    assert exact(map_.update("k", {}).data) == wanted
    assert exact(map_.mutate("k", lambda same: same).data) == wanted  # type: ignore[union-attr]
    assert exact(map_.remove("k").data) == wanted
    assert exact(map_.update("k", data).data) == wanted
    assert exact(data) == wanted


@settings(max_examples=settings().max_examples // 4)  # each of them opens a file three times
@given(written=st.lists(objects, min_size=1, max_size=5))
def test_read_what_was_written_after_restart(tmp_path_factory: pytest.TempPathFactory, written: list[Any]) -> None:
    """D2: the same holds after the store was closed and opened, with and without compaction."""
    path = tmp_path_factory.mktemp("data") / "store.mapitem"
    wanted = {str(number): exact(data) for number, data in enumerate(written)}
    with Store(path, clock=ManualClock()) as store:
        for key, data in zip(wanted, written, strict=True):
            store.map("m").set(key, data)
    for _ in range(2):
        with Store(path, clock=ManualClock()) as store:
            assert {item.key: exact(item.data) for item in store.map("m").range()} == wanted
            store.compact()


def test_keep_types_that_compare_equal(store: Store, map_: Map, make_store: Callable[..., Store], backing: str) -> None:
    """D2: ``1``, ``1.0`` and ``True`` stay three values, ``0``, ``0.0``, ``-0.0`` and ``False`` four."""
    data: dict[str, Any] = {"ones": [1, 1.0, True], "zeros": [0, 0.0, -0.0, False], "none": None, "": {}}
    data["big"] = [2**53, float(2**53)]
    for verb in (map_.set, map_.update):
        assert exact(verb("k", data).data) == exact(data)
    map_ = reopen(store, make_store, backing).map("m")
    assert exact(map_["k"].data) == exact(data)
    assert [repr(zero) for zero in map_["k"].data["zeros"]] == ["0", "0.0", "-0.0", "False"]


def test_tell_a_change_of_type_alone(map_: Map) -> None:
    """D2: a write that only changes the type is no other than any write: the new type is what is read."""
    for value in (1, 1.0, True, 1, 0.0, -0.0, 0, False):
        map_.set("k", {"a": value})
        assert exact(map_["k"].data) == exact({"a": value})
        map_.update("u", {"a": value})
        assert exact(map_["u"].data) == exact({"a": value})


def test_keep_the_order_of_keys(store: Store, map_: Map, make_store: Callable[..., Store], backing: str) -> None:
    """D2: keys keep their order at every depth; the same keys in another order are read in that order."""
    for order in (["b", "a", "c"], ["c", "b", "a"], ["\uffff", "", "😀", "0"]):
        data = {key: {key: 1 for key in order} for key in order}
        map_.set("k", data)
        assert [list(map_["k"].data), *map(list, map_["k"].data.values())] == [order] * (1 + len(order))
    map_ = reopen(store, make_store, backing).map("m")
    assert exact(map_["k"].data) == exact(data)


# ---------------------------------------------------------------- D3: size


def filled(unit: str) -> dict[str, str]:
    """Data nearly of the limit that consists of ``unit``."""
    return {"a": unit * ((LIMIT - 20) // (json_bytes(unit) - 2))}


NEARLY_THE_LIMIT = [
    pytest.param(filled("x"), id="ASCII"),
    pytest.param(filled("é"), id="2 bytes"),
    pytest.param(filled("€"), id="3 bytes"),
    pytest.param(filled("😀"), id="4 bytes, 1 character"),
    pytest.param(filled("\uffff"), id="U+FFFF"),
    pytest.param(filled("\x7f"), id="DEL is not escaped"),
    pytest.param(filled("\u2028"), id="line separator is not escaped"),
    pytest.param(filled("/"), id="slash is not escaped"),
    pytest.param(filled('"'), id="quote"),
    pytest.param(filled("\\"), id="backslash"),
    pytest.param(filled("\n"), id="newline"),
    pytest.param(filled("\x00"), id="NUL"),
    pytest.param(filled("\x1f"), id="unit separator"),
    pytest.param(filled("\x08\x0c\r\t"), id="control characters with short escapes"),
    pytest.param(filled('aé€😀\x00"'), id="mixture"),
    pytest.param({"a": [0] * 8_180}, id="digits"),
    pytest.param({"a": [-(2**63)] * 778}, id="smallest int"),
    pytest.param({"a": [2**64 - 1] * 778}, id="largest int"),
    pytest.param({"a": [False] * 2_725}, id="false"),
    pytest.param({"a": [True, None] * 1_635}, id="true and null"),
    pytest.param({"a": [1e16] * 2_725}, id="float with an exponent"),
    pytest.param({"a": [-0.0] * 3_270}, id="minus zero"),
    pytest.param({"a": [1.0] * 4_090}, id="whole float"),
    pytest.param({"a": [-2.2250738585072014e-308] * 654}, id="longest float"),
    pytest.param({"a": [[], {}] * 2_725}, id="empty containers"),
    pytest.param({"a": [""] * 5_455}, id="empty strings"),
    pytest.param({"k" * (LIMIT - 20): 1}, id="one long key"),
    pytest.param({"\x00" * 2_725: 1}, id="one long key that is escaped"),
    pytest.param({f"{number:04}": 0 for number in range(1_800)}, id="many keys"),
]


def padded(data: dict[str, Any], size: int) -> dict[str, Any]:
    """``data`` of exactly ``size`` bytes, by a field of padding."""
    padding = size - json_bytes({**data, "pad": ""})
    assert padding >= 0
    return {**data, "pad": "." * padding}


@pytest.mark.parametrize("data", NEARLY_THE_LIMIT)
def test_write_data_at_the_limit(
    store: Store, map_: Map, make_store: Callable[..., Store], backing: str, data: Any
) -> None:
    """D3: 16 384 bytes of compact JSON in UTF-8 go in, whatever they consist of; one more is ``DataTooLarge``."""
    fits = padded(data, LIMIT)
    map_.create("k", fits)
    for write in (map_.set, map_.update):
        with pytest.raises(DataTooLarge) as caught:
            write("k", padded(data, LIMIT + 1))
        assert (caught.value.size, caught.value.limit) == (LIMIT + 1, LIMIT)
    assert map_.revision == "1"
    assert exact(reopen(store, make_store, backing).map("m")["k"].data) == exact(fits)


@pytest.mark.parametrize("verb", WRITES)
def test_refuse_large_data_by_every_verb(map_: Map, verb: str) -> None:
    """D3: every verb that takes data has the same limit, and writes nothing beyond it."""
    with pytest.raises(DataTooLarge) as caught:
        WRITES[verb](map_, {"a": "x" * (LIMIT - 7)})
    assert (caught.value.size, caught.value.limit) == (LIMIT + 1, LIMIT)
    assert map_.revision == "0"
    WRITES[verb](map_, {"a": "x" * (LIMIT - 8)})


@pytest.mark.parametrize("verb", BATCH_WRITES)
def test_batch_large_data(store: Store, map_: Map, verb: str) -> None:
    """D3: so does every verb of a batch, at the call (W7)."""
    with store.batch() as batch:
        with pytest.raises(DataTooLarge) as caught:
            BATCH_WRITES[verb](batch, map_, {"a": "x" * (LIMIT - 7)})
        BATCH_WRITES[verb](batch, map_, {"a": "x" * (LIMIT - 8)})
    assert (caught.value.size, caught.value.limit) == (LIMIT + 1, LIMIT)
    assert map_.revision == "1"


def test_refuse_a_merge_that_grows_too_large(map_: Map) -> None:
    """D3: of a merge the whole is measured, not the changes alone; what was there stays."""
    kept = map_.set("k", {"a": "x" * 10_000})
    with pytest.raises(DataTooLarge) as caught:
        map_.update("k", {"b": "x" * 10_000})
    assert caught.value.size == json_bytes({"a": "x" * 10_000, "b": "x" * 10_000})
    with pytest.raises(DataTooLarge):
        map_.mutate("k", lambda data: {**data, "b": "x" * 10_000})
    assert map_["k"] == kept
    assert map_.update("k", {"a": "x", "b": "x" * 10_000}).data["a"] == "x"


def test_data_too_large_is_a_value_error_of_the_service(map_: Map) -> None:
    """D3: ``DataTooLarge`` is a ``ValueError`` with status and code (X), and no ``InvalidData``."""
    with pytest.raises(ValueError, match=r".") as caught:
        map_.set("k", {"a": "x" * LIMIT})
    error: Any = caught.value
    assert (type(error), error.status, error.code) == (DataTooLarge, 413, 54006)
    assert not isinstance(error, InvalidData)


@given(data=objects)
@example(data={"": ""})
@example(data={"a": [False] * 3})
@example(data={"\x00": "\x00\x1f"})
@example(data={"a": [{}, [], [[]], {"": {}}]})
@example(data={"a": [5e-324, -2.2250738585072014e-308, 1e22, 1e16, 0.1]})
def test_measure_any_data(data: dict[str, Any]) -> None:
    """D3: any data goes in at a limit of its own size and is refused, with that size, at one byte less."""
    size = json_bytes(data)
    with Store(clock=ManualClock(), limits=Limits(max_data_bytes=size)) as store:
        assert exact(store.map("m").set("k", data).data) == exact(data)
    with Store(clock=ManualClock(), limits=Limits(max_data_bytes=size - 1)) as store:
        with pytest.raises(DataTooLarge) as caught:
            store.map("m").set("k", data)
        assert (caught.value.size, caught.value.limit) == (size, size - 1)


@pytest.mark.parametrize("unit", ["x", "é", "😀", "\x00", '"'], ids=ascii)
@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT, 9 * LIMIT, 10 * LIMIT])
def test_tell_the_size_up_to_ten_times_the_limit(map_: Map, size: int, unit: str) -> None:
    """D3: up to ten times the limit ``.size`` is exact."""
    count, rest = divmod(size - 8, json_bytes(unit) - 2)
    data = {"a": unit * count + "." * rest}
    with pytest.raises(DataTooLarge) as caught:
        map_.set("k", data)
    assert (caught.value.size, caught.value.limit) == (json_bytes(data), LIMIT) == (size, LIMIT)


@pytest.mark.parametrize("size", [10 * LIMIT + 1, 11 * LIMIT, 100 * LIMIT])
@pytest.mark.parametrize("leaf", ["x" * 100, 0, 1.5, [], {}, False], ids=repr)
def test_tell_a_lower_bound_beyond_ten_times_the_limit(map_: Map, size: int, leaf: Any) -> None:
    """D3: beyond ten times the limit counting may stop: ``.size`` is over the limit and at most the true size."""
    data = {"a": [leaf] * (size // (json_bytes(leaf) + 1))}
    data["a"].append("x" * (size - json_bytes(data)))
    assert json_bytes(data) >= size
    with pytest.raises(DataTooLarge) as caught:
        map_.set("k", data)
    assert 10 * LIMIT < caught.value.size <= json_bytes(data)
    assert caught.value.limit == LIMIT


class JSONCalls:
    """Counts, while it is entered, the calls into the standard library's JSON encoder, its C part included."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> JSONCalls:
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _called(self, frame: types.FrameType, event: str, function: Any) -> None:
        in_python = event == "call" and frame.f_code.co_filename == json.encoder.__file__
        in_c = event == "c_call" and getattr(function, "__module__", None) == "_json"
        self.count += in_python or in_c


def test_measure_small_data_without_encoding_it(map_: Map) -> None:
    """D3: data that cannot exceed the limit, however it were encoded, is not made JSON to find that out."""
    with JSONCalls() as calls:
        json.dumps({"the counter": "counts"}, ensure_ascii=False)
    assert calls.count > 0
    data = {"name": "Ada", "tags": ["x", 1, 1.5, None, True], "\x00é😀": {"more": "\x00" * 50}}
    with JSONCalls() as calls:
        map_.set("k", data)
        map_.update("k", data)
        map_.create("other", {})
        map_.mutate("k", lambda same: same)
        assert map_["k"].data == data
        list(map_.range())
    assert calls.count == 0


@pytest.mark.parametrize(
    "data",
    [
        {"text": "It is a long way to the sea. " * 400},
        {"text": "Тридевять земель, тридесятое царство. " * 200},
        {"rows": [{"id": number, "name": "Ada", "tags": ["x", None], "on": True} for number in range(200)]},
    ],
    ids=["long text", "text of two bytes a letter", "many objects"],
)
def test_measure_large_data_without_encoding_it(map_: Map, data: dict[str, Any]) -> None:
    """D3: nor is data of which most is text, unless it is near the limit."""
    assert 10_000 < json_bytes(data) < LIMIT
    with JSONCalls() as calls:
        map_.set("k", data)
    assert calls.count == 0
    assert map_["k"].data == data


# ---------------------------------------------------------------- D4: copies


def test_change_what_was_passed_to_a_batch(store: Store, map_: Map) -> None:
    """D4: a batch copies at the call (W7): what is changed before it is applied is not seen either."""
    data: dict[str, Any] = {"list": [1, {"inner": [2]}]}
    wanted = exact(data)
    with store.batch() as batch:
        batch.create(map_, "create", data)
        batch.set(map_, "set", data)
        batch.update(map_, "update", data)
        data["list"][1]["inner"].append(3)
        data["new"] = 1
    assert [exact(item.data) for item in map_.range()] == [wanted] * 3
    assert [exact(item.data) for item in batch.results if item is not None] == [wanted] * 3


def test_change_what_was_passed(store: Store, map_: Map, make_store: Callable[..., Store], backing: str) -> None:
    """D4: what was passed may be changed afterwards, at any depth: neither the store nor an item given sees it."""
    data: dict[str, Any] = {"list": [1, {"inner": [2]}], "dict": {"a": {}}}
    wanted = exact(data)
    given_back = [
        map_.create("create", data),
        map_.set("set", data),
        map_.update("update", data),
        map_.mutate("mutate", lambda _: data),
    ]
    data["list"][1]["inner"].append(3)
    data["list"].append(4)
    data["dict"]["a"]["b"] = 1
    data["new"] = 1
    assert [exact(item.data) for item in given_back if item is not None] == [wanted] * 4
    assert [exact(item.data) for item in map_.range()] == [wanted] * 4
    map_ = reopen(store, make_store, backing).map("m")
    assert [exact(item.data) for item in map_.range()] == [wanted] * 4


READS: dict[str, Callable[[Map], Any]] = {
    "[]": lambda map_: map_["k"],
    "get": lambda map_: map_.get("k"),
    "range": lambda map_: next(map_.range()),
    "range desc": lambda map_: next(map_.range(order="desc")),
    "page": lambda map_: map_.page().items[0],
    "values": lambda map_: next(iter(map_.values())),
    "items": lambda map_: next(iter(map_.items()))[1],
    "feed": lambda map_: getattr(next(iter(map_.changes())), "item"),  # noqa: B009 - of events only some have one
}


@pytest.mark.parametrize("read", READS)
def test_change_what_was_read(
    store: Store, map_: Map, make_store: Callable[..., Store], backing: str, read: str
) -> None:
    """D4: what a read gave may be changed at any depth: later readers, earlier ones and the store do not see it."""
    data = {"list": [1, {"inner": [2]}], "dict": {"a": {}}}
    wanted = exact(data)
    written = map_.create("k", data)
    before = {name: READS[name](map_) for name in READS}
    item = READS[read](map_)
    item.data["list"][1]["inner"].append(3)
    item.data["list"].clear()
    item.data["dict"]["a"]["b"] = 1
    del item.data["dict"]
    others = [written, *before.values(), *(again(map_) for again in READS.values())]
    assert [exact(other.data) for other in others] == [wanted] * len(others)
    assert exact(map_.update("k", {}).data) == wanted
    assert exact(reopen(store, make_store, backing).map("m")["k"].data) == wanted


def test_change_what_a_write_returned(map_: Map) -> None:
    """D4: the item that a write returned is its holder's: changing its data changes no other."""
    for write in (map_.create, map_.set, map_.update):
        item = write("k", {"list": [1]})
        item.data["list"].append(2)
        assert map_["k"].data == {"list": [1]}
    item = map_.set_item_ttl("k", 5)
    item.data["list"].append(2)
    assert map_["k"].data == {"list": [1]}
    removed = map_.remove("k")
    removed.data["list"].append(2)
    assert map_.create("k", {"list": [1]}).data == {"list": [1]}


def test_change_what_a_listener_was_given(map_: Map) -> None:
    """D4: each listener gets items of its own: one that changes them changes neither another's nor the store's."""
    heard: list[Any] = []

    def spoil(event: Any) -> None:
        for item in (getattr(event, "item", None), getattr(event, "previous", None)):
            if item is not None:
                heard.append(exact(item.data))
                item.data["list"].append("spoilt")

    with map_.on(Event, spoil), map_.on(Event, spoil):
        written = map_.set("k", {"list": [1]})
        again = map_.set("k", {"list": [2]})
        removed = map_.remove("k")
    one, two = exact({"list": [1]}), exact({"list": [2]})
    assert heard == [one, one, two, one, two, one, two, two]
    assert [exact(item.data) for item in (written, again, removed)] == [one, two, two]


def test_change_what_mutate_was_given(map_: Map) -> None:
    """D4: ``fn`` gets a copy: kept and changed after the call, or changed before an exception, it changes nothing."""
    map_.set("k", {"list": [1]})
    kept: list[dict[str, Any]] = []

    def keep(data: dict[str, Any]) -> dict[str, Any]:
        kept.append(data)
        return data

    item = map_.mutate("k", keep)
    kept[0]["list"].append(2)
    assert item is not None
    assert item.data == map_["k"].data == {"list": [1]}

    def spoil(data: dict[str, Any]) -> dict[str, Any]:
        data["list"].append(3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        map_.mutate("k", spoil)
    assert map_["k"].data == {"list": [1]}


def test_read_data_of_one_item_twice(map_: Map) -> None:
    """D4: an item's data is decoded once: the same object each time, with the holder's changes in it."""
    written = map_.set("k", {"list": [1]})
    for item in (written, map_["k"], next(map_.range()), map_.page().items[0]):
        assert item.data is item.data
        item.data["list"].append(2)
        assert item.data == {"list": [1, 2]}


def test_read_one_key_twice(map_: Map) -> None:
    """D4: each read gives an item object of its own, whose data shares nothing with the other's."""
    map_.set("k", {"list": [1], "dict": {}})
    one, other = map_["k"], map_["k"]
    assert one is not other
    assert one.data is not other.data
    assert one.data["list"] is not other.data["list"]
    assert one.data["dict"] is not other.data["dict"]
    assert one.data == other.data


# ---------------------------------------------------------------- D5: other limits


def test_limits_of_the_service_are_the_default(store: Store, map_: Map) -> None:
    """D5: ``Limits()`` has the service's limits, and a store opened without has them too."""
    assert (Limits().max_key_chars, Limits().max_data_bytes) == (320, 16_384)
    assert store.limits == Limits()
    map_.set("k" * 320, {"a": "x" * (LIMIT - 8)})
    with pytest.raises(InvalidKey):
        map_.set("k" * 321, {})
    with pytest.raises(DataTooLarge):
        map_.set("k", {"a": "x" * (LIMIT - 7)})


@pytest.mark.parametrize("max_key_chars", [1, 3, 320, 1_000])
def test_limit_keys_and_names(make_store: Callable[..., Store], max_key_chars: int) -> None:
    """D5: ``max_key_chars`` binds keys and names of maps alike, smaller or larger than the service's."""
    store = make_store(limits=Limits(max_key_chars=max_key_chars))
    map_ = store.map("😀" * max_key_chars)
    map_.set("é" * max_key_chars, {})
    with pytest.raises(InvalidKey):
        map_.set("k" * (max_key_chars + 1), {})
    with pytest.raises(InvalidKey):
        map_.set("", {})
    with pytest.raises(InvalidName):
        store.map("m" * (max_key_chars + 1))
    with pytest.raises(InvalidName):
        store.create_map("m" * (max_key_chars + 1))


@pytest.mark.parametrize("max_data_bytes", [2, 8, 100, 1_000_000])
def test_limit_data(make_store: Callable[..., Store], max_data_bytes: int) -> None:
    """D5: ``max_data_bytes`` binds data, smaller or larger than the service's; ``.limit`` names it."""
    map_ = make_store(limits=Limits(max_data_bytes=max_data_bytes)).map("m")
    map_.set("k", {})
    if max_data_bytes >= 8:
        map_.set("k", {"a": "x" * (max_data_bytes - 8)})
    with pytest.raises(DataTooLarge) as caught:
        map_.set("k", {"a": "x" * max(0, max_data_bytes - 7)})
    assert caught.value.limit == max_data_bytes
    assert caught.value.size == max(8, max_data_bytes + 1)


@pytest.mark.parametrize("backing", ["file"])  # what is in memory was written under the limits it is read under
def test_read_what_is_over_the_limits(make_store: Callable[..., Store]) -> None:
    """D5: limits bind writes only: what a store with wider ones holds stays readable, by every reading verb."""
    long_key, long_name, large = "k" * 400, "m" * 400, {"a": "x" * 20_000}
    with make_store(limits=Limits(max_key_chars=400, max_data_bytes=30_000)) as store:
        sid = store.map(long_name).sid
        store.map(long_name).set(long_key, large)
    for limits in (Limits(), Limits(max_key_chars=1, max_data_bytes=2)):
        with make_store(limits=limits) as store:
            map_ = store.open_map(long_name)
            assert map_.sid == store.map(long_name).sid == store.open_map(sid).sid == sid
            assert [each.name for each in store.maps()] == [long_name]
            assert map_[long_key].data == large
            assert map_.get(long_key) == next(map_.range()) == map_.page().items[0] == map_[long_key]
            assert long_key in map_
            assert list(map_) == [long_key]
            assert [item.key for item in map_.range(from_=long_key, prefix=long_key)] == [long_key]
            with pytest.raises(DataTooLarge):
                map_.set("k", large)
            with pytest.raises(InvalidKey):
                map_.set("k" * 399, {})
            store.compact()
    with make_store() as store:
        assert store.open_map(sid)[long_key].data == large


@pytest.mark.parametrize("top", [[], [1], [{"a": 1}]], ids=str)
def test_say_why_a_list_is_no_top_level(map_: Map, top: Any) -> None:
    """D1: of a list at the top the message said that a list is no type of JSON, which is not so: it is no object."""
    with pytest.raises(InvalidData) as caught:
        map_.set("k", top)
    assert (caught.value.path, caught.value.reason) == ("$", "the top must be a dict, not list")

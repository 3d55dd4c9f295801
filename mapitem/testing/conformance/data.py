"""D: what may be stored, and that it comes back as it was."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from mapitem.errors import DataTooLarge, InvalidData, InvalidKey, InvalidName
from mapitem.limits import Limits
from mapitem.testing.conformance.kit import Section, check, shown


class One(IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


def cycle() -> dict[str, Any]:
    data: dict[str, Any] = {"a": []}
    data["a"].append(data)
    return data


def nested(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels - 1):
        data = {"a": data}
    return data


# What no store may take, and the path of the place.
NO_DATA: tuple[tuple[Any, str], ...] = (
    (None, "$"),
    ([], "$"),
    ("{}", "$"),
    (1, "$"),
    ({"a": float("nan")}, "$.a"),
    ({"a": [0, float("inf")]}, "$.a[1]"),
    ({"tags": ["a", "b", "c", {1}]}, "$.tags[3]"),
    ({"a b": b""}, '$["a b"]'),
    ({"a": object()}, "$.a"),
    ({"a": datetime(2020, 1, 1, tzinfo=UTC)}, "$.a"),
    ({"é": "\ud800"}, "$.é"),
    ({"a": {"\udfff": 1}}, "$.a"),
    (cycle(), "$.a[0]"),
)
# What JSON's own encoder in Python would convert.
CONVERTIBLE: tuple[tuple[Any, str], ...] = (
    ({"a": (1, 2)}, "$.a"),
    ({"a": {1: 1}}, "$.a"),
    ({None: 1}, "$"),
    ({"a": One.ONE}, "$.a"),
    ({"a": [Text("a")]}, "$.a[0]"),
    (OrderedDict(a=1), "$"),
)
TOO_LONG: tuple[tuple[Any, str], ...] = (({"a": 2**64}, "$.a"), ({"a": [-(2**63) - 1]}, "$.a[0]"))

GOOD_DATA: tuple[dict[str, Any], ...] = (
    {},
    {"a": None, "b": True, "c": False, "d": "", "e": [], "f": {}},
    {"a": {"b": [{"c": [1, "two", None]}]}},
    {"": "empty", "é": "e\u0301", "\0": "\0", "\U0001f600": "\u2028", "a\nb": '"\\/'},
    {"n": [1, -1, 123456789]},
    {"f": [0.5, -1.25, 1e100, 1e-7]},
)
EXACT_NUMBERS: tuple[dict[str, Any], ...] = (
    {"a": 1, "b": 1.0, "c": True},
    {"a": 0, "b": 0.0, "c": -0.0, "d": False},
    {"a": [2**53 + 1, 2**63, 2**64 - 1, -(2**63)]},
    {"a": [0.1, 5e-324, 1e22, 1.7976931348623157e308, float(2**64)]},
)


class Data(Section):
    """D: data."""

    def _refuse(self, data: Any, path: str) -> None:
        calls: dict[str, Callable[[], Any]] = {
            "set": lambda: self.map.set("a", data),
            "create": lambda: self.map.create("b", data),
        }
        if self.can.update:
            calls["update"] = lambda: self.map.update("a", data)
        if self.can.mutate and data is not None:
            calls["mutate"] = lambda: self.map.mutate("a", lambda old: data)
        for verb, call in calls.items():
            with self.refused(InvalidData, f"{verb} with {shown(data)}") as caught:
                call()
            if self.can.data_paths:
                self.expect(caught.error.path, path, f"path for {shown(data)}")

    @check()
    def test_refuse_no_data(self) -> None:
        """D1: what is no JSON object is InvalidData, never a bare TypeError or RecursionError; nothing is written."""
        self.fill("a")
        with self.nothing_written("a refused write"):
            for data, path in NO_DATA:
                self._refuse(data, path)

    @check("exact_types")
    def test_refuse_other_types(self) -> None:
        """D1: tuples, subclasses and keys that are no str are refused, not converted."""
        self.fill("a")
        for data, path in CONVERTIBLE:
            self._refuse(data, path)

    @check("exact_numbers")
    def test_refuse_long_integers(self) -> None:
        """D1: integers end at −2^63 and 2^64−1."""
        self.fill("a")
        for data, path in TOO_LONG:
            self._refuse(data, path)

    @check("depth_limit")
    def test_count_levels(self) -> None:
        """D1: 128 levels fit, the top being the first and scalars none; the 129th is told where it begins."""
        self.map.set("deep", nested(128))
        self.expect_data(self.map["deep"].data, nested(128), "data of 128 levels")
        with self.refused(InvalidData, "set with 129 levels") as caught:
            self.map.set("deeper", nested(129))
        if self.can.data_paths:
            self.expect(caught.error.path, "$" + ".a" * 128, "path")

    @check()
    def test_return_data_as_written(self) -> None:
        """D2: what is read equals what was written."""
        for data in GOOD_DATA:
            self.expect_data(self.map.set("a", deepcopy(data)).data, data, "data that set returned")
            self.expect_data(self.map["a"].data, data, "data read")

    @check("exact_numbers")
    def test_keep_types_of_numbers(self) -> None:
        """D2: 1, 1.0 and True are three values, −0.0 keeps its sign, and no digit of 64 bits is lost."""
        for data in EXACT_NUMBERS:
            self.map.set("a", deepcopy(data))
            self.expect_data(self.map["a"].data, data, "data read")

    @check("field_order")
    def test_keep_order_of_fields(self) -> None:
        """D2: the order of fields is kept, at every depth."""
        data = {"z": 1, "a": {"y": 1, "b": 2}, "m": 3}
        self.map.set("a", data)
        self.expect(json.dumps(self.map["a"].data), json.dumps(data), "data as JSON")

    @check("exact_size")
    def test_measure_data(self) -> None:
        """D3: 16 384 bytes of compact JSON in UTF-8 fit, and not one more, of whatever characters they are."""
        for character, width in (("x", 1), ("é", 2), ("\u20ac", 3), ("\U0001f600", 4), ("\n", 2), ("\0", 6), ('"', 2)):
            room = 16_384 - len('{"s":""}')
            text = character * (room // width) + "x" * (room % width)
            self.map.set("a", {"s": text})
            self.expect(self.map["a"].data["s"] == text, True, f"16 384 bytes of {character!r} read as written")
            with self.refused(DataTooLarge, f"set with 16 385 bytes of {character!r}") as caught:
                self.map.set("a", {"s": text + "x"})
            if self.can.error_fields:
                self.expect((caught.error.size, caught.error.limit), (16_385, 16_384), "size and limit")

    @check()
    def test_limit_data(self) -> None:
        """D3: 16 000 bytes fit, 20 000 do not, whichever verb brings them, and nothing is written then."""
        self.map.set("a", {"s": "x" * 15_900})
        calls: dict[str, Callable[[], object]] = {"set": lambda: self.map.set("a", {"s": "x" * 20_000})}
        if self.can.update:
            calls["update"] = lambda: self.map.update("a", {"t": "x" * 4_000})
        if self.can.mutate:
            calls["mutate"] = lambda: self.map.mutate("a", lambda data: {**data, "t": "x" * 4_000})
        for verb, call in calls.items():
            with self.nothing_written(verb), self.refused(DataTooLarge, f"{verb} that comes to 20 000 bytes"):
                call()

    @check()
    def test_copy_what_is_passed(self) -> None:
        """D4: changing what was passed changes nothing in the store."""
        data: Any = {"list": [1], "dict": {}}
        written = self.map.set("a", data)
        data["list"].append(2)
        data["dict"]["x"] = 1
        self.expect_data(self.map["a"].data, {"list": [1], "dict": {}}, "data read")
        self.expect_data(written.data, {"list": [1], "dict": {}}, "data of what set returned")

    @check()
    def test_copy_what_is_read(self) -> None:
        """D4: changing what was read or returned changes neither the store nor another reader's copy."""
        written = self.map.set("a", {"list": [1]})
        other = self.map["a"]
        readers = (written, self.map["a"], self.map.get("a"), next(iter(self.map.range())))
        for number, reader in enumerate(readers):
            reader.data["list"].append(number)
            reader.data["new"] = number
        self.expect_data(other.data, {"list": [1]}, "data of an item read before")
        self.expect_data(self.map["a"].data, {"list": [1]}, "data read afterwards")
        if self.can.pages:
            self.map.page().items[0].data["list"].append(2)
            self.expect_data(self.map["a"].data, {"list": [1]}, "data after a page's was changed")

    @check("events")
    def test_copy_for_listeners(self) -> None:
        """D4: each listener gets items of its own."""
        first, second = self.listen(), self.listen()
        written = self.map.set("a", {"list": [1]})
        first.so_far()[0].item.data["list"].append(2)
        self.expect_data(second.so_far()[0].item.data, {"list": [1]}, "data that another listener got")
        self.expect_data(written.data, {"list": [1]}, "data that set returned")
        self.expect_data(self.map["a"].data, {"list": [1]}, "data read")

    @check("mutate")
    def test_copy_for_functions(self) -> None:
        """D4, W4: the function of mutate gets a copy, and what it keeps of it is no door into the store."""
        self.map.set("a", {"list": [1]})
        kept: list[Any] = []

        def keep(data: dict[str, Any]) -> dict[str, Any]:
            kept.append(data)
            return data

        self.map.mutate("a", keep)
        kept[0]["list"].append(2)
        self.expect_data(self.map["a"].data, {"list": [1]}, "data read")

    @check("limits")
    def test_set_limits(self) -> None:
        """D5: the limits given to the store bind keys, names and data."""
        store = self.bench.make_store(limits=Limits(max_key_chars=4, max_data_bytes=10))
        map_ = store.map("name")
        map_.set("four", {"a": "12"})
        with self.refused(InvalidKey, "a key of 5 characters where 4 are the limit"):
            map_.set("fives", {})
        with self.refused(InvalidName, "a name of 5 characters where 4 are the limit"):
            store.map("names")
        with self.refused(DataTooLarge, "data of 11 bytes where 10 are the limit"):
            map_.set("a", {"a": "123"})
        wide = self.bench.make_store(limits=Limits(max_key_chars=400, max_data_bytes=20_000)).map("n" * 400)
        wide.set("k" * 400, {"s": "x" * 19_000})
        self.expect(list(wide), ["k" * 400], "keys under a limit of 400 characters")

"""Hypothesis strategies for data: JSON objects of every kind, objects at the edge of the size limit, and no objects.

Part of ``mapitem.testing.strategies``, from where its names are imported. It knows the rules of data (semantics D) and
nothing else.
"""

from __future__ import annotations

import datetime
import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

DEEPEST = 128
SIZE_LIMIT = 16_384


def texts(min_size: int = 0, max_size: int | None = None) -> SearchStrategy[str]:
    """Strings over the whole of Unicode without surrogates."""
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=min_size, max_size=max_size)


def scalars() -> SearchStrategy[Any]:
    """JSON scalars of every kind, with the numbers that tend to be spoilt on the way (semantics D1, D2)."""
    return st.one_of(
        st.sampled_from([None, True, False, 0, 1, 0.0, -0.0, 1.0, -1.0, "", 2**63, 2**64 - 1, -(2**63), 2**53 + 1]),
        st.sampled_from([5e-324, 1e22, 1e-7, 0.1, 1.7976931348623157e308, float(2**64), 1e16]),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        texts(max_size=8),
    )


def values(max_leaves: int = 8) -> SearchStrategy[Any]:
    """JSON values: scalars, and lists and objects of values, empty ones among them."""
    return st.recursive(
        scalars(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_field_names(), inner, max_size=4),
        max_leaves=max_leaves,
    )


def data(max_leaves: int = 8) -> SearchStrategy[dict[str, Any]]:
    """JSON objects, small against the limit: what an item may hold (semantics D1)."""
    return st.dictionaries(_field_names(), values(max_leaves), max_size=4)


def small_data() -> SearchStrategy[dict[str, Any]]:
    """A few JSON objects that differ by a hair or share fields for a merge: cheap to draw, for machines."""
    return st.sampled_from(_SMALL_DATA).map(deepcopy)


def bad_data() -> SearchStrategy[tuple[Any, str]]:
    """What is no data for exactly one reason, and the path of the place that ``InvalidData`` has to name (D1)."""
    return st.one_of(st.sampled_from([(top, "$") for top in _BAD_TOPS]), _with_bad_place())


def data_of_size(size: int) -> SearchStrategy[dict[str, Any]]:
    """Objects whose compact JSON takes exactly ``size`` bytes, at least 32 (semantics D3)."""
    # One string, of a character that takes 1 to 6 bytes of JSON as often as it fits, filled up with ASCII.
    room = size - len('{"s":""}')
    characters = st.sampled_from(["x", "é", "\u20ac", "\U0001f600", "\0", "\n", '"', "\\", "/", "\x7f", "\u2028"])

    def filled(character: str) -> dict[str, Any]:
        each = len(json.dumps(character, ensure_ascii=False).encode()) - 2
        return {"s": character * (room // each) + "x" * (room % each)}

    return characters.map(filled)


def edge_data(limit: int = SIZE_LIMIT) -> SearchStrategy[dict[str, Any]]:
    """Objects that only just fit: of ``limit`` bytes of compact JSON, or up to three fewer (semantics D3).

    ``limit`` is at least 64.
    """
    return _near(st.sampled_from([limit, limit, limit - 1, limit - 2, limit - 3]))


def bad_edge_data(limit: int = SIZE_LIMIT) -> SearchStrategy[dict[str, Any]]:
    """Objects that do not fit, by a byte or a few, or by far: ``DataTooLarge`` (semantics D3)."""
    return _near(st.sampled_from([limit + 1, limit + 1, limit + 2, limit + 3, 2 * limit]))


def _near(sizes: SearchStrategy[int]) -> SearchStrategy[dict[str, Any]]:
    """Objects of these sizes: one long string, or small data filled up with one."""
    return sizes.flatmap(data_of_size) | st.builds(_filled_up, small_data(), sizes)


def _filled_up(small: dict[str, Any], size: int) -> dict[str, Any]:
    filled = small | {"fill": ""}
    room = size - len(json.dumps(filled, ensure_ascii=False, separators=(",", ":")).encode())
    return filled | {"fill": "x" * room}


_SMALL_DATA: tuple[dict[str, Any], ...] = (
    {},
    {"x": 1},
    {"x": 1.0},
    {"x": True},
    {"x": None},
    {"y": 0.0},
    {"y": -0.0},
    {"x": 1, "y": 2},
    {"y": 2, "x": 1},
    {"y": {"x": 1}, "z": []},
    {"z": {}},
    {"z": [{"y": [None, False]}, "é\U0001f600"]},
    {"": 2**64 - 1, "n": -(2**63)},
)

_BAD_TOPS: tuple[Any, ...] = (None, True, 1, 1.0, "{}", b"{}", [], (), [{}], {1, 2}, float("nan"))


class _Str(str):
    __slots__ = ()


class _Int(int):
    pass


class _Float(float):
    pass


class _List(list[Any]):
    pass


class _Dict(dict[str, Any]):
    pass


def _bad_values() -> SearchStrategy[Any]:
    """Values that JSON cannot say, each for one reason at its very top."""
    return st.sampled_from(
        [
            float("nan"),
            float("inf"),
            float("-inf"),
            2**64,
            -(2**63) - 1,
            10**4000,  # Python shows integers of up to 4300 digits
            "\ud800",
            "a\udfffb",
            b"",
            (),
            (1,),
            {1},
            1j,
            object(),
            datetime.datetime(2020, 1, 1),
            _Str("a"),
            _Int(1),
            _Float(1.0),
            _List(),
            _Dict(),
            {1: 1},
            {None: 1},
            {"\ud800": 1},
            {_Str("a"): 1},
            {b"a": 1},
        ]
    )


@st.composite
def _with_bad_place(draw: st.DrawFn) -> tuple[Any, str]:
    """Good data with one bad value put in at a place some levels down."""
    top: dict[str, Any] = dict(draw(data(max_leaves=3)))
    inner, path = top, "$"
    containers: list[Any] = [top]
    for _ in range(draw(st.integers(0, 3))):
        step, child = draw(_steps()), draw(st.sampled_from(["dict", "list"]))
        below: Any = dict(draw(data(max_leaves=2))) if child == "dict" else []
        inner, path = _put(inner, path, step, below)
        containers.append(below)
    flaw = draw(st.sampled_from(["value", "value", "cycle", "depth"]))
    if flaw == "cycle":
        bad = draw(st.sampled_from(containers))
    elif flaw == "depth":
        # The top object is level 1: the container that begins level 129 is the one refused.
        bad = deepest = list[Any]()
        for _ in range(DEEPEST - len(containers)):
            deepest.append([])
            deepest = deepest[0]
        _, at = _put(inner, path, draw(_steps()), bad)
        return top, at + "[0]" * (DEEPEST - len(containers))
    else:
        bad = draw(_bad_values())
    _, path = _put(inner, path, draw(_steps()), bad)
    return top, path


def _put(container: Any, path: str, name: tuple[str, str], value: Any) -> tuple[Any, str]:
    """Put the value in under the field name, or at the end of a list; returns it and its path."""
    if type(container) is list:
        container.append(value)
        return value, f"{path}[{len(container) - 1}]"
    container[name[0]] = value
    return value, path + name[1]


def _steps() -> SearchStrategy[tuple[str, str]]:
    """Field names with their step in a path: ``.name`` for identifiers, else ``["…"]`` as JSON (D1)."""
    return st.sampled_from(
        [
            ("name", ".name"),
            ("_1", "._1"),
            ("é", ".é"),
            ("", '[""]'),
            ("1a", '["1a"]'),
            ("a b", '["a b"]'),
            ('a"b', '["a\\"b"]'),
            ("a\\b", '["a\\\\b"]'),
            ("a\n", '["a\\n"]'),
            ("€", '["€"]'),
            ("a.b", '["a.b"]'),
            ("[0]", '["[0]"]'),
        ]
    )


def _field_names() -> SearchStrategy[str]:
    return st.one_of(st.sampled_from(["x", "y", "z", "", "é", "e\u0301", "a b", "\0"]), texts(max_size=4))

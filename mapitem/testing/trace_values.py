"""Whatever goes into a store or comes out of one as JSON, and the arguments back again.

A trace has to be read by people and other programs, and to tell apart what the rules tell apart: data stand in it as
they are, down to ``1`` and ``1.0`` and the order of fields. What JSON cannot say, bad arguments above all, is an object
with the member ``"$"``, which names its kind. This room knows no store and no oracle.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from mapitem.errors import DataTooLarge, MapItemError
from mapitem.events import Event, ItemAdded, ItemRemoved, ItemUpdated, MapRemoved
from mapitem.item import MapItem
from mapitem.keyrange import Page

Json = Any

# No argument that goes deeper is judged by what lies there: it was refused at level 129 (D1).
_DEEPEST = 200
_KINDS = {ItemAdded: "added", ItemUpdated: "updated", ItemRemoved: "removed", MapRemoved: "map_removed"}
_FIELDS = ("status", "code", "key", "revision", "expected", "actual", "path", "limit", "oldest", "index")


class Opaque:
    """Stands for an argument of a type that no trace can hold. No store takes it for anything."""

    def __init__(self, shown: str) -> None:
        self.shown = shown

    def __repr__(self) -> str:
        return self.shown


def to_json(value: object, above: tuple[object, ...] = ()) -> Json:
    """An argument or a result as JSON. Of a map there is its sid and name, of a page whether it has neighbours."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if isinstance(value, int) and kind is int:
        return value if abs(value) < 2**64 else {"$": "int", "hex": hex(value)}
    if isinstance(value, float) and kind is float:
        return value if math.isfinite(value) else {"$": "float", "repr": repr(value)}
    if isinstance(value, dict | list | tuple) and kind in (dict, list, tuple):
        return _container_to_json(value, above)
    if isinstance(value, timedelta) and kind is timedelta:
        return {"$": "timedelta", "microseconds": value // timedelta(microseconds=1)}
    if isinstance(value, bytes) and kind is bytes:
        return {"$": "bytes", "hex": value.hex()}
    return _result_to_json(value)


def _container_to_json(value: dict[Any, Any] | list[Any] | tuple[Any, ...], above: tuple[object, ...]) -> Json:
    for up, container in enumerate(reversed(above)):
        if container is value:
            return {"$": "cycle", "up": up}
    if len(above) >= _DEEPEST:
        return {"$": "object", "repr": "…"}
    below = (*above, value)
    if not isinstance(value, dict):
        parts = [to_json(each, below) for each in value]
        return parts if isinstance(value, list) else {"$": "tuple", "of": parts}
    if all(type(key) is str for key in value) and "$" not in value:
        return {key: to_json(each, below) for key, each in value.items()}
    return {"$": "dict", "of": [[to_json(key), to_json(each, below)] for key, each in value.items()]}


def _result_to_json(value: object) -> Json:
    if isinstance(value, MapItem):
        return {
            "$": "item",
            "key": value.key,
            "data": to_json(value.data),
            "revision": value.revision,
            "date_created": value.date_created.isoformat(),
            "date_updated": value.date_updated.isoformat(),
            "date_expires": None if value.date_expires is None else value.date_expires.isoformat(),
            "created_by": value.created_by,
        }
    if isinstance(value, Page):
        return {
            "$": "page",
            "items": [to_json(item) for item in value.items],
            "next_page_token": value.next_page_token,
            "previous_page_token": value.previous_page_token,
        }
    if isinstance(value, datetime):
        return {"$": "date", "iso": value.isoformat()}
    if isinstance(value, Event) or hasattr(value, "map_sid"):
        return _event_to_json(value)
    if hasattr(value, "sid") and hasattr(value, "name"):
        return {"$": "map", "sid": value.sid, "name": value.name}
    return {"$": "object", "repr": repr(value)[:200]}


def _event_to_json(event: Any) -> Json:
    """An event of a store, or of the oracle, whose class is one for all kinds."""
    return {
        "$": "event",
        "kind": _KINDS.get(type(event)) or event.kind,
        "sid": event.map_sid,
        "name": event.map_name,
        "revision": event.revision,
        "date": event.date.isoformat(),
        "key": getattr(event, "key", None),
        "item": to_json(getattr(event, "item", None)),
        "expired": getattr(event, "expired", False),
    }


def error_to_json(error: BaseException) -> Json:
    """The type of an error and the fields that say what to do next (semantics X)."""
    shown: dict[str, Json] = {"type": type(error).__name__}
    if not isinstance(error, MapItemError):
        return shown
    shown |= {name: value for name in _FIELDS if (value := getattr(error, name, None)) is not None}
    if error.code in (54300, 54301):
        shown["name"] = getattr(error, "name", None)  # of a handle's error it is a sid
    if isinstance(error, DataTooLarge):
        shown["size"] = min(error.size, 10 * error.limit)  # counting may stop there (D3)
    return shown


def from_json(value: Json, above: tuple[Any, ...] = ()) -> Any:
    """An argument as it was, or an ``Opaque`` for what a trace cannot hold."""
    if isinstance(value, list):
        parts: list[Any] = []
        parts += [from_json(each, (*above, parts)) for each in value]
        return parts
    if not isinstance(value, dict):
        return value
    kind = value.get("$")
    if kind is None or kind == "dict":
        made: dict[Any, Any] = {}
        pairs = value.items() if kind is None else value["of"]
        for key, each in pairs:
            made[from_json(key)] = from_json(each, (*above, made))
        return made
    if kind == "cycle":
        return above[-1 - value["up"]]
    if kind == "tuple":
        return tuple(from_json(each, (*above, None)) for each in value["of"])
    if kind == "int":
        return int(value["hex"], 16)
    if kind == "float":
        return float(value["repr"])
    if kind == "timedelta":
        return timedelta(microseconds=value["microseconds"])
    if kind == "bytes":
        return bytes.fromhex(value["hex"])
    return Opaque(str(value.get("repr", value)))

"""Replay a trace through the oracle, and tell the first call that did not go by the rules.

The oracle makes each recorded call at the recorded instant, and its answer, written down in the same way, has to be the
recorded one. Sids and page tokens are each implementation's own; the oracle's stand for those in the trace that came
from the same call.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from mapitem.errors import MapNotFound
from mapitem.limits import Limits
from mapitem.testing.oracle import Oracle, OracleMap
from mapitem.testing.trace import PROPERTIES, Call, read_trace
from mapitem.testing.trace_values import Json, error_to_json, from_json, to_json

RULE_OF_CALL = {
    "map": "S2",
    "create_map": "S2",
    "open_map": "S2",
    "maps": "S2",
    "remove_map": "S2",
    "create": "W1",
    "set": "W2",
    "update": "W3",
    "mutate": "W4",
    "remove": "W5",
    "set_item_ttl": "W6",
    "set_ttl": "W6",
    "batch": "W7",
    "purge": "T4",
    "compact": "S5",
    "get": "L1",
    "__getitem__": "L1",
    "__contains__": "L1",
    "__len__": "L1",
    "range": "L2",
    "__iter__": "L2",
    "page": "L4",
    "changes": "F1",
    "revision": "R2",
    "date_created": "S2",
    "date_updated": "I4",
    "date_expires": "T2",
    "created_by": "S2",
}
RULE_OF_FIELD = {
    "key": "K3",
    "data": "D2",
    "revision": "R2",
    "date_created": "I2",
    "date_updated": "I2",
    "date_expires": "T1",
    "created_by": "I3",
    "next_page_token": "L4",
    "previous_page_token": "L4",
    "expired": "E1",
    "date": "E1",
    "kind": "E1",
}
RULE_OF_ERROR = {
    "InvalidKey": "K1",
    "InvalidName": "K5",
    "InvalidData": "D1",
    "DataTooLarge": "D3",
    "InvalidTTL": "T1",
    "InvalidRevision": "C1",
    "InvalidOrder": "L2",
    "InvalidBounds": "L2",
    "InvalidPageSize": "L4",
    "InvalidPageToken": "L4",
    "ItemExists": "W1",
    "ItemNotFound": "C1",
    "RevisionMismatch": "C1",
    "MapExists": "S2",
    "MapNotFound": "K6",
    "HistoryCompacted": "F2",
}


class Difference(NamedTuple):
    """The first call of a trace that did not go by the rules. ``line`` counts from 1, the first line among them.

    ``place`` leads to what differs in the result (``.revision``, ``[2].data.x``; empty for the whole), ``expected`` is
    what the oracle has there and ``recorded`` what the trace has. ``rules`` are numbers in docs/semantics.md, the
    likeliest first, where there is one to blame.
    """

    line: int
    call: str
    place: str
    expected: Json
    recorded: Json
    rules: tuple[str, ...]

    def __str__(self) -> str:
        rules = f" ({', '.join(self.rules)})" if self.rules else ""
        at = f" at {self.place}" if self.place else ""
        expected, recorded = (json.dumps(value, ensure_ascii=False) for value in (self.expected, self.recorded))
        return f"line {self.line}: {self.call}{at}: expected {expected}, recorded {recorded}{rules}"


def check_trace(source: str | os.PathLike[str] | Iterable[str]) -> Difference | None:
    """The first difference between a trace, given by its path or as lines, and the rules; ``None`` if there is none.

    Calls that failed for reasons outside the rules (``OSError``, ``StoreClosed``, ``RateLimitExceeded`` …) must have
    changed nothing; after one whose outcome is unknown nothing more is checked. A feed that was compacted may serve
    less or more than the oracle's (F2). ``ValueError`` for what is no trace, and for one whose calls overlap: that is
    for ``check_linearizability``.
    """
    head, calls = read_trace(source)
    return _Replay(head, calls).run()


class _Mismatch(Exception):
    def __init__(self, difference: Difference) -> None:
        self.difference = difference


class _Raised(Exception):
    """What ``fn`` raised in the recorded run, by the name of its type."""


class _Replay:
    def __init__(self, head: dict[str, Json], calls: list[Call]) -> None:
        limits = Limits(head["max_key_chars"], head["max_data_bytes"])
        self._now = 0.0
        self._oracle = Oracle(lambda: self._now, identity=head["identity"], limits=limits)
        self._calls = [call for call in calls if "in" not in call.fields]
        self._inner: dict[tuple[int, int], list[Call]] = {}
        for call in calls:
            if "in" in call.fields:
                self._inner.setdefault(tuple(call.fields["in"]), []).append(call)
        self._maps: dict[str, OracleMap] = {}  # by recorded sid
        self._sids: dict[str, str] = {}  # recorded, by the oracle's
        self._tokens: dict[str, str] = {}  # the oracle's, by recorded
        self._is_stale = False  # whether the present call was about something that had expired

    def run(self) -> Difference | None:
        for before, call in zip(self._calls, self._calls[1:], strict=False):
            # On one thread it is a callback that was told of the first call, and comes behind it.
            if before.fields["end"] > call.fields["n"] and before.fields["thread"] != call.fields["thread"]:
                raise ValueError(f"lines {before.number} and {call.number} overlap: use check_linearizability")
        try:
            for call in self._calls:
                if call.fields.get("outcome_unknown"):
                    break
                self._check(call)
        except _Mismatch as mismatch:
            return mismatch.difference
        return None

    def _check(self, call: Call) -> None:
        fields = call.fields
        self._now = fields["now"]
        if fields.get("outside"):
            # It has changed nothing; what was called within it, has.
            for number in range(len(fields.get("calls", ()))):
                self._check_inner(fields["n"], number)
            return
        self._is_stale = self._is_due(fields)
        recorded = {"error": fields["error"]} if "error" in fields else {"result": fields["result"]}
        try:
            answer: dict[str, Json] = {"result": self._answer(call)}
        except _Mismatch:
            raise
        except _Raised as raised:
            answer = {"error": {"type": str(raised)}}
            recorded = {"error": {"type": _error(recorded)}}
        except Exception as error:
            answer = {"error": error_to_json(error)}
            if fields["call"] != "batch":
                answer["error"].pop("index", None)  # a single write is a batch of one to the oracle
        if fields["call"] == "changes" and "HistoryCompacted" in (_error(recorded), _error(answer)):
            return
        self._compare(call, answer, recorded)

    def _answer(self, call: Call) -> Json:
        """What the oracle answers, in terms of the trace."""
        fields = call.fields
        name = fields["call"]
        if name == "batch":
            return self._batch(call)
        kwargs = {each: from_json(value) for each, value in fields["kwargs"].items()}
        args = from_json(fields["args"])
        if "page_token" in kwargs:
            kwargs["page_token"] = self._tokens.get(kwargs["page_token"], kwargs["page_token"])
        if "map" not in fields:
            if name == "open_map" and args and args[0] in self._maps:
                args = [self._maps[args[0]].sid]
            return self._told(getattr(self._oracle, name)(*args, **kwargs), fields.get("result"))
        map_ = self._maps.get(fields["map"])
        if map_ is None:
            raise ValueError(f"line {call.number}: the trace does not tell where the map {fields['map']} comes from")
        if name in PROPERTIES:
            return self._told(getattr(map_, name), None)
        if name == "mutate" and "calls" in fields:
            return self._mutate(call, map_, args, kwargs)
        return self._told(getattr(map_, name)(*args, **kwargs), fields.get("result"))

    def _mutate(self, call: Call, map_: OracleMap, args: list[Any], kwargs: dict[str, Any]) -> Json:
        fields = call.fields
        asked = 0

        def fn(data: dict[str, Any]) -> Any:
            nonlocal asked
            if asked >= len(fields["calls"]):
                self._compare(call, {"calls of fn": asked + 1}, {"calls of fn": asked})
            told = fields["calls"][asked]
            self._compare(call, {"given": to_json(data)}, {"given": told["given"]})
            self._check_inner(fields["n"], asked)
            self._now = told["now"]
            asked += 1
            if "left" in told:
                data.clear()
                data.update(from_json(told["left"]))
            if "raised" in told:
                raise _Raised(told["raised"])
            return from_json(told["returned"])

        try:
            return self._told(map_.mutate(args[0], fn, **kwargs), None)
        finally:
            self._compare(call, {"calls of fn": asked}, {"calls of fn": len(fields["calls"])})

    def _check_inner(self, number: int, asked: int) -> None:
        for inner in self._inner.get((number, asked), ()):
            self._check(inner)

    def _batch(self, call: Call) -> Json:
        batch = self._oracle.batch()
        for write in call.fields["writes"]:
            map_ = self._maps.get(write["map"])
            args, kwargs = from_json(write["args"]), {name: from_json(each) for name, each in write["kwargs"].items()}
            answer: dict[str, Json] = {}
            try:
                if map_ is None:
                    raise ValueError("no map of this store")
                getattr(batch, write["call"])(map_, *args, **kwargs)
            except Exception as error:
                answer = {"error": error_to_json(error)}
            self._compare(call, answer, {"error": write["error"]} if "error" in write else {})
        return None if call.fields["aborted"] else self._told(batch.commit(), None)

    def _told(self, result: Any, recorded: Json) -> Json:
        """The oracle's result as JSON, with the trace's sids and tokens in place of its own."""
        if isinstance(result, OracleMap):
            self._meet(result, recorded)
        elif hasattr(result, "__next__"):
            result = list(result)
            for each, other in zip(result, recorded if isinstance(recorded, list) else (), strict=False):
                if isinstance(each, OracleMap):
                    self._meet(each, other)
        return self._translate(to_json(result), recorded)

    def _meet(self, map_: OracleMap, recorded: Json) -> None:
        """A handle on a map: from now on its sid in the trace stands for this one, if neither is known yet."""
        sid = recorded.get("sid") if isinstance(recorded, dict) else None
        if sid is not None and sid not in self._maps and map_.sid not in self._sids:
            self._maps[sid] = map_
            self._sids[map_.sid] = sid

    def _translate(self, value: Json, recorded: Json) -> Json:
        if isinstance(value, list):
            return [self._translate(each, None) for each in value]
        kind = value.get("$") if isinstance(value, dict) else None
        if kind in ("map", "event"):
            return value | {"sid": self._sids.get(value["sid"], value["sid"])}
        if kind == "page" and isinstance(recorded, dict):
            for name in ("next_page_token", "previous_page_token"):
                token = recorded.get(name)
                if token is not None and value[name] is not None:
                    self._tokens[token] = value[name]
                    value = value | {name: token}
        return value

    def _compare(self, call: Call, expected: dict[str, Json], recorded: dict[str, Json]) -> None:
        found = _first_difference(expected, recorded, "")
        if found is not None:
            place, ours, theirs = found
            rules = tuple(dict.fromkeys(self._rules(call, place, _error(expected), _error(recorded))))
            place = place.removeprefix(".result").removeprefix(".error")
            raise _Mismatch(Difference(call.number, str(call), place, ours, theirs, rules))

    def _rules(self, call: Call, place: str, *errors: str | None) -> list[str]:
        fields = call.fields
        rules = []
        if errors[0] != errors[1] and self._is_stale:
            rules.append("T3")
        rules += [RULE_OF_ERROR[error] for error in errors if error in RULE_OF_ERROR]
        if not any(errors):
            # The outermost, so that a field of the data that is called "key" is the data's.
            steps = place.replace("[", ".[").split(".")
            rules += [RULE_OF_FIELD[step] for step in steps if step in RULE_OF_FIELD][:1]
            if not rules and self._is_stale:
                rules.append("T3")
        return [*rules, RULE_OF_CALL[fields["call"]]]

    def _is_due(self, fields: dict[str, Json]) -> bool:
        """Whether a key of the call has expired and was not removed: the commonest thing to forget."""
        map_ = self._maps.get(fields.get("map", ""))
        if map_ is None:
            return False
        result = fields.get("result")
        items = result.get("items", [result]) if isinstance(result, dict) else result
        shown = [item.get("key") if isinstance(item, dict) else item for item in _listed(items)]
        keys = [key for key in [*fields["args"][:1], *shown] if isinstance(key, str)]
        try:
            return any(self._oracle.stores(map_.sid, key) and key not in map_ for key in keys)
        except MapNotFound:
            return True


def _listed(items: Json) -> list[Json]:
    return items if isinstance(items, list) else []


def _error(answer: dict[str, Json]) -> str | None:
    error = answer.get("error")
    return error["type"] if isinstance(error, dict) else None


def _first_difference(expected: Json, recorded: Json, place: str) -> tuple[str, Json, Json] | None:
    """Where two JSON values differ first, types and the order of fields included, and what is there."""
    if isinstance(expected, dict) and isinstance(recorded, dict) and list(expected) == list(recorded):
        pairs = [(f"{place}.{key}", expected[key], recorded[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(recorded, list) and len(expected) == len(recorded):
        pairs = [(f"{place}[{at}]", one, other) for at, (one, other) in enumerate(zip(expected, recorded, strict=True))]
    else:
        return None if json.dumps(expected) == json.dumps(recorded) else (place, expected, recorded)
    return next((found for pair in pairs if (found := _first_difference(pair[1], pair[2], pair[0]))), None)

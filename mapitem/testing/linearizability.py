"""Whether what several threads saw can have happened in some order, one call after the other: linearizability.

A history is linearizable if each call can be given an instant between its beginning and its end so that, in the order
of these instants, every answer is the right one. That is so for a map if it is so for each of its keys, so each key is
judged alone: by Wing and Gong's search, which tries what may have come first, with Lowe's memory of where it has been.
The rules of the one item are written down here once more, in the little that is needed. See ``check_trace`` for
everything else that the rules ask for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from mapitem.testing.trace import Call, read_trace
from mapitem.testing.trace_values import Json, from_json, to_json

Item = tuple[str, str]
"""An item as far as it matters here: its data as JSON text, and its revision."""


class Violation(NamedTuple):
    """Calls on one key that cannot have happened one after the other, whatever the order.

    ``map`` is the map's sid. ``calls`` are the lines of the trace that the longest order found could not go on with,
    and ``after`` those that it is made of.
    """

    map: str
    key: str
    calls: tuple[str, ...]
    after: tuple[str, ...]

    def __str__(self) -> str:
        stuck = "\n".join(f"  {call}" for call in self.calls)
        before = "\n".join(f"  {call}" for call in self.after[-5:]) or "  nothing"
        return f"key {self.key!r} of {self.map}: no order explains\n{stuck}\nafter\n{before}"


def check_linearizability(source: str | os.PathLike[str] | Iterable[str]) -> Violation | None:
    """The first key of a trace whose calls no order explains, or ``None``: each key is linearizable.

    ``source`` is a path or the lines of a trace. Judged are the verbs that read or write one item, the writes of
    batches, the items that ranges and pages found, and that revisions of a map grow in the order of its writes. Calls
    that failed for reasons outside the rules count as not made. ``ValueError`` for what is no trace, and for a history
    in which an item expires, or whose outcome was left unknown. Costs little unless many calls on one key overlap.
    """
    _, calls = read_trace(source)
    histories: dict[tuple[str, str], list[Step]] = {}
    for call in calls:
        if call.fields.get("outcome_unknown"):
            raise ValueError(f"line {call.number}: it is unknown whether this write was made")
        for where, step in _steps(call):
            histories.setdefault(where, []).append(step)
    _check_expiry(calls)
    for where, history in histories.items():
        if (violation := _search(*where, history)) is not None:
            return violation
    return _check_revisions(histories)


class Step(NamedTuple):
    """What one call did to one key: ``verb`` is the verb, or ``"read"``."""

    begin: int
    end: int
    line: int
    verb: str
    shown: str
    given: Any = None  # the data that were written, or what fn was given and returned
    if_match: str | None = None
    found: Item | None = None  # the answer
    error: str | None = None
    actual: str | None = None  # the revision that the error tells of

    def __str__(self) -> str:
        answer = self.error or (self.found and " at ".join(self.found)) or "nothing"
        return f"line {self.line}: {self.shown} -> {answer}"


def _steps(call: Call) -> Iterator[tuple[tuple[str, str], Step]]:
    """What a call did to which keys."""
    fields = call.fields
    verb, sid, error = fields["call"], fields.get("map", ""), fields.get("error")
    if fields.get("outside") or (error and error["type"] not in ("ItemNotFound", "ItemExists", "RevisionMismatch")):
        return
    place = fields["n"], fields["end"], call.number
    result = fields.get("result")
    if verb == "batch":
        if isinstance(result, list):
            for write, item in zip(fields["writes"], result, strict=True):
                step = _write(place, write["call"], str(call), write["args"], write["kwargs"], item, None)
                yield (write["map"], write["args"][0]), step
    elif verb in ("range", "page") and result is not None:
        for item in result["items"] if verb == "page" else result:
            yield (sid, item["key"]), Step(*place, "read", str(call), found=_item(item))
    elif verb in ("get", "__getitem__"):
        yield (sid, fields["args"][0]), Step(*place, "read", str(call), found=_item(result))
    elif verb == "mutate" and fields.get("calls"):
        key, last = fields["args"][0], fields["calls"][-1]
        if "returned" in last:
            given = _text(last["given"]), None if last["returned"] is None else _text(last["returned"])
            # Out of attempts, it has read what it was given, and lost that race.
            step = Step(*place, verb, str(call), given=given, found=_item(result), error=error and error["type"])
            yield (sid, key), step
    elif verb in ("create", "set", "update", "remove", "set_item_ttl"):
        step = _write(place, verb, str(call), fields["args"], fields["kwargs"], result, error)
        yield (sid, fields["args"][0]), step


def _write(
    place: tuple[int, int, int], verb: str, shown: str, args: Json, kwargs: Json, item: Json, error: Json
) -> Step:
    given = (args[1] if len(args) > 1 else kwargs.get("data", kwargs.get("changes"))) if verb != "remove" else None
    kind, actual = (error["type"], error.get("actual", error.get("revision"))) if error else (None, None)
    return Step(*place, verb, shown, given, kwargs.get("if_match"), _item(item), kind, actual)


def _item(item: Json) -> Item | None:
    return None if item is None else (_text(item["data"]), item["revision"])


def _text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


# ---------------------------------------------------------------- the rules of one item


class State(NamedTuple):
    """The item, and the number of the last event that wrote or removed it, of which revisions must be newer (R4)."""

    item: Item | None = None
    last: int = -1


def _after(state: State, step: Step) -> State | None:
    """The state after the step, or ``None`` if its answer is not the right one in this state."""
    item, verb = state.item, step.verb
    revision = item[1] if item else None
    if step.error == "ItemExists":
        return state if verb == "create" and item and step.actual == revision else None
    if step.error == "ItemNotFound":
        return state if item is None and (step.if_match or verb in ("remove", "set_item_ttl")) else None
    if step.error == "RevisionMismatch":
        lost = verb == "mutate" or (item and step.if_match not in ("*", revision) and step.actual == revision)
        return state if lost else None
    if verb == "read" or (verb == "mutate" and step.given[1] is None):
        return state if step.found == item else None
    if step.found is None or (verb == "create" and item) or (step.if_match and step.if_match not in ("*", revision)):
        return None
    if step.if_match == "*" and item is None:
        return None
    if verb == "remove":
        return State(None, state.last) if step.found == item else None
    written = _written(item, step)
    number = int(step.found[1], 16)
    return State(step.found, number) if step.found[0] == written and number > state.last else None


def _written(item: Item | None, step: Step) -> str | None:
    """The data that the item should have now."""
    if step.verb == "set_item_ttl":
        return item[0] if item else None
    if step.verb == "update":
        old = from_json(json.loads(item[0])) if item else {}
        return _text(to_json(old | from_json(step.given)))
    if step.verb == "mutate":
        return step.given[1] if step.given[0] == (item[0] if item else "{}") else None
    return _text(step.given)


# ---------------------------------------------------------------- the search


def _search(sid: str, key: str, history: list[Step]) -> Violation | None:
    """Try every step that may have come first, and then every one that may have come next; back up when stuck."""
    steps = sorted(history)
    done, state = 0, State()  # the steps that the order has so far, as bits
    order: list[tuple[int, State]] = []  # their places, and the state before each
    seen: set[tuple[int, State]] = set()
    best: list[int] = []
    begin = 0  # where to go on trying at this depth
    while len(order) < len(steps):
        place = _next(steps, done, begin, state, seen)
        if place is not None:
            order.append((place, state))
            state = _after(state, steps[place]) or state
            done |= 1 << place
            seen.add((done, state))
            begin = 0
            continue
        if len(order) >= len(best):
            best = [at for at, _ in order]
        if not order:
            left = [step for at, step in enumerate(steps) if at not in best]
            first_end = min(step.end for step in left)
            stuck = tuple(str(step) for step in left if step.begin < first_end)
            return Violation(sid, key, stuck, tuple(str(steps[at]) for at in best))
        place, state = order.pop()
        done &= ~(1 << place)
        begin = place + 1
    return None


def _next(steps: list[Step], done: int, begin: int, state: State, seen: set[tuple[int, State]]) -> int | None:
    """The first step from ``begin`` on that may come next: begun before any other that is left has ended, and right."""
    first_end = None
    first_left = (~done & (done + 1)).bit_length() - 1
    for place in range(first_left, len(steps)):
        if done >> place & 1:
            continue
        step = steps[place]
        if first_end is not None and step.begin > first_end:
            break
        first_end = step.end if first_end is None else min(first_end, step.end)
        if place >= begin and (after := _after(state, step)) and (done | 1 << place, after) not in seen:
            return place
    return None


# ---------------------------------------------------------------- over all keys


def _check_revisions(histories: dict[tuple[str, str], list[Step]]) -> Violation | None:
    """R1, R2: a write that began when another had ended has the greater number, on whatever key of the map."""
    writes: dict[str, list[tuple[int, Step, str]]] = {}
    for (sid, key), history in histories.items():
        for step in history:
            if step.found is not None and step.verb not in ("read", "remove") and not _is_no_write(step):
                writes.setdefault(sid, []).append((int(step.found[1], 16), step, key))
    for sid, all_writes in writes.items():
        all_writes.sort(key=lambda write: (write[0], write[1].begin))
        latest: Step | None = None  # the one that began last, of those with lower numbers
        number_before = -1
        for number, step, key in all_writes:
            if number == number_before or (latest is not None and step.end < latest.begin):
                return Violation(sid, key, (str(step),), (str(latest),))
            number_before = number
            if latest is None or step.begin > latest.begin:
                latest = step
    return None


def _is_no_write(step: Step) -> bool:
    return step.verb == "mutate" and step.given[1] is None


def _check_expiry(calls: list[Call]) -> None:
    latest = max((call.fields["now"] for call in calls), default=0.0)
    for call in calls:
        result = call.fields.get("result")
        for item in result if isinstance(result, list) else [result]:
            expires = item.get("date_expires") if isinstance(item, dict) else None
            if isinstance(expires, str) and datetime.fromisoformat(expires).timestamp() <= latest:
                raise ValueError(f"line {call.number}: an item expires within the history, which is not judged")

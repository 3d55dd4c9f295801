"""A store and the oracle side by side: a move is made on both, and a difference is told with its rule and the story.

What the store declares not to keep is not compared. This room knows how outcomes are compared, and no single move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime
from typing import Any

from mapitem.errors import InvalidArgument
from mapitem.item import MapItem
from mapitem.keyrange import Page
from mapitem.testing.conformance.capabilities import Capabilities
from mapitem.testing.conformance.kit import Adapter, Bench, RuleBroken, same_data, same_date, shown
from mapitem.testing.oracle import Event as OracleEvent
from mapitem.testing.oracle import Oracle, OracleMap, same

KINDS = {"added": "ItemAdded", "updated": "ItemUpdated", "removed": "ItemRemoved", "map_removed": "MapRemoved"}
FIELDS = {"date_created": "I2", "date_updated": "I2", "date_expires": "T1, T2"}


class Side:
    """One of the two: its store, and its handles by the oracle's sids."""

    def __init__(self, store: Any, is_oracle: bool) -> None:
        self.store = store
        self.is_oracle = is_oracle
        self.maps: dict[str, Any] = {}


class Revisions:
    """Which revision of theirs stands for which of the oracle's: opaque ones are the same if and only if those are."""

    def __init__(self) -> None:
        self.theirs: dict[str, str] = {}
        self._oracles: dict[str, str] = {}

    def match(self, theirs: Any, oracles: str) -> bool:
        known = self.theirs.setdefault(oracles, theirs), self._oracles.setdefault(theirs, oracles)
        return known == (theirs, oracles)


class Duel:
    """The two sides, what has been done so far, and how it is judged."""

    def __init__(self, adapter: Adapter) -> None:
        self.bench = Bench(adapter)
        self.clock = self.bench.clock
        self.oracle = Oracle(self.clock)
        self.theirs = Side(self.bench.make_store(), is_oracle=False)
        self.sides = (Side(self.oracle, is_oracle=True), self.theirs)
        self.revisions: dict[str, Revisions] = {}
        self.story: list[str] = []

    @property
    def can(self) -> Capabilities:
        return self.bench.can

    @staticmethod
    def name(map_: OracleMap) -> str:
        """How the story calls it."""
        return map_.name or "unnamed"

    def make(self, rules: str, told: str, move: Callable[[Side], Any]) -> list[Any] | None:
        """Makes the move on both sides and compares; the results of both, unless it raised."""
        self.story.append(told)
        instant = self.clock()
        outcomes: list[Any] = []
        for side in self.sides:
            self.clock.set(instant)
            try:
                outcomes.append(move(side))
            except Exception as error:
                outcomes.append(error)
        wanted, got = outcomes
        if isinstance(wanted, Exception) or isinstance(got, Exception):
            self.compare_errors(got, wanted, rules, told)
            return None
        self.compare(got, wanted, rules, f"what {told} returned")
        for result in outcomes:
            for item in result if isinstance(result, list) else [result]:
                if hasattr(item, "data"):
                    scribble(item.data)  # D4: it is ours
        return outcomes

    def look(self, rules: str, told: str, move: Callable[[Side], Any]) -> None:
        """A move that changes nothing, and so has no place in the story once it went well."""
        self.make(rules, told, move)
        self.story.pop()

    def broken(self, rules: str, what: str) -> RuleBroken:
        steps = "\n".join(f"    {step}" for step in self.story)
        return RuleBroken(rules.split(", "), f"{what}\nafter\n{steps}")

    def compare_errors(self, got: Any, wanted: Any, rules: str, told: str) -> None:
        if isinstance(got, InvalidArgument) and isinstance(wanted, InvalidArgument) and not self.can.error_order:
            return
        if not (isinstance(wanted, Exception) and isinstance(got, type(wanted))):
            did = f"raised {type(got).__name__}({got})" if isinstance(got, Exception) else f"returned {shown(got)}"
            should = f"raise {type(wanted).__name__}" if isinstance(wanted, Exception) else f"return {shown(wanted)}"
            raise self.broken(rules, f"{told} {did}, should {should}")
        if self.can.error_fields:
            for name in ("key", "limit", "index"):
                values = getattr(got, name, None), getattr(wanted, name, None)
                if values[0] != values[1]:
                    raise self.broken(f"{rules}, X", f"{name} of the error of {told}: {values[0]!r}, not {values[1]!r}")

    def compare(self, got: Any, wanted: Any, rules: str, what: str) -> None:
        if isinstance(wanted, MapItem):
            self.compare_items(got, wanted, rules, what)
        elif isinstance(wanted, OracleMap):
            self.expect(got.name == wanted.name, f"{rules}, K5", f"name of {what}", got.name, wanted.name)
        elif isinstance(wanted, Page):
            self.compare(list(got.items), list(wanted.items), rules, f"items of {what}")
            tokens = [
                [token is not None for token in (page.next_page_token, page.previous_page_token)]
                for page in (got, wanted)
            ]
            least = 2 if self.can.previous_pages else 1
            self.expect(tokens[0][:least] == tokens[1][:least], rules, f"whether {what} has tokens", *tokens)
        elif isinstance(wanted, list):
            if wanted and isinstance(wanted[0], MapItem | OracleEvent):
                keys = [[getattr(each, "key", None) for each in side] for side in (got, wanted)]
                self.expect(keys[0] == keys[1], rules, f"keys of {what}", *keys)
            self.expect(len(got) == len(wanted), rules, f"length of {what}", got, wanted)
            for one, other in zip(got, wanted, strict=True):
                self.compare(one, other, rules, what)
        elif isinstance(wanted, OracleEvent):
            self.compare_events(got, wanted, rules, what)
        else:
            self.expect(same(got, wanted), rules, what, got, wanted)

    def compare_items(self, got: Any, wanted: MapItem, rules: str, what: str) -> None:
        if got is None:
            raise self.broken(rules, f"{what}: None, should be {wanted!r}")
        self.expect(got.key == wanted.key, f"{rules}, K3", f"key of {what}", got.key, wanted.key)
        good = same_data(got.data, wanted.data, self.can)
        self.expect(good, f"{rules}, D2", f"data of {what}", got.data, wanted.data)
        for name, its_rule in FIELDS.items():
            self.expect_date(getattr(got, name), getattr(wanted, name), f"{rules}, {its_rule}", f"{name} of {what}")
        if self.can.created_by:
            self.expect(got.created_by == wanted.created_by, f"{rules}, I3", f"created_by of {what}", got, wanted)

    def compare_revisions(self, got: Any, wanted: str, revisions: Revisions, rules: str, what: str) -> None:
        if self.can.exact_revisions:
            revisions.match(got, wanted)
            self.expect(got == wanted, f"{rules}, R2", what, got, wanted)
        elif not revisions.match(got, wanted):
            raise self.broken(f"{rules}, R4", f"{what}: {got!r} stands for two revisions, or two for one")

    def compare_events(self, got: Any, wanted: OracleEvent, rules: str, what: str) -> None:
        self.expect(type(got).__name__ == KINDS[wanted.kind], rules, f"class of {what}", got, wanted)
        self.expect(getattr(got, "key", None) == wanted.key, rules, f"key of {what}", got, wanted)
        self.expect_date(got.date, wanted.date, rules, f"date of {what}")
        for name in ("item", "previous"):
            item = getattr(wanted, name)
            if item is not None:
                self.compare_items(getattr(got, name), item, rules, f"{name} of {what}")
                scribble(getattr(got, name).data)  # D4: it is the listener's own
        if wanted.kind in ("removed", "map_removed"):
            self.expect(got.expired == wanted.expired, f"{rules}, T4", f"expired of {what}", got, wanted)
        if self.can.exact_revisions:
            self.expect(got.revision == wanted.revision, f"{rules}, R2", f"revision of {what}", got, wanted)

    def expect_date(self, got: Any, wanted: datetime | None, rules: str, what: str) -> None:
        good = (got is None) == (wanted is None)
        if self.can.clock:
            good = same_date(got, wanted, self.can.date_resolution)
        self.expect(good, rules, what, got, wanted)

    def expect(self, good: bool, rules: str, what: str, got: Any, wanted: Any) -> None:
        if not good:
            raise self.broken(rules, f"{what}: {shown(got)}, should be {shown(wanted)}")

    def compare_maps(self, map_: OracleMap, name: str) -> None:
        theirs = self.theirs.maps[map_.sid]
        rows = zip(theirs.range(), map_.range(), strict=True)
        for got, wanted in rows:
            what = f"revision of {name}[{wanted.key!r}]"
            self.compare_revisions(got.revision, wanted.revision, self.revisions[map_.sid], "R4", what)
        self.expect(len(theirs) == len(map_), "L1, T3", f"len({name})", len(theirs), len(map_))
        self.expect(list(theirs) == list(map_), "L5", f"list({name})", list(theirs), list(map_))
        if self.can.map_ttl or self.can.collection_ttl:
            self.expect_date(theirs.date_expires, map_.date_expires, "T2, W6", f"{name}.date_expires")
        if self.can.map_dates:
            self.expect_date(theirs.date_created, map_.date_created, "S2", f"{name}.date_created")
            if self.can.expiry_events:
                self.expect_date(theirs.date_updated, map_.date_updated, "I4", f"{name}.date_updated")
        if self.can.map_revision and self.can.exact_revisions and self.can.expiry_events:
            what = f"{name}.revision"
            self.expect(theirs.revision == map_.revision, "R1, R2", what, theirs.revision, map_.revision)


class Step:
    """One write, ready to be made on either side."""

    def __init__(
        self,
        map_: OracleMap,
        verb: str,
        given: list[Any],
        options: dict[str, Any],
        match: Callable[[Side], dict[str, str]],
        theirs: Side,
    ) -> None:
        self.map = map_
        self.verb = verb
        self._given = given
        self._options = options
        # Now, before anything is written: the same for both.
        self._matches = {True: match(Side(None, True)), False: match(theirs)}
        self.told = arguments(*given, **options, **self._matches[False])

    def alone(self, side: Side) -> Any:
        with lent(self._given) as given:
            verb = getattr(side.maps[self.map.sid], self.verb)
            return verb(*given, **self._options, **self._matches[side.is_oracle])

    def into(self, batch: Any, side: Side) -> None:
        with lent(self._given) as given:
            verb = getattr(batch, self.verb)
            verb(side.maps[self.map.sid], *given, **self._options, **self._matches[side.is_oracle])


def arguments(*given: Any, **options: Any) -> str:
    return ", ".join([*map(shown, given), *(f"{name}={value!r}" for name, value in options.items())])


def scribble(value: Any) -> None:
    """Spoil data to the last container, as its holder may (D4)."""
    if isinstance(value, dict):
        for inner in list(value.values()):
            scribble(inner)
        value["scribbled"] = "on"
    elif isinstance(value, list):
        for inner in list(value):
            scribble(inner)
        value.append("scribbled on")


@contextmanager
def lent(given: Iterable[Any]) -> Iterator[list[Any]]:
    """Copies of the arguments, spoilt as soon as the call is over (D4)."""
    copies = deepcopy(list(given))
    try:
        yield copies
    finally:
        for copy in copies:
            scribble(copy)

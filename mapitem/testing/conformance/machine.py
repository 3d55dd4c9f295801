"""The state machine: random moves on the store under test and on the oracle, which must come to the same.

A move that the store declares not to know is not made. The first difference ends the run; hypothesis shortens the
story, and the error tells it as the calls that were made. How outcomes are compared is ``duel.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any, ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mapitem.errors import MapItemError, MapNotFound
from mapitem.events import Event
from mapitem.testing import strategies as some
from mapitem.testing.conformance.duel import Duel, Revisions, Side, Step, arguments
from mapitem.testing.conformance.kit import Adapter, Section, check, same_data
from mapitem.testing.oracle import OracleMap

NAMES = ("m", "n")
VERBS = {"create": "W1", "set": "W2", "update": "W3", "remove": "W5", "set_item_ttl": "W6"}
FAR_TTL = 3600
STEPS = 30
"""Few, so that many beginnings are tried: most of what can go wrong takes a handful of moves."""

CONDITIONS = st.sampled_from([None, None, None, "*", "current", "current", "padded", 0, 1, 2])
"""None, any, the right one, that with a zero before it; a number stands for one of the revisions seen so far."""

PLACES = st.sampled_from([0, 0, 1, 2, 3, None, "", "a", "aa", "b/", "z", "\uffff"])
"""Where a range begins; a number stands for one of the keys that are there."""

PREFIXES = st.sampled_from([None, None, None, "", "a", "ab", "b"])
TTLS = st.sampled_from([None, None, None, 0, 1, 2, 60, timedelta(seconds=2)])
RARE_TTLS = st.sampled_from([None, None, None, None, None, None, 0, 2])
KEYS = st.sampled_from(["a", "b", "ab", *some.COMMON_KEYS]) | some.keys()
MAPS = st.integers(0, 3)
WRITES = st.tuples(
    st.sampled_from(["set", "create", "remove", "update", "set_item_ttl"]),
    st.sampled_from(["a", "a", "b"]),
    some.small_data(),
    st.sampled_from([None, None, 0, 2]),
    CONDITIONS,
)


class StoreMachine(Duel, RuleBasedStateMachine):
    """The moves."""

    adapter: ClassVar[type[Adapter]]

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        Duel.__init__(self, self.adapter())
        self.known: list[OracleMap] = []
        self.tokens: tuple[OracleMap, list[Any]] | None = None
        self.heard: list[Any] = []
        self.told = 0
        self.any_order = False
        self.steps = 0
        self.touched: set[OracleMap] = set()
        if self.can.events:
            self.theirs.store.on(Event, self.heard.append)

    def teardown(self) -> None:
        self.bench.finish()

    # ------------------------------------------------------------ what a move is made of

    def pick(self, number: int) -> OracleMap:
        """One of the maps, the newest mostly; a new one if all are dead."""
        live = [map_ for map_ in self.known if not self.is_dead(map_)]
        if number == 3 or not live:
            number, live = number + 1, self.known
        map_ = live[-1 - number % len(live)]
        self.touched.add(map_)
        return map_

    def is_dead(self, map_: OracleMap) -> bool:
        try:
            return len(map_) < 0
        except MapNotFound:
            return True

    def key(self, key: str) -> str:
        return key if self.can.accepts_key(key) else "a"

    def options(self, ttl: Any = None, map_ttl: Any = None) -> dict[str, Any]:
        """Those that are given at all: a verb need not know the others."""
        options = {}
        if ttl is not None and self.can.item_ttl:
            options["ttl"] = self.ttl(ttl)
        if map_ttl is not None and self.can.collection_ttl:
            options["collection_ttl"] = self.ttl(map_ttl)
        return options

    def ttl(self, ttl: Any) -> Any:
        """Without the clock nothing may expire while we look."""
        return ttl if self.can.clock or not ttl else FAR_TTL

    def match(self, map_: OracleMap, key: str, condition: Any) -> Callable[[Side], dict[str, str]]:
        """The condition, as each side has to be given it."""
        value: str | None = None
        if condition == "*":
            value = "*" if self.can.any_revision else None
        elif condition is not None and self.can.conditions:
            seen = self.revisions[map_.sid].theirs
            with suppress(MapItemError):
                value = map_[key].revision
            if isinstance(condition, int):
                value = list(seen)[condition % len(seen)] if seen else None
            elif condition == "padded":
                value = f"0{value}" if value is not None and self.can.exact_revisions else None
            if value is not None and value not in seen and not self.can.exact_revisions:
                value = None
        return lambda side: (
            {}
            if value is None
            else {"if_match": value if side.is_oracle else self.revisions[map_.sid].theirs.get(value, value)}
        )

    def open(self, rules: str, told: str, move: Callable[[Side], Any]) -> None:
        results = self.make(rules, told, move)
        if results is None:
            return
        opened = results[0]
        its_maps = self.theirs.maps
        for side, handle in zip(self.sides, results, strict=True):
            side.maps.setdefault(opened.sid, handle)
        if opened not in self.known:
            self.known.append(opened)
            self.revisions[opened.sid] = Revisions()
        sids = [handle.sid for handle in its_maps.values()]
        self.expect(results[1].sid == its_maps[opened.sid].sid, "S2, K6", f"sid of the map of {told}", results[1], "")
        self.expect(len(set(sids)) == len(sids), "K6", "sids of different maps", sids, "all different")

    # ------------------------------------------------------------ maps

    @initialize()
    def begin(self) -> None:
        self.open("S2", "store.map('m')", lambda side: side.store.map("m"))

    @precondition(lambda self: len(self.known) < 6)
    @rule(name=st.sampled_from([*NAMES, None]), must_be_new=st.booleans(), ttl=RARE_TTLS)
    def make_map(self, name: str | None, must_be_new: bool, ttl: Any) -> None:
        options = {"ttl": self.ttl(ttl)} if ttl is not None and self.can.map_ttl else {}
        if name is None and self.can.unnamed_maps and self.can.create_map:
            told = f"store.create_map({arguments(**options)})"
            self.open("S2", told, lambda side: side.store.create_map(**options))
            return
        name = name or "n"
        verb = "create_map" if must_be_new and self.can.create_map else "map"
        told = f"store.{verb}({arguments(name, **options)})"
        self.open("S2", told, lambda side: getattr(side.store, verb)(name, **options))

    @rule(number=MAPS, by_sid=st.booleans())
    def find_map(self, number: int, by_sid: bool) -> None:
        map_ = self.pick(number)
        if by_sid or map_.name is None:
            told = f"store.open_map({self.name(map_)}.sid)"
            self.open("S2, K6", told, lambda side: side.store.open_map(side.maps[map_.sid].sid))
        else:
            self.open("S2, K6", f"store.open_map({map_.name!r})", lambda side: side.store.open_map(map_.name))

    @precondition(lambda self: self.can.map_ttl)
    @rule(number=MAPS, ttl=st.sampled_from([0, 1, 2, 60, None]))
    def set_ttl(self, number: int, ttl: Any) -> None:
        map_, ttl = self.pick(number), self.ttl(ttl)
        self.make("W6", f"{self.name(map_)}.set_ttl({ttl!r})", lambda side: side.maps[map_.sid].set_ttl(ttl))

    @precondition(lambda self: self.can.remove_map)
    @rule(number=MAPS, really=st.sampled_from([False, False, True]))
    def remove_map(self, number: int, really: bool) -> None:
        map_ = self.pick(number)
        if really or self.is_dead(map_):
            self.make("S2", f"{self.name(map_)}.remove_map()", lambda side: side.maps[map_.sid].remove_map())

    # ------------------------------------------------------------ items

    def step(self, map_: OracleMap, write: tuple[str, str, Any, Any, Any], map_ttl: Any = None) -> Step | None:
        """A write as what each side is given, and as text; ``None`` if the store has no such verb."""
        verb, key, data, ttl, condition = write
        if (verb == "update" and not self.can.update) or (verb == "set_item_ttl" and not self.can.item_ttl):
            return None
        key = self.key(key)
        match = (lambda side: {}) if verb == "create" else self.match(map_, key, condition)
        given: list[Any] = [key]
        options: dict[str, Any] = {}
        if verb == "set_item_ttl":
            given.append(self.ttl(ttl))
        elif verb != "remove":
            given.append(data)
            options = self.options(ttl, map_ttl)
        return Step(map_, verb, given, options, match, self.sides[1])

    @rule(
        number=MAPS,
        verb=st.sampled_from(["create", "set", "set", "update"]),
        key=KEYS,
        data=some.small_data(),
        ttl=TTLS,
        map_ttl=RARE_TTLS,
        condition=CONDITIONS,
    )
    def write(self, number: int, verb: str, key: str, data: Any, ttl: Any, map_ttl: Any, condition: Any) -> None:
        self._write(number, (verb, key, data, ttl, condition), map_ttl)

    @rule(number=MAPS, key=KEYS, condition=CONDITIONS)
    def remove(self, number: int, key: str, condition: Any) -> None:
        self._write(number, ("remove", key, None, None, condition))

    @rule(number=MAPS, key=KEYS, ttl=st.sampled_from([2, 1, 0, 60]), condition=CONDITIONS)
    def set_item_ttl(self, number: int, key: str, ttl: Any, condition: Any) -> None:
        self._write(number, ("set_item_ttl", key, None, ttl, condition))

    def _write(self, number: int, write: tuple[str, str, Any, Any, Any], map_ttl: Any = None) -> None:
        map_ = self.pick(number)
        step = self.step(map_, write, map_ttl)
        if step is not None:
            rules = VERBS[step.verb] if "if_match" not in step.told else f"{VERBS[step.verb]}, C1"
            self.make(rules, f"{self.name(map_)}.{step.verb}({step.told})", step.alone)

    @rule(number=MAPS, keys=st.lists(KEYS, min_size=2, max_size=5, unique=True), ttl=TTLS)
    def fill(self, number: int, keys: list[str], ttl: Any) -> None:
        for key in keys:
            self._write(number, ("set", key, {"x": 1}, ttl, None))

    @precondition(lambda self: self.can.mutate)
    @rule(
        number=MAPS,
        key=KEYS,
        meanwhile=st.lists(st.sampled_from(["nothing", "set", "remove"]), max_size=3),
        answer=st.sampled_from(["add", "add", "new", "none", "spoilt none", "bad"]),
        ttl=TTLS,
        max_attempts=st.integers(1, 4),
    )
    def mutate(self, number: int, key: str, meanwhile: list[str], answer: str, ttl: Any, max_attempts: int) -> None:
        """W4, with somebody else who writes to the same key while the function runs."""
        map_, key, options = self.pick(number), self.key(key), self.options(ttl)
        given: tuple[list[Any], list[Any]] = ([], [])

        def move(side: Side) -> Any:
            target, calls = side.maps[map_.sid], given[side.is_oracle]

            def fn(data: dict[str, Any]) -> Any:
                calls.append(deepcopy(data))
                other = meanwhile[len(calls) - 1] if len(calls) <= len(meanwhile) else "nothing"
                if other == "set":
                    target.set(key, {"by": "another"})
                elif other == "remove":
                    with suppress(KeyError):
                        target.remove(key)
                return answered(answer, data)

            return target.mutate(key, fn, max_attempts=max_attempts, **options)

        others = f", while others {' and '.join(meanwhile)}" if meanwhile else ""
        told = f"{self.name(map_)}.mutate({arguments(key, **options)}) to {answer}{others}, {max_attempts} attempts"
        self.make("W4", told, move)
        good = len(given[0]) == len(given[1]) and all(
            same_data(*each, self.can) for each in zip(given[0], given[1], strict=True)
        )
        self.expect(good, "W4", f"data that the function of {told} was given", *given)

    @precondition(lambda self: self.can.batches)
    @rule(numbers=st.lists(MAPS, min_size=1, max_size=2), writes=st.lists(WRITES, min_size=1, max_size=4))
    def batch(self, numbers: list[int], writes: list[tuple[str, str, Any, Any, Any]]) -> None:
        """W7: all or nothing, in one map or several."""
        maps = [self.pick(number) for number in numbers]
        steps = [self.step(maps[place % len(maps)], write) for place, write in enumerate(writes)]
        chosen = [step for step in steps if step is not None]

        def move(side: Side) -> Any:
            with side.store.batch() as batch:
                for step in chosen:
                    step.into(batch, side)
            return list(batch.results)

        told = "; ".join(f"{step.verb}({self.name(step.map)}, {step.told})" for step in chosen)
        rules = ", ".join(["W7", *dict.fromkeys(VERBS[step.verb] for step in chosen)])
        self.make(rules, f"batch: {told}", move)

    @rule(
        number=MAPS,
        verb=st.sampled_from(["create", "set", "remove", "update"]),
        key=st.sampled_from(["a", "b"]) | some.bad_keys(),
        data=st.sampled_from([{}, None, [], {"a": float("nan")}, {"a": b""}]),
        ttl=st.sampled_from([None, -1, True, 31_536_001]),
        if_match=st.sampled_from([None, 5, b"0"]),
    )
    def write_badly(self, number: int, verb: str, key: Any, data: Any, ttl: Any, if_match: Any) -> None:
        """C2: of several things that are wrong, the same one is told; on a dead map too."""
        map_ = self.pick(number)
        if verb == "update" and not self.can.update:
            return
        given = [key] if verb == "remove" else [key, data]
        options: dict[str, Any] = {}
        if ttl is not None and verb != "remove" and self.can.item_ttl:
            options["ttl"] = ttl
        if if_match is not None and verb != "create" and self.can.conditions:
            options["if_match"] = if_match
        told = f"{self.name(map_)}.{verb}({arguments(*given, **options)})"
        self.make(
            f"C2, {VERBS[verb]}", told, lambda side: getattr(side.maps[map_.sid], verb)(*deepcopy(given), **options)
        )

    # ------------------------------------------------------------ time

    @precondition(lambda self: self.can.clock)
    @rule(seconds=st.sampled_from([1.0, 1.0, 2.0, 0.5, 60.0, 4e7, -1.0, -2.0, -60.0]))
    def move_clock(self, seconds: float) -> None:
        if seconds < 0 and not self.can.backward_clock:
            seconds = -seconds
        if self.can.date_resolution > 0.5:
            seconds = float(round(seconds + 0.1))
        self.story.append(f"clock.advance({seconds})")
        self.clock.advance(seconds)

    @precondition(lambda self: self.can.clock)
    @rule(number=MAPS)
    def land_on_expiry(self, number: int) -> None:
        """T3: at the very instant of an expiry."""
        with suppress(MapItemError):
            map_ = self.pick(number)
            dates = [item.date_expires for item in map_.range()] + [map_.date_expires]
            instants = sorted(date.timestamp() for date in dates if date is not None)
            if instants and (instants[0] >= self.clock() or self.can.backward_clock):
                self.story.append(f"clock.set({instants[0]})")
                self.clock.set(instants[0])

    # ------------------------------------------------------------ reading

    @rule(number=MAPS, key=KEYS, place=PLACES, prefix=PREFIXES, limit=st.sampled_from([None, None, 0, 1, 2]))
    def read(self, number: int, key: str, place: Any, prefix: str | None, limit: int | None) -> None:
        map_, key = self.pick(number), self.key(key)
        name = self.name(map_)
        self.look("L1", f"{name}[{key!r}]", lambda side: side.maps[map_.sid][key])
        self.look("L1", f"{name}.get({key!r}, 'absent')", lambda side: side.maps[map_.sid].get(key, "absent"))
        self.look("L1", f"{key!r} in {name}", lambda side: key in side.maps[map_.sid])
        for order, bounds in product(("asc", "desc"), ("inclusive", "exclusive")):
            options = self.listing(map_, place, order, bounds, prefix)
            if limit is not None and self.can.limit:
                options["limit"] = limit
            told = f"{name}.range({arguments(**options)})"
            self.look("L2", told, partial(ranged, map_.sid, options))

    def listing(self, map_: OracleMap, place: Any, order: str, bounds: str, prefix: str | None) -> dict[str, Any]:
        """The arguments of a range that are not the defaults."""
        if isinstance(place, int):
            present = [] if self.is_dead(map_) else list(map_)
            place = present[place % len(present)] if present else "a"
        options = {"from_": place, "order": order, "bounds": bounds, "prefix": prefix if self.can.prefix else None}
        return {name: value for name, value in options.items() if value not in (None, "asc", "inclusive")}

    @precondition(lambda self: self.can.pages)
    @rule(
        number=MAPS,
        place=PLACES,
        order=st.sampled_from(["asc", "desc"]),
        bounds=st.sampled_from(["inclusive", "exclusive"]),
        prefix=PREFIXES,
        page_size=st.sampled_from([1, 1, 2, 3]),
    )
    def begin_pages(self, number: int, place: Any, order: str, bounds: str, prefix: str | None, page_size: int) -> None:
        map_ = self.pick(number)
        options = self.listing(map_, place, order, bounds, prefix) | {"page_size": page_size}
        told = f"page = {self.name(map_)}.page({arguments(**options)})"
        pages = self.make("L4", told, lambda side: side.maps[map_.sid].page(**options))
        self.tokens = None if pages is None else (map_, pages)

    @precondition(lambda self: self.tokens is not None)
    @rule(forward=st.booleans(), page_size=st.sampled_from([1, 1, 2, 3]))
    def turn_page(self, forward: bool, page_size: int) -> None:
        assert self.tokens is not None
        map_, pages = self.tokens
        name = "next_page_token" if forward or not self.can.previous_pages else "previous_page_token"
        if getattr(pages[0], name) is None:
            return

        def move(side: Side) -> Any:
            token = getattr(pages[0 if side.is_oracle else 1], name)
            return side.maps[map_.sid].page(page_size=page_size, page_token=token)

        told = f"page = {self.name(map_)}.page(page_size={page_size}, page_token=page.{name})"
        turned = self.make("L4", told, move)
        self.tokens = None if turned is None else (map_, turned)

    @precondition(lambda self: self.can.feed and self.can.exact_revisions and self.can.expiry_events)
    @rule(number=MAPS, back=st.integers(0, 5))
    def read_feed(self, number: int, back: int) -> None:
        map_ = self.pick(number)
        state = self.oracle._states.get(map_.sid)
        since = f"{max(0, len(state.events) - back):x}" if state else "0"
        if state and int(since, 16) < state.oldest:
            return  # F2 leaves open what more is served
        told = f"{self.name(map_)}.changes({since!r})"
        self.look("F1", told, lambda side: list(side.maps[map_.sid].changes(since)))

    # ------------------------------------------------------------ keeping house

    @rule(number=MAPS, how=st.sampled_from(["purge map", "purge", "compact", "reopen"]))
    def keep_house(self, number: int, how: str) -> None:
        map_ = self.pick(number)

        def purge(what: Any) -> Any:
            gone = what.purge()
            return gone if self.can.expiry_events else None

        if how == "purge map" and self.can.purge:
            self.make("T4", f"{self.name(map_)}.purge()", lambda side: purge(side.maps[map_.sid]))
        elif how == "purge" and self.can.purge:
            self.any_order = True
            self.make("T4, T5", "store.purge()", lambda side: purge(side.store))
        elif how == "compact" and self.can.compaction:
            self.any_order = True
            self.make("S5", "store.compact()", lambda side: side.store.compact())
        elif how == "reopen" and self.can.durable:
            self.reopen()

    def reopen(self) -> None:
        self.story.append("the store was closed and opened again")
        self.theirs.store = self.bench.reopen(self.theirs.store)
        if self.can.events:
            self.theirs.store.on(Event, self.heard.append)
        live = [map_ for map_ in self.known if not self.is_dead(map_)]
        for map_ in live:
            try:
                self.theirs.maps[map_.sid] = self.theirs.store.open_map(self.theirs.maps[map_.sid].sid)
            except MapNotFound:
                raise self.broken("S1, R6", f"the map {self.name(map_)} is gone after a restart") from None
        # Of the dead no handle can be had any more.
        self.known = live
        self.tokens = None if self.tokens is None or self.tokens[0] not in live else self.tokens
        if not live:
            self.make_map("m", False, None)

    # ------------------------------------------------------------ what can be seen

    @invariant()
    def nothing_differs(self) -> None:
        self.steps += 1
        # The others now and then, to save time.
        touched, self.touched = self.touched, set()
        for map_ in self.known if self.steps % 5 == 0 else [map_ for map_ in self.known if map_ in touched]:
            told = len(self.story)
            name = self.name(map_)
            if self.make("L2, T3", f"{name}.range()", partial(ranged, map_.sid, {})) is not None:
                self.compare_maps(map_, name)
            del self.story[told:]
        if self.can.list_maps:
            names = [[map_.name for map_ in side.store.maps()] for side in self.sides]
            self.expect(names[0] == names[1], "S2", "names of store.maps()", names[1], names[0])

    @invariant()
    def all_events_are_told(self) -> None:
        """E1, E2: what the step made, in the order of the writes; of a purge, map by map."""
        wanted = self.oracle.events[self.told :]
        self.told = len(self.oracle.events)
        if not self.can.events:
            return
        self.bench.adapter.settle(self.theirs.store)
        got = list(self.heard)
        self.heard.clear()
        if not self.can.expiry_events:
            wanted = [event for event in wanted if not event.expired]
            got = [event for event in got if not getattr(event, "expired", False)]
        if self.any_order:
            sids = [self.theirs.maps[event.map_sid].sid for event in wanted]
            wanted = [event for _, event in sorted(zip(sids, wanted, strict=True), key=lambda pair: pair[0])]
            got.sort(key=lambda event: event.map_sid)
        self.any_order = False
        self.compare(got, wanted, "E1, E2", "the events told")


def ranged(sid: str, options: dict[str, Any], side: Side) -> Any:
    return list(side.maps[sid].range(**options))


def answered(answer: str, data: dict[str, Any]) -> Any:
    """What a function given to ``mutate`` returns for the data it was given."""
    if answer == "add":
        data["n"] = data.get("n", 0) + 1
        return data
    if answer == "spoilt none":
        data["spoilt"] = True
    return {"new": {"new": 1.5}, "bad": {"x": [float("nan")]}}.get(answer)


class Model(Section):
    """All rules at once."""

    @check()
    def test_do_as_the_oracle_does(self) -> None:
        """Oracle: whatever is done to it, the store does as the oracle does."""
        machine = type("StoreMachine", (StoreMachine,), {"adapter": self.adapter})
        chosen = settings(report_multiple_bugs=False, deadline=None, stateful_step_count=STEPS)
        # Explaining traces every line that runs; the story explains enough.
        chosen = settings(chosen, phases=[phase for phase in chosen.phases if phase is not Phase.explain])
        if self.adapter.max_examples is not None:
            chosen = settings(chosen, max_examples=self.adapter.max_examples)
        run_state_machine_as_test(machine, settings=chosen)

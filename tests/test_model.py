"""The real store against the oracle: each move is made on the oracle, on a store in memory and on a store on file.

A move must have the same outcome on all three, be it a value or an error, and after each step all that can be seen must
be the same. Time, restarts and crashes are moves like any other. Behind the machine: properties of single rules, over
the whole of Unicode and of JSON.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from datetime import timedelta
from functools import partial
from itertools import islice, product
from pathlib import Path
from string import ascii_letters, digits
from typing import Any, Literal

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mapitem import (
    DataTooLarge,
    Event,
    InvalidData,
    InvalidPageToken,
    ItemAdded,
    ItemNotFound,
    ItemRemoved,
    ItemUpdated,
    Limits,
    Map,
    MapItem,
    MapItemError,
    MapNotFound,
    MapRemoved,
    Page,
    Store,
)
from mapitem.testing import ManualClock
from mapitem.testing import strategies as some
from mapitem.testing.oracle import Event as OracleEvent
from mapitem.testing.oracle import Oracle, OracleMap, same

NOW = 1_700_000_000.0
LONG_AGO = 0.0

NAMES = ("n", "\U0001f600", "a/../b", "m")
BAD_NAMES = ("", "\ud800", "MP" + "0" * 32, "ZZ" + "aF" * 16, None, 5)

CURRENT = "current"
"""A condition that is right: stands for the revision that the item has when the move begins."""

PADDED = "padded"
"""A condition that is wrong by a hair (C1): stands for that revision with a zero before it."""


class Gone(Exception):
    """The player can have no handle on that map: it had ended when the player's store was opened anew."""


class Player:
    """One of the three, with its own handles on the maps, filed under the oracle's sids."""

    def __init__(self, name: str, store: Any) -> None:
        self.name = name
        self.store = store
        self.handles: dict[str, Any] = {}
        self.sids: dict[str, str] = {}  # the oracle's for its own
        self.events: list[Any] = []

    def listen(self) -> None:
        self.store.on(Event, self.events.append)

    def heard(self) -> list[Any]:
        """The events since the last call, as the oracle would tell them."""
        events = [seen_event(event, self.sids[event.map_sid]) for event in self.events]
        self.events.clear()
        return events

    def map(self, map_: OracleMap) -> Any:
        if map_.sid not in self.handles:
            raise Gone
        return self.handles[map_.sid]


class Listing:
    """The tokens of one page's neighbours, by player."""

    def __init__(self, map_: OracleMap, pages: dict[str, Page]) -> None:
        self.map = map_
        self.forward = {player: page.next_page_token for player, page in pages.items()}
        self.backward = {player: page.previous_page_token for player, page in pages.items()}


class Walk:
    """An iterator that was begun, by player, and what it may and must yet deliver (L3)."""

    def __init__(self, map_: OracleMap, kind: str, arguments: dict[str, Any]) -> None:
        self.map = map_
        self.kind = kind
        self.arguments = arguments if kind == "range" else {}
        self.iterators: dict[str, Iterator[Any]] = {}
        self.delivered: dict[str, list[str]] = {}
        self.was_there = {item.key: {str(seen(item))} for item in map_.range(**self.arguments)}
        self.always_there = set(self.was_there)

    def begin(self, player: Player) -> None:
        map_ = player.map(self.map)
        begin = {
            "range": lambda: map_.range(**self.arguments),
            "iter": lambda: iter(map_),
            "keys": lambda: iter(map_.keys()),
            "values": lambda: iter(map_.values()),
            "items": lambda: iter(map_.items()),
        }
        self.iterators[player.name] = begin[self.kind]()
        self.delivered[player.name] = []

    def look(self) -> None:
        """After each step: what is there now."""
        try:
            items = list(self.map.range(**self.arguments))
        except MapNotFound:
            items = []
        self.always_there &= {item.key for item in items}
        for item in items:
            self.was_there.setdefault(item.key, set()).add(str(seen(item)))

    def advance(self, player: str, is_dead: bool) -> None:
        delivered = self.delivered[player]
        try:
            step = next(self.iterators[player])
        except StopIteration:
            assert self.always_there <= set(delivered), "left out what was there all the time"
            del self.iterators[player]
            return
        except MapNotFound:
            assert is_dead
            del self.iterators[player]
            return
        assert not is_dead, "a walk went on in a dead map"
        item = step if isinstance(step, MapItem) else step[1] if isinstance(step, tuple) else None
        key = step if isinstance(step, str) else step[0] if isinstance(step, tuple) else step.key
        if delivered:
            assert (key < delivered[-1]) if self.arguments.get("order") == "desc" else (key > delivered[-1])
        assert key in self.was_there
        if item is not None:
            assert item.key == key
            assert str(seen(item)) in self.was_there[key]
        delivered.append(key)


def keys_of(items: Iterable[MapItem]) -> list[str]:
    return [item.key for item in items]


def seen(value: Any) -> Any:
    """What can be compared of a result: no sid, no token, and data as text, which tells types and order apart."""
    if isinstance(value, MapItem):
        dates = value.date_created, value.date_updated, value.date_expires
        return value.key, repr(value.data), value.revision, dates, value.created_by
    if isinstance(value, Page):
        tokens = value.next_page_token is not None, value.previous_page_token is not None
        return [seen(item) for item in value.items], tokens
    if isinstance(value, Map | OracleMap):
        dates = value.date_created, value.date_updated, value.date_expires
        return value.name, value.revision, dates, value.created_by, len(value), bool(value)
    if isinstance(value, list):
        return [seen(one) for one in value]
    return type(value).__name__, value


KINDS = {ItemAdded: "added", ItemUpdated: "updated", ItemRemoved: "removed", MapRemoved: "map_removed"}


def seen_event(event: Any, sid: str) -> tuple[Any, ...]:
    """An event of either kind; ``sid`` is the oracle's. What an event does not have is ``None``, as the oracle's is."""
    kind = event.kind if isinstance(event, OracleEvent) else KINDS[type(event)]
    key, item, previous = (getattr(event, name, None) for name in ("key", "item", "previous"))
    following = event.next_revision if kind != "map_removed" else None
    looks = kind, sid, event.map_name, event.revision, following, event.date, key, seen(item), seen(previous)
    for one in (item, previous):
        if one is not None and not isinstance(event, OracleEvent):
            scribble(one.data)  # D4: it is the listener's own
    return *looks, getattr(event, "expired", False)


def seen_error(error: Exception) -> Any:
    """The type of an error and the fields that say what to do next (X)."""
    names = ["status", "code", "key", "revision", "expected", "actual", "path", "limit", "oldest"]
    if getattr(error, "code", None) in (54300, 54301):
        names.append("name")  # of a handle's error it is a sid
    fields: dict[str, Any] = {name: getattr(error, name, None) for name in names}
    if isinstance(error, DataTooLarge):
        fields["size"] = min(error.size, 10 * error.limit)  # D3: counting may stop there
    return type(error).__name__, fields


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
def lent(data: Any) -> Iterator[Any]:
    """A copy of the data to pass, spoilt as soon as the call is over (D4)."""
    copy = deepcopy(data)
    try:
        yield copy
    finally:
        scribble(copy)


BAD_DATA: tuple[Any, ...] = (
    None,
    [],
    "{}",
    {"a": [0, b""]},
    {"a b": float("nan")},
    {"": {1: 1}},
    {"é": [{"x": ()}]},
    {"n": 2**64},
    {"large": "x" * 16_384},
)

LISTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"order": "desc"},
    {"from_": "a"},
    {"from_": "a", "bounds": "exclusive"},
    {"from_": "b/", "order": "desc"},
    {"from_": "b/a", "order": "desc", "bounds": "exclusive"},
    {"prefix": "a"},
    {"prefix": "a", "order": "desc", "from_": "ab"},
)

BAD_LISTINGS: tuple[dict[str, Any], ...] = (
    {"from_": "\ud800"},
    {"from_": 1},
    {"prefix": "a\udfff"},
    {"prefix": b"a"},
    {"order": "up"},
    {"order": None},
    {"bounds": "open"},
    {"bounds": 1},
)

keys = st.one_of(*(st.sampled_from(range(5)) for _ in range(5)), some.keys())
"""A number stands for one of the keys that are present when the move begins, so that moves meet."""

short_ttls = st.sampled_from([None, None, None, None, None, 0, 1, 2, 3, 60])
rare_ttls = st.sampled_from([None, None, None, None, None, None, None, 0, 2, 31_536_000])

contents = st.dictionaries(some.keys(), st.tuples(some.small_data(), short_ttls), min_size=2, max_size=5)


class StoreMachine(RuleBasedStateMachine):
    """The moves. The first player is the oracle, and the oracle's handles stand for the maps in the bundles."""

    maps: Bundle[OracleMap] = Bundle("maps")
    revisions: Bundle[str] = Bundle("revisions")
    listings: Bundle[Listing] = Bundle("listings")
    walks: Bundle[Walk] = Bundle("walks")

    conditions = st.one_of(
        st.sampled_from([None, "*"]),
        st.sampled_from([None, CURRENT]),
        st.sampled_from([CURRENT, CURRENT, PADDED]),
        some.revisions(),
        revisions,
    )

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(NOW)
        self.folder = Path(tempfile.mkdtemp(prefix="mapitem-model-"))
        self.files = 0
        self.oracle = Oracle(self.clock)
        self.memory = Player("memory", Store(clock=self.clock))
        self.file = Player("file", Store(self.path, clock=self.clock))
        self.players = [Player("oracle", self.oracle), self.memory, self.file]
        self.known: list[OracleMap] = []
        self.walking: list[Walk] = []
        self.told = 0
        self.steps = 0
        self.opened = 0
        self.stamps: dict[str, tuple[Any, ...]] = {}
        self.order_of_maps_is_free = False
        self.memory.listen()
        self.file.listen()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.files}.mapitem"

    def teardown(self) -> None:
        for player in (self.memory, self.file):
            player.store.close()
        shutil.rmtree(self.folder)

    # ------------------------------------------------------------ how a move is made

    def agree(self, move: Callable[[Player], Any]) -> dict[str, Any]:
        """Makes the move on all three from the same instant and compares; returns results that are no errors."""
        instant = self.clock()
        outcomes: dict[str, Any] = {}
        results: dict[str, Any] = {}
        for player in self.players:
            self.clock.set(instant)
            try:
                result = move(player)
                outcomes[player.name] = seen(result)
                results[player.name] = result
            except Gone:
                continue
            except (MapItemError, ValueError, TypeError) as error:
                outcomes[player.name] = seen_error(error)
        for player_name, outcome in outcomes.items():
            assert outcome == outcomes["oracle"], player_name
        for result in results.values():
            for item in result if isinstance(result, list) else [result]:
                if isinstance(item, MapItem):
                    scribble(item.data)
        return results

    def write(self, move: Callable[[Player], Any]) -> Any:
        """A move that writes an item; returns what goes into the bundle of revisions."""
        result = self.agree(move).get("oracle")
        return result.revision if isinstance(result, MapItem) else multiple()

    def is_dead(self, map_: OracleMap) -> bool:
        try:
            return len(map_) < 0
        except MapNotFound:
            return True

    def rather_live(self, map_: OracleMap) -> OracleMap:
        """The fullest live map in the place of a dead one, or a new one, for else most moves would soon fail."""
        live = [known for known in self.known if not self.is_dead(known)]
        if not live:
            return self.fill(self.adopt(lambda player: player.store.map("m")), {"a": ({}, None), "ab": ({}, 1)})
        return map_ if map_ in live else max(live, key=len)

    def key(self, map_: OracleMap, key: int | str) -> str:
        if isinstance(key, str):
            return key
        with suppress(MapNotFound):
            present = list(map_)
            return present[key % len(present)] if present else "a"
        return "a"

    def target(self, map_: OracleMap, key: int | str) -> tuple[OracleMap, str]:
        map_ = self.rather_live(map_)
        return map_, self.key(map_, key)

    def condition(self, map_: OracleMap, key: Any, if_match: Any) -> Any:
        if if_match not in (CURRENT, PADDED):
            return if_match
        with suppress(MapItemError):
            revision = map_[key].revision
            return revision if if_match == CURRENT else f"0{revision}"
        return "0"

    # ------------------------------------------------------------ maps

    @initialize(target=maps, items=contents)
    def begin(self, items: dict[str, tuple[Any, Any]]) -> Any:
        return self.fill(self.adopt(lambda player: player.store.map("m")), items)

    def fill(self, map_: OracleMap, items: dict[str, tuple[Any, Any]]) -> OracleMap:
        self.agree(lambda player: [player.map(map_).set(key, data, ttl=ttl) for key, (data, ttl) in items.items()])
        return map_

    def adopt(self, move: Callable[[Player], Any]) -> Any:
        """A move that yields a handle; returns what goes into the bundle of maps."""
        results = self.agree(move)
        if "oracle" not in results:
            return multiple()
        opened: OracleMap = results["oracle"]
        for player in self.players:
            known = player.handles.setdefault(opened.sid, results[player.name])
            # L1: equal handles, and no others, are handles on the same map.
            assert [handle for handle in player.handles.values() if handle == results[player.name]] == [known]
            assert hash(known) == hash(results[player.name])
            player.sids[known.sid] = opened.sid
        if opened not in self.known:
            self.known.append(opened)
        return opened

    @precondition(lambda self: len(self.known) < 6)
    @rule(target=maps, name=st.sampled_from([*NAMES, None]), must_be_new=st.booleans(), ttl=short_ttls, items=contents)
    def make_map(self, name: str | None, must_be_new: bool, ttl: Any, items: dict[str, tuple[Any, Any]]) -> Any:
        expired = [map_.name for map_ in self.known if map_.sid in self.oracle._states and self.is_dead(map_)]
        name = expired[0] if expired else name
        if name is None or must_be_new:
            map_ = self.adopt(lambda player: player.store.create_map(name, ttl=ttl))
        else:
            map_ = self.adopt(lambda player: player.store.map(name, ttl=ttl))
        return self.fill(map_, items) if isinstance(map_, OracleMap) else map_

    @rule(target=maps, map_=maps, by_sid=st.booleans())
    def find_map(self, map_: OracleMap, by_sid: bool) -> Any:
        if by_sid or map_.name is None:
            return self.adopt(lambda player: player.store.open_map(player.map(map_).sid))
        return self.adopt(lambda player: player.store.open_map(map_.name))

    @rule(map_=maps, ttl=st.sampled_from([0, 1, 2, 3, 60, timedelta(seconds=1), None, -1, 1.0]))
    def set_ttl(self, map_: OracleMap, ttl: Any) -> None:
        self.agree(lambda player: player.map(map_).set_ttl(ttl))

    @rule(map_=maps, really=st.sampled_from([False, False, True]))
    def remove_map(self, map_: OracleMap, really: bool) -> None:
        if really or self.is_dead(map_):
            self.agree(lambda player: player.map(map_).remove_map())

    # ------------------------------------------------------------ items

    @rule(target=revisions, map_=maps, key=some.keys(), data=some.small_data(), ttl=short_ttls, map_ttl=rare_ttls)
    def create(self, map_: OracleMap, key: int | str, data: Any, ttl: Any, map_ttl: Any) -> Any:
        map_, key = self.target(map_, key)

        def move(player: Player) -> Any:
            with lent(data) as passed:
                return player.map(map_).create(key, passed, ttl=ttl, collection_ttl=map_ttl)

        return self.write(move)

    @rule(
        target=revisions,
        map_=maps,
        verb=st.sampled_from(["set", "update"]),
        key=keys,
        data=some.small_data(),
        ttl=some.ttls(),
        map_ttl=rare_ttls,
        if_match=conditions,
    )
    def set_or_update(
        self, map_: OracleMap, verb: str, key: int | str, data: Any, ttl: Any, map_ttl: Any, if_match: Any
    ) -> Any:
        map_, key = self.target(map_, key)
        condition = self.condition(map_, key, if_match)

        def move(player: Player) -> Any:
            write = getattr(player.map(map_), verb)
            with lent(data) as passed:
                return write(key, passed, ttl=ttl, collection_ttl=map_ttl, if_match=condition)

        return self.write(move)

    @rule(map_=maps, keys=st.lists(some.keys(), min_size=2, max_size=6), data=some.small_data(), ttl=short_ttls)
    def set_many(self, map_: OracleMap, keys: list[str], data: Any, ttl: Any) -> None:
        map_ = self.rather_live(map_)
        self.agree(lambda player: [player.map(map_).set(key, data, ttl=ttl) for key in keys])

    @rule(target=revisions, map_=maps, key=keys, if_match=conditions)
    def remove(self, map_: OracleMap, key: int | str, if_match: Any) -> Any:
        map_, key = self.target(map_, key)
        condition = self.condition(map_, key, if_match)
        return self.write(lambda player: player.map(map_).remove(key, if_match=condition))

    @rule(target=revisions, map_=maps, key=keys, ttl=st.sampled_from([2, 1, 0, 60, None]), if_match=conditions)
    def set_item_ttl(self, map_: OracleMap, key: int | str, ttl: Any, if_match: Any) -> Any:
        map_, key = self.target(map_, key)
        condition = self.condition(map_, key, if_match)
        return self.write(lambda player: player.map(map_).set_item_ttl(key, ttl, if_match=condition))

    @rule(
        target=revisions,
        map_=maps,
        key=keys,
        meanwhile=st.lists(
            st.sampled_from(["nothing", "nothing", "set", "update", "remove", "expire", "wait", "end"]), max_size=3
        ),
        answer=st.sampled_from(["add", "add", "add", "new", "none", "spoilt none", "bad", "large", "raise"]),
        ttl=short_ttls,
        map_ttl=rare_ttls,
        max_attempts=st.integers(1, 4),
    )
    def mutate(
        self,
        map_: OracleMap,
        key: int | str,
        meanwhile: list[str],
        answer: str,
        ttl: Any,
        map_ttl: Any,
        max_attempts: int,
    ) -> Any:
        """W4, with somebody else who writes to the same key while the function runs."""
        map_, key = self.target(map_, key)
        calls: dict[str, list[str]] = {}

        def move(player: Player) -> Any:
            target = player.map(map_)
            given = calls.setdefault(player.name, [])

            def fn(data: dict[str, Any]) -> Any:
                given.append(json.dumps(data))
                if len(given) <= len(meanwhile):
                    self.interfere(target, key, meanwhile[len(given) - 1])
                return answered(answer, data)

            return target.mutate(key, fn, ttl=ttl, collection_ttl=map_ttl, max_attempts=max_attempts)

        revision = self.write(move)
        assert all(given == calls["oracle"] for given in calls.values())
        return revision

    def interfere(self, target: Any, key: int | str, how: str) -> None:
        if how in ("set", "update"):
            getattr(target, how)(key, {"by": "another"})
        elif how == "remove":
            with suppress(ItemNotFound):
                target.remove(key)
        elif how == "expire":
            target.set(key, {}, ttl=1)
            self.clock.advance(1)
        elif how == "wait":
            self.clock.advance(1)
        elif how == "end":
            target.remove_map()

    @rule(
        among=st.lists(maps, min_size=1, max_size=2),
        writes=st.lists(
            st.tuples(
                st.sampled_from(["set", "remove", "create", "update", "set_item_ttl"]),
                st.integers(0, 1),
                st.sampled_from([0, 0, 1, "a", "a", "b"]),
                some.small_data(),
                st.sampled_from([None, 0, 1, 2]),
                st.sampled_from([None, None, None, None, CURRENT, "*", PADDED, "1", "2", "3", "4"]),
            ),
            min_size=2,
            max_size=4,
        ),
    )
    def batch(self, among: list[OracleMap], writes: list[tuple[str, int, int | str, Any, Any, Any]]) -> None:
        """W7: all or nothing, in one map or several; a condition may hold only thanks to a write before it."""
        targets = [self.target(among[n % len(among)], key) for _, n, key, _, _, _ in writes]
        conditions = [self.condition(*target, write[-1]) for target, write in zip(targets, writes, strict=True)]

        def move(player: Player) -> Any:
            maps = [player.map(map_) for map_, _ in targets]
            complete = False
            try:
                with player.store.batch() as batch:
                    for number, (verb, _, _, data, ttl, _) in enumerate(writes):
                        key, condition = targets[number][1], conditions[number]
                        add_to_batch(batch, verb, maps[number], key, data, ttl, condition)
                    complete = True
            except MapItemError as error:
                if complete:
                    return [str(seen_error(error)), error.index]
                raise
            return batch.results

        self.agree(move)

    # ------------------------------------------------------------ time

    @rule(seconds=st.sampled_from([1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 5.0, 60.0, -60.0, 4e7, -4e7]))
    def move_clock(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 9), microseconds=st.sampled_from([-1, 0, 0, 1]))
    def land_on_expiry(self, which: int, microseconds: int) -> None:
        """T3: at the very instant of an expiry, to come or past, or right beside it."""
        states = list(self.oracle._states.values())
        instants = {row.expires for state in states for row in state.rows.values()}
        expiries = sorted(instant for instant in instants | {state.expires for state in states} if instant is not None)
        if expiries:
            self.clock.set((expiries[which % len(expiries)] + microseconds) / 1e6)

    # ------------------------------------------------------------ reading

    @rule(map_=maps, key=keys, arguments=some.key_ranges())
    def read(self, map_: OracleMap, key: int | str, arguments: dict[str, Any]) -> None:
        key = self.key(map_, key)
        self.agree(lambda player: player.map(map_)[key])
        self.agree(lambda player: player.map(map_).get(key, "absent"))
        self.agree(lambda player: list(player.map(map_).range(**arguments)))
        self.agree(lambda player: list(reversed(list(player.map(map_).values()))))

    @rule(
        map_=maps, since=st.sampled_from([CURRENT, CURRENT, "0"]) | revisions | some.revisions() | some.bad_revisions()
    )
    def read_feed(self, map_: OracleMap, since: Any) -> None:
        """F1, F2: complete from any token that is served, after restarts and compactions too."""
        if since is CURRENT and not self.is_dead(map_):
            since = map_.revision

        def move(player: Player) -> Any:
            events = list(player.map(map_).changes(since))
            return [str(seen_event(event, map_.sid)) for event in events]

        self.agree(move)

    @rule(target=listings, map_=maps, arguments=st.sampled_from(LISTINGS), page_size=st.sampled_from([1, 1, 2, 3]))
    def open_listing(self, map_: OracleMap, arguments: dict[str, Any], page_size: int) -> Any:
        map_ = self.rather_live(map_)
        pages = self.agree(lambda player: player.map(map_).page(page_size=page_size, **arguments))
        return Listing(map_, pages) if "oracle" in pages else multiple()

    @rule(target=listings, listing=listings, forward=st.booleans(), page_size=some.page_sizes())
    def turn_page(self, listing: Listing, forward: bool, page_size: int) -> Any:
        tokens = listing.forward if forward or listing.backward["oracle"] is None else listing.backward
        if tokens["oracle"] is None:
            return multiple()

        def move(player: Player) -> Any:
            if player.name not in tokens:
                raise Gone
            return player.map(listing.map).page(page_size=page_size, page_token=tokens[player.name])

        pages = self.agree(move)
        return Listing(listing.map, pages) if "oracle" in pages else multiple()

    @precondition(lambda self: len(self.walking) < 3)
    @rule(
        target=walks,
        map_=maps,
        kind=st.sampled_from(["range", "range", "iter", "keys", "values", "items"]),
        arguments=st.sampled_from(LISTINGS),
    )
    def begin_walk(self, map_: OracleMap, kind: str, arguments: dict[str, Any]) -> Any:
        map_ = self.rather_live(map_)
        if self.is_dead(map_):
            return multiple()
        walk = Walk(map_, kind, arguments)
        for player in (self.memory, self.file):
            walk.begin(player)
        self.walking.append(walk)
        return walk

    @rule(walk=walks, steps=st.integers(1, 4))
    def advance_walk(self, walk: Walk, steps: int) -> None:
        for player in list(walk.iterators):
            for _ in range(steps):
                if player in walk.iterators:
                    walk.advance(player, self.is_dead(walk.map))

    # ------------------------------------------------------------ what is refused

    @rule(
        map_=maps,
        verb=st.sampled_from(["create", "set", "update", "remove", "set_item_ttl", "mutate"]),
        key=some.keys() | some.bad_keys(),
        data=some.small_data() | st.sampled_from(BAD_DATA),
        ttl=st.just(5) | some.bad_ttls(),
        map_ttl=st.none() | some.bad_ttls(),
        if_match=conditions | some.bad_revisions(),
    )
    def write_badly(
        self, map_: OracleMap, verb: str, key: Any, data: Any, ttl: Any, map_ttl: Any, if_match: Any
    ) -> None:
        """C2: of several things that are wrong, the same one is told; on a dead map too."""
        condition = self.condition(map_, key, if_match)

        def move(player: Player) -> Any:
            target = player.map(map_)
            if verb == "create":
                return target.create(key, data, ttl=ttl, collection_ttl=map_ttl)
            if verb == "mutate":
                return target.mutate(key, lambda data: None, ttl=ttl, collection_ttl=map_ttl)
            if verb == "remove":
                return target.remove(key, if_match=condition)
            if verb == "set_item_ttl":
                return target.set_item_ttl(key, ttl, if_match=condition)
            return getattr(target, verb)(key, data, ttl=ttl, collection_ttl=map_ttl, if_match=condition)

        self.agree(move)

    @rule(
        map_=maps,
        key=some.bad_keys(),
        arguments=st.sampled_from(BAD_LISTINGS),
        page_size=st.sampled_from([0, -1, 1001, 1.0, "1", None]),
        limit=st.sampled_from([-1, 1.0, "1"]),
        token=st.sampled_from(["", "a", "é", 5, b"a"]),
        name=st.sampled_from(BAD_NAMES),
        ttl=some.bad_ttls(),
    )
    def ask_badly(
        self,
        map_: OracleMap,
        key: Any,
        arguments: dict[str, Any],
        page_size: Any,
        limit: Any,
        token: Any,
        name: Any,
        ttl: Any,
    ) -> None:
        """L1, L2, L4, K5: reads raise at the call, whether the map lives or not."""
        self.agree(lambda player: player.map(map_)[key])
        self.agree(lambda player: player.map(map_).get(key))
        self.agree(lambda player: key in player.map(map_))
        self.agree(lambda player: player.map(map_).range(**arguments) is None)
        self.agree(lambda player: player.map(map_).range(limit=limit) is None)
        self.agree(lambda player: player.map(map_).page(**arguments))
        self.agree(lambda player: player.map(map_).page(page_size=page_size))
        self.agree(lambda player: player.map(map_).page(page_token=token))
        self.agree(lambda player: player.store.map(name))
        self.agree(lambda player: player.store.map("m", ttl=ttl))
        self.agree(lambda player: player.store.create_map("m", ttl=ttl))
        self.agree(lambda player: player.store.open_map(name))

    @rule(
        map_=maps,
        listing=listings,
        arguments=st.sampled_from([{}, {"from_": "a"}, {"order": "desc"}, {"bounds": "exclusive"}, {"prefix": ""}]),
    )
    def turn_page_badly(self, map_: OracleMap, listing: Listing, arguments: dict[str, Any]) -> None:
        """L4: with arguments that the token carries, or in another map."""
        if listing.forward["oracle"] is None or (map_ == listing.map and not arguments):
            return

        def move(player: Player) -> Any:
            if player.name not in listing.forward:
                raise Gone
            return player.map(map_).page(page_token=listing.forward[player.name], **arguments)

        self.agree(move)

    # ------------------------------------------------------------ the end and after

    @rule(map_=maps, how=st.sampled_from(["purge map", "purge", "purge", "compact", "close", "crash"]))
    def maintain(self, map_: OracleMap, how: str) -> None:
        """A crash leaves the file as it lies there: the store goes on with a copy of it."""
        if how == "purge map":
            self.agree(lambda player: player.map(map_).purge())
        elif how == "purge":
            self.agree(lambda player: player.store.purge())
            self.order_of_maps_is_free = True
        elif how == "compact":
            self.agree(lambda player: player.store.compact())
            self.order_of_maps_is_free = True
        elif how == "close":
            self.file.store.close()
            self.open_file()
        else:
            left, forgotten = self.path, self.file.store
            self.files += 1
            shutil.copyfile(left, self.path)
            self.open_file()
            forgotten.close()

    def open_file(self) -> None:
        sids = {known: handle.sid for known, handle in self.file.handles.items()}
        self.file.store = Store(self.path, clock=self.clock)
        self.file.listen()
        self.opened += 1
        # Long ago every map was live that was not dropped since: all of them are found again by their sids.
        instant = self.clock()
        self.clock.set(LONG_AGO)
        self.file.handles = {}
        for known, sid in sids.items():
            if known in self.oracle._states:
                self.file.handles[known] = self.file.store.open_map(sid)
            else:
                with pytest.raises(MapNotFound):
                    self.file.store.open_map(sid)
        self.clock.set(instant)
        for walk in self.walking:
            walk.iterators.pop("file", None)

    # ------------------------------------------------------------ what can be seen

    @invariant()
    def nothing_differs(self) -> None:
        self.steps += 1
        for map_ in self.known:
            stamp = self.stamp(map_)
            if self.stamps.get(map_.sid) != stamp or self.steps % 5 == 0:
                self.stamps[map_.sid] = stamp
                self.agree(partial(whole, map_))
        live = [map_ for map_ in self.known if not self.is_dead(map_)]
        names = sorted((map_.name is None, map_.name or "") for map_ in live)
        for player in self.players:
            shown = list(player.store.maps())
            assert [(map_.name is None, map_.name or "") for map_ in shown] == names
            assert set(shown) == {player.map(map_) for map_ in live}
        for walk in self.walking:
            walk.look()

    def stamp(self, map_: OracleMap) -> tuple[Any, ...]:
        """As long as it stays the same, the map must too: it is then looked at only now and then, to save time."""
        state = self.oracle._states.get(map_.sid)
        return (len(state.events), state.expires, self.clock(), self.opened) if state else ()

    @invariant()
    def all_events_are_told(self) -> None:
        """E1, E2: what the step made, in the order of the writes; of a purge, map by map."""
        told = [seen_event(event, event.map_sid) for event in self.oracle.events[self.told :]]
        self.told = len(self.oracle.events)
        for player in (self.memory, self.file):
            heard = player.heard()
            if self.order_of_maps_is_free:
                heard, told = (sorted(events, key=lambda event: str(event[1])) for events in (heard, told))
            assert heard == told, player.name
        self.order_of_maps_is_free = False


def whole(of: OracleMap, player: Player) -> list[Any]:
    """All that can be seen of a map, and that all ways of looking at it show the same."""
    map_ = player.map(of)
    items = list(map_.range())
    keys = keys_of(items)
    if map_ is not of:
        assert [map_[key] for key in keys] == items
        assert list(map_) == keys
        assert [key for key in some.COMMON_KEYS if key in map_] == [key for key in some.COMMON_KEYS if key in keys]
    return [seen(map_), [seen(item) for item in items]]


def add_to_batch(batch: Any, verb: str, map_: Any, key: str, data: Any, ttl: Any, condition: Any) -> None:
    if verb == "remove":
        batch.remove(map_, key, if_match=condition)
    elif verb == "set_item_ttl":
        batch.set_item_ttl(map_, key, ttl or 0, if_match=condition)
    else:
        options = {} if verb == "create" else {"if_match": condition}
        with lent(data) as passed:
            getattr(batch, verb)(map_, key, passed, ttl=ttl, **options)


def answered(answer: str, data: dict[str, Any]) -> Any:
    """What a function given to ``mutate`` returns for the data it was given."""
    if answer == "add":
        data["n"] = data.get("n", 0) + 1
        return data
    if answer == "spoilt none":
        scribble(data)
    if answer == "raise":
        raise ValueError("from within")
    return {"new": {"new": 1.0}, "bad": {"x": [float("nan")]}, "large": {"x": "x" * 16_384}}.get(answer)


EXAMPLES = settings().max_examples
ROUND = 2_500
"""Hypothesis keeps in memory what it tried, half a megabyte an example: a campaign goes in rounds of so many."""


class TestModel:
    @pytest.mark.parametrize("start", range(0, EXAMPLES, ROUND))
    def test_do_as_the_oracle_does(self, start: int, request: pytest.FixtureRequest) -> None:
        """All rules at once: the real stores do what the oracle does."""
        machine = type("StoreMachine", (StoreMachine,), {})
        chosen = request.config.getoption("--hypothesis-seed", default=None)
        if chosen is not None:
            machine = seed(f"{chosen} from {start}")(machine)  # or each round would be the same
        # Few steps, so that many beginnings are tried: most of what can go wrong takes a handful of moves.
        examples = settings(max_examples=min(ROUND, EXAMPLES - start), stateful_step_count=30)
        run_state_machine_as_test(machine, settings=examples)


# ------------------------------------------------------------ properties of single rules

# The machine gets all the examples of the profile; each of these is about one rule and soon has seen what there is.
fewer = settings(max_examples=max(50, EXAMPLES // 10))


@st.composite
def keys_and_listing(draw: st.DrawFn) -> tuple[list[str], dict[str, Any]]:
    """Keys from the whole of Unicode, and arguments of a listing that fall on them, beside them or anywhere."""
    keys: list[str] = draw(st.lists(some.keys() | some.texts(min_size=1, max_size=3), max_size=12, unique=True))
    arguments: dict[str, Any] = draw(some.key_ranges())
    for name in draw(st.sampled_from([(), ("from_",), ("prefix",), ("from_", "prefix")])) if keys else ():
        key = draw(st.sampled_from(keys))
        arguments[name] = draw(st.sampled_from([key, key[:1], key[:-1], key + "\0", key + "\U0010ffff"]))
    return keys, arguments


def listed(keys: list[str], arguments: dict[str, Any]) -> list[str]:
    """L2 and K4 in UTF-8, whose order is that of code points."""
    backwards = arguments.get("order") == "desc"
    found = sorted((key.encode() for key in keys), reverse=backwards)
    prefix, limit = arguments.get("prefix", "").encode(), arguments.get("limit")
    found = [key for key in found if key.startswith(prefix)]
    if "from_" in arguments:
        place = arguments["from_"].encode()
        found = [key for key in found if (key <= place if backwards else key >= place)]
        found = [key for key in found if key != place or arguments.get("bounds") != "exclusive"]
    return [key.decode() for key in found[:limit]]


@fewer
@given(keys_and_listing())
def test_list_range_of_any_keys(keys_and_arguments: tuple[list[str], dict[str, Any]]) -> None:
    """K4, L2: a range is what filtering and sorting all keys would give."""
    keys, arguments = keys_and_arguments
    map_ = Store().map("m")
    for key in keys:
        map_.set(key, {})
    assert list(map_) == listed(keys, {})
    for order, bounds in product(["asc", "desc"], ["inclusive", "exclusive"]):
        arguments |= {"order": order, "bounds": bounds}
        assert keys_of(map_.range(**arguments)) == listed(keys, arguments)


@fewer
@given(keys_and_listing(), st.integers(1, 5))
def test_turn_pages_of_any_keys(keys_and_arguments: tuple[list[str], dict[str, Any]], page_size: int) -> None:
    """L4, L5: the pages are the range, cut; none is short but the last, and the way back ends where it began."""
    keys, arguments = keys_and_arguments
    arguments.pop("limit", None)
    map_ = Store().map("m")
    for key in keys:
        map_.set(key, {})
    expected = listed(keys, arguments)
    pages = [map_.page(page_size=page_size, **arguments)]
    while pages[-1].next_page_token is not None:
        pages.append(map_.page(page_size=page_size, page_token=pages[-1].next_page_token))
    cut = [expected[start : start + page_size] for start in range(0, len(expected), page_size)]
    assert [keys_of(page.items) for page in pages] == (cut or [[]])
    back = pages[-1:]
    while back[-1].previous_page_token is not None:
        back.append(map_.page(page_size=page_size, page_token=back[-1].previous_page_token))
    assert [page.items for page in reversed(back)] == [page.items for page in pages]


@fewer
@given(
    st.sampled_from(["asc", "desc"]),
    st.lists(
        st.tuples(
            st.sampled_from(["nothing", "add", "remove from", "remove to"]),
            st.integers(1, 8),
            st.sampled_from(["forward", "back"]),
            st.integers(1, 3),
        ),
        min_size=2,
        max_size=8,
    ),
)
def test_turn_pages_to_and_fro(order: Literal["asc", "desc"], moves: list[tuple[str, int, str, int]]) -> None:
    """L4: whatever is written between two pages, the next has the items and the neighbours that it should have."""
    clock = ManualClock(NOW)
    maps: list[Any] = [Store(clock=clock).map("m"), Oracle(clock).map("m")]
    for map_, key in product(maps, "12345678"):
        map_.set(key, {})
    pages = [map_.page(page_size=2, from_="7" if order == "desc" else "2", order=order) for map_ in maps]
    for write, number, turn, size in moves:
        for place, map_ in enumerate(maps):
            if write == "add":
                map_.set(str(number), {})
            for key in list(map_):
                if (write == "remove from" and int(key) >= number) or (write == "remove to" and int(key) <= number):
                    map_.remove(key)
            token = pages[place].next_page_token if turn == "forward" else pages[place].previous_page_token
            if token is not None:
                pages[place] = map_.page(page_size=size, page_token=token)
        assert seen(pages[0]) == seen(pages[1])


SIZES = st.sampled_from([0, 1, 31, 32, 33, 64, 290, 600])
"""How many items a walk has before it: around the sizes of the chunks in which a store may look."""

MEANWHILE = st.lists(
    st.tuples(st.sampled_from(["step", "step", "remove", "add", "wait"]), st.integers(0, 99), st.integers(1, 300)),
    max_size=8,
)
"""Moves: what, from where on (in hundredths of the map), and how much of it."""

# How a walk is begun, and the key of what it delivers.
WALKS: dict[str, tuple[Callable[[Map], Iterator[Any]], Callable[[Any], str]]] = {
    "up": (lambda map_: map_.range(), lambda item: str(item.key)),
    "down": (lambda map_: map_.range(order="desc"), lambda item: str(item.key)),
    "iter": (iter, str),
    "reversed": (reversed, str),
    "keys": (lambda map_: iter(map_.keys()), str),
    "values": (lambda map_: iter(map_.values()), lambda item: str(item.key)),
    "items": (lambda map_: iter(map_.items()), lambda pair: str(pair[0])),
}


def numbered_map(size: int, clock: ManualClock) -> Map:
    """Keys 0000, 0002, 0004 …, every seventh of them for one second only."""
    map_ = Store(clock=clock).map("m")
    for number in range(size):
        map_.set(f"{2 * number:04}", {}, ttl=1 if number % 7 == 3 else None)
    return map_


def happen(move: str, start: int, count: int, size: int, map_: Map, clock: ManualClock) -> None:
    """A move of ``MEANWHILE`` but for the step of the walk itself."""
    if move == "wait":
        clock.advance(1)
    start = 2 * size * start // 100
    for number in range(start, start + count):
        if move == "add":
            map_.set(f"{number:04}", {})
        elif move == "remove":
            with suppress(ItemNotFound):
                map_.remove(f"{number:04}")


@pytest.mark.parametrize("walk_of", list(WALKS))
@fewer
@given(size=SIZES, moves=MEANWHILE)
def test_walk_while_written(walk_of: str, size: int, moves: list[tuple[str, int, int]]) -> None:
    """L3, L5: what is there for the whole walk comes exactly once and in order, however large the map."""
    begin, key_of = WALKS[walk_of]
    clock = ManualClock(NOW)
    map_ = numbered_map(size, clock)
    always_there, walk = set(map_), begin(map_)
    delivered: list[str] = []
    for move, start, count in moves:
        if move == "step":
            delivered += map(key_of, islice(walk, count // 8))
        happen(move, start, count, size, map_, clock)
        always_there &= set(map_)
    delivered += map(key_of, walk)
    assert delivered == sorted(set(delivered), reverse=walk_of in ("down", "reversed"))
    assert always_there <= set(delivered)


@pytest.mark.parametrize("end", ["removed", "expired"])
@pytest.mark.parametrize("walk_of", list(WALKS))
def test_walk_on_when_map_is_gone(walk_of: str, end: str) -> None:
    """S2: the walk raises at its next step, though it may have looked ahead."""
    clock = ManualClock(NOW)
    map_ = numbered_map(50, clock)
    walk = WALKS[walk_of][0](map_)
    next(walk)
    if end == "removed":
        map_.remove_map()
    else:
        map_.set_ttl(1)
        clock.advance(1)
    with pytest.raises(MapNotFound):
        next(walk)


@fewer
@given(SIZES, st.sampled_from(["asc", "desc"]), MEANWHILE)
def test_turn_pages_while_written(size: int, order: Literal["asc", "desc"], moves: list[tuple[str, int, int]]) -> None:
    """L3, L4: across pages too, whatever their sizes."""
    clock = ManualClock(NOW)
    map_ = numbered_map(size, clock)
    always_there = set(map_)
    page = map_.page(page_size=7, order=order)
    delivered = keys_of(page.items)
    for move, start, count in [*moves, ("step", 0, 1000), ("step", 0, 1000)]:
        if move == "step" and page.next_page_token is not None:
            page = map_.page(page_size=count, page_token=page.next_page_token)
            delivered += keys_of(page.items)
        happen(move, start, count, size, map_, clock)
        always_there &= set(map_)
    assert delivered == sorted(set(delivered), reverse=order == "desc")
    assert always_there <= set(delivered)


@fewer
@given(st.data(), st.sampled_from(LISTINGS))
def test_refuse_altered_token(data: st.DataObject, arguments: dict[str, Any]) -> None:
    """L4: a token is good for URLs, and no longer good with one character changed, added or left out."""
    map_ = Store().map("m")
    for key in ("a", "aa", "ab", "abc", "b", "b/a", "c\U0010ffff"):
        map_.set(key, {})
    token = map_.page(page_size=1, **arguments).next_page_token
    assert token is not None
    assert re.fullmatch("[A-Za-z0-9_.~-]+", token)
    alphabet = [*ascii_letters, *digits, "-", "_"]
    place = data.draw(st.integers(0, len(token)))
    instead = data.draw(st.sampled_from(["", *alphabet, "=", "é", "\n", "\0", "+", "/", "%"]))
    altered = token[:place] + instead + token[place + data.draw(st.integers(0, 1)) :]
    # The last character is special: some of its bits may carry nothing.
    for bad in {altered, *(token[:-1] + last for last in alphabet)} - {token}:
        with pytest.raises(InvalidPageToken):
            map_.page(page_token=bad)


def test_refuse_token_of_another_map() -> None:
    """L4: foreign is also a token of a map that had the name before."""
    store = Store()
    tokens = []
    for _ in range(2):
        map_ = store.map("m")
        map_.set("a", {})
        map_.set("b", {})
        tokens.append(map_.page(page_size=1).next_page_token)
        if len(tokens) == 1:
            map_.remove_map()
    assert keys_of(map_.page(page_token=tokens[1]).items) == ["b"]
    with pytest.raises(InvalidPageToken):
        map_.page(page_token=tokens[0])


@fewer
@given(st.dictionaries(some.keys(), some.data(), max_size=4))
def test_return_data_as_written(written: dict[str, dict[str, Any]]) -> None:
    """D2: equal, types, sign of zero and order of keys included, at once and from the file."""
    with tempfile.TemporaryDirectory(prefix="mapitem-model-") as folder:
        path = Path(folder, "store.mapitem")
        with Store(path) as store:
            map_ = store.map("m")
            for key, data in written.items():
                assert same(map_.set(key, data).data, data)
                assert same(map_[key].data, data)
        with Store(path) as store:
            map_ = store.open_map("m")
            assert {key: same(item.data, written[key]) for key, item in map_.items()} == dict.fromkeys(written, True)


@fewer
@given(some.data(max_leaves=30), st.integers(-3, 3))
def test_measure_data(data: dict[str, Any], slack: int) -> None:
    """D3: exactly the bytes of compact JSON in UTF-8, whatever the data is made of."""
    size = len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
    limit = max(1, size + slack)
    map_ = Store(limits=Limits(max_data_bytes=limit)).map("m")
    if size <= limit:
        assert same(map_.set("k", data).data, data)
    else:
        with pytest.raises(DataTooLarge) as caught:
            map_.set("k", data)
        assert (caught.value.size, caught.value.limit) == (size, limit)


@pytest.mark.parametrize("excess", [-1, 0, 1, 2])
@fewer
@given(data=st.data())
def test_measure_data_at_default_limit(data: st.DataObject, excess: int) -> None:
    """D3, D5: 16 384 bytes fit, and not one more, in any alphabet."""
    written = data.draw(some.data_of_size(16_384 + excess))
    map_ = Store().map("m")
    if excess <= 0:
        assert map_.set("k", written).data == written
    else:
        with pytest.raises(DataTooLarge) as caught:
            map_.set("k", written)
        assert (caught.value.size, caught.value.limit) == (16_384 + excess, 16_384)


@fewer
@given(some.bad_data())
def test_name_place_of_bad_data(data_and_path: tuple[Any, str]) -> None:
    """D1: whatever is wrong and wherever, ``InvalidData`` names the place, and nothing is stored."""
    data, path = data_and_path
    map_ = Store().map("m")
    with pytest.raises(InvalidData) as caught:
        map_.set("k", data)
    assert caught.value.path == path
    assert map_.revision == "0"

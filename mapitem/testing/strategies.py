"""Hypothesis strategies: what goes into a store, what comes out of one, and whole operations.

For tests of mapitem, of other stores and of programs that use one; needs the ``hypothesis`` package, and no room that
does without it imports this one. Those named ``bad_…`` make what every store must refuse; all others make only what
every store with the default limits must take, or could return. They shrink towards short keys, small data, no options.

``st.from_type`` knows ``MapItem``, ``Page``, ``Limits``, ``Map`` and the events: importing ``hypothesis`` is enough.
"""

from __future__ import annotations

import datetime
from copy import deepcopy
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mapitem import (
    Event,
    ItemAdded,
    ItemRemoved,
    ItemUpdated,
    Limits,
    Map,
    MapItem,
    MapRemoved,
    Page,
    Store,
)
from mapitem.testing.clock import ManualClock
from mapitem.testing.json_data import (
    SIZE_LIMIT,
    bad_data,
    bad_edge_data,
    data,
    data_of_size,
    edge_data,
    scalars,
    small_data,
    texts,
    values,
)

__all__ = [
    "COMMON_KEYS",
    "LONGEST_KEY",
    "LONGEST_TTL",
    "NASTY_KEYS",
    "SIZE_LIMIT",
    "Operation",
    "bad_data",
    "bad_edge_data",
    "bad_keys",
    "bad_names",
    "bad_page_sizes",
    "bad_revisions",
    "bad_ttls",
    "data",
    "data_of_size",
    "edge_data",
    "events",
    "instants",
    "items",
    "key_ranges",
    "keys",
    "limits",
    "maps",
    "names",
    "operations",
    "page_sizes",
    "pages",
    "reads",
    "revisions",
    "scalars",
    "sids",
    "small_data",
    "texts",
    "ttls",
    "values",
    "writes",
]

LONGEST_KEY = 320
LONGEST_TTL = 31_536_000

COMMON_KEYS = ("a", "b", "c", "ab", "abc", "b/a")
"""Few enough for writes to meet on the same key; some are prefixes of others."""

NASTY_KEYS = (
    "/",
    "..",
    "../m",
    ".",
    "?a=b",
    "#a",
    "%2F",
    "%00",
    " ",
    " a",
    "a\n",
    "\0",
    "a\0",
    "a\0b",
    "é",  # composed, and decomposed below: two keys (K3)
    "e\u0301",
    "ß",
    "SS",
    "\ud7ff",
    "\ue000",
    "\uffff",  # below the astral ones by code point, above them by UTF-16 (K4)
    "\U00010000",
    "\U0001f600",
    "\U0010ffff",
    "a\U0010ffff",
    "a\U0010ffffb",
    "k" * LONGEST_KEY,
    "k" * (LONGEST_KEY - 1) + "l",
    "\U0001f600" * LONGEST_KEY,
    "MP00000000000000000000000000000000",  # a good key, though no good name
    "__proto__",
)


def keys() -> SearchStrategy[str]:
    """Good keys (semantics K1–K4): mostly ``COMMON_KEYS``, then ``NASTY_KEYS``, then anything."""
    common, nasty = st.sampled_from(COMMON_KEYS), st.sampled_from([*COMMON_KEYS, *NASTY_KEYS])
    return st.one_of(common, st.sampled_from(COMMON_KEYS), nasty, texts(min_size=1, max_size=8))


def bad_keys() -> SearchStrategy[Any]:
    """What is no key (semantics K1, K2), of any type."""
    too_long = ["k" * (LONGEST_KEY + 1), "\U0001f600" * (LONGEST_KEY + 1)]
    return st.sampled_from(["", *too_long, "\ud800", "a\udfff", None, 0, b"a", ("a",), ["a"]])


def ttls() -> SearchStrategy[int | datetime.timedelta | None]:
    """Good values of ``ttl`` and ``collection_ttl`` (semantics T1), mostly none or short."""
    periods = [datetime.timedelta(seconds=2), datetime.timedelta(0), datetime.timedelta(days=365)]
    return st.sampled_from([None, None, None, None, 0, 1, 1, 2, 3, 60, LONGEST_TTL, *periods])


def bad_ttls() -> SearchStrategy[Any]:
    """What is no ``ttl`` (semantics T1), of any type."""
    return st.sampled_from(
        [
            -1,
            LONGEST_TTL + 1,
            True,
            False,
            1.0,
            "1",
            2**70,
            datetime.timedelta(microseconds=1),
            datetime.timedelta(seconds=-1),
            datetime.timedelta(days=366),
        ]
    )


def key_ranges() -> SearchStrategy[dict[str, Any]]:
    """Keyword arguments of ``Map.range`` and, but for ``limit``, of ``Map.page`` (semantics L2); all optional."""
    places = st.one_of(keys(), keys().map(lambda key: key + "\0"), st.sampled_from(["", "k" * (LONGEST_KEY + 1)]))
    prefixes = st.one_of(st.sampled_from(["", "a", "ab", "b", "k", "\ud7ff", "\U0010ffff"]), keys())
    return st.fixed_dictionaries(
        {},
        optional={
            "from_": places,
            "bounds": st.sampled_from(["inclusive", "exclusive"]),
            "order": st.sampled_from(["asc", "desc"]),
            "prefix": prefixes,
            "limit": st.integers(0, 4),
        },
    )


def page_sizes() -> SearchStrategy[int]:
    """Good page sizes (semantics L4), mostly so small that there are several pages."""
    return st.sampled_from([1, 2, 3, 4, 5, 50, 1000])


def revisions() -> SearchStrategy[str]:
    """Good revisions (semantics C1), low ones that a map soon comes by; ``"00"`` is good and matches none."""
    return st.sampled_from([*(f"{number:x}" for number in range(25)), "00", "f" * 40])


def bad_revisions() -> SearchStrategy[Any]:
    """What is neither a revision nor ``"*"`` (semantics C1), of any type."""
    return st.sampled_from(["", "A", "g", "0x1", "-1", " 1", "1\n", "**", "\u0661", 0, b"0", ["0"]])


def sids() -> SearchStrategy[str]:
    """Sids of maps (semantics K6)."""
    return st.integers(0, 2**128 - 1).map(lambda number: f"MP{number:032x}")


def names() -> SearchStrategy[str]:
    """Good names of maps (semantics K5): keys that do not look like a sid."""
    return keys().filter(lambda name: len(name) != 34 or not name.startswith("MP"))


def bad_names() -> SearchStrategy[Any]:
    """What is no name of a map (semantics K5), of any type: no key, or what looks like a sid."""
    return bad_keys() | st.sampled_from(["MP" + "0" * 32, "ZZ" + "aF" * 16])


def bad_page_sizes() -> SearchStrategy[Any]:
    """What is no page size (semantics L4), of any type."""
    return st.sampled_from([0, -1, 1001, 2**70, True, 1.0, "1", None])


# ---------------------------------------------------------------- what comes out of a store


def instants() -> SearchStrategy[datetime.datetime]:
    """Dates as items and events have them (semantics I2): aware UTC, from 1970 to 2100, to the microsecond."""
    # Two numbers, where st.datetimes would draw seven.
    return st.builds(
        lambda seconds, micros: _EPOCH + datetime.timedelta(seconds=seconds, microseconds=micros),
        st.integers(0, 4_102_444_800),
        st.sampled_from([0, 0, 1, 500_000, 999_999]),
    )


def items(
    keys: SearchStrategy[str] | None = None, data: SearchStrategy[dict[str, Any]] | None = None
) -> SearchStrategy[MapItem]:
    """Items (semantics I) as a store could return them; of keys and data of your own, if you give strategies."""
    return st.builds(
        _item,
        _or(keys, _KEYS),
        small_data() | small_data() | _DATA() if data is None else data,
        st.integers(0, 300),
        instants(),
        st.sampled_from([0, 0, 1, 3600, 10**6]),
        st.sampled_from([None, None, 1, 60, LONGEST_TTL]),
        st.sampled_from(["system", "taylor", "é\U0001f600"]),
    )


def _item(
    key: str, data: dict[str, Any], number: int, created: datetime.datetime, age: int, ttl: int | None, creator: str
) -> MapItem:
    updated = created + age * _SECOND
    return MapItem(
        key=key,
        data=data,
        revision=f"{number:x}",
        date_created=created,
        date_updated=updated,
        date_expires=None if ttl is None else updated + ttl * _SECOND,
        created_by=creator,
    )


def limits() -> SearchStrategy[Limits]:
    """Limits (semantics D5), the service's first."""
    return st.just(Limits()) | st.builds(Limits, st.integers(1, 1000), st.integers(2, 2**20))


def maps(
    keys: SearchStrategy[str] | None = None, data: SearchStrategy[dict[str, Any]] | None = None
) -> SearchStrategy[Map]:
    """Maps in memory, named ``"m"``, of none to some items that never expire, each map in a store of its own."""
    return st.dictionaries(_or(keys, _KEYS), _or(data, _SMALL), max_size=8).map(_map_of)


def _map_of(contents: dict[str, dict[str, Any]]) -> Map:
    map_ = Store(clock=ManualClock(now=1_700_000_000.0)).map("m")
    for key, value in contents.items():
        map_.set(key, value)
    return map_


def pages() -> SearchStrategy[Page]:
    """Pages (semantics L4) as a store returns them, from anywhere in a listing; their tokens lead to maps gone by."""
    whole: dict[str, Any] = {}
    listings = st.just(whole) | key_ranges().map(_without_limit)
    return st.builds(_page, maps(), st.sampled_from([1, 1, 2, 3, 50]), listings, st.integers(0, 3))


def _page(map_: Map, size: int, listing: dict[str, Any], turns: int) -> Page:
    page = map_.page(page_size=size, **listing)
    for _ in range(turns):
        if page.next_page_token is not None:
            page = map_.page(page_size=size, page_token=page.next_page_token)
    return page


def events(kind: type[Event] = Event) -> SearchStrategy[Event]:
    """Events (semantics E1) of this kind, or of all four. What has a ``previous`` may lack it, as in a feed."""
    if kind is Event:
        return st.one_of(*(events(each) for each in (ItemAdded, ItemUpdated, ItemRemoved, MapRemoved)))
    names = st.sampled_from([None, "m", "a/../b", "\U0001f600"])
    return st.builds(_event, st.just(kind), items(), st.none() | small_data(), st.booleans(), sids(), names)


def _event(
    kind: type[Event], item: MapItem, before: dict[str, Any] | None, expired: bool, sid: str, name: str | None
) -> Event:
    where: dict[str, Any] = {
        "map_sid": sid,
        "map_name": name,
        "revision": item.revision,
        "date": item.date_updated,
    }
    if kind is ItemAdded:
        return ItemAdded(item.key, item, **where)
    if kind is MapRemoved:
        return MapRemoved(expired, **where)
    older = None if before is None else _item(item.key, before, 0, item.date_created, 0, None, item.created_by)
    if kind is ItemUpdated:
        return ItemUpdated(item.key, item, older, **where)
    return ItemRemoved(item.key, older, expired, **where)


def for_type(thing: object) -> SearchStrategy[Any] | None:
    """What ``st.from_type`` gives for one of the library's own types, or ``None`` if it has to look for itself."""
    for kind, strategy in ((MapItem, items), (Page, pages), (Limits, limits), (Map, maps)):
        if thing is kind:
            return strategy()
    if isinstance(thing, type) and issubclass(thing, Event):
        return events(thing)
    return None


# ---------------------------------------------------------------- whole operations


class Operation(NamedTuple):
    """One call of a verb or a read of ``Map``: call it with a map, of whatever implementation, to make the call.

    The arguments are copied for each call, so that no store can keep what it was given and the next would get.

    >>> from mapitem import Store
    >>> Operation("set", ("a", {"x": 1}), {"ttl": 60})(Store().map("m")).data
    {'x': 1}
    """

    verb: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012  # the default of a tuple's field, which nobody changes

    def __call__(self, map: Any) -> Any:
        """What the map answers; a range is walked to its end and given as a list. Raises what the map raises."""
        args, kwargs = deepcopy((self.args, self.kwargs))
        if self.verb == "mutate":
            args = (args[0], _merging(args[1]))
        result = getattr(map, self.verb)(*args, **kwargs)
        return list(result) if self.verb == "range" else result

    def __str__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.verb}({', '.join(arguments)})"


def writes(
    keys: SearchStrategy[str] | None = None,
    data: SearchStrategy[dict[str, Any]] | None = None,
    ttls: SearchStrategy[Any] | None = None,
    revisions: SearchStrategy[str] | None = None,
) -> SearchStrategy[Operation]:
    """Writes to one map (semantics W1–W6), by every verb and with every option, of arguments that are good.

    Strategies that you give take the place of those of the same name here. A ``mutate`` merges its data into what is
    there. Whether a write succeeds depends on the map: low revisions and common keys meet often.
    """
    some_keys, some_data, some_ttls = _or(keys, _KEYS), _or(data, _SMALL), _or(ttls, _TTLS)
    timed = {"ttl": some_ttls, "collection_ttl": st.sampled_from([None, None, None, 0, 60, LONGEST_TTL])}
    conditional = {"if_match": st.sampled_from([None, "*"]) | _or(revisions, _REVISIONS)}
    given = st.tuples(some_keys, some_data)
    return st.one_of(
        _calls("set", given, timed | conditional),
        _calls("set", given, {}),
        _calls("update", given, timed | conditional),
        _calls("create", given, timed),
        _calls("mutate", given, timed),
        _calls("remove", st.tuples(some_keys), conditional),
        _calls("set_item_ttl", st.tuples(some_keys, some_ttls.map(lambda ttl: ttl or 0)), conditional),
        _calls("set_ttl", st.tuples(st.sampled_from([0, LONGEST_TTL])), {}),
        _calls("purge", st.just(()), {}),
    )


def reads(keys: SearchStrategy[str] | None = None) -> SearchStrategy[Operation]:
    """Reads of one map (semantics L), of arguments that are good."""
    some_keys = _or(keys, _KEYS)
    ranges = key_ranges()
    pages = ranges.map(_without_limit)
    return st.one_of(
        _calls("get", st.tuples(some_keys), {}),
        _calls("__getitem__", st.tuples(some_keys), {}),
        _calls("__contains__", st.tuples(some_keys), {}),
        _calls("__len__", st.just(()), {}),
        ranges.map(lambda listing: Operation("range", (), listing)),
        st.builds(lambda listing, size: Operation("page", (), {**listing, "page_size": size}), pages, page_sizes()),
    )


def operations(
    keys: SearchStrategy[str] | None = None,
    data: SearchStrategy[dict[str, Any]] | None = None,
    ttls: SearchStrategy[Any] | None = None,
    revisions: SearchStrategy[str] | None = None,
) -> SearchStrategy[Operation]:
    """``writes`` and ``reads``, more of the former."""
    some_writes = writes(keys, data, ttls, revisions)
    return some_writes | some_writes | reads(keys)


def _calls(
    verb: str, args: SearchStrategy[tuple[Any, ...]], options: dict[str, SearchStrategy[Any]]
) -> SearchStrategy[Operation]:
    return st.builds(Operation, st.just(verb), args, st.fixed_dictionaries({}, optional=options))


def _without_limit(listing: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in listing.items() if name != "limit"}


def _merging(changes: dict[str, Any]) -> Any:
    return lambda data: data | changes


def _or(given: SearchStrategy[Any] | None, default: Any) -> SearchStrategy[Any]:
    return default() if given is None else given


# Where a parameter hides the strategy that it stands in for.
_KEYS, _DATA, _SMALL, _TTLS, _REVISIONS = keys, data, small_data, ttls, revisions
_SECOND = datetime.timedelta(seconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

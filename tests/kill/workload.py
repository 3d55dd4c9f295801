"""What a killed process was doing: moves that can be made on a store and on the oracle alike, and what both then show.

The moves follow from a seed alone, so that the process that writes and the one that checks draw the same. Nothing here
knows of processes or pipes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from mapitem import HistoryCompacted, MapItem, MapItemError
from mapitem.testing import ManualClock

Move = tuple[Any, ...]

KEYS = [f"k{number:02}" for number in range(30)]


def moves(seed: int, stream: int, alone: bool) -> Iterator[Move]:
    """The moves of one stream, without end. One that is not ``alone`` moves no clock and reopens nothing."""
    random = Random(f"{seed} {stream}")
    maps = [f"s{stream}-a", f"s{stream}-b", f"s{stream}-c"]
    for map_ in maps:
        yield "map", map_
    shared = ["compact", "sync", "backup", "remove_map"]
    rare = [*shared, "reopen", "purge", "set_map_ttl", "advance", "advance", "advance"] if alone else shared
    while True:
        map_ = random.choice(maps)
        if random.random() < 0.03:
            yield "map", map_
        elif random.random() < 0.04:
            yield random.choice(rare), map_, random.randrange(1, 4)
        elif random.random() < 0.15:
            yield "batch", [_write(random, random.choice(maps)) for _ in range(random.randrange(2, 7))]
        else:
            yield _write(random, map_)


def _write(random: Random, map_: str) -> Move:
    verb = random.choice(["set", "set", "set", "create", "update", "remove", "set_item_ttl"])
    # Hot keys and cold ones, small values and now and then a large one.
    key = random.choice(KEYS[:5] if random.random() < 0.5 else KEYS)
    if verb == "remove":
        return verb, map_, key
    ttl = random.choice([None, None, None, 0, 1, 3, 60])
    if verb == "set_item_ttl":
        return verb, map_, key, ttl or 2
    text = random.choice("abcdefgh") * random.choice([1, 10, 100, 100, 300, 300, 3000])
    return verb, map_, key, {"n": random.randrange(1000), "text": text}, ttl


def play(move: Move, store: Any, clock: ManualClock, special: Callable[[Move], None]) -> str:
    """Make the move, which is one atomic step; what came of it. ``special`` makes those that need a store on file."""
    verb, *rest = move
    try:
        if verb == "batch":
            with store.batch() as batch:
                for each, name, *arguments in rest[0]:
                    _call(batch, each, [store.open_map(name), *arguments])
            return " ".join(item.revision for item in batch.results)
        if verb in ("reopen", "sync", "backup"):
            special(move)
        elif verb == "map":
            store.map(rest[0])
        elif verb == "compact":
            store.compact()
        elif verb == "purge":
            return str(store.purge())
        elif verb == "advance":
            clock.advance(rest[1] / 2)
        elif verb == "remove_map":
            store.open_map(rest[0]).remove_map()
        elif verb == "set_map_ttl":
            store.open_map(rest[0]).set_ttl(rest[1] * 2)
        else:
            name, *arguments = rest
            item: MapItem = _call(store.open_map(name), verb, arguments)
            return item.revision
    except MapItemError as error:
        return type(error).__name__
    return "done"


def _call(target: Any, verb: str, arguments: list[Any]) -> Any:
    if verb in ("set", "create", "update"):
        *arguments, ttl = arguments
        return getattr(target, verb)(*arguments, ttl=ttl)
    return getattr(target, verb)(*arguments)


def look(store: Any, prefix: str = "") -> dict[str, Any]:
    """All that can be read of the maps whose names begin so, but for sids; the same of a store and of the oracle."""
    return {
        map_.name: {
            "revision": map_.revision,
            "dates": [str(map_.date_created), str(map_.date_updated), str(map_.date_expires)],
            "created_by": map_.created_by,
            "items": [show(item) for item in map_.range()],
        }
        for map_ in store.maps()
        if map_.name.startswith(prefix)
    }


def show(item: MapItem | None) -> str | None:
    if item is None:
        return None
    dates = [str(item.date_created), str(item.date_updated), str(item.date_expires)]
    return json.dumps([item.key, item.data, item.revision, dates, item.created_by])


def feed(map_: Any) -> tuple[int, list[tuple[Any, ...]]]:
    """The oldest token that the feed serves, as a number, and its events."""
    oldest = "0"
    try:
        events = list(map_.changes(oldest))
    except HistoryCompacted as error:
        oldest = error.oldest
        events = list(map_.changes(oldest))
    shown = [(each.key, each.revision, str(each.date), show(getattr(each, "item", None))) for each in events]
    return int(oldest, 16), shown

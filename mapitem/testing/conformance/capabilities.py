"""What a store under test says it can do. Declared, never detected: a store that lost a feature must fail, not skip.

This room knows the flags and nothing of the checks that ask for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any


def any_key(key: str) -> bool:
    return True


def flag(meaning: str) -> bool:
    """A capability that a store has unless it says otherwise."""
    value: bool = field(default=True, metadata={"meaning": meaning})
    return value


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What the store can do. All of it unless declared otherwise; what is declared away is skipped, by name.

    Not to be had without: ``store.map``, ``store.open_map``, ``map.create``, ``set``, ``remove``, ``get``, ``[]``,
    ``in``, ``len``, iteration, ``range(from_, bounds=, order=)``, and the errors of ``mapitem.errors``.

    >>> Capabilities(batches=False, watch=False).lacks()
    ['batches', 'watch']
    """

    # Time
    clock: bool = flag("time is the clock given to `make_store`, and nothing else")
    backward_clock: bool = flag("that clock may go back: dates never do, and what has expired stays away (I2, T3, T6)")
    item_ttl: bool = flag("`ttl=` on item writes, `date_expires` of items, `map.set_item_ttl`")
    map_ttl: bool = flag("`ttl=` of `store.map`, `map.set_ttl`, `date_expires` of maps")
    collection_ttl: bool = flag("`collection_ttl=` on item writes")
    purge: bool = flag("`map.purge` and `store.purge`")
    expiry_events: bool = flag("what has expired is removed by the next write, each item as a numbered event (T4)")

    # Revisions and dates
    exact_revisions: bool = flag(
        "revisions are the hex numbers of R2, expiries counted (so with `item_ttl` it takes `expiry_events`); "
        "else they are opaque text, to be compared only"
    )
    map_revision: bool = flag("`map.revision` counts the events")
    map_dates: bool = flag("`date_created` and `date_updated` of maps")
    created_by: bool = flag("`created_by` of items and maps")
    identity: bool = flag('`make_store(clock, identity=…)` sets `created_by`, which else is `"system"`')
    frozen_items: bool = flag("items are immutable, equal by value, and have a short `repr` (I1)")

    # Data
    exact_numbers: bool = flag("`1`, `1.0`, `True`, `-0.0` and integers of 64 bits come back as they went in")
    field_order: bool = flag("the order of fields in data is kept")
    exact_types: bool = flag("tuples, subclasses and what else is no JSON is refused, not converted")
    data_paths: bool = flag("`InvalidData.path` names the place")
    exact_size: bool = flag("the limit of data is 16 384 bytes as D3 counts them, to the byte")
    depth_limit: bool = flag("128 levels of data fit, and no more")
    limits: bool = flag("`make_store(clock, limits=Limits(…))` sets the limits")

    # Writes
    update: bool = flag("`map.update`")
    mutate: bool = flag("`map.mutate`")
    conditions: bool = flag("`if_match=` with a revision")
    any_revision: bool = flag('`if_match="*"`')
    batches: bool = flag("`store.batch`")

    # Reading
    mapping: bool = flag("`Map` is a `collections.abc.Mapping`: `keys`, `values`, `items`; handles are equal and hash")
    code_point_order: bool = flag("keys are ordered by code point above U+FFFF too")
    prefix: bool = flag("`prefix=` of `range` and `page`")
    limit: bool = flag("`limit=` of `range`")
    pages: bool = flag("`map.page`")
    previous_pages: bool = flag("`previous_page_token`, and pages on the way back")
    sealed_tokens: bool = flag("an altered page token, or one of another map, is `InvalidPageToken`")
    strict_walks: bool = flag("a walk raises `MapNotFound` at its next step once the map is gone (S2)")

    # Following
    events: bool = flag("`map.on` and `store.on`")
    feed: bool = flag("`map.changes`")
    watch: bool = flag("`map.watch`, for `for` and `with`")
    async_watch: bool = flag("`map.watch`, for `async for`")

    # The store
    list_maps: bool = flag("`store.maps`")
    create_map: bool = flag("`store.create_map`")
    unnamed_maps: bool = flag("`store.create_map()` without a name")
    remove_map: bool = flag("`map.remove_map`")
    closing: bool = flag("`store.close` and `with store`: afterwards every use is `StoreClosed`")
    durable: bool = flag("what was written outlives the store: the kit calls `reopen`")
    locking: bool = flag("a second writer is `StoreLocked`: the kit calls `open_again`")
    read_only: bool = flag("the kit calls `open_read_only`, and writes there are `StoreReadOnly`")
    compaction: bool = flag("`store.compact`, which drops the history of the feed")
    threads: bool = flag("any number of threads may use the store at once")

    # Errors
    error_order: bool = flag("of several mistakes in one call, C2 says which is told")
    error_fields: bool = flag("errors carry their fields: `expected`, `actual`, `revision`, `size`, `limit`, `oldest`")
    error_codes: bool = flag("errors have the `status` and `code` of the table in X")

    # What is more than yes or no
    date_resolution: float = field(
        default=0.001, metadata={"meaning": "how fine dates are, in seconds: the service's REST interface has 1.0"}
    )
    items_per_page: int = field(
        default=1000,
        metadata={"meaning": "the most items that a page holds; a larger `page_size` is taken all the same"},
    )
    accepts_key: Callable[[str], bool] = field(
        default=any_key,
        metadata={"meaning": "whether the store takes a good key (or name); letters and digits of ASCII it must take"},
    )

    @classmethod
    def only(cls, *names: str, **others: Any) -> Capabilities:
        """These flags and no others; what is no flag is given by name. ``TypeError`` for a flag that is none.

        >>> Capabilities.only("clock", "pages", items_per_page=100).has("events")
        False
        """
        flags = {each.name: False for each in fields(cls) if each.type == "bool"}
        return cls(**{**flags, **dict.fromkeys(names, True), **others})

    def has(self, name: str) -> bool:
        """Whether the flag is set; ``AttributeError`` for what is none."""
        value = getattr(self, name)
        if not isinstance(value, bool):
            raise AttributeError(f"{name} is no flag")
        return value

    def lacks(self) -> list[str]:
        """The flags that are declared away."""
        return [each.name for each in fields(self) if getattr(self, each.name) is False]

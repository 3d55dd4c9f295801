"""Several writes as one: ``store.batch()`` (semantics W7).

Each call checks its arguments and encodes its data at once; what depends on the store is judged when the block ends, in
order and under the lock, against the state as the batch leaves it so far.
"""

from __future__ import annotations

from msgpack import unpackb

from mapitem.engine import ABSENT, judge
from mapitem.errors import MapItemError
from mapitem.item import make_item
from mapitem.limits import check_given_ttl, check_if_match, check_key, check_ttl, encode_data
from mapitem.map import Map
from mapitem.state import Draft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, TypeAlias

    from mapitem.item import MapItem
    from mapitem.records import Operation
    from mapitem.state import MapState, Row
    from mapitem.store import Store

    # Given the map as the batch left it so far and the instant: what to do, and the row to show for it.
    Judge: TypeAlias = Callable[[Draft, int], tuple[list[Operation], Row]]
    # The arguments of a plain put: data, ttl, collection ttl and condition.
    Put: TypeAlias = tuple[bytes, int | None, int | None, str | None]


class Batch:
    """Writes that apply together when the ``with`` block ends without an exception, or not at all.

    The verbs are those of ``Map`` with the map as first argument. Each checks its arguments, copies its data and raises
    at once; presence and conditions are judged at the end, in order, at one reading of the clock, and the error then
    says by ``index`` which write it was. ``results`` then holds what the single writes would have returned.
    One record in the log: a crash leaves all of it or nothing.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writes: list[tuple[MapState, str, Put | Judge]] = []
        self._rows: list[Row] = []
        self._results: list[MapItem] | None = None
        self._ended = False

    @property
    def results(self) -> list[MapItem]:
        """The items written (for ``remove``, removed), in order; empty until the block has ended well."""
        if not self._rows:
            return []
        if self._results is None:
            # Not before somebody asks: a bulk load seldom does.
            self._results = [make_item(write[1], row) for write, row in zip(self._writes, self._rows, strict=True)]
        return self._results

    def create(
        self,
        map: Map,
        key: str,
        data: dict[str, Any],
        *,
        ttl: int | timedelta | None = None,
        collection_ttl: int | timedelta | None = None,
    ) -> None:
        """As ``Map.create``."""
        self._put(map, key, data, ttl, collection_ttl, None, ABSENT)

    def set(
        self,
        map: Map,
        key: str,
        data: dict[str, Any],
        *,
        ttl: int | timedelta | None = None,
        collection_ttl: int | timedelta | None = None,
        if_match: str | None = None,
    ) -> None:
        """As ``Map.set``."""
        self._put(map, key, data, ttl, collection_ttl, if_match, None)

    def _put(
        self,
        map: Map,
        key: str,
        data: dict[str, Any],
        ttl: int | timedelta | None,
        collection_ttl: int | timedelta | None,
        if_match: str | None,
        condition: str | None,
    ) -> None:
        limits = self._check(map, key)._limits
        packed = encode_data(data, limits.max_data_bytes)
        if ttl is not None:
            ttl = check_ttl(ttl)
        if collection_ttl is not None:
            collection_ttl = check_ttl(collection_ttl, "collection_ttl")
        if if_match is not None:
            condition = check_if_match(if_match)
        self._writes.append((map._state, key, (packed, ttl, collection_ttl, condition)))

    def update(
        self,
        map: Map,
        key: str,
        changes: dict[str, Any],
        *,
        ttl: int | timedelta | None = None,
        collection_ttl: int | timedelta | None = None,
        if_match: str | None = None,
    ) -> None:
        """As ``Map.update``."""
        store = self._check(map, key)
        packed = encode_data(changes, store._limits.max_data_bytes)
        seconds, map_seconds = check_ttl(ttl), check_ttl(collection_ttl, "collection_ttl")
        wanted = check_if_match(if_match)

        def write(draft: Draft, now: int) -> tuple[list[Operation], Row]:
            engine = store._engine
            engine.check_alive(draft, now)
            row = engine.row(draft, key, now)
            judge(key, row, wanted)
            merged = {} if row is None else make_item(key, row).data
            merged.update(unpackb(packed))
            whole = encode_data(merged, store._limits.max_data_bytes)
            return engine.put(draft, key, whole, store._packed_identity, seconds, map_seconds, None, now)

        self._writes.append((map._state, key, write))

    def remove(self, map: Map, key: str, *, if_match: str | None = None) -> None:
        """As ``Map.remove``."""
        store = self._check(map, key)
        wanted = check_if_match(if_match)

        def write(draft: Draft, now: int) -> tuple[list[Operation], Row]:
            return store._engine.remove(draft, key, wanted, now)

        self._writes.append((map._state, key, write))

    def set_item_ttl(self, map: Map, key: str, ttl: int | timedelta, *, if_match: str | None = None) -> None:
        """As ``Map.set_item_ttl``."""
        store = self._check(map, key)
        seconds = check_given_ttl(ttl)
        wanted = check_if_match(if_match) or "*"

        def write(draft: Draft, now: int) -> tuple[list[Operation], Row]:
            return store._engine.put(draft, key, None, store._packed_identity, seconds, None, wanted, now)

        self._writes.append((map._state, key, write))

    def _check(self, map: Map, key: str) -> Store:
        store = self._store
        if store._write_refusal is not None:
            store._check_writable()
        if self._ended:
            raise ValueError("the batch has ended: begin another")
        # Exactly: asking whether it is an instance goes through Mapping's abstract base class, at ten times the price.
        if type(map) is not Map or map._store is not store:
            raise ValueError(f"a batch writes to maps of its own store, not to {map!r}")
        check_key(key, store._limits.max_key_chars)
        return store

    def _judge(self, now: int) -> tuple[list[Operation], list[Row]]:
        """What the whole batch comes to. Under the lock."""
        put, identity = self._store._engine.put, self._store._packed_identity
        keys: dict[MapState, list[str]] = {}
        for state, key, _ in self._writes:
            keys.setdefault(state, []).append(key)
        drafts = {state: Draft(state, its_keys) for state, its_keys in keys.items()}
        operations: list[Operation] = []
        rows: list[Row] = []
        for index, (state, key, write) in enumerate(self._writes):
            draft = drafts[state]
            try:
                if type(write) is tuple:
                    packed, ttl, collection_ttl, condition = write
                    more, row = put(draft, key, packed, identity, ttl, collection_ttl, condition, now)
                else:
                    more, row = write(draft, now)  # type: ignore[operator]
            except MapItemError as error:
                error.index = index
                raise
            draft.take(more)
            operations += more
            rows.append(row)
        return operations, rows

    def __enter__(self) -> Batch:
        self._store._check_writable()
        if self._ended:
            raise ValueError("the batch has ended: begin another")
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._ended = True
        if kind is None:
            self._rows = self._store._write(self._judge)

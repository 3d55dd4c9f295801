"""``Map``: the verbs. Start reading here.

A verb checks its arguments, encodes the data, lets the store lead the write through, and hands back a ``MapItem``.
Between here and the engine pass only bytes and scalars; the user's functions run here and nowhere below.
"""

from __future__ import annotations

from collections.abc import ItemsView, Mapping, ValuesView

from msgpack import unpackb

from mapitem.engine import ABSENT, judge
from mapitem.errors import (
    DataTooLarge,
    InvalidData,
    InvalidPageToken,
    ItemExists,
    ItemNotFound,
    MapNotFound,
    RevisionMismatch,
)
from mapitem.item import NEVER, MapItem, date_of, make_item, row_number, same_data
from mapitem.keyrange import (
    KeyRange,
    Page,
    PagePlace,
    check_limit,
    check_page_size,
    key_range,
    read_token,
)
from mapitem.limits import check_given_ttl, check_if_match, check_key, check_ttl, encode_data, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta
    from typing import Any, Literal, TypeVar, overload

    from mapitem.events import Event, SomeEvent, Subscription
    from mapitem.state import MapState, Row
    from mapitem.store import Store
    from mapitem.watch import Watch

    Default = TypeVar("Default")

_CONFLICTS = (RevisionMismatch, ItemExists, ItemNotFound)

# A walk looks at the map in chunks. The first is small, for many walks end early.
_FIRST_CHUNK = 32
_CHUNK = 256

_new = object.__new__


class Map(Mapping[str, MapItem]):
    """A map of items by string key, in code-point order; a read-only ``Mapping[str, MapItem]`` whose writes have verbs.

    Handles come from ``store.map``, ``create_map``, ``open_map`` and ``maps``. A handle belongs to the map it was
    opened on: once that map was removed or has expired, it raises ``MapNotFound``, even if a new map bears the name;
    only ``sid``, ``name`` and ``repr`` still answer (semantics K6, S2). Handles of one map are equal and hash alike.

    Every verb raises ``StoreClosed`` (or ``StoreForked``) first, then for its arguments, then for the map, the item's
    presence and the condition, in this order; when it raises, nothing was written (C2).

    >>> from mapitem import Store
    >>> scores = Store().map("scores")
    >>> item = scores.set("taylor", {"points": 3})
    >>> scores.update("taylor", {"level": 30}, if_match=item.revision).data
    {'points': 3, 'level': 30}
    >>> [item.key for item in scores.range("a", prefix="t")]
    ['taylor']
    """

    __slots__ = ("_state", "_store")

    def __init__(self, store: Store, state: MapState) -> None:
        """For the store; get maps from it."""
        self._store = store
        self._state = state

    # ------------------------------------------------------------ what the map is

    @property
    def sid(self) -> str:
        """The map's identifier: ``MP`` and 32 hex digits, never used again. Answers on a dead handle too."""
        return self._state.sid

    @property
    def name(self) -> str | None:
        """The unique name, or ``None``. Answers on a dead handle too."""
        return self._state.name

    @property
    def revision(self) -> str:
        """The number of events so far, in hex: the token from which the change feed goes on (R2, R5)."""
        return f"{self._live().counter:x}"

    @property
    def date_created(self) -> datetime:
        """When the map was created; aware UTC."""
        return date_of(self._live().created)

    @property
    def date_updated(self) -> datetime:
        """The date of the map's last event, or of its creation; never goes back; aware UTC (I4)."""
        return date_of(self._live().updated)

    @property
    def date_expires(self) -> datetime | None:
        """The instant from which the map is gone with all its items, or ``None``; aware UTC."""
        expires = self._live().expires
        return None if expires == NEVER else date_of(expires)

    @property
    def created_by(self) -> str:
        """The identity of the store that created the map."""
        return self._live().created_by

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Map):
            return NotImplemented
        return self._store is other._store and self._state.sid == other._state.sid

    def __hash__(self) -> int:
        return hash((id(self._store), self._state.sid))

    def __repr__(self) -> str:
        return f"<Map {self._state.name!r} {self._state.sid}>"

    def _live(self) -> MapState:
        self._store._check_live(self._state)
        return self._state

    # ------------------------------------------------------------ writing

    def create(
        self,
        key: str,
        data: dict[str, Any],
        *,
        ttl: int | timedelta | None = None,
        collection_ttl: int | timedelta | None = None,
    ) -> MapItem:
        """Add an item and return it; ``ItemExists`` if the key is present (W1).

        ``data`` is copied. ``ttl`` is in seconds from now, ``None`` and 0 mean that the item never expires;
        ``collection_ttl`` sets the map's own expiry in the same step (T1, T2).
        """
        return self._put(key, data, ttl, collection_ttl, None, ABSENT)

    def set(
        self,
        key: str,
        data: dict[str, Any],
        *,
        ttl: int | timedelta | None = None,
        collection_ttl: int | timedelta | None = None,
        if_match: str | None = None,
    ) -> MapItem:
        """Write an item whole, creating or replacing it, and return it (W2).

        On an item that is there, ``ttl=None`` keeps its expiry and 0 clears it. ``if_match`` makes the write depend
        on the item: at that revision, or present at all (``"*"``); ``ItemNotFound`` or ``RevisionMismatch`` otherwise
        (C1).
        """
        return self._put(key, data, ttl, collection_ttl, if_match, None)

    def _put(
        self,
        key: str,
        data: dict[str, Any],
        ttl: int | timedelta | None,
        collection_ttl: int | timedelta | None,
        if_match: str | None,
        condition: str | None,
    ) -> MapItem:
        store = self._store
        if store._write_refusal is not None:
            store._check_writable()
        limits = store._limits
        check_key(key, limits.max_key_chars)
        packed = encode_data(data, limits.max_data_bytes)
        seconds = None if ttl is None else check_ttl(ttl)
        map_seconds = None if collection_ttl is None else check_ttl(collection_ttl, "collection_ttl")
        if if_match is not None:
            condition = check_if_match(if_match)
        row = store._write(
            store._engine.put, self._state, key, packed, store._packed_identity, seconds, map_seconds, condition
        )
        return make_item(key, row)

    def _write_row(
        self, key: str, packed: bytes | None, ttl: int | None, collection_ttl: int | None, condition: str | None
    ) -> Row:
        store = self._store
        return store._write(
            store._engine.put, self._state, key, packed, store._packed_identity, ttl, collection_ttl, condition
        )

    def update(
        self,
        key: str,
        changes: dict[str, Any],
        *,
        ttl: int | timedelta | None = None,
        collection_ttl: int | timedelta | None = None,
        if_match: str | None = None,
    ) -> MapItem:
        """Merge top-level fields into an item, as ``dict.update`` does, and return it; an absent one starts empty (W3).

        Raises as ``set`` does; ``DataTooLarge`` also if only the merged data is over the limit. To replace an item only
        if it is there, as the REST verb does: ``set(…, if_match="*")``.
        """
        store = self._store
        store._check_writable()
        check_key(key, store._limits.max_key_chars)
        packed = encode_data(changes, store._limits.max_data_bytes)
        seconds, map_seconds = check_ttl(ttl), check_ttl(collection_ttl, "collection_ttl")
        wanted = check_if_match(if_match)
        row = store._row(self._state, key)
        while True:
            judge(key, row, wanted)
            merged = {} if row is None else make_item(key, row).data
            merged.update(unpackb(packed))
            whole = encode_data(merged, store._limits.max_data_bytes)
            try:
                return make_item(key, self._write_row(key, whole, seconds, map_seconds, _unchanged(row)))
            except _CONFLICTS:
                # Somebody else wrote in between; if that broke the caller's own condition, judge() says so.
                row = store._row_after_others(self._state, key)

    def mutate(
        self,
        key: str,
        fn: Callable[[dict[str, Any]], dict[str, Any] | None],
        *,
        ttl: int | timedelta | None = None,
        collection_ttl: int | timedelta | None = None,
        max_attempts: int = 100,
    ) -> MapItem | None:
        """Replace an item's data by ``fn`` of it, and return the item (W4).

        ``fn`` gets a copy of the data (``{}`` for an absent key) and returns the new data. If somebody wrote the item
        in the meantime, ``fn`` is called again on what it is then, up to ``max_attempts`` times; after that the last
        ``RevisionMismatch`` is raised. No lock is held while ``fn`` runs, and it may use the store.

        If ``fn`` returns ``None`` nothing is written, and the item as it is (or ``None``) is returned. If it did so
        after changing its argument, ``TypeError`` says that the data was not returned. What ``fn`` raises passes
        through.
        """
        store = self._store
        store._check_writable()
        check_key(key, store._limits.max_key_chars)
        seconds, map_seconds = check_ttl(ttl), check_ttl(collection_ttl, "collection_ttl")
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {shown(fn)}")
        if type(max_attempts) is not int or max_attempts < 1:
            raise ValueError(f"max_attempts must be an int of at least 1, not {shown(max_attempts)}")
        mismatch: RevisionMismatch | None = None
        for _ in range(max_attempts):
            row = store._row(self._state, key) if mismatch is None else store._row_after_others(self._state, key)
            data = {} if row is None else make_item(key, row).data
            changed = fn(data)
            if changed is None:
                _check_untouched(data, row)
                return None if row is None else make_item(key, row)
            try:
                packed = encode_data(changed, store._limits.max_data_bytes)
            except (InvalidData, DataTooLarge):
                # The condition comes before the data (W8): if the item is another by now, fn is asked again.
                mismatch = _mismatch(key, row, store._row(self._state, key))
                if mismatch is None:
                    raise
                continue
            try:
                return make_item(key, self._write_row(key, packed, seconds, map_seconds, _unchanged(row)))
            except _CONFLICTS as conflict:
                mismatch = _as_mismatch(key, row, conflict)
        assert mismatch is not None
        raise mismatch

    def remove(self, key: str, *, if_match: str | None = None) -> MapItem:
        """Remove an item and return it exactly as it was; ``ItemNotFound``, ``RevisionMismatch`` (W5)."""
        store = self._store
        store._check_writable()
        check_key(key, store._limits.max_key_chars)
        return make_item(key, store._write(store._engine.remove, self._state, key, check_if_match(if_match)))

    def set_item_ttl(self, key: str, ttl: int | timedelta, *, if_match: str | None = None) -> MapItem:
        """Set an item's expiry to ``ttl`` seconds from now, or clear it with 0, and return the item (W6).

        A write like any other: the item gets a new revision (R3). ``ItemNotFound``, ``RevisionMismatch``,
        ``InvalidTTL``.
        """
        store = self._store
        store._check_writable()
        check_key(key, store._limits.max_key_chars)
        seconds = check_given_ttl(ttl)
        condition = check_if_match(if_match)
        return make_item(key, self._write_row(key, None, seconds, None, "*" if condition is None else condition))

    def set_ttl(self, ttl: int | timedelta) -> None:
        """Set the map's own expiry to ``ttl`` seconds from now, or clear it with 0. No event; items keep theirs."""
        store = self._store
        store._check_writable()
        store._write(store._engine.set_map_ttl, self._state, check_given_ttl(ttl))

    def purge(self) -> int:
        """Remove the items that are due, each as an event of its own, and return how many there were (T4)."""
        self._store._check_writable()
        return self._store._write(self._store._engine.purge, self._state)

    def remove_map(self) -> None:
        """End the map with all its items. Its name is free at once; this and every other handle of it is dead."""
        self._store._check_writable()
        self._store._write(self._store._engine.remove_map, self._state)

    # ------------------------------------------------------------ reading

    def __getitem__(self, key: str) -> MapItem:
        """The item; ``ItemNotFound`` (a ``KeyError``), or ``InvalidKey`` for what cannot be a key (L1)."""
        item = self.get(key)
        if item is None:
            raise ItemNotFound(f"no item with key {key!r}", key=key)
        return item

    if TYPE_CHECKING:

        @overload
        def get(self, key: str, /) -> MapItem | None: ...
        @overload
        def get(self, key: str, /, default: MapItem | Default) -> MapItem | Default: ...

    def get(self, key: str, default: Any = None) -> Any:
        """The item, or ``default`` if the key is absent; ``InvalidKey`` for what cannot be a key (L1).

        Takes no lock; costs one look-up in a dictionary. The data is decoded when it is first touched.
        """
        if type(key) is str:
            state = self._state
            # The short way of Store._row, for the map in which nothing ever expires; in the same order.
            rows = state.rows
            try:
                row = rows.get(key) if state.quiet_until == NEVER else self._store._row(state, key)
            except MapNotFound:
                check_key(key, self._store._limits.max_key_chars)  # comes before the map (C2)
                raise
            if row is not None:
                return make_item(key, row)
            if state.quiet_until == NEVER and key.isascii() and 0 < len(key) <= self._store._limits.max_key_chars:
                return default  # as below, without the calls: of an open store, and as nearly all keys are
        self._store._check_open()
        check_key(key, self._store._limits.max_key_chars)
        return default

    def __contains__(self, key: object) -> bool:
        """Whether the key is present; ``False`` also for what cannot be a key."""
        state = self._state
        if type(key) is not str:
            self._live()
            return False
        if state.quiet_until == NEVER:
            return key in state.rows  # the short way, as in ``get``
        return self._store._row(state, key) is not None

    def __len__(self) -> int:
        """How many items are present; a step for each item that is due but not yet removed."""
        return self._store._count(self._state)

    def __bool__(self) -> bool:
        """Whether the map is not empty."""
        return len(self) > 0

    def __iter__(self) -> Iterator[str]:
        """The keys, in order; see ``range`` for what holds while others write."""
        self._live()
        return self._keys(key_range(None, "inclusive", "asc", None))

    def __reversed__(self) -> Iterator[str]:
        self._live()
        return self._keys(key_range(None, "inclusive", "desc", None))

    def items(self) -> ItemsView[str, MapItem]:
        """A view of (key, item) pairs, in order; see ``range`` for what holds while others write."""
        return _Items(self)

    def values(self) -> ValuesView[MapItem]:
        """A view of the items, in order; see ``range`` for what holds while others write."""
        return _Values(self)

    def range(
        self,
        from_: str | None = None,
        *,
        bounds: Literal["inclusive", "exclusive"] = "inclusive",
        order: Literal["asc", "desc"] = "asc",
        prefix: str | None = None,
        limit: int | None = None,
    ) -> Iterator[MapItem]:
        """Items in key order, lazily (L2).

        ``from_`` is a place in the order and need not exist: ascending starts at the first key that is not less,
        descending at the last that is not greater, ``bounds="exclusive"`` leaves out an equal key. ``prefix`` keeps to
        keys that start with it, ``limit`` to so many items. Bad arguments raise here, not at the first ``next``:
        ``InvalidOrder``, ``InvalidBounds``, ``InvalidKey``, ``ValueError``.

        While others write, an item that is there for the whole walk comes exactly once and order holds; ones added or
        removed meanwhile may come or not (L3). Each step of the walk raises ``MapNotFound`` once the map is gone.
        Finding the start costs the logarithm of the map's size; the lock is taken once for many items.
        """
        self._store._check_open()
        part = key_range(from_, bounds, order, prefix)
        limit = check_limit(limit)
        self._live()
        return self._items(part, limit)

    def _items(self, part: KeyRange, limit: int | None) -> Iterator[MapItem]:
        store, state = self._store, self._state
        for chunk in self._chunks(part, limit):
            for key, row in chunk:
                if state.quiet_until != NEVER:
                    store._check_live(state)
                item = _new(MapItem)  # as make_item, without the call, which would cost a tenth more
                item._key = key
                item._row = row
                item._data = None
                yield item

    def _keys(self, part: KeyRange) -> Iterator[str]:
        store, state = self._store, self._state
        for chunk in self._chunks(part, None):
            for key, _ in chunk:
                if state.quiet_until != NEVER:
                    store._check_live(state)
                yield key

    def _chunks(self, part: KeyRange, limit: int | None) -> Iterator[list[tuple[str, Row]]]:
        """The one walk: a chunk is one look, and the next one begins behind its last key."""
        store, state = self._store, self._state
        size = _FIRST_CHUNK if limit is None else _CHUNK
        while True:
            wanted = size if limit is None else min(size, limit)
            chunk = store._scan(state, part, wanted) if wanted else []
            yield chunk
            if len(chunk) < wanted or not wanted:
                store._check_live(state)
                return
            part = part.after(part.cut_after(chunk[-1][0]))
            if limit is not None:
                limit -= len(chunk)
            size = _CHUNK

    def page(
        self,
        *,
        page_size: int = 50,
        from_: str | None = None,
        bounds: Literal["inclusive", "exclusive"] = "inclusive",
        order: Literal["asc", "desc"] = "asc",
        prefix: str | None = None,
        page_token: str | None = None,
    ) -> Page:
        """One page of a listing: one consistent look (L4).

        Arguments as for ``range``, and ``page_size`` from 1 to 1000. A token of the page before or after carries the
        whole listing, so that only ``page_size`` may go with it. Tokens are anchored at keys, not at counts: between
        pages the same holds as during a walk. They outlive a restart. ``InvalidPageSize``, ``InvalidPageToken``.
        """
        store = self._store
        store._check_open()
        size = check_page_size(page_size)
        if page_token is None:
            listing, cut, backwards = key_range(from_, bounds, order, prefix), None, False
        else:
            if (from_, bounds, order, prefix) != (None, "inclusive", "asc", None):
                raise InvalidPageToken("a page token carries its listing: only page_size may be given with it")
            place = read_token(page_token, self.sid)
            listing, cut, backwards = place.listing, place.cut, place.backwards
        with store._reading():
            now = store._now()
            store._engine.check_alive(self._state, now)
            found, behind, before = store._engine.page(self._state, listing, cut, backwards, size, now)
        end = listing.cut_after(found[-1][0]) if found else cut
        start = listing.cut_before(found[0][0]) if found else cut
        return Page(
            tuple(make_item(key, row) for key, row in found),
            PagePlace(listing, end, False).token(self.sid) if behind and end is not None else None,
            PagePlace(listing, start, True).token(self.sid) if before and start is not None else None,
        )

    # ------------------------------------------------------------ following

    def on(self, kind: type[SomeEvent], callback: Callable[[SomeEvent], object]) -> Subscription:
        """Call ``callback`` for every event of this kind (or ``Event`` for all) in this map; as ``Store.on`` (E2)."""
        self._store._check_open()
        self._store._teller.check(kind, callback)
        self._live()
        return self._store._teller.add(kind, callback, self.sid)

    def changes(self, since: str = "0") -> Iterator[Event]:
        """The events from the revision ``since`` on, oldest first, up to the map's revision at the call (F1).

        ``since=map.revision`` gives none yet; ``event.next_revision`` goes on behind an event, also after a restart.
        Costs what it returns, however long the log is. ``InvalidRevision`` for a token beyond the map's revision,
        ``HistoryCompacted`` for one whose events a compaction dropped, at the call or at a later step.
        """
        from mapitem.watch import check_token, number_of, read_changes  # not for everybody who imports us

        store = self._store
        store._check_open()
        token = check_token(since)
        with store._reading():
            store._engine.check_alive(self._state, store._now())
            number, end = number_of(self._state, token), self._state.counter
        return read_changes(store, self._state, number, end)

    def watch(self, since: str | None = None, *, timeout: float | None = None) -> Watch:
        """The events since a revision, then those that come, none lost and none twice (E3).

        Iterate over it with ``for`` or ``async for``; it ends after ``timeout`` seconds without an event, after
        ``MapRemoved``, and when it or the store is closed. ``since=None`` begins with the next event. Raises as
        ``changes`` does, and ``ValueError`` for a bad timeout.
        """
        from mapitem.watch import start_watch

        return start_watch(self._store, self._state, since, timeout)


class _Items(ItemsView[str, MapItem]):
    """Pairs by the same walk as everything else: looking each key up again would trip over one removed meanwhile."""

    _mapping: Map

    def __iter__(self) -> Iterator[tuple[str, MapItem]]:
        return ((item.key, item) for item in self._mapping.range())

    def __contains__(self, pair: object) -> bool:
        if not isinstance(pair, tuple) or len(pair) != 2:
            return False
        key, item = pair
        return key in self._mapping and self._mapping.get(key) == item


class _Values(ValuesView[MapItem]):
    _mapping: Map

    def __iter__(self) -> Iterator[MapItem]:
        return self._mapping.range()

    def __contains__(self, item: object) -> bool:
        return isinstance(item, MapItem) and self._mapping.get(item.key) == item


def _unchanged(row: Row | None) -> str:
    """The condition that an item is as it was read."""
    return ABSENT if row is None else f"{row_number(row):x}"


def _revision(row: Row | None) -> str:
    return "" if row is None else f"{row_number(row):x}"


def _mismatch(key: str, read: Row | None, present: Row | None) -> RevisionMismatch | None:
    """The conflict between an item as it was read and as it is; an absent one has no revision, shown as ``""``."""
    expected, actual = _revision(read), _revision(present)
    if expected == actual:
        return None
    return RevisionMismatch(
        f"the item with key {key!r} was written by somebody else: at {actual or 'no revision'}, "
        f"not {expected or 'absent'}",
        key=key,
        expected=expected,
        actual=actual,
    )


def _as_mismatch(key: str, read: Row | None, conflict: Exception) -> RevisionMismatch:
    if isinstance(conflict, RevisionMismatch):
        return conflict
    actual = conflict.revision if isinstance(conflict, ItemExists) else ""
    return RevisionMismatch(
        f"the item with key {key!r} was written by somebody else", key=key, expected=_revision(read), actual=actual
    )


def _check_untouched(data: dict[str, Any], row: Row | None) -> None:
    """Catch the commonest mistake with ``mutate``: a function that changes its argument and forgets to return it."""
    before = {} if row is None else make_item("", row).data
    if not same_data(data, before):
        raise TypeError("fn changed the data and returned None: the data was not returned (return it, or leave it)")

"""What happened to a map, as values, and how callbacks are told (semantics E1, E2).

An event is built from a change that the engine noted, or from a record of the log; every callback gets values of its
own. This room knows no lock of the store's: callbacks run when the write is done and the lock released.
"""

from __future__ import annotations

from collections import deque

from mapitem.item import date_of, make_item, row_number, row_times
from mapitem.limits import shown
from mapitem.records import ADD, EXPIRE, MAP_END, REMOVE, UPDATE
from mapitem.threadlock import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from typing import Any, TypeVar

    from mapitem.engine import Change
    from mapitem.item import MapItem
    from mapitem.records import Operation
    from mapitem.state import MapState, Row

    SomeEvent = TypeVar("SomeEvent", bound="Event")


class Event:
    """Something that happened to a map: ``ItemAdded``, ``ItemUpdated``, ``ItemRemoved`` or ``MapRemoved``.

    Immutable, equal by value. ``revision`` is the event's number in hex (for ``MapRemoved`` the map's last revision),
    and ``next_revision`` the token from which the change feed goes on behind it. ``date`` is when the event was
    written, by the store's clock; aware UTC.
    """

    if not TYPE_CHECKING:  # where the fields are declared as what they are to a reader: read-only
        __slots__ = ("date", "map_name", "map_sid", "revision")
    __match_args__: tuple[str, ...] = ()

    if TYPE_CHECKING:

        @property
        def map_sid(self) -> str: ...
        @property
        def map_name(self) -> str | None: ...
        @property
        def revision(self) -> str: ...
        @property
        def date(self) -> datetime: ...

    def __init__(self, *, map_sid: str, map_name: str | None, revision: str, date: datetime) -> None:
        self._set(map_sid=map_sid, map_name=map_name, revision=revision, date=date)

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def next_revision(self) -> str:
        """The token that resumes the feed right after this event."""
        return f"{int(self.revision, 16) + 1:x}"

    def _fields(self) -> dict[str, Any]:
        names = [*self.__match_args__, "map_sid", "map_name", "revision", "date"]
        return {name: getattr(self, name) for name in names}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self), self.map_sid, self.revision))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in (*self.__match_args__, "revision"))
        return f"{type(self).__name__}({fields}, map_name={self.map_name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._fields())


def _rebuild(kind: type[Event], fields: dict[str, Any]) -> Event:
    return kind(**fields)


class ItemAdded(Event):
    """An item was added under a key that was absent."""

    if not TYPE_CHECKING:
        __slots__ = ("item", "key")
    __match_args__ = ("key", "item")

    if TYPE_CHECKING:

        @property
        def key(self) -> str: ...
        @property
        def item(self) -> MapItem: ...

    def __init__(self, key: str, item: MapItem, **where: Any) -> None:
        super().__init__(**where)
        self._set(key=key, item=item)


class ItemUpdated(Event):
    """An item was written over. ``previous`` is the item as it was before, for callbacks; ``None`` in the feed."""

    if not TYPE_CHECKING:
        __slots__ = ("item", "key", "previous")
    __match_args__ = ("key", "item", "previous")

    if TYPE_CHECKING:

        @property
        def key(self) -> str: ...
        @property
        def item(self) -> MapItem: ...
        @property
        def previous(self) -> MapItem | None: ...

    def __init__(self, key: str, item: MapItem, previous: MapItem | None = None, **where: Any) -> None:
        super().__init__(**where)
        self._set(key=key, item=item, previous=previous)


class ItemRemoved(Event):
    """An item was removed, by a verb or (``expired``) because it was due. ``previous`` as in ``ItemUpdated``."""

    if not TYPE_CHECKING:
        __slots__ = ("expired", "key", "previous")
    __match_args__ = ("key", "previous", "expired")

    if TYPE_CHECKING:

        @property
        def key(self) -> str: ...
        @property
        def previous(self) -> MapItem | None: ...
        @property
        def expired(self) -> bool: ...

    def __init__(self, key: str, previous: MapItem | None = None, expired: bool = False, **where: Any) -> None:
        super().__init__(**where)
        self._set(key=key, previous=previous, expired=expired)


class MapRemoved(Event):
    """A map ended with all its items, by ``remove_map`` or (``expired``) because it was due; no event per item."""

    if not TYPE_CHECKING:
        __slots__ = ("expired",)
    __match_args__ = ("expired",)

    if TYPE_CHECKING:

        @property
        def expired(self) -> bool: ...

    def __init__(self, expired: bool = False, **where: Any) -> None:
        super().__init__(**where)
        self._set(expired=expired)

    @property
    def next_revision(self) -> str:
        """The map's last revision: its end has no number of its own."""
        return self.revision


# ---------------------------------------------------------------- from changes and records


def events_of(state: MapState, operation: Operation, replaced: Row | list[Row] | None = None) -> Iterator[Event]:
    """The events of one operation, as new values. Without ``replaced`` they say nothing of what was before (E1)."""
    kind = operation[0]
    if kind in (ADD, UPDATE):
        key, row = operation[2:4]
        where = _where(state, row_number(row), operation[4] if len(operation) > 4 else row_times(row)[1])
        if kind == ADD:
            yield ItemAdded(key, make_item(key, row), **where)
        else:
            yield ItemUpdated(key, make_item(key, row), _previous(key, replaced), **where)
    elif kind == REMOVE:
        key, number, date = operation[2:]
        yield ItemRemoved(key, _previous(key, replaced), False, **_where(state, number, date))
    elif kind == EXPIRE:
        keys, first, date = operation[2:]
        for place, key in enumerate(keys):
            previous = None if replaced is None else _previous(key, replaced[place])
            yield ItemRemoved(key, previous, True, **_where(state, first + place, date))
    elif kind == MAP_END:
        yield MapRemoved(operation[3], **_where(state, state.counter, operation[2]))


def _where(state: MapState, number: int, date: int) -> dict[str, Any]:
    return {"map_sid": state.sid, "map_name": state.name, "revision": f"{number:x}", "date": date_of(date)}


def _previous(key: str, row: Any) -> MapItem | None:
    return None if row is None else make_item(key, row)


# ---------------------------------------------------------------- callbacks


class Subscription:
    """The handle of a callback: ``close`` it, or leave its ``with`` block, to be told no more, from that moment on.

    Dropping the handle does not unsubscribe.
    """

    __slots__ = ("_callback", "_kind", "_sid", "_teller")

    def __init__(self, teller: Teller, kind: type[Event], callback: Callable[[Any], object], sid: str | None) -> None:
        self._teller: Teller | None = teller
        self._kind = kind
        self._callback = callback
        self._sid = sid

    def close(self) -> None:
        """Unsubscribe; at once, also for events that were written and not told yet. May be called twice."""
        teller, self._teller = self._teller, None
        if teller is not None:
            teller.drop(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def tell(self, change: Change) -> BaseException | None:
        """Call the callback for each event of a change that it asked for (E2).

        An ``Exception`` is logged. What is meant for the whole program, as ``KeyboardInterrupt``, is returned, for
        others have to be told yet.
        """
        interrupt: BaseException | None = None
        if self._sid is not None and self._sid != change[0].sid:
            return None
        for event in events_of(*change):
            if self._teller is None:
                break
            if not isinstance(event, self._kind):
                continue
            try:
                self._callback(event)
            except Exception:
                from logging import getLogger

                getLogger("mapitem.events").exception("a callback for %s raised", type(event).__name__)
            except BaseException as error:
                interrupt = interrupt or error
        if change[1][0] == MAP_END and self._sid is not None:
            self.close()  # nothing can come any more
        return interrupt


class Teller:
    """Tells callbacks of changes: one at a time, in the order of the writes, on whichever writing thread is first."""

    def __init__(self) -> None:
        # A tuple, replaced whole: a write takes along who was listening at its moment.
        self.subscriptions: tuple[Subscription, ...] = ()
        self._waiting: deque[tuple[int, list[Change], tuple[Subscription, ...]]] = deque()
        # Up to which position of the log writes are as durable as they were to be.
        self._done = 0
        self.forget_locks()

    def forget_locks(self) -> None:
        """A new lock, and nobody's turn: in a forked child those who have them may be threads that are not there."""
        # Around every look at the fields above. Re-entrant, for a signal handler that interrupts us may write (F3).
        self._changing = RLock()
        # A mark of the one who calls callbacks. No lock, which an interruption could leave taken with nobody to know.
        self._turn: object = None

    def check(self, kind: object, callback: object) -> None:
        """``TypeError`` unless these can be subscribed."""
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            raise TypeError(f"the kind must be Event or one of its classes, not {shown(kind)}")
        if not callable(callback):
            raise TypeError(f"the callback must be callable, not {shown(callback)}")

    def add(self, kind: type[Event], callback: Callable[[Any], object], sid: str | None) -> Subscription:
        self.check(kind, callback)
        subscription = Subscription(self, kind, callback, sid)
        with self._changing:
            self.subscriptions = (*self.subscriptions, subscription)
        return subscription

    def drop(self, subscription: Subscription) -> None:
        with self._changing:
            self.subscriptions = tuple(each for each in self.subscriptions if each is not subscription)

    def note(self, changes: list[Change], position: int) -> None:
        """Keep changes for ``tell``. Called under the store's lock, which gives them their order."""
        with self._changing:
            self._waiting.append((position, changes, self.subscriptions))

    def tell(self, done: int) -> None:
        """Tell of the writes up to the position ``done``, unless somebody is at it already and will tell of them too.

        Called without the store's lock, when those writes are as durable as they were to be.
        """
        with self._changing:
            if done > self._done:  # not with max(): in a call a handler could write, and be told of, what comes later
                self._done = done
        interrupt: BaseException | None = None
        ours = object()
        try:
            # No condition at the ``while``: in some bytecode the jump back to one is not covered by ``finally``.
            while True:
                news = self._next_news(ours)
                if news is None:
                    break
                changes, subscriptions = news
                for change in changes:
                    for subscription in subscriptions:
                        interrupt = subscription.tell(change) or interrupt
        finally:
            # Two steps without a call, which no signal comes between.
            if self._turn is ours:
                self._turn = None
        if interrupt is not None:
            raise interrupt

    def _next_news(self, ours: object) -> tuple[list[Change], tuple[Subscription, ...]] | None:
        """What to tell next, if it is our turn or can be: with ``None`` it is not, and whoever writes next takes it."""
        with self._changing:
            if self._turn is None or self._turn is ours:
                if self._waiting and self._waiting[0][0] <= self._done:
                    self._turn = ours
                    return self._waiting.popleft()[1:]
                self._turn = None
        return None


def feed_events(state: MapState, records: Iterator[Sequence[Operation]], since: int) -> Iterator[Event]:
    """The events of one map in these records, from the number ``since`` on; none before it is even built."""
    for operations in records:
        for operation in operations:
            kind = operation[0]
            if operation[1] != state.no or kind not in (ADD, UPDATE, REMOVE, EXPIRE):
                continue
            if kind == EXPIRE:
                _, no, keys, first, date = operation
                skipped = max(0, since - first)
                if skipped < len(keys):
                    yield from events_of(state, (kind, no, keys[skipped:], first + skipped, date))
            elif (operation[3] if kind == REMOVE else row_number(operation[3])) >= since:
                yield from events_of(state, operation)

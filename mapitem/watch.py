"""Following a map: ``changes`` reads its past from the log, ``watch`` goes on into what comes (semantics E3, F).

Both are cursors over the log: a follower holds the number of the next event and reads on from there, so that there is
no queue that could overflow and no seam between past and present. A write only wakes those that wait.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from itertools import islice
from threading import TIMEOUT_MAX
from threading import Event as Signal
from time import monotonic
from weakref import WeakSet

from mapitem.errors import HistoryCompacted, InvalidRevision, StoreClosed, StoreForked
from mapitem.events import Event, MapRemoved, feed_events
from mapitem.item import date_of
from mapitem.limits import check_if_match, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from types import TracebackType

    from mapitem.state import MapState
    from mapitem.store import Store

# How many events one look at the log brings, and how many a watcher keeps when a compaction takes the log away.
_PORTION = 256
BACKLOG = 1024


def check_token(since: object) -> str:
    """The token as given; ``InvalidRevision`` unless it is lower-case hex."""
    text = check_if_match(since)
    if text is None or text == "*":
        raise InvalidRevision(f"since must be a revision (lower-case hex), not {shown(since)}")
    return text


def number_of(state: MapState, token: str) -> int:
    """The event that a token of a live map stands for; ``InvalidRevision``, ``HistoryCompacted`` (F1, F2).

    Called under the lock.
    """
    number = int(token, 16)
    if number > state.counter or f"{number:x}" != token:
        raise InvalidRevision(f"no revision {shown(token)} yet: the map is at {state.counter:x}")
    check_served(state, number)
    return number


def check_served(state: MapState, number: int) -> None:
    """``HistoryCompacted`` unless the events from this number on are there."""
    if number < state.oldest:
        raise HistoryCompacted(
            f"events before {state.oldest:x} were compacted away: read the map, then go on from its revision",
            oldest=f"{state.oldest:x}",
        )


def read_portion(store: Store, state: MapState, number: int, longest: int = _PORTION) -> list[Event]:
    """The next events from ``number`` on, at least one if there is any. Under the lock; costs what it returns."""
    check_served(state, number)
    first = number - state.oldest
    places = state.places[first : first + longest]
    records = store._log.read(sorted(set(places)))
    return list(islice(feed_events(state, iter(records), number), longest))


def read_changes(store: Store, state: MapState, number: int, end: int) -> Iterator[Event]:
    """The events from ``number`` up to but without ``end``, portion by portion, each read under the lock."""
    while number < end:
        with store._reading():
            store._engine.check_alive(state, store._now())
            events = read_portion(store, state, number, min(_PORTION, end - number))
        if not events:
            break  # the last write was interrupted before its place was noted, and the store has failed (F3)
        yield from events
        number = int(events[-1].next_revision, 16)
    with store._reading():
        store._engine.check_alive(state, store._now())


class Watch:
    """The events of a map since a revision, and then as they come: from ``map.watch`` (semantics E3).

    Iterate over it, with ``for`` (which ends after ``timeout`` seconds without an event) or ``async for``; use it as a
    context manager, or ``close`` it. None is lost and none comes twice. It ends after ``MapRemoved`` and when it or the
    store is closed; closing it from another thread or task wakes the one that waits. For one consumer at a time.

    It costs nothing while nothing happens, and keeps no events: it reads them from the log. A watcher that is further
    behind than 1,024 events when a compaction takes the log away gets ``HistoryCompacted`` at its next step, with the
    token to go on from in ``.oldest``; ``revision`` says how far it had come.
    """

    def __init__(self, store: Store, state: MapState, number: int, timeout: float | None) -> None:
        self._store = store
        self._state = state
        self._number = number
        self._timeout = timeout
        # Events that were read and not delivered yet; the next to read has the number ``_number``.
        self._read: deque[Event] = deque()
        self._over = False
        self._signal = Signal()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._future: asyncio.Future[None] | None = None

    @property
    def revision(self) -> str:
        """The token of the next event to be delivered: give it to ``watch`` or ``changes`` to go on from here."""
        return self._read[0].revision if self._read else f"{self._number:x}"

    # ------------------------------------------------------------ delivering

    def _next(self) -> Event | None:
        """The next event, or ``None`` if there is none yet or the watch is over."""
        if self._over:
            return None
        if not self._read:
            self._fill(_PORTION)
        if not self._read:
            return None
        event = self._read.popleft()
        if isinstance(event, MapRemoved):
            self._over = True
        return event

    def _fill(self, longest: int) -> None:
        store, state = self._store, self._state
        try:
            with store._reading():
                self._fill_locked(longest)
        except (StoreClosed, StoreForked):
            self._over = True
            return
        if not self._read and state.ended is not None:
            self._over = True

    def _fill_locked(self, longest: int) -> None:
        state = self._state
        if self._number < state.counter:
            events = read_portion(self._store, state, self._number, longest)
            self._read.extend(events)
            self._number = int(events[-1].next_revision, 16)
        if state.ended is not None and self._number == state.counter:
            date, expired = state.ended
            where = {"map_sid": state.sid, "map_name": state.name, "revision": f"{state.counter:x}"}
            self._read.append(MapRemoved(expired, date=date_of(date), **where))

    def save_backlog(self) -> None:
        """Before a compaction takes the log away: keep what is not too much. Called under the store's lock."""
        state = self._state
        if not self._over and state.counter - self._number <= BACKLOG - len(self._read):
            while self._number < state.counter:
                self._fill_locked(BACKLOG)

    def forget_history(self) -> None:
        """The log is gone, for the map that is watched too, which may have ended and be unknown to the engine."""
        self._state.forget_history()

    @property
    def is_over(self) -> bool:
        """Whether it will deliver nothing more."""
        return self._over

    def wake(self) -> None:
        """Something happened to the map. Called under the store's lock, and by ``close``."""
        self._signal.set()
        loop, future = self._loop, self._future
        if loop is not None and future is not None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_finish, future)

    # ------------------------------------------------------------ for

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        deadline = None if self._timeout is None else monotonic() + self._timeout
        while True:
            self._signal.clear()
            event = self._next()
            if event is not None:
                return event
            left = None if deadline is None else max(0.0, deadline - monotonic())
            if self._over or not self._signal.wait(left):
                raise StopIteration

    # ------------------------------------------------------------ async for

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        import asyncio

        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    self._loop = asyncio.get_running_loop()
                    self._future = future = self._loop.create_future()
                    # Only now: an event that comes after this look finishes the future.
                    event = self._next()
                    if event is not None:
                        return event
                    if self._over:
                        raise StopAsyncIteration
                    await future
        except TimeoutError:
            raise StopAsyncIteration from None
        finally:
            self._future = None

    # ------------------------------------------------------------ ending

    def close(self) -> None:
        """End the watch; whoever waits for its next event is woken and stops. May be called twice, from anywhere."""
        self._over = True
        self.wake()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def start_watch(store: Store, state: MapState, since: object, timeout: float | None) -> Watch:
    """A watch that is told of every write from this moment on."""
    store._check_open()
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < float("inf")
    ):
        raise ValueError(f"timeout must be a number of seconds of at least 0, or None, not {shown(timeout)}")
    token = None if since is None else check_token(since)
    with store._reading():
        store._engine.check_alive(state, store._now())
        number = state.counter if token is None else number_of(state, token)
        watch = Watch(store, state, number, None if timeout is None else min(timeout, TIMEOUT_MAX))
        store._watchers.add(watch)
        if state.watchers is None:
            state.watchers = WeakSet()
        state.watchers.add(watch)
        store._is_watched = True
    return watch

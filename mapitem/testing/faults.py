"""A store that fails on demand: conflicts, rates, a full or broken disk, a crash, expiry that comes late.

``FaultyStore`` is a ``Store`` in every respect until ``store.faults`` is told otherwise, and works wherever one is
asked for. Nothing is drawn at random: the next write fails because it was told to. It stands on three seams of the
store, so that what fails is the real thing and goes the real ways: ``_write``, through which every write goes;
``_disk``, under the log; and ``_engine``, which judges expiry.
"""

from __future__ import annotations

import errno as codes
import json
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from msgpack import unpackb

from mapitem.batch import Batch
from mapitem.disk import Disk
from mapitem.engine import ABSENT, Engine
from mapitem.errors import StoreClosed
from mapitem.map import Map
from mapitem.store import Store
from mapitem.testing.rates import RateWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta
    from typing import Any, TypeVar

    from mapitem.keyrange import KeyRange
    from mapitem.records import Operation
    from mapitem.state import Draft, MapState, Row

    Result = TypeVar("Result")

_MICROSECONDS = 1_000_000


class FaultyStore(Store):
    """A ``Store`` with ``faults`` that can be made to happen. Takes the arguments of ``Store``.

    >>> from mapitem import RevisionMismatch
    >>> store = FaultyStore()
    >>> counters = store.map("counters")
    >>> visits = counters.set("visits", {"n": 1})
    >>> store.faults.conflict("visits", times=2)
    >>> asked = []
    >>> def count(data):
    ...     asked.append(data["n"])
    ...     return {"n": data["n"] + 1}
    >>> counters.mutate("visits", count).data, asked
    ({'n': 2}, [1, 1, 1])
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Any) -> None:
        self.faults = Faults(self)
        self._disk: _FaultyDisk = _FaultyDisk(self.faults)
        super().__init__(path, **options)

    @property
    def _engine(self) -> Engine:
        return self._late_engine

    @_engine.setter
    def _engine(self, engine: Engine) -> None:
        # Whichever the store has made or loaded: seen through this one, expiry is late.
        self._late_engine = _LateEngine(engine, self.faults)

    def __enter__(self) -> FaultyStore:
        super().__enter__()
        return self

    def batch(self) -> Batch:
        self._check_writable()
        return _ToldBatch(self)

    def _write(self, judge: Callable[..., tuple[list[Operation], Result]], *arguments: Any) -> Result:
        self._check_writable()
        faults = self.faults
        faults._before(_writes_of(self._engine, judge, arguments))

        def judged(*arguments: Any) -> tuple[list[Operation], Result]:
            operations, result = judge(*arguments)
            faults._before_append(operations)
            return operations, result

        return super()._write(judged, *arguments)


class Faults:
    """What is to go wrong in one ``FaultyStore``, and when. Thread-safe, as the store is.

    Each fault is asked for by a call, happens a counted number of times (or until ``clear``), and then is over.
    """

    def __init__(self, store: FaultyStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._thread = threading.local()
        self.clear()

    def clear(self) -> None:
        """Let everything work again that has not yet failed. What failed already stays so."""
        with self._lock:
            self._rivals: list[_Rival] = []
            self._rates: tuple[float, float] | None = None
            self._windows: dict[str, RateWindow] = {}
            self._append_failure = _Failure(0)
            self._sync_failure = _Failure(0)
            self._failing_write: tuple[OSError, int] | None = None
            self._lag = 0

    # ------------------------------------------------------------ asked for

    def conflict(
        self, key: str, times: int = 1, *, map: Map | None = None, by: Callable[[Map], object] | None = None
    ) -> None:
        """Let somebody else be faster at the next ``times`` conditional writes of ``key``, in any map or in ``map``.

        Conditional is what another's write can break: ``create``, ``if_match`` with a revision, and every attempt of
        ``mutate`` and ``update``. Just before each such write ``by`` is called with the map, as the rival whose write
        comes first; by default it writes the item again as it is, or ``{}`` if it is absent. Then the condition is
        judged as ever, so that what follows is what follows in earnest: ``RevisionMismatch`` and a new revision to be
        read, or ``ItemExists`` for a ``create``. In a batch the rivals come before the whole of it.
        """
        _check_times(times)
        with self._lock:
            self._rivals.append(_Rival(key, None if map is None else map.sid, times, by or _rewriting(key)))

    def limit_rates(self, per_second: float = 20, window_seconds: float = 10) -> None:
        """Refuse writes with ``RateLimitExceeded`` (429, 54009) where they come faster than the service takes them.

        So many a second in each map, counted over the window, by the store's clock: with the service's own numbers,
        which are the default, 200 at once and then none for ten seconds. Data of more than 1 KiB takes as much more of
        it as it is larger, up to ten times at 10 KiB. Every attempt counts that is not refused for its rate or its
        arguments: each of ``mutate``, each write of a batch. Reads, the making of maps, ``purge`` and ``compact`` are
        free. Calling again begins anew.
        """
        if per_second <= 0 or window_seconds <= 0:
            raise ValueError("per_second and window_seconds must be greater than 0")
        with self._lock:
            self._rates = per_second, window_seconds
            self._windows = {}

    def expire_late(self, by: float) -> None:
        """Show expired items and maps for ``by`` seconds more, as the service may; 0 for the rule (T3).

        The service promises only that what has expired goes at some time. Until then it is there for every read and
        every condition, with a ``date_expires`` that has passed; afterwards it is absent, and is removed as ever.
        """
        if by < 0:
            raise ValueError("what expires late does so by at least 0 seconds")
        with self._lock:
            self._lag = round(by * _MICROSECONDS)

    def fail_append(self, error: int = codes.ENOSPC, times: int = 1, *, after: int = 0, written: int = 0) -> None:
        """Fail the next ``times`` writes with ``OSError(error)``, once ``after`` others have gone well.

        They fail where a full or broken disk fails them: when all is judged and the record goes to the file, of which
        the disk takes ``written`` bytes. The store then does what durability F1 says: nothing is written, and it works
        on. In memory the same is seen from outside. Writes that have nothing to write do not count.
        """
        _check_times(times)
        with self._lock:
            self._append_failure = _Failure(times, after, error, written)

    def fail_sync(self, error: int = codes.EIO, times: int = 1, *, after: int = 0) -> None:
        """Fail the next ``times`` fsyncs of the store's file, once ``after`` others have gone well.

        By durability F2 the store takes no more writes then, and the write that met it says ``outcome_unknown``. A
        store in memory has none: ``ValueError``.
        """
        _check_times(times)
        self._check_on_file()
        with self._lock:
            self._sync_failure = _Failure(times, after, error)

    def crash(self, *, cut_at: int | None = None) -> None:
        """End the store as ``kill -9`` would: nothing more is written, the lock is free, every use is ``StoreClosed``.

        The file is left as it is, or cut at byte ``cut_at`` (see ``cut``). Open it again for what comes after. A store
        in memory has none: ``ValueError``.
        """
        store = self._store
        self._check_on_file()
        store._check_open()
        with store._reading():
            store._refuse(StoreClosed, "the store has crashed, as it was told to")
            store._log.abandon()
            store._disk.close_all()
            store._is_let_go = True
        store._wake_watchers()
        if store._writer_lock is not None:
            store._writer_lock.release()
        if cut_at is not None:
            assert store._path is not None
            cut(store._path, cut_at)

    # ------------------------------------------------------------ and happening

    def _before(self, writes: list[_Write]) -> None:
        """Let happen what comes before a write, or before the writes of a batch."""
        if getattr(self._thread, "is_rival", False):
            return
        with self._lock:
            if self._rates is not None:
                self._take_rates(writes, *self._rates)
            due = [(write.state, by) for write in writes if (by := self._rival_of(write)) is not None]
        for state, by in due:
            with self._as_rival():
                by(Map(self._store, state))

    def _take_rates(self, writes: list[_Write], per_second: float, window_seconds: float) -> None:
        now = self._store._now()
        sizes: dict[str, list[int]] = {}
        for write in writes:
            sizes.setdefault(write.state.sid, []).append(write.data_bytes)
        windows = {sid: self._windows.setdefault(sid, RateWindow(per_second, window_seconds)) for sid in sizes}
        for sid, window in windows.items():
            window.check(sizes[sid], now, sid)
        for sid, window in windows.items():
            window.note(sizes[sid], now)

    def _rival_of(self, write: _Write) -> Callable[[Map], object] | None:
        if write.condition in (None, "*"):
            return None
        for rival in self._rivals:
            if rival.times and rival.key == write.key and rival.sid in (None, write.state.sid):
                rival.times -= 1
                return rival.by
        return None

    @contextmanager
    def _as_rival(self) -> Iterator[None]:
        """A rival is not subject to faults."""
        self._thread.is_rival = True
        try:
            yield
        finally:
            self._thread.is_rival = False

    def _before_append(self, operations: Sequence[Operation]) -> None:
        """Under the store's lock, between judgement and log."""
        with self._lock:
            self._failing_write = None
            if not operations or getattr(self._thread, "is_rival", False) or not self._append_failure.happens():
                return
            failure = self._append_failure.as_error(), self._append_failure.written
            if self._store._path is None:
                raise failure[0]
            self._failing_write = failure

    def _take_failing_write(self) -> tuple[OSError, int] | None:
        with self._lock:
            failing, self._failing_write = self._failing_write, None
            return failing

    def _check_sync(self) -> None:
        with self._lock:
            if self._sync_failure.happens():
                raise self._sync_failure.as_error()

    def _check_on_file(self) -> None:
        if self._store._path is None:
            raise ValueError("a store in memory has no file")


def cut(path: str | os.PathLike[str], at: int) -> None:
    """Cut a store's file, which nobody has open, to its first ``at`` bytes; below 0, by so many from its end.

    What the store finds when it opens the file is what a crash in the middle of a write leaves: a torn tail is dropped
    and told in ``store.recovery``; a cut that reaches what was written when the file was made is ``LogCorrupt``.
    ``ValueError`` for a place that is not in the file.
    """
    size = os.path.getsize(path)
    place = at if at >= 0 else size + at
    if not 0 <= place <= size:
        raise ValueError(f"byte {at} is not in the file, which has {size}")
    os.truncate(path, place)


class _Rival:
    def __init__(self, key: str, sid: str | None, times: int, by: Callable[[Map], object]) -> None:
        self.key = key
        self.sid = sid
        self.times = times
        self.by = by


class _Failure:
    """A call that is to fail: so many times, after so many others."""

    def __init__(self, times: int, after: int = 0, error: int = codes.EIO, written: int = 0) -> None:
        self.times = times
        self.after = after
        self.error = error
        self.written = written

    def happens(self) -> bool:
        """Count one call; whether it is one of those that fail."""
        if not self.times:
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True

    def as_error(self) -> OSError:
        return OSError(self.error, f"{os.strerror(self.error)} (as it was told to)")


class _Write(NamedTuple):
    """One write as the faults see it. ``condition`` is as the engine's."""

    state: MapState
    key: str | None = None
    condition: str | None = None
    data_bytes: int = 0


def _writes_of(engine: Engine, judge: Callable[..., Any], arguments: tuple[Any, ...]) -> list[_Write]:
    """What a call of ``Store._write`` is about to write; nothing for what the faults leave alone."""
    if judge == engine.put:
        state, key, packed, _, _, _, condition = arguments
        return [_Write(state, key, condition, _json_bytes(packed))]
    if judge == engine.remove:
        state, key, condition = arguments
        return [_Write(state, key, condition)]
    if judge in (engine.set_map_ttl, engine.remove_map):
        return [_Write(arguments[0])]
    batch = getattr(judge, "__self__", None)
    return batch.told if isinstance(batch, _ToldBatch) else []


def _json_bytes(packed: bytes | None) -> int:
    """How large data is by the service's measure (D3)."""
    if packed is None:
        return 0
    return len(json.dumps(unpackb(packed), ensure_ascii=False, separators=(",", ":")).encode())


def _rewriting(key: str) -> Callable[[Map], object]:
    # Atomic, or it would undo what a third writer wrote in between.
    return lambda map_: map_.mutate(key, lambda data: data)


def _check_times(times: int) -> None:
    if type(times) is not int or times < 0:
        raise ValueError(f"times must be an int of at least 0, not {times!r}")


class _ToldBatch(Batch):
    """A batch that tells what it is about to write."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.told: list[_Write] = []

    def create(self, map: Map, key: str, data: dict[str, Any], **options: Any) -> None:
        super().create(map, key, data, **options)
        self._tell(map, key, data, ABSENT)

    def set(self, map: Map, key: str, data: dict[str, Any], **options: Any) -> None:
        super().set(map, key, data, **options)
        self._tell(map, key, data, options.get("if_match"))

    def update(self, map: Map, key: str, changes: dict[str, Any], **options: Any) -> None:
        super().update(map, key, changes, **options)
        self._tell(map, key, changes, options.get("if_match"))

    def remove(self, map: Map, key: str, *, if_match: str | None = None) -> None:
        super().remove(map, key, if_match=if_match)
        self._tell(map, key, None, if_match)

    def set_item_ttl(self, map: Map, key: str, ttl: int | timedelta, *, if_match: str | None = None) -> None:
        super().set_item_ttl(map, key, ttl, if_match=if_match)
        self._tell(map, key, None, if_match)

    def _tell(self, map: Map, key: str, data: dict[str, Any] | None, condition: str | None) -> None:
        size = 0 if data is None else len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
        self.told.append(_Write(map._state, key, condition, size))


class _FaultyDisk(Disk):
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._descriptors: set[int] = set()

    def open_read(self, path: str) -> int:
        return self._opened(super().open_read(path))

    def open_write(self, path: str) -> int:
        return self._opened(super().open_write(path))

    def create(self, path: str, mode: int) -> int:
        return self._opened(super().create(path, mode))

    def close(self, descriptor: int) -> None:
        if descriptor in self._descriptors:  # else the crash closed it, and the number may be somebody else's by now
            self._descriptors.discard(descriptor)
            super().close(descriptor)

    def close_all(self) -> None:
        """As the end of the process does."""
        while self._descriptors:
            super().close(self._descriptors.pop())

    def _opened(self, descriptor: int) -> int:
        self._descriptors.add(descriptor)
        return descriptor

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        failing = self._faults._take_failing_write()
        if failing is None:
            return super().write(descriptor, data, offset)
        error, written = failing
        super().write(descriptor, memoryview(data)[:written], offset)
        raise error

    def allocate(self, descriptor: int, start: int, end: int) -> None:
        """Refused, so that every append is a call that can fail."""
        raise OSError(codes.EOPNOTSUPP, os.strerror(codes.EOPNOTSUPP))

    def sync(self, descriptor: int) -> None:
        self._faults._check_sync()
        super().sync(descriptor)


class _LateEngine(Engine):
    """An engine, but that whatever judges expiry does so as of some time ago. What is stamped is stamped as ever."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        # One engine with two faces: what the one changes, the other has.
        self.__dict__ = engine.__dict__
        self._faults = faults

    def is_over(self, state: MapState | Draft, now: int) -> bool:  # type: ignore[override]
        return super().is_over(state, now - self._faults._lag)

    def row(self, state: MapState | Draft, key: str, now: int) -> Row | None:
        return super().row(state, key, now - self._faults._lag)

    def count(self, state: MapState, now: int) -> int:
        return super().count(state, now - self._faults._lag)

    def scan(self, state: MapState, part: KeyRange, now: int, limit: int) -> list[tuple[str, Row]]:
        return super().scan(state, part, now - self._faults._lag, limit)

    def _expire_first(self, state: MapState | Draft, now: int) -> tuple[list[Operation], int]:
        operations, number = super()._expire_first(state, now - self._faults._lag)
        # The date of the event is the present one.
        return [(*operation[:-1], now) for operation in operations], number

"""``Store``: opens and closes, finds and makes maps, and leads every write through lock, log and engine.

The order of a write is fixed: the engine judges it and names the operations, the log takes them, the engine applies
them, all under one lock; only then is anybody told. Arguments were checked before, by whoever calls ``write``.
"""

from __future__ import annotations

import os
import stat
import sys
import time
import warnings
import weakref
from contextlib import suppress
from threading import RLock, local

from msgpack import packb

from mapitem.disk import Disk
from mapitem.engine import Engine
from mapitem.errors import (
    LogCorrupt,
    MapNotFound,
    NotAStore,
    ReentrantUse,
    StoreClosed,
    StoreFailed,
    StoreForked,
    StoreReadOnly,
)
from mapitem.events import Teller
from mapitem.frames import CLOSE
from mapitem.item import NEVER
from mapitem.limits import Limits, check_name, check_ttl, is_text, looks_like_sid, shown
from mapitem.log import FileLog, MemoryLog, NewLog, OpenedLog, create_log, remove_leftover
from mapitem.map import Map
from mapitem.records import rough_size
from mapitem.state import ALWAYS_LOOK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta
    from typing import Any, Literal, TypeVar

    from mapitem.batch import Batch
    from mapitem.compaction import Compaction
    from mapitem.engine import Change
    from mapitem.events import SomeEvent, Subscription
    from mapitem.keyrange import KeyRange
    from mapitem.lock import WriterLock
    from mapitem.log import Recovery
    from mapitem.records import Operation
    from mapitem.state import MapState, Row
    from mapitem.watch import Watch

    Result = TypeVar("Result")

_MICROSECONDS = 1_000_000
# Logs under this size are left alone (F2).
_COMPACT_FROM_BYTES = 4 * 1024 * 1024
# How many bytes of base are written for each byte appended: the log grows by an eighth of what is live meanwhile, which
# keeps old and new log together under three times that (M4).
_COMPACT_SPEED = 8
# What a step of compaction counts for beside the bytes that it writes, for some write none.
_STEP_BYTES = 64
# The instants that a datetime can hold, less the longest time to live.
_FIRST_INSTANT = -62_135_596_800 * _MICROSECONDS
_LAST_INSTANT = (253_402_300_800 - 2 * 31_536_000) * _MICROSECONDS


class _Deferral(local):
    """The store whose writes on this thread leave the waiting for the disk to somebody else, and for how much."""

    store: Store | None = None
    position = 0


_deferral = _Deferral()


class Store:
    """A set of named maps, in memory (``Store()``) or in one file (``Store(path)``).

    ``durability`` says what an acknowledged write survives: ``"process"`` (the default), the death of the process at
    any instruction; ``"power"``, also a power cut, at the price of waiting for the disk; ``"none"``, nothing before
    ``sync`` or ``close``. ``clock`` returns seconds since 1970-01-01 UTC, ``identity`` is the ``created_by`` of what
    this store creates, ``limits`` bind writes. ``read_only`` opens a file as it is at this moment: no lock, nothing
    changed. ``compact_at`` says when the log is rewritten by itself: once it is over 4 MiB and this many times the
    size of what is live; ``None`` for never.

    A missing file is created. Raises ``StoreLocked`` if the file is open for writing elsewhere, ``NotAStore``,
    ``NewerFormat`` or ``LogCorrupt`` for a file that cannot be served (it is left as it is), ``OSError`` from the
    operating system. Use it as a context manager, or call ``close``.

    Thread-safe: any number of threads may use one store and its maps. A write takes the store's lock, a read of a
    single item does not. Opening costs time in proportion to the file, and the whole store is held in memory
    (semantics S, durability R).

    >>> with Store() as store:
    ...     users = store.map("users")
    ...     users.set("taylor", {"country": "UK"}).revision
    '0'
    """

    # Under the log of every store; tests put a simulated one here.
    _disk = Disk()

    # Why every use is refused, as error and message, or None; and the lock of a store that writes to a file. Here, so
    # that a store whose opening failed at its very beginning can be finalized.
    _refusal: tuple[type[Exception], str] | None = None
    # Whether close() has come to its end.
    _is_let_go = False
    _writer_lock: WriterLock | None = None

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        durability: Literal["none", "process", "power"] = "process",
        clock: Callable[[], float] = time.time,
        identity: str = "system",
        limits: Limits | None = None,
        read_only: bool = False,
        compact_at: float | None = 1.6,
    ) -> None:
        if durability not in ("none", "process", "power"):
            raise ValueError(f"durability must be 'none', 'process' or 'power', not {shown(durability)}")
        if not callable(clock):
            raise TypeError(f"clock must be callable and return seconds, not {shown(clock)}")
        if not is_text(identity) or not identity:
            raise ValueError(f"identity must be a str of at least one character, not {shown(identity)}")
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError(f"limits must be Limits, not {shown(limits)}")
        if compact_at is not None and not (isinstance(compact_at, int | float) and compact_at > 1):
            raise ValueError(f"compact_at must be a number greater than 1, or None, not {shown(compact_at)}")
        if read_only and path is None:
            raise ValueError("read_only needs a path: an empty store in memory would stay empty")
        self._durability = durability
        self._clock = clock
        self._identity = identity
        self._packed_identity: bytes = packb(identity)
        self._limits = limits if limits is not None else Limits()
        self._lock = RLock()
        self._engine = Engine()
        # As _refusal, for writes.
        self._write_refusal: tuple[type[Exception], str] | None = None
        self._teller = Teller()
        self._watchers: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._is_watched = False
        self._compact_at = compact_at
        self._compact_from = _COMPACT_FROM_BYTES if compact_at is not None else sys.maxsize
        self._compaction: Compaction | None = None
        self._compaction_debt = 0
        # Set from before a record goes to the log until the engine has applied it, and where the log was before.
        self._unsettled = False
        self._settled_at = 0
        self._path: str | None = None
        self._log: FileLog | MemoryLog = MemoryLog()
        if path is not None:
            self._path = os.path.realpath(os.fsdecode(path))
            if read_only:
                self._write_refusal = (StoreReadOnly, "the store was opened with read_only=True")
                self._engine, self._log = self._open_to_read(self._path)
            else:
                self._log = self._open_to_write(self._path)
        _stores.add(self)

    # ------------------------------------------------------------ opening and closing

    def _open_to_read(self, path: str) -> tuple[Engine, FileLog]:
        if not self._disk.exists(path):
            raise NotAStore(f"{path} is not a store: there is no such file", path=path, reason="there is no such file")
        _check_regular(self._disk, path)
        for tries_left in (2, 1, 0):
            engine = Engine()
            opened = OpenedLog(self._disk, path, read_only=True)
            try:
                self._load(opened, engine)
                return engine, opened.finish_reading()
            except LogCorrupt:
                # It may be a record that a writer elsewhere was in the middle of, and is through with by now.
                if not tries_left or not opened.has_grown():
                    raise
            finally:
                opened.close()
        raise AssertionError("the last try returns or raises")

    def _open_to_write(self, path: str) -> FileLog:
        is_new = not self._disk.exists(path)
        if is_new:
            # The lock would make the missing directories on its way.
            self._disk.type(os.path.dirname(path))
        else:
            # What is no store is refused before a lock file is made for it.
            _check_regular(self._disk, path)
            OpenedLog(self._disk, path, read_only=True).close()
        # Here and not above, as below it: a store in memory needs none of it.
        from mapitem.lock import WriterLock

        lock = WriterLock(path)
        try:
            remove_leftover(self._disk, path)
            if is_new and not self._disk.exists(path):
                log = create_log(self._disk, path)
            else:
                opened = OpenedLog(self._disk, path, read_only=False)
                try:
                    self._load(opened, self._engine)
                    log = opened.finish(rewrite=self._durability == "power")
                finally:
                    opened.close()
        except BaseException:
            lock.withdraw()
            raise
        self._writer_lock = lock
        return log

    @staticmethod
    def _load(opened: OpenedLog, engine: Engine) -> None:
        try:
            engine.load(opened.records())
        except (KeyError, ValueError) as error:
            reason = f"a record that does not follow from those before it ({error})"
            raise opened.corrupt(opened.place, reason) from None
        opened.verdict()

    def close(self, *, sync: bool = True) -> None:
        """Put everything on the medium, mark the file as cleanly closed, and let it and its lock go.

        May be called twice. Afterwards every use raises ``StoreClosed``; threads that are waiting to write get it too.
        Raises ``OSError`` or ``StoreFailed`` if the disk refused, and has let go of file and lock all the same.
        ``sync=False`` leaves out the waiting for the disk and is for ``durability="none"`` alone (``ValueError``
        otherwise).
        """
        if not sync and self._durability != "none":
            raise ValueError('close(sync=False) is for durability="none" alone')
        if self._is_let_go:
            return
        self._check_not_reentrant()
        with self._lock:
            if self._is_let_go:
                return
            # What is interrupted from here on, the next call brings to its end.
            self._refuse(StoreClosed, "the store is closed")
            try:
                self._stop_compaction()
                self._recover_unsettled()
                self._log.close(sync=sync)
            finally:
                try:
                    self._log.abandon()
                finally:
                    self._wake_watchers()
                    if self._writer_lock is not None:
                        self._writer_lock.release()
                    self._is_let_go = True

    def __enter__(self) -> Store:
        self._check_open()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except Exception as failure:
            # What ended the block is what the caller has to hear of.
            error.add_note(f"and closing {self!r} failed: {failure}")

    def __del__(self) -> None:
        if self._refusal is not None or not isinstance(getattr(self, "_log", None), FileLog):
            return
        self._log.abandon()
        warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)

    def __repr__(self) -> str:
        return "Store()" if self._path is None else f"Store({self._path!r})"

    @property
    def durability(self) -> Literal["none", "process", "power"]:
        """What an acknowledged write survives; fixed when the store was opened."""
        return self._durability

    @property
    def recovery(self) -> Recovery | None:
        """What opening found and mended after an end that was not clean; ``None`` after a clean one and in memory."""
        return self._log.recovery

    def sync(self) -> None:
        """Return once everything acknowledged before would survive a power cut. In memory: at once.

        Raises ``StoreFailed`` if the disk refused, now or before; the store then takes no more writes.
        """
        self._check_open()
        self._check_not_reentrant()
        self._log.sync()

    def compact(self) -> None:
        """Rewrite the log to the present state: what is due goes first, as events; then the feeds begin anew (F2).

        Other threads go on reading and writing. On failure the old log stays in use: ``OSError``, or ``StoreFailed`` if
        the new one had its name already and the directory could not be synced (durability M, F4).
        """
        self.purge()
        if isinstance(self._log, FileLog):
            with self._reading():
                self._check_writable()
                if self._compaction is None:
                    self._begin_compaction(self._log)
                compaction = self._compaction
            while not self._compact_step():
                pass
            if compaction is not None and compaction.failure is not None:
                # In a step that another thread's write took.
                raise OSError(f"the compaction failed: {compaction.failure}") from compaction.failure
        else:
            with self._reading():
                self._drop_records(self._log)

    def backup(self, target: str | os.PathLike[str]) -> None:
        """Write a consistent copy of the store, as of this moment, into a new file; writers go on meanwhile (M5).

        The copy is a store like any other, cleanly closed, and on the medium when this returns. ``FileExistsError`` if
        there is a file already: nothing is overwritten.
        """
        self._check_open()
        path = os.path.realpath(os.fsdecode(target))
        if self._disk.exists(path):
            raise FileExistsError(f"{path} exists: a backup does not overwrite")
        if isinstance(self._log, FileLog):
            self._log.copy_to(path, self._reading())
            return
        from mapitem.compaction import write_base

        new = NewLog(self._disk, path, None)
        try:
            with self._reading():
                write_base(self._engine, new)
            new.finish()
            new.append(CLOSE)
            new.flush()
            new.file.put_in_place()
        finally:
            new.discard()

    def refresh(self) -> None:
        """Bring a store opened with ``read_only=True`` to what the file holds now (durability R7).

        Handles stay; those of maps that are gone by now are dead. If it raises, the store is as it was before.
        ``ValueError`` on a store that writes, for it is always fresh.
        """
        self._check_open()
        if self._writer_lock is not None or self._path is None:
            raise ValueError("refresh is for stores opened with read_only=True")
        with self._reading():
            engine, log = self._open_to_read(self._path)
            self._log.abandon()
            self._log = log
            engine.take_over(self._engine)
            self._engine = engine
            self._wake_watchers()

    # ------------------------------------------------------------ maps

    def map(self, name: str, *, ttl: int | timedelta | None = None) -> Map:
        """The map of that name; if there is none, it is created with that time to live (in seconds, ``None``: no end).

        Raises ``InvalidName``, ``InvalidTTL``; ``StoreReadOnly`` if it would have to be created. An existing map keeps
        its own time to live (semantics S2).
        """
        self._check_open()
        found: Map | None = None
        with suppress(MapNotFound):
            found = self.open_map(name)
        if found is None or looks_like_sid(name):
            check_name(name, self._limits.max_key_chars)
        seconds = check_ttl(ttl)
        if found is not None:
            return found
        self._check_writable()
        return self._handle(self._write(self._create, name, seconds, True))

    def create_map(self, name: str | None = None, *, ttl: int | timedelta | None = None) -> Map:
        """A new map. ``MapExists`` if the name is taken; without a name only its ``sid`` finds it again."""
        self._check_writable()
        if name is not None:
            check_name(name, self._limits.max_key_chars)
        return self._handle(self._write(self._create, name, check_ttl(ttl), False))

    def open_map(self, name_or_sid: str) -> Map:
        """The live map of that name or sid; ``MapNotFound``, or ``InvalidName`` for what can be neither."""
        self._check_open()
        if type(name_or_sid) is str:
            with self._reading():
                try:
                    return Map(self, self._engine.find(name_or_sid, self._now()))
                except MapNotFound:
                    if looks_like_sid(name_or_sid):
                        raise
        # Judged only now: what was stored stays readable, also through narrower limits (D5).
        check_name(name_or_sid, self._limits.max_key_chars)
        raise MapNotFound(f"no map {name_or_sid!r}", name=name_or_sid, by_name=True)

    def maps(self) -> Iterator[Map]:
        """The live maps at this moment: by name, the nameless last by sid."""
        self._check_open()
        with self._reading():
            return iter([Map(self, state) for state in self._engine.live_states(self._now())])

    def purge(self) -> int:
        """Remove every item that is due and drop every map that has expired; how many items went (semantics T4, T5)."""
        self._check_writable()
        return self._write(self._engine.purge_all)

    def batch(self) -> Batch:
        """Several writes to one or more maps that apply together or not at all: use it in a ``with`` block (W7).

        >>> store = Store()
        >>> stock, orders = store.map("stock"), store.map("orders")
        >>> item = stock.set("apples", {"count": 3})
        >>> with store.batch() as batch:
        ...     batch.update(stock, "apples", {"count": 2}, if_match=item.revision)
        ...     batch.create(orders, "0001", {"apples": 1})
        >>> [item.revision for item in batch.results]
        ['1', '0']
        """
        self._check_writable()
        from mapitem.batch import Batch

        return Batch(self)

    def on(self, kind: type[SomeEvent], callback: Callable[[SomeEvent], object]) -> Subscription:
        """Call ``callback`` for every event of this kind (or ``Event`` for all) in any map, from now on (E2).

        Callbacks run after the write is done and the lock released, one at a time and in the order of the writes, on
        one of the writing threads; they may use the store. What one raises is logged and hurts nobody. Returns the
        handle that ends it. ``TypeError`` if the arguments are not an event class and a callable.
        """
        self._check_open()
        return self._teller.add(kind, callback, None)

    def _create(self, name: str | None, ttl: int | None, or_open: bool, now: int) -> tuple[list[Operation], str]:
        sid = f"MP{os.urandom(16).hex()}"
        return self._engine.create_map(sid, name, self._identity, ttl, or_open, now)

    def _handle(self, sid: str) -> Map:
        with self._reading():
            return Map(self, self._engine.state(sid))

    # ------------------------------------------------------------ for Map: the one way to write, the long way to read

    def _now(self) -> int:
        """The clock, in whole microseconds since 1970-01-01 UTC (T7)."""
        seconds = self._clock()
        try:
            now = round(seconds * _MICROSECONDS)
        except (TypeError, ValueError, OverflowError):
            now = _LAST_INSTANT + 1
        if not _FIRST_INSTANT <= now <= _LAST_INSTANT:
            raise ValueError(f"the clock must return seconds since 1970-01-01 UTC, not {shown(seconds)}")
        return now

    def _write(self, judge: Callable[..., tuple[list[Operation], Result]], *arguments: Any) -> Result:
        """Lead a write through: ``judge(*arguments, now)``, log, engine. Returns what ``judge`` says is the result."""
        self._check_not_reentrant()
        log = self._log
        with self._lock:
            self._check_writable()
            self._recover_unsettled()
            # Under the lock, as reads do: a write that waited must not act on what was due in the meantime.
            now = self._now()
            operations, result = judge(*arguments, now)
            if not operations:
                return result
            watched = self._engine.watched(operations) if self._is_watched else ()
            self._unsettled = True
            place = log.append(operations)
            changes: list[Change] | None = [] if self._teller.subscriptions else None
            self._engine.apply(operations, place, changes)
            if self._compaction is not None:
                self._compaction.note(operations)
            self._settled_at = position = log.position
            self._unsettled = False
            if changes:
                self._teller.note(changes, position)
            for state in watched:
                self._wake(state)
            if log.size >= self._compact_from:
                self._compact_along(operations)
        if self._durability == "power":
            if _deferral.store is self:
                _deferral.position = position
                return result
            log.sync(position)
        if changes:
            self._teller.tell(position)
        return result

    def _without_waiting(self, call: Callable[[], Result]) -> tuple[int, Result]:
        """What ``call`` returns, and the position up to which the log must be synced before it is acknowledged.

        For asyncio, which waits elsewhere. 0 if there is nothing to wait for.
        """
        _deferral.store, _deferral.position = self, 0
        try:
            result = call()
        finally:
            _deferral.store = None
        return _deferral.position, result

    def _recover_unsettled(self) -> None:
        """After a write that was interrupted at some line: go on if it left nothing behind, else fail (F3)."""
        if not self._unsettled:
            return
        log = self._log
        if log.position != self._settled_at and log.failed is None:
            # The log has a record that the engine did not apply, or not to its end.
            log.failed = InterruptedError("a write was interrupted between log and memory")
        if log.failed is not None:
            raise StoreFailed(f"an earlier failure left the file in doubt ({log.failed}): open the store anew")
        self._unsettled = False

    @staticmethod
    def _wake(state: MapState) -> None:
        """Wake those who watch this map, and forget those who are through."""
        watchers = state.watchers
        assert watchers is not None
        for watch in list(watchers):
            if watch.is_over:
                watchers.discard(watch)
            else:
                watch.wake()

    def _wake_watchers(self) -> None:
        for watch in list(self._watchers):
            watch.wake()

    # ------------------------------------------------------------ compaction

    def _compact_along(self, operations: Sequence[Operation]) -> None:
        """Do a share of compaction with a write, in proportion to its size (M3, M4). It never fails the write."""
        log = self._log
        if self._compaction is None and not self._is_time_to_compact():
            return
        try:
            if not isinstance(log, FileLog):
                self._drop_records(log)
                return
            if self._compaction is None:
                self._begin_compaction(log)
            self._compaction_debt += _COMPACT_SPEED * rough_size(operations)
            while self._compaction_debt > 0 and self._compaction is not None:
                self._compaction_debt -= self._advance_compaction()
        except OSError as error:
            from logging import getLogger

            getLogger("mapitem.compaction").warning("%s: compaction failed: %s", self._path, error)
            # Try again when the log has grown by as much again, not at every write.
            self._compact_from = 2 * log.size

    def _is_time_to_compact(self) -> bool:
        """Whether the log is as large as it may be; if not, at which size to look again."""
        assert self._compact_at is not None
        live = self._engine.live_bytes
        longest = int(_COMPACT_FROM_BYTES + self._compact_at * live)
        # What is live may be much less by then: look again before the log has grown by much.
        self._compact_from = min(longest, self._log.size + max(_COMPACT_FROM_BYTES // 4, live // 16))
        return self._log.size >= longest

    def _begin_compaction(self, log: FileLog) -> None:
        from mapitem.compaction import Compaction

        self._compaction = Compaction(self._engine, log.begin())
        self._compaction_debt = 0
        # From now on every write has a share in it.
        self._compact_from = 0

    def _compact_step(self) -> bool:
        """One step more, under the lock; whether the compaction is over."""
        with self._reading():
            self._check_writable()
            self._recover_unsettled()
            if self._compaction is not None:
                self._advance_compaction()
            return self._compaction is None

    def _advance_compaction(self) -> int:
        """One step more; about how many bytes it wrote."""
        compaction, log = self._compaction, self._log
        assert compaction is not None
        assert isinstance(log, FileLog)
        before = compaction.new.size
        try:
            log.check_usable()
            if compaction.step():
                compaction.finish()
                self._forget_after(log, compaction)
        except BaseException as error:
            compaction.failure = error
            self._stop_compaction()
            raise
        return compaction.new.size - before + _STEP_BYTES

    def _forget_after(self, log: FileLog, compaction: Compaction) -> None:
        self._save_backlogs()
        try:
            log.adopt(compaction.new)
            self._forget_history()
            self._compaction = None
        except BaseException as error:
            if compaction.new.file.placed:
                # The places of the records are those of the old log: without them nobody must go on.
                if log.failed is None:
                    log.fail(error)
                self._forget_history()
                self._compaction = None
            raise

    def _drop_records(self, log: MemoryLog) -> None:
        self._save_backlogs()
        # In this order: an interruption between the two must leave no place of a record that is gone.
        self._forget_history()
        log.forget()

    def _save_backlogs(self) -> None:
        for watch in list(self._watchers):
            watch.save_backlog()

    def _stop_compaction(self) -> None:
        compaction, self._compaction = self._compaction, None
        if compaction is not None:
            compaction.new.discard()
            self._compact_from = _COMPACT_FROM_BYTES if self._compact_at is not None else sys.maxsize

    def _forget_history(self) -> None:
        self._engine.forget_history()
        for watch in list(self._watchers):
            watch.forget_history()
        self._compact_from = _COMPACT_FROM_BYTES if self._compact_at is not None else sys.maxsize

    def _row(self, state: MapState, key: str) -> Row | None:
        """The row of a present item, or ``None``. Takes no lock unless the map wants a second look."""
        if state.quiet_until != NEVER:
            now = self._now()
            if now >= state.quiet_until:
                with self._reading():
                    self._engine.check_alive(state, now)
                    return self._engine.row(state, key, now)
        row: Row | None = state.rows.get(key)
        return row

    def _row_after_others(self, state: MapState, key: str) -> Row | None:
        """As ``_row``, for one who has lost a race: waits for the write that is under way.

        A read that waits for nobody tends to run just while another thread is in the middle of its write, waiting for
        the disk, and is stale by the time it has the lock; who reads so again and again may lose for ever.
        """
        with self._reading():
            now = self._now()
            self._engine.check_alive(state, now)
            return self._engine.row(state, key, now)

    def _check_live(self, state: MapState) -> None:
        """Raise unless store and map can be read."""
        if state.quiet_until != NEVER:
            self._check_open()
            self._engine.check_alive(state, self._now())

    def _count(self, state: MapState) -> int:
        if state.quiet_until == NEVER:
            return len(state.rows)
        with self._reading():
            now = self._now()
            self._engine.check_alive(state, now)
            return self._engine.count(state, now)

    def _scan(self, state: MapState, part: KeyRange, limit: int) -> list[tuple[str, Row]]:
        """One consistent look at up to ``limit`` items."""
        with self._reading():
            now = self._now()
            self._engine.check_alive(state, now)
            return self._engine.scan(state, part, now, limit)

    # ------------------------------------------------------------ who may

    def _reading(self) -> RLock:
        """The lock, for a read that looks at more than one thing. Raises like every other use."""
        self._check_open()
        self._check_not_reentrant()
        return self._lock

    def _check_open(self) -> None:
        if self._refusal is not None:
            error, message = self._refusal
            raise error(message)

    def _check_writable(self) -> None:
        if self._write_refusal is not None:
            error, message = self._write_refusal
            raise error(message)

    def _check_not_reentrant(self) -> None:
        # The lock is re-entrant only so that a signal handler that interrupts its holder can be told here, not hang.
        if self._lock._is_owned() or self._log.sync_lock._is_owned():  # type: ignore[attr-defined]
            raise ReentrantUse("the store was called in the middle of its own work, as by a signal handler")

    def _refuse(self, error: type[Exception], message: str) -> None:
        """From now on raise this error at every use, reads that take no lock included."""
        self._refusal = self._write_refusal = (error, message)
        for state in self._engine.states():
            state.held = True
            state.quiet_until = ALWAYS_LOOK


def _check_regular(disk: Disk, path: str) -> None:
    mode = disk.type(path)
    if not stat.S_ISREG(mode):
        reason = "it is a directory" if stat.S_ISDIR(mode) else "it is no regular file"
        raise NotAStore(f"{path} is not a store: {reason}", path=path, reason=reason)


# ---------------------------------------------------------------- fork

_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _all_stores() -> list[Store]:
    while True:
        try:
            return list(_stores)
        except RuntimeError:
            pass  # another thread made a store meanwhile


def _before_fork() -> None:
    """Let no write of a store in memory be half done in the child, whose copy it is (S4)."""
    for store in _all_stores():
        if store._path is None:
            store._lock.acquire()


def _after_fork_in_parent() -> None:
    for store in _all_stores():
        if store._path is None and store._lock._is_owned():  # type: ignore[attr-defined]
            store._lock.release()


def _after_fork_in_child() -> None:
    """A store on file is the parent's alone: refuse every use before any lock is waited for (durability L2)."""
    for store in _all_stores():
        store._lock = RLock()
        store._teller.forget_locks()
        if store._path is not None and store._refusal is None:
            store._refuse(StoreForked, "the store was opened before a fork: open it again in the child")
            store._is_let_go = True
            with suppress(OSError):  # another thread of the parent may have been about to close it
                store._log.abandon()
            if store._compaction is not None:
                with suppress(OSError):
                    store._compaction.new.file.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

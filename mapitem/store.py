"""``Store``: opens and closes, finds and makes maps, and leads every write through lock, log and engine.

The order of a write is fixed: the engine judges it and names the operations, the log takes them, the engine applies
them, all under one lock; only then is anybody told. Arguments were checked before, by whoever calls ``write``.
"""

from __future__ import annotations

import os
import time
import warnings
import weakref
from contextlib import suppress
from threading import local

from msgpack import packb

from mapitem import fork
from mapitem.compactor import Compactor
from mapitem.disk import Disk
from mapitem.engine import Engine
from mapitem.errors import (
    MapNotFound,
    ReentrantUse,
    StoreClosed,
    StoreFailed,
    StoreReadOnly,
)
from mapitem.events import Teller
from mapitem.frames import CLOSE
from mapitem.item import NEVER
from mapitem.limits import Limits, check_name, check_ttl, is_text, looks_like_sid, shown
from mapitem.log import FileLog
from mapitem.map import Map
from mapitem.memorylog import MemoryLog
from mapitem.newlog import NewLog
from mapitem.state import ALWAYS_LOOK
from mapitem.threadlock import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta
    from typing import Any, Literal, TypeVar

    from mapitem.batch import Batch
    from mapitem.engine import Change
    from mapitem.events import SomeEvent, Subscription
    from mapitem.keyrange import KeyRange
    from mapitem.lock import WriterLock
    from mapitem.opening import Recovery
    from mapitem.records import Operation
    from mapitem.state import MapState, Row
    from mapitem.watch import Watch

    Result = TypeVar("Result")

_MICROSECONDS = 1_000_000
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
    size of what is live; ``None`` for never. ``mapped``: appends go through a map of the file's end, which is allocated
    ahead, where the file system allows for it (ext4 and tmpfs on Linux), and unless they wait for the disk
    (``"power"``); ``False`` makes each a plain write, which is slower, and which no other program can turn into a
    signal by cutting the file short while it is open.

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
        mapped: bool = True,
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
        if not isinstance(mapped, bool):
            raise TypeError(f"mapped must be a bool, not {shown(mapped)}")
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
        # Set from before a record goes to the log until the engine has applied it, and where the log was before.
        self._unsettled = False
        self._settled_at = 0
        self._path: str | None = None
        self._log: FileLog | MemoryLog = MemoryLog()
        if path is not None:
            from mapitem.opening import open_to_read, open_to_write  # a store in memory needs none

            self._path = os.path.realpath(os.fsdecode(path))
            if read_only:
                self._write_refusal = (StoreReadOnly, "the store was opened with read_only=True")
                self._engine, self._log = open_to_read(self._disk, self._path)
            else:
                self._engine, self._log, self._writer_lock = open_to_write(
                    self._disk, self._path, at_power=durability == "power", ahead=mapped
                )
        try:
            self._compactor = Compactor(self._engine, self._log, self._watchers, compact_at)
            fork.watch_over(self)
        except BaseException:
            # An interruption: nobody will close what nobody has (R8).
            self._refusal = (StoreClosed, "the store was never open")
            self._log.abandon()
            if self._writer_lock is not None:
                self._writer_lock.withdraw()
            raise

    # ------------------------------------------------------------ opening and closing

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
                self._compactor.stop()
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
    def limits(self) -> Limits:
        """How large keys, names and data may be; fixed when the store was opened."""
        return self._limits

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
        with self._reading():
            self._check_writable()
            self._compactor.begin()
            compaction = self._compactor.running
        while not self._compact_step():
            pass
        if compaction is not None and compaction.failure is not None:
            # In a step that another thread's write took.
            raise OSError(f"the compaction failed: {compaction.failure}") from compaction.failure

    def backup(self, target: str | os.PathLike[str]) -> None:
        """Write a consistent copy of the store, as of this moment, into a new file; writers go on meanwhile (M5).

        The copy is a store like any other, cleanly closed, and on the medium when this returns. ``FileExistsError`` if
        there is a file already: nothing is overwritten, but for a file called ``target`` with ``.new`` behind it, under
        which name the copy is written. ``ValueError`` for this file's name with ``.new`` or ``.lock`` behind it, which
        the store takes for its own.
        """
        self._check_open()
        path = os.path.realpath(os.fsdecode(target))
        if path in (f"{self._path}.new", f"{self._path}.lock"):
            raise ValueError(f"{path} will not last: a store called {self._path} takes that name for its own")
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
            from mapitem.opening import open_to_read

            now = self._now()  # first, for the clock may raise
            engine, log = open_to_read(self._disk, self._path)
            self._log.abandon()
            self._log = log
            engine.take_over(self._engine, now)
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
        log = self._log
        lock = self._lock
        # The lock is re-entrant only so that a signal handler that interrupts its holder can be told, and not hang.
        if lock._is_owned() or log.sync_lock._is_owned():  # type: ignore[attr-defined]
            self._check_not_reentrant()
        with lock:
            if self._write_refusal is not None:
                self._check_writable()
            if self._unsettled:
                self._recover_unsettled()
            # Under the lock, as reads do: a write that waited must not act on what was due in the meantime.
            now = self._now()
            operations, result = judge(*arguments, now)
            if not operations:
                return result
            engine = self._engine
            watched = engine.watched(operations) if self._is_watched else ()
            self._unsettled = True
            place = log.append(operations)
            changes: list[Change] | None = [] if self._teller.subscriptions else None
            engine.apply(operations, place, changes)
            compactor = self._compactor
            if compactor.running is not None:
                # Within what counts as unsettled: an interruption before this line would lose the write to the new log.
                compactor.running.note(operations)
            self._settled_at = position = log.position
            self._unsettled = False
            if changes:
                self._teller.note(changes, position)
            for state in watched:
                self._wake(state)
            if log.size >= compactor.look_from:
                compactor.go_along(operations)
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

    def _compact_step(self) -> bool:
        """One step of the compaction under way, under the lock; whether it is over."""
        with self._reading():
            self._check_writable()
            self._recover_unsettled()
            return self._compactor.step()

    def _row(self, state: MapState, key: str) -> Row | None:
        """The row of a present item, or ``None``. Takes no lock unless a write has several items to be seen at once.

        While what is due is being removed no look-up waits for it: due is what the clock says of the row itself, so
        that the answer is the same before, meanwhile and afterwards (T3).
        """
        # In this order: rows that were fetched before the map was seen to be live are not the none of its end.
        rows = state.rows
        if state.quiet_until != NEVER:
            now = self._now()
            quiet_until = state.quiet_until
            if quiet_until == ALWAYS_LOOK:
                return self._row_after_others(state, key)
            if now >= quiet_until:
                row = self._engine.row(state, key, max(now, state.gone_by))
                # Afterwards, for an end is noted before the rows are gone.
                self._engine.check_alive(state, now)
                return row
        row = rows.get(key)
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

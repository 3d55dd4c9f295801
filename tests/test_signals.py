"""Signal handlers that interrupt the store: those that call it, and those that raise (durability F3).

Python runs a handler between two steps of the main thread. Here the signal is raised by the disk under the log, or by
the engine, so that the handler runs at a known place inside a write, a sync or a compaction.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from kill.workload import feed, look

from mapitem import Event, Map, ReentrantUse, Store, StoreFailed
from mapitem.disk import Disk

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there are no such signals")

SIGNAL = signal.SIGALRM if hasattr(signal, "SIGALRM") else signal.SIGINT


@contextmanager
def handler(act: Callable[[], object]) -> Iterator[None]:
    """What the signal does meanwhile."""
    before = signal.signal(SIGNAL, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(SIGNAL, before)


@contextmanager
def storm(act: Callable[[], object]) -> Iterator[None]:
    """The signal comes again and again, at moments of chance."""
    with handler(act):
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def no_finalizers() -> Iterator[None]:
    """What is raised in one comes to nobody."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class SignallingDisk(Disk):
    """The real disk, which raises the signal at one kind of call, before or after it, whenever it is armed."""

    def __init__(self, call: str, moment: str) -> None:
        self._call = call
        self._moment = moment
        self.is_armed = False
        self.raised = 0

    def _raise(self, call: str, moment: str) -> None:
        if self.is_armed and (call, moment) == (self._call, self._moment):
            self.is_armed = False
            self.raised += 1
            signal.raise_signal(SIGNAL)

    def _around(self, call: str, *arguments: Any) -> Any:
        self._raise(call, "before")
        result = getattr(super(), call)(*arguments)
        self._raise(call, "after")
        return result

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        return int(self._around("write", descriptor, data, offset))

    def create(self, path: str, mode: int) -> int:
        return int(self._around("create", path, mode))

    def sync(self, descriptor: int) -> None:
        self._around("sync", descriptor)

    def replace(self, source: str, target: str) -> None:
        self._around("replace", source, target)

    def sync_directory(self, path: str) -> None:
        self._around("sync_directory", path)


class Scene:
    """A store with some items, in which the signal will come at one place of a call."""

    def __init__(self, path: Path, work: str, call: str, moment: str) -> None:
        self.path = path
        self._disk = disk = SignallingDisk(call, moment)

        class Simulated(Store):
            _disk = disk

        self.store: Store = Simulated(path, durability="power")
        self.map: Map = self.store.map("m")
        for number in range(200):
            self.map.set(f"{number:03}", {"n": number})
        self._work = WORK[work]
        if call == "apply":
            self._signal_in_apply(moment)

    def _signal_in_apply(self, moment: str) -> None:
        apply = self.store._engine.apply

        def interrupted(*arguments: Any) -> None:
            self._disk._raise("apply", "before")
            apply(*arguments)
            self._disk._raise("apply", "after")

        self.store._engine.apply = interrupted  # type: ignore[assignment,method-assign]

    def work(self) -> None:
        self._disk.is_armed = True
        try:
            self._work(self.store, self.map)
        finally:
            self._disk.is_armed = False
            assert self._disk.raised == 1, "the signal did not come"


def _sync(store: Store, map_: Map) -> None:
    store._durability = "process"  # so that there is something to sync
    map_.set("new", {})
    store.sync()


def _batch(store: Store, map_: Map) -> None:
    with store.batch() as batch:
        batch.set(map_, "batch", {})
        batch.remove(map_, "000")


WORK: dict[str, Callable[[Store, Map], object]] = {
    "set": lambda store, map_: map_.set("new", {}),
    "batch": _batch,
    "map": lambda store, map_: store.map("another"),
    "sync": _sync,
    "compact": lambda store, map_: store.compact(),
    "close": lambda store, map_: store.close(),
}

PLACES = [
    *[(work, "write", moment) for work in ("set", "batch", "map") for moment in ("before", "after")],
    *[(work, "apply", moment) for work in ("set", "batch") for moment in ("before", "after")],
    *[(work, "sync", moment) for work in ("set", "batch", "sync") for moment in ("before", "after")],
    *[
        ("compact", call, moment)
        for call in ("create", "write", "sync", "replace", "sync_directory")
        for moment in ("before", "after")
    ],
    ("close", "write", "before"),
    ("close", "write", "after"),
    ("close", "sync", "after"),
]

at_each_place = pytest.mark.parametrize(("work", "call", "moment"), PLACES)


@at_each_place
def test_refuse_a_handler_that_interrupted_the_store(tmp_path: Path, work: str, call: str, moment: str) -> None:
    """F3: what such a handler calls is ``ReentrantUse`` and does nothing, but for reads that need no lock."""
    scene = Scene(tmp_path / "store.mapitem", work, call, moment)
    store, map_ = scene.store, scene.map
    told: dict[str, str] = {}

    def act() -> None:
        uses: dict[str, Callable[[], object]] = {
            "set": lambda: map_.set("handler", {}),
            "create": lambda: map_.create("handler", {}),
            "update": lambda: map_.update("handler", {}),
            "remove": lambda: map_.remove("001"),
            "set_item_ttl": lambda: map_.set_item_ttl("001", 5),
            "set_ttl": lambda: map_.set_ttl(5),
            "purge": lambda: map_.purge(),
            "remove_map": lambda: map_.remove_map(),
            "range": lambda: list(map_.range()),
            "page": lambda: map_.page(),
            "changes": lambda: list(map_.changes("0")),
            "watch": lambda: map_.watch(),
            "map": lambda: store.map("m"),
            "new map": lambda: store.map("handler"),
            "maps": lambda: list(store.maps()),
            "batch": lambda: WORK["batch"](store, map_),
            "store.purge": lambda: store.purge(),
            "sync": lambda: store.sync(),
            "compact": lambda: store.compact(),
            "backup": lambda: store.backup(tmp_path / "backup"),
            "close": lambda: store.close(),
        }
        for name, use in uses.items():
            try:
                use()
            except Exception as error:
                told[name] = type(error).__name__
            else:
                told[name] = "done"
        if work not in ("close", "batch"):
            assert map_["001"].data == {"n": 1}
            assert "absent" not in map_

    with handler(act):
        scene.work()
    if work == "close":
        assert set(told.values()) <= {"StoreClosed", "ReentrantUse"}
    else:
        assert set(told.values()) == {"ReentrantUse"}, told
        map_.set("afterwards", {})
        assert "handler" not in map_
        shown = look(store), feed(map_)
        store.close()
    with Store(tmp_path / "store.mapitem") as store:
        assert store.recovery is None
        assert "handler" not in store.map("m")
        if work != "close":
            assert (look(store), feed(store.map("m"))) == shown
    assert not (tmp_path / "backup").exists()


@at_each_place
def test_be_whole_after_a_handler_raised(tmp_path: Path, work: str, call: str, moment: str) -> None:
    """F3: after ``KeyboardInterrupt`` at any of these places memory and log are in step, or the store has failed."""
    scene = Scene(tmp_path / "store.mapitem", work, call, moment)
    store, map_ = scene.store, scene.map
    before = look(store)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with handler(interrupt), pytest.raises(KeyboardInterrupt):
        scene.work()
    if work == "close":
        # F5: it has let go of the file all the same.
        with Store(scene.path) as store:
            assert look(store) == before
        return
    files = {each.name for each in tmp_path.iterdir()}
    assert files == {"store.mapitem", "store.mapitem.lock"}
    with Store(scene.path, read_only=True) as on_file:
        after = look(on_file)
    failed = False
    try:
        map_.set("afterwards", {})
    except StoreFailed:
        failed = True
    shown = look(store)
    if not failed:
        # What was refused is not in the file either, and what is in the file can be read here.
        assert {key.split('"')[1] for key in shown["m"]["items"]} == {
            *(key.split('"')[1] for key in after["m"]["items"]),
            "afterwards",
        }
    with suppress(StoreFailed):
        store.close()
    with Store(scene.path) as store:
        assert len(store.map("m")) >= 199
        if not failed:
            assert look(store) == shown
        store.map("m").set("then", {})
    if call in ("write", "create") or work == "sync":
        assert not failed, "an interruption that left nothing behind needs no reopening"


@pytest.mark.parametrize("call", ["sync", "truncate"])
def test_close_cleanly_after_the_first_write_was_interrupted(tmp_path: Path, call: str) -> None:
    """R5: the mark of the clean end before was off the file, and close() believed it there: the next opening told of an
    unclean end.
    """

    class InterruptingDisk(Disk):
        is_armed = False

        def _interrupt_after(self, name: str) -> None:
            if self.is_armed and name == call:
                self.is_armed = False
                raise KeyboardInterrupt

        def truncate(self, descriptor: int, size: int) -> None:
            super().truncate(descriptor, size)
            self._interrupt_after("truncate")

        def sync(self, descriptor: int) -> None:
            super().sync(descriptor)
            self._interrupt_after("sync")

    class Interrupted(Store):
        _disk = InterruptingDisk()

    path = tmp_path / "store"
    with Store(path) as store:
        store.map("m").set("a", {})
    with Interrupted(path) as store:
        Interrupted._disk.is_armed = True
        with pytest.raises(KeyboardInterrupt):
            store.open_map("m").set("b", {})
    with Store(path) as store:
        assert store.recovery is None
        assert list(store.open_map("m")) == ["a"]


def test_answer_a_handler_that_interrupted_the_wait_for_another_thread(tmp_path: Path) -> None:
    """F3: a thread that waits for the lock holds none: the handler waits like any other caller, and is served."""
    inside, go_on = threading.Event(), threading.Event()

    class SlowDisk(Disk):
        def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
            if threading.current_thread() is not threading.main_thread() and not inside.is_set():
                inside.set()
                assert go_on.wait(30)
            return super().write(descriptor, data, offset)

    class Simulated(Store):
        _disk = SlowDisk()

    heard: list[str] = []
    with Simulated(tmp_path / "store.mapitem") as store:
        map_ = store.map("m")

        def act() -> None:
            go_on.set()
            heard.append(map_.set("handler", {}).key)

        def slow() -> None:
            map_.set("slow", {})

        def interrupt() -> None:
            # The main thread is on its way to the lock, or waits for it; the handler is served either way.
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)

        with handler(act):
            threads = [threading.Thread(target=slow), threading.Thread(target=interrupt)]
            threads[0].start()
            assert inside.wait(30)
            threads[1].start()
            map_.set("main", {})
            for thread in threads:
                thread.join(30)
        assert heard == ["handler"]
        assert list(map_) == ["handler", "main", "slow"]


def test_serve_a_handler_that_interrupted_a_callback(tmp_path: Path) -> None:
    """F3, E2: callbacks run outside of the store: there a handler may write, and its event is told afterwards."""
    told: list[Any] = []
    with Store(tmp_path / "store.mapitem") as store:
        map_ = store.map("m")

        def callback(event: Any) -> None:
            told.append(event.key)
            if event.key == "a":
                signal.raise_signal(SIGNAL)
                told.append("end of a")

        with store.on(Event, callback), handler(lambda: map_.set("handler", {})):
            map_.set("a", {})
        assert told == ["a", "end of a", "handler"]


def test_serve_a_handler_that_interrupted_the_telling() -> None:
    """F3, E2: a handler that wrote while its own thread was about to call a callback waited for itself, for ever."""
    told: list[str] = []

    class Signalling(deque[Any]):
        def popleft(self) -> Any:
            first = super().popleft()
            signal.raise_signal(SIGNAL)
            return first

    with Store() as store:
        map_ = store.map("m")
        store._teller._waiting = Signalling()

        def act() -> None:
            if "handler" not in map_:
                map_.set("handler", {})

        with store.on(Event, lambda event: told.append(event.key)), handler(act):
            map_.set("a", {})
            map_.set("b", {})
    assert told == ["a", "handler", "b"]


def test_hold_no_lock_when_handlers_raise_at_any_moment() -> None:
    """F3: what raised just as the turn to tell was taken left it taken, and no callback was called any more; in CPython
    3.14 the same befell every lock, and other threads waited for ever.
    """
    random = Random(1)
    armed = False
    interrupted = 0
    told: list[str] = []

    class Interrupted(BaseException):
        pass

    def act() -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted

    stores: list[Store] = []

    def new_store() -> Store:
        store = Store()
        stores.append(store)
        store.on(Event, lambda event: told.append(event.key))
        return store

    store = new_store()
    with handler(act), no_finalizers():
        while interrupted < 1500:
            map_ = store.map("m")
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00003, 0.0001), 0.001)
                while True:
                    map_.set("a", {})
                    map_.page()
            except Interrupted:
                interrupted += 1
            except StoreFailed:
                pass
            finally:
                armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
            locks = (store._lock, store._log.sync_lock, store._teller._changing)
            assert not any(lock._is_owned() for lock in locks)  # type: ignore[attr-defined]
            try:
                map_.set("after", {})
            except StoreFailed:
                store = new_store()
            else:
                assert told[-1] == "after"
            told.clear()


@pytest.mark.parametrize("backing", ["memory", "file"])
def test_keep_in_step_under_a_storm_of_signals(tmp_path: Path, backing: str) -> None:
    """F3: handlers that write, at a few hundred moments of chance: each is refused, or its write is there."""
    path = tmp_path / "store.mapitem" if backing == "file" else None
    refused: list[int] = []
    done: list[int] = []
    with Store(path) as store:
        map_ = store.map("m")

        def act() -> None:
            try:
                map_.set("handler", {"n": len(done)})
            except ReentrantUse:
                refused.append(1)
            else:
                done.append(1)

        written = 0
        with storm(act):
            while len(refused) < 50 or len(done) < 50:
                map_.set(f"{written % 50}", {"n": written})
                written += 1
                if written % 500 == 0:
                    store.compact()
        assert int(map_.revision, 16) == written + len(done)
        shown = look(store)
    if path is not None:
        with Store(path) as store:
            assert look(store) == shown


def test_keep_in_step_when_handlers_raise_at_any_moment(tmp_path: Path) -> None:
    """F3: ``KeyboardInterrupt`` at moments of chance: what was acknowledged stays, what was not is whole or absent."""
    path = tmp_path / "store.mapitem"

    class Interrupted(BaseException):
        pass

    armed = False

    def act() -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted

    def attempt(number: int) -> str:
        nonlocal armed
        try:
            armed = True
            map_.set("a", {"n": number})
        except StoreFailed:
            return "failed"
        finally:
            armed = False
        return "done"

    store = Store(path)
    map_ = store.map("m")
    acknowledged = -1
    number = interrupted = 0
    out_of_step = False
    with storm(act):
        while interrupted < 100:
            number += 1
            try:
                outcome = attempt(number)
            except Interrupted:
                interrupted += 1
                # Whether it was written is settled now: what the file shows is what a crash would leave.
                with Store(path, read_only=True) as on_file:
                    on_disk = on_file.map("m")["a"].data["n"] if "a" in on_file.map("m") else -1
                assert on_disk in (acknowledged, number)
                value = map_["a"].data["n"] if "a" in map_ else -1
                assert out_of_step or value in (acknowledged, number)
                out_of_step = value != on_disk
                acknowledged = on_disk
                continue
            if outcome == "done":
                assert not out_of_step, "memory and log were out of step, and the store went on"
                acknowledged = number
                continue
            with suppress(StoreFailed):
                store.close()
            store = Store(path)
            map_ = store.map("m")
            assert map_["a"].data["n"] == acknowledged
            out_of_step = False
    last = map_["a"].data["n"]
    with suppress(StoreFailed):
        store.close()
    with Store(path) as store:
        assert store.map("m")["a"].data["n"] >= last

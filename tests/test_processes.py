"""Several processes and one file: who may write, and what a fork leaves to whom (durability L, semantics S3, S4).

The plain cases of S3 and S4 are in ``test_store``; here are the locks held by others, the descriptors, and the ways in
which a process ends.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import mapitem
from mapitem import ItemAdded, Store, StoreLocked
from mapitem.disk import Disk

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(mapitem.__file__).parent.parent)}
TRY_TO_OPEN = (
    "import sys, mapitem\ntry: mapitem.Store(sys.argv[1]).close()\nexcept mapitem.StoreLocked: print('locked')"
)


def is_locked(path: Path) -> bool:
    """Whether a fresh process, which inherited nothing, is refused."""
    return run(TRY_TO_OPEN, path) == "locked\n"


def run(script: str, *arguments: object) -> str:
    """The output of a script in a fresh interpreter."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fork(act: Callable[[], object]) -> tuple[int, int]:
    """A child that does one thing and ends at once; its pid, and where its answer can be read. It may not hang."""
    answer, end = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside threads, which is what these tests are about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(30)
            os.write(end, repr(act()).encode())
        except BaseException as error:
            os.write(end, f"raised {error!r}".encode())
        finally:
            os._exit(0)
    os.close(end)
    return pid, answer


def in_child(act: Callable[[], object]) -> str:
    """The ``repr`` of what the function returned in a fork of this process."""
    pid, answer = fork(act)
    with os.fdopen(answer, "rb") as pipe:
        told = pipe.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "it hung"
    return told


@contextmanager
def idle_child() -> Iterator[None]:
    """A fork of this process that does nothing until the block ends."""
    gate, end = os.pipe()

    def wait() -> None:
        os.close(end)
        os.read(gate, 1)

    pid, answer = fork(wait)
    os.close(gate)
    try:
        yield
    finally:
        os.close(end)
        os.close(answer)
        os.waitpid(pid, 0)


def open_files(folder: Path) -> list[str]:
    """Which files in the folder this process has a descriptor of."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if target.startswith(f"{folder}/"):
                names.append(Path(target).name)
    return sorted(names)


def begin_compaction(store: Store) -> None:
    """Leave a compaction begun, its file written to."""
    with store._reading():
        store._compactor.begin()
        assert store._compactor.running is not None
        store._compactor.running.new.flush()


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors cannot be listed here")


class StuckDisk(Disk):
    """The real disk, on which one kind of call waits until it is let go."""

    def __init__(self, call: str) -> None:
        self._call = call
        self.is_armed = False
        self.inside = threading.Event()
        self.go_on = threading.Event()

    def _wait(self, call: str) -> None:
        if self.is_armed and call == self._call:
            self.is_armed = False
            self.inside.set()
            assert self.go_on.wait(30)

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        self._wait("write")
        return super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self._wait("sync")
        super().sync(descriptor)

    def replace(self, source: str, target: str) -> None:
        self._wait("replace")
        super().replace(source, target)


@contextmanager
def stuck(path: Path, call: str, work: Callable[[Store], object]) -> Iterator[Store]:
    """A store in which another thread is at work, and waits in that call for as long as the block takes."""
    disk = StuckDisk(call)

    class Simulated(Store):
        _disk = disk

    with Simulated(path, durability="power") as store:
        store.map("m").set("before", {})
        disk.is_armed = True
        thread = threading.Thread(target=work, args=(store,))
        thread.start()
        assert disk.inside.wait(30)
        try:
            yield store
        finally:
            disk.go_on.set()
            thread.join(30)


def outcome(use: Callable[[], object]) -> str:
    try:
        use()
    except Exception as error:
        return type(error).__name__
    return "done"


# ---------------------------------------------------------------- L1: one writer


def test_let_one_of_many_create_the_file(tmp_path: Path) -> None:
    """L1, R6: of processes that open the same new path at once one gets it, the others are locked out at once."""
    for attempt in range(10):
        path = tmp_path / f"{attempt}.mapitem"
        gate, end = os.pipe()

        def compete(path: Path = path, gate: int = gate, end: int = end) -> str:
            os.close(end)
            os.read(gate, 1)
            try:
                store = Store(path)
            except StoreLocked:
                return "locked"
            store.map("m").set(f"{os.getpid()}", {})
            # Held until this process ends, with nothing closed.
            return "opened"

        children = [fork(compete) for _ in range(5)]
        os.close(gate)
        os.close(end)
        told = []
        for pid, answer in children:
            with os.fdopen(answer, "rb") as pipe:
                told.append(pipe.read().decode())
            os.waitpid(pid, 0)
        assert set(told) <= {"'opened'", "'locked'"}
        assert "'opened'" in told
        with Store(path) as store:
            assert len(store.map("m")) == told.count("'opened'")


def test_keep_one_lock_file_for_ever(tmp_path: Path) -> None:
    """L1: the sidecar is never renamed or removed, by compaction, close or opening."""
    path = tmp_path / "store.mapitem"
    seen = set()
    for _ in range(3):
        with Store(path) as store:
            store.map("m").set("a", {})
            store.compact()
            seen.add((tmp_path / "store.mapitem.lock").stat().st_ino)
        seen.add((tmp_path / "store.mapitem.lock").stat().st_ino)
    assert len(seen) == 1


def test_lock_out_a_thread_at_once(tmp_path: Path) -> None:
    """L1: another thread of the holder, which owns nothing of its own, is refused too, and does not wait."""
    with Store(tmp_path / "store.mapitem"):
        told: list[str] = []
        thread = threading.Thread(target=lambda: told.append(outcome(lambda: Store(tmp_path / "store.mapitem"))))
        thread.start()
        thread.join(10)
        assert told == ["StoreLocked"]


def test_leave_no_lock_when_opening_fails(tmp_path: Path) -> None:
    """R8: a failing open holds no lock and no descriptor, and leaves no temporary file."""
    path = tmp_path / "store.mapitem"
    with Store(path) as store:
        store.map("m").set("a", {})
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + b"\0" + whole[61:])
    before = sorted(os.listdir(tmp_path))
    for _ in range(3):
        assert outcome(lambda: Store(path)) in ("LogCorrupt", "NotAStore")
    gc.collect()
    if os.path.isdir("/proc/self/fd"):
        assert open_files(tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == before
    path.write_bytes(whole)
    assert not is_locked(path)


# ---------------------------------------------------------------- L2: fork


WORK = {
    "write": lambda store: store.map("m").set("during", {}),
    "sync": lambda store: store.map("m").set("during", {}),
    "replace": lambda store: store.compact(),
}


@pytest.mark.parametrize("call", sorted(WORK))
def test_refuse_every_use_while_a_thread_of_the_parent_holds_a_lock(tmp_path: Path, call: str) -> None:
    """L2: the child waits for no lock that a thread holds which it does not have."""
    with stuck(tmp_path / "store.mapitem", call, WORK[call]) as store:
        map_ = store._engine._by_name["m"]  # every other way to it takes the lock, which is held

        def act() -> object:
            handle = mapitem.Map(store, map_)
            uses: list[Callable[[], object]] = [
                lambda: handle.set("child", {}),
                lambda: handle.get("before"),
                lambda: handle["before"],
                lambda: "before" in handle,
                lambda: len(handle),
                lambda: list(handle.range()),
                lambda: list(handle.changes("0")),
                lambda: store.map("m"),
                lambda: store.compact(),
                lambda: store.sync(),
                lambda: store.purge(),
                lambda: store.backup(tmp_path / "backup"),
                lambda: store.batch(),
                lambda: store.on(ItemAdded, print),
                lambda: handle.watch(),
            ]
            store.close()
            return {outcome(use) for use in uses}

        assert in_child(act) == repr({"StoreForked"})
    with Store(tmp_path / "store.mapitem") as store:
        assert set(store.map("m")) == {"before"} | ({"during"} if call != "replace" else set())


def test_end_a_batch_of_the_parent_in_the_child(tmp_path: Path) -> None:
    """L2: a batch that was begun before the fork is the parent's: in the child its end is ``StoreForked``."""
    with Store(tmp_path / "store.mapitem") as store:
        map_ = store.map("m")
        with store.batch() as batch:
            batch.set(map_, "a", {})
            assert in_child(lambda: outcome(lambda: batch.__exit__(None, None, None))) == "'StoreForked'"
        assert [item.key for item in batch.results] == ["a"]
        assert list(map_) == ["a"]


@needs_proc
def test_keep_no_descriptor_in_the_child(tmp_path: Path) -> None:
    """L2: a child has neither the log, nor its lock, nor the file that a compaction was writing."""
    path = tmp_path / "store.mapitem"
    with Store(path) as store, Store(tmp_path / "other.mapitem"):
        store.map("m").set("a", {})
        with Store(path, read_only=True):
            begin_compaction(store)
            assert len(open_files(tmp_path)) == 6
            assert in_child(lambda: open_files(tmp_path)) == "[]"


@needs_proc
def test_give_no_descriptor_to_another_program(tmp_path: Path) -> None:
    """L2: what the process starts by ``exec`` inherits nothing, even when asked to inherit all."""
    path = tmp_path / "store.mapitem"
    with Store(path) as store, Store(path, read_only=True):
        begin_compaction(store)
        done = subprocess.run(
            ["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True
        )
        assert "store.mapitem" not in done.stdout


def test_free_the_lock_with_an_idle_child_about(tmp_path: Path) -> None:
    """L2: after the parent closed, a child that does nothing keeps neither this lock nor one taken since."""
    path = tmp_path / "store.mapitem"
    with Store(path), idle_child(), pytest.raises(StoreLocked):
        Store(path)
    with Store(path) as store, idle_child():
        store.close()
        assert not is_locked(path)


# It makes a child that idles until its input ends, says so, and waits to be killed.
IDLE_CHILD = """
import os, sys, mapitem
store = mapitem.Store(sys.argv[1])
store.map("m").set("a", {})
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("ready", flush=True)
os.read(os.pipe()[0], 1)
"""


def test_free_the_lock_of_a_killed_parent_with_an_idle_child_about(tmp_path: Path) -> None:
    """L1, L2: the lock dies with its holder, however it dies, also when a fork of it lives on."""
    path = tmp_path / "store.mapitem"
    with subprocess.Popen(
        [sys.executable, "-c", IDLE_CHILD, str(path)], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert is_locked(path)
        parent.kill()
        parent.wait()
        with Store(path) as store:
            assert list(store.map("m")) == ["a"]


# The child comes to its end as an ordinary program does: objects are collected, exit functions run.
ORDINARY_END = """
import gc, os, sys, mapitem
path = sys.argv[1]
store = mapitem.Store(path)
map_ = store.map("m")
map_.set("a", {})
pid = os.fork()
if pid == 0:
    store.close()
    del store, map_
    gc.collect()
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
try:
    mapitem.Store(path)
except mapitem.StoreLocked:
    print("still locked")
map_.set("b", {})
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], path])
"""


def test_keep_the_parents_lock_when_the_child_ends(tmp_path: Path) -> None:
    """L2: a child that closes, collects and exits as programs do takes the parent's lock with it in no way."""
    path = tmp_path / "store.mapitem"
    # In the end the parent, which never closed, becomes another program: its lock and its descriptors end with it.
    assert run(ORDINARY_END, path, TRY_TO_OPEN) == "still locked\n"
    with Store(path) as store:
        assert list(store.map("m")) == ["a", "b"]


def test_warn_of_no_open_store_in_the_child(tmp_path: Path) -> None:
    """F5: a store that a child inherited and drops is not its own to close: no warning, no write."""
    store = [Store(tmp_path / "store.mapitem")]
    try:

        def act() -> object:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                store.clear()
                gc.collect()
                return [str(warning.message) for warning in caught]

        assert in_child(act) == "[]"
        assert is_locked(tmp_path / "store.mapitem")
    finally:
        store[0].close()


def open_and_count(path: str) -> tuple[str, int]:
    try:
        with Store(path) as store:
            return "opened", len(store.map("m"))
    except StoreLocked:
        return "locked", 0


_inherited: Store | None = None


def use_what_was_inherited(_: int) -> str:
    assert _inherited is not None
    return outcome(lambda: _inherited.map("m"))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_share_a_file_with_a_pool_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """L1, L2: workers of ``multiprocessing`` are locked out while the parent writes, and get the file afterwards."""
    path = str(tmp_path / "store.mapitem")
    store = Store(path)
    store.map("m").set("a", {})
    monkeypatch.setattr(sys.modules[__name__], "_inherited", store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pool = multiprocessing.get_context(method).Pool(1)
    with pool:
        assert pool.map(open_and_count, [path]) == [("locked", 0)]
        if method == "fork":
            assert pool.map(use_what_was_inherited, [0]) == ["StoreForked"]
        store.close()
        assert pool.map(open_and_count, [path]) == [("opened", 1)]
        pool.close()
        pool.join()


@pytest.mark.parametrize("path", [None, "store.mapitem"])
def test_refuse_to_be_sent_to_another_process(tmp_path: Path, path: str | None) -> None:
    """L1: a store cannot be pickled, so that no second one comes to be by mistake."""
    with Store(tmp_path / path if path else None) as store:
        for each in (store, store.map("m")):
            with pytest.raises(TypeError):
                pickle.dumps(each)


# ---------------------------------------------------------------- S4: stores in memory


def test_fork_a_store_in_memory_from_its_own_callback() -> None:
    """S4: a fork in the middle of telling: the child's copy has the write that is being told, and takes others."""
    with Store() as store:
        map_ = store.map("m")
        told: list[Any] = []
        heard: list[str] = []

        def callback(event: ItemAdded) -> None:
            heard.append(event.key)
            if event.key == "a":
                told.append(in_child(lambda: (map_.set("b", {}).revision, list(map_))))

        with store.on(ItemAdded, callback):
            map_.set("a", {})
            map_.set("c", {})
        assert told == [repr(("1", ["a", "b"]))]
        assert heard == ["a", "c"]


def test_fork_a_store_in_memory_while_another_thread_compacts_and_writes() -> None:
    """S4: whenever the fork comes, the child's copy is whole, its feed included, and it goes on by itself."""
    with Store() as store:
        map_ = store.map("m")
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                with store.batch() as batch:
                    batch.set(map_, "a", {"n": 1})
                    batch.set(map_, "b", {"n": 1})
                if int(map_.revision, 16) % 50 == 0:
                    store.compact()

        thread = threading.Thread(target=work)
        thread.start()
        try:

            def act() -> object:
                revision = map_.revision
                map_.set("child", {})
                store.compact()
                map_.set("child", {})
                events = list(map_.changes(f"{int(revision, 16) + 1:x}"))
                return int(revision, 16) % 2, len(events), list(map_) in (["a", "b", "child"], ["child"])

            for _ in range(20):
                assert in_child(act) == repr((0, 1, True))
        finally:
            stop.set()
            thread.join(30)

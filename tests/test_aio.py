"""The store under asyncio: awaitable durability and shared fsyncs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from mapitem import Event, ItemAdded, ItemExists, ItemNotFound, MapItem, Store, StoreClosed, StoreFailed
from mapitem.aio import AsyncStore
from mapitem.disk import Disk


class CountingDisk(Disk):
    """Counts syncs, and can hold the next one until it is let go or make it fail."""

    def __init__(self) -> None:
        self.syncs = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.threads: set[int] = set()
        self.fail = False

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(10)
        if self.fail:
            raise OSError(5, "Input/output error")
        super().sync(descriptor)


def open_store(path: Path, disk: CountingDisk, durability: str = "power") -> Store:
    class OnThatDisk(Store):
        _disk = disk

    return OnThatDisk(path / "store", durability=durability)  # type: ignore[arg-type]


def test_share_one_fsync_among_writes_that_wait(tmp_path: Path) -> None:
    """Durability P4: writes that wait at the same time are synced together, off the loop's thread."""
    disk = CountingDisk()

    async def main() -> list[MapItem]:
        with open_store(tmp_path, disk) as store:
            map_, async_store = store.map("m"), AsyncStore(store)
            disk.syncs = 0
            disk.threads.clear()
            items = await asyncio.gather(*(async_store.write(map_.set, f"{n:02}", {"n": n}) for n in range(50)))
            assert disk.syncs <= 2
            assert threading.get_ident() not in disk.threads
            return items

    items = asyncio.run(main(), debug=True)
    assert [item.data["n"] for item in items] == list(range(50))


def test_leave_the_loop_free_while_the_disk_works(tmp_path: Path) -> None:
    """P1: the loop runs on, and reads and writes too, while a write waits for the disk and until it is durable."""
    disk = CountingDisk()

    async def main() -> None:
        with open_store(tmp_path, disk) as store:
            map_, async_store = store.map("m"), AsyncStore(store)
            told: list[Event] = []
            store.on(Event, told.append)
            disk.gate.clear()
            disk.entered.clear()
            task = asyncio.create_task(async_store.write(map_.set, "a", {}))
            await asyncio.to_thread(disk.entered.wait, 10)
            assert not task.done()
            assert "a" in map_
            assert told == []
            disk.gate.set()
            await asyncio.wait_for(task, 10)
            assert len(told) == 1

    asyncio.run(main(), debug=True)


def test_raise_what_the_verb_raises(tmp_path: Path) -> None:
    """C: errors of the verb come through the awaitable form, and nothing waits for the disk then."""
    disk = CountingDisk()

    async def main() -> None:
        with open_store(tmp_path, disk) as store:
            map_, async_store = store.map("m"), AsyncStore(store)
            await async_store.write(map_.create, "a", {})
            disk.syncs = 0
            with pytest.raises(ItemExists):
                await async_store.write(map_.create, "a", {})
            with pytest.raises(ItemNotFound):
                async with async_store.batch() as batch:
                    batch.remove(map_, "absent")
            assert disk.syncs == 0

    asyncio.run(main())


def test_make_a_batch_durable(tmp_path: Path) -> None:
    """W7: the block of an async batch ends when the batch is on the medium; its results are there then."""
    disk = CountingDisk()

    async def main() -> None:
        with open_store(tmp_path, disk) as store:
            map_, async_store = store.map("m"), AsyncStore(store)
            disk.syncs = 0
            async with async_store.batch() as batch:
                batch.set(map_, "a", {})
                batch.set(map_, "b", {})
            assert disk.syncs == 1
            assert [item.key for item in batch.results] == ["a", "b"]
            with pytest.raises(ZeroDivisionError):
                async with async_store.batch() as batch:
                    batch.set(map_, "c", {})
                    _ = 1 / 0
            assert "c" not in map_

    asyncio.run(main())


def test_report_a_failed_fsync_to_all_who_wait(tmp_path: Path) -> None:
    """F2: every write that waited for the fsync that failed gets StoreFailed, and no more writes are taken."""
    disk = CountingDisk()

    async def main() -> None:
        store = open_store(tmp_path, disk)
        map_, async_store = store.map("m"), AsyncStore(store)
        disk.fail = True
        results = await asyncio.gather(*(async_store.write(map_.set, key, {}) for key in "abc"), return_exceptions=True)
        assert [type(result) for result in results] == [StoreFailed] * 3
        with pytest.raises(StoreFailed):
            map_.set("d", {})
        with pytest.raises(StoreFailed):
            store.close()

    asyncio.run(main())


def test_survive_the_cancellation_of_one_who_waits(tmp_path: Path) -> None:
    """P4: the fsync belongs to all: cancelling one waiter does not disturb the others."""
    disk = CountingDisk()

    async def main() -> None:
        with open_store(tmp_path, disk) as store:
            map_, async_store = store.map("m"), AsyncStore(store)
            disk.gate.clear()
            one = asyncio.create_task(async_store.write(map_.set, "a", {}))
            other = asyncio.create_task(async_store.write(map_.set, "b", {}))
            await asyncio.sleep(0)
            one.cancel()
            await asyncio.sleep(0)
            disk.gate.set()
            assert (await asyncio.wait_for(other, 10)).key == "b"
            with pytest.raises(asyncio.CancelledError):
                await one
            assert "a" in map_

    asyncio.run(main())


def test_await_sync_compact_backup_and_close(tmp_path: Path) -> None:
    """P2, S5, M5: the awaitable forms do what the plain ones do, at any level."""
    disk = CountingDisk()

    async def main() -> None:
        store = open_store(tmp_path, disk, "process")
        map_, async_store = store.map("m"), AsyncStore(store)
        await async_store.write(map_.set, "a", {})
        disk.syncs = 0
        await async_store.sync()
        await async_store.sync()
        assert disk.syncs == 1
        await async_store.compact()
        await async_store.backup(tmp_path / "copy")
        await async_store.close()
        with pytest.raises(StoreClosed):
            await async_store.sync()
        with Store(tmp_path / "copy") as copy:
            assert list(copy.map("m")) == ["a"]

    asyncio.run(main())


def test_tell_of_each_write_when_it_is_durable_and_not_with_another(tmp_path: Path) -> None:
    """E2, P1: a write whose fsync is over is told at once, one that was appended meanwhile only after its own."""
    permits = threading.Semaphore(10)
    entered = threading.Semaphore(0)

    class GatedDisk(Disk):
        def sync(self, descriptor: int) -> None:
            entered.release()
            assert permits.acquire(timeout=10)
            super().sync(descriptor)

    class GatedStore(Store):
        _disk = GatedDisk()

    store = GatedStore(tmp_path / "store", durability="power")
    map_ = store.map("m")
    told: list[str] = []
    map_.on(ItemAdded, lambda event: told.append(event.key))
    while permits.acquire(blocking=False) or entered.acquire(blocking=False):
        pass
    first = threading.Thread(target=lambda: map_.set("first", {}))
    first.start()
    assert entered.acquire(timeout=10)
    second = threading.Thread(target=lambda: map_.set("second", {}))
    second.start()
    while "second" not in map_:
        pass  # it is being appended
    permits.release()
    first.join(10)
    assert entered.acquire(timeout=10)
    assert told == ["first"]
    permits.release(10)
    second.join(10)
    assert told == ["first", "second"]
    store.close()


def test_tell_of_a_write_whose_waiter_was_cancelled(tmp_path: Path) -> None:
    """E2: the write is made and becomes durable, and is told though nobody waits for it any more; it never was."""
    disk = CountingDisk()

    async def main() -> list[Event]:
        told: list[Event] = []
        with open_store(tmp_path, disk) as store:
            map_, async_store = store.map("m"), AsyncStore(store)
            store.on(Event, told.append)
            disk.gate.clear()
            task = asyncio.create_task(async_store.write(map_.set, "a", {}))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            disk.gate.set()
            await async_store.sync()
        return told

    assert len(asyncio.run(main())) == 1


def test_wait_for_the_disk_of_a_store_written_by_a_callback(tmp_path: Path) -> None:
    """P1: what an awaited write leads another store to write is durable in that store when its verb returns.

    The other store left the waiting to the first one, which waited for ever for a position of a log not its own.
    """
    disks = CountingDisk(), CountingDisk()
    (tmp_path / "other").mkdir()

    async def main() -> int:
        with open_store(tmp_path, disks[0]) as store, open_store(tmp_path / "other", disks[1]) as other:
            map_, copy = store.map("m"), other.map("m")
            for number in range(5):
                copy.set(f"{number}", {})
            disks[1].syncs = 0
            map_.on(ItemAdded, lambda event: copy.set(event.key, event.item.data))
            await asyncio.wait_for(AsyncStore(store).write(map_.set, "a", {}), 10)
            assert "a" in copy
            return disks[1].syncs

    assert asyncio.run(main()) == 1

"""``python -m benchmarks.floor``: the least that a set in Python comes to, beside ``Map.set``, LevelDB and SortedDict.

And the most that threads in Python get out of a disk, beside ``Map.set`` at ``"power"``: appends that share their
syncs, and nothing else.

The least is one function without a call of another of ours but for validation: it checks key and data, packs them,
takes the lock, reads the clock, makes row, record and frame with its checksum, assigns that to a mapped file, puts the
row into the SortedDict, keeps the books and returns the item. No conditions, expiry, events, limits or errors, and
nothing of what makes a write safe when it is interrupted: no library could be written so. What it costs is what these
steps cost in CPython with the packages that mapitem stands on; what ``Map.set`` costs beyond that is being a library.
"""

from __future__ import annotations

import mmap
import os
import random
import statistics
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from tempfile import TemporaryDirectory
from threading import Lock, RLock
from typing import Any
from zlib import crc32

from msgpack import Packer, packb
from sortedcontainers import SortedDict

from benchmarks import data
from benchmarks.measures import RECORD_BYTES, together
from benchmarks.timing import quietest, summary, timed
from mapitem import MapItem, Store
from mapitem.item import NEVER, make_item, pack_row, row_times
from mapitem.limits import _weigh

_ITEMS = 20_000
_PIECE = 500
_ROUNDS = 40
_MAP_BYTES = 1 << 28
_THREADS = (1, 4, 16, 64)
_sync = getattr(os, "fdatasync", os.fsync)
_SYNC_ROUNDS = 5
_SYNC_SECONDS = 0.5


class Least:
    """A map, a log and one function over both."""

    def __init__(self) -> None:
        self.rows: SortedDict[str, bytes] = SortedDict()
        self.log = mmap.mmap(-1, _MAP_BYTES)
        self.end = self.sequence = self.counter = self.live_bytes = self.updated = 0
        self.places = array("Q")
        self.lock = RLock()
        self.packer = Packer(strict_types=True)
        self.record = Packer()
        self.identity: bytes = packb("system")
        self.head, self.checksum = Struct(">2sIQQ"), Struct(">I")

    def set(self, key: str, value: dict[str, Any]) -> MapItem:
        if type(key) is not str or not 0 < len(key) <= 320 or not key.isascii():
            raise ValueError
        if _weigh(value, 2730, 128) > 2730:
            raise ValueError
        packed = self.packer.pack(value)
        with self.lock:
            now = round(time.time() * 1_000_000)
            old = self.rows[key]
            created, updated, expires = row_times(old)
            if updated < now:
                updated = now
            row = pack_row(self.counter, created, updated, expires, self.identity, packed)
            payload = self.record.pack(((2, 0, key, row),))
            head = self.head.pack(b"\xb5m", len(payload), self.sequence, 0)
            frame = head + self.checksum.pack(crc32(payload, crc32(head, 7))) + payload
            place = self.end
            self.end += len(frame)
            self.log[place : self.end] = frame
            dict.__setitem__(self.rows, key, row)  # type: ignore[index]
            self.live_bytes += len(row) - len(old)
            self.sequence += 1
            self.counter += 1
            self.places.append(place)
            if updated > self.updated:
                self.updated = updated
        return make_item(key, row)


def sets() -> None:
    """One thread, no waiting."""
    with TemporaryDirectory() as folder, Store(Path(folder, "store")) as store:
        least, rows = Least(), SortedDict()
        puts: dict[str, Callable[[str, dict[str, Any]], object]] = {
            "Map.set": store.map("m").set,
            "the least": least.set,
            "SortedDict + packb": lambda key, value: rows.__setitem__(key, packb(value)),
        }
        try:
            import plyvel

            level = plyvel.DB(str(Path(folder, "level")), create_if_missing=True)
            puts["LevelDB + packb"] = lambda key, value: level.put(key.encode(), packb(value))
        except ImportError:
            print("LevelDB is left out: plyvel is not installed")
        for number in range(_ITEMS):
            least.rows[data.key(number)] = pack_row(0, 0, 0, NEVER, least.identity, packb(data.value("small", number)))
            for name, put in puts.items():
                if name != "the least":
                    put(data.key(number), data.value("small", number))
        samples: dict[str, list[Any]] = {name: [] for name in puts}
        for version in range(_ROUNDS):
            pairs = [(data.key(n), data.value("small", n, version)) for n in random.sample(range(_ITEMS), _PIECE)]
            for name in random.sample(list(puts), len(puts)):

                def piece(put: Callable[[str, dict[str, Any]], object] = puts[name]) -> None:
                    for key, value in pairs:  # noqa: B023  # run at once
                        put(key, value)

                samples[name].append(timed(piece, _PIECE))
        quiet = quietest([sample for each in samples.values() for sample in each])
        times = {name: summary(each, quiet, "cpu")["us"] for name, each in samples.items()}
        beside = times.get("LevelDB + packb", times["SortedDict + packb"])
        for name, us in times.items():
            print(f"{name:20} {us:6.2f} µs = {us / beside:.2f} ×")


class GroupCommit:
    """A file, and a write to it by any number of threads: whoever comes first syncs for all that have appended."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self.record = bytes(RECORD_BYTES)
        self.end = self.synced = 0
        self.lock, self.sync_lock = Lock(), Lock()
        self.waiting: deque[tuple[int, Lock]] = deque()

    def write(self) -> None:
        with self.lock:
            os.pwrite(self.descriptor, self.record, self.end)
            self.end += RECORD_BYTES
            end = self.end
        while self.synced < end:
            if self.sync_lock.acquire(blocking=False):
                try:
                    reached = self.end
                    _sync(self.descriptor)
                    self.synced = reached
                finally:
                    self.sync_lock.release()
                self._wake()
            else:
                turn = Lock()
                turn.acquire()
                self.waiting.append((end, turn))
                if self.sync_lock.locked():  # or who synced was through with his waking just before
                    turn.acquire(timeout=0.05)

    def _wake(self) -> None:
        """Those who are done, and one of the others, to sync for all of them."""
        waiting = [self.waiting.popleft() for _ in range(len(self.waiting))]
        others = [(end, turn) for end, turn in waiting if end > self.synced]
        for end, turn in waiting:
            if end <= self.synced or turn is others[-1][1]:
                turn.release()
        self.waiting.extend(others[:-1])


def syncs() -> None:
    """Threads that wait for the disk."""
    with TemporaryDirectory() as folder, Store(Path(folder, "store"), durability="power") as store:
        bare, put, value = GroupCommit(Path(folder, "bare")), store.map("m").set, data.value("small", 1)

        def job(write: Callable[[int], object]) -> Callable[[threading.Event], int]:
            def work(stop: threading.Event) -> int:
                done = 0
                while not stop.is_set():
                    write(done)
                    done += 1
                return done

            return work

        writes: dict[str, Callable[[int], object]] = {
            "Map.set": lambda number: put(f"{number % 100:02}", value),
            "bare": lambda _: bare.write(),
        }
        rates: dict[tuple[str, int], list[float]] = {(name, count): [] for name in writes for count in _THREADS}
        for _ in range(_SYNC_ROUNDS):
            for name, count in random.sample(list(rates), len(rates)):
                counts, elapsed = together([job(writes[name])] * count, _SYNC_SECONDS)
                rates[name, count].append(sum(counts) / elapsed)
        os.close(bare.descriptor)
        for name in writes:
            medians = {count: statistics.median(rates[name, count]) for count in _THREADS}
            print(
                f"{name:20} writes a second that wait for the disk: "
                + ", ".join(f"{n} × {rate:,.0f} = {rate / medians[1]:.2f}" for n, rate in medians.items())
            )


def main() -> None:
    sets()
    syncs()


if __name__ == "__main__":
    main()

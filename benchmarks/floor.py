"""``python -m benchmarks.floor``: the least that a set in Python comes to, beside ``Map.set``, LevelDB and SortedDict.

The least is one function without a call of another of ours but for validation: it checks key and data, packs them,
takes the lock, reads the clock, makes row, record and frame with its checksum, assigns that to a mapped file, puts the
row into the SortedDict, keeps the books and returns the item. No conditions, expiry, events, limits or errors, and
nothing of what makes a write safe when it is interrupted: no library could be written so. What it costs is what these
steps cost in CPython with the packages that mapitem stands on; what ``Map.set`` costs beyond that is being a library.
"""

from __future__ import annotations

import mmap
import random
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from tempfile import TemporaryDirectory
from threading import RLock
from typing import Any
from zlib import crc32

from msgpack import Packer, packb
from sortedcontainers import SortedDict

from benchmarks import data
from benchmarks.timing import quietest, summary, timed
from mapitem import MapItem, Store
from mapitem.item import NEVER, make_item, pack_row, row_times
from mapitem.limits import _weigh

_ITEMS = 20_000
_PIECE = 500
_ROUNDS = 40
_MAP_BYTES = 1 << 28


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


def main() -> None:
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


if __name__ == "__main__":
    main()

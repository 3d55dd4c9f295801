"""The process that is killed: it opens a store, makes moves, and writes a line to its output once each is acknowledged.

Run by ``campaign``, as ``python -m kill.child`` with the round as JSON in the only argument. Lines: ``open DIGEST``
with a digest of what the store shows, then ``STREAM NUMBER RESULT`` for each move. It may be told to kill itself at the
n-th call that its log makes of the operating system: before it, after it, or with half of it done.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from hashlib import sha256
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import mapitem.compactor
import mapitem.preallocation
from mapitem import Store
from mapitem.disk import Disk
from mapitem.testing import ManualClock

from .workload import Move, look, moves, play

SMALL_LOG = 24 * 1024
"""Logs over this size are compacted by themselves, instead of over 4 MiB."""


class KillingDisk(Disk):
    """The real disk, until the call at which the process dies."""

    def __init__(self, calls: int, moment: str) -> None:
        self._calls = calls
        self._moment = moment

    def _is_last(self) -> bool:
        self._calls -= 1
        return self._calls == 0

    def _around(self, name: str, *arguments: Any) -> Any:
        is_last = self._is_last()
        if is_last and self._moment == "before":
            die()
        result = getattr(super(), name)(*arguments)
        if is_last:
            die()
        return result

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        is_last = self._is_last()
        if is_last and self._moment != "after":
            if self._moment == "half":
                super().write(descriptor, data[: len(data) // 2], offset)
            die()
        written = super().write(descriptor, data, offset)
        if is_last:
            die()
        return written

    def allocate(self, descriptor: int, start: int, end: int) -> None:
        self._around("allocate", descriptor, start, end)

    def map(self, descriptor: int, start: int, end: int) -> KillingWindow:
        return KillingWindow(self, self._around("map", descriptor, start, end))

    def create(self, path: str, mode: int) -> int:
        return int(self._around("create", path, mode))

    def truncate(self, descriptor: int, size: int) -> None:
        self._around("truncate", descriptor, size)

    def sync(self, descriptor: int) -> None:
        self._around("sync", descriptor)

    def sync_directory(self, path: str) -> None:
        self._around("sync_directory", path)

    def replace(self, source: str, target: str) -> None:
        self._around("replace", source, target)

    def remove(self, path: str) -> None:
        self._around("remove", path)


class KillingWindow:
    """A map of a part of the file; writing through it is one of the calls, and may be done by half as well."""

    def __init__(self, disk: KillingDisk, window: Any) -> None:
        self._disk = disk
        self._window = window

    def __setitem__(self, place: slice, data: bytes) -> None:
        is_last = self._disk._is_last()
        if is_last and self._disk._moment == "half":
            # Whichever half: what copies bytes in memory need not begin at the beginning.
            middle = place.start + len(data) // 2
            if len(data) % 2:
                self._window[place.start : middle] = data[: len(data) // 2]
            else:
                self._window[middle : place.stop] = data[len(data) // 2 :]
        if not is_last or self._disk._moment == "after":
            self._window[place] = data
        if is_last:
            die()

    def close(self) -> None:
        self._window.close()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # it may take a moment


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


class Child:
    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._clock = ManualClock(order["now"])
        self.store = self._open()

    def _open(self) -> Store:
        # compact_at=1.1: as often as can be.
        return Store(self._order["path"], durability=self._order["level"], clock=self._clock, compact_at=1.1)

    def work(self) -> None:
        streams = self._order["streams"]
        say(f"open {sha256(json.dumps(look(self.store)).encode()).hexdigest()}")
        if streams == 1:
            self._run(0)
            return
        # The clock stands still from here on: nothing of one stream's becomes due in a move of another's.
        say(f"purged {self.store.purge()}")
        threads = [Thread(target=self._run, args=(stream,)) for stream in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, stream: int) -> None:
        order = self._order
        plan = moves(order["seed"], stream, alone=order["streams"] == 1)
        for number, move in enumerate(islice(plan, order["moves"])):
            result = play(move, self.store, self._clock, self._special)
            say(f"{stream} {number} {result}")

    def _special(self, move: Move) -> None:
        if move[0] == "sync":
            self.store.sync()
        elif move[0] == "reopen":
            self.store.close()
            self.store = self._open()
        else:
            target = Path(f"{self._order['path']}.backup-{move[1]}")
            target.unlink(missing_ok=True)
            self.store.backup(target)
            target.unlink()


def main() -> None:
    order = json.loads(sys.argv[1])
    mapitem.compactor.COMPACT_FROM_BYTES = SMALL_LOG
    mapitem.preallocation._AHEAD_AFTER_BYTES = order["map_after"]
    if order["call"]:
        Store._disk = KillingDisk(order["call"], order["moment"])
    say("ready")
    Child(order).work()
    say("end")
    # Whoever is not killed before is killed now, with the store open.
    die()


if __name__ == "__main__":
    main()

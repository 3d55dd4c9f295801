"""Processes killed with SIGKILL while they acknowledge through a pipe (durability V3, P1, P3, R1, R4, R5).

A round starts a process that writes to a store, kills it, opens the file and compares all that can be read with what
the oracle shows after the moves that were acknowledged, or after those and the one in flight. Then the next round goes
on with the same file. One kind of kill comes from outside, some time after an acknowledgement; the other from inside,
at the n-th call of the operating system, so that creation, recovery and every step of a compaction are hit; now and
then the tail of the file is torn besides. A killed process loses nothing that it handed to the operating system, so
that ``"none"`` is held to the same as the other levels.

The short form runs with the tests. The long one::

    python -m tests.kill.campaign --rounds 300 --level all
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from mapitem import Store
from mapitem.disk import Disk
from mapitem.frames import read_header
from mapitem.testing import ManualClock
from mapitem.testing.oracle import Oracle

from .workload import Move, feed, look, moves, play

LEVELS = ("none", "process", "power")
_PROJECT = Path(__file__).parent.parent.parent
_PACKAGE = __package__
_CHILD = f"{_PACKAGE}.child"
_FOLDER = Path(__file__).parents[_PACKAGE.count(".") + 1]

_ROUNDS_PER_FILE = 12


class Campaign:
    """Rounds at one level, on one file after the other; ``figures`` counts what happened in them."""

    def __init__(self, folder: Path, level: str, seed: int) -> None:
        self.figures: Counter[str] = Counter()
        self._folder = folder
        self._level = level
        self._random = Random(f"{seed} {level}")
        self._files = 0

    def run(self, rounds: int) -> None:
        done = 0
        while done < rounds:
            share = min(_ROUNDS_PER_FILE, rounds - done)
            self._files += 1
            File(self, self._folder / f"{self._level}-{self._files}.mapitem", self._level, self._random).run(share)
            done += share


class File:
    """Some rounds on one file, and what must be in it."""

    def __init__(self, campaign: Campaign, path: Path, level: str, random: Random) -> None:
        self._figures = campaign.figures
        self._path = path
        self._level = level
        self._random = random
        self._clock = ManualClock(1_700_000_000.0)
        self._oracle = Oracle(self._clock)
        self._was_opened = False
        # Whether the log was closed, as far as the acknowledged moves tell, and nothing written after that.
        self._is_clean = False
        # The sid that a map has in the store, by the one that it has in the oracle.
        self._sids: dict[str, str] = {}
        self._planted = b""
        self._planted_at = 0
        self._generation: bytes | None = None

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self._round()
        self._end()

    # ------------------------------------------------------------ one round

    def _round(self) -> None:
        random = self._random
        order = {
            "path": str(self._path),
            "level": self._level,
            "now": self._clock(),
            "seed": random.randrange(2**32),
            "streams": random.choice([1, 1, 1, 4]),
            "moves": 3000,
            "call": 0,
            "moment": random.choice(["before", "half", "after"]),
            # From the first write on through a map, after some, or never.
            "map_after": random.choice([0, 0, 2000, 2**40]),
        }
        patience = 0
        if random.random() < 0.5:
            # Creation and recovery take ten calls or so, a compaction as many.
            order["call"] = random.randrange(1, random.choice([12, 40, 400]))
        else:
            patience = random.choice([0, random.randrange(1, 12), random.randrange(1, 400)])
        lines = self._run_child(order, patience)
        self._figures["rounds"] += 1
        self._figures["killed by itself" if order["call"] else "killed from outside"] += 1
        self._check(order, lines)
        if random.random() < 0.25:
            self._tear()

    def _run_child(self, order: dict[str, Any], patience: int) -> list[str]:
        """The lines that the process wrote before its death, which comes after ``patience`` of them and a moment."""
        command = [sys.executable, "-m", _CHILD, json.dumps(order)]
        moment = self._random.choice([0.0, 0.0005, 0.002, 0.008]) * self._random.random()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_FOLDER), str(_PROJECT)])}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=self._path.parent
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            lines: list[str] = []
            while line := child.stdout.readline():
                lines.append(line.decode())
                if not order["call"] and len(lines) > patience:
                    until = perf_counter() + moment
                    while perf_counter() < until:
                        pass
                    child.kill()
                    lines += [line.decode() for line in child.stdout]
                    break
            said = child.stderr.read().decode()
            child.wait()
        assert child.returncode == -signal.SIGKILL, f"{order}\n{said}"
        # The order of the kill may come before the end of a line.
        return [line.rstrip("\n") for line in lines if line.endswith("\n")]

    def _tear(self) -> None:
        """Leave at the end of the file what a record of which half arrived would leave."""
        if not self._path.exists():
            return
        data = self._path.read_bytes()
        half = data[-self._random.randrange(1, min(200, len(data))) :]
        torn = self._random.choice([half[:-1], self._random.randbytes(50), bytes(700)])
        with self._path.open("ab") as file:
            file.write(torn)
        # Zeros may pass for what was allocated ahead, and are dropped without a count then.
        self._planted = torn.rstrip(b"\0")
        self._planted_at = len(data)

    # ------------------------------------------------------------ what must be there

    def _check(self, order: dict[str, Any], lines: list[str]) -> None:
        assert lines[0] == "ready"
        shown = lines[1].removeprefix("open ") if len(lines) > 1 else None
        if shown is not None:
            # R4: what the last open showed, with nothing written since, is what this one showed.
            assert shown == _digest(look(self._oracle)), f"{order}: opened to something else"
            self._was_opened = True
            self._planted = b""
        if not self._path.exists():
            assert not self._was_opened, f"{order}: the file is gone"
            self._figures["killed in creation"] += 1
            return
        self._figures["killed with a new file half written"] += Path(f"{self._path}.new").exists()
        self._figures["killed in opening"] += shown is None
        generation = read_generation(self._path)
        self._figures["logs that took another's place"] += self._generation not in (None, generation)
        self._generation = generation
        acknowledged = self._replay(order, lines[2:])
        with Store(self._path, read_only=True, clock=self._clock) as store:
            if store.recovery is None:
                # R5: only one that closes the store, and writes nothing after that, dies and leaves a clean end.
                assert self._is_clean or "reopen" in self._verbs_in_flight(order, acknowledged)
            elif store.recovery.dropped_bytes:
                self._figures["torn tails"] += 1
            elif store.recovery.offset < self._path.stat().st_size:
                self._figures["zeros allocated ahead"] += 1
            self._compare(order, acknowledged, store)
            self._check_sids_and_feeds(store)
            self._is_clean = store.recovery is None

    def _replay(self, order: dict[str, Any], lines: list[str]) -> dict[int, int]:
        """Make on the oracle what was acknowledged, with the same results; how many moves of each stream that were."""
        acknowledged = dict.fromkeys(range(order["streams"]), 0)
        if order["streams"] > 1:
            if not lines:
                return acknowledged
            gone = lines.pop(0)
            assert gone == f"purged {self._oracle.purge()}", order
            self._is_clean &= gone == "purged 0"
        plans = {stream: self._plan(order, stream) for stream in acknowledged}
        for line in lines:
            if line == "end":
                break
            stream, number, result = line.split(" ", 2)
            move = next(plans[int(stream)])
            assert int(number) == acknowledged[int(stream)]
            assert result == self._play(move), f"{order} at {line}: {move}"
            acknowledged[int(stream)] += 1
            self._is_clean = move[0] == "reopen" or (self._is_clean and _may_write_nothing(move, result))
            self._figures["moves acknowledged"] += 1
            self._figures["compactions by hand"] += move[0] == "compact"
        return acknowledged

    def _compare(self, order: dict[str, Any], acknowledged: dict[int, int], store: Store) -> None:
        """P3: of each stream there is what was acknowledged, and at most the one move in flight beyond it."""
        alone = order["streams"] == 1
        if not alone and not any(acknowledged.values()):
            # The purge at the start may have been in flight.
            self._is_there(store, "") or self._oracle.purge()
        for stream, number in acknowledged.items():
            prefix = "" if alone else f"s{stream}-"
            if not self._is_there(store, prefix):
                move = next(islice(self._plan(order, stream), number, None))
                self._play(move)
                self._figures["moves in flight that were kept"] += 1
                assert self._is_there(store, prefix), f"{order}: not what was written after {number} moves, or {move}"
        assert self._is_there(store, ""), order

    def _is_there(self, store: Store, prefix: str) -> bool:
        return look(store, prefix) == look(self._oracle, prefix)

    def _check_sids_and_feeds(self, store: Store) -> None:
        """A map keeps its sid, no other gets it, and its feed has every event from the oldest that it serves."""
        for map_ in store.maps():
            assert map_.name is not None
            reference = self._oracle.open_map(map_.name)
            if reference.sid not in self._sids:
                assert map_.sid not in self._sids.values(), "a sid came twice"
            assert self._sids.setdefault(reference.sid, map_.sid) == map_.sid
            oldest, events = feed(map_)
            assert events == feed(reference)[1][oldest:], f"the feed of {map_.name} from {oldest} on"
            self._figures["feeds that begin anew"] += oldest > 0

    def _plan(self, order: dict[str, Any], stream: int) -> Any:
        return moves(order["seed"], stream, alone=order["streams"] == 1)

    def _play(self, move: Move) -> str:
        # The oracle's own compaction would only make its feed shorter.
        if move[0] == "compact":
            self._oracle.purge()
            return "done"
        return play(move, self._oracle, self._clock, lambda _: None)

    def _verbs_in_flight(self, order: dict[str, Any], acknowledged: dict[int, int]) -> set[str]:
        """The verb of each stream that was not acknowledged any more: one that closes the store may have come to it."""
        return {
            move[0]
            for stream, number in acknowledged.items()
            for move in islice(self._plan(order, stream), number, number + 1)
        }

    def _end(self) -> None:
        """Open the file once more to write, close it cleanly: then there is nothing to mend, and nothing lies about."""
        if not self._path.exists():
            return
        # A process that was killed while it opened the file may have come to cut what was planted. What is left may end
        # in the same bytes, where half of the last record was planted behind zeros.
        content = self._path.read_bytes().rstrip(b"\0")
        is_planted = len(content) > self._planted_at and content.endswith(self._planted) and bool(self._planted)
        with Store(self._path, clock=self._clock, durability=self._level) as store:  # type: ignore[arg-type]
            assert self._is_there(store, "")
            if is_planted:
                assert store.recovery is not None
                assert store.recovery.dropped_bytes >= len(self._planted)
        with Store(self._path, clock=self._clock) as store:
            assert store.recovery is None
            assert self._is_there(store, "")
        names = {path.name.removeprefix(self._path.name) for path in self._path.parent.glob(f"{self._path.name}*")}
        left_over = {name for name in names if not name.startswith((".cut-", ".backup-"))} - {"", ".lock"}
        assert not left_over, left_over


def _may_write_nothing(move: Move, result: str) -> bool:
    """Whether a move with this result may have left the log as it was: one that was refused did."""
    return (
        result[:1].isupper()  # an error's name
        or move[0] in ("advance", "sync", "backup", "map")
        or (move[0] == "purge" and result == "0")
    )


def read_generation(path: Path) -> bytes:
    """What tells one log from another that took its place: each is of a generation of its own."""
    disk = Disk()
    descriptor = disk.open_read(str(path))
    try:
        return read_header(disk, descriptor, str(path)).generation
    finally:
        disk.close(descriptor)


def _digest(shown: dict[str, Any]) -> str:
    return sha256(json.dumps(shown).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, metavar="N", help="rounds at each level (default: 300)")
    parser.add_argument("--level", choices=[*LEVELS, "all"], default="all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("mapitem").setLevel(logging.ERROR)  # of torn tails we know
    for level in LEVELS if arguments.level == "all" else [arguments.level]:
        began = perf_counter()
        with TemporaryDirectory(prefix="mapitem-kill-") as folder:
            campaign = Campaign(Path(folder), level, arguments.seed)
            campaign.run(arguments.rounds)
        print(f"{level}, seed {arguments.seed}: {perf_counter() - began:.0f} s, no difference found")
        for name, count in sorted(campaign.figures.items()):
            print(f"  {count:>8,} {name}")


if __name__ == "__main__":
    main()

"""Damaging files in every way and at random, and hostile records under right checksums (durability V4).

Three proofs, of which ``test_damage`` runs a short form each: ``judge`` holds what a store makes of a damaged file
against every state that the store had acknowledged (G2), ``every_bit`` and its like are the ways to damage one, and
``Fuzzer`` writes records that no store would write (G3). What is wrong comes out as a ``Finding``.

The long form, each round with another seed, is a part of ``tests.proof``; alone::

    python -m tests.proof --only damages --minutes 30 [--seed N]
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import msgpack

from mapitem import (
    HistoryCompacted,
    LogCorrupt,
    Map,
    MapItemError,
    NewerFormat,
    NotAStore,
    Store,
)
from mapitem.disk import Disk
from mapitem.repair import check, repair
from mapitem.testing import ManualClock

# As a program it is no part of what pytest puts on the path.
sys.path.insert(0, str(Path(__file__).parent))
from golden.make import NEVER, event_fields, map_fields
from log_reader import FRAME, HEADER, read_log, whole_frame

NOW = 1_700_000_000.0
# Nothing is due then, and a store shows all that is in its file.
BEFORE_ALL = NOW - 10_000_000
REFUSALS = (LogCorrupt, NotAStore, NewerFormat)
SECTOR = 512
# More than any window, and less than what a damaged length may claim.
MOST_READ = 8 * 1024 * 1024


def memory_folder() -> TemporaryDirectory[str]:
    """A temporary folder, in memory where there is such a place: some file systems wait for the disk at a rename."""
    return TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


class Finding(AssertionError):
    """Something that durability G2, G3, R2 or R3 forbids."""


class _HastyDisk(Disk):
    """The real one, without its waiting; no read may look for what is not there, or make room for it (G3)."""

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        size = self.size(descriptor)
        if offset > size or length > MOST_READ + size - offset:
            raise Finding(f"G3: {length} bytes to be read at {offset} of a file of {size}")
        return super().read(descriptor, length, offset)

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self, path: str) -> None:
        pass


class HastyStore(Store):
    """A store whose syncs do nothing: no power will be cut here."""

    _disk = _HastyDisk()


# ---------------------------------------------------------------- what is damaged


class Subject(NamedTuple):
    """A log, and what its store has shown in its life.

    ``states`` are the digests of every state it acknowledged since the log was written, in order; ``items`` every item
    it ever held, with its key; ``revisions`` the highest of each map. ``older`` is the log before, or nothing, and
    ``older_states`` are the states of that.
    """

    name: str
    log: bytes
    states: list[str]
    items: set[str]
    revisions: dict[str, int]
    older: bytes
    older_states: list[str]


Life = Callable[[Store, ManualClock], Iterator[None]]


def small_subject(level: str, *, closed: bool) -> Subject:
    """About a kilobyte: two maps, and every kind of operation but those of a base."""
    return _subject("small", level, _small_life, closed)


def compacted_subject(level: str, *, closed: bool) -> Subject:
    """A small base with a few records behind it."""
    return _subject("compacted", level, _compacted_life, closed)


def large_subject(level: str, random: Random, *, closed: bool) -> Subject:
    """Some ten kilobytes of random writes, with a compaction here and there."""
    return _subject("large", level, lambda store, clock: _random_life(store, clock, random), closed)


def _subject(name: str, level: Any, life: Life, closed: bool) -> Subject:
    clock = ManualClock(now=NOW)
    older, items, revisions = b"", set(), {}
    older_states: list[str] = []
    with memory_folder() as folder:
        path = Path(folder) / "log"
        with HastyStore(path, durability=level, clock=clock, compact_at=None) as store:
            states, log = [digest(store, clock)], path.read_bytes()
            for _ in life(store, clock):
                before, log = log, path.read_bytes()
                if (
                    log[: HEADER.size] != before[: HEADER.size]
                ):  # a compaction: the new file never held the states before
                    older, older_states, states = before, states, []
                states.append(digest(store, clock))
                for map_ in all_maps(store, clock):
                    revisions[map_["sid"]] = map_["revision"]
                    items |= {repr(item) for item in map_["items"].items()}
        if closed:
            log = path.read_bytes()
    return Subject(
        f"{name}, {level}, {'closed' if closed else 'left open'}", log, states, items, revisions, older, older_states
    )


def _small_life(store: Store, clock: ManualClock) -> Iterator[None]:
    first = store.map("first")
    yield
    first.set("a", {"n": 1}, ttl=5)
    yield
    first.set("b", {"µm": "µm"})
    yield
    second = store.create_map(ttl=100)
    yield
    clock.advance(5)
    first.update("b", {"m": [1, None]})  # "a" is due, and goes
    yield
    with store.batch() as batch:
        batch.create(second, "c", {}, collection_ttl=500)
        batch.set_item_ttl(first, "b", 50)
        batch.create(first, "a", {"n": 2})
    yield
    store.sync()
    first.remove("b")
    yield
    second.set_ttl(1000)
    yield
    second.remove_map()
    yield
    first.set("d", {"last": True})
    yield


def _compacted_life(store: Store, clock: ManualClock) -> Iterator[None]:
    for _ in _small_life(store, clock):
        yield
    store.compact()
    yield
    store.open_map("first").set("e", {"behind": "the base"})
    yield
    store.open_map("first").remove("a")
    yield


def _random_life(store: Store, clock: ManualClock, random: Random) -> Iterator[None]:
    names = ["one", "two", "three"]
    for _ in range(random.randrange(40, 160)):
        clock.advance(random.choice([0, 0, 0.5, 2, -1]))
        map_ = store.map(random.choice(names))
        yield
        key = random.choice("abcdefghijklmnop") * random.choice([1, 1, 1, 40])
        what = random.random()
        if what < 0.6:
            data = {"n": random.randrange(10**6), "text": "µm\0" * random.choice([0, 1, 5, 200])}
            map_.set(key, data, ttl=random.choice([None, None, 0, 3]))
        elif what < 0.75:
            with suppress(KeyError):
                map_.remove(key)
        elif what < 0.85:
            with store.batch() as batch:
                for number in range(random.randrange(1, 9)):
                    batch.set(map_, f"{key}{number}", {"batch": number}, ttl=random.choice([None, 5]))
        elif what < 0.9:
            store.purge()
        elif what < 0.93:
            map_.remove_map()
        elif what < 0.97:
            store.sync()
        else:
            store.compact()
        yield


def all_maps(store: Store, clock: ManualClock) -> list[dict[str, Any]]:
    """All that is in the file, whatever is due, and the events that the feeds serve."""
    now = clock()
    clock.set(BEFORE_ALL)
    try:
        return [{**map_fields(map_), "feed": _feed(map_)} for map_ in store.maps()]
    finally:
        clock.set(now)


def digest(store: Store, clock: ManualClock) -> str:
    """The same, as a short string."""
    return sha256(repr(all_maps(store, clock)).encode()).hexdigest()


def _feed(map_: Map) -> list[dict[str, Any]]:
    try:
        events = map_.changes(since="0")
    except HistoryCompacted as error:
        events = map_.changes(since=error.oldest)
    return [event_fields(event) for event in events]


# ---------------------------------------------------------------- judging


def judge(subject: Subject, log: bytes, path: Path, *, thorough: bool = False) -> str:
    """What a store makes of the damaged log: ``"refused"``, ``"right"``, or ``"prefix"`` with its notice.

    ``"older"``, with notice too: a block of the log before, from its header to beyond its base, stands where the first
    one belongs. All that is behind it is nothing to that log, as what comes up in freed blocks after a crash.

    Anything else is a ``Finding``. ``thorough`` opens it for writing as well, and looks it over, and compares.
    """
    put(path, log)
    outcome, shown, dropped = _open(subject, path)
    if path.read_bytes() != log or os.listdir(path.parent) != [path.name]:
        raise Finding("R7: looking at the file changed it, or left another")
    try:
        read = read_log(path)
    except ValueError:
        read = {}
    if (outcome == "refused") is bool(read):
        raise Finding(f"G1: the other reader disagrees with {outcome!r}")
    if read and read["dropped_bytes"] != dropped:
        raise Finding(f"G1: the other reader drops {read['dropped_bytes']} bytes, the store {dropped}")
    if thorough:
        _judge_check(path, outcome, dropped)
        _judge_writing(log, path, outcome, shown, dropped)
    return outcome


def put(path: Path, log: bytes) -> None:
    """Make this the content of the file; emptying it first would have some file systems wait for the disk."""
    with open(path, "r+b" if path.exists() else "wb", buffering=0) as file:
        file.write(log)
        file.truncate()


def _open(subject: Subject, path: Path) -> tuple[str, str, int]:
    clock = ManualClock(now=NOW)
    try:
        store = HastyStore(path, clock=clock, read_only=True)
    except REFUSALS as error:
        _judge_refusal(error, path)
        return "refused", "", 0
    with store:
        shown = digest(store, clock)
        recovery = store.recovery
    if shown not in subject.states:
        if shown not in subject.older_states or path.read_bytes()[: HEADER.size] != subject.older[: HEADER.size]:
            raise Finding("G2: the store shows what it never was")
        if recovery is None or not recovery.dropped_bytes:
            raise Finding("R2: all that followed on an older log was lost without a notice")
        return "older", shown, recovery.dropped_bytes
    if shown == subject.states[-1]:
        return "right", shown, recovery.dropped_bytes if recovery else 0
    if recovery is None:
        raise Finding("R2: writes were lost without a notice")
    return "prefix", shown, recovery.dropped_bytes


def _judge_refusal(error: MapItemError, path: Path) -> None:
    if not isinstance(error, LogCorrupt | NotAStore):
        return
    if error.path != str(path) or not error.reason or str(path) not in str(error):
        raise Finding(f"R3: the error does not say what and where: {error!r}")
    if isinstance(error, LogCorrupt) and not 0 <= error.offset <= path.stat().st_size:
        raise Finding(f"R3: damage at byte {error.offset}, where there is no file")


def _judge_check(path: Path, outcome: str, dropped: int) -> None:
    try:
        report = check(path)
    except REFUSALS:
        if outcome != "refused":
            raise Finding("R3: check refuses what the store opens") from None
        return
    if report.damaged is not (outcome == "refused") or report.torn_bytes != dropped or not str(report):
        raise Finding(f"R3: check says otherwise: {report}")


def _judge_writing(log: bytes, path: Path, outcome: str, shown: str, dropped: int) -> None:
    clock = ManualClock(now=NOW)
    try:
        store = HastyStore(path, clock=clock)
    except REFUSALS:
        if outcome != "refused" or path.read_bytes() != log or os.listdir(path.parent) != [path.name]:
            raise Finding("R3, R8: a refused file was changed, or something was left beside it") from None
        return
    with store:
        if digest(store, clock) != shown:
            raise Finding("R7: the store shows another state when it opens the file for writing")
        recovery = store.recovery
        if (recovery.dropped_bytes if recovery else 0) != dropped:
            raise Finding("R2: the writer drops something else than the reader")
        if recovery and dropped:
            kept = Path(str(recovery.kept_in))
            if kept.read_bytes() != log[recovery.offset : recovery.offset + dropped]:
                raise Finding("R2: what was cut was not kept")
            kept.unlink()
        store.map("new").set("k", {"written": "after"})
        shown = digest(store, clock)
    with HastyStore(path, clock=clock, read_only=True) as again:
        if again.recovery is not None or digest(again, clock) != shown:
            raise Finding("R4: what was written after the damage did not last")
    Path(f"{path}.lock").unlink()


def judge_repair(subject: Subject, log: bytes, path: Path) -> str:
    """Repair the damaged log: ``"nothing"`` to be saved, ``"complete"`` or ``"partly"``.

    Whatever comes of it opens, every item in it is one that the store once held, and no revision will come twice.
    """
    put(path, log)
    out = path.with_name("out")
    try:
        report = repair(path, out)
    except REFUSALS:
        if out.exists():
            raise Finding("R3: a failed repair left a file") from None
        return "nothing"
    if path.read_bytes() != log or sorted(os.listdir(path.parent)) != sorted([path.name, out.name]):
        raise Finding("R3: the repair changed the damaged file, or left another")
    found = check(out)
    if not found.clean or (found.maps, found.items) != (report.maps, report.items) or not str(report):
        raise Finding(f"R3: the repaired file is not sound: {found}, {report}")
    clock = ManualClock(now=NOW)
    with HastyStore(out, clock=clock, read_only=True) as store:
        maps = all_maps(store, clock)
    out.unlink()
    for map_ in maps:
        if not {repr(item) for item in map_["items"].items()} <= subject.items:
            raise Finding("G2: the repair made items that never were")
        if not report.complete and map_["revision"] < subject.revisions.get(map_["sid"], 0):
            raise Finding("R3: the repaired map would give revisions again")
    return "complete" if report.complete else "partly"


# ---------------------------------------------------------------- ways to damage

Damage = Callable[[bytearray, Random, bytes], None]


def _place(log: bytearray, random: Random) -> int:
    return random.randrange(len(log) + 1)


def _range(log: bytearray, random: Random) -> slice:
    first = _place(log, random)
    return slice(first, first + random.choice([1, 2, 8, 33, 100, SECTOR, 4096]))


def _sector(log: bytearray, random: Random) -> slice:
    first = random.randrange(len(log) // SECTOR + 1) * SECTOR
    return slice(first, min(first + SECTOR, len(log)))


def flip_bits(log: bytearray, random: Random, older: bytes) -> None:
    for _ in range(random.choice([1, 1, 2, 20])):
        if log:
            log[random.randrange(len(log))] ^= 1 << random.randrange(8)


def overwrite_range(log: bytearray, random: Random, older: bytes) -> None:
    where = _range(log, random)
    size = len(log[where])
    log[where] = random.choice([bytes(size), b"\xff" * size, random.randbytes(size)])


def zero_sector(log: bytearray, random: Random, older: bytes) -> None:
    where = _sector(log, random)
    log[where] = bytes(len(log[where]))


def swap_sectors(log: bytearray, random: Random, older: bytes) -> None:
    one, other = _sector(log, random), _sector(log, random)
    if len(log[one]) == len(log[other]):
        log[one], log[other] = log[other], log[one]


def misplace_sector(log: bytearray, random: Random, older: bytes) -> None:
    source = bytearray(older) if older and random.random() < 0.5 else log
    content = source[_sector(source, random)]
    where = _sector(log, random)
    log[where] = content[: len(log[where])].ljust(len(log[where]), b"\0")


def swap_ranges(log: bytearray, random: Random, older: bytes) -> None:
    a, b, c, d = sorted(_place(log, random) for _ in range(4))
    log[a:d] = log[c:d] + log[b:c] + log[a:b]


def duplicate_range(log: bytearray, random: Random, older: bytes) -> None:
    where = _range(log, random)
    log[where.stop : where.stop] = log[where]


def remove_range(log: bytearray, random: Random, older: bytes) -> None:
    del log[_range(log, random)]


def insert_range(log: bytearray, random: Random, older: bytes) -> None:
    place = _place(log, random)
    garbage = random.randbytes(random.randrange(1, 700))
    log[place:place] = random.choice([garbage, log[_range(log, random)], bytes(SECTOR)])


def append_garbage(log: bytearray, random: Random, older: bytes) -> None:
    garbage = random.randbytes(random.randrange(1, 700))
    log += random.choice([garbage, bytes(log[_range(log, random)]), bytes(4096), older])


def truncate(log: bytearray, random: Random, older: bytes) -> None:
    del log[_place(log, random) :]


def splice_frames(log: bytearray, random: Random, older: bytes) -> None:
    """Whole frames removed, doubled or exchanged: the hardest to see."""
    frames = split(bytes(log))
    if not frames:
        return
    first, second = random.randrange(len(frames)), random.randrange(len(frames))
    match random.randrange(3):
        case 0:
            del frames[first : first + random.choice([1, 1, 3])]
        case 1:
            frames.insert(second, frames[first])
        case 2:
            frames[first], frames[second] = frames[second], frames[first]
    log[HEADER.size :] = b"".join(frames)


DAMAGES: tuple[Damage, ...] = (
    flip_bits,
    overwrite_range,
    zero_sector,
    swap_sectors,
    misplace_sector,
    swap_ranges,
    duplicate_range,
    remove_range,
    insert_range,
    append_garbage,
    truncate,
    splice_frames,
)


def damaged(subject: Subject, random: Random) -> tuple[bytes, str]:
    """The subject's log after one to three damages, and their names."""
    log = bytearray(subject.log)
    done = []
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        damage = random.choice(DAMAGES)
        damage(log, random, subject.older)
        done.append(damage.__name__)
    return bytes(log), ", ".join(done)


def every_bit(log: bytes) -> Iterator[bytes]:
    """The log with each of its bits flipped in turn."""
    for bit in range(8 * len(log)):
        other = bytearray(log)
        other[bit // 8] ^= 1 << bit % 8
        yield bytes(other)


def every_truncation(log: bytes) -> Iterator[bytes]:
    """The log cut off at each byte."""
    return (log[:size] for size in range(len(log)))


def every_splice(log: bytes) -> Iterator[bytes]:
    """The log with each of its frames left out, doubled, moved to the end, or exchanged with another."""
    frames = split(log)
    for one, frame in enumerate(frames):
        rest = frames[:one] + frames[one + 1 :]
        yield log[: HEADER.size] + b"".join(rest)
        yield log[: HEADER.size] + b"".join([*frames[: one + 1], *frames[one:]])
        yield log[: HEADER.size] + b"".join([*frames, frame])
        for other in range(one):
            swapped = list(frames)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            yield log[: HEADER.size] + b"".join(swapped)


def split(log: bytes) -> list[bytes]:
    """The whole frames of a log, as far as they follow each other."""
    frames, place = [], HEADER.size
    seed = zlib.crc32(log[16:32])
    while (frame := whole_frame(log, place, seed)) is not None:
        end = place + FRAME.size + len(frame[0])
        frames.append(log[place:end])
        place = end
    return frames


# ---------------------------------------------------------------- hostile records


class Fuzzer:
    """Writes records that no store would write, under right checksums, and lives with what a store makes of them."""

    def __init__(self, random: Random, path: Path) -> None:
        self._random = random
        self._path = path
        self._seeds = [subject.log for subject in (small_subject("power", closed=True), hostile_seed())]

    def round(self) -> str:
        """One hostile log: ``"refused"`` or ``"opened"``. An undocumented error, or a long time, is a ``Finding``."""
        log = self.mutated() if self._random.random() < 0.5 else invented(self._random)
        began = perf_counter()
        try:
            return live_with(log, self._path)
        except Finding:
            raise
        except Exception as error:
            raise Finding(f"G3: {type(error).__name__}: {error}") from error
        finally:
            if perf_counter() - began > 2:
                raise Finding("G3: a small file kept the store busy for seconds")

    def mutated(self) -> bytes:
        random = self._random
        payloads = [frame[FRAME.size :] for frame in split(random.choice(self._seeds))]
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            self._mutate(payloads)
        return assemble(payloads, promise=random.random() < 0.9)

    def _mutate(self, payloads: list[bytes]) -> None:
        random = self._random
        place = random.randrange(len(payloads))
        what = random.random()
        if what < 0.7:
            payloads[place] = self._mutate_payload(payloads[place])
        elif what < 0.8:
            content = bytearray(payloads[place] or b"\xc0")
            content[random.randrange(len(content))] = random.randrange(256)
            payloads[place] = bytes(content)
        elif what < 0.87:
            payloads.insert(random.randrange(len(payloads)), payloads[place])
        elif what < 0.94:
            other = random.randrange(len(payloads))
            payloads[place], payloads[other] = payloads[other], payloads[place]
        elif len(payloads) > 1:
            del payloads[place]

    def _mutate_payload(self, payload: bytes) -> bytes:
        try:
            operations = msgpack.unpackb(payload)
            return payload if isinstance(operations, str) else pack(self._mutate_value(operations))
        except (ValueError, RecursionError):
            return payload  # mutated before, or nested deeper than can be packed here

    def _mutate_value(self, value: Any) -> Any:
        """A change at one place somewhere in the value, within rows as well."""
        random = self._random
        if isinstance(value, bytes) and random.random() < 0.8:
            return self._mutate_row(value)
        if isinstance(value, list) and value and random.random() < 0.85:
            place = random.randrange(len(value))
            what = random.random()
            if what < 0.8:
                value[place] = self._mutate_value(value[place])
            elif what < 0.87:
                del value[place]
            elif what < 0.94:
                value.insert(place, value[random.randrange(len(value))])
            else:
                value.append(hostile_value(random))
            return value
        if isinstance(value, dict) and value and random.random() < 0.7:
            key = random.choice(list(value))
            value[key] = self._mutate_value(value[key])
            return value
        return hostile_value(random)

    def _mutate_row(self, row: bytes) -> bytes:
        random = self._random
        if row and random.random() < 0.2:
            content = bytearray(row)
            content[random.randrange(len(content))] = random.randrange(256)
            return bytes(content)
        try:
            fields = self._mutate_value(msgpack.unpackb(row))
            pack(fields)
        except (ValueError, RecursionError):
            return row  # as above
        if not isinstance(fields, list) or random.random() < 0.1:
            return pack(fields)
        # With the head as it has to be, so that more than the first check is put to the test.
        numbers = [field for field in fields[:4] if isinstance(field, int) and -(2**63) <= field < 2**63]
        return pack(fields) if len(numbers) < 4 else pack_row(numbers, *fields[4:])


def pack_row(numbers: list[int], *others: Any) -> bytes:
    return b"".join([b"\x96", *(struct.pack(">Bq", 0xD3, number) for number in numbers), *map(pack, others)])


def invented(random: Random) -> bytes:
    """A log that adds up, made of the ends of every range, with a hostile value here and there."""

    def instant() -> Any:
        first, last = -62_135_596_800_000_000, 253_402_300_799_999_999
        return spoilt(random.choice([first, first + 1, -1, 0, 1_700_000_000_000_000, last - 1, last]))

    def instants() -> list[Any]:
        pair = [instant(), instant()]
        return sorted(pair) if all(isinstance(each, int) for each in pair) else pair

    def expiry() -> Any:
        return random.choice([NEVER, NEVER, instant()])

    def spoilt(value: Any) -> Any:
        return hostile_value(random) if random.random() < 0.01 else value

    def row(number: int) -> Any:
        numbers = [number, *instants(), expiry()]
        if not all(isinstance(each, int) and -(2**63) <= each < 2**63 for each in numbers):
            return pack(numbers)
        data = random.choice([{}, {"a": hostile_value(random)}, hostile_value(random)])
        return spoilt(pack_row(numbers, random.choice(["system", "", "µm", hostile_value(random)]), data))

    payloads: list[bytes] = []
    counters: dict[int, int] = {}
    keys: dict[int, list[str]] = {}
    for no in random.sample([0, 1, 2, 2**32, 2**62 - 2, 2**62 - 1], random.randrange(1, 4)):
        counters[no], keys[no] = random.choice([0, 0, 1, 5, 2**40, 2**61 - 2, 2**62 - 10]), []
        name = random.choice([None, "a", "b", "\0", "MP" + "0" * 32])
        count = spoilt(counters[no])
        sid = spoilt(f"MP{random.randbytes(16).hex()}")
        begin = [5, no, sid, name, spoilt("system"), *instants(), expiry(), count, spoilt(count)]
        payloads.append(pack([begin]))
        names = random.sample(["a", "b", "µm", "\0", "z" * 400], random.randrange(4))
        if names:
            payloads.append(pack([[8, no, names, [row(random.randrange(counters[no] + 1)) for _ in names]]]))
            keys[no] = list(names)
        if random.random() < 0.3:
            count = spoilt(counters[no])
            payloads.append(pack([[10, no, instant(), expiry(), count, count]]))
    payloads.append(b"\xa8base end")
    for _ in range(random.randrange(6)):
        payloads.append(
            pack([_invented_event(random, counters, keys, row, instant) for _ in range(random.choice([1, 1, 3]))])
        )
    return assemble(payloads, promise=True)


def _invented_event(
    random: Random,
    counters: dict[int, int],
    keys: dict[int, list[str]],
    row: Callable[[int], Any],
    instant: Callable[[], Any],
) -> list[Any]:
    no = random.choice(list(counters))
    number, there = counters[no], keys[no]
    counters[no] += 1
    what = random.randrange(5)
    if what == 0 and there:
        return [2, no, random.choice(there), row(number), *random.choice([[], [instant()]])]
    if what == 1 and there:
        return [3, no, there.pop(), number, instant()]
    if what == 2 and there:
        gone = list(there)
        there.clear()
        counters[no] += len(gone) - 1
        return [4, no, gone, number, instant()]
    if what == 3:
        counters[no] -= 1
        return [6, no, random.choice([NEVER, instant()])]
    there.append(f"new {number} {len(there)}")
    return [1, no, there[-1], row(number), *random.choice([[], [instant()]])]


def hostile_seed() -> Subject:
    """A base with every kind of operation that a base may hold, and most that may follow it."""
    log = Path(__file__).with_name("golden").joinpath("compacted-1.0.mapitem").read_bytes()
    return Subject("golden", log, [], set(), {}, b"", [])


class Raw(bytes):
    """Bytes that stand for themselves: what no packer would write."""


def nested(depth: int) -> Raw:
    """Arrays in arrays."""
    return Raw(b"\x91" * (depth - 1) + b"\x90")


HOSTILE: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        4,
        7,
        -1,
        127,
        2**31,
        2**32,
        2**53,
        2**62 - 1,
        2**62,
        2**63 - 1,
        2**63,
        2**64 - 1,
    ),
    *(-(2**63), -(2**53), 253_402_300_799_999_999, 253_402_300_800_000_000, -62_135_596_800_000_000),
    *(-62_135_596_800_000_001, 1_700_000_000_000_000, 1.5, float("nan"), float("inf"), -0.0),
    *(
        "",
        "a",
        "b",
        "first",
        "\0",
        "k" * 1000,
        "µm" * 50,
        "MP" + "0" * 32,
        "MP" + "0" * 31,
        "a/../b",
        "\U0010ffff",
    ),
    *(b"", b"a", b"\x96", bytes(60), [], [[]], {}, {"": {}}, {"a": b""}, {1: 2}, ["a", "a"], ["a", 1], [""]),
    *([[]] * 20, nested(20), nested(129), nested(500), nested(1020), list(range(2000))),
    *(msgpack.ExtType(5, b""), msgpack.ExtType(5, b"abc"), msgpack.Timestamp(1, 2)),
    *(Raw(b"\xa2\xed\xa0"), Raw(b"\xa3\xed\xa0\x80"), Raw(b"\xc1"), Raw(b"\xdd\xff\xff\xff\xff")),
    *(Raw(b"\xdf\x7f\xff\xff\xff"), Raw(b"\xdb\xff\xff\xff\xff"), Raw(b"\xc6\xff\xff\xff\xff"), Raw(b"")),
    *(Raw(b"\xca\x7f\xc0\0\0"), Raw(b"\x82\xa1a\x01\xa1a\x02"), Raw(b"\xcd\0\x01"), Raw(b"\x91" * 900)),
]


def hostile_value(random: Random) -> Any:
    """A value where none, or another, belongs."""
    return deepcopy(random.choice(HOSTILE))


def pack(value: Any) -> bytes:
    """As msgpack, and ``Raw`` as it is."""
    if isinstance(value, Raw):
        return bytes(value)
    if type(value) is list:
        packer = msgpack.Packer()
        return b"".join([packer.pack_array_header(len(value)), *map(pack, value)])
    if type(value) is dict:
        packer = msgpack.Packer()
        pairs = (part for pair in value.items() for part in pair)
        return b"".join([packer.pack_map_header(len(value)), *map(pack, pairs)])
    packed: bytes = msgpack.packb(value)
    return packed


def assemble(payloads: list[bytes], *, promise: bool = True, generation: bytes = bytes(range(16))) -> bytes:
    """A log of these payloads, right to the last checksum. With ``promise`` each says that all before it is synced."""
    head = struct.pack(">8sHHI16s", b"\x89mapitem", 1, 0, 0, generation)
    log = bytearray(head + zlib.crc32(head).to_bytes(4, "big"))
    seed = zlib.crc32(generation)
    for sequence, payload in enumerate(payloads):
        head = struct.pack(">2sIQQ", b"\xb5m", len(payload), sequence, len(log) if promise else 0)
        log += head + zlib.crc32(head + payload, seed).to_bytes(4, "big") + payload
    return bytes(log)


def live_with(log: bytes, path: Path) -> str:
    """Open the log and do everything with it that can be done: only documented errors may come of it."""
    put(path, log)
    with suppress(*REFUSALS):
        str(check(path))
    out = path.with_name("out")
    with suppress(*REFUSALS):
        str(repair(path, out))
        out_report = check(out)
        if not out_report.clean:
            raise Finding(f"R3: the repaired file is not sound: {out_report}")
    out.unlink(missing_ok=True)
    try:
        for clock in (ManualClock(now=NOW), ManualClock(now=-60_000_000_000.0)):
            with HastyStore(path, clock=clock, read_only=True) as store:
                read_everything(store)
    except REFUSALS:
        if path.read_bytes() != log:
            raise Finding("R3: a refused file was changed") from None
        return "refused"
    clock = ManualClock(now=NOW)
    with HastyStore(path, clock=clock) as store:
        write_everywhere(store, clock)
    with HastyStore(path, clock=clock) as store:
        if store.recovery is not None:
            raise Finding("R5: not closed properly")
        read_everything(store)
        store.compact()
    with HastyStore(path, clock=clock, read_only=True) as store:
        read_everything(store)
    for other in path.parent.iterdir():
        other.unlink()
    return "opened"


def read_everything(store: Store) -> None:
    for map_ in list(store.maps()):
        str((map_, map_.name, map_.revision, map_.date_created, map_.date_updated, map_.date_expires, map_.created_by))
        len(map_)
        for item in [*map_.values(), *map_.range(order="desc"), *map_.page().items]:
            str((item.key, item.revision, item.date_created, item.date_updated, item.date_expires, hash(item)))
            with suppress(LogCorrupt):  # an item whose content shows only now that it is none
                str((item.data, item.created_by, repr(item), item == map_.get(item.key)))
        for event in _feed_events(map_):
            with suppress(LogCorrupt):
                str((event, event.date, event.revision))
        with map_.watch(since=map_.revision, timeout=0) as watch:
            list(watch)


def _feed_events(map_: Map) -> Iterator[Any]:
    try:
        return map_.changes(since="0")
    except HistoryCompacted as error:
        return map_.changes(since=error.oldest)


def write_everywhere(store: Store, clock: ManualClock) -> None:
    for map_ in list(store.maps()):
        for key in [*list(map_)[:3], "new"]:
            for write in _WRITES:
                with suppress(MapItemError):
                    write(map_, key)
        with suppress(MapItemError), store.batch() as batch:
            batch.set(map_, "batch", {}, ttl=3, collection_ttl=1000)
            batch.update(map_, "new", {"n": 2})
        map_.set_ttl(500)
    clock.advance(10)
    store.purge()
    store.create_map().set("k", {})
    for map_ in list(store.maps())[:1]:
        map_.remove_map()
    store.backup(f"{store._path}.copy")
    store.compact()


_WRITES: tuple[Callable[[Map, str], object], ...] = (
    lambda map_, key: map_.set(key, {"n": 1}),
    lambda map_, key: map_.update(key, {"m": 1}, ttl=5),
    lambda map_, key: map_.set_item_ttl(key, 7),
    lambda map_, key: map_.mutate(key, lambda data: {**data, "x": 1}),
    lambda map_, key: map_.remove(key),
)


# ---------------------------------------------------------------- the long form

SUBJECTS: list[tuple[Callable[..., Subject], str, bool]] = [
    (make, level, closed)
    for make in (small_subject, compacted_subject)
    for level in ("none", "process", "power")
    for closed in (True, False)
]
_PORTIONS = 6  # in which the bits and truncations of a small subject are tried, one in each round


def campaign_round(seed: int, counts: Counter[str], *, damages: int = 100, mutations: int = 100) -> None:
    """A portion of all the bits and truncations of a small log, random damages of a larger one, hostile records.

    Raises the first ``Finding``.
    """
    random = Random(seed)
    with memory_folder() as folder:
        path = Path(folder) / "log"
        _small_portion(seed, counts, path)
        random_damages(random, counts, path, damages)
        hostile_files(random, counts, path, mutations)


def random_damages(random: Random, counts: Counter[str], path: Path, number: int) -> None:
    """So many random damages of one larger log. Raises the first ``Finding``."""
    subject = large_subject(random.choice(["none", "process", "power"]), random, closed=random.random() < 0.7)
    for each in range(number):
        log, done = damaged(subject, random)
        with _noted(f"damage {each} of the subject {subject.name}: {done}"):
            counts[f"damaged files {judge(subject, log, path, thorough=each % 4 == 0)}"] += 1
            if each % 4 == 1:
                counts[f"repairs of them {judge_repair(subject, log, path)}"] += 1


def hostile_files(random: Random, counts: Counter[str], path: Path, number: int) -> None:
    """So many files that no store would write. Raises the first ``Finding``."""
    fuzzer = Fuzzer(random, path)
    for each in range(number):
        with _noted(f"hostile file {each}"):
            counts[f"hostile files {fuzzer.round()}"] += 1


def _small_portion(seed: int, counts: Counter[str], path: Path) -> None:
    make, level, closed = SUBJECTS[seed % len(SUBJECTS)]
    subject = make(level, closed=closed)
    portion = slice(seed // len(SUBJECTS) % _PORTIONS, None, _PORTIONS)
    ways = {"bits flipped": every_bit, "truncations": every_truncation, "frames spliced": every_splice}
    for what, way in ways.items():
        for number, log in enumerate(islice(way(subject.log), portion.start, None, portion.step)):
            if log == subject.log:
                continue
            with _noted(f"{number} of the {what} in portion {portion.start} of the subject {subject.name}"):
                judge(subject, log, path, thorough=number % 8 == 0)
                counts[what] += 1
                if number % 8 == 4:
                    judge_repair(subject, log, path)
                    counts["of them repaired"] += 1


@contextmanager
def _noted(where: str) -> Iterator[None]:
    try:
        yield
    except Finding as finding:
        finding.add_note(where)
        raise

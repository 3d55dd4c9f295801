"""Looking a log over, and saving what can be saved from a damaged one (durability R3).

``check`` says what an opening would find, and decodes every item on top, which an opening leaves to whoever reads it.
``repair`` trusts checksums alone: it gathers the whole records wherever they lie in the file, and writes what they come
to into a new one. Neither changes the file it looks at or takes its lock. The meaning of records stands here a second
time, for here it has to be made out with gaps between them; how bytes become records is left to others.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mapitem.disk import Disk
from mapitem.engine import Engine
from mapitem.errors import LogCorrupt, NotAStore
from mapitem.frames import (
    BASE_END,
    CLOSE,
    FRAME_BYTES,
    HEADER_BYTES,
    FrameSearch,
    Header,
    guess_seed,
    read_frame,
    read_header,
)
from mapitem.item import MOST_EVENTS, NEVER, make_item, row_number, row_times
from mapitem.newlog import NewLog
from mapitem.opening import OpenedLog
from mapitem.records import (
    ADD,
    EXPIRE,
    FORGET,
    ITEMS,
    MAP,
    MAP_END,
    MAP_STATE,
    MAP_TTL,
    REMOVE,
    UPDATE,
    decode_record,
    encode_record,
    is_deeply_sound,
)
from mapitem.state import ITEMS_PER_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from mapitem.records import Operation

    Progress: TypeAlias = Callable[[int, int], object]

_PROGRESS_BYTES = 1024 * 1024
# Where records were lost, events were, and nobody knows how many: the maps go on counting this much further, so that no
# revision that anybody saw is given again.
_JUMP = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What ``check`` found; ``str()`` of it is meant for people.

    ``records`` are the whole ones, up to the damage if there is any; ``maps`` and ``items`` what they come to, with
    what is due and was not removed yet. ``clean``: closed properly, and nothing is wrong. ``damaged``: an opening
    refuses the file (durability R3). ``torn_bytes``: if not, how many it would drop at the end (R2). Of damage or tear,
    ``offset`` says where it begins, ``reason`` what is wrong there (both are ``None`` without one), and
    ``records_after`` how many whole records lie behind it, marks included.
    """

    path: str
    size: int
    records: int
    maps: int
    items: int
    clean: bool
    damaged: bool
    torn_bytes: int
    offset: int | None
    reason: str | None
    records_after: int

    def __str__(self) -> str:
        content = f"{self.records:,} records, {self.maps:,} maps, {self.items:,} items"
        if self.damaged:
            return (
                f"{self.path} is damaged at byte {self.offset:,} of {self.size:,}: {self.reason}. "
                f"Before it: {content}; behind it: {self.records_after:,} whole records."
            )
        if self.torn_bytes:
            return (
                f"{self.path} is sound up to a torn end: {content}. "
                f"The next opening drops {self.torn_bytes:,} bytes from byte {self.offset:,} on: {self.reason}."
            )
        ending = "closed properly" if self.clean else "not closed, as after a crash or while in use"
        return f"{self.path} is sound, and was {ending}: {content}."


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What ``repair`` saved, and what it knows to be lost; ``str()`` of it is meant for people.

    ``records`` were used; ``maps`` and ``items`` are in the new file. ``lost_bytes`` of the old one belong to no whole
    record, and ``gaps`` says where they lie, as (offset, bytes). ``lost_records`` and ``lost_changes`` (of items) are
    as many as the numbers that are missing tell of; at the end there may have been more. ``unreadable_records`` were
    whole and none of ours. ``renamed_maps`` are the new names of maps whose own were lost. ``complete``: none of this
    happened, and nothing says that the file was ever longer.
    """

    path: str
    out: str
    records: int
    maps: int
    items: int
    lost_bytes: int
    gaps: tuple[tuple[int, int], ...]
    lost_records: int
    lost_changes: int
    unreadable_records: int
    renamed_maps: tuple[str, ...]
    complete: bool

    def __str__(self) -> str:
        saved = f"{self.maps:,} maps and {self.items:,} items from {self.records:,} records are in {self.out}"
        if self.complete:
            return f"{saved}; nothing was lost."
        losses = []
        if self.gaps:
            losses.append(f"{self.lost_bytes:,} bytes in {len(self.gaps):,} places, from byte {self.gaps[0][0]:,} on")
        if self.lost_records:
            losses.append(f"at least {self.lost_records:,} records")
        if self.lost_changes:
            losses.append(f"at least {self.lost_changes:,} changes of items")
        if self.unreadable_records:
            losses.append(f"{self.unreadable_records:,} records that make no sense")
        text = f"{saved}. Lost: {', '.join(losses) or 'an unknown number of records at the end'}."
        if self.renamed_maps:
            text += f" Maps whose names were lost: {', '.join(map(repr, self.renamed_maps))}."
        return f"{text} Some items may be missing, out of date, or back after they were removed."


# ---------------------------------------------------------------- check


def check(path: str | os.PathLike[str], progress: Progress | None = None) -> CheckReport:
    """Look a file over, every frame, record and item of it, and say what an opening would make of it.

    Nothing is written and no lock taken; a file that is in use may be checked. ``progress`` is called now and then with
    the bytes done and the bytes in all. Damage is no error here, but what the report tells of. Raises ``NotAStore`` and
    ``NewerFormat`` for what is no store of ours, and ``OSError``. Takes the memory of an opening, and more time.
    """
    name = _regular_file(path)
    disk = Disk()
    meter = _Meter(progress)
    for tries_left in (2, 1, 0):
        try:
            opened = _DeepLog(disk, name, meter)
        except (LogCorrupt, NotAStore) as error:
            return _check_without_header(disk, name, error)
        try:
            engine = Engine()
            damage = opened.judge(engine)
            if damage is None or not tries_left or not opened.has_grown():
                break  # else it may have been a record that a writer elsewhere was in the middle of
        finally:
            opened.close()
    meter.finish()
    return opened.report(engine, damage)


class _DeepLog(OpenedLog):
    """A log that is read as for an opening, and whose items are looked into on the way."""

    def __init__(self, disk: Disk, path: str, meter: _Meter) -> None:
        super().__init__(disk, path, read_only=True)
        self._meter = meter
        self._count = 0
        meter.total = self._scan.size

    def records(self) -> Iterator[tuple[int, tuple[Operation, ...]]]:
        for place, operations in super().records():
            if not is_deeply_sound(operations):
                raise self.corrupt(place, "an item whose content is none")
            yield place, operations
            self._count += 1
            self._meter.reach(place)

    def judge(self, engine: Engine) -> LogCorrupt | None:
        """Do as an opening does, and return what it would raise if the file is damaged."""
        try:
            super().load(engine)
        except LogCorrupt as error:
            return error
        for state in engine.states():
            if max(map(row_number, state.rows.values()), default=-1) >= state.counter:
                return self.corrupt(self._scan.end, "an item with a later number than its map has given")
        return None

    def report(self, engine: Engine, damage: LogCorrupt | None) -> CheckReport:
        scan = self._scan
        states = engine.states()
        torn_bytes = 0 if damage else scan.size - scan.end
        return CheckReport(
            path=self._path,
            size=scan.size,
            records=self._count,
            maps=len(states),
            items=sum(len(state.rows) for state in states),
            clean=damage is None and self.unclean() is None,
            damaged=damage is not None,
            torn_bytes=torn_bytes,
            offset=damage.offset if damage else scan.end if torn_bytes else None,
            reason=damage.reason if damage else scan.reason,
            records_after=damage.records_after if damage else self._behind_tear,
        )


def _check_without_header(disk: Disk, path: str, error: LogCorrupt | NotAStore) -> CheckReport:
    """The report on a log of which only the header is damaged; the error if it is no log of ours for all that shows."""
    descriptor = disk.open_read(path)
    try:
        size = disk.size(descriptor)
        seed = guess_seed(disk, descriptor)
        if seed is None and isinstance(error, NotAStore):
            raise error
        after = 0 if seed is None else sum(1 for _ in FrameSearch(disk, descriptor, seed, 0, size))
    finally:
        disk.close(descriptor)
    return CheckReport(
        path=path,
        size=size,
        records=0,
        maps=0,
        items=0,
        clean=False,
        damaged=True,
        torn_bytes=0,
        offset=0,
        reason=error.reason,
        records_after=after,
    )


# ---------------------------------------------------------------- repair


def repair(path: str | os.PathLike[str], out: str | os.PathLike[str], progress: Progress | None = None) -> RepairReport:
    """Write what can be saved of a damaged file into a new one, and report what was lost.

    Every whole record is used, wherever it lies, in the order of their numbers; a damaged header is no hindrance. What
    was lost leaves its trace: items that only lost records added are missing, what they changed is as before, and
    what they removed is back. Where a map's beginning is lost, its items are in a map with a new sid and a name like
    ``recovered-3``. The new file is a store like any other, closed properly and on the medium when this returns;
    revisions, dates and expiries are kept, and where anything was lost the maps count on from far above, so that no
    revision is given twice. Their feeds begin anew.

    The old file is not changed, nor its lock taken: nobody should be writing to it. ``FileExistsError`` if ``out`` is
    there already, or ``out`` with ``.new`` behind it, under which name the file is written. ``NotAStore`` if there is
    no whole record in the file; ``NewerFormat``, ``OSError``. ``progress`` is called now and then with the bytes done
    and in all, which are twice the file's. Takes the memory of an opening.
    """
    name = _regular_file(path)
    target = os.path.realpath(os.fsdecode(out))
    for taken in (target, f"{target}.new"):
        if os.path.lexists(taken):
            raise FileExistsError(f"{taken} exists: a repair does not overwrite")
    disk = Disk()
    meter = _Meter(progress)
    descriptor = disk.open_read(name)
    try:
        salvage = _Salvage(disk, descriptor, _find_header(disk, descriptor, name), meter)
        salvage.gather(name)
        salvage.replay()
        salvage.name_the_nameless()
        _write(disk, target, disk.mode(descriptor), salvage)
    finally:
        disk.close(descriptor)
    meter.finish()
    return salvage.report(name, target)


def _find_header(disk: Disk, descriptor: int, path: str) -> Header:
    try:
        return read_header(disk, descriptor, path)
    except (LogCorrupt, NotAStore) as error:
        seed = guess_seed(disk, descriptor)
        if seed is None:
            raise _no_store(path, error.reason) from None
        header = Header(bytes(16))
        header.seed = seed
        return header


@dataclass(slots=True, kw_only=True)
class _SavedMap:
    """A map as the records that are left tell of it. Without a ``sid`` its beginning is lost."""

    sid: str = ""
    name: str | None = None
    created_by: str = ""
    created: int = NEVER
    updated: int = -NEVER
    expires: int = NEVER
    # How many events there were, and whether that is known to be exact: then a later number tells of lost ones.
    counter: int = 0
    is_exact: bool = False
    rows: dict[str, bytes] = field(default_factory=dict)


class _Salvage:
    """The whole records of a file, and what they come to."""

    def __init__(self, disk: Disk, descriptor: int, header: Header, meter: _Meter) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._header = header
        self._meter = meter
        self._size = disk.size(descriptor)
        meter.total = 2 * self._size
        self._frames: list[tuple[int, int]] = []  # (sequence number, offset)
        self._gaps: list[tuple[int, int]] = []
        self._promised = 0
        self._records = 0
        self._missing = 0
        self._unreadable = 0
        self._lost_changes = 0
        self._in_base = True
        self._renamed: list[str] = []
        self.maps: dict[int, _SavedMap] = {}
        self._named: dict[str, int] = {}  # which map was last to begin with this name, or sid

    # ------------------------------------------------------------ bytes

    def gather(self, path: str) -> None:
        """Find the whole frames, and the gaps between them."""
        end = HEADER_BYTES
        for offset, sequence, synced_to, length in FrameSearch(
            self._disk, self._descriptor, self._header.seed, 0, self._size
        ):
            if offset > end:
                self._gaps.append((end, offset - end))
            end = offset + FRAME_BYTES + length
            self._promised = max(self._promised, synced_to)
            self._frames.append((sequence, offset))
            self._meter.reach(end)
        if not self._frames:
            raise _no_store(path, "there is no whole record in it")
        if self._size > end:
            self._gaps.append((end, self._size - end))
        # Blocks may have changed places; of two records with one number, the first was where it belongs.
        self._frames.sort()

    def replay(self) -> None:
        """Do what the records say, one after the other, as far as they still make sense."""
        window, start, expected = b"", -1, 0
        for sequence, offset in self._frames:
            if sequence < expected:
                continue
            self._missing += sequence - expected
            expected = sequence + 1
            window = window[offset - start :] if start <= offset <= start + len(window) else b""
            payload, window = read_frame(self._disk, self._descriptor, self._header, offset, window)
            start = offset + FRAME_BYTES + len(payload)
            self._take(payload)
            self._meter.reach(self._size + start)

    def _take(self, payload: bytes) -> None:
        if payload == CLOSE:
            return
        if payload == BASE_END:
            self._in_base = False
            for saved in self.maps.values():
                saved.is_exact = not self._missing
            return
        for in_base in (self._in_base, not self._in_base):
            try:
                operations = decode_record(payload, in_base=in_base)
            except ValueError:
                continue
            if is_deeply_sound(operations):
                for operation in operations:
                    self._apply(operation)
                self._records += 1
                return
        self._unreadable += 1

    # ------------------------------------------------------------ meaning

    def _apply(self, operation: Operation) -> None:
        kind, no, *fields = operation
        if kind == MAP:
            self._begin(no, *fields)
            return
        saved = self.maps.setdefault(no, _SavedMap())
        if kind in (ADD, UPDATE):
            key, row = fields[:2]
            saved.rows[key] = row
            self._count(saved, row_number(row), 1, fields[2] if len(fields) > 2 else row_times(row)[1])
        elif kind in (REMOVE, EXPIRE):
            keys = fields[0] if kind == EXPIRE else (fields[0],)
            for key in keys:
                saved.rows.pop(key, None)
            self._count(saved, fields[1], len(keys), fields[2])
        elif kind == MAP_TTL:
            saved.expires = fields[0]
        elif kind == MAP_END:
            del self.maps[no]
        elif kind == ITEMS:
            saved.rows.update(zip(*fields, strict=True))
        elif kind == FORGET:
            for key in fields[0]:
                saved.rows.pop(key, None)
        else:
            assert kind == MAP_STATE
            updated, saved.expires, counter, _ = fields
            saved.updated = max(saved.updated, updated)
            saved.counter = max(saved.counter, counter)

    def _begin(
        self,
        no: int,
        sid: str,
        name: str | None,
        created_by: str,
        created: int,
        updated: int,
        expires: int,
        counter: int,
        oldest: int,
    ) -> None:
        for label in filter(None, (sid, name)):
            other = self._named.get(label, -1)
            if other in self.maps and label in (self.maps[other].sid, self.maps[other].name):
                # That its name was given again says that it had ended, though the record of that is lost.
                del self.maps[other]
            self._named[label] = no
        self.maps[no] = _SavedMap(
            sid=sid,
            name=name,
            created_by=created_by,
            created=created,
            updated=updated,
            expires=expires,
            counter=counter,
            is_exact=not self._in_base,
        )

    def _count(self, saved: _SavedMap, number: int, events: int, date: int) -> None:
        if saved.is_exact:
            self._lost_changes += max(0, number - saved.counter)
        saved.is_exact = True
        saved.counter = max(saved.counter, number + events)
        saved.updated = max(saved.updated, date)

    def name_the_nameless(self) -> None:
        """Give maps whose beginning is lost what a map must have, and have all count on from where none has been."""
        for no, saved in list(self.maps.items()):
            last = max(map(row_number, saved.rows.values()), default=-1)
            saved.counter = max(saved.counter, last + 1)
            if not saved.sid:
                self._name(no, saved)
        if not self._is_complete():
            for saved in self.maps.values():
                saved.counter = min(saved.counter + _JUMP, MOST_EVENTS - 1)

    def _name(self, no: int, saved: _SavedMap) -> None:
        if not saved.rows:
            del self.maps[no]
            return
        name = f"recovered-{no}"
        while name in self._named:
            name += "-again"
        times = [row_times(row) for row in saved.rows.values()]
        saved.sid = f"MP{os.urandom(16).hex()}"
        saved.name = name
        saved.created_by = make_item("", next(iter(saved.rows.values()))).created_by
        saved.created = min(created for created, _, _ in times)
        saved.updated = max(saved.updated, *(updated for _, updated, _ in times))
        self._renamed.append(name)

    # ------------------------------------------------------------ the result

    def base(self) -> Iterator[Operation]:
        """What was saved, as the operations of a base."""
        for no, (_, saved) in enumerate(sorted(self.maps.items())):
            times = (saved.created, saved.updated, saved.expires)
            yield (MAP, no, saved.sid, saved.name, saved.created_by, *times, saved.counter, saved.counter)
            keys = sorted(saved.rows)
            for first in range(0, len(keys), ITEMS_PER_BLOCK):
                block = keys[first : first + ITEMS_PER_BLOCK]
                yield ITEMS, no, block, [saved.rows[key] for key in block]

    def _is_complete(self) -> bool:
        return not (
            self._gaps
            or self._missing
            or self._unreadable
            or self._lost_changes
            or self._renamed
            or self._in_base
            or self._promised > self._size
        )

    def report(self, path: str, out: str) -> RepairReport:
        return RepairReport(
            path=path,
            out=out,
            records=self._records,
            maps=len(self.maps),
            items=sum(len(saved.rows) for saved in self.maps.values()),
            lost_bytes=sum(size for _, size in self._gaps),
            gaps=tuple(self._gaps),
            lost_records=self._missing,
            lost_changes=self._lost_changes,
            unreadable_records=self._unreadable,
            renamed_maps=tuple(self._renamed),
            complete=self._is_complete(),
        )


def _write(disk: Disk, path: str, mode: int, salvage: _Salvage) -> None:
    new = NewLog(disk, path, mode)
    try:
        for operation in salvage.base():
            new.append(encode_record([operation]))
        new.finish()
        new.append(CLOSE)
        new.flush()
        new.file.put_in_place()
    finally:
        new.discard()


# ---------------------------------------------------------------- for both


class _Meter:
    """Tells of progress, but not at every record."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._next = 0
        self.total = 0

    def reach(self, done: int) -> None:
        if self._progress is not None and done >= self._next:
            self._next = done + max(_PROGRESS_BYTES, self.total // 1000)
            self._progress(min(done, self.total), self.total)

    def finish(self) -> None:
        if self._progress is not None:
            self._progress(self.total, self.total)


def _regular_file(path: str | os.PathLike[str]) -> str:
    name = os.path.realpath(os.fsdecode(path))
    reason = None
    if not os.path.exists(name):
        reason = "there is no such file"
    elif not stat.S_ISREG(os.stat(name).st_mode):
        reason = "it is no regular file"
    if reason is not None:
        raise _no_store(name, reason)
    return name


def _no_store(path: str, reason: str) -> NotAStore:
    return NotAStore(f"{path} is not a store: {reason}", path=path, reason=reason)

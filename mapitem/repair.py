"""Looking a log over, and saving what can be saved from a damaged one (durability R3).

``check`` says what an opening would find, and decodes every item on top, which an opening leaves to whoever reads it.
``repair`` writes what whole records are left (``mapitem/salvage.py``) into a new file. Neither changes the file it
looks at or takes its lock. This room owns what they report; how bytes become records is left to others.

>>> from tempfile import TemporaryDirectory
>>> from mapitem import Store
>>> from mapitem.repair import check, repair
>>> with TemporaryDirectory() as folder:
...     with Store(f"{folder}/store") as store:
...         item = store.map("m").set("a", {"n": 1})
...     check(f"{folder}/store").state, repair(f"{folder}/store", f"{folder}/new").complete
('clean', True)
"""

from __future__ import annotations

import os
import stat
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mapitem.disk import Disk
from mapitem.engine import Engine
from mapitem.errors import LogCorrupt, NotAStore
from mapitem.frames import CLOSE, FrameSearch, Header, guess_seed, read_header, survey
from mapitem.item import row_number
from mapitem.newlog import NewLog
from mapitem.opening import OpenedLog
from mapitem.records import ITEMS, encode_record, is_deeply_sound
from mapitem.salvage import PatientDisk, Salvage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal, TypeAlias

    from mapitem.records import Operation

    Progress: TypeAlias = Callable[[int, int], object]
    State: TypeAlias = Literal["clean", "unclean", "torn", "damaged"]

__all__ = ["CheckReport", "RepairReport", "check", "repair"]

_PROGRESS_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What ``check`` found; ``str()`` of it is meant for people.

    ``state`` is one of four. ``"clean"``: sound, and closed properly. ``"unclean"``: sound, and not closed, as after a
    crash or while a writer has it open. ``"torn"``: sound but for ``torn_bytes`` at its end, which the next opening
    drops (durability R2). ``"damaged"``: an opening refuses it (R3); or an item in it is none, under a right checksum,
    as only another program could have written it, which an opening leaves to whoever reads the item.

    ``records`` are the whole ones in front of tear or damage, without the marks; ``maps`` and ``items`` what they come
    to, with what is due and was not removed yet. Of tear or damage, ``offset`` is where it begins and ``reason`` what
    is wrong there (both ``None`` without one), and ``records_after`` how many whole records lie behind it, marks
    included: an opening drops those behind a tear, ``repair`` uses them.
    """

    path: str
    state: State
    size: int
    records: int
    maps: int
    items: int
    torn_bytes: int
    offset: int | None
    reason: str | None
    records_after: int

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong, and it was closed properly."""
        return self.state == "clean"

    @property
    def damaged(self) -> bool:
        """Whether something is wrong that no crash explains."""
        return self.state == "damaged"

    def __str__(self) -> str:
        content = f"{_many(self.records, 'record')}, {_many(self.maps, 'map')}, {_many(self.items, 'item')}"
        if self.state in ("clean", "unclean"):
            ending = "closed properly" if self.clean else "not closed: in use, or left by a crash"
            return f"{self.path}: sound, {ending}\n  {content}, {self.size:,} bytes"
        lines = [
            f"{self.path}: {'damaged' if self.damaged else 'sound, with a torn end'}",
            f"at byte {self.offset:,} of {self.size:,}: {self.reason}",
            f"before it: {content}",
            f"behind it: {_many(self.records_after, 'whole record')}",
        ]
        if not self.damaged:
            lines.append(f"the next opening for writing drops {_many(self.torn_bytes, 'byte')}, and keeps a copy")
        return "\n  ".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What ``repair`` saved, and what it knows to be lost; ``str()`` of it is meant for people.

    ``records`` were used; ``maps`` and ``items`` are in the new file. ``lost_bytes`` of the old one belong to no whole
    record, ``gaps`` says where they lie, as (offset, bytes), and ``cut_bytes`` are missing at its end, at least.
    ``lost_records`` and ``lost_changes`` (of items) are as many as the numbers that are missing tell of; at the end
    there may have been more. ``unreadable_records`` were whole, and none of ours. ``renamed_maps`` are the new names of
    maps whose own were lost. ``gave_up``: the last gap was not searched to its end, for it was made to keep a search
    busy for ever. ``complete``: none of this happened, and nothing says that the file ever held anything else.
    """

    path: str
    out: str
    complete: bool
    records: int
    maps: int
    items: int
    lost_bytes: int
    gaps: tuple[tuple[int, int], ...]
    cut_bytes: int
    lost_records: int
    lost_changes: int
    unreadable_records: int
    renamed_maps: tuple[str, ...]
    gave_up: bool

    def __str__(self) -> str:
        content = f"{_many(self.records, 'record')}, {_many(self.maps, 'map')}, {_many(self.items, 'item')}"
        if self.complete:
            return f"{self.out}: all that {self.path} holds\n  {content}"
        lines = [f"{self.out}: what could be saved of {self.path}", content]
        if self.gaps:
            where = "one place" if len(self.gaps) == 1 else f"{len(self.gaps):,} places"
            lines.append(f"lost: {_many(self.lost_bytes, 'byte')} in {where}, from byte {self.gaps[0][0]:,} on")
        if self.gave_up:
            lines.append(f"not searched to its end: what lies from byte {self.gaps[-1][0]:,} on")
        if self.cut_bytes:
            lines.append(f"lost: at least {_many(self.cut_bytes, 'byte')} at the end of the file")
        if self.lost_records:
            lines.append(f"lost: at least {_many(self.lost_records, 'record')}")
        if self.lost_changes:
            lines.append(f"lost: at least {_many(self.lost_changes, 'change')} of items")
        if self.unreadable_records:
            lines.append(f"left out: {_many(self.unreadable_records, 'record')} that made no sense")
        if self.renamed_maps:
            lines.append(f"maps whose names were lost: {', '.join(map(repr, self.renamed_maps))}")
        lines.append("items may be missing, out of date, or back after they were removed")
        return "\n  ".join(lines)


# ---------------------------------------------------------------- check


def check(path: str | os.PathLike[str], progress: Progress | None = None) -> CheckReport:
    """Look a file over, every frame, record and item of it, and say what an opening would make of it.

    Nothing is written and no lock taken; a file that is in use may be checked. ``progress`` is called now and then with
    the bytes done and the bytes in all. Damage is no error here, but what the report tells of. Raises ``NotAStore`` and
    ``NewerFormat`` for what is no store of ours, and ``OSError``. Takes the memory of an opening, and more time.
    """
    name = _regular_file(path)
    disk = Disk()
    for tries_left in (2, 1, 0):
        try:
            opened = OpenedLog(disk, name, read_only=True)
        except (LogCorrupt, NotAStore) as error:
            return _check_without_header(disk, name, error)
        with closing(opened):
            report = _Check(name, opened, progress).report()
            if not report.damaged or not tries_left or not opened.has_grown():
                return report
            # It may have been a record that a writer elsewhere was in the middle of, and is through with by now.
    raise AssertionError("the last try returns")


class _Check:
    """One pass over a log: as an opening reads it, but that every item is looked into on the way."""

    def __init__(self, path: str, opened: OpenedLog, progress: Progress | None) -> None:
        self._path = path
        self._opened = opened
        self._size = os.path.getsize(path)
        self._meter = _Meter(progress, self._size)
        self._engine = Engine()
        self._count = 0

    def report(self) -> CheckReport:
        state: State
        offset: int | None = None
        reason: str | None = None
        after = torn_bytes = 0
        try:
            self._read()
        except LogCorrupt as error:
            state, offset, reason, after = "damaged", error.offset, error.reason, error.records_after
        else:
            ending = self._opened.unclean()
            state = "clean" if ending is None else "unclean"
            if ending is not None and ending.dropped_bytes:
                state, torn_bytes, offset, reason = "torn", ending.dropped_bytes, ending.offset, ending.reason
                after = _count_records(self._path, offset)
        self._meter.finish()
        states = self._engine.states()
        return CheckReport(
            path=self._path,
            state=state,
            size=self._size,
            records=self._count,
            maps=len(states),
            items=sum(len(state.rows) for state in states),
            torn_bytes=torn_bytes,
            offset=offset,
            reason=reason,
            records_after=after,
        )

    def _read(self) -> None:
        """Raise what an opening would, and ``LogCorrupt`` for what one would not look into."""
        opened = self._opened
        try:
            self._engine.load(self._records())
        except (KeyError, ValueError) as error:
            raise opened.corrupt(
                opened.place, f"a record that does not follow from those before it ({error})"
            ) from None
        opened.verdict()
        for state in self._engine.states():
            if max(map(row_number, state.rows.values()), default=-1) >= state.counter:
                raise opened.corrupt(opened.place, "an item with a later number than its map has given")

    def _records(self) -> Iterator[tuple[int, tuple[Operation, ...]]]:
        for place, operations in self._opened.records():
            if not is_deeply_sound(operations):
                raise self._opened.corrupt(place, "an item whose content is none")
            yield place, operations
            self._count += 1
            self._meter.reach(place)


def _count_records(path: str, start: int) -> int:
    """How many whole records lie anywhere from ``start`` on."""
    disk = Disk()
    descriptor = disk.open_read(path)
    try:
        return survey(disk, descriptor, read_header(disk, descriptor, path), start, disk.size(descriptor))[0]
    finally:
        disk.close(descriptor)


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
        state="damaged",
        size=size,
        records=0,
        maps=0,
        items=0,
        torn_bytes=0,
        offset=0,
        reason=error.reason,
        records_after=after,
    )


# ---------------------------------------------------------------- repair


def repair(path: str | os.PathLike[str], out: str | os.PathLike[str], progress: Progress | None = None) -> RepairReport:
    """Write what can be saved of a damaged file into a new one, and report what was lost.

    Every whole record is used, wherever it lies, in the order of their numbers; a damaged header is no hindrance, nor
    is a place that the disk cannot read. What was lost leaves its trace: items that only lost records added are
    missing, what they changed is as before, and what they removed is back. Where a map's beginning is lost, its items
    are in a map with a new sid and a name like ``recovered-3``. The new file is a store like any other, closed
    properly and on the medium when this returns; revisions, dates and expiries are kept, and where anything was lost
    the maps count on from far above, so that no revision is given twice. Their feeds begin anew.

    The old file is not changed, nor its lock taken: nobody should be writing to it. ``FileExistsError`` if ``out`` is
    there already, or ``out`` with ``.new`` behind it, under which name the file is written; ``ValueError`` if ``out``
    is a name beside the old file that a store takes for its own. ``NotAStore`` if there is no whole record in the
    file; ``NewerFormat``, ``OSError``. If it raises there is no new file, unless all of it is there and only the last
    sync of the directory failed. ``progress`` is called now and then with the bytes done and in all, which are thrice
    the file's. Takes the memory of an opening.
    """
    name = _regular_file(path)
    target = os.path.realpath(os.fsdecode(out))
    if target in (f"{name}.new", f"{name}.lock"):
        raise ValueError(f"{target} will not last: a store called {name} takes that name for its own")
    for taken in (target, f"{target}.new"):
        if os.path.lexists(taken):
            raise FileExistsError(f"{taken} exists: a repair does not overwrite")
    disk = PatientDisk()
    descriptor = disk.open_read(name)
    try:
        size = disk.size(descriptor)
        meter = _Meter(progress, 3 * size)
        salvage = Salvage(disk, descriptor, _find_header(disk, descriptor, name), meter.reach)
        if not salvage.gather():
            raise _no_store(name, "there is no whole record in it")
        salvage.replay()
        _write(disk, target, disk.mode(descriptor), salvage, lambda share: meter.reach(2 * size + int(share * size)))
    finally:
        disk.close(descriptor)
    meter.finish()
    return RepairReport(
        path=name,
        out=target,
        complete=salvage.is_complete,
        records=salvage.records,
        maps=salvage.maps,
        items=salvage.items,
        lost_bytes=sum(size for _, size in salvage.gaps),
        gaps=tuple(salvage.gaps),
        cut_bytes=salvage.cut_bytes,
        lost_records=salvage.missing,
        lost_changes=salvage.lost_changes,
        unreadable_records=salvage.unreadable,
        renamed_maps=tuple(salvage.renamed),
        gave_up=salvage.gave_up,
    )


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


def _write(disk: Disk, path: str, mode: int, salvage: Salvage, reach: Callable[[float], object]) -> None:
    new = NewLog(disk, path, mode)
    written = 0
    try:
        for operation in salvage.base():
            new.append(encode_record([operation]))
            if operation[0] == ITEMS:
                written += len(operation[2])
                reach(written / salvage.items)
        new.finish()
        new.append(CLOSE)
        new.flush()
        new.file.put_in_place()
    finally:
        new.discard()


# ---------------------------------------------------------------- for both


class _Meter:
    """Tells of progress, but not at every record."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._next = 0

    def reach(self, done: int) -> None:
        if self._progress is not None and done >= self._next:
            self._next = done + max(_PROGRESS_BYTES, self._total // 1000)
            self._progress(min(done, self._total), self._total)

    def finish(self) -> None:
        if self._progress is not None:
            self._progress(self._total, self._total)


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


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

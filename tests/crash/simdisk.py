"""A disk that remembers what has reached the medium, and yields every state that a crash could leave.

The model is the weakest that POSIX allows. Until a file is synced each write to it may be kept, lost, torn at any byte,
or leave anything at all in the bytes that it covered; the size of a file may be on the medium without the data and the
data without the size; any subset of the writes may have arrived. Until a directory is synced each name in it may stand
for anything that it stood for since the last sync, the two names of a rename apart from each other. A sync that failed
marks the pages clean and lets them be lost: a later one that succeeds says nothing about them.

``Medium`` is the files and names, ``SimDisk`` the face of ``mapitem.disk.Disk`` over one, which records every call and
can be told to fail. What is written in the files it does not know.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from itertools import product
from random import Random
from typing import NamedTuple, TypeAlias
from weakref import WeakSet

from mapitem.disk import Disk

# What became of one write or truncation that was not synced: a kind and its arguments (see ``_apply``).
Fate: TypeAlias = "tuple[str, *tuple[object, ...]]"
# What is recorded: a kind and its arguments (see ``Medium.apply``); a "mark" is the caller's own.
Entry: TypeAlias = "tuple[str, *tuple[object, ...]]"

KEPT: Fate = ("kept",)
LOST: Fate = ("lost",)

_SURE, _LOOSE, _LIMBO = range(3)  # on the medium; not synced yet; not synced by a sync that failed


class Op(NamedTuple):
    """A change to the content of one file: bytes at a place, or (``data is None``) a new size."""

    at: int
    data: bytes | None
    certainty: int


class Node:
    """One file, by whatever names. ``cache`` is what reading gives, ``base`` what is on the medium under ``ops``."""

    __slots__ = ("allocated_to", "base", "cache", "number", "ops", "past")

    def __init__(self, number: int, content: bytes = b"") -> None:
        self.number = number
        self.cache = content
        self.base = content
        self.ops: list[Op] = []
        # What was cut away, each time: it may lie in freed blocks and come up again.
        self.past: list[bytes] = []
        # Up to where pages can be written through a map for sure.
        self.allocated_to = 0

    def clone(self) -> Node:
        other = Node(self.number)
        other.cache, other.base, other.past = self.cache, self.base, list(self.past)
        other.ops = list(self.ops)
        other.allocated_to = self.allocated_to
        return other

    def change(self, at: int, data: bytes | None) -> None:
        if data is None:
            self.allocated_to = min(self.allocated_to, at)
            if at < len(self.cache):
                self.past.append(self.cache)
            self.cache = self.cache[:at].ljust(at, b"\0")
        else:
            self.cache = self.cache[:at].ljust(at, b"\0") + data + self.cache[at + len(data) :]
        self.ops.append(Op(at, data, _LOOSE))

    def sync(self) -> None:
        if any(op.certainty == _LIMBO for op in self.ops):
            self.ops = [op if op.certainty == _LIMBO else op._replace(certainty=_SURE) for op in self.ops]
        else:
            self.base = self.cache
            self.ops = []

    def fail_to_sync(self) -> None:
        self.ops = [op._replace(certainty=_LIMBO) if op.certainty == _LOOSE else op for op in self.ops]

    @property
    def loose(self) -> list[Op]:
        """What a power cut may take away."""
        return [op for op in self.ops if op.certainty != _SURE]

    def image(self, fates: list[Fate]) -> bytes:
        """The content on the medium if this became of the ``loose`` changes."""
        data = bytearray(self.base)
        size = len(data)
        to_come = iter(fates)
        for op in self.ops:
            size = _apply(data, size, op, KEPT if op.certainty == _SURE else next(to_come))
        return bytes(data[:size].ljust(size, b"\0"))


def _apply(data: bytearray, size: int, op: Op, fate: Fate) -> int:
    kind = fate[0]
    if kind == "lost":
        return size
    if op.data is None:
        if op.at < size:
            data[op.at : size] = bytes(len(data[op.at : size]))
        return op.at
    put, grown = op.data, True
    at = op.at
    end = at + len(op.data)
    if kind == "size":  # the size without the data
        put = b""
    elif kind == "data":  # the data without the size
        grown = False
    elif kind == "head":  # torn: what is in front of the tear, and the size that goes with it
        put = put[: fate[1]]  # type: ignore[misc]
        end = at + len(put)
    elif kind == "hole":  # torn: what is in front of the tear, and the whole size
        put = put[: fate[1]]  # type: ignore[misc]
    elif kind == "tail":  # torn: what is behind the tear
        at += fate[1]  # type: ignore[operator]
        put = put[fate[1] :]  # type: ignore[misc]
    elif kind == "junk":  # other bytes in the same place
        put = fate[1]  # type: ignore[assignment]
    if put:
        if len(data) < at:
            data.extend(bytes(at - len(data)))
        data[at : at + len(put)] = put
    return max(size, end) if grown else size


class Medium:
    """Files and names, as they are and as a crash could leave them."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        # What each name has stood for since its last sync (``None``: nothing), and how sure that is.
        self.names: dict[str, list[tuple[int | None, int]]] = {}

    @classmethod
    def of(cls, files: dict[str, bytes]) -> Medium:
        """A medium on which these files are, synced."""
        medium = cls()
        for number, (name, content) in enumerate(files.items()):
            medium.nodes[number] = Node(number, content)
            medium.names[name] = [(number, _SURE)]
        return medium

    def clone(self) -> Medium:
        other = Medium()
        other.nodes = {number: node.clone() for number, node in self.nodes.items()}
        other.names = {name: list(history) for name, history in self.names.items()}
        return other

    def find(self, name: str) -> Node | None:
        history = self.names.get(name)
        number = history[-1][0] if history else None
        return None if number is None else self.nodes[number]

    def files(self) -> dict[str, bytes]:
        """Every file that is there, as reading gives it."""
        return {name: node.cache for name in self.names if (node := self.find(name)) is not None}

    def apply(self, entry: Entry) -> None:
        """Do again what was recorded."""
        kind, *arguments = entry
        if kind != "mark":
            getattr(self, f"_do_{kind}")(*arguments)

    def _do_write(self, number: int, at: int, data: bytes) -> None:
        self.nodes[number].change(at, data)

    # Through a map it is a write like any other, but that it may be torn anywhere by the death of the process as well.
    _do_mapped = _do_write

    def _do_allocate(self, number: int, end: int) -> None:
        """As a write of zeros behind the end: they or the size may not arrive, and other bytes be there till then."""
        node = self.nodes[number]
        size = len(node.cache)
        if end > size:
            node.change(size, bytes(end - size))
        node.allocated_to = max(node.allocated_to, end)

    def _do_truncate(self, number: int, size: int) -> None:
        self.nodes[number].change(size, None)

    def _do_sync(self, number: int) -> None:
        self.nodes[number].sync()

    def _do_failed_sync(self, number: int) -> None:
        self.nodes[number].fail_to_sync()

    def _do_create(self, name: str, number: int) -> None:
        self.nodes[number] = Node(number)
        self._set(name, number)

    def _do_replace(self, source: str, target: str) -> None:
        node = self.find(source)
        assert node is not None
        self._set(target, node.number)
        self._set(source, None)

    def _do_remove(self, name: str) -> None:
        self._set(name, None)

    def _do_sync_names(self, directory: str) -> None:
        for name, history in self.names.items():
            if os.path.dirname(name) == directory:
                settled = [(number, _SURE if how == _LOOSE else how) for number, how in history]
                last = max((place for place, (_, how) in enumerate(settled) if how == _SURE), default=0)
                self.names[name] = settled[last:]

    def _do_failed_sync_names(self, directory: str) -> None:
        for name, history in self.names.items():
            if os.path.dirname(name) == directory:
                self.names[name] = [(number, _LIMBO if how == _LOOSE else how) for number, how in history]

    def _set(self, name: str, number: int | None) -> None:
        self.names.setdefault(name, [(None, _SURE)]).append((number, _LOOSE))

    # ------------------------------------------------------------ crashes

    def is_settled(self) -> bool:
        """Whether a power cut changes nothing."""
        return not any(node.ops for node in self.nodes.values()) and all(
            len(history) == 1 for history in self.names.values()
        )

    def is_in_limbo(self, name: str) -> bool:
        """Whether a failed sync of this file, or of its name, may still take something away (see durability R4)."""
        node = self.find(name)
        in_doubt = node is not None and any(op.certainty == _LIMBO for op in node.ops)
        return in_doubt or any(how == _LIMBO for _, how in self.names.get(name, ()))

    def power_cuts(
        self, random: Random, samples: int, *, thorough: bool, most: int | None = None
    ) -> Iterator[dict[str, bytes]]:
        """What a power cut could leave: by name, the content of each file.

        Every choice of names (up to 64) with, for each file in doubt, a systematic list of what became of its writes,
        the other files with all of theirs or none; of all these ``most``, drawn at random, if that is given. Then
        ``samples`` states drawn from all that there are. ``thorough`` tears the last write at every byte and takes
        every subset of up to 6 writes. A state may come more than once.
        """
        choices = self._choices_of_names()
        lists = {node.number: node_fates(node, thorough, random, self) for node in self._in_doubt(choices)}
        plans: list[tuple[dict[str, int], Fate, int | None, list[Fate]]] = []
        for names in choices:
            for rest in (KEPT, LOST):
                plans.append((names, rest, None, []))
                for number in sorted(set(names.values())):
                    # What is written under a temporary name is no one's yet: all of it and nothing are enough.
                    if not _is_scratch([name for name, each in names.items() if each == number]):
                        plans += [(names, rest, number, fates) for fates in lists.get(number, ())]
        if most is not None and len(plans) > most:
            plans = random.sample(plans, most)
        for names, rest, chosen, fates in plans:
            images = {number: self._plain(number, rest) for number in names.values() if number != chosen}
            if chosen is not None:
                images[chosen] = self.nodes[chosen].image(fates)
            yield {name: images[number] for name, number in names.items()}
        for _ in range(samples):
            yield self.power_cut(random)

    def power_cut(self, random: Random) -> dict[str, bytes]:
        """One of the states, drawn at random."""
        names = {
            name: number
            for name, history in self.names.items()
            if (number := random.choice(history if random.random() < 0.7 else history[-1:])[0]) is not None
        }
        images = {number: self._random_image(number, random) for number in sorted(set(names.values()))}
        return {name: images[number] for name, number in names.items()}

    def left(self, *, content: bool, names: bool) -> dict[str, bytes]:
        """What a power cut leaves of which all content, or all names, that were not synced arrived, or none."""
        held = {name: history[-1 if names else 0][0] for name, history in self.names.items()}
        return {
            name: self._plain(number, KEPT if content else LOST) for name, number in held.items() if number is not None
        }

    def _choices_of_names(self) -> list[dict[str, int]]:
        names = list(self.names)
        options = [list(dict.fromkeys(number for number, _ in self.names[name])) for name in names]
        found = []
        for choice in product(*options):
            found.append({name: number for name, number in zip(names, choice, strict=True) if number is not None})
            if len(found) == 64:
                break
        return found

    def _in_doubt(self, choices: list[dict[str, int]]) -> list[Node]:
        numbers = {number for names in choices for number in names.values()}
        return [self.nodes[number] for number in sorted(numbers) if self.nodes[number].loose]

    def _plain(self, number: int, fate: Fate) -> bytes:
        node = self.nodes[number]
        return node.image([fate] * len(node.loose))

    def _random_image(self, number: int, random: Random) -> bytes:
        node = self.nodes[number]
        loose = node.loose
        if not loose:
            return node.cache if not node.ops else node.image([])
        lost = random.choice((0.05, 0.3, 0.6))
        fates: list[Fate] = []
        for op in loose:
            if random.random() < lost:
                fates.append(LOST)
            elif not op.data or random.random() < 0.6:
                fates.append(KEPT)
            else:
                fates.append(random.choice(_fates(op, node, random, self, thorough=False)))
        return node.image(fates)

    def stale(self, node: Node, at: int, length: int) -> list[bytes]:
        """What a freed block that comes to lie at this place may hold: what was here in files that are gone, or cut."""
        named = {history[-1][0] for history in self.names.values()}
        pool = [past for each in self.nodes.values() for past in each.past]
        pool += [each.cache for each in self.nodes.values() if each.number not in named]
        found = [old for each in pool if len(old := each[at : at + length]) == length and old.strip(b"\0")]
        return list(dict.fromkeys(found))


def _is_scratch(names: list[str]) -> bool:
    return all(name.endswith(".new") or ".cut-" in name for name in names)


def node_fates(node: Node, thorough: bool, random: Random, medium: Medium) -> list[list[Fate]]:
    """What may become of the changes to a file, one at a time, with the rest kept or, behind it, lost."""
    loose = node.loose
    count = len(loose)
    found: list[list[Fate]] = []
    if count <= (6 if thorough else 3):
        found += map(list, product((KEPT, LOST, ("size",)) if count <= 4 else (KEPT, LOST), repeat=count))
    for place, op in enumerate(loose):
        last = place == count - 1
        for fate in [LOST, *_fates(op, node, random, medium, thorough=thorough and last)]:
            found.append([*[KEPT] * place, fate, *[KEPT] * (count - place - 1)])
            if not last:
                found.append([*[KEPT] * place, fate, *[LOST] * (count - place - 1)])
        found.append([*[LOST] * place, KEPT, *[LOST] * (count - place - 1)])
    return found


def _fates(op: Op, node: Node, random: Random, medium: Medium, *, thorough: bool) -> list[Fate]:
    """What may become of one write, but for kept and lost."""
    if not op.data:
        return []
    length = len(op.data)
    found: list[Fate] = [("size",), ("data",)]
    tears = (
        range(1, length) if thorough and length <= 400 else sorted({random.randrange(length) for _ in range(3)} - {0})
    )
    for tear in tears:
        found += [("head", tear), ("hole", tear), ("tail", tear)]
    found.append(("junk", random.randbytes(length)))
    for _ in range(2 if thorough else 1):
        first = random.randrange(length)
        last = random.randrange(first, length) + 1
        found.append(("junk", op.data[:first] + random.randbytes(last - first) + op.data[last:]))
        flipped = bytearray(op.data)
        flipped[first] ^= 1 << random.randrange(8)
        found.append(("junk", bytes(flipped)))
    found += [("junk", old) for old in medium.stale(node, op.at, length)]
    # Blocks that went to the wrong place: what belongs into another unsynced write of the same length.
    found += [
        ("junk", other.data) for other in node.loose if other is not op and other.data and len(other.data) == length
    ]
    return found


# ---------------------------------------------------------------- the disk


class Fault(NamedTuple):
    """What goes wrong at a call: an error number, or an exception, after ``share`` of a write was done.

    ``error is None`` makes a write short: it returns what it did and no error.
    """

    error: int | type[BaseException] | None
    share: float = 0.0


class SimWindow:
    """A map of a part of a file. To touch what is not allocated is an error in the test, for it would be a SIGBUS."""

    def __init__(self, disk: SimDisk, node: Node, start: int, end: int) -> None:
        self._disk: SimDisk | None = disk
        self._node = node
        self._start = start
        self._end = end
        disk.windows.add(self)

    def __setitem__(self, place: slice, data: bytes) -> None:
        disk, node = self._disk, self._node
        assert disk is not None, "SIGSEGV: written through a map that was let go"
        first, last = self._start + place.start, self._start + place.stop
        assert last - first == len(data), "not as many bytes as they replace"
        assert self._start <= first < last <= self._end, "outside of the map"
        assert last <= min(node.allocated_to, len(node.cache)), "SIGBUS: written through a map to what is not there"
        disk._record("mapped", node.number, first, data)

    def close(self) -> None:
        if self._disk is not None:
            self._disk.windows.discard(self)
            self._disk = None


class SimDisk(Disk):
    """``Disk`` over a ``Medium``. Everything that changes it goes into ``trace``; ``plan`` may make any call fail."""

    def __init__(self, medium: Medium | None = None, *, plan: Callable[[str, int], Fault | None] | None = None) -> None:
        self.medium = medium if medium is not None else Medium()
        self.trace: list[Entry] = []
        self.plan = plan
        self.calls = 0
        self.faults = 0
        self.failed: list[tuple[str, int]] = []  # which calls were made to fail, and at which file
        self.distrusted: set[int] = set()  # files of which a sync has failed
        self.retried: list[int] = []  # those of them that were synced again as if nothing had been
        self.descriptors: dict[int, Node] = {}
        # A map that nobody holds on to any more is let go by itself.
        self.windows: WeakSet[SimWindow] = WeakSet()
        self.read_only = False
        self._next = 1000

    def mark(self, what: object) -> None:
        """Put something of the caller's into the trace."""
        self.trace.append(("mark", what))

    def _record(self, *entry: object) -> None:
        self.trace.append(entry)  # type: ignore[arg-type]
        self.medium.apply(entry)  # type: ignore[arg-type]

    def _call(self, kind: str, number: int = -1, *, changes: bool = False) -> Fault | None:
        if changes and self.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        place = self.calls
        self.calls += 1
        fault = self.plan(kind, place) if self.plan is not None else None
        if fault is not None:
            self.failed.append((kind, number))
            self.faults += 1
        return fault

    def _check(self, kind: str, number: int = -1, *, changes: bool = False) -> None:
        fault = self._call(kind, number, changes=changes)
        if fault is not None:
            _raise(fault)

    def _open(self, node: Node) -> int:
        self._next += 1
        self.descriptors[self._next] = node
        return self._next

    def _node(self, descriptor: int) -> Node:
        node = self.descriptors.get(descriptor)
        if node is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return node

    def _existing(self, path: str) -> Node:
        node = self.medium.find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return node

    def exists(self, path: str) -> bool:
        return self.medium.find(path) is not None

    def type(self, path: str) -> int:
        if self.medium.find(path) is None and not path.startswith("/sim/"):
            return stat.S_IFDIR | 0o755  # of directories nothing is recorded but the names in them
        self._existing(path)
        return 0o100644

    def open_read(self, path: str) -> int:
        self._check("open_read")
        return self._open(self._existing(path))

    def open_write(self, path: str) -> int:
        self._check("open_write", changes=True)
        return self._open(self._existing(path))

    def create(self, path: str, mode: int) -> int:
        self._check("create", changes=True)
        node = self.medium.find(path)
        if node is None:
            number = max(self.medium.nodes, default=-1) + 1
            self._record("create", path, number)
            node = self.medium.nodes[number]
        else:
            self._record("truncate", node.number, 0)
            self.distrusted.discard(node.number)  # what was lost is not wanted any more
        return self._open(node)

    def close(self, descriptor: int) -> None:
        self._node(descriptor)
        del self.descriptors[descriptor]
        # The descriptor is gone also when close() fails.
        self._check("close")

    def size(self, descriptor: int) -> int:
        self._check("size")
        return len(self._node(descriptor).cache)

    def mode(self, descriptor: int) -> int:
        self._node(descriptor)
        self._check("mode")
        return 0o640

    def set_mode(self, descriptor: int, mode: int) -> None:
        self._node(descriptor)
        self._check("set_mode", changes=True)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        self._check("read")
        return self._node(descriptor).cache[offset : offset + length]

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        node = self._node(descriptor)
        fault = self._call("write", node.number, changes=True)
        whole = bytes(data)
        if fault is None:
            self._record("write", node.number, offset, whole)
            return len(whole)
        done = whole[: int(len(whole) * fault.share)]
        if done:
            self._record("write", node.number, offset, done)
        if fault.error is not None:
            _raise(fault)
        return len(done)

    def truncate(self, descriptor: int, size: int) -> None:
        node = self._node(descriptor)
        self._check("truncate", node.number, changes=True)
        self._record("truncate", node.number, size)

    def allocate(self, descriptor: int, start: int, end: int) -> None:
        node = self._node(descriptor)
        assert start <= len(node.cache), "room is made for a hole"
        fault = self._call("allocate", node.number, changes=True)
        if fault is None:
            self._record("allocate", node.number, end)
            return
        # One that fails may have made the file longer.
        part = start + int((end - start) * fault.share)
        if part > len(node.cache):
            self._record("allocate", node.number, part)
        _raise(fault)

    def map(self, descriptor: int, start: int, end: int) -> SimWindow:
        node = self._node(descriptor)
        self._check("map", node.number)
        assert end <= node.allocated_to, "mapped what is not allocated"
        return SimWindow(self, node, start, end)

    def is_forgotten(self, descriptor: int) -> bool:
        node = self._node(descriptor)
        has_name = any(self.medium.find(name) is node for name in self.medium.names)
        return not has_name and sum(other is node for other in self.descriptors.values()) == 1

    def sync(self, descriptor: int) -> None:
        node = self._node(descriptor)
        if node.number in self.distrusted:
            self.retried.append(node.number)
        fault = self._call("sync", node.number, changes=True)
        if fault is None:
            self._record("sync", node.number)
        else:
            self.distrusted.add(node.number)
            self._record("failed_sync", node.number)
            _raise(fault)

    def sync_directory(self, path: str) -> None:
        fault = self._call("sync_directory", changes=True)
        if fault is None:
            self._record("sync_names", os.path.dirname(path))
        else:
            self._record("failed_sync_names", os.path.dirname(path))
            _raise(fault)

    def replace(self, source: str, target: str) -> None:
        self._existing(source)
        self._check("replace", changes=True)
        self._record("replace", source, target)

    def remove(self, path: str) -> None:
        self._existing(path)
        self._check("remove", changes=True)
        self._record("remove", path)


def _raise(fault: Fault) -> None:
    if isinstance(fault.error, type):
        raise fault.error("injected")
    assert fault.error is not None
    raise OSError(fault.error, os.strerror(fault.error))

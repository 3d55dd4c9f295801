"""Stores with one mistake each, of the kind that people make, for the proof that the conformance kit sees it.

Most are the SQLite example with a line or two changed; the others, about events and the feed, are the store in memory
behind a wrapper. Each names the rule that it breaks. ``python tests/conformance/faults.py`` prints what finds it, what
it says, and how long that takes; with names of mistakes, what the state machine alone says to those.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conformance.sqlite_store import __file__ as SQLITE_FILE
from mapitem import Event, ItemAdded, ItemRemoved, ItemUpdated, MapItem, MapRemoved, Store
from mapitem.testing import ManualClock
from mapitem.testing.conformance import Capabilities, Conformance, kit
from mapitem.testing.conformance.machine import Model
from mapitem.testing.conformance.report import Result, run_checks

SOURCE = Path(SQLITE_FILE).read_text(encoding="utf-8")

SQLITE = Capabilities(
    # It tells nobody of what happened, and has nothing to compact.
    **dict.fromkeys(["events", "feed", "watch", "async_watch", "compaction"], False),
    # Its limits are fixed, its data has no limit of depth and no paths, its pages go one way, and anybody may write.
    **dict.fromkeys(["limits", "data_paths", "depth_limit", "previous_pages", "locking"], False),
)
MEMORY = Capabilities(durable=False, locking=False, read_only=False)


class Change(NamedTuple):
    """A mistake made by changing the text of the SQLite example: each of ``old`` becomes the ``new`` beside it."""

    name: str
    rule: str
    edits: tuple[tuple[str, str], ...]
    durable: bool = False

    def adapter(self) -> type[Conformance]:
        text = SOURCE
        for old, new in self.edits:
            assert old in text, f"{self.name}: the example has no {old!r} any more"
            text = text.replace(old, new)
        module = ModuleType("faulty_sqlite_store")
        exec(compile(text, f"<{self.name}>", "exec"), module.__dict__)
        return type("Faulty", (FileAdapter if self.durable else MemoryAdapter,), {"module": module})


class MemoryAdapter(Conformance):
    capabilities = Capabilities(**{**vars(SQLITE), "durable": False, "read_only": False})
    module: Any

    def make_store(self, clock: ManualClock, **options: Any) -> Any:
        return self.module.SQLiteStore(clock=clock, **options)


class FileAdapter(Conformance):
    capabilities = SQLITE
    module: Any

    _made = 0

    def make_store(self, clock: ManualClock, **options: Any) -> Any:
        self._made += 1
        return self.module.SQLiteStore(str(self.folder / f"{self._made}.sqlite"), clock=clock, sync=False, **options)

    def reopen(self, store: Any) -> Any:
        store.close()
        return self.module.SQLiteStore(store.path, clock=store.clock, sync=False)

    def open_read_only(self, store: Any) -> Any:
        return self.module.SQLiteStore(store.path, clock=store.clock, read_only=True)


def read_changes(text: str) -> Iterator[Change]:
    """The mistakes of ``mistakes.txt``, which says what it means."""
    for block in text.split("\n== ")[1:]:
        head, *lines = block.strip("\n").split("\n")
        rule, _, name = head.partition(": ")
        edits = []
        for sign, group in groupby(lines, key=lambda line: line[:1]):
            part = "\n".join(line[2:] for line in group)
            if sign == "-":
                old = part
            else:
                edits.append((old, part))
        yield Change(name, rule.removesuffix(" durable"), tuple(edits), rule.endswith(" durable"))


CHANGES = tuple(read_changes((Path(__file__).parent / "mistakes.txt").read_text(encoding="utf-8")))


# ---------------------------------------------------------------- the store in memory, behind a wrapper


class Proxy:
    """Passes everything on."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class StoreProxy(Proxy):
    map_proxy: type[MapProxy]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def map(self, *given: Any, **options: Any) -> Any:
        return self.map_proxy(self.inner.map(*given, **options), self)

    def create_map(self, *given: Any, **options: Any) -> Any:
        return self.map_proxy(self.inner.create_map(*given, **options), self)

    def open_map(self, *given: Any) -> Any:
        return self.map_proxy(self.inner.open_map(*given), self)

    def maps(self) -> Iterator[Any]:
        return (self.map_proxy(each, self) for each in self.inner.maps())

    @contextmanager
    def batch(self) -> Iterator[Any]:
        with self.inner.batch() as batch:
            yield BatchProxy(batch)


class BatchProxy(Proxy):
    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.inner, name)
        if name == "results":
            return verb
        return lambda map_, *given, **options: verb(map_.inner, *given, **options)


class MapProxy(Proxy):
    def __init__(self, inner: Any, store: Any) -> None:
        super().__init__(inner)
        self.store = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MapProxy) and self.inner == other.inner

    def __hash__(self) -> int:
        return hash(self.inner)

    def __getitem__(self, key: str) -> Any:
        return self.inner[key]

    def __contains__(self, key: object) -> bool:
        return key in self.inner

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[str]:
        return iter(self.inner)


class Wrapped(NamedTuple):
    """A mistake made by a wrapper: the methods that it has instead of the map's, and of the store's."""

    name: str
    rule: str
    map_methods: dict[str, Any]
    store_methods: dict[str, Any] = {}  # noqa: RUF012  it is not changed

    def adapter(self) -> type[Conformance]:
        maps = type("FaultyMap", (MapProxy,), self.map_methods)
        stores = type("FaultyStore", (StoreProxy,), {"map_proxy": maps, **self.store_methods})

        class Faulty(Conformance):
            capabilities = Capabilities(**{**vars(MEMORY), "mapping": False})

            def make_store(self, clock: ManualClock, **options: Any) -> Any:
                return stores(Store(clock=clock, **options))

        return Faulty


def rewritten(rewrite: Any) -> dict[str, Any]:
    """Methods by which callbacks get the events that ``rewrite(event)`` lists instead of the true one."""

    def on(self: Any, kind: Any, callback: Any) -> Any:
        return self.inner.on(Event, lambda event: [callback(each) for each in rewrite(event) if isinstance(each, kind)])

    return {"on": on}


def where(event: Any, **changed: Any) -> dict[str, Any]:
    names = ("map_sid", "map_name", "revision", "date")
    return {name: getattr(event, name) for name in names} | changed


def both(name: str, rule: str, rewrite: Any) -> Wrapped:
    return Wrapped(name, rule, rewritten(rewrite), rewritten(rewrite))


def previous_is_new(event: Any) -> list[Any]:
    return (
        [ItemUpdated(event.key, event.item, event.item, **where(event))] if isinstance(event, ItemUpdated) else [event]
    )


def updates_are_additions(event: Any) -> list[Any]:
    return [ItemAdded(event.key, event.item, **where(event))] if isinstance(event, ItemUpdated) else [event]


def expiry_is_removal(event: Any) -> list[Any]:
    return (
        [ItemRemoved(event.key, event.previous, False, **where(event))] if isinstance(event, ItemRemoved) else [event]
    )


def expiry_has_its_own_date(event: Any) -> list[Any]:
    if isinstance(event, ItemRemoved) and event.expired and event.previous is not None:
        date = event.previous.date_expires
        return [ItemRemoved(event.key, event.previous, True, **where(event, date=date))]
    return [event]


def removal_has_the_items_number(event: Any) -> list[Any]:
    if isinstance(event, ItemRemoved) and event.previous is not None:
        return [ItemRemoved(event.key, event.previous, event.expired, **where(event, revision=event.previous.revision))]
    return [event]


def end_tells_items(event: Any) -> list[Any]:
    if isinstance(event, MapRemoved):
        return [ItemRemoved("a", None, event.expired, **where(event)), event]
    return [event]


def shared_item(self: Any, key: str, data: Any, **options: Any) -> Any:
    """Returns, and keeps for readers, one item object."""
    item = self.inner.set(key, data, **options)
    self.store.__dict__.setdefault("cache", {})[self.sid, key] = item
    return item


def cached(self: Any, key: Any) -> Any:
    item = self.inner[key]
    kept = self.store.__dict__.get("cache", {}).get((self.sid, key))
    return kept if kept is not None and kept.revision == item.revision else item


class Aliased:
    """An item whose data is what was passed."""

    def __init__(self, item: MapItem, data: Any) -> None:
        self.__dict__.update({name: getattr(item, name) for name in ("key", "revision", "created_by")}, data=data)
        dates = ("date_created", "date_updated", "date_expires")
        self.__dict__.update({name: getattr(item, name) for name in dates})


def late(self: Any, kind: Any, callback: Any) -> Any:
    """Tells of two events at a time, the newer first."""
    waiting: list[Any] = []

    def tell(event: Any) -> None:
        waiting.insert(0, event)
        if len(waiting) == 2:
            for each in waiting[:]:
                callback(each)
            waiting.clear()

    return self.inner.on(kind, tell)


def exposed(self: Any, kind: Any, callback: Any) -> Any:
    """What a callback raises is kept, for ``set`` to raise."""

    def tell(event: Any) -> None:
        try:
            callback(event)
        except Exception as error:
            self.store.__dict__["raised"] = error

    return self.inner.on(kind, tell)


def exposing(self: Any, *given: Any, **options: Any) -> Any:
    item = self.inner.set(*given, **options)
    if "raised" in self.store.__dict__:
        raise self.store.__dict__.pop("raised")
    return item


class ForgetfulBatch(BatchProxy):
    def set(self, map_: Any, *given: Any, collection_ttl: Any = None, **options: Any) -> None:
        self.inner.set(map_.inner, *given, **options)


@contextmanager
def forgetful(self: Any) -> Iterator[Any]:
    with self.inner.batch() as batch:
        yield ForgetfulBatch(batch)


WRAPPED = (
    Wrapped("set returns what readers get", "D4", {"set": shared_item, "__getitem__": cached}),
    Wrapped(
        *("set returns the data that it was passed", "D4"),
        {"set": lambda self, key, data, **options: Aliased(self.inner.set(key, data, **options), data)},
    ),
    Wrapped("set in a batch forgets collection_ttl", "T2", {}, {"batch": forgetful}),
    both("previous is the new item", "E1", previous_is_new),
    both("updates are told as additions", "E1", updates_are_additions),
    both("expiries are told as removals", "T4", expiry_is_removal),
    both("expiries are told with their own date", "T4", expiry_has_its_own_date),
    both("a removal bears the number of the item", "E1", removal_has_the_items_number),
    both("the end of a map is told item by item", "E1", end_tells_items),
    Wrapped("events come in pairs, the newer first", "E2", {"on": late}, {"on": late}),
    Wrapped("callbacks of one map hear all", "E2", {"on": lambda self, kind, callback: self.store.on(kind, callback)}),
    Wrapped("callbacks hear every kind", "E2", {"on": lambda self, kind, callback: self.inner.on(Event, callback)}),
    Wrapped("a callback that raises ends the write", "E2", {"on": exposed, "set": exposing}),
    Wrapped(
        *("the feed leaves the first event out", "F1"),
        {"changes": lambda self, since="0": (each for each in self.inner.changes(since) if each.revision != since)},
    ),
    Wrapped("the feed gives all, whatever the token", "F1", {"changes": lambda self, since="0": self.inner.changes()}),
    Wrapped(
        *("a token beyond the end gives nothing", "F1"),
        {
            "changes": lambda self, since="0": self.inner.changes(
                since if isinstance(since, str) and since and int(since, 16) < int(self.revision, 16) else self.revision
            )
        },
    ),
    Wrapped(
        *("a watch begins at the present", "E3"),
        {"watch": lambda self, since=None, **options: self.inner.watch(None, **options)},
    ),
    Wrapped(
        *("a watch repeats the event at the seam", "E3"),
        {"watch": lambda self, since=None, **options: self.inner.watch(since and f"{int(since, 16) - 1:x}", **options)},
    ),
    Wrapped(
        *("compaction empties expired history only for itself", "S5"),
        {},
        {"compact": lambda self: [each.set("compacted", {}) for each in self.inner.maps()] and self.inner.compact()},
    ),
    Wrapped("pages go back to the beginning only", "L4", {"page": lambda self, **options: first_again(self, options)}),
    Wrapped(
        *("events are told before the map is there", "E1"),
        rewritten(lambda event: [] if event.revision == "0" else [event]),
        rewritten(lambda event: [] if event.revision == "0" else [event]),
    ),
)


def first_again(self: Any, options: dict[str, Any]) -> Any:
    page = self.inner.page(**options)
    if page.previous_page_token is None:
        self.store.__dict__["first"] = page
        return page
    first = self.store.__dict__.get("first", page)
    again = self.inner.page(page_size=1, page_token=page.previous_page_token)
    return type(page)(page.items, page.next_page_token, again.previous_page_token or first.previous_page_token)


FAULTS: tuple[Change | Wrapped, ...] = (*CHANGES, *WRAPPED)


def results(fault: Change | Wrapped) -> Iterator[Result]:
    """The results of the section in which the broken rule stands, check by check."""
    adapter = fault.adapter()
    for section in adapter.sections:
        if any(fault.rule in check.rules for check in vars(section).values() if hasattr(check, "rules")):
            yield from run_checks(adapter, [section])


def caught(fault: Change | Wrapped) -> Result | None:
    """The first check that fails and names the broken rule."""
    return next((each for each in results(fault) if each.outcome == "failed" and fault.rule in each.rules), None)


def measure(names: list[str]) -> None:
    """A line per fault: the check that names the rule, and the time it took; with names, the machine alone on those."""
    total = 0.0
    for fault in [each for each in FAULTS if not names or each.name in names]:
        began = time.process_time()
        found = next(run_checks(fault.adapter(), [Model])) if names else caught(fault)
        seconds = time.process_time() - began
        total += seconds
        check = found.check.partition(".")[2] if found is not None and found.outcome == "failed" else "NOT CAUGHT"
        print(f"| {fault.rule} | {fault.name} | `{check}` | {seconds:.2f} |", flush=True)
        if names and found is not None:
            print(found.message)
    print(f"{total:.1f} s of CPU time")


if __name__ == "__main__":
    kit.PATIENCE = 0.5
    measure(sys.argv[1:])

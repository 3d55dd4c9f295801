"""S and X: the store as a whole, and its errors."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Thread

from mapitem.errors import (
    InvalidArgument,
    InvalidName,
    ItemExists,
    ItemNotFound,
    MapExists,
    MapItemError,
    MapNotFound,
    StoreClosed,
    StoreLocked,
    StoreReadOnly,
)
from mapitem.testing.conformance import kit
from mapitem.testing.conformance.kit import Section, check, look


class Stores(Section):
    """S: the store."""

    @check("closing")
    def test_close(self) -> None:
        """S1: close may be called twice; afterwards every use is StoreClosed."""
        self.fill("a")
        self.store.close()
        self.store.close()
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: self.map.get("a"),
            "[]": lambda: self.map["a"],
            "in": lambda: "a" in self.map,
            "len": lambda: len(self.map),
            "iter": lambda: list(self.map),
            "range": lambda: list(self.map.range()),
            "set": lambda: self.map.set("a", {}),
            "remove": lambda: self.map.remove("a"),
            "map": lambda: self.store.map("m"),
            "open_map": lambda: self.store.open_map("m"),
        }
        self.all_refused(StoreClosed, calls, "of a closed store")

    @check("closing")
    def test_use_as_context_manager(self) -> None:
        """S1: a store is a context manager, which closes it."""
        with self.store as store:
            self.expect_true(store is self.store, "the with block is given another store")
            self.fill("a")
        with self.refused(StoreClosed, "get after the with block"):
            self.map.get("a")

    @check("durable")
    def test_find_all_again(self) -> None:
        """S1: what was written is there again when the store is opened anew, to the last date."""
        self.fill("a", "b")
        if self.can.item_ttl:
            self.map.set("c", {"n": None}, ttl=60)
        self.map.remove("b")
        before, sid = [look(item) for item in self.map.range()], self.map.sid
        map_ = self.reopened_map()
        self.expect([look(item) for item in map_.range()], before, "items after a restart")
        self.expect((map_.sid, map_.name), (sid, "m"), "sid and name of the map after a restart")

    @check("durable", "map_ttl", "remove_map")
    def test_find_maps_again(self) -> None:
        """S1, T5: so are maps with their ttl, and those that were removed are not."""
        expires = self.store.map("m", ttl=60).date_expires
        self.store.map("gone").remove_map()
        map_ = self.reopened_map()
        self.expect(map_.date_expires, expires, "date_expires of the map after a restart")
        with self.refused(MapNotFound, "open_map of a map that was removed, after a restart"):
            self._store.open_map("gone")

    @check("read_only")
    def test_read_only(self) -> None:
        """S1: a store opened to read serves what is there; writes raise StoreReadOnly."""
        self.fill("a")
        self.store.close()
        store = self.bench.adopt(self.bench.adapter.open_read_only(self.store))
        map_ = store.open_map("m")
        self.expect_data(map_["a"].data, {"n": 0}, "data read")
        calls: dict[str, Callable[[], object]] = {
            "set": lambda: map_.set("a", {}),
            "remove": lambda: map_.remove("a"),
            "map": lambda: store.map("new"),
        }
        self.all_refused(StoreReadOnly, calls, "of a store opened to read")

    @check()
    def test_open_maps(self) -> None:
        """S2: store.map opens the map of that name, or creates it; open_map only opens, by name or by sid."""
        with self.refused(MapNotFound, "open_map of a map that is not there"):
            self.store.open_map("m")
        self.fill("a")
        for what, again in {
            "map": self.store.map("m"),
            "open_map by name": self.store.open_map("m"),
            "open_map by sid": self.store.open_map(self.map.sid),
        }.items():
            self.expect((again.sid, again.name, list(again)), (self.map.sid, "m", ["a"]), f"the map that {what} opens")
        with self.refused(MapNotFound, "open_map of a sid that is nobody's"):
            self.store.open_map("MP" + "0" * 32)
        for name in ("", "n" * 321, 5):
            with self.refused(InvalidName, f"open_map of {str(name)[:9]!r}, which is no name"):
                self.store.open_map(name)

    @check()
    def test_keep_maps_apart(self) -> None:
        """S2: each map has its own items."""
        other = self.store.map("other")
        self.map.set("a", {"n": 1})
        other.set("a", {"n": 2})
        other.set("b", {})
        self.map.remove("a")
        self.expect((list(self.map), list(other)), ([], ["a", "b"]), "keys of two maps")
        self.expect_data(other["a"].data, {"n": 2}, "data in the other map")

    @check("create_map")
    def test_create_maps(self) -> None:
        """S2: create_map of a name that is taken is MapExists, and leaves the map alone."""
        made = self.store.create_map("m")
        made.set("a", {})
        with self.refused(MapExists, "create_map of a name that is taken"):
            self.store.create_map("m")
        self.expect((self.store.map("m").sid, list(made)), (made.sid, ["a"]), "sid and keys of the map")

    @check("create_map", "unnamed_maps")
    def test_create_maps_without_a_name(self) -> None:
        """S2: a map without a name is found by its sid alone."""
        one, two = self.store.create_map(), self.store.create_map()
        one.set("a", {})
        self.expect(
            (one.name, two.name, one.sid == two.sid), (None, None, False), "names, and whether the sids are one"
        )
        self.expect(list(self.store.open_map(one.sid)), ["a"], "keys of the map that the sid opens")

    @check("list_maps", "create_map")
    def test_list_maps(self) -> None:
        """S2: maps() gives the live maps by name, the nameless last by sid."""
        for name in ("b", "a", "c"):
            self.store.create_map(name)
        names: list[str | None] = ["a", "b", "c"]
        if self.can.unnamed_maps:
            sids = sorted([self.store.create_map().sid, self.store.create_map().sid])
            names += [None, None]
            self.expect([map_.sid for map_ in self.store.maps()][3:], sids, "sids of the nameless maps")
        self.expect([map_.name for map_ in self.store.maps()], names, "names of the maps")
        if self.can.remove_map:
            self.store.open_map("b").remove_map()
            self.expect([map_.name for map_ in self.store.maps()][:2], ["a", "c"], "names when one was removed")

    @check("remove_map")
    def test_remove_maps(self) -> None:
        """S2: remove_map ends a map with all its items; of the dead handle sid, name and repr answer, no more."""
        self.fill("a")
        sid = self.map.sid
        other = self.store.map("other")
        other.set("a", {})
        self.map.remove_map()
        self.expect((self.map.sid, self.map.name, bool(repr(self.map))), (sid, "m", True), "sid, name, repr")
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: self.map.get("a"),
            "in": lambda: "a" in self.map,
            "len": lambda: len(self.map),
            "iter": lambda: list(self.map),
            "range": lambda: list(self.map.range()),
            "set": lambda: self.map.set("a", {}),
            "create": lambda: self.map.create("a", {}),
            "remove": lambda: self.map.remove("a"),
            "remove_map": lambda: self.map.remove_map(),
            "open_map": lambda: self.store.open_map("m"),
        }
        if self.can.update:
            calls["update"] = lambda: self.map.update("a", {})
        if self.can.mutate:
            calls["mutate"] = lambda: self.map.mutate("a", lambda data: data)
        if self.can.pages:
            calls["page"] = lambda: self.map.page()
        if self.can.map_ttl:
            calls["set_ttl"] = lambda: self.map.set_ttl(60)
        if self.can.map_revision:
            calls["revision"] = lambda: self.map.revision
        self.all_refused(MapNotFound, calls, "by a handle on a map that was removed")
        self.expect((list(self.store.map("m")), list(other)), ([], ["a"]), "keys of a new map and of another")

    @check("locking")
    def test_refuse_a_second_writer(self) -> None:
        """S3: a second writer is StoreLocked, at once, and hurts the first in nothing."""
        self.fill("a")
        with self.refused(StoreLocked, "opening for writing what is open for writing"):
            self.bench.adopt(self.bench.adapter.open_again(self.store))
        self.map.set("b", {})
        self.expect(list(self.map), ["a", "b"], "keys")

    def _all_at_once(self, work: Callable[[int], None], threads: int = 4) -> None:
        barrier, failures = Barrier(threads), list[BaseException]()

        def run(number: int) -> None:
            try:
                barrier.wait(kit.PATIENCE)
                work(number)
            except BaseException as error:
                failures.append(error)

        started = [Thread(target=run, args=[number], daemon=True) for number in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join(6 * kit.PATIENCE)
        self.expect([thread.is_alive() for thread in started], [False] * threads, "whether threads still wait")
        if failures:
            raise failures[0]

    @check("threads", "mutate")
    def test_mutate_from_threads(self) -> None:
        """S4, W4: threads that count up one item lose no count."""

        def count(number: int) -> None:
            for _ in range(10):
                self.map.mutate("a", lambda data: {"n": data.get("n", 0) + 1}, max_attempts=1000)

        self.map.set("a", {"n": 0})
        self._all_at_once(count)
        self.expect(self.map["a"].data["n"], 40, "count after four threads added ten each")

    @check("threads")
    def test_create_from_threads(self) -> None:
        """S4, W1: of several threads that create one key, one succeeds."""
        made: list[int] = []

        def create(number: int) -> None:
            for key in range(10):
                try:
                    self.map.create(f"{key}", {"by": number})
                except ItemExists:
                    continue
                made.append(key)

        self.map.set("other", {})
        self._all_at_once(create)
        self.expect(sorted(made), list(range(10)), "keys that were created, once for each success")

    @check("threads")
    def test_read_while_written(self) -> None:
        """S4, L3: threads that read see whole items, in order, while others write."""

        def work(number: int) -> None:
            for step in range(30):
                if number % 2:
                    self.map.set(f"{step % 7}", {"x": step, "y": step})
                else:
                    items = list(self.map.range())
                    self.expect([item.data["x"] - item.data["y"] for item in items], [0] * len(items), "x - y")
                    self.expect([item.key for item in items], sorted({item.key for item in items}), "keys")

        self.map.set("0", {"x": 0, "y": 0})
        self._all_at_once(work)

    @check("compaction")
    def test_compact(self) -> None:
        """S5: compaction is no event, and changes nothing that can be read."""
        self.fill("a", "b")
        self.map.remove("a")
        with self.nothing_written("compact"):
            self.store.compact()
        self.map.set("c", {})
        if self.can.durable:
            self.expect(list(self.reopened_map()), ["b", "c"], "keys after compaction and restart")


class Errors(Section):
    """X: the tree of errors."""

    def _errors(self) -> dict[str, tuple[Callable[[], object], int | None, int | None]]:
        """How to provoke an error, its status and its code."""
        self.fill("a")
        errors: dict[str, tuple[Callable[[], object], int | None, int | None]] = {
            "ItemNotFound": (lambda: self.map["absent"], 404, 54201),
            "MapNotFound": (lambda: self.store.open_map("absent"), 404, 54300),
            "ItemExists": (lambda: self.map.create("a", {}), 409, 54208),
            "DataTooLarge": (lambda: self.map.set("a", {"s": "x" * 20_000}), 413, 54006),
            "InvalidData": (lambda: self.map.set("a", None), 400, 54008),
            "InvalidKey": (lambda: self.map.set("", {}), 400, 54209),
            "InvalidName": (lambda: self.store.map(""), 400, 54302),
            "InvalidOrder": (lambda: self.map.range(order="up"), 400, 54451),
            "InvalidBounds": (lambda: self.map.range(bounds="open"), 400, 54452),
        }
        if self.can.create_map:
            errors["MapExists"] = (lambda: self.store.create_map("m"), 409, 54301)
        if self.can.conditions:
            old = self.map["a"].revision
            self.fill("a")
            errors["RevisionMismatch"] = (lambda: self.map.set("a", {}, if_match=old), 412, 54205)
            errors["InvalidRevision"] = (lambda: self.map.set("a", {}, if_match=5), 400, 54003)
        if self.can.item_ttl:
            errors["InvalidTTL"] = (lambda: self.map.set("a", {}, ttl=-1), 400, 54011)
        if self.can.pages:
            errors["InvalidPageSize"] = (lambda: self.map.page(page_size=0), 400, 54454)
            errors["InvalidPageToken"] = (lambda: self.map.page(page_token="?"), 400, 54453)
        return errors

    @check()
    def test_grow_one_tree(self) -> None:
        """X: all errors are MapItemError; NotFound is KeyError too, and a wrong argument ValueError."""
        for name, (call, status, _) in self._errors().items():
            with self.refused(MapItemError, f"what should be {name}") as caught:
                call()
            self.expect(
                [kind.__name__ for kind in type(caught.error).__mro__ if kind.__name__ == name], [name], "class"
            )
            self.expect(isinstance(caught.error, KeyError), status == 404, f"whether {name} is a KeyError")
            self.expect(isinstance(caught.error, ValueError), status in (400, 413), f"whether {name} is a ValueError")
            self.expect(
                isinstance(caught.error, InvalidArgument), status in (400, 413), f"whether {name} is an argument's"
            )

    @check("error_codes")
    def test_number_errors(self) -> None:
        """X: each error has its status and code."""
        for name, (call, status, code) in self._errors().items():
            with self.refused(MapItemError, f"what should be {name}") as caught:
                call()
            self.expect((caught.error.status, caught.error.code), (status, code), f"status and code of {name}")

    @check("error_codes", "remove_map")
    def test_number_dead_handles(self) -> None:
        """X: a handle on a map that is gone has the code of the map, not that of the name."""
        self.map.remove_map()
        with self.refused(MapNotFound, "len of a map that is gone") as caught:
            len(self.map)
        self.expect((caught.error.status, caught.error.code), (404, 54200), "status and code")

    @check()
    def test_say_what_happened(self) -> None:
        """X: errors have a message that is text as it stands, though some are KeyErrors."""
        with self.refused(ItemNotFound, "map['absent']") as caught:
            self.map["absent"]
        text = str(caught.error)
        self.expect_true(text and not text.startswith(("'", '"')), f"the message of ItemNotFound is {text!r}")

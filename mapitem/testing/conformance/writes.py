"""W and C: the verbs, and what makes them conditional."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from mapitem.errors import (
    DataTooLarge,
    InvalidArgument,
    InvalidData,
    InvalidKey,
    InvalidRevision,
    InvalidTTL,
    ItemExists,
    ItemNotFound,
    MapItemError,
    MapNotFound,
    RevisionMismatch,
    StoreClosed,
)
from mapitem.testing.conformance import kit
from mapitem.testing.conformance.kit import NOW, Section, check, look


class Writes(Section):
    """W: each verb does all of what it says, or raises and does nothing."""

    @check()
    def test_create(self) -> None:
        """W1, W8: create adds an item and returns it."""
        item = self.map.create("a", {"n": 1})
        self.expect((item.key, item.data), ("a", {"n": 1}), "key and data of what create returned")
        self.expect(look(self.map["a"]), look(item), "the item read then")

    @check()
    def test_create_what_is_there(self) -> None:
        """W1: create of a present key is ItemExists, and changes nothing."""
        item = self.map.create("a", {"n": 1})
        with self.nothing_written("create"), self.refused(ItemExists, "create of a present key") as caught:
            self.map.create("a", {"n": 2})
        if self.can.error_fields:
            self.expect((caught.error.key, caught.error.revision), ("a", item.revision), "key and revision")

    @check()
    def test_set(self) -> None:
        """W2, W8: set creates, or replaces the data whole, and returns the new item."""
        self.expect_data(self.map.set("a", {"x": 1, "y": {"z": 2}}).data, {"x": 1, "y": {"z": 2}}, "data of a new item")
        item = self.map.set("a", {"y": {"w": 3}})
        self.expect_data(item.data, {"y": {"w": 3}}, "data that set returned for a present key")
        self.expect(look(self.map["a"]), look(item), "the item read then")
        self.expect(len(self.map), 1, "number of items")

    @check("update")
    def test_update(self) -> None:
        """W3, W8: update merges top-level fields, keeps the others, and returns the new item."""
        self.map.set("a", {"x": 1, "y": {"z": 2}})
        item = self.map.update("a", {"y": {"w": 3}, "v": 4})
        self.expect_data(item.data, {"x": 1, "y": {"w": 3}, "v": 4}, "data that update returned")
        self.expect(look(self.map["a"]), look(item), "the item read then")
        self.expect_data(self.map.update("a", {"x": None}).data["x"], None, "a field updated to None")

    @check("update")
    def test_update_what_is_absent(self) -> None:
        """W3: on an absent key update starts from {}."""
        self.expect_data(self.map.update("a", {"x": 1}).data, {"x": 1}, "data of update on an absent key")
        self.expect(list(self.map), ["a"], "keys")

    # ------------------------------------------------------------ mutate

    @check("mutate")
    def test_mutate(self) -> None:
        """W4, W8: mutate writes what the function makes of the data, and returns the new item."""
        self.map.set("a", {"n": 1})
        item = self.map.mutate("a", lambda data: {"n": data["n"] + 1})
        self.expect_data(item.data, {"n": 2}, "data that mutate returned")
        self.expect(look(self.map["a"]), look(item), "the item read then")
        item = self.map.mutate("b", lambda data: {"given": data})
        self.expect_data(item.data, {"given": {}}, "what the function was given for an absent key")

    @check("mutate")
    def test_mutate_to_nothing(self) -> None:
        """W4: a function that returns None writes nothing, and the current item, or None, is returned."""
        self.map.set("a", {"n": 1})
        with self.nothing_written("mutate to None"):
            item = self.map.mutate("a", lambda data: None)
            self.expect_true(item is not None, "mutate returned None though the item is there")
            self.expect(look(item), look(self.map["a"]), "what mutate returned")
            self.expect(self.map.mutate("b", lambda data: None), None, "what mutate returned for an absent key")

    @check("mutate")
    def test_mutate_and_forget_to_return(self) -> None:
        """W4: a function that changed its argument and returned None forgot to return it: TypeError."""
        self.map.set("a", {"n": 1})
        with self.nothing_written("mutate"), self.refused(TypeError, "mutate whose function returns nothing"):
            self.map.mutate("a", lambda data: data.update(n=2))

    @check("mutate")
    def test_mutate_and_raise(self) -> None:
        """W4: what the function raises passes through, and nothing is written."""
        self.map.set("a", {"n": 1})

        def fail(data: dict[str, Any]) -> dict[str, Any]:
            data["n"] = 2
            raise LookupError("from the function")

        with self.nothing_written("mutate"), self.refused(LookupError, "mutate whose function raises"):
            self.map.mutate("a", fail)

    def _mutate_against(self, other: Callable[[], object]) -> tuple[list[dict[str, Any]], Any]:
        """``mutate("a", …)`` while somebody else does something during the first call: what was given, and the item."""
        given: list[dict[str, Any]] = []

        def add(data: dict[str, Any]) -> dict[str, Any]:
            given.append(dict(data))
            if len(given) == 1:
                other()
            return {**data, "mine": True}

        return given, self.map.mutate("a", add)

    @check("mutate")
    def test_judge_what_the_function_made_last(self) -> None:
        """W8: data that cannot be stored, made of an item that is another by now, are no mistake: it is asked again."""
        self.map.set("a", {"n": 0})
        given: list[dict[str, Any]] = []

        def decide(data: dict[str, Any]) -> dict[str, Any]:
            given.append(dict(data))
            if data["n"] == 0:
                self.map.set("a", {"n": 1})
                return {"n": {0}}
            return {"n": 2}

        item = self.map.mutate("a", decide)
        self.expect(given, [{"n": 0}, {"n": 1}], "what the function was given")
        self.expect_data(item.data, {"n": 2}, "data that mutate returned")

    @check("mutate")
    def test_lose_no_update(self) -> None:
        """W4: if somebody wrote the item meanwhile, the function is called again on what it is then."""
        self.map.set("a", {"n": 0})
        given, item = self._mutate_against(lambda: self.map.set("a", {"n": 1}))
        self.expect(given, [{"n": 0}, {"n": 1}], "what the function was given")
        self.expect_data(item.data, {"n": 1, "mine": True}, "data in the end")

    @check("mutate")
    def test_lose_no_creation(self) -> None:
        """W4: so if the key was absent and somebody created it."""
        given, item = self._mutate_against(lambda: self.map.create("a", {"n": 1}))
        self.expect(given, [{}, {"n": 1}], "what the function was given")
        self.expect_data(item.data, {"n": 1, "mine": True}, "data in the end")

    @check("mutate")
    def test_lose_no_removal(self) -> None:
        """W4: so if somebody removed the item: it is not brought back with its old data."""
        self.map.set("a", {"n": 0})
        given, item = self._mutate_against(lambda: self.map.remove("a"))
        self.expect(given, [{"n": 0}, {}], "what the function was given")
        self.expect_data(item.data, {"mine": True}, "data in the end")

    @check("mutate")
    def test_notice_the_same_data(self) -> None:
        """W4, R4: so if the item was removed and created again with the same data: revisions tell, not data."""
        self.map.set("a", {"n": 0})

        def again() -> None:
            self.map.remove("a")
            self.map.create("a", {"n": 0})

        given, _ = self._mutate_against(again)
        self.expect(len(given), 2, "number of calls")

    @check("mutate")
    def test_mind_the_own_item_only(self) -> None:
        """W4: a write to another key is no conflict."""
        self.map.set("a", {"n": 0})
        given, _ = self._mutate_against(lambda: self.map.set("b", {}))
        self.expect(len(given), 1, "number of calls")

    @check("mutate")
    def test_give_up(self) -> None:
        """W4: after max_attempts the last RevisionMismatch is raised, and the other's write stands."""
        calls: list[int] = []

        def lose(data: dict[str, Any]) -> dict[str, Any]:
            calls.append(1)
            self.map.set("a", {"by": len(calls)})
            return {}

        self.map.set("a", {})
        with self.refused(RevisionMismatch, "mutate that loses each time"):
            self.map.mutate("a", lose, max_attempts=3)
        self.expect(len(calls), 3, "number of calls")
        self.expect_data(self.map["a"].data, {"by": 3}, "data in the end")

    @check("mutate", "threads")
    def test_hold_no_lock(self) -> None:
        """W4: no lock is held while the function runs: another thread can write meanwhile."""
        threads: list[Thread] = []

        def write() -> None:
            with suppress(Exception):  # of a store that was closed meanwhile
                self.map.set("b", {})

        def wait_for_another(data: dict[str, Any]) -> dict[str, Any]:
            thread = Thread(target=write, daemon=True)
            threads.append(thread)
            thread.start()
            thread.join(kit.PATIENCE)
            self.expect(thread.is_alive(), False, "whether another thread's write still waits")
            return {}

        try:
            self.map.mutate("a", wait_for_another)
        finally:
            # Or it would write to a store that is being closed.
            for thread in threads:
                thread.join(kit.PATIENCE)

    # ------------------------------------------------------------ remove, and times to live

    @check()
    def test_remove(self) -> None:
        """W5, W8: remove takes the item away and returns it exactly as it was."""
        item = self.map.set("a", {"n": 1})
        self.map.set("b", {})
        self.clock.advance(5)
        removed = self.map.remove("a")
        self.expect_true(removed is not None, "remove returned None, should return the item")
        self.expect(look(removed), look(item), "what remove returned")
        self.expect(("a" in self.map, list(self.map)), (False, ["b"]), "'a' in map, and keys")

    @check()
    def test_remove_what_is_absent(self) -> None:
        """W5: remove of an absent key is ItemNotFound."""
        self.fill("a", "b")
        self.map.remove("a")
        with self.nothing_written("remove"), self.refused(ItemNotFound, "remove of an absent key") as caught:
            self.map.remove("a")
        if self.can.error_fields:
            self.expect(caught.error.key, "a", "key of the error")

    @check("item_ttl", "clock")
    def test_set_item_ttl(self) -> None:
        """W6: set_item_ttl changes the expiry of a present item and leaves its data."""
        self.map.set("a", {"n": 1})
        item = self.map.set_item_ttl("a", 60)
        self.expect_data(item.data, {"n": 1}, "data that set_item_ttl returned")
        self.expect_date(item.date_expires, NOW + 60, "date_expires")
        self.expect(look(self.map["a"]), look(item), "the item read then")
        with self.refused(ItemNotFound, "set_item_ttl of an absent key"):
            self.map.set_item_ttl("b", 60)
        with self.nothing_written("set_item_ttl"), self.refused(InvalidTTL, "set_item_ttl with None"):
            self.map.set_item_ttl("a", None)

    @check("map_ttl", "clock")
    def test_set_ttl(self) -> None:
        """W6: set_ttl sets the map's own expiry: no event, nothing removed, no date moved."""
        self.fill("a")
        updated = self.map.date_updated if self.can.map_dates else None
        self.clock.advance(5)
        with self.nothing_written("set_ttl"):
            self.map.set_ttl(60)
        self.expect_date(self.map.date_expires, NOW + 65, "date_expires of the map")
        if self.can.map_dates:
            self.expect(self.map.date_updated, updated, "date_updated of the map")
        with self.refused(InvalidTTL, "set_ttl with None"):
            self.map.set_ttl(None)
        self.map.set_ttl(0)
        self.expect(self.map.date_expires, None, "date_expires of the map after set_ttl(0)")

    # ------------------------------------------------------------ batches

    @check("batches")
    def test_apply_batches_together(self) -> None:
        """W7: a batch applies at the end of its block, in order; its results are those of the verbs."""
        other = self.store.map("other")
        self.fill("a", "b")
        with self.store.batch() as batch:
            batch.create(self.map, "c", {"n": 2})
            batch.set(self.map, "a", {"n": 3})
            batch.remove(self.map, "b")
            batch.set(other, "a", {"n": 4})
            self.expect(list(self.map), ["a", "b"], "keys before the block ends")
        self.expect((list(self.map), list(other)), (["a", "c"], ["a"]), "keys of the two maps")
        self.expect([item.key for item in batch.results], ["c", "a", "b", "a"], "keys of the results")
        self.expect(look(batch.results[1]), look(self.map["a"]), "result of the second write")
        self.expect_data(batch.results[2].data, {"n": 1}, "data of the removed item")

    @check("batches")
    def test_apply_nothing_of_a_failed_batch(self) -> None:
        """W7: if one write fails, none applies, in no map, and the error says by index which it was."""
        other = self.store.map("other")
        self.fill("a")
        before = list(other)
        with (
            self.nothing_written("a batch that fails"),
            self.refused(ItemExists, "a batch") as caught,
            self.store.batch() as batch,
        ):
            batch.set(other, "x", {})
            batch.set(self.map, "b", {})
            batch.create(self.map, "a", {})
            batch.set(self.map, "c", {})
        self.expect(list(other), before, "keys of the other map")
        self.expect(caught.error.index, 2, "index of the error")

    @check("batches")
    def test_leave_a_batch_by_an_exception(self) -> None:
        """W7: a block that ends by an exception applies nothing."""
        with (
            self.nothing_written("a batch"),
            self.refused(LookupError, "the block"),
            self.store.batch() as batch,
        ):
            batch.set(self.map, "a", {})
            raise LookupError("in the block")

    @check("batches", "conditions")
    def test_judge_batches_in_order(self) -> None:
        """W7: presence and conditions are judged against the state as the batch leaves it so far."""
        revision = self.map.set("a", {}).revision
        with self.store.batch() as batch:
            batch.remove(self.map, "a", if_match=revision)
            batch.create(self.map, "a", {"n": 1})
        self.expect_data(self.map["a"].data, {"n": 1}, "data of the item that the batch removed and created")
        revision = self.map["a"].revision
        with (
            self.nothing_written("a batch that fails"),
            self.refused(RevisionMismatch, "a batch"),
            self.store.batch() as batch,
        ):
            batch.set(self.map, "a", {"n": 2})
            batch.set(self.map, "a", {"n": 3}, if_match=revision)

    @check("batches")
    def test_check_batches_at_the_call(self) -> None:
        """W7: each call checks its arguments, and copies its data, at once."""
        data = {"n": [1]}
        with self.store.batch() as batch:
            with self.refused(InvalidKey, "batch.set with the key ''"):
                batch.set(self.map, "", {})
            with self.refused(InvalidData, "batch.set with the data None"):
                batch.set(self.map, "a", None)
            batch.set(self.map, "a", data)
            data["n"].append(2)
        self.expect_data(self.map["a"].data, {"n": [1]}, "data of a write in a batch")

    @check("batches")
    def test_refuse_maps_of_other_stores(self) -> None:
        """W7: a map of another store is ValueError."""
        other = self.bench.make_store().map("m")
        with self.store.batch() as batch, self.refused(ValueError, "batch.set with a map of another store"):
            batch.set(other, "a", {})

    @check("batches", "item_ttl", "clock")
    def test_look_once_at_the_clock(self) -> None:
        """W7, T2: the other verbs of a batch do what they do alone, all at one instant."""
        self.map.set("a", {"n": 1})
        with self.store.batch() as batch:
            batch.set_item_ttl(self.map, "a", 60)
            batch.create(self.map, "b", {}, ttl=60)
            if self.can.update:
                batch.update(self.map, "a", {"m": 2})
            self.clock.advance(5)
        for key in ("a", "b"):
            self.expect_date(self.map[key].date_expires, NOW + 65, f"date_expires of {key!r}")
            self.expect_date(self.map[key].date_updated, NOW + 5, f"date_updated of {key!r}")
        self.expect_data(self.map["a"].data, {"n": 1, "m": 2} if self.can.update else {"n": 1}, "data")

    @check("update", "conditions")
    def test_check_merged_data_last(self) -> None:
        """W8: what a merge yields is checked after the condition, what was passed before it."""
        stale = self.map.set("a", {}).revision
        self.map.set("a", {"s": "x" * 9_000})
        with self.refused(RevisionMismatch, "update to too much, on a condition that fails"):
            self.map.update("a", {"t": "x" * 9_000}, if_match=stale)
        with self.refused(DataTooLarge, "update with too much, on a condition that fails"):
            self.map.update("a", {"t": "x" * 17_000}, if_match=stale)


class Conditions(Section):
    """C: if_match, and which of several mistakes is told."""

    def _conditional(self) -> dict[str, Callable[[str, Any], Any]]:
        """The verbs that take a condition, as functions of key and condition."""
        verbs: dict[str, Callable[[str, Any], Any]] = {
            "set": lambda key, if_match: self.map.set(key, {"new": 1}, if_match=if_match),
            "remove": lambda key, if_match: self.map.remove(key, if_match=if_match),
        }
        if self.can.update:
            verbs["update"] = lambda key, if_match: self.map.update(key, {"new": 1}, if_match=if_match)
        if self.can.item_ttl:
            verbs["set_item_ttl"] = lambda key, if_match: self.map.set_item_ttl(key, 60, if_match=if_match)
        return verbs

    @check("conditions")
    def test_write_at_the_revision(self) -> None:
        """C1: a write whose condition holds is made."""
        for verb, write in self._conditional().items():
            revision = self.map.set("a", {"n": 1}).revision
            item = write("a", revision)
            if verb == "remove":
                self.expect("a" in self.map, False, "'a' in map after remove")
            else:
                self.expect(look(self.map["a"]), look(item), f"the item after {verb}")

    @check("conditions")
    def test_refuse_at_another_revision(self) -> None:
        """C1: a condition on another revision is RevisionMismatch, and nothing is written."""
        old = self.map.set("a", {"n": 1}).revision
        actual = self.map.set("a", {"n": 2}).revision
        other = self.map.set("b", {}).revision
        for verb, write in self._conditional().items():
            for wrong in (old, other):
                what = f"{verb} with if_match={wrong!r} where {actual!r} is"
                with self.nothing_written(verb), self.refused(RevisionMismatch, what) as caught:
                    write("a", wrong)
                if self.can.error_fields:
                    self.expect((caught.error.expected, caught.error.actual), (wrong, actual), "expected and actual")

    @check("conditions", "exact_revisions")
    def test_compare_as_text(self) -> None:
        """C1: revisions are compared as text: a zero in front makes another."""
        revision = self.map.set("a", {}).revision
        with self.refused(RevisionMismatch, f"set with if_match={'0' + revision!r} where {revision!r} is"):
            self.map.set("a", {}, if_match="0" + revision)

    @check("conditions")
    def test_refuse_where_nothing_is(self) -> None:
        """C1: a condition on an absent item is ItemNotFound, whatever the revision: set creates nothing then."""
        revision = self.map.set("b", {}).revision
        conditions = [revision, *(["*"] if self.can.any_revision else [])]
        for verb, write in self._conditional().items():
            for if_match in conditions:
                what = f"{verb} of an absent key with if_match={if_match!r}"
                with self.nothing_written(verb), self.refused(ItemNotFound, what):
                    write("a", if_match)

    @check("any_revision")
    def test_write_at_any_revision(self) -> None:
        """C1: "*" asks for presence only."""
        for verb, write in self._conditional().items():
            self.map.set("a", {"n": 1})
            write("a", "*")
            self.expect("a" in self.map, verb != "remove", f"'a' in map after {verb}")

    @check("conditions")
    def test_refuse_no_revisions(self) -> None:
        """C1: what is no revision is InvalidRevision."""
        self.fill("a")
        bad: tuple[Any, ...] = (0, b"0", ["0"])
        if self.can.exact_revisions:
            bad += ("", "A", "g", "0x1", "-1", " 0", "0\n", "**")
        for verb, write in self._conditional().items():
            for if_match in bad:
                with self.nothing_written(verb), self.refused(InvalidRevision, f"{verb} with if_match={if_match!r}"):
                    write("a", if_match)

    def _mistakes(self) -> list[tuple[str, Any, type[MapItemError]]]:
        """Arguments of ``set`` that are wrong, and the error of each, in the order of C2."""
        wrong: list[tuple[str, Any, type[MapItemError]]] = [("key", "", InvalidKey), ("data", None, InvalidData)]
        if self.can.item_ttl:
            wrong.append(("ttl", -1, InvalidTTL))
        if self.can.collection_ttl:
            wrong.append(("collection_ttl", -1, InvalidTTL))
        if self.can.conditions:
            wrong.append(("if_match", 5, InvalidRevision))
        return wrong

    def _set(self, wrong: list[tuple[str, Any, type[MapItemError]]]) -> None:
        arguments: dict[str, Any] = {"key": "a", "data": {}} | {name: value for name, value, _ in wrong}
        self.map.set(arguments.pop("key"), arguments.pop("data"), **arguments)

    @check("error_order")
    def test_judge_arguments_in_order(self) -> None:
        """C2: of two wrong arguments the first is told, in the order key, data, ttl, collection_ttl, if_match."""
        mistakes = self._mistakes()
        for place, first in enumerate(mistakes):
            for second in mistakes[place + 1 :]:
                with self.refused(first[2], f"set with {first[0]}={first[1]!r} and {second[0]}={second[1]!r}"):
                    self._set([first, second])

    @check("error_order")
    def test_judge_arguments_before_presence(self) -> None:
        """C2: a wrong argument is told before the absence of the item or a condition that fails."""
        stale = self.map.set("a", {}).revision
        self.fill("a")
        with self.refused(InvalidData, "create of a present key with data=None"):
            self.map.create("a", None)
        if self.can.conditions:
            with self.refused(InvalidRevision, "remove of an absent key with if_match=5"):
                self.map.remove("absent", if_match=5)
            with self.refused(InvalidData, "set with data=None, on a condition that fails"):
                self.map.set("a", None, if_match=stale)
        if self.can.item_ttl:
            with self.refused(InvalidTTL, "create of a present key with ttl=-1"):
                self.map.create("a", {}, ttl=-1)
            with self.refused(InvalidTTL, "set_item_ttl of an absent key with -1"):
                self.map.set_item_ttl("absent", -1)
        if self.can.item_ttl and self.can.conditions:
            with self.refused(InvalidTTL, "set with ttl=-1, on a condition that fails"):
                self.map.set("a", {}, ttl=-1, if_match=stale)

    @check("error_order", "remove_map")
    def test_judge_arguments_before_the_map(self) -> None:
        """C2: a wrong argument is told before the absence of the map, and that before the absence of the item."""
        self.fill("a")
        self.map.remove_map()
        for mistake in self._mistakes():
            with self.refused(mistake[2], f"set in a map that is gone, with {mistake[0]}={mistake[1]!r}"):
                self._set([mistake])
        with self.refused(InvalidKey, "get of the key '' in a map that is gone"):
            self.map.get("")
        with self.refused(MapNotFound, "remove of an absent key in a map that is gone"):
            self.map.remove("absent")

    @check("error_order", "closing")
    def test_judge_the_store_first(self) -> None:
        """C2: that the store is closed is told before anything else."""
        self.fill("a")
        self.store.close()
        calls: dict[str, Callable[[], object]] = {
            "set with a wrong key": lambda: self.map.set("", {}),
            "get with a wrong key": lambda: self.map.get(""),
            "map with a wrong name": lambda: self.store.map(""),
        }
        self.all_refused(StoreClosed, calls, "of a closed store")

    @check()
    def test_write_nothing_on_errors(self) -> None:
        """C2: nothing is written on any error, whatever the call asked for else."""
        self.fill("a")
        with self.nothing_written("a call that was refused"):
            for mistake in self._mistakes():
                with self.refused(InvalidArgument, f"set with {mistake[0]}={mistake[1]!r}"):
                    self._set([mistake])
            with self.refused(ItemExists, "create of a present key"):
                self.map.create("a", {"n": 2})
            with self.refused(ItemNotFound, "remove of an absent key"):
                self.map.remove("b")

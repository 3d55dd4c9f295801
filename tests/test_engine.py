"""The engine by itself, without log, lock or clock: what it judges, and that a replay means the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgpack import packb

from mapitem import ItemExists, ItemNotFound, MapExists, MapNotFound, RevisionMismatch
from mapitem.engine import ABSENT, Engine, judge
from mapitem.item import NEVER, pack_row, row_expires, row_number, row_tail, row_times
from mapitem.keyrange import KeyRange
from mapitem.records import ADD, EXPIRE, FORGET, ITEMS, MAP, MAP_END, MAP_STATE, MAP_TTL, REMOVE, UPDATE
from mapitem.state import ALWAYS_LOOK, MapState

SECOND = 1_000_000
ME, OTHER = packb("me"), packb("other")
SIDS = [f"MP{number:032x}" for number in range(64)]
EVERYTHING = KeyRange("", None, False)


def data(text: str) -> bytes:
    packed: bytes = packb({"text": text})
    return packed


def make_row(number: int, expires: int = NEVER, updated: int = 0) -> bytes:
    return pack_row(number, 0, updated, expires, ME, data("x"))


def dump(engine: Engine) -> dict[str, dict[str, Any]]:
    """All that is known of each map, in a form that can be compared."""
    shown = {}
    for state in engine.states():
        fields = {name: getattr(state, name) for name in MapState.__slots__ if name not in ("heap", "watchers")}
        shown[state.sid] = {**fields, "rows": dict(state.rows), "places": list(state.places)}
        assert list(state.rows) == sorted(state.rows)
        assert engine.by_no(state.no) is engine.state(state.sid) is state
    return shown


class Driver:
    """Puts every judgement of an engine to work, as the store does, and keeps it as the log would."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.records: list[tuple[int, list[Any]]] = []
        self.changes: list[Any] = []
        self.events = 0

    def do(self, judgement: tuple[list[Any], Any], is_told: bool = True) -> Any:
        operations, result = judgement
        if operations:
            place = 100 * len(self.records)
            self.records.append((place, operations))
            self.engine.apply(operations, place, self.changes if is_told else None)
        return result

    def map(self, name: str | None = "m", ttl: int | None = None, now: int = 0, or_open: bool = True) -> MapState:
        sid = SIDS[len(self.records)]
        return self.engine.state(self.do(self.engine.create_map(sid, name, "me", ttl, or_open, now)))

    def put(self, state: MapState, key: str, now: int = 0, **options: Any) -> bytes:
        is_told = options.pop("is_told", True)
        given_ = {"text": "x", "ttl": None, "collection_ttl": None, "condition": None, "created_by": ME, **options}
        packed = None if given_["text"] is None else data(given_["text"])
        judgement = self.engine.put(
            state, key, packed, given_["created_by"], given_["ttl"], given_["collection_ttl"], given_["condition"], now
        )
        row: bytes = self.do(judgement, is_told)
        return row

    def replayed(self) -> Engine:
        engine = Engine()
        engine.load(iter(self.records))
        return engine


steps = st.tuples(
    st.sampled_from(["put", "put", "put", "ttl", "remove", "map", "map ttl", "end", "purge", "purge all"]),
    st.sampled_from(["m", "n"]),
    st.sampled_from("abcd"),
    st.none() | st.integers(0, 4),
    st.integers(-1, 3),
    st.booleans(),
)


@given(plan=st.lists(steps, max_size=30))
def test_replay_what_was_judged(plan: list[tuple[str, str, str, int | None, int, bool]]) -> None:
    """R6, T6: after a load every map is as it was when its operations were applied one by one, all its books too."""
    driver = Driver()
    engine = driver.engine
    now = 10 * SECOND
    for what, name, key, ttl, passed, is_told in plan:
        now += passed * SECOND
        state = driver.map(name, None, now)
        try:
            if what == "put":
                driver.put(state, key, now, text=key * (ttl or 0), ttl=ttl, is_told=is_told)
            elif what == "ttl":
                driver.put(state, key, now, text=None, ttl=ttl, condition="*", is_told=is_told)
            elif what == "remove":
                driver.do(engine.remove(state, key, None, now), is_told)
            elif what == "map":
                driver.map(None, ttl, now)
            elif what == "map ttl":
                driver.do(engine.set_map_ttl(state, ttl or 0, now))
            elif what == "end":
                driver.do(engine.remove_map(state, now))
            elif what == "purge":
                driver.do(engine.purge(state, now))
            else:
                driver.do(engine.purge_all(now))
        except ItemNotFound:
            assert engine.row(state, key, now) is None
        for each in engine.states():
            assert len(each.places) == each.counter - each.oldest
            assert not each.held
    assert dump(driver.replayed()) == dump(engine)
    assert driver.replayed().live_bytes == engine.live_bytes
    assert driver.replayed()._next_no == engine._next_no


def test_find_maps_by_name_and_sid() -> None:
    """K5, K6, S2: what has the form of a sid is one, anything else a name; the error says which was looked for."""
    driver = Driver()
    engine = driver.engine
    state = driver.map("m", 5)
    assert engine.find("m", 0) is engine.find(state.sid, 5 * SECOND - 1) is state
    for name, by_name in (("n", True), (SIDS[9], False)):
        with pytest.raises(MapNotFound) as caught:
            engine.find(name, 0)
        assert (caught.value.name, caught.value.status, str(caught.value)) == (name, 404, f"no map {name!r}")
        assert caught.value.code == MapNotFound("", name=name, by_name=by_name).code
    for name in ("m", state.sid):
        with pytest.raises(MapNotFound):
            engine.find(name, 5 * SECOND)
    assert engine.state(state.sid) is state
    with pytest.raises(MapNotFound) as caught:
        engine.state(SIDS[9])
    assert caught.value.name == SIDS[9]
    with pytest.raises(MapNotFound, match="the map 'm' is gone") as caught:
        engine.check_alive(state, 5 * SECOND)
    assert caught.value.name == "m"
    engine.check_alive(state, 5 * SECOND - 1)
    nameless = driver.map(None, 5)
    with pytest.raises(MapNotFound, match=f"the map {nameless.sid} is gone") as caught:
        engine.check_alive(nameless, 5 * SECOND)
    assert caught.value.name == nameless.sid


def test_list_live_maps() -> None:
    """S2: the live maps by name, the nameless last by sid; the expired are among the states alone."""
    driver = Driver()
    nameless = [
        driver.engine.state(driver.do(driver.engine.create_map(sid, None, "me", None, True, 0)))
        for sid in SIDS[40:38:-1]
    ]
    named = [driver.map("b"), driver.map("a"), driver.map("old", 1)]
    assert driver.engine.live_states(SECOND) == [named[1], named[0], nameless[1], nameless[0]]
    assert set(driver.engine.states()) == {*named, *nameless}


def test_take_a_name_again() -> None:
    """T5, S2: the name of a live map opens it or is ``MapExists``; that of an expired one is free once it is ended."""
    driver = Driver()
    engine = driver.engine
    old = driver.map("m", 5)
    assert engine.create_map(SIDS[9], "m", "me", None, True, 0) == ([], old.sid)
    with pytest.raises(MapExists) as caught:
        engine.create_map(SIDS[9], "m", "me", None, False, 5 * SECOND - 1)
    assert caught.value.name == "m"
    operations, sid = engine.create_map(SIDS[9], "m", "you", 3, False, 5 * SECOND)
    assert operations == [
        (MAP_END, old.no, 5 * SECOND, True),
        (MAP, old.no + 1, SIDS[9], "m", "you", 5 * SECOND, 5 * SECOND, 8 * SECOND, 0, 0),
    ]
    driver.do((operations, sid))
    assert (old.ended, old.quiet_until) == ((5 * SECOND, True), ALWAYS_LOOK)
    assert engine.find("m", 5 * SECOND).created_by == "you"
    assert [type(change[0]) for change in driver.changes] == [MapState]
    assert driver.changes == [(old, operations[0], None)]


def test_end_a_map() -> None:
    """T5: of a map that ended nothing is left: not its rows, not their books, not its name."""
    driver = Driver()
    state = driver.map()
    driver.put(state, "a", ttl=5)
    driver.do(driver.engine.remove_map(state, 3))
    assert (state.ended, state.quiet_until) == ((3, False), ALWAYS_LOOK)
    assert (dict(state.rows), state.heap, state.timed, state.live_bytes) == ({}, [], 0, 0)
    assert driver.engine.states() == []
    with pytest.raises(MapNotFound):
        driver.engine.state(state.sid)
    for name in ("m", state.sid):
        with pytest.raises(MapNotFound):
            driver.engine.find(name, 0)
    assert driver.engine.is_over(state, -SECOND)
    assert driver.engine.row(state, "a", 0) is None
    nameless = driver.map(None)
    driver.do(driver.engine.remove_map(nameless, 3))
    assert driver.engine.states() == []


def test_number_maps_beyond_any_before() -> None:
    """K6: a map's number is never used again, in whatever order a log names them."""
    engine = Engine()
    fields = ("me", 0, 0, NEVER, 0, 0)
    engine.load([(0, [(MAP, 5, SIDS[0], "a", *fields), (MAP, 2, SIDS[1], "b", *fields)])])
    assert engine.create_map(SIDS[2], "c", "me", None, False, 0)[0][0][1] == 6


def test_write_a_row() -> None:
    """W2, I2, I3, T1: of the row that is replaced the creation stays, and what the call did not give."""
    driver = Driver()
    state = driver.map()
    first = driver.put(state, "k", 7, ttl=2)
    assert (row_number(first), row_times(first)) == (0, (7, 7, 2 * SECOND + 7))
    second = driver.put(state, "k", 9, text="y", created_by=OTHER)
    assert (row_number(second), row_times(second)) == (1, (7, 9, 2 * SECOND + 7))
    assert row_tail(second) == ME + data("y")
    third = driver.put(state, "k", 8, text=None, ttl=0)
    assert (row_number(third), row_times(third), row_tail(third)) == (2, (7, 9, NEVER), ME + data("y"))
    kinds = [operations[0] for _, operations in driver.records[1:]]
    assert kinds == [(ADD, 0, "k", first), (UPDATE, 0, "k", second), (UPDATE, 0, "k", third, 8)]
    assert [change[2] for change in driver.changes] == [None, first, second]


def test_set_the_expiry_of_the_map_with_an_item() -> None:
    """T2: ``collection_ttl`` sets the map's own expiry in the same record, and 0 clears it."""
    driver = Driver()
    state = driver.map("m", 5)
    driver.put(state, "k", SECOND, collection_ttl=9)
    assert (state.expires, state.quiet_until) == (10 * SECOND, 10 * SECOND)
    driver.put(state, "k", SECOND, collection_ttl=0)
    assert (state.expires, state.quiet_until) == (NEVER, NEVER)
    assert driver.records[-1][1][1] == (MAP_TTL, 0, NEVER)
    assert driver.do(driver.engine.set_map_ttl(state, 3, SECOND)) is None
    assert (state.expires, state.quiet_until, state.counter) == (4 * SECOND, 4 * SECOND, 2)


def test_remove_what_is_due_first() -> None:
    """T4: a write begins with the removal of what is due, in order of expiry, each an event of its own."""
    driver = Driver()
    state = driver.map()
    for key, ttl in (("b", 2), ("a", 2), ("c", 1), ("d", 9)):
        driver.put(state, key, ttl=ttl)
    now = 2 * SECOND
    assert driver.engine.count(state, now - 1) == 3
    assert driver.engine.count(state, now) == 1
    operations, row = driver.engine.put(state, "a", data("new"), OTHER, None, None, ABSENT, now)
    assert operations == [(EXPIRE, 0, ["c", "a", "b"], 4, now), (ADD, 0, "a", row)]
    assert (row_number(row), row_times(row), row_tail(row)) == (7, (now, now, NEVER), OTHER + data("new"))
    operations, row = driver.engine.remove(state, "d", None, now)
    assert operations == [(EXPIRE, 0, ["c", "a", "b"], 4, now), (REMOVE, 0, "d", 7, now)]
    assert driver.do(driver.engine.purge(state, now)) == 3
    assert driver.do(driver.engine.purge(state, now)) == 0
    assert (list(state.rows), state.counter) == (["d"], 7)
    assert list(state.places) == [100, 200, 300, 400, 500, 500, 500]
    assert [number for number in map(row_number, driver.changes[-1][2])] == [2, 1, 0]


def test_purge_all_maps() -> None:
    """T4, T5: the number of items that went counts those of the maps that ended."""
    driver = Driver()
    live, over, empty = driver.map("live"), driver.map("over", 2), driver.map("empty")
    for key in "abc":
        driver.put(live, key, ttl=1 if key == "a" else None)
        driver.put(over, key)
    assert driver.do(driver.engine.purge_all(SECOND)) == 1
    assert driver.do(driver.engine.purge_all(2 * SECOND)) == 3
    assert driver.do(driver.engine.purge_all(2 * SECOND)) == 0
    assert set(driver.engine.states()) == {live, empty}


@pytest.mark.parametrize("due", ["", "b", "g", "ab", "bcefh", "abcdefgh"])
@pytest.mark.parametrize("descending", [False, True])
def test_look_past_what_is_due(due: str, descending: bool) -> None:
    """T3, L2: a walk passes over what is due, and is neither cut short nor made longer by it."""
    driver = Driver()
    state = driver.map()
    everything = KeyRange("", None, descending)
    for key in "abcdefgh":
        driver.put(state, key, ttl=1 if key in due else None)
    for now, keys in ((SECOND - 1, "abcdefgh"), (SECOND, [key for key in "abcdefgh" if key not in due])):
        keys = sorted(keys, reverse=descending)
        for limit in range(10):
            found = driver.engine.scan(state, everything, now, limit)
            assert found == [(key, state.rows[key]) for key in keys[:limit]]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("due", ["", "c", "ae", "bd", "abcde"])
def test_look_at_every_page(descending: bool, backwards: bool, due: str) -> None:
    """L4: of the items on one side of a cut those next to it, and whether there are more on either side of these."""
    driver = Driver()
    state = driver.map()
    for key in "abcde":
        driver.put(state, key, ttl=1 if key in due else None)
    for low, high in (("", None), ("b", None), ("", "e"), ("b", "d\0")):
        listing = KeyRange(low, high, descending)
        there = [key for key in "abcde" if key not in due and key >= low and (high is None or key < high)]
        if descending:
            there.reverse()
        for size in (1, 2, 3, 5, 6):
            found, has_next, has_previous = driver.engine.page(state, listing, None, False, size, SECOND)
            assert [key for key, _ in found] == there[:size]
            assert (has_next, has_previous) == (len(there) > size, False)
            inside = [key for key in "abcde" if key >= low and (high is None or key < high)]
            for cut in (place(key) for key in inside for place in (listing.cut_before, listing.cut_after)):
                before = [key for key in there if (key >= cut if descending else key < cut)]
                behind = [key for key in there if key not in before]
                found, has_next, has_previous = driver.engine.page(state, listing, cut, backwards, size, SECOND)
                keys = before[-size:] if backwards else behind[:size]
                assert [key for key, _ in found] == keys
                if backwards:
                    assert (has_next, has_previous) == (bool(behind), len(before) > size)
                else:
                    assert (has_next, has_previous) == (len(behind) > size, bool(before))


def test_write_at_the_very_instant() -> None:
    """T3, T4, T5: at the instant of its expiry an item is removed before a write, and a map takes none any more."""
    driver = Driver()
    engine = driver.engine
    state = driver.map("m", 9)
    driver.put(state, "a", ttl=2)
    driver.put(state, "b")
    now = 2 * SECOND
    expiry = (EXPIRE, 0, ["a"], 2, now)
    assert engine.put(state, "a", data("x"), ME, None, None, ABSENT, now)[0][0] == expiry
    assert engine.remove(state, "b", None, now)[0] == [expiry, (REMOVE, 0, "b", 3, now)]
    assert engine.purge(state, now) == ([expiry], 1)
    with pytest.raises(ItemNotFound):
        engine.remove(state, "a", None, now)
    with pytest.raises(ItemNotFound):
        engine.put(state, "a", data("x"), ME, None, None, "*", now)
    now = 9 * SECOND
    for judgement in (
        lambda: engine.put(state, "b", data("x"), ME, None, None, None, now),
        lambda: engine.remove(state, "b", None, now),
        lambda: engine.set_map_ttl(state, 5, now),
        lambda: engine.remove_map(state, now),
        lambda: engine.purge(state, now),
    ):
        with pytest.raises(MapNotFound):
            judgement()
    assert engine.purge_all(now) == ([(MAP_END, 0, now, True)], 2)


def test_remove_on_a_condition() -> None:
    """W5, C1: a removal has to find its item, and at the revision that it names."""
    driver = Driver()
    state = driver.map()
    row = driver.put(state, "a")
    for condition in (None, "*", "0"):
        assert driver.engine.remove(state, "a", condition, 3) == ([(REMOVE, 0, "a", 1, 3)], row)
    with pytest.raises(RevisionMismatch):
        driver.engine.remove(state, "a", "1", 3)
    for condition in (None, "*", "0"):
        with pytest.raises(ItemNotFound):
            driver.engine.remove(state, "b", condition, 3)
    operations, _ = driver.engine.remove(state, "a", None, 3)
    driver.do((operations, None))
    assert driver.changes[1:] == [(state, operations[0], row)]
    assert (list(state.places), state.counter, state.updated, dict(state.rows)) == ([100, 200], 2, 3, {})
    driver.do(driver.engine.remove_map(state, 4), is_told=False)
    assert len(driver.changes) == 2


def test_judge_conditions() -> None:
    """C1, W1: ``None`` takes all, ``"*"`` what is present, a revision that one alone, and a creation nothing."""
    row = make_row(26)
    for present, condition in ((row, None), (None, None), (row, "*"), (row, "1a"), (None, ABSENT)):
        judge("k", present, condition)
    with pytest.raises(ItemExists) as exists:
        judge("k", row, ABSENT)
    assert (exists.value.key, exists.value.revision) == ("k", "1a")
    for condition in ("*", "1a"):
        with pytest.raises(ItemNotFound) as absent:
            judge("k", None, condition)
        assert absent.value.key == "k"
    for condition in ("1b", "01a", "1A", "0"):
        with pytest.raises(RevisionMismatch) as mismatch:
            judge("k", row, condition)
        assert (mismatch.value.key, mismatch.value.expected, mismatch.value.actual) == ("k", condition, "1a")


FIRST = (MAP, 0, SIDS[0], "m", "me", 0, 0, NEVER, 0, 0)


@pytest.mark.parametrize(
    ("operations", "error"),
    [
        ([FIRST, (MAP, 0, SIDS[1], "n", "me", 0, 0, NEVER, 0, 0)], "there already"),
        ([FIRST, (MAP, 1, SIDS[0], "n", "me", 0, 0, NEVER, 0, 0)], "there already"),
        ([FIRST, (MAP, 1, SIDS[1], "m", "me", 0, 0, NEVER, 0, 0)], "there already"),
        ([FIRST, (ADD, 0, "k", make_row(0)), (ADD, 0, "k", make_row(1))], "added that was there"),
        ([FIRST, (UPDATE, 0, "k", make_row(0))], "updated that was not"),
        ([FIRST, (ADD, 0, "k", make_row(1))], "event 1 where event 0 belongs"),
        ([FIRST, (ADD, 0, "k", make_row(0)), (UPDATE, 0, "k", make_row(0))], "event 0 where event 1 belongs"),
        ([FIRST, (ADD, 0, "k", make_row(0)), (REMOVE, 0, "k", 0, 0)], "event 0 where event 1 belongs"),
        ([FIRST, (ADD, 0, "k", make_row(0)), (EXPIRE, 0, ("k",), 2, 0)], "event 2 where event 1 belongs"),
        ([FIRST, (REMOVE, 0, "k", 0, 0)], "k"),
        ([FIRST, (EXPIRE, 0, ("k",), 0, 0)], "k"),
        ([FIRST, (ADD, 1, "k", make_row(0))], "1"),
        ([(MAP_TTL, 0, 5)], "0"),
    ],
)
def test_refuse_what_does_not_follow(operations: list[Any], error: str) -> None:
    """G2, R3: event numbers leave no gap, and an operation finds what it is about, or the log is refused."""
    with pytest.raises((KeyError, ValueError), match=error):
        Engine().load([(0, operations)])
    Engine().load([(0, operations[:-1])])


def test_refuse_an_operation_of_no_kind() -> None:
    """G3: what is not among the kinds is never passed over."""
    driver = Driver()
    driver.map()
    with pytest.raises(AssertionError, match="unknown kind 99"):
        driver.engine.apply([(99, 0)], 0)


def test_load_a_base() -> None:
    """M2: blocks lie over earlier ones, are taken back, and the state at the base's end counts."""
    rows = [make_row(number, expires) for number, expires in ((0, NEVER), (1, 7), (2, 5), (3, 4))]
    base = [
        [(MAP, 3, SIDS[0], "m", "me", 1, 2, NEVER, 9, 9)],
        [(ITEMS, 3, ("b", "a", "c"), (rows[0], rows[1], rows[2]))],
        [(ITEMS, 3, ("b", "d"), (rows[3], rows[0]))],
        [(FORGET, 3, ("c", "never there"))],
        [(MAP_STATE, 3, 8, 3, 12, 12)],
        [(ADD, 3, "e", make_row(12))],
    ]
    engine = Engine()
    engine.load(enumerate(base))
    (state,) = engine.states()
    assert dict(state.rows) == {"a": rows[1], "b": rows[3], "d": rows[0], "e": make_row(12)}
    assert list(state.rows) == ["a", "b", "d", "e"]
    assert (state.updated, state.expires, state.counter, state.oldest) == (8, 3, 13, 12)
    assert (state.timed, state.quiet_until, list(state.places)) == (2, 3, [5])
    assert state.live_bytes == sum(len(key) + len(row) for key, row in state.rows.items())
    assert engine.live_bytes == state.live_bytes + 200
    engine.forget_history()
    assert (state.oldest, list(state.places)) == (13, [])


def test_go_on_after_a_failed_load() -> None:
    """R3: a load that fails does not leave an engine whose new maps are unsorted."""
    engine = Engine()
    with pytest.raises(KeyError):
        engine.load([(0, [(MAP_TTL, 0, 5)])])
    engine.apply([FIRST], 0)
    engine.apply([(ADD, 0, "b", make_row(0))], 1)
    engine.apply([(ADD, 0, "a", make_row(1))], 2)
    assert list(engine.by_no(0).rows) == ["a", "b"]


def test_hold_readers_back_while_a_record_is_applied() -> None:
    """W7: a record of several operations is seen whole: until it is, no read of its maps goes without the lock."""
    driver = Driver()
    one, two = driver.map("one"), driver.map("two")
    seen = []

    class Watching(list[Any]):
        def append(self, change: Any) -> None:
            seen.append([(state.held, state.quiet_until) for state in (one, two)])
            super().append(change)

    operations = [
        (ADD, 0, "a", make_row(0, 5)),
        (ADD, 0, "b", make_row(1)),
        (MAP_TTL, 0, 9),
        (ADD, 0, "c", make_row(2)),
    ]
    driver.engine.apply(operations, 7, Watching())
    assert seen == [[(True, ALWAYS_LOOK), (False, NEVER)]] * 3
    assert (one.held, one.quiet_until, two.quiet_until) == (False, 5, NEVER)
    assert list(one.places) == [7, 7, 7]


def test_name_the_watched_maps() -> None:
    """E3: those whom operations are about and somebody watches, each once."""
    driver = Driver()
    one, two, three = (driver.map(name) for name in ("one", "two", "three"))
    one.watchers = two.watchers = {"somebody"}  # type: ignore[assignment]
    operations = [(MAP_TTL, no, NEVER) for no in (0, 2, 0, 9)]
    assert driver.engine.watched(operations) == [one]
    three.watchers = set()  # type: ignore[assignment]
    assert driver.engine.watched(operations) == [one]
    assert set(driver.engine.watched([*operations, (MAP_END, 1, 0, False)])) == {one, two}


def test_take_over_from_an_older_look() -> None:
    """R7: the states that handles hold go on with what a newer look found; of one that is gone they know the end."""
    before = Driver()
    kept, dropped, expired = before.map("kept"), before.map("dropped", 50), before.map("expired", 5)
    nameless = before.map(None)
    kept.watchers = watchers = {"somebody"}  # type: ignore[assignment]
    dropped.updated, expired.updated = 3, 4
    after = Driver()
    after.records = [before.records[0], (7, [(ADD, 0, "a", make_row(0, 9))]), before.records[3]]
    engine = after.replayed()
    new = engine.state(kept.sid)
    engine.take_over(before.engine, 5 * SECOND)
    assert engine.find("kept", 0) is engine.by_no(0) is engine.state(kept.sid) is kept
    assert engine.state(nameless.sid) is nameless
    assert kept.rows is new.rows
    assert (kept.counter, kept.quiet_until, kept.held, list(kept.places)) == (1, 9, False, [7])
    assert kept.watchers is watchers
    assert (dropped.ended, expired.ended) == ((3, False), (4, True))
    assert dropped.quiet_until == expired.quiet_until == ALWAYS_LOOK
    assert set(engine.states()) == {kept, nameless}


def test_read_an_item_without_the_lock() -> None:
    """T3: a present row at once before anything is due, and with a second look from then on."""
    driver = Driver()
    state = driver.map()
    driver.put(state, "a", ttl=5)
    driver.put(state, "b")
    assert driver.engine.row(state, "a", 5 * SECOND - 1) == state.rows["a"]
    assert driver.engine.row(state, "a", 5 * SECOND) is None
    assert driver.engine.row(state, "b", 5 * SECOND) == state.rows["b"]
    assert driver.engine.row(state, "c", 0) is None
    assert row_expires(state.rows["a"]) == 5 * SECOND

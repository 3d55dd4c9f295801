"""One map's books, without an engine: sorted rows, and all that is counted about them, held against a plain dict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgpack import packb
from sortedcontainers import SortedDict

from mapitem.item import NEVER, pack_row, row_expires
from mapitem.keyrange import KeyRange
from mapitem.state import ALWAYS_LOOK, ITEMS_PER_BLOCK, Draft, MapState, is_due

NAMES = [f"{letter}{tail}" for letter in "abcdefgh" for tail in ("", "1", "22")]
names = st.sampled_from(NAMES)
few_names = st.sampled_from("abcde")  # so that moves meet
expiries = st.just(NEVER) | st.integers(1, 12)


def make_row(number: int, updated: int, expires: int, size: int = 0) -> bytes:
    return pack_row(number, 0, updated, expires, packb("me"), packb({"x": "y" * size}))


def make_state(expires: int = NEVER) -> MapState:
    state = MapState(7, "MP" + "0" * 32, "m", "me", 0, 0, expires, 0, 0)
    state.rows._list._reset(4)  # so that few keys fill several lists
    return state


class Books:
    """A map's state and what it should be, by way of a plain dict."""

    def __init__(self, expires: int) -> None:
        self.state = make_state(expires)
        self.rows: dict[str, bytes] = {}
        self.counter = 0
        self.updated = 0

    def play(self, move: tuple[Any, ...]) -> None:
        kind, *fields = move
        getattr(self, kind)(*fields)
        self.check()

    def put(self, key: str, updated: int, expires: int, size: int, date: int | None) -> None:
        row = make_row(self.counter, updated, expires, size)
        assert self.state.put(key, row, date) == self.rows.get(key)
        self.rows[key] = row
        self._event(updated if date is None else date)

    def remove(self, key: str, date: int) -> None:
        if key in self.rows:
            assert self.state.remove(key, self.counter, date) == self.rows.pop(key)
            self._event(date)

    def expire(self, now: int) -> None:
        keys = self.due(now)
        if keys:
            self.state.expire(keys, self.counter, now)
            for key in keys:
                del self.rows[key]
                self._event(now)
            self.state.rows._list._reset(4)

    def lay(self, block: dict[str, int]) -> None:
        rows = {key: make_row(0, 0, expires) for key, expires in block.items()}
        self.state.lay(list(rows), list(rows.values()))
        self.rows.update(rows)

    def drop(self, key: str) -> None:
        if key in self.rows:
            assert self.state.drop(key) == self.rows.pop(key)

    def _event(self, date: int) -> None:
        self.counter += 1
        self.updated = max(self.updated, date)

    def due(self, now: int) -> list[str]:
        return sorted((key for key in self.rows if self._expiry(key) <= now), key=lambda key: (self._expiry(key), key))

    def _expiry(self, key: str) -> int:
        return row_expires(self.rows[key])

    def check(self) -> None:
        state = self.state
        assert dict(state.rows) == self.rows
        assert list(state.rows) == sorted(self.rows)
        assert (state.counter, state.updated) == (self.counter, self.updated)
        assert state.live_bytes == sum(len(key) + len(row) for key, row in self.rows.items())
        timed = [self._expiry(key) for key in self.rows if self._expiry(key) != NEVER]
        assert state.timed == len(timed)
        assert len(state.heap) <= 2 * len(timed) + 64
        assert state.quiet_until == min([state.expires, *timed])
        for now in (0, 1, 5, 6, 12, 13):
            assert state.due_keys(now) == self.due(now)


moves = (
    st.tuples(st.just("put"), few_names, st.integers(0, 9), expiries, st.integers(0, 3), st.none() | st.integers(0, 9))
    | st.tuples(st.just("remove"), few_names, st.integers(0, 9))
    | st.tuples(st.just("expire"), st.integers(0, 12))
    | st.tuples(st.just("lay"), st.dictionaries(few_names, expiries, max_size=6))
    | st.tuples(st.just("drop"), few_names)
)


@given(expires=expiries, plan=st.lists(moves, min_size=10, max_size=40))
@example(expires=NEVER, plan=[("put", "a", 0, 5, 0, None), ("put", "a", 0, NEVER, 0, None)])
@example(expires=NEVER, plan=[("put", "a", 0, 5, 0, None), ("put", "a", 0, 9, 0, None), ("put", "b", 0, 7, 0, None)])
@example(
    expires=NEVER, plan=[("put", "a", 0, NEVER, 0, None), ("lay", {"a": NEVER, "b": 3}), ("lay", {"a": 4, "b": NEVER})]
)
@example(expires=9, plan=[("put", "a", 0, 5, 0, None), ("put", "b", 0, 7, 0, None), ("remove", "a", 0), ("drop", "b")])
def test_keep_the_books(expires: int, plan: list[tuple[Any, ...]]) -> None:
    """R1, I4, T3, T4: rows, events, dates, sizes and what is due from when on are as a plain dict has them."""
    books = Books(expires)
    books.check()
    for move in plan:
        books.play(move)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_expire_few_of_many_and_many_of_few(count: int) -> None:
    """T4: whether the rest is kept in one pass or what is due taken out one by one, the books are the same."""
    books = Books(NEVER)
    for number in range(16):
        books.play(("put", f"k{number:02}", 0, number + 1, number % 3, None))
    books.play(("expire", count))
    assert len(books.rows) == 16 - count
    books.play(("expire", 16))
    assert books.rows == {}


@pytest.mark.parametrize("again", [False, True])
def test_expire_some_of_what_is_due(again: bool) -> None:
    """T4: what a record leaves out stays due, also if its dates say that it went: a log may be somebody else's."""
    books = Books(NEVER)
    for number in range(16):
        books.play(("put", f"k{number:02}", 0, 16 - number, 0, None))
    if again:  # so that an entry of the heap counts no more
        books.play(("put", "k00", 0, 20, 0, None))
    gone = [f"k{number:02}" for number in range(15, 3, -2)]
    books.state.expire(gone, books.counter, 12)
    for key in gone:
        del books.rows[key]
        books._event(12)
    books.check()
    books.play(("expire", 16))
    assert set(books.rows) == ({"k00"} if again else set())


def test_leave_what_is_due_while_an_entry_counts_no_more() -> None:
    """T4: an expiry that a row no longer has does not stand in for that of one which is left due."""
    books = Books(NEVER)
    for key, expires in (("a", 20), ("a", 5), ("b", 5)):
        books.play(("put", key, 0, expires, 0, None))
    books.state.expire(["b"], books.counter, 6)
    del books.rows["b"]
    books._event(6)
    books.check()


def test_order_what_expires_at_the_same_instants() -> None:
    """T4: in order of (expiry, key), also where very many share a few instants."""
    books = Books(NEVER)
    for number in range(40):
        books.play(("put", f"k{number * 7 % 40:02}", 0, (34, 16, 1)[number % 3], 0, None))
    assert books.state.due_keys(40) == books.due(40)
    assert books.state.due_keys(20) == books.due(20)
    books.play(("expire", 20))
    books.play(("expire", 40))
    assert books.rows == {}


def test_give_the_same_expiry_over_and_over() -> None:
    """T4: entries of the heap that count no more are dropped in time: it does not grow with the writes."""
    books = Books(NEVER)
    books.play(("put", "first", 0, 1, 0, None))
    for number in range(400):
        books.play(("put", "again", 0, 5 + number % 7, 0, None))
    books.play(("put", "again", 0, NEVER, 0, None))
    assert books.state.due_keys(100) == ["first"]
    books.play(("remove", "first", 0))
    assert books.state.heap == []


def test_say_that_a_row_expires_before_it_can_be_seen() -> None:
    """T3: a read that takes no lock finds no row that expires before it knows that one does."""
    state = make_state()
    seen = []

    class Watched(SortedDict):  # type: ignore[misc, type-arg, unused-ignore]
        def __setitem__(self, key: Any, row: Any) -> None:
            seen.append(state.quiet_until)
            super().__setitem__(key, row)

    state.rows = Watched()
    for key, expires in (("a", NEVER), ("b", 5), ("c", 9), ("d", 3)):
        state.put(key, make_row(0, 0, expires))
    assert seen == [NEVER, 5, 5, 3]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 24])
@pytest.mark.parametrize("descending", [False, True])
def test_walk_every_range(count: int, descending: bool) -> None:
    """L2: the keys of a half-open range in the order of the walk, and no more than were asked for.

    The keys lie in short lists, so that walks begin, end and are cut short at each place of each list.
    """
    state = make_state()
    state.rows._list._reset(2)
    keys = sorted(NAMES[:count])
    for key in keys:
        state.put(key, make_row(0, 0, NEVER))
    places = ["", *keys, *(key + "\0" for key in keys), "zz"]
    assert count < 24 or len(state.rows._list._lists) > 5
    for low in places:
        for high in [*places, None]:
            wanted = [key for key in keys if key >= low and (high is None or key < high)]
            if descending:
                wanted.reverse()
            for limit in (0, 1, 2, 3, 4, 7, 30):
                assert state.keys(KeyRange(low, high, descending), limit) == wanted[:limit]


@pytest.mark.parametrize("count", [0, 1, ITEMS_PER_BLOCK - 1, ITEMS_PER_BLOCK, ITEMS_PER_BLOCK + 1, 300])
def test_hand_out_blocks(count: int) -> None:
    """M1: a base has every row once, in blocks of at most 128, and an empty block says that there are no more."""
    state = make_state()
    rows = {f"k{number:03}": make_row(number, 0, NEVER) for number in range(count)}
    state.lay(list(rows), list(rows.values()))
    found: dict[str, bytes] = {}
    sizes = []
    after = None
    while True:
        keys, block = state.block(after)
        if not keys:
            assert block == []
            break
        sizes.append(len(keys))
        found.update(zip(keys, block, strict=True))
        after = keys[-1]
    assert found == rows
    assert all(size == 128 for size in sizes[:-1])
    assert sum(sizes) == count


def test_begin_with_nothing() -> None:
    """R2, T5: a new map is not over, nobody watches it, nothing is in it, and its name is how messages call it."""
    state = make_state(5)
    assert (state.ended, state.watchers, state.held, state.heap) == (None, None, False, [])
    assert (state.timed, state.live_bytes, state.counter, state.oldest, len(state.places)) == (0, 0, 0, 0, 0)
    assert (state.quiet_until, state.label) == (5, "'m'")
    assert MapState(1, "MPx", None, "me", 0, 0, NEVER, 0, 0).label == "MPx"


def test_be_due_from_the_instant_on() -> None:
    """T3: at the very instant of its expiry, an item is absent."""
    assert [is_due(5, now) for now in (4, 5, 6)] == [False, True, True]
    assert is_due(NEVER, NEVER - 1) is False


@pytest.mark.parametrize("state_of", ["held", "ended"])
def test_settle_what_nobody_may_read_without_a_look(state_of: str) -> None:
    """W7, T5: while a record of several operations is applied, and after the end, each read takes the long way."""
    state = make_state()
    setattr(state, state_of, True if state_of == "held" else (1, False))
    state.quiet_until = ALWAYS_LOOK
    state.settle()
    assert state.quiet_until == ALWAYS_LOOK
    state.ended, state.held = None, False
    state.settle()
    assert state.quiet_until == NEVER
    assert ALWAYS_LOOK == -(2**63)  # below every instant of 64 bits


def test_forget_history() -> None:
    """F2: the feed begins with the next event, and no place of an earlier one is kept."""
    state = make_state()
    state.counter = 5
    state.places.extend([1, 2, 3])
    state.forget_history()
    assert (state.oldest, len(state.places), state.counter) == (5, 0, 5)


def test_draft_what_a_batch_leaves() -> None:
    """W7: a draft shows what its operations leave, counts them as events, and leaves the map as it was."""
    state = make_state(9)
    for number, key in enumerate("abc"):
        state.put(key, make_row(number, 0, 4))
    draft = Draft(state, "abcd")
    assert (draft.no, draft.sid, draft.name, draft.label) == (state.no, state.sid, state.name, state.label)
    assert (draft.ended, draft.expires, draft.counter, draft.quiet_until) == (None, 9, 3, 4)
    assert draft.due_keys(4) == ["a", "b", "c"]
    row = make_row(9, 0, NEVER)
    draft.take([(4, 7, ["a", "b"], 3, 5)])
    assert (draft.counter, draft.quiet_until) == (5, NEVER)
    draft.take([(1, 7, "a", row), (3, 7, "c", 6, 5), (6, 7, 99)])
    assert draft.counter == 7
    assert [draft.rows.get(key) for key in "abcd"] == [row, None, None, None]
    draft.take([(2, 7, "c", row)])
    assert (draft.counter, draft.rows.get("c")) == (8, row)
    assert (list(state.rows), state.counter) == (["a", "b", "c"], 3)

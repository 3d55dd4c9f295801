"""``check_linearizability``: histories written by hand, random ones against brute force, and real threads.

Real threads take turns every few instructions here, and every run of theirs is judged, however it went.
"""

from __future__ import annotations

import io
import json
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapitem import ItemExists, ItemNotFound, Map, MapItemError, RevisionMismatch, Store
from mapitem.testing import (
    FaultyStore,
    ManualClock,
    RateLimitExceeded,
    Recorder,
    Violation,
    check_linearizability,
    check_trace,
    linearizability,
)
from mapitem.testing.linearizability import State, Step, _after, _search
from mapitem.testing.trace import RecordedMap

HEAD = '{"trace":"mapitem","format":1,"identity":"system","max_key_chars":320,"max_data_bytes":16384}'


# ---------------------------------------------------------------- by hand


def item(key: str, data: Any, revision: str) -> dict[str, Any]:
    return {"$": "item", "key": key, "data": data, "revision": revision, "date_expires": None}


def line(begin: int, end: int, call: str, *args: Any, result: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "n": begin, "end": end, "thread": begin, "now": 0.0, "call": call, "map": "MP", "args": list(args),
        "kwargs": {}, "result": result, **more,
    }  # fmt: skip


def judge(*lines: dict[str, Any]) -> Violation | None:
    return check_linearizability([HEAD, *map(json.dumps, lines)])


def written(begin: int, end: int, x: int, revision: str) -> dict[str, Any]:
    return line(begin, end, "set", "a", {"x": x}, result=item("a", {"x": x}, revision))


def read(begin: int, end: int, x: int | None, revision: str = "") -> dict[str, Any]:
    return line(begin, end, "get", "a", result=None if x is None else item("a", {"x": x}, revision))


def test_take_calls_that_do_not_overlap_in_their_order() -> None:
    """A read that began when a write had ended sees it; one that had ended before does not."""
    assert judge(read(1, 2, None), written(3, 4, 1, "0"), read(5, 6, 1, "0")) is None
    assert judge(read(1, 2, 1, "0"), written(3, 4, 1, "0")) is not None
    assert judge(written(1, 2, 1, "0"), read(3, 4, None)) is not None
    stale = judge(written(1, 2, 1, "0"), written(3, 4, 2, "1"), read(5, 6, 1, "0"))
    assert stale is not None
    assert (stale.map, stale.key) == ("MP", "a")
    assert 'line 4: get("a") -> {"x": 1} at 0' in str(stale)


def test_take_calls_that_overlap_in_any_order() -> None:
    """Either of two writes at once may come first, and a read at once with one may see it or not."""
    for first, second in (("0", "1"), ("1", "0")):
        last = 2 if second == "1" else 1
        assert judge(written(1, 4, 1, first), written(2, 3, 2, second), read(5, 6, last, "1")) is None
        assert judge(written(1, 4, 1, first), written(2, 3, 2, second), read(5, 6, 3 - last, "0")) is not None
    for seen in (None, 1):
        assert judge(written(1, 4, 1, "0"), read(2, 3, seen, "0")) is None


def test_refuse_to_see_and_unsee() -> None:
    """Of two reads, one after the other, the later must not see the older state."""
    assert judge(written(1, 8, 1, "0"), read(2, 3, None), read(4, 5, 1, "0")) is None
    assert judge(written(1, 8, 1, "0"), read(2, 3, 1, "0"), read(4, 5, None)) is not None


def test_refuse_a_lost_update() -> None:
    """W4: two increments of the same number cannot both have been made."""

    def increment(begin: int, end: int, given: int, revision: str) -> dict[str, Any]:
        calls = [{"given": {"x": given}, "returned": {"x": given + 1}, "now": 0.0}]
        return line(begin, end, "mutate", "a", calls=calls, result=item("a", {"x": given + 1}, revision))

    assert judge(written(1, 2, 0, "0"), increment(3, 6, 0, "1"), increment(4, 5, 1, "2")) is None
    assert judge(written(1, 2, 0, "0"), increment(3, 6, 0, "1"), increment(4, 5, 0, "2")) is not None


def test_refuse_two_that_hold_the_same_condition() -> None:
    """C1: of two writes on the same revision one fails, and tells the revision of the other."""

    def conditional(begin: int, end: int, x: int, revision: str | None, actual: str = "") -> dict[str, Any]:
        error = {"type": "RevisionMismatch", "actual": actual}
        answer = {"result": item("a", {"x": x}, revision)} if revision else {"result": None, "error": error}
        return line(begin, end, "set", "a", {"x": x}, **answer) | {"kwargs": {"if_match": "0"}}

    assert judge(written(1, 2, 0, "0"), conditional(3, 6, 1, "1"), conditional(4, 5, 2, None, "1")) is None
    assert judge(written(1, 2, 0, "0"), conditional(3, 6, 1, "1"), conditional(4, 5, 2, None, "7")) is not None
    assert judge(written(1, 2, 0, "0"), conditional(3, 6, 1, "1"), conditional(4, 5, 2, "2")) is not None
    assert judge(written(1, 2, 0, "0"), conditional(3, 4, 1, None, "0")) is not None


def test_refuse_two_that_created_the_same_item() -> None:
    """W1: there is one winner."""
    one = line(1, 4, "create", "a", {}, result=item("a", {}, "0"))
    other = line(2, 3, "create", "a", {}, result=item("a", {}, "1"))
    late = line(2, 3, "create", "a", {}, error={"type": "ItemExists", "revision": "0"})
    assert judge(one, late) is None
    assert judge(one, other) is not None


def test_refuse_an_item_removed_twice() -> None:
    """W5: what was removed is what was there, and is gone."""

    def removed(begin: int, end: int, revision: str | None) -> dict[str, Any]:
        answer = {"result": item("a", {"x": 0}, revision)} if revision else {"error": {"type": "ItemNotFound"}}
        return line(begin, end, "remove", "a", **answer)

    assert judge(written(1, 2, 0, "0"), removed(3, 6, "0"), removed(4, 5, None)) is None
    assert judge(written(1, 2, 0, "0"), removed(3, 6, "0"), removed(4, 5, "0")) is not None
    assert judge(written(1, 2, 0, "0"), removed(3, 4, "1")) is not None
    assert judge(removed(1, 2, "0")) is not None


def test_refuse_revisions_out_of_order() -> None:
    """R1, R2: over all the keys of a map, no number is given twice, and later writes have greater ones."""

    def on(key: str, begin: int, end: int, revision: str) -> dict[str, Any]:
        return line(begin, end, "set", key, {}, result=item(key, {}, revision))

    assert judge(on("a", 1, 2, "0"), on("b", 3, 4, "1")) is None
    assert judge(on("a", 1, 2, "1"), on("b", 3, 4, "0")) is not None
    assert judge(on("a", 1, 4, "1"), on("b", 2, 3, "0")) is None
    assert judge(on("a", 1, 4, "1"), on("b", 2, 3, "1")) is not None
    assert judge(on("a", 1, 2, "1"), on("b", 3, 4, "0") | {"map": "other"}) is None


def test_judge_what_batches_wrote_and_listings_found() -> None:
    """W7, L2, L4: the writes of a batch, and each item of a range or page, are calls on their keys."""
    writes = [{"call": "set", "map": "MP", "args": ["a", {"x": 1}], "kwargs": {}}]
    batch = line(1, 2, "batch", writes=writes, result=[item("a", {"x": 1}, "0")])
    for call, wrapped in (("range", lambda items: items), ("page", lambda items: {"items": items})):
        assert judge(batch, line(3, 4, call, result=wrapped([item("a", {"x": 1}, "0")]))) is None
        assert judge(batch, line(3, 4, call, result=wrapped([item("a", {"x": 2}, "0")]))) is not None


def test_leave_out_what_was_not_made() -> None:
    """Calls that failed for the disk's sake were not made; others than on items are not judged."""
    failed = written(3, 4, 2, "1") | {"outside": True, "error": {"type": "OSError"}}
    assert judge(written(1, 2, 1, "0"), failed, read(5, 6, 1, "0"), line(7, 8, "__len__", result=99)) is None
    bad = line(3, 4, "set", "", {}, error={"type": "InvalidKey"})
    assert judge(written(1, 2, 1, "0"), bad, read(5, 6, 1, "0")) is None


def test_refuse_to_judge_what_it_cannot() -> None:
    """An outcome that nobody knows, and time to live that ends within the history."""
    with pytest.raises(ValueError, match="line 3: it is unknown"):
        judge(written(1, 2, 1, "0"), written(3, 4, 2, "1") | {"outcome_unknown": True})
    expiring = line(1, 2, "set", "a", {}, result=item("a", {}, "0") | {"date_expires": "1970-01-01T00:00:05+00:00"})
    assert judge(expiring, read(3, 4, None) | {"now": 4.9}) is not None
    with pytest.raises(ValueError, match="line 2: an item expires"):
        judge(expiring, read(3, 4, None) | {"now": 5.0})


# ---------------------------------------------------------------- against brute force


def explained(steps: list[Step]) -> bool:
    """Whether any order at all explains the steps: all of them are tried."""
    for order in permutations(steps):
        if any(later.end < earlier.begin for at, earlier in enumerate(order) for later in order[at + 1 :]):
            continue
        state: State | None = State()
        for step in order:
            state = _after(state, step)
            if state is None:
                break
        else:
            return True
    return False


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """Up to five overlapping calls with answers that are likely to be right."""
    count = draw(st.integers(1, 5))
    places = draw(st.permutations(range(2 * count)))
    found = st.none() | st.tuples(st.sampled_from(['{"x": 0}', '{"x": 1}']), st.sampled_from("0123"))
    steps = []
    for at in range(count):
        begin, end = sorted(places[2 * at : 2 * at + 2])
        verb = draw(st.sampled_from(["read", "set", "set", "create", "remove"]))
        answer = draw(found)
        given = json.loads(answer[0]) if answer and verb in ("set", "create") else {}
        error = None if answer or verb == "read" else {"create": "ItemExists", "remove": "ItemNotFound"}.get(verb)
        steps.append(Step(begin, end, at, verb, verb, given, None, answer, error, draw(st.sampled_from("0123"))))
    return steps


@settings(max_examples=200)
@given(histories())
def test_find_an_order_exactly_where_there_is_one(history: list[Step]) -> None:
    """The search finds an order if, and only if, going through all of them does."""
    assert (_search("MP", "a", history) is None) == explained(history)


def test_remember_where_it_has_been(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten reads at once can come in 3 628 800 orders, and leave 1024 sets of what is done: only these are tried."""
    looks = 0

    def counted(state: State, step: Step) -> State | None:
        nonlocal looks
        looks += 1
        assert looks < 20_000
        return _after(state, step)

    monkeypatch.setattr(linearizability, "_after", counted)
    reads = [Step(at, 100 + at, at, "read", "read") for at in range(10)]
    impossible = Step(50, 150, 10, "read", "read", found=("{}", "0"))
    assert _search("MP", "a", reads) is None
    assert _search("MP", "a", [*reads, impossible]) is not None


# ---------------------------------------------------------------- real threads


@pytest.fixture
def switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run(works: list[Callable[[], object]]) -> None:
    start = threading.Barrier(len(works))

    def begin(work: Callable[[], object]) -> None:
        start.wait(60)
        work()

    threads = [threading.Thread(target=begin, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)


def do_anything(
    map_: RecordedMap, store: Any, seed: int, count: int, wait: Callable[[], object] = lambda: None
) -> None:
    """Calls of every kind on two keys, by what was read before, as a program's would be; ``wait`` before each."""
    draw = random.Random(seed)
    known: str | None = None
    for at in range(count):
        key = draw.choice("ab")
        condition = draw.choice([None, None, "*", known])
        wait()
        with suppress(MapItemError, OSError):
            match draw.randrange(9):
                case 0 | 1:
                    item = map_.get(key)
                    known = item.revision if item else known
                case 2:
                    known = map_.set(key, {"by": seed, "at": at}, if_match=condition).revision
                case 3:
                    map_.update(key, {f"{seed}": at}, if_match=condition)
                case 4:
                    map_.mutate(key, lambda data: data | {"n": data.get("n", 0) + 1})
                case 5:
                    map_.create(key, {"created": seed})
                case 6:
                    map_.remove(key, if_match=condition)
                case 7:
                    with store.batch() as batch:
                        batch.set(map_, "a", {"batch": at})
                        batch.update(map_, "b", {"batch": at})
                case 8:
                    list(map_.range())


@pytest.mark.usefixtures("switch_often")
@pytest.mark.parametrize("seed", range(3))
def test_find_the_store_linearizable(backing: str, tmp_path: Path, seed: int) -> None:
    """S4, L3: whatever four threads do to two keys, some order of it explains what each of them saw."""
    file = io.StringIO()
    recorder = Recorder(file, clock=ManualClock(1_700_000_000.0))
    path = None if backing == "memory" else tmp_path / "s.mapitem"
    with recorder.wrap(FaultyStore(path, clock=recorder.clock)) as store:
        map_ = store.map("m")
        store.faults.fail_append(times=5, after=20)
        wait = threading.Barrier(4, timeout=60).wait
        run([lambda thread=thread: do_anything(map_, store, 10 * seed + thread, 40, wait) for thread in range(4)])
    lines = file.getvalue().splitlines()
    calls = sorted((json.loads(line) for line in lines[1:]), key=lambda call: call["n"])
    overlaps = sum(one["end"] > other["n"] for one, other in pairwise(calls))
    assert overlaps, "the threads ran one after the other"
    assert str(check_linearizability(lines)) == "None"


class LookThenWrite(Map):
    """A map whose conditional writes look first and write then, as one would over a plain key-value store."""

    __slots__ = ("between",)

    def set(self, key: str, data: Any, **options: Any) -> Any:
        if_match = options.pop("if_match", None)
        if if_match is not None:
            found = self.get(key)
            if found is None:
                raise ItemNotFound("absent", key=key)
            if if_match not in ("*", found.revision):
                raise RevisionMismatch("another", key=key, expected=if_match, actual=found.revision)
            self.between()
        return super().set(key, data, **options)

    def create(self, key: str, data: Any, **options: Any) -> Any:
        found = self.get(key)
        if found is not None:
            raise ItemExists("there", key=key, revision=found.revision)
        self.between()
        return super().set(key, data, **options)

    def mutate(self, key: str, fn: Any, **options: Any) -> Any:
        found = self.get(key)
        data = fn({} if found is None else found.data)
        self.between()
        return super().set(key, data)

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, default)


@pytest.mark.parametrize("verb", ["set", "create", "mutate"])
def test_catch_a_store_that_is_not_atomic(verb: str) -> None:
    """C1, W1, W4: two threads that both look before either writes are found out, at every run."""
    file = io.StringIO()
    recorder = Recorder(file, clock=ManualClock(1_700_000_000.0))
    plain = Store(clock=recorder.clock).map("m")
    careless = LookThenWrite(plain._store, plain._state)
    careless.between = lambda: None
    map_ = RecordedMap(recorder, careless)
    if verb != "create":
        map_.set("k", {"n": 0})
    careless.between = threading.Barrier(2, timeout=60).wait
    calls: dict[str, Callable[[int], Any]] = {
        "set": lambda me: map_.set("k", {"by": me}, if_match="0"),
        "create": lambda me: map_.create("k", {"by": me}),
        "mutate": lambda me: map_.mutate("k", lambda data: {"n": data["n"] + 1}),
    }
    run([lambda me=me: calls[verb](me) for me in range(2)])
    found = check_linearizability(file.getvalue().splitlines())
    assert found is not None
    assert found.key == "k"
    assert any(f"{verb}(" in call for call in found.calls)


def test_record_what_one_thread_does_for_both_checks() -> None:
    """A trace of one thread is good for the one check and the other, rates and conditions and all."""
    file = io.StringIO()
    recorder = Recorder(file, clock=ManualClock(1_700_000_000.0))
    store = recorder.wrap(FaultyStore(clock=recorder.clock))
    map_ = store.map("m")
    do_anything(map_, store, 1, 60)
    store.faults.limit_rates(per_second=1, window_seconds=1)
    map_.set("a", {})
    with pytest.raises(RateLimitExceeded):
        map_.set("a", {"x": 1})
    do_anything(map_, store, 2, 20)
    lines = file.getvalue().splitlines()
    assert (check_trace(lines), check_linearizability(lines)) == (None, None)

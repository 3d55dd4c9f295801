"""A look-up in the middle of a write, and a write in the middle of a look-up, at each instruction of either (L3, T3).

Look-ups take no lock, so that what another thread does may come between any two of their instructions. Here it does,
at one after the other, on one thread: what runs is traced instruction by instruction, and the other call is made in
between. Where it would have to wait for the lock it is told so, for it would wait for itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

import pytest

import mapitem
import mapitem.engine
import mapitem.state
from mapitem import Map, MapNotFound, ReentrantUse, Store
from mapitem.testing import ManualClock

HOME = str(Path(mapitem.__file__).parent)


def at_each_instruction(call: Callable[[], object], between: Callable[[], None]) -> None:
    """Make the call, and the other before each instruction of the library in it."""

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(HOME):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            between()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)


def answer(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except MapNotFound:
        return "no map"
    except ReentrantUse:
        return "waits"


# ---------------------------------------------------------------- look-ups within a write


@pytest.mark.parametrize("due", [1, 2, 40, 99])
@pytest.mark.parametrize("verb", ["purge", "set", "batch"])
def test_look_up_while_what_is_due_is_removed(store: Store, map_: Map, clock: ManualClock, due: int, verb: str) -> None:
    """T3: what is due is absent and the rest present at each instruction of the purge; nobody waits for it."""
    for number in range(100):
        map_.set(f"{number:02}", {}, ttl=10 if number < due else 60)
    rest = {f"{number:02}": map_[f"{number:02}"] for number in range(due, 100)}
    clock.advance(10)
    probed = ["00", f"{due - 1:02}", f"{due:02}", "99"]
    seen: set[tuple[Any, ...]] = set()

    def look() -> None:
        seen.add(tuple(answer(partial(map_.get, key)) for key in probed))

    def write() -> None:
        if verb == "purge":
            assert map_.purge() == due
        elif verb == "set":
            map_.set("new", {})
        else:
            with store.batch() as batch:
                batch.set(map_, "new", {})

    at_each_instruction(write, look)
    assert seen == {(None, None, rest[probed[2]], rest["99"])}
    assert list(map_) == sorted([*rest, *(["new"] if verb != "purge" else [])])


@pytest.mark.parametrize("due", [1, 2, 40, 99])
def test_see_a_purge_whole_or_not_at_all(
    map_: Map, clock: ManualClock, due: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T4: by a clock that goes back while it runs, too, either all that it removes is there or nothing.

    A purge of very many takes them out in portions, in between which others run.
    """
    monkeypatch.setattr(mapitem.state, "_PORTION", 7)
    for number in Random(1).sample(range(100), 100):
        map_.set(f"{number:02}", {}, ttl=10 if number < due else 60)
    clock.advance(10)
    seen: list[set[bool]] = []

    def look() -> None:
        now = clock()
        clock.set(now - 5)
        seen.append({f"{number:02}" in map_ for number in range(due)})
        clock.set(now)

    at_each_instruction(map_.purge, look)
    assert [found for found in seen if len(found) != 1] == []
    assert (seen[0], seen[-1]) == ({True}, {False})
    assert [event.key for event in map_.changes("64")] == [f"{number:02}" for number in range(due)]
    # And when it is over, that clock is right again.
    clock.set(clock() - 5)
    map_.set("first", {}, ttl=1)
    map_.set("next", {}, ttl=2)
    clock.advance(1)
    assert ("first" in map_, "next" in map_) == (False, True)


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("back", [0, 15], ids=["by the same clock", "by one that went back"])
@pytest.mark.parametrize(("due", "rest"), [(20, 20), (4, 40)])
def test_read_on_after_a_purge_that_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, due: int, rest: int, back: int, first: int
) -> None:
    """F2, F3: reads go on in a store that failed in the middle of a purge, at whatever line of it, and agree.

    What had been taken out was still in the order of the keys, and a walk raised KeyError; or the order was being made
    anew, and a walk found nothing.
    """
    monkeypatch.setattr(mapitem.state, "_PORTION", 4)
    of_purge = lambda code: code is mapitem.state.MapState.expire.__code__  # noqa: E731
    keys = [f"{number:02}" for number in range(due + rest)]
    lines = set()
    for at in count(1):
        clock = ManualClock()
        map_ = Store(clock=clock).map("m")
        for number in range(due + rest):
            map_.set(f"{number:02}", {}, ttl=10 if number < due else 60 if number % 2 else None)
        clock.advance(20)
        line = interrupted_at(at, of_purge, map_.purge)
        if line is None:
            break
        lines.add(line)
        clock.set(clock() - back)
        # Looked up first without the lock; then counted and walked, whichever comes first.
        assert [key for key in keys if key in map_] in (keys[due:], keys if back else None), line
        looks: list[Callable[[], list[str]]] = [
            partial(list, map_),
            lambda map_=map_: list(reversed(map_))[::-1],  # type: ignore[misc]
            lambda map_=map_: [item.key for item in map_.page(page_size=99).items],  # type: ignore[misc]
            lambda map_=map_: keys[len(keys) - len(map_) :],  # type: ignore[misc]
        ]
        found = [look() for look in looks[first:] + looks[:first]]
        looked_up = [key for key in keys if key in map_]
        assert looked_up in (keys[due:], keys if back else None), line
        assert found == [looked_up] * 4, line
    assert len(lines) > 10


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("verb", ["set", "remove", "batch"])
def test_read_on_after_a_write_that_was_interrupted_in_memory(verb: str, first: int) -> None:
    """F2, F3: reads go on, and agree, in a store that failed while a write was being applied, or sorted in.

    There the key was in the order and the row was not: a walk raised KeyError. Or the event was counted, and
    its place not noted: the feed raised IndexError.
    """
    applying = {"apply", "_apply", "put", "drop", "remove"}

    def in_memory(code: CodeType) -> bool:
        return "sortedcontainers" in code.co_filename or (
            code.co_name in applying and code.co_filename in (mapitem.engine.__file__, mapitem.state.__file__)
        )

    keys = [f"{number:02}" for number in range(30)]
    lines = set()
    for at in count(1):
        store = Store()
        map_ = store.map("m")
        for key in keys:
            map_.set(key, {})

        def write(store: Store = store, map_: Map = map_) -> None:
            if verb == "set":
                map_.set("100", {})
            elif verb == "remove":
                map_.remove("10")
            else:
                with store.batch() as batch:
                    batch.remove(map_, "10")
                    batch.set(map_, "100", {})

        line = interrupted_at(at, in_memory, write)
        if line is None:
            break
        lines.add(line)
        looks: list[Callable[[], list[str]]] = [
            partial(list, map_),
            lambda map_=map_: list(reversed(map_))[::-1],  # type: ignore[misc]
            lambda map_=map_: [item.key for item in map_.page(page_size=99).items],  # type: ignore[misc]
        ]
        found = [look() for look in looks[first:] + looks[:first]]
        looked_up = [key for key in sorted([*keys, "100"]) if key in map_]
        assert found == [looked_up] * 3, line
        assert (len(map_), set(keys) - {"10"} <= set(looked_up)) == (len(looked_up), True)
        assert len(list(map_.changes())) >= 30
    assert len(lines) > 3


def interrupted_at(at: int, within: Callable[[CodeType], bool], call: Callable[[], object]) -> int | None:
    """Make the call and raise in front of a line within such code, the one with this number; which, if it came."""
    passed, where = 0, None

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal passed, where
        if not within(frame.f_code):
            return None
        passed += event == "line"
        if passed == at and where is None:
            where = frame.f_lineno
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return where


# ---------------------------------------------------------------- a write within a look-up


def _purge(store: Store, map_: Map, clock: ManualClock) -> None:
    map_.purge()


def _pass_and_purge(store: Store, map_: Map, clock: ManualClock) -> None:
    clock.advance(20)
    map_.purge()


def _write(store: Store, map_: Map, clock: ManualClock) -> None:
    map_.set("due", {"new": 1}, ttl=5)


def _write_both(store: Store, map_: Map, clock: ManualClock) -> None:
    with store.batch() as batch:
        batch.set(map_, "due", {"new": 1}, ttl=5)
        batch.set(map_, "there", {"new": 2}, ttl=0)


def _remove(store: Store, map_: Map, clock: ManualClock) -> None:
    map_.remove("there")


def _end(store: Store, map_: Map, clock: ManualClock) -> None:
    map_.remove_map()


def _expire(store: Store, map_: Map, clock: ManualClock) -> None:
    map_.set_ttl(5)
    clock.advance(20)
    store.purge()


def _look_up(write: Callable[[Store, Map, ManualClock], None], timed: str, key: str, place: int) -> tuple[Any, ...]:
    """What a look-up finds before the write, with the write at that instruction of it, and after; and whether it came.

    Where the look-up holds the lock the write waits for the next instruction at which it does not.
    """
    clock = ManualClock()
    store = Store(clock=clock)
    map_ = store.map("m")
    map_.set("there", {}, ttl=None if timed == "nothing" else 15)
    if timed == "due":
        map_.set("due", {}, ttl=10)
        clock.advance(10)
    look = partial(answer, partial(map_.get, key))
    before, found, passed, has_come = look(), [], 0, False

    def come_between() -> None:
        nonlocal passed, has_come
        if passed >= place and not has_come and not store._lock._is_owned():  # type: ignore[attr-defined]
            write(store, map_, clock)
            has_come = True
        passed += 1

    at_each_instruction(lambda: found.append(look()), come_between)
    return before, found[0], look(), has_come


@pytest.mark.parametrize("write", [_purge, _pass_and_purge, _write, _write_both, _remove, _end, _expire])
@pytest.mark.parametrize("timed", ["nothing", "later", "due"])
@pytest.mark.parametrize("key", ["due", "there", "never"])
def test_write_in_the_middle_of_a_look_up(
    write: Callable[[Store, Map, ManualClock], None], timed: str, key: str
) -> None:
    """L3: wherever in a look-up a write comes, the answer is that of before the write or that of after it.

    Once the end of a map between two instructions made a look-up find nothing where the item had been until then.
    """
    for place in count():
        before, found, after, has_come = _look_up(write, timed, key, place)
        if not has_come:
            break
        assert found in (before, after), f"at instruction {place}"
    assert place > 10

"""Traces: what is recorded can be read and replayed, what went by the rules is found to have, and nothing else is."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapitem import (
    DataTooLarge,
    Event,
    InvalidData,
    ItemNotFound,
    Limits,
    Map,
    MapItem,
    MapItemError,
    MapNotFound,
    Page,
    RevisionMismatch,
    Store,
)
from mapitem.testing import Difference, FaultyStore, ManualClock, RateLimitExceeded, Recorder, check_trace
from mapitem.testing import strategies as some
from mapitem.testing.oracle import same
from mapitem.testing.trace import RecordedMap, RecordedStore, read_trace
from mapitem.testing.trace_values import from_json, to_json

NOW = 1_700_000_000.0


class Tape:
    """A recorder on a string, a clock, and a store of the given make that is recorded."""

    def __init__(self, make_store: Callable[..., Any] = Store, **options: Any) -> None:
        self.file = io.StringIO()
        self.clock = ManualClock(NOW)
        self.recorder = Recorder(self.file, clock=self.clock, **options)
        self.inner = make_store(clock=self.recorder.clock, **options)
        self.store: RecordedStore = self.recorder.wrap(self.inner)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()

    def check(self) -> Difference | None:
        return check_trace(self.lines)


@pytest.fixture
def tape() -> Tape:
    return Tape()


# ---------------------------------------------------------------- any run


def attempt(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (MapItemError, ValueError, TypeError) as error:
        return error


bad_calls = st.one_of(
    st.builds(lambda key: some.Operation("set", (key, {})), some.bad_keys()),
    st.builds(lambda data: some.Operation("set", ("a", data[0])), some.bad_data()),
    st.builds(lambda data: some.Operation("update", ("a", data)), some.bad_edge_data()),
    st.builds(lambda ttl: some.Operation("set", ("a", {}), {"ttl": ttl}), some.bad_ttls()),
    st.builds(lambda revision: some.Operation("remove", ("a",), {"if_match": revision}), some.bad_revisions()),
    st.builds(lambda size: some.Operation("page", (), {"page_size": size}), some.bad_page_sizes()),
    st.sampled_from([some.Operation("range", (), {"order": "up"}), some.Operation("page", (), {"page_token": "x"})]),
)
moves = st.one_of(
    some.operations(),
    some.operations(),
    bad_calls,
    st.sampled_from(["advance", "back", "turn pages", "changes", "batch", "compact", "purge", "look", "remove map"]),
)


def move(tape: Tape, map_: Any, what: Any, at: int) -> None:
    if isinstance(what, some.Operation):
        attempt(lambda: what(map_))
    elif what == "advance":
        tape.clock.advance(0.75)
    elif what == "back":
        tape.clock.advance(-1.5)
    elif what == "turn pages":
        page = attempt(lambda: map_.page(page_size=1))
        for _ in range(3):
            if isinstance(page, Page) and page.next_page_token:
                page = attempt(lambda page=page: map_.page(page_size=1, page_token=page.next_page_token))
        if isinstance(page, Page) and page.previous_page_token:
            attempt(lambda: map_.page(page_token=page.previous_page_token))
    elif what == "changes":
        attempt(lambda: list(map_.changes(f"{at % 5:x}")))
    elif what == "batch":

        def batch() -> None:
            with tape.store.batch() as writes:
                writes.set(map_, "a", {"at": at}, ttl=2)
                writes.update(map_, "b", {"x": {}}, if_match=None if at % 3 else "3")
                writes.remove(map_, "c" if at % 2 else "a")

        attempt(batch)
    elif what == "compact":
        tape.store.compact()
    elif what == "purge":
        tape.store.purge()
    elif what == "look":
        attempt(lambda: (map_.revision, map_.date_updated, map_.date_expires, map_.created_by, map_.date_created))
        attempt(lambda: (list(map_), list(map_.values()), "a" in map_, len(map_), map_.get("a"), bool(map_)))
    elif what == "remove map":
        attempt(map_.remove_map)


@settings(max_examples=120)
@given(st.lists(st.tuples(moves, st.booleans()), max_size=25))
def test_find_no_fault_in_what_the_store_does(steps: list[tuple[Any, bool]]) -> None:
    """Whatever is done with the library's own store, the trace of it goes by the rules."""
    tape = Tape()
    maps = [tape.store.map("m"), tape.store.create_map(ttl=3)]
    for at, (what, which) in enumerate(steps):
        move(tape, maps[which], what, at)
        if what == "remove map" and not which:
            maps[0] = tape.store.map("m")
        if at % 7 == 0:
            list(tape.store.maps())
            attempt(lambda: tape.store.open_map(maps[1].sid))
    assert str(tape.check()) == "None"


@settings(max_examples=30)
@given(st.lists(some.writes(), min_size=3, max_size=15), st.data())
def test_find_whatever_was_changed(operations: list[some.Operation], draw: st.DataObject) -> None:
    """A trace with any one answer tampered with does not go by the rules any more, which is told at its line."""
    tape = Tape()
    map_ = tape.store.map("m")
    for operation in operations:
        attempt(lambda operation=operation: operation(map_))
        tape.clock.advance(0.25)
    list(map_.range())
    lines = tape.lines
    at = draw.draw(st.integers(2, len(lines) - 1))
    line = json.loads(lines[at])
    tampered = draw.draw(st.sampled_from(["nothing", "revision", "error"]))
    if "error" in line:
        line["error"]["type"] = "StoreBroken"
    elif tampered == "error":
        line["error"] = {"type": "ItemNotFound", "status": 404, "code": 54201, "key": "no such"}
        del line["result"]
    elif isinstance(line["result"], dict) and tampered == "revision":
        line["result"]["revision"] += "0"
    else:
        line["result"] = {"never": "so"}
    lines[at] = json.dumps(line)
    found = check_trace(lines)
    assert found is not None
    assert found.line == at + 1
    assert found.rules


# ---------------------------------------------------------------- mutate


def test_replay_what_fn_was_given_and_returned(tape: Tape) -> None:
    """W4: calls, retries, ``None``, exceptions, calls of the store from within and time that passes meanwhile."""
    map_ = tape.store.map("m")
    map_.set("a", {"n": 0}, ttl=10)
    map_.set("b", {})
    calls = []

    def meddle(data: dict[str, Any]) -> dict[str, Any]:
        calls.append(data)
        if len(calls) < 3:
            map_.update("a", {"n": len(calls)})
            tape.clock.advance(1)
        data["seen"] = len(calls)
        return data

    assert map_.mutate("a", meddle).data == {"n": 2, "seen": 3}
    assert map_.mutate("a", lambda data: None).data == {"n": 2, "seen": 3}
    assert map_.mutate("none", lambda data: None) is None
    for fn, error in (
        (lambda data: data.clear(), TypeError),
        (lambda data: 1 // 0, ZeroDivisionError),
        (lambda data: (_ for _ in ()).throw(ItemNotFound("x", key="k")), ItemNotFound),
        (lambda data: {"x": ()}, InvalidData),
        (lambda data: map_.remove("b") and {"x": ()}, InvalidData),
        (None, TypeError),
    ):
        with pytest.raises(error):
            map_.mutate("a", fn)
    map_.set("a", {}, ttl=1)
    calls.clear()

    def dawdle(data: dict[str, Any]) -> dict[str, Any]:
        calls.append(data)
        tape.clock.advance(1)
        return {"late": True}

    late = map_.mutate("a", dawdle)  # the item expires meanwhile: fn is asked again, about nothing
    assert (calls, late.date_created.timestamp()) == ([{}, {}], tape.clock())
    with pytest.raises(RevisionMismatch):
        map_.mutate("a", lambda data: {"x": map_.set("a", {}).revision}, max_attempts=2)
    assert str(tape.check()) == "None"


class Blind(Map):
    """One whose ``mutate`` writes without looking whether the item changed meanwhile."""

    __slots__ = ()

    def mutate(self, key: str, fn: Any, **options: Any) -> Any:
        return self.set(key, fn(self[key].data))


class Insistent(Map):
    """One whose ``mutate`` asks twice."""

    __slots__ = ()

    def mutate(self, key: str, fn: Any, **options: Any) -> Any:
        super().mutate(key, lambda data: fn(data) and None, **options)
        return super().mutate(key, fn, **options)


def recorded_map(tape: Tape, kind: type[Map]) -> Any:
    plain = tape.inner.open_map(tape.store.map("m").sid)
    return RecordedMap(tape.recorder, kind(plain._store, plain._state))


def test_find_a_mutate_that_loses_a_write(tape: Tape) -> None:
    """W4: the rules have ``fn`` asked again, about what it has not seen."""
    map_ = recorded_map(tape, Blind)
    map_.set("a", {"n": 1})
    map_.mutate("a", lambda data: map_.set("a", {"n": 5}) and {"n": data["n"] + 1})
    found = tape.check()
    assert found is not None
    assert (found.line, found.call, found.rules[-1]) == (5, 'mutate("a")', "W4")


def test_find_a_mutate_that_asks_for_nothing(tape: Tape) -> None:
    """W4: ``fn`` is called again only if somebody else wrote."""
    map_ = recorded_map(tape, Insistent)
    map_.set("a", {"n": 1})
    map_.mutate("a", lambda data: {"n": 2})
    found = tape.check()
    assert found is not None
    assert (found.place, found.expected, found.recorded, found.rules) == (".calls of fn", 1, 2, ("W4",))


# ---------------------------------------------------------------- what is found


def tampered(change: Callable[[dict[str, Any]], object], prepare: Callable[[Tape], object]) -> Difference:
    """What is found when the answer of the last line is changed."""
    tape = Tape()
    prepare(tape)
    assert tape.check() is None
    lines = tape.lines
    last = json.loads(lines[-1])
    change(last)
    found = check_trace([*lines[:-1], json.dumps(last)])
    assert found is not None
    assert found.line == len(lines)
    return found


def ready(tape: Tape) -> Any:
    map_ = tape.store.map("m")
    map_.set("a", {"x": 1, "y": {"key": 2}}, ttl=60)
    map_.set("b", {})
    return map_


def data_of(fields: dict[str, Any]) -> Any:
    return fields["result"]["data"]


CHANGES: dict[str, tuple[Callable[[Tape], object], Callable[[dict[str, Any]], object], str, str]] = {
    "revision": (lambda t: ready(t).set("a", {}), lambda f: f["result"].update(revision="7"), "R2", ".revision"),
    "type of a number": (lambda t: ready(t)["a"], lambda f: data_of(f).update(x=1.0), "D2", ".data.x"),
    "field called key": (lambda t: ready(t)["a"], lambda f: data_of(f)["y"].update(key=3), "D2", ".data.y.key"),
    "order of fields": (
        lambda t: ready(t)["a"],
        lambda f: f["result"].update(data=dict(reversed(f["result"]["data"].items()))),
        "D2",
        ".data",
    ),
    "expiry": (lambda t: ready(t)["a"], lambda f: f["result"].update(date_expires=None), "T1", ".date_expires"),
    "creator": (lambda t: ready(t)["a"], lambda f: f["result"].update(created_by="x"), "I3", ".created_by"),
    "creation": (lambda t: ready(t)["a"], lambda f: f["result"].update(date_created="x"), "I2", ".date_created"),
    "order of keys": (lambda t: list(ready(t).range()), lambda f: f["result"].reverse(), "K3", "[0].key"),
    "lost key": (lambda t: iter(ready(t)), lambda f: f["result"].pop(), "L2", ""),
    "length": (lambda t: len(ready(t)), lambda f: f.update(result=3), "L1", ""),
    "next page": (lambda t: ready(t).page(page_size=1), lambda f: f["result"].update(next_page_token=None), "L4",
                  ".next_page_token"),
    "event": (lambda t: ready(t).changes(), lambda f: f["result"][0].update(kind="updated"), "E1", "[0].kind"),
    "map's revision": (lambda t: ready(t).revision, lambda f: f.update(result="3"), "R2", ""),
    "batch": (lambda t: in_batch(t), lambda f: f["result"][1].update(revision="2"), "R2", "[1].revision"),
}  # fmt: skip


def in_batch(tape: Tape) -> None:
    map_ = ready(tape)
    with tape.store.batch() as batch:
        batch.set(map_, "c", {})
        batch.update(map_, "a", {"z": 1})


@pytest.mark.parametrize("what", CHANGES)
def test_tell_what_differs_and_by_which_rule(what: str) -> None:
    """Each difference is told at its line, with the place in the answer and the number of a rule."""
    prepare, change, rule, place = CHANGES[what]
    found = tampered(change, prepare)
    assert (found.rules[0], found.place) == (rule, place)
    assert f"line {found.line}: " in str(found)


def test_tell_an_error_that_should_not_have_been(tape: Tape) -> None:
    """X, C1: another error, a field of it, or an error in the place of a result."""
    map_ = tape.store.map("m")
    map_.set("a", {})
    attempt(lambda: map_.set("a", {}, if_match="7"))
    lines = tape.lines
    last = json.loads(lines[-1])
    assert last["error"] == {
        "type": "RevisionMismatch", "status": 412, "code": 54205, "key": "a", "expected": "7", "actual": "0",
    }  # fmt: skip
    for changed, place in (
        ({"error": last["error"] | {"actual": "1"}}, ".actual"),
        ({"error": last["error"] | {"status": 409}}, ".status"),
        ({"result": None}, ""),
    ):
        fields = {name: value for name, value in last.items() if name != "error"} | changed
        found = check_trace([*lines[:-1], json.dumps(fields)])
        assert found is not None
        assert (found.place, found.rules[0]) == (place, "C1")


def test_find_a_store_that_shows_what_has_expired() -> None:
    """T3: a store whose expiry comes late goes against the rules, which the trace tells."""
    for see in (
        lambda map_: map_["a"],
        lambda map_: map_.get("a"),
        lambda map_: list(map_.range()),
        lambda map_: list(map_),
        lambda map_: map_.page(),
        lambda map_: attempt(lambda: map_.create("a", {})),
    ):
        tape = Tape(FaultyStore)
        tape.inner.faults.expire_late(by=10)
        map_ = tape.store.map("m")
        map_.set("a", {}, ttl=5)
        tape.clock.advance(7)
        see(map_)
        found = tape.check()
        assert found is not None
        assert (found.line, found.rules[0]) == (4, "T3")


def test_show_a_difference_in_one_line() -> None:
    """The text has the line, the call, what was expected, what was recorded, and the rules."""
    found = tampered(lambda fields: fields["result"].update(revision="7"), lambda t: ready(t).set("a", {"é": 1}, ttl=5))
    assert str(found) == (
        'line 5: set("a", {"é": 1}, ttl=5) at .revision: expected "2", recorded "7" (R2, W2)'
    )  # fmt: skip


# ---------------------------------------------------------------- outside the rules


def test_pass_over_failures_that_change_nothing() -> None:
    """F1: what failed for the disk's or the rate's sake is no difference, if nothing of it is seen afterwards."""
    tape = Tape(FaultyStore)
    map_ = tape.store.map("m")
    map_.set("a", {"x": 1})
    tape.store.faults.fail_append()
    with pytest.raises(OSError, match="No space"):
        map_.set("a", {"x": 2})
    tape.store.faults.fail_append()
    with pytest.raises(OSError, match="No space"):
        map_.mutate("a", lambda data: {"x": map_["a"].data})
    tape.store.faults.limit_rates(per_second=1, window_seconds=1)
    map_.set("b", {})
    with pytest.raises(RateLimitExceeded), tape.store.batch() as batch:
        batch.set(map_, "b", {"x": 2})
    assert [item.data for item in map_.range()] == [{"x": 1}, {}]
    assert tape.check() is None
    # Had something of it been seen, it would be told.
    lines = [line.replace('"outside":true', '"was":true') for line in tape.lines]
    found = check_trace(lines)
    assert found is not None
    assert found.line == 4


def test_stop_where_the_outcome_is_unknown(tmp_path: Path) -> None:
    """F2: behind a write that may or may not have been made, nothing can be expected."""
    file = io.StringIO()
    with Recorder(file, clock=ManualClock(NOW)) as recorder:
        store = FaultyStore(tmp_path / "s.mapitem", clock=recorder.clock, durability="power")
        map_ = recorder.wrap(store).map("m")
        store.faults.fail_sync()
        with pytest.raises(MapItemError):
            map_.set("a", {})
        assert len(map_) == 1
        store.faults.crash()
    assert check_trace(file.getvalue().splitlines()) is None


def test_go_on_with_a_store_that_was_opened_again(tmp_path: Path) -> None:
    """S1, R6: a restart is no difference: wrap the store again."""
    path = tmp_path / "s.mapitem"
    with Recorder(tmp_path / "run.ndjson", identity="taylor", limits=Limits(5, 50)) as recorder:
        for number in range(3):
            with recorder.wrap(Store(path, clock=recorder.clock, identity="taylor", limits=Limits(5, 50))) as store:
                map_ = store.map("m", ttl=60)
                map_.set("a", {"n": number})
                assert map_.get("b", "nothing") == "nothing"
                with pytest.raises(DataTooLarge):
                    map_.set("b", {"x": "x" * 50})
                attempt(lambda map_=map_: map_.set("long key", {}))
    assert check_trace(tmp_path / "run.ndjson") is None
    head, calls = read_trace(tmp_path / "run.ndjson")
    assert (head["identity"], head["max_key_chars"]) == ("taylor", 5)
    assert [str(call) for call in calls[:2]] == ['map("m", ttl=60)', 'set("a", {"n": 0})']


def test_replay_what_callbacks_do(tape: Tape) -> None:
    """E2: a callback that uses the recorded store comes behind the write that it was told of."""
    map_ = tape.store.map("m")

    def answer(event: Event) -> None:
        if event.key == "a":
            map_.set("b", {"after": event.revision})

    map_.on(Event, answer)
    map_.set("a", {})
    assert map_["b"].revision == "1"
    assert tape.check() is None


def test_replay_page_by_page(tape: Tape) -> None:
    """L4: tokens are each implementation's own, and lead to the same pages, forwards and backwards."""
    map_ = tape.store.map("m")
    for key in "abcde":
        map_.set(key, {})
    pages = [map_.page(page_size=2, order="desc")]
    while pages[-1].next_page_token is not None:
        pages.append(map_.page(page_size=2, page_token=pages[-1].next_page_token))
    back = map_.page(page_size=2, page_token=pages[-1].previous_page_token)
    assert [[item.key for item in page.items] for page in [*pages, back]] == [["e", "d"], ["c", "b"], ["a"], ["c", "b"]]
    attempt(lambda: map_.page(page_token="made up"))
    assert tape.check() is None


def test_be_the_store_it_wraps(tape: Tape) -> None:
    """What is not recorded goes through: events, handles, equality, properties, closing."""
    map_ = tape.store.map("m")
    assert (map_.sid, map_.name) == (tape.inner.open_map("m").sid, "m")
    assert map_ == tape.store.open_map(map_.sid) == tape.inner.open_map("m")
    assert hash(map_) == hash(tape.inner.open_map("m"))
    assert {map_: 1}[tape.store.map("m")] == 1
    assert tape.store.durability == "process"
    assert "recorded" in repr(tape.store)
    assert isinstance(map_.set("a", {}), MapItem)
    with tape.store as store:
        assert store is tape.store
    with pytest.raises(MapItemError):
        map_.get("a")
    assert tape.check() is None


# ---------------------------------------------------------------- what is no trace


def test_refuse_what_overlaps(tape: Tape) -> None:
    """Calls of several threads at once have no one order to replay."""
    map_ = tape.store.map("m")
    entered, leave = threading.Event(), threading.Event()

    def hold(data: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        leave.wait(30)
        return data

    thread = threading.Thread(target=lambda: map_.mutate("a", hold))
    thread.start()
    entered.wait(30)
    map_.set("b", {})
    leave.set()
    thread.join()
    with pytest.raises(ValueError, match="overlap"):
        tape.check()


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["{}"],
        ["no json"],
        ['{"trace":"other","format":1}'],
        ['{"trace":"mapitem","format":2}'],
        ['{"trace":"mapitem","format":1}', '{"n":1}'],
        ['{"trace":"mapitem","format":1}', '{"n":1,"end":2,"call":"set","now":0,"thread":0,"args":[],"kwargs":{}}'],
    ],
)
def test_refuse_what_is_no_trace(lines: list[str]) -> None:
    """``ValueError`` that names the line."""
    with pytest.raises(ValueError, match=r"line \d is no line of a trace|no trace"):
        check_trace(lines)


# ---------------------------------------------------------------- arguments as JSON


odd_values = st.recursive(
    some.scalars() | st.binary(max_size=3) | st.sampled_from([timedelta(1), float("inf"), 2**70]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.integers() | st.just("$"), inner, max_size=2)
    ),
)


@settings(max_examples=40)
@given(some.data() | odd_values)
def test_keep_arguments_as_they_are(value: Any) -> None:
    """What a trace holds comes back of the same types, through JSON and all."""
    assert same(from_json(json.loads(json.dumps(to_json(value)))), value)


@settings(max_examples=40)
@given(some.bad_data())
def test_keep_what_is_bad_about_arguments(case: tuple[Any, str]) -> None:
    """D1: data that are none are none for the same reason and at the same place when they come back, cycles too."""
    data, path = case
    with pytest.raises(InvalidData) as caught:
        Store().map("m").set("a", from_json(json.loads(json.dumps(to_json(data)))))
    assert caught.value.path == path


def test_forget_no_handle(tape: Tape) -> None:
    """K6: a dead handle and a new map of its name are two maps in the trace, too."""
    old = tape.store.map("m")
    old.remove_map()
    new = tape.store.map("m")
    new.set("a", {})
    with pytest.raises(MapNotFound):
        old.set("a", {})
    assert tape.check() is None

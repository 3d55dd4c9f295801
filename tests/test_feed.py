"""The change feed (semantics F) and what compaction leaves of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mapitem.compactor
from mapitem import (
    Event,
    HistoryCompacted,
    InvalidRevision,
    ItemAdded,
    ItemRemoved,
    ItemUpdated,
    Map,
    MapItem,
    MapNotFound,
    Store,
    StoreClosed,
)
from mapitem.testing import ManualClock
from tests.conftest import NOW, StoreMaker


def follow(copy: dict[str, MapItem], event: Event) -> None:
    """Apply one event of the feed to a copy of the map."""
    if isinstance(event, ItemAdded | ItemUpdated):
        assert (event.key in copy) is isinstance(event, ItemUpdated)
        copy[event.key] = event.item
    elif isinstance(event, ItemRemoved):
        del copy[event.key]


# ---------------------------------------------------------------- F1


def test_read_events_from_a_token_on(map_: Map) -> None:
    """F1: events numbered from ``since`` on, oldest first, the default being all of them; ``next_revision`` resumes."""
    map_.set("a", {"n": 1})
    map_.set("a", {"n": 2})
    map_.remove("a")
    events = list(map_.changes())
    assert [(type(event), event.revision) for event in events] == [
        (ItemAdded, "0"),
        (ItemUpdated, "1"),
        (ItemRemoved, "2"),
    ]
    assert list(map_.changes("1")) == events[1:]
    for place, event in enumerate(events):
        assert list(map_.changes(event.next_revision)) == events[place + 1 :]
    assert list(map_.changes(map_.revision)) == []


def test_say_nothing_of_what_was_before(map_: Map) -> None:
    """E1: in the feed ``previous`` is None; the item is whole."""
    item = map_.set("a", {"n": 1})
    map_.set("a", {"n": 2})
    map_.remove("a")
    added, updated, removed = map_.changes()
    assert isinstance(added, ItemAdded)
    assert added.item == item
    assert isinstance(updated, ItemUpdated)
    assert updated.previous is None
    assert isinstance(removed, ItemRemoved)
    assert removed.previous is None
    assert not removed.expired


def test_tell_what_callbacks_were_told_but_for_previous(map_: Map, clock: ManualClock) -> None:
    """E1, F1: kind, key, item, number and date are those that callbacks got."""
    told: list[Event] = []
    map_.on(Event, told.append)
    map_.set("a", {}, ttl=1)
    map_.set("b", {}, ttl=1)
    clock.advance(1)
    map_.set("a", {"again": True})
    map_.update("a", {"more": 1})
    feed = list(map_.changes())
    assert [(type(event), event.revision, event.date) for event in feed] == [
        (type(event), event.revision, event.date) for event in told
    ]
    assert [getattr(event, "expired", None) for event in feed] == [None, None, True, True, None, None]


def test_serve_only_the_maps_own_events(store: Store, map_: Map) -> None:
    """F1: a batch over several maps appears in each feed with that map's part."""
    other = store.map("other")
    with store.batch() as batch:
        batch.set(map_, "a", {})
        batch.set(other, "b", {})
        batch.set(map_, "c", {})
    assert [getattr(event, "key", None) for event in map_.changes()] == ["a", "c"]
    assert [getattr(event, "key", None) for event in other.changes()] == ["b"]


def test_begin_in_the_middle_of_a_record(store: Store, map_: Map, clock: ManualClock) -> None:
    """F1: a token may lie between the events of one batch, or of one write that removed what was due first."""
    with store.batch() as batch:
        for key in "abc":
            batch.set(map_, key, {}, ttl=1)
    clock.advance(1)
    map_.set("d", {})
    everything = list(map_.changes())
    assert len(everything) == 7
    for number in range(7):
        assert list(map_.changes(f"{number:x}")) == everything[number:]


@pytest.mark.parametrize("since", ["5", "ff", "X", "", "*", "00", None, 0])
def test_refuse_a_token_that_is_none(map_: Map, since: Any) -> None:
    """F1: a token beyond the map's revision, or no revision at all: InvalidRevision, at the call."""
    map_.set("a", {})
    with pytest.raises(InvalidRevision):
        map_.changes(since)


def test_judge_the_token_before_the_map(store: Store, map_: Map) -> None:
    """C2: what is no token at all is told first, on a dead map too; whether it is too new, only the map can say.

    The feed looked at the map first, and a removed map with a malformed token was MapNotFound.
    """
    map_.remove_map()
    for verb in (map_.changes, map_.watch):
        with pytest.raises(InvalidRevision):
            verb("current")
        with pytest.raises(MapNotFound):
            verb("ff")
    store.close()
    for verb in (map_.changes, map_.watch):
        with pytest.raises(StoreClosed):
            verb("current")


def test_refuse_a_dead_map_and_a_closed_store(store: Store, map_: Map) -> None:
    """F2, C2: the feed does not carry the map's end: MapNotFound; a closed store comes first."""
    map_.set("a", {})
    walk = map_.changes()
    map_.remove_map()
    with pytest.raises(MapNotFound):
        map_.changes()
    with pytest.raises(MapNotFound):
        next(walk)
    store.close()
    with pytest.raises(StoreClosed):
        map_.changes()


def test_survive_a_restart(make_store: StoreMaker, backing: str) -> None:
    """F1: a token taken before a restart goes on after it."""
    if backing == "memory":
        pytest.skip("a store in memory does not survive")
    store = make_store()
    map_ = store.map("m")
    map_.set("a", {})
    token = map_.revision
    map_.set("b", {})
    store.close()
    map_ = make_store().map("m")
    map_.set("c", {})
    assert [getattr(event, "key", None) for event in map_.changes(token)] == ["b", "c"]


def test_stream_many_events(map_: Map) -> None:
    """F1: more events than one look at the log brings, each exactly once; later ones are for the next walk."""
    for number in range(700):
        map_.set(f"{number % 7}", {"n": number})
    walk = map_.changes("5")
    first = next(walk)
    map_.set("late", {})
    assert [first.revision, *(event.revision for event in walk)] == [f"{number:x}" for number in range(5, 700)]
    assert [event.key for event in map_.changes(f"{700:x}")] == ["late"]


def test_end_a_walk_that_writes_to_its_own_map(map_: Map) -> None:
    """F1: a walk that wrote an event for each that it read fed itself and never ended; it ends where the map was."""
    for number in range(300):
        map_.set(f"{number:03}", {})
    written = [map_.set("again", {}) for _ in map_.changes()]
    assert len(written) == 300
    assert len(list(map_.changes())) == 600


def test_give_each_reader_items_of_its_own(map_: Map) -> None:
    """D4: what a reader does to an event's data is seen by nobody else."""
    map_.set("a", {"list": []})
    for _ in range(2):
        (event,) = map_.changes()
        assert isinstance(event, ItemAdded)
        assert event.item.data == {"list": []}
        event.item.data["list"].append(1)


def test_read_no_more_of_the_log_than_asked(make_store: StoreMaker, backing: str) -> None:
    """F1: the cost of a recent token follows the events returned, not the size of the log."""
    store = make_store()
    map_ = store.map("m")
    for number in range(3000):
        map_.set("a", {"n": number, "pad": "x" * 200})
    token = map_.revision
    map_.set("b", {})
    places: list[int] = []
    read = store._log.read

    def counting_read(wanted: Any) -> Any:
        wanted = list(wanted)
        places.extend(wanted)
        return read(wanted)

    store._log.read = counting_read  # type: ignore[method-assign]
    assert len(list(map_.changes(token))) == 1
    assert len(places) == 1


# ---------------------------------------------------------------- F2, F3


def test_begin_the_feed_anew_after_a_compaction(store: Store, map_: Map) -> None:
    """F2: what compaction dropped is HistoryCompacted with the oldest token served; from there on the feed goes on."""
    map_.set("a", {})
    token = map_.revision
    map_.set("a", {"n": 1})
    revision = map_.revision
    store.compact()
    for since in ("0", token):
        with pytest.raises(HistoryCompacted) as caught:
            map_.changes(since)
        assert caught.value.oldest == revision
    assert map_.revision == revision
    map_.set("b", {})
    assert [getattr(event, "key", None) for event in map_.changes(caught.value.oldest)] == ["b"]


def test_stop_a_walk_whose_history_went(store: Store, map_: Map) -> None:
    """F2: a walk that a compaction overtakes raises at a later step; it never skips silently."""
    for number in range(600):
        map_.set("a", {"n": number})
    walk = map_.changes()
    seen = [next(walk)]
    store.compact()
    with pytest.raises(HistoryCompacted):
        seen.extend(walk)
    assert [event.revision for event in seen] == [f"{number:x}" for number in range(len(seen))]


def test_keep_the_feeds_beginning_over_a_restart(make_store: StoreMaker, backing: str) -> None:
    """F2, R6: after compaction and restart the same tokens are served, and the same are gone."""
    if backing == "memory":
        pytest.skip("a store in memory does not survive")
    store = make_store()
    map_ = store.map("m")
    map_.set("a", {})
    map_.set("b", {})
    store.compact()
    map_.set("c", {})
    store.close()
    map_ = make_store().map("m")
    assert [event.revision for event in map_.changes("2")] == ["2"]
    with pytest.raises(HistoryCompacted) as caught:
        map_.changes("1")
    assert caught.value.oldest == "2"


@pytest.mark.parametrize("compact_at", [1.6, None])
def test_compact_by_itself_or_never(
    make_store: StoreMaker, compact_at: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2, F3: nothing is dropped but by compaction; on its own it leaves small logs alone, and it can be turned off."""
    monkeypatch.setattr(mapitem.compactor, "COMPACT_FROM_BYTES", 20_000)
    store = make_store(compact_at=compact_at)
    map_ = store.map("m")
    for number in range(100):
        map_.set("a", {"n": number})
    assert len(list(map_.changes())) == 100
    for number in range(2000):
        map_.set("a", {"n": number, "pad": "x" * 50})
    if compact_at is None:
        assert len(list(map_.changes())) == 2100
    else:
        with pytest.raises(HistoryCompacted):
            map_.changes("0")


moves = st.one_of(
    st.tuples(st.just("set"), st.sampled_from("abcd"), st.sampled_from([None, 1, 3])),
    st.tuples(st.just("remove"), st.sampled_from("abcd"), st.none()),
    st.tuples(st.sampled_from(["wait", "compact", "purge", "batch", "token"]), st.just(""), st.none()),
)


@given(st.lists(moves, max_size=30))
def test_bring_a_copy_to_the_same_state(given_moves: list[tuple[str, str, int | None]]) -> None:
    """F2: state at any token served, and the feed from it, is the state now (the clock going forward)."""
    clock = ManualClock(now=NOW)
    with Store(clock=clock) as store:
        map_ = store.map("m")
        snapshots: list[tuple[str, dict[str, MapItem]]] = [("0", {})]
        stored: dict[str, MapItem] = {}

        def mirror(event: Event) -> None:
            follow(stored, event)

        map_.on(Event, mirror)
        for verb, key, ttl in given_moves:
            if verb == "set":
                map_.set(key, {"ttl": ttl}, ttl=ttl)
            elif verb == "remove" and key in map_:
                map_.remove(key)
            elif verb == "wait":
                clock.advance(1)
            elif verb == "compact":
                store.compact()
            elif verb == "purge":
                map_.purge()
            elif verb == "batch":
                with store.batch() as batch:
                    batch.set(map_, "a", {})
                    batch.update(map_, "b", {"n": 1})
            snapshots.append((map_.revision, dict(stored)))
        map_.purge()
        served = 0
        for token, copy in snapshots:
            try:
                changes = list(map_.changes(token))
            except HistoryCompacted as error:
                assert int(token, 16) < int(error.oldest, 16)
                continue
            served += 1
            for event in changes:
                follow(copy, event)
            assert copy == dict(map_.items())
        assert served > 0

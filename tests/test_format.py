"""The format of the file (durability G1, R6): golden files, and a second reader that shares no code with ours."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack
import pytest
from damage_campaign import assemble, split
from golden.make import NEVER, NOW, Events, content, event_fields, map_fields
from hypothesis import given
from hypothesis import strategies as st
from log_reader import FRAME, read_log

from mapitem import LogCorrupt, Map, MapItemError, NewerFormat, NotAStore, Store, frames, records
from mapitem.testing import ManualClock
from mapitem.testing.strategies import keys, small_data

GOLDEN = sorted(Path(__file__).with_name("golden").glob("*.mapitem"))
FORMAT = Path(__file__).parents[1] / "docs" / "format.md"


def _expected(golden: Path) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads(golden.with_suffix(".json").read_text(encoding="utf-8"))
    return expected


def _at(now: int, read: dict[str, Any]) -> dict[str, Any]:
    """The maps of a log as a store shows them at an instant: without what is due, and in order."""
    live = [map_ for map_ in read["maps"].values() if map_["expires"] > now]
    live.sort(key=lambda map_: (map_["name"] is None, map_["name"] or map_["sid"]))
    return {
        map_["sid"]: {
            **map_,
            "items": {key: item for key, item in sorted(map_["items"].items()) if item["expires"] > now},
        }
        for map_ in live
    }


def _shown(store: Store) -> dict[str, Any]:
    return {map_.sid: map_fields(map_) for map_ in store.maps()}


def _feed(map_: Map) -> list[dict[str, Any]]:
    return [event_fields(event) for event in map_.changes(since=f"{map_fields(map_)['oldest']:x}")]


# ---------------------------------------------------------------- golden files


def test_find_the_golden_files() -> None:
    """R6: none of the files that released versions wrote has gone."""
    names = {golden.stem for golden in GOLDEN}
    assert names >= {f"{name}-1.0" for name in ("compacted", "empty", "every-operation", "torn", "unclean")}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.stem)
def test_keep_a_golden_file_as_it_is(golden: Path) -> None:
    """R6: the file is the one that was written then, byte for byte."""
    assert sha256(golden.read_bytes()).hexdigest() == _expected(golden)["sha256"]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.stem)
def test_read_a_golden_file_by_the_other_reader(golden: Path) -> None:
    """G1: what docs/format.md says of the file is what the store said that wrote it."""
    expected, read = _expected(golden), read_log(golden)
    assert (read["clean"], read["dropped_bytes"]) == (expected["clean"], expected["dropped_bytes"])
    assert repr(_at(expected["now"], read)) == repr(expected["maps"])
    assert read["events"] == expected["events"]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.stem)
def test_read_a_golden_file_where_it_lies(golden: Path) -> None:
    """R6, R7: the library reads it to the last detail, its feeds included, and changes nothing."""
    expected, before = _expected(golden), sorted(os.listdir(golden.parent))
    with Store(golden, read_only=True, clock=ManualClock(now=expected["now"] / 1e6)) as store:
        assert repr(_shown(store)) == repr(expected["maps"])
        for map_ in store.maps():
            assert _feed(map_) == [event for event in expected["events"] if event["map"] == map_.sid]
        assert (store.recovery is None) is expected["clean"]
        assert (store.recovery.dropped_bytes if store.recovery else 0) == expected["dropped_bytes"]
    assert sorted(os.listdir(golden.parent)) == before


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.stem)
@pytest.mark.parametrize("level", ["process", "power"])
def test_write_to_a_golden_file(golden: Path, level: Any, tmp_path: Path) -> None:
    """R6: a copy of it is a store like any other: it is written to, compacted, and read again by both."""
    expected, path = _expected(golden), tmp_path / "store"
    shutil.copy(golden, path)
    clock = ManualClock(now=expected["now"] / 1e6)
    with Store(path, clock=clock, durability=level) as store:
        assert repr(_shown(store)) == repr(expected["maps"])
        store.map("one more").set("k", {"v": 1})
        store.purge()
        shown = _shown(store)
    assert repr(_at(expected["now"], read_log(path))) == repr(shown)
    with Store(path, clock=clock, durability=level) as store:
        store.compact()
        for map_ in shown.values():
            map_["oldest"] = map_["revision"]
        assert repr(_shown(store)) == repr(shown)
    read = read_log(path)
    assert read["clean"]
    assert repr(_at(expected["now"], read)) == repr(shown)


def test_meet_every_kind_of_operation_in_the_golden_files() -> None:
    """R6: within a base and behind one, so that none can be forgotten in a later version."""
    met = set()
    for golden in GOLDEN:
        in_base = True
        for frame in split(golden.read_bytes()):
            payload = msgpack.unpackb(frame[FRAME.size :])
            in_base = in_base and payload != "base end"
            if isinstance(payload, list):
                met |= {(in_base, operation[0], len(operation)) for operation in payload}
    behind = {(1, 4), (2, 4), (2, 5), (3, 5), (4, 5), (5, 10), (6, 3), (7, 4)}
    assert {(kind, fields) for in_base, kind, fields in met if not in_base} == behind
    assert {(kind, fields) for in_base, kind, fields in met if in_base} == {(5, 10), (7, 4), (8, 4), (9, 3), (10, 6)}


# ---------------------------------------------------------------- the two readers on anything

_VERBS = ["set", "set", "set", "update", "remove", "tick", "purge", "end", "batch", "compact", "reopen"]
_steps = st.lists(
    st.tuples(
        st.sampled_from(_VERBS),
        st.sampled_from(["one", "two"]),
        keys(),
        small_data(),
        st.sampled_from([None, None, 0, 1, 5]),
    ),
    max_size=25,
)


@given(steps=_steps)
def test_agree_with_the_other_reader_on_any_log(steps: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """G1: whatever is written, the other reader finds what the store showed, and the events it told of."""
    path = tmp_path_factory.mktemp("format") / "store"
    clock = ManualClock(now=NOW)
    with Store(path, clock=clock) as store:
        events = Events(store)
        for step in steps:
            if step[0] == "reopen":
                store.close()
                store = Store(path, clock=clock)
                events.follow(store)
            _do(store, clock, events, *step)
        expected = content(store, events, clock)
        store.close()
    read = read_log(path)
    assert repr(_at(expected["now"], read)) == repr(expected["maps"])
    assert read["events"] == expected["events"]
    assert read["clean"]


def _do(
    store: Store, clock: ManualClock, events: Events, what: str, name: str, key: str, data: Any, ttl: int | None
) -> None:
    if what == "compact":
        store.compact()
        events.told.clear()
    elif what == "tick":
        clock.advance((ttl or 0.5) * 1.25)
    elif what == "purge":
        store.purge()
    elif what != "reopen":
        map_ = store.map(name, ttl=ttl)
        try:
            if what == "remove":
                map_.remove(key)
            elif what == "end":
                map_.remove_map()
            elif what == "batch":
                with store.batch() as batch:
                    batch.set(map_, key, data, ttl=ttl)
                    batch.update(map_, "a", {"more": 1}, collection_ttl=ttl)
            else:
                getattr(map_, what)(key, data, ttl=ttl)
        except MapItemError:
            pass  # nothing was written


# ---------------------------------------------------------------- the header


def _header(**changes: Any) -> bytes:
    fields = {"magic": b"\x89mapitem", "major": 1, "minor": 0, "flags": 0, **changes}
    head = struct.pack(">8sHHI16s", *fields.values(), bytes(16))
    return head + zlib.crc32(head).to_bytes(4, "big")


BODY = assemble([b"\xa8base end"], generation=bytes(16))[36:]


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", NotAStore, "empty"),
        (b"not a store at all, but something longer", NotAStore, "does not begin"),
        (b"\x89mapite", NotAStore, "does not begin"),
        (b"\x89mapitem", NotAStore, "ends within its header"),
        (_header()[:-1], NotAStore, "ends within its header"),
        (_header(), NotAStore, "nothing more"),
        (_header() + BODY[:-1], NotAStore, "nothing more"),
        (_header(magic=b"\x89mapmeti") + BODY, NotAStore, "does not begin"),
        (_header(major=0) + BODY, NotAStore, "format 0.0"),
        (_header(major=2) + BODY, NewerFormat, "format 2.0"),
        (_header(major=2, minor=7) + b"whatever comes then", NewerFormat, "format 2.7"),
        (_header(flags=1) + BODY, NewerFormat, "flags 0x1"),
        (_header(flags=1 << 31) + BODY, NewerFormat, "flags 0x80000000"),
        (_header()[:-1] + b"\0" + BODY, LogCorrupt, "header"),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_refuse_what_is_no_log_of_this_version(
    content: bytes, error: type[Exception], says: str, read_only: bool, tmp_path: Path
) -> None:
    """R6, R8: with an error that says what it is, and nothing created or changed."""
    path = tmp_path / "store"
    path.write_bytes(content)
    with pytest.raises(error, match=says) as caught:
        Store(path, read_only=read_only)
    assert caught.value.path == str(path)  # type: ignore[attr-defined]
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["store"]


def test_open_a_log_of_a_later_minor_version(tmp_path: Path) -> None:
    """R6: it is one that an older reader may read."""
    path = tmp_path / "store"
    path.write_bytes(_header(minor=9) + BODY)
    with Store(path, read_only=True) as store:
        assert list(store.maps()) == []


# ---------------------------------------------------------------- the page


def test_give_every_kind_and_size_in_the_page() -> None:
    """G1: docs/format.md names what the code writes; a kind or size that changes has to change there too."""
    page = FORMAT.read_text(encoding="utf-8")
    kinds = {name: value for name, value in vars(records).items() if name.isupper() and type(value) is int}
    for name, value in kinds.items():
        if value <= 10:
            assert f"| {value} | {name} |" in page
    assert f"## The header: {frames.HEADER_BYTES} bytes" in page
    assert f"## A frame: {frames.FRAME_BYTES} bytes" in page
    assert f"version **{frames.MAJOR}.{frames.MINOR}**" in page
    assert NEVER == 2**63 - 1
    for mark in (frames.BASE_END, frames.CLOSE, frames.CUT):
        assert mark.hex(" ").upper() in page


def test_write_what_the_page_says(tmp_path: Path) -> None:
    """G1: a log made by hand from the page is a store."""
    row = b"\x96" + b"".join(b"\xd3" + number.to_bytes(8, "big") for number in (0, 10**15, 10**15, NEVER))
    row += msgpack.packb("me") + msgpack.packb({"a": [1.5, None]})
    sid = f"MP{7:032x}"
    log = assemble(
        [
            b"\xa8base end",
            msgpack.packb([[5, 0, sid, "m", "me", 10**15, 10**15, NEVER, 0, 0], [1, 0, "k", row]]),
            msgpack.packb([[3, 0, "k", 1, 2 * 10**15], [1, 0, "l", row[:2] + (2).to_bytes(8, "big") + row[10:]]]),
            b"\xa5close",
        ]
    )
    path = tmp_path / "store"
    path.write_bytes(log)
    with Store(path, read_only=True, clock=ManualClock(now=2e9)) as store:
        assert store.recovery is None
        map_ = store.open_map(sid)
        assert {key: item.data for key, item in map_.items()} == {"l": {"a": [1.5, None]}}
        assert (map_.revision, map_["l"].revision, map_["l"].created_by) == ("3", "2", "me")
        assert map_.date_updated.timestamp() == 2e9
    assert set(read_log(path)["maps"][sid]["items"]) == {"l"}

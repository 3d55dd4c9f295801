"""The errors (semantics X): one tree, with status, code and fields, each of them provoked, printed and pickled."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mapitem
from mapitem import (
    DataTooLarge,
    HistoryCompacted,
    InvalidArgument,
    InvalidBounds,
    InvalidData,
    InvalidKey,
    InvalidName,
    InvalidOrder,
    InvalidPageSize,
    InvalidPageToken,
    InvalidRevision,
    InvalidTTL,
    ItemExists,
    ItemNotFound,
    LogCorrupt,
    MapExists,
    MapItemError,
    MapNotFound,
    NewerFormat,
    NotAStore,
    ReentrantUse,
    RevisionMismatch,
    Store,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreForked,
    StoreLocked,
    StoreReadOnly,
    errors,
)

# status, code, which builtin it is as well, and its fields with a value for each
Row = tuple[int | None, int | None, type[KeyError] | type[ValueError] | None, dict[str, Any]]

TABLE: dict[type[MapItemError], Row] = {
    ItemNotFound: (404, 54201, KeyError, {"key": "k"}),
    MapNotFound: (404, 54200, KeyError, {"name": "MP" + "0" * 32}),
    ItemExists: (409, 54208, None, {"key": "k", "revision": "1f"}),
    MapExists: (409, 54301, None, {"name": "m"}),
    RevisionMismatch: (412, 54205, None, {"key": "k", "expected": "1e", "actual": "1f"}),
    DataTooLarge: (413, 54006, ValueError, {"size": 20_000, "limit": 16_384}),
    InvalidData: (400, 54008, ValueError, {"path": "$.tags[3]", "reason": "a set"}),
    InvalidKey: (400, 54209, ValueError, {}),
    InvalidName: (400, 54302, ValueError, {}),
    InvalidTTL: (400, 54011, ValueError, {}),
    InvalidOrder: (400, 54451, ValueError, {}),
    InvalidBounds: (400, 54452, ValueError, {}),
    InvalidPageToken: (400, 54453, ValueError, {}),
    InvalidPageSize: (400, 54454, ValueError, {}),
    InvalidRevision: (400, 54003, ValueError, {}),
    HistoryCompacted: (410, None, None, {"oldest": "2a"}),
    StoreClosed: (None, None, None, {}),
    StoreReadOnly: (None, None, None, {}),
    StoreLocked: (None, None, None, {"path": "/p"}),
    StoreForked: (None, None, None, {}),
    StoreFailed: (None, None, None, {"outcome_unknown": True}),
    ReentrantUse: (None, None, None, {}),
    LogCorrupt: (
        None,
        None,
        None,
        {"path": "/p", "offset": 99, "reason": "checksum", "records_before": 3, "records_after": 4},
    ),
    NotAStore: (None, None, None, {"path": "/p", "reason": "empty"}),
    NewerFormat: (None, None, None, {"path": "/p", "version": "2.0"}),
}

every_kind = pytest.mark.parametrize("kind", TABLE)


def make(kind: type[MapItemError], message: str = "what happened") -> MapItemError:
    return kind(message, **TABLE[kind][3])


# ---------------------------------------------------------------- the table


@every_kind
def test_look_up_status_and_code(kind: type[MapItemError]) -> None:
    """X: each error has the HTTP status and the service's code, on the class and on what is raised, or ``None``."""
    status, code, _, _ = TABLE[kind]
    assert (kind.status, kind.code) == (status, code)
    error = make(kind)
    assert (error.status, error.code) == (status, code)


def test_tell_a_map_by_name_from_one_by_sid(store: Store) -> None:
    """X: a map that was asked for by name is 54300, by sid or on a handle 54200, both with status 404."""
    map_ = store.map("m")
    map_.remove_map()
    for call, code, name in (
        (lambda: store.open_map("m"), 54300, "m"),
        (lambda: store.open_map(map_.sid), 54200, map_.sid),
        (lambda: map_.revision, 54200, "m"),
    ):
        with pytest.raises(MapNotFound) as caught:
            call()
        assert (caught.value.status, caught.value.code, caught.value.name) == (404, code, name)
    assert MapNotFound.code == 54200


@every_kind
def test_look_up_bases(kind: type[MapItemError]) -> None:
    """X: all are ``MapItemError``; not found is a ``KeyError`` too, a bad argument a ``ValueError``, and no more."""
    also = TABLE[kind][2]
    assert issubclass(kind, MapItemError)
    for builtin in (KeyError, ValueError, TypeError, OSError, AttributeError, RuntimeError):
        assert issubclass(kind, builtin) is (builtin is also)
    assert issubclass(kind, InvalidArgument) is (also is ValueError)
    assert issubclass(kind, StoreError) is (TABLE[kind][0] is None)


def test_know_every_error() -> None:
    """X: the table knows every error there is, and every one is imported from ``mapitem`` and listed there."""
    kinds = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)}
    assert kinds == {MapItemError, InvalidArgument, StoreError, *TABLE}
    for kind in kinds:
        assert getattr(mapitem, kind.__name__) is kind
        assert kind.__name__ in mapitem.__all__
        assert kind.__module__ == "mapitem.errors"


def test_draw_the_tree() -> None:
    """X: the docstring of the root draws the tree: each error under its base, with its status and codes."""
    drawn = MapItemError.__doc__
    assert drawn is not None
    lines = [line for line in drawn.splitlines() if "──" in line]
    left = min(line.index("──") for line in lines)
    parents: dict[int, str] = {0: "MapItemError"}
    told: dict[str, tuple[str, str]] = {}
    for line in lines:
        depth = 1 + (line.index("──") - left) // 4
        name, _, more = line.split("── ")[1].partition(" ")
        parents[depth] = name
        told[name] = (parents[depth - 1], more)
    kinds: list[type[MapItemError]] = [InvalidArgument, StoreError, *TABLE]
    assert set(told) == {kind.__name__ for kind in kinds}
    for kind, (status, code, also, _) in TABLE.items():
        parent, more = told[kind.__name__]
        assert parent == kind.__mro__[1].__name__
        # Of a group the root of the branch says once what else it is.
        assert also is not KeyError or "KeyError" in more
        for number in (status, code):
            assert number is None or str(number) in more
    assert "54300" in told["MapNotFound"][1]
    assert "ValueError" in told["InvalidArgument"][1]


@every_kind
def test_document_every_error(kind: type[MapItemError]) -> None:
    """X: each error says in its docstring what happened, and names its fields."""
    assert kind.__doc__
    assert all(f"``{name}``" in kind.__doc__ for name in TABLE[kind][3])


# ---------------------------------------------------------------- what is raised


def locked(folder: Path) -> None:
    with Store(folder / "s"):
        Store(folder / "s")


def read_only(folder: Path) -> None:
    Store(folder / "s").close()
    with Store(folder / "s", read_only=True) as store:
        store.map("m")


def corrupt(folder: Path) -> None:
    with Store(folder / "s") as store:
        for number in range(9):
            store.map("m").set("k", {"n": number})
    data = bytearray((folder / "s").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "s").write_bytes(data)
    Store(folder / "s")


def newer(folder: Path) -> None:
    from zlib import crc32

    Store(folder / "s").close()
    data = (folder / "s").read_bytes()
    head = data[:8] + (99).to_bytes(2, "big") + data[10:32]
    (folder / "s").write_bytes(head + crc32(head).to_bytes(4, "big") + data[36:])
    Store(folder / "s")


def compacted(folder: Path) -> None:
    store = Store()
    store.map("m").set("k", {})
    store.map("m").set("k", {})
    store.compact()
    list(store.map("m").changes())


def reentrant(folder: Path) -> None:
    def clock() -> float:
        if calls:
            calls.pop()()
        return 1_000.0

    calls: list[Callable[[], object]] = []
    store = Store(clock=clock)
    map_ = store.map("m")
    calls.append(lambda: map_.set("k", {}))
    list(store.maps())


def closed(folder: Path) -> None:
    store = Store()
    store.close()
    store.map("m")


def on_a_map(call: Callable[[mapitem.Map], object]) -> Callable[[Path], object]:
    def act(folder: Path) -> object:
        map_ = Store().map("m")
        map_.set("k", {"big": "x" * 10_000})
        return call(map_)

    return act


def gone(map_: mapitem.Map) -> object:
    map_.remove_map()
    return len(map_)


def twice(map_: mapitem.Map) -> object:
    store = Store()
    store.create_map("m")
    return store.create_map("m")


PROVOKED: list[tuple[type[MapItemError], Callable[[Path], object], dict[str, Any]]] = [
    (ItemNotFound, on_a_map(lambda map_: map_["absent"]), {"key": "absent"}),
    (ItemNotFound, on_a_map(lambda map_: map_.remove("absent")), {"key": "absent"}),
    (MapNotFound, on_a_map(gone), {"name": "m"}),
    (ItemExists, on_a_map(lambda map_: map_.create("k", {})), {"key": "k", "revision": "0"}),
    (MapExists, on_a_map(twice), {"name": "m"}),
    (
        RevisionMismatch,
        on_a_map(lambda map_: map_.set("k", {}, if_match="f")),
        {"key": "k", "expected": "f", "actual": "0"},
    ),
    (DataTooLarge, on_a_map(lambda map_: map_.set("k", {"x": "x" * 16_384})), {"size": 16_392, "limit": 16_384}),
    (DataTooLarge, on_a_map(lambda map_: map_.update("k", {"x": "x" * 10_000})), {"size": 20_017, "limit": 16_384}),
    (InvalidData, on_a_map(lambda map_: map_.set("k", {"tags": [1, {2}]})), {"path": "$.tags[1]"}),
    (InvalidKey, on_a_map(lambda map_: map_[""]), {}),
    (InvalidName, lambda folder: Store().map(""), {}),
    (InvalidName, lambda folder: Store().map("MP" + "0" * 32), {}),
    (InvalidTTL, on_a_map(lambda map_: map_.set("k", {}, ttl=-1)), {}),
    (InvalidOrder, on_a_map(lambda map_: map_.range(order="up")), {}),  # type: ignore[arg-type]
    (InvalidBounds, on_a_map(lambda map_: map_.range(bounds="open")), {}),  # type: ignore[arg-type]
    (InvalidPageToken, on_a_map(lambda map_: map_.page(page_token="?")), {}),
    (InvalidPageSize, on_a_map(lambda map_: map_.page(page_size=0)), {}),
    (InvalidRevision, on_a_map(lambda map_: map_.set("k", {}, if_match="?")), {}),
    (InvalidRevision, on_a_map(lambda map_: list(map_.changes(since="ff"))), {}),
    (HistoryCompacted, compacted, {"oldest": "2"}),
    (StoreClosed, closed, {}),
    (StoreReadOnly, read_only, {}),
    (StoreLocked, locked, {"path": "s"}),
    (ReentrantUse, reentrant, {}),
    (LogCorrupt, corrupt, {"path": "s"}),
    (NotAStore, lambda folder: Store(folder), {}),
    (NotAStore, lambda folder: Store(folder / "absent", read_only=True), {"path": "absent"}),
    (NewerFormat, newer, {"path": "s", "version": "99.0"}),
]


@pytest.mark.parametrize(("kind", "provoke", "fields"), PROVOKED)
def test_raise_with_message_and_fields(
    tmp_path: Path, kind: type[MapItemError], provoke: Callable[[Path], object], fields: dict[str, Any]
) -> None:
    """X: what is raised has a message and the fields that say what to do next, and survives pickling with both."""
    with pytest.raises(kind) as caught:
        provoke(tmp_path)
    error = caught.value
    assert type(error) is kind
    for name, value in fields.items():
        found = getattr(error, name)
        assert found == (str(tmp_path / value) if name == "path" and issubclass(kind, StoreError) else value)
    assert set(vars(error)) - {"code"} == set(TABLE[kind][3])
    assert all(value != "" for value in vars(error).values())
    message = str(error)
    assert len(message) > 10
    assert message[0] != "'"
    assert message[-1] != "."
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, message, vars(error))


def test_provoke_nearly_all() -> None:
    """X: only the errors that need a fork or a broken disk are not provoked here."""
    assert set(TABLE) - {kind for kind, _, _ in PROVOKED} == {StoreForked, StoreFailed}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_raise_in_a_forked_child(tmp_path: Path) -> None:
    """X: ``StoreForked`` says what to do."""
    with Store(tmp_path / "s") as store:
        answer, told = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                store.map("m")
            except StoreForked as error:
                os.write(told, str(error).encode())
            finally:
                os._exit(0)
        os.close(told)
        with os.fdopen(answer, "rb") as stream:
            message = stream.read().decode()
        os.waitpid(child, 0)
    assert "fork" in message


def test_tell_corruption_in_numbers(tmp_path: Path) -> None:
    """X: ``LogCorrupt`` tells where, why and how many whole records lie before and after, as numbers."""
    with pytest.raises(LogCorrupt) as caught:
        corrupt(tmp_path)
    error = caught.value
    assert 0 < error.offset <= (tmp_path / "s").stat().st_size
    assert error.reason
    assert min(error.records_before, error.records_after) >= 1
    assert str(error.offset) in str(error)


def test_catch_by_group() -> None:
    """X: one ``except`` catches all, the argument errors, those of the store, or those that are builtins too."""
    map_ = Store().map("m")
    for group, call in (
        (MapItemError, lambda: map_["absent"]),
        (LookupError, lambda: map_["absent"]),
        (KeyError, lambda: map_.remove("absent")),
        (InvalidArgument, lambda: map_.set("k", {"x": "x" * 20_000})),
        (ValueError, lambda: map_.set("", {})),
        (StoreError, lambda: closed(Path())),
    ):
        with pytest.raises(group):
            call()


# ---------------------------------------------------------------- as values


@every_kind
def test_show_the_message(kind: type[MapItemError]) -> None:
    """X: ``str`` is the message, of those that are ``KeyError`` too, which would quote it; without one it is empty."""
    assert str(make(kind, 'it\'s "so"\n')) == 'it\'s "so"\n'
    assert str(kind()) == ""
    assert kind.__name__ in repr(make(kind))


@every_kind
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_every_error(kind: type[MapItemError], protocol: int) -> None:
    """X: a pickled error comes back as it was: kind, message and every field."""
    error = make(kind)
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert str(again) == "what happened"
    assert vars(again) == vars(error)
    assert {name: getattr(again, name) for name in TABLE[kind][3]} == TABLE[kind][3]
    assert (again.status, again.code) == (error.status, error.code)


@every_kind
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copy_every_error(kind: type[MapItemError], duplicate: Callable[[Any], Any]) -> None:
    """X: the same for a copy."""
    error = make(kind)
    again = duplicate(error)
    assert (type(again), str(again), vars(again)) == (kind, "what happened", vars(error))


def test_pickle_the_code_of_a_map_by_name() -> None:
    """X: the code that depends on how a map was asked for is kept too."""
    again = pickle.loads(pickle.dumps(MapNotFound("no map", name="m", by_name=True)))
    assert (again.code, again.name, str(again)) == (54300, "m", "no map")


@given(kind=st.sampled_from(list(TABLE)), message=st.text(), text=st.text(), number=st.integers())
def test_pickle_any_fields(kind: type[MapItemError], message: str, text: str, number: int) -> None:
    """X: whatever the message and the fields hold."""
    values = {str: text, int: number, bool: number > 0}
    fields = {name: values[type(value)] for name, value in TABLE[kind][3].items()}
    error = kind(message, **fields)
    assert vars(error) == fields
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, message, fields)


@every_kind
def test_add_notes_and_causes(kind: type[MapItemError]) -> None:
    """X: they are exceptions like any other: they take notes, causes and tracebacks."""
    cause = OSError("disk")
    with pytest.raises(kind) as caught:
        raise make(kind) from cause
    caught.value.add_note("more")
    assert caught.value.__cause__ is cause
    assert pickle.loads(pickle.dumps(caught.value)).__notes__ == ["more"]


def test_fail_with_what_is_not_ours(tmp_path: Path) -> None:
    """X: what the operating system refuses stays its ``OSError``, and is no ``MapItemError``."""
    with pytest.raises(OSError, match="No such file") as caught:
        Store(tmp_path / "absent" / "s")
    assert not isinstance(caught.value, MapItemError)

"""Record what a program asks of a store and what the store answers, call by call, as lines of JSON.

A ``Recorder`` wraps any store with the public methods of ``Store`` and ``Map``, whoever made it. The trace can be read
by people, kept, sent in with a report, replayed through the oracle (``check_trace``) and, if several threads made it,
judged for atomicity (``check_linearizability``). This room writes and reads traces and judges nothing.

The first line says what the file is. Every other line is one call: ``n`` and ``end`` number the beginnings and ends of
calls, over all threads, ``now`` is the clock, ``in`` the call of ``mutate``, and which of its calls of ``fn``, that
this one was made in.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import IO, Any

from mapitem.errors import StoreError
from mapitem.item import MapItem
from mapitem.limits import Limits
from mapitem.testing.rates import RateLimitExceeded
from mapitem.testing.trace_values import Json, error_to_json, to_json

PROPERTIES = ("revision", "date_created", "date_updated", "date_expires", "created_by")
_FORMAT = 1


class Recorder:
    """Writes one trace, to a path or an open text file. Thread-safe. Close it, or use it in a ``with`` block.

    Give the store the recorder's ``clock``, which is the ``clock`` you give here, but stands still while a call lasts:
    only then can a replay be exact to the microsecond. ``identity`` and ``limits`` are those of the store, for the
    replay. The trace begins with an empty store; one that is closed and opened again is wrapped again, and goes on.

    >>> import io
    >>> from mapitem import Store
    >>> from mapitem.testing import ManualClock, check_trace
    >>> file = io.StringIO()
    >>> recorder = Recorder(file, clock=ManualClock())
    >>> store = recorder.wrap(Store(clock=recorder.clock))
    >>> store.map("m").set("a", {"x": 1}).revision
    '0'
    >>> print(check_trace(file.getvalue().splitlines()))
    None
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | IO[str],
        *,
        clock: Callable[[], float] = time.time,
        identity: str = "system",
        limits: Limits | None = None,
    ) -> None:
        self._is_owner = isinstance(file, str | os.PathLike)
        self._file = open(file, "w", encoding="utf-8") if isinstance(file, str | os.PathLike) else file  # noqa: SIM115
        self._base_clock = clock
        self._lock = threading.Lock()
        self._ticket = 0
        self._threads: dict[int, int] = {}
        self._here = threading.local()
        given = limits if limits is not None else Limits()
        self._write(
            {
                "trace": "mapitem",
                "format": _FORMAT,
                "identity": identity,
                "max_key_chars": given.max_key_chars,
                "max_data_bytes": given.max_data_bytes,
            }
        )

    def clock(self) -> float:
        """The clock for the store: seconds since 1970-01-01 UTC, the same throughout a recorded call."""
        now: float | None = getattr(self._here, "now", None)
        return self._base_clock() if now is None else now

    def wrap(self, store: Any) -> RecordedStore:
        """The store to use in its place. Its handles and batches are recorded too; what it returns is the store's own.

        Recorded is what a replay can repeat: maps, writes, batches, reads, ``changes``, ``purge``, ``compact``. A
        ``range`` is walked to its end at once. The rest (``on``, ``watch``, ``sync``, ``close`` …) goes through
        unseen, and so do writes that bypass the wrapped store.
        """
        return RecordedStore(self, store)

    def close(self) -> None:
        """Close the file, if the recorder opened it."""
        if self._is_owner:
            self._file.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ------------------------------------------------------------ for the wrapped store

    @contextmanager
    def line(
        self, call: str, sid: str | None, args: Iterable[Any] = (), kwargs: Mapping[str, Any] = {}
    ) -> Iterator[Any]:
        """One call: fill in ``["result"]`` of what this yields, or let the error pass through."""
        here = self._here
        outer_now, outer_place = getattr(here, "now", None), getattr(here, "place", None)
        here.now = None
        here.now = now = self.clock()
        line: dict[str, Json] = {"n": self._next(), "thread": self._thread(), "now": now, "call": call}
        if sid is not None:
            line["map"] = sid
        if outer_place is not None:
            line["in"] = outer_place
        line["args"] = [to_json(each) for each in args]
        line["kwargs"] = {name: to_json(each) for name, each in kwargs.items()}
        here.place = None
        try:
            yield line
        except BaseException as error:
            line["error"] = error_to_json(error)
            if isinstance(error, OSError | StoreError | RateLimitExceeded):
                # Of no concern to the rules of a call, and nothing that a replay could repeat.
                line["outside"] = True
            if getattr(error, "outcome_unknown", False):
                line["outcome_unknown"] = True
            raise
        finally:
            line["end"] = self._next()
            self._write(line)
            here.now, here.place = outer_now, outer_place

    def asking(self, line: dict[str, Json], fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A function for ``mutate`` that notes in the line what ``fn`` was given and what it made of it."""
        calls = line["calls"] = []

        def ask(data: Any) -> Any:
            given = deepcopy(data)
            call: dict[str, Json] = {"given": to_json(given)}
            calls.append(call)
            self._here.place = [line["n"], len(calls) - 1]
            try:
                returned = fn(data)
                call["returned"] = to_json(returned)
                return returned
            except BaseException as error:
                call["raised"] = type(error).__name__
                raise
            finally:
                if (left := to_json(data)) != call["given"]:
                    call["left"] = left
                self._here.place = None
                # However long fn took, or wherever it moved the clock: what follows is judged at a new instant.
                self._here.now = None
                self._here.now = call["now"] = self.clock()

        return ask

    def _next(self) -> int:
        with self._lock:
            self._ticket += 1
            return self._ticket

    def _thread(self) -> int:
        with self._lock:
            return self._threads.setdefault(threading.get_ident(), len(self._threads))

    def _write(self, line: dict[str, Json]) -> None:
        text = json.dumps(line, separators=(",", ":")) + "\n"
        with self._lock:
            self._file.write(text)


class RecordedStore:
    """A store whose calls are recorded. Made by ``Recorder.wrap``."""

    def __init__(self, recorder: Recorder, store: Any) -> None:
        self._recorder = recorder
        self._store = store

    def __repr__(self) -> str:
        return f"<recorded {self._store!r}>"

    def __enter__(self) -> RecordedStore:
        self._store.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._store.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def map(self, *args: Any, **kwargs: Any) -> RecordedMap:
        return self._open("map", args, kwargs)

    def create_map(self, *args: Any, **kwargs: Any) -> RecordedMap:
        return self._open("create_map", args, kwargs)

    def open_map(self, *args: Any, **kwargs: Any) -> RecordedMap:
        return self._open("open_map", args, kwargs)

    def maps(self) -> Iterator[RecordedMap]:
        with self._recorder.line("maps", None) as line:
            maps = list(self._store.maps())
            line["result"] = to_json(maps)
        return iter([RecordedMap(self._recorder, map_) for map_ in maps])

    def purge(self) -> Any:
        with self._recorder.line("purge", None) as line:
            line["result"] = gone = self._store.purge()
        return gone

    def compact(self) -> None:
        with self._recorder.line("compact", None) as line:
            line["result"] = self._store.compact()

    def batch(self) -> RecordedBatch:
        return RecordedBatch(self._recorder, self._store.batch())

    def _open(self, call: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RecordedMap:
        with self._recorder.line(call, None, args, kwargs) as line:
            map_ = getattr(self._store, call)(*args, **kwargs)
            line["result"] = to_json(map_)
        return RecordedMap(self._recorder, map_)


class RecordedMap(Mapping[str, MapItem]):
    """A map whose calls are recorded."""

    def __init__(self, recorder: Recorder, map_: Any) -> None:
        self._recorder = recorder
        self._map = map_

    def __repr__(self) -> str:
        return f"<recorded {self._map!r}>"

    def __eq__(self, other: object) -> bool:
        return bool(self._map == (other._map if isinstance(other, RecordedMap) else other))

    def __hash__(self) -> int:
        return hash(self._map)

    def __getattr__(self, name: str) -> Any:
        if name in PROPERTIES:
            with self._recorder.line(name, self._map.sid) as line:
                value = getattr(self._map, name)
                line["result"] = to_json(value)
            return value
        return getattr(self._map, name)

    def _call(self, call: str, *args: Any, **kwargs: Any) -> Any:
        with self._recorder.line(call, self._map.sid, args, kwargs) as line:
            result = getattr(self._map, call)(*args, **kwargs)
            if call in ("range", "__iter__", "changes"):
                result = list(result)
            line["result"] = to_json(result)
        return result

    def create(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._call("create", key, *args, **kwargs)

    def set(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._call("set", key, *args, **kwargs)

    def update(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._call("update", key, *args, **kwargs)

    def mutate(self, key: str, fn: Any, **kwargs: Any) -> Any:
        with self._recorder.line("mutate", self._map.sid, (key,), kwargs) as line:
            result = self._map.mutate(key, self._recorder.asking(line, fn) if callable(fn) else fn, **kwargs)
            line["result"] = to_json(result)
        return result

    def remove(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._call("remove", key, *args, **kwargs)

    def set_item_ttl(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._call("set_item_ttl", key, *args, **kwargs)

    def set_ttl(self, *args: Any, **kwargs: Any) -> Any:
        return self._call("set_ttl", *args, **kwargs)

    def purge(self) -> Any:
        return self._call("purge")

    def remove_map(self) -> Any:
        return self._call("remove_map")

    def __getitem__(self, key: str) -> Any:
        return self._call("__getitem__", key)

    def get(self, key: str, default: Any = None) -> Any:
        with self._recorder.line("get", self._map.sid, (key,)) as line:
            item = self._map.get(key)
            line["result"] = to_json(item)
        return default if item is None else item

    def __contains__(self, key: object) -> bool:
        return bool(self._call("__contains__", key))

    def __len__(self) -> int:
        return int(self._call("__len__"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._call("__iter__"))

    def range(self, *args: Any, **kwargs: Any) -> Iterator[MapItem]:
        return iter(self._call("range", *args, **kwargs))

    def page(self, **kwargs: Any) -> Any:
        return self._call("page", **kwargs)

    def changes(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return iter(self._call("changes", *args, **kwargs))


class RecordedBatch:
    """A batch that is recorded as one call, when it ends."""

    def __init__(self, recorder: Recorder, batch: Any) -> None:
        self._recorder = recorder
        self._batch = batch
        self._writes: list[Json] = []

    @property
    def results(self) -> Any:
        return self._batch.results

    def __enter__(self) -> RecordedBatch:
        self._batch.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        with self._recorder.line("batch", None) as line:
            line["writes"] = self._writes
            line["aborted"] = kind is not None
            self._batch.__exit__(kind, error, traceback)
            line["result"] = None if kind is not None else to_json(self._batch.results)

    def create(self, map: Any, key: str, *args: Any, **kwargs: Any) -> None:
        self._call("create", map, key, *args, **kwargs)

    def set(self, map: Any, key: str, *args: Any, **kwargs: Any) -> None:
        self._call("set", map, key, *args, **kwargs)

    def update(self, map: Any, key: str, *args: Any, **kwargs: Any) -> None:
        self._call("update", map, key, *args, **kwargs)

    def remove(self, map: Any, key: str, *args: Any, **kwargs: Any) -> None:
        self._call("remove", map, key, *args, **kwargs)

    def set_item_ttl(self, map: Any, key: str, *args: Any, **kwargs: Any) -> None:
        self._call("set_item_ttl", map, key, *args, **kwargs)

    def _call(self, call: str, map_: Any, *args: Any, **kwargs: Any) -> None:
        plain = map_._map if isinstance(map_, RecordedMap) else map_
        write: dict[str, Json] = {
            "call": call,
            "map": getattr(plain, "sid", None),
            "args": to_json(list(args)),
            "kwargs": {name: to_json(each) for name, each in kwargs.items()},
        }
        self._writes.append(write)
        try:
            getattr(self._batch, call)(plain, *args, **kwargs)
        except Exception as error:
            write["error"] = error_to_json(error)
            raise


# ---------------------------------------------------------------- reading


class Call:
    """One line of a trace. ``number`` is the line's, ``fields`` what it says."""

    __slots__ = ("fields", "number")

    def __init__(self, number: int, fields: dict[str, Json]) -> None:
        self.number = number
        self.fields = fields

    def __str__(self) -> str:
        arguments = [_shown(each) for each in self.fields["args"]]
        arguments += [f"{name}={_shown(each)}" for name, each in self.fields["kwargs"].items()]
        if "writes" in self.fields:
            arguments = [str(Call(0, write)) for write in self.fields["writes"]]
        return f"{self.fields['call']}({', '.join(arguments)})"


def _shown(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"


def read_trace(source: str | os.PathLike[str] | Iterable[str]) -> tuple[dict[str, Json], list[Call]]:
    """The first line of a trace, and its calls in the order in which they began.

    ``source`` is a path, or the lines themselves. ``ValueError`` for what is no trace, ``OSError`` from reading.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, encoding="utf-8") as file:
            return read_trace(list(file))
    head: dict[str, Json] | None = None
    calls = []
    for number, text in enumerate(source, 1):
        try:
            fields = json.loads(text)
            if head is None and fields["trace"] == "mapitem" and fields["format"] == _FORMAT:
                head = fields
                continue
            calls.append(Call(number, fields))
            if head is None or not fields["n"] < fields["end"] or not fields.keys() & {"result", "error"}:
                raise ValueError
            fields["call"], fields["now"], fields["thread"], fields["args"], fields["kwargs"]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"line {number} is no line of a trace of format {_FORMAT}: {text[:60]!r}") from None
    if head is None:
        raise ValueError("there is no trace: not even a first line")
    return head, sorted(calls, key=lambda call: int(call.fields["n"]))

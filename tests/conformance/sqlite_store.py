"""A store of maps over SQLite: an example of somebody else's implementation, for docs/conformance.md.

It has the verbs of ``mapitem.Store`` and ``mapitem.Map`` and shares nothing with them but errors and values. It tells
nobody of what happens (no ``on``, ``changes``, ``watch``), and has no limits to set.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Any
from zlib import crc32

from mapitem import MapItem, Page, errors

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000  # instants are microseconds since then
YEAR = 31_536_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS map (
    sid TEXT PRIMARY KEY, name TEXT UNIQUE, events INTEGER, created INTEGER, updated INTEGER, expires INTEGER,
    created_by TEXT
);
CREATE TABLE IF NOT EXISTS item (
    sid TEXT, key BLOB, data TEXT, number INTEGER, created INTEGER, updated INTEGER, expires INTEGER, created_by TEXT,
    PRIMARY KEY (sid, key)
) WITHOUT ROWID;
"""


class SQLiteStore:
    def __init__(
        self,
        path: str = ":memory:",
        *,
        clock: Callable[[], float],
        identity: str = "system",
        read_only: bool = False,
        sync: bool = True,
    ) -> None:
        self.clock = clock
        self.identity = identity
        self.path = path
        self.read_only = read_only
        self.lock = RLock()
        self.closed = False
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.row_factory = sqlite3.Row
        self.db.execute(f"PRAGMA synchronous = {'FULL' if sync else 'OFF'}")
        self.db.executescript(SCHEMA)

    def __enter__(self) -> SQLiteStore:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        with self.lock:
            self.closed = True
            self.db.close()

    def map(self, name: str, *, ttl: Any = None) -> SQLiteMap:
        self.check_open()
        check_name(name)
        seconds = check_ttl(ttl)
        with self.write():
            found = self.find("name", name)
            return self.create(name, seconds) if found is None else found

    def create_map(self, name: str | None = None, *, ttl: Any = None) -> SQLiteMap:
        self.check_open()
        if name is not None:
            check_name(name)
        seconds = check_ttl(ttl)
        with self.write():
            if name is not None and self.find("name", name) is not None:
                raise errors.MapExists(f"there is a map {name!r}", name=name)
            return self.create(name, seconds)

    def open_map(self, name_or_sid: str) -> SQLiteMap:
        self.check_open()
        by_name = not looks_like_sid(name_or_sid)
        if by_name:
            check_name(name_or_sid)
        found = self.find("name" if by_name else "sid", name_or_sid)
        if found is None:
            raise errors.MapNotFound(f"no map {name_or_sid!r}", name=name_or_sid, by_name=by_name)
        return found

    def maps(self) -> Iterator[SQLiteMap]:
        live = "expires IS NULL OR expires > ?"
        rows = self.read(f"SELECT * FROM map WHERE {live} ORDER BY name IS NULL, name, sid", self.now())
        return iter([SQLiteMap(self, row["sid"], row["name"]) for row in rows])

    def purge(self) -> int:
        self.check_open()
        now = self.now()
        with self.write():
            gone = 0
            for row in self.read("SELECT * FROM map WHERE expires <= ?", now):
                gone += self.drop(row["sid"])
            for row in self.read("SELECT * FROM map"):
                gone += SQLiteMap(self, row["sid"], row["name"]).drop_due(now)
            return gone

    @contextmanager
    def batch(self) -> Iterator[SQLiteBatch]:
        self.check_open()
        batch = SQLiteBatch(self)
        yield batch
        now, results = self.now(), []
        with self.write():
            for index, step in enumerate(batch.steps):
                try:
                    results.append(step(now))
                except errors.MapItemError as error:
                    error.index = index
                    raise
        batch.results = results

    def create(self, name: str | None, ttl: int | None) -> SQLiteMap:
        now = self.now()
        for row in self.read("SELECT * FROM map WHERE name = ?", name):
            self.drop(row["sid"])
        sid = f"MP{secrets.token_hex(16)}"
        self.execute(
            "INSERT INTO map VALUES (?, ?, 0, ?, ?, ?, ?)", sid, name, now, now, expiry(ttl, now, None), self.identity
        )
        return SQLiteMap(self, sid, name)

    def drop(self, sid: str) -> int:
        self.execute("DELETE FROM map WHERE sid = ?", sid)
        return self.execute("DELETE FROM item WHERE sid = ?", sid).rowcount

    def find(self, column: str, value: str) -> SQLiteMap | None:
        for row in self.read(f"SELECT * FROM map WHERE {column} = ?", value):
            if not is_due(row["expires"], self.now()):
                return SQLiteMap(self, row["sid"], row["name"])
        return None

    def now(self) -> int:
        return round(self.clock() * SECOND)

    def read(self, query: str, *arguments: Any) -> list[sqlite3.Row]:
        with self.lock:
            self.check_open()
            return self.db.execute(query, arguments).fetchall()

    def execute(self, query: str, *arguments: Any) -> sqlite3.Cursor:
        return self.db.execute(query, arguments)

    @contextmanager
    def write(self) -> Iterator[None]:
        """All of the block, or nothing."""
        if self.read_only:
            raise errors.StoreReadOnly("the store was opened to be read")
        with self.lock:
            self.check_open()
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.execute("ROLLBACK")
                raise
            self.execute("COMMIT")

    def check_open(self) -> None:
        if self.closed:
            raise errors.StoreClosed("the store is closed")


class SQLiteMap(Mapping[str, MapItem]):
    def __init__(self, store: SQLiteStore, sid: str, name: str | None) -> None:
        self.store = store
        self.sid = sid
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SQLiteMap) and (self.store, self.sid) == (other.store, other.sid)

    def __hash__(self) -> int:
        return hash(self.sid)

    # Writing: a verb is a batch of one.

    def create(self, key: str, data: Any, **options: Any) -> MapItem:
        return self.alone("create", key, data, **options)

    def set(self, key: str, data: Any, **options: Any) -> MapItem:
        return self.alone("set", key, data, **options)

    def update(self, key: str, changes: Any, **options: Any) -> MapItem:
        return self.alone("update", key, changes, **options)

    def remove(self, key: str, **options: Any) -> MapItem:
        return self.alone("remove", key, **options)

    def set_item_ttl(self, key: str, ttl: Any, **options: Any) -> MapItem:
        return self.alone("set_item_ttl", key, ttl, **options)

    def alone(self, verb: str, *arguments: Any, **options: Any) -> MapItem:
        try:
            with self.store.batch() as batch:
                getattr(batch, verb)(self, *arguments, **options)
        except errors.MapItemError as error:
            error.index = None
            raise
        return batch.results[0]

    def mutate(
        self,
        key: str,
        fn: Callable[[dict[str, Any]], dict[str, Any] | None],
        *,
        ttl: Any = None,
        collection_ttl: Any = None,
        max_attempts: int = 100,
    ) -> MapItem | None:
        self.store.check_open()
        check_key(key)
        seconds, map_seconds = check_ttl(ttl), check_ttl(collection_ttl)
        for attempt in range(1, max_attempts + 1):
            item: MapItem | None = self.get(key)
            revision = None if item is None else item.revision
            before = "{}" if item is None else json.dumps(item.data)
            data = json.loads(before)
            wanted = fn(data)
            if wanted is None:
                if json.dumps(data) != before:
                    raise TypeError("the function changed the data and did not return it")
                return item
            now = self.store.now()
            try:
                with self.store.write():
                    row = self.live_row(key, now)
                    actual = None if row is None else f"{row['number']:x}"
                    if actual != revision:
                        raise errors.RevisionMismatch(
                            f"{key!r} was written", key=key, expected=revision or "", actual=actual or ""
                        )
                    return self.put(key, check_data(wanted), seconds, map_seconds, now)
            except errors.RevisionMismatch:
                if attempt == max_attempts:
                    raise
        return None

    def set_ttl(self, ttl: Any) -> None:
        self.store.check_open()
        seconds = check_given_ttl(ttl)
        now = self.store.now()
        with self.store.write():
            self.row(now)
            self.store.execute("UPDATE map SET expires = ? WHERE sid = ?", expiry(seconds, now, None), self.sid)

    def purge(self) -> int:
        self.store.check_open()
        now = self.store.now()
        with self.store.write():
            self.row(now)
            return self.drop_due(now)

    def remove_map(self) -> None:
        self.store.check_open()
        with self.store.write():
            self.row(self.store.now())
            self.store.drop(self.sid)

    # Reading

    def __getitem__(self, key: str) -> MapItem:
        item = self.get(key)
        if item is None:
            raise errors.ItemNotFound(f"no item {key!r}", key=key)
        return item

    def get(self, key: str, default: Any = None) -> Any:
        self.store.check_open()
        check_key(key)
        row = self.live_row(key, self.store.now())
        return default if row is None else item_of(row)

    def __contains__(self, key: object) -> bool:
        self.row(self.store.now())
        return is_key(key) and self.live_row(str(key), self.store.now()) is not None

    def __len__(self) -> int:
        now = self.store.now()
        self.row(now)
        query = "SELECT count(*) FROM item WHERE sid = ? AND (expires IS NULL OR expires > ?)"
        count: int = self.store.read(query, self.sid, now)[0][0]
        return count

    def __iter__(self) -> Iterator[str]:
        return (item.key for item in self.range())

    def range(
        self,
        from_: str | None = None,
        *,
        bounds: str = "inclusive",
        order: str = "asc",
        prefix: str | None = None,
        limit: int | None = None,
    ) -> Iterator[MapItem]:
        self.store.check_open()
        check_listing(from_, bounds, order, prefix)
        if limit is not None and (type(limit) is not int or limit < 0):
            raise ValueError("limit is an int of at least 0")
        found = self.select(from_, bounds, order, prefix, -1 if limit is None else limit)
        return self.walk(found)

    def walk(self, rows: list[sqlite3.Row]) -> Iterator[MapItem]:
        for row in rows:
            self.row(self.store.now())
            yield item_of(row)

    def page(
        self,
        *,
        page_size: int = 50,
        from_: str | None = None,
        bounds: str = "inclusive",
        order: str = "asc",
        prefix: str | None = None,
        page_token: str | None = None,
    ) -> Page:
        self.store.check_open()
        if type(page_size) is not int or not 1 <= page_size <= 1000:
            raise errors.InvalidPageSize("page_size is an int from 1 to 1000")
        check_listing(from_, bounds, order, prefix)
        listing = [from_, bounds, order, prefix]
        if page_token is not None:
            if listing != [None, "inclusive", "asc", None]:
                raise errors.InvalidPageToken("a token carries its listing")
            listing = self.read_token(page_token)
        from_, bounds, order, prefix = listing
        rows = self.select(from_, bounds, order, prefix, page_size + 1)
        on = None
        if len(rows) > page_size:
            on = self.token([rows[page_size - 1]["key"].decode(), "exclusive", order, prefix])
        return Page(tuple(map(item_of, rows[:page_size])), on, None)

    def token(self, listing: list[Any]) -> str:
        body = json.dumps([self.sid, *listing]).encode()
        return f"{body.hex()}{crc32(body):08x}"

    def read_token(self, token: object) -> list[Any]:
        try:
            sid, *listing = json.loads(bytes.fromhex(str(token)[:-8]))
        except ValueError:
            raise errors.InvalidPageToken("no page token") from None
        if sid != self.sid or token != self.token(listing):
            raise errors.InvalidPageToken("a page token of another map, or altered")
        return listing

    def select(self, from_: str | None, bounds: str, order: str, prefix: str | None, limit: int) -> list[sqlite3.Row]:
        now = self.store.now()
        self.row(now)
        where = ["sid = ?", "(expires IS NULL OR expires > ?)"]
        arguments: list[Any] = [self.sid, now]
        if from_ is not None:
            beyond = ">" if order == "asc" else "<"
            where.append(f"key {beyond}{'=' if bounds == 'inclusive' else ''} ?")
            arguments.append(from_.encode())
        if prefix is not None:
            where.append("key >= ? AND key < ?")
            arguments += [prefix.encode(), prefix.encode() + b"\xff"]  # a byte that no UTF-8 has
        query = f"SELECT * FROM item WHERE {' AND '.join(where)} ORDER BY key {order} LIMIT ?"
        return self.store.read(query, *arguments, limit)

    # What the map is

    revision = property(lambda self: f"{self.row(self.store.now())['events']:x}")
    date_created = property(lambda self: date_of(self.row(self.store.now())["created"]))
    date_updated = property(lambda self: date_of(self.row(self.store.now())["updated"]))
    date_expires = property(lambda self: date_of(self.row(self.store.now())["expires"]))
    created_by = property(lambda self: self.row(self.store.now())["created_by"])

    def row(self, now: int) -> sqlite3.Row:
        for row in self.store.read("SELECT * FROM map WHERE sid = ?", self.sid):
            if not is_due(row["expires"], now):
                return row
        raise errors.MapNotFound(f"no map {self.sid}, or no longer", name=self.sid)

    def live_row(self, key: str, now: int) -> sqlite3.Row | None:
        self.row(now)
        rows = self.store.read("SELECT * FROM item WHERE sid = ? AND key = ?", self.sid, key.encode())
        return rows[0] if rows and not is_due(rows[0]["expires"], now) else None

    # Steps of a write, in a transaction

    def judge(self, key: str, if_match: str | None, now: int) -> sqlite3.Row | None:
        row = self.live_row(key, now)
        if if_match is not None:
            if row is None:
                raise errors.ItemNotFound(f"no item {key!r}", key=key)
            actual = f"{row['number']:x}"
            if if_match not in ("*", actual):
                raise errors.RevisionMismatch(f"{key!r} is at {actual}", key=key, expected=if_match, actual=actual)
        return row

    def put(self, key: str, text: str, ttl: int | None, map_ttl: int | None, now: int) -> MapItem:
        self.drop_due(now)
        old = self.live_row(key, now)
        created = old["created"] if old else now
        updated = max(now, old["updated"]) if old else now
        expires = expiry(ttl, now, old["expires"] if old else None)
        created_by = old["created_by"] if old else self.store.identity
        self.store.execute(
            "INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(self.sid, key.encode(), text, self.take_number(now), created, updated, expires, created_by),
        )
        if map_ttl is not None:
            self.store.execute("UPDATE map SET expires = ? WHERE sid = ?", expiry(map_ttl, now, None), self.sid)
        row = self.live_row(key, now)
        assert row is not None
        return item_of(row)

    def take(self, key: str, now: int) -> MapItem:
        self.drop_due(now)
        row = self.live_row(key, now)
        assert row is not None
        self.store.execute("DELETE FROM item WHERE sid = ? AND key = ?", self.sid, key.encode())
        self.take_number(now)
        return item_of(row)

    def drop_due(self, now: int) -> int:
        due = self.store.read("SELECT * FROM item WHERE sid = ? AND expires <= ? ORDER BY expires, key", self.sid, now)
        for row in due:
            self.store.execute("DELETE FROM item WHERE sid = ? AND key = ?", self.sid, row["key"])
            self.take_number(now)
        return len(due)

    def take_number(self, now: int) -> int:
        number: int = self.store.read("SELECT events FROM map WHERE sid = ?", self.sid)[0][0]
        self.store.execute("UPDATE map SET events = events + 1, updated = max(updated, ?) WHERE sid = ?", now, self.sid)
        return number


class SQLiteBatch:
    """Each verb checks its arguments at once; the step that is left is taken when the block ends."""

    def __init__(self, store: SQLiteStore) -> None:
        self.store = store
        self.steps: list[Callable[[int], MapItem]] = []
        self.results: list[MapItem] = []

    def create(self, map: SQLiteMap, key: str, data: Any, *, ttl: Any = None, collection_ttl: Any = None) -> None:
        text, seconds, map_seconds = self.check(map, key, data, ttl, collection_ttl, None)

        def step(now: int) -> MapItem:
            row = map.live_row(key, now)
            if row is not None:
                raise errors.ItemExists(f"there is an item {key!r}", key=key, revision=f"{row['number']:x}")
            return map.put(key, text, seconds, map_seconds, now)

        self.steps.append(step)

    def set(
        self, map: SQLiteMap, key: str, data: Any, *, ttl: Any = None, collection_ttl: Any = None, if_match: Any = None
    ) -> None:
        text, seconds, map_seconds = self.check(map, key, data, ttl, collection_ttl, if_match)

        def step(now: int) -> MapItem:
            map.judge(key, if_match, now)
            return map.put(key, text, seconds, map_seconds, now)

        self.steps.append(step)

    def update(
        self,
        map: SQLiteMap,
        key: str,
        changes: Any,
        *,
        ttl: Any = None,
        collection_ttl: Any = None,
        if_match: Any = None,
    ) -> None:
        text, seconds, map_seconds = self.check(map, key, changes, ttl, collection_ttl, if_match)

        def step(now: int) -> MapItem:
            row = map.judge(key, if_match, now)
            old = {} if row is None else json.loads(row["data"])
            return map.put(key, check_data({**old, **json.loads(text)}), seconds, map_seconds, now)

        self.steps.append(step)

    def remove(self, map: SQLiteMap, key: str, *, if_match: Any = None) -> None:
        self.check(map, key, {}, None, None, if_match)

        def step(now: int) -> MapItem:
            map.judge(key, if_match or "*", now)
            return map.take(key, now)

        self.steps.append(step)

    def set_item_ttl(self, map: SQLiteMap, key: str, ttl: Any, *, if_match: Any = None) -> None:
        check_key(key)
        seconds = check_given_ttl(ttl)
        self.check(map, key, {}, None, None, if_match)

        def step(now: int) -> MapItem:
            row = map.judge(key, if_match or "*", now)
            assert row is not None
            return map.put(key, row["data"], seconds, None, now)

        self.steps.append(step)

    def check(
        self, map: SQLiteMap, key: Any, data: Any, ttl: Any, collection_ttl: Any, if_match: Any
    ) -> tuple[str, int | None, int | None]:
        self.store.check_open()
        if not isinstance(map, SQLiteMap) or map.store is not self.store:
            raise ValueError("a batch writes to maps of its own store")
        check_key(key)
        text = check_data(data)
        seconds, map_seconds = check_ttl(ttl), check_ttl(collection_ttl)
        if if_match is not None and not (isinstance(if_match, str) and re.fullmatch(r"[0-9a-f]+|\*", if_match)):
            raise errors.InvalidRevision("if_match is lower-case hex or '*'")
        return text, seconds, map_seconds


def item_of(row: sqlite3.Row) -> MapItem:
    created, updated = date_of(row["created"]), date_of(row["updated"])
    assert created is not None
    assert updated is not None
    return MapItem(
        key=row["key"].decode(),
        data=json.loads(row["data"]),
        revision=f"{row['number']:x}",
        date_created=created,
        date_updated=updated,
        date_expires=date_of(row["expires"]),
        created_by=row["created_by"],
    )


def date_of(instant: int | None) -> datetime | None:
    return None if instant is None else EPOCH + timedelta(microseconds=instant)


def is_due(expires: int | None, now: int) -> bool:
    return expires is not None and now >= expires


def expiry(ttl: int | None, now: int, kept: int | None) -> int | None:
    if ttl is None:
        return kept
    return now + ttl * SECOND if ttl else None


def is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def is_key(key: object) -> bool:
    return isinstance(key, str) and is_text(key) and 1 <= len(key) <= 320


def check_key(key: object) -> None:
    if not is_key(key):
        raise errors.InvalidKey("a key is a str of 1 to 320 characters")


def looks_like_sid(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch("[A-Z]{2}[0-9a-fA-F]{32}", name) is not None


def check_name(name: object) -> None:
    if not is_key(name) or looks_like_sid(name):
        raise errors.InvalidName("a name is a key that does not look like a sid")


def check_ttl(ttl: object) -> int | None:
    if isinstance(ttl, timedelta) and not ttl.microseconds:
        ttl = ttl // timedelta(seconds=1)
    if ttl is not None and (type(ttl) is not int or not 0 <= ttl <= YEAR):
        raise errors.InvalidTTL("a ttl is a whole number of seconds up to a year")
    return ttl


def check_given_ttl(ttl: object) -> int:
    seconds = check_ttl(ttl)
    if seconds is None:
        raise errors.InvalidTTL("a ttl has to be given")
    return seconds


def check_data(data: object) -> str:
    """The data as JSON, if JSON gives back the very same."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
        again = json.loads(text, parse_int=parse_int)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise errors.InvalidData(f"no JSON: {error}") from None
    if type(data) is not dict or not is_same(data, again):
        raise errors.InvalidData("data is a JSON object of built-in types")
    if size > 16_384:
        raise errors.DataTooLarge(f"{size} bytes", size=size, limit=16_384)
    return text


def parse_int(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**64:
        raise ValueError("an integer beyond 64 bits")
    return number


def is_same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return is_same(list(one), list(other)) and is_same(list(one.values()), list(other.values()))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


def check_listing(from_: object, bounds: object, order: object, prefix: object) -> None:
    if any(place is not None and not is_text(place) for place in (from_, prefix)):
        raise errors.InvalidKey("from_ and prefix are text")
    if bounds not in ("inclusive", "exclusive"):
        raise errors.InvalidBounds("bounds is 'inclusive' or 'exclusive'")
    if order not in ("asc", "desc"):
        raise errors.InvalidOrder("order is 'asc' or 'desc'")

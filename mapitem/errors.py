"""Every error the library raises on purpose, in one tree.

An error knows its HTTP ``status`` and the service's ``code``, so that nobody else has to map them, and carries as
fields what the caller needs to decide what to do next. This room knows nothing of stores, maps or files.
"""

from __future__ import annotations


class MapItemError(Exception):
    """The root of the tree: ``except MapItemError`` catches whatever the library raises on purpose.

    ``status`` and ``code`` are the HTTP status and the error code with which the service answers the same mistake, or
    ``None`` where the service has no such error. Failures of the disk are not in the tree: they stay ``OSError``.

    ::

        MapItemError
        ├── ItemNotFound (also KeyError)          404  54201
        ├── MapNotFound (also KeyError)           404  54200, by name 54300
        ├── ItemExists                            409  54208
        ├── MapExists                             409  54301
        ├── RevisionMismatch                      412  54205
        ├── HistoryCompacted                      410
        ├── InvalidArgument (also ValueError)
        │   ├── InvalidKey                        400  54209
        │   ├── InvalidName                       400  54302
        │   ├── InvalidData                       400  54008
        │   ├── DataTooLarge                      413  54006
        │   ├── InvalidTTL                        400  54011
        │   ├── InvalidRevision                   400  54003
        │   ├── InvalidOrder                      400  54451
        │   ├── InvalidBounds                     400  54452
        │   ├── InvalidPageToken                  400  54453
        │   └── InvalidPageSize                   400  54454
        └── StoreError
            ├── StoreClosed
            ├── StoreReadOnly
            ├── StoreLocked
            ├── StoreForked
            ├── StoreFailed
            ├── ReentrantUse
            ├── LogCorrupt
            ├── NotAStore
            └── NewerFormat
    """

    status: int | None = None
    code: int | None = None
    index: int | None = None

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    def __str__(self) -> str:
        # KeyError, a second base of two leaves, would show the repr of the message.
        return str(self.args[0]) if self.args else ""


class ItemNotFound(MapItemError, KeyError):
    """No item has this key: it was never written, was removed, or has expired. Field: ``key``."""

    status = 404
    code = 54201

    def __init__(self, message: str = "", *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class MapNotFound(MapItemError, KeyError):
    """No such map, or no longer: it was removed or has expired. Field: ``name``, the name or sid that was asked for."""

    status = 404
    code = 54200

    def __init__(self, message: str = "", *, name: str = "", by_name: bool = False) -> None:
        super().__init__(message)
        self.name = name
        if by_name:
            self.code = 54300


class ItemExists(MapItemError):
    """``create`` on a key that an item has already. Fields: ``key`` and the present item's ``revision``."""

    status = 409
    code = 54208

    def __init__(self, message: str = "", *, key: str = "", revision: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.revision = revision


class MapExists(MapItemError):
    """``create_map`` with a name that a map has already. Field: ``name``."""

    status = 409
    code = 54301

    def __init__(self, message: str = "", *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class RevisionMismatch(MapItemError):
    """The item is there, but not at the revision that ``if_match`` asked for. Read it again and decide anew.

    Fields: ``key``, ``expected`` (what was asked for) and ``actual`` (what the item is at).
    """

    status = 412
    code = 54205

    def __init__(self, message: str = "", *, key: str = "", expected: str = "", actual: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.expected = expected
        self.actual = actual


class HistoryCompacted(MapItemError):
    """The events asked for were dropped by a compaction. Read the map afresh, then follow the feed from its revision.

    Field: ``oldest``, the oldest token that the feed still serves.
    """

    status = 410

    def __init__(self, message: str = "", *, oldest: str = "") -> None:
        super().__init__(message)
        self.oldest = oldest


class InvalidArgument(MapItemError, ValueError):
    """The argument itself is wrong, whatever the store holds; nothing was written. Raised only as one of its leaves."""

    status = 400


class InvalidKey(InvalidArgument):
    """A key that is no string of 1 to 320 characters that UTF-8 can hold."""

    code = 54209


class InvalidName(InvalidArgument):
    """A map's name that is no valid key, or looks like a SID."""

    code = 54302


class InvalidData(InvalidArgument):
    """Data that is no JSON object of exact built-in types. Fields: ``path`` (as ``$.tags[3]``) and ``reason``."""

    code = 54008

    def __init__(self, message: str = "", *, path: str = "$", reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


class DataTooLarge(InvalidArgument):
    """Data whose compact JSON is over the limit.

    Fields, in bytes: ``size`` (exact up to ten times the limit; beyond, a lower bound) and ``limit``.
    """

    status = 413
    code = 54006

    def __init__(self, message: str = "", *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class InvalidTTL(InvalidArgument):
    """A time to live that is no whole number of seconds from 0 to 31 536 000."""

    code = 54011


class InvalidRevision(InvalidArgument):
    """A revision that is neither lower-case hex nor ``"*"``, or a feed's token beyond the map's revision."""

    code = 54003


class InvalidOrder(InvalidArgument):
    """``order`` is neither ``"asc"`` nor ``"desc"``."""

    code = 54451


class InvalidBounds(InvalidArgument):
    """``bounds`` is neither ``"inclusive"`` nor ``"exclusive"``."""

    code = 54452


class InvalidPageToken(InvalidArgument):
    """A page token that this library did not make, or that came with arguments it already carries."""

    code = 54453


class InvalidPageSize(InvalidArgument):
    """A page size that is no int from 1 to 1000."""

    code = 54454


class StoreError(MapItemError):
    """The store as a whole cannot serve the call, whatever its arguments. Raised only as one of its leaves."""


class StoreClosed(StoreError):
    """The store was closed; open it again."""


class StoreReadOnly(StoreError):
    """A write on a store that was opened with ``read_only=True``."""


class StoreLocked(StoreError):
    """Another ``Store``, in this or another process, has the file open for writing. Field: ``path``."""

    def __init__(self, message: str = "", *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class StoreForked(StoreError):
    """A store on file was opened before a ``fork`` and used in the child; open it again there."""


class StoreFailed(StoreError):
    """A failure of the disk left it unknown what the file holds: no more writes until the store is opened anew.

    Field: ``outcome_unknown``, true on the very call whose write may or may not have reached the disk.
    """

    def __init__(self, message: str = "", *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class ReentrantUse(StoreError):
    """A signal handler or a finalizer called a store in the middle of that store's own work. Nothing was done."""


class LogCorrupt(StoreError):
    """The file is damaged where it had been whole. Nothing was changed and nothing is served.

    From a store that is open: what another program put into the file shows only now that it is none of ours. That one
    item, or write to that one map, is refused.

    Fields: ``path``, ``offset`` (bytes from the start of the file), ``reason``, ``records_before`` and
    ``records_after`` (how many whole records lie on either side).
    """

    def __init__(
        self,
        message: str = "",
        *,
        path: str = "",
        offset: int = 0,
        reason: str = "",
        records_before: int = 0,
        records_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset
        self.reason = reason
        self.records_before = records_before
        self.records_after = records_after


class NotAStore(StoreError):
    """The path leads to something that is no mapitem log (or, read-only, to nothing). Fields: ``path``, ``reason``."""

    def __init__(self, message: str = "", *, path: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


class NewerFormat(StoreError):
    """The file was written by a newer version of the format. Fields: ``path``, ``version``."""

    def __init__(self, message: str = "", *, path: str = "", version: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.version = version

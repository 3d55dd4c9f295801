"""mapitem: maps of JSON objects by string key, in memory or in one file.

>>> from mapitem import Store
>>> with Store() as store:
...     users = store.map("users")
...     item = users.create("taylor", {"country": "UK"}, ttl=3600)
...     item = users.update("taylor", {"level": 30}, if_match=item.revision)
...     print(item.data, [each.key for each in users.range("s", limit=10)])
{'country': 'UK', 'level': 30} ['taylor']
"""

from __future__ import annotations

from mapitem.errors import (
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
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreForked,
    StoreLocked,
    StoreReadOnly,
)
from mapitem.events import Event, ItemAdded, ItemRemoved, ItemUpdated, MapRemoved, Subscription
from mapitem.item import MapItem
from mapitem.keyrange import Page
from mapitem.limits import Limits
from mapitem.map import Map
from mapitem.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mapitem.batch import Batch
    from mapitem.opening import Recovery
    from mapitem.watch import Watch

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "DataTooLarge",
    "Event",
    "HistoryCompacted",
    "InvalidArgument",
    "InvalidBounds",
    "InvalidData",
    "InvalidKey",
    "InvalidName",
    "InvalidOrder",
    "InvalidPageSize",
    "InvalidPageToken",
    "InvalidRevision",
    "InvalidTTL",
    "ItemAdded",
    "ItemExists",
    "ItemNotFound",
    "ItemRemoved",
    "ItemUpdated",
    "Limits",
    "LogCorrupt",
    "Map",
    "MapExists",
    "MapItem",
    "MapItemError",
    "MapNotFound",
    "MapRemoved",
    "NewerFormat",
    "NotAStore",
    "Page",
    "Recovery",
    "ReentrantUse",
    "RevisionMismatch",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreForked",
    "StoreLocked",
    "StoreReadOnly",
    "Subscription",
    "Watch",
]


def __getattr__(name: str) -> object:
    # Three classes that no program needs before it has a store: their rooms are imported when somebody asks.
    if name == "Batch":
        from mapitem.batch import Batch

        return Batch
    if name == "Recovery":
        from mapitem.opening import Recovery

        return Recovery
    if name == "Watch":
        from mapitem.watch import Watch

        return Watch
    raise AttributeError(f"module 'mapitem' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

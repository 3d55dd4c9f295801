"""What becomes of stores when the process forks (durability L2, semantics S4).

A store on file is the parent's alone: every use of it in the child is refused, before any lock is waited for that a
thread of the parent may hold. One in memory is the child's own copy.
"""

from __future__ import annotations

import os
from contextlib import suppress
from weakref import WeakSet

from mapitem.errors import StoreForked
from mapitem.threadlock import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mapitem.store import Store

_stores: WeakSet[Store] = WeakSet()


def watch_over(store: Store) -> None:
    """See to this store, for as long as it is there, whenever the process forks."""
    _stores.add(store)


def _all_stores() -> list[Store]:
    while True:
        try:
            return list(_stores)
        except RuntimeError:
            pass  # another thread made a store meanwhile


def _before_fork() -> None:
    """Let no write of a store in memory be half done in the child, whose copy it is (S4)."""
    for store in _all_stores():
        if store._path is None:
            store._lock.acquire()


def _after_fork_in_parent() -> None:
    for store in _all_stores():
        if store._path is None and store._lock._is_owned():  # type: ignore[attr-defined]
            store._lock.release()


def _after_fork_in_child() -> None:
    """Refuse every use of a store on file, and let its files go, which stay open in the parent."""
    for store in _all_stores():
        store._lock = RLock()
        store._teller.forget_locks()
        if store._path is not None and store._refusal is None:
            store._refuse(StoreForked, "the store was opened before a fork: open it again in the child")
            store._is_let_go = True
            with suppress(OSError):  # another thread of the parent may have been about to close it
                store._log.abandon()
            if store._compactor.running is not None:
                with suppress(OSError):
                    store._compactor.running.new.file.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

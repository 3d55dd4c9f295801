"""The store under asyncio: awaitable forms of what waits for the disk. Reads and ordinary writes need none.

A read is memory and a write is memory plus an append to the page cache: call them plainly, on the loop. What waits for
the medium does so on a thread of the loop's executor, and all writes that wait at the same time share one fsync.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar

    from mapitem.batch import Batch
    from mapitem.store import Store

    Parameters = ParamSpec("Parameters")
    Result = TypeVar("Result")


class AsyncStore:
    """A ``Store`` for use from one event loop. It owns nothing: close the store, or ``await`` this one's ``close``.

    >>> import asyncio
    >>> from mapitem import Store
    >>> async def main() -> str:
    ...     with Store() as store:
    ...         users = store.map("users")
    ...         item = await AsyncStore(store).write(users.set, "taylor", {"country": "UK"})
    ...         return item.revision
    >>> asyncio.run(main())
    '0'
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._syncing: asyncio.Future[None] | None = None

    async def write(
        self, verb: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Call a verb of a map (or ``store.map``, ``store.purge`` …) and return its result once it is durable.

        At ``durability="power"`` the record is appended at once, on the loop, and the wait for the disk is shared with
        every other write that waits. At the other levels there is nothing to wait for. Raises what the verb raises, and
        ``StoreFailed`` if the disk refuses. Cancelled while it waits, the write is made and may or may not be durable.
        """
        position, result = self.store._without_waiting(lambda: verb(*args, **kwargs))
        await self._wait_for(position)
        return result

    def batch(self) -> AsyncBatch:
        """As ``Store.batch``, in an ``async with`` block, which ends once the batch is durable."""
        return AsyncBatch(self)

    async def sync(self) -> None:
        """As ``Store.sync``."""
        self.store._check_open()
        await self._wait_for(self.store._log.position)

    async def compact(self) -> None:
        """As ``Store.compact``; reads and writes on the loop go on between its steps."""
        await asyncio.to_thread(self.store.compact)

    async def backup(self, target: str | os.PathLike[str]) -> None:
        """As ``Store.backup``."""
        await asyncio.to_thread(self.store.backup, target)

    async def close(self) -> None:
        """As ``Store.close``."""
        await asyncio.to_thread(self.store.close)

    async def _wait_for(self, position: int) -> None:
        log = self.store._log
        while log.synced_position < position:
            if self._syncing is None or self._syncing.done():
                self._syncing = asyncio.ensure_future(self._sync_and_tell())
            # Shielded: the fsync is everybody's, and one waiter's cancellation is not.
            await asyncio.shield(self._syncing)
        self.store._teller.tell(position)

    async def _sync_and_tell(self) -> None:
        """One fsync for all, and the telling of what it made durable, even if nobody waits for it any more."""
        log = self.store._log
        await asyncio.to_thread(log.sync)
        self.store._teller.tell(log.synced_position)


class AsyncBatch:
    """A batch whose ``async with`` block ends once it is durable; see ``Batch``."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._batch: Batch = store.store.batch()

    async def __aenter__(self) -> Batch:
        return self._batch.__enter__()

    async def __aexit__(self, *exception: Any) -> None:
        position, _ = self._store.store._without_waiting(lambda: self._batch.__exit__(*exception))
        await self._store._wait_for(position)

"""The lock against a second writer: held by the operating system, on a file beside the log that is never renamed.

The log itself is replaced by compaction and would take its lock with it (durability L1).
"""

from __future__ import annotations

import os
from contextlib import suppress

from mapitem.errors import StoreLocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from filelock import FileLock


class WriterLock:
    """The lock of one log, by the log's resolved path; nobody has it before ``acquire``.

    It dies with its holder, however it dies. A forked child does not keep it.
    """

    def __init__(self, path: str) -> None:
        # Here and not above: it costs more to import than the rest of the library, and a store in memory needs none.
        from filelock import FileLock

        self._log_path = path
        self._path = f"{path}.lock"
        self._is_new = not os.path.exists(self._path)
        self._lock: FileLock = FileLock(self._path, blocking=False, thread_local=False, fallback_to_soft=False)

    def acquire(self) -> None:
        """Take it: ``StoreLocked`` at once if somebody has it. Whatever is raised, ``withdraw`` afterwards."""
        from filelock import Timeout

        try:
            self._lock.acquire()
        except Timeout:
            path = self._log_path
            raise StoreLocked(f"{path} is open for writing in another Store", path=path) from None

    def release(self) -> None:
        """Let go. The file stays: taking it away would let two holders lock two files of one name."""
        self._lock.release()

    def withdraw(self) -> None:
        """Let go after a failed opening, and leave no file that was not there before (R8).

        Taking a lock's file away is safe only while it is held: whoever waits for it finds it gone and starts anew.
        """
        if self._is_new and self._lock.is_locked:
            with suppress(OSError):
                os.unlink(self._path)
        # By force: an acquire that was interrupted may hold the lock and not have counted it.
        self._lock.release(force=True)

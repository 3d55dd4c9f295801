"""The lock that threads share, whole also where an interruption comes just as it is taken (durability F3).

It is Python's own but for CPython 3.14. There ``with`` looks for signals when the lock is taken and nothing sees to it
yet that it is given back (python/cpython issue 148874, mended in 3.15): what a handler raises just then, as
``KeyboardInterrupt`` is, left it locked for good.
"""

from __future__ import annotations

import sys

if sys.version_info[:2] == (3, 14):
    from _thread import RLock as _RLock

    class RLock(_RLock):  # type: ignore[misc] # final to type checkers alone
        """A re-entrant lock for ``with``. Only its entry is in Python, for it asks for no signals on its return."""

        def __enter__(self) -> bool:  # type: ignore[override]
            depth = self._recursion_count()  # type: ignore[attr-defined]
            try:
                return self.acquire()
            except BaseException:
                if self._recursion_count() > depth:  # type: ignore[attr-defined]
                    self.release()
                raise

else:
    from threading import RLock as RLock

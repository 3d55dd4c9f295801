"""A clock moved by hand, for tests that are about time."""

from __future__ import annotations


class ManualClock:
    """A clock that stands still until it is moved: give it to ``Store(clock=…)``.

    Calling it returns seconds since 1970-01-01 UTC, as ``time.time`` does. Any thread may move it at any time; stores
    judge expiry anew at each call, so nothing needs to be told.

    >>> clock = ManualClock(now=100.0)
    >>> clock.advance(1.5)
    >>> clock()
    101.5
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = float(now)

    def __call__(self) -> float:
        return self._now

    def __repr__(self) -> str:
        return f"ManualClock(now={self._now!r})"

    def advance(self, seconds: float) -> None:
        """Move the clock by ``seconds``, which may be negative."""
        self._now += seconds

    def set(self, now: float) -> None:
        """Set the clock to ``now``, in seconds since 1970-01-01 UTC; it may lie in the past."""
        self._now = float(now)

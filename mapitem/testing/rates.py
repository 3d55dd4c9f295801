"""How fast the service lets a map be written, and the error when it was too fast.

The numbers are the service's published ones: 20 writes a second and map, over a window of 10 seconds; fewer where the
data is larger than 1 KiB, down to 2 a second at 10 KiB. How it goes from the one to the other is not published; here a
write takes as much of the budget as its data is large, which meets both. This room knows no store.
"""

from __future__ import annotations

from collections import deque

from mapitem.errors import MapItemError

_MICROSECONDS = 1_000_000
_KIB = 1024
_SMALLEST = 1 * _KIB
_LARGEST = 10 * _KIB


class RateLimitExceeded(MapItemError):
    """Writes came faster than the service takes them: wait, and try again.

    Fields: ``name`` (what was written too fast: a map's sid), and ``retry_after``, the seconds until there is room
    for the write that was refused.
    """

    status = 429
    code = 54009

    def __init__(self, message: str = "", *, name: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.name = name
        self.retry_after = retry_after


class RateWindow:
    """The writes to one map within the last seconds, and whether there is room for one more. Not thread-safe."""

    def __init__(self, per_second: float, window_seconds: float) -> None:
        self._budget = per_second * window_seconds * _SMALLEST
        self._window = round(window_seconds * _MICROSECONDS)
        self._taken = 0
        self._seen = 0
        self._writes: deque[tuple[int, int]] = deque()

    def check(self, sizes: list[int], now: int, name: str) -> None:
        """``RateLimitExceeded`` if there is no room for writes of data of these sizes.

        Sizes are in bytes, ``now`` in microseconds. A write leaves the window as soon as it is as old as the window is
        long. A clock that goes back begins anew.
        """
        if now < self._seen:
            self._writes.clear()
            self._taken = 0
        self._seen = now
        while self._writes and self._writes[0][0] + self._window <= now:
            self._taken -= self._writes.popleft()[1]
        cost = _cost(sizes)
        if self._taken + cost > self._budget:
            message = f"Rate limit exceeded for write-map-{name}"
            raise RateLimitExceeded(message, name=name, retry_after=self._wait_for(cost, now))

    def note(self, sizes: list[int], now: int) -> None:
        """Take the room for these writes."""
        cost = _cost(sizes)
        self._taken += cost
        self._writes.append((now, cost))

    def _wait_for(self, cost: int, now: int) -> float:
        taken = self._taken
        for date, old_cost in self._writes:
            taken -= old_cost
            if taken + cost <= self._budget:
                return (date + self._window - now) / _MICROSECONDS
        return float("inf")  # dearer than the whole budget


def _cost(sizes: list[int]) -> int:
    return sum(min(max(size, _SMALLEST), _LARGEST) for size in sizes)

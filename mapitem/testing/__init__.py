"""Help for testing with mapitem. Nothing of it is imported by the core."""

from __future__ import annotations

from mapitem.testing.clock import ManualClock

__all__ = ["ManualClock"]

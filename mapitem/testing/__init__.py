"""Help for testing with mapitem. Nothing of it is imported by the core, and nothing here needs an extra.

What needs ``pytest`` or ``hypothesis`` is imported by its room: ``mapitem.testing.strategies``.
"""

from __future__ import annotations

from mapitem.testing.clock import ManualClock
from mapitem.testing.faults import Faults, FaultyStore, cut
from mapitem.testing.rates import RateLimitExceeded

__all__ = ["Faults", "FaultyStore", "ManualClock", "RateLimitExceeded", "cut"]

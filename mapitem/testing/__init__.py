"""Help for testing with mapitem. Nothing of it is imported by the core, and nothing here needs an extra.

What needs ``pytest`` or ``hypothesis`` is imported by its room: ``mapitem.testing.strategies``.
"""

from __future__ import annotations

from mapitem.testing.clock import ManualClock
from mapitem.testing.faults import Faults, FaultyStore, cut
from mapitem.testing.linearizability import Violation, check_linearizability
from mapitem.testing.rates import RateLimitExceeded
from mapitem.testing.replay import Difference, check_trace
from mapitem.testing.trace import Recorder

__all__ = [
    "Difference",
    "Faults",
    "FaultyStore",
    "ManualClock",
    "RateLimitExceeded",
    "Recorder",
    "Violation",
    "check_linearizability",
    "check_trace",
    "cut",
]

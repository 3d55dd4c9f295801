"""Help for testing with mapitem, and for testing what should be like it. Nothing of it is imported by the core.

What stands here needs no other package. The rooms beside it do, and are imported by their own names: the strategies
(``mapitem.testing.strategies``) and the conformance kit (``mapitem.testing.conformance``) come with the extra
``mapitem[testing]``.
"""

from __future__ import annotations

from mapitem.testing.clock import ManualClock
from mapitem.testing.faults import Faults, FaultyStore, cut
from mapitem.testing.linearizability import Violation, check_linearizability
from mapitem.testing.oracle import Oracle
from mapitem.testing.rates import RateLimitExceeded
from mapitem.testing.replay import Difference, check_trace
from mapitem.testing.trace import Recorder

__all__ = [
    "Difference",
    "Faults",
    "FaultyStore",
    "ManualClock",
    "Oracle",
    "RateLimitExceeded",
    "Recorder",
    "Violation",
    "check_linearizability",
    "check_trace",
    "cut",
]

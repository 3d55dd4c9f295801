"""The sections, in the order of the rules."""

from __future__ import annotations

from mapitem.testing.conformance.kit import Section
from mapitem.testing.conformance.writes import Writes

SECTIONS: tuple[type[Section], ...] = (Writes,)

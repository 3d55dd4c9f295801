"""The sections, in the order of the rules."""

from __future__ import annotations

from mapitem.testing.conformance.data import Data
from mapitem.testing.conformance.following import Events, Feed
from mapitem.testing.conformance.keys import Keys
from mapitem.testing.conformance.kit import Section
from mapitem.testing.conformance.machine import Model
from mapitem.testing.conformance.reading import Reading
from mapitem.testing.conformance.revisions import Items, Revisions
from mapitem.testing.conformance.store import Errors, Stores
from mapitem.testing.conformance.ttl import TimeToLive
from mapitem.testing.conformance.writes import Conditions, Writes

SECTIONS: tuple[type[Section], ...] = (
    *(Keys, Data, Revisions, Items, TimeToLive, Writes, Conditions, Reading, Events, Feed, Stores, Errors, Model),
)

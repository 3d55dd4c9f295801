"""Is your store one? A kit of tests for other people's implementations of the rules.

Derive from ``Conformance``, say how to make a store, and declare what it cannot do. pytest then collects a class of
tests per section of the rules, and a state machine that holds the store against ``mapitem.testing.Oracle``::

    # test_mine.py
    from mapitem.testing.conformance import Capabilities, Conformance

    class TestMyStore(Conformance):
        capabilities = Capabilities(batches=False, events=False, feed=False, watch=False, async_watch=False)

        def make_store(self, clock):        # a new, empty store, at each call
            return MyStore(clock=clock)     # clock() gives seconds since 1970; a ManualClock

        def close(self, store):             # by default store.close()
            store.shut_down()

The tests are called ``test_mine.py::TestMyStore::TestWrites::test_…``. A failure begins with the rule that is broken
(``W5: …``), a skip says which capability it needs (declares no ``batches``). See docs/conformance.md.

A store here is anything with the public methods of ``mapitem.Store`` and ``mapitem.Map`` that its capabilities speak
of. It raises the errors of ``mapitem.errors``. Its items need not be ``MapItem``: whatever has the attributes ``key``,
``data``, ``revision``, ``date_created``, ``date_updated``, ``date_expires`` and ``created_by`` will do; of its events
the class names and the attributes count; its pages have ``items``, ``next_page_token``, ``previous_page_token``.
Keyword arguments are only given when they are not the default, so that a verb may lack those that it does not know.

Needs pytest and hypothesis: the extra ``mapitem[testing]``.
"""

from __future__ import annotations

from typing import ClassVar

from mapitem.testing.conformance.capabilities import Capabilities
from mapitem.testing.conformance.kit import Adapter, RuleBroken, Section, check
from mapitem.testing.conformance.report import Report, run
from mapitem.testing.conformance.sections import SECTIONS

__all__ = ["Capabilities", "Conformance", "Report", "RuleBroken", "Section", "check", "run"]


class Conformance(Adapter):
    """Derive from it in a test module, under a name that pytest collects: see the module's docstring.

    Each subclass gets a nested class of tests for each of ``sections``: ``TestKeys``, ``TestData``, ``TestRevisions``,
    ``TestItems``, ``TestTimeToLive``, ``TestWrites``, ``TestConditions``, ``TestReading``, ``TestEvents``,
    ``TestFeed``, ``TestStores``, ``TestErrors`` and ``TestModel``, the state machine. Add sections of your own to the
    tuple, or leave some out.
    """

    sections: ClassVar[tuple[type[Section], ...]] = SECTIONS

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for section in cls.sections:
            body = {"adapter": cls, "__module__": cls.__module__, "__doc__": section.__doc__}
            setattr(cls, f"Test{section.__name__}", type(f"Test{section.__name__}", (section,), body))

"""The proof can fail: with any one of its safeguards taken out of the library, a test says so.

The safeguards, and the tests that watch over each, are in ``tests/crash/safeguards``, which also makes the table in
``docs/proof.md``: ``python -m tests.crash.safeguards --page docs/proof.md``.
"""

from __future__ import annotations

import os

import pytest
from crash.removal import Check, Safeguard, look
from crash.safeguards import SAFEGUARDS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="some of these tests are about forks and signals")


@pytest.mark.parametrize("safeguard", SAFEGUARDS, ids=lambda safeguard: safeguard.name)
def test_is_missed(safeguard: Safeguard) -> None:
    """V: each of the tests that are said to catch it does, by what it asserts or by an error of the library's."""
    assert safeguard.checks
    for caught in look(safeguard):
        assert caught.said is not None, f"nothing misses {safeguard.name}: {caught.check} passes without it"
        assert caught.is_real, f"{caught.check} fails for a reason of its own: {caught.said}"


def test_tells_a_safeguard_that_nothing_misses() -> None:
    """V: the harness is no rubber stamp: a line that guards nothing is found out, as is one that is not there."""
    check = Check("test_crash.test_tells_of_no_unclean_end_when_a_new_store_was_closed_unused")
    idle = Safeguard("nothing", "", ("- self._sequence += 1\n+ self._sequence += 1",), (check,))
    assert [caught.said for caught in look(idle)] == [None]
    absent = Safeguard("nothing", "", ("- no such line",), (check,))
    with pytest.raises(LookupError, match="0 functions"):
        look(absent)


def test_puts_the_library_back_as_it_was() -> None:
    """V: what is taken out is back when the checks have run, also when they fail."""
    safeguard = next(each for each in SAFEGUARDS if each.name == "the checksum of a record")
    assert look(safeguard)[0].said is not None
    whole = Safeguard("nothing", "", (), safeguard.checks)
    assert [caught.said for caught in look(whole)] == [None] * len(whole.checks)

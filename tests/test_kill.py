"""Processes killed with SIGKILL at every kind of moment: the short form of ``kill.campaign`` (durability V3).

The long form is ``python -m tests.kill.campaign --rounds 300 --level all``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kill.campaign import LEVELS, Campaign
from test_mapped import may_map

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")


@pytest.mark.parametrize("level", LEVELS)
def test_file_is_whole_after_each_of_many_kills(tmp_path: Path, level: str) -> None:
    """V3, P1, P3: after SIGKILL all that was acknowledged is there, and at most what was in flight; work goes on."""
    campaign = Campaign(tmp_path, level, seed=1)
    campaign.run(rounds=12)
    # The test is worth something only if the processes came to work and were killed in the midst of it.
    assert campaign.figures["moves acknowledged"] > 200
    assert campaign.figures["killed from outside"] > 1
    assert campaign.figures["killed by itself"] > 1
    assert campaign.figures["feeds that begin anew"] > 5
    if level != "power" and may_map(tmp_path):
        assert campaign.figures["zeros allocated ahead"] > 0

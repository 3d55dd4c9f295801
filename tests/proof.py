"""The whole proof of what the file promises, for as long as it is told: durability V1 to V4 in one command.

    python -m tests.proof --minutes 30 [--seed N] [--only PART] [--page docs/proof.md]

Parts share the time and take turns: ``crashes`` on a simulated disk (V1), ``failures`` of its calls and
``interruptions`` at any line (V2), ``kills`` of real processes (V3), ``damages`` of files and hostile ones (V4). It
prints what was tried, each finding with the command that shows it again, and exits with 1 if there was one. What each
part does is told by its own room; ``docs/proof.md`` says what it all comes to.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

# As a program it is no part of what pytest puts on the path.
sys.path.insert(0, str(Path(__file__).parent))
from crash.campaign import PARTS, Part, main
from damage_campaign import campaign_round
from kill.campaign import LEVELS, Campaign


def kills(seed: int, figures: Counter[str]) -> None:
    """Twelve rounds on one file: processes that are killed while they acknowledge."""
    with TemporaryDirectory(prefix="mapitem-kill-") as folder:
        campaign = Campaign(Path(folder), LEVELS[seed % len(LEVELS)], seed)
        try:
            campaign.run(12)
        finally:
            figures += campaign.figures


ALL_PARTS = {**PARTS, "kills": Part(kills, 1.5), "damages": Part(campaign_round, 2.0)}


if __name__ == "__main__":
    sys.exit(main(ALL_PARTS, "python -m tests.proof", __doc__))

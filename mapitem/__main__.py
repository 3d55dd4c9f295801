"""``python -m mapitem``: the command, whose room is ``cli``."""

from __future__ import annotations

from mapitem.cli import main

if __name__ == "__main__":
    main()

"""The real disk: that it asks of the operating system what the simulated one, under other tests, stands for."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

import pytest

import mapitem.disk
from mapitem import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the names of descriptors are asked of /proc")


def test_sync_files_and_directories_for_good(tmp_path: Path) -> None:
    """P1, P2, M1: that ``Disk.sync`` and ``sync_directory`` did anything at all was seen by no test.

    Crashes are tried on a simulated disk, and what was not synced outlives a kill: without a call of fsync everything
    passed, and ``durability="power"`` promised nothing.
    """
    assert mapitem.disk._sync_data is os.fdatasync
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    with (
        mock.patch.object(mapitem.disk, "_sync_data", note),
        mock.patch.object(os, "fsync", note),
        Store(tmp_path / "store", durability="power") as store,
    ):
        assert synced == ["store.new", tmp_path.name]
        synced.clear()
        store.map("m").set("a", {})
        assert synced == ["store"] * 2
        synced.clear()
        store.compact()
        assert synced == ["store.new", tmp_path.name]
        synced.clear()
        store.backup(tmp_path / "copy")
        assert synced == ["copy.new", tmp_path.name]

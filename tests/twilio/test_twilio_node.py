"""The npm package ``twilio``, unmodified: the snippets of the service's own page as they stand, and each call once.

It is installed once, into pytest's cache, and the tests are skipped where node, npm or the registry is not to be had.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import serving

from mapitem import Store

HERE = Path(__file__).parent / "node"
SNIPPETS = HERE / "snippets"


def run(folder: Path, *arguments: str, **environment: str) -> str:
    """What node prints; nothing may stand on stderr."""
    result = subprocess.run(
        ["node", *arguments], cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server process with an empty store in memory."""
    command = [sys.executable, "-m", "mapitem", "serve", "--memory", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)


def snippet(folder: Path, server: str, name: str) -> list[str]:
    """The lines that a snippet prints, run as it stands: the host and the credentials come from outside."""
    account = {"TWILIO_ACCOUNT_SID": "AC" + "1" * 32, "TWILIO_AUTH_TOKEN": "token", "SYNC_URL": server}
    return run(folder, "-r", "./redirect.js", f"snippets/{name}.js", **account).splitlines()


def test_run_the_snippets_of_the_page_as_they_stand(node: Path, server: str) -> None:
    """The page of the resource: its Node.js snippets, one after the other, with nothing redirected but the host."""
    prepare = "client.sync.v1.services('ServiceSid').syncMaps.create({ uniqueName: 'MapSid' })"
    script = f"const client = require('twilio')('AC1', 'token'); client.sync.baseUrl = '{server}'; {prepare}"
    run(node, "-e", script)
    assert snippet(node, server, "create") == ["foo"]
    assert snippet(node, server, "fetch") == ["foo"]
    assert snippet(node, server, "list") == ["foo"]
    assert snippet(node, server, "list-with-filters") == ["foo"]
    assert snippet(node, server, "update") == ["foo"]
    assert snippet(node, server, "update-with-conflict-resolution") == ["2"]
    assert snippet(node, server, "delete") == []
    assert snippet(node, server, "list") == []
    assert snippet(node, server, "create") == ["foo"]
    assert snippet(node, server, "delete-with-conflict-resolution") == []
    assert snippet(node, server, "list-with-filters") == []


def test_leave_no_snippet_out() -> None:
    """Every snippet of the page is run above."""
    source = Path(__file__).read_text(encoding="utf-8")
    for path in SNIPPETS.iterdir():
        assert f'"{path.stem}")' in source


def error(status: int, code: int) -> dict[str, Any]:
    return {"status": status, "code": code, "moreInfo": f"https://www.twilio.com/docs/errors/{code}"}


def test_take_the_tour(node: Path, store: Store) -> None:
    """Each call with the real client: values, dates, revisions, conditions, pages by URL, errors with their codes."""
    with serving(store) as url:
        told = dict(map(json.loads, run(node, "tour.js", url).splitlines()))
    created, expires = "2023-11-14T22:13:20.000Z", "2023-11-14T22:14:20.000Z"
    assert told == {
        "create map": ["m", "0"],
        "update map": None,
        "map exists": error(409, 54301),
        "create": ["k", {"a": [1, None, "é\U0001f600"]}, "0", expires, created],
        "item exists": error(409, 54208),
        "fetch": ["k", {"a": [1, None, "é\U0001f600"]}, "0", expires, created],
        "update": ["k", {"b": 2}, "1", expires, created],
        "stale": error(412, 54205),
        "stale remove": error(412, 54205),
        "remove": True,
        "gone": error(404, 20404),
        "bad data": error(400, 54008),
        "list": 120,
        "limit": ["008", "009", "010"],
        "down": ["119", "118", "117"],
        "largest page": 100,
        "next": ["002", "003"],
        "previous": ["000", "001"],
        "bad order": error(400, 54451),
        "a b": "a b",
        "é": "é",
        "a/b": "a/b",
        "a?b": "a?b",
        "#a": "#a",
        "100%": "100%",
        "..": error(404, 20404),  # the client has made …/Maps/m/ of it
        "dots": error(404, 20404),  # and asked to delete that
        "map": "m",
        "maps": ["m"],
        "lists": error(501, 20501),
        "remove map": True,
    }

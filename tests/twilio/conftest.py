"""Fixtures of the service's edge: a store in memory, and the real Python client over it in process and over HTTP."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from loopback import ACCOUNT, http_client, serving
from twilio.rest import Client

from mapitem import Store
from mapitem.testing import ManualClock
from mapitem.twilio import LocalHttpClient
from mapitem.twilio.router import Router
from mapitem.twilio.wire import Request

NODE = Path(__file__).parent / "node"


@pytest.fixture
def store(clock: ManualClock) -> Iterator[Store]:
    """In memory only: what a store on file does differently is not this edge's business."""
    with Store(clock=clock) as store:
        yield store


@pytest.fixture(params=["in process", "over HTTP"])
def client(request: pytest.FixtureRequest, store: Store) -> Iterator[Client]:
    """The unmodified client of the twilio package, over both of our transports."""
    if request.param == "in process":
        yield Client(ACCOUNT, "token", http_client=LocalHttpClient(store))
        return
    with serving(store) as url, http_client(url) as client:
        yield client


@pytest.fixture
def maps(client: Client) -> Any:
    """The list of maps of the service ``default``."""
    return client.sync.v1.services("default").sync_maps


@pytest.fixture
def items(maps: Any) -> Any:
    """The items of a new map ``m``; called with a key, that item."""
    maps.create(unique_name="m")
    return maps("m").sync_map_items


@pytest.fixture(scope="session")
def node(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts of ``node/`` and the package installed beside them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    manifest = (NODE / "package.json").read_bytes()
    name = f"mapitem-node-{hashlib.sha256(manifest).hexdigest()[:12]}"
    cache = getattr(pytestconfig, "cache", None)
    folder = tmp_path_factory.mktemp("node") if cache is None else Path(cache.mkdir(name))
    installed = folder / "installed"
    if not installed.exists():
        (folder / "package.json").write_bytes(manifest)
        quietly = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefer-offline"]
        npm = subprocess.run(["npm", "install", *quietly], cwd=folder, capture_output=True, text=True, timeout=300)
        if npm.returncode:
            pytest.skip(f"npm could not install twilio: {npm.stderr.strip().splitlines()[:1]}")
        installed.touch()
    shutil.copytree(NODE, folder, dirs_exist_ok=True)
    return folder


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


@pytest.fixture
def ask(store: Store) -> Callable[..., Answer]:
    """``ask(method, path, form, …)``: a request as it stands on the wire, ``path`` relative to the service's maps."""
    return asking(Router(store))


def asking(router: Router) -> Callable[..., Answer]:
    def ask(
        method: str,
        path: str,
        form: Mapping[str, object] | None = None,
        *,
        query: str = "",
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        response = router.answer(
            Request(
                method=method,
                path=(path if path.startswith("/") else f"/v1/Services/default/Maps/{path}".rstrip("/")).encode(),
                query=query.encode(),
                headers={name.replace("_", "-"): value for name, value in headers.items()},
                body=urlencode(form or {}).encode() if body is None else body,
            )
        )
        return Answer(response.status, response.headers, json.loads(response.body) if response.body else None)

    return ask

"""``mapitem serve`` as a process: it says where it is, ends when it is told to, and keeps what it acknowledged."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from loopback import http_client
from twilio.base.exceptions import TwilioRestException

from mapitem import Store
from mapitem.cli import main
from mapitem.twilio.serve import listen, url_of


class Server:
    """A server process: ``url`` is what it printed when it was ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.url = process.stdout.readline().strip()

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """Send the signal; returns the exit status and what stood on stderr."""
        self.process.send_signal(how)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@contextmanager
def server(*arguments: object, **environment: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "mapitem", "serve", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


def fails(*arguments: str) -> str:
    """What the command says on stderr when it does not start."""
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_serve_a_file_until_it_is_told_to_end(tmp_path: Path, how: signal.Signals) -> None:
    """It prints its URL when it is ready, for port 0 too; told to end, it closes the file cleanly and exits with 0."""
    path = tmp_path / "s.mapitem"
    with server(path, "--port", 0) as running, http_client(running.url) as client:
        assert running.url.startswith("http://127.0.0.1:")
        maps = client.sync.v1.services("default").sync_maps
        maps.create(unique_name="m")
        maps("m").sync_map_items.create(key="k", data={"a": 1})
        assert running.end(how) == (0, "")
    with Store(path) as store:
        assert store.recovery is None, "the file was closed cleanly"
        assert store.open_map("m")["k"].data == {"a": 1}


def test_keep_acknowledged_writes_through_kill_9(tmp_path: Path) -> None:
    """Durability: what was acknowledged survives the death of the process at any instruction."""
    path = tmp_path / "s.mapitem"
    with server(path, "--port", 0) as running, http_client(running.url) as client:
        maps = client.sync.v1.services("default").sync_maps
        maps.create(unique_name="m")
        for number in range(50):
            maps("m").sync_map_items.create(key=f"{number:02}", data={"n": number})
        assert running.end(signal.SIGKILL)[0] == -signal.SIGKILL
    with server(path, "--port", 0) as running, http_client(running.url) as client:
        items = client.sync.v1.services("default").sync_maps("m").sync_map_items
        assert [item.data["n"] for item in items.list()] == list(range(50))
        assert running.end(signal.SIGTERM)[0] == 0


def test_end_without_waiting_for_idle_clients(tmp_path: Path) -> None:
    """A connection that is kept open by its client does not keep the server from ending."""
    with server("--memory", "--port", 0) as running:
        host, _, port = running.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as idle:
            idle.sendall(b"GET /v1/Services/d/Maps HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            assert running.end(signal.SIGTERM) == (0, "")


def test_end_without_waiting_for_half_a_request() -> None:
    """A client that never finishes what it asks does not keep the server from ending."""
    with server("--memory", "--port", 0) as running:
        host, _, port = running.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            head = b"POST /v1/Services/d/Maps HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
            slow.sendall(head)
            assert slow.recv(100).startswith(b"HTTP/1.1 100"), "the server has begun to read"
            assert running.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("from_environment", [False, True])
def test_ask_for_credentials(from_environment: bool) -> None:
    """``--credentials``, or the environment, says which account and token are asked for."""
    options = [] if from_environment else ["--credentials", "AC1:secret"]
    environment = {"MAPITEM_CREDENTIALS": "AC1:secret"} if from_environment else {}
    with ExitStack() as stack:
        running = stack.enter_context(server("--memory", "--port", 0, *options, **environment))
        good = stack.enter_context(http_client(running.url, "AC1", "secret"))
        bad = stack.enter_context(http_client(running.url, "AC1", "wrong"))
        good.sync.v1.services("default").sync_maps.create(unique_name="m")
        with pytest.raises(TwilioRestException) as caught:
            bad.sync.v1.services("default").sync_maps("m").fetch()
        assert (caught.value.status, caught.value.code) == (401, 20003)
        assert running.end(signal.SIGTERM)[0] == 0


def test_refuse_a_wrong_call(tmp_path: Path) -> None:
    """Exit code 2 and one reason: neither or both of FILE and --memory, credentials that are none, a bad port."""
    path = str(tmp_path / "s.mapitem")
    assert "either FILE or --memory" in fails()
    assert "either FILE or --memory" in fails(path, "--memory")
    for bad in ("AC1", "AC1:", ":token"):
        assert "a colon between" in fails("--memory", "--credentials", bad)
    assert "--port" in fails("--memory", "--port", "65536")
    assert not Path(path).exists()


def test_refuse_what_cannot_be_served(tmp_path: Path) -> None:
    """A file that is no store, one that is open elsewhere, a port that is taken: one line each, and exit code 2."""
    text = tmp_path / "notes.txt"
    text.write_text("no store\n" * 20)
    assert "not a store" in fails(str(text), "--port", "0")
    with Store(tmp_path / "s.mapitem"):
        assert len(fails(str(tmp_path / "s.mapitem"), "--port", "0").splitlines()) == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        errors = fails("--memory", "--port", str(taken.getsockname()[1]))
        assert "in use" in errors
        assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("localhost", None), ("::1", "[::1]")])
def test_listen_at_either_family(host: str, shown: str | None) -> None:
    """A server listens at addresses of both families and at names; the URL of an IPv6 address has brackets."""
    try:
        listener = listen(host, 0)
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")
    with listener:
        if shown is not None:
            assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"
        with socket.create_connection(listener.getsockname()[:2], timeout=10):
            pass


def test_say_that_the_socket_is_tcp() -> None:
    """Each answer took 40 ms: a socket of ``create_server`` does not say that it is TCP, and asyncio left Nagle on."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
    with pytest.raises(OSError, match="assign requested address"):
        listen("192.0.2.1", 0)

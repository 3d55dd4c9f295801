"""``mapitem serve``: the application of ``server`` on a socket, until somebody ends it.

This room owns the command's arguments and the life of the process. It belongs to ``mapitem.cli``, which turns errors
into messages and exit codes.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

from mapitem import Store

_LOOPBACK = ("127.", "::1", "localhost")
# How long the answers that are on their way have, in seconds, once the server was told to end.
_GRACE = 2


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--memory", is_flag=True, help="Serve an empty store in memory instead of a FILE.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes any port that is free."
)
@click.option(
    "--credentials",
    metavar="AC…:TOKEN",
    envvar="MAPITEM_CREDENTIALS",
    help="Ask for this account SID and token. Also read from MAPITEM_CREDENTIALS. Default: any will do.",
)
@click.option(
    "--durability",
    type=click.Choice(["none", "process", "power"]),
    default="process",
    show_default=True,
    help="What an acknowledged write survives.",
)
def serve(
    file: Path | None,
    memory: bool,
    host: str,
    port: int,
    credentials: str | None,
    durability: Literal["none", "process", "power"],
) -> None:
    """Serve FILE to clients of Twilio Sync Maps. FILE is created if it is not there.

    Prints the URL, alone on a line, when it is ready. SIGTERM and Ctrl-C end it, once what it is at is answered.
    """
    if (file is None) is not memory:
        raise click.UsageError("Give either FILE or --memory.")
    account, _, token = (credentials or "").partition(":")
    if credentials is not None and not (account and token):
        raise click.BadParameter("an account SID and a token, with a colon between", param_hint="--credentials")
    try:
        import starlette  # noqa: F401  # asked for here, so that a missing one is told in one line
        import uvicorn
    except ModuleNotFoundError as missing:
        if missing.name not in ("starlette", "uvicorn"):
            raise
        raise click.ClickException(f"serve needs {missing.name}: pip install 'mapitem[server]'") from None
    from mapitem.twilio.server import app

    if not host.startswith(_LOOPBACK) and credentials is None:
        click.echo(f"Note: whoever reaches {host} may read and write; --credentials asks for a token", err=True)
    with Store(file, durability=durability) as store, listen(host, port) as listener:
        config = uvicorn.Config(
            app(store, credentials=(account, token) if credentials else None),
            # What does not depend on what else is installed: h11 keeps a path as it came, and refuses what is no HTTP.
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                click.echo(url_of(listener))

        with _signals_kept():
            Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; ``OSError`` if the address is taken or none of this machine's.

    Said to be TCP in so many words, as ``socket.create_server`` does not: asyncio looks at that before it turns off the
    waiting for full packets, which makes every answer take 40 ms.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Have the signals that end the server end no more than that: uvicorn raises them again when it is through.

    The store has still to be closed then.
    """
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

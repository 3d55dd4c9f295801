"""The command ``mapitem``: what a shell can ask of a store on file.

This room owns arguments, output and exit codes: 0 for done, 1 for done with an answer that may displease (not there,
different, not closed properly, not all of it saved), 2 for a wrong call or a refusal, 3 for a damaged file. It uses the
library through its public names alone, and the core never imports it. Results go to stdout, each failure is one line on
stderr; so is progress, and only at a terminal. The commands that look at a file open it read-only, so that they may run
beside a writer. A command is one function; ``_Commands`` turns the library's errors into messages and exit codes for
all of them.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

try:
    import click
    import rich  # noqa: F401  # asked for here, so that a missing one is told before any command starts
except ModuleNotFoundError as missing:
    if missing.name not in ("click", "rich"):
        raise
    # The console script imports this module before it calls anything, so that only here, and not in
    # ``main``, one line can be told instead of a traceback.
    sys.stderr.write(
        "mapitem: the command needs click and rich: pip install 'mapitem[cli]', for serve 'mapitem[server]'\n"
    )
    raise SystemExit(2) from None

from mapitem import ItemNotFound, LogCorrupt, Map, MapItem, MapItemError, MapNotFound, Store
from mapitem.twilio.serve import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from rich.console import Console

    from mapitem.repair import CheckReport, RepairReport

_FILE = click.argument("file", type=click.Path(path_type=Path))
_OUT = click.argument("out", type=click.Path(path_type=Path))
_MAP = click.argument("map_name", metavar="MAP")
_REPORT_JSON = click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")


class _Failure(click.ClickException):
    """Ends the command with one line on stderr. Raised only as one of its leaves."""

    def __init__(self, message: str) -> None:
        super().__init__(_printable(message))


class _Negative(_Failure):
    """The command did its work, and the answer is no: not found, or different."""

    exit_code = 1


class _Refused(_Failure):
    """The command could not do its work."""

    exit_code = 2


class _Damaged(_Failure):
    """The file is damaged, so that the command could not do its work."""

    exit_code = 3


class _Interrupted(_Failure):
    """Somebody pressed Ctrl-C; as a shell says it of a program that let the signal end it."""

    exit_code = 130


class _Commands(click.Group):
    """All commands, and the one place where an error becomes a line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        _let_print_anything(sys.stdout, sys.stderr)
        try:
            return super().invoke(ctx)
        except (ItemNotFound, MapNotFound) as error:
            raise _Negative(str(error)) from error
        except BrokenPipeError:
            raise  # the reader of our output has seen enough, which click ends quietly
        except KeyboardInterrupt:
            raise _Interrupted("interrupted") from None
        except LogCorrupt as error:
            raise _Damaged(f"{error}; mapitem repair saves what can be saved") from error
        except MapItemError as error:
            raise _Refused(str(error)) from error
        except OSError as error:
            message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise _Refused(message) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look into the files of mapitem, an embedded store of ordered, revisioned maps of JSON items.

    Exit codes: 0 done; 1 done, and the answer is no (not found, not closed properly, not all of it saved); 2 wrong call
    or refused; 3 damaged file. A Ctrl-C gives 130.
    """


@main.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--characters",
    type=click.IntRange(min=1000),
    metavar="N",
    help="Only the first N characters (1000 or more).",
)
def demo(file: Path | None, characters: int | None) -> None:
    """Show what the library does, on all of Unicode.

    The data are the Unicode character database. Without FILE it is a temporary file. FILE must not exist yet: the demo
    touches no file but its own.
    """
    # Only the demo needs rich's progress bars, which are slow to import.
    from mapitem.demo import run_demo

    with _demo_path(file) as path:
        differences = run_demo(path, limit=characters)
    if file is None:
        click.echo("The temporary file is removed; with a name, mapitem demo FILE keeps it.")
    else:
        click.echo(f"All of it is in {_printable(str(file))}; look at it with mapitem maps, get and range.")
    if differences:
        raise _Negative(f"{differences} items differ from what was stored")


@main.command()
@_FILE
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line instead of a table.")
def maps(file: Path, as_json: bool) -> None:
    """List maps: their items, revision and expiry."""
    with _open(file) as store:
        rows = list(_summaries(store))
    if as_json:
        _write_lines(_json(row) for row in rows)
    else:
        _print_table(rows)


@main.command()
@_FILE
@_MAP
@click.argument("key")
def get(file: Path, map_name: str, key: str) -> None:
    """Print the item of KEY as JSON. MAP is a name or a sid."""
    with _open(file) as store:
        item = store.open_map(map_name)[key]
    _write_lines([_json(_item_fields(item), indent=2)])


@main.command("range")
@_FILE
@_MAP
@click.option("--from", "from_", metavar="KEY", help="Where to start; KEY need not exist. Default: the first key.")
@click.option(
    "--bounds",
    type=click.Choice(["inclusive", "exclusive"]),
    default="inclusive",
    show_default=True,
    help="Whether an item at KEY itself comes too.",
)
@click.option(
    "--order",
    type=click.Choice(["asc", "desc"]),
    default="asc",
    show_default=True,
    help="Upwards or downwards from there.",
)
@click.option("--prefix", help="Only keys that start with this.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N items.")
def range_(
    file: Path,
    map_name: str,
    from_: str | None,
    bounds: Literal["inclusive", "exclusive"],
    order: Literal["asc", "desc"],
    prefix: str | None,
    limit: int | None,
) -> None:
    """Print items by key, one JSON object per line.

    MAP is a name or a sid.
    """
    with _open(file) as store:
        items = store.open_map(map_name).range(from_, bounds=bounds, order=order, prefix=prefix, limit=limit)
        _write_lines(_json(_item_fields(item)) for item in items)


@main.command()
@_FILE
@_REPORT_JSON
@click.pass_context
def check(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Say whether FILE is sound: every record, every item.

    Nothing is changed, and a writer may go on meanwhile.

    \b
    Exit codes:
      0  sound, and closed properly
      1  sound, but not closed properly: in use, or left by a crash,
         which may have torn its end; opening it works
      2  no store, or it cannot be read
      3  damaged: opening it is refused, and mapitem repair may help
    """
    # Only here, for looking into a sound file needs none of it.
    from mapitem.repair import check as look_over

    with _progress(f"Checking {file}") as progress:
        report = look_over(file, progress)
    _print_report(report, as_json)
    ctx.exit({"clean": 0, "unclean": 1, "torn": 1, "damaged": 3}[report.state])


@main.command()
@_FILE
@_OUT
@_REPORT_JSON
@click.pass_context
def repair(ctx: click.Context, file: Path, out: Path, as_json: bool) -> None:
    """Save what can be saved of a damaged FILE.

    It goes into the new file OUT, and what was lost is told. FILE stays as it is; nobody should be writing to it.

    \b
    Exit codes:
      0  all of it is in OUT
      1  something was lost; the rest is in OUT
      2  nothing was written: no store, OUT exists, no space ...
    """
    from mapitem.repair import repair as save

    _check_new(out, file, "repair")
    with _progress(f"Repairing {file}") as progress:
        report = save(file, out, progress)
    _print_report(report, as_json)
    ctx.exit(0 if report.complete else 1)


@main.command()
@_FILE
def compact(file: Path) -> None:
    """Rewrite FILE to what it holds now.

    This drops its history; what has expired goes first. Refused while a writer has FILE open.
    """
    if not file.exists():
        raise _Refused(f"{file} does not exist")
    with _writing(f"Compacting {file}", file, None), Store(file, compact_at=None) as store:
        before = file.stat().st_size
        store.compact()
        after = file.stat().st_size
    click.echo(f"{_printable(str(file))}: {before:,} bytes before, {after:,} after")


@main.command()
@_FILE
@_OUT
def backup(file: Path, out: Path) -> None:
    """Copy FILE as it is now, beside its writer.

    OUT is a new file, and a store like any other.
    """
    _check_new(out, file, "backup")
    with _writing(f"Copying {file}", out, file), _open(file) as store:
        store.backup(out)
    click.echo(f"{_printable(str(out))}: {out.stat().st_size:,} bytes")


main.add_command(serve)


def _check_new(out: Path, file: Path, what: str) -> None:
    # A dangling symbolic link counts as existing: what it points to is somebody's wish, too.
    if out.is_symlink() or out.exists():
        raise _Refused(f"{out} exists: a {what} does not overwrite")
    store = file.resolve()
    if out.resolve() in (Path(f"{store}.new"), Path(f"{store}.lock")):
        raise _Refused(f"{out} will not last: {file} takes that name for its own")


def _print_report(report: CheckReport | RepairReport, as_json: bool) -> None:
    _write_lines([_json(asdict(report))] if as_json else [_printable(line) for line in str(report).splitlines()])


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def _progress(message: str) -> Iterator[Callable[[int, int], object] | None]:
    """What to call with the bytes done and in all, to show a person at a terminal; ``None`` for a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_stderr(), transient=True) as progress:
        task = progress.add_task(_printable(message), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _writing(message: str, target: Path, source: Path | None) -> Iterator[None]:
    """Show a person at a terminal how the new file grows that will be ``target``, and as large as ``source``."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.progress import BarColumn, DownloadColumn, FileSizeColumn, Progress, TextColumn, TimeElapsedColumn

    class Watching(Progress):
        """Looks at the new file whenever it draws: the library does not tell of its progress here."""

        def get_renderables(self) -> Any:
            with suppress(OSError):  # it is not there yet, or has its name by now
                done = Path(f"{target.resolve()}.new").stat().st_size
                for task in self.task_ids:
                    self.update(task, completed=done)
            return super().get_renderables()

    size = source.stat().st_size if source and source.exists() else None
    written = FileSizeColumn() if size is None else DownloadColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), written, TimeElapsedColumn())
    with Watching(*columns, console=_stderr(), transient=True) as progress:
        progress.add_task(_printable(message), total=size)
        yield


@contextmanager
def _demo_path(file: Path | None) -> Iterator[Path]:
    if file is None:
        with TemporaryDirectory(prefix="mapitem-demo-") as folder:
            yield Path(folder) / "unicode.mapitem"
        return
    # A dangling symbolic link counts as existing: what it points to is somebody's wish, too.
    if file.is_symlink() or file.exists():
        raise _Refused(f"{file} exists, and the demo writes to a new file only")
    yield file


@contextmanager
def _open(file: Path) -> Iterator[Store]:
    with Store(file, read_only=True) as store:
        if store.recovery is not None and store.recovery.dropped_bytes:
            lost = store.recovery.dropped_bytes
            click.echo(f"Note: {file} ends in {lost} bytes of an unfinished write, which are left out", err=True)
        yield store


def _summaries(store: Store) -> Iterator[dict[str, Any]]:
    for found in store.maps():
        with suppress(MapNotFound):  # it expired since it was listed
            yield _map_fields(found)


def _map_fields(found: Map) -> dict[str, Any]:
    return {
        "sid": found.sid,
        "name": found.name,
        "items": len(found),
        "revision": found.revision,
        "date_created": _date(found.date_created),
        "date_updated": _date(found.date_updated),
        "date_expires": _date(found.date_expires),
        "created_by": found.created_by,
    }


def _item_fields(item: MapItem) -> dict[str, Any]:
    return {
        "key": item.key,
        "data": item.data,
        "revision": item.revision,
        "date_created": _date(item.date_created),
        "date_updated": _date(item.date_updated),
        "date_expires": _date(item.date_expires),
        "created_by": item.created_by,
    }


def _date(date: datetime | None) -> str | None:
    return None if date is None else date.isoformat()


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("map", overflow="fold")
    table.add_column("items", justify="right")
    table.add_column("revision", justify="right")
    table.add_column("expires", no_wrap=True)
    for row in rows:
        name = Text(_printable(row["name"] or row["sid"]))
        table.add_row(name, f"{row['items']:,}", row["revision"], row["date_expires"] or "never")
    # Only a person's terminal has an edge at which to fold; a pipe gets each map on one line.
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    console.print(table)


def _json(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON that is fit for a terminal: what could steer one, or it cannot show, is escaped."""
    if not _speaks_unicode(sys.stdout):
        return json.dumps(value, indent=indent)
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def _printable(text: str) -> str:
    """``text`` on one line, with escapes for what could steer a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _write_lines(lines: Iterator[str] | list[str]) -> None:
    # click.echo would flush after each line.
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _speaks_unicode(stream: Any) -> bool:
    return str(getattr(stream, "encoding", "")).lower().startswith("utf")


def _let_print_anything(*streams: Any) -> None:
    """Have a character that the terminal's encoding lacks shown escaped, rather than end in a traceback."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

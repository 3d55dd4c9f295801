"""The command: what each subcommand prints, where, and with which exit code; the demo's story is elsewhere."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mapitem import Map, MapItem, Store
from mapitem.cli import main
from mapitem.disk import Disk
from mapitem.repair import check as look_over
from mapitem.testing import ManualClock

# The command has the real clock: what must have expired was written long ago, what must not, far ahead.
LONG_AGO = 1_000_000_000.0
FAR_AHEAD = 4_000_000_000.0

FIELDS = ["key", "data", "revision", "date_created", "date_updated", "date_expires", "created_by"]
PARAGRAPH = {"char": "§", "size": 1.5, "tags": [None, True]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A store with three keys in the map ``signs`` (revisions 0, 1, 2), and nothing else."""
    path = tmp_path / "signs.mapitem"
    with Store(path, clock=ManualClock(now=FAR_AHEAD)) as store:
        signs = store.map("signs")
        signs.set("a", PARAGRAPH)
        signs.set("b", {}, ttl=60)
        signs.set("ba", {"n": 1})
    return path


@contextmanager
def writing(path: Path, now: float = FAR_AHEAD) -> Iterator[Store]:
    with Store(path, clock=ManualClock(now=now)) as store:
        yield store


def run(*args: object, charset: str = "utf-8") -> Result:
    result = CliRunner(charset=charset).invoke(main, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def fails(exit_code: int, *args: object) -> str:
    """The one line that the command leaves on stderr; nothing on stdout."""
    result = run(*args)
    assert result.exit_code == exit_code
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert result.stderr.endswith("\n")
    return lines[0]


def lines_of(result: Result) -> list[Any]:
    assert result.exit_code == 0
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.split("\n")[:-1]]


def keys_of(result: Result) -> list[str]:
    return [line["key"] for line in lines_of(result)]


def fields(item: MapItem) -> dict[str, Any]:
    return {
        "key": item.key,
        "data": item.data,
        "revision": item.revision,
        "date_created": item.date_created.isoformat(),
        "date_updated": item.date_updated.isoformat(),
        "date_expires": item.date_expires and item.date_expires.isoformat(),
        "created_by": item.created_by,
    }


# ------------------------------------------------------------ get

texts = st.text(max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(
    key=st.text(min_size=1, max_size=20).filter(lambda key: not key.startswith("-")),
    data=st.dictionaries(texts, json_values),
)
def test_get_prints_what_was_stored(key: str, data: dict[str, Any]) -> None:
    """D2: what ``get`` prints, read as JSON, is the item as the library gives it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with writing(path) as store:
            item = store.map("m").set(key, data)
        result = run("get", path, "m", key)
    assert result.exit_code == 0
    assert repr(json.loads(result.stdout)) == repr(fields(item))


def test_get_item_with_expiry_prints_its_date(file: Path) -> None:
    """I1: all fields of an item are printed, with dates in ISO 8601."""
    printed = json.loads(run("get", file, "signs", "b").stdout)
    assert printed["date_created"] == "2096-10-02T07:06:40+00:00"
    assert printed["date_expires"] == "2096-10-02T07:07:40+00:00"
    assert list(printed) == FIELDS


def test_get_finds_map_by_sid(file: Path) -> None:
    """S2: a map is found by name or sid."""
    with Store(file, read_only=True) as store:
        sid = store.open_map("signs").sid
    assert json.loads(run("get", file, sid, "a").stdout)["data"] == PARAGRAPH


def test_get_missing_key_exits_with_1(file: Path) -> None:
    """L1: an absent key is "not found", told with the key."""
    assert "'c'" in fails(1, "get", file, "signs", "c")


def test_get_expired_item_exits_with_1(file: Path) -> None:
    """T3: an expired item is absent for the command, too."""
    with writing(file, LONG_AGO) as store:
        store.open_map("signs").set("a", {}, ttl=1)
    assert "'a'" in fails(1, "get", file, "signs", "a")


@pytest.mark.parametrize("args", [("get", "nix", "a"), ("range", "nix")])
def test_any_command_on_missing_map_exits_with_1(file: Path, args: tuple[str, ...]) -> None:
    """S2: a map that is not there is "not found"."""
    command, *rest = args
    assert "nix" in fails(1, command, file, *rest)


@pytest.mark.parametrize("key", ["", "k" * 321, "\udcff"])
def test_get_impossible_key_exits_with_2(file: Path, key: str) -> None:
    """L1: a key that cannot be one is a wrong call, not an absent item."""
    fails(2, "get", file, "signs", key)


def test_get_never_sends_control_characters_to_terminal(file: Path) -> None:
    """D2: data that could steer a terminal come out as JSON escapes, and still mean the same."""
    hostile = "\x1b[2J\x9b2J\u202e\u2028\U000e0001 é😀"
    with writing(file) as store:
        store.open_map("signs").set("evil", {"text": hostile})
    result = run("get", file, "signs", "evil")
    assert result.stdout.replace("\n", "").isprintable()
    assert "é😀" in result.stdout
    assert json.loads(result.stdout)["data"] == {"text": hostile}


def test_get_on_ascii_terminal_stays_json(file: Path) -> None:
    """D2: what the terminal's encoding lacks is escaped as JSON does it."""
    with writing(file) as store:
        store.open_map("signs").set("é", {"text": "😀\xa7"})
    result = run("get", file, "signs", "é", charset="ascii")
    assert result.exit_code == 0
    assert result.stdout.isascii()
    assert json.loads(result.stdout)["data"] == {"text": "😀\xa7"}


# ------------------------------------------------------------ range


@given(
    keys=st.sets(st.text("ab", min_size=1, max_size=3)),
    from_=st.none() | st.text("ab", max_size=3),
    bounds=st.sampled_from([None, "inclusive", "exclusive"]),
    order=st.sampled_from([None, "asc", "desc"]),
    prefix=st.none() | st.text("ab", max_size=2),
    limit=st.none() | st.integers(0, 4),
)
def test_range_prints_what_map_range_yields(
    keys: set[str],
    from_: str | None,
    bounds: str | None,
    order: str | None,
    prefix: str | None,
    limit: int | None,
) -> None:
    """L2: each option of ``range`` is the argument of ``Map.range``; each line is one whole item."""
    given_options = {"bounds": bounds, "order": order, "prefix": prefix, "limit": limit}
    options: dict[str, Any] = {name: value for name, value in given_options.items() if value is not None}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with writing(path) as store:
            m = store.map("m")
            for number, key in enumerate(sorted(keys)):
                m.set(key, {"n": number})
            expected = [fields(item) for item in m.range(from_, **options)]
        args = [arg for name, value in options.items() for arg in (f"--{name}", value)]
        args += [] if from_ is None else ["--from", from_]
        assert lines_of(run("range", path, "m", *args)) == expected


def test_range_without_options_prints_everything_in_order(file: Path) -> None:
    """L2: the default is the whole map, upwards."""
    assert keys_of(run("range", file, "signs")) == ["a", "b", "ba"]


@pytest.mark.parametrize(
    ("args", "keys"),
    [
        (["--from", "aa"], ["b", "ba"]),
        (["--from", "b", "--bounds", "exclusive"], ["ba"]),
        (["--from", "b", "--order", "desc"], ["b", "a"]),
        (["--prefix", "b"], ["b", "ba"]),
        (["--limit", "2"], ["a", "b"]),
        (["--limit", "0"], []),
        (["--prefix", "c"], []),
    ],
)
def test_range_with_options(file: Path, args: list[str], keys: list[str]) -> None:
    """L2: where the walk starts, its way and its end; nothing found is no error."""
    assert keys_of(run("range", file, "signs", *args)) == keys


@pytest.mark.parametrize(
    "args", [["--order", "up"], ["--bounds", "open"], ["--limit", "-1"], ["--limit", "many"], ["more"]]
)
def test_range_with_bad_option_exits_with_2(file: Path, args: list[str]) -> None:
    """L2: a bad argument is a wrong call, named on stderr."""
    result = run("range", file, "signs", *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert args[-1] in result.stderr


def test_range_key_with_line_breaks_stays_on_one_line(file: Path) -> None:
    """K2: a key may hold line breaks; the output is one line per item all the same."""
    with writing(file) as store:
        store.open_map("signs").set("z\n\r\u2028\x85z", {})
    result = run("range", file, "signs", "--from", "c")
    assert len(result.stdout.splitlines()) == 1
    assert keys_of(result) == ["z\n\r\u2028\x85z"]


def test_range_into_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    """L2: ``mapitem range … | head -1`` shows one line and no traceback."""
    path = tmp_path / "s"
    with writing(path) as store:
        m = store.map("m")
        for number in range(300):
            m.set(f"{number:03}", {"filling": "x" * 1000})  # together more than a pipe holds
    command = [sys.executable, "-m", "mapitem", "range", str(path), "m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["key"] == "000"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


# ------------------------------------------------------------ maps


def test_maps_prints_table(file: Path) -> None:
    """S2: each live map by name, with its items, revision and expiry; the nameless last, by sid."""
    with writing(file) as store:
        store.map("brief", ttl=3600)
        sid = store.create_map().sid
    rows = [line.split() for line in run("maps", file).stdout.splitlines()]
    assert rows == [
        ["map", "items", "revision", "expires"],
        ["brief", "0", "0", "2096-10-02T08:06:40+00:00"],
        ["signs", "3", "3", "never"],
        [sid, "0", "0", "never"],
    ]


def test_maps_as_json_prints_all_fields(file: Path) -> None:
    """S2: ``--json`` gives what a script may want of each map, one object per line."""
    with writing(file) as store:
        nameless = store.create_map(ttl=60)
        signs = store.open_map("signs")
        common = {
            "date_created": "2096-10-02T07:06:40+00:00",
            "date_updated": "2096-10-02T07:06:40+00:00",
            "created_by": "system",
        }
        expected = [
            {"sid": signs.sid, "name": "signs", "items": 3, "revision": "3", "date_expires": None, **common},
            {"sid": nameless.sid, "name": None, "items": 0, "revision": "0", **common}
            | {"date_expires": "2096-10-02T07:07:40+00:00"},
        ]
    assert lines_of(run("maps", file, "--json")) == expected


def test_maps_leaves_out_expired_map_and_items(file: Path) -> None:
    """T3, T5: what has expired is neither listed nor counted."""
    with writing(file, LONG_AGO) as store:
        store.map("gone", ttl=1)
        store.open_map("signs").set("a", {}, ttl=1)
    rows = lines_of(run("maps", file, "--json"))
    assert [(row["name"], row["items"]) for row in rows] == [("signs", 2)]


def test_maps_skips_map_that_expires_meanwhile(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T5: a map that expires between its listing and the counting of its items is left out, and no error."""
    clock = ManualClock(now=LONG_AGO)
    with Store(file, clock=clock) as store:
        store.map("brief", ttl=10)

    def open_on_that_clock(path: Path, **options: Any) -> Store:
        return Store(path, clock=clock, **options)

    def maps_then_time_passes(store: Store) -> Iterator[Map]:
        listed = list(listing(store))
        clock.advance(10)
        return iter(listed)

    listing = Store.maps
    monkeypatch.setattr("mapitem.cli.Store", open_on_that_clock)
    monkeypatch.setattr(Store, "maps", maps_then_time_passes)
    assert [row["name"] for row in lines_of(run("maps", file, "--json"))] == ["signs"]


def test_maps_shows_long_and_odd_names_whole(file: Path) -> None:
    """K2, K5: names are shown as they are: no markup, no emoji codes, no cut; controls are escaped."""
    long, markup, control = "n" * 320, "[bold]x[/bold]:smile:", "\x1b[2J\n"
    with writing(file) as store:
        for name in (long, markup, control):
            store.map(name)
    output = run("maps", file).stdout
    assert [line.split()[0] for line in output.splitlines()] == ["map", r"\x1b[2J\n", markup, long, "signs"]


def test_maps_on_ascii_terminal_escapes_names(file: Path) -> None:
    """K2: a name that the terminal's encoding lacks is shown escaped, rather than ending in a traceback."""
    with writing(file) as store:
        store.map("é😀")
    result = run("maps", file, charset="ascii")
    assert result.exit_code == 0
    assert r"\xe9\U0001f600" in result.stdout


def test_maps_on_empty_store_prints_heading_alone(tmp_path: Path) -> None:
    """S2: a store without maps is no error."""
    with writing(tmp_path / "s"):
        pass
    assert run("maps", tmp_path / "s").stdout.split() == ["map", "items", "revision", "expires"]
    assert lines_of(run("maps", tmp_path / "s", "--json")) == []


# ------------------------------------------------------------ files

COMMANDS: list[tuple[str, ...]] = [("maps",), ("get", "signs", "a"), ("range", "signs")]


def on(path: Path, command: tuple[str, ...]) -> list[object]:
    return [command[0], path, *command[1:]]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_changes_nothing(file: Path, command: tuple[str, ...]) -> None:
    """R7: the commands that look open the file read-only: the folder stays as it was, to the byte."""

    def snapshot() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in file.parent.iterdir()}

    (file.parent / f"{file.name}.lock").unlink(missing_ok=True)
    before = snapshot()
    assert run(*on(file, command)).exit_code == 0
    assert snapshot() == before


@pytest.mark.parametrize("command", COMMANDS)
def test_command_works_beside_writer(file: Path, command: tuple[str, ...]) -> None:
    """R7: a file that is open for writing can be looked at, and shows what was acknowledged."""
    with writing(file) as store:
        store.open_map("signs").set("a", {"fresh": True})
        result = run(*on(file, command))
    assert result.exit_code == 0
    assert result.stderr == ""


def test_torn_tail_is_told_on_stderr(file: Path) -> None:
    """R7: bytes of an unfinished write are left out, and said so; the output is what was whole."""
    whole = file.read_bytes()
    with writing(file) as store:
        store.open_map("signs").set("c", {})
    file.write_bytes(file.read_bytes()[: len(whole) + 7])
    result = run("range", file, "signs")
    assert result.exit_code == 0
    assert [json.loads(line)["key"] for line in result.stdout.splitlines()] == ["a", "b", "ba"]
    assert "unfinished write" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def no_file(path: Path) -> None:
    pass


def empty_file(path: Path) -> None:
    path.touch()


def foreign_file(path: Path) -> None:
    path.write_text("Dear diary,\n")


@pytest.mark.parametrize("make", [no_file, empty_file, foreign_file, Path.mkdir])
@pytest.mark.parametrize("command", COMMANDS)
def test_command_on_what_is_no_store_exits_with_2(
    tmp_path: Path, make: Callable[[Path], None], command: tuple[str, ...]
) -> None:
    """R6: what is no store is refused with its name, and nothing is created beside it."""
    path = tmp_path / "thing"
    make(path)
    before = list(tmp_path.iterdir())
    assert "thing" in fails(2, *on(path, command))
    assert list(tmp_path.iterdir()) == before


def damage(path: Path) -> None:
    """Spoil a byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("command", [*COMMANDS, ("compact",), ("backup", "{}.copy")])
def test_damaged_file_exits_with_3(file: Path, command: tuple[str, ...]) -> None:
    """R3: damage is told in one line that names the way out, nothing is served, and the file stays as it is."""
    damage(file)
    before = file.read_bytes()
    name, *rest = command
    line = fails(3, name, file, *(argument.format(file) for argument in rest))
    assert "damaged at byte" in line
    assert "mapitem repair" in line
    assert file.read_bytes() == before
    assert not Path(f"{file}.copy").exists()


def test_failure_of_operating_system_exits_with_2(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1: an ``OSError`` becomes a line with the file and the reason."""

    def refuse(path: Path, **options: Any) -> Store:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("mapitem.cli.Store", refuse)
    assert fails(2, "maps", file) == f"Error: {file}: Permission denied"


def test_error_of_operating_system_without_file_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1: an ``OSError`` that names no file is told as it is."""

    def refuse(path: Path, **options: Any) -> Store:
        raise OSError("out of luck\n\x1b[2J")

    monkeypatch.setattr("mapitem.cli.Store", refuse)
    assert fails(2, "maps", file) == r"Error: out of luck\n\x1b[2J"


# ------------------------------------------------------------ the command as a whole


def test_every_command_has_help() -> None:
    """The help lists each command with a sentence, and each explains itself."""
    assert set(main.commands) >= {"backup", "check", "compact", "demo", "get", "maps", "range", "repair"}
    overview = run("--help").stdout
    assert "..." not in overview.partition("Commands:")[2]  # a sentence that was cut
    for name, command in main.commands.items():
        assert f"  {name} " in overview
        text = run(name, "-h").stdout
        assert command.help is not None
        assert text.startswith(f"Usage: main {name} ")
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_missing_extra_is_told_in_one_line(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without click or rich the command says what to install, exits with 2, and shows no traceback.

    It once named the extra of the other commands to those who came for ``serve``, and only then the one that serves.
    """
    monkeypatch.delitem(sys.modules, "mapitem.cli")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("mapitem", run_name="__main__")
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    needs = "mapitem: the command needs click and rich: pip install 'mapitem[cli]', for serve 'mapitem[server]'\n"
    assert output.err == needs


def test_other_missing_module_is_not_mistaken_for_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation of click itself shows what is broken."""
    monkeypatch.delitem(sys.modules, "mapitem.cli")
    for name in [name for name in sys.modules if name.partition(".")[0] == "click"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "click.core", None)
    with pytest.raises(ModuleNotFoundError, match=r"click\.core"):
        runpy.run_module("mapitem", run_name="__main__")


def test_core_never_imports_the_command() -> None:
    """``import mapitem`` loads neither the command nor what it needs."""
    names = "{'click', 'rich', 'mapitem.cli', 'mapitem.demo'}"
    code = f"import sys, mapitem; print({names} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_module_runs_as_program(file: Path) -> None:
    """``python -m mapitem`` is the command, under that name."""
    program = [sys.executable, "-m", "mapitem"]
    done = subprocess.run([*program, "get", str(file), "signs", "c"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    usage = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True)
    assert usage.stdout.startswith("Usage: python -m mapitem ")


# ------------------------------------------------------------ demo, as a command


@pytest.fixture
def run_demo(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int | None]]:
    """Stands for the demo: leaves a file and finds no difference. The list tells how it was called."""
    calls: list[tuple[Path, int | None]] = []

    def stand_in(path: Path, *, limit: int | None = None) -> int:
        calls.append((path, limit))
        path.touch(exist_ok=False)
        return 0

    monkeypatch.setattr("mapitem.demo.run_demo", stand_in)
    return calls


def test_demo_in_temporary_file_leaves_nothing(
    run_demo: list[tuple[Path, int | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo without FILE removes its file, and says how to keep one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = run("demo")
    assert result.exit_code == 0
    assert "removed" in result.stdout
    assert [path.is_relative_to(tmp_path) for path, _ in run_demo] == [True]
    assert list(tmp_path.iterdir()) == []


def test_demo_in_named_file_keeps_it(run_demo: list[tuple[Path, int | None]], tmp_path: Path) -> None:
    """The demo with FILE writes that very file and leaves it; ``--characters`` gets through."""
    path = tmp_path / "d.mapitem"
    result = run("demo", path, "--characters", 1234)
    assert result.exit_code == 0
    assert str(path) in result.stdout
    assert run_demo == [(path, 1234)]
    assert path.exists()


def dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize("make", [empty_file, foreign_file, Path.mkdir, dangling_link])
def test_demo_refuses_what_exists(
    run_demo: list[tuple[Path, int | None]], tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """The demo touches nothing that was there before: it refuses with 2."""
    path = tmp_path / "thing"
    make(path)
    before = path.lstat()
    assert "exists" in fails(2, "demo", path)
    assert run_demo == []
    assert path.lstat() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["thing"]


def test_demo_that_finds_differences_exits_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that differ are a failure that a script can see."""
    monkeypatch.setattr("mapitem.demo.run_demo", lambda path, **options: 3)
    result = run("demo", tmp_path / "d")
    assert result.exit_code == 1
    assert result.stderr == "Error: 3 items differ from what was stored\n"


def test_demo_in_impossible_place_exits_with_2(tmp_path: Path) -> None:
    """S1: the operating system's refusal is one line, not a traceback."""
    (tmp_path / "file").touch()
    result = run("demo", tmp_path / "file" / "d", "--characters", 1000)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_demo_with_too_few_characters_exits_with_2() -> None:
    """The story needs the first thousand characters."""
    result = run("demo", "--characters", 999)
    assert result.exit_code == 2
    assert "--characters" in result.stderr


# ---------------------------------------------------------------- compact, backup


def test_compact_a_file(tmp_path: Path) -> None:
    """compact: the file shrinks to what it holds, its content stays, and both sizes are told."""
    path = tmp_path / "store"
    with Store(path) as store:
        for number in range(200):
            store.map("m").set("a", {"n": number})
    before = path.stat().st_size
    result = CliRunner().invoke(main, ["compact", str(path)])
    assert result.exit_code == 0
    assert f"{before:,} bytes before" in result.stdout
    assert path.stat().st_size < before / 10
    with Store(path) as store:
        assert store.recovery is None
        assert store.map("m")["a"].data == {"n": 199}


def test_compact_what_is_not_there_or_in_use(tmp_path: Path) -> None:
    """compact: a missing file is not created, and one that a writer has open is refused; exit code 2."""
    result = CliRunner().invoke(main, ["compact", str(tmp_path / "missing")])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []
    with Store(tmp_path / "store"):
        result = CliRunner().invoke(main, ["compact", str(tmp_path / "store")])
    assert result.exit_code == 2
    assert "open for writing" in result.stderr


def test_back_up_beside_a_writer(tmp_path: Path) -> None:
    """backup: a consistent copy while a writer has the file open; it opens clean."""
    with Store(tmp_path / "store") as store:
        store.map("m").set("a", {"n": 1})
        result = CliRunner().invoke(main, ["backup", str(tmp_path / "store"), str(tmp_path / "copy")])
    assert result.exit_code == 0, result.stderr
    with Store(tmp_path / "copy") as copy:
        assert copy.recovery is None
        assert copy.map("m")["a"].data == {"n": 1}


def test_back_up_over_nothing(tmp_path: Path) -> None:
    """backup: an existing OUT is refused and stays as it is; exit code 2."""
    with Store(tmp_path / "store"):
        pass
    (tmp_path / "copy").write_text("mine")
    result = CliRunner().invoke(main, ["backup", str(tmp_path / "store"), str(tmp_path / "copy")])
    assert result.exit_code == 2
    assert "exists" in result.stderr
    assert (tmp_path / "copy").read_text() == "mine"


@pytest.mark.parametrize("command", ["backup", "repair"])
@pytest.mark.parametrize("ending", ["new", "lock"])
def test_refuse_names_that_the_store_takes(file: Path, command: str, ending: str) -> None:
    """R1: a copy called FILE.new would be removed by the next opening of FILE as a leftover; exit code 2."""
    Path(f"{file}.lock").unlink()
    assert "will not last" in fails(2, command, file, f"{file}.{ending}")
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# ---------------------------------------------------------------- check, repair


def closed(path: Path) -> None:
    pass


def left_open(path: Path) -> None:
    with writing(path) as store:
        store.open_map("signs").set("c", {})
        log = path.read_bytes()
    path.write_bytes(log)


def torn(path: Path) -> None:
    left_open(path)
    path.write_bytes(path.read_bytes()[:-5])


def headless(path: Path) -> None:
    path.write_bytes(b"\0" * 36 + path.read_bytes()[36:])


STATES: list[tuple[Callable[[Path], None], int, str, int]] = [
    (closed, 0, "clean", 0),
    (left_open, 1, "unclean", 0),
    (torn, 1, "torn", 1),
    (damage, 3, "damaged", 1),
    (headless, 3, "damaged", 0),
]


@pytest.mark.parametrize(("make", "code", "state"), [state[:3] for state in STATES])
def test_check_tells_a_script_how_a_file_is(file: Path, make: Callable[[Path], None], code: int, state: str) -> None:
    """R3: 0 for sound and closed, 1 for what opens all the same, 3 for damage; and all of it as JSON."""
    make(file)
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    result = run("check", file)
    assert (result.exit_code, result.stderr) == (code, "")
    assert result.stdout == f"{look_over(file)}\n"
    result = run("check", file, "--json")
    assert (result.exit_code, result.stderr) == (code, "")
    assert json.loads(result.stdout) == asdict(look_over(file))
    assert json.loads(result.stdout)["state"] == state
    assert result.stdout.count("\n") == 1
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


@pytest.mark.parametrize(("make", "code"), [(state[0], state[3]) for state in STATES])
def test_repair_tells_a_script_whether_all_was_saved(file: Path, make: Callable[[Path], None], code: int) -> None:
    """R3: 0 if nothing was lost, else 1; OUT is there, FILE as it was, and the report says the same."""
    make(file)
    before = file.read_bytes()
    outs = file.with_name("out"), file.with_name("out2")
    result = run("repair", file, outs[0])
    assert (result.exit_code, result.stderr) == (code, "")
    assert result.stdout.startswith(f"{outs[0]}: ")
    assert ("lost: " in result.stdout) is bool(code)
    result = run("repair", "--json", file, outs[1])
    assert (result.exit_code, result.stderr) == (code, "")
    report = json.loads(result.stdout)
    assert (report["out"], report["complete"]) == (str(outs[1]), not code)
    assert [sum(gap[1] for gap in report["gaps"])] == [report["lost_bytes"]]
    assert file.read_bytes() == before
    for out in outs:
        assert look_over(out).clean
        assert run("maps", out).exit_code == 0


@pytest.mark.parametrize("make", [no_file, empty_file, foreign_file, Path.mkdir])
@pytest.mark.parametrize("command", ["check", "check --json", "repair {}.out", "repair --json {}.out"])
def test_check_and_repair_of_what_is_no_store(tmp_path: Path, make: Callable[[Path], None], command: str) -> None:
    """R6: what is no store is one line on stderr, nothing on stdout, no file, and exit code 2."""
    path = tmp_path / "thing"
    make(path)
    before = list(tmp_path.iterdir())
    name, *rest = command.format(path).split()
    assert "is not a store" in fails(2, name, path, *rest)
    assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize("make", [empty_file, Path.mkdir, dangling_link])
def test_repair_overwrites_nothing(file: Path, make: Callable[[Path], None]) -> None:
    """R3: an OUT that is there is refused, be it a link that leads nowhere; exit code 2."""
    out = file.with_name("out")
    make(out)
    before = out.lstat()
    assert "exists" in fails(2, "repair", file, out)
    assert out.lstat() == before
    assert not file.with_name("nowhere").exists()


def test_repair_on_full_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: a full disk is one line, exit code 2, and no file."""

    def fail(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    before = sorted(file.parent.iterdir())
    monkeypatch.setattr("mapitem.disk.Disk.write", fail)
    assert "No space left on device" in fails(2, "repair", file, file.with_name("out"))
    assert sorted(file.parent.iterdir()) == before


def test_interruption_is_told_in_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is one line and the exit code that shells give it, which no answer of a command has."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mapitem.repair.repair", interrupt)
    assert fails(130, "repair", file, file.with_name("out")) == "Error: interrupted"


def test_check_never_sends_control_characters_to_terminal(file: Path) -> None:
    """D2: a path that could steer a terminal is shown escaped."""
    path = file.rename(file.with_name("\x1b[2J"))
    output = run("check", path).stdout
    assert r"\x1b[2J: sound" in output
    assert output.replace("\n", "").isprintable()


WATCHED = [("check", "{}"), ("repair", "{}", "{}.out"), ("compact", "{}"), ("backup", "{}", "{}.copy")]


@pytest.mark.parametrize("command", WATCHED, ids=lambda command: command[0])
def test_progress_is_for_terminals_alone(file: Path, command: tuple[str, ...]) -> None:
    """A person at a terminal sees on stderr what goes on; a pipe gets nothing there; stdout is the same for both."""
    arguments = [sys.executable, "-m", "mapitem", *(argument.format(file) for argument in command)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    piped = subprocess.run(arguments, capture_output=True, env=environment)
    assert (piped.returncode, piped.stderr) == (0, b"")
    for path in file.parent.iterdir():
        if path.suffix in (".out", ".copy"):
            path.unlink()
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
            shown = read_terminal(ours, theirs)
            assert process.stdout is not None
            output = process.stdout.read()
        assert process.returncode == 0
    finally:
        os.close(ours)
    doing = {"check": "Checking", "repair": "Repairing", "compact": "Compacting", "backup": "Copying"}[command[0]]
    assert f"{doing} " in shown
    assert "\u2501" in shown  # the bar
    if command[0] != "compact":  # which has nothing left to drop the second time
        assert output == piped.stdout


def read_terminal(ours: int, theirs: int) -> str:
    """Everything that was written to the other end, up to the last writer's end."""
    os.close(theirs)
    parts = []
    with suppress(OSError):  # EIO: nobody has the other end open any more
        while part := os.read(ours, 65536):
            parts.append(part)
    return b"".join(parts).decode()


def test_progress_follows_the_work(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal the bar's figures are those that the library tells of."""
    from rich.progress import Progress

    seen: list[tuple[float, float | None]] = []

    class Spied(Progress):
        def __exit__(self, *exception: Any) -> None:
            seen.extend((task.completed, task.total) for task in self.tasks)
            super().__exit__(*exception)

    monkeypatch.setattr("rich.progress.Progress", Spied)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda stream: True, raising=False)
    size = file.stat().st_size
    run("check", file)
    run("repair", file, file.with_name("out"))
    assert seen == [(size, size), (3 * size, 3 * size)]


def test_backup_shows_how_the_copy_grows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal the bar of a backup is at what the new file has, of what the old one has."""
    from rich.progress import Progress

    seen: list[tuple[float, float | None]] = []
    replace = Disk.replace

    class Spied(Progress):
        def __enter__(self) -> Any:
            bars.append(self)
            return super().__enter__()

    def look_first(disk: Disk, source: str, target: str) -> None:
        bars[0].refresh()
        seen.extend((task.completed, task.total) for task in bars[0].tasks)
        replace(disk, source, target)

    bars: list[Progress] = []
    monkeypatch.setattr("rich.progress.Progress", Spied)
    monkeypatch.setattr("mapitem.disk.Disk.replace", look_first)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda stream: True, raising=False)
    assert run("backup", file, file.with_name("copy")).exit_code == 0
    assert seen == [(file.stat().st_size, file.stat().st_size)]

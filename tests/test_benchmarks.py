"""The benchmarks run: every workload and measure on every engine that can run here, tiny, and no time is asserted.

A workload whose engine does not do what its name says measures nothing, so what the engines hold is looked at as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgpack import packb, unpackb

from benchmarks import data, engines, measures, plans, targets
from benchmarks.engines.base import Engine, Skip
from benchmarks.report import summary_tables
from benchmarks.result import Result
from benchmarks.run import run
from benchmarks.timing import Sample, Times, quietest, summary
from benchmarks.worker import Commands
from benchmarks.workloads import WORKLOADS

ITEMS = 40

# What the rivals warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


def engine_or_skip(name: str, folder: Path) -> Engine:
    try:
        return engines.make(name, folder)
    except Skip as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=engines.NAMES)
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    engine_or_skip(request.param, tmp_path)
    return str(request.param)


@pytest.fixture
def engine(name: str, tmp_path: Path) -> Iterator[Engine]:
    engine = engine_or_skip(name, tmp_path)
    engine.open()
    yield engine
    engine.close()


def test_every_engine_does_what_its_verbs_say(engine: Engine) -> None:
    """The same writes leave the same items on every engine, and each read shows them."""
    engine.load([("b", {"n": 2}), ("d", {"n": 4})])
    engine.put("c", {"n": 0})
    engine.put("c", {"n": 3})
    engine.create("a", {"n": 0})
    with pytest.raises(Exception):  # noqa: B017, PT011 - every engine has its own
        engine.create("a", {"n": 9})
    engine.update("a", {"m": 1})
    engine.mutate("a", lambda value: value | {"n": value["n"] + 1})
    token = engine.token("d")
    engine.cas("d", token, {"n": 5})
    with pytest.raises(Exception):  # noqa: B017, PT011
        engine.cas("d", token, {"n": 6})
    engine.put("e", {})
    engine.delete("e")
    expected = [("a", {"n": 1, "m": 1}), ("b", {"n": 2}), ("c", {"n": 3}), ("d", {"n": 5})]
    assert [(key, engine.get(key)) for key, _ in expected] == expected
    assert engine.get("e") is None
    assert engine.has("a")
    assert not engine.has("e")
    assert engine.peek("a") is not None
    assert engine.peek("e") is None
    if engine.range is not None:
        assert engine.range("b", 2) == expected[1:3]
        assert [key if isinstance(key, str) else key[0] for key in engine.range_keys("b", 2)] == ["b", "c"]
    if engine.range_down is not None:
        assert engine.range_down("bb", 2) == [expected[1], expected[0]]
    if engine.scan is not None:
        assert list(engine.scan()) == expected
    if engine.scan_down is not None:
        assert list(engine.scan_down()) == expected[::-1]
    if engine.feed is not None:
        assert len(engine.feed(3)) == 3


def test_what_is_closed_can_be_opened_again(name: str, engine: Engine, tmp_path: Path) -> None:
    """Opening is measured on what an earlier process left: it has to be there."""
    if engine.durability in ("none: memory", "the server's memory"):
        pytest.skip("it is in memory")
    engine.load([("a", {"n": 1})])
    if engine.compact is not None:
        engine.compact()
    engine.close()
    again = engines.make(name, tmp_path)
    again.open()
    assert again.get("a") == {"n": 1}
    again.close()
    engine.open()  # for the fixture to close


def test_due_items_are_reaped(engine: Engine) -> None:
    """What ``expire`` measures is a removal: of what is due, and of nothing else."""
    if engine.put_timed is None or engine.reap is None:
        pytest.skip("it knows no expiry")
    clock = [4_000_000_000.0]
    engine.close()
    engine.now = lambda: clock[0]
    engine.open()
    engine.put_timed("a", {}, 86_400)
    clock[0] += 50_000
    engine.put_timed("b", {}, 86_400)
    clock[0] += 50_000
    engine.reap()
    assert not engine.has("a")
    assert engine.has("b")


def test_every_workload_runs_and_leaves_the_items(name: str, tmp_path: Path) -> None:
    """Workloads can be run in any choice, for each leaves as many items as it found, with the data of their keys."""
    commands = Commands(name, tmp_path, ITEMS, "small", seed=1)
    commands.open()
    assert commands.piece("fillbatch", ITEMS).count == ITEMS
    for workload in WORKLOADS:
        if workload == "fillbatch" or not commands.can(workload):
            continue
        sample = commands.piece(workload, 20)
        assert sample.count > 0, workload
        assert sample.took.wall > 0, workload
        for number in range(ITEMS):
            value = commands.engine.get(data.key(number))
            assert value is not None, f"{workload} lost an item"
            assert value["id"] == number, f"{workload} mixed items up"
        assert not any(commands.engine.has(data.key(number)) for number in range(ITEMS, 3 * ITEMS)), workload
    commands.close()


def test_measures_run_on_ours(tmp_path: Path) -> None:
    """The measures count what was done: reads, writes, fsyncs, bytes, calls."""
    commands = Commands("mapitem", tmp_path, ITEMS, "small", seed=1)
    commands.open()
    commands.load()
    both = measures.threads(commands.bench, 2, 1, 0.02)
    assert both["reads_s"] > 0
    assert both["writes_s"] > 0
    assert measures.threads(commands.bench, 1, 0, 0.02)["writes_s"] == 0
    assert measures.fsync(commands.bench, 0, 0.02)["writes_s"] > 0
    assert measures.fsync(commands.bench, 2, 0.02)["writes_s"] > 0
    figures = measures.pauses(commands.bench, 50)
    assert figures["put_wall_p50"] <= figures["put_wall_p99"] <= figures["put_wall_max"]
    assert measures.written(commands.bench, 10, 1.0)["written"] > 1
    figures = measures.expire(commands.bench)
    assert figures["sample"].count == ITEMS // 2
    assert figures["writer_ms"] > 0
    commands.close()


def test_a_run_yields_json_tables_and_pictures(tmp_path: Path) -> None:
    """A whole run, with its processes: its result survives JSON, and targets and tables find their figures in it."""
    plan = plans.TARGETS._replace(
        engines=("mapitem", "mapitem:power", "dict"),
        workloads=("fillbatch", "readrandom", "overwrite"),
        items=ITEMS,
        repeat=2,
        passes=1,
        values=(("12k", 5),),
        sizes=(10, ITEMS),
        size_engines=("mapitem",),
        opens=1,
        calls=10,
        thread_engines=("mapitem",),
        expire_engines=("mapitem",),
        seconds=0.02,
    )
    result = run(plan, folder=tmp_path, piece_seconds=0.0005)
    assert result.content["failures"] == []
    assert result.content["engines"]["mapitem"]["durability"] == "process: survives kill -9"
    path = tmp_path / "result.json"
    result.write(path)
    read = Result.read(path)
    assert read.content == json.loads(json.dumps(result.content))
    for workload in plan.workloads:
        for engine in ("mapitem", "dict"):
            found = read.find(engine, workload, ITEMS)
            assert found is not None
            assert 0 < found["min"] <= found["us"]
    assert read.value("mapitem", "memory", "bytes_per_item", ITEMS) is not None
    assert read.find("mapitem", "open", ITEMS) is not None
    assert "readrandom" in summary_tables(read)
    table = targets.table(read)
    assert "get, data read" in table
    assert "not measured" in table  # there was no rival
    pytest.importorskip("matplotlib")
    from benchmarks.plot import draw

    assert [path.name for path in draw(read, tmp_path / "plots")] == [
        "operations.png",
        "growth.png",
        "sizes.png",
        "together.png",
    ]


def test_a_run_without_pieces_has_its_figures_all_the_same(tmp_path: Path) -> None:
    """A run of threads alone once ended in an error instead of figures, for want of a spin to scale by."""
    plan = plans.OURS.chosen(("threads",))._replace(engines=("dict", "mapitem"), thread_engines=("mapitem",), items=10)
    result = run(plan._replace(seconds=0.01, repeat=1), folder=tmp_path)
    assert result.value("mapitem", "threads 4+1", "writes_s", 10)


def test_the_verdict_is_that_of_the_figures() -> None:
    """A row is met if all its figures are within their bounds, and never if one was not measured."""
    met, missed, unknown = targets.Bound(1.0, 1.0), targets.Bound(1.1, 1.0), targets.Bound(1.0, None)
    assert targets.verdict([met, met]) == "met"
    assert targets.verdict([met, missed]) == "**missed**"
    assert targets.verdict([met, unknown]) == "not measured"
    assert targets.verdict([targets.Bound(5.0, 4.0, at_least=True)]) == "met"
    assert targets.verdict([targets.Bound(3.0, 4.0, at_least=True)]) == "**missed**"


def test_times_are_scaled_by_the_spin() -> None:
    """The same work on a machine that is slow just then counts as the same."""
    quiet = Sample(Times(1.0, 2.0), 1000, Times(0.1, 0.1))
    busy = Sample(Times(3.0, 8.0), 1000, Times(0.3, 0.4))
    figures = summary([quiet, busy], quietest([quiet, busy]), "cpu")
    assert figures["us"] == pytest.approx(1000)
    assert figures["wall_us"] == pytest.approx(2000)
    assert summary([quiet, busy], quietest([quiet]), "wall")["us"] == pytest.approx(2000)


def test_keys_and_values_are_what_they_are_said_to_be() -> None:
    """Keys are different and of one length; values have the sizes in their names, and survive msgpack."""
    keys = {data.key(number) for number in range(20_000)}
    assert len(keys) == 20_000
    assert {len(key) for key in keys} == {13}
    sizes = {"small": (100, 130), "1k": (900, 1100), "12k": (11_500, 13_000), "12k-text": (11_500, 13_000)}
    assert sizes.keys() == set(data.VALUES)
    for kind, (least, most) in sizes.items():
        value = data.value(kind, 12_345, 3)
        assert least <= len(json.dumps(value, separators=(",", ":"))) <= most
        assert unpackb(packb(value)) == value
        assert data.value(kind, 12_345, 4) != value

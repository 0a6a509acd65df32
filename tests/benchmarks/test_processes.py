"""The benchmark of processes that share a store, on tiny sizes: it measures what it says."""

import json
import subprocess
from dataclasses import replace

import pytest

pytest.importorskip("numpy")

from click.testing import CliRunner

import kvengine
from benchmarks import machine
from benchmarks.child import ChildFailed
from benchmarks.cli import main
from benchmarks.processes import kills, wakes
from benchmarks.processes.crew import Crew
from benchmarks.processes.report import Found, report
from benchmarks.processes.settings import Settings, Stores
from benchmarks.processes.wakes import WAYS

TINY = Settings(loaded=1000, own=64, seconds=0.02, repeats=1, turns=1, operations=100)


@pytest.fixture
def crew():
    crew = Crew(TINY.task(), 2)
    yield crew
    crew.stop()


def test_a_run_leaves_json_tables_and_a_plot(tmp_path):
    arguments = (
        "processes --engines kvengine,sqlite3:default --rows rounds,reading,alone"
        " --processes 1,2 --seconds 0.02 --repeats 1 --turns 1 --loaded 1000 --own 64"
        " --operations 100"
    )
    places = ["--dir", str(tmp_path), "--results", str(tmp_path / "results")]
    shown = CliRunner().invoke(main, [*arguments.split(), *places])
    assert shown.exit_code == 0, shown.output
    result = json.loads((tmp_path / "results" / "processes.json").read_text())
    found = Found(result)
    for do, kind in (("put", "os"), ("put", "group"), ("get", "os")):
        assert found.per_s(do, kind, 2, "sqlite3") > 0
        assert found.per_s(do, kind, 1, "kvengine") > 0
    assert set(found.reading("sqlite3")) == {"quiet", "2 MB/s", "full speed"}
    assert set(result["alone"]["ns"]) == {"kvengine", "sqlite3"}
    assert "| puts a second" in (tmp_path / "results" / "processes.md").read_text()
    assert "processes.json" in {path.name for path in (tmp_path / "results").iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


OTHER = """
__version__ = "0.0.7"
def Store(path, durability): raise OSError('the other')
"""


def test_another_kvengine_is_measured_in_a_process_of_its_own(tmp_path):
    package = tmp_path / "other" / "kvengine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(OTHER)
    for command in ("init -q", "add .", "-c user.name=a -c user.email=b commit -qm it"):
        subprocess.run(["git", *command.split()], cwd=tmp_path / "other", check=True)
    arguments = (
        "processes --engines kvengine --rows alone --processes 1 --seconds 0.02 --repeats 1"
        f" --turns 1 --loaded 1000 --own 64 --operations 100 --beside {tmp_path}/other"
    )
    shown = CliRunner().invoke(main, [*arguments.split(), "--results", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "* kvengine beside, alone: OSError: the other" in shown.output
    other = json.loads((tmp_path / "processes.json").read_text())["another"]
    assert other["version"] == "0.0.7"
    assert other["commit"] == machine.git_commit(tmp_path / "other") != machine.git_commit()
    assert len(other["commit"].rstrip("+")) == 12  # "+": with bytecode that is not committed
    assert f"beside kvengine 0.0.7 (commit {other['commit']})" in shown.output


def test_a_folder_that_is_no_clone_has_no_commit(tmp_path):
    assert machine.another_kvengine(tmp_path) == {"version": kvengine.__version__, "commit": ""}


def test_processes_write_at_once_and_see_each_others_pairs(crew, tmp_path):
    stores = Stores(tmp_path, TINY)
    orders = stores.orders(("sqlite3", "default"), "os", 2, 0)
    assert [order["load"] for order in orders] == [True, False]
    with crew.on(orders):
        puts = crew.together([{"do": "put", "seconds": 0.05}] * 2)
        assert all(answer["operations"] > 0 for answer in puts)
        assert len({answer["last"] for answer in puts}) == 2
        keys = [answer["last"] for answer in puts]
        for answer in crew.ask([{"do": "check", "keys": [*keys, b"absent".hex()]}] * 2):
            assert answer["missing"] == [b"absent".hex()]
        assert not any(answer["missing"] for answer in crew.together([{"do": "get"} | ONCE] * 2))


ONCE = {"seconds": 0.01}


def test_rows_can_be_chosen(tmp_path):
    arguments = (
        "processes --engines kvengine --rows wakes,kills --kills 2 --wakes 3 --loaded 1000 --own 64"
    )
    places = ["--dir", str(tmp_path), "--results", str(tmp_path / "results")]
    shown = CliRunner().invoke(main, [*arguments.split(), *places])
    assert shown.exit_code == 0, shown.output
    result = json.loads((tmp_path / "results" / "processes.json").read_text())
    assert result["options"]["rows"] == ["kills", "wakes"]
    assert result["together"] == result["beside"] == []
    assert [row["ns"] > 0 for row in result["kills"]["rows"]] == [True, True]
    assert result["wakes"]["errors"] == {}
    assert tuple(result["wakes"]["ns"]) == WAYS
    assert all(0 < row["p50"] <= row["max"] for row in result["wakes"]["ns"].values())
    text = (tmp_path / "results" / "processes.md").read_text()
    assert "puts a second" not in text
    assert "| kvengine, after a process was killed in mid-write | median |" in text
    assert text.count("| asyncio watch |") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    refused = CliRunner().invoke(main, ["processes", "--rows", "kills,lives"])
    assert refused.exit_code == 2
    assert "'lives' is none of rounds, reading, alone, kills, wakes" in refused.output


def test_each_kill_is_in_mid_write(tmp_path, monkeypatch):
    """Then the next put goes on in a new segment."""
    segments = []

    def and_look(settings, crew, path, index):
        row = next_put(settings, crew, path, index)
        with kvengine.Store(path, read_only=True) as store:
            segments.append(store._parts.rows[-1].id)
        return row

    next_put = kills._next_put
    monkeypatch.setattr(kills, "_next_put", and_look)
    found = kills.after_kills(replace(TINY, kills=4), tmp_path, lambda _: None)
    assert len(found["rows"]) == 4
    assert len(set(segments)) == 4
    assert kvengine.verify(tmp_path / "kills").ok


def test_a_process_that_hears_of_nothing_is_an_error_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(wakes, "WAYS", ("watch", "guess"))
    found = wakes.wake_ups(replace(TINY, wakes=2), tmp_path, lambda _: None)
    assert list(found["ns"]) == ["watch"]
    assert found["errors"] == {"guess": "KeyError: 'guess'"}


def test_a_process_that_fails_or_dies_costs_one_round(crew, tmp_path):
    orders = Stores(tmp_path, TINY).orders(("sqlite3", "default"), "os", 2, 0)
    with pytest.raises(ChildFailed, match="KeyError"), crew.on([orders[0] | {"engine": "oracle"}]):
        pass
    with pytest.raises(ChildFailed), crew.on(orders):
        crew._children[1].process.kill()
        crew.ask([{"do": "check", "keys": []}] * 2)
    with crew.on(orders):
        assert crew.ask([{"do": "check", "keys": []}]) == [{"missing": []}]


def test_goals_and_errors_are_shown():
    def row(engine, kind, per_s):
        return {"do": "put", "class": kind, "processes": 4, "engine": engine, "per_s": per_s} | {
            "latencies_ns": {"p50": 1.0, "p99": 2.0, "max": 3.0},
            "least_share": 0.5,
        }

    result = {
        "machine": dict.fromkeys(("cpu", "kernel", "file_system", "python", "commit"), "x")
        | {"cpus": 2},
        "options": {"processes": [4], "value_bytes": 100, "seconds": 1, "repeats": 1},
        "versions": {"kvengine": "0"},
        "another": None,
        "missing": {},
        "engines": ["kvengine", "lmdb", "lmdb tuned"],
        "together": [
            row("kvengine", "os", 350),
            row("lmdb", "os", 100),
            row("lmdb tuned", "os", 700),
            {"do": "put", "class": "group", "processes": 4, "engine": "lmdb", "error": "MapFull"},
        ],
        "beside": [],
        "alone": {"ns": {}, "errors": {}, "ratios": {"put": 1.5, "get": 1.0, "batch": 1.0}},
        "kills": {
            "rows": [
                {"ns": ms * 10**6, "sync_is_due": due} for ms, due in ((1, 0), (3, 0), (11, 1))
            ]
        },
        "wakes": {
            "ns": {"tail": {"p50": 1e5, "p99": 2e6, "max": 3e6}},
            "errors": {"edge": "it ended"},
        },
    }
    text = report(result)
    assert '| puts of 4 processes, "os", against the best peer | ≥ 3 x | 3.5 x | pass |' in text
    assert "| kvengine / best tuned peer | 0.50 |" in text
    assert "against the other kvengine | ≤ 1.03 x | 1.5 x | **miss** |" in text
    assert "* lmdb, group, 4 processes: MapFull" in text
    assert "in mid-write, the longest | ≤ 10 ms | 11 ms | **miss** |" in text
    assert "the median of each way | ≤ 1 ms | 0.1 ms | pass |" in text
    assert "| the next put | 2 ms | 3 ms | 2 |" in text
    assert "| the same, where a sync was due first | 11 ms | 11 ms | 1 |" in text
    assert "| tail | 100 µs | 2 ms | 3 ms |" in text
    assert "* from a write to edge: it ended" in text
    assert text.count("not measured") == 3

"""A run leaves a result, and a result can be drawn and compared."""

import json

import pytest

pytest.importorskip("numpy")

from click.testing import CliRunner

from benchmarks import driver
from benchmarks.cli import main
from benchmarks.engines.base import EngineMissing
from benchmarks.options import Options
from benchmarks.report.goals import GOALS, goals_table
from benchmarks.report.lookup import Lookup
from benchmarks.report.tables import tables


def _row(engine, workload, ns, **figures):
    return {
        "engine": engine,
        "workload": workload,
        "ns_median": ns,
        "ns_min": ns,
        "ns_all": [ns * 0.99, ns, ns * 1.01],
        "operations": [100],
        "latencies_ns": {"p50": ns, "max": 2 * ns},
        "figures": figures,
    }


@pytest.fixture
def result():
    rows = [
        _row("kvengine", "readrandom", 400.0),
        _row("dict", "readrandom", 800.0),
        _row("lmdb", "readrandom", 2000.0),
        _row("lmdb tuned", "readrandom", 1200.0),
        _row("kvengine", "groupcommit", 1e4, speedup_of_16=9.0, puts_per_s_by_threads={"1": 5.0}),
        {"engine": "lmdb", "workload": "groupcommit", "error": "MapFull: grow it"},
    ]
    return {
        "engines": ["dict", "kvengine", "lmdb", "lmdb tuned"],
        "workloads": {"readrandom": "get", "groupcommit": "threads"},
        "options": Options(keys=10).as_json(),
        "machine": {"cpu": "a cpu", "commit": "abc"},
        "results": rows,
    }


def test_goals_count_the_better_settings_of_a_peer(result):
    table = goals_table(result)
    assert "| get, found, against dict | ≤ 0.75 x | 0.5 x | pass |" in table
    assert "| get, found, faster than lmdb | ≥ 3.5 x | 3 x | **miss** |" in table
    assert table.count("not measured") == len(GOALS) - 3


def test_tables_show_ratios_and_failures(result):
    text = tables(result)
    assert "| readrandom | 400 ns | 2 | 5 | 3 |" in text
    assert "* groupcommit, lmdb: MapFull: grow it" in text


def test_a_lookup_guesses_nothing(result):
    found = Lookup(result)
    assert found.ns("lmdb", "groupcommit") is None
    assert found.best("rocksdict", "readrandom") is None
    assert found.best_label("lmdb", "readrandom") == "lmdb tuned"


def test_a_result_can_be_compared(result, tmp_path):
    slower = json.loads(json.dumps(result))
    slower["results"][0] = _row("kvengine", "readrandom", 600.0)
    for name, content in (("a.json", result), ("b.json", slower)):
        (tmp_path / name).write_text(json.dumps(content))
    shown = CliRunner().invoke(
        main, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    )
    assert shown.exit_code == 0
    assert "| readrandom | 400 ns | 600 ns | +50.0% | slower |" in shown.output


def test_a_run_writes_json_and_markdown(tmp_path):
    arguments = "--engines dict --workloads put,readrandom --keys 300 --repeats 2 --budget 0.02"
    places = ["--dir", str(tmp_path), "--results", str(tmp_path / "results")]
    shown = CliRunner().invoke(main, [*arguments.split(), *places])
    assert shown.exit_code == 0, shown.output
    (written,) = (tmp_path / "results").glob("*.json")
    result = json.loads(written.read_text())
    assert [row["workload"] for row in result["results"]] == ["put", "readrandom"]
    assert all(row["ns_median"] > 0 for row in result["results"])
    assert written.with_suffix(".md").read_text().startswith("# kvengine benchmarks")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_missing_peer_is_left_out_with_its_reason(monkeypatch):
    def absent(name, package):
        raise EngineMissing(f"cannot import {name}")

    monkeypatch.setattr("benchmarks.engines.base.peer_module", absent)
    said: list[str] = []
    present, versions, missing = driver.available([("plyvel", "default")], said.append)
    assert (present, versions) == ([], {})
    assert missing == {"plyvel": "cannot import plyvel"}
    assert said == ["without plyvel: cannot import plyvel"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--engines", "oracle"],
        ["--workloads", "sleep"],
        ["--keys", "many"],
        ["--engines", "dict:x"],
    ],
)
def test_unknown_names_are_refused(arguments):
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 2


def test_a_process_that_dies_costs_one_answer(tmp_path):
    options = Options(keys=100, repeats=1, budget_s=0.01)
    contender = driver.Contender("dict", "default", options, tmp_path / "dict")
    assert "sample" in contender.ask("put", 0)
    assert contender.process is not None
    contender.process.kill()
    contender.process.wait()
    assert contender.ask("put", 0)["error"] == "the process ended with code -9"
    assert "sample" in contender.ask("put", 0)
    contender.stop()

"""Every workload runs on the engines that it suits, and finds wrong answers."""

import pytest

pytest.importorskip("numpy")

from benchmarks import driver
from benchmarks.engines import ENGINES
from benchmarks.engines.base import after_prefix
from benchmarks.options import Options
from benchmarks.stage import Stage, WrongAnswer
from benchmarks.worker import answer
from benchmarks.workloads import WORKLOADS

OPTIONS = Options(keys=200, repeats=1, budget_s=0.02)
PAIRS = [
    (engine, workload)
    for engine in ("dict", "kvengine")
    for workload in WORKLOADS
    if driver.suits(WORKLOADS[workload], engine)
]


@pytest.mark.parametrize(("engine", "workload"), PAIRS)
def test_a_workload_gives_a_sample(engine, workload, tmp_path):
    stage = Stage(engine, "default", OPTIONS, tmp_path / "stage")
    try:
        found = answer(stage, workload, 0)
    finally:
        stage.close()
    assert "error" not in found, found.get("error")
    assert found["sample"]["operations"] > 0
    assert found["sample"]["ns_per_operation"] > 0
    assert found["sample"]["figures"].get("missing", 0) == 0
    assert found["sample"]["figures"].get("still_there", 0) == 0
    assert not (tmp_path / "stage").exists()


def test_sqlite_agrees_with_dict_on_what_is_stored(tmp_path):
    stage = Stage("sqlite3", "tuned", OPTIONS, tmp_path / "stage")
    try:
        engine = stage.main()
        space = stage.space
        expected = dict(space.pairs(space.order.at(range(200))))
        assert sorted(expected.items()) == list(engine.items())
        keys = sorted(expected)
        assert list(engine.keys(keys[0][:13])) == [key for key in keys if key[:13] == keys[0][:13]]
        assert engine.range(keys[5], 3) == [(key, expected[key]) for key in keys[5:8]]
        assert list(engine.get_many([keys[3], b"absent", keys[1]])) == [
            expected[keys[3]],
            None,
            expected[keys[1]],
        ]
    finally:
        stage.close()


def test_a_wrong_answer_is_an_error_and_not_a_time(tmp_path, monkeypatch):
    def forget(engine, pairs):
        engine._pairs.update((key, value[::-1]) for key, value in pairs)

    monkeypatch.setattr(ENGINES["dict"], "load", forget)
    stage = Stage("dict", "default", OPTIONS, tmp_path / "stage")
    with pytest.raises(WrongAnswer):
        stage.main()
    assert "WrongAnswer" in answer(stage, "readrandom", 0)["error"]


@pytest.mark.parametrize(
    ("prefix", "after"), [(b"ab", b"ac"), (b"a\xff", b"b"), (b"", b"\xff" * 1100)]
)
def test_the_end_of_a_prefix(prefix, after):
    assert after_prefix(prefix) == after

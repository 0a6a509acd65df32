"""The benchmark of the namespace layer runs, and judges what it measured by the goals."""

import pytest

pytest.importorskip("numpy")

from benchmarks import namespace


def test_a_small_run_gives_a_figure_for_everything():
    result = namespace.measure(2000, 1, None, lambda text: None)
    assert all(taken > 0 for taken in result["ns"].values())
    assert {"get text, uniform", "list page", "export"} <= set(result["ns"])
    text = namespace.report(result)
    assert all(row["what"] in text for row in result["ratios"])


def test_goals_have_a_side():
    times = {name: 1.0 for what, beside, _, _ in namespace.GOALS for name in (what, beside)}
    times |= {"get text, hot": 2.0, "list page, lmdb": 3.0}
    reached = {row["what"]: row["reached"] for row in namespace.ratios(times)}
    assert reached["get text, hot / store.get, hot"] is False
    assert reached["list page, lmdb / list page"] is True

"""Arrivals: what is shown of edges is what a model says, and bad reports change nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine.errors import InvalidRequest
from kvengine.server.monitoring import arrivals
from kvengine.server.monitoring.arrivals import Arrivals, Made


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(version: int, moment: float) -> Made:
    return Made(version, moment, moment, "0" * 32, f"key{version}", "put")


@given(st.data())
def test_times_are_those_between_a_change_and_the_first_report_of_it(data: st.DataObject) -> None:
    clock = Clock()
    found = Arrivals(clock)
    versions: dict[int, float] = {}
    positions: dict[str, int] = {}
    expected: dict[int, dict[str, float]] = {}
    waiting: list[Made] = []  # changes that were made, and not noted yet
    for _ in range(data.draw(st.integers(0, 25))):
        clock.now += data.draw(st.floats(0.001, 2))
        if data.draw(st.booleans()):
            version = len(versions) + 1
            versions[version] = clock.now
            expected[version] = {}
            waiting.append(made(version, clock.now))
            if data.draw(st.booleans()):
                found.made(version, waiting)
                waiting = []
            continue
        name = data.draw(st.sampled_from("abc"))
        before = positions.get(name)
        position = data.draw(st.integers(before or 0, len(versions)))
        steps = sorted(data.draw(st.sets(st.integers(0, position), max_size=4)))
        ago = sorted(data.draw(st.lists(st.floats(0, 5), min_size=4, max_size=4)), reverse=True)
        reached = [[version, ago_s] for version, ago_s in zip(steps, ago)]  # noqa: B905
        found.record(name, {"position": position, "reached": reached})
        for version in range(0 if before is None else before + 1, position + 1):
            arrived = next((clock.now - ago_s for step, ago_s in reached if step >= version), None)
            if before is not None:
                moment = clock.now if arrived is None else arrived
                expected[version].setdefault(name, max(0.0, moment - versions[version]))
        positions[name] = position
    found.made(len(versions), waiting)
    shown = found.changes()
    assert [change["version"] for change in shown] == sorted(versions, reverse=True)[
        : arrivals.CHANGES_SHOWN
    ]
    for change in shown:
        times = {name: s * 1e3 for name, s in expected[change["version"]].items()}
        assert change["reached_ms"] == pytest.approx(times, abs=0.01)
    for edge in found.edges():
        missing = [v for v in versions if v > positions[edge["name"]]]
        assert edge["lag_versions"] == len(missing)
        lag = (clock.now - versions[missing[0]]) * 1e3 if missing else 0.0
        assert edge["lag_ms"] == pytest.approx(lag, abs=0.1)
        assert not edge["lag_is_longer"]


def test_an_edge_that_falls_far_behind_is_said_to_be() -> None:
    clock = Clock()
    found = Arrivals(clock)
    found.record("slow", {"position": 0})
    for version in range(1, arrivals.CHANGES_KEPT + 100):
        clock.now += 0.01
        found.made(version, [made(version, clock.now)])
    [edge] = found.edges()
    assert edge["lag_is_longer"]
    assert edge["lag_versions"] == arrivals.CHANGES_KEPT + 99
    assert edge["lag_ms"] == pytest.approx((arrivals.CHANGES_KEPT - 1) * 10, abs=0.2)
    found.record("slow", {"position": found.version})
    assert found.edges()[0]["lag_ms"] == 0.0


def test_times_that_were_forgotten_are_not_made_shorter() -> None:
    clock = Clock()
    found = Arrivals(clock)
    found.record("fra", {"position": 0})
    found.made(1, [made(1, clock.now)])
    for version in range(1, arrivals.REACHED_KEPT + 11):
        clock.now += 0.01
        found.record("fra", {"position": version})
    assert found.changes()[0]["reached_ms"] == {"fra": 110.0}


def test_an_edge_that_begins_anew() -> None:
    clock = Clock()
    found = Arrivals(clock)
    for position in (0, 5, 2, 6):
        clock.now += 1
        found.record("fra", {"position": position})
    found.made(6, [made(version, clock.now - 2.5) for version in range(1, 7)])
    times = [change["reached_ms"]["fra"] for change in found.changes()]
    assert times == [2500.0, *[500.0] * 5]


def test_who_is_silent_is_not_there_and_then_forgotten() -> None:
    clock = Clock()
    found = Arrivals(clock)
    found.record("fra", {"position": 0, "reads": 5, "hits": 4, "memory_bytes": 10})
    [edge] = found.edges()
    assert edge["is_there"]
    assert edge["reads"] == 5
    clock.now += arrivals.LOST_S
    assert not found.edges()[0]["is_there"]
    clock.now += arrivals.FORGOTTEN_S
    assert found.edges() == []


def test_there_is_a_most() -> None:
    found = Arrivals(Clock())
    for number in range(arrivals.EDGES_MAX):
        found.record(str(number), {"position": 0})
    with pytest.raises(InvalidRequest, match="too many edges"):
        found.record("one more", {"position": 0})
    found.record("0", {"position": 3})


BAD: list[tuple[str, Any]] = [
    ("", {"position": 1}),
    ("x" * 65, {"position": 1}),
    ("a\nb", {"position": 1}),
    ("fra", None),
    ("fra", []),
    ("fra", {}),
    ("fra", {"position": "1"}),
    ("fra", {"position": True}),
    ("fra", {"position": -1}),
    ("fra", {"position": 1 << 48}),
    ("fra", {"position": 1, "reached": {}}),
    ("fra", {"position": 1, "reached": [1]}),
    ("fra", {"position": 1, "reached": [[1]]}),
    ("fra", {"position": 1, "reached": [[1, 2, 3]]}),
    ("fra", {"position": 1, "reached": [[2, 0.0]]}),
    ("fra", {"position": 1, "reached": [["1", 0.0]]}),
    ("fra", {"position": 1, "reached": [[1, float("nan")]]}),
    ("fra", {"position": 1, "reached": [[1, -1.0]]}),
    ("fra", {"position": 1, "reached": [[1, 1e9]]}),
    ("fra", {"position": 1, "reached": [[1, "1"]]}),
    ("fra", {"position": 1, "reached": [[1, 0.0]] * (arrivals.REACHED_AT_ONCE + 1)}),
    ("fra", {"position": 1, "reads": 1.5}),
    ("fra", {"position": 1, "hits": -1}),
    ("fra", {"position": 1, "memory_bytes": None}),
]


@pytest.mark.parametrize(("name", "report"), BAD)
def test_bad_reports(name: str, report: Any) -> None:
    found = Arrivals(Clock())
    with pytest.raises(InvalidRequest):
        found.record(name, report)
    assert found.edges() == []

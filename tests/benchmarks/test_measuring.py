"""Clocks, percentiles, budgets and footprints measure what they say."""

import mmap

import pytest

np = pytest.importorskip("numpy")

from benchmarks import footprint  # noqa: E402
from benchmarks.timing import (  # noqa: E402
    Budget,
    Histogram,
    time_calls,
    time_each,
    time_pairs,
    time_steps,
    without_clock,
)


def test_percentiles_are_right_to_three_percent():
    latencies = np.random.default_rng(1).integers(20, 5_000_000, 50_000).tolist()
    histogram = Histogram()
    histogram.add(latencies[:20_000])
    histogram.add(latencies[20_000:])
    ordered = sorted(latencies)
    for percent in (50, 90, 99, 99.9):
        exact = ordered[int(np.ceil(len(ordered) * percent / 100)) - 1]
        assert histogram.percentile(percent) == pytest.approx(exact, rel=0.03)
    assert histogram.summary()["max"] == ordered[-1]


def test_an_empty_histogram_has_no_summary():
    assert Histogram().summary() == {}


def test_a_percentile_is_never_above_the_maximum():
    histogram = Histogram()
    histogram.add([1000])
    assert histogram.summary() == dict.fromkeys(histogram.summary(), 1000.0)


def test_timed_loops_call_with_every_argument():
    seen: list[int] = []
    assert time_calls(seen.append, [1, 2, 3]) > 0
    assert time_pairs(lambda key, value: seen.append(key + value), [(10, 1), (20, 2)]) > 0
    assert time_steps([(seen.append, (7,)), (seen.extend, ([8, 9],))]) > 0
    assert len(time_each(seen.append, [(4,), (5,)])) == 2
    assert seen == [1, 2, 3, 11, 22, 7, 8, 9, 4, 5]


def test_the_cost_of_the_clock_never_makes_a_latency_negative():
    assert without_clock([10, 100], 60) == [0, 40]


def test_a_budget_ends_after_its_operations():
    budget = Budget(1000, seconds=1e9)
    for size in budget.chunks():
        budget.add(size, 1)
    assert budget.sample().operations == 1000


def test_a_budget_ends_soon_after_its_time():
    budget = Budget(10**9, seconds=0.001)
    for size in budget.chunks():
        budget.add(size, size * 1000)  # a microsecond each
    assert 1_000_000 <= budget.spent_ns < 1_500_000


def test_disk_is_counted_in_blocks_not_in_length(tmp_path):
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "full").write_bytes(b"x" * 10_000)
    assert 0 < footprint.disk_bytes(tmp_path) < 1 << 20


def test_memory_of_this_process_is_seen():
    before = footprint.memory()["Pss_Anon"]
    # Not of the heap: what earlier tests have freed there is resident.
    with mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        for _ in range(32):
            held.write(bytes(1 << 20))
        after = footprint.memory()["Pss_Anon"]
    assert after - before > 24 << 20


def test_dropping_the_page_cache_keeps_the_data(tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    footprint.drop_page_cache(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"kept"

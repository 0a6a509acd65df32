"""Counters add up; quantiles of lengths of time are right within a bucket."""

from hypothesis import given
from hypothesis import strategies as st

from kvengine.edge.counters import Counters, Histogram

TIMES = st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=50)


@given(TIMES, st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_right_within_a_bucket(times, share):
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    wanted = sorted(times)[max(0, -(-int(share * 1e6) * len(times) // 10**6) - 1)]
    assert wanted / 1.1 <= histogram.quantile(share) <= wanted * 1.1
    assert histogram.longest == max(times)
    assert histogram.count == len(times)


@given(TIMES, TIMES)
def test_merged_is_as_if_added_to_one(one, other):
    parts = Histogram(), Histogram(), Histogram()
    for seconds in one:
        parts[0].add(seconds)
        parts[2].add(seconds)
    for seconds in other:
        parts[1].add(seconds)
        parts[2].add(seconds)
    parts[0].merge(parts[1])
    for share in (0.1, 0.5, 0.99):
        assert parts[0].quantile(share) == parts[2].quantile(share)
    assert (parts[0].count, parts[0].longest) == (parts[2].count, parts[2].longest)


def test_odd_lengths_are_counted():
    histogram = Histogram()
    assert histogram.quantile(0.5) == 0.0
    histogram.add(0.0)
    histogram.add(-1.0)
    assert histogram.count == 2
    assert histogram.quantile(1.0) == 0.0


def test_counters_add_up():
    one = Counters(memory_hits=8, disk_hits=1, misses=1, stale=1, errors=1, changes=3)
    two = Counters(memory_hits=1, revalidations=1)
    two.propagation.add(0.5)
    one.add(two)
    assert (one.reads, one.memory_hits, one.changes) == (14, 9, 3)
    assert one.hit_ratio == 10 / 14
    assert one.propagation.count == 1
    assert Counters().hit_ratio == 0.0


def test_a_histogram_says_what_it_counted():
    times = Histogram()
    times.add(0.5)
    assert repr(times) == "<1 times, p50 0.500000 s, p99 0.500000 s, longest 0.500000 s>"

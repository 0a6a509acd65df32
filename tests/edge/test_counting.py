"""Each counter of an edge moves when it should, and no other does.

Also: what an upstream leaves out of its answers is not taken for a value.
"""

import pytest

from kvengine.edge.counters import Counters
from kvengine.edge.messages import Answer, ChangeEvent
from kvengine.errors import UpstreamUnavailable
from tests.edge.bench import Bench

FIELDS = [name for name in Counters.__dataclass_fields__ if name != "propagation"]


@pytest.fixture
def bench(time, clock):
    return Bench(time, clock)


def counts(bench):
    return {name: getattr(bench.counters, name) for name in FIELDS}


def moved(bench, act):
    """Return what an act has counted."""
    before = counts(bench)
    act()
    after = counts(bench)
    return {name: after[name] - before[name] for name in FIELDS if after[name] != before[name]}


def answered(bench, *answers, **options):
    def act():
        bench.read(**options)
        for answer in answers:
            bench.upstream.answer(answer)

    return act


def failed(bench, **options):
    def act():
        bench.read(**options)
        bench.upstream.fail(UpstreamUnavailable("cut"))

    return act


def test_reads(bench):
    new = Answer(5, 10, 0.0, b"v")
    assert moved(bench, answered(bench, new)) == {"misses": 1, "requests": 1}
    assert moved(bench, bench.read) == {"memory_hits": 1}
    bench.time.run_until(50.0)
    assert moved(bench, bench.read) == {"memory_hits": 1, "requests": 1, "refreshes": 1}
    same = Answer(5, 10, 0.0, unchanged=True)
    assert moved(bench, lambda: bench.upstream.answer(same)) == {"unchanged": 1}
    bench.time.run_until(70.0)
    assert moved(bench, answered(bench, same, ttl=5.0)) == {
        "revalidations": 1,
        "requests": 1,
        "unchanged": 1,
    }
    bench.time.run_until(90.0)
    assert moved(bench, failed(bench, ttl=5.0)) == {"stale": 1, "requests": 1}
    bench.time.run_until(900.0)
    assert moved(bench, failed(bench)) == {"errors": 1, "requests": 1}
    late = (Answer(5, 19, 0.0, b"old"), Answer(5, 20, 0.0, b"v"))
    assert moved(bench, answered(bench, *late, min_version=20)) == {
        "revalidations": 1,
        "requests": 2,
        "retries": 1,
    }
    assert bench.counters.reads == 7


def test_news(bench):
    bench.hold()
    bench.time.run_until(1.0)
    bench.read()
    pushed = ChangeEvent(11, b"k", True, b"w", ago=0.5)
    assert moved(bench, lambda: bench.apply_changes(10, 11, pushed)) == {
        "changes": 1,
        "pushed": 1,
        "read_late": 1,
    }
    assert bench.counters.propagation.longest == 0.5
    assert moved(bench, lambda: bench.apply_changes(10, 11, pushed)) == {"duplicates": 1}
    bench.time.run_until(2.0)
    dropped = ChangeEvent(12, b"k", False, ago=0.25)
    assert moved(bench, lambda: bench.apply_changes(11, 12, dropped)) == {
        "changes": 1,
        "invalidations": 1,
    }
    assert bench.counters.propagation.count == 2
    assert 0.2 < bench.counters.propagation.quantile(0.5) < 0.3
    other = ChangeEvent(13, b"other", True)
    assert moved(bench, lambda: bench.apply_changes(12, 13, other)) == {"changes": 1}
    assert moved(bench, lambda: bench.apply_changes(15, 16)) == {"gaps": 1}
    assert moved(bench, lambda: bench.apply_changes(13, 90, gone=True)) == {"resets": 1}
    assert moved(bench, lambda: bench.edge.record_write([b"a", b"b"], 91)) == {"writes": 2}
    assert moved(bench, lambda: bench.edge.record_write(None, 92)) == {"writes": 1}


def test_an_edge_that_is_behind_what_it_was_told_knows_by_how_much(bench):
    bench.apply_changes(10, 12)
    bench.hold(15, 20)
    assert (bench.edge.position, bench.edge.known_version) == (12, 20)
    bench.apply_changes(12, 20)
    assert bench.edge.known_version - bench.edge.position == 0


@pytest.mark.parametrize("answers", [[], [Answer(0, 10, 0.0)] * 2, None, "garbage"])
def test_answers_to_another_question_are_an_error(bench, answers):
    results = bench.read()
    _, done = bench.upstream.asked.pop()
    done(answers)
    assert isinstance(results[0], UpstreamUnavailable)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(5, 10, 0.0, unchanged=True),  # nothing is held
        Answer(5, 10, 0.0),  # a value is missing
    ],
)
def test_an_answer_that_leaves_the_value_out_is_asked_again(bench, answer):
    results = bench.read()
    bench.upstream.answer(answer)
    assert results == []
    bench.upstream.answer(Answer(5, 10, 0.0, b"v"))
    assert results[0].value == b"v"


def test_a_copy_of_another_version_is_not_taken_for_the_one_meant(bench):
    bench.hold(5, 10, b"v")
    results = bench.read(min_version=12)
    bench.upstream.answer(Answer(6, 12, 0.0, unchanged=True))
    assert results == []
    bench.upstream.answer(Answer(6, 12, 0.0, b"w"))
    assert results[0].value == b"w"

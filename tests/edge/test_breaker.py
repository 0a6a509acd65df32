"""The circuit breaker of an edge: who is known not to answer is not asked."""

from typing import Any

import pytest

from kvengine.edge.messages import Answer, ChangeBatch
from kvengine.errors import NamespaceNotFound, RateLimited, StoreClosed, UpstreamUnavailable
from tests.edge.bench import Bench

CUT = UpstreamUnavailable("cut")


@pytest.fixture
def bench(time, clock):
    found = Bench(time, clock)
    for number in range(50):
        found.hold(key=b"k%d" % number)
    return found


def silent(bench, error=CUT):
    """Let a poll fail when nothing was heard for some time."""
    bench.time.run_until(bench.time.now + 10)
    bench.edge.poll_failed(error)


@pytest.mark.parametrize("error", [CUT, TimeoutError("x"), RateLimited(5.0)])
def test_while_the_polls_fail_stale_copies_are_shown_without_a_question(bench, error):
    silent(bench, error)
    for _ in range(20):
        for number in range(50):
            (shown,) = bench.read(b"k%d" % number, ttl=5.0)
            assert shown.status == "STALE"
    assert bench.upstream.asked == []
    assert bench.counters.stale == bench.counters.refused == 1000


def test_who_holds_nothing_hears_an_error_at_once_and_one_of_them_is_the_probe(bench):
    silent(bench)
    results = []
    for number in range(100):
        results += bench.read(b"none%d" % number)
    assert len(results) == 100  # its time has not come
    assert all(isinstance(error, UpstreamUnavailable) for error in results)
    bench.time.run_until(bench.time.now + 0.1)
    waiting = [key for key in range(100) if not bench.read(b"none%d" % key)]
    assert waiting == [0]
    assert len(bench.upstream.asked) == 1
    bench.upstream.answer(Answer(3, 12, 0.0, b"v"))
    assert bench.edge.breaker.error is None
    bench.read(b"another")
    assert len(bench.upstream.asked) == 1


def test_who_asks_as_the_probe_does_not_wait_long(bench):
    silent(bench)
    bench.time.run_until(bench.time.now + 1)
    results = bench.read(b"none")
    assert results == []
    bench.time.run_until(bench.time.now + bench.edge.settings.grace_s)
    assert isinstance(results[0], UpstreamUnavailable)
    assert isinstance(bench.read(b"none")[0], UpstreamUnavailable)  # the next probe comes later


def test_probes_come_after_pauses_that_grow(bench):
    silent(bench)
    asked, end = 0, bench.time.now + 60
    while bench.time.now < end:
        bench.read(b"none")
        if bench.upstream.asked:
            bench.upstream.fail(CUT)
            asked += 1
        bench.time.run_until(bench.time.now + 0.01)
    assert 10 < asked < 30


def test_who_waits_when_it_opens_waits_no_longer(bench):
    results = bench.read(b"none")
    stale = bench.read(b"k0", ttl=0.0)
    assert results == stale == []
    silent(bench)
    assert isinstance(results[0], UpstreamUnavailable)
    assert stale[0].status == "STALE"
    bench.upstream.answer(Answer(3, 12, 0.0, b"late"))  # harms nobody
    assert len(results) == 1


def test_an_answered_poll_closes_it(bench):
    silent(bench)
    bench.edge.poll_answered()
    assert bench.read(b"none") == []
    assert len(bench.upstream.asked) == 1


def test_a_lost_poll_opens_nothing_while_questions_are_answered(bench):
    bench.edge.poll_failed(CUT)  # the requests of the fixture were answered just now
    assert bench.read(b"none") == []
    bench.upstream.fail(CUT)  # but now none is
    assert isinstance(bench.read(b"none")[0], UpstreamUnavailable)
    assert bench.edge.breaker.open_count == 1


def test_who_is_refused_is_told_the_newest_error(bench):
    silent(bench)
    assert "cut" in str(bench.read(b"none")[0])
    bench.edge.poll_failed(UpstreamUnavailable("another store answers"))
    assert "another store answers" in str(bench.read(b"none")[0])
    bench.time.run_until(bench.time.now + 1)
    told = bench.read(b"none")  # the probe
    bench.upstream.fail(RateLimited(5.0))
    assert "another store answers" not in str(told + bench.read(b"none"))
    assert "5" in str(bench.read(b"none")[0])
    bench.time.run_until(bench.time.now + 2)
    told = bench.read(b"none")
    bench.edge.poll_failed(UpstreamUnavailable("gone again"))
    bench.time.run_until(bench.time.now + bench.edge.settings.grace_s)
    assert "gone again" in str(told[0])  # a probe that is not answered soon
    assert bench.edge.breaker.open_count == 1


@pytest.mark.parametrize("error", [NamespaceNotFound("n"), StoreClosed("closed")])
def test_an_error_that_is_an_answer_opens_nothing(bench, error):
    silent(bench, error)
    assert bench.edge.breaker.error is None


def test_a_refresh_asks_nobody_while_it_is_open(bench):
    bench.time.run_until(50.0)  # popular keys are refreshed from 45 s on
    silent_at = bench.time.now
    bench.edge.poll_failed(CUT)
    assert bench.time.now == silent_at
    for _ in range(100):
        assert bench.read(b"k0")[0].status == "HIT"
    assert bench.upstream.asked == []


def test_the_bound_and_floors_hold_while_it_is_open(bench):
    bench.apply_changes(10, 20)
    bench.time.run_until(59.0)
    bench.edge.poll_failed(CUT)
    assert bench.read(b"k0", ttl=5.0, min_version=20)[0].status == "STALE"
    assert isinstance(bench.read(b"k0", ttl=5.0, min_version=21)[0], UpstreamUnavailable)
    assert isinstance(bench.read(b"k0", min_version=21, stale_if_error=1e6)[0], UpstreamUnavailable)
    bench.time.run_until(60.1)
    assert bench.read(b"none") == []  # the probe
    assert isinstance(bench.read(b"k0")[0], UpstreamUnavailable)
    assert bench.read(b"k0", stale_if_error=100.0)[0].status == "STALE"


def test_when_an_edge_ends_who_waits_is_told(bench):
    results = bench.read(b"none")
    bench.edge.end()
    assert isinstance(results[0], StoreClosed)
    assert isinstance(bench.read(b"none")[0], StoreClosed)


def test_news_open_and_close_it(time, clock):
    from kvengine.edge.upstream.poller import ChangePoller

    bench: Any = Bench(time, clock, begin=False)
    polls = []
    bench.upstream.poll = lambda after, poll_timeout_s, done: polls.append((after, done))
    poller = ChangePoller(bench.edge, bench.upstream, monotonic=clock.monotonic, later=clock.later)
    poller.begin()
    polls.pop()[1](CUT)
    assert isinstance(bench.read()[0], UpstreamUnavailable)
    time.run_until(0.2)
    after, done = polls.pop()
    done(ChangeBatch(after, after, 0.0))
    assert bench.read() == []

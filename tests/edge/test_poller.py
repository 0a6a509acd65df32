"""Polls go on whatever is lost, late or wrong, one at a time, and never spin."""

import itertools

import pytest

from kvengine.edge.messages import ChangeBatch, ChangeEvent
from kvengine.edge.node import EdgeNode
from kvengine.edge.settings import Settings
from kvengine.edge.upstream.poller import ChangePoller
from kvengine.errors import UpstreamUnavailable


class Upstream:
    """Notes when it is polled, and from where; the test answers."""

    def __init__(self, time):
        self.time, self.polls, self.version = time, [], 10
        self.asked = 0

    def origin_version(self, done):
        self.asked += 1
        done(self.version)

    def poll(self, after, poll_timeout_s, done):
        self.polls.append((self.time.now, after, done))

    def answer(self, number, upto, *events, **more):
        _, after, done = self.polls[number]
        done(ChangeBatch(after, upto, 0.0, events, **more))


class Bench:
    """An edge that listens; jitter is 0.5, so that pauses are as they are set."""

    def __init__(self, time, clock):
        self.time, self.upstream = time, Upstream(time)
        self.settings = Settings(watermark_groups=64)
        self.edge = EdgeNode(
            self.upstream,
            self.settings,
            monotonic=clock.monotonic,
            wall=clock.time,
            later=clock.later,
        )
        self.poller = ChangePoller(
            self.edge,
            self.upstream,
            monotonic=clock.monotonic,
            later=clock.later,
            jitter=lambda: 0.5,
        )

    @property
    def moments(self):
        return [round(moment, 2) for moment, _, _ in self.upstream.polls]


@pytest.fixture
def bench(time, clock):
    return Bench(time, clock)


def test_each_answer_is_followed_by_the_next_poll(bench):
    bench.poller.begin()
    assert bench.edge.begun
    for version in range(11, 20):
        bench.upstream.answer(-1, version, ChangeEvent(version, b"k", True))
    assert [after for _, after, _ in bench.upstream.polls] == list(range(10, 20))
    assert bench.poller.connected
    assert bench.edge.counters.changes == 9


def test_what_is_said_of_the_last_poll_is_known_to_readers_already(bench, monkeypatch):
    bench.poller.begin()
    said = []
    for name in ("poll_failed", "poll_answered"):
        inner = getattr(bench.edge, name)

        def noted(*arguments, inner=inner):
            said.append(bench.poller.error)
            inner(*arguments)

        monkeypatch.setattr(bench.edge, name, noted)
    errors = UpstreamUnavailable("first"), UpstreamUnavailable("second")
    for error in errors:
        bench.upstream.polls[-1][2](error)
        assert bench.poller.error is error
        bench.time.run_until(bench.time.now + 5)
    bench.upstream.answer(-1, 10)
    assert bench.poller.connected
    assert said[0] is None
    assert said[1] is not errors[1]
    assert said[-1] is not None


def test_a_lost_poll_is_asked_again_after_its_time(bench):
    bench.poller.begin()
    bench.time.run_until(4.04)
    assert bench.moments == [0.0]
    assert not bench.poller.connected
    bench.time.run_until(4.1)
    assert bench.moments == [0.0, 4.05]
    bench.upstream.answer(1, 10)
    assert bench.poller.connected


def test_a_late_answer_is_heard_but_is_not_the_next(bench):
    bench.poller.begin()
    bench.time.run_until(4.1)
    assert len(bench.upstream.polls) == 2
    bench.upstream.answer(0, 12, ChangeEvent(12, b"k", True))
    assert bench.edge.position == 12
    assert len(bench.upstream.polls) == 2  # the second poll is still under way
    bench.upstream.answer(1, 12, ChangeEvent(12, b"k", True))
    assert bench.edge.counters.duplicates == 1
    assert bench.upstream.polls[2][1] == 12
    bench.upstream.answer(1, 12)  # the network says it twice
    assert len(bench.upstream.polls) == 3


def test_pauses_grow_while_it_fails_and_begin_again_small(bench):
    def poll(after, poll_timeout_s, done):
        bench.upstream.polls.append((bench.time.now, after, done))
        done(UpstreamUnavailable("cut"))

    original, bench.upstream.poll = bench.upstream.poll, poll
    bench.poller.begin()
    bench.time.run_until(60.0)
    moments = [moment for moment, _, _ in bench.upstream.polls]
    pauses = [round(b - a, 2) for a, b in itertools.pairwise(moments)]
    assert pauses[:8] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert set(pauses[8:]) == {5.0}
    assert isinstance(bench.poller.error, UpstreamUnavailable)
    bench.upstream.poll = original
    count = len(bench.upstream.polls)
    while len(bench.upstream.polls) == count:
        bench.time.step()
    bench.upstream.answer(-1, 11)
    assert bench.poller.connected
    bench.upstream.polls[-1][2](UpstreamUnavailable("cut again"))
    count = len(bench.upstream.polls)
    bench.time.run_until(bench.time.now + 0.06)
    assert len(bench.upstream.polls) == count + 1


@pytest.mark.parametrize("wrong", ["behind", "gap"])
def test_an_upstream_that_is_behind_or_wrong_is_not_asked_without_end(bench, wrong):
    def poll(after, poll_timeout_s, done):
        bench.upstream.polls.append((bench.time.now, after, done))
        done(
            ChangeBatch(after, after - 1, 0.0)
            if wrong == "behind"
            else ChangeBatch(after + 1, after + 2, 0.0)
        )

    bench.upstream.poll = poll
    bench.poller.begin()
    bench.time.run_until(60.0)
    assert 10 < len(bench.upstream.polls) < 30
    assert bench.edge.position == 10


def test_it_sets_out_only_when_the_primary_answers(bench):
    answers = []
    bench.upstream.origin_version = answers.append
    bench.poller.begin()
    for number in range(3):
        answers[number](TimeoutError("no"))
        bench.time.run_until(bench.time.now + 10.0)
    assert not bench.edge.begun
    assert bench.upstream.polls == []
    answers[-1](15)
    assert bench.edge.begun
    assert [after for _, after, _ in bench.upstream.polls] == [15]


def test_if_the_first_question_is_lost_it_is_asked_again(bench):
    answers = []
    bench.upstream.origin_version = answers.append
    bench.poller.begin()
    bench.time.run_until(30.0)
    assert 2 <= len(answers) <= 20
    answers[-1](15)
    assert bench.edge.begun
    answers[0](12)  # the first one, which was only late
    assert [after for _, after, _ in bench.upstream.polls] == [15]
    bench.time.run_until(33.0)
    assert len(bench.upstream.polls) == 1


def test_after_the_end_nothing_is_asked(bench):
    bench.poller.begin()
    bench.poller.close()
    bench.upstream.answer(0, 11)
    bench.time.run_until(100.0)
    assert len(bench.upstream.polls) == 1
    assert bench.edge.position == 10

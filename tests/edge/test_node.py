"""An edge on its own: what it shows, asks, keeps and drops, step by step."""

import pytest

from kvengine.edge.messages import Answer, ChangeEvent
from kvengine.edge.node import EdgeNode
from kvengine.edge.settings import Settings
from kvengine.errors import InvalidRequest, NamespaceNotFound, UpstreamUnavailable
from tests.edge.bench import INF, OPTIONS, Bench, Upstream


@pytest.fixture
def bench(time, clock):
    return Bench(time, clock)


def test_a_miss_asks_and_the_next_read_is_a_hit(bench):
    first = bench.read()
    ((want,), _) = bench.upstream.asked[0]
    assert (want.key, want.min_version, want.known, want.max_age_s) == (b"k", 10, 0, 60.0)
    bench.time.run_until(0.5)
    bench.upstream.answer(Answer(5, 10, 0.25, b"v", b"m", 1.9e9))
    assert first[0] == (b"v", b"m", 1.9e9, 5, 0.75, "MISS", 10)
    (shown,) = bench.read()
    assert shown.status == "HIT"
    assert shown.age == pytest.approx(0.75, rel=0.01)
    assert (bench.counters.misses, bench.counters.memory_hits, bench.counters.requests) == (
        1,
        1,
        1,
    )


def test_readers_that_miss_at_once_share_one_question(bench):
    readers = [bench.read() for _ in range(5)]
    assert len(bench.upstream.asked) == 1
    bench.upstream.answer(Answer(5, 10, 0.0, b"v"))
    assert [shown.value for (shown,) in readers] == [b"v"] * 5


def test_who_comes_after_the_question_asks_again_whether_the_key_is_absent(bench):
    first = bench.read()
    bench.time.run_until(0.1)
    second = bench.read()
    bench.upstream.answer(Answer(0, 10, 0.0))
    assert first[0].value is None
    assert second == []
    bench.upstream.answer(Answer(11, 11, 0.0, b"new"))
    assert second[0].value == b"new"


def test_absent_is_asked_each_time(bench):
    for _ in range(3):
        results = bench.read()
        bench.upstream.answer(Answer(0, 10, 0.0))
        assert (results[0].version, results[0].status) == (0, "MISS")


def test_absent_is_held_for_its_time_if_wished(time, clock):
    bench = Bench(time, clock, negative_ttl_s=5.0)
    bench.hold(0, 10, None)
    assert bench.read()[0].status == "HIT"
    bench.apply_changes(10, 11, ChangeEvent(11, b"k", True))
    assert bench.read() == []  # it was made
    bench.upstream.answer(Answer(11, 11, 0.0, b"v"))
    bench.hold(0, 12, None, key=b"other")
    time.run_until(5.1)
    assert bench.read(b"other") == []


def test_without_news_a_copy_is_asked_again_after_its_time(bench):
    bench.hold()
    bench.time.run_until(59.0)
    assert bench.read()[0].status == "HIT"
    bench.upstream.asked.clear()  # the refresh of a popular key, which is lost
    bench.edge._in_flight.clear()
    bench.time.run_until(60.1)
    results = bench.read()
    ((want,), _) = bench.upstream.asked[0]
    assert want.known == 5
    bench.upstream.answer(Answer(5, 30, 0.0, unchanged=True))
    assert (results[0].value, results[0].status, results[0].as_of) == (b"v", "REVALIDATE", 30)
    assert bench.counters.unchanged == 1
    assert bench.read()[0].status == "HIT"


def test_a_reader_says_how_old_a_value_may_be(bench):
    bench.hold()
    bench.time.run_until(10.0)
    assert bench.read(ttl=9.0) == []
    assert bench.read(ttl=11.0) != []


def test_with_news_a_copy_stays_young(bench):
    bench.hold()
    for second in range(1, 300):
        bench.time.run_until(second)
        bench.apply_changes(10, 10)
    assert bench.read()[0].age < 1.1
    assert bench.counters.requests == 1


def test_a_popular_copy_is_refreshed_before_its_time_is_over(bench):
    bench.hold()
    bench.time.run_until(50.0)
    assert bench.read()[0].status == "HIT"
    assert bench.read()[0].status == "HIT"
    assert bench.counters.refreshes == 1
    bench.upstream.answer(Answer(5, 20, 0.0, unchanged=True))
    bench.time.run_until(100.0)
    assert bench.read()[0].status == "HIT"


def test_news_replace_small_values_and_drop_large_ones(bench):
    bench.hold()
    bench.apply_changes(10, 11, ChangeEvent(11, b"k", True, b"new", b"m"))
    assert bench.read()[0][:2] == (b"new", b"m")
    bench.apply_changes(11, 12, ChangeEvent(12, b"k", True))
    assert bench.read() == []
    assert (bench.counters.pushed, bench.counters.invalidations) == (1, 1)


def test_news_of_keys_that_are_not_held_are_not_kept(bench):
    bench.apply_changes(10, 11, ChangeEvent(11, b"other", True, b"value"))
    assert bench.read(b"other") == []


def test_an_answer_that_news_have_overtaken_is_asked_again(bench):
    results = bench.read()
    bench.apply_changes(10, 12, ChangeEvent(12, b"k", True))
    bench.upstream.answer(Answer(5, 11, 0.0, b"old"))
    assert results == []
    ((want,), _) = bench.upstream.asked[0]
    assert want.min_version == 12
    bench.upstream.answer(Answer(12, 12, 0.0, b"new"))
    assert results[0].value == b"new"
    assert bench.counters.retries == 1


def test_an_upstream_that_stays_behind_is_given_up(bench):
    results = bench.read()
    bench.apply_changes(10, 12, ChangeEvent(12, b"k", True))
    while bench.upstream.asked:
        bench.upstream.answer(Answer(5, 11, 0.0, b"old"))
    assert isinstance(results[0], UpstreamUnavailable)


def test_a_gap_is_refused_and_changes_nothing(bench):
    bench.hold()
    bench.time.run_until(1.0)
    before = bench.edge.synced_at
    assert not bench.apply_changes(11, 12, ChangeEvent(12, b"k", True))
    assert (bench.edge.position, bench.edge.synced_at) == (10, before)
    assert bench.counters.gaps == 1


def test_news_that_come_again_change_nothing(bench):
    bench.hold()
    bench.apply_changes(10, 12, ChangeEvent(12, b"k", True, b"new"))
    bench.apply_changes(10, 11, ChangeEvent(11, b"k", True, b"older"))
    bench.apply_changes(10, 12, ChangeEvent(12, b"k", True, b"new"))
    assert bench.read()[0].value == b"new"
    assert bench.edge.position == 12
    assert bench.counters.duplicates == 2


def test_a_part_of_the_news_makes_nothing_look_younger(bench):
    bench.hold()
    bench.time.run_until(30.0)
    bench.apply_changes(10, 11, ChangeEvent(11, b"other", True), age=INF)
    assert bench.read()[0].age == pytest.approx(30.0, rel=0.01)
    bench.apply_changes(11, 12)
    assert bench.read()[0].age < 0.1


def test_when_changes_are_gone_copies_live_on_their_own_time_only(bench):
    bench.hold()
    bench.time.run_until(20.0)
    bench.apply_changes(10, 50, gone=True)
    assert bench.read()[0].age == pytest.approx(20.0, rel=0.01)
    bench.hold(7, 50, b"covered", key=b"new")
    bench.time.run_until(70.0)
    bench.apply_changes(50, 51)
    assert bench.read() == []
    assert bench.read(b"new")[0].age < 0.1


def test_who_writes_reads_what_was_written(bench):
    bench.hold()
    bench.edge.record_write([b"k"], 20)
    results = bench.read()
    ((want,), _) = bench.upstream.asked[0]
    assert want.min_version == 20
    bench.upstream.answer(Answer(5, 19, 0.0, b"v"))
    assert results == []
    bench.upstream.answer(Answer(20, 20, 0.0, b"mine"))
    assert results[0].value == b"mine"


def test_who_writes_unknown_keys_believes_nothing_older(bench):
    bench.hold()
    bench.edge.record_write(None, 30)
    bench.read(b"other")
    assert bench.upstream.asked[0][0][0].min_version == 30


def test_a_floor_of_the_reader_is_met(bench):
    bench.hold()
    assert bench.read(min_version=10) != []
    results = bench.read(min_version=11)
    assert results == []
    bench.upstream.answer(Answer(5, 12, 0.0, unchanged=True))
    assert results[0].status == "REVALIDATE"
    bench.apply_changes(10, 15)
    assert bench.read(min_version=15)[0].status == "HIT"


def test_a_min_version_reader_does_not_join_an_older_question(bench):
    first = bench.read()
    second = bench.read(min_version=12)
    assert len(bench.upstream.asked) == 2
    bench.upstream.answer(Answer(5, 11, 0.0, b"older"))
    assert first[0].value == b"older"
    assert second == []
    bench.upstream.answer(Answer(12, 12, 0.0, b"written"))
    assert second[0].value == b"written"


@pytest.mark.parametrize("is_open", [False, True])
def test_stale_if_error_shows_nothing_below_min_version(bench, is_open):
    bench.hold()
    bench.time.run_until(70.0)
    results = bench.read(min_version=11, stale_if_error=1000.0)
    if is_open:
        bench.edge.poll_failed(UpstreamUnavailable("cut"))
    else:
        bench.upstream.fail(UpstreamUnavailable("cut"))
    assert isinstance(results[0], UpstreamUnavailable)
    results = bench.read(min_version=10, stale_if_error=1000.0)
    if not is_open:
        bench.upstream.fail(UpstreamUnavailable("cut"))
    assert results[0].status == "STALE"


def test_who_asks_for_something_younger_does_not_join_a_lax_question(bench):
    """An edge may answer the first from a copy that is too old for the second."""
    first, second = bench.read(ttl=60.0), bench.read(ttl=5.0)
    assert [wants[0].max_age_s for wants, _ in bench.upstream.asked] == [60.0, 5.0]
    bench.upstream.answer(Answer(5, 10, 30.0, b"old"))
    assert first[0].value == b"old"
    assert second == []
    bench.upstream.answer(Answer(6, 11, 0.0, b"new"))
    assert second[0].value == b"new"


def test_who_comes_later_than_his_ttl_allows_asks_again(bench):
    first = bench.read(ttl=5.0)
    bench.time.run_until(6.0)
    second = bench.read(ttl=5.0)
    bench.upstream.answer(Answer(5, 10, 0.0, b"v"))
    assert first[0].value == b"v"
    assert second == []
    bench.upstream.answer(Answer(6, 11, 0.0, b"new"))
    assert second[0].value == b"new"


def test_a_tier_says_that_it_can_not_answer_rather_than_give_what_is_too_old(bench):
    from kvengine.edge.messages import KeyRequest

    bench.hold()
    bench.time.run_until(30.0)
    bench.edge.poll_failed(UpstreamUnavailable("cut"))
    results = []
    bench.edge.fetch([KeyRequest(b"k", 0, 0, 10.0)], results.append)
    bench.edge.fetch([KeyRequest(b"k", 0, 0, 40.0)], results.append)
    assert isinstance(results[0], UpstreamUnavailable)
    assert results[1][0].value == b"v"


def test_what_is_shown_never_goes_back_after_it_was_pushed_out(time, clock):
    bench = Bench(time, clock, memory_bytes=2000)
    bench.hold(12, 12, b"new")
    for number in range(50):
        bench.hold(5, 12, bytes(50), key=b"fill-%d" % number)
    results = bench.read()
    assert results == []
    bench.upstream.answer(Answer(5, 11, 0.0, b"old"))
    assert results == []
    bench.upstream.answer(Answer(12, 12, 0.0, b"new"))
    assert results[0].value == b"new"


@pytest.mark.parametrize("error", [UpstreamUnavailable("x"), TimeoutError(), ConnectionError()])
def test_when_the_upstream_does_not_answer_the_bound_holds(bench, error):
    bench.hold()
    bench.time.run_until(30.0)
    results = bench.read(ttl=10.0)
    bench.upstream.fail(error)
    assert (results[0].value, results[0].status) == (b"v", "STALE")
    bench.time.run_until(60.1)
    results = bench.read()
    bench.upstream.fail(error)
    assert results == [error]
    results = bench.read(stale_if_error=100.0)
    bench.upstream.fail(error)
    assert (results[0].value, results[0].status) == (b"v", "STALE")
    bench.time.run_until(100.1)
    results = bench.read(stale_if_error=100.0)
    bench.upstream.fail(error)
    assert results == [error]
    assert (bench.counters.stale, bench.counters.errors) == (2, 2)


def test_an_answer_that_is_an_error_is_no_reason_to_show_old_values(bench):
    bench.hold()
    bench.time.run_until(30.0)
    results = bench.read(ttl=10.0)
    error = NamespaceNotFound("n")
    bench.upstream.fail(error)
    assert results == [error]


def test_keys_end_when_they_end(bench, clock):
    bench.hold(expires_at=clock.time() + 5)
    assert bench.read() != []
    bench.time.run_until(5.0)
    assert bench.read() == []
    bench.upstream.fail(UpstreamUnavailable("x"))
    assert bench.counters.stale == 0


def test_an_edge_that_has_not_begun_answers_nothing(time, clock):
    edge = EdgeNode(
        Upstream(), Settings(), monotonic=clock.monotonic, wall=clock.time, later=clock.later
    )
    results = []
    edge.read(b"k", OPTIONS, results.append)
    assert isinstance(results[0], UpstreamUnavailable)


def test_as_an_upstream_it_answers_from_its_copies_and_asks_for_the_rest(bench):
    from kvengine.edge.messages import KeyRequest

    bench.hold()
    bench.apply_changes(10, 20)
    results = []
    bench.edge.fetch(
        [KeyRequest(b"k", 15, 5, 60.0), KeyRequest(b"x", 0, 0, 60.0), KeyRequest(b"k", 0, 4, 60.0)],
        results.append,
    )
    assert results == []
    bench.upstream.answer(Answer(3, 20, 0.0, b"xx"))
    (answers,) = results
    assert [(a.version, a.as_of, a.value, a.unchanged) for a in answers] == [
        (5, 20, None, True),
        (3, 20, b"xx", False),
        (5, 20, b"v", False),
    ]


def test_as_an_upstream_it_passes_an_error_on_once(bench):
    from kvengine.edge.messages import KeyRequest

    results = []
    bench.edge.fetch([KeyRequest(b"a", 0, 0, 60.0), KeyRequest(b"b", 0, 0, 60.0)], results.append)
    bench.upstream.fail(UpstreamUnavailable("x"))
    assert len(results) == 1
    assert isinstance(results[0], UpstreamUnavailable)


def test_ages_add_up_from_tier_to_tier(bench):
    from kvengine.edge.messages import KeyRequest

    bench.read()
    bench.upstream.answer(Answer(5, 10, 7.0, b"v"))
    bench.time.run_until(3.0)
    results = []
    bench.edge.fetch([KeyRequest(b"k", 0, 0, 60.0)], results.append)
    assert results[0][0].age == pytest.approx(10.0, rel=0.01)
    bench.edge.poll(0, 1.0, results.append)
    assert results[1].age == INF  # it has heard nothing yet
    bench.apply_changes(10, 11, age=4.0)
    bench.edge.poll(10, 1.0, results.append)
    assert results[2].age == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory_bytes", -1), ("bound_s", "60"), ("poll_timeout_s", 0), ("refresh_share", True)],
)
def test_settings_are_checked(name, value):
    with pytest.raises(InvalidRequest, match=f"{name} must be between"):
        Settings(**{name: value})

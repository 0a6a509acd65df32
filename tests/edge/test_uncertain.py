"""Writes whose version is not known: what they changed is not believed to be what it was."""

from typing import Any

import pytest

from kvengine.edge.disk import DiskCache
from kvengine.edge.messages import Answer
from kvengine.errors import UpstreamUnavailable
from tests.edge.bench import Bench

CUT = UpstreamUnavailable("cut")


@pytest.fixture
def bench(time, clock):
    found: Any = Bench(time, clock)
    found.versions = []
    found.upstream.origin_version = found.versions.append
    found.hold()
    return found


@pytest.mark.parametrize("version", [None, 0])
@pytest.mark.parametrize("keys", [[b"k"], None])
def test_a_write_of_unknown_version_is_read_here(bench, keys, version):
    bench.edge.record_write(keys, version)
    results = bench.read()
    assert (results, bench.upstream.asked) == ([], [])  # the version of the primary comes first
    assert len(bench.versions) == 1  # was asked for once, and nobody waited for it
    bench.versions.pop()(30)
    ((want,), _) = bench.upstream.asked[0]
    assert want.min_version == 30
    bench.upstream.answer(Answer(5, 29, 0.0, b"v"))  # from before the write
    assert results == []
    bench.upstream.answer(Answer(30, 30, 0.0, b"mine"))
    assert results[0].value == b"mine"
    assert bench.read()[0].status == "HIT"


@pytest.mark.parametrize("keys", [[b"k"], None])
def test_an_older_answer_on_its_way_is_neither_kept_nor_shown(bench, keys):
    results = bench.read(ttl=0.0)
    bench.edge.record_write(keys, 0)  # a delete that found nothing: kv-version is 0
    bench.upstream.answer(Answer(5, 12, 0.0, b"older"))
    assert results == []
    bench.versions.pop()(30)
    bench.upstream.answer(Answer(0, 30, 0.0))
    assert results[0].version == 0
    assert bench.read() == []


def test_other_keys_are_shown_meanwhile(bench):
    bench.hold(key=b"other")
    bench.edge.record_write([b"k"], None)
    assert bench.read(b"other")[0].status == "HIT"


def test_while_the_primary_is_away_a_version_stays_uncertain(bench):
    bench.hold(key=b"other")
    bench.edge.record_write([b"k"], None)
    bench.versions.pop()(CUT)
    results = bench.read()
    assert results == []
    bench.versions.pop()(CUT)
    assert isinstance(results[0], UpstreamUnavailable)
    bench.edge.poll_answered()  # it is back
    bench.versions.pop()(40)
    bench.read()
    assert bench.upstream.asked[0][0][0].min_version == 40


def test_when_any_key_may_have_changed_copies_are_shown_as_stale_until_the_primary_is_back(bench):
    bench.edge.record_write(None, None)
    bench.versions.pop()(CUT)
    bench.time.run_until(10.0)
    bench.edge.poll_failed(CUT)
    assert bench.read()[0].status == "STALE"
    bench.edge.poll_answered()
    bench.versions.pop()(40)
    assert bench.read() == []
    assert bench.upstream.asked[0][0][0].min_version == 40


def test_a_version_that_was_asked_for_before_the_write_settles_nothing(bench):
    bench.edge.record_write([b"other"], None)
    ask = bench.versions.pop()
    bench.edge.record_write([b"k"], None)
    results = bench.read()
    ask(30)  # from before the second write
    assert bench.upstream.asked == []
    bench.versions.pop()(31)
    assert bench.upstream.asked[0][0][0].min_version == 31
    bench.upstream.answer(Answer(31, 31, 0.0, b"mine"))
    assert results[0].value == b"mine"


def test_the_copy_on_disk_goes_too(time, clock):
    bench = Bench(time, clock, disk=DiskCache(None, 1 << 20))
    bench.hold()
    bench.apply_changes(10, 12)
    bench.edge.record_write([b"k"], 0)
    bench.edge.copies.values.clear()
    results = bench.read()
    assert results == []
    assert bench.upstream.asked[0][0][0].min_version == 77  # as the upstream of the bench says

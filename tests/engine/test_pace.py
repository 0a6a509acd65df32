"""Writers wait for compaction in short pauses, in proportion to the dead records in the log."""

import itertools

import pytest

from kvengine import Store
from kvengine.engine.access import changing
from kvengine.engine.jobs import compaction, maintenance
from kvengine.engine.jobs.compaction import (
    EXCESS_SHARE,
    PAUSE_MAX_S,
    PAUSES_MAX_S,
    SPACE_LIMIT,
    excess,
)
from kvengine.testing.check import check_store

MIB = 1 << 20


@pytest.mark.parametrize("live", [0, MIB, 100 * MIB, 1 << 40])
def test_writers_are_slowed_down_by_what_is_too_much(live):
    limit = max(SPACE_LIMIT * live, live + compaction.SLACK_BYTES)
    room = EXCESS_SHARE * live + compaction.SLACK_BYTES
    assert excess(live, live) == excess(int(limit), live) == 0
    assert excess(int(limit + room / 2), live) == pytest.approx(0.5, rel=0.01)
    shares = [excess(int(limit + room * tenths / 10), live) for tenths in range(30)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.fixture
def pauses(monkeypatch):
    """Return a list of what writers would sleep, in seconds; they do not."""
    found = []
    monkeypatch.setattr(changing, "sleep", found.append)
    return found


def test_no_pause_of_a_writer_is_long(tmp_path, pauses):
    """However fast dead records come: here all but one in two hundred are."""
    with Store(tmp_path, durability="os", segment_bytes=1 << 18) as store:
        for number in range(40_000):
            store.put(b"%d" % (number % 200), b"x" * 1000)
        assert max(pauses, default=0) <= PAUSE_MAX_S
        assert len(store) == 200
        check_store(store)


def test_pace_sets_a_pause_if_compaction_is_behind(tmp_path, pauses):
    options = {"durability": "os", "segment_bytes": 1 << 18}
    with Store(tmp_path, **options) as store, store._parts.jobs:  # no job runs
        for number in range(200):
            store.put(b"%d" % number, b"x" * 1000)
        maintenance.pace(store._parts)
        assert store._parts.pause_s == 0
        set_by_pace = []
        for _ in range(10):
            for number in range(1000):
                store.put(b"%d" % (number % 200), b"x" * 1000)
            store._parts.pause_s = 0
            maintenance.pace(store._parts)
            set_by_pace.append(store._parts.pause_s)
        assert set_by_pace == sorted(set_by_pace)
        assert set_by_pace[-1] == PAUSES_MAX_S
        for number in range(30):  # it is spread over as many writes as it takes
            left = store._parts.pause_s
            store.put(b"k", b"%d" % number)
            assert store._parts.pause_s == pytest.approx(max(left - PAUSE_MAX_S, 0), abs=1e-6)
        assert store._parts.pause_s == 0
        assert max(pauses) <= PAUSE_MAX_S == 0.005


def test_a_store_that_compacts_when_asked_has_no_pauses(tmp_path, pauses):
    options = {"durability": "os", "segment_bytes": 1 << 18, "compaction": "manual"}
    with Store(tmp_path, **options) as store:
        for number in range(20_000):
            store.put(b"%d" % (number % 200), b"x" * 1000)
        assert pauses == []
        store.compact()
        assert store._parts.pause_s == 0  # it asked for its turn, and has had it
        assert store.stats().space_amplification < 1.1


def test_pieces_of_a_segment_are_joined(tmp_path):
    """A segment is copied in pieces of some thousand records, or a megabyte."""
    with Store(tmp_path, durability="os", compaction="manual", segment_bytes=1 << 24) as store:
        for number in itertools.chain(range(30_000), range(0, 30_000, 7)):
            store.put(b"key%d" % number, b"%d" % number)
        for number in range(5):
            store.put(b"large%d" % number, bytes([number]) * (3 << 20))
        for number in range(0, 30_000, 3):
            store.delete(b"key%d" % number)
        before = dict(store)
        store.compact()
        assert dict(store) == before
        assert store.verify().ok
        check_store(store)
    with Store(tmp_path) as store:
        assert dict(store) == before

"""What an edge hears when the log of its database is compacted or is away for a while."""

import time

import pytest

from kvengine import Database, Edge


def until(condition, seconds=20.0):
    """Wait for what happens in another thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("turns", [1, 5])
def test_a_compaction_right_after_deletes_does_not_end_the_news(turns):
    with Database.in_memory(segment_bytes=4096) as db, Edge(db, cache_ttl_s=0.5) as edge:
        origin, kv = db.namespace("n"), edge.namespace("n")
        keys = [f"k{number}" for number in range(200)]
        for _ in range(turns):
            origin.put_many(dict.fromkeys(keys, "v" * 40))
            assert set(kv.get_many(keys).values()) == {"v" * 40}
            with db._primary_for_edges()._pumping:  # the compaction is faster than its thread
                origin.delete_many(keys)
                db.store.compact()
            until(lambda: set(kv.get_many(keys).values()) == {None})
        origin.put("last", "1")
        assert kv.get("last") == "1"
        origin.put("last", "2")
        until(lambda: kv.get("last") == "2")
        stats = edge.stats()
        until(lambda: edge.stats().position == db.version)
        assert stats.connected

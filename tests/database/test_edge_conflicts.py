"""A write at an edge that lost against another: what the edge holds is out of date then."""

import pytest

import kvengine
from kvengine import VersionConflict


def test_setdefault_at_an_edge_looks_again_at_what_it_lost_against(monkeypatch):
    with kvengine.Database.in_memory() as db, kvengine.Edge(db, negative_ttl_s=60) as edge:
        kv, origin = edge.namespace("a"), db.namespace("a")
        assert kv.get("k") is None
        tries = []
        add = kv.add

        def counted(*args):
            tries.append(args)
            assert len(tries) < 5
            return add(*args)

        monkeypatch.setattr(kv, "add", counted)
        with db._primary_for_edges()._pumping:  # the edge hears nothing
            origin.put("k", "theirs")
            assert kv.get("k") is None
            assert kv.setdefault("k", "mine") == "theirs"
        assert len(tries) == 1


def test_a_conflict_with_a_key_that_is_gone_makes_an_edge_look_again():
    with kvengine.Database.in_memory() as db, kvengine.Edge(db) as edge:
        kv, origin = edge.namespace("a"), db.namespace("a")
        version = origin.put("k", "1")
        assert kv.get("k") == "1"
        with db._primary_for_edges()._pumping:
            origin.delete("k")
            with pytest.raises(VersionConflict):
                kv.put("k", "2", if_version=version)
            assert kv.get("k") is None


def test_after_a_pop_that_found_nothing_no_read_shows_an_older_value():
    with kvengine.Database.in_memory() as db, kvengine.Edge(db) as edge:
        kv, origin = edge.namespace("a"), db.namespace("a")
        origin.put("k", "old")
        assert kv.get("k") == "old"
        with db._primary_for_edges()._pumping:
            origin.delete("k")
            assert kv.get("k") == "old"
            assert kv.pop("k", None) is None
            assert kv.get("k") is None

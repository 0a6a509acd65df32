"""An exception at every line of a write that evicts: too much may be left, but nothing is lost."""

import pytest

import kvengine
from kvengine.testing.check import check_store
from kvengine.testing.interrupting import Interruption
from tests.interrupt.points import TRIED, check_kind, check_nothing_leaks, points_of
from tests.interrupt.scenarios import copy_of

MOST = 80
KEYS = 200  # above SAMPLE_KEYS, so that a sample of the order is taken
OPTIONS = {"segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual"}


@pytest.fixture(scope="module", params=["lru", "lfu"])
def bounded_template(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("bounds") / "db"
    with kvengine.open(path, durability="os", **OPTIONS) as db:
        db.create_namespace("cache", max_keys=KEYS, eviction=request.param)
        db.namespace("cache").put_many({f"k{number}": "v" * 20 for number in range(KEYS)})
        db.set_bounds("cache", max_keys=KEYS, max_bytes=KEYS * 30, eviction=request.param)
    return path


def fill(kv):
    for number in range(3):
        kv.put(f"new{number}", "w" * 20)
    kv.put_many({f"many{number}": "w" * 20 for number in range(5)})


def open_db(path):
    return kvengine.open(path, durability="os", **OPTIONS)


def state_of(kv):
    return {one.name: kv.get(one.name) for one in kv.keys()}  # noqa: SIM118


def test_writes_that_evict(bounded_template, folder):
    with open_db(copy_of(bounded_template, folder / "store")) as db:
        points = list(points_of(lambda: fill(db.namespace("cache")), MOST))
    places = [interrupt(copy_of(bounded_template, folder / "store"), *point) for point in points]
    assert sum("bounds.py" in place for place in places) > MOST // 8
    check_nothing_leaks(folder, "bounds")


def interrupt(path, at, error):
    with open_db(path) as db:
        kv = db.namespace("cache")
        before = state_of(kv)
        interruption = Interruption(at, error)
        raised = interruption.run(lambda: fill(kv))
        where = f"point {at}, {error.__name__} at {interruption.place}"
        check_kind(raised, error, where)
        for name, value in state_of(kv).items():
            assert value == before.get(name, "w" * 20), where
        kv.put("next", "x")
        found = state_of(kv)
        assert found["next"] == "x", where
        assert len(found) <= KEYS, where
        assert sum(len(name) + len(value) for name, value in found.items()) <= KEYS * 30, where
        assert kv.count() == len(found) >= KEYS // 2, where
        evicted = db.usage("cache").counts.evictions
        gone = len(before.keys() - found.keys())
        assert evicted >= gone - 1, where  # at most the one that was interrupted is not counted
        check_store(db.store)
    with open_db(path) as db:
        assert state_of(db.namespace("cache")) == found, where
    TRIED["of writes that evict"] += 1
    return str(interruption.place)

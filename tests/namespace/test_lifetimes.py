"""A key never ends before its lifetime is over, whenever and however it was written."""

import asyncio
import json

import pytest

import kvengine.aio
from kvengine import Database, Edge, InvalidRequest, InvalidType
from kvengine.namespace.limits import RELAXED, STRICT
from kvengine.testing.clock import ManualClock
from tests.server.running import TOKEN, running

START = 1000.97  # almost at the end of a second
WAYS = {
    "put": lambda kv, ttl: kv.put("k", "1", expiration_ttl=ttl),
    "put_many": lambda kv, ttl: kv.put_many([{"key": "k", "value": "1", "expiration_ttl": ttl}]),
    "touch": lambda kv, ttl: (kv.put("k", "1"), kv.touch("k", expiration_ttl=ttl)),
    "increment": lambda kv, ttl: kv.increment("k", expiration_ttl=ttl),
    "get_or_set": lambda kv, ttl: kv.get_or_set("k", lambda: "1", expiration_ttl=ttl),
    "memoize": lambda kv, ttl: kv.memoize(key=lambda: "k", expiration_ttl=ttl)(lambda: 1)(),
}


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def db(clock):
    with Database.in_memory(clock=clock) as opened:
        yield opened


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("ttl", "late"), [(1, 0.01), (60, 1.0), (86400.5, 2.0), (0.5, 0.01), (1.25, 0.01)]
)
@pytest.mark.parametrize("place", ["here", "edge"])
def test_it_lives_as_long_as_was_said_and_hardly_longer(db, clock, way, ttl, late, place):
    with Edge(db, name="fra") as edge:
        kv = db.namespace("n") if place == "here" else edge.namespace("n")
        WAYS[way](kv, ttl)
        if place == "here":  # an edge has copies, and their own time
            clock.advance(START + ttl - 0.001 - clock.time())
            assert kv.get("k") == "1"
            assert kv.get_metadata("k").expiration >= START + ttl
            assert next(kv.keys()).expiration >= START + ttl
            clock.advance(START + ttl + late - clock.time())
            assert kv.get("k") is None
        else:
            ends = db.namespace("n")._store.get_entry(kv._name("k")).expires_at
            assert START + ttl <= ends <= START + ttl + late


@pytest.mark.parametrize("way", ["put", "put_many", "touch", "increment", "get_or_set", "memoize"])
def test_the_async_face_too(way):
    async def main():
        clock = ManualClock(START)
        async with kvengine.aio.Database.in_memory(clock=clock) as db:
            kv = await db.namespace("n")
            for ttl in (1, 0.5):
                await kv.delete("k")
                if way == "touch":
                    await kv.put("k", "1")
                    await kv.touch("k", expiration_ttl=ttl)
                elif way == "memoize":
                    await kv.memoize(key=lambda: "k", expiration_ttl=ttl)(lambda: 1)()
                else:
                    await WAYS[way](kv, ttl)
                now = clock.time()
                clock.advance(now + ttl - 0.001 - clock.time())
                assert await kv.get("k") == "1"
                clock.advance(now + ttl + 1 - clock.time())
                assert await kv.get("k") is None

    asyncio.run(main())


def test_over_a_connection_too():
    with running(limits="relaxed") as server, kvengine.connect(server.url, token=TOKEN) as db:
        kv = db.namespace("n")
        for ttl in (1000, 0.5):
            before = db.clock.time()
            kv.put("k", "v", expiration_ttl=ttl)
            found = kv.get_metadata("k")
            if found is not None:  # half a second may be over by now
                assert before + ttl <= found.expiration <= db.clock.time() + ttl + 1


def test_exported_and_imported_it_does_not_end_before(db, clock, tmp_path):
    kv, other = db.namespace("n"), db.namespace("other")
    kv.put("k", "v", expiration_ttl=0.5)
    kv.export_file(tmp_path / "file")
    assert json.loads((tmp_path / "file").read_text())["expiration"] == 1002
    other.import_file(tmp_path / "file")
    clock.advance(START + 0.499 - clock.time())
    assert other.get("k") == "v"


@pytest.mark.parametrize("ttl", [0, -1, 0.0, -0.5])
def test_a_lifetime_is_above_zero(db, ttl):
    with pytest.raises(InvalidRequest, match="greater than 0"):
        db.namespace("n").put("k", "v", expiration_ttl=ttl)


@pytest.mark.parametrize("ttl", [1e300, 1 << 53, 9**99, 10**400])
def test_a_lifetime_that_is_too_long_is_refused(db, ttl):
    with pytest.raises(InvalidRequest, match="must end before"):
        db.namespace("n").put("k", "v", expiration_ttl=ttl)


@pytest.mark.parametrize("ttl", [True, "1", [1], float("nan"), float("inf")])
def test_what_is_no_number_is_refused(db, ttl):
    with pytest.raises(InvalidType, match="specify an integer"):
        db.namespace("n").put("k", "v", expiration_ttl=ttl)


def test_the_rules_of_workers_kv_stay_as_they_are():
    with pytest.raises(InvalidType, match="specify an integer, not float"):
        STRICT._expires_at(START, None, 60.5)
    with pytest.raises(InvalidRequest, match="must be at least 60"):
        STRICT._expires_at(START, None, 59)
    assert STRICT._expires_at(START, None, 60) == 1061
    assert RELAXED._expires_at(1000.0, None, 60) == 1060

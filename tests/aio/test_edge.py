"""An edge for asyncio: the same answers, and no thread for what is in memory."""

import asyncio
import gc
import inspect
import threading
from types import SimpleNamespace

import pytest

import kvengine
import kvengine.aio
from kvengine import InvalidRequest, InvalidType, KvError, NamespaceNotFound, StoreClosed


def public(cls):
    return {name for name, _ in inspect.getmembers(cls, callable) if not name.startswith("_")}


def run(test, **settings):
    """Run a coroutine function that takes a database, and an edge of it."""

    async def main():
        async with (
            kvengine.aio.Database.in_memory() as db,
            kvengine.aio.Edge(db, name="fra", **settings) as edge,
        ):
            return await test(db, edge)

    return asyncio.run(main())


async def until(condition):
    while not await condition():
        await asyncio.sleep(0.001)


def test_every_method_is_there():
    assert public(kvengine.Edge) == public(kvengine.aio.Edge)


def test_it_answers_as_the_other_one_does():
    calls = [
        ("put", ("k", "v"), {"metadata": [1], "expiration_ttl": 600}),
        ("put", ("j", {"x": 1}), {"type": "json"}),
        ("get", ("k",), {}),
        ("get", ("k",), {}),
        ("get", ("j", "json"), {}),
        ("get", (["k", "none"],), {}),
        ("get_many", (["k", "none"],), {"min_version": 1}),
        ("get_with_metadata", ("k",), {}),
        ("get_with_metadata", (["k", "none"],), {}),
        ("get", ("k",), {"cache_ttl": 30, "stale_if_error": 5.0}),
        ("list", (), {"limit": 1}),
        ("count", (), {}),
        ("size", (), {}),
        ("increment", ("n", 5), {}),
        ("touch", ("k",), {}),
        ("get_metadata", ("k",), {}),
        ("get_metadata", ("none",), {}),
        ("put_many", ({"a/1": "1", "a/2": "2"},), {}),
        ("delete_many", (["a/1"],), {}),
        ("delete_prefix", ("a/",), {}),
        ("delete", ("k",), {"if_version": None}),
        ("get", ("k",), {}),
        ("get", ("",), {}),
        ("get", ("k", "nonsense"), {}),
        ("get", (5,), {}),
        ("get", ("k",), {"min_version": -1}),
        ("put", ("k", "v"), {"if_version": 99}),
    ]

    async def test(db, edge):
        kv = await edge.namespace("a")
        with kvengine.Database.in_memory() as other, kvengine.Edge(other) as there:
            same = there.namespace("a")
            for name, args, kwargs in calls:
                expected = answer(getattr(same, name), args, kwargs)
                assert await answer_async(getattr(kv, name), args, kwargs) == expected, name
            assert [info async for info in kv.keys("")] == list(same.keys())
            assert [one.value async for one in kv.history("n")] == [
                one.value for one in same.history("n")
            ]

    run(test)


def answer(call, args, kwargs):
    try:
        return call(*args, **kwargs)
    except KvError as error:
        return type(error), str(error)


async def answer_async(call, args, kwargs):
    try:
        return await call(*args, **kwargs)
    except KvError as error:
        return type(error), str(error)


@pytest.fixture(params=["memory", "disk"])
def settings(request, tmp_path):
    return {} if request.param == "memory" else {"path": tmp_path / "copies"}


def test_what_is_in_memory_is_read_without_a_thread_and_without_giving_up_the_turn(settings):
    async def test(db, edge):
        kv = await edge.namespace("n")
        await kv.put("k", "v")
        assert (await kv.read("k")).cache_status == "MISS"
        turns, hops = [], []
        edge._runner.run, original = lambda *args: hops.append(args), edge._runner.run
        other = asyncio.create_task(note(turns))
        for _ in range(50):
            assert await kv.get("k") == "v"
            assert await kv.get_many(["k"]) == {"k": "v"}
            assert (await kv.read("k")).cache_status == "HIT"
        assert (turns, hops) == ([], [])
        edge._runner.run = original
        await other

    async def note(turns):
        turns.append(1)

    run(test, **settings)


def test_copies_on_disk_are_read_by_a_thread_and_ask_nobody(tmp_path):
    async def test(db, _):
        async with kvengine.aio.Edge(db, path=tmp_path / "copies") as edge:
            kv = await edge.namespace("n")
            await kv.put("k", "v")
            await kv.get("k")
        async with kvengine.aio.Edge(db, path=tmp_path / "copies") as edge:
            kv = await edge.namespace("n")
            await until(is_heard(edge))
            before = (await edge.stats()).counters.requests
            assert await kv.get("k") == "v"
            counters = (await edge.stats()).counters
            assert (counters.requests, counters.disk_hits) == (before, counters.disk_hits)
            assert counters.disk_hits >= 1

    run(test)


def is_heard(edge):
    async def heard():
        return (await edge.stats()).lag_seconds < 60

    return heard


class Slow:
    """An upstream that answers when it is told to."""

    def __init__(self, edge):
        self.node = edge._inner._node
        self.primary, self.held, self.asked = self.node._upstream, [], 0
        self.node._upstream = SimpleNamespace(
            fetch=self.fetch, poll=self.primary.poll, origin_version=self.primary.origin_version
        )

    def fetch(self, wants, done):
        self.asked += 1
        self.held.append((wants, done))

    def let_go(self):
        held, self.held = self.held, []
        for wants, done in held:
            self.primary.fetch(wants, done)


async def wait_for(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_tasks_that_miss_at_once_share_one_question_and_hold_no_thread():
    async def test(db, edge):
        kv = await edge.namespace("n")
        await kv.put("k", "v")
        await kv.get("other")  # the record of the namespace is known now
        slow = Slow(edge)
        tasks = [asyncio.create_task(kv.get("k")) for _ in range(100)]
        await wait_for(
            lambda: slow.held and len(slow.node._in_flight[slow.held[0][0][0].key].waiters) == 100
        )
        await kv.put("meanwhile", "1")  # there are fewer threads than tasks
        assert slow.asked == 1
        slow.let_go()
        assert await asyncio.gather(*tasks) == ["v"] * 100

    run(test, threads=2)


def test_a_cancelled_waiter_disturbs_nobody():
    async def test(db, edge):
        kv = await edge.namespace("n")
        await kv.put_many({"k": "v", "j": "w"})
        await kv.get("other")
        slow = Slow(edge)
        tasks = [asyncio.create_task(kv.get("k")) for _ in range(6)]
        tasks += [asyncio.create_task(kv.get_many(["k", "j"])) for _ in range(3)]
        await wait_for(lambda: len(slow.held) == 2)
        for task in (tasks[0], tasks[3], tasks[7]):
            task.cancel()
        await asyncio.sleep(0)
        slow.let_go()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = [type(one) is asyncio.CancelledError for one in found]
        assert cancelled == [number in (0, 3, 7) for number in range(9)]
        rest = [one for one, is_off in zip(found, cancelled, strict=True) if not is_off]
        assert rest == ["v"] * 4 + [{"k": "v", "j": "w"}] * 2

    run(test)


def test_own_writes_are_read_and_changes_come():
    async def test(db, edge):
        origin, kv = await db.namespace("n"), await edge.namespace("n")
        for number in range(100):
            await kv.put("k", str(number))
            assert await kv.get("k") == str(number)
            assert await kv.get(f"new{number}") is None
            await origin.put(f"new{number}", "v")
            assert await kv.get(f"new{number}") == "v"
        await origin.put("k", "other")

        async def seen():
            return await kv.get("k") == "other"

        await until(seen)
        await db.delete("n")

        async def gone():
            return await answer_async(kv.get, ("k",), {}) == answer(refuse, (kv.id,), {})

        await until(gone)

    def refuse(namespace_id):
        raise NamespaceNotFound(namespace_id)

    run(test)


def test_streams_filling_and_watching():
    async def test(db, edge):
        kv = await edge.namespace("n")
        async with kvengine.aio.Edge(edge, name="leaf") as leaf:
            below = await leaf.namespace("n")
            watching = asyncio.create_task(anext(below.watch(after=0)))
            assert await below.get_or_set("k", lambda: "made") == "made"
            assert (await watching).name == "k"
            for _ in range(2):
                stream = await kv.get("k", "stream")
                assert await stream.read(2) + await stream.read() == b"made"

            @below.memoize(expiration_ttl=60)
            async def double(number):
                return number * 2

            assert await double(4) == await double(4) == 8

    run(test)


def test_opening_and_closing(tmp_path):
    async def main():
        async with kvengine.aio.Database.in_memory() as db:
            edge = await kvengine.aio.Edge(db, path=tmp_path / "copies")
            with pytest.raises(kvengine.StoreLocked):
                await kvengine.aio.Edge(db, path=tmp_path / "copies")
            kv = await edge.namespace("n")
            assert await edge.namespace(kv.id) is kv
            await edge.close()
            await edge.close()
            assert edge.closed
            for call in (
                kv.get("k"),
                kv.put("k", "v"),
                kv.list(),
                edge.namespace("n"),
                edge.stats(),
            ):
                with pytest.raises(StoreClosed):
                    await call
            lazy = kvengine.aio.Edge(kvengine.aio.Edge(db, name="up"), name="down")
            first, second = await asyncio.gather(lazy.namespace("n"), lazy.namespace("n"))
            assert first is second
            await lazy.close()
            await lazy.upstream.close()
            never = kvengine.aio.Edge(db)
            await never.close()

    before = set(threading.enumerate())  # a server of another test may have some
    asyncio.run(main())
    gc.collect()  # one that was refused, and its threads, are garbage
    for one in set(threading.enumerate()) - before:
        if one.name.startswith("kvengine"):  # close() does not wait for threads without work
            one.join(60)
            assert not one.is_alive()


def test_bad_arguments_are_refused_at_once():
    async def test(db, edge):
        with (
            kvengine.Database.in_memory() as sync,
            pytest.raises(InvalidType, match=r"an Edge of kvengine\.aio, .* not Database"),
        ):
            kvengine.aio.Edge(sync)
        with pytest.raises(InvalidRequest, match="always_current needs a Database"):
            kvengine.aio.Edge(edge, always_current=True)

    run(test)

"""Of all tasks that miss a value one makes it."""

import asyncio

import pytest

from kvengine import InvalidRequest, InvalidType
from tests.aio.running import run


def test_of_many_tasks_one_makes_the_value():
    async def test(db):
        kv = await db.namespace("a")
        calls = []

        async def make():
            calls.append(1)
            await asyncio.sleep(0.01)
            return "made"

        found = await asyncio.gather(*(kv.get_or_set("k", make) for _ in range(50)))
        assert (found, len(calls)) == (["made"] * 50, 1)
        assert await kv.get_or_set("sync", lambda: "made") == "made"

    run(test)


def test_what_the_maker_raises_reaches_all_and_stores_nothing():
    async def test(db):
        kv = await db.namespace("a")

        async def make():
            await asyncio.sleep(0.01)
            raise KeyError("no")

        tasks = [kv.get_or_set("k", make) for _ in range(5)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in found} == {KeyError}
        assert await kv.get("k") is None

    run(test)


def test_if_the_maker_is_cancelled_another_task_takes_over():
    async def test(db):
        kv = await db.namespace("a")
        calls = []

        async def make():
            calls.append(1)
            await asyncio.sleep(0.02 if len(calls) > 1 else 60)
            return "made"

        tasks = [asyncio.create_task(kv.get_or_set("k", make)) for _ in range(3)]
        while not calls:
            await asyncio.sleep(0.001)
        tasks[0].cancel()
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert isinstance(found[0], asyncio.CancelledError)
        assert (found[1:], len(calls)) == (["made", "made"], 2)

    run(test)


def test_a_maker_that_needs_itself_is_an_error():
    async def test(db):
        kv = await db.namespace("a")

        async def make():
            return await kv.get_or_set("k", make)

        with pytest.raises(InvalidRequest, match="recursive get_or_set"):
            await kv.get_or_set("k", make)

    run(test)


def test_memoize():
    async def test(db):
        kv = await db.namespace("a")
        calls = []

        @kv.memoize(expiration_ttl=60)
        async def double(number, *, times=2):
            calls.append(number)
            return {"result": (number * times,)}

        assert await double(2) == await double(number=2, times=2) == {"result": [4]}
        assert calls == [2]
        await double.forget(2)
        await double(2)
        db.clock.advance(60)
        await double(2)
        assert calls == [2, 2, 2]

    run(test)


def test_a_coroutine_in_place_of_a_function_is_refused():
    async def test(db):
        kv = await db.namespace("a")

        async def make():
            return "made"

        coroutine = make()
        with pytest.raises(InvalidType, match=r"make must be a function .*, not coroutine"):
            await kv.get_or_set("k", coroutine)
        coroutine.close()

    run(test)

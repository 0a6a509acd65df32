"""The async consumer does what the other one does, and holds no thread while it waits."""

import asyncio
import inspect
import threading

import pytest

import kvengine
import kvengine.aio
from kvengine import ConsumerLocked, InvalidRequest
from tests.aio.running import run


def test_it_has_the_same_methods():
    here, there = kvengine.aio.Consumer, kvengine.Consumer
    names = {name for name, _ in inspect.getmembers(there) if not name.startswith("_")}
    assert names - {"store"} == {name for name in vars(here) if not name.startswith("_")}


def test_changes_come_until_they_are_acknowledged():
    async def test(db):
        kv = await db.namespace("n")
        consumer = await db.consumer("c")
        for number in range(5):
            await kv.put(f"k{number}", "v")
        found = [change async for change in consumer.changes()]
        assert [change.name for change in found] == ["k0", "k1", "k2", "k3", "k4"]
        await consumer.acknowledge(found[2].version)
        assert await consumer.position() == found[2].version
        assert [len(batch) async for batch in consumer.batches(1)] == [1, 1]
        await consumer.acknowledge(found[4].version)
        assert await consumer.lag() == 0
        assert [info.name for info in await db.consumers()] == ["c"]
        with pytest.raises(InvalidRequest, match="size must be an int"):
            await anext(consumer.batches(0))
        await consumer.restart()
        assert len([change async for change in consumer.changes()]) == 5
        assert repr(consumer) == f"<kvengine.aio.Consumer {consumer.name!r}>"
        await consumer.remove()
        assert await db.consumers() == []

    run(test)


def test_who_waits_is_woken_and_holds_no_thread():
    async def test(db):
        kv = await db.namespace("n")
        consumer, found = await db.consumer("c"), []

        async def follow():
            async for change in consumer.changes(follow=True):
                found.append(change.name)
                await consumer.acknowledge(change.version)

        tasks = [asyncio.create_task(follow())]
        for number in range(20):
            await kv.put(f"k{number}", "v")
            while len(found) <= number:
                await asyncio.sleep(0)
        assert found == [f"k{number}" for number in range(20)]
        before = threading.active_count()
        others = [
            asyncio.create_task(anext((await db.consumer(f"c{n}")).changes(follow=True)))
            for n in range(40)
        ]
        await asyncio.gather(*others)
        assert threading.active_count() <= before + 16
        for task in tasks:
            task.cancel()
        assert [c async for c in consumer.changes(follow=True, timeout=0)] == []

    run(test)


def test_a_task_waits_for_the_lease_of_another_process(tmp_path):
    """The other one is another database object here: it has a lease of its own."""

    async def main():
        async with kvengine.aio.open(tmp_path / "db", durability="os") as db:
            kv = await db.namespace("n")
            for number in range(4):
                await kv.put(f"k{number}", "v")
            with kvengine.open(tmp_path / "db", read_only=True) as other:
                there, here = other.consumer("c"), await db.consumer("c")
                given = there.changes()
                assert next(given).name == "k0"
                there.acknowledge(db.version - 3)
                assert [c async for c in here.changes()] == []
                assert [c async for c in here.changes(follow=True, timeout=0.1)] == []
                with pytest.raises(ConsumerLocked):
                    await here.restart()

                async def follow():
                    return [c.name async for c in here.changes(follow=True, timeout=1)]

                dropped, task = asyncio.create_task(follow()), asyncio.create_task(follow())
                await asyncio.sleep(0.01)
                dropped.cancel()
                there.release()
                assert await task == ["k1", "k2", "k3"]
                await here.acknowledge(db.version)
                await kv.put("k4", "v")
                assert list(there.changes()) == []
                await kv.put("k5", "v")
                mine = here.changes()
                assert (await anext(mine)).name == "k4"
                await here.release()
                assert [c async for c in mine] == []
                assert [c.name for c in there.changes()] == ["k4", "k5"]

    asyncio.run(main())

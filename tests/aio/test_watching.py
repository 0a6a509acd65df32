"""Async watchers see each change once, sleep in between, and end at once when cancelled."""

import asyncio
import gc

import pytest

import kvengine
from kvengine import NamespaceNotFound, StoreClosed
from kvengine.engine.following import waiting
from kvengine.engine.log import futex
from tests.aio.running import run
from tests.waiting import HANG_S


def test_watching_and_tailing():
    async def test(db):
        kv = await db.namespace("a")
        seen = []

        async def watch():
            async for change in kv.watch("n"):
                seen.append(change.name)
                if change.name == "n99":
                    return

        task = asyncio.create_task(watch())
        await asyncio.sleep(0.01)
        for number in range(100):
            await kv.put(f"n{number}", "x")
            await kv.put("other", "x")
        await asyncio.wait_for(task, 30)
        assert seen == [f"n{number}" for number in range(100)]
        assert len([change async for change in db.tail()]) == 200
        assert len([change async for change in db.tail(follow=True, timeout=0.01)]) == 200
        assert [change async for change in kv.watch(timeout=0.01)] == []

    run(test)


def test_a_watcher_ends_at_once_when_it_is_cancelled():
    async def test(db):
        kv = await db.namespace("a")

        async def watch():
            async for _ in kv.watch():
                pass

        tasks = [asyncio.create_task(watch()) for _ in range(100)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        gc.collect()
        assert db._inner.store._parts.waiters == 0

    run(test)


@pytest.mark.parametrize("end", ["close", "delete"])
def test_a_watcher_ends_with_an_error_when_there_is_nothing_to_watch(end):
    async def test(db):
        kv = await db.namespace("a")

        async def watch():
            async for _ in kv.watch():
                pass

        task = asyncio.create_task(watch())
        await asyncio.sleep(0.02)
        await (db.close() if end == "close" else db.delete("a"))
        with pytest.raises((StoreClosed, NamespaceNotFound)):
            await asyncio.wait_for(task, 30)

    run(test)


def test_a_reader_watches_another_writer(tmp_path):
    async def main():
        with kvengine.open(tmp_path / "db") as writer:
            writer.namespace("a").put("k", "1")
            async with kvengine.aio.open(tmp_path / "db", read_only=True) as reader:
                kv = await reader.namespace("a")
                watcher = kv.watch(timeout=30)
                task = asyncio.create_task(anext(watcher))
                await asyncio.sleep(0.02)
                writer.namespace("a").put("k", "2")
                assert (await task).value == b"2"
                await watcher.aclose()

    asyncio.run(main())


def test_a_write_of_another_process_wakes_the_event_loop(tmp_path, monkeypatch):
    """Nobody looks by itself here."""
    monkeypatch.setattr(futex, "SLEEP_MAX_S", 3600.0)
    monkeypatch.setattr(waiting, "SLEEP_MAX_S", 3600.0)

    async def main():
        with kvengine.open(tmp_path / "db", durability="os") as db:
            kv = db.namespace("a")
            async with kvengine.aio.open(tmp_path / "db", read_only=True) as reader:
                watched = (await reader.namespace("a")).watch()
                for number in range(20):
                    coming = asyncio.ensure_future(anext(watched))
                    await asyncio.sleep(0.001 * (number % 3))
                    kv.put(f"n{number}", "x")
                    assert (await asyncio.wait_for(coming, HANG_S)).name == f"n{number}"
                await watched.aclose()

    asyncio.run(main())

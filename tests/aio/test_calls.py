"""The async database does what the other one does; what is in memory is read without a thread."""

import asyncio
import gc
import inspect
import threading

import pytest

import kvengine
import kvengine.aio
from kvengine import StoreClosed
from kvengine.aio.runner import Runner
from kvengine.testing.clock import ManualClock
from tests.aio.running import run

NOT_ASYNC = {  # what the engine and the database need of a namespace, and no user calls
    "Database": {"shown"},
}  # fmt: skip


def public(cls):
    return {name for name, _ in inspect.getmembers(cls, callable) if not name.startswith("_")}


@pytest.mark.parametrize("name", ["Database"])
def test_every_method_is_there_with_the_same_parameters(name):
    here, there = getattr(kvengine.aio, name), getattr(kvengine, name)
    assert public(there) - NOT_ASYNC[name] == public(here)
    for method in sorted(public(here)):
        if method in {"in_memory", "put"}:
            continue  # options are passed on
        expected = list(inspect.signature(getattr(there, method)).parameters)
        assert list(inspect.signature(getattr(here, method)).parameters) == expected, method
        assert inspect.getdoc(getattr(here, method))


def test_it_answers_as_the_other_one_does():
    async def test(db):
        kv = await db.namespace("a")
        with kvengine.Database.in_memory(clock=ManualClock(1000.0)) as other:
            same = other.namespace("a")
            calls = [
                ("put", ("k", "v"), {"metadata": [1], "expiration_ttl": 60}),
                ("put", ("j", {"x": 1}), {"type": "json"}),
                ("get", ("k",), {}),
                ("get", ("j", "json"), {}),
                ("get", (["k", "none"],), {}),
                ("get_many", (["k", "none"],), {}),
                ("get_with_metadata", ("k",), {}),
                ("get_with_metadata", (["k", "none"],), {}),
                ("get_metadata", ("k",), {}),
                ("list", (), {"limit": 1}),
                ("count", (), {}),
                ("count", ("k",), {}),
                ("size", (), {}),
                ("increment", ("n", 5), {}),
                ("touch", ("k",), {}),
                ("put_many", ({"a/1": "1", "a/2": "2"},), {}),
                ("delete_many", (["a/1"],), {}),
                ("delete_prefix", ("a/",), {}),
                ("delete", ("k",), {"if_version": None}),
                ("get", ("",), {}),
                ("get", ("k", "nonsense"), {}),
                ("get", (5,), {}),
                ("get_many", ("k",), {}),
                ("get_many", (5,), {}),
                ("get_or_set", (["k"], lambda: "v"), {}),
                ("put", ("k", "v"), {"if_version": 99}),
                ("put", ("k", "v"), {"expiration_ttl": 0}),
            ]
            for name, args, kwargs in calls:
                assert await answer_async(getattr(kv, name), args, kwargs) == answer(
                    getattr(same, name), args, kwargs
                ), name
            found = [info async for info in kv.keys(reverse=True)]
            assert found == list(same.keys(reverse=True))
            assert [change async for change in kv.history("n")] == list(same.history("n"))

    run(test)


def answer(call, args, kwargs):
    try:
        return call(*args, **kwargs)
    except kvengine.KvError as error:
        return type(error), str(error)


async def answer_async(call, args, kwargs):
    try:
        return await call(*args, **kwargs)
    except kvengine.KvError as error:
        return type(error), str(error)


def test_a_value_in_memory_is_read_without_a_thread(monkeypatch):
    async def test(db):
        kv = await db.namespace("a")
        await kv.put("k", "v")
        hops = []
        original = db._runner.run

        async def counted(call, *args, **kwargs):
            hops.append(call)
            return await original(call, *args, **kwargs)

        monkeypatch.setattr(db._runner, "run", counted)
        assert await kv.get("k") == "v"
        assert await kv.get("none") is None
        assert await kv.get("k", "bytes") == b"v"
        assert hops == []
        await kv.put("large", bytes(1 << 20))
        assert len(await kv.get("large")) == 1 << 20
        assert len(hops) == 2

    run(test)


def test_reads_do_not_give_other_tasks_a_turn():
    async def test(db):
        kv = await db.namespace("a")
        await kv.put("k", "v")
        turns = []
        other = asyncio.create_task(note(turns))
        for _ in range(100):
            await kv.get("k")
        assert turns == []
        await other

    async def note(turns):
        turns.append(1)

    run(test)


def test_many_writes_at_once(tmp_path):
    async def main():
        async with kvengine.aio.open(tmp_path / "db") as db:
            kv = await db.namespace("a")
            versions = await asyncio.gather(*(kv.put(f"k{n}", str(n)) for n in range(1000)))
            assert len(set(versions)) == 1000
        async with kvengine.aio.open(tmp_path / "db") as db:
            assert await (await db.namespace("a")).count() == 1000

    asyncio.run(main())


@pytest.mark.parametrize("steps", range(8))
def test_a_cancelled_write_is_whole_or_not_there(tmp_path, steps):
    async def main():
        async with kvengine.aio.open(tmp_path / "db", threads=2) as db:
            kv = await db.namespace("a")
            pairs = {f"k{number}": "x" * 100 for number in range(50)}
            tasks = [asyncio.create_task(kv.put_many(pairs)) for _ in range(4)]
            tasks += [asyncio.create_task(kv.put(f"one{number}", "y")) for number in range(20)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with kvengine.open(tmp_path / "db") as db:
            there = db.namespace("a")
            assert there.count("k") in {0, 50}
            for task, number in zip(tasks[4:], range(20), strict=True):
                if not task.cancelled():
                    assert there.get(f"one{number}") == "y"

    asyncio.run(main())


def test_closing_waits_for_what_is_under_way(tmp_path):
    async def main():
        db = await kvengine.aio.open(tmp_path / "db")
        kv = await db.namespace("a")
        tasks = [asyncio.create_task(kv.put(f"k{number}", "v")) for number in range(100)]
        await asyncio.sleep(0)
        await db.close()
        assert len(await asyncio.gather(*tasks)) == 100
        await db.close()
        for call in (kv.put("k", "v"), kv.get("k"), kv.list(), db.namespace("b")):
            with pytest.raises(StoreClosed):
                await call

    asyncio.run(main())
    with kvengine.open(tmp_path / "db") as db:
        assert db.namespace("a").count() == 100


def test_the_last_call_comes_when_no_other_is_under_way_any_more():
    """Else a database is closed under a call, which then fails though it was taken up before."""
    go_on, is_last = threading.Event(), threading.Event()

    async def main():
        runner = Runner()
        under_way = asyncio.create_task(runner.run(go_on.wait, 60))
        await asyncio.sleep(0)
        closing = asyncio.create_task(runner.close(is_last.set))
        try:
            assert not await asyncio.to_thread(is_last.wait, 0.2)
        finally:
            go_on.set()
        assert await under_way
        await closing
        assert is_last.is_set()

    asyncio.run(main())


def test_an_open_that_fails_leaves_no_thread(tmp_path):
    (tmp_path / "file").write_text("")

    async def main():
        with pytest.raises(kvengine.NotAStore):
            await kvengine.aio.open(tmp_path / "file")

    asyncio.run(main())
    gc.collect()
    for one in threading.enumerate():
        if one.name.startswith("kvengine-aio"):
            one.join(30)  # it was told to end, and may not have got to it
            assert not one.is_alive()


def test_a_forgotten_await_of_open_says_what_to_write(tmp_path):
    with pytest.raises(AttributeError, match=r"not open yet: write `await open"):
        kvengine.aio.open(tmp_path).namespace("a")  # type: ignore[attr-defined]
    assert not hasattr(kvengine.aio.open(tmp_path), "get")

"""A database on a server, asked by the event loop: what is cancelled ends, and nothing is left."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import kvengine
import kvengine.aio
from kvengine import StoreClosed
from kvengine.aio.connection import CALLS_MAX
from tests.server.running import TOKEN, running
from tests.waiting import HANG_S

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def server():
    with running(limits="relaxed") as found:
        found.db.namespace("n").put_many({f"k{number}": f"v{number}" for number in range(100)})
        yield found


class Holding:
    """A way to a server, in the event loop of the test, that can keep its answers back."""

    def __init__(self, port):
        self._port, self.goes_on = port, asyncio.Event()
        self.goes_on.set()
        self.requests: list[bytes] = []  # their first lines
        self.open = 0
        self._tasks = set()

    async def carry(self, reader, writer):
        self.open += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(self._back(far_reader, writer))
        self._tasks.add(back)
        try:
            while data := await reader.read(1 << 16):
                if b" HTTP/1.1\r\n" in data:
                    self.requests.append(data.partition(b"\r\n")[0])
                far_writer.write(data)
        finally:
            self.open -= 1
            back.cancel()
            far_writer.close()
            writer.close()

    async def _back(self, reader, writer):
        while data := await reader.read(1 << 16):
            await self.goes_on.wait()
            writer.write(data)

    async def asked(self, count):
        """Wait until so many requests have come."""
        await self.until(lambda: len(self.requests) >= count)

    async def until(self, is_so):
        async with asyncio.timeout(HANG_S):
            while not is_so():
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def held(server) -> AsyncIterator[tuple[Holding, kvengine.aio.RemoteDatabase]]:
    """Give a proxy, and a database behind it of which the limits are known."""
    proxy = Holding(server.port)
    async with await asyncio.start_server(proxy.carry, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with kvengine.aio.connect(url, token=TOKEN) as db:
            await db.version()
            yield proxy, db
        await proxy.until(lambda: not proxy.open)  # and close() has closed all


async def first(items):
    return await anext(items)


CALLS = {
    "get": lambda kv: kv.get("k1"),
    "get_many": lambda kv: kv.get_many(["k1", "k2"]),
    "put": lambda kv: kv.put("own", "1"),
    "put_many": lambda kv: kv.put_many({"own": "1"}),
    "increment": lambda kv: kv.increment("number"),
    "list": lambda kv: kv.list(),
    "keys": lambda kv: first(kv.keys()),
    "pop": lambda kv: kv.pop("none", None),
    "get_or_set": lambda kv: kv.get_or_set("none", lambda: "1"),
    "history": lambda kv: first(kv.history("k1")),
    "watch": lambda kv: first(kv.watch(after=0)),
}

STREAMS = {"history", "watch"}


@pytest.mark.parametrize("how", ["task", "scope"])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_cancelled_ends_its_request(server, name, how):
    async def main():
        async with held(server) as (proxy, db):
            kv = await db.namespace("n")
            idle = 1 if name in STREAMS else 0  # the connection of the call before stays
            proxy.goes_on.clear()
            before = len(proxy.requests)

            async def call():
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    await CALLS[name](kv)

            scopes = []
            task = asyncio.create_task(call())
            await proxy.asked(before + 1)
            assert proxy.open == idle + 1
            (scopes[0] if how == "scope" else task).cancel()  # a scope cancels again and again
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert scopes[0].cancel_called == (how == "scope")
            await proxy.until(lambda: proxy.open == idle)
            proxy.goes_on.set()
            assert await kv.get("k1") == "v1"

    asyncio.run(main())


OTHER = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
LONG = b"HTTP/1.1 500 no\r\ncontent-length: 99999999\r\n\r\n" + bytes(1 << 17)


@pytest.mark.parametrize("answer", [OTHER, LONG])
def test_a_connection_with_an_answer_that_is_not_read_is_closed(answer):
    async def say(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.append(1)
        writer.close()

    ended = []

    async def main():
        async with await asyncio.start_server(say, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            async with kvengine.aio.connect(url, token=TOKEN) as db:
                for calls in (1, 2):
                    with pytest.raises(kvengine.UpstreamUnavailable):
                        await db.version()
                    async with asyncio.timeout(HANG_S):
                        while len(ended) < calls:
                            await asyncio.sleep(0.002)

    asyncio.run(main())


@pytest.mark.parametrize("first_step", range(4))
def test_a_call_cancelled_at_any_step_leaves_no_answer_to_the_next(server, first_step):
    async def main():
        async with kvengine.aio.connect(server.url, token=TOKEN) as db:
            kv = await db.namespace("n")
            for steps in range(first_step, 60, 4):
                name, following = f"k{steps}", f"k{steps + 1}"
                task = asyncio.create_task(kv.get(name))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    assert await task == f"v{steps}"
                assert await kv.get(following) == f"v{steps + 1}"
            answers = await asyncio.gather(*(kv.get(f"k{number}") for number in range(100)))
            assert answers == [f"v{number}" for number in range(100)]

    asyncio.run(main())


def test_so_many_calls_are_under_way_and_the_others_wait(server):
    async def main():
        async with held(server) as (proxy, db):
            kv = await db.namespace("n")
            proxy.goes_on.clear()
            before = len(proxy.requests)
            tasks = [asyncio.create_task(kv.get("k1")) for _ in range(2 * CALLS_MAX)]
            await proxy.asked(before + CALLS_MAX)
            await asyncio.sleep(0.05)
            assert (len(proxy.requests), proxy.open) == (before + CALLS_MAX, CALLS_MAX)
            for one in tasks[: CALLS_MAX // 2]:
                one.cancel()  # others come in their stead
            await proxy.asked(before + CALLS_MAX + CALLS_MAX // 2)
            proxy.goes_on.set()
            assert await asyncio.gather(*tasks[CALLS_MAX // 2 :]) == ["v1"] * (3 * CALLS_MAX // 2)

    asyncio.run(main())


def test_close_waits_for_calls_under_way(server):
    async def main():
        async with held(server) as (proxy, db):
            kv = await db.namespace("n")
            proxy.goes_on.clear()
            before = len(proxy.requests)
            calls = [asyncio.create_task(kv.get(f"k{number}")) for number in range(10)]
            await proxy.asked(before + 10)
            closing = [asyncio.create_task(db.close()) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert not any(one.done() for one in closing)
            assert db.closed
            with pytest.raises(StoreClosed):
                await kv.get("k1")
            proxy.goes_on.set()
            assert await asyncio.gather(*calls) == [f"v{number}" for number in range(10)]
            await asyncio.gather(*closing)
            await proxy.until(lambda: not proxy.open)

    asyncio.run(main())


@pytest.mark.parametrize("delete", ["delete", "delete_prefix", "pop"])
def test_a_delete_comes_after_what_is_stored_at_this_moment(server, delete):
    """Else what get_or_set() has made before a delete would be stored after it."""

    async def main():
        async with held(server) as (proxy, db):
            kv = await db.namespace("filling")
            assert await kv.get("made") is None
            before = len(proxy.requests)

            def make():
                proxy.goes_on.clear()
                return "1"

            filling = asyncio.create_task(kv.get_or_set("made", make))
            await proxy.asked(before + 3)  # two reads, then the put
            assert proxy.requests[-1].endswith(b"/put HTTP/1.1")
            args = ("made", None) if delete == "pop" else ("made",)
            deleting = asyncio.create_task(getattr(kv, delete)(*args))
            await asyncio.sleep(0.05)
            assert len(proxy.requests) == before + 3
            proxy.goes_on.set()
            assert (await filling, await deleting) == (
                "1",
                "1" if delete == "pop" else deleting.result(),
            )
            assert await kv.get("made") is None

    asyncio.run(main())


def test_what_is_made_while_a_delete_comes_is_not_stored(server):
    async def main():
        async with kvengine.aio.connect(server.url, token=TOKEN) as db:
            kv = await db.namespace("filling")

            async def make():
                await kv.delete("made")
                return "1"

            assert await kv.get_or_set("made", make) == "1"
            assert await kv.get("made") is None

    asyncio.run(main())


def sockets():
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


def test_one_event_loop_after_the_other(server):
    """Connections end with their loop, also if nobody closes the database."""
    db = kvengine.aio.connect(server.url, token=TOKEN)

    async def main():
        kv = await db.namespace("n")
        calls = (kv.get(f"k{number}") for number in range(20))
        assert await asyncio.gather(*calls) == [f"v{number}" for number in range(20)]
        changes = kv.watch(after=0)
        assert (await anext(changes)).name == "k0"
        assert (await asyncio.gather(kv.get("k1"), kv.get("k2"))) == ["v1", "v2"]

    before = sockets()
    for _ in range(3):
        asyncio.run(main())
        assert len(db._inner._connection._pools) == 1
    asyncio.run(db.close())
    for _ in range(200):
        if sockets() <= before:  # the server closes its ends a moment later
            break
        asyncio.run(asyncio.sleep(0.01))
    assert sockets() <= before


WATCHES = """
import asyncio, sys, threading
import kvengine.aio

async def main(url, token):
    async with kvengine.aio.connect(url, token=token) as db:
        kv = await db.namespace("watched")
        coming = [asyncio.create_task(anext(kv.watch(after=0))) for _ in range(100)]
        await kv.put("k", "1")
        names = {change.name for change in await asyncio.gather(*coming)}
        assert names == {"k"}, names
        await asyncio.gather(*(kv.get("k") for _ in range(300)))
        await kv.list(), await kv.get_many(["k"]), await kv.delete("k")
        assert threading.active_count() == 1, threading.enumerate()

asyncio.run(main(*sys.argv[1:]))
"""


def test_watches_and_calls_need_no_thread(server):
    subprocess.run(
        [sys.executable, "-W", "error", "-c", WATCHES, server.url, TOKEN],
        check=True,
        cwd=ROOT,
        timeout=120,
    )


def test_a_file_is_read_by_a_thread(server, tmp_path):
    (tmp_path / "value").write_bytes(b"v" * 100_000)

    async def main():
        async with kvengine.aio.connect(server.url, token=TOKEN) as db:
            kv = await db.namespace("files")
            with open(tmp_path / "value", "rb") as file:
                await kv.put("k", file, size=100_000)
            assert await kv.get("k", "bytes") == b"v" * 100_000
            with open(tmp_path / "value", "rb") as file, pytest.raises(kvengine.InvalidRequest):
                await kv.put("k", file, size=5)
            report = await kv.export_file(tmp_path / "pairs")
            assert report.keys == 1
            assert b'"key":"k"' in (tmp_path / "pairs").read_bytes()

    asyncio.run(main())

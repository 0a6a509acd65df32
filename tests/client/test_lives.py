"""How connections and edges over them end: cancelled, dropped, closed twice; nothing is left."""

import asyncio
import functools
import gc
import io
import os
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import pytest

import kvengine
import kvengine.aio
from kvengine import Edge, InvalidRequest, StoreClosed
from tests.server.places import until
from tests.server.running import TOKEN, running

OF_EDGES = {
    "kvengine-dropped",
    "kvengine-end",
    "kvengine-changes",
    "kvengine-ask",
    "kvengine-heartbeat",
}
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def server():
    with running(limits="relaxed") as found:
        kv = found.db.namespace("n")
        kv.put_many({f"k{number}": f"v{number}" for number in range(20)})
        yield found


def sockets():
    """Return how many sockets this process has open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            continue
    return found


def in_loop(test):
    """Run an async test; with its arguments by name, which are fixtures."""

    @functools.wraps(test)
    def run(*args, **fixtures):
        asyncio.run(test(*args, **fixtures))

    return run


CANCELLED = """
import asyncio, os, sys, threading
import kvengine.aio
from kvengine.aio.connection import CALLS_MAX

async def main(url, token):
    async with kvengine.aio.connect(url, token=token) as db:
        kv = await db.namespace("n")
        await kv.get("k1")
        threads = threading.active_count()

        async def watch():
            async for _ in kv.watch():
                pass

        for part in range(10):
            tasks = [asyncio.create_task(watch()) for _ in range(50)]
            await asyncio.sleep(0.02 * part)  # some are being opened, some are read
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await asyncio.wait_for(kv.get("k1"), 60) == "v1"
        assert threading.active_count() <= threads + 4, threading.enumerate()
        names = [os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")
                 if os.path.exists(f"/proc/self/fd/{one}")]
        assert sum(name.startswith("socket:") for name in names) < 12 + CALLS_MAX, names
        for _ in range(30):  # the server lets a token have so many streams, and needs a moment
            changes = kv.watch(after=0)
            try:
                assert (await anext(changes)).name == "k0"
                break
            except kvengine.RateLimited as error:
                await asyncio.sleep(error.retry_after)
        await changes.aclose()

asyncio.run(main(*sys.argv[1:]))
print("ended")
"""


def test_500_cancelled_watches_leave_nothing_and_the_program_ends(server):
    done = subprocess.run(
        [sys.executable, "-c", CANCELLED, server.url, TOKEN],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


@in_loop
async def test_streams_of_a_closed_database_end(server):
    db = kvengine.aio.connect(server.url, token=TOKEN)
    kv = await db.namespace("n")
    changes = kv.watch(after=0)
    await anext(changes)
    await db.close()
    with pytest.raises(StoreClosed):
        async for _ in changes:
            pass


@in_loop
async def test_memoize_does_not_block_the_loop(server, monkeypatch):
    loop_thread = threading.get_ident()
    post = kvengine.client.connection.Connection.call_at  # waits for the answer

    def watched(*args, **options):
        assert threading.get_ident() != loop_thread, "a request was made on the loop's thread"
        return post(*args, **options)

    monkeypatch.setattr(kvengine.client.connection.Connection, "call_at", watched)
    async with kvengine.aio.connect(server.url, token=TOKEN) as db:
        kv = await db.namespace("memo")

        @kv.memoize(name="square")
        async def square(number):
            return number * number

        assert await square(7) == 49
        assert await square(7) == 49
        await square.forget(7)  # type: ignore[attr-defined]
        with pytest.raises(InvalidRequest):
            kv.memoize(name="x" * 1000)(square)


@in_loop
async def test_a_second_close_waits_for_the_first():
    db = kvengine.aio.Database.in_memory()
    release, ended = threading.Event(), []
    slow = asyncio.ensure_future(db._runner.run(release.wait))
    await asyncio.sleep(0)
    first = asyncio.ensure_future(db.close())
    second = asyncio.ensure_future(db.close())
    second.add_done_callback(lambda _: ended.append(db.closed))
    try:
        await asyncio.sleep(0.05)
        assert not first.done()
        assert not second.done()
    finally:
        release.set()  # else a test that fails hangs
    await asyncio.gather(first, second, slow)
    assert ended == [True]
    await db.close()


@pytest.mark.parametrize("kind", ["url", "database"])
def test_a_dropped_edge_is_freed_and_says_so(server, kind):
    def make():
        if kind == "url":
            return Edge(server.url, "dropped", token=TOKEN)
        return Edge(server.db, "dropped")

    open_before = sockets()
    edge = make()
    assert edge.namespace("n").get("k1") == "v1"
    node, gone = weakref.ref(edge._node), weakref.ref(edge)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del edge
        gc.collect()
        assert gone() is None
    assert [w.category for w in caught if "dropped" in str(w.message)] == [ResourceWarning]
    caught.clear()  # it has the source of the warning

    def is_free():
        gc.collect()
        left = {one.name.partition("_")[0] for one in threading.enumerate()} & OF_EDGES
        return node() is None and not left and sockets() <= open_before

    until(is_free, "something of it is left")


def test_export_at_an_edge_of_a_server(server, tmp_path):
    own = server.db.namespace("pairs")
    own.put("text", 'ä"\n', metadata={"m": [1, "ö"]})
    own.put("bytes", b"\xff\x00", expiration_ttl=1000)
    own.put("a", "1")
    for options in ({}, {"format": "wrangler"}, {"prefix": "b"}, {"start_after": "a"}):
        here, there = io.BytesIO(), io.BytesIO()
        report = own.export_file(here, **options)
        with Edge(server.url, token=TOKEN) as edge:
            found = edge.namespace("pairs").export_file(there, **options)
            edge.namespace("pairs").export_file(tmp_path / "file", **options)
        assert there.getvalue() == here.getvalue() == (tmp_path / "file").read_bytes()
        assert (found.keys, found.bytes, found.last_key) == (
            report.keys,
            report.bytes,
            report.last_key,
        )
        assert found.version >= report.version
    with Edge(server.url, token=TOKEN) as edge, pytest.raises(InvalidRequest, match="put_many"):
        edge.namespace("pairs").import_file(io.BytesIO(b""))

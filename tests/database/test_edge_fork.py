"""An edge in a process that was forked: never an old value, never a hang."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.running import TOKEN, running

ROOT = Path(__file__).parent.parent.parent

COMMON = """
import asyncio, gc, io, os, sys, threading, time, traceback, warnings
import kvengine, kvengine.aio
from kvengine import Edge, StoreClosed, connect
url, token, folder = sys.argv[1:4]

def in_child(work):
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def refused(call):
    try:
        found = call()
    except StoreClosed as error:
        assert "fork" in str(error) and "Edge" in str(error), error
    else:
        raise AssertionError(f"{found!r} came")

def busy(kv, stop):
    while not stop.is_set():
        kv.get("k")
        kv.get("none")

def all_refused(edge, kv):
    for call in (
        lambda: kv.get("k"),
        lambda: kv.get("none"),
        lambda: kv.get(["k", "none"]),
        lambda: kv.get("k", cache_ttl=1000),
        lambda: kv.get("k", min_version=1),
        lambda: kv.get("k", stale_if_error=1000),
        lambda: kv.get_many(["k"]),
        lambda: kv.get_with_metadata("k"),
        lambda: kv.get_metadata("k"),
        lambda: kv.read("k"),
        lambda: "k" in kv,
        lambda: kv.put("k", "x"),
        lambda: kv.delete("k"),
        lambda: kv.touch("k", expiration_ttl=60),
        lambda: kv.increment("n"),
        lambda: kv.put_many({"k": "x"}),
        lambda: kv.delete_many(["k"]),
        lambda: kv.delete_prefix("k"),
        lambda: kv.import_file(io.BytesIO(b"")),
        lambda: kv.export_file(io.BytesIO()),
        lambda: kv.list(),
        lambda: next(kv.keys()),
        lambda: kv.count(),
        lambda: kv.size(),
        lambda: kv.title,
        lambda: next(kv.history("k")),
        lambda: next(kv.watch(timeout=1)),
        lambda: kv.get_or_set("k", lambda: "x"),
        lambda: kv.memoize()(lambda: 1)(),
        lambda: edge.namespace("n"),
        lambda: edge.namespace_by_id(kv.id),
        lambda: edge.stats(),
    ):
        refused(call)
    assert edge.closed
    repr(edge), repr(kv)
    edge.close()
"""

SYNC = """
def check(edge):
    kv = edge.namespace("n")
    assert kv.get("k") == "v"
    stop = threading.Event()
    threads = [threading.Thread(target=busy, args=(kv, stop)) for _ in range(3)]
    for one in threads:
        one.start()
    for _ in range(10):  # a lock may be held at that moment
        in_child(lambda: all_refused(edge, kv))
    stop.set()
    for one in threads:
        one.join()
    assert kv.get("k") == "v"
    kv.put("k", "w")
    assert kv.get("k") == "w"
    kv.put("k", "v")

with Edge(url, token=token) as edge:
    check(edge)
with connect(url, token=token) as db, Edge(db, "up") as up, Edge(up, path=folder) as leaf:
    check(leaf)
with kvengine.Database.in_memory() as db, Edge(db, always_current=True) as edge:
    db.namespace("n").put("k", "v")
    check(edge)
"""

NEW_IN_CHILD = """
edge = Edge(url, token=token)
kv = edge.namespace("n")
assert kv.get("k") == "v"

def child():  # what the advice says
    global edge, kv
    edge = kv = None
    gc.collect()
    with Edge(url, token=token) as own:
        mine = own.namespace("n")
        mine.put("child", str(os.getpid()))
        assert mine.get("child") == str(os.getpid())

in_child(child)
assert kv.get("child") is not None
edge.close()
"""

ASYNC = """
async def open_one():
    edge = kvengine.aio.Edge(url, token=token)
    kv = await edge.namespace("n")
    assert await kv.get("k") == "v"
    return edge, kv

edge, kv = asyncio.run(open_one())

async def calls():
    for call in (
        lambda: kv.get("k"),
        lambda: kv.get(["k"]),
        lambda: kv.get("k", min_version=1),
        lambda: kv.get_with_metadata("k"),
        lambda: kv.get_metadata("k"),
        lambda: kv.read("k"),
        lambda: kv.put("k", "x"),
        lambda: kv.delete("k"),
        lambda: kv.increment("n"),
        lambda: kv.put_many({"k": "x"}),
        lambda: kv.list(),
        lambda: kv.count(),
        lambda: anext(kv.keys()),
        lambda: anext(kv.watch(timeout=1)),
        lambda: kv.get_or_set("k", lambda: "x"),
        lambda: edge.namespace("n"),
        lambda: edge.namespace_by_id(kv.id),
        lambda: edge.stats(),
    ):
        try:
            found = await asyncio.wait_for(call(), 20)
        except StoreClosed as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError(f"{found!r} came")
    await asyncio.wait_for(edge.close(), 20)

in_child(lambda: asyncio.run(calls()))

async def go_on():
    assert await kv.get("k") == "v"
    await edge.close()

asyncio.run(go_on())
"""


@pytest.fixture(scope="module")
def url():
    with running(limits="relaxed") as server:
        server.db.namespace("n").put("k", "v")
        yield server.url


@pytest.mark.parametrize("script", [SYNC, NEW_IN_CHILD, ASYNC], ids=["sync", "new", "async"])
def test_a_forked_edge_says_so(url, script, tmp_path):
    subprocess.run(
        [sys.executable, "-c", COMMON + script, url, TOKEN, str(tmp_path / "copies")],
        check=True,
        cwd=ROOT,
        timeout=120,
    )

"""`gunicorn --preload`: the application opens its database before the workers are forked.

Every worker reads and writes: what the master opened opens itself again in each of them.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kvengine
from tests.server.running import TOKEN, running

pytest.importorskip("gunicorn")
ROOT = Path(__file__).parents[1]
PATIENCE_S = 60

APPLICATION = """
import os, sys
sys.path.insert(0, {root!r})
import kvengine
PATH = {path!r}
writer = kvengine.open(PATH) if {writes} else None
db = kvengine.open(PATH, read_only=True)
flags = db.namespace("flags")
flags.get("a")

def application(environ, start_response):
    try:
        if environ["PATH_INFO"] == "/write":
            writer.namespace("flags").put("a", "2")
        text = flags.get("a")
    except kvengine.KvError as error:
        text = type(error).__name__ + ": " + str(error)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%d %s" % (os.getpid(), text)).encode()]
"""

EVERY_OBJECT = """
import asyncio, os, sys
sys.path.insert(0, {root!r})
import kvengine, kvengine.aio
from kvengine.testing.world import World
PATH, URL, TOKEN = {path!r}, {url!r}, {token!r}

writer = kvengine.Store(PATH + "/store")
writer.update({{b"%d" % n: b"value %d" % n for n in range(60)}})
reader = kvengine.Store(PATH + "/store", read_only=True)
keys, own_keys = iter(reader.keys()), iter(writer.keys())
next(keys), next(own_keys)
frozen, view, batch = writer.snapshot(), writer.get_view(b"7"), writer.batch()
batch.put(b"batch", b"")
memory = kvengine.Store.in_memory()
memory.put(b"a", b"1")
far, near = reader.consumer("far"), writer.consumer("near")
given = far.changes()
next(given)
db, db_in_memory = kvengine.open(PATH + "/db"), kvengine.Database.in_memory()
flags, other = db.namespace("flags"), db_in_memory.namespace("flags")
flags.put("a", "1")
follower = kvengine.Follower(writer, PATH + "/replica", background=True)
follower.wait(60)
server = kvengine.serve_log(writer, PATH + "/log.sock")
source = kvengine.connect_log(PATH + "/log.sock")
begun = source.tail()
next(begun)
cached, cached_writer = kvengine.CachedStore(reader), kvengine.CachedStore(writer)
cached[b"7"], cached_writer[b"7"]
cache = kvengine.Cache(10)
double = cache.memoize()(lambda number: 2 * number)
double(4)
remote = kvengine.connect(URL, token=TOKEN)
remote_kv = remote.namespace("n")
remote_kv.get("k0")
edge = kvengine.Edge(URL, token=TOKEN)
edge_kv = edge.namespace("n")
edge_kv.get("k0")
world = World(seed=1, edges=1, keys=2)

async def opened():
    db = await kvengine.aio.open(PATH + "/db", read_only=True)
    remote = kvengine.aio.connect(URL, token=TOKEN)
    edge = kvengine.aio.Edge(URL, token=TOKEN)
    spaces = [await one.namespace("n") for one in (remote, edge)]
    for kv in spaces:
        await kv.get("k0")
    return await db.namespace("flags"), *spaces

aio_flags, aio_remote, aio_edge = asyncio.run(opened())
asked = []

def is_first():
    asked.append(None)
    return len(asked) == 1

ways = {{
    "first": lambda n: is_first(),
    "Store": lambda n: writer.get(b"7"),
    "Store.put": lambda n: writer.put(b"8", b"") > 60,
    "Store.keys": lambda n: len(list(own_keys)) >= 59,
    "reader": lambda n: reader[b"%d" % n] == (b"" if n == 8 else b"value %d" % n),
    "reader.keys": lambda n: len(list(keys)) >= 59,
    "snapshot": lambda n: frozen[b"%d" % n],
    "in_memory": lambda n: memory[b"a"],
    "batch": lambda n: batch.commit() >= 60,
    "view": lambda n: bytes(view),
    "Consumer of a reader": lambda n: len(list(given)),
    "Consumer": lambda n: near.position,
    "Namespace": lambda n: flags.get("a"),
    "Database.in_memory": lambda n: other.get("a"),
    "Follower": lambda n: follower.catch_up(),
    "Follower.store": lambda n: follower.store.get(b"7"),
    "LogServer": lambda n: server.close(),
    "RemoteSource": lambda n: len(list(source.tail())) >= 59,
    "RemoteSource.tail": lambda n: len(list(begun)),
    "CachedStore of a reader": lambda n: cached[b"%d" % n] == reader[b"%d" % n],
    "CachedStore": lambda n: cached_writer.get(b"7"),
    "memoize": lambda n: double(n),
    "connect": lambda n: remote_kv.get("k%d" % n),
    "Edge": lambda n: edge_kv.get("k0"),
    "World": lambda n: world.write("primary", b"key", b"2"),
    "aio.Namespace": lambda n: asyncio.run(aio_flags.get("a")),
    "aio.connect": lambda n: asyncio.run(aio_remote.get("k%d" % n)),
    "aio.Edge": lambda n: asyncio.run(aio_edge.get("k0")),
}}

def application(environ, start_response):
    found, number = [], int(environ["PATH_INFO"][1:])
    for name, way in ways.items():
        try:
            text = str(way(number))
        except kvengine.KvError as error:
            text = type(error).__name__
        found.append(name + "=" + text)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%d %s" % (os.getpid(), ";".join(found))).encode()]
"""


class Gunicorn:
    """A server with workers, at a Unix socket."""

    def __init__(self, folder, *arguments):
        self._socket = str(folder / "web.sock")
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "3"),
                    *("--bind", f"unix:{self._socket}", "--chdir", str(folder)),
                    *(*arguments, "app:application"),
                ],
                cwd=folder,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def ask(self, path):
        """Return (pid of the worker, text)."""
        end = time.monotonic() + PATIENCE_S
        while True:
            connection = UnixConnection(self._socket)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                text = answer.read().decode()
                assert answer.status == 200, text
                pid, _, rest = text.partition(" ")
                return int(pid), rest
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < end, self._log.read_text()
                time.sleep(0.05)
            finally:
                connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


def write_application(folder, path, *, writes):
    text = APPLICATION.format(root=str(ROOT), path=str(path), writes=writes)
    (folder / "app.py").write_text(text)


def test_readers_answer_in_every_worker_and_follow(tmp_path):
    with kvengine.open(tmp_path / "db") as db:
        db.namespace("flags").put("a", "1")
        write_application(tmp_path, tmp_path / "db", writes=False)
        with Gunicorn(tmp_path) as server:
            found = [server.ask("/") for _ in range(30)]
            assert {text for _, text in found} == {"1"}
            db.namespace("flags").put("a", "2")
            assert {server.ask("/")[1] for _ in range(30)} == {"2"}


def test_a_database_that_the_master_opened_for_writing(tmp_path):
    with kvengine.open(tmp_path / "db") as db:
        db.namespace("flags").put("a", "1")
    write_application(tmp_path, tmp_path / "db", writes=True)
    with Gunicorn(tmp_path) as server:
        for _ in range(10):
            pid, text = server.ask("/write")
            assert text == server.ask("/")[1] == "2"
        os.kill(pid, signal.SIGKILL)  # the next worker is forked from the same master
        assert {server.ask("/write")[1] for _ in range(10)} == {"2"}
        with pytest.raises(kvengine.StoreLocked):
            kvengine.open(tmp_path / "db", exclusive=True)
    with kvengine.open(tmp_path / "db", exclusive=True) as db:  # nobody holds it
        assert db.namespace("flags").get("a") == "2"


def test_a_worker_may_open_it_itself_as_well(tmp_path):
    """In post_fork, to fail at once if the database can't be opened."""
    with kvengine.open(tmp_path / "db") as db:
        db.namespace("flags").put("a", "1")
    write_application(tmp_path, tmp_path / "db", writes=False)
    (tmp_path / "conf.py").write_text(
        "def post_fork(server, worker):\n"
        "    import app, kvengine\n"
        "    app.writer = kvengine.open(app.PATH)\n"
    )
    with Gunicorn(tmp_path, "--workers", "1", "--config", "conf.py") as server:
        assert server.ask("/")[1] == "1"
        assert server.ask("/write")[1] == "2"
    with kvengine.open(tmp_path / "db") as db:
        assert db.namespace("flags").get("a") == "2"


CLOSED = ["in_memory", "World", "Database.in_memory", "Follower", "Edge", "aio.Edge"]
TRUE = ["Store.put", "batch", "reader", "CachedStore of a reader", "RemoteSource"]


def test_every_object_of_the_page(tmp_path):
    """Each row of FORK.md, opened before the workers are forked, and asked by several at once."""
    with running() as server:
        kv = server.db.namespace("n")
        kv.put_many({f"k{n}": f"secret {n}" for n in range(60)})
        text = EVERY_OBJECT.format(root=str(ROOT), path=str(tmp_path), url=server.url, token=TOKEN)
        (tmp_path / "app.py").write_text(text)
        with Gunicorn(tmp_path) as web, ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda n: web.ask(f"/{n}"), range(60)))
    assert len({pid for pid, _ in answers}) > 1
    assert sum("first=True" in text for _, text in answers) > 1
    for number, (_, text) in enumerate(answers):
        found = dict(one.split("=", 1) for one in text.split(";"))
        first = found.pop("first") == "True"
        once = "True" if first else "False"  # an iterator ends in each process
        assert found.pop("Consumer of a reader").isdigit()  # the lease is the parent's
        assert found == dict.fromkeys(CLOSED, "StoreClosed") | dict.fromkeys(TRUE, "True") | {
            "Store": str(b"value 7"),
            "Store.keys": once,
            "reader.keys": once,
            "snapshot": str(b"value %d" % number),
            "view": str(b"value 7"),
            "Consumer": "0",
            "Namespace": "1",
            "Follower.store": str(b"value 7"),
            "LogServer": "None",
            "RemoteSource.tail": "UpstreamUnavailable" if first else "0",
            "CachedStore": str(b"value 7"),
            "memoize": str(2 * number),
            "connect": f"secret {number}",
            "aio.Namespace": "1",
            "aio.connect": f"secret {number}",
        }, (number, first)

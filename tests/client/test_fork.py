"""What connect() gives, in processes that are forked: nobody gets the answer of another one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.running import TOKEN, running

ROOT = Path(__file__).parent.parent.parent
KEYS = 240

COMMON = """
import asyncio, os, sys, threading, traceback
import kvengine, kvengine.aio
url, token, keys = sys.argv[1], sys.argv[2], int(sys.argv[3])

def fork(work):
    # Run something in a child; return its process.
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)

def ended(children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

def right(name, value):
    assert value == "secret of " + name, (os.getpid(), name, value)
"""

SYNC = """
db = kvengine.connect(url, token=token)
kv = db.namespace("n")
kv.get("k0")

def read(part):
    errors = []
    def thread(number):
        try:
            for key in range(part * keys // 4 + number, (part + 1) * keys // 4, 3):
                right(f"k{key}", kv.get(f"k{key}"))
        except BaseException as error:
            errors.append(error)
            raise
    threads = [threading.Thread(target=thread, args=(number,)) for number in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not errors, errors

children = [fork(lambda part=part: read(part)) for part in range(3)]
read(3)
assert ended(children) == [0, 0, 0]
right("k1", kv.get("k1"))  # and no child has closed what is the parent's
"""

WHILE_BUSY = """
db = kvengine.connect(url, token=token)
kv = db.namespace("n")
stop, errors = threading.Event(), []

def busy(number):
    try:
        while not stop.is_set():
            right(f"k{number}", kv.get(f"k{number}"))
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=busy, args=(number,)) for number in range(4)]
for one in threads:
    one.start()

def read(part):
    for key in range(part, keys, 8):
        right(f"k{key}", kv.get(f"k{key}"))
    fork_of_fork = fork(lambda: right("k5", kv.get("k5")))
    assert ended([fork_of_fork]) == [0]

children = [fork(lambda part=part: read(part)) for part in range(8)]
assert ended(children) == [0] * 8
stop.set()
for one in threads:
    one.join()
assert not errors, errors
"""

ASYNC = """
db = kvengine.aio.connect(url, token=token)

async def read(part):
    kv = await db.namespace("n")
    mine = range(part * keys // 4, (part + 1) * keys // 4)
    for key, value in zip(mine, await asyncio.gather(*(kv.get(f"k{key}") for key in mine))):
        right(f"k{key}", value)

asyncio.run(read(0))
children = [fork(lambda part=part: asyncio.run(read(part))) for part in range(3)]
asyncio.run(read(3))
assert ended(children) == [0, 0, 0]
asyncio.run(read(0))
"""

STREAMS = """
db = kvengine.connect(url, token=token)
kv = db.namespace("n")
changes = kv.watch(after=kv.get_metadata("k0").version - 1)
seen = [next(changes).name for _ in range(5)]
assert seen == [f"k{key}" for key in range(5)], seen

def go_on():
    assert [next(changes).name for _ in range(5)] == [f"k{key}" for key in range(5, 10)]
    log = db.log_source()
    assert sum(len(piece.changes) for piece in log.pieces(0)) >= keys
    changes.close()

assert ended([fork(go_on)]) == [0]
assert [next(changes).name for _ in range(20)] == [f"k{key}" for key in range(5, 25)]
"""


LOG = """
with kvengine.Store.in_memory() as store, kvengine.serve_log(store, ("127.0.0.1", 0)) as server:
    for key in range(keys):
        store.put(b"k%d" % key, b"v")
    changes = kvengine.connect_log(server.address).tail(follow=True)
    assert [next(changes).key for _ in range(5)] == [b"k%d" % key for key in range(5)]

    def go_on():  # over a connection of its own: what the parent writes later comes as well
        found = [next(changes).key for _ in range(keys)]
        assert found == [b"k%d" % key for key in range(5, keys + 5)]

    child = fork(go_on)
    for key in range(keys, keys + 5):
        store.put(b"k%d" % key, b"v")
    assert ended([child]) == [0]
    assert [next(changes).key for _ in range(50)] == [b"k%d" % key for key in range(5, 55)]
    changes.close()
"""


@pytest.fixture(scope="module")
def url():
    with running() as server:
        kv = server.db.namespace("n")
        kv.put_many({f"k{key}": f"secret of k{key}" for key in range(KEYS)})
        yield server.url


@pytest.mark.parametrize("script", [SYNC, WHILE_BUSY, ASYNC, STREAMS, LOG])
def test_a_forked_process_has_connections_of_its_own(url, script):
    subprocess.run(
        [sys.executable, "-c", COMMON + script, url, TOKEN, str(KEYS)],
        check=True,
        cwd=ROOT,
        timeout=120,
    )

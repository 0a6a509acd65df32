"""A database on a server, asked by the event loops of a process and of its forked child."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.running import TOKEN, running

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def server():
    with running(limits="relaxed") as found:
        found.db.namespace("n").put_many({f"k{number}": f"v{number}" for number in range(100)})
        yield found


FORK = """
import asyncio, os, sys
import kvengine.aio

def sockets():
    names = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
    return sum(os.readlink(one).startswith("socket:") for one in names if os.path.lexists(one))

async def main(url, token):
    db = kvengine.aio.connect(url, token=token)
    kv = await db.namespace("n")
    await asyncio.gather(*(kv.get("k1") for _ in range(20)))
    child = os.fork()
    if child == 0:
        os._exit(sockets() - 2)  # those of the event loop itself
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert await kv.get("k2") == "v2"
    await db.close()

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_forked_child_closes_its_copies(server):
    """Else the server would not hear that the parent has closed them."""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, server.url, TOKEN],
        check=True,
        cwd=ROOT,
        timeout=120,
    )


FORK_DURING_CALLS = """
import asyncio, os, sys
import kvengine.aio

async def in_child(db, kv):
    async with asyncio.timeout(30):
        assert await kv.get("k2") == "v2"
        await kv.delete("absent")
        await db.close()

db = kvengine.aio.connect(sys.argv[1], token=sys.argv[2])
with asyncio.Runner() as runner:
    kv = runner.run(db.namespace("n"))
    calls = [kv.get("k1"), kv.get_or_set("made", lambda: "v")]
    tasks = [runner.get_loop().create_task(call) for call in calls]
    while not db._inner._fills:
        runner.run(asyncio.sleep(0))
    child = os.fork()
    if child == 0:
        asyncio.run(in_child(db, kv))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert runner.run(asyncio.wait_for(asyncio.gather(*tasks), 30)) == ["v1", "v"]
    runner.run(db.close())
"""


def test_a_forked_child_waits_for_no_call_of_its_parent(server):
    server.db.namespace("n").delete("made")
    subprocess.run(
        [sys.executable, "-c", FORK_DURING_CALLS, server.url, TOKEN],
        check=True,
        cwd=ROOT,
        timeout=120,
    )

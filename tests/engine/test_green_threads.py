"""Greenlets of gevent, with everything of the standard library that it patches."""

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("gevent")

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
import kvengine

options = dict(segment_bytes=65536, key_buffer_entries=256, checkpoint_records=2000)
store = kvengine.Store(sys.argv[1], durability=sys.argv[2], sync_interval_s=0.01, **options)

def write(writer):
    for number in range(int(sys.argv[3])):
        store.put(b"%d-%d" % (writer, number % 200), b"v" * 100)
        if number % 20 == 0:
            gevent.sleep(0)

def maintain():
    for _ in range(3):
        store.compact(lambda done, total: gevent.sleep(0))
        gevent.sleep(0.001)
        store.checkpoint()

writers = [gevent.spawn(write, writer) for writer in range(8)]
gevent.joinall([*writers, gevent.spawn(maintain), gevent.spawn(maintain)], raise_error=True)
assert len(store) == 8 * min(200, int(sys.argv[3])), len(store)
assert store.verify().ok
assert store.stats().failures == 0, store.stats()
store.close()
"""


@pytest.mark.parametrize(("durability", "writes"), [("os", 600), ("interval", 300), ("group", 60)])
def test_greenlets_write_while_jobs_run(tmp_path, durability, writes):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, program, tmp_path / "store", durability, str(writes)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr

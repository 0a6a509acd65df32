"""Green threads of gevent and eventlet, with everything of the standard library that they patch."""

import importlib.util
import subprocess
import sys
import threading

import pytest

from kvengine import Store
from tests.waiting import HANG_S

LIBRARIES = {
    "gevent": """
from gevent import monkey
monkey.patch_all()
from gevent import joinall, sleep, spawn
""",
    "eventlet": """
import eventlet
eventlet.monkey_patch()
from eventlet import sleep, spawn

def joinall(threads, raise_error):
    for thread in threads:
        thread.wait()
""",
}

PROGRAM = """
import sys
import kvengine

options = dict(segment_bytes=65536, key_buffer_entries=256, checkpoint_records=2000)
store = kvengine.Store(sys.argv[1], durability=sys.argv[2], sync_interval_s=0.01, **options)

def write(writer):
    for number in range(int(sys.argv[3])):
        store.put(b"%d-%d" % (writer, number % 200), b"v" * 100)
        if number % 20 == 0:
            sleep(0)

def maintain():
    for _ in range(3):
        store.compact(lambda done, total: sleep(0))
        sleep(0.001)
        store.checkpoint()

writers = [spawn(write, writer) for writer in range(8)]
joinall([*writers, spawn(maintain), spawn(maintain)], raise_error=True)
assert len(store) == 8 * min(200, int(sys.argv[3])), len(store)
assert store.verify().ok
assert store.stats().failures == 0, store.stats()
store.close()
"""


@pytest.mark.parametrize(("durability", "writes"), [("os", 600), ("interval", 300), ("group", 60)])
@pytest.mark.parametrize("library", LIBRARIES)
def test_green_threads_write_while_jobs_run(tmp_path, library, durability, writes):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    program = tmp_path / "program.py"
    program.write_text(LIBRARIES[library] + PROGRAM)
    command = [sys.executable, program, tmp_path / "store", durability, str(writes)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr


FOLLOWER = """
import sys
import kvengine

waiting = []

def tell():
    while True:
        if waiting:
            waiting.clear()
            print("others run", flush=True)
        sleep(0.001)

telling = spawn(tell)
with kvengine.Store(sys.argv[1], read_only=True) as store:
    waiting.append(1)
    for change in store.tail(follow=True):
        print(change.version, flush=True)
        if change.version == 20:
            break
        waiting.append(1)
"""


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_green_thread_hears_of_another_process_while_others_run(tmp_path, library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    program = tmp_path / "program.py"
    program.write_text(LIBRARIES[library] + FOLLOWER)
    with Store(tmp_path / "store", durability="os") as store:
        command = [sys.executable, "-W", "ignore", program, tmp_path / "store"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        alarm = threading.Timer(HANG_S, process.kill)
        alarm.start()
        try:
            for _ in range(20):
                assert process.stdout.readline() == b"others run\n"
                version = store.put(b"a", b"")
                assert process.stdout.readline() == b"%d\n" % version
            assert process.wait(HANG_S) == 0
        finally:
            alarm.cancel()
            process.kill()
            process.wait()
            process.stdout.close()

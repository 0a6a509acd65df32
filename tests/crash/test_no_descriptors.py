"""Descriptors run out: calls are refused, nothing changes, and the store stays writable.

Each call is made with no descriptor left, then with one, and so on until it succeeds.
"""

import os
import subprocess
import sys
import textwrap

PROGRAM = """
import errno, os, resource, sys
from kvengine import KvError, Store, StoreReadOnly

folder, LIMIT = sys.argv[1], 200
resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
options = {
    "segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual", "durability": "os",
}
refused = {}


def with_few(count, call):
    # Make a call while only so many descriptors can be had; True if it succeeded.
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for _ in range(count):
        os.close(taken.pop())
    try:
        call()
        return True
    except StoreReadOnly:
        raise
    except OSError as error:
        assert error.errno == errno.EMFILE, repr(error)
        return False
    finally:
        for descriptor in taken:
            os.close(descriptor)


def change(store):
    for number in range(30):
        key = b"%d" % (number % 20)
        model[key] = b"%d" % round * 60
        store.put(key, model[key])
    store.delete(b"0")
    del model[b"0"]


def roll(store):
    for number in range(12):
        store.put(b"roll", b"x" * 500)


def look(store):
    with store.snapshot() as frozen:
        assert dict(frozen) == model


def reopen(store):
    Store(folder, read_only=True).close()


def acknowledge(store):
    consumer = store.consumer("one")
    for change in consumer.changes():
        last = change.version
    consumer.acknowledge(last)


model, round = {}, 0
calls = (
    lambda store: store.compact(),
    lambda store: store.checkpoint(),
    lambda store: store._parts.maintenance.run(lambda: flush(store)),
    lambda store: store.backup(f"{folder}-{round}"),
    lambda store: store.verify(),
    roll, look, reopen, acknowledge,
)
store = Store(folder, **options)
store._parts.maintenance.wake = lambda: None


def flush(store):
    store._parts.freeze_keys()
    store._parts.flush_keys()


for number, call in enumerate(calls):
    for few in range(20):
        round += 1
        store.compact()  # few files, none of which is kept open
        change(store)
        if with_few(few, lambda: call(store)):
            break
        refused[number] = few + 1
        store.put(b"probe", b"%d" % round)  # it is still writable
        assert store.delete(b"probe")
        if call is roll:
            store.delete(b"roll")
        assert dict(store) == model
    else:
        raise AssertionError(f"call {number} never succeeded")
    model.pop(b"roll", None)
    store.delete(b"roll")
    assert dict(store) == model
assert len(refused) == len(calls) and max(refused.values()) > 1, refused
store.sync()
assert with_few(0, store.close)
for rebuild in (False, True):
    with Store(folder, rebuild=rebuild, **options) as store:
        assert dict(store) == model
        assert store.verify().ok
"""


SYNCED = """
import os, resource, sys
from kvengine import Store

resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with Store(sys.argv[1], durability="group") as store:
    store.put(b"before", b"1")
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for few in range(4):  # one sync takes a descriptor for each segment, and gives it back
        version = store.put(b"key", b"%d" % few)
        assert store._parts.commits.durable_version >= version
        os.close(taken.pop())
"""


def test_no_call_breaks_for_want_of_a_descriptor(tmp_path):
    run(PROGRAM, tmp_path)


def test_a_write_is_synced_without_a_descriptor(tmp_path):
    """Nothing is reported durable that is not, and no store is read-only ever after."""
    run(SYNCED, tmp_path)


def run(program, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-4000:]

"""What each public object does in a forked child: kvengine/FORK.md has a row for each.

It works, or raises StoreClosed with advice that works: never an old value, never what another
process was answered, never a hang.
"""

import ast
import os
import signal
import threading

import pytest

from kvengine import Store, StoreClosed, StoreLocked, StoreReadOnly
from kvengine.testing.check import check_store

SMALL = {"durability": "os", "segment_bytes": 16384, "key_buffer_entries": 64}
PATIENCE_S = 60


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def in_child(action):
    """Return what `action` prints in a forked child, which ends without any clean-up."""
    from_child, to_parent = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(PATIENCE_S)  # who hangs is killed
            os.close(from_child)
            os.write(to_parent, repr(action()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(to_parent)
    with os.fdopen(from_child, "rb") as pipe:
        answer = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return ast.literal_eval(answer.decode())


def error_of(call):
    try:
        call()
    except (StoreClosed, StoreLocked, StoreReadOnly) as error:
        return type(error).__name__, str(error)
    return "no error"


def test_a_store_opened_for_writing_before_a_fork_is_refused_in_the_child(path):
    store = Store(path, **SMALL)
    store.update({b"%d" % n: b"value" for n in range(2000)})  # with a thread in the background
    batch = store.batch()
    batch.put(b"key", b"of the parent")
    begun = [store.keys(), store.scan(), store.tail(), iter(store.items())]
    for iterator in begun:
        next(iterator)

    def look():
        calls = [
            lambda: store.get(b"1"),
            lambda: store.put(b"1", b""),
            lambda: list(store.scan()),
            lambda: store.version,
            store.stats,
            store.compact,
            store.sync,
            store.snapshot,
            lambda: store.wait(0),
            batch.commit,
            *(lambda iterator=iterator: next(iterator) for iterator in begun),
        ]
        errors = {error_of(call) for call in calls}
        store.close()
        with Store(path, read_only=True) as reader:
            return errors, error_of(lambda: Store(path)), reader.get(b"1999"), store.closed

    errors, second, value, closed = in_child(look)
    ((kind, text),) = errors
    assert kind == "StoreClosed"
    assert "opened for writing before a fork" in text
    assert "read_only=True" in text
    assert second[0] == "StoreLocked"
    assert f"process {os.getpid()}" in second[1]
    assert (value, closed) == (b"value", True)
    store[b"after"] = b"the fork"
    with pytest.raises(StoreLocked):
        Store(path)
    check_store(store)
    store.close()
    with Store(path) as again:
        assert len(again) == 2001


def test_a_reader_goes_on_in_a_child(path):
    with Store(path, **SMALL) as writer, Store(path, read_only=True) as reader:
        writer.update({b"%03d" % n: b"old" for n in range(300)})
        keys, changes = reader.keys(), reader.tail()
        assert (next(keys), next(changes).version) == (b"000", 1)
        asked, to_child = os.pipe()

        def look():
            before = reader[b"000"]
            os.read(asked, 1)  # the parent has written meanwhile
            found = reader.wait(300, 60), reader[b"000"], len(reader), error_of(reader.clear)[0]
            rest = len(list(keys)), len(list(changes))
            reader.close()
            return before, found, rest

        def write():
            writer.update({b"%03d" % n: b"new" for n in range(301)})
            writer.compact()
            os.write(to_child, b"!")

        thread = threading.Timer(0.05, write)
        thread.start()
        before, found, rest = in_child(look)
        thread.join()
        assert before in (b"old", b"new")
        assert found == (601, b"new", 301, "StoreReadOnly")
        assert rest[0] >= 299
        assert rest[1] == 299
        assert reader[b"300"] == b"new"
        os.close(asked)
        os.close(to_child)

"""Reads while something else happens: records move, the namespace or the writer goes away."""

import subprocess
import sys
import threading
import traceback
from collections.abc import Callable

import pytest

from kvengine import Database, NamespaceNotFound

# The clock, or the garbage collector, compacts the store in the middle of a call.
MOVER = """
import gc, sys
import kvengine

class Clock:
    busy = True
    def time(self):
        if "CLOCK" == "clock":
            move()
        return 1000.0

def move(phase="start", info=None):
    if phase == "start" and not clock.busy:
        clock.busy = True
        other.put("other", b"x" * 1000)
        db.store.compact()
        clock.busy = False

clock = Clock()
db = kvengine.Database.in_memory(segment_bytes=4096, compaction="manual", clock=clock)
kv, other = db.namespace("ns"), db.namespace("other")
numbers = range(0, 30, 3)
for number in numbers:
    kv.put(str(number), "value" * number * 70, metadata=["meta"] * number, expiration=2000)
    other.put("other", b"x" * 1000)
if "CLOCK" == "collector":
    gc.callbacks.append(move)
    gc.set_threshold(1)
clock.busy = False
kept = []
for call in sys.stdin:
    print(call, end="", flush=True)  # the last one, should this be the end of the process
    code = compile(call, call, "eval")
    for number in numbers:
        key, value, metadata = str(number), "value" * number * 70, ["meta"] * number
        for turn in range(4):
            kept.append([])  # one of these brings a collection about in the next call
            assert eval(code), (call, number, turn)
"""
CALLS = """\
kv.get(key) == value
kv.get(key, "bytes") == value.encode()
kv.get(key, "stream").read() == value.encode()
kv.get([key], "stream")[key].read() == value.encode()
kv.get_with_metadata(key)[:2] == (value, metadata)
kv.get_with_metadata(key, "stream").value.read() == value.encode()
kv.get_with_metadata([key])[key][:2] == (value, metadata)
kv.get_metadata(key)[:3] == (key, 2000, metadata)
kv.get_many([key, "no"]) == {key: value, "no": None}
[info.metadata for info in kv.list(key).keys if info.name == key] == [metadata]
"""


@pytest.mark.parametrize("mover", ["clock", "collector"])
def test_records_may_move_while_other_code_runs(mover):
    done = subprocess.run(
        [sys.executable, "-c", MOVER.replace("CLOCK", mover)],
        input=CALLS,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, CALLS), done.stderr


KEYS = [f"key{number:03d}" for number in range(300)]
READS = {
    "get": lambda kv: kv.get(KEYS[7]) == "value",
    "get of many": lambda kv: set(kv.get(KEYS).values()) == {"value"},
    "get_with_metadata": lambda kv: kv.get_with_metadata(KEYS[-1]).value == "value",
    "get_with_metadata of many": lambda kv: None not in kv.get_with_metadata(KEYS).values(),
    "get_metadata": lambda kv: kv.get_metadata(KEYS[0]) is not None,
    "in": lambda kv: KEYS[150] in kv,
    "list": lambda kv: len(kv.list().keys) == 300,
    "folders": lambda kv: len(kv.list(delimiter="/").keys) == 300,
    "keys": lambda kv: len(list(kv.keys())) == 300,
    "count": lambda kv: kv.count("k") == 300,
}


@pytest.mark.parametrize("read", READS)
def test_another_thread_deletes_the_namespace(read):
    """A read gives all of what was there, or says that the namespace is gone; nothing between."""
    with Database.in_memory(key_buffer_entries=64) as db:
        for _ in range(5):
            kv = db.namespace("ns")
            for key in KEYS:
                kv.put(key, "value", metadata=1)
            wrong: list = []
            started = threading.Barrier(4)

            def ask(kv=kv, wrong=wrong, started=started):
                started.wait()
                try:
                    while True:
                        if not READS[read](kv):
                            wrong.append("not all of it")
                except NamespaceNotFound as error:
                    if str(error) != "namespace 'ns' does not exist":
                        wrong.append(str(error))

            threads = [threading.Thread(target=ask) for _ in range(3)]
            for thread in threads:
                thread.start()
            started.wait()
            db.delete("ns")
            with pytest.raises(NamespaceNotFound):
                READS[read](kv)
            for thread in threads:
                thread.join()
            assert wrong == []
        db._remover.wait()
        assert list(db.store.keys(b"d")) == []


class RunsOut:
    """A clock that lets somebody else act while it is asked for the time."""

    act: Callable[[], object] | None = None

    def time(self):
        act, self.act = self.act, None
        if act is not None:
            act()
        return 1000.0


@pytest.mark.parametrize("read", READS)
def test_the_namespace_is_deleted_in_the_middle_of_a_read(read):
    clock = RunsOut()
    with Database.in_memory(clock=clock) as db:
        kv = db.namespace("ns")
        for key in KEYS:
            kv.put(key, "value", expiration=2000)

        def delete():
            db.delete("ns")
            db._remover.wait()

        clock.act = delete
        with pytest.raises(NamespaceNotFound, match="namespace 'ns' does not exist"):
            READS[read](kv)


def test_an_error_does_not_keep_the_frames_of_all_who_got_it(db, kv):
    db.delete("tests")

    def frames():
        try:
            kv.get("key")
        except NamespaceNotFound as error:
            return sum(1 for _ in traceback.walk_tb(error.__traceback__))
        return 0

    assert len({frames() for _ in range(10)}) == 1

"""get_view(): a value where it lies, without a copy, for as long as it is held."""

import gc
import subprocess
import sys

import pytest

from kvengine import InvalidType, Store
from kvengine.testing.clock import ManualClock

SIZES = [0, 1, 4096, 4097, 100_000]


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    options = {"segment_bytes": 4096, "compaction": "manual", "durability": "os"}
    memory = request.param == "memory"
    with Store.in_memory(**options) if memory else Store(tmp_path, **options) as opened:
        yield opened


@pytest.mark.parametrize("size", SIZES)
def test_a_view_is_a_flat_read_only_buffer(store, size):
    value = bytes(range(256)) * (size // 256 + 1)
    store[b"a"] = value[:size]
    view = store.get_view(b"a")
    assert isinstance(view, memoryview)
    assert (view.format, view.itemsize, view.ndim, view.nbytes) == ("B", 1, 1, size)
    assert view.readonly
    assert view.contiguous
    assert bytes(view) == value[:size]
    if size:
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1


def test_no_key_no_view(store):
    assert store.get_view(b"a") is None
    store[b"a"] = b"1"
    assert bytes(store.get_view(bytearray(b"a"))) == b"1"
    del store[b"a"]
    assert store.get_view(b"a") is None
    with pytest.raises(InvalidType, match="a key must be bytes, not str"):
        store.get_view("a")


def test_an_expired_key_has_no_view():
    clock = ManualClock()
    with Store.in_memory(clock=clock) as store:
        store.put(b"a", b"1", expires_at=clock.time() + 1)
        view = store.get_view(b"a")
        clock.advance(1)
        assert store.get_view(b"a") is None
        assert bytes(view) == b"1"


def test_views_outlive_everything(store):
    values = {b"%02d" % n: bytes([n]) * (n * 300) for n in range(40)}
    store.update(values)
    views = {key: store.get_view(key) for key in values}
    store.update(dict.fromkeys(values, b"new"))
    store.compact()
    for key in list(values)[::2]:
        del store[key]
    store.compact()
    store.update({b"more%d" % n: b"x" * 4000 for n in range(20)})
    assert {key: bytes(view) for key, view in views.items()} == values
    store.close()
    gc.collect()
    assert {key: bytes(view) for key, view in views.items()} == values
    part = views[b"39"][100:200]
    del views
    gc.collect()
    assert bytes(part) == bytes([39]) * 100


def test_a_view_outlives_the_store_object(tmp_path):
    store = Store(tmp_path, durability="os")
    store[b"a"] = b"1" * 10_000
    view = store.get_view(b"a")
    del store
    gc.collect()
    assert view == b"1" * 10_000


def test_a_view_can_be_written_back(store):
    """The value lies in the mapping that the write appends to."""
    store[b"a"] = b"0123456789" * 1000
    for number in range(20):
        store.put(b"copy-%d" % number, store.get_view(b"a"), metadata=store.get_view(b"a")[:7])
    entry = store.get_entry(b"copy-19")
    assert entry.value == b"0123456789" * 1000
    assert entry.metadata == b"0123456"


MOVED_BY_THE_CLOCK = """
from kvengine import Store

class Clock:
    busy = True
    def time(self):
        if not self.busy:
            self.busy = True
            store.compact()
            self.busy = False
        return 1000.0

clock = Clock()
options = {"segment_bytes": 4096, "compaction": "manual", "clock": clock}
store = Store.in_memory(**options)
for number in range(30):
    store.put(b"%d" % number, b"value" * number * 70, expires_at=2000.0)
    store.put(b"other", b"x" * 1000)
clock.busy = False
for number in range(30):
    key, value = b"%d" % number, b"value" * number * 70
    store.put(b"other", b"x" * 1000)
    assert store.CALL
    clock.busy = True
    store.put(b"other", b"x" * 1000)
    clock.busy = False
print("done")
"""


MOVED_BY_THE_COLLECTOR = """
import gc
import threading
from kvengine import Store

here, inside = threading.get_ident(), []

def compact(phase, info):
    # Only in the call itself: collections within the compaction would compact without end.
    if phase == "start" and key and not inside and threading.get_ident() == here:
        inside.append(1)
        store.put(b"other", b"x" * 1000)
        store.compact()
        inside.clear()

key = b""
store = Store.in_memory(segment_bytes=4096, compaction="manual")
for number in range(30):
    store.put(b"%d" % number, b"value" * number * 70)
    store.put(b"other", b"x" * 1000)
gc.callbacks.append(compact)
gc.set_threshold(1)
kept = []
for number in range(0, 30, 3):
    key, value = b"%d" % number, b"value" * number * 70
    for turn in range(8):
        kept.append([])  # one of these brings a collection about in the next call
        assert store.CALL
print("done")
"""


@pytest.mark.parametrize(
    "mover", [MOVED_BY_THE_CLOCK, MOVED_BY_THE_COLLECTOR], ids=["clock", "collector"]
)
@pytest.mark.parametrize(
    "call",
    [
        "get_view(key) == value",
        "get(key) == value",
        "get_entry(key).value == value",
        "get_many([key]) == [value]",
        "__contains__(key)",
        "scan(key, limit=1).__next__().value == value",
        "keys(key, limit=1).__next__() == key",
    ],
)
def test_records_may_move_while_other_code_runs(mover, call):
    """Asking for the time runs Python code, and making an object may: the garbage collector's.

    Here both compact the store: what a call found before must not be used after.
    """
    done = subprocess.run(
        [sys.executable, "-c", mover.replace("CALL", call)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr

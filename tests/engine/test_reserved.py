"""Memory that runs out in a write: nothing has changed, or everything has.

The engine's first request for memory is refused, then its second, and so on until a call gets
through; after each the store holds what the model holds and goes on, and so do the files.
"""

import shutil

import pytest

from tests.engine import failing_memory

PROGRAM = """
import ctypes, sys
from kvengine import Change, Store

library, folder, case = ctypes.CDLL(sys.argv[1]), sys.argv[2], sys.argv[3]
refused = 0


def attempt(store, model, operation, change):
    # Refuse the first request, then the second, until none of those that the call makes is left.
    global refused
    for n in range(1, 10_000):
        before = store.version
        library.kv_refuse(n)
        try:
            operation()
        except MemoryError:
            library.kv_refuse(0)
            refused += 1
            if store.version != before:  # update() had committed batches before this one
                assert case == "update", (n, before, store.version)
                model.update(list(pairs.items())[:store.version - before])
            check(store, model)
            assert store.version >= before
            continue
        through = library.kv_left() > 0
        library.kv_refuse(0)
        assert store.version > before
        change(model)
        if through:
            check(store, model)
            return
    raise AssertionError("it never gets through")


def check(store, model):
    assert len(store) == len(model), (len(store), len(model))
    if len(model) < 2000 or refused % 8 == 0:
        assert dict(store.items()) == model


def puts(store, model, n, start=0, size=20):
    for i in range(start, start + n):
        key = b"key-%d" % i
        attempt(store, model, lambda: store.put(key, b"v" * size),
                lambda model: model.__setitem__(key, b"v" * size))


def batch(store, model, keys, gone=()):
    def operation():
        with store.batch() as changes:
            for key in keys:
                changes.put(key, b"b")
            for key in gone:
                changes.delete(key)

    def change(model):
        model.update(dict.fromkeys(keys, b"b"))
        for key in gone:
            model.pop(key, None)

    attempt(store, model, operation, change)


store = Store(folder, durability="os", compaction="manual", groups=(b"key", 5),
              segment_bytes=1 << 16, key_buffer_entries=1 << 14)
model = {}
if case == "first":
    puts(store, model, 40)
    puts(store, model, 3, start=20, size=100_000)
elif case == "segments":
    puts(store, model, 12, size=30_000)
elif case == "batch":
    for start in range(0, 2000, 400):
        batch(store, model, [b"key-%d" % i for i in range(start, start + 400)],
              gone=[b"key-%d" % i for i in range(start - 100, start)])
elif case == "update":
    pairs = {b"key-%d" % i: b"u" for i in range(9000)}
    attempt(store, model, lambda: store.update(pairs), lambda model: model.update(pairs))
elif case == "growth":
    pairs = {b"key-%d" % i: b"g" for i in range(5500)}
    store.update(pairs)
    model |= pairs
    puts(store, model, 150, start=5500)
elif case == "snapshot":
    puts(store, model, 3)
    for i in range(3, 6):
        assert store._parts.key_index.begin_snapshot()
        puts(store, model, 1, start=i)
        key = b"key-%d" % (i - 1)
        store._parts.key_index.begin_snapshot()
        attempt(store, model, lambda: store.delete(key), lambda model: model.pop(key))
        store._parts.key_index.end_snapshot()
elif case == "apply":
    for i in range(20):
        keys = [b"key-%d" % (9 * i + j) for j in range(9)]
        changes = [Change(store.version + 5 * (j + 1), "put", keys[j], b"a", b"", None)
                   for j in range(9)]
        attempt(store, model, lambda: store._parts.apply(tuple(changes)),
                lambda model: model.update((change.key, change.value) for change in changes))
version = store.version
assert store.verify().problems == ()
sizes = store.group_size(b"key-1")
assert sizes.keys == sum(key.startswith(b"key-1") for key in model)
store.close()
for options in ({}, {"rebuild": True}):
    with Store(folder, durability="os", **options) as store:
        assert dict(store.items()) == model and store.version == version
        assert store.verify().problems == ()
        versions = [change.version for change in store.tail()]
        assert versions == sorted(set(versions))
        store.put(b"after", b"1")
        assert store.delete(b"after") == store.version
        version = store.version
print(refused)
"""
CASES = ("first", "segments", "batch", "update", "growth", "snapshot", "apply")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to make the library that refuses memory")
    return failing_memory.build(tmp_path_factory.mktemp("refuse"))


@pytest.mark.parametrize("case", CASES)
def test_whatever_request_for_memory_is_refused_a_write_is_whole_or_not_there(
    case, library, tmp_path
):
    refused = int(failing_memory.run(library, PROGRAM, str(tmp_path / "store"), case))
    assert refused >= 1, "the library has refused nothing: what is tested here?"

"""A snapshot is the store of one moment: all that was acknowledged before, nothing that came later.

Whatever happens to the store, its files and its keys meanwhile.
"""

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import InvalidRequest, Store, StoreClosed, StoreReadOnly
from kvengine.engine import opening
from kvengine.testing.clock import ManualClock

SMALL = {"segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual"}
KEYS = st.sampled_from([b"%02d" % number for number in range(40)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=300)),
        st.tuples(st.just("delete"), KEYS),
        st.just(("compact",)),
        st.just(("checkpoint",)),
        st.just(("snapshot",)),
    ),
    max_size=40,
)


def step(store, model, action, *arguments):
    if action == "put":
        store.put(*arguments)
        model[arguments[0]] = arguments[1]
    elif action == "delete":
        store.delete(*arguments)
        model.pop(arguments[0], None)
    else:
        getattr(store, action)()


def check(frozen, model):
    """Compare every way to read with a dict."""
    assert dict(frozen) == model
    assert len(frozen) == len(model)
    assert [entry.key for entry in frozen.scan(reverse=True)] == sorted(model, reverse=True)
    names = [b"%02d" % number for number in range(40)]
    assert frozen.get_many(names) == [model.get(name) for name in names]
    newest = {change.key: change for change in frozen.tail(0)}
    living = {key: change.value for key, change in newest.items() if change.kind == "put"}
    assert living == model


@pytest.mark.parametrize("durability", ["os", "group", None])
@given(steps=STEPS, last=st.booleans())
def test_snapshots_keep_what_was_there(tmp_path_factory, durability, steps, last):
    if durability is None:
        store = Store.in_memory(**SMALL)
    else:
        folder = tmp_path_factory.mktemp("store")
        store = Store(folder, durability="os", **SMALL)
        store.put(b"00", b"", durability=durability)
    model = dict(store)
    taken = []
    for action in [*steps, ("snapshot",)]:
        if action == ("snapshot",):
            taken.append((store.snapshot(), dict(model), store.version))
        else:
            step(store, model, *action)
    if last:
        store.close()
    for frozen, expected, version in taken:
        assert frozen.version == version
        check(frozen, expected)
        frozen.close()


def test_each_snapshot_beside_a_writer_is_a_prefix_of_what_it_wrote(tmp_path):
    with Store(tmp_path / "s", durability="os", segment_bytes=1 << 16) as store:
        stop = threading.Event()

        def write():
            number = 0
            while not stop.is_set():
                number += 1
                with store.batch() as batch:
                    batch.put(b"%08d" % number, b"x" * 100)
                    batch.put(b"count", b"%d" % number)
                    batch.put(b"hot", bytes(1000))

        thread = threading.Thread(target=write)
        thread.start()
        try:
            seen = 0
            for _ in range(60):
                with store.snapshot() as frozen:
                    count = int(frozen.get(b"count", b"0"))
                    assert len(list(frozen.keys(b"0"))) == count
                    assert frozen.version == 3 * count
                    assert count >= seen
                    seen = count
                if _ % 20 == 0:
                    store.compact()
        finally:
            stop.set()
            thread.join()


def test_a_snapshot_refuses_writes_and_does_not_follow():
    with Store.in_memory() as store:
        store.put(b"a", b"1")
        with store.snapshot() as frozen:
            store.put(b"a", b"2")
            assert frozen.get(b"a") == b"1"
            for call in (
                lambda: frozen.put(b"a", b"3"),
                lambda: frozen.delete(b"a"),
                lambda: frozen.update({b"a": b"3"}),
                frozen.compact,
            ):
                with pytest.raises(StoreReadOnly):
                    call()
            with pytest.raises(InvalidRequest, match="is already a snapshot"):
                frozen.snapshot()
        with pytest.raises(StoreClosed):
            frozen.get(b"a")
        assert store.get(b"a") == b"2"


def test_what_expires_does_so_in_a_snapshot_too():
    clock = ManualClock(1000.0)
    with Store.in_memory(clock=clock) as store:
        store.put(b"a", b"1", expires_at=1010)
        with store.snapshot() as frozen:
            assert frozen.get(b"a") == b"1"
            clock.advance(10)
            assert frozen.get(b"a") is None


def test_a_reader_of_another_writer_takes_snapshots(tmp_path):
    with Store(tmp_path / "s") as writer:
        writer.put(b"a", b"1")
        with Store(tmp_path / "s", read_only=True) as reader, reader.snapshot() as frozen:
            writer.put(b"a", b"2")
            assert (frozen.get(b"a"), reader.get(b"a")) == (b"1", b"2")


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_snapshot_is_read_in_a_child_as_well(tmp_path, kind):
    """It is of one moment, so it does not matter which process looks."""
    with Store.in_memory() if kind == "memory" else Store(tmp_path / "s") as store:
        store.put(b"a", b"1")
        with store.snapshot() as frozen:
            child = os.fork()
            if child == 0:
                right = frozen.get(b"a") == b"1" and list(frozen) == [b"a"]
                os._exit(0 if right else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert frozen.get(b"a") == b"1"


def test_many_snapshots_leave_nothing_open(tmp_path):
    script = """
import os, sys
from kvengine import Store
store = Store(sys.argv[1])
store.put(b"a", b"1")
def used():
    with open("/proc/self/maps") as maps:
        return len(os.listdir("/proc/self/fd")), sum(1 for _ in maps)
for turn in range(2000):
    with store.snapshot() as frozen:
        frozen.get(b"a")
    if turn == 100:
        before = used()
after = used()
assert after[0] <= before[0] + 2 and after[1] <= before[1] + 20, (before, after)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "s")], check=True, timeout=120)


def test_a_snapshot_does_not_look_for_the_control_page(tmp_path, monkeypatch):
    """Somebody removed it: the store knows what it has written (it waited for five seconds)."""
    with Store(tmp_path) as store:
        store.put(b"key", b"value")
        (tmp_path / "CONTROL").unlink()
        monkeypatch.setattr(opening, "OPENING_PAUSE_S", 3600)
        with store.snapshot() as frozen:
            with pytest.raises(StoreReadOnly, match="CONTROL was removed"):
                store.put(b"key", b"later")
            assert frozen[b"key"] == b"value"
            assert frozen.version == 1


def test_a_snapshot_takes_nothing_from_another_store_in_its_folder(tmp_path):
    """Files of the new one have the names of the old one's."""
    path = tmp_path / "store"
    store = Store(path, **SMALL)
    for number in range(60):
        store.put(b"%d" % number, b"old" * 50)
    store.checkpoint()
    frozen = store.snapshot()
    store.close()
    for file in path.iterdir():
        file.unlink()
    with Store(path, **SMALL) as other:
        for number in range(60):
            other.put(b"%d" % number, b"new" * 50)
        other.checkpoint()
        frozen.backup(tmp_path / "copy")
    with Store(tmp_path / "copy") as copy:
        assert dict(copy) == {b"%d" % number: b"old" * 50 for number in range(60)}
        assert copy.verify().ok
    frozen.close()

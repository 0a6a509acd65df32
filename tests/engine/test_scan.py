"""scan() and keys(): in byte order, from any place, whatever happens to the store meanwhile."""

import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sortedcontainers import SortedDict

from kvengine import Store
from kvengine.testing.check import check_store
from kvengine.testing.clock import ManualClock

TINY = {"durability": "os", "compaction": "manual", "key_buffer_entries": 16, "segment_bytes": 4096}
alphabet = st.sampled_from([b"\0", b"\1", b"a", b"b", b"\xfe", b"\xff"])
keys = st.lists(alphabet, min_size=1, max_size=5).map(b"".join)
prefixes = st.lists(alphabet, max_size=3).map(b"".join)


def expected(model, prefix, start_after, limit, reverse):
    found = [key for key in model if key.startswith(prefix)]
    if reverse:
        found.reverse()
    if start_after is not None:
        found = [k for k in found if (k < start_after if reverse else k > start_after)]
    return found if limit is None else found[:limit]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(keys, st.booleans()), max_size=200),
    st.lists(
        st.tuples(prefixes, st.none() | keys, st.none() | st.integers(0, 9), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 200),
)
def test_any_scan_of_any_store(changes, scans, checkpoint_at):
    """Against a sorted dict; part of the keys in runs, part in memory."""
    model = SortedDict()
    with Store.in_memory(**TINY) as store:
        for number, (key, delete) in enumerate(changes):
            if delete:
                store.delete(key)
                model.pop(key, None)
            else:
                store[key] = model[key] = b"%d" % number
            if number == checkpoint_at:
                store.checkpoint()
        for prefix, start_after, limit, reverse in scans:
            options = {"start_after": start_after, "limit": limit, "reverse": reverse}
            wanted = expected(model, prefix, start_after, limit, reverse)
            assert list(store.keys(prefix, **options)) == wanted
            found = [(entry.key, entry.value) for entry in store.scan(prefix, **options)]
            assert found == [(key, model[key]) for key in wanted]


@pytest.mark.parametrize("prefix", [b"", b"\xff", b"\xff\xff", b"a\xff", b"a", b"\0"])
def test_prefixes_at_the_edges(prefix):
    names = [b"".join(parts) for n in (1, 2, 3) for parts in itertools.product(EDGES, repeat=n)]
    with Store.in_memory(**TINY) as store:
        store.update(dict.fromkeys(names, b""))
        wanted = sorted(name for name in names if name.startswith(prefix))
        assert list(store.keys(prefix)) == wanted
        assert list(store.keys(prefix, reverse=True)) == wanted[::-1]


EDGES = [b"\0", b"a", b"\xfe", b"\xff"]


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_a_cursor_survives_compaction_and_restarts(tmp_path, size):
    stores = [Store(tmp_path, **TINY)]
    stores[0].update({b"%04d" % number: b"" for number in range(0, 1000, 2)})
    turn = itertools.count()

    def disturb():
        number = next(turn)
        if number % 5 == 0:
            stores[-1].compact()
        elif number % 5 == 1:
            stores[-1].checkpoint()
        elif number % 50 == 2:
            stores[-1].close()
            stores.append(Store(tmp_path, **TINY))
        stores[-1][b"0000 behind %d" % number] = b""
        stores[-1].delete(b"0000 behind %d" % (number - 1))

    found = []
    while page := list(stores[-1].keys(start_after=found[-1] if found else None, limit=size)):
        found += page
        disturb()
    assert [key for key in found if len(key) == 4] == [b"%04d" % n for n in range(0, 1000, 2)]
    assert found == sorted(set(found))
    check_store(stores[-1])
    stores[-1].close()


@pytest.mark.parametrize("reverse", [False, True])
def test_one_scan_through_writes_of_another_thread(reverse):
    """Keys that were there all the time come once; the others come once or not at all."""
    with Store.in_memory(key_buffer_entries=512, segment_bytes=1 << 20) as store:
        stays = [b"%06d" % number for number in range(0, 6000, 3)]
        store.update(dict.fromkeys(stays, b"stays"))
        done = threading.Event()

        def disturb():
            number = 0
            while not done.is_set():
                number = (number + 7) % 6000
                if number % 3:
                    store[b"%06d" % number] = b"comes and goes"
                    store.delete(b"%06d" % ((number * 5) % 6000 // 3 * 3 + 1))

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            for _ in range(5):
                entries = list(store.scan(reverse=reverse))
                found = [entry.key for entry in entries]
                assert found == sorted(set(found), reverse=reverse)
                assert [e.key for e in entries if e.value == b"stays"] == stays[
                    :: -1 if reverse else 1
                ]
                store.compact()
        finally:
            done.set()
            thread.join()
        check_store(store)


def test_what_has_expired_is_not_listed():
    clock = ManualClock()
    with Store.in_memory(**TINY, clock=clock) as store:
        for number in range(300):
            lifetime = None if number % 3 == 0 else number
            moment = None if lifetime is None else clock.time() + lifetime
            store.put(b"%03d" % number, b"", expires_at=moment)
        for passed in range(0, 300, 50):
            wanted = [b"%03d" % n for n in range(300) if n % 3 == 0 or n > passed]
            assert list(store.keys()) == wanted
            assert (
                list(store.keys(limit=5, start_after=b"100"))
                == [key for key in wanted if key > b"100"][:5]
            )
            assert [entry.key for entry in store.scan(reverse=True)] == wanted[::-1]
            clock.advance(50)


def test_a_scan_reads_only_what_it_gives(tmp_path):
    """A page costs what is in it: damage elsewhere in a large store is not even met."""
    with Store(tmp_path, durability="os", compaction="manual", key_buffer_entries=1024) as store:
        store.update({b"%06d" % number: b"%d" % number for number in range(20_000)})
        store.compact()
    (path,) = tmp_path.glob("*.keys")
    data = bytearray(path.read_bytes())
    blocks = len(data) // 4096 - 1
    assert blocks > 50
    searched = set()  # a binary search meets these blocks on its way to the first one
    high = blocks
    while high > 1:
        high //= 2
        searched.add(high)
    for block in set(range(2, blocks)) - searched:
        data[(block + 1) * 4096 + 100] ^= 1
    path.write_bytes(data)
    with Store(tmp_path, read_only=True) as store:
        assert list(store.keys(limit=50)) == [b"%06d" % number for number in range(50)]
        assert [e.value for e in store.scan(b"00000")] == [b"%d" % number for number in range(10)]
        assert next(iter(store.keys())) == b"000000"


def test_an_iterator_may_be_left_and_the_store_closed():
    with Store.in_memory(**TINY) as store:
        store.update({b"%04d" % number: b"" for number in range(3000)})
        left = store.keys()
        assert next(left) == b"0000"
        del left
        kept = store.scan()
        assert next(kept).key == b"0000"

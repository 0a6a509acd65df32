"""Which key runs are merged, and that merging loses no key and brings none back."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import CorruptData, Store
from kvengine.engine.jobs import maintenance
from kvengine.engine.jobs.compaction import PAUSES_MAX_S
from kvengine.engine.order.key_order import choose_merge
from kvengine.testing.check import check_store

OPTIONS = {"durability": "os", "compaction": "manual", "key_buffer_entries": 16}


@pytest.mark.parametrize(
    ("counts", "chosen"),
    [
        ([], None),
        ([10], None),
        ([10, 10, 10], None),
        ([10, 10, 10, 10], (0, 4)),
        ([40, 10, 10, 10], None),  # the first is of another size
        ([39, 10, 10, 10], (0, 4)),
        ([1000, 10, 10, 10, 10], (1, 5)),
        ([1000, 500, 10, 10, 10, 10], (2, 6)),
        ([10, 10, 10, 10, 1000], (0, 4)),
        ([4**n for n in range(24, 0, -1)], None),
        ([4**n for n in range(25, 0, -1)], (17, 25)),  # too many, whatever their sizes
        ([0, 0, 0, 0], (0, 4)),
    ],
)
def test_what_is_merged(counts, chosen):
    assert choose_merge(counts) == chosen


@given(st.lists(st.integers(0, 10**9), max_size=60))
def test_merging_comes_to_an_end_with_few_runs(counts):
    for _ in range(100):
        chosen = choose_merge(counts)
        if chosen is None:
            break
        first, last = chosen
        assert 0 <= first < last - 1 < len(counts)
        counts = [*counts[:first], sum(counts[first:last]), *counts[last:]]
    else:
        raise AssertionError("a hundred merges, and no end")
    assert len(counts) <= 24


@pytest.mark.parametrize("runs", [100, 1000, 5000])
def test_a_key_is_written_a_logarithmic_number_of_times(runs):
    counts, written, most = [], 0, 0
    for _ in range(runs):
        counts.append(1)
        written += 1
        while chosen := choose_merge(counts):
            first, last = chosen
            written += sum(counts[first:last])
            counts = [*counts[:first], sum(counts[first:last]), *counts[last:]]
        most = max(most, len(counts))
    assert written / runs <= 1 + runs.bit_length() / 2
    assert most <= 3 * (runs.bit_length() / 2 + 1)


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    in_memory = request.param == "memory"
    with Store.in_memory(**OPTIONS) if in_memory else Store(tmp_path, **OPTIONS) as opened:
        yield opened


def keys_of(count, seed):
    source = random.Random(seed)
    return [b"%d" % source.randrange(10 * count) for _ in range(count)]


def test_runs_are_merged_as_they_come(store):
    model = set()
    for turn in range(30):
        for key in keys_of(100, turn):
            store[key] = b"%d" % turn
            model.add(key)
        store.checkpoint()
        store._parts.maintenance.run(lambda: maintenance.work(store._parts))
        assert list(store.keys()) == sorted(model)
        assert store.stats().key_runs <= 6
    check_store(store)


def test_dead_keys_go_when_everything_is_compacted(store):
    for number in range(2000):
        store[b"%04d" % number] = b""
    store.checkpoint()
    for number in range(0, 2000, 2):
        del store[b"%04d" % number]
    store.compact()
    assert store.stats().key_runs == 1
    assert list(store.keys()) == [b"%04d" % number for number in range(1, 2000, 2)]
    entries = sum(store._parts.key_order.counts())
    assert entries == 1000
    check_store(store)


def test_a_key_that_comes_back_is_listed_once(store):
    for turn in range(8):
        for number in range(40):
            store[b"%02d" % number] = b"%d" % turn
        store.checkpoint()
        for number in range(40):
            del store[b"%02d" % number]
        assert list(store.keys()) == []
        store.checkpoint()
    for number in range(39, -1, -1):
        store[b"%02d" % number] = b"at last"
    assert list(store.keys()) == [b"%02d" % number for number in range(40)]
    assert all(entry.value == b"at last" for entry in store.scan())
    check_store(store)


@pytest.mark.parametrize("compaction", ["auto", "manual"])
def test_writers_wait_when_new_keys_take_too_much_memory(monkeypatch, compaction):
    monkeypatch.setattr(maintenance, "KEY_MEMORY_MAX", 1 << 20)
    with Store.in_memory(compaction=compaction) as store, store._parts.jobs:  # no run is written
        store.update({b"%06d" % number: b"" for number in range(10_000)})
        maintenance.pace(store._parts)
        assert store._parts.pause_s == 0
        store.update({b"%06d" % number: b"" for number in range(10_000, 30_000)})
        maintenance.pace(store._parts)
        assert store._parts.pause_s == PAUSES_MAX_S


def test_runs_survive_reopening(tmp_path):
    model = {}
    for turn in range(6):
        with Store(tmp_path, **OPTIONS) as store:
            assert list(store.keys()) == sorted(model)
            for key in keys_of(60, turn):
                store[key] = model[key] = b"%d" % turn
            store.checkpoint()
    with Store(tmp_path, read_only=True) as store:
        assert {entry.key: entry.value for entry in store.scan()} == model


def test_a_damaged_run_is_an_error_for_lists_and_harmless_for_gets(tmp_path):
    with Store(tmp_path, **OPTIONS) as store:
        store.update({b"%04d" % number: b"%d" % number for number in range(1000)})
        store.compact()
    (path,) = tmp_path.glob("*.keys")
    data = bytearray(path.read_bytes())
    data[4096 + 2000] ^= 1
    path.write_bytes(data)
    with Store(tmp_path, **OPTIONS) as store:
        with pytest.raises(CorruptData, match=rf"{path.name} at byte 4096.*|rebuild=True"):
            list(store.keys())
        assert store[b"0000"] == b"0"
        assert list(store.keys(b"09"))  # in another block
        store[b"new"] = b"accepted"
    with Store(tmp_path, **OPTIONS, rebuild=True) as store:
        assert len(list(store.keys())) == 1001
        check_store(store)

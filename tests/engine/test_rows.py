"""Entries and changes are the NamedTuples they seem, and the collector has nothing to do with them.

A collection takes as long as what it looks at, so a million entries in a list must not be that.
"""

import copy
import gc
import pickle
import sys

import pytest

import kvengine
from kvengine import Change, Entry, Store
from kvengine.testing.clock import ManualClock

FAR = 4e9


@pytest.fixture
def store():
    with Store.in_memory(clock=ManualClock(1e9)) as opened:
        opened.put(b"a", b"1", metadata=b"m", expires_at=FAR)
        opened.put(b"b", b"2" * 100_000)
        opened.put(b"c", b"")
        opened.delete(b"c")
        yield opened


ENTRIES = [Entry(b"a", b"1", b"m", FAR, 1), Entry(b"b", b"2" * 100_000, b"", None, 2)]


def test_entries(store):
    for found in (list(store.scan()), [store.get_entry(b"a"), store.get_entry(b"b")]):
        assert found == ENTRIES
        for entry, same in zip(found, ENTRIES, strict=True):
            assert type(entry) is Entry
            assert not gc.is_tracked(entry)
            assert hash(entry) == hash(same)
            assert repr(entry) == repr(same)
            assert pickle.loads(pickle.dumps(entry)) == copy.deepcopy(entry) == entry
            assert entry._replace(value=b"x")._asdict() == {**same._asdict(), "value": b"x"}


def test_changes(store):
    found = list(store.tail())
    assert found[0] == Change(1, "put", b"a", b"1", b"m", FAR)
    assert found[-1] == Change(4, "delete", b"c", b"", b"", None)
    for change in found:
        assert type(change) is Change
        assert not gc.is_tracked(change)


def test_what_a_list_shows(tmp_path):
    with kvengine.open(tmp_path, durability="os") as db:
        kv = db.namespace("a")
        kv.put("k", "v", expiration=int(FAR))
        found = kv.list().keys
        assert [tuple(info) for info in found] == [("k", int(FAR), None)]
        assert not gc.is_tracked(found[0])
        kv.put("l", "v", metadata={"a": [1]})
        assert [info.metadata for info in kv.list().keys] == [None, {"a": [1]}]


def test_fields_are_let_go_with_their_entry(store):
    entry = store.get_entry(b"b")
    built = Entry(b"b", bytes([1] * 1000), b"", None, 1)
    assert sys.getrefcount(entry.value) == sys.getrefcount(built.value)
    del entry
    before = sys.getallocatedblocks()
    for _ in range(1000):
        list(store.scan())
    assert sys.getallocatedblocks() < before + 500


def test_an_entry_whose_value_is_damaged_is_not_half_given(tmp_path):
    with Store(tmp_path, durability="os") as store:
        store.put(b"a", b"x" * 10_000)
    with Store(tmp_path, read_only=True) as store:
        [segment] = tmp_path.glob("*.log")
        with segment.open("r+b") as file:
            file.seek(-100, 2)
            file.write(b"y")
        for read in (lambda: store.get_entry(b"a"), lambda: list(store.scan())):
            with pytest.raises(kvengine.CorruptData):
                read()
        gc.collect()

"""A store is a MutableMapping: what CPython asks of one, and what people do with a dict."""

import threading
from collections.abc import KeysView, MutableMapping

import pytest

from kvengine import InvalidType, KeyNotFound, Store
from kvengine.testing.clock import ManualClock

mapping_tests = pytest.importorskip("test.mapping_tests")


class TestMappingProtocol(
    mapping_tests.BasicTestMappingProtocol  # type: ignore[name-defined, misc]
):
    """CPython's own tests, with bytes for the keys and values that they would choose."""

    type2test = Store.in_memory

    def _reference(self):
        return {b"1": b"2", b"key1": b"value1", b"key2": b"value2"}

    def _empty_mapping(self):
        store = Store.in_memory()
        self.addCleanup(store.close)
        return store

    def test_constructor(self):
        assert dict(self._empty_mapping()) == {}

    def test_update(self):
        store = self._empty_mapping()
        store.update(self.reference)
        store.update([(b"1", b"3")])
        store.update(store)
        assert dict(store) == {**self.reference, b"1": b"3"}

    def test_get(self):
        store = self._full_mapping(self.reference)
        for key, value in self.reference.items():
            assert store.get(key) == value
        for key, value in self.other.items():
            assert store.get(key, value) is value
        with pytest.raises(TypeError):
            store.get()
        with pytest.raises(TypeError):
            store.get(None, None, None)


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    opened = Store.in_memory() if request.param == "memory" else Store(tmp_path, durability="os")
    with opened:
        yield opened


def test_a_store_is_a_mutable_mapping(store):
    assert isinstance(store, MutableMapping)
    assert isinstance(store.keys(), KeysView)


def test_the_life_of_a_shelf(tmp_path):
    path = tmp_path / "shelf"
    with Store(path, durability="os") as shelf:
        shelf[b"name"] = b"Ada"
        shelf[b"born"] = b"1815"
        assert shelf[b"name"] == b"Ada"
        del shelf[b"born"]
        shelf[b"name"] = b"Ada Lovelace"
    with Store(path, durability="os") as shelf:
        assert dict(shelf) == {b"name": b"Ada Lovelace"}
        assert b"born" not in shelf


def test_absent_keys(store):
    for action in (store.__getitem__, store.__delitem__, store.pop):
        with pytest.raises(KeyNotFound, match=r"key b'gone' is not in the store"):
            action(b"gone")
    with pytest.raises(KeyError):
        store[b"gone"]
    assert store.pop(b"gone", b"other") == b"other"
    assert store.get(b"gone") is None
    assert store.version == 0


def test_pop_gives_the_value_and_removes_it(store):
    store.update({b"a": b"1", b"b": b"2"})
    assert store.pop(b"a") == b"1"
    assert list(store) == [b"b"]


def test_popitem_takes_the_first_until_nothing_is_left(store):
    store.update({b"b": b"2", b"a": b"1"})
    assert [store.popitem(), store.popitem()] == [(b"a", b"1"), (b"b", b"2")]
    with pytest.raises(KeyError):
        store.popitem()


def test_setdefault(store):
    assert store.setdefault(b"a", b"1") == b"1"
    assert store.setdefault(b"a", b"2") == b"1"
    assert store.version == 1
    with pytest.raises(InvalidType):
        store.setdefault(b"b")  # None is no value


def test_update_takes_what_a_dict_takes(store):
    class HasKeys:
        def keys(self):
            return [b"k"]

        def __getitem__(self, key):
            return key * 2

    store.update()
    store.update({b"a": b"1"})
    store.update([(b"b", b"2")])
    store.update((key, b"3") for key in (b"c", b"d"))
    store.update(HasKeys())
    assert dict(store) == {b"a": b"1", b"b": b"2", b"c": b"3", b"d": b"3", b"k": b"kk"}
    with pytest.raises(InvalidType, match="not str"):
        store.update(name=b"1")


def test_update_with_more_pairs_than_one_batch_takes(store):
    pairs = {b"%05d" % n: b"%d" % n for n in range(10_000)}
    store.update(pairs)
    assert dict(store) == pairs
    assert store.version == 10_000


def test_clear(store):
    store.update({b"%05d" % n: b"" for n in range(5000)})
    store.clear()
    assert list(store) == []
    assert len(store) == 0
    assert not store
    store.clear()
    assert store.version == 10_000


def test_equality_is_that_of_the_pairs(store):
    store.update({b"a": b"1", b"b": b"2"})
    assert store == {b"b": b"2", b"a": b"1"}
    assert store != {b"a": b"1"}
    assert store != {b"a": b"1", b"b": b"other"}
    with Store.in_memory() as other:
        assert store != other
        other.update(store)
        assert store == other
    assert store != [b"a", b"b"]


def test_order_is_that_of_the_bytes(store):
    keys = [b"\0", b"\0\0", b"A", b"a", b"a\0", b"a\xff", b"aa", b"\x80", b"\xff", b"\xff\0"]
    store.update(dict.fromkeys(keys[::-1], b""))
    assert list(store) == sorted(keys)
    assert list(reversed(store.keys())) == sorted(keys)[::-1]
    assert [key for key, _ in store.items()] == sorted(keys)
    store.update({key: key for key in keys})
    assert list(store.values()) == sorted(keys)


def test_expired_keys_do_not_count():
    clock = ManualClock()
    with Store.in_memory(clock=clock) as store:
        store[b"stays"] = b""
        store.put(b"goes", b"", expires_at=clock.time() + 10)
        assert len(store) == 2
        clock.advance(10)
        assert len(store) == 1
        assert len(store.keys()) == 1
        assert list(store) == [b"stays"]
        assert store == {b"stays": b""}
        del store[b"stays"]
        assert not store
        assert len(store) == 0


def test_truth(store):
    assert not store
    store[b"a"] = b""
    assert store
    del store[b"a"]
    assert not store


def test_a_view_of_the_keys(store):
    store.update({b"a": b"1", b"b": b"2"})
    keys = store.keys()
    assert len(keys) == 2
    assert b"a" in keys
    assert b"c" not in keys
    assert keys == {b"a", b"b"}
    assert keys & {b"a", b"c"} == {b"a"}
    assert keys | {b"c"} == {b"a", b"b", b"c"}
    assert keys - {b"a"} == {b"b"}
    assert keys ^ {b"a", b"c"} == {b"b", b"c"}
    assert not keys.isdisjoint([b"a"])
    assert keys <= {b"a", b"b", b"c"}
    store[b"c"] = b"3"
    assert list(keys) == [b"a", b"b", b"c"]  # a view: it shows what is there now
    assert list(reversed(keys)) == [b"c", b"b", b"a"]


def test_the_view_is_an_iterator_too(store):
    store.update({b"a": b"1", b"b": b"2"})
    keys = store.keys()
    assert [next(keys), next(keys)] == [b"a", b"b"]
    with pytest.raises(StopIteration):
        next(keys)
    assert list(keys) == [b"a", b"b"]


def test_items_and_values_are_views(store):
    store.update({b"a": b"1", b"b": b"2"})
    assert (b"a", b"1") in store.items()
    assert (b"a", b"2") not in store.items()
    assert store.items() == {(b"a", b"1"), (b"b", b"2")}
    assert b"2" in store.values()
    assert len(store.items()) == len(store.values()) == 2


def test_a_store_has_no_hash(store):
    with pytest.raises(TypeError, match="unhashable"):
        hash(store)


# -- while others write


def test_views_leave_out_what_goes_meanwhile():
    with Store.in_memory() as store:
        for number in range(2000):
            store.put(b"%04d" % number, b"v%d" % number)
        for view in (store.items, store.values, store.keys):
            seen = 0
            for _ in view():
                seen += 1
                for number in range(2000):
                    if number % 2 == seen % 2 and number > 20:
                        store.delete(b"%04d" % number)
            assert 20 < seen < 2000
            for number in range(2000):
                store.put(b"%04d" % number, b"v%d" % number)
        pairs = list(store.items())
        assert pairs == [(key, store[key]) for key in store]
        assert list(reversed(store.items())) == pairs[::-1]
        assert list(reversed(store.values())) == [value for _, value in pairs[::-1]]
        assert (b"0001", b"v1") in store.items()
        assert b"v1999" in store.values()
        assert b"none" not in store.values()


def test_views_are_those_of_a_mapping():
    with Store.in_memory() as store:
        store.update({b"a": b"1", b"b": b"2"})
        assert store.items() & {(b"a", b"1")} == {(b"a", b"1")}
        assert (len(store.items()), len(store.values())) == (2, 2)
        items = store.items()
        store[b"c"] = b"3"
        assert list(items) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]


def race(count, call):
    """Call a function in threads that begin together, and return what they returned."""
    begin, results = threading.Barrier(count, timeout=60), []

    def run(number):
        begin.wait()
        results.append(call(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == count
    return results


def test_of_threads_that_pop_a_key_one_gets_it():
    with Store.in_memory() as store:
        for _ in range(50):
            store[b"k"] = b"v"
            assert sorted(race(4, lambda _: store.pop(b"k", b""))) == [b"", b"", b"", b"v"]
        with pytest.raises(KeyNotFound):
            store.pop(b"k")


def test_pop_gives_what_it_deletes(monkeypatch):
    """Somebody writes between its read and its delete, then somebody deletes."""
    with Store.in_memory() as store:
        store[b"k"] = b"old"
        monkeypatch.setattr(Store, "get_entry", meddled(lambda: store.put(b"k", b"new")))
        assert store.pop(b"k") == b"new"
        assert b"k" not in store
        store[b"k"] = b"old"
        monkeypatch.setattr(Store, "get_entry", meddled(lambda: store.delete(b"k")))
        assert store.pop(b"k", b"none") == b"none"


def meddled(write, get_entry=Store.get_entry):
    """Return a get_entry behind whose first answer somebody writes."""
    left = [1]

    def read(self, key):
        found = get_entry(self, key)
        if left[0]:
            left[0] = 0
            write()
        return found

    return read


def test_setdefault_gives_all_the_same():
    with Store.in_memory() as store:
        for number in range(50):
            key = b"%d" % number
            found = race(4, lambda me, key=key: store.setdefault(key, b"%d" % me))
            assert set(found) == {store[key]}


def test_popitem_gives_each_item_once():
    with Store.in_memory() as store:
        store.update({b"%d" % number: b"v" for number in range(40)})
        popped = race(4, lambda _: [store.popitem()[0] for _ in range(10)])
        assert sorted(key for keys in popped for key in keys) == sorted(
            b"%d" % number for number in range(40)
        )
        with pytest.raises(KeyError):
            store.popitem()

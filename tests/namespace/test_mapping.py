"""A namespace is a MutableMapping, here, at an edge and over the network; and what it adds."""

import threading
from collections.abc import MutableMapping

import pytest

import kvengine
from kvengine import InvalidRequest, InvalidType, KeyNotFound, VersionConflict
from kvengine.testing.clock import ManualClock

mapping_tests = pytest.importorskip("test.mapping_tests")


@pytest.fixture(params=["here", "edge", "remote"])
def kv(request, make):
    return make[request.param]()


class OfEachKind(mapping_tests.BasicTestMappingProtocol):  # type: ignore[name-defined, misc]
    """CPython's own tests, with one exception: the second argument of get() is a type.

    So it is in Workers KV.  Here it is taken for a default.
    """

    kind = ""

    @pytest.fixture(autouse=True)
    def _make(self, make):
        self.make = make[self.kind]

    def _reference(self):
        return {"1": "2", "key1": "value1", "key2": "value2"}

    def _empty_mapping(self):
        kv = self.make()
        get = kv.get

        def get_or_default(key, default=None):
            value = get(key)
            return default if value is None else value

        kv.get = get_or_default
        return kv

    def test_constructor(self):
        assert dict(self._empty_mapping()) == {}

    def test_update(self):
        kv = self._empty_mapping()
        kv.update(self.reference)
        kv.update([("1", "3")], four="4")
        kv.update(kv)
        assert dict(kv) == {**self.reference, "1": "3", "four": "4"}


class TestHere(OfEachKind):
    kind = "here"


class TestEdge(OfEachKind):
    kind = "edge"


class TestRemote(OfEachKind):
    kind = "remote"


del OfEachKind


def test_it_is_a_mutable_mapping_and_equal_to_itself_alone(kv):
    assert isinstance(kv, MutableMapping)
    assert {kv: 1}[kv] == 1
    assert kv != {}


def test_brackets(kv):
    kv["ä"] = "1"
    kv["b"] = b"2"
    assert (kv["ä"], kv["b"], len(kv), list(kv), list(reversed(kv))) == (
        "1", "2", 2, ["b", "ä"], ["ä", "b"]
    )  # fmt: skip
    del kv["b"]
    assert "b" not in kv
    for missing in (lambda: kv["b"], lambda: kv.__delitem__("b"), lambda: kv.pop("b")):
        with pytest.raises(KeyNotFound, match="'b'"):
            missing()
    with pytest.raises(InvalidType):
        kv[b"a"]


def test_a_key_of_a_list_knows_its_expiration_and_metadata(kv):
    kv.put("a", "1", metadata={"plan": "pro"}, expiration=9_999_999_999)
    kv.put("b", "2")
    first, second = kv.keys()
    assert (first, first.name, first.expiration, first.metadata) == (
        "a", "a", 9_999_999_999, {"plan": "pro"}
    )  # fmt: skip
    assert (second, second.expiration, second.metadata) == ("b", None, None)
    assert kv.get(first) == "1"
    assert list(kv.keys("b")) == list(kv.keys(start_after="a")) == ["b"]
    assert list(kv.keys(reverse=True)) == ["b", "a"]
    assert hash(first) == hash("a")
    with pytest.raises(TypeError):
        kv.keys(None)


def test_views(kv):
    kv.update({"a": "1", "b": "2"})
    assert list(kv.items()) == [("a", "1"), ("b", "2")]
    assert list(reversed(kv.items())) == [("b", "2"), ("a", "1")]
    assert list(kv.values()) == ["1", "2"]
    assert list(reversed(kv.values())) == ["2", "1"]
    assert (len(kv.items()), len(kv.values())) == (2, 2)
    assert ("a", "1") in kv.items()
    assert ("a", "2") not in kv.items()
    assert "2" in kv.values()
    assert "3" not in kv.values()
    assert repr(kv.items()) == f"<items of {kv!r}>"


def test_pop_and_popitem(kv):
    kv.update({"a": "1", "b": '{"c": 2}', "c": "3"})
    assert kv.pop("b", type="json") == {"c": 2}
    assert kv.pop("b", None) is None
    assert kv.popitem() == ("a", "1")
    assert kv.popitem() == ("c", "3")
    with pytest.raises(KeyError):
        kv.popitem()


def test_setdefault_and_add(kv):
    assert kv.setdefault("a", "1") == "1"
    assert kv.setdefault("a", "2") == "1"
    assert not kv.add("a", "2")
    assert kv.add("b", {"x": 1}, type="json", metadata=[1], expiration_ttl=600)
    assert kv["b"] == '{"x":1}'
    assert kv.get_with_metadata("b").metadata == [1]
    assert 0 < kv.ttl("b") <= 602


def test_ttl_persist_and_touch(kv):
    kv.put("a", "1", metadata=1)
    assert (kv.ttl("a"), kv.ttl("absent"), kv.persist("a"), kv.persist("absent")) == (
        None, None, 0, 0
    )  # fmt: skip
    kv.touch("a", expiration_ttl=600)
    assert 599 < kv.ttl("a") <= 602
    with pytest.raises(InvalidRequest, match=r"persist\(\)"):
        kv.touch("a")
    version = kv.persist("a")
    found = kv.get_with_metadata("a")
    assert (kv.ttl("a"), found.version, found.metadata, kv["a"]) == (None, version, 1, "1")


def test_a_short_life_has_a_fraction():
    clock = ManualClock(1000.0)
    with kvengine.Database.in_memory(clock=clock) as db, kvengine.Edge(db, name="x") as edge:
        kv = db.namespace("a")
        kv.put("k", "1", expiration_ttl=0.5)
        assert kv.ttl("k") == edge.namespace("a").ttl("k") == 0.5
        clock.advance(0.25)
        assert kv.ttl("k") == 0.25
        clock.advance(0.25)
        assert not kv.exists("k")
        assert kv.ttl("k") is None


def test_increment_only_what_exists(kv):
    with pytest.raises(KeyNotFound):
        kv.increment("n", must_exist=True)
    assert not kv.exists("n")
    assert kv.increment("n", 2) == 2
    assert kv.increment("n", must_exist=True) == 3


def test_many_are_put_only_if_each_has_a_version(kv):
    kv.put_many({"a": "1", "b": "1"}, if_version=0)
    with pytest.raises(VersionConflict) as caught:
        kv.put_many({"c": "2", "a": "2"}, if_version=0)
    assert (caught.value.expected, caught.value.found) == (0, kv.get_metadata("a").version)
    assert dict(kv) == {"a": "1", "b": "1"}
    version = kv.put("a", "3")
    kv.put_many([("a", "4"), ("a", "5")], if_version=version)
    assert dict(kv) == {"a": "5", "b": "1"}
    with pytest.raises(InvalidRequest, match="atomic=True"):
        kv.put_many({"a": "6"}, if_version=0, atomic=False)
    with pytest.raises(InvalidRequest, match="if_version"):
        kv.put_many({"a": "6"}, if_version=-1)


def test_array_buffer_is_another_name_for_bytes(kv):
    kv["a"] = b"\xff"
    assert kv.get("a", "arrayBuffer") == b"\xff"
    assert kv.get_many(["a"], "arrayBuffer") == {"a": b"\xff"}
    assert kv.get_with_metadata("a", "arrayBuffer").value == b"\xff"
    assert kv.get_or_set("b", lambda: b"\xfe", type="arrayBuffer") == b"\xfe"


def test_a_misspelled_argument_is_refused_at_once(kv):
    for call in (kv.put, kv.add):
        with pytest.raises(TypeError, match="unexpected keyword argument 'ttl'"):
            call("k", "v", ttl=5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'lim'"):
        kv.list(lim=5)


def test_clear(kv):
    kv.update({f"{n}": "v" for n in range(30)})
    kv.clear()
    assert (len(kv), list(kv), bool(kv)) == (0, [], False)


def test_who_pops_at_once_gets_a_value_that_nobody_else_gets(kv):
    popped: list[str] = []

    def pop():
        for n in range(60):
            value = kv.pop(f"{n}", None)
            if value is not None:
                popped.append(value)

    kv.update({f"{n}": f"{n}" for n in range(60)})
    threads = [threading.Thread(target=pop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(popped) == sorted(f"{n}" for n in range(60))


def test_pop_looks_again_when_another_writer_was_faster(make, monkeypatch):
    kv = make["here"]()
    kv["a"] = "1"
    delete = type(kv).delete

    def slow(key, *, if_version):
        monkeypatch.undo()
        kv["a"] = "2"
        return delete(kv, key, if_version=if_version)

    monkeypatch.setattr(kv, "delete", slow)
    assert kv.pop("a") == "2"
    with pytest.raises(VersionConflict):
        kv.delete("a", if_version=1)

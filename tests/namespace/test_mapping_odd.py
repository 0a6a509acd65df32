"""A namespace as a mapping: odd arguments, what is counted, and limits."""

import copy
import dataclasses
import io
import pickle

import pytest

import kvengine
from kvengine import RELAXED, InvalidType


@pytest.fixture(params=["here", "edge", "remote"])
def kv(request, make):
    return make[request.param]()


def test_a_key_of_a_list_can_be_copied_and_sent_to_another_process(kv):
    kv.put("a", "1", metadata={"plan": "pro"}, expiration=9_999_999_999)
    (key,) = kv.keys()
    for same in (copy.copy(key), copy.deepcopy(key), pickle.loads(pickle.dumps(key))):
        assert (type(same), same, same.expiration, same.metadata) == (
            type(key), "a", 9_999_999_999, {"plan": "pro"}
        )  # fmt: skip


def test_what_takes_one_key_refuses_a_list(kv):
    kv["a"] = "1"
    for call in (
        lambda: kv[["a"]],
        lambda: kv["a", "b"],
        lambda: kv.pop(["a"]),
        lambda: kv.pop(["a"], None),
        lambda: kv.setdefault(["a"], "2"),
        lambda: kv.ttl(["a"]),
    ):
        with pytest.raises(InvalidType, match=r"a key must be a str, not (list|tuple)"):
            call()


def test_setdefault_gives_what_a_read_gives_later(kv):
    assert kv.setdefault("a", b"\xff") == kv["a"] == "\ufffd"
    assert kv.setdefault("b", io.BytesIO(b"1")) == kv["b"] == "1"


def test_setdefault_stores_a_stream_whole_though_others_were_faster(kv):
    add = kv.add

    def with_others(key, value):
        kv.put(key, "theirs")
        stored = add(key, value)
        kv.delete(key)
        kv.add = add
        return stored

    kv.add = with_others
    assert kv.setdefault("a", io.BytesIO(b"mine")) == kv["a"] == "mine"


def test_how_long_a_key_lives_is_counted_as_a_read_without_a_value():
    with kvengine.Database.in_memory() as db:
        kv = db.namespace("a")
        kv.put("k", bytes(1000), expiration_ttl=600)
        reads = kv._meter.reads
        assert kv.ttl("k") > 0
        assert (kv._meter.reads - reads, kv._meter.bytes_out) == (1, 0)


def test_a_pop_is_counted_as_a_read_and_a_delete():
    with kvengine.Database.in_memory() as db:
        kv = db.namespace("a")
        kv["k"] = "123"
        assert (kv.pop("k"), kv.pop("k", None)) == ("123", None)
        meter = kv._meter
        assert (meter.reads, meter.deletes, meter.bytes_out) == (2, 1, 3)


def test_a_fraction_of_a_life_is_exact_over_the_network(kv):
    kv.put("k", "1", expiration_ttl=30.5)
    assert 0 < kv.ttl("k") <= 30.51


@pytest.mark.parametrize(
    ("limits", "values"),
    [
        (dataclasses.replace(RELAXED, bulk_pairs=7), ["v"] * 30),
        (dataclasses.replace(RELAXED, bulk_bytes=100), ["v" * 30, "ä" * 20, b"v" * 60] * 5),
        (dataclasses.replace(RELAXED, bulk_bytes=100), [memoryview(b"v" * 30)] * 9),
        (dataclasses.replace(RELAXED, bulk_bytes=100), "streams"),
    ],
)
def test_update_keeps_to_the_limits_of_a_call(limits, values):
    if values == "streams":
        values = [io.BytesIO(b"v" * 60) for _ in range(9)]
    with kvengine.Database.in_memory(limits=limits) as db:
        kv = db.namespace("a")
        kv.update((f"{number}", value) for number, value in enumerate(values))
        assert len(kv) == len(values)


def test_update_takes_the_values_of_another_namespace_as_they_are(kv, make):
    other = make["here"]()
    other["a"] = b"\xff\x00"
    kv.update(other, b="1")
    assert (kv.get("a", "bytes"), kv["b"]) == (b"\xff\x00", "1")


def test_popitem_looks_at_a_few_keys_only(kv):
    kv.update({f"{number:03}": "v" for number in range(100)})
    seen = []
    list_page = kv.list

    def seeing(*args, **named):
        page = list_page(*args, **named)
        seen.extend(page.keys)
        return page

    kv.list = seeing
    assert kv.popitem() == ("000", "v")
    assert 1 <= len(seen) <= 10


def test_popitem_goes_on_behind_keys_that_others_took(monkeypatch):
    limits = dataclasses.replace(RELAXED, list_keys=2)
    with kvengine.Database.in_memory(limits=limits) as db:
        kv = db.namespace("a")
        kv.update(dict.fromkeys("abcde", "v"))
        pop = kv.pop
        monkeypatch.setattr(
            kv, "pop", lambda key, default: default if key < "d" else pop(key, default)
        )
        assert (kv.popitem(), kv.popitem()) == (("d", "v"), ("e", "v"))
        with pytest.raises(KeyError, match="empty"):
            kv.popitem()


def test_what_is_made_while_its_key_is_popped_is_not_stored(kv):
    def make():
        assert kv.pop("k", None) is None
        return "out of date"

    assert kv.get_or_set("k", make) == "out of date"
    assert not kv.exists("k")

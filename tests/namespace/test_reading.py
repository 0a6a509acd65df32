"""Reads of a namespace: types, what is counted, what may wait for the disk.

Reads while something else happens are in test_reading_while.py, streams in test_streams.py.
"""

import enum
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvengine import CorruptData, Database, InvalidRequest, Limits, StoreClosed, open  # noqa: A004
from kvengine.namespace.namespace import Namespace
from kvengine.namespace.reading import WOULD_BLOCK, Meter, NamespaceReader
from tests.engine.test_reading import is_cold

SIZES = [0, 1, 100, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20]


def value_of(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


# -- types


@pytest.mark.parametrize("size", SIZES)
def test_a_value_of_any_size_as_any_type(kv, size):
    data = value_of(size)
    kv.put("key", data, metadata=[size], expiration_ttl=10)
    text = data.decode(errors="replace")
    for key, wanted in (("text", text), ("bytes", data)):
        assert kv.get("key", key) == wanted
        assert kv.get(["key"], key) == {"key": wanted}
        assert kv.get_many(["key"], key) == {"key": wanted}
        assert kv.get_with_metadata("key", key)[:3] == (wanted, [size], None)
        assert kv.get_with_metadata(["key"], key)["key"][:3] == (wanted, [size], None)
    assert kv.get("key", "stream").read() == data
    assert kv.get(["key"], "stream")["key"].read() == data
    assert kv.get_with_metadata("key", "stream").value.read() == data
    assert kv.get_metadata("key").size == size
    kv.put("json", [text], type="json")
    assert kv.get("json", "json") == kv.get(["json"], "json")["json"] == [text]
    assert kv.get_with_metadata(["json"], "json")["json"].value == [text]


def test_what_is_no_utf8_is_replaced():
    with Database.in_memory() as db:
        kv = db.namespace("ns")

        @given(data=st.binary(max_size=40) | st.text().map(lambda text: text.encode("utf-16")))
        def check(data):
            for key, value in (("small", data), ("large", data * 500)):
                kv.put(key, value)
                assert kv.get(key) == kv.get([key])[key] == value.decode(errors="replace")

        check()


def test_an_absent_key(kv):
    for kind in ("text", "json", "bytes", "stream"):
        assert kv.get("no", kind) is None
        assert kv.get_with_metadata("no", kind) == (None, None, None, 0)
        assert kv.get(["no"], kind) == kv.get_with_metadata(["no"], kind) == {"no": None}
    assert kv.get_metadata("no") is None
    assert "no" not in kv


def test_many_keys_may_come_as_anything_that_can_be_gone_through(kv):
    kv.put("a", "1")
    kv.put("b", "2")
    wanted = {"a": "1", "no": None, "b": "2"}
    for keys in (["a", "no", "b"], ("a", "no", "b"), dict.fromkeys(["a", "no", "b"])):
        assert kv.get(keys) == kv.get_many(keys) == wanted
        assert list(kv.get(keys)) == ["a", "no", "b"]
    assert kv.get(name for name in "ab") == {"a": "1", "b": "2"}
    assert kv.get({"a", "b"}) == {"a": "1", "b": "2"}
    assert kv.get(["a", "a", "a"]) == {"a": "1"}
    assert kv.get([]) == kv.get(iter(())) == kv.get_with_metadata([]) == {}
    many = [f"key{number}" for number in range(1000)]
    assert kv.get(many) == dict.fromkeys(many)


def test_a_key_may_be_of_a_class_that_is_a_str(kv):
    class Name(str):
        __slots__ = ()

    class Setting(enum.StrEnum):
        COLOR = "color"

    for key in (Name("color"), Setting.COLOR):
        kv.put(key, "red", metadata=1)
        assert kv.get(key) == kv.get(["color"])["color"] == kv.get([key])[key] == "red"
        assert kv.get_metadata(key).name == "color"
        assert kv._try_get(key) == "red"
        assert key in kv
        assert kv.increment(Name("n")) > 0
        assert kv.touch(key, expiration_ttl=60)
        assert kv.delete(key)


def test_json_is_read_anew_each_time(kv):
    kv.put("key", {"a": []}, type="json", metadata=[])
    kv.get("key", "json")["a"].append(1)
    kv.get_with_metadata("key").metadata.append(1)
    assert (kv.get("key", "json"), kv.get_metadata("key").metadata) == ({"a": []}, [])


# -- what is counted


def test_reads_are_counted_found_or_not(kv):
    kv.put("key", "12345", metadata=1)
    meter = kv._meter

    def counted(call):
        before = meter.reads, meter.bytes_out
        call()
        return meter.reads - before[0], meter.bytes_out - before[1]

    assert counted(lambda: kv.get("key")) == (1, 5)
    assert counted(lambda: kv.get("no")) == (1, 0)
    assert counted(lambda: kv.get("key", "stream")) == (1, 5)
    assert counted(lambda: kv.get(["key", "no", "key"])) == (3, 10)
    assert counted(lambda: kv.get(["key", "no"], "stream")) == (2, 5)
    assert counted(lambda: kv.get_with_metadata("key")) == (1, 5)
    assert counted(lambda: kv.get_with_metadata(["key", "no"])) == (2, 5)
    assert counted(lambda: kv.get_metadata("key")) == (1, 0)
    assert counted(lambda: "key" in kv) == (1, 0)
    assert counted(lambda: kv._try_get("key")) == (1, 5)
    assert counted(lambda: kv._try_get("key", "stream")) == (0, 0)  # comes again as get()
    for call in (lambda: kv.get(""), lambda: kv.get(["key", ""]), lambda: kv.get("key", "xml")):
        with pytest.raises(InvalidRequest):
            call()
    assert (meter.writes, meter.deletes, meter.lists, meter.bytes_in) == (1, 0, 0, 5)


def test_changes_and_lists_are_counted(db, kv, clock):
    meter = kv._meter
    kv.put("key", "123", metadata="not counted")
    kv.put("other", io.BytesIO(b"12345"), expiration_ttl=5)
    kv.touch("key", expiration_ttl=100)
    assert (meter.writes, meter.bytes_in) == (3, 8)
    kv.delete("key")
    kv.delete("no")
    assert meter.deletes == 2
    clock.advance(5)
    db.store.compact()  # expiry costs nothing
    assert meter.deletes == 2
    assert kv.increment("n", 41) == 41
    assert (meter.reads, meter.writes, meter.bytes_in) == (1, 4, 10)
    kv.list()
    kv.list("n")
    kv.count("n")
    list(kv.keys("n"))
    assert meter.lists == 4
    assert db.namespace("tests")._meter is meter
    assert db.namespace("other")._meter is not meter


# -- what may wait


def test_resident_reads_of_what_is_in_memory(kv):
    kv.put("small", "value")
    kv.put("large", value_of(65535))
    kv.put("too large", value_of(65536))
    assert kv._try_get("small") == "value"
    assert kv._try_get("small", "bytes") == b"value"
    assert kv._try_get("large", "bytes") == value_of(65535)
    assert kv._try_get("no") is None
    assert kv._try_get("too large") is WOULD_BLOCK
    assert kv._try_get("small", "stream") is WOULD_BLOCK
    assert kv._try_get("no", "stream") is WOULD_BLOCK
    assert repr(WOULD_BLOCK) == "<would block>"


@pytest.fixture
def cold(tmp_path_factory):
    """A namespace whose values are on disk and not in memory, but for those in the first MiB."""
    tmp_path = tmp_path_factory.mktemp("cold")  # on the disk
    if not is_cold(tmp_path):
        pytest.skip(f"{tmp_path} is in memory: no read waits for a disk")
    with open(tmp_path, durability="os", compaction="manual") as db:
        kv = db.namespace("ns")
        for number in range(200):
            kv.put(f"{number:04d}", bytes(8000))
        db.store.compact()
    del db, kv  # with them go the mappings, which hold pages in memory
    with open(tmp_path, read_only=True) as db:
        kv = db.namespace("ns")
        kv.get("0000")  # looks at the catalog
        for log in tmp_path.glob("*.log"):
            descriptor = os.open(log, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        yield kv


def test_a_read_from_disk_would_block_until_it_was_done(cold):
    assert cold._try_get("no") is None
    assert cold._try_get("0190") is WOULD_BLOCK
    reads = cold._meter.reads
    for number in range(200):
        assert len(cold.get(f"{number:04d}", "bytes")) == 8000
    assert cold._meter.reads == reads + 200
    cold.get("0190")  # all around it is in memory: from now on this is known
    assert len(cold._try_get("0190")) == 8000


def test_a_reader_that_has_to_catch_up_would_block(tmp_path):
    with (
        open(tmp_path, durability="os") as writer,
        open(tmp_path, read_only=True) as reader,
    ):
        writer.namespace("ns").put("key", "value")
        writer.namespace("other").put("key", "value")
        kv, other = reader.namespace("ns"), reader.namespace("other")
        assert kv._try_get("key") is WOULD_BLOCK  # it has not looked at the catalog yet
        assert kv.get("key") == kv._try_get("key") == "value"
        writer.namespace("ns").put("key", "new")
        assert kv._try_get("key") is WOULD_BLOCK
        other.get("key")  # takes in what is new, but the catalog is still to be looked at
        assert kv._try_get("key") is WOULD_BLOCK
        assert kv.get("key") == kv._try_get("key") == "new"


# -- when it can't be


def test_a_damaged_record_says_so_as_any_type(tmp_path):
    with open(tmp_path, durability="os") as db:
        for key, size in (("small", 100), ("large", 5000)):
            db.namespace("ns").put(key, b"\xaa" * size)
    (log,) = tmp_path.glob("*.log")
    data = log.read_bytes()
    for size in (100, 5000):
        data = data.replace(b"\xaa" * size, b"\xaa" * (size - 1) + b"\xab")
    with open(tmp_path, durability="os") as db:
        kv = db.namespace("ns")
        log.write_bytes(data)
        for key in ("small", "large"):
            for kind in ("text", "bytes", "json", "stream"):
                for get in (kv.get, kv.get_with_metadata, lambda key, kind: kv.get([key], kind)):
                    with pytest.raises(CorruptData, match="checksum"):
                        get(key, kind)


def test_after_close_every_call_says_so(kv, db):
    kv.put("key", "value")
    keys = kv.keys()
    db.close()
    for call in (
        lambda: kv.get("key"),
        lambda: kv.get(["key"]),
        lambda: kv.get([]),
        lambda: kv._try_get("key"),
        lambda: kv.get_with_metadata("key"),
        lambda: kv.get_with_metadata(["key"]),
        lambda: kv.get_metadata("key"),
        lambda: "key" in kv,
        lambda: kv.put("key", "value"),
        lambda: kv.delete("key"),
        lambda: kv.touch("key", expiration_ttl=60),
        lambda: kv.increment("key"),
        kv.list,
        kv.keys,
        lambda: next(keys),
        lambda: kv.count("k"),
        lambda: kv.title,
    ):
        with pytest.raises(StoreClosed, match="the store is closed"):
            call()
    assert kv._meter.writes == 1


def test_a_reader_is_made_of_what_it_needs(db):
    for arguments in (
        (None, b"d0000", Limits(), Meter()),
        (db.store, None, Limits(), Meter()),
        (db.store, b"d0000", Limits(), None),
    ):
        with pytest.raises(TypeError):
            NamespaceReader(*arguments)
    with pytest.raises(ValueError, match="a prefix has 5 bytes"):
        Namespace(db.store, b"d000", Limits(), Meter(), id="0" * 32)

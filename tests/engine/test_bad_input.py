"""What is refused, with which error, saying what was wrong; and that nothing else happens then."""

import os
import struct

import pytest

from kvengine import (
    InvalidRequest,
    InvalidType,
    KvError,
    Store,
    VersionConflict,
)
from kvengine.testing.check import check_store
from kvengine.testing.clock import START, ManualClock

MIB = 1 << 20


def released():
    view = memoryview(bytearray(b"abc"))
    view.release()
    return view


@pytest.fixture
def store():
    with Store.in_memory(clock=ManualClock()) as opened:
        opened[b"there"] = b"before"
        yield opened
        assert opened[b"there"] == b"before"
        assert opened.version == 1
        check_store(opened)


NOT_BYTES = [
    ("text", InvalidType, "bytes, not str; encode it first"),
    (5, InvalidType, "not int"),
    (1.5, InvalidType, "not float"),
    (None, InvalidType, "not NoneType"),
    ([b"a"], InvalidType, "not list"),
    (memoryview(b"abcdef")[::2], InvalidType, "contiguous buffer, not memoryview"),
    (released(), InvalidType, "not memoryview: operation forbidden on released"),
]
BAD_KEYS = [
    *NOT_BYTES,
    (b"", InvalidRequest, "a key must have 1 to 1024 bytes, not 0"),
    (b"x" * 1025, InvalidRequest, "a key must have 1 to 1024 bytes, not 1025"),
    (bytearray(1025), InvalidRequest, "not 1025"),
    (bytes(65536 + 1), InvalidRequest, "not 65537"),
]


@pytest.mark.parametrize(("key", "error", "message"), BAD_KEYS)
@pytest.mark.parametrize(
    "call",
    [
        lambda store, key: store.put(key, b""),
        lambda store, key: store.delete(key),
        lambda store, key: store.get(key),
        lambda store, key: store.get_entry(key),
        lambda store, key: store.get_view(key),
        lambda store, key: store.get_many([b"there", key]),
        lambda store, key: store[key],
        lambda store, key: store.__setitem__(key, b""),
        lambda store, key: store.__delitem__(key),
        lambda store, key: key in store,
        lambda store, key: store.pop(key),
        lambda store, key: store.update([(b"there", b"after"), (key, b"")]),
        lambda store, key: store.batch().put(key, b""),
        lambda store, key: store.batch().delete(key),
    ],
    ids=[
        "put",
        "delete",
        "get",
        "get_entry",
        "get_view",
        "get_many",
        "getitem",
        "setitem",
        "delitem",
        "contains",
        "pop",
        "update",
        "batch.put",
        "batch.delete",
    ],
)
def test_keys(store, call, key, error, message):
    with pytest.raises(error, match="a key") as caught:
        call(store, key)
    assert message in str(caught.value)


@pytest.mark.parametrize("what", ["value", "metadata"])
@pytest.mark.parametrize(("data", "error", "message"), NOT_BYTES)
def test_values_and_metadata(store, what, data, error, message):
    options = {"value": b"", "metadata": b"", what: data}
    for target in (store, store.batch()):
        with pytest.raises(error, match=what) as caught:
            target.put(b"there", **options)
        assert message in str(caught.value)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_sizes_of_metadata(store, kind):
    for target in (store, store.batch()):
        with pytest.raises(InvalidRequest, match=r"metadata can have at most 1024 bytes, not 1025"):
            target.put(b"there", b"", metadata=kind(1025))
        with pytest.raises(
            InvalidRequest, match=r"metadata can have at most 1024 bytes, not 65537"
        ):
            target.put(b"there", b"", metadata=kind(65537))
    with Store.in_memory() as other:
        other.put(b"a", b"", metadata=kind(b"m" * 1024))
        assert other.get_entry(b"a").metadata == b"m" * 1024


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_sizes_of_values(store, kind):
    too_large = kind(64 * MIB + 1)
    for target in (store, store.batch()):
        with pytest.raises(
            InvalidRequest, match=r"a value can have at most 67108864 bytes.* 67108865"
        ):
            target.put(b"there", too_large)


def test_the_largest_key_value_and_metadata(tmp_path):
    value = os.urandom(MIB) * 64
    with Store(tmp_path / "s", durability="os") as store:
        store.put(b"k" * 1024, value, metadata=b"m" * 1024)
        assert store.get_view(b"k" * 1024) == value
    with Store(tmp_path / "s", durability="os", rebuild=True) as store:
        entry = store.get_entry(b"k" * 1024)
        assert (entry.value == value, entry.metadata) == (True, b"m" * 1024)
        assert store.compact() == 0
        assert store[b"k" * 1024] == value


def test_a_batch_that_would_be_too_large():
    value = bytes(64 * MIB)
    with Store.in_memory() as store:
        batch = store.batch()
        batch.put(b"a", value)
        with pytest.raises(InvalidRequest, match="a batch can have at most 134217728 bytes"):
            batch.put(b"b", value)
        assert len(batch) == 1  # it can still be committed
        assert list(store) == []


@pytest.mark.parametrize(
    ("moment", "error", "message"),
    [
        (float("nan"), InvalidRequest, "a moment in the future, not nan"),
        (float("inf"), InvalidRequest, "a moment in the future, not inf"),
        (float("-inf"), InvalidRequest, "a moment in the future, not -inf"),
        (START, InvalidRequest, "a moment in the future, not 1700000000"),
        (START - 1, InvalidRequest, "in the future"),
        (0, InvalidRequest, "a moment in the future, not 0"),
        (-1, InvalidRequest, "in the future"),
        (10**400, InvalidRequest, "too far in the future"),
        (True, InvalidType, "seconds since the epoch, not bool"),
        ("2030-01-01", InvalidType, "seconds since the epoch, not str"),
        (b"1", InvalidType, "not bytes"),
    ],
)
def test_expiry(store, moment, error, message):
    for target in (store, store.batch()):
        with pytest.raises(error, match="expires_at") as caught:
            target.put(b"there", b"after", expires_at=moment)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("version", "error", "message"),
    [
        (-1, InvalidRequest, "if_version must be a version or 0, not -1"),
        (1 << 48, InvalidRequest, "if_version must be a version or 0"),
        (1 << 100, InvalidRequest, "if_version must be a version or 0"),
        (True, InvalidType, "if_version must be an int, not bool"),
        ("1", InvalidType, "if_version must be an int, not str"),
        (1.0, InvalidType, "if_version must be an int, not float"),
        (2, VersionConflict, "expected version 2, found 1"),
        (0, VersionConflict, "expected version 0, found 1"),
    ],
)
def test_if_version(store, version, error, message):
    with pytest.raises(error, match=message):
        store.put(b"there", b"after", if_version=version)
    with pytest.raises(error, match=message):
        store.delete(b"there", if_version=version)


def test_a_conflict_says_what_was_found(store):
    with pytest.raises(VersionConflict, match="found 0") as caught:
        store.put(b"absent", b"", if_version=9)
    assert (caught.value.expected, caught.value.found) == (9, 0)


@pytest.mark.parametrize("level", ["fast", "", 1, None, b"sync", ["sync"]])
def test_durability(store, tmp_path, level):
    with pytest.raises(InvalidRequest, match="durability must be one of"):
        Store(tmp_path / "new", durability=level)
    assert not (tmp_path / "new").exists()
    if level is None:
        return  # in a call: as the store
    with pytest.raises(InvalidRequest, match="durability must be one of sync"):
        store.put(b"there", b"", durability=level)
    with pytest.raises(InvalidRequest, match="durability must be one of sync"):
        store.delete(b"there", durability=level)
    with (
        pytest.raises(InvalidRequest, match="durability must be one of sync"),
        store.batch(durability=level) as batch,
    ):
        batch.put(b"there", b"")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"read_only": True, "exclusive": True}, "exclude each other: only a store that is open"),
        ({"segment_bytes": 4095}, "segment_bytes must be between 4096 and .*, not 4095"),
        ({"segment_bytes": True}, "segment_bytes must be between .*, not True"),
        ({"segment_bytes": "4096"}, "segment_bytes must be between .*, not '4096'"),
        ({"space_target": 1.0}, "space_target must be between"),
        ({"space_target": float("nan")}, "space_target must be between"),
        ({"sync_interval_s": 0}, "sync_interval_s must be between"),
        ({"compaction": "never"}, "compaction must be one of auto, manual"),
        ({"verify": True}, "verify must be one of"),
        ({"key_buffer_entries": 0}, "key_buffer_entries must be between"),
        ({"checkpoint_records": -1}, "checkpoint_records must be between"),
    ],
)
def test_options(tmp_path, options, message):
    with pytest.raises(InvalidRequest, match=message):
        Store(tmp_path / "new", **options)
    with pytest.raises(InvalidRequest, match=message):
        Store.in_memory(**options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"limit": -1}, InvalidRequest, "limit must be 0 or more, not -1"),
        ({"limit": True}, InvalidType, "limit must be an int or None, not bool"),
        ({"limit": 1.0}, InvalidType, "limit must be an int or None, not float"),
        ({"start_after": "a"}, InvalidType, "start_after must be bytes, not str"),
        ({"start_after": 0}, InvalidType, "start_after must be bytes, not int"),
        ({"prefix": "a"}, InvalidType, "prefix must be bytes, not str"),
        ({"prefix": None}, InvalidType, "prefix must be bytes, not NoneType"),
        ({"start_after": memoryview(b"abcd")[::2]}, None, ""),
    ],
)
def test_scans_refuse_at_once(store, arguments, error, message):
    for scan in (store.scan, store.keys):
        if error is None:
            assert len(list(scan(**arguments))) == 1
            continue
        with pytest.raises(error, match=message):
            scan(**arguments)


@pytest.mark.parametrize("after", [-1, True, "1", 1.0, None])
def test_tail(store, after):
    with pytest.raises(InvalidRequest, match="after must be a version"):
        store.tail(after)


@pytest.mark.parametrize("timeout", [-1, True, "1", float("nan")])
def test_timeouts(store, timeout):
    with pytest.raises(InvalidRequest, match="timeout must be a number of seconds"):
        store.tail(follow=True, timeout=timeout)
    with pytest.raises(InvalidRequest, match="timeout must be a number of seconds"):
        store.wait(0, timeout)


@pytest.mark.parametrize("call", ["tail", "history"])
def test_prefixes_and_keys_of_a_tail(store, call):
    with pytest.raises(InvalidType, match="must be bytes, not str"):
        store.tail(prefix="a") if call == "tail" else store.history("a")


# -- batches and iteration


def test_a_batch_with_an_exception_writes_nothing(store):
    with pytest.raises(ZeroDivisionError), store.batch() as batch:
        batch.put(b"there", b"after")
        batch.delete(b"there")
        raise ZeroDivisionError
    assert batch.version is None
    assert batch.commit() == 1  # nothing is left in it


def test_a_batch_with_a_bad_change_writes_nothing(store):
    with pytest.raises(InvalidType, match="a value must be bytes, not str"), store.batch() as batch:
        batch.put(b"there", b"after")
        batch.put(b"more", "text")


def test_writes_while_iterating_are_seen_or_not_but_never_harm():
    with Store.in_memory(key_buffer_entries=16, segment_bytes=4096) as store:
        store.update({b"%04d" % n: b"" for n in range(0, 1000, 2)})
        seen = []
        for key in store:
            seen.append(key)
            number = int(key)
            if number % 2 == 0:
                store[b"%04d" % (number + 1)] = b""  # ahead
                del store[key]  # here
                store[b"%04d" % max(number - 9, 0)] = b""  # behind
        assert seen == sorted(set(seen))
        assert set(seen) >= {b"%04d" % n for n in range(0, 1000, 2)}
        check_store(store)


# -- buffers


def mapped_file(path, data):
    import mmap

    path.write_bytes(data)
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Text(bytes):
    """Not bytes itself."""


@pytest.mark.parametrize(
    "kind",
    ["bytes", "bytearray", "memoryview", "array", "mmap", "subclass", "ctypes", "cast", "slice"],
)
def test_buffers_that_are_accepted(tmp_path, kind):
    import ctypes
    from array import array

    data = struct.pack("<4i", 1, 2, 3, 4)
    value = {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "array": lambda: array("i", [1, 2, 3, 4]),
        "mmap": lambda: mapped_file(tmp_path / "data", data),
        "subclass": lambda: Text(data),
        "ctypes": lambda: (ctypes.c_int * 4)(1, 2, 3, 4),
        "cast": lambda: memoryview(data).cast("i", (2, 2)),
        "slice": lambda: memoryview(b"xx" + data + b"xx")[2:-2],
    }[kind]()
    with Store.in_memory() as store:
        store.put(value, value, metadata=value)
        with store.batch() as batch:
            batch.put(b"batch", value, metadata=value)
        entry = store.get_entry(value)
        assert (entry.key, entry.value, entry.metadata) == (data, data, data)
        assert store.get_entry(b"batch")[1:3] == (data, data)
        assert [type(part) for part in entry[:3]] == [bytes] * 3
        assert store.get(value) == store[value] == store.get_many([value])[0] == data
        assert value in store
        assert [type(key) for key in store] == [bytes, bytes]
        store.delete(value)
        assert value not in store
    if kind == "mmap":
        value.close()  # fails if the store had kept it


def test_a_buffer_may_change_after_the_call():
    data = bytearray(b"before")
    with Store.in_memory() as store:
        store.put(data, data, metadata=data)
        with store.batch() as batch:
            batch.put(b"batch", data, metadata=data)
            data[:] = b"after!"
        assert store.get_entry(b"before")[:3] == (b"before",) * 3
        assert store.get_entry(b"batch")[1:3] == (b"before", b"before")
        data.clear()  # fails if the store had kept a view


def test_every_error_is_of_one_tree(store):
    for call in (lambda: store["a"], lambda: store.put(b"", b""), lambda: store[b"absent"]):
        with pytest.raises(KvError):
            call()
    for error in (TypeError, ValueError):
        with pytest.raises(error):
            store["text"]

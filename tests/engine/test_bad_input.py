"""What is refused, with which error, saying what was wrong; and that nothing else happens then."""

import os
import struct
from pathlib import Path

import pytest

from kvengine import (
    InvalidRequest,
    InvalidType,
    KvError,
    NotAStore,
    StorageError,
    Store,
    StoreClosed,
    StoreReadOnly,
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
    (b"", InvalidRequest, "a key has 1 to 1024 bytes, this one has 0"),
    (b"x" * 1025, InvalidRequest, "a key has 1 to 1024 bytes, this one has 1025"),
    (bytearray(1025), InvalidRequest, "this one has 1025"),
    (bytes(65536 + 1), InvalidRequest, "this one has 65537"),
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
    ids=(
        "put delete get get_entry get_view get_many getitem setitem delitem contains pop update "
        "batch.put batch.delete"
    ).split(),
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
        with pytest.raises(InvalidRequest, match=r"metadata has at most 1024 bytes, this.* 1025"):
            target.put(b"there", b"", metadata=kind(1025))
        with pytest.raises(InvalidRequest, match=r"metadata has at most 1024 bytes, this.* 65537"):
            target.put(b"there", b"", metadata=kind(65537))
    with Store.in_memory() as other:
        other.put(b"a", b"", metadata=kind(b"m" * 1024))
        assert other.get_entry(b"a").metadata == b"m" * 1024


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_sizes_of_values(store, kind):
    too_large = kind(64 * MIB + 1)
    for target in (store, store.batch()):
        with pytest.raises(InvalidRequest, match=r"a value has at most 67108864 bytes.* 67108865"):
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
        with pytest.raises(InvalidRequest, match="a batch has at most 134217728 bytes"):
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
    with pytest.raises(InvalidRequest, match="durability must be one of sync"), store.batch(
        durability=level
    ) as batch:
        batch.put(b"there", b"")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": "red"}, "unknown option.*colour"),
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
    with pytest.raises(InvalidRequest, match="after must be a version, not"):
        store.tail(after)


def test_tail_does_not_follow_yet(store):
    with pytest.raises(InvalidRequest, match="follow"):
        store.tail(follow=True)


# -- paths


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", InvalidRequest, "the path of a store can't be ''"),
        (b"", InvalidRequest, "the path of a store"),
        ("a\0b", InvalidRequest, r"the path of a store can't be 'a\\x00b'"),
        (5, InvalidType, "the path of a store: .*int"),
        (None, InvalidType, "the path of a store: .*NoneType"),
        (["a"], InvalidType, "the path of a store: .*list"),
    ],
)
def test_paths(path, error, message):
    for read_only in (False, True):
        with pytest.raises(error, match=message):
            Store(path, read_only=read_only)


def test_paths_as_text_bytes_and_objects(tmp_path):
    for path in (str(tmp_path / "a"), os.fsencode(tmp_path / "b"), tmp_path / "c"):
        with Store(path, durability="os") as store:
            store[b"a"] = b"1"
            assert store.path == os.fsdecode(path)
        assert Path(os.fsdecode(path)).is_dir()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_is_no_store_and_stays(tmp_path, read_only):
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    with pytest.raises(NotAStore, match=r"file.*folder"):
        Store(path, read_only=read_only)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_folder_with_other_files_is_left_alone(tmp_path, read_only):
    (tmp_path / "notes.txt").write_text("precious")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotAStore, match="is not a kvengine store"):
        Store(tmp_path, read_only=read_only)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize("options", [{"read_only": True}, {"create": False}])
def test_nothing_is_made_where_nothing_may_be_made(tmp_path, options):
    with pytest.raises(NotAStore, match="not a kvengine store|does not exist"):
        Store(tmp_path / "new", **options)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotAStore, match="is not a kvengine store"):
        Store(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_loop_of_links(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(StorageError, match=r"[Tt]oo many levels of symbolic links"):
        Store(tmp_path / "a")


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(StorageError, match=r"[Ff]ile name too long"):
        Store(tmp_path / ("x" * 300))


def test_a_backup_needs_a_new_folder(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    with Store.in_memory() as store:
        store[b"a"] = b"1"
        with pytest.raises(InvalidRequest, match="is not empty"):
            store.backup(tmp_path / "full")
        with pytest.raises(NotAStore, match="file"):
            store.backup(tmp_path / "file")
        with pytest.raises(InvalidType, match="the path of a store"):
            store.backup(5)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    assert (tmp_path / "file").read_text() == "precious"


# -- after close()

CALLS = {
    "get": lambda s: s.get(b"a"),
    "getitem": lambda s: s[b"a"],
    "get_many": lambda s: s.get_many([b"a"]),
    "get_many of none": lambda s: s.get_many([]),
    "get_entry": lambda s: s.get_entry(b"a"),
    "get_view": lambda s: s.get_view(b"a"),
    "contains": lambda s: b"a" in s,
    "put": lambda s: s.put(b"a", b"2"),
    "delete": lambda s: s.delete(b"a"),
    "setitem": lambda s: s.__setitem__(b"a", b"2"),
    "delitem": lambda s: s.__delitem__(b"a"),
    "batch": lambda s: s.batch(),
    "scan": lambda s: s.scan(),
    "keys": lambda s: s.keys(),
    "iter": iter,
    "len": len,
    "bool": bool,
    "items": lambda s: list(s.items()),
    "values": lambda s: list(s.values()),
    "pop": lambda s: s.pop(b"a"),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault(b"a", b""),
    "update": lambda s: s.update({b"a": b""}),
    "clear": lambda s: s.clear(),
    "sync": lambda s: s.sync(),
    "compact": lambda s: s.compact(),
    "checkpoint": lambda s: s.checkpoint(),
    "verify": lambda s: s.verify(),
    "backup": lambda s: s.backup("never-made"),
    "stats": lambda s: s.stats(),
    "tail": lambda s: s.tail(),
    "version": lambda s: s.version,
}


@pytest.fixture(params=["memory", "disk", "read-only"])
def closed(request, tmp_path):
    if request.param == "memory":
        opened = Store.in_memory()
        opened[b"a"] = b"1"
    else:
        with Store(tmp_path, durability="os") as writer:
            writer[b"a"] = b"1"
        opened = Store(tmp_path, durability="os", read_only=request.param == "read-only")
    batch, keys, scan, tail = opened.batch(), opened.keys(), opened.scan(), opened.tail()
    batch.put(b"a", b"2")
    opened.close()
    opened.left_open = (batch, keys, scan, tail)
    return opened


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_store_says_so(closed, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreClosed, match="the store is closed"):
        CALLS[name](closed)
    assert not Path("never-made").exists()


def test_what_was_begun_before_close_says_so_too(closed):
    batch, keys, scan, tail = closed.left_open
    for call in (batch.commit, lambda: next(keys), lambda: next(scan), lambda: len(keys)):
        with pytest.raises(StoreClosed, match="the store is closed"):
            call()
    assert [change.key for change in tail] in ([], [b"a"])  # it holds what it needs


def test_closing_twice_is_no_error(closed):
    assert closed.closed
    closed.close()
    closed.close()
    assert "closed" in repr(closed)
    assert isinstance(closed.path, str)


def test_every_public_name_of_a_store_is_tried_closed():
    tried = {name.split()[0] for name in CALLS} | {"close", "closed", "path"}
    parts = {"in_memory", "in_directory"}  # they make stores
    names = {name for name in vars(Store) if not name.startswith("_")}
    inner = {"take_id", "swap_rows", "replace_manifest", "consistent_rows", "release_files",
             "end_active_segment", "has_open_segment", "flush_keys", "write_key_run",
             "merge_keys", "reload", "expired_bytes"}
    assert names - tried - parts - inner == set()


@pytest.mark.parametrize("name", ["put", "delete", "setitem", "delitem", "update", "clear", "pop",
                                  "compact", "checkpoint"])
def test_a_reader_does_not_write(tmp_path, name):
    with Store(tmp_path, durability="os") as writer:
        writer[b"a"] = b"1"
    with Store(tmp_path, read_only=True) as reader:
        with pytest.raises(StoreReadOnly, match="read_only=True"):
            CALLS[name](reader)
        assert reader[b"a"] == b"1"


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


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "array", "mmap", "subclass",
                                  "ctypes", "cast", "slice"])
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

"""A store that is closed, or open for reading only, says so whatever is asked of it."""

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from kvengine import Store, StoreClosed, StoreReadOnly

LEFT_OPEN: list = []  # what was begun before `closed` was closed
CALLS: dict[str, Callable[[Store], object]] = {
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
    "tail_from": lambda s: s._parts.tail_from(0, b""),
    "follow": lambda s: s._parts.follow(0),
    "history": lambda s: s.history(b"a"),
    "consumer": lambda s: s.consumer("a"),
    "consumers": lambda s: s.consumers(),
    "wait": lambda s: s.wait(0),
    "snapshot": lambda s: s.snapshot(),
    "group_size": lambda s: s.group_size(b"d"),
    "digest": lambda s: s.digest(),
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
    LEFT_OPEN[:] = (batch, keys, scan, tail)
    return opened


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_store_says_so(closed, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreClosed, match="the store is closed"):
        CALLS[name](closed)
    assert not Path("never-made").exists()


def test_what_was_begun_before_close_says_so_too(closed):
    batch, keys, scan, tail = LEFT_OPEN
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
    names = {name for name in vars(Store) if not name.startswith("_")}
    inner = {
        "take_id",
        "swap_rows",
        "replace_manifest",
        "consistent_rows",
        "release_files",
        "end_active_segment",
        "has_open_segment",
        "flush_keys",
        "write_key_run",
        "merge_keys",
        "reload",
        "expired_bytes",
    }
    assert names - tried - inner == set()


@pytest.mark.parametrize(
    "name",
    ["put", "delete", "setitem", "delitem", "update", "clear", "pop", "compact", "checkpoint"],
)
def test_a_reader_does_not_write(tmp_path, name):
    with Store(tmp_path, durability="os") as writer:
        writer[b"a"] = b"1"
    with Store(tmp_path, read_only=True) as reader:
        with pytest.raises(StoreReadOnly, match="read_only=True"):
            CALLS[name](reader)
        assert reader[b"a"] == b"1"


def frames(call):
    """Return how many frames the error of a call refers to."""
    try:
        call()
    except (StoreClosed, StoreReadOnly) as error:
        return sum(1 for _ in traceback.walk_tb(error.__traceback__))
    raise AssertionError("no error")


@pytest.mark.parametrize("name", ["get", "put", "compact"])
def test_an_error_does_not_keep_the_frames_of_all_who_got_it(closed, tmp_path, name):
    with Store(tmp_path / "other", durability="os"):
        reader = Store(tmp_path / "other", read_only=True)
    for store in [closed] if name == "get" else [closed, reader]:
        counts = {frames(lambda opened=store: CALLS[name](opened)) for _ in range(10)}
        assert len(counts) == 1
    reader.close()

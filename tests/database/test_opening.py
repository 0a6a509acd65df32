"""What may be opened as a database, what is refused, and that neither changes what is there."""

import json

import pytest

import kvengine
from kvengine import (
    CorruptData,
    InvalidRequest,
    InvalidType,
    NotAStore,
    Store,
    StoreLocked,
)
from kvengine.namespace.layout import CATALOG, catalog_key

QUICK = {"durability": "os", "compaction": "manual"}


def test_a_plain_store_is_refused_and_left_alone(tmp_path):
    with Store(tmp_path, **QUICK) as store:
        store[b"key"] = b"value"
    for options in ({}, {"read_only": True}):
        with pytest.raises(NotAStore, match="is a plain store, without namespaces"):
            kvengine.open(tmp_path, **options)
    with Store(tmp_path, **QUICK) as store:  # it was closed, not left locked
        assert dict(store) == {b"key": b"value"}
        assert store.version == 1
        del store[b"key"]
    with kvengine.open(tmp_path, **QUICK) as db:  # nothing is in it: it becomes a database
        db.namespace("ns")


def test_a_database_is_a_store_and_back(tmp_path):
    with kvengine.open(tmp_path, **QUICK) as db:
        db.namespace("ns").put("key", "value")
        prefix = db.namespace("ns")._prefix
    with Store(tmp_path, **QUICK) as store:
        assert store[prefix + b"key"] == b"value"
        store[prefix + "é".encode()] = b"from outside"
        store.compact()
    with kvengine.open(tmp_path, **QUICK) as db:
        assert [info.name for info in db.namespace("ns").list().keys] == ["key", "é"]


def test_folders_that_are_no_store(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(NotAStore):
        kvengine.open(tmp_path)
    with pytest.raises(NotAStore):
        kvengine.open(tmp_path / "file")
    with pytest.raises(NotAStore):
        kvengine.open(tmp_path / "none", read_only=True)
    with pytest.raises(InvalidRequest, match="limits must be"):
        kvengine.open(tmp_path / "none", limits="none")
    assert not (tmp_path / "none").exists()


def test_it_may_be_open_any_number_of_times(tmp_path):
    with kvengine.open(tmp_path, **QUICK) as db, kvengine.open(tmp_path, **QUICK) as other:
        db.namespace("ns").put("key", "1")
        assert other.namespace("ns").get("key") == "1"
        other.namespace("ns").put("key", "2")
        assert db.namespace("ns").get("key") == "2"
        with pytest.raises(StoreLocked):
            kvengine.open(tmp_path, exclusive=True)


def test_who_wants_to_be_alone_is(tmp_path):
    with kvengine.open(tmp_path, exclusive=True, **QUICK) as db:
        db.namespace("ns").put("key", "1")
        with pytest.raises(StoreLocked, match="one of the two needs exclusive access"):
            kvengine.open(tmp_path)
        with kvengine.open(tmp_path, read_only=True) as reader:
            assert reader.namespace("ns").get("key") == "1"
    with kvengine.open(tmp_path) as db:
        assert db.namespace("ns").count() == 1


ROW = {"number": 0, "title": "ns", "created": 1, "state": "live"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"5", "an object with"),
        (b"[]", "an object with"),
        (b"{}", "an object with"),
        (json.dumps({**ROW, "number": "0"}).encode(), "an object with number, title"),
        (json.dumps({**ROW, "number": True}).encode(), "an object with number, title"),
        (json.dumps({**ROW, "number": -1}).encode(), "a number up to 4294967295"),
        (json.dumps({**ROW, "number": 1 << 32}).encode(), "a number up to 4294967295"),
        (json.dumps({**ROW, "title": None}).encode(), "an object with number, title"),
        (json.dumps({**ROW, "state": "dead"}).encode(), "a state of"),
    ],
    ids=lambda value: repr(value[:20]),
)
@pytest.mark.parametrize("which", ["generation", "row"])
def test_a_damaged_catalog(tmp_path, data, expected, which):
    with kvengine.open(tmp_path, **QUICK) as db:
        made = catalog_key(db.namespace("ns").id)
        key = CATALOG if which == "generation" else made
    with Store(tmp_path, **QUICK) as store:
        store[key] = data
    if which == "generation":
        expected = expected if expected == "JSON" else "an object with generation, next_number"
    for options in ({}, {"read_only": True}):
        with pytest.raises(CorruptData, match=r"^catalog record b'c") as caught:
            kvengine.open(tmp_path, **options)
        assert f"expected {expected}" in str(caught.value)
        assert str(tmp_path) in str(caught.value)
    with Store(tmp_path, **QUICK) as store:
        assert store[key] == data


@pytest.mark.parametrize("key", [b"c" + b"0" * 31, b"catalog", b"c" + b"G" * 32, b"c\xff"])
def test_a_key_in_the_catalog_that_is_no_id(tmp_path, key):
    with kvengine.open(tmp_path, **QUICK) as db:
        db.namespace("ns")
    with Store(tmp_path, **QUICK) as store:
        store[key] = json.dumps(ROW).encode()
    with pytest.raises(CorruptData, match="expected a key of 32 hex digits"):
        kvengine.open(tmp_path)


@pytest.mark.parametrize("path", ["http://127.0.0.1:8787", "https://kv.example/", "~", "~/db"])
def test_a_url_or_a_home_in_place_of_a_folder_makes_none(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidRequest, match=r"connect|expanduser"):
        kvengine.open(path)
    assert list(tmp_path.iterdir()) == []
    kvengine.open("~db").close()  # a name like any other


def test_a_database_of_a_path_says_how_to_open_one(tmp_path):
    with pytest.raises(InvalidType, match=r"expected a Store, not str; open a folder with open"):
        kvengine.Database(str(tmp_path))

"""Paths that are no store: refused with a clear error, and left as they are."""

import os
from pathlib import Path

import pytest

from kvengine import InvalidRequest, InvalidType, NotAStore, StorageError, Store


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", InvalidRequest, "the path of a store can't be ''"),
        (b"", InvalidRequest, "the path of a store"),
        ("a\0b", InvalidRequest, r"the path of a store can't be 'a\\x00b'"),
        ("a\ud800", InvalidRequest, r"the path of a store can't be .a\\ud800"),
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
    with pytest.raises(NotAStore, match=r"not a kvengine store|does not exist"):
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

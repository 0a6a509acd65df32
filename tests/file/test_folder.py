"""A folder that is held: what happens to its path, and to the file that shows whose it is."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kvengine.errors import StorageError, StoreClosed, StoreLocked
from kvengine.file.folder import Folder
from kvengine.file.local import LocalDirectory
from tests.waiting import meanwhile


def held(path: Path) -> LocalDirectory:
    """Return a folder that a file MANIFEST shows to be this one's."""
    directory = LocalDirectory(str(path))
    directory.replace("MANIFEST", b"1")
    directory.watch("MANIFEST")
    return directory


def changes(directory: LocalDirectory) -> list[Callable[[], object]]:
    return [
        lambda: directory.create("a"),
        lambda: directory.open("a", create=True, writable=True, map_bytes=4096),
        lambda: directory.open("a", new=True, writable=True, map_bytes=4096),
        lambda: directory.replace("a", b"1"),
        lambda: directory.replace("MANIFEST", b"2"),
        lambda: directory.update("a", lambda _: b"1"),
        directory.sync,
        directory.check_present,
    ]


def check_refused(directory: LocalDirectory, code: int) -> None:
    for change in changes(directory):
        with pytest.raises(StorageError) as caught:
            change()
        assert caught.value.errno == code
        assert caught.value.filename == directory.path


def test_a_moved_folder_is_gone_on_in(tmp_path: Path) -> None:
    directory = held(tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / "moved")
    (tmp_path / "store").mkdir()
    directory.replace("MANIFEST", b"2")
    directory.create("a").close()
    directory.open("b", create=True, writable=True, map_bytes=4096).write(b"1", 0)
    directory.sync()
    directory.check_present()
    assert directory.reader().read("MANIFEST") == b"2"
    assert sorted(directory.names()) == ["MANIFEST", "a", "b"]
    directory.remove("a")
    assert os.listdir(tmp_path / "store") == []
    assert sorted(os.listdir(tmp_path / "moved")) == ["MANIFEST", "b"]


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    directory = held(tmp_path / "store")
    shutil.rmtree(tmp_path / "store")
    check_refused(directory, errno.ENOENT)
    held(tmp_path / "store")
    check_refused(directory, errno.ENOENT)
    directory.remove("MANIFEST")
    assert os.listdir(tmp_path / "store") == ["MANIFEST"]


def test_a_folder_that_was_removed_and_a_file_of_it_are_told_apart(tmp_path: Path) -> None:
    """Also before there is a file that shows whose folder it is."""
    watched, new = held(tmp_path / "store"), LocalDirectory(str(tmp_path / "new"))
    new.check_present()
    (tmp_path / "store" / "MANIFEST").unlink()
    with pytest.raises(StorageError, match="file MANIFEST was removed"):
        watched.check_present()
    for directory in (watched, new):
        shutil.rmtree(directory.path)
        with pytest.raises(StorageError, match="folder of the store was removed"):
            directory.check_present()


@pytest.mark.parametrize("content", [b"1", b"2"])
def test_a_file_of_somebody_else_shows_another_store(tmp_path: Path, content: bytes) -> None:
    """Also one with the same bytes, that may have got the number of the one that was removed."""
    directory = held(tmp_path)
    for _ in range(5):
        (tmp_path / "MANIFEST").unlink()
        (tmp_path / "MANIFEST").write_bytes(content)
        check_refused(directory, errno.ESTALE)
    (tmp_path / "precious").write_bytes(b"1")
    directory.remove("precious")
    directory.remove("MANIFEST")
    assert sorted(os.listdir(tmp_path)) == ["MANIFEST", "precious"]


def test_a_file_that_is_missing_shows_no_store(tmp_path: Path) -> None:
    directory = held(tmp_path)
    (tmp_path / "MANIFEST").rename(tmp_path / "aside")
    check_refused(directory, errno.ENOENT)
    (tmp_path / "aside").rename(tmp_path / "MANIFEST")
    directory.check_present()
    directory.replace("MANIFEST", b"2")


def test_own_replacements_are_reckoned_with(tmp_path: Path) -> None:
    directory = held(tmp_path)
    for number in range(20):
        directory.replace("MANIFEST", b"%d" % number, durable=number % 2 == 0)
        directory.check_present()
    (tmp_path / "MANIFEST").chmod(0o640)
    os.link(tmp_path / "MANIFEST", tmp_path / "link")
    directory.check_present()


def test_an_interrupted_replacement_leaves_either_file_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = held(tmp_path)
    real = os.rename
    for number in range(6):
        with monkeypatch.context() as patch:

            def interrupt(*names: str, number: int = number, **folders: int) -> None:
                if number % 2:
                    real(*names, **folders)
                raise KeyboardInterrupt

            patch.setattr(os, "rename", interrupt)
            with pytest.raises(KeyboardInterrupt):
                directory.replace("MANIFEST", b"%d" % number)
        directory.check_present()
        assert directory.names() == ["MANIFEST"]
        directory.replace("MANIFEST", b"after")
        directory.check_present()


def test_another_folder_at_the_path(tmp_path: Path) -> None:
    directory = held(tmp_path / "store")
    directory.check_path()
    (tmp_path / "store").rename(tmp_path / "moved")
    directory.check_path()  # nothing is there
    (tmp_path / "store").symlink_to("moved")
    directory.check_path()  # the same
    (tmp_path / "store").unlink()
    (tmp_path / "store").mkdir()
    with pytest.raises(StorageError, match="another folder is now at the path") as caught:
        directory.check_path()
    assert caught.value.errno == errno.ESTALE


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").write_bytes(b"half")
    directory = LocalDirectory(str(tmp_path))
    directory.replace("a", b"whole")
    assert directory.names() == ["a"]


def test_no_link_is_followed_to_what_lies_elsewhere(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "precious").write_bytes(b"1")
    for name in ("a", "a.tmp", "LOCK"):
        (store / name).symlink_to(tmp_path / "precious")
    directory = LocalDirectory(str(store))
    directory.replace("a", b"2")
    with pytest.raises(StorageError):
        directory.lock()
    assert (tmp_path / "precious").read_bytes() == b"1"


def test_closing_while_others_read_never_meets_another_folder(tmp_path: Path) -> None:
    """A number of a descriptor that was given back may be that of another folder at once."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "own").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "foreign").touch()
    seen: set[str] = set()
    directories = [LocalDirectory(str(tmp_path / "store")) for _ in range(300)]

    def read() -> None:
        for directory in directories:
            with contextlib.suppress(StoreClosed):
                seen.update(directory.names())

    others = []
    with meanwhile(read):
        for directory in directories:
            directory.close()
            others.append(os.open(tmp_path / "other", os.O_RDONLY))
    for other in others:
        os.close(other)
    assert seen <= {"own"}


def test_the_lock_outlives_its_file(tmp_path: Path) -> None:
    first, second = LocalDirectory(str(tmp_path)), LocalDirectory(str(tmp_path))
    first.lock()
    (tmp_path / "LOCK").unlink()
    with pytest.raises(StoreLocked) as caught:
        second.lock()
    assert caught.value.pid is None
    assert second.lock_is_held()
    assert os.listdir(tmp_path) == []
    first.unlock()
    assert not second.lock_is_held()
    second.lock()
    second.close()


def test_a_writer_that_locks_only_the_file_is_seen(tmp_path: Path) -> None:
    """As 0.1 does; and it sees the lock of this version."""
    directory = LocalDirectory(str(tmp_path))
    with open(tmp_path / "LOCK", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert directory.lock_is_held()
        with pytest.raises(StoreLocked):
            directory.lock()
    directory.lock()
    with open(tmp_path / "LOCK") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    directory.close()


@pytest.mark.parametrize("path", ["\ud800", 5, None])
def test_a_path_that_is_refused_closes_no_descriptor_of_others(path):
    before = os.fstat(0)
    with pytest.raises((UnicodeEncodeError, TypeError)):
        Folder(path)
    assert os.fstat(0) == before

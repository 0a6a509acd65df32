"""Files that users get: whole under their name or not there; unfinished ones can go on."""

import io
import os
from pathlib import Path

import pytest

from kvengine.errors import InvalidRequest, InvalidType, StorageError, StorageFull
from kvengine.file import exchange
from kvengine.file.exchange import ResultFile, bytes_to_come, open_source, path_of


def result(path: Path, *, resume: bool = False) -> ResultFile:
    return ResultFile(str(path), resume=resume)


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    file = result(path)
    file.write(b"new")
    assert path.read_bytes() == b"old"
    file.finish()
    file.close()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_unfinished_stays_under_another_name(tmp_path: Path) -> None:
    file = result(tmp_path / "file")
    file.write(b"begun")
    file.close()
    assert os.listdir(tmp_path) == ["file.part"]
    again = result(tmp_path / "file")
    assert again.last_line is None
    again.write(b"anew")
    again.finish()
    again.close()
    assert (tmp_path / "file").read_bytes() == b"anew"


@pytest.mark.parametrize(
    ("before", "last", "kept"),
    [
        (b"", None, b""),
        (b"a", None, b""),
        (b"a\n", b"a\n", b"a\n"),
        (b"a\nbc", b"a\n", b"a\n"),
        (b"a\nbc\n", b"bc\n", b"a\nbc\n"),
        (b"\n", b"\n", b"\n"),
        (b"a\n" + b"b" * 50, b"a\n", b"a\n"),
        (b"a\n" + b"b" * 50 + b"\nc", b"b" * 50 + b"\n", b"a\n" + b"b" * 50 + b"\n"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 2, 7, 1 << 20])
def test_resuming_keeps_complete_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: bytes,
    last: bytes | None,
    kept: bytes,
    block_bytes: int,
) -> None:
    monkeypatch.setattr(exchange, "BLOCK_BYTES", block_bytes)
    (tmp_path / "file.part").write_bytes(before)
    file = result(tmp_path / "file", resume=True)
    assert file.last_line == last
    file.write(b"more")
    file.finish()
    file.close()
    assert (tmp_path / "file").read_bytes() == kept + b"more"


def test_there_may_be_nothing_to_resume(tmp_path: Path) -> None:
    file = result(tmp_path / "file", resume=True)
    assert file.last_line is None
    file.close()


def test_what_a_link_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "target").write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to("folder/target")
    file = result(link)
    file.write(b"new")
    file.finish()
    file.close()
    assert link.is_symlink()
    assert (tmp_path / "folder" / "target").read_bytes() == b"new"


def test_a_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        file = result(pipe)
        file.write(b"through")
        file.finish()
        file.close()
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert os.listdir(tmp_path) == ["pipe"]
    with pytest.raises(InvalidRequest, match="can't be resumed"):
        result(pipe, resume=True)


def test_a_folder_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="it is a folder"):
        result(tmp_path / "folder")
    with pytest.raises(StorageError, match="No such file"):
        result(tmp_path / "absent" / "file")
    assert os.listdir(tmp_path) == ["folder"]


def test_large_files_are_synced_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SYNC_BYTES", 10)
    synced, real = [], os.fdatasync

    def sync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    file = result(tmp_path / "file")
    for _ in range(10):
        file.write(b"12345678")
    file.finish()
    file.close()
    assert len(synced) >= 2
    assert synced[-1] == 80
    assert (tmp_path / "file").read_bytes() == b"12345678" * 10


def test_a_sync_that_fails_on_the_way_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "SYNC_BYTES", 1)
    failures = [OSError(5, "Input/output error")]

    def sync(_: int) -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(os, "fdatasync", sync)
    file = result(tmp_path / "file")
    file.write(b"12")
    with pytest.raises(StorageError, match="cannot sync"):
        file.finish()
    file.close()
    assert os.listdir(tmp_path) == ["file.part"]


def test_a_full_disk_is_told(small_file_system: Path) -> None:
    file = result(small_file_system / "file")
    with pytest.raises(StorageFull):
        file.write(bytes(2 << 20))
    file.close()
    assert os.listdir(small_file_system) == ["file.part"]


def test_sources(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    with open_source(str(path)) as file:
        assert bytes_to_come(file) == 5
        assert file.read(2) == b"12"
        assert bytes_to_come(file) == 3
    assert bytes_to_come(io.BytesIO(b"12")) == 0
    assert bytes_to_come(object()) == 0
    with pytest.raises(StorageError, match="cannot read"):
        open_source(str(tmp_path / "absent"))


def test_paths() -> None:
    assert path_of(Path("a")) == path_of("a") == path_of(b"a") == "a"
    for wrong in (None, 5, ["a"]):
        with pytest.raises(InvalidType, match="a file must be a path or a binary file object"):
            path_of(wrong)

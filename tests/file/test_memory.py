"""What only a folder in memory does: nothing on disk, and no trace once it is gone."""

import errno
import gc
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from kvengine.errors import StorageError
from kvengine.file.memory import MemoryDirectory


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_ten_thousand_folders_one_after_another() -> None:
    gc.collect()
    before = descriptors()
    for _ in range(10_000):
        directory = MemoryDirectory()
        file = directory.open("a", create=True, writable=True, map_bytes=1 << 28)
        file.allocate(4096)
        file.write(b"data", 0)
        directory.replace("b", b"data")
        del file, directory
    assert descriptors() == before


def test_a_read_takes_as_much_memory_as_the_file() -> None:
    directory = MemoryDirectory()
    directory.replace("a", b"x" * 100_000)
    directory.replace("empty", b"")
    tracemalloc.start()
    try:
        assert directory.read("a") == b"x" * 100_000
        assert directory.read("empty") == b""
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


def test_everything_goes_with_the_folder() -> None:
    before = descriptors()
    directory = MemoryDirectory()
    for number in range(5):
        directory.replace(f"{number}", b"data")
    assert descriptors() > before
    directory.close()
    assert descriptors() == before
    assert directory.names() == []


def test_nothing_is_on_disk() -> None:
    directory = MemoryDirectory()
    directory.replace("a", bytes(100_000))
    assert directory.allocated("a") == 0


def test_folders_do_not_share_files() -> None:
    first, second = MemoryDirectory(), MemoryDirectory()
    first.replace("a", b"1")
    assert second.names() == []
    first.lock()
    second.lock()


@pytest.mark.parametrize("way", ["no memfd", "refused memfd"])
def test_an_unlinked_file_does_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if way == "no memfd":
        monkeypatch.delattr(os, "memfd_create")
    else:

        def refuse(*_: object) -> int:
            raise OSError(errno.ENOSYS, "not here")

        monkeypatch.setattr(os, "memfd_create", refuse)
    directory = MemoryDirectory()
    file = directory.open("a", create=True, writable=True, map_bytes=1 << 20)
    file.allocate(4096)
    file.write(b"data", 10)
    assert os.listdir(tmp_path) == []
    assert directory.read("a") == bytes(10) + b"data" + bytes(4096 - 14)


def test_a_failed_call_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = MemoryDirectory()
    directory.replace("a", b"old")
    before = descriptors()

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StorageError):
        directory.replace("a", b"new")
    assert descriptors() == before
    assert directory.read("a") == b"old"


def test_a_child_gives_its_copies_back() -> None:
    directory = MemoryDirectory()
    directory.replace("a", b"data")
    directory.after_fork_in_child()
    assert directory.names() == []


def test_a_handler_may_read_in_the_middle_of_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = MemoryDirectory()
    directory.replace("a", b"1", durable=False)
    found: list[bytes] = []
    dup = os.dup

    def interrupted(descriptor: int) -> int:
        monkeypatch.setattr(os, "dup", dup)
        found.append(directory.read("a"))
        return dup(descriptor)

    monkeypatch.setattr(os, "dup", interrupted)
    reading = threading.Thread(target=lambda: found.append(directory.read("a")), daemon=True)
    reading.start()
    reading.join(60)
    monkeypatch.undo()
    assert found == [b"1", b"1"]
    directory.close()

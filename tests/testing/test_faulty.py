"""The folder that records and fails: what it writes down is what happened, and nothing else."""

import errno
from collections.abc import Callable

import pytest

from kvengine.errors import StorageError, StorageFull
from kvengine.file.directory import Directory
from kvengine.file.memory import MemoryDirectory
from kvengine.testing.faulty import FaultyDirectory, Killed, Step

MAP_BYTES = 1 << 16


def example(directory: Directory) -> None:
    """Do one of everything."""
    file = directory.open("log", create=True, writable=True, map_bytes=MAP_BYTES)
    file.allocate(4096)
    file.write(b"record", 10)
    file.flush()
    file.shorten(16)
    output = directory.create("index")
    output.write(b"entries")
    output.sync()
    output.close()
    directory.replace("manifest", b"both")
    directory.remove("log")
    directory.sync()


EXPECTED = [
    ("create", "log", 0, b""),
    ("reserve", "log", 4096, b""),
    ("write", "log", 10, b"record"),
    ("sync", "log", 0, b""),
    ("truncate", "log", 16, b""),
    ("create", "index", 0, b""),
    ("write", "index", 0, b"entries"),
    ("sync", "index", 0, b""),
    ("create", "manifest.tmp", 0, b""),
    ("write", "manifest.tmp", 0, b"both"),
    ("sync", "manifest.tmp", 0, b""),
    ("rename", "manifest.tmp", 0, b""),
    ("sync-folder", "", 0, b""),
    ("remove", "log", 0, b""),
    ("sync-folder", "", 0, b""),
]


def content(directory: MemoryDirectory) -> dict[str, bytes]:
    return {name: directory.read(name) for name in directory.names()}


def test_every_step_is_written_down_in_order() -> None:
    directory = FaultyDirectory(MemoryDirectory())
    example(directory)
    steps = directory.steps
    assert [(step.operation, step.name, step.offset, step.data) for step in steps] == EXPECTED
    assert [step.number for step in steps] == list(range(1, len(EXPECTED) + 1))
    assert not any(step.failed for step in steps)
    assert directory.count("sync") == 3
    assert directory.count("sync", "index") == 1


def test_the_files_are_as_without_a_recorder() -> None:
    plain, recorded = MemoryDirectory(), MemoryDirectory()
    example(FaultyDirectory(recorded))
    example(plain)
    assert content(recorded) == content(plain) == {"index": b"entries", "manifest": b"both"}


def test_what_was_there_before_is_part_of_the_recording() -> None:
    inner = MemoryDirectory()
    inner.replace("old", b"data")
    directory = FaultyDirectory(inner)
    assert directory.recording.files == {"old": b"data"}
    assert directory.steps == []


def test_a_file_keeps_its_number_when_it_is_renamed() -> None:
    directory = FaultyDirectory(MemoryDirectory())
    directory.replace("a", b"1")
    directory.replace("a", b"2")
    first, second = (step.inode for step in directory.steps if step.operation == "rename")
    assert first != second
    directory.remove("a")
    assert directory.steps[-1].inode == second


@pytest.mark.parametrize("number", range(1, len(EXPECTED) + 1))
def test_each_step_can_fail_once(number: int) -> None:
    directory = FaultyDirectory(MemoryDirectory())
    directory.fail(number, errno.EIO)
    with pytest.raises(StorageError) as caught:
        example(directory)
    assert caught.value.errno == errno.EIO
    failed = [step.number for step in directory.steps if step.failed]
    assert failed == [number]
    directory.replace("after", b"works")
    assert directory.read("after") == b"works"


def test_a_failure_can_last_until_it_is_healed() -> None:
    inner = MemoryDirectory()
    directory = FaultyDirectory(inner)
    directory.replace("a", b"old")
    directory.fail(len(directory.steps) + 1, errno.ENOSPC, forever=True)
    for _ in range(3):
        with pytest.raises(StorageFull):
            directory.replace("a", b"new")
    assert content(inner) == {"a": b"old"}
    directory.heal()
    directory.replace("a", b"new")
    assert content(inner) == {"a": b"new"}


def test_a_failed_step_changes_nothing() -> None:
    inner = MemoryDirectory()
    directory = FaultyDirectory(inner)
    file = directory.open("log", create=True, writable=True, map_bytes=MAP_BYTES)
    file.write(b"data", 0)
    changes: list[Callable[[], object]] = [
        lambda: file.write(b"DATA", 0),
        lambda: file.allocate(4096),
        lambda: file.shorten(0),
        lambda: directory.remove("log"),
        lambda: directory.replace("log", b"new"),
    ]
    for change in changes:
        directory.fail(len(directory.steps) + 1, errno.EIO)
        with pytest.raises(StorageError):
            change()
        assert content(inner) == {"log": b"data"}


def test_a_file_may_go_twice_at_once() -> None:
    directory = FaultyDirectory(MemoryDirectory())
    directory.create("a").close()

    def remove(_step: Step) -> None:
        directory.before = None
        directory.remove("a")

    directory.before = remove
    directory.remove("a")
    assert directory.names() == []


def test_a_write_can_get_through_in_part() -> None:
    inner = MemoryDirectory()
    directory = FaultyDirectory(inner)
    file = directory.open("log", create=True, writable=True, map_bytes=MAP_BYTES)
    directory.partial_bytes = 2
    directory.fail(2, errno.ENOSPC)
    with pytest.raises(StorageFull):
        file.write(b"data", 0)
    assert inner.read("log") == b"da"
    done = [step for step in directory.steps if step.operation == "write" and not step.failed]
    assert [step.data for step in done] == [b"da"]


@pytest.mark.parametrize("number", range(1, len(EXPECTED) + 1))
def test_the_dead_touch_nothing(number: int) -> None:
    inner = MemoryDirectory()
    directory = FaultyDirectory(inner)
    file = directory.open("open", create=True, writable=True, map_bytes=MAP_BYTES)
    before = len(directory.steps)
    directory.kill(before + number)
    with pytest.raises(Killed):
        example(directory)
    left = content(inner)
    changes: list[Callable[[], object]] = [
        lambda: directory.replace("a", b"1"),
        lambda: directory.create("a"),
        lambda: directory.open("a", create=True, writable=True, map_bytes=MAP_BYTES),
        lambda: directory.remove("open"),
        lambda: file.write(b"data", 0),
        lambda: file.allocate(4096),
        lambda: file.shorten(0),
        file.flush,
        directory.sync,
    ]
    for change in changes:
        with pytest.raises(Killed):
            change()
    assert content(inner) == left
    assert len(directory.steps) == before + number - 1


def test_the_dead_give_the_lock_back() -> None:
    directory = FaultyDirectory(MemoryDirectory())
    directory.lock()
    directory.kill(1)
    with pytest.raises(Killed):
        directory.sync()
    directory.close()
    assert not directory.lock_is_held()


def test_somebody_can_look_on_and_interfere() -> None:
    directory = FaultyDirectory(MemoryDirectory())
    seen = []

    def look(step: Step) -> None:
        seen.append((step.operation, directory.names()))
        if step.operation == "rename":
            raise OSError(errno.EACCES, "not allowed")

    directory.before = look
    with pytest.raises(StorageError) as caught:
        directory.replace("a", b"1")
    assert caught.value.errno == errno.EACCES
    assert [operation for operation, _ in seen][:4] == ["create", "write", "sync", "rename"]
    assert directory.names() == []


def test_a_link_is_written_step_by_step() -> None:
    source = MemoryDirectory()
    source.replace("a", b"data")
    target = FaultyDirectory(MemoryDirectory())
    FaultyDirectory(source).link("a", target)
    assert [step.operation for step in target.steps] == ["create", "write", "sync"]
    assert target.read("a") == b"data"

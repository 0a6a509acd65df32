"""Crashed folders: what a crash must keep, what it may lose, and that every such case comes up."""

import errno
from collections.abc import Callable

import pytest

from kvengine.errors import StorageError
from kvengine.file.memory import MemoryDirectory
from kvengine.testing.crashing import MODELS, SECTOR_BYTES, CrashedFolder, folder_of
from kvengine.testing.faulty import FaultyDirectory

SEEDS = range(300)
Files = dict[str, bytes]
Work = Callable[[FaultyDirectory], None]


def recorded(work: Work, **files: bytes) -> FaultyDirectory:
    """Return a recording of what `work` does to a folder with these files."""
    directory = FaultyDirectory(folder_of(files))
    work(directory)
    return directory


def states(directory: FaultyDirectory, count: int | None = None) -> list[Files]:
    """Return all different states after a power cut behind step `count`, or behind the last."""
    steps = len(directory.steps) if count is None else count
    crashed = CrashedFolder(directory.recording, steps)
    found = {repr(files): files for files in (crashed.files("torn", seed) for seed in SEEDS)}
    return list(found.values())


def values(directory: FaultyDirectory, name: str) -> set[bytes | None]:
    return {files.get(name) for files in states(directory)}


def ordered(directory: FaultyDirectory) -> Files:
    return CrashedFolder(directory.recording, len(directory.steps)).files("ordered")


def killed(directory: FaultyDirectory) -> Files:
    return CrashedFolder(directory.recording, len(directory.steps)).files("kill")


def write(directory: FaultyDirectory, name: str, data: bytes, *, sync: bool = False) -> None:
    file = directory.open(name, create=True, writable=True, map_bytes=1 << 16)
    file.write(data, 0)
    if sync:
        file.flush()


def test_a_kill_keeps_everything() -> None:
    def work(directory: FaultyDirectory) -> None:
        write(directory, "a", b"new")
        directory.replace("b", b"new", durable=False)
        directory.remove("c")

    directory = recorded(work, a=b"old", b=b"old", c=b"old")
    assert killed(directory) == {"a": b"new", "b": b"new"}


@pytest.mark.parametrize("model", MODELS)
def test_each_prefix_of_the_work_can_be_seen(model: str) -> None:
    directory = recorded(lambda directory: directory.replace("a", b"new"), a=b"old")
    found = [
        CrashedFolder(directory.recording, count).files(model, seed).get("a")
        for count in range(len(directory.steps) + 1)
        for seed in SEEDS
    ]
    assert set(found) == {b"old", b"new"}
    assert found[0] == b"old"
    assert found[-1] == b"new"


def test_a_synced_file_in_a_synced_folder_is_safe() -> None:
    def work(directory: FaultyDirectory) -> None:
        write(directory, "a", b"data", sync=True)
        directory.sync()

    directory = recorded(work)
    assert states(directory) == [{"a": b"data"}]
    assert ordered(directory) == {"a": b"data"}


def test_a_synced_file_may_lose_its_name() -> None:
    directory = recorded(lambda directory: write(directory, "a", b"data", sync=True))
    assert values(directory, "a") == {None, b"data"}
    assert ordered(directory) == {}


def test_a_synced_name_may_lose_its_bytes() -> None:
    def work(directory: FaultyDirectory) -> None:
        write(directory, "a", b"data")
        directory.sync()

    directory = recorded(work)
    assert values(directory, "a") == {b"", b"data"}
    assert ordered(directory) == {"a": b""}


def test_a_removed_name_may_come_back() -> None:
    directory = recorded(lambda directory: directory.remove("a"), a=b"data")
    assert values(directory, "a") == {None, b"data"}
    directory.sync()
    assert values(directory, "a") == {None}


def test_a_replacement_is_old_or_new_and_never_half() -> None:
    directory = recorded(lambda directory: directory.replace("a", b"new"), a=b"old")
    for count in range(len(directory.steps)):
        assert {files["a"] for files in states(directory, count)} <= {b"old", b"new"}


def test_a_replacement_that_was_not_synced_may_be_empty() -> None:
    """The trap for those who rename without a sync before it."""
    directory = recorded(lambda directory: directory.replace("a", b"new", durable=False), a=b"old")
    assert values(directory, "a") == {b"old", b"", b"new"}


def test_names_change_in_any_order() -> None:
    def work(directory: FaultyDirectory) -> None:
        directory.remove("a")
        directory.remove("b")

    directory = recorded(work, a=b"1", b=b"2")
    found = {frozenset(files) for files in states(directory)}
    assert found == {frozenset(names) for names in ((), ("a",), ("b",), ("a", "b"))}


def test_each_sector_is_written_or_not() -> None:
    old, new = b"o" * 3 * SECTOR_BYTES, b"n" * 3 * SECTOR_BYTES
    directory = recorded(lambda directory: write(directory, "a", new), a=old)
    found = {files["a"] for files in states(directory)}
    patterns = {
        tuple(data[at : at + SECTOR_BYTES] for at in range(0, len(data), SECTOR_BYTES))
        for data in found
    }
    assert len(patterns) == 8
    assert {sector for pattern in patterns for sector in pattern} == {
        b"o" * SECTOR_BYTES,
        b"n" * SECTOR_BYTES,
    }


def test_writes_before_a_sync_are_safe_and_those_behind_it_are_not() -> None:
    def work(directory: FaultyDirectory) -> None:
        file = directory.open("a", writable=True, map_bytes=1 << 16)
        file.write(b"1" * SECTOR_BYTES, 0)
        file.flush()
        file.write(b"2" * SECTOR_BYTES, SECTOR_BYTES)

    directory = recorded(work, a=b"")
    first, second = b"1" * SECTOR_BYTES, b"2" * SECTOR_BYTES
    assert values(directory, "a") == {first, first + second}
    assert ordered(directory) == {"a": first}


def test_a_sync_of_one_file_says_nothing_about_another() -> None:
    def work(directory: FaultyDirectory) -> None:
        write(directory, "a", b"new")
        write(directory, "b", b"new", sync=True)

    directory = recorded(work, a=b"old", b=b"old")
    assert values(directory, "a") == {b"old", b"new"}
    assert values(directory, "b") == {b"new"}


def test_a_changed_size_may_be_lost() -> None:
    def work(directory: FaultyDirectory) -> None:
        file = directory.open("a", writable=True, map_bytes=1 << 16)
        file.allocate(8)

    directory = recorded(work, a=b"data")
    assert values(directory, "a") == {b"data", b"data" + bytes(4)}

    def cut(directory: FaultyDirectory) -> None:
        directory.open("a", writable=True, map_bytes=1 << 16).shorten(2)

    assert values(recorded(cut, a=b"data"), "a") == {b"da", b"data"}


def test_a_failed_sync_makes_nothing_durable() -> None:
    """Nor does the next one, though it says so: the kernel has given the pages up."""

    def work(directory: FaultyDirectory) -> None:
        file = directory.open("a", writable=True, map_bytes=1 << 16)
        file.write(b"new", 0)
        directory.fail(2, errno.EIO)
        with pytest.raises(StorageError):
            file.flush()
        file.flush()

    directory = recorded(work, a=b"old")
    assert values(directory, "a") == {b"old", b"new"}
    assert ordered(directory) == {"a": b"old"}


def test_a_failed_write_is_not_there() -> None:
    def work(directory: FaultyDirectory) -> None:
        directory.fail(1, errno.EIO)
        with pytest.raises(StorageError):
            write(directory, "a", b"new")

    assert states(recorded(work, a=b"old")) == [{"a": b"old"}]


def test_the_same_seed_gives_the_same_state() -> None:
    directory = recorded(lambda directory: write(directory, "a", b"n" * 9000), a=b"o" * 9000)
    crashed = CrashedFolder(directory.recording, len(directory.steps))
    assert all(crashed.files("torn", seed) == crashed.files("torn", seed) for seed in SEEDS)


def test_the_folder_that_is_left_can_be_used_and_closed() -> None:
    directory = recorded(lambda directory: directory.replace("a", b"data"))
    folder = CrashedFolder(directory.recording, len(directory.steps)).folder("kill")
    assert isinstance(folder, MemoryDirectory)
    folder.close()
    assert folder.content() == {"a": b"data"}

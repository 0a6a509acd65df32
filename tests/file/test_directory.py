"""What every kind of folder does alike."""

import errno
import os

import pytest

from kvengine.errors import StorageError
from kvengine.file.directory import Directory


def test_a_new_folder_is_empty(directory: Directory) -> None:
    assert directory.names() == []


def test_replace_makes_and_replaces(directory: Directory) -> None:
    directory.replace("a", b"first, and longer")
    directory.replace("a", b"second")
    directory.replace("b", b"", durable=False)
    assert sorted(directory.names()) == ["a", "b"]
    assert directory.read("a") == b"second"
    assert directory.read("b") == b""
    assert directory.size("a") == 6


def test_a_created_file_grows_by_what_is_written(directory: Directory) -> None:
    output = directory.create("a")
    output.write(b"one")
    output.write(bytearray(b"two"))
    output.write(memoryview(b"threethree")[::1][:5])
    assert output.size == 11
    output.sync()
    output.close()
    output.close()
    assert directory.read("a") == b"onetwothree"


def test_nothing_is_made_in_the_place_of_a_file(directory: Directory) -> None:
    directory.replace("a", b"somebody's")
    for make in (
        lambda: directory.create("a"),
        lambda: directory.open("a", new=True, writable=True, map_bytes=4096),
    ):
        with pytest.raises(StorageError) as caught:
            make()
        assert caught.value.errno == errno.EEXIST
    assert directory.read("a") == b"somebody's"
    assert directory.names() == ["a"]


def test_a_file_may_take_the_place_of_one_that_was_removed(directory: Directory) -> None:
    directory.create("a").close()
    directory.remove("a")
    directory.open("a", new=True, writable=True, map_bytes=4096).write(b"1", 0)
    assert directory.read("a") == b"1"


def test_wide_buffers_are_written_as_bytes(directory: Directory) -> None:
    output = directory.create("a")
    output.write(memoryview(b"12345678").cast("Q"))
    assert output.size == 8
    output.close()
    assert directory.read("a") == b"12345678"


def test_removing_twice_is_no_error(directory: Directory) -> None:
    directory.replace("a", b"1")
    directory.remove("a")
    directory.remove("a")
    directory.sync()
    assert directory.names() == []


@pytest.mark.parametrize("call", ["read", "size"])
def test_a_missing_file_is_told_from_other_refusals(directory: Directory, call: str) -> None:
    with pytest.raises(FileNotFoundError):
        getattr(directory, call)("none")


def test_a_missing_file_occupies_nothing(directory: Directory) -> None:
    assert directory.allocated("none") == 0


def test_opening_a_missing_file_makes_none(directory: Directory) -> None:
    with pytest.raises(FileNotFoundError):
        directory.open("none", map_bytes=4096)
    with pytest.raises(FileNotFoundError):
        directory.open("none", writable=True, map_bytes=4096)
    assert directory.names() == []


def test_what_a_mapped_file_gets_is_read_back(directory: Directory) -> None:
    file = directory.open("a", create=True, writable=True, map_bytes=1 << 20)
    file.allocate(8192)
    file.write(b"here", 5000)
    assert directory.size("a") == 8192
    assert directory.read("a") == bytes(5000) + b"here" + bytes(8192 - 5004)
    again = directory.open("a", create=True, writable=True, map_bytes=1 << 20)
    assert again.size_bytes == 8192


def test_a_mapped_file_works_on_after_its_name_is_gone(directory: Directory) -> None:
    file = directory.open("a", create=True, writable=True, map_bytes=4096)
    file.write(b"here", 0)
    directory.remove("a")
    file.write(b"there", 4)
    file.flush()
    assert file.size_bytes == 9
    assert directory.names() == []


def test_replacing_leaves_open_files_alone(directory: Directory) -> None:
    directory.replace("a", b"old")
    file = directory.open("a", writable=True, map_bytes=4096)
    directory.replace("a", b"new")
    file.write(b"OLD", 0)
    assert directory.read("a") == b"new"


def test_files_are_not_handed_on_to_other_programs(directory: Directory) -> None:
    file = directory.open("a", create=True, writable=True, map_bytes=4096)
    assert not os.get_inheritable(file.descriptor)


def test_whoever_locks_may_unlock_and_lock_again(directory: Directory) -> None:
    directory.unlock()
    directory.lock()
    directory.unlock()
    directory.unlock()
    directory.lock()
    directory.close()
    assert not directory.lock_is_held()


def test_closing_twice_is_no_error(directory: Directory) -> None:
    directory.lock()
    directory.close()
    directory.close()


def test_a_link_holds_the_same_bytes(directory: Directory, other: Directory) -> None:
    data = os.urandom(3 << 20)
    directory.replace("a", data)
    directory.link("a", other)
    other.sync()
    assert other.read("a") == data
    directory.remove("a")
    assert other.read("a") == data


def test_a_missing_file_gives_no_link(directory: Directory, other: Directory) -> None:
    with pytest.raises(OSError, match=r"[Nn]o such"):
        directory.link("none", other)
    assert other.names() == []


def test_no_descriptor_is_left_behind(directory: Directory, other: Directory) -> None:
    directory.replace("warm", b"up")
    before = set(os.listdir("/proc/self/fd"))
    for number in range(3):
        name = f"{number}"
        output = directory.create(name)
        output.write(b"1234")
        output.close()
        file = directory.open(name, writable=True, map_bytes=4096)
        file.write(b"5678", 0)
        directory.replace(name, b"9")
        directory.link(name, other)
        directory.remove(name)
        other.remove(name)
        del file
    directory.lock()
    directory.unlock()
    assert set(os.listdir("/proc/self/fd")) == before

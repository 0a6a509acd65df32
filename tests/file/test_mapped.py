"""Mapped files: what outlives what, what a hook can do, what happens when there is no room."""

import errno
import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine.engine.log.segment import bytes_at
from kvengine.errors import CorruptData, StorageError, StorageFull
from kvengine.file.local import LocalDirectory
from kvengine.file.mapped import MappedFile

MAP_BYTES = 1 << 20
Call = tuple[str, str, int, bytes | None]


def make(path: Path, name: str = "a", *, map_bytes: int = MAP_BYTES) -> MappedFile:
    directory = LocalDirectory(str(path))
    return directory.open(name, create=True, writable=True, map_bytes=map_bytes)


def mappings(path: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(path))


def test_what_is_written_is_seen_through_the_mapping(tmp_path: Path) -> None:
    file = make(tmp_path)
    file.write(b"hello", 4094)
    file.write(b"", 4094)
    assert file.size_bytes == 4099
    assert bytes_at(file, 4090, 9) == bytes(4) + b"hello"
    reader = LocalDirectory(str(tmp_path)).open("a", map_bytes=MAP_BYTES)
    file.write(b"J", 4094)
    assert bytes_at(reader, 4094, 5) == b"Jello"


def test_large_writes_are_whole(tmp_path: Path) -> None:
    file = make(tmp_path, map_bytes=8 << 20)
    data = os.urandom((4 << 20) + 17)
    file.write(data, 3)
    assert bytes_at(file, 3, len(data)) == data


def test_a_file_may_be_shorter_than_its_mapping(tmp_path: Path) -> None:
    file = make(tmp_path, map_bytes=1 << 30)
    assert file.size_bytes == 0
    file.allocate(4096)
    assert bytes_at(file, 0, 4096) == bytes(4096)
    assert os.path.getsize(tmp_path / "a") == 4096


def test_reserved_space_is_taken_from_the_disk(tmp_path: Path) -> None:
    file = make(tmp_path)
    file.allocate(100_000)
    assert file.size_bytes == 100_000
    assert (tmp_path / "a").stat().st_blocks * 512 >= 100_000
    assert not file.sparse
    file.allocate(10)  # there is that much
    assert file.size_bytes == 100_000


def test_no_more_is_reserved_than_is_mapped(tmp_path: Path) -> None:
    file = make(tmp_path)
    with pytest.raises(StorageError, match="no mapping"):
        file.allocate(MAP_BYTES + 1)
    assert os.path.getsize(tmp_path / "a") == 0


def test_a_shortened_file_grows_with_zeros(tmp_path: Path) -> None:
    file = make(tmp_path)
    file.write(b"x" * 5000, 0)
    file.shorten(3)
    assert (file.size_bytes, os.path.getsize(tmp_path / "a")) == (3, 3)
    file.allocate(5000)
    assert bytes_at(file, 0, 5000) == b"xxx" + bytes(4997)
    file.flush()


def test_the_mapping_lives_as_long_as_a_file_object(tmp_path: Path) -> None:
    file = make(tmp_path)
    file.write(b"here", 0)
    directory = LocalDirectory(str(tmp_path))
    directory.remove("a")
    file.close_descriptor()
    file.close_descriptor()
    directory.close()
    assert file.descriptor == -1
    assert bytes_at(file, 0, 4) == b"here"
    path = tmp_path / "a"
    assert mappings(path) == 1
    del file
    gc.collect()
    assert mappings(path) == 0


def test_without_a_descriptor_changes_are_refused(tmp_path: Path) -> None:
    file = make(tmp_path)
    file.close_descriptor()
    for call in (
        lambda: file.write(b"1", 0),
        lambda: file.allocate(1),
        lambda: file.shorten(0),
        file.flush,
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.errno == errno.EBADF
        assert caught.value.filename == str(tmp_path / "a")


def test_a_file_for_reading_can_not_be_changed(tmp_path: Path) -> None:
    make(tmp_path).write(b"data", 0)
    file = LocalDirectory(str(tmp_path)).open("a", map_bytes=MAP_BYTES)
    with pytest.raises(StorageError):
        file.write(b"1", 0)
    with pytest.raises(StorageError):
        file.shorten(0)
    assert bytes_at(file, 0, 4) == b"data"


def test_refused_arguments_close_no_stranger() -> None:
    """A half-made object holds descriptor 0, which is not its own."""
    code = (
        "import os\n"
        "from kvengine.file.mapped import MappedFile\n"
        "for arguments in ((), ('x', 'name', 4096, True), (0, 'name', -1, True)):\n"
        "    try: MappedFile(*arguments)\n"
        "    except (TypeError, OverflowError): os.fstat(0)\n"
        "print('open')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
    )
    assert answer.stdout == "open\n"


def test_a_mapping_that_can_not_be_made_closes_the_file(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StorageError) as caught:
        make(tmp_path, map_bytes=1 << 62)
    assert caught.value.errno == errno.ENOMEM
    del caught
    gc.collect()
    assert os.listdir("/proc/self/fd") == before


def test_advice_changes_no_bytes(tmp_path: Path) -> None:
    file = make(tmp_path)
    data = os.urandom(50_000)
    file.write(data, 0)
    file.drop_cache()
    assert bytes_at(file, 0, 50_000) == data
    file.flush()
    file.drop_cache()
    assert bytes_at(file, 0, 50_000) == data


# -- hooks


def test_a_hook_hears_of_everything_first(tmp_path: Path) -> None:
    file = make(tmp_path)
    calls: list[Call] = []
    sizes: list[int] = []

    def hook(operation: str, name: str, offset: int, data: bytes | None) -> None:
        calls.append((operation, name, offset, data))
        sizes.append(os.path.getsize(tmp_path / "a"))

    file.hook = hook
    file.allocate(4096)
    file.write(b"data", 10)
    file.flush()
    file.shorten(14)
    name = str(tmp_path / "a")
    assert calls == [
        ("reserve", name, 4096, None),
        ("write", name, 10, b"data"),
        ("sync", name, 0, None),
        ("truncate", name, 14, None),
    ]
    assert sizes == [0, 4096, 4096, 4096]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_hook_can_fail_anything(tmp_path: Path, code: int) -> None:
    file = make(tmp_path)
    file.write(b"data", 0)

    def hook(*_: object) -> None:
        raise OSError(code, "planted")

    file.hook = hook
    kind = StorageError if code == errno.EIO else StorageFull
    for call in (
        lambda: file.write(b"DATA", 0),
        lambda: file.allocate(4096),
        lambda: file.shorten(0),
        file.flush,
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert type(caught.value) is kind
        assert caught.value.errno == code
        assert isinstance(caught.value.__cause__, OSError)
    assert (tmp_path / "a").read_bytes() == b"data"
    assert file.size_bytes == 4


@pytest.mark.parametrize(("allowed", "kept"), [(0, b"data"), (2, b"DAta"), (99, b"DATA")])
def test_a_hook_can_let_part_of_a_write_through(tmp_path: Path, allowed: int, kept: bytes) -> None:
    file = make(tmp_path)
    file.write(b"data", 0)
    file.hook = lambda operation, name, offset, data: allowed
    with pytest.raises(StorageFull):
        file.write(b"DATA", 0)
    assert (tmp_path / "a").read_bytes() == kept


def test_what_else_a_hook_raises_comes_through(tmp_path: Path) -> None:
    file = make(tmp_path)

    def hook(*_: object) -> None:
        raise KeyboardInterrupt

    file.hook = hook
    with pytest.raises(KeyboardInterrupt):
        file.write(b"data", 0)
    assert os.path.getsize(tmp_path / "a") == 0


# -- no room


def test_no_space_claims_nothing(small_file_system: Path) -> None:
    file = make(small_file_system, map_bytes=16 << 20)
    file.allocate(65536)
    file.write(b"data", 0)
    for _ in range(2):
        with pytest.raises(StorageFull) as caught:
            file.allocate(8 << 20)
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(small_file_system / "a")
    assert file.size_bytes == os.path.getsize(small_file_system / "a") == 65536
    assert bytes_at(file, 0, 4) == b"data"
    file.allocate(1 << 19)  # the rest is still free


def test_a_write_without_space_changes_nothing_before_it(small_file_system: Path) -> None:
    file = make(small_file_system, map_bytes=16 << 20)
    file.write(b"data", 0)
    with pytest.raises(StorageFull):
        file.write(bytes(2 << 20), 4)
    assert file.size_bytes == 4
    file.shorten(4)
    assert (small_file_system / "a").read_bytes() == b"data"
    file.write(b"more", 4)
    assert (small_file_system / "a").read_bytes() == b"datamore"


def test_a_file_beyond_the_size_that_is_allowed(tmp_path: Path) -> None:
    """The kernel writes what fits first: a genuine short write."""
    file = make(tmp_path)
    file.write(b"data", 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(StorageError) as written:
            file.write(b"x" * 10_000, 4)
        with pytest.raises(StorageError) as reserved:
            file.allocate(20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert written.value.errno == reserved.value.errno == errno.EFBIG
    assert file.size_bytes == 4
    assert bytes_at(file, 0, 4) == b"data"


@pytest.mark.parametrize("prepared", ["never written", "zeros"])
def test_has_bytes(tmp_path: Path, prepared: str) -> None:
    file = make(tmp_path)
    size = MAP_BYTES - 100  # the last piece is no whole one
    file.allocate(size)
    file.write(b"x" * 5000, 0)
    if prepared == "zeros":
        file.write(bytes(size - 5000), 5000)
    assert file.has_bytes(0)
    assert file.has_bytes(4999)
    for start in (5000, 5001, 8192, size - 1, size, size + 1, 1 << 30):
        assert not file.has_bytes(start)
    for at in (size - 1, 700_000, 5000):
        file.write(b"y", at)
        assert file.has_bytes(5000)
        assert file.has_bytes(at)
        assert not file.has_bytes(at + 1)
        file.write(b"\0", at)
    assert not file.has_bytes(5000)


def test_has_bytes_where_the_system_does_not_say(tmp_path: Path) -> None:
    file = make(tmp_path)
    file.allocate(1 << 19)
    file.write(b"y", 300_000)
    file.close_descriptor()  # no lseek()
    assert file.has_bytes(300_000)
    assert not file.has_bytes(300_001)


def test_has_bytes_of_a_file_that_was_shortened(tmp_path: Path) -> None:
    file = make(tmp_path)
    file.write(b"x" * 300_000, 0)
    file.close_descriptor()
    os.truncate(tmp_path / "a", 0)
    with pytest.raises(CorruptData, match="another program truncated the file"):
        file.has_bytes(8192)

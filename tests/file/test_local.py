"""What only a folder on disk does: paths, permissions, limits, links."""

import errno
import os
import resource
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kvengine.errors import NotAStore, StorageError, StorageFull
from kvengine.file.local import LocalDirectory
from kvengine.file.memory import MemoryDirectory

Child = Callable[..., subprocess.Popen[str]]


def test_the_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    directory = LocalDirectory(str(path))
    assert path.is_dir()
    assert directory.path == str(path)


def test_every_new_folder_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    LocalDirectory(str(tmp_path / "a" / "b"))
    assert synced == [str(tmp_path), str(tmp_path / "a")]


def test_a_missing_folder_is_no_store_unless_it_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(NotAStore, match="does not exist"):
        LocalDirectory(str(tmp_path / "a"), create=False)
    assert os.listdir(tmp_path) == []


def test_a_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    for create in (True, False):
        with pytest.raises(NotAStore, match="is not a folder"):
            LocalDirectory(str(path), create=create)
    assert path.read_bytes() == b"precious"


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        LocalDirectory(str(tmp_path / "file" / "store"))
    assert caught.value.errno == errno.ENOTDIR
    assert caught.value.filename == str(tmp_path / "file" / "store")


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = LocalDirectory("store")
    monkeypatch.chdir("/")
    directory.replace("a", b"1")
    assert (tmp_path / "store" / "a").read_bytes() == b"1"


def test_a_folder_that_was_removed_gives_an_error_of_ours(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path / "store"))
    os.rmdir(directory.path)
    calls: list[Callable[[], object]] = [
        lambda: directory.create("a"),
        lambda: directory.replace("a", b"1"),
        lambda: directory.open("a", create=True, writable=True, map_bytes=4096),
        directory.names,
        directory.sync,
        directory.lock,
    ]
    for call in calls:
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.errno == errno.ENOENT
    assert not directory.lock_is_held()


def test_replace_syncs_the_bytes_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = LocalDirectory(str(tmp_path))
    events: list[str] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            events.append(name)
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, call)

    for name in ("fdatasync", "rename", "fsync"):
        watch(name)
    directory.replace("a", b"1")
    assert events == ["fdatasync", "rename", "fsync"]
    events.clear()
    directory.replace("a", b"2", durable=False)
    assert events == ["rename"]


def test_replace_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = LocalDirectory(str(tmp_path))
    directory.replace("a", b"old")
    for name in ("fdatasync", "rename"):
        with monkeypatch.context() as patch:

            def refuse(*_: object, **__: object) -> None:
                raise OSError(errno.EIO, "broken disk")

            patch.setattr(os, name, refuse)
            with pytest.raises(StorageError, match="broken disk") as caught:
                directory.replace("a", b"new")
            assert caught.value.errno == errno.EIO
        assert directory.names() == ["a"]
        assert directory.read("a") == b"old"


def test_a_link_shares_the_blocks(tmp_path: Path) -> None:
    first = LocalDirectory(str(tmp_path / "first"))
    second = LocalDirectory(str(tmp_path / "second"))
    first.replace("a", b"data")
    first.link("a", second)
    assert (tmp_path / "first" / "a").samefile(tmp_path / "second" / "a")


def test_a_link_never_overwrites(tmp_path: Path) -> None:
    """The second link meets the very same file: writing to it would empty both."""
    first = LocalDirectory(str(tmp_path / "first"))
    second = LocalDirectory(str(tmp_path / "second"))
    first.replace("a", b"data")
    first.link("a", second)
    with pytest.raises(StorageError) as caught:
        first.link("a", second)
    assert caught.value.errno == errno.EEXIST
    assert first.read("a") == second.read("a") == b"data"


def test_between_file_systems_a_link_is_a_copy(tmp_path: Path, small_file_system: Path) -> None:
    first = LocalDirectory(str(tmp_path / "first"))
    second = LocalDirectory(str(small_file_system))
    first.replace("a", os.urandom(100_000))
    first.link("a", second)
    assert second.read("a") == first.read("a")


def test_a_copy_that_does_not_fit_leaves_nothing(tmp_path: Path, small_file_system: Path) -> None:
    first = LocalDirectory(str(tmp_path / "first"))
    second = LocalDirectory(str(small_file_system))
    first.replace("a", bytes(2 << 20))
    with pytest.raises(StorageFull):
        first.link("a", second)
    assert second.names() == []


def test_a_file_in_memory_can_be_put_on_disk(tmp_path: Path) -> None:
    memory, local = MemoryDirectory(), LocalDirectory(str(tmp_path))
    memory.replace("a", b"data")
    memory.link("a", local)
    assert (tmp_path / "a").read_bytes() == b"data"


def test_a_full_disk_is_reported_and_frees_again(small_file_system: Path) -> None:
    directory = LocalDirectory(str(small_file_system))
    directory.replace("old", b"data")
    output = directory.create("large")
    with pytest.raises(StorageFull) as caught:
        output.write(bytes(2 << 20))
    output.close()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(small_file_system / "large")
    with pytest.raises(StorageFull):
        directory.replace("old", bytes(100_000))
    assert directory.read("old") == b"data"
    assert sorted(directory.names()) == ["large", "old"]
    directory.remove("large")
    directory.replace("old", b"news")
    assert directory.read("old") == b"news"


def test_a_full_disk_does_not_keep_the_lock_from_working(small_file_system: Path) -> None:
    directory = LocalDirectory(str(small_file_system))
    (small_file_system / "LOCK").touch()
    output = directory.create("large")
    with pytest.raises(StorageFull):
        output.write(bytes(2 << 20))
    output.close()
    directory.lock()
    assert directory.lock_is_held()
    directory.unlock()


WITHOUT_PERMISSION = """
import os, sys
from kvengine.errors import StorageError
from kvengine.file.local import LocalDirectory
os.setuid(65534)
directory = LocalDirectory(sys.argv[1], create=False)
print(directory.read("a").decode())
for call in (
    lambda: directory.replace("a", b"new"),
    lambda: directory.create("b"),
    lambda: directory.open("a", writable=True, map_bytes=4096),
    lambda: directory.remove("a"),
    lambda: directory.link("a", directory),
    lambda: directory.lock(),
    lambda: LocalDirectory(sys.argv[1] + "/new"),
):
    try:
        call()
        print("done")
    except StorageError as error:
        print(error.errno, error.filename)
"""


def test_a_folder_of_another_user_can_be_read_only(child: Child) -> None:
    """Not below tmp_path: its parents are closed to other users."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(f"/tmp/kvengine-test-{os.getpid()}")
    folder.mkdir(mode=0o755)
    try:
        (folder / "a").write_bytes(b"data")
        answers = child(WITHOUT_PERMISSION, str(folder)).communicate()[0].splitlines()
    finally:
        (folder / "a").unlink(missing_ok=True)
        folder.rmdir()
    names = ["a.tmp", "b", "a", "a", "a", "LOCK", "new"]
    expected = [(errno.EACCES, name) for name in names]
    expected[4] = (errno.EEXIST, "a")  # the name is looked at first
    assert answers == ["data", *(f"{code} {folder / name}" for code, name in expected)]


def test_a_folder_that_may_not_change_is_refused(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path))
    directory.replace("a", b"data")
    frozen = subprocess.run(
        ["chattr", "+i", str(tmp_path)], capture_output=True, text=True, check=False
    )
    if frozen.returncode != 0:
        pytest.skip(f"chattr +i does not work here: {frozen.stderr.strip()}")
    try:
        for call in (
            lambda: directory.replace("a", b"new"),
            lambda: directory.create("b").close(),
            lambda: directory.remove("a"),
            directory.lock,
        ):
            with pytest.raises(StorageError) as caught:
                call()
            assert caught.value.errno == errno.EPERM
        assert directory.read("a") == b"data"
    finally:
        subprocess.run(["chattr", "-i", str(tmp_path)], check=True)


def test_too_many_open_files(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path))
    directory.replace("a", b"data")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    calls: list[Callable[[], object]] = [
        lambda: directory.open("a", map_bytes=4096),
        lambda: directory.read("a"),
        lambda: directory.replace("a", b"new"),
        lambda: directory.create("b"),
        directory.lock,
        directory.names,
    ]
    errors = []
    # Descriptors may have holes below the highest: fill them first.
    fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(used + 8)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1, limits[1]))
    try:
        for call in calls:
            try:
                call()
            except StorageError as error:
                errors.append(error.errno)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)
    assert errors == [errno.EMFILE] * len(calls)
    assert directory.read("a") == b"data"
    directory.lock()
    directory.close()


def test_files_beyond_the_size_that_is_allowed(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path))
    output = directory.create("a")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(StorageError) as caught:
            output.write(bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        output.close()
    assert caught.value.errno == errno.EFBIG
    assert output.size == 10_000  # the part that was written


def test_a_file_that_is_replaced_by_another_thread_is_not_taken_for_a_stranger(tmp_path):
    """Else a writer would refuse to go on now and then while a job replaces the manifest."""
    directory = LocalDirectory(str(tmp_path))
    directory.replace("MANIFEST", b"", durable=False)
    directory.watch("MANIFEST")
    over = threading.Event()

    def replace():
        for number in range(3000):
            directory.replace("MANIFEST", b"%d" % number, durable=False)
        over.set()

    thread = threading.Thread(target=replace)
    thread.start()
    problems = set()
    while not over.is_set():
        problems.add(directory.folder.problem())
    thread.join()
    assert problems <= {None}
    directory.close()

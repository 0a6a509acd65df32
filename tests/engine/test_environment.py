"""When the surroundings refuse: one clear error, nothing acknowledged is lost, and it goes on.

Wrong folders, no permission, no space, no descriptors, a failed disk: each error says what was
wrong, where, and what was expected; once the cause is gone the store works again.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvengine import (
    NotAStore,
    StorageError,
    StorageFull,
    Store,
    StoreClosed,
    StoreLocked,
    StoreReadOnly,
)
from kvengine.file.local import LocalDirectory
from kvengine.testing.check import check_store
from kvengine.testing.faulty import FaultyDirectory

ROOT = Path(__file__).parent.parent.parent
SMALL = {"segment_bytes": 16384, "key_buffer_entries": 64}
NOBODY = 65534


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def run_python(code, *arguments, **options):
    """Run code in another process; return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=120,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def content_of_folder(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


# -- folders


@pytest.mark.parametrize("read_only", [False, True])
def test_a_folder_that_holds_something_else(tmp_path, read_only):
    for name in ("photo.jpg", "server.log", "book.index", "notes.tmp", "00000001.log.gz"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_bytes(b"precious")
        with pytest.raises(NotAStore) as refusal:
            Store(folder, read_only=read_only)
        assert str(folder) in str(refusal.value)
        assert "is not a kvengine store: it holds other files" in str(refusal.value)
        assert repr(name) in str(refusal.value)
        assert content_of_folder(folder) == {name: b"precious"}


def test_other_files_in_a_store_are_neither_read_nor_removed(path):
    with Store(path, **SMALL) as store:
        store[b"key"] = b"value"
    strangers = {"server.log", "book.index", "endpoint.keys", "notes.tmp", "readme", "1.log"}
    for name in strangers:
        (path / name).write_bytes(b"precious")
    (path / "folder.log").mkdir()
    for options in ({}, {"rebuild": True}, {"read_only": True}):
        with Store(path, **SMALL, **options) as store:
            assert store[b"key"] == b"value"
            if not options:
                store.compact()
            check_store(store)
    assert {name for name in strangers if (path / name).read_bytes() == b"precious"} == strangers
    assert (path / "folder.log").is_dir()


@pytest.mark.parametrize("path", ["a file", "a file/below"])
def test_a_path_that_is_a_file(tmp_path, path):
    (tmp_path / "a file").write_bytes(b"precious")
    for read_only in (False, True):
        with pytest.raises((NotAStore, StorageError)) as refusal:
            Store(tmp_path / path, read_only=read_only)
        assert str(tmp_path / path) in str(refusal.value)
        assert any(
            text in str(refusal.value)
            for text in ("is not a folder", "Not a directory", "does not exist")
        )
    assert (tmp_path / "a file").read_bytes() == b"precious"


def test_a_folder_that_goes_away_while_it_is_open(path):
    store = Store(path, **SMALL, durability="os")
    store[b"key"] = b"value"
    shutil.rmtree(path)
    assert store[b"key"] == b"value"
    with pytest.raises(StorageError) as failure:
        for number in range(100):
            store[b"%d" % number] = bytes(1000)
    assert failure.value.errno == errno.ENOENT
    assert str(path) in str(failure.value)
    assert store[b"key"] == b"value"
    store.close()
    assert not path.exists()


# -- permissions


AS_NOBODY = """
import os, sys, kvengine
kvengine.Store.in_memory().close()  # has Python import the rest of its library, which root may hide
os.setuid(int(sys.argv[2]))
for options in ({"read_only": True}, {}):
    try:
        with kvengine.Store(sys.argv[1], **options) as store:
            print(dict(store), store.verify().ok)
    except kvengine.KvError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def public_path():
    """A folder that other users may reach: not below tmp_path, whose parents are closed."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user, and is not held up by permissions")
    folder = Path(f"/tmp/kvengine-environment-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    with Store(folder, durability="os") as store:
        store[b"key"] = b"value"
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    yield folder
    shutil.rmtree(folder)


def test_without_permission_to_write_one_can_read(public_path):
    before = content_of_folder(public_path)
    reading, writing = run_python(AS_NOBODY, public_path, NOBODY)
    assert reading == "{b'key': b'value'} True"
    assert writing.startswith(f"StorageError [Errno {errno.EACCES}] cannot open: Permission denied")
    assert str(public_path / "OPENING") in writing
    assert content_of_folder(public_path) == before


@pytest.mark.parametrize(("name", "mode"), [("", 0o700), ("MANIFEST", 0o600)])
def test_without_permission_to_read_one_is_told(public_path, name, mode):
    (public_path / name).chmod(mode)
    for line in run_python(AS_NOBODY, public_path, NOBODY):
        assert line.startswith(f"StorageError [Errno {errno.EACCES}] cannot ")
        assert str(public_path) in line
    with Store(public_path) as store:
        assert store[b"key"] == b"value"


# -- space


@pytest.fixture
def small_folder(path):
    """A file system of 2 MiB of its own."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "kvengine", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system of one's own: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def write_until_full(store, expected):
    """Write until there is no space; everything that was acknowledged is in `expected`."""
    for number in range(10_000):
        key, value = b"%d %05d" % (len(expected), number), os.urandom(700)
        try:
            store[key] = value
        except StorageFull as error:
            return error
        expected[key] = value
    raise AssertionError("the disk never became full")


@pytest.mark.parametrize("durability", ["os", "interval", "group", "sync"])
def test_a_full_disk_that_is_freed(small_folder, durability):
    folder, ballast = small_folder / "store", small_folder / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    expected: dict[bytes, bytes] = {}
    with Store(folder, durability=durability, **SMALL) as store:
        full = write_until_full(store, expected)
        assert full.errno == errno.ENOSPC
        assert "No space left on device" in str(full)
        assert str(folder) in str(full.filename)
        with pytest.raises(StorageFull), store.batch() as batch:
            batch.put(b"not there", bytes(1 << 20))
        assert dict(store) == expected
        with Store(folder, read_only=True) as reader:
            assert dict(reader) == expected
        ballast.unlink()
        store[b"after"] = expected[b"after"] = b"the disk was freed"
        check_store(store)
    with Store(folder, **SMALL) as store:
        assert dict(store) == expected
        check_store(store)


def fill(file):
    """Take all space that is left."""
    with file.open("wb", buffering=0) as output, pytest.raises(OSError, match="No space left"):
        while True:
            output.write(bytes(4096))


def test_a_store_can_be_closed_and_opened_on_a_full_disk(small_folder):
    folder, ballast = small_folder / "store", small_folder / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    expected: dict[bytes, bytes] = {}
    with Store(folder, durability="os", **SMALL) as store:
        write_until_full(store, expected)
        fill(small_folder / "more")
    for options in ({"read_only": True}, {}):
        with Store(folder, durability="os", **SMALL, **options) as store:
            assert dict(store) == expected
    ballast.unlink()
    with Store(folder, durability="os", **SMALL) as store:
        for key in sorted(expected)[::2]:
            del expected[key]
            del store[key]
        assert store.compact() > 0
        assert dict(store) == expected
        check_store(store)


def test_what_fails_in_the_background_leaves_nothing_behind(small_folder):
    """A key run and a saved index are tried again under other names; the space is needed."""
    folder = small_folder / "store"
    options = {"durability": "os", "key_buffer_entries": 1 << 20, "compaction": "manual"}
    with Store(folder, **options) as store:
        store.update({b"%0100d" % number: b"" for number in range(3000)})
        fill(small_folder / "ballast")
        before = sorted(os.listdir(folder))
        for _ in range(3):
            with pytest.raises(StorageFull):
                store.checkpoint()
            assert sorted(os.listdir(folder)) == before
        (small_folder / "ballast").unlink()
        store.checkpoint()
        assert len(list(store)) == 3000
        check_store(store)


def test_no_space_to_make_a_store(small_folder):
    ballast = small_folder / "ballast"
    fill(ballast)
    with pytest.raises(StorageFull) as failure:
        Store(small_folder / "store")
    assert str(small_folder / "store") in str(failure.value)
    ballast.unlink()
    with Store(small_folder / "store") as store:
        assert store.put(b"key", b"value") == 1


# -- descriptors


MANY_FILES = """
import os, resource, sys, kvengine
path = sys.argv[1]
options = {"durability": "os", "segment_bytes": 4096, "key_buffer_entries": 64}
store = kvengine.Store(path, **options)
acknowledged, errors = 0, set()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
fillers = []
def fill():
    try:
        while True:
            fillers.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
def write(count):
    global acknowledged
    for number in range(count):
        try:
            acknowledged = store.put(b"%06d" % (acknowledged + 1), b"v" * 100)
        except kvengine.KvError as error:
            errors.add((type(error).__name__, error.errno, error.strerror))
            return
def attempt(call):
    try:
        call()
    except kvengine.KvError as error:
        print(type(error).__name__, error)
write(500)
fill()
write(500)
attempt(lambda: kvengine.Store(path, read_only=True))
attempt(lambda: kvengine.Store(path + " other"))
print(len(store) == acknowledged, len(list(store.scan())) == acknowledged)
while fillers:
    os.close(fillers.pop())
write(500)
store.close()
print(acknowledged, sorted(errors))
"""


def test_too_many_open_files(path):
    reader, other, right, end = run_python(MANY_FILES, path)
    for line, name in ((reader, "store"), (other, "store other")):
        assert line.startswith(f"StorageError [Errno {errno.EMFILE}] cannot ")
        assert "Too many open files" in line
        assert name in line
    assert right == "True True"
    acknowledged, errors = end.split(" ", 1)
    assert errors == f"[('StorageError', {errno.EMFILE}, 'cannot open: Too many open files')]"
    assert int(acknowledged) > 1000
    with Store(path) as store:
        assert list(store) == [b"%06d" % number for number in range(1, int(acknowledged) + 1)]
        check_store(store)


def test_a_reader_without_descriptors_reads_right_again_later(path):
    """Starting over fails half-way: nothing that it knew is lost, nothing old is given as new."""
    with Store(path, durability="os", **SMALL) as store:
        store.update({b"%d" % n: b"old" for n in range(500)})
        folder = LocalDirectory(str(path))
        with Store._in_directory(folder, read_only=True) as reader:
            assert reader[b"7"] == b"old"
            store.update({b"%d" % n: b"new" for n in range(500)})
            store.compact()
            store[b"more"] = b"new"
            original, opened = folder.open, []

            def refuse(name, **options):
                opened.append(name)
                if len(opened) > 1:
                    raise StorageError(errno.EMFILE, "cannot open: Too many open files", name)
                return original(name, **options)

            folder.open = refuse  # type: ignore[method-assign]
            for _ in range(3):
                opened.clear()
                with pytest.raises(StorageError, match="Too many open files"):
                    reader.get(b"7")
            folder.open = original  # type: ignore[method-assign]
            assert reader[b"7"] == reader[b"more"] == b"new"
            check_store(reader)


# -- in use, closed, a failed disk


def test_a_store_in_use(path):
    with Store(path, exclusive=True) as store:
        store[b"key"] = b"value"
        for options in ({}, {"rebuild": True}, {"create": False}, {"exclusive": True}):
            with pytest.raises(StoreLocked) as refusal:
                Store(path, **options)
            assert (refusal.value.path, refusal.value.pid) == (str(path), os.getpid())
            assert f"{path} is open for writing in process {os.getpid()}" in str(refusal.value)
        store[b"more"] = b"value"
    with pytest.raises(StoreClosed, match="the store is closed"):
        store.get(b"key")
    with Store(path) as again:
        assert len(again) == 2


def test_after_a_failed_sync_the_store_says_so_and_works_when_opened_again(path):
    faulty = FaultyDirectory(LocalDirectory(str(path)))
    store = Store._in_directory(faulty)
    store[b"before"] = b""
    faulty.fail(len(faulty.steps) + 2, errno.EIO)
    for _ in range(2):
        with pytest.raises(StoreReadOnly, match=r"read-only since a sync failed.*Input/output err"):
            store.put(b"lost", b"")
    with Store(path, read_only=True) as reader:
        assert b"before" in reader
    store.close()
    with Store(path) as again:
        assert b"before" in again
        again[b"after"] = b""

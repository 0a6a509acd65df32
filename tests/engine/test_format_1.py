"""Stores that kvengine 0.1 wrote are read as they are, and converted by the first write.

`stores_of_0_1.zip` holds two, made by 0.1.0 itself: one that was closed, and one as a process left
it that was killed.  Both have compacted segments, a saved index, key runs, a large value, an
expiry, deletes and a consumer.
"""

import fcntl
import os
import struct
import zipfile
from pathlib import Path

import pytest

from kvengine import Store, StoreClosed, StoreLocked, StoreReadOnly, UnsupportedFormat
from kvengine.engine.following.follower import Follower
from kvengine.file.system import boot_id
from kvengine.testing.check import check_store
from tests.engine.format_reader import FolderReader, read_manifest

ZIP = Path(__file__).with_name("stores_of_0_1.zip")
LAST = {"closed": 129, "killed": 130}  # versions


@pytest.fixture(params=LAST)
def old(request, tmp_path):
    """Return the folder of a store of 0.1."""
    with zipfile.ZipFile(ZIP) as file:
        file.extractall(tmp_path)
    (tmp_path / request.param).chmod(0o700)
    return tmp_path / request.param


def expected(folder):
    contents = {b"key %d" % n: b"%d" % n * (n % 7) for n in range(100) if n % 4}
    contents |= {b"large": b"x" * 5000, b"expires": b"later", b"empty": b""}
    contents[b"after the saved index"] = b"1"
    return contents | ({b"last": b"one"} if folder.name == "killed" else {})


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def written_format(folder):
    return read_manifest((folder / "MANIFEST").read_bytes())["format"]


def check(store, folder):
    assert dict(store.items()) == expected(folder)
    assert store.version == LAST[folder.name]
    entry = store.get_entry(b"large")
    assert entry is not None
    assert entry.metadata == b"about it"
    entry = store.get_entry(b"expires")
    assert entry is not None
    assert entry.expires_at == 4e9
    check_store(store)


def test_it_is_read_and_nothing_is_changed(old):
    before = files(old)
    assert written_format(old) == 1
    with Store(old, read_only=True) as store:
        check(store, old)
    assert files(old) == before


def test_the_second_reader_knows_it_as_well(old):
    reader = FolderReader(old)
    assert {key: row[0] for key, row in reader.contents().items()} == expected(old)
    assert reader.version == LAST[old.name]


def test_opening_it_to_write_does_not_convert_it(old):
    manifest = (old / "MANIFEST").read_bytes()
    with Store(old) as store:
        check(store, old)
    with Store(old) as store:
        check(store, old)
    assert (old / "MANIFEST").read_bytes() == manifest


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.put(b"new", b"1"),
        lambda store: store.delete(b"key 1"),
        lambda store: store.update({b"new": b"1", b"newer": b"2"}),
        lambda store: store.checkpoint(),
        lambda store: store.compact(),
    ],
    ids=["put", "delete", "batch", "checkpoint", "compact"],
)
def test_the_first_write_or_job_converts_it(old, write):
    with Store(old) as store:
        write(store)
        assert written_format(old) == 2
        wanted, version = dict(store.items()), store.version
        check_store(store)
    with Store(old) as store:
        assert dict(store.items()) == wanted
        assert store.version == version
        check_store(store)
    kept = {key: value for key, value in expected(old).items() if key != b"key 1"}
    assert kept.items() <= wanted.items()


def test_of_two_processes_each_may_convert_it(old):
    with Store(old) as first, Store(old) as second:
        second.put(b"second", b"2")
        generation = read_manifest((old / "MANIFEST").read_bytes())["generation"]
        first.put(b"first", b"1")
        assert read_manifest((old / "MANIFEST").read_bytes())["generation"] == generation
        wanted = expected(old) | {b"first": b"1", b"second": b"2"}
        assert dict(first.items()) == dict(second.items()) == wanted
        with Store(old, read_only=True) as reader:
            assert dict(reader.items()) == wanted


def test_a_conversion_that_fails_leaves_it_as_it_was(old, monkeypatch):
    with Store(old) as store:
        before = (old / "MANIFEST").read_bytes()

        def full(*args, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(type(store._parts.directory), "replace", full)
        with pytest.raises(OSError, match="No space"):
            store.put(b"new", b"1")
        assert (old / "MANIFEST").read_bytes() == before
        check(store, old)
        monkeypatch.undo()
        store.put(b"new", b"1")
        assert written_format(old) == 2
        assert store.version == LAST[old.name] + 1


def test_its_consumer_goes_on_where_it_was(old):
    with Store(old) as store:
        consumer = store.consumer("search")
        versions = [change.version for change in consumer.changes()]
        assert versions == list(range(129, LAST[old.name] + 1))


# -- while a process of 0.1 has it open


@pytest.fixture(params=["LOCK alone", "the folder too"])
def in_use(request, old):
    """Lock the store as a process of 0.1 does that has it open, on this boot.

    It locks the file LOCK alone; with the folder, which 0.2 locks too, it must be the same.
    """
    held = [os.open(old / "LOCK", os.O_RDWR)]
    if request.param == "the folder too":
        held.append(os.open(old, os.O_RDONLY))
    try:
        for file in held:
            fcntl.flock(file, fcntl.LOCK_EX)
        os.ftruncate(held[0], 0)
        os.pwrite(held[0], b"4711\n", 0)
        page = bytearray((old / "CONTROL").read_bytes())
        assert page[:8] == b"VKCTRL01"
        page[8:32] = struct.pack("<3Q", boot_id(), 4711, LAST[old.name])
        (old / "CONTROL").write_bytes(page)
        yield old
    finally:
        for file in held:
            os.close(file)


@pytest.mark.parametrize("options", [{}, {"exclusive": True}, {"rebuild": True}])
def test_nobody_else_writes_to_it(in_use, options):
    before = files(in_use)
    # Where the system lists the locks, as here, it tells who has this one; 4711 is long gone.
    holder = os.getpid() if Path("/proc/locks").exists() else 4711
    advice = r"kvengine 0\.1.*; close the store in all other processes"
    with pytest.raises(StoreLocked, match=f"in process {holder}, .*{advice}") as refusal:
        Store(in_use, **options)
    assert refusal.value.pid == holder
    assert files(in_use) == {"OPENING": b""} | before


def test_a_process_of_0_1_is_kept_out_as_well(old):
    """It tries to lock LOCK for itself alone."""
    with open(old / "LOCK", "r+b") as lock:
        with Store(old) as store, Store(old) as other:
            for _ in range(2):
                with pytest.raises(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other.close()
            check(store, old)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_nobody_follows_it(in_use):
    with pytest.raises(UnsupportedFormat, match=r"another version of kvengine has .* open"):
        Store(in_use, read_only=True)


def test_a_reader_that_was_there_before_gives_up(old):
    with Store(old, read_only=True) as reader:
        check(reader, old)
        with open(old / "LOCK", "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            follower = reader._parts.follower
            assert isinstance(follower, Follower)
            follower._look()
            with pytest.raises(StoreClosed, match="another version of kvengine"):
                follower._look()
            with pytest.raises(StoreClosed, match="another version of kvengine"):
                reader.get(b"large")


def test_the_page_of_0_1_is_not_believed(old):
    """On the boot of the page, too: it says less than is in the log, or more."""
    page = bytearray((old / "CONTROL").read_bytes())
    page[8:40] = struct.pack("<4Q", boot_id(), 0, 3, 3)
    (old / "CONTROL").write_bytes(page)
    with Store(old, read_only=True) as store:
        check(store, old)
        with pytest.raises(StoreReadOnly):
            store.put(b"new", b"1")
    with Store(old) as store:
        check(store, old)
        assert (old / "CONTROL").read_bytes()[:8] == b"VKCTRL02"

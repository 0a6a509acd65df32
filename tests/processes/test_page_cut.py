"""CONTROL, the page that processes share, is cut short, whether they have it open or not."""

import os
import signal
from contextlib import ExitStack, suppress

import pytest

from kvengine import StorageError, Store
from kvengine.engine import opening
from kvengine.testing.check import check_store
from kvengine.testing.history import content_of
from tests.processes.running import running
from tests.waiting import until

OPTIONS = {"durability": "os", "segment_bytes": 16384}

# Writes as fast as it can, and says of each write that it is acknowledged, and what ended it.
WRITER = """
import os, sys, kvengine
store = kvengine.Store(sys.argv[1], durability="os", segment_bytes=16384)
print("open", flush=True)
log = os.open(f"{sys.argv[1]} {os.getpid()}", os.O_WRONLY | os.O_CREAT)
for number in range(10**9):
    key = f"{os.getpid()} {number}"
    try:
        version = store.put(key.encode(), b"value")
    except kvengine.StorageError:
        break
    os.write(log, f"{key} {version}\\n".encode())
"""


def log_of(path, process):
    return path.with_name(f"{path.name} {process.pid}")


def written(path, processes):
    """Return how much processes have said."""
    logs = [log_of(path, process) for process in processes]
    return sum(log.stat().st_size for log in logs if log.exists())


def acknowledged(path, processes):
    """Return {key: version} of what processes have said."""
    found, versions = {}, set()
    for process in processes:
        log = log_of(path, process)
        for line in log.read_text().splitlines() if log.exists() else ():
            key, _, version = line.rpartition(" ")
            found[key.encode()] = int(version)
            assert version not in versions, "two writes got one version"
            versions.add(version)
    return found


def versions_in(path):
    with Store(path, **OPTIONS) as store:
        check_store(store)
        return {key: version for key, (_, version) in content_of(store).items()}


@pytest.mark.parametrize("size", [0, 100, 368, 4095])
def test_two_processes_that_write_lose_nothing_acknowledged(tmp_path, size):
    """The kernel ends who touches a page that no file is behind; nothing else does."""
    path = tmp_path / "store"
    with ExitStack() as stack:
        processes = [stack.enter_context(running(WRITER, path, "open")) for _ in range(2)]
        until(lambda: written(path, processes) > 10_000, "they write")
        os.truncate(path / "CONTROL", size)
        before = written(path, processes)
        if size == 4095:
            until(lambda: written(path, processes) > before + 10_000, "they go on")
        else:
            ended = {process.wait() for process in processes}
            assert ended == {-signal.SIGBUS if size == 0 else 0}
    assert acknowledged(path, processes).items() <= versions_in(path).items()


@pytest.mark.parametrize("size", [100, 368])
def test_nobody_writes_alone_after_others_have_joined(tmp_path, size):
    """Without that page both would take themselves for the only one, and need no mutex."""
    store, other = Store(tmp_path, **OPTIONS), Store(tmp_path, **OPTIONS)
    store.put(b"a", b"1")
    other.put(b"b", b"2")
    os.truncate(tmp_path / "CONTROL", size)
    for one in (store, other, store):
        with pytest.raises(StorageError, match="overwritten or truncated"):
            one.put(b"never", b"written")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"CONTROL.*truncated"):
            Store(tmp_path, **OPTIONS)
    for one in (store, other):
        with suppress(StorageError):
            one.close()
    assert versions_in(tmp_path) == {b"a": 1, b"b": 2}
    with Store(tmp_path, exclusive=True) as store:
        assert store.put(b"c", b"3") == 3


@pytest.mark.parametrize("size", [20, 100, 368])
def test_what_one_acknowledges_that_is_alone_is_there(tmp_path, size):
    store = Store(tmp_path, **OPTIONS)
    store.put(b"a", b"1")
    acknowledged = {b"a": 1}
    os.truncate(tmp_path / "CONTROL", size)
    with suppress(StorageError):
        for number in range(3000):
            acknowledged[b"%d" % number] = store.put(b"%d" % number, b"value")
    with suppress(StorageError):
        store.close()
    assert versions_in(tmp_path) == acknowledged


def test_nobody_joins_until_all_have_closed(tmp_path, monkeypatch):
    """Who reads would show what is there when it opens the store, for ever."""
    monkeypatch.setattr(opening, "OPENING_LOOKS", 3)
    with Store(tmp_path, **OPTIONS) as store:
        store.put(b"a", b"1")
        os.truncate(tmp_path / "CONTROL", 4095)
        for options in ({"read_only": True}, {}):
            with pytest.raises(StorageError, match=r"CONTROL.*truncated"):
                Store(tmp_path, **options)
        store.put(b"b", b"2")
    with Store(tmp_path, **OPTIONS) as store, Store(tmp_path, read_only=True) as reader:
        store.put(b"c", b"3")
        assert set(reader) == {b"a", b"b", b"c"}


@pytest.mark.parametrize("size", [0, 100, 4095])
@pytest.mark.parametrize("options", [{"read_only": True}, {}, {"exclusive": True}])
def test_nobody_has_it_open(tmp_path, size, options):
    with Store(tmp_path, **OPTIONS) as store:
        store.put(b"a", b"1")
    os.truncate(tmp_path / "CONTROL", size)
    with Store(tmp_path, **options) as store:
        assert content_of(store) == {b"a": (b"1", 1)}
        check_store(store)
    assert versions_in(tmp_path) == {b"a": 1}
    assert (tmp_path / "CONTROL").stat().st_size == 4096

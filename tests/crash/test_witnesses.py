"""Without a control page the log and the manifest say themselves how far it went, and are heard."""

import pytest

from kvengine import CorruptData, Store
from kvengine.testing.crashing import folder_of
from kvengine.testing.history import content_of

OPTIONS = {"compaction": "manual", "durability": "sync"}


def files_of(folder):
    """Return the files of a store but for those that another boot or machine would not have."""
    return {name: folder.read(name) for name in folder.names() if name not in ("LOCK", "CONTROL")}


def made(count):
    """Return the files of a store with so many synced keys."""
    folder = folder_of({})
    store = Store._in_directory(folder, **OPTIONS)
    for number in range(count):
        store.put(b"key %02d" % number, b"v" * 40)
    return files_of(folder)


@pytest.mark.parametrize("rebuild", [False, True])
def test_damage_before_a_mark_that_the_log_was_on_disk_is_damage(rebuild):
    """Each record but the first was written when those before it were on disk, and says so."""
    files = made(20)
    log = bytearray(files["00000001.log"])
    log[log.index(b"key 05") + 20] ^= 1
    broken = {**files, "00000001.log": bytes(log)}
    with pytest.raises(CorruptData, match=r"record checksum in 00000001\.log"):
        Store._in_directory(folder_of(broken), rebuild=rebuild, **OPTIONS)


def test_damage_with_nothing_durable_behind_it_is_a_torn_end():
    files = made(20)
    log = bytearray(files["00000001.log"])
    log[log.index(b"key 19") + 20] ^= 1
    with Store._in_directory(folder_of({**files, "00000001.log": bytes(log)}), **OPTIONS) as store:
        assert store.version == 19
        assert len(content_of(store)) == 19


def test_a_log_that_ends_before_the_version_of_the_manifest_is_damage():
    """The manifest was written when everything up to its version was on disk."""
    folder = folder_of({})
    store = Store._in_directory(folder, **{**OPTIONS, "durability": "os"})
    for number in range(9):
        store.put(b"key %02d" % number, b"v" * 40)
    store.checkpoint()
    files = files_of(folder)
    log = files["00000001.log"]
    end = log.index(b"key 06") - 24
    broken = {**files, "00000001.log": log[:end] + bytes(len(log) - end)}
    for rebuild in (False, True):
        with pytest.raises(CorruptData):
            Store._in_directory(folder_of(broken), rebuild=rebuild, **OPTIONS)

"""A disk that fails, or a machine that stops, at each step of put_many."""

import errno
from collections.abc import Iterator

import pytest

from kvengine import Database, Namespace, Store
from kvengine.errors import StorageError, StorageFull, StoreReadOnly
from kvengine.testing.crashing import CrashedFolder, KeptDirectory
from kvengine.testing.faulty import FaultyDirectory

PAIRS = {f"key {number:02}": f"{number}" * 3000 for number in range(12)}
PART_CHANGES = 3
OPTIONS = {"log_writes": "pwrite", "durability": "sync", "compaction": "manual"}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvengine.namespace.transfer.bulk.PART_CHANGES", PART_CHANGES)


def new_database() -> tuple[FaultyDirectory, Namespace]:
    directory = FaultyDirectory(KeptDirectory())
    return directory, Database(Store._in_directory(directory, **OPTIONS)).namespace("test")


def steps_of_a_call(atomic: bool) -> Iterator[tuple[FaultyDirectory, Namespace, int]]:
    """Yield a new namespace, and the number of a step of its next put_many, for each step."""
    directory, kv = new_database()
    before = len(directory.steps)
    kv.put_many(PAIRS, atomic=atomic)
    after = len(directory.steps)
    kv._store.close()
    for step in range(before + 1, after + 1):
        directory, kv = new_database()
        assert len(directory.steps) == before
        yield directory, kv, step
        kv._store.close()


def written(kv: Namespace) -> list[str]:
    keys = [info.name for info in kv.list().keys]
    assert kv.get_many(keys) == {key: PAIRS[key] for key in keys}
    return keys


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_atomic_call_fails_as_a_whole(code: int) -> None:
    tried = 0
    for directory, kv, step in steps_of_a_call(atomic=True):
        tried += 1
        directory.fail(step, code)
        with pytest.raises((StorageError, StoreReadOnly)) as caught:
            kv.put_many(PAIRS)
        if directory.steps[step - 1].operation == "sync":  # the records are there: who knows?
            assert caught.type is StoreReadOnly
            assert written(kv) == [*PAIRS]
        else:
            assert caught.type is (StorageFull if code == errno.ENOSPC else StorageError)
            assert written(kv) == []
    assert tried >= 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_the_report_has_what_a_failure_kept_from_being_written(code: int) -> None:
    reports = set()
    for directory, kv, step in steps_of_a_call(atomic=False):
        directory.fail(step, code, forever=True)
        try:
            report = kv.put_many([("", "refused"), *PAIRS.items()], atomic=False)
        except (StorageError, StoreReadOnly):
            assert not reports  # it was in the first part
            continue
        finally:
            directory.heal()
        done = report.successful_key_count
        reports.add(done)
        refused, *lost = report.unsuccessful_keys
        assert refused == {"key": "", "error": "Key name cannot be empty."}
        assert [failure["key"] for failure in lost] == [*PAIRS][done:]
        assert all(f"[Errno {code}] cannot" in failure["error"] for failure in lost)
        assert written(kv)[:done] == [*PAIRS][:done]
    assert reports == {3, 6, 9}


@pytest.mark.parametrize("atomic", [True, False])
def test_after_a_crash_each_part_is_there_or_not(atomic: bool) -> None:
    directory, kv = new_database()
    before = len(directory.steps)
    kv.put_many(PAIRS, atomic=atomic)
    seen = set()
    for step in range(before, len(directory.steps) + 1):
        left = CrashedFolder(directory.recording, step)
        for model in ("kill", "ordered", "torn"):
            with Store._in_directory(left.folder(model, step), **OPTIONS) as store:
                keys = written(Database(store).namespace("test"))
            assert keys == [*PAIRS][: len(keys)]
            seen.add(len(keys))
    kv._store.close()
    assert seen == ({0, 12} if atomic else {0, 3, 6, 9, 12})

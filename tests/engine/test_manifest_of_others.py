"""Manifests that several processes replace: which one is in place, and what goes with it.

Each store object here stands for a process: they share nothing but the folder.
"""

import pytest

from kvengine import Store
from kvengine.testing.check import check_store

MANUAL = {"durability": "os", "compaction": "manual", "segment_bytes": 8192}


@pytest.fixture
def stores(tmp_path):
    with Store(tmp_path, **MANUAL) as store, Store(tmp_path, **MANUAL) as other:
        store.update({b"%d" % number: bytes(100) for number in range(20)})
        yield store, other


def test_a_manifest_that_came_after_the_own_is_not_taken_for_it(stores, monkeypatch):
    """A process is stopped behind the rename of its manifest, and another one replaces it."""
    store, other = stores
    put_in_place, attempts = store._put_in_place, []

    def stop_behind_the_rename(*arguments):
        attempts.append(arguments)
        assert len(attempts) < 5
        put_in_place(*arguments)
        if len(attempts) == 1:
            store.end_jobs(store.token)
            other.checkpoint()

    monkeypatch.setattr(store, "_put_in_place", stop_behind_the_rename)
    store.maintenance.run(store.replace_manifest)
    store.checkpoint()
    assert store.manifest.generation > other.manifest.generation
    check_store(store)
    check_store(other)

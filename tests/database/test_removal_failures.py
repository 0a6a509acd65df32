"""A removal that fails: it is tried again, later each time, and keeps nobody from closing."""

import gc
import logging
import threading
import time
import weakref
from typing import Any

import pytest

from kvengine import Database, StorageFull, Store, StoreReadOnly
from kvengine.database import removal
from kvengine.engine.access.batch import Batch
from kvengine.namespace.layout import DATA


class Full(Store):
    """A store on a disk that is full when it is told to be."""

    full = False
    refused = 0

    def batch(self, durability: Any = None) -> Batch:
        if durability == "os" and self.full:
            self.refused += 1
            raise StorageFull(28, "no space left")
        return super().batch(durability)


@pytest.fixture
def store():
    return Full.in_memory()


@pytest.fixture
def db(store):
    """A database with a namespace, on a disk that is full."""
    with Database(store) as opened:
        fill(opened)
        yield opened


def fill(db):
    kv = db.namespace("ns")
    for number in range(100):
        kv.put(f"key{number}", b"")
    db.store.full = True


def data_keys(store):
    return list(store.keys(DATA))


def removers():
    return [thread for thread in threading.enumerate() if thread.name == "kvengine-removal"]


@pytest.fixture
def long_pause(monkeypatch):
    monkeypatch.setattr(removal, "RETRY_S", 3600)
    monkeypatch.setattr(removal, "RETRY_MAX_S", 3600)


def test_it_is_tried_again(db, store, caplog, monkeypatch):
    """The disk is full for a while: nobody has to open the database again."""
    monkeypatch.setattr(removal, "RETRY_S", 0.001)
    monkeypatch.setattr(removal, "RETRY_MAX_S", 0.01)
    with caplog.at_level(logging.WARNING, "kvengine"):
        db.delete("ns")
        db.wait_for_removals()  # does not wait forever
        while store.refused < 5:
            time.sleep(0.001)
    (message,) = caplog.messages
    assert "will be retried" in message
    assert "no space left" in message
    assert len(data_keys(store)) == 100
    assert len(removers()) == 1
    store.full = False
    while db._catalog.deleting():
        time.sleep(0.001)
    db.wait_for_removals()
    assert data_keys(store) == []


def test_the_next_namespace_that_is_deleted_ends_a_pause(db, store, long_pause):
    db.delete("ns")
    db.wait_for_removals()
    store.full = False
    db.namespace("other")
    db.delete("other")
    db.wait_for_removals()
    assert data_keys(store) == []


@pytest.mark.parametrize("end", ["close", "drop"])
def test_a_pause_does_not_keep_the_database(long_pause, end):
    db = Database(Full.in_memory())
    fill(db)
    db.delete("ns")
    db.wait_for_removals()
    (thread,) = removers()
    gone = weakref.ref(db.store)
    if end == "close":
        db.close()
    del db
    thread.join(60)
    assert not thread.is_alive()
    gc.collect()
    assert gone() is None


def test_a_store_that_takes_no_more_writes_ends_it(db, store, caplog):
    store.full = False
    row = db._catalog.find("ns")
    db._catalog._by_id[row.id] = row._replace(deleting=True)
    store._parts.refuse_writes(StoreReadOnly("a sync failed"))
    with caplog.at_level(logging.WARNING, "kvengine"):
        db._remover.begin()
        db.wait_for_removals()
    assert removers() == []
    (message,) = caplog.messages
    assert "until the next open" in message
    store._parts.refuse_writes(None)

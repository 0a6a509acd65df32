"""Opening, sharing and closing a database: what it is made of, and who may hold it."""

import gc
import os
import threading
import weakref

import pytest

import kvengine
from kvengine import (
    Database,
    NamespaceNotFound,
    Store,
    StoreClosed,
    StoreReadOnly,
)
from kvengine.database.catalog import Catalog
from kvengine.testing.clock import ManualClock

QUICK = {"durability": "os", "compaction": "manual"}


def test_a_database_is_a_store_with_namespaces(tmp_path):
    clock = ManualClock()
    with kvengine.open(tmp_path / "new", clock=clock, **QUICK) as db:
        assert (db.clock, db.closed) == (clock, False)
        assert db.store.path == str(tmp_path / "new")
        assert repr(db) == f"<kvengine.Database {str(tmp_path / 'new')!r}>"
        before = db.version
        assert db.namespace("ns").put("key", "value") == db.version > before
        db.sync()
    assert db.closed
    db.close()


def test_in_memory_takes_the_options_of_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Database.in_memory(segment_bytes=4096, clock=ManualClock(), limits="strict") as db:
        assert db.store._parts.options.segment_bytes == 4096
        db.namespace("ns").put("key", "value")
        assert db.namespace("ns").get("key") == "value"
    assert list(tmp_path.iterdir()) == []


def test_after_close_every_call_says_so():
    db = Database.in_memory()
    db.namespace("ns")
    db.close()
    for call in (
        lambda: db.namespace("ns"),
        lambda: db.namespace("new"),
        lambda: db.create_namespace("ns"),
        lambda: db.create_namespace("new"),
        db.namespaces,
        lambda: db.rename("ns", "other"),
        lambda: db.delete("ns"),
        lambda: db.delete("never"),
        db.sync,
        lambda: db.version,
    ):
        with pytest.raises(StoreClosed, match="the store is closed"):
            call()


# -- readers


def test_a_reader_sees_what_the_writer_makes(tmp_path):
    with (
        kvengine.open(tmp_path, **QUICK) as writer,
        kvengine.open(tmp_path, read_only=True) as reader,
    ):
        assert reader.namespaces() == []
        with pytest.raises(NamespaceNotFound, match="namespace 'ns' does not exist"):
            reader.namespace("ns")
        writer.namespace("ns").put("key", "value")
        kv = reader.namespace("ns")
        assert (kv.get("key"), kv.title) == ("value", "ns")
        assert reader.namespaces() == writer.namespaces()
        writer.rename("ns", "new")
        assert (kv.get("key"), kv.title) == ("value", "new")
        assert reader.namespace("new") is kv
        with pytest.raises(NamespaceNotFound, match="namespace 'ns' does not exist"):
            reader.namespace("ns")
        for call in (
            lambda: reader.create_namespace("other"),
            lambda: reader.rename("new", "other"),
            lambda: reader.delete("new"),
            lambda: kv.put("key", "value"),
        ):
            with pytest.raises(StoreReadOnly):
                call()
        writer.store.compact()
        assert [info.title for info in reader.namespaces()] == ["new"]
        assert kv.get("key") == "value"


def test_a_reader_may_come_before_the_writer(tmp_path):
    Store(tmp_path).close()
    with kvengine.open(tmp_path, read_only=True) as reader:
        assert reader.namespaces() == []
        with kvengine.open(tmp_path, **QUICK) as writer:
            writer.namespace("ns").put("key", "value")
            assert reader.namespace("ns").get("key") == "value"


def test_a_reader_keeps_up_while_namespaces_come_and_go(tmp_path):
    with kvengine.open(tmp_path, **QUICK) as writer, kvengine.open(tmp_path, read_only=True) as db:
        writer.namespace("kept").put("key", "value")
        done, wrong = threading.Event(), []

        def read():
            while not done.is_set():
                if db.namespace("kept").get("key") != "value":
                    wrong.append("kept")
                for info in db.namespaces():
                    try:
                        if db.namespace(info.title).get("key") not in (None, "value"):
                            wrong.append(info.title)
                    except NamespaceNotFound:
                        pass

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(150):
            writer.namespace(str(number)).put("key", "value")
            writer.rename(str(number), f"-{number}")
            writer.delete(f"-{number}")
        done.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert [info.title for info in db.namespaces()] == ["kept"]


# -- many


def test_thousands_of_namespaces_cost_reads_and_writes_nothing(tmp_path, monkeypatch):
    with kvengine.open(tmp_path, **QUICK) as db:
        for number in range(2000):
            db.namespace(f"ns {number:04d}").put("key", str(number))
    with kvengine.open(tmp_path, **QUICK) as db:
        kv = db.namespace("ns 1234")
        assert kv.get("no") is None  # it looks once whether it is there still
        for name in ("refresh", "find", "title_by_id", "is_living", "_load"):
            monkeypatch.delattr(Catalog, name)  # nothing is looked up in the catalog from here on
        assert kv.get("key") == "1234"
        assert kv.get(["key", "no"]) == {"key": "1234", "no": None}
        assert [info.name for info in kv.list().keys] == ["key"]
        kv.put("other", "value", if_version=0)
        kv.delete("key")
        monkeypatch.undo()
        assert len(db.namespaces()) == 2000
        assert [info.title for info in db.namespaces(page=20, per_page=100)] == [
            f"ns {number}" for number in range(1900, 2000)
        ]


# -- who keeps whom alive


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_that_nobody_holds_is_closed_at_once(tmp_path, read_only):
    with kvengine.open(tmp_path, **QUICK) as db:
        db.namespace("ns").put("key", "value")
    db = kvengine.open(tmp_path, **QUICK, read_only=read_only)
    kv = db.namespace("ns")
    gone, store = weakref.ref(db), weakref.ref(db.store)
    gc.disable()
    try:
        del db
        assert gone() is None
        assert kv.get("key") == "value"  # who has a namespace has its store
        del kv
        assert store() is None or read_only  # the engine lets go of a reader's with the next gc
    finally:
        gc.enable()
    kvengine.open(tmp_path, **QUICK).close()  # not locked


# -- interrupted


class Interrupted:
    """A batch that is interrupted when it has been written, as by Ctrl-C while the disk works."""

    def __init__(self, batch):
        self.batch = batch

    def __enter__(self):
        return self.batch.__enter__()

    def __exit__(self, *exc_info):
        self.batch.__exit__(*exc_info)
        raise KeyboardInterrupt


class Interruptible(Store):
    """Its next batch is interrupted."""

    armed = False

    def batch(self, durability=None):
        batch = super().batch(durability)
        return Interrupted(batch) if self.armed else batch


def test_a_change_of_the_catalog_that_was_interrupted_was_made_all_the_same():
    """Else the next namespace would get the same number, and the keys of this one."""
    store = Interruptible.in_memory()
    with Database(store) as db:
        store.armed = True
        with pytest.raises(KeyboardInterrupt):
            db.namespace("one")
        store.armed = False
        one, two = db.namespace("one"), db.namespace("two")
        assert one._prefix != two._prefix
        store.armed = True
        with pytest.raises(KeyboardInterrupt):
            db.rename("one", "three")
        with pytest.raises(KeyboardInterrupt):
            db.delete("two")
        store.armed = False
        assert [info.title for info in db.namespaces()] == ["three"]
        assert db.namespace("three") is one
        assert db.namespace("two") is not two


def test_a_forked_child_has_no_database():
    with Database.in_memory() as db:
        kv = db.namespace("ns")
        kv.put("key", "value")
        child = os.fork()
        if child == 0:
            wrong = 0
            for call in (lambda: kv.get("key"), kv.list, lambda: kv.put("key", ""), db.namespaces):
                try:
                    call()
                    wrong += 1
                except StoreClosed:
                    pass
            os._exit(wrong)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert kv.get("key") == "value"

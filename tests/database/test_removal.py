"""A deleted namespace: out of reach at once, gone from the disk later, whatever comes between."""

import gc
import signal
import subprocess
import sys
import threading
import weakref

import pytest

from kvengine import Database, NamespaceNotFound, Store, open  # noqa: A004
from kvengine.database import removal
from kvengine.namespace.layout import import_key
from kvengine.testing.clock import ManualClock

QUICK = {"durability": "os", "compaction": "manual"}


def fill(kv, count=100, size=10):
    for number in range(count):
        kv.put(f"key{number:05d}", bytes(size))


def data_keys(store):
    return [*store.keys(b"d"), *store.keys(b"i")]


def removers():
    return [thread for thread in threading.enumerate() if thread.name == "kvengine-removal"]


def test_it_is_out_of_reach_at_once():
    with Database.in_memory() as db:
        kv, other = db.namespace("ns"), db.namespace("other")
        fill(kv, 5000)
        fill(other)
        db.delete("ns")
        assert [info.title for info in db.namespaces()] == ["other"]
        for call in (
            lambda: kv.get("key00001"),
            lambda: kv.get(["key00001"]),
            lambda: kv._try_get("key00001"),
            lambda: kv.get_with_metadata("key00001"),
            lambda: kv.get_metadata("key00001"),
            lambda: "key00001" in kv,
            lambda: kv.put("key", "value"),
            lambda: kv.delete("key00001"),
            lambda: kv.touch("key00001", expiration_ttl=60),
            lambda: kv.increment("key"),
            kv.list,
            kv.keys,
            lambda: kv.count("k"),
            lambda: kv.title,
        ):
            with pytest.raises(NamespaceNotFound, match=r"^namespace 'ns' does not exist$"):
                call()
        again = db.namespace("ns")
        assert again.id != kv.id
        assert again.list().keys == []
        again.put("key00001", "new")
        db._remover.wait()
        assert again.get("key00001") == "new"
        assert len(other.list().keys) == 100
        assert len(data_keys(db.store)) == 101


def test_space_is_given_back(tmp_path):
    with open(tmp_path, **QUICK) as db:
        db.namespace("kept").put("key", "value")
        fill(db.namespace("ns"), 2000, 1000)
        before = sum(file.stat().st_size for file in tmp_path.iterdir())
        db.delete("ns")
        db._remover.wait()
        db.store.compact()
        assert len(db.store) == 2 + 1  # catalog, row, and the one key
    assert before > 2_000_000
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 100_000


def test_expired_keys_and_positions_of_imports_go_too(tmp_path):
    clock = ManualClock()
    with open(tmp_path, **QUICK, clock=clock) as db:
        kv, other = db.namespace("ns"), db.namespace("other")
        for number in range(500):
            kv.put(str(number), bytes(1000), expiration_ttl=10)
        for namespace in (kv, other):
            db.store.put(import_key(namespace._number, b"d" * 16), b"line 5")
        clock.advance(10)
        db.delete("ns")
        db._remover.wait()
        db.store.compact()
        assert data_keys(db.store) == [import_key(other._number, b"d" * 16)]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 100_000


# -- cut short


def test_what_was_cut_short_goes_on_at_the_next_open(tmp_path):
    with open(tmp_path, **QUICK) as db:
        fill(db.namespace("ns"), 3000)
        fill(db.namespace("kept"))
        db._remover.stop()  # as if close() had come first
        db.delete("ns")
        assert len(data_keys(db.store)) == 3100
    with open(tmp_path, read_only=True) as db:
        assert [info.title for info in db.namespaces()] == ["kept"]
    assert removers() == []
    with open(tmp_path, **QUICK) as db:
        db._remover.wait()
        assert len(data_keys(db.store)) == 100
        assert db._catalog.deleting() == []


def test_close_in_the_middle(tmp_path, monkeypatch):
    monkeypatch.setattr(removal, "BATCH_KEYS", 7)
    with open(tmp_path, **QUICK) as db:
        for number in range(3):
            fill(db.namespace(str(number)), 400)
        fill(db.namespace("kept"))
    for number in range(3):
        with open(tmp_path, **QUICK) as db:
            db.delete(str(number))
    with open(tmp_path, **QUICK) as db:
        db._remover.wait()
        assert len(data_keys(db.store)) == 100
        assert db._catalog.deleting() == []


DELETES = """
import sys, kvengine
from kvengine.database import removal
removal.BATCH_KEYS = 10
db = kvengine.open(sys.argv[1], durability="os")
db._remover.wait()
kv = db.namespace("ns")
for number in range(2000):
    kv.put(str(number), "value")
db.delete("ns")
print("deleted", flush=True)
END
"""


def run(path, end):
    return subprocess.Popen(
        [sys.executable, "-c", DELETES.replace("END", end), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_in_the_middle(tmp_path):
    for _ in range(3):
        with run(tmp_path, "import time; time.sleep(60)") as child:
            assert child.stdout.readline() == "deleted\n"
            child.send_signal(signal.SIGKILL)
    with open(tmp_path, **QUICK) as db:
        assert db.namespaces() == []
        db._remover.wait()
        assert data_keys(db.store) == []


@pytest.mark.parametrize("end", ["", "db = kv = None", "sys.exit(0)", "raise SystemExit", "del db"])
def test_the_program_ends_in_the_middle(tmp_path, end):
    with run(tmp_path, end) as child:
        output, errors = child.communicate(timeout=120)
    assert (child.returncode, output, errors) == (0, "deleted\n", "")
    with open(tmp_path, **QUICK) as db:
        db._remover.wait()
        assert data_keys(db.store) == []


# -- the thread


def test_the_thread_is_there_while_there_is_work():
    with Database.in_memory() as db:
        fill(db.namespace("ns"))
        assert removers() == []
        for number in range(50):
            fill(db.namespace(str(number)), 20)
            db.delete(str(number))
            assert len(removers()) <= 1
        db._remover.wait()
        assert removers() == []
        assert len(data_keys(db.store)) == 100
    db.close()
    db._remover.begin()
    assert removers() == []


def test_the_thread_does_not_keep_the_database(monkeypatch):
    monkeypatch.setattr(removal, "BATCH_KEYS", 5)
    db = Database.in_memory()
    fill(db.namespace("ns"), 2000)
    db.delete("ns")
    gone = weakref.ref(db)
    gc.disable()
    try:
        del db
        assert gone() is None
    finally:
        gc.enable()
    for thread in removers():
        thread.join()


class Recording(Store):
    """Tells where each scan began."""

    starts: list

    def keys(self, prefix=b"", **options):
        self.starts.append((prefix, options.get("start_after")))
        return super().keys(prefix, **options)


@pytest.fixture
def recording(monkeypatch):
    monkeypatch.setattr(Recording, "starts", [], raising=False)
    with Database(Recording.in_memory()) as db:
        yield db


def test_a_removal_does_not_begin_at_the_start_again_and_again(recording):
    """Else each batch would look at all keys that are gone already."""
    kv = recording.namespace("ns")
    fill(kv, 5500)
    recording.store.starts.clear()
    recording.delete("ns")
    recording._remover.wait()
    starts = [start for prefix, start in recording.store.starts if prefix == kv._prefix]
    assert starts.count(None) == 2  # and once more, for writers that were slow
    assert starts[1:6] == [kv._name(f"key{number:05d}") for number in range(999, 5000, 1000)]


def test_the_store_is_closed_under_the_thread(monkeypatch, caplog):
    monkeypatch.setattr(removal, "BATCH_KEYS", 1)
    db = Database.in_memory()
    fill(db.namespace("ns"), 3000)
    db.delete("ns")
    db.store.close()
    db._remover.wait()
    assert removers() == []
    assert caplog.messages == []
    db.close()


# -- other processes


def test_a_reader_that_has_a_handle(tmp_path):
    with open(tmp_path, **QUICK) as writer, open(tmp_path, read_only=True) as reader:
        fill(writer.namespace("ns"))
        writer.namespace("other").put("key", "value")
        kv, other = reader.namespace("ns"), reader.namespace("other")
        keys = kv.keys()
        assert kv.get("key00001") is not None
        unused = reader.namespace("ns")
        assert unused is kv
        writer.delete("ns")
        for call in (
            lambda: kv.get("key00001"),
            lambda: kv.get("key00001"),  # not only the first time
            lambda: kv.get(["key00001"]),
            lambda: kv.get_metadata("key00001"),
            kv.list,
            lambda: list(keys),
            lambda: kv.count("k"),
            lambda: kv.put("key", "value"),
            lambda: reader.namespace("ns"),
        ):
            with pytest.raises(NamespaceNotFound, match=f"'(ns|{kv.id})' does not exist"):
                call()
        writer._remover.wait()
        again = writer.namespace("ns")
        assert other.get("key") == "value"
        with pytest.raises(NamespaceNotFound):
            kv.get("key00001")
        again.put("key00001", "new")
        assert reader.namespace("ns").get("key00001") == "new"
        assert reader.namespace("ns").id == again.id


def test_a_namespace_that_is_deleted_while_a_reader_asks_for_it(tmp_path):
    """No handle is made of what the catalog said before."""
    with open(tmp_path, **QUICK) as writer, open(tmp_path, read_only=True) as reader:
        fill(writer.namespace("ns"))
        row = reader._catalog.find("ns")
        writer.delete("ns")
        assert reader.version > 0  # it has taken in the delete
        assert reader._namespace(row) is None


READER = """
import sys, kvengine
with kvengine.open(sys.argv[1], read_only=True) as db:
    kv = db.namespace("ns")
    print(kv.get("key00001", "bytes"), flush=True)
    for line in sys.stdin:
        try:
            print(kv.get("key00001"), flush=True)
        except kvengine.NamespaceNotFound as error:
            print(type(error).__name__, flush=True)
"""


def test_a_reader_in_another_process(tmp_path):
    with open(tmp_path, **QUICK) as writer:
        fill(writer.namespace("ns"), size=3)
        with subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout.readline() == "b'\\x00\\x00\\x00'\n"
            writer.delete("ns")
            for _ in range(3):
                child.stdin.write("again\n")
                child.stdin.flush()
                assert child.stdout.readline() == "NamespaceNotFound\n"
            child.stdin.close()

"""Changes of the catalog that something interrupts: what is in memory is what the store has."""

import functools
import json
import threading

import pytest

import kvengine
from kvengine import Database, KvError, NamespaceExists, StoreBusy
from kvengine.metering.ledger import Ledger
from kvengine.namespace.layout import CATALOG
from kvengine.testing.interrupting import ERRORS, Interruption, count_points

POINTS = 150


def titles(db):
    return [info.title for info in db.namespaces()]


def stored_titles(db):
    """Return the titles that somebody who opens the store now would see."""
    rows = db._catalog._store.scan(CATALOG, start_after=CATALOG)
    found = [json.loads(row.value) for row in rows]
    return sorted(row["title"] for row in found if row["state"] != "deleting")


def numbers(db):
    """Return the number of each namespace that the store knows; none may be there twice."""
    return [row.number for row in db._catalog._by_id.values()]


CALLS = {
    "create": lambda db, at: db.create_namespace(f"new {at}"),
    "namespace": lambda db, at: db.namespace(f"new {at}").put("key", "value"),
    "rename": lambda db, at: db.rename(f"old {at}", f"new {at}"),
    "delete": lambda db, at: db.delete(f"old {at}"),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_exception_at_every_line(tmp_path, call):
    """Else the next namespace could get a number that was given, and with it another's keys."""
    with kvengine.open(tmp_path / "db", durability="os") as db:
        for at in range(1, POINTS):
            db.namespace(f"old {at}").put("mine", str(at))
            interruption = Interruption(at, ERRORS[at % 3])
            error = interruption.run(functools.partial(CALLS[call], db, at))
            where = f"{call}: {interruption.place}"
            assert error is None or isinstance(error, (*ERRORS, KvError)), where
            assert sorted(titles(db)) == stored_titles(db), where
            after = db.namespace(f"after {at}")
            after.put("mine", f"after {at}")
            assert len(set(numbers(db))) == len(numbers(db)), where
            if f"old {at}" in titles(db):
                assert db.namespace(f"old {at}").get("mine") == str(at), where
            if not interruption.place:
                break
        assert at > 10
        expected = sorted(titles(db))
        db.wait_for_removals()
    with kvengine.open(tmp_path / "db") as db:
        assert sorted(titles(db)) == expected
        assert len(set(numbers(db))) == len(numbers(db))
        for title in expected:
            if title.startswith(("old", "after")):
                assert db.namespace(title).get("mine") == title.removeprefix("old ")


def test_a_handler_that_changes_the_catalog_in_the_middle_of_a_change(monkeypatch):
    """It is told at once; one that only looks works."""
    with Database.in_memory() as db:
        db.create_namespace("there")
        found = []
        original = db._catalog._write

        def interrupted(*args, **options):
            found.append(titles(db))
            found.append(db.namespace("there").list().keys)
            with pytest.raises(StoreBusy):
                db.create_namespace("in a handler")
            original(*args, **options)

        monkeypatch.setattr(db._catalog, "_write", interrupted)
        db.create_namespace("new")
        monkeypatch.undo()
        assert found[0] == ["there"]
        db.create_namespace("in a handler")
        assert titles(db) == ["in a handler", "new", "there"]
        with pytest.raises(NamespaceExists):
            db.create_namespace("new")


def test_a_finalizer_that_uses_the_database_while_counts_are_written_down(monkeypatch):
    with Database.in_memory() as db:
        kv = db.namespace("flags")
        kv.put("a", "1")
        today = Ledger.today

        def interrupted(ledger):
            monkeypatch.setattr(Ledger, "today", today)
            db.namespace("other").put("b", "2")
            assert not ledger.write_down()
            assert db.usage("flags").counts.writes == 1
            return today(ledger)

        monkeypatch.setattr(Ledger, "today", interrupted)
        assert db._ledger.write_down()
        assert db.usage("flags").counts.writes == 1
        assert db.usage("other").counts.writes == 1


def test_counts_are_written_down_once_whatever_interrupts():
    with Database.in_memory(usage_interval_s=60) as db:
        kv = db.namespace("flags")
        kv.put("a", "1")
        total = count_points(db._ledger.write_down)
        for at in range(1, total + 1):
            kv.put("a", "1")
            interruption = Interruption(at, ERRORS[at % 3])
            interruption.run(db._ledger.write_down)
            db._ledger.write_down()
            assert db.usage("flags").counts.writes == at + 1, interruption.place


HANG_S = 60


def test_a_handler_in_a_change_waits_for_nobody_who_waits_for_the_change(monkeypatch):
    """One thread deletes, and waits for the catalog; the handler must not wait for that thread."""
    with Database.in_memory() as db:
        for title in ("there", "old"):
            db.create_namespace(title)
        begin_removal, write = db._catalog.begin_removal, db._catalog._write
        waits, found = threading.Event(), []

        def waiting(row):
            waits.set()
            begin_removal(row)

        def interrupted(*args, **options):
            monkeypatch.setattr(db._catalog, "_write", write)
            deleting.start()
            assert waits.wait(HANG_S)
            db.namespace("there").put("key", "of a handler")
            for refused in (lambda: db.delete("there"), db._primary_for_edges):
                with pytest.raises(StoreBusy):
                    refused()
            found.append(True)
            write(*args, **options)

        monkeypatch.setattr(db._catalog, "_write", interrupted)
        monkeypatch.setattr(db._catalog, "begin_removal", waiting)
        deleting = threading.Thread(target=db.delete, args=("old",), daemon=True)
        creating = threading.Thread(target=db.create_namespace, args=("new",), daemon=True)
        creating.start()
        creating.join(HANG_S)
        assert found
        deleting.join(HANG_S)
        assert titles(db) == ["new", "there"]
        assert db.namespace("there").get("key") == "of a handler"


def primaries():
    return [one for one in threading.enumerate() if one.name == "kvengine-primary"]


def test_an_interrupted_primary_leaves_no_thread():
    before = len(primaries())
    with Database.in_memory() as db:
        total = count_points(db._primary_for_edges)
    for at in range(1, total + 1):
        with Database.in_memory() as db:
            interruption = Interruption(at, ERRORS[at % 3])
            interruption.run(db._primary_for_edges)
            db._primary_for_edges()
        assert len(primaries()) == before, interruption.place

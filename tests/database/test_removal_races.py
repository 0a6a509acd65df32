"""Removing a deleted namespace: nobody writes to it any more, and a failure ends it quietly."""

import pytest

import kvengine
from kvengine import NamespaceNotFound, StorageFull
from kvengine.database.catalog import Catalog
from kvengine.database.removal import Remover


@pytest.fixture
def db():
    with kvengine.Database.in_memory() as opened:
        yield opened


def test_a_write_after_the_removal_leaves_nothing_behind(db, monkeypatch: pytest.MonkeyPatch):
    """A remover that is at work already may be done with a namespace at once."""
    kv = db.namespace("gone")
    kv.put("key", "value")
    begin_removal = Catalog.begin_removal

    def removed_at_once(self, row):
        begin_removal(self, row)
        Remover(db.store, self)._remove(row)
        with pytest.raises(NamespaceNotFound):
            kv.put("key", "too late")

    monkeypatch.setattr(Catalog, "begin_removal", removed_at_once)
    db.delete("gone")
    assert list(db.store.keys(kv._prefix)) == []


def test_keys_are_looked_for_in_one_pass_and_once_more(db, monkeypatch: pytest.MonkeyPatch):
    """A scan from the beginning for each batch would pass over all that is deleted already."""
    starts = []
    keys = db.store.keys

    def recorded(prefix=b"", *, start_after=None, limit=None):
        if prefix.startswith(b"d"):
            starts.append(start_after)
        return keys(prefix, start_after=start_after, limit=limit)

    monkeypatch.setattr("kvengine.database.removal.BATCH_KEYS", 2)
    monkeypatch.setattr(db.store, "keys", recorded)
    kv = db.namespace("gone")
    kv.put_many(dict.fromkeys("abcde", ""))
    db.delete("gone")
    db.wait_for_removals()
    assert starts == [None, *(kv._name(key) for key in "bde"), None]
    assert list(keys(kv._prefix)) == []


def test_a_namespace_that_can_not_be_deleted_goes_on(db, monkeypatch: pytest.MonkeyPatch):
    def full(self, row):
        raise StorageFull(28, "no room", "segment")

    kv = db.namespace("stays")
    monkeypatch.setattr(Catalog, "begin_removal", full)
    with pytest.raises(StorageFull):
        db.delete("stays")
    kv.put("key", "value")
    assert db.namespace("stays").get("key") == "value"


def test_whoever_found_a_namespace_just_before_it_was_deleted_does_not_get_it(
    db, monkeypatch: pytest.MonkeyPatch
):
    find = Catalog.find

    def found_just_before(self, title):
        row = find(self, title)
        monkeypatch.setattr(Catalog, "find", find)
        db.delete(title)
        return row

    gone = db.create_namespace("gone")
    monkeypatch.setattr(Catalog, "find", found_just_before)
    assert db.namespace("gone").id != gone.id


def test_a_removal_that_fails_is_not_tried_again_at_once(db, monkeypatch: pytest.MonkeyPatch):
    tried = []

    def full(self, row):
        tried.append(row)
        raise StorageFull(28, "no room", "segment")

    db.namespace("gone").put("key", "value")
    remove = Remover._remove
    monkeypatch.setattr(Remover, "_remove", full)
    db.delete("gone")
    db.wait_for_removals()
    assert len(tried) == 1
    monkeypatch.setattr(Remover, "_remove", remove)
    db._remover.begin()
    db.wait_for_removals()
    assert db._catalog.deleting() == []

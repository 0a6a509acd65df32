"""Which namespaces there are: made once, listed in order, renamed, never mixed up."""

import re
import threading

import pytest

from kvengine import (
    Database,
    InvalidRequest,
    InvalidType,
    KvError,
    Limits,
    NamespaceExists,
    NamespaceInfo,
    NamespaceNotFound,
    Store,
    open,  # noqa: A004
)
from kvengine.namespace.layout import NUMBER_MAX


@pytest.fixture
def db():
    with Database.in_memory() as opened:
        yield opened


def together(count, call):
    """Call in several threads at once; return what each gave."""
    results, started = [None] * count, threading.Barrier(count)

    def run(number):
        started.wait()
        results[number] = call(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def titles(db, **options):
    return [info.title for info in db.namespaces(**options)]


# -- made


def test_the_first_use_makes_a_namespace(db):
    assert db.namespaces() == []
    kv = db.namespace("sessions")
    assert db.namespaces() == [NamespaceInfo(kv.id, "sessions")]
    assert re.fullmatch("[0-9a-f]{32}", kv.id)
    assert (kv.title, kv.limits) == ("sessions", db.limits)
    assert db.namespace("sessions") is db.namespace(kv.id) is kv
    assert titles(db) == ["sessions"]
    assert kv.id in repr(kv)


def test_eight_threads_that_use_it_first_make_one(db):
    for number in range(30):
        found = together(8, lambda _, title=str(number): db.namespace(title))
        assert len(set(map(id, found))) == 1
    assert len(db.namespaces()) == 30


def test_first_use_and_creation_at_the_same_time(db):
    def make(title, number):
        if number % 2:
            return db.namespace(title).id
        try:
            return db.create_namespace(title).id
        except NamespaceExists:
            return db.namespace(title).id

    for turn in range(30):
        ids = together(6, lambda number, title=str(turn): make(title, number))
        assert len(set(ids)) == 1


def test_create_refuses_a_title_that_is_taken(db):
    info = db.create_namespace("one")
    assert info == NamespaceInfo(db.namespace("one").id, "one")
    with pytest.raises(NamespaceExists, match="a namespace with the title 'one' already exists"):
        db.create_namespace("one")
    db.delete("one")
    assert db.create_namespace("one").id != info.id


@pytest.mark.parametrize("title", ["x", "x" * 512, "é" * 512, "😀" * 512, " ", "\0", "a/b", ".."])
def test_titles(tmp_path, title):
    with open(tmp_path, durability="os") as db:
        db.namespace(title).put("key", "value")
    with open(tmp_path, durability="os") as db:
        assert titles(db) == [title]
        assert db.namespace(title).get("key") == "value"


@pytest.mark.parametrize(
    ("title", "kind", "text"),
    [
        ("", InvalidRequest, "a title must have 1 to 512 characters, not 0"),
        ("x" * 513, InvalidRequest, "a title must have 1 to 512 characters, not 513"),
        ("ab\ud800", InvalidRequest, "there is a lone surrogate at index 2"),
        (b"bytes", InvalidType, "a str, not bytes"),
        (5, InvalidType, "a str, not int"),
        (None, InvalidType, "a str, not NoneType"),
        (["list"], InvalidType, "a str, not list"),
    ],
)
def test_what_is_no_title(db, title, kind, text):
    db.namespace("one")
    version = db.version
    for call in (db.namespace, db.create_namespace, lambda title: db.rename("one", title)):
        with pytest.raises(kind) as caught:
            call(title)
        assert text in str(caught.value).replace("must be a str", "a str")
    if kind is InvalidType:
        for call in (db.delete, lambda title: db.rename(title, "two")):
            with pytest.raises(kind, match=text):
                call(title)
    assert (titles(db), db.version) == (["one"], version)


def test_a_title_that_looks_like_the_id_of_another(db):
    one, two = db.namespace("one"), db.namespace("two")
    db.rename("two", one.id)
    assert db.namespace(one.id) is two
    assert db.namespace("one") is one
    db.delete(one.id)
    assert db.namespace(one.id) is one
    with pytest.raises(NamespaceNotFound):
        two.get("key")
    assert one.get("key") is None


def test_tighter_limits_do_not_hide_a_namespace():
    store = Store.in_memory()
    long = Database(store).namespace("a long title")
    with Database(store, limits=Limits(title_chars=4)) as db:
        assert db.namespace("a long title").id == db.namespace(long.id).id == long.id
        with pytest.raises(InvalidRequest, match="a title must have 1 to 4 characters, not 5"):
            db.namespace("other")


def test_numbers_are_not_used_again(tmp_path):
    seen = set()
    for _ in range(3):
        with open(tmp_path, durability="os") as db:
            for _ in range(5):
                kv = db.namespace("ns")
                assert kv._prefix not in seen
                seen.add(kv._prefix)
                db.delete(kv.id)
    assert len(seen) == 15


def test_when_all_numbers_were_used(db, monkeypatch):
    monkeypatch.setattr(db._catalog, "_next_number", NUMBER_MAX)
    assert db.namespace("last")._prefix == b"d\xff\xff\xff\xff"
    db.namespace("last").put("key", "value")
    assert [info.name for info in db.namespace("last").list().keys] == ["key"]
    with pytest.raises(KvError, match="all 4294967296 namespace numbers are used up"):
        db.namespace("one too many")


# -- listed


def test_pages_and_order(db):
    made = [db.create_namespace(title) for title in ("b", "é", "a", "B", "😀", "ab")]
    by_title = sorted(made, key=lambda info: info.title)
    by_id = sorted(made)
    assert db.namespaces() == by_title
    for order, wanted in (("title", by_title), ("id", by_id)):
        assert db.namespaces(order=order, direction="asc") == wanted
        assert db.namespaces(order=order, direction="desc") == wanted[::-1]
        pages = [db.namespaces(order=order, page=page, per_page=4) for page in (1, 2, 3, 4)]
        assert pages == [wanted[:4], wanted[4:], [], []]
    assert db.namespaces(page=2) == []
    assert db.namespaces(page=6, per_page=1) == by_title[5:]
    assert db.namespaces(page=10**30, per_page=10**30) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"page": 0}, "page must be an int of at least 1, not 0"),
        ({"page": -1, "per_page": 5}, "page must be an int of at least 1, not -1"),
        ({"page": True}, "page must be an int of at least 1, not True"),
        ({"page": 1.0}, "page must be an int of at least 1, not 1.0"),
        ({"per_page": 0}, "per_page must be an int of at least 1, not 0"),
        ({"per_page": "5", "page": 2}, "per_page must be an int of at least 1, not '5'"),
        ({"order": "name"}, "order must be 'id' or 'title', not 'name'"),
        ({"order": ["id"]}, r"order must be 'id' or 'title', not \['id'\]"),
        ({"direction": "up"}, "direction must be 'asc' or 'desc', not 'up'"),
    ],
)
def test_pages_that_can_not_be(db, arguments, text):
    with pytest.raises(InvalidRequest, match=text):
        db.namespaces(**arguments)


# -- renamed


def test_a_renamed_namespace_is_the_same(tmp_path):
    with open(tmp_path, durability="os") as db:
        kv = db.namespace("old")
        kv.put("key", "value")
        assert db.rename("old", "new") == NamespaceInfo(kv.id, "new")
        assert (kv.get("key"), kv.title) == ("value", "new")
        assert db.namespace("new") is kv
        assert db.namespace("old") is not kv
        assert db.rename(kv.id, "new") == db.rename("new", "newest")._replace(title="new")
        with pytest.raises(NamespaceExists, match="title 'old' already exists"):
            db.rename("newest", "old")
    with open(tmp_path, durability="os") as db:
        assert titles(db) == ["newest", "old"]
        assert db.namespace("newest").get("key") == "value"


def test_a_rename_or_delete_of_what_is_not_there(db):
    db.namespace("gone")
    namespace_id = db.namespaces()[0].id
    db.delete("gone")
    for name in ("never", "gone", namespace_id, "", "x" * 1000):
        for call in (lambda name: db.rename(name, "other"), db.delete):
            with pytest.raises(NamespaceNotFound, match=f"^namespace '{name}' does not exist$"):
                call(name)
    assert titles(db) == []


def test_titles_can_be_exchanged(db):
    one, two = db.namespace("one"), db.namespace("two")
    db.rename("one", "free")
    db.rename("two", "one")
    db.rename("free", "two")
    assert (db.namespace("one"), db.namespace("two")) == (two, one)
    assert titles(db) == ["one", "two"]


def test_renames_deletes_and_first_uses_at_the_same_time(db):
    """Whatever happens, titles are unique and a namespace that was found is not a deleted one."""

    def change(number):
        for turn in range(60):
            kind = (number + turn) % 4
            try:
                if kind == 0:
                    db.delete("a")
                elif kind == 1:
                    db.rename("a", "b")
                elif kind == 2:
                    db.rename("b", "a")
                else:
                    db.namespace("a").put("key", str(number))
            except (NamespaceNotFound, NamespaceExists):
                pass

    together(6, change)
    found = titles(db)
    assert found == sorted(set(found))
    assert set(found) <= {"a", "b"}
    db._remover.wait()
    living = {db.namespace(title)._prefix for title in found}
    assert {key[:5] for key in db.store.keys(b"d")} <= living
    reopened = Database(db.store)
    assert reopened.namespaces() == db.namespaces()


def test_what_was_found_may_be_out_of_date(db):
    """Between looking for a namespace and changing it another thread may have been there."""
    row = db._catalog.find(db.create_namespace("a").id)
    db.rename("a", "b")
    assert db._catalog.rename(row, "c").title == "c"
    assert titles(db) == ["c"]
    db.delete("c")
    before = db.version
    assert db._namespace(row) is None
    for call in (
        lambda: db._catalog.rename(row, "d"),
        lambda: db._catalog.begin_removal(row),
    ):
        with pytest.raises(NamespaceNotFound, match="does not exist"):
            call()
    db._remover.wait()
    assert titles(db) == []
    assert len(db.store) == 1
    assert db.version <= before + 2  # nothing but the end of the removal
    made = db._catalog.create("e", 0)
    assert db._catalog.find_or_create("e", 0) == db._catalog.find_or_create(made.id, 0) == made

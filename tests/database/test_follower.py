"""A replica of a database is a database that only reads; one of some namespaces has only these."""

import pytest

import kvengine
from kvengine import (
    Database,
    Follower,
    InvalidRequest,
    NamespaceNotFound,
    NotCaughtUp,
    StoreReadOnly,
)


@pytest.fixture
def source():
    with Database.in_memory() as database:
        for title in ("one", "two", "three"):
            kv = database.namespace(title)
            for number in range(20):
                kv.put(f"key {number}", f"{title} {number}", metadata={"n": number})
        yield database


def values(database, title):
    kv = database.namespace(title)
    return {info.name: kv.get_with_metadata(info.name) for info in kv.keys()}  # noqa: SIM118


def test_a_replica_is_a_database_that_only_reads(source, tmp_path):
    with Follower(source, tmp_path / "replica") as follower:
        assert follower.wait(timeout=20)
        with kvengine.open(tmp_path / "replica", read_only=True) as other:
            database = follower.database()
            for replica in (database, other):
                assert replica.namespaces() == source.namespaces()
                assert values(replica, "two") == values(source, "two")
                assert replica.namespace("two").count() == 20
                with pytest.raises((StoreReadOnly, NamespaceNotFound)):
                    replica.namespace("four")
                with pytest.raises(StoreReadOnly):
                    replica.namespace("two").put("a", "b")
            source.namespace("four").put("a", "1")
            source.rename("one", "first")
            source.delete("three")
            source.namespace("two").delete("key 0")
            assert follower.wait(timeout=20)
            for replica in (database, other):
                assert replica.namespaces() == source.namespaces()
                assert values(replica, "first") == values(source, "first")
                assert values(replica, "two") == values(source, "two")
                assert replica.namespace("four").get("a") == "1"
                with pytest.raises(NamespaceNotFound):
                    replica.namespace("three")


def test_only_some_namespaces(source, tmp_path):
    number = source.namespaces()[0].id
    title = source.namespaces()[0].title
    asked = {"namespaces": ["two", number], "background": False}
    with Follower(source, tmp_path, **asked) as follower:
        with pytest.raises(NotCaughtUp):
            follower.database()
        follower.catch_up()
        database = follower.database()
        assert {info.title for info in database.namespaces()} == {"two", title}
        assert values(database, "two") == values(source, "two")
        prefixes = {key[:5] for key in follower.store if key.startswith(b"d")}
        assert len(prefixes) == 2
        source.rename("two", "second")
        source.namespace("second").put("new", "1")
        source.namespace("five").put("new", "1")
        follower.catch_up()
        assert {info.title for info in database.namespaces()} == {"second", title}
        assert database.namespace("second").get("new") == "1"
    with Follower(source, tmp_path, namespaces=["second", title], background=False) as follower:
        follower.catch_up()
        store = follower.promote()
    store.close()
    with kvengine.open(tmp_path) as database:
        database.namespace("six").put("a", "1")
        assert database.namespace("second").get("new") == "1"
        assert values(database, title) == values(source, title)


def test_what_is_asked_for_must_be_there(source, tmp_path):
    with pytest.raises(NamespaceNotFound, match="nine"):
        Follower(source, tmp_path, namespaces=["one", "nine"])
    with pytest.raises(InvalidRequest, match="not both"):
        Follower(source, namespaces=["one"], prefixes=[b"a"])
    with pytest.raises(InvalidRequest, match="list of titles"):
        Follower(source, namespaces="one")


def test_a_promoted_replica_is_a_database_that_writes(source, tmp_path):
    with Follower(source, tmp_path, background=False) as follower:
        follower.catch_up()
        with Database(follower.promote()) as database:
            assert database.namespace("one").put("mine", "1") == source.version + 1
            database.delete("two")
            database.wait_for_removals()
            assert database.namespace("new").get("a") is None


def test_a_database_that_was_opened_on_a_replica_gives_no_numbers(source):
    follower = Follower(source, background=False)
    follower.catch_up()
    before = follower.database()
    source.namespace("newest")
    follower.catch_up()
    follower.promote()
    with pytest.raises(StoreReadOnly, match="open it again"):
        before.namespace("mine")
    assert before.namespace("newest").put("a", "1") > source.version
    with Database(follower.promote()) as database:
        database.namespace("mine")
        assert {info.title for info in database.namespaces()} >= {"newest", "mine"}


def test_a_plain_store_is_followed_too():
    with kvengine.Store.in_memory() as source, Follower(source) as follower:
        source[b"a"] = b"1"
        assert follower.wait(timeout=20)
        assert follower.store[b"a"] == b"1"
        assert follower.store.digest(moment=1) == source.digest(moment=1)


@pytest.mark.parametrize("kind", ["database", "server"])
def test_the_log_is_read_once_to_follow_some_namespaces(kind, monkeypatch):
    from kvengine.client.log import HttpLog
    from kvengine.replication.local_source import LocalSource
    from tests.server.running import TOKEN, running

    begun = []
    for source_type in (LocalSource, HttpLog):
        pieces = source_type.pieces

        def counted(self, after, *, follow=False, pieces=pieces):
            begun.append((type(self), after))
            return pieces(self, after, follow=follow)

        monkeypatch.setattr(source_type, "pieces", counted)
    with running(limits="relaxed") as server, kvengine.connect(server.url, token=TOKEN) as far:
        server.db.namespace("wanted").put("k", "v")
        server.db.namespace("other").put("x", "y")
        source = server.db if kind == "database" else far.log_source()
        wanted = ["wanted", server.db.namespace("wanted").id]
        with kvengine.Follower(source, namespaces=wanted, background=False) as follower:
            follower.catch_up()
            with follower.database() as db:
                assert [info.title for info in db.namespaces()] == ["wanted"]
                assert db.namespace("wanted").get("k") == "v"
        own = LocalSource if kind == "database" else HttpLog
        assert [after for of, after in begun if of is own] == [0]
        with pytest.raises(kvengine.NamespaceNotFound):
            kvengine.Follower(source, namespaces=["none"], background=False)

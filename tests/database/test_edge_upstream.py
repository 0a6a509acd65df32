"""What an edge leaves to the database behind it, and that all databases have the same methods."""

import asyncio
import inspect

import pytest

import kvengine
import kvengine.aio
from kvengine import NamespaceExists, NamespaceInfo, NamespaceNotFound, StoreClosed
from kvengine.aio.remote import RemoteDatabase as AsyncRemoteDatabase
from tests.server.running import TOKEN, running

SYNC = [kvengine.Edge, kvengine.RemoteDatabase]
ASYNC = [kvengine.aio.Database, kvengine.aio.Edge, AsyncRemoteDatabase]

OF_A_STORE = {"clock", "consumer", "consumers", "in_memory", "snapshot"}  # that is in this process
OF_AN_EDGE = {"stats"}
OF_A_CONNECTION = {"account", "log_source", "url"}
ATTRIBUTES = {"closed", "limits", "version"}


@pytest.fixture(params=["database", "edge", "server"])
def pair(request):
    """An edge, and the database behind it: in this process, over another edge, on a server."""
    with kvengine.Database.in_memory() as db:
        if request.param == "server":
            with running() as server, kvengine.Edge(server.url, token=TOKEN) as edge:
                yield edge, server.db
        elif request.param == "edge":
            with kvengine.Edge(db, "up") as up, kvengine.Edge(up, "down") as edge:
                yield edge, db
        else:
            with kvengine.Edge(db) as edge:
                yield edge, db


def test_namespaces_are_those_of_the_database(pair):
    edge, db = pair
    made = edge.create_namespace("a")
    assert edge.namespaces() == db.namespaces() == [made]
    assert edge.namespaces(order="id", direction="desc", page=2, per_page=1) == []
    with pytest.raises(NamespaceExists):
        edge.create_namespace("a")
    assert edge.rename("a", "b") == NamespaceInfo(made.id, "b")
    assert [info.title for info in db.namespaces()] == ["b"]


def test_who_deletes_a_namespace_reads_nothing_of_it(pair):
    edge, db = pair
    kv = edge.namespace("a")
    kv.put("k", "1")
    assert kv.get("k") == "1"
    edge.delete("a")
    with pytest.raises(NamespaceNotFound):
        kv.get("k")
    edge.wait_for_removals()
    assert db.namespaces() == []
    with pytest.raises(NamespaceNotFound):
        edge.delete("a")


def test_the_log_what_was_used_and_the_disk(pair):
    edge, db = pair
    kv = edge.namespace("a")
    version = kv.put("k", "1")
    assert edge.version == db.version
    (change,) = edge.tail()
    assert (change.version, change.name, change.namespace_id) == (version, "k", kv.id)
    (same,) = edge.tail(version - 1, follow=True, timeout=0)
    assert same == change
    assert edge.usage("a").counts.writes == db.usage("a").counts.writes == 1
    edge.sync()


def test_a_closed_edge_asks_nothing():
    with kvengine.Database.in_memory() as db:
        edge = kvengine.Edge(db)
        edge.close()
        for call in (
            edge.namespaces,
            edge.sync,
            edge.tail,
            edge.usage,
            lambda: edge.version,
            lambda: edge.create_namespace("a"),
            lambda: edge.delete("a"),
        ):
            with pytest.raises(StoreClosed):
                call()
        assert db.namespaces() == []


def test_for_asyncio():
    async def main():
        async with kvengine.aio.Database.in_memory() as db, kvengine.aio.Edge(db) as edge:
            made = await edge.create_namespace("a")
            kv = await edge.namespace("a")
            version = await kv.put("k", "1")
            assert await edge.namespaces() == await db.namespaces() == [made]
            assert [change.version async for change in edge.tail()] == [version]
            await edge.sync()
            await edge.rename("a", "b")
            assert (await edge.usage("b")).counts.writes == 1
            await edge.delete("b")
            await edge.wait_for_removals()
            assert await db.namespaces() == []

    asyncio.run(main())


def public(cls):
    names = {name for name in dir(cls) if not name.startswith("_")}
    return names - OF_A_STORE - OF_AN_EDGE - OF_A_CONNECTION - ATTRIBUTES


@pytest.mark.parametrize("cls", [*SYNC, *ASYNC], ids=lambda cls: cls.__module__)
def test_every_database_has_the_same_methods(cls):
    assert public(cls) == public(kvengine.Database)
    for method in sorted(public(cls)):
        found, wanted = (
            [(one.name, one.kind, one.default) for one in inspect.signature(of).parameters.values()]
            for of in (getattr(cls, method), getattr(kvengine.Database, method))
        )
        assert found == wanted, method
        assert inspect.getdoc(getattr(cls, method)), method

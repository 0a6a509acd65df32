"""What each public object does in a forked child: kvengine/FORK.md has a row for each.

It works, or raises StoreClosed with advice that works: never an old value, never what another
process was answered, never a hang.
"""

import asyncio
import errno
import os
import re
import threading
from pathlib import Path

import pytest

import kvengine
import kvengine.aio
from kvengine import CachedStore, Follower, Store, connect_log, serve_log
from kvengine.testing.check import check_store
from kvengine.testing.world import World
from tests.forking import PATIENCE_S, error_of, fork_in_c, in_child

ROOT = Path(__file__).parents[1]
SMALL = {"durability": "os", "segment_bytes": 16384, "key_buffer_entries": 64}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def test_a_store_opened_for_writing_before_a_fork_opens_again_in_the_child(path):
    """With batches, and iterators that were begun: each process goes on with a copy of its own."""
    store = Store(path, **SMALL)
    store.update({b"%d" % n: b"value" for n in range(2000)})  # with a thread in the background
    batch = store.batch()
    batch.put(b"batch", b"of both")
    begun = [store.keys(), iter(store.items()), store.scan(), store.tail()]
    for iterator in begun:
        next(iterator)

    def look():
        store.put(b"child", b"1")
        batch.commit()
        assert store.snapshot().get(b"child") == b"1"
        store.compact()
        store.sync()
        assert store.wait(0) == store.version == 2002
        rest = [sum(1 for _ in iterator) for iterator in begun]
        with Store(path) as second:
            assert second.get(b"batch") == b"of both"
        check_store(store)
        store.close()
        return rest[3] >= 1999, error_of(lambda: store.get(b"1")), store.closed

    assert in_child(look) == (True, ("StoreClosed", "the store is closed"), True)
    assert store[b"child"] == b"1"
    assert store.version == 2002
    store[b"after"] = b"the fork"
    assert batch.commit() == 2004
    check_store(store)
    store.close()
    with Store(path) as again:
        assert len(again) == 2003


@pytest.mark.parametrize("fork", [os.fork, fork_in_c], ids=["Python", "C"])
def test_a_store_that_had_failed_writes_again_in_a_child_once_all_have_closed_it(path, fork):
    closed, tell = os.pipe()
    store = Store(path)
    store.put(b"key", b"1")
    store._parts.commits.fail(OSError(errno.EIO, "no more"))
    assert error_of(lambda: store.put(b"key", b"2"))[0] == "StoreReadOnly"

    def fork_and_close():
        pid = fork()
        if pid:
            store.close()
            os.write(tell, b".")
        return pid

    def write():
        os.read(closed, 1)
        store.put(b"key", b"3")
        return store.get(b"key")

    assert in_child(write, fork_and_close) == b"3"
    os.close(closed)
    os.close(tell)


def test_a_store_that_keeps_others_out_keeps_out_the_child(path):
    with Store(path, exclusive=True, **SMALL) as store:
        store[b"key"] = b"1"
        batch = store.batch()
        batch.put(b"key", b"2")

        def look():
            calls = (lambda: store.get(b"key"), batch.commit, lambda: store.put(b"key", b"2"))
            errors = [error_of(call) for call in calls]
            with Store(path, read_only=True) as reader:
                return errors, reader.get(b"key")

        errors, value = in_child(look)
        assert {kind for kind, _ in errors} == {"StoreLocked"}
        assert all(f"process {os.getpid()}" in text for _, text in errors)
        assert value == b"1"
        store[b"key"] = b"3"


def test_a_reader_goes_on_in_a_child(path):
    with Store(path, **SMALL) as writer, Store(path, read_only=True) as reader:
        writer.update({b"%03d" % n: b"old" for n in range(300)})
        keys, changes = reader.keys(), reader.tail()
        assert (next(keys), next(changes).version) == (b"000", 1)
        asked, to_child = os.pipe()

        def look():
            before = reader[b"000"]
            os.read(asked, 1)  # the parent has written meanwhile
            found = reader.wait(300, 60), reader[b"000"], len(reader), error_of(reader.clear)[0]
            rest = len(list(keys)), len(list(changes))
            reader.close()
            return before, found, rest

        def write():
            writer.update({b"%03d" % n: b"new" for n in range(301)})
            writer.compact()
            os.write(to_child, b"!")

        thread = threading.Timer(0.05, write)
        thread.start()
        before, found, rest = in_child(look)
        thread.join()
        assert before in (b"old", b"new")
        assert found == (601, b"new", 301, "StoreReadOnly")
        assert rest[0] >= 299
        assert rest[1] == 299
        assert reader[b"300"] == b"new"
        os.close(asked)
        os.close(to_child)


def test_views_that_the_parent_took_are_right_in_a_child(path):
    with Store(path) as store:
        store[b"key"] = b"value" * 1000
        view = store.get_view(b"key")
        store[b"key"] = b"other"
        assert in_child(lambda: bytes(view)) == b"value" * 1000


def test_a_store_in_memory_stays_with_the_parent():
    store = Store.in_memory()
    store[b"key"] = b"value"

    def look():
        errors = {error_of(call) for call in (lambda: store[b"key"], lambda: list(store))}
        store.close()
        with Store.in_memory() as other:
            other[b"own"] = b"1"
            return errors, len(other)

    errors, length = in_child(look)
    ((kind, text),) = errors
    assert (kind, length) == ("StoreClosed", 1)
    assert "create another one in the child" in text
    assert dict(store) == {b"key": b"value"}
    store.close()


def test_a_consumer(path):
    """The lease stays with the parent; the child has one of its own when the parent has let go."""
    with Store(path) as store, Store(path, read_only=True) as reader:
        store.update({b"a": b"", b"b": b""})
        near, far = store.consumer("near"), reader.consumer("far")
        given = far.changes()
        assert next(given).version == 1

        def look():
            rest = [len(list(given)), error_of(lambda: far.acknowledge(1))[0]]
            return rest, [change.version for change in far.changes()]

        assert in_child(look) == ([0, "ConsumerLocked"], [])
        far.acknowledge(1)
        assert [change.version for change in given] == [2]
        far.release()

        def take_over():
            found = [change.version for change in far.changes()]
            far.acknowledge(2)
            return found

        assert in_child(take_over) == [2]
        assert far.position == 2
        given = near.changes()
        assert next(given).version == 1
        assert in_child(lambda: [len(list(given)), len(list(near.changes()))]) == [0, 0]
        near.acknowledge(1)
        near.release()

        def write_and_read():
            store[b"c"] = b""
            found = [change.version for change in near.changes()]
            near.acknowledge(2)
            return found

        assert in_child(write_and_read) == [2, 3]
        assert near.position == 2
        assert [change.version for change in near.changes()] == [3]


def test_a_database_and_its_namespaces(path):
    with kvengine.open(path) as db:
        kv = db.namespace("flags")
        kv.put("a", "1")
        begun = kv.keys()
        with kvengine.open(path, read_only=True) as reader:
            reading = reader.namespace("flags")
            assert reading.get("a") == "1"

            def look():
                assert kv.get("a") == "1"
                kv.put("a", "2")
                assert kv.increment("n") == 1
                assert [key.name for key in kv.list().keys] == ["a", "n"]
                db.namespace("other").put("b", "3")
                db.delete("other")
                assert [change.name for change in db.tail()][:1] == ["a"]
                assert db.snapshot().namespace("flags").get("a") == "2"
                found = reading.get("a"), reader.namespace("flags").get("n"), len(list(begun))
                db.close()
                reader.close()
                return found

            assert in_child(look) == ("2", "1", 2)
            assert kv.get("a") == "2"
            assert kv.increment("n") == 2
            kv.put("a", "3")
            assert reading.get("a") == kv.get("a") == "3"


def test_an_async_database(path):
    """Its threads are not there: nothing waits for them."""

    async def opened(**options):
        return await kvengine.aio.open(path, **options)

    async def write(db):
        kv = await db.namespace("flags")
        await kv.put("a", "1" * 200_000)
        return len(await kv.get("a"))

    async def read(db):
        kv = await db.namespace("flags")
        page = await kv.list()
        return len(await kv.get("a")), len(page.keys)

    db = asyncio.run(opened())
    assert asyncio.run(write(db)) == 200_000
    reader = asyncio.run(opened(read_only=True))
    assert asyncio.run(read(reader)) == (200_000, 1)

    def look():
        written = asyncio.run(write(db))
        asyncio.run(db.close())
        found = asyncio.run(read(reader))
        asyncio.run(reader.close())
        return written, found

    assert in_child(look) == (200_000, (200_000, 1))
    assert asyncio.run(write(db)) == 200_000
    asyncio.run(reader.close())
    asyncio.run(db.close())


@pytest.mark.parametrize("background", [False, True])
def test_a_replica_stays_with_the_parent(path, tmp_path, background):
    with Store(path) as source:
        source.update({b"a": b"", b"b": b""})
        follower = Follower(source, tmp_path / "replica", background=background)
        follower.catch_up()

        def look():
            calls = [follower.catch_up, lambda: follower.wait(9), follower.promote]
            errors = {error_of(call)[0] for call in calls}
            found = follower.store.get(b"a")
            assert error_of(lambda: follower.store.put(b"a", b""))[0] == "StoreReadOnly"
            follower.close()
            with Store(tmp_path / "replica", read_only=True) as reader:
                return errors, found, len(reader)

        assert in_child(look) == ({"StoreClosed"}, b"", 2)
        source[b"c"] = b""
        assert follower.wait(3, PATIENCE_S) if background else follower.catch_up() == 3
        assert len(follower.store) == 3
        follower.close()


def test_a_log_that_is_served_and_one_that_is_read(path, tmp_path):
    with Store(path) as store:
        store.update({b"%d" % n: b"x" * 300_000 for n in range(60)})
        with serve_log(store, str(tmp_path / "log.sock")) as server:
            source = connect_log(str(tmp_path / "log.sock"))
            begun, following = source.tail(), source.tail(follow=True)
            assert next(begun).version == next(following).version == 1

            def look():
                mine = [change.version for change in source.tail()]
                error = error_of(lambda: list(begun))
                own = [next(following).version for _ in range(59)]  # over a connection of its own
                server.close()
                return len(mine), error[0], own[-1]

            count, error, last = in_child(look)
            assert (count, error, last) == (60, "UpstreamUnavailable", 60)
            assert [change.version for change in begun] == list(range(2, 61))
            assert [change.version for change in connect_log(server.address).tail()][-1] == 60


def test_caches(path):
    with Store(path) as writer, Store(path, read_only=True) as reader:
        writer[b"key"] = b"1"
        cached, own = CachedStore(reader), CachedStore(writer)
        assert cached[b"key"] == own[b"key"] == b"1"
        cache = kvengine.Cache(100)
        calls = []

        @cache.memoize()
        def double(number):
            calls.append(number)
            return 2 * number

        assert double(4) == 8
        cache["key"] = "parent"

        def look():
            found = double(4), double(5), cache["key"]
            cache["key"] = "child"
            own[b"key"] = b"2"
            return found, calls, cached.get(b"key"), own.get(b"key")

        assert in_child(look) == ((8, 10, "parent"), [4, 5], b"2", b"2")
        assert own[b"key"] == cached[b"key"] == b"2"
        assert (cache["key"], calls) == ("parent", [4])


def test_a_world_stays_with_the_parent():
    world = World(seed=1, edges=1, keys=2)
    world.write("primary", b"key", b"1")
    kind, _ = in_child(lambda: error_of(lambda: world.write("primary", b"key", b"2")))
    assert kind == "StoreClosed"
    assert world.read("edge-0", b"key").value == b"1"


# -- the page


def rows_of_page():
    """Return (objects, tests) of each row of the table in FORK.md."""
    text = (ROOT / "kvengine" / "FORK.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    objects = [re.findall(r"`([\w.]+)", row[1]) for row in rows]
    tests = [re.findall(r"`([\w./]+)::(\w+)`", row[3]) for row in rows]
    return list(zip(objects, tests, strict=True))


def test_the_page_has_every_public_object_that_lives_on():
    """Those that hold something of the system; errors and plain values are what they are."""
    listed = {name for names, _ in rows_of_page() for name in names}
    plain = (tuple, BaseException, kvengine.PriceTable, kvengine.Bill, kvengine.Limits)
    for module, prefix in ((kvengine, ""), (kvengine.aio, "aio.")):
        for name in module.__all__:
            thing = getattr(module, name)
            fields = getattr(thing, "__dataclass_fields__", None)
            if isinstance(thing, type) and not issubclass(thing, plain) and fields is None:
                assert f"{prefix}{name}" in listed, name


def test_every_row_of_the_page_has_its_test():
    for names, tests in rows_of_page():
        assert tests, names
        for file, test in tests:
            assert f"def {test}(" in (ROOT / file).read_text(), (file, test)

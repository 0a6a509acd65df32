"""An exception at every line of every public call of a database and its namespaces."""

import io
import shutil

import pytest

import kvengine
from kvengine import KvError
from kvengine.testing.check import check_store
from kvengine.testing.interrupting import Interruption
from tests.interrupt.points import TRIED, check_kind, check_nothing_leaks, points_of
from tests.interrupt.scenarios import copy_of

MOST = 60
OPTIONS = {"segment_bytes": 4096, "key_buffer_entries": 16, "compaction": "manual"}


@pytest.fixture(scope="module")
def db_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("interrupt") / "db"
    with kvengine.open(path, durability="os", **OPTIONS) as db:
        flags, users = db.namespace("flags"), db.namespace("users")
        for n in range(40):
            flags.put(f"flag/{n}", f"on {n}" * 5, metadata={"n": n})
            users.put(f"user/{n}", str(n))
        users.delete_many([f"user/{n}" for n in range(0, 40, 5)])
    return path


def open_db(path):
    return kvengine.open(path, **OPTIONS)


def state_of(db):
    found = {}
    for info in db.namespaces():
        found[info.title, ""] = ""  # the namespace itself
        kv = db.namespace(info.title)
        for at in list(kv.keys()):
            found[info.title, at.name] = kv.get(at.name)
    return found


def changed(namespace, **pairs):
    return lambda state: {**state, **{(namespace, key): value for key, value in pairs.items()}}


def namespace_gone(title):
    return lambda state: {at: value for at, value in state.items() if at[0] != title}


def key_gone(namespace, key):
    return lambda state: {at: value for at, value in state.items() if at != (namespace, key)}


def prefix_gone(namespace, prefix):
    return lambda state: {
        at: value
        for at, value in state.items()
        if at[0] != namespace or not at[1] or not at[1].startswith(prefix)
    }


def renamed(old, new):
    return lambda state: {
        (new if title == old else title, key): value for (title, key), value in state.items()
    }


def read(db):
    kv = db.namespace("users")
    assert kv.get("user/1") == "1"
    assert kv.get_with_metadata("user/1").value == "1"
    assert kv.get_many(["user/1", "user/2"])
    assert kv.list(prefix="user/1").keys
    assert kv.count()
    assert kv.get("user/1", "stream").read() == b"1"


def export(db):
    out = io.BytesIO()
    db.namespace("users").export_file(out)


def use_snapshot(db):
    with db.snapshot() as frozen:
        assert frozen.namespace("users").get("user/1") == "1"


def follow(db):
    assert list(db.tail())
    consumer = db.consumer("worker")
    for batch in consumer.batches(30):
        consumer.acknowledge(batch[-1].version)


def remove_and_wait(db):
    db.delete("flags")
    db.wait_for_removals()


CALLS = {
    "put": (lambda db: db.namespace("users").put("k", "v"), changed("users", k="v")),
    "put json": (
        lambda db: db.namespace("users").put("k", [1], type="json", metadata={"a": 1}),
        changed("users", k="[1]"),
    ),
    "put_many": (
        lambda db: db.namespace("users").put_many({"a": "1", "b": "2", "user/1": "3"}),
        changed("users", **{"a": "1", "b": "2", "user/1": "3"}),
    ),
    "increment": (
        lambda db: db.namespace("users").increment("user/1", 5),
        changed("users", **{"user/1": "6"}),
    ),
    "touch": (lambda db: db.namespace("users").touch("user/1", expiration_ttl=900), None),
    "get_or_set": (
        lambda db: db.namespace("users").get_or_set("made", lambda: "x"),
        changed("users", made="x"),
    ),
    "delete": (lambda db: db.namespace("flags").delete("flag/1"), key_gone("flags", "flag/1")),
    "delete_prefix": (
        lambda db: db.namespace("flags").delete_prefix("flag/2"),
        prefix_gone("flags", "flag/2"),
    ),
    "namespace": (lambda db: db.namespace("new"), lambda state: {**state, ("new", ""): ""}),
    "create_namespace": (
        lambda db: db.create_namespace("new"),
        lambda state: {**state, ("new", ""): ""},
    ),
    "rename": (lambda db: db.rename("flags", "toggles"), renamed("flags", "toggles")),
    "delete namespace": (remove_and_wait, namespace_gone("flags")),
    "read": (read, None),
    "export": (export, None),
    "snapshot": (use_snapshot, None),
    "follow": (follow, None),
    "usage": (lambda db: db.usage(), None),
}


def allowed(before, after, found):
    """Calls that are documented to work in steps may be seen between two of them."""
    keys = before.keys() | after.keys() | found.keys()
    return all(found.get(key) in (before.get(key), after.get(key)) for key in keys)


def interrupt(template, folder, name, at, error):
    act, make_after = CALLS[name]
    db = open_db(copy_of(template, folder / "store"))
    before = state_of(db)
    after = before if make_after is None else make_after(dict(before))
    interruption = Interruption(at, error)
    raised = interruption.run(lambda: act(db))
    where = f"{name}, point {at}, {error.__name__} at {interruption.place}"
    check_kind(raised, error, where)
    found = state_of(db)
    if name in ("delete_prefix", "put_many"):
        assert allowed(before, after, found), where
    else:
        assert found in ((before, after) if raised is not None else (after,)), where
    try:
        db.namespace("probe").put("p", "q")
        assert db.namespace("probe").get("p") == "q", where
        db.delete("probe")
        db.wait_for_removals()
    except KvError as refusal:
        raise AssertionError(f"{where}: does not go on: {refusal}") from refusal
    check_store(db.store)
    db.close()
    for options in ({}, {"rebuild": True}):
        with kvengine.open(folder / "store", **OPTIONS, **options) as again:
            assert state_of(again) == found, where
            check_store(again.store)
    TRIED["of calls of a database"] += 1


def points_of_call(template, folder, name):
    with open_db(copy_of(template, folder / "store")) as db:
        yield from points_of(lambda: CALLS[name][0](db), MOST)


@pytest.mark.parametrize("name", CALLS)
def test_calls(db_template, folder, name):
    for at, error in list(points_of_call(db_template, folder, name)):
        interrupt(db_template, folder, name, at, error)
    check_nothing_leaks(folder, name)


def points_from(begin, call, most):
    db = begin()
    return list(points_of(lambda: call(db), most))


def interrupt_whole_life(begin, path, expected, call, kind, most=2 * MOST):
    """Interrupt a call that opens or closes a database; nothing may be left behind."""
    pairs = points_from(begin, call, most)
    for at, error in pairs:
        db = begin()
        interruption = Interruption(at, error)
        raised = interruption.run(lambda: call(db))  # noqa: B023  # called at once
        where = f"{kind}, point {at}, {error.__name__} at {interruption.place}"
        check_kind(raised, error, where)
        raised = None
        if db is not None:
            db.close()
            assert db.closed, where
        db = None
        check_nothing_leaks(path.parent, where)
        with open_db(path) as again:
            assert state_of(again) == expected, where
            check_store(again.store)
        again = None
        TRIED[f"of {kind}"] += 1


def test_open(db_template, folder):
    path = folder / "store"
    with open_db(copy_of(db_template, path)) as db:
        expected = state_of(db)
    del db

    def begin():
        copy_of(db_template, path)

    interrupt_whole_life(
        begin,
        path,
        expected,
        lambda _: open_db(path).close(),
        "open of a database",
    )


def test_open_new(folder):
    path = folder / "store"

    def call(_):
        with open_db(path) as db:
            db.namespaces()

    interrupt_whole_life(
        lambda: shutil.rmtree(path, ignore_errors=True), path, {}, call, "open of a new database"
    )


def test_close(db_template, folder):
    path = folder / "store"

    def begin():
        db = open_db(copy_of(db_template, path))
        db.namespace("users").put("late", "1")
        return db

    with begin() as db:
        expected = state_of(db)
    del db
    interrupt_whole_life(begin, path, expected, lambda db: db.close(), "close of a database")

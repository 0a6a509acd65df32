"""promote: a replica whose source is gone becomes a store of its own; what is none does not."""

import subprocess
import sys

import pytest

import kvengine
from kvengine import Database, Follower, Store, UpstreamUnavailable, connect_log
from tests.replication.store_source import StoreSource

FOLLOWER = """
import sys, time, kvengine
source = kvengine.connect(sys.argv[1], token=sys.argv[2]).log_source()
with kvengine.Follower(source, sys.argv[3]) as f:
    assert f.wait(int(sys.argv[4]), 60)
    print("ready", flush=True)
    input()
"""


@pytest.fixture
def replica(data):
    """A replica of a database that is gone, which was closed properly."""
    with Database.in_memory() as db:
        db.namespace("n").put_many({f"k{number}": f"v{number}" for number in range(100)})
        db.namespace("other").put("x", "y")
        with Follower(db, data, background=False) as follower:
            follower.catch_up()
        return db.version


def test_a_replica_is_promoted_without_its_source(process, data, replica):
    done = process("promote", data)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"at version %d\n" % replica in done.stderr
    with kvengine.open(data) as db:
        kv = db.namespace("n")
        assert kv.get("k7") == "v7"
        assert kv.put("new", "here") > replica
    assert process("key", "get", "--namespace", "n", "k99").stdout == b"v99"
    again = process("promote")
    assert again.returncode == 2
    assert b"is not a replica, or was promoted before" in again.stderr


def test_a_server_that_is_killed_is_replaced_by_its_replica(process, data, tmp_path):
    """The whole case: the primary is gone for good, and so is the process of the follower."""
    from tests.server.running import TOKEN, running

    with running(limits="relaxed") as server:
        kv = server.db.namespace("n")
        kv.put_many({f"k{number}": "v" for number in range(1000)})
        version = kv.put("last", "one")
        follower = subprocess.Popen(
            [sys.executable, "-c", FOLLOWER, server.url, TOKEN, data, str(version)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert follower.stdout.readline() == b"ready\n"
        held = process("promote")
        assert held.returncode == 5
        assert b"is open for writing in process" in held.stderr
    follower.kill()
    follower.communicate()
    assert process("promote").returncode == 0
    with kvengine.open(data) as db:
        assert db.namespace("n").get("last") == "one"
        assert db.namespace("n").count() == 1001


def test_what_is_no_replica_is_left_alone(process, data):
    with Store(data) as store:
        store.put(b"k", b"v")
    done = process("promote")
    assert done.returncode == 2
    assert b"is not a replica" in done.stderr
    missing = process("promote", data + "-missing")
    assert missing.returncode == 1


def test_what_holds_nothing_whole_is_not_promoted(process, data):
    with Store.in_memory() as source:
        source.put(b"k", b"v")
        Follower(StoreSource(source), data, background=False).close()
    done = process("promote")
    assert done.returncode == 1
    assert b"not yet have a complete first copy" in done.stderr


@pytest.mark.parametrize("options", [{"namespaces": ["n"]}, {"prefixes": [b"\0"]}])
def test_what_holds_some_keys_only_needs_a_word(process, data, options):
    with Database.in_memory() as db:
        db.namespace("n").put("k", "v")
        db.namespace("other").put("x", "y")
        with Follower(db, data, background=False, **options) as follower:
            follower.catch_up()
    done = process("promote")
    assert done.returncode == 2
    assert b"only some of the keys" in done.stderr
    assert b"--partial" in done.stderr
    assert process("promote", "--partial").returncode == 0
    with Store(data) as store:
        store.put(b"own", b"1")


def test_a_follower_opens_a_replica_while_its_source_is_away(data, replica, tmp_path):
    away = connect_log(str(tmp_path / "nobody-listens"))
    with Follower(away, data) as follower:
        assert follower.position == replica
        with pytest.raises(UpstreamUnavailable):
            _ = follower.lag
        assert not follower.wait(replica + 1, 0.2)
        with follower.database() as db:
            assert db.namespace("n").get("k3") == "v3"
    with Follower(away, data, background=False) as follower:
        with pytest.raises(UpstreamUnavailable):
            follower.catch_up()
        store = follower.promote()
        store.put(b"k", b"v")
        store.close()


def test_a_new_replica_needs_its_source(tmp_path):
    away = connect_log(str(tmp_path / "nobody-listens"))
    with pytest.raises(UpstreamUnavailable):
        Follower(away, tmp_path / "new")


def test_another_source_that_comes_back_is_refused(data, replica, tmp_path):
    """The replica was opened while nobody answered; then another store does."""
    with Store.in_memory() as other:
        other.put(b"k", b"v")
        source = StoreSource(other)
        uuid = source.uuid

        class Away(StoreSource):
            is_away = True

            @property
            def uuid(self):
                if self.is_away:
                    raise UpstreamUnavailable("away")
                return uuid

            @uuid.setter
            def uuid(self, value):
                pass

        late = Away(other)
        with Follower(late, data, background=False) as follower:
            late.is_away = False
            with pytest.raises(kvengine.ReplicaDiverged):
                follower.catch_up()
            assert follower.position == replica

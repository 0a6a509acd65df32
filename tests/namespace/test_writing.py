"""Changes of one key: what stays, what is replaced, and what happens in between."""

import array
import io
import threading

import pytest

from kvengine import (
    Database,
    InvalidRequest,
    NamespaceNotFound,
    Store,
    StoreReadOnly,
    VersionConflict,
    open,  # noqa: A004
)
from kvengine.testing.clock import START, ManualClock

NOW = int(START)
WRITES = {
    "put": lambda kv: kv.put("key", "5", expiration_ttl=10),
    "touch": lambda kv: kv.touch("key", expiration_ttl=10),
    "increment": lambda kv: kv.increment("key", expiration_ttl=10),
    "increment of a new key": lambda kv: kv.increment("new", expiration_ttl=10),
}


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("é", b"\xc3\xa9"),
        (b"\xff\x00", b"\xff\x00"),
        (bytearray(b"12"), b"12"),
        (memoryview(b"1234")[1:3], b"23"),
        (memoryview(b"12345678").cast("B", (2, 4)), b"12345678"),
        (array.array("H", [1, 2]), b"\1\0\2\0"),
        (io.BytesIO(b"stream"), b"stream"),
        ("", b""),
        (b"", b""),
    ],
)
def test_what_may_be_a_value(kv, value, data):
    assert kv.put("key", value) == kv._store.version
    assert kv.get("key", "bytes") == data
    assert kv._meter.bytes_in == len(data)


@pytest.mark.parametrize("value", [None, 0, "text", [1, {"a": None}], {"é": "😀"}, "\ud800", 1.5])
def test_what_may_be_a_value_as_json(kv, value):
    kv.put("key", value, type="json")
    assert kv.get("key", "json") == value
    if value != "\ud800":
        assert " " not in kv.get("key")


def test_touch_changes_the_end_and_nothing_else(kv, clock):
    kv.put("key", b"\xffvalue" * 1000, metadata={"a": 1}, expiration_ttl=10)
    version = kv.touch("key", expiration_ttl=100)
    assert kv.get_metadata("key") == ("key", NOW + 100, {"a": 1}, version, 6000)
    assert kv.get("key", "bytes") == b"\xffvalue" * 1000
    assert kv.touch("key", expiration=NOW + 50) == version + 1
    assert kv.persist("key") == version + 2
    clock.advance(1000)
    assert kv.get_metadata("key").expiration is None
    kv.touch("key", expiration_ttl=1)
    clock.advance(1)
    before = kv._store.version
    assert kv.persist("key") == kv.touch("no", expiration_ttl=9, if_version=0) == 0
    assert (kv._store.version, kv.get("key")) == (before, None)


def test_increment_keeps_metadata_and_end(kv, clock):
    kv.put("key", "-7", metadata="kept", expiration_ttl=10)
    assert kv.increment("key", 10, initial=500, expiration_ttl=100) == 3
    assert kv.get_with_metadata("key")[:2] == ("3", "kept")
    assert kv.get_metadata("key").expiration == NOW + 10
    clock.advance(10)
    assert kv.increment("key", 10, initial=500, expiration_ttl=100) == 510
    assert kv.get_with_metadata("key")[:2] == ("510", None)
    assert kv.get_metadata("key").expiration == NOW + 110
    assert kv.increment("key", 0) == 510


def test_increments_of_several_threads_all_count(db, kv):
    def add():
        for _ in range(200):
            kv.increment("key", 3)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kv.get("key") == "2400"
    assert db.version >= 800


def test_of_several_threads_one_makes_the_key(kv):
    made, started = [], threading.Barrier(4)

    def make(number):
        started.wait()
        try:
            made.append(kv.put("key", str(number), if_version=0))
        except VersionConflict as error:
            assert error.expected == 0
            assert error.found == kv.get_metadata("key").version

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [kv.get_metadata("key").version]


def test_a_reader_does_not_write(tmp_path):
    with open(tmp_path, durability="os") as db:
        db.namespace("ns").put("key", "5")
    with open(tmp_path, read_only=True) as db:
        kv = db.namespace("ns")
        for call in (*WRITES.values(), lambda kv: kv.delete("key")):
            with pytest.raises(StoreReadOnly, match="read_only=True"):
                call(kv)
        assert (kv.get("key"), kv._meter.writes, kv._meter.deletes) == ("5", 0, 0)


# -- time goes on


class Ticking(ManualClock):
    """An eighth of a second goes by with each look."""

    def time(self):
        return self.advance(0.125)


def test_a_short_life_does_not_end_before_it_began():
    """The namespace computes the end, then the engine looks at the clock again."""
    with Database.in_memory(clock=Ticking()) as db:
        kv = db.namespace("ns")
        for number in range(50):
            assert kv.put("key", str(number), expiration_ttl=1)
            assert kv.increment("number", expiration_ttl=1) == 1
            kv.put("touched", "value")
            assert kv.touch("touched", expiration_ttl=1)


def test_a_life_may_end_while_a_number_is_added_to():
    with Database.in_memory(clock=Ticking()) as db:
        kv = db.namespace("ns")
        sums = [kv.increment("key", expiration_ttl=1) for _ in range(60)]
    assert set(sums) <= {1, 2, 3}
    assert sums.count(1) > 10


class Slow:
    """A stream that takes its time."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.pieces = clock, seconds, [b"1", b"2"]

    def read(self, size=-1):
        self.clock.advance(self.seconds)
        return self.pieces.pop(0) if self.pieces else b""


def test_a_life_begins_when_a_slow_stream_has_been_read(kv, clock):
    kv.put("key", Slow(clock, 30), expiration_ttl=60)
    assert kv.get("key") == "12"
    assert kv.get_metadata("key").expiration == NOW + 90 + 60


def test_a_moment_may_pass_while_a_slow_stream_is_read(kv, clock, refused):
    kv.put("key", "before")
    with refused(
        f"Invalid expiration of {NOW + 60}. Please specify integer greater than the current "
        "number of seconds since the UNIX epoch."
    ):
        kv.put("key", Slow(clock, 30), expiration=NOW + 60)
    assert kv.get("key") == "before"


def test_times_are_checked_before_a_stream_is_read(strict):
    stream = io.BytesIO(b"value")
    for options in ({"expiration_ttl": 5}, {"metadata": {1}}, {"expiration": 1}):
        with pytest.raises(InvalidRequest):
            strict.put("key", stream, **options)
    with pytest.raises(InvalidRequest):
        strict.put("", stream)
    assert stream.read() == b"value"


# -- the namespace goes away


class Acting(ManualClock):
    """Does something when it is asked for the time for the `turn`th time."""

    turn, act = 0, staticmethod(lambda: None)

    def time(self):
        self.turn -= 1
        if self.turn == 0:
            self.act()
        return super().time()


@pytest.mark.parametrize("turn", [1, 2, 3])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_is_under_way_leaves_nothing_in_a_deleted_namespace(write, turn):
    clock = Acting()
    with Database.in_memory(clock=clock) as db:
        kv = db.namespace("ns")
        kv.put("key", "5", expiration_ttl=1000)

        def delete():
            db.delete("ns")
            db._remover.wait()

        clock.act, clock.turn = delete, turn
        try:
            WRITES[write](kv)
        except NamespaceNotFound as error:
            assert str(error) == "namespace 'ns' does not exist"
        else:
            assert clock.turn > 0  # the clock was not asked so often
            clock.turn = 0
            delete()
        assert list(db.store.keys(kv._prefix)) == []


def test_a_stream_may_delete_the_namespace_it_is_put_into(db, kv):
    class Deleting(io.BytesIO):
        def read(self, size=-1):
            if not db.namespaces():
                return b""
            db.delete("tests")
            return b"value"

    with pytest.raises(NamespaceNotFound, match="namespace 'tests' does not exist"):
        kv.put("key", Deleting())
    db._remover.wait()
    assert list(db.store.keys(b"d")) == []


def test_threads_write_while_the_namespace_is_deleted(db):
    for _ in range(20):
        kv, started = db.namespace("ns"), threading.Barrier(5)

        def write(number, kv=kv, started=started):
            started.wait()
            with pytest.raises(NamespaceNotFound):
                while True:
                    kv.put(f"key{number}", "value")
                    kv.increment("count")

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        db.delete("ns")
        for thread in threads:
            thread.join()
    db._remover.wait()
    assert list(db.store.keys(b"d")) == []


class Closing(Store):
    """A store that is closed as soon as it was written to."""

    armed = False

    def put(self, *arguments, **options):
        version = super().put(*arguments, **options)
        if self.armed:
            self.close()
        return version


def test_a_write_that_was_done_before_close_is_no_failure():
    store = Closing.in_memory()
    kv = Database(store).namespace("ns")
    store.armed = True
    assert kv.put("key", "value") > 0
    assert store.closed

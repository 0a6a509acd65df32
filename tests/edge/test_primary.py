"""A store as the upstream of edges: each change of the log, in order, or that some are gone."""

import subprocess
import sys
import threading

import pytest

from kvengine import NamespaceNotFound, StorageError, Store, StoreClosed
from kvengine.edge import primary as primaries
from kvengine.edge.messages import KeyRequest
from kvengine.edge.primary import Primary
from kvengine.edge.settings import Settings


@pytest.fixture
def store():
    with Store.in_memory(segment_bytes=4096) as opened:
        yield opened


def make(store, clock, change_buffer_bytes=1 << 20, **more):
    settings = Settings(change_buffer_bytes=change_buffer_bytes, push_bytes=20)
    return Primary(store, settings, monotonic=clock.monotonic, later=clock.later, **more)


def poll(primary, after):
    told = []
    primary.poll(after, 1.0, told.append)
    return told


def fetch(primary, *wants):
    told = []
    primary.fetch(list(wants), told.append)
    return told[0]


def heard(primary, after):
    """Poll until everything is known; return the events."""
    events = []
    while after < primary.store.version:
        ((_, upto, _, found, _, gone),) = poll(primary, after)
        assert not gone
        assert upto > after
        events += found
        after = upto
    return events


def test_answers_are_true_of_the_newest_version(store, clock):
    primary = make(store, clock)
    store.put(b"a", b"1", metadata=b"m", expires_at=4e9)
    store.put(b"b", b"2")
    a, b, unchanged, absent = fetch(
        primary,
        KeyRequest(b"a"),
        KeyRequest(b"b", 0, 1),
        KeyRequest(b"b", 0, 2),
        KeyRequest(b"none"),
    )
    assert a == (1, 2, 0.0, b"1", b"m", 4e9, False)
    assert b == (2, 2, 0.0, b"2", b"", None, False)
    assert unchanged[:4] == (2, 2, 0.0, None)
    assert unchanged.unchanged
    assert absent[:4] == (0, 2, 0.0, None)


def test_small_values_come_with_the_news_and_large_ones_do_not(store, clock):
    primary = make(store, clock)
    store.put(b"small", b"x" * 20, metadata=b"m", expires_at=4e9)
    store.put(b"large", b"x" * 21)
    store.delete(b"small")
    small, large, deleted = heard(primary, 0)
    assert small[:6] == (1, b"small", True, b"x" * 20, b"m", 4e9)
    assert large[:4] == (2, b"large", True, None)
    assert deleted[:4] == (3, b"small", False, None)


def test_who_waits_is_told_by_the_thread_of_the_primary(store, clock):
    primary, told = make(store, clock), threading.Event()
    primary.begin()
    try:
        primary.poll(0, 60.0, lambda changes: told.set())
        assert not told.is_set()
        store.put(b"k", b"v")
        assert told.wait(60)
    finally:
        primary.close()


def test_a_listener_behind_the_board_reads_the_log(store, clock, monkeypatch):
    monkeypatch.setattr(primaries, "EVENTS_PER_BATCH", 7)
    primary = make(store, clock, change_buffer_bytes=2000)
    for number in range(100):
        store.put(b"k%d" % (number % 40), b"%d" % number)
        primary.pump()
    assert primary.change_buffer.start > 50
    assert [one.version for one in heard(primary, 20)] == list(range(21, 101))
    (first,) = poll(primary, 20)
    assert (first.upto, first.age) == (27, float("inf"))  # there is more


def test_a_listener_behind_the_log_is_told_that_changes_are_gone(store, clock):
    store.put(b"first", b"v")
    primary = make(store, clock, change_buffer_bytes=2000)
    for turn in range(3):
        for number in range(100):
            store.put(b"k%d" % number, b"%d" % turn * 40)
        for number in range(100):
            store.delete(b"k%d" % number)
        store.compact()
    version = store.put(b"last", b"v")
    primary.pump()
    for after in (0, 1, 20):
        (changes,) = poll(primary, after)
        assert changes.gone
        assert changes.upto == version
    assert poll(primary, version - 1)[0].events[0].key == b"last"


@pytest.mark.parametrize("first", [0, 1])
def test_a_primary_that_missed_changes_says_so_and_goes_on(store, clock, first):
    for _ in range(first):
        store.put(b"first", b"v")
    primary, told = make(store, clock), []
    primary.poll(first, 60.0, told.append)
    for number in range(300):
        store.put(b"k%d" % number, b"v" * 40)
    for number in range(300):
        store.delete(b"k%d" % number)
    store.compact()  # before the primary has looked
    primary.pump()
    (changes,) = told
    assert changes.gone
    assert changes.upto == store.version
    version = store.put(b"next", b"v")
    assert [one.version for one in heard(primary, changes.upto)] == [version]


def test_some_keys_do_not_concern_edges_but_their_versions_do(store, clock):
    primary = make(store, clock, concerns=lambda key: key.startswith(b"d"))
    told = []
    primary.poll(0, 60.0, told.append)
    store.put(b"internal", b"v")
    primary.pump()
    assert (told[0].upto, told[0].events) == (1, ())
    store.put(b"data", b"v")
    assert [one.key for one in heard(primary, 0)] == [b"data"]
    primary.change_buffer.restart(2)
    assert [one.key for one in heard(primary, 0)] == [b"data"]  # read from the log


def test_keys_that_may_not_be_read_are_refused(store, clock):
    def check(key):
        if key == b"gone":
            raise NamespaceNotFound("n")

    primary = make(store, clock, check=check)
    assert isinstance(fetch(primary, KeyRequest(b"a"), KeyRequest(b"gone")), NamespaceNotFound)
    assert fetch(primary, KeyRequest(b"a"))[0].version == 0


def test_a_primary_of_a_reader_hears_of_what_another_process_writes(tmp_path, clock):
    code = """
import sys, kvengine
with kvengine.Store(sys.argv[1], durability="os") as store:
    for line in sys.stdin:
        print(store.put(b"k", line.strip().encode()), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "s")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as writer:  # fmt: skip

        def write(value):
            writer.stdin.write(value + "\n")
            return int(writer.stdout.readline())

        write("first")
        with Store(tmp_path / "s", read_only=True) as store:
            primary, told = make(store, clock), []
            primary.begin()
            try:
                for number in range(20):
                    heard_it = threading.Event()

                    def done(changes, heard_it=heard_it):
                        told.append(changes)
                        heard_it.set()

                    primary.poll(store.version, 60.0, done)
                    version = write(str(number))
                    assert heard_it.wait(60)
                    assert told[-1].upto == version
                    assert told[-1].events[0].value == b"%d" % number
            finally:
                primary.close()
        writer.stdin.close()


def test_a_log_that_can_not_be_read_for_a_while_is_read_later(store, clock, caplog, monkeypatch):
    monkeypatch.setattr(primaries, "AFTER_ERROR_S", 0.001)
    failures = [StorageError(5, "no")] * 3

    def concerns(key):
        if failures:
            raise failures.pop()
        return True

    primary, told = make(store, clock, concerns=concerns), threading.Event()
    primary.begin()
    try:
        primary.poll(0, 60.0, lambda changes: told.set())
        store.put(b"k", b"v")
        assert told.wait(60)
    finally:
        primary.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # not one each time


def test_closing_tells_nobody_anything_and_leaves_no_thread(store, clock):
    primary, told = make(store, clock), []
    primary.begin()
    primary.poll(0, 60.0, told.append)
    primary.close()
    primary.close()
    store.put(b"k", b"v")
    assert told == []
    assert not [one for one in threading.enumerate() if one.name == "kvengine-primary"]


def test_the_store_may_be_closed_first(store, clock, caplog):
    primary = make(store, clock)
    primary.begin()
    store.close()
    told = poll(primary, 0)
    primary.origin_version(told.append)
    primary.fetch([KeyRequest(b"k")], told.append)
    assert [type(one) for one in told] == [StoreClosed] * 3
    primary.close()
    assert caplog.records == []

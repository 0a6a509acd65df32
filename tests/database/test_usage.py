"""What is used is counted as Workers KV counts it, kept across restarts, and added up by month."""

import gc
import io
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal

import pytest

import kvengine
from kvengine import CorruptData, Database, InvalidRequest, NamespaceNotFound
from kvengine.metering.usage import Counts
from kvengine.namespace.layout import usage_key
from kvengine.testing.clock import ManualClock

DAY_S = 86400
NOVEMBER_1 = 1_793_491_200.0  # 2026-11-01 00:00 UTC


@pytest.fixture
def db():
    with Database.in_memory(clock=ManualClock(NOVEMBER_1), usage_interval_s=3600) as database:
        kv = database.namespace("a")
        kv.put("a", "12345")
        kv.put("b", '{"x":1}')
        kv.put("n", "7")
        database._ledger.write_down()
        yield database


RULES = [
    (lambda kv: kv.get("a"), Counts(reads=1, bytes_out=5)),
    (lambda kv: kv.get("missing"), Counts(reads=1)),
    (lambda kv: kv.get("a", "bytes"), Counts(reads=1, bytes_out=5)),
    (lambda kv: kv.get("b", "json"), Counts(reads=1, bytes_out=7)),
    (lambda kv: kv.get("a", "stream").read(), Counts(reads=1, bytes_out=5)),
    (lambda kv: kv.get(["a", "b", "missing"]), Counts(reads=3, bytes_out=12)),
    (lambda kv: kv.get_many(["a", "missing"]), Counts(reads=2, bytes_out=5)),
    (lambda kv: kv.get_with_metadata("a"), Counts(reads=1, bytes_out=5)),
    (lambda kv: kv.get_with_metadata(["a", "missing"]), Counts(reads=2, bytes_out=5)),
    (lambda kv: kv.get_metadata("a"), Counts(reads=1)),
    (lambda kv: "a" in kv, Counts(reads=1)),
    (lambda kv: kv.put("c", "123"), Counts(writes=1, bytes_in=3)),
    (lambda kv: kv.put("c", io.BytesIO(b"1234")), Counts(writes=1, bytes_in=4)),
    (lambda kv: kv.put("c", [1], type="json"), Counts(writes=1, bytes_in=3)),
    (lambda kv: kv.touch("a", expiration_ttl=60), Counts(writes=1)),
    (lambda kv: kv.increment("n"), Counts(reads=1, writes=1, bytes_in=1)),
    (lambda kv: kv.delete("a"), Counts(deletes=1)),
    (lambda kv: kv.delete("missing"), Counts(deletes=1)),
    (lambda kv: kv.put_many({"x": "1", "y": "22"}), Counts(writes=2, bytes_in=3)),
    (lambda kv: kv.delete_many(["x", "y", "z"]), Counts(deletes=3)),
    (lambda kv: kv.list(), Counts(lists=1)),
    (lambda kv: kv.list(limit=1), Counts(lists=1)),
    (lambda kv: list(kv.keys()), Counts(lists=1)),
    (lambda kv: kv.put("", "refused"), Counts()),
    (lambda kv: kv.get(""), Counts()),
    (lambda kv: kv.put("a", "x", if_version=99), Counts()),
]


@pytest.mark.parametrize(("call", "expected"), RULES, ids=range(len(RULES)))
def test_each_operation_counts_for_what_it_is(db, call, expected):
    kv = db.namespace("a")
    before = Counts.of(kv._meter)
    try:
        call(kv)
    except kvengine.KvError:
        assert expected == Counts()
    assert Counts.of(kv._meter) - before == expected
    assert db.usage("a").counts == Counts.of(kv._meter)


def test_an_expiry_is_nothing_and_stored_no_longer(db):
    kv = db.namespace("a")
    kv.put("short", "x" * 100, expiration_ttl=60)
    before, size = db.usage(), db.usage().bytes
    db.clock.advance(60)
    after = db.usage()
    assert after.counts == before.counts
    assert after.bytes == size - 105
    assert after.keys == before.keys - 1


def test_counts_survive_a_restart_and_are_added_up(tmp_path):
    for _ in range(3):
        with kvengine.open(tmp_path / "db") as db:
            kv = db.namespace("a")
            kv.put("k", "v")
            kv.get("k")
    with kvengine.open(tmp_path / "db") as db:
        assert db.usage().counts == Counts(reads=3, writes=3, bytes_in=3, bytes_out=3)
        assert (db.usage().keys, db.usage().bytes) == (1, 2)
        version = db.version
    with kvengine.open(tmp_path / "db") as db:
        assert db.version == version  # nothing was used, so nothing is written


KILLED = """
import sys, time, kvengine
db = kvengine.open(sys.argv[1], durability="os", usage_interval_s=0.02)
kv = db.namespace("a")
for number in range(500):
    kv.put(str(number), "x")
while not any(True for _ in db._ledger.rows()) or db._ledger.pending(0):
    time.sleep(0.01)
print("go", flush=True)
time.sleep(60)
"""


def test_after_a_kill_only_what_was_just_counted_is_lost_and_storage_is_exact(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "db")], stdout=subprocess.PIPE
    )
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with kvengine.open(tmp_path / "db") as db:
        assert db.usage().counts.writes == 500
        assert db.usage().keys == 500


def test_days_and_months(db):
    kv = db.namespace("a")  # three writes on November 1st
    db.clock.advance(DAY_S)
    kv.get("a")
    db._ledger.write_down()
    db.clock.advance(2 * DAY_S)
    kv.put("big", "x" * 999_997)
    november = db.usage()
    assert november.month == "2026-11"
    assert [day.date for day in november.by_day] == [f"2026-11-0{day}" for day in range(1, 5)]
    assert [day.counts.writes for day in november.by_day] == [3, 0, 0, 1]
    assert [day.counts.reads for day in november.by_day] == [0, 1, 0, 0]
    small = 3 + 5 + 7 + 1
    assert [day.bytes for day in november.by_day] == [small, small, small, small + 1_000_000]
    expected = (Decimal(4 * small + 1_000_000) / 4 / 10**9).quantize(Decimal("1e-9"))
    assert november.gigabyte_months == expected
    db._ledger.write_down()
    db.clock.advance(30 * DAY_S)
    kv.get("a")
    december = db.usage()
    assert (december.month, december.counts.reads, december.counts.writes) == ("2026-12", 1, 0)
    again = db.usage(month="2026-11")
    assert len(again.by_day) == 30
    assert again.counts == november.counts
    assert again.by_day[-1].bytes == small + 1_000_000


def test_deleted_namespaces_keep_their_counts_and_lose_their_storage(db):
    db.namespace("b").put("k", "v")
    counts = db.usage().counts
    db.delete("a")
    usage = db.usage()
    assert usage.counts == counts
    assert usage.keys == 1
    assert [one.title for one in usage.by_namespace] == [None, "b"]
    with pytest.raises(NamespaceNotFound):
        db.usage("a")


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "november", "", 202611, "2027-01"])
def test_what_is_no_month_is_refused(db, month):
    with pytest.raises(InvalidRequest):
        db.usage(month=month)


def test_a_reader_shows_what_was_written_down(tmp_path):
    with kvengine.open(tmp_path / "db") as db:
        db.namespace("a").put("k", "v")
        db._ledger.write_down()
        with kvengine.open(tmp_path / "db", read_only=True) as reader:
            assert reader.usage().counts.writes == 1
            reader.namespace("a").get("k")
            assert reader.usage().counts.reads == 1
        assert db.usage().counts.reads == 0


def test_counts_are_written_in_the_background_and_only_if_there_are_any():
    with Database.in_memory(usage_interval_s=0.01) as db:
        kv = db.namespace("a")
        kv.put("k", "v")
        while not list(db._ledger.rows()):
            time.sleep(0.005)
        version = db.version
        time.sleep(0.05)
        assert db.version == version


def test_a_database_that_is_dropped_leaves_no_thread(tmp_path):
    db = kvengine.open(tmp_path / "db", usage_interval_s=0.01)
    db.namespace("a").put("k", "v")
    assert any(thread.name == "kvengine-metering" for thread in threading.enumerate())
    del db
    gc.collect()
    deadline = time.monotonic() + 30
    while any(thread.name == "kvengine-metering" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_damaged_row_is_an_error_that_says_so(db):
    db.store.put(usage_key(0, int(NOVEMBER_1 // DAY_S)), b'{"reads": -1}')
    with pytest.raises(CorruptData, match="metering row"):
        db.usage()

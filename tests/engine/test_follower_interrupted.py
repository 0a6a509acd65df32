"""Whatever interrupts a reader that catches up: it is not stuck, shows nothing wrong, and goes on.

A handler or a finalizer that reads runs at every line; an exception comes at every line, and at
every instruction; several threads read meanwhile.
"""

import gc
import os
import signal
import sys
import threading
import weakref

import pytest

from kvengine import KvError, Store
from kvengine.engine.following import follower
from kvengine.testing.interrupting import ERRORS, PACKAGE, TESTING, Interruption
from tests.waiting import until

LONG = os.environ.get("KVENGINE_LONG") == "1"
SMALL = {"durability": "os", "segment_bytes": 4096, "key_buffer_entries": 16}
PATIENCE_S = 60
POINTS = 10**6 if LONG else 120


@pytest.fixture(autouse=True)
def _patience():
    """Who waits for himself would wait forever."""

    def give_up(*_):
        raise AssertionError(f"stuck for {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_S * (20 if LONG else 1))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pair(tmp_path):
    with (
        Store(tmp_path / "s", **SMALL, compaction="manual") as writer,
        Store(tmp_path / "s", read_only=True) as reader,
    ):
        writer.update({b"%02d" % n: b"0" * 50 for n in range(20)})
        assert len(reader) == 20
        yield writer, reader


def append(writer, turn):
    with writer.batch() as batch:
        for number in range(5):
            batch.put(b"%02d" % number, b"%d" % turn)


def begin_segments(writer, turn):
    for _ in range(3):
        with writer.batch() as batch:
            for number in range(5):
                batch.put(b"%02d" % number, b"%d" % turn * 800)


def compact(writer, turn):
    begin_segments(writer, turn)
    writer.compact()
    append(writer, turn)


every_kind = pytest.mark.parametrize("change", [append, begin_segments, compact])


@every_kind
@pytest.mark.parametrize("opcodes", [False, True], ids=["lines", "instructions"])
def test_an_exception_anywhere(pair, change, opcodes):
    writer, reader = pair
    at, step = 1, 1 if LONG or not opcodes else 7
    while at // step < (POINTS if change is append else POINTS // 2):
        change(writer, at)
        interruption = Interruption(at, ERRORS[at % 3], opcodes=opcodes)
        error = interruption.run(lambda: reader.get(b"00"))
        where = f"{change.__name__}, point {at}: {interruption.place}"
        assert error is None or isinstance(error, (*ERRORS, KvError)), where
        assert reader.version == writer.version, where
        assert dict(reader) == dict(writer), where
        if not interruption.place:
            break
        at += step
    assert (at > 30) == (change is not append)  # what is only appended is read without Python
    assert [change.version for change in reader.tail(writer.version - 2)] == [
        writer.version - 1,
        writer.version,
    ]


def test_a_segment_that_an_interrupted_catch_up_opened_is_not_opened_twice(pair, monkeypatch):
    writer, reader = pair
    begin_segments(writer, 1)

    def cut_short(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(follower, "SegmentRow", cut_short)
    with pytest.raises(KeyboardInterrupt):
        reader.get(b"00")
    monkeypatch.undo()
    assert reader.get(b"00") == writer.get(b"00")
    slots = [reader._parts.segment_table.slot(row.id) for row in reader._parts.rows]
    assert slots == list(range(slots[0], slots[0] + len(slots)))  # none is held by what was left


class Handler:
    """Reads at every line of the thread that it interrupts, as a signal handler might."""

    def __init__(self, read):
        self.read, self.calls = read, 0

    def __enter__(self):
        sys.settrace(self.enter)

    def __exit__(self, *_):
        sys.settrace(None)

    def enter(self, frame, event, _):
        name = frame.f_code.co_filename
        return self.step if name.startswith(PACKAGE) and not name.startswith(TESTING) else None

    def step(self, frame, event, _):
        if event == "line":
            self.calls += 1
            self.read()
        return self.step


@every_kind
def test_a_handler_that_reads_anywhere(pair, change):
    writer, reader = pair
    seen = []

    def read():
        found = reader.get_many([b"%02d" % number for number in range(5)])
        assert len(set(found)) == 1, "a part of a batch"
        changes = list(reader.tail(20))
        assert [change.version for change in changes] == sorted({c.version for c in changes})
        assert len(list(reader)) == 20
        seen.append(found[0][:1])

    append(writer, 1)
    assert reader.get(b"00") == b"1"
    handler = Handler(read)
    change(writer, 2)
    with handler:
        found = reader.get(b"00")
    assert found == writer.get(b"00")
    assert (handler.calls > 10) == (change is not append)
    assert seen == sorted(seen)
    assert {b"1", b"2"} >= set(seen)
    assert dict(reader) == dict(writer)


@pytest.mark.parametrize("groups", [None, (b"1", 2)])
def test_finalizers_that_read_while_it_catches_up(tmp_path, groups):
    """The collector may run them wherever memory is taken."""
    path, options = tmp_path / "s", {**SMALL, "groups": groups}
    with Store(path, **options) as writer, Store(path, read_only=True, **options) as reader:
        reads = []

        class Cycle:
            def __init__(self):
                self.me = self
                weakref.finalize(self, lambda: reads.append(reader.get_many([b"00", b"19"])))

        before = gc.get_threshold()
        gc.set_threshold(3, 2, 2)
        try:
            for turn in range(300):
                with writer.batch() as batch:
                    for number in range(20):
                        batch.put(b"%02d" % number, b"%d" % turn, expires_at=4e9 + turn)
                Cycle()
                assert reader.get(b"07") == b"%d" % turn
        finally:
            gc.set_threshold(*before)
        # While another thread collects, which may be in the middle of a read, nobody else does.
        until(lambda: gc.collect() >= 0 and len(reads) == 300, "the finalizers have read")
        assert all(first == last for first, last in reads)
        assert dict(reader) == dict(writer)


def test_threads_that_read_while_it_catches_up(pair):
    writer, reader = pair
    ended, wrong = threading.Event(), []

    def read():
        while not ended.is_set():
            before = reader.version
            found = [change.version for change in reader.tail(max(0, before - 30))]
            if found != sorted(set(found)) or (found and found[-1] < before):
                wrong.append((before, found))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        begin_segments(writer, turn)
        if turn % 20 == 19:
            writer.checkpoint()
    ended.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert wrong == []
    assert dict(reader) == dict(writer)

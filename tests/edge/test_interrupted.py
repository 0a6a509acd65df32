"""Readers that are interrupted, calls from inside: nobody hangs, nobody is shown what is wrong."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvengine.edge.messages import Answer
from kvengine.errors import UpstreamUnavailable
from tests.edge.bench import OPTIONS, Bench

ROOT = Path(__file__).parent.parent.parent


def elsewhere(call):
    """Call a function in another thread."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


@pytest.fixture
def bench(time, clock):
    return Bench(time, clock)


def test_who_waits_for_a_question_whose_asker_was_interrupted_is_asked_for_again(bench):
    fetch, followers = bench.upstream.fetch, []

    def interrupted(wants, done):
        bench.upstream.fetch = fetch
        elsewhere(lambda: followers.extend(bench.read() for _ in range(3)))
        assert bench.upstream.asked == []  # they have joined
        raise KeyboardInterrupt

    bench.upstream.fetch = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.read()
    assert followers == [[], [], []]
    bench.time.run_until(bench.time.now)  # the timers' thread
    assert len(bench.upstream.asked) == 1
    bench.upstream.answer(Answer(5, 10, 0.0, b"v"))
    assert [one[0].value for one in followers] == [b"v"] * 3
    assert bench.read()[0].status == "HIT"


def test_an_asker_interrupted_while_the_others_are_told_leaves_nobody(bench):
    results = []

    def interrupted(shown):
        results.append(shown)
        if len(results) == 2:
            raise KeyboardInterrupt

    def at_once(wants, done):  # as a database in this process answers
        for _ in range(4):
            elsewhere(lambda: bench.edge.read(b"k", OPTIONS, interrupted))
        done([Answer(5, 10, 0.0, b"v")])

    bench.upstream.fetch = at_once
    with pytest.raises(KeyboardInterrupt):
        bench.edge.read(b"k", OPTIONS, interrupted)
    assert len(results) == 2
    bench.time.run_until(bench.time.now)
    assert {one.value for one in results} == {b"v"}
    assert len(results) >= 5  # one may be told twice, none is forgotten


def test_who_comes_from_inside_does_not_wait_for_the_asker_below(bench):
    """A signal handler reads the key that the code below it is about to ask for."""
    fetch, inside = bench.upstream.fetch, []

    def handler_in_between(wants, done):
        bench.upstream.fetch = fetch
        inside.append(bench.read())
        assert len(bench.upstream.asked) == 1  # a request of its own
        bench.upstream.answer(Answer(5, 10, 0.0, b"v"))
        assert inside[0][0].value == b"v"
        fetch(wants, done)

    bench.upstream.fetch = handler_in_between
    results = bench.read()
    bench.upstream.answer(Answer(5, 10, 0.0, b"v"))
    assert results[0].value == b"v"


@pytest.mark.parametrize("held", [False, True])
def test_a_read_from_inside_is_answered_at_once(bench, held, monkeypatch):
    if held:
        bench.hold(key=b"other")
    inside = []
    keep = bench.edge.copies.keep

    def keeping(key, copy):
        inside.extend(bench.read(b"other", ttl=0.0))
        keep(key, copy)

    bench.read()
    monkeypatch.setattr(bench.edge.copies, "keep", keeping)
    bench.upstream.answer(Answer(5, 10, 0.0, b"v"))
    (found,) = inside
    if held:
        assert found.status == "STALE"
    else:
        assert isinstance(found, UpstreamUnavailable)
    monkeypatch.undo()
    assert bench.read()[0].value == b"v"


def test_a_write_from_inside_is_not_undone(bench, monkeypatch):
    results = bench.read()
    advance = bench.edge.watermarks.advance

    def advancing(key, version):
        monkeypatch.undo()
        bench.edge.record_write([b"k"], 20)
        advance(key, version)

    monkeypatch.setattr(bench.edge.watermarks, "advance", advancing)
    bench.upstream.answer(Answer(5, 10, 0.0, b"older"))
    assert results[0].value == b"older"  # it began before
    assert bench.read() == []
    assert bench.upstream.asked[-1][0][0].min_version == 20


HANDLER = """
import gc, signal, sys, threading, time
import kvengine
from kvengine import Database, Edge, KvError

with Database.in_memory() as db, Edge(db, cache_ttl_s=0.001, timeout_s=20) as edge:
    kv = edge.namespace("n")
    kv.put("own", "0")
    calls, refused, own, here = 0, 0, set(), threading.local()

    def again(*_):
        global calls, refused
        depth = here.depth = getattr(here, "depth", 0) + 1  # the collector runs in any thread
        calls += 1
        mine = str(calls)
        key = f"own {threading.get_ident()} {depth}"
        try:
            if depth < 4:
                kv.put(key, mine)
                own.add(key)
                assert kv.get(key) == mine
                kv.get(f"k{calls % 50}")
        except KvError as error:
            assert any(word in str(error) for word in ("inside", "signal", "interrupted")), error
            refused += 1
        finally:
            here.depth -= 1

    class Noisy:
        def __del__(self):
            again()

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    end = time.monotonic() + 2
    number = 0
    try:
        while time.monotonic() < end:
            number += 1
            noisy = Noisy()
            noisy.self = noisy  # freed by the collector, wherever that runs
            kv.get(f"k{number % 50}")
            kv.get_many([f"k{one}" for one in range(20)])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        del noisy
        gc.collect()
    assert calls > 50, calls
    for key in own:
        assert kv.get(key, min_version=db.version) == db.namespace("n").get(key)
print("ended")
"""


def test_signal_handlers_and_finalizers_call_an_edge():
    done = subprocess.run(
        [sys.executable, "-c", HANDLER],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr[-3000:]

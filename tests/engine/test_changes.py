"""Who waits, or wakes others, is interrupted at any line: no lock is left behind."""

import itertools
import random
import signal
import sys
import threading
import time

import pytest

import kvengine
from kvengine import Follower, Store, StoreClosed
from kvengine.engine.following.changes import Changes, Flag

PARTS = (
    "engine/following/waiting.py",
    "engine/following/changes.py",
    "threading.py",
    "replication/follower.py",
)


class Interrupted(BaseException):
    """What Ctrl-C raises, in short."""


class AtEvent:
    """Raises Interrupted at one event (a line, a return) of the code that waits and wakes."""

    def __init__(self, left):
        self.left = left

    def __call__(self, frame, event, arg):
        return self.trace if frame.f_code.co_filename.endswith(PARTS) else None

    def trace(self, frame, event, arg):
        if event in ("line", "return"):
            self.left -= 1
            if self.left == -1:
                raise Interrupted
        return self.trace


def interrupted_everywhere(action):
    """Make a call again and again, interrupted one event later each time; yield after each."""
    before = sys.gettrace()
    for number in itertools.count():
        tracer = AtEvent(number)
        sys.settrace(tracer)
        try:
            action()
        except (Interrupted, RuntimeError):  # contextlib says so of an exception from within
            pass
        finally:
            sys.settrace(before)
        if tracer.left >= 0:
            assert number > 5
            return
        yield number


def in_time(call):
    """Make a call in another thread, which must not hang."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("what", ["put", "wait"])
def test_a_store(what):
    with Store.in_memory() as store:

        def until_closed():
            with pytest.raises(StoreClosed):
                store.wait(10**6, 60)

        waiting = threading.Thread(target=until_closed, daemon=True)
        waiting.start()
        while not store._parts.waiters:
            time.sleep(0.001)
        actions = {"put": lambda: store.put(b"k", b"v"), "wait": lambda: store.wait(10**6, 0.001)}
        for _ in interrupted_everywhere(actions[what]):
            in_time(lambda: (store.put(b"k", b"w"), store.wait(0, 1)))
    waiting.join(30)
    assert not waiting.is_alive()  # the end of the store woke it


@pytest.mark.parametrize("what", ["wait", "close"])
def test_a_follower(what):
    with Store.in_memory() as store:
        store.put(b"k", b"v")

        with Follower(store) as follower:
            actions = {"wait": lambda: follower.wait(store.version + 1, timeout=0.001)}
            if what == "wait":
                for number in interrupted_everywhere(actions["wait"]):
                    store.put(b"k", str(number).encode())
                    in_time(lambda: follower.wait(timeout=30))
                assert follower.wait(timeout=30)
            else:
                follower.wait(timeout=30)
                for _ in interrupted_everywhere(follower.close):
                    in_time(follower.close)


def test_changes_and_flags():
    changes, flag, seen = Changes(), Flag(), []
    assert not changes.wait_for(lambda: False, 0.001)
    assert not flag.wait(0)
    assert not flag.is_set()
    waiting = [
        threading.Thread(target=lambda: seen.append(changes.wait_for(flag.is_set))),
        threading.Thread(target=lambda: seen.append(flag.wait())),
    ]
    for one in waiting:
        one.start()
    for action in (flag.set, changes.notify, lambda: changes.wait_for(lambda: True)):
        for number in interrupted_everywhere(lambda action=action: [action() for _ in "abc"]):
            assert number >= 0
    for one in waiting:
        one.join(30)
    assert seen == [True, True]
    flag.clear()
    assert not flag.wait(0)


# A signal may come in a callback of the collector, where what it raises is dropped.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signals_in_the_middle_of_writes_that_others_wait_for():
    """The way in which it was found: get_or_set at an edge, and signals."""

    def interrupt(*_):
        raise Interrupted

    chance = random.Random(0)
    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        with kvengine.Database.in_memory() as db, kvengine.Edge(db) as edge:
            kv, end, number = edge.namespace("n"), time.monotonic() + 1, 0
            while time.monotonic() < end:
                number += 1
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.random() * 0.0006 + 1e-5)
                    kv.get_or_set(f"k{number}", lambda: "v")
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupted:
                    pass
                in_time(lambda number=number: kv.put(f"k{number}", "w"))
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)

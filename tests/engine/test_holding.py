"""Locks, latches and pins that no interruption leaks."""

import signal
import threading
import time

import pytest

from kvengine.engine.jobs.holding import Latch, OwnedLock, Pins
from tests.forking import in_child

HANG_S = 60  # whatever takes this long hangs


def test_a_latch():
    latch = Latch()
    assert not latch.wait(0)
    assert not latch.wait(0.01)
    latch.open()
    latch.open()
    assert latch.wait(0)
    assert latch.wait()


def test_what_is_held_is_given_back_with_the_object_that_holds_it():
    lock, pins = OwnedLock(), Pins()
    hold, pin = lock.held(), pins.pin()
    with lock:
        assert lock.is_mine()
    assert lock.is_mine()
    assert pins.count == 1
    del hold, pin
    assert not lock.is_mine()
    assert pins.count == 0
    with lock.held(), pins.pin():
        assert lock.is_mine()
        assert pins.count == 1
    assert not lock.is_mine()
    assert pins.count == 0


def test_a_lock_makes_other_threads_wait():
    lock, order = OwnedLock(), []

    def take():
        with lock:
            order.append("other")

    with lock:
        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(0.02)
        order.append("first")
    thread.join(HANG_S)
    assert order == ["first", "other"]


class Interrupted(Exception):
    """What a handler of a signal raises."""


@pytest.fixture
def alarm():
    def handle(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handle)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.02)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_ends_the_wait_for_a_latch(alarm):
    alarm()
    with pytest.raises(Interrupted):
        Latch().wait()


def test_a_signal_ends_the_wait_for_a_lock_and_nothing_is_taken(alarm):
    lock = OwnedLock()
    taken, go_on = threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            go_on.wait(HANG_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(HANG_S)
    for wait in (lock.__enter__, lock.held):
        alarm()
        with pytest.raises(Interrupted):
            wait()
        assert not lock.is_mine()
    go_on.set()
    thread.join(HANG_S)
    with lock:
        assert lock.is_mine()


def test_an_exception_in_a_block_gives_back_what_it_held():
    lock, pins = OwnedLock(), Pins()
    with pytest.raises(KeyError), lock.held(), pins.pin():
        raise KeyError
    assert not lock.is_mine()
    assert pins.count == 0


def test_a_lock_that_is_held_by_the_thread_that_forks():
    lock = OwnedLock()

    def go_on(hold):
        lock.after_fork_in_child()
        held = lock.is_mine()
        with hold:
            pass
        for _ in range(2):  # the first would leave it taken if its depth had been lost
            with lock.held(), lock.held():
                held &= lock.is_mine()
        return held, lock.is_mine()

    with lock.held() as hold:
        assert in_child(lambda: go_on(hold)) == (True, False)
    assert not lock.is_mine()

"""Threads of the operating system that call a function when they are woken."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kvengine.engine.jobs.worker import Worker
from tests.waiting import HANG_S, threads, until


def test_a_worker_is_stopped_and_started_anew():
    steps = []
    before = threads()
    worker = Worker(lambda: steps.append(worker.is_current()))
    for turn in range(3):
        assert worker.wake()
        until(lambda turn=turn: len(steps) > turn, "the step")
        assert threads() == before + 1
        worker.stop()
        worker.stop()
        until(lambda: threads() == before, "its thread ends")
    assert steps == [True] * 3
    assert not worker.is_current()


def test_a_worker_whose_step_raises_goes_on():
    steps = []

    def step():
        steps.append(1)
        raise SystemExit

    worker = Worker(step)
    worker.wake()
    until(lambda: steps, "the step")
    worker.wake()
    until(lambda: len(steps) >= 2, "the next step")
    worker.stop()


def test_a_worker_comes_back_after_the_seconds_that_its_step_returned():
    steps = []

    def step():
        steps.append(1)
        return 0.001

    worker = Worker(step)
    worker.wake()
    until(lambda: len(steps) > 3, "it is called again and again")
    worker.stop()
    count = len(steps)
    time.sleep(0.01)
    assert len(steps) == count


def test_signals_reach_the_main_thread_and_not_a_worker():
    seen, blocked = [], []

    def step():
        blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(threading.current_thread()))
    try:
        worker = Worker(step)
        worker.wake()
        until(lambda: blocked, "the step")
        for _ in range(10):
            os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: seen, "the handler")
        worker.stop()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert signal.SIGUSR1 in blocked[0]
    assert signal.SIGINT in blocked[0]
    assert set(seen) == {threading.main_thread()}


def test_many_threads_wake_and_stop_a_worker():
    steps = []
    worker = Worker(lambda: steps.append(1))

    def use():
        for number in range(50):
            assert worker.wake()
            if number % 10 == 9:
                worker.stop()

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join(HANG_S)
        assert not user.is_alive()
    worker.wake()
    until(lambda: steps, "it works as before")
    worker.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_fork_starts_its_own_thread():
    worker = Worker(lambda: None)
    worker.wake()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            worker.after_fork_in_child()
            worker.stop()
            worker.wake()
            worker.stop()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    worker.stop()


def test_a_worker_that_is_told_to_end_by_its_own_step_ends():
    before = threads()

    def step():
        worker.stop()

    worker = Worker(step)
    worker.wake()
    until(lambda: threads() == before, "it ends")
    assert not worker.is_current()


def test_a_store_has_its_threads_while_tracemalloc_traces(tmp_path):
    """It takes the GIL for the memory of a thread, so nobody may wait for the thread with it."""
    program = """if True:
        import sys, kvengine
        with kvengine.Store(sys.argv[1], durability="os") as store:
            store[b"a"] = b"1"
            store.checkpoint()
    """
    subprocess.run(
        [sys.executable, "-X", "tracemalloc", "-c", program, tmp_path / "s"],
        check=True,
        timeout=HANG_S,
    )


FORKS = f"""
import os, time
from kvengine.engine.jobs.worker import Worker
from tests.waiting import HANG_S, meanwhile

def begin_and_end():
    worker = Worker(lambda: None)
    worker.wake()
    worker.stop()

with meanwhile(begin_and_end, 2):
    for _ in range(800):
        child, end = os.fork(), time.monotonic() + HANG_S
        if child == 0:
            os._exit(0)
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(child, {int(signal.SIGKILL)})
                raise SystemExit("a child hangs")
            time.sleep(0.0005)
"""


def test_a_fork_while_threads_begin_and_end_leaves_no_child_hanging():
    """The interpreter has a lock for its list of threads, which a child would wait for.

    A small process does it, for which a fork costs little.
    """
    subprocess.run([sys.executable, "-c", FORKS], check=True)

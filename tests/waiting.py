"""What goes on in other threads: waiting for it, keeping it up, counting them."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

HANG_S = 60  # whatever takes this long hangs


def until(is_so, what):
    """Wait until something is so."""
    end = time.monotonic() + HANG_S
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.002)


@contextmanager
def meanwhile(step, count=1):
    """Do a step again and again, in so many other threads; raise what it raised."""
    stop = threading.Event()

    def repeat():
        while not stop.is_set():
            step()

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(repeat) for _ in range(count)]
        try:
            yield
        finally:
            stop.set()
    for one in running:
        one.result()


def threads():
    """Return how many threads this process has, also those that Python does not know.

    The system lists a thread for a moment after it was joined, so the lowest of some counts is it.
    """
    counts = []
    for _ in range(5):
        counts.append(len(os.listdir("/proc/self/task")))
        time.sleep(0.002)
    return min(counts)

"""Waiting for what other threads do, and counting them."""

import os
import time

HANG_S = 60  # whatever takes this long hangs


def until(is_so, what):
    """Wait until something is so."""
    end = time.monotonic() + HANG_S
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.002)


def threads():
    """Return how many threads this process has, also those that Python does not know.

    The system lists a thread for a moment after it was joined, so the lowest of some counts is it.
    """
    counts = []
    for _ in range(5):
        counts.append(len(os.listdir("/proc/self/task")))
        time.sleep(0.002)
    return min(counts)

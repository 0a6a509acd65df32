"""Foreign code inside: what runs between two steps of the engine may use the store itself.

Signal handlers, finalizers and the collector's callbacks, clocks, arguments with methods of their
own, green threads and forks.  Each runs in a process of its own with a model; a hang is a failure.
"""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from kvengine import Store, StoreBusy
from tests.engine.foreign_programs import PROGRAMS

LIMIT_S = 120  # far above what any of these takes: whoever needs it hangs


@pytest.mark.parametrize("name", PROGRAMS)
def test_code_that_comes_in_from_outside_may_write(name, tmp_path):
    if name == "gevent":
        pytest.importorskip("gevent", reason="gevent is not installed: green threads NOT TESTED")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAMS[name]), str(tmp_path / "store")],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_write_from_inside_a_step_that_keeps_writers_out_is_told_so_at_once(tmp_path):
    with Store(tmp_path / "store") as store:
        with pytest.raises(StoreBusy, match="call again"):
            store._parts.exclusively(store.put, b"key", b"value")
        with pytest.raises(StoreBusy):
            store._parts.exclusively(store._parts.exclusively, int)
        assert store.put(b"key", b"value") == 1
        assert store[b"key"] == b"value"


@pytest.mark.parametrize("name", ["compact", "checkpoint", "close", "digest"])
def test_a_job_from_inside_a_step_that_keeps_writers_out_is_refused_at_once(tmp_path, name):
    """A signal handler that waited there for the job thread, which waits for it, would hang."""

    def give_up(number, frame):
        raise AssertionError("it waits forever")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        with Store(tmp_path / "store", segment_bytes=4096) as store:
            for number in range(20):
                store.put(b"%d" % (number % 3), bytes(500))
            with pytest.raises(StoreBusy, match="call again"):
                store._parts.exclusively(getattr(store, name))
            assert not store.closed
            getattr(store, name)()
            assert store.closed or store.put(b"key", b"value")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

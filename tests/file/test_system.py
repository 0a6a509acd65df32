"""Whether a process has ended: its id alone does not tell, for another one may get it."""

import os
import subprocess
import sys

import pytest

from kvengine.file.system import process_id, process_is_gone, process_start

WAITS = "import sys; print(flush=True); sys.stdin.read()"
FIRST_THREAD_ENDS = """
import ctypes, sys, threading
def wait():
    with open("/proc/self/stat") as file:
        while file.read().rpartition(")")[2].split()[0] != "Z":
            file.seek(0)
    print(flush=True)
    sys.stdin.read()
threading.Thread(target=wait).start()
ctypes.CDLL(None).pthread_exit(None)
"""

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


def begin(code):
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"\n"
    return child


@pytest.mark.parametrize("code", [WAITS, FIRST_THREAD_ENDS], ids=["lives", "first thread ends"])
def test_a_process_that_lives_is_not_gone_until_it_ends(code):
    with begin(code) as child:
        start = process_start(child.pid)
        assert start > 0
        assert not process_is_gone(child.pid, start)
        assert not process_is_gone(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process_is_gone(child.pid, start)  # though its parent has not asked yet
        assert process_is_gone(child.pid)
        child.wait()
        assert process_is_gone(child.pid, start)
        assert process_is_gone(child.pid)


def test_one_whose_id_another_process_has_is_gone():
    with begin(WAITS) as child:
        start = process_start(child.pid)
        assert process_is_gone(child.pid, start - 1)
        assert start >= process_start(process_id()) > 0
        child.kill()


def test_what_can_not_be_told_is_not_gone(monkeypatch):
    """Of no process, an id that none can have, and one in a time namespace of its own."""
    assert not process_is_gone(0, 7)
    assert not process_is_gone(2**63, 7)
    assert process_start(2**63) == 0
    monkeypatch.setattr("kvengine.file.system._FIRST_TIME_NAMESPACE", 7)
    assert process_start(process_id()) == 0
    assert not process_is_gone(process_id(), 7)

"""A child that was forked in the middle of something does not keep locks of its parent alive.

In each test the parent is killed in the middle of a step, and a child that never calls kvengine
goes on living.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kvengine
from kvengine.engine import joining
from kvengine.file import local
from tests.forking import fork_in_c

ROOT = Path(__file__).parent.parent.parent

# Says the number of the child, which waits until its standard input ends.
FORKS = """
import mmap, os, signal, sys
import kvengine
from kvengine.file.local import LocalDirectory
def fork_and_die(fork):
    pid = fork()
    if pid == 0:
        sys.stdin.read()
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
from tests.forking import fork_in_c as in_c  # Python is not told
"""


@contextlib.contextmanager
def die(path, code, *, is_reaped=True):
    """Run `code`, which calls fork_and_die(); its child lives until the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS + code, str(path)], stdin=subprocess.PIPE, cwd=ROOT
    )
    if is_reaped:
        assert process.wait() == -signal.SIGKILL
    else:  # as in a container whose first process is not made for that
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        yield
    finally:
        process.stdin.close()
        process.wait()


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    """Who would wait for the child is told so, soon."""
    monkeypatch.setattr(local, "OPENING_S", 0.5)
    monkeypatch.setattr(joining, "PATIENCE_S", 0.5)


@pytest.mark.parametrize("is_reaped", [True, False], ids=["reaped", "not reaped"])
def test_one_that_was_alone_is_killed_in_a_write(tmp_path, is_reaped):
    code = """
store = kvengine.Store(sys.argv[1], durability="os")
store.put(b"key", b"1")
with open(sys.argv[1] + "/CONTROL", "r+b") as file:
    words = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
assert words[46:48].tolist() == [0, 0]
words[47] = 1  # as in a write of one that is alone
fork_and_die(in_c)
"""
    held = die(tmp_path / "store", code, is_reaped=is_reaped)
    with held, kvengine.Store(tmp_path / "store") as store:
        assert store.put(b"key", b"2", if_version=1) == 2
        with kvengine.Store(tmp_path / "store") as other:
            assert other.get(b"key") == b"2"
            assert other.put(b"key", b"3") == 3
    assert kvengine.verify(tmp_path / "store").ok


def test_one_that_opens_a_store_is_killed(tmp_path):
    code = """
directory = LocalDirectory(sys.argv[1])
with directory.opening():
    directory.lock()
    fork_and_die(os.fork)
"""
    with die(tmp_path, code), kvengine.Store(tmp_path, exclusive=True) as store:
        assert store.put(b"key", b"1") == 1


def test_one_that_acknowledges_is_killed(tmp_path):
    with kvengine.Store(tmp_path / "store", durability="os") as store:
        store.put(b"key", b"1")
        store.consumer("mail").release()
    code = """
LocalDirectory(sys.argv[1]).update("file", lambda old: fork_and_die(os.fork))
"""
    with die(tmp_path / "store", code):
        acknowledge_soon(tmp_path / "store")


def test_one_that_acknowledges_has_a_child_that_knows_of_nothing(tmp_path):
    directory = local.LocalDirectory(str(tmp_path / "store"))
    with kvengine.Store(tmp_path / "store", durability="os") as store, children() as fork:
        store.put(b"key", b"1")
        directory.update("file", lambda old: fork())
        acknowledge_soon(tmp_path / "store")
    directory.close()


def test_one_that_has_a_lease_has_a_child_that_knows_of_nothing(tmp_path):
    with kvengine.Store(tmp_path / "store", durability="os") as store, children() as fork:
        store.put(b"key", b"1")
        mail = store.consumer("mail")
        assert [change.version for change in mail.changes()] == [1]
        fork()
        mail.release()
        acknowledge_soon(tmp_path / "store")


@contextlib.contextmanager
def children():
    """Give what forks a child without telling Python; it lives until the end."""
    to_child, from_parent = os.pipe()
    pids = []

    def fork():
        pids.append(fork_in_c())
        if pids[-1] == 0:
            os.close(from_parent)
            os.read(to_child, 1)
            os._exit(0)

    try:
        yield fork
    finally:
        os.close(from_parent)
        os.close(to_child)
        for pid in pids:
            os.waitpid(pid, 0)


def acknowledge_soon(path):
    """Acknowledge a change in a process that is killed if that takes forever."""
    code = """
import sys, kvengine
with kvengine.Store(sys.argv[1]) as store:
    mail = store.consumer("mail")
    for change in mail.changes():
        mail.acknowledge(change.version)
    print(mail.position)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, timeout=20, check=True
    )
    assert done.stdout == b"1\n"

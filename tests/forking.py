"""Helps tests to look at what an object does in a forked child."""

import ast
import ctypes
import os
import signal
import sys
import time
import traceback

from kvengine import KvError

PATIENCE_S = 60
_fork = ctypes.PyDLL(None).fork  # of the C library, while this thread has the interpreter


def fork_in_c():
    """Fork as a program in C does that does not tell Python; return the pid of the child, or 0.

    When a thread has asked for the interpreter, the one that has it waits until it was taken over.
    In a child nobody takes it over, and Python was not told of that.  So nobody asks meanwhile.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        time.sleep(0.02)  # those who wait know of it
        return _fork()
    finally:
        sys.setswitchinterval(before)


def in_child(action, fork=os.fork):
    """Return what `action` returns in a forked child, which ends without any clean-up."""
    from_child, to_parent = os.pipe()
    pid = fork()
    if pid == 0:
        signal.alarm(PATIENCE_S)  # who hangs is killed
        try:
            os.close(from_child)
            answer = ("returned", action())
        except BaseException:  # noqa: BLE001  # the parent shows it
            answer = ("raised", traceback.format_exc())
        try:
            os.write(to_parent, repr(answer).encode())
        finally:
            os._exit(0)
    os.close(to_parent)
    with os.fdopen(from_child, "rb") as pipe:
        told = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "it hung, or crashed"
    what, value = ast.literal_eval(told.decode())
    assert what == "returned", value
    return value


def error_of(call):
    try:
        call()
    except KvError as error:
        return type(error).__name__, str(error)
    return "no error"

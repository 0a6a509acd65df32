"""Helps tests to look at what an object does in a forked child."""

import ast
import os
import signal
import traceback

from kvengine import KvError

PATIENCE_S = 60


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

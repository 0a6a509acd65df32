"""Turns: how long-running compiled code lets other threads run, and Ctrl-C through."""


def let_others_run() -> None:
    """Do nothing, as Python code: the interpreter looks here who waits for its lock.

    Giving the lock back and taking it again does not do: a thread that waits is woken, comes too
    late, and begins to count its switch interval anew, forever if that is done often.
    """

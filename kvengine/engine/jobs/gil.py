"""How long-running compiled code lets other threads run, and Ctrl-C through."""


def yield_gil() -> None:
    """Do nothing, as Python code: here the interpreter checks whether a thread waits for the GIL.

    Releasing and reacquiring the GIL is not enough: a waiting thread wakes too late and restarts
    its switch interval, forever if that happens often.
    """

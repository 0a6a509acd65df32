"""The command line: one command a file, put together in ``main``.

Invariants:
* standard output carries only what was asked for; every message goes to standard error;
* every error of the package ends in one line and a documented exit code (``failures``).
"""

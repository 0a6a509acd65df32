"""The command line: one command per file, assembled in ``main``.

Invariants:
* standard output carries only results; every message goes to standard error;
* every error of the package becomes a one-line message and a documented exit code (``failures``).
"""

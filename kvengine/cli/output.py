"""Output: bytes to standard output, messages and progress bars to standard error.

Invariants:
* a command that could not write all of its output does not exit with 0;
* progress bars appear only on a terminal.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from kvengine.cli.formatting import printable_text

Progress = Callable[[int, int], None]


def output() -> BinaryIO:
    """Return the binary standard output.

    Raises:
        OSError: the process was started with its standard output closed.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    return sys.stdout.buffer


def write_text(text: str = "") -> None:
    """Write a line of text to standard output; surrogate-escaped bytes are restored."""
    output().write(text.encode("utf-8", "surrogateescape") + b"\n")


def flush() -> None:
    """Flush standard output, so that a failure can still be reported."""
    if sys.stdout is not None:
        sys.stdout.flush()


def forget_output() -> None:
    """Discard standard output, so that the interpreter does not fail on it again at exit."""
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return output().isatty()


def message(text: str) -> None:
    """Print *text* to standard error, as one line."""
    click.echo(f"kvengine: {printable_text(text)}", err=True)


@contextmanager
def progress_bar(label: str) -> Iterator[Progress | None]:
    """Show the progress of a long task; yield None if standard error is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield show
        bar.update(bar.length - bar.pos if bar.length else 0)  # also if there was nothing to do

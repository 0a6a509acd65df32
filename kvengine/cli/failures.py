"""How a command reports failure: a one-line message for people, an exit code for scripts.

Invariants:
* every KvError has an exit code, the same one in every command;
* the message is a single line, even if a path or a key contains line breaks.
"""

import enum
from typing import IO, Any

import click

from kvengine.cli.formatting import printable_text
from kvengine.cli.output import message
from kvengine.errors import (
    ConsumerLocked,
    CorruptData,
    InvalidRequest,
    KeyNotFound,
    KvError,
    NamespaceExists,
    NamespaceNotFound,
    StorageError,
    StoreLocked,
    StoreReadOnly,
    VersionConflict,
)


class ExitCode(enum.IntEnum):
    """The exit codes of every command; the help of ``kvengine`` lists them."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    DAMAGED = 6
    INTERRUPTED = 130  # as a shell reports a process ended by SIGINT
    OUTPUT_CLOSED = 141  # as a shell reports a process ended by SIGPIPE


EXIT_CODES_HELP = """\b
Exit codes:
  0    done
  1    failed: not a store, unsupported format, or a check of demo or replay failed
  2    usage: invalid command, option, key or value
  3    not found: no such key or namespace
  4    conflict: --if-version did not match, or the title is taken; nothing was written
  5    unavailable: the store or consumer is in use elsewhere, or the system reported an error
  6    damaged: files of the store are corrupt
  130  interrupted (Ctrl-C)
  141  standard output was closed by its reader
"""


class CommandFailed(click.ClickException):
    """A command cannot be carried out, for a reason other than an error of the store."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the reason, formatted like every message."""
        del file  # messages go to standard error only
        message(self.message)


# The first matching class decides, so subclasses precede their bases.
_EXIT_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (KeyNotFound, ExitCode.NOT_FOUND),
    (NamespaceNotFound, ExitCode.NOT_FOUND),
    (InvalidRequest, ExitCode.USAGE),
    (VersionConflict, ExitCode.CONFLICT),
    (NamespaceExists, ExitCode.CONFLICT),
    (ConsumerLocked, ExitCode.UNAVAILABLE),
    (StoreLocked, ExitCode.UNAVAILABLE),
    (StoreReadOnly, ExitCode.UNAVAILABLE),
    (StorageError, ExitCode.UNAVAILABLE),
    (CorruptData, ExitCode.DAMAGED),
)


def exit_code(error: KvError | OSError) -> ExitCode:
    """Return the exit code for *error*."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), ExitCode.FAILURE)


def one_line(error: BaseException) -> str:
    """Return the message of *error* on one line, without control characters."""
    return printable_text(str(error) or type(error).__name__)

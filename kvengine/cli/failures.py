"""What a failed command tells its caller: one line for people, one exit code for scripts.

Invariants:
* every KvError has an exit code, the same one in every command;
* the message is one line, whatever a path or a key holds.
"""

import enum
from typing import IO, Any

import click

from kvengine.cli.output import message
from kvengine.cli.text import printable_text
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
  1    failed: not a store, another format, a check of demo or replay failed
  2    usage: the command, an option, a key or a value is not acceptable
  3    not found: the key or the namespace is absent
  4    conflict: --if-version did not match, or the title is taken; nothing was written
  5    unavailable: another process has the store alone, or the consumer; or the system refused
  6    damage found in the files of the store
  130  interrupted (Ctrl-C)
  141  the reader of standard output went away
"""


class CommandFailed(click.ClickException):
    """A command cannot do what it was asked, for a reason that is no error of the store."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Say why, in the form that every message has."""
        del file  # messages go to standard error only
        message(self.message)


# The first class that matches decides, so a subclass stands above its base.
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
    """Return what *error* says, on one line and harmless to a terminal."""
    return printable_text(str(error) or type(error).__name__)

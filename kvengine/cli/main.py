"""The command ``kvengine``: its subcommands, and how it handles their failures.

Invariants:
* an error of the package or the system prints one line, never a traceback;
* Ctrl-C and SIGTERM close the store before the process exits;
* a file of a store never gets the descriptor number of a standard stream.
"""

import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

import kvengine
from kvengine.cli.bench import bench
from kvengine.cli.database.bulk import bulk
from kvengine.cli.database.export import export
from kvengine.cli.database.import_ import import_pairs
from kvengine.cli.database.key import key
from kvengine.cli.database.namespace import namespace
from kvengine.cli.database.usage import usage
from kvengine.cli.database.watch import watch
from kvengine.cli.demos.demo import demo
from kvengine.cli.failures import EXIT_CODES_HELP, ExitCode, exit_code, one_line
from kvengine.cli.output import flush, forget_output, message
from kvengine.cli.replaying.replay import replay
from kvengine.cli.serve import serve
from kvengine.cli.store.backup import backup
from kvengine.cli.store.compact import compact
from kvengine.cli.store.consumers import consumers
from kvengine.cli.store.delete import delete
from kvengine.cli.store.get import get
from kvengine.cli.store.list import list_keys
from kvengine.cli.store.promote import promote
from kvengine.cli.store.put import put
from kvengine.cli.store.salvage import salvage
from kvengine.cli.store.stats import stats
from kvengine.cli.store.tail import tail
from kvengine.cli.store.verify import verify
from kvengine.cli.target import Commands
from kvengine.cli.token import token
from kvengine.cli.workerd_config import workerd_config
from kvengine.errors import CorruptData, KvError, NotAStore


class CommandGroup(Commands):
    """A group that handles the errors that its commands raise."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command and turn its failures into messages and exit codes."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                flush()
        except BrokenPipeError:
            forget_output()
            sys.exit(ExitCode.OUTPUT_CLOSED)
        except (KvError, OSError) as error:
            message(one_line(error) + _advice(error))
            forget_output()
            sys.exit(exit_code(error))
        except KeyboardInterrupt:
            message("interrupted")
            sys.exit(ExitCode.INTERRUPTED)


@click.group(
    cls=CommandGroup,
    epilog=EXIT_CODES_HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(kvengine.__version__, prog_name="kvengine")
def command() -> None:
    """A key-value store in a folder, embedded or served over HTTP.

    "serve" runs an HTTP server; "token" manages access to it.

    The commands from "namespace" to "watch" work on a database of namespaces, as in Workers KV.
    "put", "get", "delete" and "list" work on a plain store, whose keys are bytes. The others work
    on both.

    Values are read and printed byte for byte; messages go to standard error. Put "--" before a
    key that begins with "-".
    """


for _member in (
    serve, token, workerd_config, namespace, key, bulk, export, import_pairs, usage, watch,
    put, get, delete, list_keys, stats, verify, compact, backup, tail, consumers, salvage, promote,
    replay, demo, bench
):  # fmt: skip
    command.add_command(_member)


def _advice(error: Exception) -> str:
    if isinstance(error, CorruptData):
        return "; restore a backup, or copy what is intact with: kvengine salvage"
    if isinstance(error, NotAStore) and str(error).endswith("does not exist"):
        return "; to choose another folder: --data DIR"
    return ""


def main() -> NoReturn:
    """Run the command line of this process."""
    _occupy_standard_streams()
    signal.signal(signal.SIGTERM, _stop)
    try:
        command(prog_name="kvengine")
    except OSError as error:  # the help could not be written
        message(one_line(error))
        forget_output()
    sys.exit(ExitCode.FAILURE)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    # An exception, not the default: it closes the store and removes temporary folders.
    sys.exit(128 + number)


def _occupy_standard_streams() -> None:
    # With a standard stream closed, the next file opened would get its number, and a
    # stray message would be written into a store.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)

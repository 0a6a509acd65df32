"""Options and arguments that several commands share, and how text becomes bytes.

Invariants:
* whatever bytes the shell passes as a key arrive in the store unchanged;
* commands that only read never create a store and never take its lock;
* a key of the store itself is never written into a database, whose namespaces it could break.
"""

import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import click

from kvengine import Store
from kvengine.cli.failures import CommandFailed
from kvengine.cli.output import message
from kvengine.database.catalog_rows import is_database

Command = TypeVar("Command", bound=Callable[..., Any])


def default_data_folder() -> str:
    """Return ``$XDG_DATA_HOME/kvengine``, or ``~/.local/share/kvengine`` without it."""
    base = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(base):  # the XDG standard: a relative path is to be ignored
        base = os.path.join(os.path.expanduser("~"), ".local", "share")
    if not os.path.isabs(base):
        raise click.UsageError("no home folder found for the default data folder; give --data DIR")
    return os.path.join(base, "kvengine")


def _checked_folder(_context: click.Context, _option: click.Parameter, folder: str) -> str:
    if not folder:
        raise click.BadParameter("the name of the folder must not be empty")
    return folder


def data_option(command: Command) -> Command:
    """Add ``--data DIR``."""
    return click.option(
        "--data",
        metavar="DIR",
        envvar="KVENGINE_DATA_DIR",
        show_envvar=True,
        default=default_data_folder,
        show_default="$XDG_DATA_HOME/kvengine or ~/.local/share/kvengine",
        callback=_checked_folder,
        help="The data folder.",
    )(command)


def folder_argument(command: Command) -> Command:
    """Add an optional argument ``[DIR]``, which takes the place of ``--data DIR``."""
    return click.argument("folder", metavar="[DIR]", required=False)(command)


def hex_option(command: Command) -> Command:
    """Add ``--hex``."""
    return click.option("--hex", "as_hex", is_flag=True, help="KEY is hexadecimal.")(command)


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def null_option(command: Command) -> Command:
    """Add ``-0``."""
    return click.option("-0", "--null", is_flag=True, help="End each key with a NUL byte.")(command)


def key_bytes(text: str, as_hex: bool, name: str = "KEY") -> bytes:
    """Return the bytes of the key that *text*, the value of argument *name*, stands for."""
    try:
        return bytes.fromhex(text) if as_hex else os.fsencode(text)
    except ValueError:
        expected = "hex digits" if as_hex else "text"
        raise click.BadParameter(f"{text!r} is not {expected}", param_hint=name) from None


def standard_input() -> BinaryIO:
    """Return the binary standard input."""
    if sys.stdin is None:
        raise click.UsageError("can't read from standard input: it is closed")
    return sys.stdin.buffer


def value_options(command: Command) -> Command:
    """Add the argument ``[VALUE]`` and ``--path FILE``; value_bytes() has what they stand for."""
    option = click.option(
        "--path", "source", type=InputFile(), metavar="FILE", help="Read the value from this file."
    )
    return click.argument("value", required=False)(option(command))


def value_bytes(value: str | None, source: BinaryIO | None, limit: int) -> bytes:
    """Return the value of a key; stop one byte past the limit, so that the store refuses it."""
    if (value is None) == (source is None):
        raise click.UsageError('give exactly one of VALUE, "-" and --path')
    if value is not None and value != "-":
        return os.fsencode(value)
    return (standard_input() if source is None else source).read(limit + 1)


def expiry_options(kind: type) -> Callable[[Command], Command]:
    """Add ``--ttl`` and ``--expiration``, of this type."""

    def add(command: Command) -> Command:
        ttl = click.option(
            "--ttl", type=kind, metavar="SECONDS", help="Seconds until the key expires."
        )
        expiration = click.option(
            "--expiration",
            type=kind,
            metavar="SECONDS",
            help="Expiration time, in seconds since the epoch.",
        )
        return ttl(expiration(command))

    return add


class InputFile(click.File):
    """A file to read; "-" is standard input."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the open file."""
        return standard_input() if value == "-" else super().convert(value, param, ctx)


def open_reader(folder: str) -> Store:
    """Open the store in *folder* for reading; other processes may write to it meanwhile."""
    return Store(folder, read_only=True)


def note_database(folder: str, store: Store) -> None:
    """Print a hint if a command for plain stores was used on a database."""
    if is_database(store):
        message(
            f'{folder} is a database with namespaces; use "kvengine key get" or "kvengine key list"'
        )


def open_writer(folder: str, *, create: bool = False) -> Store:
    """Open the store in *folder* for writing; with *create*, create it if it does not exist."""
    return Store(folder, create=create)


def open_plain_writer(folder: str, *, create: bool = False) -> Store:
    """As open_writer, but refuse a database."""
    store = open_writer(folder, create=create)
    if is_database(store):
        store.close()
        raise CommandFailed(
            f'{folder} is a database with namespaces; use "kvengine key put", '
            '"kvengine key delete" or "kvengine bulk"'
        )
    return store

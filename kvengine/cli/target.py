"""Which namespace a command works on, how it is opened, and how a deletion is confirmed.

Invariants:
* read-only commands work beside a writer, and never create a database or a namespace;
* a namespace, or the keys in a file, are deleted only once confirmed: on a terminal or by option.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import click

import kvengine
from kvengine.cli.arguments import data_option
from kvengine.cli.failures import CommandFailed
from kvengine.cli.formatting import printable_text
from kvengine.cli.output import message
from kvengine.errors import NamespaceNotFound

Command = TypeVar("Command", bound=Callable[..., Any])


class Commands(click.Group):
    """A group that shows its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


def utf8(argument: str) -> str:
    """Return an argument as UTF-8, whatever the locale of the shell; a type for click."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        raise click.BadParameter(f"{argument!r} is not UTF-8") from None


class Target(NamedTuple):
    """A namespace in a folder, as the command line names it."""

    folder: str
    title: str | None
    id: str | None

    def find(self, db: kvengine.Database) -> str:
        """Return the title of the namespace.

        Raises:
            NamespaceNotFound: it does not exist.
        """
        titles = {info.id: info.title for info in db.namespaces()}
        if self.title is not None and self.title in titles.values():
            return self.title
        wanted = str(self.title if self.id is None else self.id)
        if wanted not in titles:
            raise NamespaceNotFound(wanted)
        return titles[wanted]

    @contextmanager
    def reader(self) -> Iterator[kvengine.Namespace]:
        """Open the namespace for reading; other processes may write to it meanwhile."""
        with kvengine.open(self.folder, read_only=True) as db:
            yield db.namespace(self.find(db))

    @contextmanager
    def writer(self, *, create: bool = False, keep: bool = False) -> Iterator[kvengine.Namespace]:
        """Open the namespace for writing; with *create*, create it if no namespace has the title.

        If the command fails, a namespace that was created is deleted again, unless *keep* is true.
        """
        create = create and self.title is not None
        with kvengine.open(self.folder, create=create) as db:
            try:
                title = self.find(db)
            except NamespaceNotFound:
                if not create:
                    raise
            else:
                yield db.namespace(title)
                return
            made = db.create_namespace(str(self.title))
            try:
                yield db.namespace(made.title)
            except Exception:
                if not keep:
                    db.delete(made.id)
                raise
            message(f"created namespace {made.title!r} with id {made.id}")


def target_options(command: Command) -> Command:
    """Add ``--data``, ``--namespace`` and ``--namespace-id``; the command gets a Target."""

    @functools.wraps(command)
    def with_target(
        data: str, title: str | None, namespace_id: str | None, **arguments: Any
    ) -> Any:
        return command(target=target_of(data, title, namespace_id), **arguments)

    for option in (
        click.option(
            "--namespace-id",
            type=utf8,
            metavar="ID",
            help="The namespace's id, 32 hex digits.",
        ),
        click.option(
            "--namespace",
            "--binding",
            "title",
            type=utf8,
            metavar="TITLE",
            help="The namespace's title or id.",
        ),
        data_option,
    ):
        with_target = option(with_target)
    return with_target  # type: ignore[return-value]


def target_of(folder: str, title: str | None, namespace_id: str | None) -> Target:
    """Return the target that the options name; exactly one of title and id must be given."""
    if (title is None) == (namespace_id is None):
        raise click.UsageError("give exactly one of --namespace and --namespace-id")
    return Target(folder, title, namespace_id and namespace_id.lower())


def yes_option(command: Command) -> Command:
    """Add ``--yes``, under all the names it has in wrangler."""
    return click.option(
        "-y",
        "-f",
        "--yes",
        "--force",
        "--skip-confirmation",
        "yes",
        is_flag=True,
        help="Do not ask for confirmation.",
    )(command)


def confirm(question: str, yes: bool) -> None:
    """Return once the user has confirmed.

    Raises:
        UsageError: standard input is not a terminal.
        CommandFailed: the answer is no.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("can't ask for confirmation without a terminal; add --yes")
    try:
        agreed = click.confirm(printable_text(question), err=True)
    except click.Abort:  # Ctrl-C, or the terminal is gone
        raise KeyboardInterrupt from None
    if not agreed:
        raise CommandFailed("nothing was deleted")

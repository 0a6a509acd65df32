"""The options by which commands name a namespace.

Invariants:
* a title makes a namespace where a command writes; an id never does.
"""

import click

import kvengine
from kvengine.cli.arguments import Command
from kvengine.errors import NamespaceNotFound


def namespace_options(command: Command) -> Command:
    """Add ``--namespace TITLE`` and ``--namespace-id ID``."""
    by_id = click.option("--namespace-id", metavar="ID", help="The namespace of this id.")
    by_title = click.option("--namespace", metavar="TITLE", help="The namespace of this title.")
    return by_title(by_id(command))


def chosen_namespace(
    database: kvengine.Database, title: str | None, namespace_id: str | None
) -> kvengine.Namespace:
    """Return the namespace that the two options mean."""
    if (title is None) == (namespace_id is None):
        raise click.UsageError("give one of --namespace and --namespace-id")
    if namespace_id is not None and all(i.id != namespace_id for i in database.namespaces()):
        raise NamespaceNotFound(namespace_id)
    return database.namespace(title or namespace_id or "")

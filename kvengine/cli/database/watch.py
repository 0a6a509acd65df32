"""``kvengine watch``: print the changes of a namespace as they happen."""

import click

from kvengine.cli.arguments import json_option
from kvengine.cli.formatting import bytes_field, json_line, printable
from kvengine.cli.output import on_terminal, output
from kvengine.cli.target import Target, target_options, utf8
from kvengine.namespace.interface.results import KeyChange


@click.command()
@target_options
@click.option("--prefix", type=utf8, default="", metavar="KEY", help="Only keys with this prefix.")
@click.option(
    "--after",
    type=click.IntRange(min=0),
    metavar="VERSION",
    help="Start after this version.  [default: now]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop after this many seconds without a change.  [default: never]",
)
@json_option
def watch(
    target: Target, prefix: str, after: int | None, timeout: float | None, as_json: bool
) -> None:
    """Print changes as they happen, until interrupted.

    Each line has the version, "put" or "delete", and the key. With --json, it also has the
    value, the metadata and the expiration. "--after 0" starts with the oldest change
    still in the log.
    """
    with target.reader() as kv:
        answer, escape = output(), on_terminal()
        for change in kv.watch(prefix, after=after, timeout=timeout):
            answer.write(_json(change) if as_json else _line(change, escape))
            answer.flush()


def _json(change: KeyChange) -> bytes:
    return json_line(
        {
            "version": change.version,
            "kind": change.kind,
            "key": change.name,
            **({} if change.value is None else bytes_field("value", change.value)),
            **({} if change.metadata is None else {"metadata": change.metadata}),
            **({} if change.expiration is None else {"expiration": change.expiration}),
        }
    )


def _line(change: KeyChange, escape: bool) -> bytes:
    key = printable(change.name.encode()) if escape else change.name
    return f"{change.version}\t{change.kind}\t{key}\n".encode()

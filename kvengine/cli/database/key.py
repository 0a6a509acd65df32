"""``kvengine key``: put, get, list and delete the keys of a namespace."""

import json
from typing import Any, BinaryIO

import click

from kvengine.cli.arguments import expiry_options, json_option, value_bytes, value_options
from kvengine.cli.formatting import counted, json_array, json_line
from kvengine.cli.output import message, output, progress_bar
from kvengine.cli.target import Commands, Target, target_options, utf8
from kvengine.errors import KeyNotFound
from kvengine.namespace.interface.results import Key
from kvengine.namespace.limits import RELAXED


@click.group(cls=Commands)
def key() -> None:
    """Put, get, list and delete the keys of a namespace."""


def _json(_context: click.Context, _option: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"invalid JSON: {error}") from None


@key.command()
@target_options
@click.argument("key", type=utf8)
@value_options
@expiry_options(int)
@click.option(
    "--metadata", type=utf8, callback=_json, metavar="JSON", help="Metadata, stored with the value."
)
def put(
    target: Target,
    key: str,
    value: str | None,
    source: BinaryIO | None,
    ttl: int | None,
    expiration: int | None,
    metadata: Any,
) -> None:
    """Store VALUE under KEY. If VALUE or FILE is "-", read standard input.

    The database and the namespace are created if they do not exist. --ttl takes precedence
    over --expiration.
    """
    contents = value_bytes(value, source, RELAXED.value_bytes)
    with target.writer(create=True) as kv:
        kv.put(key, contents, expiration=expiration, expiration_ttl=ttl, metadata=metadata)


@key.command()
@target_options
@click.argument("key", type=utf8)
@click.option("--text", is_flag=True, help="Print the value as UTF-8, followed by a line break.")
def get(target: Target, key: str, text: bool) -> None:
    """Write the value of KEY to standard output, byte for byte.

    If the key is absent, the exit code is 3.
    """
    with target.reader() as kv:
        value = kv.get(key, type="text" if text else "bytes")
    if value is None:
        raise KeyNotFound(key)
    output().write(f"{value}\n".encode() if text else value)


@key.command(name="list")
@target_options
@click.option("--prefix", type=utf8, default="", metavar="KEY", help="Only keys with this prefix.")
def list_keys(target: Target, prefix: str) -> None:
    """Print all keys as a JSON array, in byte order.

    Each has a name and, if the key has them, an expiration and metadata.
    """
    with target.reader() as kv:
        output().writelines(json_array(map(_fields, kv.keys(prefix))))


def _fields(key: Key) -> dict[str, Any]:
    shown = {"name": key.name, "expiration": key.expiration, "metadata": key.metadata}
    return {name: value for name, value in shown.items() if value is not None}


@key.command()
@target_options
@click.argument("key", type=utf8, required=False)
@click.option("--prefix", type=utf8, metavar="KEY", help="Delete all keys with this prefix.")
@click.option("--all", "every", is_flag=True, help="Delete all keys of the namespace.")
@click.option("-y", "--yes", is_flag=True, help="Allow an empty --prefix, which matches all keys.")
@click.option("--dry-run", is_flag=True, help="With --prefix or --all: only count the keys.")
@json_option
def delete(
    target: Target,
    key: str | None,
    prefix: str | None,
    every: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete KEY, or all keys that begin with a prefix. An absent key is not an error.

    With --json, print the number of deleted keys.
    """
    if prefix == "" and not (every or yes):
        raise click.UsageError("an empty --prefix matches all keys; use --all to delete them all")
    if every and not prefix:
        prefix, every = "", False
    if (key is None) == (prefix is None) or every:
        raise click.UsageError("give exactly one of KEY, --prefix and --all")
    if prefix is None and dry_run:
        raise click.UsageError("--dry-run needs --prefix or --all")
    with target.reader() if dry_run else target.writer() as kv:
        if prefix is None:
            kv.delete(str(key))
            return
        with progress_bar("delete") as progress:
            count = kv.delete_prefix(prefix, dry_run=dry_run, progress=progress)
    if as_json:
        output().write(json_line({"keys": count, "dry_run": dry_run}))
    else:
        message(f"{'would delete' if dry_run else 'deleted'} {counted(count, 'key')}")

"""``kvengine namespace``: create, list, rename and delete namespaces."""

import json
import re
from collections.abc import Callable
from typing import Any

import click

import kvengine
from kvengine.cli.arguments import data_option, json_option
from kvengine.cli.formatting import json_array, json_line
from kvengine.cli.output import message, output, write_text
from kvengine.cli.target import Commands, Target, confirm, target_of, utf8, yes_option
from kvengine.namespace.bounds import EVICTIONS, Eviction


def bounds_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for what a namespace may hold."""
    for option in (
        click.option(
            "--eviction",
            type=click.Choice(EVICTIONS),
            help="Which keys are evicted above a bound: least recently or least frequently used.  "
            "[default: lru]",
        ),
        click.option("--max-keys", type=int, metavar="N", help="It holds at most N keys."),
        click.option(
            "--max-bytes",
            type=int,
            metavar="N",
            help="It holds at most N bytes of keys, values and metadata.",
        ),
    ):
        command = option(command)
    return command


@click.group(cls=Commands)
def namespace() -> None:
    """Create, list, rename and delete namespaces."""


@namespace.command()
@data_option
@click.argument("title", type=utf8)
@bounds_options
@json_option
def create(
    data: str,
    title: str,
    max_bytes: int | None,
    max_keys: int | None,
    eviction: Eviction | None,
    as_json: bool,
) -> None:
    """Create a namespace titled TITLE and print its id.

    The database is created if it does not exist. If the title is taken, the exit code is 4.
    """
    with kvengine.open(data) as db:
        made = db.create_namespace(
            title, max_bytes=max_bytes, max_keys=max_keys, eviction=eviction or "lru"
        )
    if as_json:
        output().write(json_line(_fields(made)))
        return
    write_text(made.id)
    binding = json.dumps({"binding": _binding(title), "id": made.id})
    message(f"add this to kv_namespaces in your wrangler configuration: {binding}")


def _fields(info: kvengine.NamespaceInfo) -> dict[str, Any]:
    """Return what there is to say about a namespace."""
    return {name: value for name, value in info._asdict().items() if value is not None}


def _binding(title: str) -> str:
    """Return a variable name for the binding of a Worker."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", title)
    return name if re.match("[A-Za-z_]*[A-Za-z]", name) else "KV"


@namespace.command(name="list")
@data_option
def list_namespaces(data: str) -> None:
    """Print all namespaces as a JSON array, ordered by title.

    Each has an id and a title. Those with bounds also have max_bytes or max_keys, and eviction.
    """
    with kvengine.open(data, read_only=True) as db:
        infos = db.namespaces()
    output().writelines(json_array(_fields(info) for info in infos))


@namespace.command()
@data_option
@click.argument("title", type=utf8, required=False)
@click.argument("new_title", type=utf8, metavar="[NEW_TITLE]", required=False)
@click.option("--namespace-id", type=utf8, metavar="ID", help="The namespace's id; replaces TITLE.")
@click.option("--new-name", type=utf8, metavar="NEW_TITLE", help="Same as the argument NEW_TITLE.")
def rename(
    data: str,
    title: str | None,
    new_title: str | None,
    namespace_id: str | None,
    new_name: str | None,
) -> None:
    """Rename the namespace TITLE to NEW_TITLE. Its id and its keys stay the same."""
    if (new_title is None) == (new_name is None):
        raise click.UsageError("give the new title exactly once: as NEW_TITLE or with --new-name")
    target = _target(data, title, namespace_id)
    with kvengine.open(data, create=False) as db:
        renamed = db.rename(target.find(db), str(new_name if new_title is None else new_title))
    message(f"renamed namespace {renamed.id} to {renamed.title!r}")


@namespace.command()
@data_option
@click.argument("title", type=utf8, required=False)
@click.option(
    "--namespace",
    "--binding",
    "option",
    type=utf8,
    metavar="TITLE",
    help="Same as the argument TITLE.",
)
@click.option("--namespace-id", type=utf8, metavar="ID", help="The namespace's id; replaces TITLE.")
@yes_option
def delete(
    data: str, title: str | None, option: str | None, namespace_id: str | None, yes: bool
) -> None:
    """Delete the namespace TITLE and all its keys, after confirmation.

    The namespace disappears at once. Then its keys are removed from disk; if that is
    interrupted, it resumes the next time the database is opened for writing.
    """
    if title is not None and option is not None:
        raise click.UsageError("give the title only once: as TITLE or with --namespace")
    target = _target(data, option if title is None else title, namespace_id)
    with target.reader() as kv:
        found = kv.id
    confirm(f"Delete the namespace {target.title or found!r} and all its keys?", yes)
    with kvengine.open(data, create=False) as db:
        db.delete(Target(data, None, found).find(db))
        message(f"deleted namespace {found}")
        db.wait_for_removals()


@namespace.command()
@data_option
@click.argument("title", type=utf8, required=False)
@click.option("--namespace-id", type=utf8, metavar="ID", help="Its id, instead of TITLE.")
@bounds_options
@click.option("--none", "no_bounds", is_flag=True, help="Remove the bounds.")
def bounds(
    data: str,
    title: str | None,
    namespace_id: str | None,
    max_bytes: int | None,
    max_keys: int | None,
    eviction: Eviction | None,
    no_bounds: bool,
) -> None:
    """Bound the namespace TITLE, or print its bounds as JSON.

    The JSON also has its size. Above a bound, the keys that were used least are evicted. The
    bounds given here replace all earlier ones.
    """
    is_bounded = max_bytes is not None or max_keys is not None
    if (no_bounds and (is_bounded or eviction)) or (eviction and not is_bounded):
        raise click.UsageError("give --none, or --max-bytes or --max-keys, perhaps with --eviction")
    target = _target(data, title, namespace_id)
    if is_bounded or no_bounds:
        with kvengine.open(data, create=False) as db:
            db.set_bounds(
                target.find(db), max_bytes=max_bytes, max_keys=max_keys, eviction=eviction or "lru"
            )
        return
    with kvengine.open(data, read_only=True) as db:
        kv = db.namespace(target.find(db))
        found = next(info for info in db.namespaces() if info.id == kv.id)
        output().write(json_line({**_fields(found), **kv.size()._asdict()}))


def _target(data: str, title: str | None, namespace_id: str | None) -> Target:
    if title is None and namespace_id is None:
        raise click.UsageError("give exactly one of TITLE and --namespace-id")
    return target_of(data, title, namespace_id)

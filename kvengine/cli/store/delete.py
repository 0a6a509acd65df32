"""``kvengine delete``: remove a key."""

import click

from kvengine.cli.arguments import (
    data_option,
    hex_option,
    json_option,
    key_bytes,
    open_plain_writer,
)
from kvengine.cli.formatting import json_line
from kvengine.cli.output import output
from kvengine.errors import KeyNotFound
from kvengine.options import DURABILITIES, Durability


@click.command()
@data_option
@click.argument("key")
@hex_option
@click.option(
    "--if-version",
    type=click.IntRange(min=0),
    metavar="N",
    help="Delete only if the key has this version.",
)
@click.option("--durability", type=click.Choice(DURABILITIES), help="As for put.")
@click.option("-f", "--force", is_flag=True, help="An absent key is not an error.")
@json_option
def delete(
    data: str,
    key: str,
    as_hex: bool,
    if_version: int | None,
    durability: Durability | None,
    force: bool,
    as_json: bool,
) -> None:
    """Remove KEY. An absent key gives exit code 3, unless --force is given."""
    name = key_bytes(key, as_hex)
    with open_plain_writer(data) as store:
        version = store.delete(name, if_version=if_version, durability=durability)
    if not version and not force:
        raise KeyNotFound(name)
    if as_json:
        output().write(json_line({"version": version}))

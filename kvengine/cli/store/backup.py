"""``kvengine backup``: copy a store while it is in use."""

import click

from kvengine.cli.arguments import data_option, json_option, open_reader
from kvengine.cli.formatting import json_line
from kvengine.cli.output import message, output, progress_bar


@click.command()
@data_option
@click.argument("target")
@json_option
def backup(data: str, target: str, as_json: bool) -> None:
    """Make a consistent copy in the new folder TARGET.

    The copy is an independent store. With --json, print its version.
    """
    with open_reader(data) as store, progress_bar("backup") as progress:
        version = store.backup(target, progress=progress)
    if as_json:
        output().write(json_line({"target": target, "version": version}))
    else:
        message(f"copied the store to {target}, as of version {version}")

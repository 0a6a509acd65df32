"""``kvengine promote``: turn a replica whose source is lost into a writable store."""

import click

import kvengine
from kvengine.cli.arguments import data_option, folder_argument
from kvengine.cli.output import message


@click.command()
@click.option("--partial", is_flag=True, help="Promote even a replica of only some keys.")
@data_option
@folder_argument
def promote(data: str, folder: str | None, partial: bool) -> None:
    """Turn a replica into an independent, writable store.

    Use this when the source is lost; the source is not contacted. Changes after the printed
    version did not reach the replica. First make sure that nothing writes to the source
    any more, and close the replica's Follower.
    """
    path = folder or data
    version = kvengine.promote(path, partial=partial)
    message(f"promoted the replica in {path} to an independent store, at version {version}")

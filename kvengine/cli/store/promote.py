"""``kvengine promote``: make a store of its own of a replica whose source is gone."""

import click

import kvengine
from kvengine.cli.arguments import data_option, folder_argument
from kvengine.cli.output import message


@click.command()
@click.option(
    "--partial", is_flag=True, help="Even if it holds only some of the keys of its source."
)
@data_option
@folder_argument
def promote(data: str, folder: str | None, partial: bool) -> None:
    """Turn a replica into a writable store that follows nothing.

    Use this when the source is lost; the source is not contacted. Changes after the printed
    version never reached the replica. Make sure that nobody writes to the source any more,
    and close the replica's Follower first.
    """
    path = folder or data
    version = kvengine.promote(path, partial=partial)
    message(f"the replica in {path} is a store of its own now; it holds version {version}")

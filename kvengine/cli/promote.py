"""``kvengine promote``: make a store of its own of a replica whose source is gone."""

import click

import kvengine
from kvengine.cli.arguments import data_option, folder_argument
from kvengine.cli.output import message


@click.command()
@click.option(
    "--partial", is_flag=True, help="Also if it holds only some of the keys of its source."
)
@data_option
@folder_argument
def promote(data: str, folder: str | None, partial: bool) -> None:
    """Let users write to a replica, which follows nobody from then on.

    This is for the day on which the source is lost: it is not asked for anything.  What it wrote
    after the version that is printed has not come here.  See to it that the source is not written
    to any more, and close the replica's Follower first.
    """
    path = folder or data
    version = kvengine.promote(path, partial=partial)
    message(f"the replica in {path} is a store of its own now; it holds version {version}")

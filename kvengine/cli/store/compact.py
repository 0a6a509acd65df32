"""``kvengine compact``: reclaim the space of overwritten and deleted records."""

import click

from kvengine.cli.arguments import data_option, folder_argument, open_writer
from kvengine.cli.formatting import size_text
from kvengine.cli.output import message, progress_bar


@click.command()
@data_option
@folder_argument
def compact(data: str, folder: str | None) -> None:
    """Free the space of overwritten, deleted and expired keys.

    A store in use compacts itself. This command is for one that is not in use; running it beside
    other processes is safe.
    """
    with open_writer(folder or data) as store:
        before = store.stats()
        with progress_bar("compact") as progress:
            store.compact(progress=progress)
        after = store.stats()
    message(
        f"records: {size_text(before.log_bytes)} before, {size_text(after.log_bytes)} after; "
        f"on disk: {size_text(before.disk_bytes)} before, {size_text(after.disk_bytes)} after"
    )

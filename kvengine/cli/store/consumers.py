"""``kvengine consumers``: list or remove the named consumers of the log."""

import click

from kvengine.cli.arguments import data_option, json_option, open_reader
from kvengine.cli.failures import CommandFailed
from kvengine.cli.formatting import json_line
from kvengine.cli.output import output


@click.command()
@data_option
@click.option("--remove", metavar="NAME", help="Remove this consumer.")
@json_option
def consumers(data: str, remove: str | None, as_json: bool) -> None:
    """Print named consumers, and how far they are behind.

    Each line has the name, the position, and the number of versions behind.
    """
    with open_reader(data) as store:
        found = store.consumers()
        if remove is not None:
            if remove not in [info.name for info in found]:
                raise CommandFailed(f"consumer {remove!r} does not exist")
            store.consumer(remove).remove()
            return
        answer = output()
        for info in found:
            line = f"{info.name}\t{info.position}\t{info.lag}\n".encode()
            answer.write(json_line(info._asdict()) if as_json else line)

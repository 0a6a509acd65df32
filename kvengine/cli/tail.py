"""``kvengine tail``: print changes in the order in which they were made."""

import time

import click

from kvengine.cli.arguments import data_option, json_option, null_option, open_reader
from kvengine.cli.output import on_terminal, output
from kvengine.cli.text import change_fields, json_line, printable
from kvengine.entry import Change

LOOK_AGAIN_S = 0.05  # how long --follow waits before it looks for more


@click.command()
@data_option
@click.option(
    "--after",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="VERSION",
    help="Begin after this version.",
)
@click.option("-f", "--follow", is_flag=True, help="Wait for more changes, until interrupted.")
@null_option
@json_option
def tail(data: str, after: int, follow: bool, null: bool, as_json: bool) -> None:
    """Print changes, oldest first: version, "put" or "delete", key.

    With --json, each line holds the value, the metadata and the expiry too. Of a key that
    was changed more than once, compaction keeps only the newest change.
    """
    with open_reader(data) as store:
        answer = output()
        escape = on_terminal() and not null
        while True:
            for change in store.tail(after):
                answer.write(_json(change) if as_json else _line(change, escape, null))
                after = change.version
            if not follow:
                return
            answer.flush()
            time.sleep(LOOK_AGAIN_S)


def _json(change: Change) -> bytes:
    return json_line(change_fields(change))


def _line(change: Change, escape: bool, null: bool) -> bytes:
    key = printable(change.key).encode() if escape else change.key
    return b"%d\t%s\t%s%s" % (change.version, change.kind.encode(), key, b"\0" if null else b"\n")

"""``kvengine tail``: print changes, oldest first."""

from collections.abc import Iterable

import click

from kvengine import Consumer, Store
from kvengine.cli.arguments import data_option, json_option, null_option, open_reader
from kvengine.cli.formatting import change_fields, json_line, printable
from kvengine.cli.output import on_terminal, output
from kvengine.engine.following.leases import locked
from kvengine.entry import Change

BATCH = 1000  # changes that are printed, and then acknowledged


@click.command()
@data_option
@click.option(
    "--after",
    type=click.IntRange(min=0),
    metavar="VERSION",
    help="Start after this version.  [default: 0, or the consumer's position]",
)
@click.option(
    "--consumer",
    metavar="NAME",
    help="Start at the position of this consumer, and save its new position.",
)
@click.option("-f", "--follow", is_flag=True, help="Wait for more changes, until interrupted.")
@null_option
@json_option
def tail(
    data: str, after: int | None, consumer: str | None, follow: bool, null: bool, as_json: bool
) -> None:
    """Print the changes in the log, oldest first.

    Each line has the version, "put" or "delete", and the key. With --json, it also has the
    value, the metadata and the expiration. Compaction keeps only the newest change
    of each key.
    """
    if consumer is not None and after is not None:
        raise click.UsageError("give only one of --after and --consumer")
    with open_reader(data) as store:
        answer = output()
        escape = on_terminal()  # also with -0: a terminal would obey control characters in a key
        named = None if consumer is None else store.consumer(consumer)
        for batch in _batches(store, after or 0, named, follow):
            for change in batch:
                answer.write(_json(change) if as_json else _line(change, escape, null))
            if follow or named is not None:
                answer.flush()
            if named is not None:
                named.acknowledge(batch[-1].version)


def _batches(
    store: Store, after: int, named: Consumer[Change] | None, follow: bool
) -> Iterable[list[Change]]:
    if named is not None:
        if not follow and named._take_lease() is None:
            raise locked(store._parts, named.name)
        yield from named.batches(BATCH, follow=follow)
        return
    place = store._parts.tail_from(after, b"")
    while True:
        for part in place.ranges(BATCH):
            if part.changes:
                yield part.changes
        if not follow:
            return
        store.wait(place.seen)


def _json(change: Change) -> bytes:
    return json_line(change_fields(change))


def _line(change: Change, escape: bool, null: bool) -> bytes:
    key = printable(change.key).encode() if escape else change.key
    return b"%d\t%s\t%s%s" % (change.version, change.kind.encode(), key, b"\0" if null else b"\n")

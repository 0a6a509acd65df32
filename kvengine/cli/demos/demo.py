"""``kvengine demo``: edges that hear of changes, or a store that survives a crash.

Invariants:
* the exit code is 0 only if every check held;
* nothing stays behind that was not asked for, not even after Ctrl-C.
"""

import sys

import click

from kvengine.cli.demos.demo_edges import SECONDS_MIN, edges_demo
from kvengine.cli.demos.demo_store import store_demo
from kvengine.cli.failures import ExitCode


@click.command()
@click.argument("what", type=click.Choice(["edges", "store"]), required=False)
@click.option(
    "--seconds", type=click.FloatRange(min=SECONDS_MIN, max=3600), default=20.0, show_default=True,
    help="How long the demo of edges takes.",
)  # fmt: skip
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False),
    help="Store the files of this folder, not those of Python's standard library.",
)
@click.option(
    "--keep", metavar="DIR", help="Make the stores in this new or empty folder and keep them."
)
def demo(what: str | None, seconds: float, source: str | None, keep: str | None) -> None:
    """Show what kvengine does: at edges, or in one store.

    \b
    edges  Flip a flag at one of seven places and see it at all, milliseconds later; cut one
               of them off, and see what it still shows, and how it comes back.
    store      Store thousands of real files, kill a writer, recover, and check every byte. It
               needs about four times the size of the files on disk for a while.

    Without a word it is "edges", or "store" with one of its options --from and --keep. If a
    check fails, the exit code is 1.
    """
    has_store_option = source is not None or keep is not None
    if what == "edges" and has_store_option:
        raise click.UsageError("--from and --keep belong to the demo of the store")
    if what == "store" or has_store_option:
        store_demo(source, keep)
    elif not edges_demo(seconds):
        sys.exit(ExitCode.FAILURE)

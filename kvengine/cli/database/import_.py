"""``kvengine import``: take the pairs of a file into a namespace."""

from contextlib import nullcontext

import click

from kvengine.cli.arguments import json_option, standard_input
from kvengine.cli.output import message, output, progress_bar
from kvengine.cli.place import Place, place_options
from kvengine.cli.text import counted, json_line
from kvengine.file.exchange import open_source
from kvengine.namespace.results import ImportReport


@click.command(name="import")
@place_options
@click.argument("file")
@click.option(
    "--format",
    "shape",
    type=click.Choice(["ndjson", "wrangler"]),
    help="An object on each line, or one array.  [default: as the file begins]",
)
@click.option("--atomic", is_flag=True, help="All pairs or none; at most 128 MiB.")
@click.option("--resume", is_flag=True, help="Go on with the import that was interrupted.")
@click.option("--skip-errors", is_flag=True, help="Leave out pairs that are not acceptable.")
@json_option
def import_pairs(
    place: Place,
    file: str,
    shape: str | None,
    atomic: bool,
    resume: bool,
    skip_errors: bool,
    as_json: bool,
) -> None:
    """Write the pairs of FILE, or with "-" of standard input, to a namespace.

    FILE is what export wrote, or a file for wrangler kv bulk put. At a pair that is not
    acceptable the import stops; what came before stays, and --resume goes on there once the
    file is corrected. A namespace is made if there is none with the title.
    """
    with (
        nullcontext(standard_input()) if file == "-" else open_source(file) as source,
        place.writer(create=True, keep=True) as kv,
        progress_bar("import") as progress,
    ):
        report = kv.import_file(
            source,
            format=shape,  # type: ignore[arg-type]  # click has checked it
            atomic=atomic,
            resume=resume,
            on_error="skip" if skip_errors else "stop",
            progress=progress,
        )
    if as_json:
        fields = ("keys", "bytes", "expired", "skipped", "refused", "resumed_at")
        output().write(json_line({name: getattr(report, name) for name in fields}))
    else:
        _say(report)


def _say(report: ImportReport) -> None:
    for refused in report.refused:
        message(f"line {refused['line']} left out: {refused['error']}")
    text = f"imported {counted(report.keys, 'key')}"
    if report.expired:
        text += f"; {report.expired:,} had expired"
    if report.skipped:
        text += f"; {report.skipped:,} left out"
    message(text)

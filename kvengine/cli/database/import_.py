"""``kvengine import``: write the pairs in a file to a namespace."""

from contextlib import nullcontext

import click

from kvengine.cli.arguments import json_option, standard_input
from kvengine.cli.formatting import counted, json_line
from kvengine.cli.output import message, output, progress_bar
from kvengine.cli.target import Target, target_options
from kvengine.file.exchange import open_source
from kvengine.namespace.interface.results import ImportReport


@click.command(name="import")
@target_options
@click.argument("file")
@click.option(
    "--format",
    "shape",
    type=click.Choice(["ndjson", "wrangler"]),
    help="ndjson: one object per line. wrangler: an array.  [default: detected]",
)
@click.option("--atomic", is_flag=True, help="Write all pairs or none; at most 128 MiB.")
@click.option("--resume", is_flag=True, help="Continue an interrupted import.")
@click.option("--skip-errors", is_flag=True, help="Skip invalid pairs.")
@json_option
def import_pairs(
    target: Target,
    file: str,
    shape: str | None,
    atomic: bool,
    resume: bool,
    skip_errors: bool,
    as_json: bool,
) -> None:
    """Write the pairs in FILE to a namespace. "-" reads standard input.

    FILE comes from "export", or is a file for wrangler kv bulk put. The import stops at an
    invalid pair and keeps the pairs before it; correct the file and continue with --resume.
    If no namespace has the title, it is created.
    """
    with (
        nullcontext(standard_input()) if file == "-" else open_source(file) as source,
        target.writer(create=True, keep=True) as kv,
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
        message(f"skipped line {refused['line']}: {refused['error']}")
    text = f"imported {counted(report.keys, 'key')}"
    if report.expired:
        text += f"; {report.expired:,} had expired"
    if report.skipped:
        text += f"; skipped {report.skipped:,}"
    message(text)

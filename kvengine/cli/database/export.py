"""``kvengine export``: write a namespace to a file."""

import click

from kvengine.cli.arguments import json_option
from kvengine.cli.formatting import counted, json_line, size_text
from kvengine.cli.output import message, output, progress_bar
from kvengine.cli.target import Target, target_options, utf8


@click.command()
@target_options
@click.argument("file")
@click.option(
    "--format",
    "shape",
    type=click.Choice(["ndjson", "wrangler"]),
    default="ndjson",
    show_default=True,
    help="ndjson: one object per line. wrangler: an array for wrangler kv bulk put.",
)
@click.option("--prefix", type=utf8, default="", metavar="KEY", help="Only keys with this prefix.")
@click.option("--start-after", type=utf8, metavar="KEY", help="Only keys after this one.")
@click.option("--resume", is_flag=True, help="Continue an interrupted export.")
@json_option
def export(
    target: Target,
    file: str,
    shape: str,
    prefix: str,
    start_after: str | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Write all pairs of a namespace to FILE. "-" writes to standard output.

    Pairs are sorted by key. Each is a JSON object with "key" and "value" and, where they
    apply, "base64" (the value is not text), "expiration" and "metadata". The file is named
    FILE.part until it is complete; --resume continues it.
    """
    if as_json and file == "-":
        raise click.UsageError('--json and "-" can\'t be used together: both write standard output')
    sink = output() if file == "-" else file
    with target.reader() as kv, progress_bar("export") as progress:
        report = kv.export_file(
            sink,
            format=shape,  # type: ignore[arg-type]  # click has checked it
            prefix=prefix,
            start_after=start_after,
            resume=resume,
            progress=progress,
        )
    if as_json:
        fields = ("keys", "bytes", "last_key", "version")
        output().write(json_line({name: getattr(report, name) for name in fields}))
    else:
        message(
            f"exported {counted(report.keys, 'key')} in {size_text(report.bytes)}, "
            f"as of version {report.version}"
        )

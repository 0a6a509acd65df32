"""``kvengine salvage``: rescue every intact record of a damaged store."""

import sys

import click

import kvengine
from kvengine.cli.arguments import data_option, json_option
from kvengine.cli.failures import ExitCode
from kvengine.cli.formatting import counted, damage_fields, json_line
from kvengine.cli.output import message, output, progress_bar


@click.command()
@data_option
@click.argument("target")
@json_option
def salvage(data: str, target: str, as_json: bool) -> None:
    """Copy every intact record to a new store in TARGET.

    The damaged store is not changed. If any bytes could not be recovered, each place is
    printed, and the exit code is 6.
    """
    with progress_bar("salvage") as progress:
        report = kvengine.salvage(data, target, progress=progress)
    if as_json:
        lost = [damage_fields(damage) for damage in report.lost_ranges]
        output().write(json_line({"target": target, "kept": report.kept, "lost_ranges": lost}))
    else:
        for damage in report.lost_ranges:
            message(str(damage))
        message(
            f"copied {counted(report.kept, 'record')} to {target}; "
            f"skipped {counted(len(report.lost_ranges), 'damaged range')}"
        )
    if report.lost_ranges:
        sys.exit(ExitCode.DAMAGED)

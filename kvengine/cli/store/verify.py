"""``kvengine verify``: read every byte of a store and report damage."""

import sys

import click

import kvengine
from kvengine.cli.arguments import data_option, folder_argument, json_option
from kvengine.cli.failures import ExitCode
from kvengine.cli.formatting import counted, damage_fields, json_line, size_text
from kvengine.cli.output import message, output, progress_bar, write_text


@click.command()
@data_option
@folder_argument
@json_option
def verify(data: str, folder: str | None, as_json: bool) -> None:
    """Read and check the whole store. If it is damaged, the exit code is 6.

    Nothing is changed, and the store may be in use. To copy the intact records of a damaged
    store, use "kvengine salvage".
    """
    with progress_bar("verify") as progress:
        report = kvengine.verify(folder or data, progress=progress)
    if as_json:
        figures = {"files": report.files, "records": report.records, "bytes": report.bytes}
        problems = [damage_fields(problem) for problem in report.problems]
        output().write(json_line({"ok": report.ok, **figures, "problems": problems}))
    else:
        for problem in report.problems:
            message(str(problem))
        write_text(
            f"{'intact' if report.ok else 'DAMAGED'}: {counted(report.records, 'record')}, "
            f"{counted(report.files, 'file')}, {size_text(report.bytes)} read, "
            f"{counted(len(report.problems), 'problem')}"
        )
    if not report.ok:
        sys.exit(ExitCode.DAMAGED)

"""``kvengine stats``: figures about a store."""

import dataclasses

import click

from kvengine.cli.arguments import data_option, folder_argument, json_option, open_reader
from kvengine.cli.formatting import json_line, printable_text, size_text
from kvengine.cli.output import output, write_text
from kvengine.entry import Stats


@click.command()
@data_option
@folder_argument
@json_option
def stats(data: str, folder: str | None, as_json: bool) -> None:
    """Print figures about the store: keys, sizes, segments."""
    path = folder or data
    with open_reader(path) as store:
        figures = store.stats()
    if as_json:
        output().write(json_line({"path": path, **dataclasses.asdict(figures)}))
        return
    for name, value in _rows(path, figures):
        write_text(f"{name:<22} {value}")


def _rows(path: str, figures: Stats) -> list[tuple[str, str]]:
    return [
        ("folder", printable_text(path)),
        ("keys", f"{figures.keys:,}"),
        ("newest version", f"{figures.version:,}"),
        ("live records", size_text(figures.live_bytes)),
        ("all records", size_text(figures.log_bytes)),
        ("space amplification", f"{figures.space_amplification:.2f}"),
        ("on disk", size_text(figures.disk_bytes)),
        ("segments", f"{figures.segments:,}"),
        ("key runs", f"{figures.key_runs:,}"),
        ("index in memory", size_text(figures.index_bytes)),
    ]

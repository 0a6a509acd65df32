"""Turns a result into text and pictures.

Invariants: everything here is made from the JSON alone, so that an old run can be drawn again; a
missing matplotlib costs the pictures and nothing else.
"""

from pathlib import Path
from typing import Any

from benchmarks.report.goals import goals_table
from benchmarks.report.tables import header, tables


def write_report(target: Path, result: dict[str, Any]) -> tuple[str, list[Path]]:
    """Write the Markdown and the plots beside ``target``; return the text and what was written."""
    written = []
    text = "\n\n".join([header(result), goals_table(result), tables(result)])
    try:
        from benchmarks.report.plots import draw
    except ImportError as error:
        text += f"\n\nNo plots: {error}."
    else:
        written = draw(target.with_suffix(""), result)
        links = [f"![{path.stem}]({path.name})" for path in written if path.suffix == ".png"]
        text += "\n\n" + "\n".join(links)
    page = target.with_suffix(".md")
    page.write_text(text + "\n")
    return text, [page, *written]

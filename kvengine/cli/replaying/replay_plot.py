"""Plots of a replay: as text with plotext, as PNG or SVG with matplotlib.

Invariants:
* neither library is needed but for its plot, and a message says how to get it;
* a picture is whole in its file, or the file is as it was.
"""

import importlib
import io
import os
from typing import Any

import click

from kvengine.cli.failures import CommandFailed
from kvengine.cli.replaying.replay_run import Series
from kvengine.file.exchange import ResultFile
from kvengine.testing.world import Report

HINT = 'install it with: pip install "kvengine[plot]"'
TEXT_SIZE = (78, 12)
PICTURE_INCHES = (10.0, 7.0)
ENDINGS = (".png", ".svg")


def check_picture(path: str | None) -> None:
    """Refuse a picture that can't be drawn, before the work is done for it.

    Raises:
        click.BadParameter: the file has another ending, or no folder.
        CommandFailed: matplotlib is not installed.
    """
    if path is None:
        return
    if os.path.splitext(path)[1].lower() not in ENDINGS:
        raise click.BadParameter(f"{path!r} ends in neither .png nor .svg", param_hint="--plot")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise click.BadParameter(f"{path!r} is in no folder that exists", param_hint="--plot")
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise CommandFailed(f"--plot needs matplotlib; {HINT}") from None


def text_plots(series: Series, *, has_regions: bool) -> str | None:
    """Return the plots as lines of text, or None if plotext is not installed."""
    try:
        plotext: Any = importlib.import_module("plotext")
    except ImportError:
        return None
    hits = {"edges": series.hits}
    if has_regions:
        hits["regions"] = series.region_hits
    loads = {"all": series.reads_per_s, "to the primary": series.primary_per_s}
    drawn = (
        _text_plot(plotext, "hits, %", series, hits),
        _text_plot(plotext, "reads per second", series, loads),
    )
    return "\n\n".join(drawn)


def _text_plot(plotext: Any, title: str, series: Series, lines: dict[str, list[float]]) -> str:
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(*TEXT_SIZE)
    for name, values in lines.items():
        plotext.plot(series.ends, values, label=name, marker="braille")
    plotext.ylim(0, None)
    plotext.title(title)
    plotext.xlabel("seconds of virtual time")
    drawn: str = plotext.uncolorize(plotext.build())
    return "\n".join(line.rstrip() for line in drawn.rstrip().split("\n"))


def save_picture(path: str, series: Series, report: Report) -> None:
    """Draw the plots into a file.

    Raises:
        StorageError: it can't be written.
    """
    data = io.BytesIO()
    kind = os.path.splitext(path)[1].lower().removeprefix(".")
    _picture(series, report).savefig(data, format=kind, dpi=150, metadata=_no_date(kind))
    file = ResultFile(path)
    try:
        file.write(data.getvalue())
        file.finish()
    finally:
        file.close()


def _no_date(kind: str) -> dict[str, Any]:
    return {"Date": None} if kind == "svg" else {}


def _picture(series: Series, report: Report) -> Any:
    figures: Any = importlib.import_module("matplotlib.figure")
    figure = figures.Figure(figsize=PICTURE_INCHES, layout="constrained")
    hits, load, spread, stale = figure.subplots(2, 2).flat
    hits.plot(series.ends, series.hits, label="edges")
    if report.region_count:
        hits.plot(series.ends, series.region_hits, label="regions, of what came there")
    hits.set(title="Hits", ylabel="%", ylim=(0, 100))
    load.plot(series.ends, series.reads_per_s, label="all")
    load.plot(series.ends, series.primary_per_s, label="to the primary")
    load.set(title="Reads per second", ylim=(0, None))
    stale.plot(series.ends, series.stale)
    stale.set(title="Reads that did not show the newest value", ylabel="%", ylim=(0, None))
    for times, name in ((report.propagation, "a change is at an edge"), (report.latency, "a read")):
        if not times.count:
            continue
        shares = [percent / 1000 for percent in range(1, 1001)]
        spread.plot([1000 * times.quantile(share) for share in shares], shares, label=name)
    spread.set(title="How many took no longer than", xlabel="ms", xscale="symlog", ylim=(0, 1))
    for axes in (hits, load, stale):
        axes.set_xlabel("seconds of virtual time")
    for axes in (hits, load, spread):
        axes.legend()
    for axes in (hits, load, spread, stale):
        axes.grid(alpha=0.3)
    return figure

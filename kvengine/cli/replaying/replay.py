"""``kvengine replay``: the requests of a trace, made again at simulated edges.

Invariants:
* a trace that can't be understood to its end is not replayed;
* the exit code is 0 only if every promise was kept.
"""

import re
import sys
from contextlib import nullcontext
from typing import Any

import click

from kvengine.cli.arguments import json_option, standard_input
from kvengine.cli.failures import ExitCode
from kvengine.cli.formatting import counted, json_line, printable_text
from kvengine.cli.output import message, output, progress_bar, write_text
from kvengine.cli.replaying.replay_plot import HINT, check_picture, save_picture, text_plots
from kvengine.cli.replaying.replay_run import Replay
from kvengine.cli.replaying.replay_trace import READ, UNITS, WRITE, Trace, read_trace
from kvengine.file.exchange import open_source

RATE = 1000.0
SIZE = re.compile(r"(\d+(?:\.\d+)?) *([kMG]?)B?", re.IGNORECASE)
FACTORS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}
EDGES_MAX = 10_000


def _size(_context: click.Context, _option: click.Parameter, text: str) -> int:
    """A number of bytes, as 500kB or 8MB."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is not a size; expected for example 500kB or 8MB")
    return int(float(found[1]) * FACTORS[found[2].lower()])


@click.command()
@click.argument("trace", metavar="TRACE")
@click.option(
    "--edges", type=click.IntRange(1, EDGES_MAX), default=30, show_default=True,
    metavar="N", help="Where reads are made.",
)  # fmt: skip
@click.option(
    "--regions", type=click.IntRange(0, EDGES_MAX), default=3, show_default=True, metavar="N",
    help="Tiers between edges and primary.",
)  # fmt: skip
@click.option(
    "--memory", "memory_bytes", default="8MB", show_default=True, callback=_size, metavar="SIZE",
    help="Of each edge and region.",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="N",
    help=f"Requests per second, instead of the times in TRACE.  [default without: {RATE:,.0f}]",
)  # fmt: skip
@click.option(
    "--time-unit", type=click.Choice(list(UNITS)), default="s", show_default=True,
    help="Of the times in TRACE.",
)  # fmt: skip
@click.option(
    "--value-bytes", default="100", show_default=True, callback=_size, metavar="SIZE",
    help="Of values whose size is not in TRACE.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N requests.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is by chance.")
@click.option("--plot", "picture", metavar="FILE", help="Draw a picture: .png or .svg.")
@json_option
def replay(trace: str, picture: str | None, as_json: bool, **options: Any) -> None:
    """Replay the requests in TRACE at edges, in virtual time.

    Edges, regions and primary run the code of real ones; reads are spread over the edges
    by chance, writes go to the primary. What is read before it is written was there at the
    beginning. The report says hits, load, how old what was read was, and whether each promise was
    kept; if not, the exit code is 1.

    TRACE is CSV, also packed with gzip, or "-" for standard input. Its lines are key; key,size;
    time,op,key or time,op,key,size; or its first line names its columns, in any order. An op is
    get, put or delete, or a usual name of these; without, all are reads.
    """
    check_picture(picture)
    found = _trace(trace, options["time_unit"], options["limit"])
    if options["rate"] is not None or not found.has_times:
        found.at_rate(options["rate"] or RATE)
    found.check_gaps()
    work = Replay(
        found,
        **{name: options[name] for name in ("edges", "regions", "seed")},
        memory_bytes=options["memory_bytes"],
        value_bytes=options["value_bytes"],
    )
    with progress_bar("replay") as progress:
        report = work.run(progress)
    series = work.series()
    counts = {
        "requests": len(found),
        "keys": len(found.keys),
        "reads": found.ops.count(READ),
        "writes": found.ops.count(WRITE),
    }
    if as_json:
        plotted = {name: getattr(series, name) for name in series.__slots__}
        output().write(
            json_line({"trace": {"name": trace, **counts}, **report.figures(), "series": plotted})
        )
    else:
        write_text(
            f"{printable_text(trace)}: {counted(counts['requests'], 'request')}, "
            f"{counted(counts['keys'], 'key')}, {100 * counts['reads'] / len(found):.1f} % reads\n"
        )
        write_text(str(report))
        plots = text_plots(series, has_regions=bool(options["regions"]))
        if plots is None:
            message(f"no plot in text: plotext is not installed; {HINT}")
        else:
            write_text("\n" + plots)
    if picture is not None:
        save_picture(picture, series, report)
        message(f"drawn: {picture}")
    if report.violations:
        sys.exit(ExitCode.FAILURE)


def _trace(path: str, unit: str, limit: int | None) -> Trace:
    is_input = path == "-"
    name = "standard input" if is_input else path
    with (
        nullcontext(standard_input()) if is_input else open_source(path) as file,
        progress_bar("read") as progress,
    ):
        return read_trace(file, name, unit=unit, limit=limit, progress=progress)

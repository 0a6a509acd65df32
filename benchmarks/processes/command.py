"""``python -m benchmarks processes``.

Invariants: progress goes to stderr, the tables to stdout; the JSON is written before anything is
drawn.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.engines import ENGINES
from benchmarks.processes.measure import measure
from benchmarks.processes.report import PEERS, draw, report
from benchmarks.processes.settings import ROWS, Contender, Settings
from benchmarks.report.lookup import OURS

RESULTS = Path(__file__).parents[1] / "results"


def _engines(_context: click.Context, _option: click.Parameter, text: str) -> list[Contender]:
    """Names between commas, each with settings behind a colon or with all that it has."""
    chosen: list[Contender] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        engine, _, tuning = name.partition(":")
        if engine not in (OURS, *PEERS):
            raise click.BadParameter(f"{engine!r} is none of {', '.join((OURS, *PEERS))}")
        known = ENGINES[engine].settings
        if tuning and tuning not in known:
            raise click.BadParameter(f"{engine} has only {', '.join(known)}")
        chosen += [(engine, one) for one in known if one == (tuning or one)]
    return chosen


def _counts(_context: click.Context, _option: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no list of numbers") from error
    if min(counts) < 1:
        raise click.BadParameter("a number of processes is at least 1")
    return counts


def _rows(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    chosen = [part.strip() for part in text.split(",")]
    for name in chosen:
        if name not in ROWS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(ROWS)}")
    return tuple(name for name in ROWS if name in chosen)


@click.command()
@click.option(
    "--engines",
    default=",".join((OURS, *PEERS)),
    callback=_engines,
    show_default=True,
    help="as lmdb:tuned",
)
@click.option("--rows", default=",".join(ROWS), callback=_rows, show_default=True)
@click.option("--processes", default="1,2,4,8", callback=_counts, show_default=True)
@click.option("--seconds", type=float, default=0.5, show_default=True, help="of a round")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--turns", type=click.IntRange(1), default=15, show_default=True, help="alone")
@click.option("--loaded", type=click.IntRange(1000), default=100_000, show_default=True)
@click.option("--own", type=click.IntRange(16), default=50_000, show_default=True)
@click.option("--operations", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--kills", type=click.IntRange(1), default=25, show_default=True)
@click.option("--wakes", type=click.IntRange(1), default=300, show_default=True, help="of each way")
@click.option(
    "--beside",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    help="folder of another kvengine, built: alone on a store, is ours as fast?",
)
@click.option("--dir", "directory", type=click.Path(file_okay=False, exists=True))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def processes(engines: list[Contender], results: Path, **given: Any) -> None:
    """Measure processes that write to one store, beside SQLite, LMDB and diskcache."""
    say: Callable[[str], None] = lambda text: click.echo(text, err=True)  # noqa: E731
    result = measure(Settings(**given), engines, say)
    results.mkdir(parents=True, exist_ok=True)
    target = results / "processes.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    text = report(result)
    try:
        written = draw(target.with_suffix(""), result) if result["together"] else []
    except ImportError as error:
        text += f"\n\nNo plot: {error}."
    else:
        text += "".join(
            f"\n\n![operations a second against processes]({path.name})"
            for path in written
            if path.suffix == ".png"
        )
    target.with_suffix(".md").write_text(text + "\n")
    click.echo(text)

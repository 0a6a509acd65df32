"""The command line: ``run`` (also without a name), ``namespace``, ``report`` and ``compare``.

Invariants: progress goes to stderr, the table to stdout; a run always leaves its JSON, even when no
plot can be drawn.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from benchmarks import cache, driver, edges, hits, log, namespace
from benchmarks.engines import ENGINES
from benchmarks.http import http
from benchmarks.http_workers import http_workers
from benchmarks.options import Options
from benchmarks.processes.command import processes
from benchmarks.report import write_report
from benchmarks.report.compare import comparison
from benchmarks.workloads import WORKLOADS
from benchmarks.world import world

RESULTS = Path(__file__).parent / "results"
_DEFAULT = click.core.ParameterSource.DEFAULT
_QUICK = {"keys": 20_000, "repeats": 3, "budget_s": 0.2}


class _DefaultRun(click.Group):
    """Runs ``run`` when the first word is not a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _number(_context: click.Context, _option: click.Parameter, text: str) -> int:
    """An integer that may be written 1_000_000 or 1e6."""
    try:
        return int(float(text.replace("_", "")))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a number") from error


def _names_of(known: Iterable[str]) -> Callable[..., list[str]]:
    """Names between commas, each of which must be known; none stands for all."""
    allowed = list(known)

    def parse(_context: click.Context, _option: click.Parameter, text: str | None) -> list[str]:
        if text is None:
            return allowed
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name.partition(":")[0] not in allowed:
                raise click.BadParameter(f"{name!r} is none of {', '.join(allowed)}")
        return names

    return parse


@click.group(cls=_DefaultRun)
def main() -> None:
    """Measure kvengine beside other stores."""


@main.command()
@click.option("--keys", default="1_000_000", callback=_number, show_default=True)
@click.option("--key-bytes", type=int, default=16, show_default=True)
@click.option("--value-bytes", type=int, default=100, show_default=True)
@click.option("--key-kind", type=click.Choice(["decimal", "hashed"]), default="decimal")
@click.option("--compressible", type=click.FloatRange(0, 0.99), default=0.0, show_default=True)
@click.option("--engines", callback=_names_of(ENGINES), help="e.g. kvengine,lmdb:tuned")
@click.option("--workloads", callback=_names_of(WORKLOADS))
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--budget", type=float, default=1.0, show_default=True, help="scale of all times")
@click.option("--dir", "directory", type=click.Path(file_okay=False, exists=True))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--cpu", type=int, help="keep the engines on this CPU")
@click.option("--one-by-one", is_flag=True, help="finish one engine before the next starts")
@click.option("--quick", is_flag=True, help="20,000 keys and short times, to see that it works")
def run(**given: Any) -> None:
    """Run workloads, write JSON, tables and plots."""
    fields = {name: given[name] for name in Options.__slots__ if name in given}
    fields |= {"budget_s": given["budget"]}
    if given["quick"]:
        source = click.get_current_context().get_parameter_source
        asked = {"keys": "keys", "repeats": "repeats", "budget_s": "budget"}
        left = [name for name, option in asked.items() if source(option) is _DEFAULT]
        fields |= {name: _QUICK[name] for name in left}
    options = Options(**fields)
    result = driver.run(
        options,
        _with_settings(given["engines"]),
        given["workloads"],
        interleave=not given["one_by_one"],
        say=lambda text: click.echo(text, err=True),
    )
    results: Path = given["results"]
    results.mkdir(parents=True, exist_ok=True)
    stamp = result["machine"]["time"].replace(":", "").replace("-", "")[:15]
    target = results / f"{stamp}-{options.keys}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    _show(target, result)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def report(file: Path) -> None:
    """Draw the tables and plots of a result again."""
    _show(file, json.loads(file.read_text()))


@main.command()
@click.argument("before", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--engine", default="kvengine", show_default=True)
def compare(before: Path, after: Path, engine: str) -> None:
    """Show what changed for one engine between two results."""
    click.echo(comparison(json.loads(before.read_text()), json.loads(after.read_text()), engine))


@main.command(name="namespace")
@click.option("--keys", default="1_000_000", callback=_number, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--dir", "directory", type=click.Path(file_okay=False, exists=True))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def namespace_layer(keys: int, repeats: int, directory: str | None, results: Path) -> None:
    """Measure namespaces above the store: get, list, export."""
    result = namespace.measure(keys, repeats, directory, lambda text: click.echo(text, err=True))
    results.mkdir(parents=True, exist_ok=True)
    target = results / f"namespace-{keys}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    target.with_suffix(".md").write_text(namespace.report(result) + "\n")
    click.echo(namespace.report(result))


main.add_command(world)
main.add_command(http)
main.add_command(http_workers)
main.add_command(processes)


@main.command(name="cache")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def memory_cache(repeats: int, results: Path) -> None:
    """Measure the memory cache beside others: ns of get and set, bytes an entry."""
    result = cache.measure(repeats, lambda text: click.echo(text, err=True))
    _keep(results / "cache.json", result, cache.report(result))


@main.command(name="hits")
@click.option(
    "--traces",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="folder of *.csv.gz",
)
@click.option("--only", default="", help="names of traces, between commas")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def hit_ratios(folder: Path, only: str, results: Path) -> None:
    """Replay traces: hit ratios of our policies, of peers, and the limit."""
    names = [name for name in only.split(",") if name]
    result = hits.measure(folder, names, lambda text: click.echo(text, err=True))
    _keep(results / "hits.json", result, hits.report(result))


@main.command(name="edges")
@click.option("--seconds", type=float, default=300.0, show_default=True, help="of virtual time")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def edges_beside_ttl(seconds: float, repeats: int, results: Path) -> None:
    """Measure edges beside a plain 60-second cache: staleness, load, ns of a hit."""
    result = edges.measure(seconds, repeats, lambda text: click.echo(text, err=True))
    _keep(results / "edges.json", result, edges.report(result))


@main.command(name="log")
@click.option("--changes", default="300_000", callback=_number, show_default=True)
@click.option("--wakes", default="2_000", callback=_number, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def reading_the_log(changes: int, wakes: int, repeats: int, results: Path) -> None:
    """Measure reading the log and waking its readers, beside RocksDB and Redis Streams."""
    result = log.measure(changes, wakes, repeats, lambda text: click.echo(text, err=True))
    _keep(results / "log.json", result, log.report(result))


def _keep(target: Path, result: Any, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    target.with_suffix(".md").write_text(text + "\n")
    click.echo(text)


def _with_settings(names: list[str]) -> list[tuple[str, str]]:
    chosen: list[tuple[str, str]] = []
    for name in names:
        engine, _, settings = name.partition(":")
        if settings and settings not in ENGINES[engine].settings:
            raise click.BadParameter(f"{engine} has only {', '.join(ENGINES[engine].settings)}")
        wanted = (settings,) if settings else ENGINES[engine].settings
        chosen.extend((engine, one) for one in wanted)
    return list(dict.fromkeys(chosen))


def _show(target: Path, result: dict[str, Any]) -> None:
    text, written = write_report(target, result)
    click.echo(text)
    click.echo("written: " + ", ".join(str(path) for path in [target, *written]), err=True)

"""``python -m benchmarks world``: an hour of 330 edges and a million keys, under virtual time.

Invariants: the same options give the same figures but for the time it took; the exit code is 1 if a
promise was broken.
"""

import json
import resource
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import click

from kvengine.testing.world import World

RESULTS = Path(__file__).parent / "results"


@click.command()
@click.option("--edges", default=330, show_default=True)
@click.option("--regions", default=12, show_default=True)
@click.option("--keys", default=1_000_000, show_default=True)
@click.option("--seconds", default=3600.0, show_default=True, help="of virtual time")
@click.option("--reads-per-s", default=1000.0, show_default=True, help="at all edges together")
@click.option("--writes-per-s", default=1.0, show_default=True)
@click.option("--skew", default=1.0, show_default=True, help="of the popularity of keys")
@click.option("--value-bytes", default=100, show_default=True)
@click.option("--memory-kib", default=1024, show_default=True, help="of each edge")
@click.option("--push-bytes", default=4096, show_default=True)
@click.option("--mishap-every-s", default=60.0, show_default=True, help="0: none")
@click.option("--seed", default=1, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
def world(**options: Any) -> None:
    """Run a world at full size; report propagation, hit ratios, load and broken promises."""
    started, cpu = perf_counter(), process_time()
    is_rough = options["mishap_every_s"] > 0
    made = World(
        seed=options["seed"],
        edges=options["edges"],
        regions=options["regions"],
        keys=options["keys"],
        value_bytes=options["value_bytes"],
        memory_bytes=options["memory_kib"] << 10,
        push_bytes=options["push_bytes"],
        loss=0.001 if is_rough else 0.0,
        duplication=0.001 if is_rough else 0.0,
        clock_skew_s=1.0,
        clock_drift=1e-5,
    )
    if is_rough:
        made.traffic.schedule_faults(
            options["seconds"], every_s=options["mishap_every_s"], cut_s=60
        )
    made.traffic.run(
        options["seconds"],
        reads_per_s=options["reads_per_s"],
        writes_per_s=options["writes_per_s"],
        skew=options["skew"],
    )
    report = made.report()
    took = {
        "wall_s": round(perf_counter() - started, 1),
        "cpu_s": round(process_time() - cpu, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "steps": made.time.steps,
    }
    results: Path = options.pop("results")
    click.echo(report)
    click.echo(
        f"\n{took['wall_s']:,} s, {took['cpu_s']:,} s of one core, {took['peak_mib']:,} MiB, "
        f"{took['steps']:,} steps"
    )
    results.mkdir(parents=True, exist_ok=True)
    target = results / f"world-{options['edges']}-{options['keys']}.json"
    found = {"options": options, "took": took, "report": report.figures()}
    target.write_text(json.dumps(found, indent=1) + "\n")
    click.echo(f"written: {target}", err=True)
    sys.exit(1 if report.violations else 0)

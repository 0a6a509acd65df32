"""``python -m benchmarks http``: reads over HTTP, beside nginx serving the same bytes as a file.

Invariants:

* The server has one CPU, wrk the other; servers take turns, so that noise meets all of them.
* What a row says is the median of its turns; the ratio is to nginx's median.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import click
import httpx

from benchmarks.http_more import edge, long_load
from benchmarks.http_servers import (
    LOAD_CPU,
    TOKEN,
    Target,
    kvengine_server,
    miniflare,
    nginx,
    own,
    redis_rate,
    resident_bytes,
    starlette,
)

RATE = re.compile(r"Requests/sec: +([0-9.]+)")
LATENCY = re.compile(r"(50|99)% +([0-9.]+)(us|ms|s)")
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
MEBIBYTE = 1 << 20


def load(target: Target, seconds: float, connections: int) -> dict[str, float]:
    """Return what wrk measures: requests a second, p50 and p99 in seconds.

    Raises:
        ClickException: an answer was no success.
    """
    command = ["taskset", "-c", LOAD_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}"]
    if target.script is not None:
        command += ["-s", target.script]
    for header in target.headers:
        command += ["-H", header]
    found = subprocess.run(
        [*command, "--latency", "--timeout", "20s", target.url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "Non-2xx" in found or "Socket errors" in found:
        raise click.ClickException(f"{target.name}: {found}")
    rate = RATE.search(found)
    if rate is None:
        raise click.ClickException(f"{target.name}: {found}")
    times = {name: float(size) * UNITS[unit] for name, size, unit in LATENCY.findall(found)}
    return {"rate": float(rate[1]), "p50": times["50"], "p99": times["99"]}


def compare(
    targets: list[Target],
    seconds: float,
    repeats: int,
    connections: int,
    say: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """Return the medians of each target, measured in turns."""
    turns: dict[str, list[dict[str, float]]] = {target.name: [] for target in targets}
    for number in range(repeats):
        for target in targets:
            say(f"turn {number + 1} of {repeats}: {target.name}")
            turns[target.name].append(load(target, seconds, connections))
    return {
        name: {figure: statistics.median(turn[figure] for turn in found) for figure in found[0]}
        for name, found in turns.items()
    }


def others(say: Callable[[str], None]) -> Iterator[str]:
    """Yield lines about calls that are no single reads, and about memory."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    with (
        tempfile.TemporaryDirectory() as folder,
        kvengine_server(Path(folder) / "data") as (url, namespace, pid),
        httpx.Client(headers=headers, timeout=60) as client,
    ):
        base = client.get(f"{url}/client/v4/accounts").json()["result"][0]["id"]
        base = f"{url}/client/v4/accounts/{base}/storage/kv/namespaces/{namespace}"
        pairs = [{"key": f"k{n:05}", "value": "v" * 100} for n in range(10_000)]
        big = b"v" * (25 * MEBIBYTE)
        client.put(f"{base}/values/big", content=big).raise_for_status()
        before = resident_bytes(pid)
        keys = [pair["key"] for pair in pairs[:100]]
        calls: list[tuple[str, int, Callable[[], Any]]] = [
            (
                "bulk put of 10,000 pairs of 100 bytes",
                5,
                lambda: client.put(f"{base}/bulk", json=pairs),
            ),
            ("list of 1,000 keys", 50, lambda: client.get(f"{base}/keys")),
            ("bulk get of 100", 200, lambda: client.post(f"{base}/bulk/get", json={"keys": keys})),
            ("put of a value of 25 MiB", 5, lambda: client.put(f"{base}/values/big", content=big)),
            ("get of a value of 25 MiB", 10, lambda: client.get(f"{base}/values/big")),
        ]
        for name, count, call in calls:
            say(name)
            times = []
            for _ in range(count):
                started = time.perf_counter()
                call().raise_for_status()
                times.append(time.perf_counter() - started)
            yield f"{name}: median {statistics.median(times) * 1e3:.2f} ms (with a Python client)"
        after = resident_bytes(pid)
        yield f"memory of the server before and after: {before >> 20} and {after >> 20} MiB"


@click.command(name="http")
@click.option("--seconds", default=4.0, show_default=True, help="of one turn")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1))
@click.option("--value-bytes", default=1024, show_default=True, type=click.IntRange(0))
@click.option("--connections", default=32, show_default=True, type=click.IntRange(1))
@click.option("--long", default=20.0, show_default=True, help="seconds of the long load")
def http(seconds: float, repeats: int, value_bytes: int, connections: int, long: float) -> None:
    """Reads over HTTP beside nginx, Redis, Starlette and Miniflare, one CPU each."""

    def say(text: str) -> None:
        click.echo(text, err=True)

    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        raise click.ClickException("needs wrk and taskset: apt-get install wrk util-linux")
    with ExitStack() as stack:
        targets = stack.enter_context(own(value_bytes))
        targets = [*targets, *stack.enter_context(edge(value_bytes))]
        for peer in (nginx, starlette, miniflare):
            targets = [*targets, *stack.enter_context(peer(value_bytes, say))]
        first = {target.name: resident_bytes(target.pid) for target in targets}
        found = compare(targets, seconds, repeats, connections, say)
        last = {target.name: resident_bytes(target.pid) for target in targets}
    redis = redis_rate(seconds, value_bytes, connections, say)
    if redis is not None:
        found["Redis, its own protocol"] = redis
    mark = found.get("nginx, static file", {}).get("rate")
    click.echo(f"GET of {value_bytes} bytes, {connections} connections, one CPU")
    for name, row in sorted(found.items(), key=lambda item: -item[1]["rate"]):
        ratio = "" if mark is None else f"{row['rate'] / mark:5.2f} x nginx"
        times = f"p50 {row['p50'] * 1e6:6.0f} us  p99 {row['p99'] * 1e6:6.0f} us"
        click.echo(f"{name:28} {row['rate']:9,.0f}/s  {ratio}  {times}")
    name = "kvengine, REST"
    click.echo(f"memory of kvengine: {first[name] >> 20} MiB, after the load {last[name] >> 20}")
    for line in chain(others(say), long_load(long, value_bytes, connections, say)):
        click.echo(line)

"""``python -m benchmarks http-workers``: writes and reads of a server with 0, 1, 2, ... workers.

Invariants:

* All servers run from beginning to end, on all CPUs, one of which wrk shares; they take turns, so
  that noise meets all of them.
* No key is written twice.  What a row says is the median of its turns; CPU time is that of all
  processes of the server, for each request.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
import httpx

from benchmarks.http import load
from benchmarks.http_servers import ACCOUNT, TOKEN, Target, kvengine_server

PUTS = """
local number, threads = 0, 0
function setup(thread)
  threads = threads + 1
  thread:set("id", threads)
end
function init() start = os.time() .. "-" .. string.format("%p", {}) end
function request()
  number = number + 1
  local key = start .. "-" .. id .. "-" .. number
  return wrk.format("PUT", "PATH" .. key, nil, string.rep("v", BYTES))
end
"""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and its children have taken."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for one in (str(pid), *children):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def turn(target: Target, seconds: float, connections: int) -> tuple[float, float]:
    """Return requests a second, and microseconds of CPU time for each."""
    before = cpu_s(target.pid)
    rate = load(target, seconds, connections)["rate"]
    return rate, (cpu_s(target.pid) - before) / (rate * seconds) * 1e6


def targets_of(
    workers: int, durability: str, size: int, folder: Path, stack: ExitStack
) -> dict[str, Target]:
    """Start a server; return what to write and what to read."""
    options = ("--workers", str(workers), "--durability", durability)
    cpus = f"0-{(os.cpu_count() or 1) - 1}"
    url, namespace, pid = stack.enter_context(
        kvengine_server(folder / f"data-{workers}", *options, cpu=cpus)
    )
    path = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{namespace}/values/"
    headers = {"authorization": f"Bearer {TOKEN}"}
    httpx.put(f"{url}{path}key", headers=headers, content=b"v" * size).raise_for_status()
    script = folder / f"put-{workers}.lua"
    script.write_text(PUTS.replace("PATH", path).replace("BYTES", str(size)))
    token = (f"Authorization: Bearer {TOKEN}",)
    return {
        "put": Target(f"{workers} put", url, token, pid, str(script)),
        "get": Target(f"{workers} get", f"{url}{path}key", token, pid),
    }


@click.command(name="http-workers")
@click.option("--workers", default="0,1,2", show_default=True, help="of each server")
@click.option("--durability", default="os", show_default=True)
@click.option("--seconds", default=2, show_default=True, help="of one turn, whole ones")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1))
@click.option("--value-bytes", default=100, show_default=True, type=click.IntRange(0))
@click.option("--connections", default=32, show_default=True, type=click.IntRange(1))
def http_workers(
    workers: str, durability: str, seconds: int, repeats: int, value_bytes: int, connections: int
) -> None:
    """Writes and reads over HTTP by the number of workers."""
    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        raise click.ClickException("needs wrk and taskset: apt-get install wrk util-linux")
    say: Callable[[str], None] = lambda text: click.echo(text, err=True)  # noqa: E731
    counts = [int(count) for count in workers.split(",")]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found: dict[tuple[int, str], list[tuple[float, float]]] = {}
        servers = {
            count: targets_of(count, durability, value_bytes, Path(folder), stack)
            for count in counts
        }
        for number in range(repeats):
            for count, targets in servers.items():
                say(f"turn {number + 1} of {repeats}: {count} workers")
                for what, target in targets.items():
                    found.setdefault((count, what), []).append(turn(target, seconds, connections))
    click.echo(f"values of {value_bytes} bytes, {connections} connections, durability {durability}")
    for count in counts:
        row = f"--workers {count:<4}"
        for what in ("put", "get"):
            rate, cpu_us = map(statistics.median, zip(*found[count, what], strict=True))
            row += f"{what} {rate:9,.0f}/s {cpu_us:7.1f} us of CPU   "
        click.echo(row.rstrip())

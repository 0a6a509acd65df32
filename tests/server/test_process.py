"""`kvengine serve` as a process: it starts, stops, starts again, and loses no request."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import kvengine
from tests.server.running import ACCOUNT, TOKEN

URL = re.compile(r"url +(\S+)")


class Process:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""

    def wait_until_ready(self) -> None:
        """Read what it prints, up to what it prints last."""
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            assert line, "the server has ended"
            self.lines.append(line)
            found = URL.search(line)
            if found:
                self.url = found[1]
            if line.startswith("  account"):
                return

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(
    data: Path, *options: str, token: str | None = TOKEN, **environment: str
) -> Iterator[Process]:
    """Run `kvengine serve`."""
    chosen = {**os.environ, "KVENGINE_ACCOUNT": ACCOUNT, **environment}
    if token is not None:
        chosen["KVENGINE_TOKEN"] = token
    start = [sys.executable, "-m", "kvengine", "serve", "--data", str(data), "--port", "0"]
    command = [*start, *options]
    with subprocess.Popen(
        command, env=chosen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_without_anything(data: Path) -> None:
    with serving(data, token=None, KVENGINE_ACCOUNT="") as server:
        server.wait_until_ready()
        assert server.process.stdout is not None
        token, namespace = (server.process.stdout.readline().split()[1] for _ in range(2))
        account = server.lines[-1].split()[1]
        base = f"{server.url}/client/v4/accounts/{account}/storage/kv/namespaces"
        headers = {"authorization": f"Bearer {token}"}
        found = httpx.get(base, headers=headers).json()["result"]
        assert [(one["id"], one["title"]) for one in found] == [(namespace, "default")]
        put = httpx.put(f"{base}/{namespace}/values/k", headers=headers, content=b"v")
        assert put.status_code == 200
        assert server.stop() == 0
    with kvengine.open(data) as db:  # the lock is free, and what was written is there
        assert db.namespace("default").get("k") == "v"
    with serving(data, token=None, KVENGINE_ACCOUNT="") as server:
        server.wait_until_ready()
        assert server.lines[-1].split()[1] == account
        assert server.stop(signal.SIGINT) == 0


def test_a_folder_in_use(data: Path) -> None:
    with kvengine.open(data), serving(data) as server:
        _, said = server.process.communicate(timeout=60)
        assert server.process.returncode == 5
        assert "open for writing in process" in said


def test_a_port_in_use(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(data, "--port", str(port)) as server:
            _, said = server.process.communicate(timeout=60)
    assert server.process.returncode == 5
    assert f"can't listen on 127.0.0.1 port {port}" in said


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--no-auth", "--host", "0.0.0.0"), "loopback only"),
        (("--tls-certificate", __file__), "both a certificate and its private key"),
        (("--upstream", "http://127.0.0.1:1", "--workers", "2"), "a location is one process"),
    ],
)
def test_what_does_not_fit_together(data: Path, options: Any, why: str) -> None:
    with serving(data, *options) as server:
        _, said = server.process.communicate(timeout=60)
    assert server.process.returncode == 2
    assert why in said


def test_without_tokens(data: Path) -> None:
    with serving(data, "--no-auth") as server:
        server.wait_until_ready()
        base = f"{server.url}/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
        [namespace] = httpx.get(base).json()["result"]
        for _ in range(3):
            assert httpx.get(f"{base}/{namespace['id']}/values/k").status_code == 404
        assert httpx.put(f"{base}/{namespace['id']}/values/k", content=b"v").status_code == 200
        for _ in range(3):
            assert httpx.get(f"{base}/{namespace['id']}/values/k").content == b"v"


def test_a_unix_socket(data: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)  # one that nobody listens on any more
    dead.close()
    with serving(data, "--unix-socket", path) as server:
        server.wait_until_ready()
        with httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client:
            assert client.get("http://x/ready").json() == {"ready": True}
        assert os.stat(path).st_mode & 0o077 == 0
        assert server.stop() == 0
    assert not Path(path).exists()


def test_tls(data: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    with serving(data, "--tls-certificate", certificate, "--tls-key", key) as server:
        server.wait_until_ready()
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=certificate)
        with httpx.Client(verify=context) as client:
            assert client.get(f"{server.url}/ready").json() == {"ready": True}


def test_starting_again_refuses_nobody(data: Path) -> None:
    """Readers and a writer go on while the server replaces itself twice."""
    with serving(data, "--limits", "relaxed") as server:
        server.wait_until_ready()
        with_token = {"authorization": f"Bearer {TOKEN}"}
        base = f"{server.url}/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
        namespace = httpx.get(base, headers=with_token).json()["result"][0]["id"]
        values = f"{base}/{namespace}/values"
        httpx.put(f"{values}/k", headers=with_token, content=b"v").raise_for_status()
        failed: list[Exception] = []
        done = [0, 0, 0]
        stopping = threading.Event()

        def read(number: int) -> None:
            try:
                with httpx.Client(headers=with_token, timeout=60) as client:
                    while not stopping.is_set():
                        assert client.get(f"{values}/k").content == b"v"
                        done[number] += 1
            except (httpx.HTTPError, AssertionError) as error:
                failed.append(error)

        def write() -> None:
            try:
                with httpx.Client(headers=with_token, timeout=60) as client:
                    while not stopping.is_set():
                        client.put(f"{values}/w{done[2]}", content=b"v").raise_for_status()
                        done[2] += 1
            except httpx.HTTPError as error:
                failed.append(error)

        threads = [threading.Thread(target=read, args=(number,)) for number in (0, 1)]
        threads.append(threading.Thread(target=write))
        for thread in threads:
            thread.start()

        def let_them_work() -> None:
            before = list(done)
            while any(now < then + 20 for now, then in zip(done, before, strict=True)):
                if failed:
                    return
                time.sleep(0.01)

        for _ in range(2):
            let_them_work()
            server.process.send_signal(signal.SIGHUP)
            server.wait_until_ready()
        let_them_work()
        stopping.set()
        for thread in threads:
            thread.join()
        assert not failed
        assert server.stop() == 0
    with kvengine.open(data, read_only=True) as db:
        kv = db.namespace("default")
        assert all(kv.get(f"w{number}") == "v" for number in range(done[2]))


def test_logs_as_json(data: Path) -> None:
    with serving(data, "--log-format", "json", "--access-log") as server:
        server.wait_until_ready()
        httpx.get(f"{server.url}/health")
        server.stop()
        assert server.process.stderr is not None
        lines = [json.loads(line) for line in server.process.stderr.read().splitlines()]
    assert [line["action"] for line in lines if line["logger"] == "kvengine.access"] == ["health"]

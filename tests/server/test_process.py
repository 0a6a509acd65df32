"""`kvengine serve` as a process: it starts, stops, starts again, and loses no request."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import kvengine
from kvengine.server import supervisor
from tests.server.processes import certificate_in, children, serving, wait_for
from tests.server.running import ACCOUNT, TOKEN


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


def test_the_first_token_does_not_go_to_the_journal(data: Path) -> None:
    with serving(data, token=None, JOURNAL_STREAM="8:1") as server:
        server.wait_until_ready()
        assert server.process.stdout is not None
        said = server.process.stdout.readline()
        path = data / "first-token"
        assert said.split() == ["token", "in", str(path)]
        assert path.stat().st_mode & 0o777 == 0o600
        token = path.read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{server.url}/v1/tokens", headers=headers).status_code == 200
        assert server.stop() == 0
        rest = server.process.stdout.read() + (
            server.process.stderr.read() if server.process.stderr else ""
        )
        assert token not in rest
    with kvengine.open(data) as db:  # a file beside the store's is no stranger to it
        assert db.namespaces()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("options", [(), ("--workers", "1")])
def test_the_log_tells_of_start_and_stop(data: Path, form: str, options: Any) -> None:
    with serving(data, "--log-format", form, *options) as server:
        server.wait_until_ready()
        server.process.terminate()
        _, said = server.process.communicate(timeout=60)
    lines = [json.loads(line)["message"] for line in said.splitlines()] if form == "json" else said
    assert any(
        f"listening on {server.url}" in line for line in (lines if form == "json" else [said])
    )
    assert any("stopped" in line for line in (lines if form == "json" else [said]))
    assert TOKEN not in said


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_a_folder_in_use(data: Path, options: Any) -> None:
    with kvengine.open(data, exclusive=True), serving(data, *options) as server:
        _, said = server.process.communicate(timeout=60)
        assert server.process.returncode == (1 if options else 5)  # a worker said why
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
        (("--no-auth", "--host", "0.0.0.0"), "only on loopback"),
        (("--tls-certificate", __file__), "both a certificate and its private key"),
        (("--upstream", "http://127.0.0.1:1", "--workers", "2"), "an edge runs in one process"),
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
    certificate, key = certificate_in(tmp_path)
    with serving(data, "--tls-certificate", certificate, "--tls-key", key) as server:
        server.wait_until_ready()
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=certificate)
        with httpx.Client(verify=context) as client:
            assert client.get(f"{server.url}/ready").json() == {"ready": True}
        an_edge_trusts(tmp_path, server.url, certificate)


def an_edge_trusts(tmp_path: Path, url: str, certificate: str) -> None:
    """Read and write at an edge of a primary that has its own certificate."""
    edge = ("--upstream", url, "--upstream-ca", certificate)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with serving(tmp_path / "copies", *edge) as server:
        server.wait_until_ready()
        base = f"{server.url}/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
        namespace = httpx.get(base, headers=headers).json()["result"][0]["id"]
        where = f"{base}/{namespace}/values/k"
        assert httpx.put(where, headers=headers, content=b"v").status_code == 200
        assert httpx.get(where, headers=headers).text == "v"
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with serving(tmp_path / "copies", "--upstream", url, "--upstream-ca", str(broken)) as server:
        _, errors = server.process.communicate(timeout=60)
        assert server.process.returncode == 2
        assert "can't load PEM certificates" in errors


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_again_refuses_nobody(data: Path, workers: int) -> None:
    """Readers and a writer go on while the server replaces itself twice."""
    with serving(data, "--limits", "relaxed", "--workers", str(workers)) as server:
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
            if workers == 0:
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


def test_workers(data: Path) -> None:
    """What one of them was told all know; one that dies is started again."""
    with serving(data, "--limits", "relaxed", "--workers", "2") as server:
        server.wait_until_ready()
        assert len(children(server.process.pid)) == 2
        headers = {"authorization": f"Bearer {TOKEN}"}
        base = f"{server.url}/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
        with httpx.Client(headers=headers, timeout=30) as client:
            namespace = client.get(base).json()["result"][0]["id"]
            values = f"{base}/{namespace}/values"
            for number in range(50):
                put = client.put(f"{values}/k", content=str(number).encode())
                assert put.status_code == 200
                got = httpx.get(f"{values}/k", headers=headers)  # a connection of its own
                assert got.content == str(number).encode()
                assert got.headers["kv-version"] == put.headers["kv-version"]
            made = client.post(base, json={"title": "new"}).json()["result"]["id"]
            assert client.put(f"{base}/{made}/values/k", content=b"v").status_code == 200
            for _ in range(4):
                assert httpx.get(f"{base}/{made}/values/k", headers=headers).content == b"v"
            secret = client.post(f"{server.url}/v1/tokens", json={"name": "x"}).json()
            reader = {"authorization": f"Bearer {secret['secret']}"}
            assert httpx.get(f"{values}/k", headers=reader).status_code == 200
            client.delete(f"{server.url}/v1/tokens/{secret['token']['id']}")
            for _ in range(4):
                assert httpx.get(f"{values}/k", headers=reader).status_code == 401
            killed = children(server.process.pid)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: client.get(f"{server.url}/ready").status_code == 200)
            wait_for(lambda: client.put(f"{values}/after", content=b"v").status_code == 200)
            assert len(children(server.process.pid)) == 2
        assert server.stop() == 0
        assert server.process.stderr is not None
        said = server.process.stderr.read()
    for pid in killed:
        assert f"worker process {pid} was killed by SIGKILL; starting another one" in said
    with kvengine.open(data) as db:
        assert db.namespace("default").get("after") == "v"


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-15, "was killed by SIGTERM"),
        (-40, "was killed by signal 40"),
    ],
)
def test_the_log_says_how_a_worker_ended(returncode: int, words: str) -> None:
    assert supervisor.ended(returncode) == words


def test_what_workers_counted(data: Path) -> None:
    with serving(data, "--workers", "2") as server:
        server.wait_until_ready()
        headers = {"authorization": f"Bearer {TOKEN}"}
        base = f"{server.url}/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
        namespace = httpx.get(base, headers=headers).json()["result"][0]["id"]
        httpx.put(f"{base}/{namespace}/values/k", headers=headers, content=b"v")
        for _ in range(20):
            httpx.get(f"{base}/{namespace}/values/k", headers=headers).raise_for_status()
        said = 'kvengine_requests_total{action="read",status="200",surface="rest"} 20.0'
        wait_for(lambda: said in httpx.get(f"{server.url}/metrics", headers=headers).text)
        assert server.stop() == 0
    with kvengine.open(data) as db:
        assert db.usage("default").counts.reads == 20


def test_an_edge(data: Path) -> None:
    """A primary and an edge as the command line starts them."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    with serving(data, "--limits", "relaxed") as primary:
        primary.wait_until_ready()
        options = ("--upstream", primary.url, "--name", "fra")
        with serving(data.with_name("copies"), *options) as near:
            near.wait_until_ready()
            base = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
            namespace = httpx.get(primary.url + base, headers=headers).json()["result"][0]["id"]
            where = f"{base}/{namespace}/values/k"
            httpx.put(near.url + where, headers=headers, content=b"1").raise_for_status()
            assert httpx.get(near.url + where, headers=headers).content == b"1"
            httpx.put(primary.url + where, headers=headers, content=b"2").raise_for_status()
            wait_for(lambda: httpx.get(near.url + where, headers=headers).content == b"2")
            assert httpx.get(near.url + where, headers=headers).headers["cf-cache-status"] == "HIT"
            assert httpx.get(f"{near.url}/ready").status_code == 200
            assert near.stop() == 0
        assert primary.stop() == 0


def test_logs_as_json(data: Path) -> None:
    with serving(data, "--log-format", "json", "--access-log") as server:
        server.wait_until_ready()
        httpx.get(f"{server.url}/health")
        server.stop()
        assert server.process.stderr is not None
        lines = [json.loads(line) for line in server.process.stderr.read().splitlines()]
    assert [line["action"] for line in lines if line["logger"] == "kvengine.access"] == ["health"]

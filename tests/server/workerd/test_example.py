"""The example Worker, and what `kvengine workerd-config` prints, on the real workerd."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from kvengine.cli.main import command
from tests.server.node import modules, package, package_bin
from tests.server.running import TOKEN, Running, running
from tests.server.workerd.workers import HERE, free_port, ready


def until_it_answers(process: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(600):
        try:
            httpx.get(url)
        except httpx.HTTPError:
            assert process.poll() is None, "workerd has ended"
            time.sleep(0.05)
        else:
            return
    raise AssertionError("workerd does not answer")


def test_the_example(tmp_path: Path) -> None:
    package("@cloudflare/kv-asset-handler")
    program, port, into = package_bin("workerd"), free_port(), tmp_path / "worker"
    with running() as server:
        subprocess.run(
            [sys.executable, "-m", "kvengine.examples.worker", "--url", server.url,
             "--modules", str(modules()), "--into", str(into), "--port", str(port)],
            env={**os.environ, "KVENGINE_TOKEN": TOKEN}, check=True, timeout=60,
        )  # fmt: skip
        assert (into / "config.capnp").stat().st_mode & 0o077 == 0
        process = subprocess.Popen([program, "serve", str(into / "config.capnp")])
        try:
            url = f"http://127.0.0.1:{port}"
            until_it_answers(process, url)
            page = httpx.get(url)
            assert "A site in KV" in page.text
            assert page.headers["content-type"].startswith("text/html")
            assert httpx.get(f"{url}/style.css").headers["content-type"].startswith("text/css")
            assert httpx.get(f"{url}/nothing").status_code == 404
            assert httpx.get(f"{url}/flags").json() == {"dark-mode": "on", "checkout": "off"}
            server.db.namespace("site-flags").put("dark-mode", "off")
            assert httpx.get(f"{url}/flags").json()["dark-mode"] == "off"
            assert httpx.get(f"{url}/private").status_code == 401
            let_in = {"authorization": "Bearer let-me-in"}
            assert httpx.get(f"{url}/private", headers=let_in).text == "Welcome, Ada.\n"
            server.db.namespace("site-tokens").delete("let-me-in")
            assert httpx.get(f"{url}/private", headers=let_in).status_code == 401
        finally:
            process.kill()
            process.wait()


CONFIG = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      compatibilityDate = "2026-06-01",
      bindings = [
%s
      ],
    )),
%s
  ],
  sockets = [(name = "http", address = "127.0.0.1:%d", http = (), service = "main")],
);
"""


def printed(*arguments: str) -> tuple[str, str]:
    """Return what the command prints for services, and for bindings."""
    found = CliRunner().invoke(command, ["workerd-config", *arguments])
    assert found.exit_code == 0, found.output
    services, _, bindings = found.output.partition("# Add to `bindings` of the Worker:\n")
    return services, bindings


@pytest.mark.parametrize("token_in_a_file", [False, True])
def test_what_is_printed_works(server: Running, tmp_path: Path, token_in_a_file: bool) -> None:
    program, port = package_bin("workerd"), free_port()
    here = server.namespace_id("here")
    (tmp_path / "worker.js").write_text((HERE / "worker.js").read_text())
    (tmp_path / "token").write_text(f"Bearer {TOKEN}")
    how = ("--token-file", "token") if token_in_a_file else ("--token", TOKEN)
    services, bindings = printed(f"KV={here}", "--url", server.url, *how)
    (tmp_path / "config.capnp").write_text(CONFIG % (bindings, services, port))
    process = subprocess.Popen([program, "serve", str(tmp_path / "config.capnp")])
    try:
        worker = ready(process, f"http://127.0.0.1:{port}")
        assert worker.do(("put", "k", "v"), ("get", "k"))[1] == {"result": "v"}
        worker.close()
    finally:
        process.kill()
        process.wait()
    assert server.db.namespace("here").get("k") == "v"


ID = "0" * 32


def test_forms_of_addresses() -> None:
    assert 'address = "127.0.0.1:8787"' in printed(f"KV={ID}")[0]
    assert 'address = "unix:/run/kv"' in printed(f"KV={ID}", "--url", "unix:/run/kv")[0]
    tls, _ = printed(f"KV={ID}", "--url", "https://kv.example")
    assert 'address = "kv.example:443"' in tls
    assert 'certificateHost = "kv.example"' in tls
    two, bindings = printed(f"A={ID}", f"B={ID}")
    assert two.count("external") == bindings.count("kvNamespace") == 2


@pytest.mark.parametrize(
    "arguments",
    [(), ("KV",), ("KV=5",), ("1=" + ID,), (f"KV={ID}", "--url", "ftp://x"),
     (f"KV={ID}", "--url", "http://x/path"), (f"KV={ID}", "--token", "a\nb")],
)  # fmt: skip
def test_what_can_not_be(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(command, ["workerd-config", *arguments]).exit_code == 2

"""A server without tokens is not for pages of other sites."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import kvengine
from kvengine.server.api.forward import Forwarder
from kvengine.server.http.messages import Request
from tests.server.processes import serving
from tests.server.running import ACCOUNT, Running, running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(is_open=True) as found:
        found.db.namespace("here").put("k", "v")
        yield found


def asked(server: Running, headers: dict[str, str], path: str = "/v1/me") -> int:
    return httpx.get(server.url + path, headers=headers).status_code


def test_foreign_pages(server: Running) -> None:
    own = f"127.0.0.1:{server.port}"
    for origin in ("https://evil.example", "null", f"http://localhost:{server.port}", "http://["):
        assert asked(server, {"origin": origin}) == 403
    assert asked(server, {"origin": f"http://{own}"}) == 200
    assert asked(server, {"origin": "http://localhost:1", "host": "localhost:1"}) == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "8.8.8.8:80", "["):
        assert asked(server, {"host": host}) == 403
    for host in ("localhost", "[::1]:8787", "127.0.0.2"):
        assert asked(server, {"host": host}) == 200


def test_the_fast_path_is_guarded_too(server: Running) -> None:
    """The same answers for a read that is answered without an endpoint (S7)."""
    where = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{server.namespace_id('here')}"
    path, own = f"{where}/values/k", f"127.0.0.1:{server.port}"
    assert httpx.get(server.url + path).status_code == 200  # from now on at hand
    hits = server.hot_reads("rest", "workerd")
    assert asked(server, {}, path) == 200
    assert server.hot_reads("rest", "workerd") == hits + 1
    for site in ("cross-site", "same-site", "other"):
        assert asked(server, {"sec-fetch-site": site}, path) == 403
        assert asked(server, {"sec-fetch-site": site}) == 403
    for site in ("same-origin", "none"):
        assert asked(server, {"sec-fetch-site": site}, path) == 200
    assert asked(server, {"origin": "https://evil.example"}, path) == 403
    assert asked(server, {"origin": f"http://{own}"}, path) == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "8.8.8.8:80", "["):
        assert asked(server, {"host": host}, path) == 403


def test_one_connection_that_changes_its_host(server: Running) -> None:
    where = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{server.namespace_id('here')}"
    own = f"127.0.0.1:{server.port}"
    with httpx.Client(base_url=server.url) as client:
        for host, status in ((own, 200), ("evil.example", 403), (own, 200), ("localhost", 200)):
            answer = client.get(f"{where}/values/k", headers={"host": host})
            assert answer.status_code == status


def test_a_foreign_page_changes_nothing(server: Running) -> None:
    here = server.db.namespace("here")
    body = json.dumps({"prefix": "", "dry_run": False})
    headers = {"origin": "https://evil.example", "content-type": "text/plain"}
    where = f"{server.url}/v1/delete-prefix/{here.id}"
    answer = httpx.post(where, content=body, headers=headers)
    assert answer.status_code == 403
    assert "cross-origin" in answer.json()["error"]
    assert here.get("k") == "v"


def test_workerd_has_a_host_of_its_own(server: Running) -> None:
    namespace = server.namespace_id("here")
    made_up = {"host": "fake-host"}
    assert asked(server, made_up | {"kv-namespace": namespace}, "/k?urlencoded=true") == 200
    assert asked(server, made_up, f"/workerd/{ACCOUNT}/{namespace}/k?urlencoded=true") == 200


def test_with_tokens_it_does_not_matter() -> None:
    with running() as server:
        headers = {**server.headers, "origin": "https://app.example", "host": "kv.example"}
        assert asked(server, headers) == 200


def test_an_edge_has_checked_it_already() -> None:
    scope = {
        "method": "POST",
        "raw_path": b"/v1/me",
        "query_string": b"",
        "headers": [(b"origin", b"http://localhost:9000"), (b"accept", b"*/*")],
    }
    sent = Forwarder("http://primary")._request(Request(scope, None))
    assert [name for name, _ in sent.headers.raw if name.lower() == b"origin"] == []
    assert sent.headers["accept"] == "*/*"


def test_workers_guard_themselves(tmp_path: Path) -> None:
    """With --workers: each of them refuses foreign pages."""
    with serving(tmp_path, "--no-auth", "--workers", "1", "--limits", "relaxed") as server:
        server.wait_until_ready()
        with kvengine.connect(server.url) as db:
            kv = db.namespace("made here")
            kv.put("k", "v")
            assert kv.get("k") == "v"
        path = f"{server.url}/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces"
        for headers in (
            {"host": "evil.example"},
            {"origin": "https://evil.example"},
            {"sec-fetch-site": "cross-site"},
        ):
            assert httpx.post(path, json={"title": "evil"}, headers=headers).status_code == 403
        assert [one["title"] for one in httpx.get(path).json()["result"]].count("evil") == 0
        assert server.stop() == 0

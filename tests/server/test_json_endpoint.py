"""Endpoints that answer in JSON: what tokens see there, usage, deleting by prefix, what is live."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import kvengine
from kvengine.client.packing import pack
from kvengine.server.auth.token_store import TokenStore
from tests.server.rest.test_values import path
from tests.server.running import ACCOUNT, TOKEN, Running

BOUND_S = 30.0


@pytest.fixture
def scoped(server: Running) -> Iterator[httpx.Client]:
    """A client whose token may read one of two namespaces."""
    server.db.namespace("other").put("k", "v")
    server.db.namespace("here").put("a/1", "value")
    ids = (server.namespace_id("here"),)
    secret, _ = TokenStore(server.db, ACCOUNT).create(name="reader", namespaces=ids)
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=server.url, headers=headers) as client:
        yield client


def lines(client: httpx.Client) -> Iterator[Any]:
    """Yield what the stream says."""
    with client.stream("GET", "/v1/live", timeout=BOUND_S) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            yield json.loads(line)


def test_what_a_token_allows(server: Running, scoped: httpx.Client) -> None:
    found = server.http.get("/v1/me").json()
    assert (found["account"], found["write"], found["admin"]) == (ACCOUNT, True, True)
    assert found["namespaces"] is None
    found = scoped.get("/v1/me").json()
    assert (found["name"], found["write"], found["admin"]) == ("reader", False, False)
    assert found["namespaces"] == [server.namespace_id("here")]


def test_namespaces_with_what_they_hold(server: Running, scoped: httpx.Client) -> None:
    here = server.namespace_id("here")
    expected = {"id": here, "title": "here", "keys": 1, "bytes": len("a/1value")}
    found = server.http.get("/v1/namespaces").json()["namespaces"]
    assert [one["title"] for one in found] == ["here", "other"]
    assert found[0] == expected
    assert scoped.get("/v1/namespaces").json()["namespaces"] == [expected]


def test_usage(server: Running, scoped: httpx.Client) -> None:
    for _ in range(3):
        server.http.get(path(server, "values/a%2F1"))
    found = server.http.get("/v1/usage").json()
    assert (found["counts"]["reads"], found["counts"]["writes"], found["keys"]) == (3, 2, 2)
    assert found["bill"]["total"] == "5.00"
    assert found["bill"]["lines"][0]["what"] == "base"
    here = server.namespace_id("here")
    found = scoped.get(f"/v1/usage?namespace={here}").json()
    assert (found["counts"]["reads"], found["counts"]["writes"]) == (3, 1)
    assert "bill" not in found
    assert scoped.get("/v1/usage").status_code == 403
    other = server.namespace_id("other")
    assert scoped.get(f"/v1/usage?namespace={other}").status_code == 403
    answer = server.http.get("/v1/usage?month=never")
    assert answer.status_code == 400
    assert "2026-11" in answer.json()["error"]
    assert server.http.get("/v1/usage?namespace=none").status_code == 404


def test_delete_by_prefix(server: Running, scoped: httpx.Client) -> None:
    here = server.db.namespace("here")
    for number in range(2, 5):
        here.put(f"a/{number}", "v")
    here.put("b", "v")
    where = f"/v1/delete-prefix/{here.id}"
    dry = {"prefix": "a/", "dry_run": True}
    assert scoped.post(where, json=dry).json() == {"keys": 4, "dry_run": True}
    assert scoped.post(where, json=dry | {"dry_run": False}).status_code == 403
    assert here.count() == 5
    assert server.http.post(where, json=dry | {"dry_run": False}).json()["keys"] == 4
    assert [key.name for key in here.list().keys] == ["b"]


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b"{}", b'{"prefix": "a"}', b'{"prefix": 1, "dry_run": false}',
             b'{"prefix": "a", "dry_run": 0}', b"[" * 60_000],
)  # fmt: skip
def test_bad_bodies_delete_nothing(server: Running, body: bytes) -> None:
    here = server.db.namespace("here")
    here.put("a", "v")
    answer = server.http.post(f"/v1/delete-prefix/{here.id}", content=body)
    assert answer.status_code == 400
    assert "dry_run" in answer.json()["error"]
    assert (
        server.http.post(f"/v1/delete-prefix/{here.id}", content=bytes(70_000)).status_code == 413
    )
    assert here.count() == 1


def test_who_and_what_is_not_there(server: Running) -> None:
    for where in ("me", "namespaces", "usage", "live", "me/x"):
        answer = httpx.get(f"{server.url}/v1/{where}")
        assert answer.status_code == 401
        assert "token" in answer.json()["error"]
    assert server.http.get("/v1/me/x").status_code == 404
    assert server.http.put("/v1/usage").status_code == 405
    gone = server.http.post(f"/v1/delete-prefix/{'0' * 32}", json={"prefix": "", "dry_run": True})
    assert gone.status_code == 404


def test_a_change_is_seen_to_reach_each_edge(server: Running, scoped: httpx.Client) -> None:
    here = server.db.namespace("here")
    edges = [kvengine.Edge(server.url, name, token=TOKEN) for name in ("fra", "são paulo/2")]
    try:
        deadline, reached, number = time.monotonic() + BOUND_S, {}, 0
        for line in lines(server.http):
            assert time.monotonic() < deadline, line
            names = [one["name"] for one in line["edges"]]
            if names == ["fra", "são paulo/2"] and not number:
                number = here.put("flag", "on")
            found = [change for change in line["changes"] if change["key"] == "flag"]
            if found and len(found[0]["reached_ms"]) == len(edges):
                reached = found[0]
                break
        assert reached["namespace_id"] == here.id
        assert reached["kind"] == "put"
        assert reached["version"] == server.db.version
        assert set(reached["reached_ms"]) == {"fra", "são paulo/2"}
        seen = next(lines(scoped))
        assert (seen["changes"], seen["edges"]) == ([], [])
    finally:
        for edge in edges:
            edge.close()


def test_figures_are_live(server: Running) -> None:
    server.db.namespace("here").put("k", "v")
    first = next(lines(server.http))
    for _ in range(5):
        server.http.get(path(server, "values/k"))
    server.http.get(path(server, "values/absent"))
    now = next(lines(server.http))
    requests = now["figures"]["requests"]
    assert requests["read"] - first["figures"]["requests"]["read"] == 6
    assert now["figures"]["hot"] == 5  # all but the first, which meets the namespace
    assert sum(now["figures"]["times"]["read"]) == requests["read"]
    assert len(now["figures"]["bounds_ms"]) + 1 == len(now["figures"]["times"]["read"])


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"garbage", 400), (pack([1]), 400), (pack({"position": -1}), 400), (bytes(5000), 413)],
)
def test_bad_reports_of_edges(server: Running, body: bytes, status: int) -> None:
    assert server.http.post("/v1/edge/fra", content=body).status_code == status
    assert next(lines(server.http))["edges"] == []


def test_who_may_report(server: Running, scoped: httpx.Client) -> None:
    body = pack({"position": 1})
    assert scoped.post("/v1/edge/fra", content=body).status_code == 403
    assert httpx.post(f"{server.url}/v1/edge/fra", content=body).status_code == 401
    assert server.http.get("/v1/edge/fra").status_code == 405
    assert server.http.post("/v1/edge/fra", content=body).status_code == 200

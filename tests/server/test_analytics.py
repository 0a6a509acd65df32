"""Analytics: queries as Cloudflare's users send them, and what they give."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kvengine.server.auth.token_store import TokenStore
from tests.server.rest.test_values import path
from tests.server.running import ACCOUNT, Running

OPERATIONS = """
query KvOperations($accountTag: String!, $namespaceId: String, $start: Date, $end: Date) {
  viewer {
    accounts(filter: { accountTag: $accountTag }) {
      kvOperationsAdaptiveGroups(
        filter: { namespaceId: $namespaceId, date_geq: $start, date_leq: $end }
        limit: 10000
        orderBy: [date_DESC, sum_requests_DESC]
      ) {
        sum { requests }
        dimensions { date actionType }
        quantiles { latencyMsP50 latencyMsP99 }
      }
    }
  }
}
"""
STORAGE = """
query KvStorage($accountTag: String!) {
  viewer {
    accounts(filter: { accountTag: $accountTag }) {
      kvStorageAdaptiveGroups(limit: 100, orderBy: [max_keyCount_DESC]) {
        max { keyCount byteCount }
        dimensions { ...place }
      }
    }
  }
}
fragment place on StorageDimensions { date namespaceId }
"""


def ask(server: Running, query: str, headers: Any = None, **variables: Any) -> Any:
    answer = httpx.post(
        f"{server.base_url}/graphql",
        headers=headers or server.headers,
        json={"query": query, "variables": {"accountTag": ACCOUNT, **variables}},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def groups(found: Any, name: str) -> list[dict[str, Any]]:
    assert found["errors"] is None
    [account] = found["data"]["viewer"]["accounts"]
    rows: list[dict[str, Any]] = account[name]
    return rows


def use(server: Running) -> None:
    server.db.namespace("other").put("k", "v")
    for _ in range(2):
        server.http.put(path(server, "values/k"), content=b"v")
    for _ in range(3):
        server.http.get(path(server, "values/k"))
    server.http.get(path(server, "keys"))
    server.http.delete(path(server, "values/k"))
    server.http.put(path(server, "values/kept"), content=b"12345")


def test_operations(server: Running) -> None:
    use(server)
    here, today = server.namespace_id("here"), f"{datetime.now(UTC):%Y-%m-%d}"
    found = groups(ask(server, OPERATIONS, namespaceId=here), "kvOperationsAdaptiveGroups")
    counts = {row["dimensions"]["actionType"]: row["sum"]["requests"] for row in found}
    assert counts == {"read": 3, "write": 3, "delete": 1, "list": 1}
    assert [row["sum"]["requests"] for row in found] == [3, 3, 1, 1]
    assert {row["dimensions"]["date"] for row in found} == {today}
    for row in found:
        assert 0 < row["quantiles"]["latencyMsP50"] <= row["quantiles"]["latencyMsP99"]
    everywhere = groups(ask(server, OPERATIONS), "kvOperationsAdaptiveGroups")
    assert sum(row["sum"]["requests"] for row in everywhere) == 9
    later = groups(ask(server, OPERATIONS, start="2999-01-01"), "kvOperationsAdaptiveGroups")
    assert later == []


def test_storage(server: Running) -> None:
    use(server)
    rows = groups(ask(server, STORAGE), "kvStorageAdaptiveGroups")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    now = {row["dimensions"]["namespaceId"]: row["max"]
           for row in rows if row["dimensions"]["date"] == today}  # fmt: skip
    assert now == {
        server.namespace_id("here"): {"keyCount": 1, "byteCount": 9},
        server.namespace_id("other"): {"keyCount": 1, "byteCount": 2},
    }


def test_without_dimensions(server: Running) -> None:
    use(server)
    query = """{ viewer { accounts { kvOperationsAdaptiveGroups(filter: {actionType: "read"}) {
        sum { requests } } } } }"""
    [row] = groups(ask(server, query), "kvOperationsAdaptiveGroups")
    assert row == {"sum": {"requests": 3}}


def test_what_a_token_may_see(server: Running) -> None:
    use(server)
    secret, _ = TokenStore(server.db, ACCOUNT).create("other", namespaces=["other"])
    headers = {"authorization": f"Bearer {secret}"}
    rows = groups(ask(server, STORAGE, headers), "kvStorageAdaptiveGroups")
    assert {row["dimensions"]["namespaceId"] for row in rows} == {server.namespace_id("other")}
    url = f"{server.base_url}/graphql"
    assert httpx.post(url, json={"query": "{ viewer { __typename } }"}).status_code == 401


def test_another_account_is_empty(server: Running) -> None:
    found = ask(server, OPERATIONS, accountTag="b" * 32)
    assert found["data"]["viewer"]["accounts"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 400), (b"{}", 400), (b'{"query": 5}', 400), (b" " * 70_000, 413)],
)
def test_bodies_that_are_no_query(server: Running, body: bytes, status: int) -> None:
    answer = server.http.post("/client/v4/graphql", content=body)
    assert answer.status_code == status
    assert answer.json()["success"] is False


STORED = "{{ viewer {{ accounts {{ kvStorageAdaptiveGroups({}) {{ max {{ keyCount }} }} }} }} }}"


@pytest.mark.parametrize(
    "query",
    [
        "{", "{ nothing }", STORED.format('limit: "x"'), STORED.format("limit: -1"),
        STORED.format('filter: {date: "x"}'), STORED.format("orderBy: [x]"),
        STORED.format("orderBy: [x_ASC]"),
    ],
)  # fmt: skip
def test_queries_that_can_not_be(server: Running, query: str) -> None:
    server.db.namespace("here").put("k", "v")
    found = ask(server, query)
    assert found["errors"]
    assert found["errors"][0]["message"]

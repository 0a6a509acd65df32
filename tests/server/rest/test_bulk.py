"""Bulk calls: all or nothing, streamed, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.rest.test_values import error, path
from tests.server.running import Running, running


def put(server: Running, body: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.http.put(path(server, "bulk"), content=content)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, 10029)),
        (b"{}", (400, 10029)),
        (b"[", (400, 10029)),
        (b"[1]", (400, 10029)),
        (b"\xff", (400, 10029)),
        ([{"key": "a"}], (400, 10029)),
        ([{"value": "a"}], (400, 10029)),
        ([{"key": "a", "value": 1}], (400, 10029)),
        ([{"key": "a", "value": "*", "base64": True}], (400, 10029)),
        ([{"key": "a", "value": "b", "expiration_ttl": 5}], (400, 10034)),
        ([{"key": "a", "value": "b", "expiration": 5}], (400, 10033)),
        ([{"key": "", "value": "b"}], (400, 10042)),
        ([{"key": "..", "value": "b"}], (400, 10042)),
        ([{"key": "x" * 513, "value": "b"}], (414, 10030)),
        ([{"key": "a", "value": "b", "metadata": "x" * 1023}], (413, 10047)),
    ],
)
def test_what_is_refused_as_a_whole(server: Running, body: Any, expected: Any) -> None:
    good = {"key": "good", "value": "v"}
    if isinstance(body, list):
        body = [good, *body]
    assert error(put(server, body)) == expected
    assert server.db.namespace("here").count() == 0


def test_nothing_to_do(server: Running) -> None:
    none = {"successful_key_count": 0, "unsuccessful_keys": []}
    assert put(server, []).json()["result"] == none
    assert server.http.post(path(server, "bulk/delete"), json=[]).json()["result"] == none


@pytest.mark.parametrize(("method", "where"), [("POST", "bulk/delete"), ("DELETE", "bulk")])
def test_both_ways_to_delete(server: Running, method: str, where: str) -> None:
    kv = server.db.namespace("here")
    kv.put_many({f"k{n}": "v" for n in range(20)})
    keys: list[Any] = [f"k{n}" for n in range(10)]
    answer = server.http.request(method, path(server, where), json=[*keys, "nope", {"name": "k10"}])
    assert answer.json()["result"]["successful_key_count"] == 12
    assert kv.count() == 9
    assert answer.headers["kv-version"] == str(server.db.version)


def test_too_many(server: Running) -> None:
    pairs = [{"key": f"k{n}", "value": ""} for n in range(10_001)]
    assert error(put(server, pairs)) == (413, 10024)
    keys = [pair["key"] for pair in pairs]
    assert error(server.http.post(path(server, "bulk/delete"), json=keys)) == (413, 10024)
    assert server.db.namespace("here").count() == 0
    assert put(server, pairs[:10_000]).json()["result"]["successful_key_count"] == 10_000


def test_too_large(server: Running) -> None:
    value = b"x" * (1 << 20)

    def body(count: int) -> Iterator[bytes]:
        for number in range(count):
            yield b'%s{"key": "k%d", "value": "' % (b"," if number else b"[", number)
            yield value
            yield b'"}'
        yield b"]"

    answer = server.http.put(path(server, "bulk"), content=body(97))
    assert error(answer) == (413, 10024)
    assert server.db.namespace("here").count() == 0
    answer = server.http.put(path(server, "bulk"), content=body(60))
    assert answer.json()["result"]["successful_key_count"] == 60
    assert server.db.namespace("here").get("k59", "bytes") == value


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 10012),
        ([], 10012),
        ({"keys": "a"}, 10012),
        ({"keys": [1]}, 10042),
        ({"keys": []}, 10029),
        ({"keys": [f"k{n}" for n in range(101)]}, 10029),
        ({"keys": ["a"], "type": "stream"}, 10029),
        ({"keys": ["text"], "type": "json"}, 10029),
    ],
)
def test_bad_reads(server: Running, body: Any, expected: int) -> None:
    server.db.namespace("here").put("text", "no json")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert error(server.http.post(path(server, "bulk/get"), content=content)) == (400, expected)


def test_a_read_that_is_too_large(server: Running) -> None:
    kv = server.db.namespace("here")
    for name in "ab":
        kv.put(name, b"x" * (13 << 20))
    answer = server.http.post(path(server, "bulk/get"), json={"keys": ["a", "b"]})
    assert answer.status_code == 413
    error(answer)


def test_without_the_strict_limits() -> None:
    with running(limits="relaxed") as server:
        server.db.namespace("here").put("a", "1", expiration_ttl=5)
        keys = [f"k{n}" for n in range(101)]
        found = server.http.post(path(server, "bulk/get"), json={"keys": keys}).json()
        assert len(found["result"]["values"]) == 101
        assert server.http.get(path(server, "keys?limit=1")).json()["result"][0]["name"] == "a"

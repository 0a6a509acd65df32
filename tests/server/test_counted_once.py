"""A request is metered once, and taken from its token's rate once, whichever path answers it."""

from __future__ import annotations

import httpx
import pytest

import kvengine
from kvengine.errors import RateLimited
from kvengine.server.auth.token_store import TokenStore
from tests.server.buckets import allowance
from tests.server.running import ACCOUNT, TOKEN, Running, running


def path(server: Running, key: str) -> str:
    here = server.namespace_id("here")
    return f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{here}/values/{key}"


@pytest.mark.parametrize("key", ["absent", "small", "large"])
def test_reads_are_metered_once(server: Running, key: str) -> None:
    kv = server.db.namespace("here")
    kv.put_many({"small": "x" * 10, "large": "x" * 200_000})
    server.http.get(path(server, key))  # from now on the fast path knows the namespace
    before = kv._meter.reads, kv._meter.bytes_out
    for _ in range(5):
        server.http.get(path(server, key))
    size = {"absent": 0, "small": 10, "large": 200_000}[key]
    assert (kv._meter.reads, kv._meter.bytes_out) == (before[0] + 5, before[1] + 5 * size)


@pytest.mark.parametrize("key", ["absent", "small", "large"])
def test_the_rate_of_a_token_is_what_was_asked(server: Running, key: str) -> None:
    server.db.namespace("here").put_many({"small": "x", "large": "x" * 200_000})
    secret, _ = TokenStore(server.db, ACCOUNT).create("slow", rate=10)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {secret}"}) as http:
        found = [http.get(path(server, key)).status_code for _ in range(30)]
    # A bucket of ten, and what came in while they were answered; each counted twice gave five.
    assert found.count(429) <= 20
    assert found[:10].count(429) == 0


def test_an_absent_key_is_answered_alike_on_both_paths(server: Running) -> None:
    server.http.get(path(server, "absent"))
    hits = server.hot_reads("rest absent")
    request = (
        f"GET {path(server, 'absent')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    )
    fast = server.exchange(f"{request}\r\n".encode())
    assert server.hot_reads("rest absent") == hits + 1
    slow = server.exchange(f"{request}Range: bytes=0-\r\n\r\n".encode())
    assert server.hot_reads("rest absent") == hits + 1
    assert fast == slow


def test_give_back() -> None:
    bucket = allowance(2)
    assert [bucket.take(9), bucket.take(9), bucket.take(9)] == [True, True, False]
    bucket.give_back()
    assert [bucket.take(9), bucket.take(9)] == [True, False]
    for _ in range(5):
        bucket.give_back()
    assert [bucket.take(9) for _ in range(3)] == [True, True, False]


def test_one_write_a_second_holds_for_every_way_in() -> None:
    with running(key_write_interval_s=60.0) as server:
        kv = server.db.namespace("here")
        with kvengine.connect(server.url, token=TOKEN) as db:
            remote = db.namespace("here")
            remote.put("k", "1")
            for write in (
                lambda: remote.put("k", "2"),
                lambda: remote.touch("k", expiration_ttl=600),
                lambda: remote.increment("k"),
            ):
                with pytest.raises(RateLimited, match="once per second: try again in 1 s"):
                    write()
            assert server.http.put(path(server, "k"), content=b"3").status_code == 429
            assert kv.get("k") == "1"
            remote.put("other", "1")

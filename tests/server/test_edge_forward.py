"""What an edge forwards arrives as it came, and the answer too."""

import asyncio
import contextlib
import threading

import pytest

import kvengine.aio
from kvengine.server.api.edge_endpoints import open_edge, wrote_here
from kvengine.server.api.forward import Forwarder
from kvengine.server.serving import Server, make_backend
from kvengine.server.settings import ServerSettings
from kvengine.server.site import Site
from tests.server.places import until
from tests.server.running import ACCOUNT, TOKEN, Running


class Both:
    """A primary and an edge of it, in this process; `stop()` ends the primary."""

    def __init__(self):
        self.ready, self.leave = threading.Event(), None
        self.thread = threading.Thread(target=asyncio.run, args=(self.main(),), daemon=True)
        self.thread.start()
        assert self.ready.wait(30)

    async def main(self):
        self.loop, self.leave = asyncio.get_running_loop(), asyncio.Event()
        chosen = ServerSettings(
            data="", port=0, account=ACCOUNT, first_token=TOKEN, key_write_interval_s=0.0
        )
        async with kvengine.aio.Database.in_memory(limits="strict") as db:
            backend = make_backend(db, chosen, ACCOUNT)
            self.server = Server(Site(backend, chosen))
            await self.server.start()
            self.primary = Running(db._inner, self.server.port, backend)
            edge = await open_edge(self.primary.url, token=TOKEN, name="fra", retry_max_s=0.2)
            forwarder = Forwarder(self.primary.url, after_write=wrote_here(edge))
            async with edge, contextlib.aclosing(forwarder):
                near = make_backend(edge, chosen, ACCOUNT)
                server = Server(Site(near, chosen, forwarder))
                await server.start()
                self.near = Running(db._inner, server.port, near)
                self.edge = edge
                self.ready.set()
                await self.leave.wait()
                await server.stop()
            await self.server.stop()

    def stop(self):
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(30)

    def close(self):
        self.near.http.close()
        self.primary.http.close()
        self.loop.call_soon_threadsafe(self.leave.set)
        self.thread.join(30)


@pytest.fixture
def both():
    found = Both()
    yield found
    found.close()


HEAD = f"authorization: Bearer {TOKEN}\r\nhost: x\r\nconnection: close\r\n"


@pytest.mark.parametrize(
    "line",
    [
        "GET /client/v4/accounts/{A}/storage/kv/namespaces HTTP/1.1",
        "GET /client/v4/accounts/{A}/storage/kv/namespaces/{N}/keys?prefix=%C3%A4 HTTP/1.1",
        "GET /client/v4/accounts/{A}/storage/kv/namespaces/{N}/metadata/a%2Fb HTTP/1.1",
        "GET /client/v4/accounts/{A}/storage/kv/namespaces/{N}/metadata/%zz%2 HTTP/1.1",
        "GET /client/v4/accounts/{A}/storage/kv/namespaces/{N}/../x HTTP/1.1",
        "GET /client/v4/nothing HTTP/1.1",
        "GET /workerd/{A}/{N}/?prefix=a HTTP/1.1",
        "PATCH /workerd/{A}/{N}/a HTTP/1.1",
        "PUT /workerd/{A}/{N}/a?expiration_ttl=1 HTTP/1.1",
        "DELETE /workerd/{A}/{N}/a%2Fb?urlencoded=true HTTP/1.1",
        "GET /v1/nothing HTTP/1.1",
        "OPTIONS /whatever?x=1 HTTP/1.1",
        "HEAD /whatever HTTP/1.1",
    ],
)
def test_an_answer_is_that_of_the_primary(both, line):
    namespace = both.primary.db.namespace("n")
    namespace.put("a/b", "value", metadata={"m": 1})
    text = line.replace("{A}", ACCOUNT).replace("{N}", namespace.id)
    request = f"{text}\r\n{HEAD}content-length: 0\r\n\r\n".encode()
    far, near = both.primary.raw(request), both.near.raw(request)

    def shown(answer):
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *headers = head.split(b"\r\n")
        drop = (b"date", b"kv-version", b"connection", b"transfer-encoding")
        kept = [line for line in headers if not line.lower().startswith(drop)]
        return first, sorted(kept), body

    assert shown(near) == shown(far)
    assert near.startswith(b"HTTP/1.1 ")


def test_who_writes_here_reads_it_here(both):
    http = both.near.http
    namespace = both.primary.db.namespace("own").id
    for start, end in (
        (f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{namespace}/values/", ""),
        (f"/workerd/{ACCOUNT}/{namespace}/", "?urlencoded=true"),
    ):
        for number in range(20):
            url = f"{start}k%2F%C3%A4{end}"
            assert http.put(url, content=str(number)).status_code == 200
            assert http.get(url).text == str(number)
        assert http.delete(url).status_code == 200
        assert http.get(url).status_code == 404


def test_a_large_value_goes_through(both):
    namespace = both.primary.db.namespace("large")
    value = bytes(range(256)) * (25 << 12)
    url = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{namespace.id}/values/large"
    assert both.near.http.put(url, content=value).status_code == 200
    assert both.near.http.get(url).content == value == namespace.get("large", "bytes")
    answer = both.near.http.put(url, content=value + b"x")
    assert answer.status_code == 413
    assert both.near.http.get(url).content == value


def test_without_the_primary_each_surface_says_so(both):
    namespace = both.primary.db.namespace("n").id
    rest = f"/client/v4/accounts/{ACCOUNT}/storage/kv/namespaces/{namespace}/values/a"
    workerd = f"/workerd/{ACCOUNT}/{namespace}/a?urlencoded=true"
    both.near.http.put(rest, content="held")
    assert both.near.http.get(rest).text == "held"
    both.stop()
    until(lambda: both.edge._inner.stats().error is not None, "the end is not noticed")
    assert both.near.http.get(rest).text == both.near.http.get(workerd).text == "held"
    answer = both.near.http.put(rest, content="x")
    assert (answer.status_code, answer.json()["success"]) == (503, False)
    assert answer.json()["errors"][0]["code"] == 10001
    answer = both.near.http.put(workerd, content="x")
    assert (answer.status_code, answer.reason_phrase) == (503, "can't reach the primary")
    answer = both.near.http.post("/v1/version", content=b"")
    assert answer.json()["error"]["name"] == "UpstreamUnavailable"

"""A server whose answers have another shape, such as one of another version: one error says so."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import kvengine
import kvengine.aio
from kvengine import RELAXED, InvalidRequest, UpstreamUnavailable
from kvengine.client.packing import pack

ANSWERS = [None, True, 1, "x", b"x", [], [1], [None] * 5, [[1], 2, 3, 4], {}, {"a": 1}]
CALLS = {
    "put": lambda kv: kv.put("k", "v"),
    "add": lambda kv: kv.add("k", "v"),
    "increment": lambda kv: kv.increment("k"),
    "put_many": lambda kv: kv.put_many({"k": "v"}),
    "delete_prefix": lambda kv: kv.delete_prefix("k"),
    "get a stream": lambda kv: kv.get("k", "stream"),
    "get_with_metadata": lambda kv: kv.get_with_metadata("k"),
    "get_metadata": lambda kv: kv.get_metadata("k"),
    "ttl": lambda kv: kv.ttl("k"),
    "list": lambda kv: kv.list(),
    "count": lambda kv: kv.count(),
    "size": lambda kv: kv.size(),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body at once: nobody waits for an acknowledgment
    answer = None

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        known = {
            "/v1/version": {"limits": RELAXED, "version": 5, "account": "a"},
            "/v1/db/namespace": ["a" * 32, 1],
        }
        if self.path.endswith("/history"):
            item = pack(self.answer)
            body = len(item).to_bytes(4, "little") + item + b"\x01\0\0\0\x90"
        else:
            body = pack(known.get(self.path, self.answer))
        self.send_response(200)
        self.send_header("kv-store", "one")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def refused(call):
    """Make a call; return whether the answer was refused.  Some have the shape of a right one."""
    try:
        call()
    except UpstreamUnavailable as error:
        assert "from the server" in str(error) or "interrupted" in str(error), error
        return True
    return False


@pytest.mark.parametrize("name", CALLS)
def test_a_call(url, monkeypatch, name):
    with kvengine.connect(url) as db:
        kv, count = db.namespace("n"), 0
        for answer in ANSWERS:
            monkeypatch.setattr(Handler, "answer", answer)
            count += refused(lambda: CALLS[name](kv))
    assert count >= len(ANSWERS) // 3


@pytest.mark.parametrize("name", CALLS)
def test_an_awaited_call(url, monkeypatch, name):
    async def main():
        async with kvengine.aio.connect(url) as db:
            await call(await db.namespace("n"))

    async def call(kv):
        await CALLS[name](kv)

    count = 0
    for answer in ANSWERS:
        monkeypatch.setattr(Handler, "answer", answer)
        count += refused(lambda: asyncio.run(main()))
    assert count >= len(ANSWERS) // 3


@pytest.mark.parametrize("answer", [1, True, "x", [1], [[1, 2]], [{}]])
def test_a_stream(url, monkeypatch, answer):
    async def main():
        async with kvengine.aio.connect(url) as db:
            kv = await db.namespace("n")
            return [change async for change in kv.history("k")]

    monkeypatch.setattr(Handler, "answer", answer)
    with kvengine.connect(url) as db:
        assert refused(lambda: list(db.namespace("n").history("k")))
    assert refused(lambda: asyncio.run(main()))


@pytest.mark.parametrize("expected", [InvalidRequest, LookupError])
def test_what_progress_raises_is_not_taken_for_it(url, monkeypatch, expected):
    def progress(*_):
        raise expected

    monkeypatch.setattr(Handler, "answer", {"successful_key_count": 1})
    with kvengine.connect(url) as db, pytest.raises(expected):
        db.namespace("n").put_many({"k": "v"}, progress=progress)

"""An edge of a server, and what it does when the server is not what it should be."""

import asyncio
import contextlib
import socket
import threading

import pytest

import kvengine
import kvengine.aio
from tests.server.places import until
from tests.server.running import TOKEN, running

FAST = {
    "poll_timeout_s": 0.2,
    "grace_s": 0.3,
    "timeout_s": 2.0,
    "retry_s": 0.02,
    "retry_max_s": 0.2,
}


def test_an_edge_reads_writes_and_hears(server):
    own = server.db.namespace("edge")
    own.put("a", "1", metadata={"m": 1})
    with kvengine.Edge(server.url, "fra", token=TOKEN, **FAST) as edge:
        namespace = edge.namespace("edge")
        assert namespace.read("a").cache_status == "MISS"
        assert namespace.read("a").cache_status == "HIT"
        assert namespace.get_with_metadata("a").metadata == {"m": 1}
        own.put("a", "2")
        until(lambda: namespace.get("a") == "2", "the change is not heard of")
        version = namespace.put("a", "3")
        assert namespace.get("a", min_version=version) == "3" == own.get("a")
        assert namespace.increment("n") == 1
        assert namespace.get("n") == "1"
        assert namespace.put_many({"x": "y"}).ok
        assert namespace.get("x") == "y"
        assert [key.name for key in namespace.keys("")] == ["a", "n", "x"]
        assert namespace.get_many(["a", "zz"]) == {"a": "3", "zz": None}
        stats = edge.stats()
        assert (stats.connected, stats.error, stats.name) == (True, None, "fra")
        server.db.delete("edge")

        def is_gone():
            try:
                namespace.get("a")
            except kvengine.NamespaceNotFound:
                return True
            return False

        until(is_gone, "a deleted namespace is still read")


def test_async(server):
    async def main():
        async with kvengine.aio.Edge(server.url, token=TOKEN, **FAST) as edge:
            namespace = await edge.namespace("async")
            version = await namespace.put("a", "1")
            assert await namespace.get("a") == "1"
            assert await namespace.get("a", min_version=version) == "1"
            assert (await namespace.list()).keys[0].name == "a"
            assert await edge.namespace_by_id(namespace.id) is namespace
        async with kvengine.aio.connect(server.url, token=TOKEN) as db:
            far = await db.namespace("async")
            first = await db.version()
            await far.put("w", b"\xff")
            assert await (await far.get("w", "stream")).read() == b"\xff"
            async for change in far.watch(after=first):
                assert (change.name, change.value) == ("w", b"\xff")
                break
            assert [key.name async for key in far.keys("")] == ["a", "w"]
            assert await far.get_or_set("m", lambda: "made") == "made"
            assert [c.name async for c in db.tail(first)] == ["w", "m"]

    asyncio.run(main())


def test_a_wrong_token_is_said(server):
    with pytest.raises(kvengine.AccessDenied, match="refuses the token"):
        kvengine.Edge(server.url, token="wrong", **FAST)
    with (
        kvengine.connect(server.url) as db,
        pytest.raises(kvengine.AccessDenied, match="needs a token: give token=, or set KVENGINE"),
    ):
        db.namespaces()
    with (
        kvengine.connect(server.url + "/path", token=TOKEN) as db,
        pytest.raises(kvengine.UpstreamUnavailable, match=r"404, .*; check the URL"),
    ):
        db.namespaces()
    for url in ("no url", "127.0.0.1:8787", "redis://127.0.0.1"):
        with pytest.raises(kvengine.InvalidRequest, match=f"such as http://.*, not '{url}'"):
            kvengine.Edge(url)
    with pytest.raises(kvengine.InvalidRequest, match="password") as caught:
        kvengine.connect("http://ada:secret@127.0.0.1:8787")
    assert "secret" not in str(caught.value)
    with (
        kvengine.connect(server.url, token=TOKEN, account="another") as db,
        pytest.raises(kvengine.AccessDenied, match="account"),
    ):
        db.namespaces()


def test_the_server_stops_and_another_one_takes_its_place():
    with contextlib.ExitStack() as stack:
        with running() as first:
            first.db.namespace("a").put("k", "v")
            edge = stack.enter_context(kvengine.Edge(first.url, token=TOKEN, **FAST))
            namespace = edge.namespace("a")
            assert namespace.get("k") == "v"
            port = first.port
        until(lambda: edge.stats().error is not None, "the end is not noticed")
        assert namespace.get("k") == "v"  # within the bound
        with pytest.raises(kvengine.UpstreamUnavailable):
            namespace.get("other")
        with pytest.raises(kvengine.UpstreamUnavailable):
            namespace.put("k", "w")
        with running(port=port) as second:
            second.db.namespace("a").put("k", "of another store")
            until(lambda: "store" in (edge.stats().error or ""), "another store is not noticed")
            assert not edge.stats().connected
            until(lambda: "connect again" in why_not(namespace), "readers are not told so")


def why_not(namespace):
    """Return why a key that is not held can't be read."""
    with pytest.raises(kvengine.UpstreamUnavailable) as caught:
        namespace.get("other")
    return str(caught.value)


ANSWERS = {
    "nothing": b"",
    "no http": b"garbage garbage\r\n\r\n",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a page with our header": b"HTTP/1.1 200 OK\r\nkv-store: aa\r\nContent-Length: 5\r\n\r\nhello",
    "an error of its own": b'HTTP/1.1 500 No\r\nContent-Length: 13\r\n\r\n{"error": 77}',
    "an error that is none": b"HTTP/1.1 400 No\r\nContent-Length: 51\r\n\r\n"
    b'{"error":{"name":"again","args":[1],"fields":null}}',
    "elsewhere": b"HTTP/1.1 302 Found\r\nEdge: /\r\nContent-Length: 0\r\n\r\n",
    "half": b"HTTP/1.1 200 OK\r\nkv-store: aa\r\nContent-Length: 500\r\n\r\nhello",
}


@contextlib.contextmanager
def answering(answer):
    """A server that gives the same answer to everything; None: none at all."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                taken.append(connection)
                if answer is not None:
                    connection.recv(1 << 16)
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for one in taken:
            one.close()


@pytest.mark.parametrize("name", ANSWERS)
def test_garbage_is_unavailable(name):
    with answering(ANSWERS[name]) as url, kvengine.connect(url, token=TOKEN) as db:
        for call in (
            db.namespaces,
            lambda: db.version,
            lambda: list(db.tail()),
            lambda: db.log_source().version,
            lambda: kvengine.Edge(url, token=TOKEN, **FAST),
        ):
            with pytest.raises(kvengine.UpstreamUnavailable):
                call()


def test_silence_is_unavailable():
    with answering(None) as url:
        silent = kvengine.connect(url, token=TOKEN, timeout=0.2)
        with silent, pytest.raises(kvengine.UpstreamUnavailable):
            silent.namespaces()
    with pytest.raises(kvengine.UpstreamUnavailable), kvengine.connect(url, token=TOKEN) as db:
        db.namespaces()  # nobody listens there any more

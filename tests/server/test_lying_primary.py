"""A primary that answers nonsense: each answer is an error that says so, never a 500."""

from __future__ import annotations

import asyncio
import json

import pytest

from kvengine.client.endpoint import version_said
from kvengine.database.catalog_rows import is_living_record
from kvengine.errors import CorruptData
from kvengine.server.api.forward import Forwarder
from kvengine.server.http.messages import Request


async def forwarded(answer: bytes) -> tuple[int, bytes]:
    """Forward a request to a primary that answers with these bytes; return what comes out."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    primary = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = primary.sockets[0].getsockname()[1]
    scope = {
        "method": "POST", "raw_path": b"/v1/db/sync", "path": "/v1/db/sync", "query_string": b"",
        "headers": [], "type": "http",
    }  # fmt: skip
    wrote: list[int | None] = []

    async def after_write(_request: Request, version: int | None) -> None:
        wrote.append(version)

    endpoint = Forwarder(f"http://127.0.0.1:{port}", after_write=after_write)
    try:
        response = await endpoint(Request(scope, receive))
        body = response.body
        data = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        return response.status, data
    finally:
        await endpoint.aclose()
        primary.close()


@pytest.mark.parametrize("status", [b"999 Odd", b"299 Odd", b"600 Odd"])
def test_a_status_that_http_does_not_have(status: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\nok"
    code, body = asyncio.run(forwarded(answer))
    assert code == 503
    assert "status" in str(json.loads(body))


def test_a_version_of_thousands_of_digits() -> None:
    for digits in (b"9" * 5000, b"-1", b"x", "٣".encode()):
        answer = b"HTTP/1.1 200 OK\r\nkv-version: " + digits + b"\r\ncontent-length: 2\r\n\r\nok"
        assert asyncio.run(forwarded(answer)) == (200, b"ok")
    assert version_said("9" * 5000) is version_said("") is version_said("-1") is None
    assert version_said("281474976710655") == (1 << 48) - 1


@pytest.mark.parametrize("record", [b"", b"no JSON", b"[]", b"5", b"{}", b"\xff", b"[" * 100_000])
def test_the_record_of_a_namespace_that_is_none(record: bytes) -> None:
    with pytest.raises(CorruptData, match="a namespace's record"):
        is_living_record(record)
    assert not is_living_record(None)
    assert is_living_record(b'{"state": "live"}') != is_living_record(b'{"state": "deleting"}')

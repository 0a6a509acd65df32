"""Forward requests from an edge to its primary.

Invariants:

* A request is forwarded unchanged: its raw path, headers, token and body.  So is the answer, with
  its reason.
* A slow client does not hold a connection to the primary: small bodies and answers are buffered
  whole, large ones and streams have separate connections, and each token a share of these.
* A connection is released when its client disconnects, even if the answer never began; streams end
  when this server stops.
* The answer to a write is sent after `after_write` has returned, so that stale copies are invalid
  by then.  A write whose answer was lost may have been done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import httpx

from kvengine.client.endpoint import VERSION_HEADER, version_said
from kvengine.errors import KvError, UpstreamUnavailable
from kvengine.server.api import calls
from kvengine.server.api.admitted import unavailable
from kvengine.server.api.rest.endpoint import GRAPHQL
from kvengine.server.http.admission import DOWNLOADS, MEMORY, UPLOADS, stream_kind
from kvengine.server.http.body.streaming import until
from kvengine.server.http.messages import ClientLeft, Request, Response

# Hop-by-hop headers (RFC 9110, 7.6.1); host and origin name this server.
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
     b"upgrade", b"expect", b"host", b"origin")
)  # fmt: skip
CONNECTIONS_MAX, KEPT_MAX = 200, 50
OTHERS_MAX = 4000  # for streams and large bodies; the limit of Admission is lower
WHOLE_BYTES = 1 << 20  # bodies and answers up to this size are buffered whole
CONNECT_S, SILENCE_S = 5.0, 60.0
NOTHING_CHANGED = range(400, 500)
SAFE = ("GET", "HEAD", "OPTIONS")
logger = logging.getLogger("kvengine.server")

# Called after each write with the request and its version, or None if that is not known.
AfterWrite = Callable[[Request, int | None], Awaitable[None]]

KNOWN_STATUSES = frozenset(HTTPStatus)


class Forwarder:
    """An endpoint to another server.

    Args:
        url: of the other server.
        verify: True, or an ssl.SSLContext with the trusted CAs.
        after_write: awaited after a write, before its client gets the answer.

    Thread-safety: for one event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        verify: Any = True,
        after_write: AfterWrite | None = None,
    ) -> None:
        self._url, self._after_write = httpx.URL(url), after_write
        self._base = self._url.raw_path.partition(b"?")[0].rstrip(b"/")

        def transport(connections: int, kept: int) -> httpx.AsyncHTTPTransport:
            limits = httpx.Limits(max_connections=connections, max_keepalive_connections=kept)
            return httpx.AsyncHTTPTransport(verify=verify, limits=limits, trust_env=False)

        self._transport = transport(CONNECTIONS_MAX, KEPT_MAX)
        self._others = transport(OTHERS_MAX, 0)

    async def __call__(self, request: Request) -> Response:
        """Answer a request with the answer of the other server."""
        writes = self._after_write is not None and is_write(request)
        kind = stream_kind(request.raw_parts)
        body, is_large = await first_of(request)
        if is_large:
            request.take(UPLOADS)
        transport = self._transport if kind is None and not is_large else self._others
        try:
            answer = await transport.handle_async_request(self._request(request, body))
        except (ClientLeft, asyncio.CancelledError):
            if writes:
                await self._wrote(request, None)
            raise
        except (httpx.HTTPError, OSError) as error:
            logger.info("can't forward a request to the primary: %s", type(error).__name__)
            if writes and not isinstance(error, httpx.ConnectError):
                await self._wrote(request, None)
            return unavailable(request, "can't reach the primary")
        try:
            if writes and (answer.status_code not in NOTHING_CHANGED or _lost(request, answer)):
                await self._wrote(request, _version(answer))
            content = await self._answered(request, answer, kind)
        except BaseException:
            await answer.aclose()
            raise
        if answer.status_code not in KNOWN_STATUSES:
            await answer.aclose()
            return unavailable(request, "the primary responded with an invalid HTTP status")
        return Response(
            answer.status_code,
            content,
            [(name.lower(), value) for name, value in answer.headers.raw
             if name.lower() not in HOP_BY_HOP],
            answer.extensions.get("reason_phrase", b"").decode("latin-1"),
            answer.aclose,
        )  # fmt: skip

    async def _answered(
        self, request: Request, answer: httpx.Response, kind: str | None
    ) -> bytes | AsyncIterator[bytes]:
        """Return the body of an answer: whole if it is small."""
        pieces = answer.aiter_raw()
        if kind is not None:
            return passed_on(b"", pieces, request, request.stopping)
        found = bytearray()
        try:
            async for piece in pieces:
                found += piece
                if len(found) > WHOLE_BYTES:
                    request.take(DOWNLOADS)
                    return passed_on(bytes(found), pieces, request, None)
        except httpx.HTTPError as error:
            raise UpstreamUnavailable(
                "the connection to the primary closed before its response was complete"
            ) from error
        await answer.aclose()
        return bytes(found)

    def _request(
        self, request: Request, body: bytes | AsyncIterator[bytes] | None = None
    ) -> httpx.Request:
        headers = [pair for pair in request.headers if pair[0] not in HOP_BY_HOP]
        target = self._base + request.raw_path
        if request.raw_query:
            target += b"?" + request.raw_query
        timeout = {
            "connect": CONNECT_S, "read": SILENCE_S, "write": SILENCE_S, "pool": CONNECT_S
        }  # fmt: skip
        return httpx.Request(
            request.method,
            self._url,
            headers=headers,
            content=body,
            extensions={"target": target, "timeout": timeout},
        )

    async def _wrote(self, request: Request, version: int | None) -> None:
        if self._after_write is None:
            return
        try:
            await self._after_write(request, version)
        except KvError as error:
            logger.warning("cached copies may be older than a write just forwarded: %s", error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()
        await self._others.aclose()


def _lost(request: Request, answer: httpx.Response) -> bool:
    """True if a write failed because of a newer version, so that the copies here are stale.

    Not for POST: clients that write with it read from the primary, too.
    """
    return answer.status_code == HTTPStatus.PRECONDITION_FAILED and request.method != "POST"


def _version(answer: httpx.Response) -> int | None:
    return version_said(answer.headers.get(VERSION_HEADER, ""))


async def first_of(request: Request) -> tuple[bytes | AsyncIterator[bytes] | None, bool]:
    """Return the body of a request, and whether it is large; a small body is whole.

    Raises:
        Refused: bodies use too much memory already.
        ClientLeft: the client did not send all of it.
    """
    if not any(name in (b"content-length", b"transfer-encoding") for name, _ in request.headers):
        return None, False
    length = request.content_length
    chunks, found = request.chunks(), bytearray()
    request.take(MEMORY, WHOLE_BYTES if length is None else min(length, WHOLE_BYTES))
    async for chunk in chunks:
        found += chunk
        if len(found) > WHOLE_BYTES:
            return _joined(bytes(found), chunks), True
    return bytes(found), False


async def _joined(start: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield start
    async for chunk in rest:
        yield chunk


async def passed_on(
    start: bytes, pieces: AsyncIterator[bytes], request: Request, stopping: asyncio.Event | None
) -> AsyncGenerator[bytes, None]:
    """Yield an answer as it arrives, until the client disconnects or this server stops.

    Args:
        start: the first bytes.
        pieces: the rest.
        request: that is answered.
        stopping: for a stream: set when the server stops; None: not a stream.
    """
    if start:
        yield start
    ends = request.left() if stopping is None else until(request, stopping)
    gone = asyncio.ensure_future(ends)
    try:
        while True:
            coming = asyncio.ensure_future(_next(pieces))
            await asyncio.wait([coming, gone], return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                with suppress(asyncio.CancelledError, httpx.HTTPError):
                    await coming
                return
            piece = coming.result()
            if piece is None:
                return
            yield piece
    finally:
        gone.cancel()


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


def is_write(request: Request) -> bool:
    """Return whether a request may change a key, a namespace or a token.

    An unknown route counts as a write until it is listed here.
    """
    return request.method not in SAFE and not (request.method == "POST" and _only_asks(request))


def _only_asks(request: Request) -> bool:
    """Return whether a POST changes nothing."""
    parts = request.raw_parts
    if parts == GRAPHQL or parts[-2:] == [b"bulk", b"get"]:
        return True
    match parts:
        case [b"v1", b"fetch" | b"version"] | [b"v1", b"edge", _]:
            return True
        case [b"v1", b"ns", _, name]:
            call = (calls.NAMESPACE_CALLS | calls.NAMESPACE_STREAMS).get(name.decode("latin-1"))
            return call is not None and not call.write
        case [b"v1", b"db", name] if name != b"namespace":  # which creates a missing namespace
            call = (calls.DATABASE_CALLS | calls.DATABASE_STREAMS).get(name.decode("latin-1"))
            return call is not None and not call.write
    return False

"""Requests that another server answers: the center of a location, or the writer of a reader.

Invariants:

* A request goes on as it came: its raw path, its headers, its token, its body as a stream; and so
  does the answer, with its reason.
* Who wrote is answered after `after_write` was told, so that what is held here is out of date by
  then.  A write whose answer was lost may have been done.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx

from kvengine.client.failures import encode_error
from kvengine.errors import KvError, UpstreamUnavailable
from kvengine.server.calls import DATABASE_CALLS, NAMESPACE_CALLS
from kvengine.server.messages import ClientLeft, Request, Response
from kvengine.server.rest.envelope import UNAVAILABLE, ApiError, failure
from kvengine.server.workerd import refusal

# Of one connection, not of the request (RFC 9110, 7.6.1); host and origin are about this server.
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
     b"upgrade", b"expect", b"host", b"origin")
)  # fmt: skip
CONNECTIONS_MAX, KEPT_MAX = 200, 50
CONNECT_S, SILENCE_S = 5.0, 60.0
VERSION_HEADER = b"kv-version"
NOTHING_CHANGED = range(400, 500)
logger = logging.getLogger("kvengine.server")

# Told of each write: the request, and the version that it got, or None if that is not known.
AfterWrite = Callable[[Request, int | None], Awaitable[None]]


class Forwarder:
    """A door to another server.

    Args:
        url: where it is; with `uds` only the host that it is told.
        uds: the path of its Unix socket.
        verify: True, or an ssl.SSLContext that says which servers to trust.
        keep_alive: use a connection again.  Who restarts closes those that are idle, and a request
            may be on its way then; a reader's writer does.
        after_write: awaited when a write was answered, before its client is.

    Thread-safety: for one event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        uds: str | None = None,
        verify: Any = True,
        keep_alive: bool = True,
        after_write: AfterWrite | None = None,
    ) -> None:
        self._url, self._after_write = httpx.URL(url), after_write
        self._base = self._url.raw_path.partition(b"?")[0].rstrip(b"/")
        kept = KEPT_MAX if keep_alive else 0
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=kept)
        self._transport = httpx.AsyncHTTPTransport(
            uds=uds, verify=verify, limits=limits, trust_env=False
        )

    async def __call__(self, request: Request) -> Response:
        """Answer a request with what the other server answers."""
        writes = self._after_write is not None and is_write(request)
        try:
            answer = await self._transport.handle_async_request(self._request(request))
        except ClientLeft:
            if writes:
                await self._wrote(request, None)
            raise
        except (httpx.HTTPError, OSError) as error:
            logger.info("a request could not be forwarded: %s", type(error).__name__)
            if writes and not isinstance(error, httpx.ConnectError):
                await self._wrote(request, None)
            return unavailable(request, "the center can't be reached")
        if writes and answer.status_code not in NOTHING_CHANGED:
            try:
                await self._wrote(request, _version(answer))
            except BaseException:
                await answer.aclose()
                raise
        return Response(
            answer.status_code,
            _body(answer),
            [(name.lower(), value) for name, value in answer.headers.raw
             if name.lower() not in HOP_BY_HOP],
            answer.extensions.get("reason_phrase", b"").decode("latin-1"),
        )  # fmt: skip

    def _request(self, request: Request) -> httpx.Request:
        headers = [pair for pair in request.headers if pair[0] not in HOP_BY_HOP]
        has_body = any(name in (b"content-length", b"transfer-encoding")
                       for name, _ in request.headers)  # fmt: skip
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
            content=request.chunks() if has_body else None,
            extensions={"target": target, "timeout": timeout},
        )

    async def _wrote(self, request: Request, version: int | None) -> None:
        if self._after_write is None:
            return
        try:
            await self._after_write(request, version)
        except KvError as error:
            logger.warning("copies here may be older than a write just made: %s", error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def _version(answer: httpx.Response) -> int | None:
    text = answer.headers.get("kv-version", "")
    return int(text) if text.isascii() and text.isdigit() else None


async def _body(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()


def is_write(request: Request) -> bool:
    """Return whether a request may change a key, a namespace or a token."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return False
    if request.method != "POST":
        return True
    parts = request.raw_parts
    if parts[-2:] == [b"bulk", b"get"]:
        return False
    if parts[0] != b"v1" or len(parts) < 3:
        return parts[0] != b"v1" or parts[1:] == [b"tokens"]
    calls = NAMESPACE_CALLS if parts[1] == b"ns" else DATABASE_CALLS
    call = calls.get(parts[-1].decode("ascii", "replace"))
    # A namespace is made by asking for it.
    return call is not None and (call.write or parts[1:] == [b"db", b"namespace"])


def unavailable(request: Request, why: str) -> Response:
    """Return the answer that says that nobody answers, as clients of that surface read it."""
    if request.surface == "workerd":
        return refusal(503, why)
    if request.surface == "client":
        return failure(ApiError(503, UNAVAILABLE, why))
    return Response.json(encode_error(UpstreamUnavailable(why)), 503)

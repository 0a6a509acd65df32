"""Requests and responses as the endpoints use them, over ASGI.

Invariants:

* The path is split before it is decoded, and each part is decoded once, so "%2F" in a key is not a
  slash.
* The resources of a request are bounded before they are used: parts of the path, fields of the
  query, and, with Share.take(), bytes of the body.
* A body is read once, as a stream.  The rest that an endpoint does not read is read and dropped
  before the answer, because workerd reads the answer only after it has sent the whole body.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from kvengine.errors import InvalidRequest, LimitExceeded
from kvengine.server.http.admission import MEMORY, Share

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
CONTENT_LENGTH = b"content-length"
LENGTH = "kvengine.length"  # in the scope: length of the body; -1: chunked
ENDED = "kvengine.ended"  # in the scope: an event that Protocol sets when the client sends no more
DRAIN_BYTES_MAX = 256 << 20  # more than any body that is accepted
DRAIN_S = 60.0  # for reading a body that is dropped
REVOKED_S = 1.0  # between two checks of the token of a stream
PARTS_MAX = 16  # of a path; more than any endpoint has
FIELDS_MAX = 100  # of a query
PIECE_BYTES = 1 << 18  # of a large answer; smaller answers are not counted


class Request:
    """A request.

    Args:
        scope, receive: of ASGI.
    """

    def __init__(self, scope: dict[str, Any], receive: Receive) -> None:
        self._scope, self._receive = scope, receive
        self.method: str = scope["method"]
        self.raw_path: bytes = scope["raw_path"]
        self._length: int | None = scope.get(LENGTH)
        self._is_read = self._length == 0
        self._has_begun = False
        self.is_endless = False  # the body is too long or may not come: close the connection
        self.share: Share | None = None  # its resources; None: not admitted yet
        self.is_revoked: Callable[[], bool] = lambda: False  # whether its token is revoked
        self.stopping: asyncio.Event | None = None  # set when the server stops
        self._query: dict[str, str] | None = None
        self.surface = ""  # name of the endpoint, for logs and metrics
        self.action = "other"  # read, write, delete, list, ...; the endpoint sets it
        self.namespace_id: str | None = None

    @property
    def raw_parts(self) -> list[bytes]:
        """The parts of the raw path, at most PARTS_MAX + 1; the last holds the rest."""
        return self.raw_path.split(b"/", PARTS_MAX + 1)[1:]

    @property
    def path(self) -> str:
        """The path, decoded; for endpoints whose paths hold no keys."""
        return str(self._scope["path"])

    @property
    def raw_query(self) -> bytes:
        """The raw query string."""
        return bytes(self._scope["query_string"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All headers, with lowercase names."""
        return [(bytes(name), bytes(value)) for name, value in self._scope["headers"]]

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; the last value of a name counts.

        Raises:
            InvalidRequest: there are more than FIELDS_MAX.
        """
        if self._query is None:
            text = self._scope["query_string"].decode("ascii", "replace")
            try:
                pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX)
            except ValueError:
                raise InvalidRequest(f"a query can have at most {FIELDS_MAX} fields") from None
            self._query = dict(pairs)
        return self._query

    def header(self, name: bytes) -> bytes | None:
        """Return the raw value of a header by its lowercase name."""
        for key, value in self._scope["headers"]:
            if key == name:
                return bytes(value)
        return None

    @property
    def content_length(self) -> int | None:
        """The length of the body in bytes; None: not known."""
        if self._length is not None:
            return None if self._length < 0 else self._length
        text = self.header(CONTENT_LENGTH)
        return int(text) if text is not None and text.isdigit() else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            ClientLeft: the client did not send all of it.
            LimitExceeded: the body is too long; the connection must close.
        """
        self._has_begun, size = True, 0
        if (self.content_length or 0) > DRAIN_BYTES_MAX:
            self._is_read = self.is_endless = True
            raise LimitExceeded(f"a body can have at most {DRAIN_BYTES_MAX} bytes", 413)
        while not self._is_read:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._is_read = True
                raise ClientLeft
            self._is_read = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > DRAIN_BYTES_MAX:
                self._is_read = self.is_endless = True
                raise LimitExceeded(f"a body can have at most {DRAIN_BYTES_MAX} bytes", 413)
            if message.get("body"):
                yield message["body"]

    async def body(self, most: int, refusal: str) -> bytes:
        """Return the whole body; if it is larger than `most`, read it to its end and raise.

        Args:
            most: maximum size in bytes.
            refusal: text of the error; "{size}" in it is replaced with the size of the body.

        Raises:
            LimitExceeded: the body is larger.
            Refused: too many bytes of bodies are in memory.
            ClientLeft: the client did not send all of it.
        """
        found, size, expected = bytearray(), 0, self.content_length
        if expected is not None:
            self.take(MEMORY, min(expected, most))
        async for chunk in self.chunks():
            size += len(chunk)
            if size <= most:
                if expected is None:
                    self.take(MEMORY, len(chunk))
                found += chunk
            elif found:
                found.clear()
        if size > most:
            raise LimitExceeded(refusal.format(size=size), 413)
        return bytes(found)

    def take(self, what: str, count: int = 1) -> None:
        """Take some of a resource of the server, until the request ends.

        Raises:
            Refused: none is left.
        """
        if self.share is not None:
            self.share.take(what, count)

    def return_some(self, what: str, count: int) -> None:
        """Return some of a resource before the request ends."""
        if self.share is not None:
            self.share.return_some(what, count)

    def semaphore(self) -> AbstractAsyncContextManager[Any]:
        """Return a lock that one long operation of the token at a time holds."""
        return nullcontext() if self.share is None else self.share.semaphore()

    def making(self) -> AbstractContextManager[Any]:
        """Return a semaphore to hold while making a piece of a stream of the token."""
        return nullcontext() if self.share is None else self.share.making()

    async def left(self) -> None:
        """Wait until the client disconnects; for streams, after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def ended(self) -> None:
        """Wait until the client sends no more; most such clients have disconnected."""
        event: asyncio.Event = self._scope.get(ENDED) or asyncio.Event()
        await event.wait()

    async def revoked(self) -> None:
        """Wait until the token of the request is revoked or expires."""
        while not self.is_revoked():
            await asyncio.sleep(REVOKED_S)

    async def drain(self) -> None:
        """Read the rest of the body, and drop it."""
        if self._is_read:
            return
        if not self._has_begun and self.header(b"expect") is not None:
            self.is_endless = True  # the client may send the body or not
            return
        try:
            async with asyncio.timeout(DRAIN_S):
                with suppress(LimitExceeded):
                    async for _ in self.chunks():
                        pass
        except TimeoutError:
            self.is_endless = True


def credentials(request: Request) -> bytes | None:
    """Return the Authorization header of a request for the REST API.

    Older clients send the token as X-Auth-Key, with X-Auth-Email, or as X-Auth-User-Service-Key.
    """
    header = request.header(b"authorization")
    key = request.header(b"x-auth-key") or request.header(b"x-auth-user-service-key")
    return b"Bearer " + key if header is None and key is not None else header


class ClientLeft(Exception):
    """The client disconnected before it sent the whole request."""


@dataclass(slots=True)
class Response:
    """A response."""

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    headers: Iterable[tuple[bytes, bytes]] = ()
    reason: str | None = None  # phrase of the status line; workerd passes it to programs
    close: Callable[[], Awaitable[None]] | None = None  # frees what the body uses, sent or not

    @classmethod
    def text(cls, status: int, text: str, *, reason: str | None = None) -> Response:
        """Return a response of a line of text."""
        kind = (b"content-type", b"text/plain; charset=utf-8")
        return cls(status, text.encode() + b"\n", [kind], reason)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Response:
        """Return a response of JSON."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        kind = (b"content-type", b"application/json")
        try:
            data = body.encode()
        except UnicodeEncodeError:  # metadata may hold a lone surrogate: escape it
            data = json.dumps(value, separators=(",", ":")).encode()
        return cls(status, data, [kind])

    async def send(self, send: Send, *, head_only: bool = False) -> None:
        """Send the response over ASGI."""
        headers = list(self.headers)
        if isinstance(self.body, bytes) and not any(name == CONTENT_LENGTH for name, _ in headers):
            headers.append((CONTENT_LENGTH, b"%d" % len(self.body)))
        start = {"type": "http.response.start", "status": self.status, "headers": headers}
        if self.reason is not None:
            start["reason"] = self.reason
        await send(start)
        body = self.body
        if isinstance(body, bytes) and (head_only or len(body) <= PIECE_BYTES):
            await send({"type": "http.response.body", "body": b"" if head_only else body})
            return
        async for chunk in in_pieces(body) if isinstance(body, bytes) else body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def in_pieces(data: bytes) -> AsyncGenerator[bytes, None]:
    """Yield bytes in pieces, so that only one piece is copied at a time."""
    with memoryview(data) as view:
        for start in range(0, len(view), PIECE_BYTES):
            yield bytes(view[start : start + PIECE_BYTES])


def decoded(part: bytes) -> str | None:
    """Return a part of a path, decoded once; None if an escape or the UTF-8 is not valid."""
    if BAD_ESCAPE.search(part):
        return None
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return None

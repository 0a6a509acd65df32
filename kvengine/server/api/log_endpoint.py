"""The endpoints for edges and replicas: the log, requests for keys, changes.

    GET  /v1/log?after=N[&follow=1][&uuid=HEX]    replication/WIRE.md
    POST /v1/fetch                                 requests for keys: edge/WIRE.md
    GET  /v1/changes?after=N[&hold=SECONDS]        a stream of changes: edge/WIRE.md

Invariants:

* A client of these endpoints may read every namespace.  The log contains the records of tokens,
  too, because an edge checks tokens, and should not need an admin token.  They hold names,
  permissions and SHA-256s of random tokens, which can't be used as tokens.
* A stream sends something every few seconds, so that its reader knows that it is alive.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from kvengine.aio.runner import reply
from kvengine.client.endpoint import version_said
from kvengine.client.fetcher import reader
from kvengine.edge import codec
from kvengine.edge.codec import Kind
from kvengine.edge.messages import Answer, KeyRequest
from kvengine.engine.following.tail import LogRange, Tail
from kvengine.engine.store import Store
from kvengine.errors import InvalidRequest, KvError, LogCompacted, ProtocolError
from kvengine.options import VERSION_LIMIT
from kvengine.replication.local_source import LocalSource
from kvengine.replication.network import stream
from kvengine.replication.network.log_request import ANY_STORE
from kvengine.replication.network.log_server import Nothing
from kvengine.server.backend import Backend
from kvengine.server.http.admission import BATCH, LOGS, MEMORY
from kvengine.server.http.body.streaming import LOG_EXECUTOR, Write, until, written
from kvengine.server.http.messages import PIECE_BYTES, Request, Response, in_pieces

WANTS_BYTES_MAX = 4 << 20
PART_BYTES = 8 << 20  # of answers in a frame that has several
STREAM_S = 120.0  # duration of a stream of changes; its reader then reconnects
HOLD_MIN_S, HOLD_MAX_S = 0.05, 30.0
LOG_HEARTBEAT_S = 1.0
BINARY = (b"content-type", b"application/octet-stream")
logger = logging.getLogger("kvengine.server")


class LogEndpoint:
    """The endpoints of a primary for edges and replicas.

    Args:
        backend: with a database.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    # -- the log

    async def log(self, request: Request) -> Response:
        """Respond with the log after a version."""
        request.action = "log"
        query = request.query
        after = whole(query, "after", 0)
        follow = query.get("follow", "0") not in ("", "0")
        try:
            uuid = bytes.fromhex(query.get("uuid", "")) or ANY_STORE
        except ValueError:
            raise InvalidRequest("uuid must be 32 hex digits, the id of a store") from None
        store = self._backend.database._inner.store

        def make(write: Write) -> None:
            try:
                source = CountedSource(store, write)
                _send_log(source, write, after, uuid, follow)
            except (KvError, OSError) as error:  # the client sees that the stream ends early
                logger.info("stopped sending the log to a reader: %s", error)

        request.take(LOGS)
        await request.drain()
        lines = written(make, request, self._backend.stopping, LOG_EXECUTOR)
        return Response(200, lines, [BINARY])

    # -- requests

    async def fetch(self, request: Request) -> Response:
        """Answer requests for keys."""
        request.action = "fetch"
        body = await request.body(WANTS_BYTES_MAX, "a fetch request of {size} bytes is too large")
        try:
            (requests,) = await asyncio.to_thread(
                lambda: [*codec.frames(reader(body), Kind.REQUESTS)]
            )
        except (ProtocolError, ValueError) as error:
            raise InvalidRequest(f"the body is not a valid fetch request: {error}") from None
        primary = self._backend.database._inner._primary_for_edges()
        loop = asyncio.get_running_loop()
        fetched = _answers(primary, requests)  # type: ignore[arg-type]
        first = await loop.run_in_executor(None, next, fetched, None)

        async def frames() -> AsyncGenerator[bytes, None]:
            part = first
            while part is not None:
                size = len(part)
                if size > PIECE_BYTES:
                    request.take(MEMORY, size)
                async for piece in in_pieces(part):
                    yield piece
                if size > PIECE_BYTES:
                    request.return_some(MEMORY, size)
                part = await loop.run_in_executor(None, next, fetched, None)

        return Response(200, frames(), [BINARY])

    # -- changes

    async def changes(self, request: Request) -> Response:
        """Respond with a stream of changes, until the edge disconnects."""
        request.action = "changes"
        began = time.monotonic()
        after = whole(request.query, "after", None)
        try:
            poll_timeout_s = min(max(float(request.query.get("hold", "2")), HOLD_MIN_S), HOLD_MAX_S)
        except ValueError:
            raise InvalidRequest("hold must be a number of seconds, such as 30") from None
        request.take(BATCH)
        await request.drain()
        primary = self._backend.database._inner._primary_for_edges()
        return Response(
            200, self._changes(primary, after, poll_timeout_s, began, request), [BINARY]
        )

    async def _changes(
        self, primary: Any, after: int, poll_timeout_s: float, began: float, request: Request
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        gone = asyncio.ensure_future(until(request, self._backend.stopping))
        try:
            number = 0
            while time.monotonic() < began + STREAM_S:
                # The changes are as of this time, or later if the poll waited.
                asked = time.monotonic() - began
                polled, done = reply()
                loop.run_in_executor(None, primary.poll, after, poll_timeout_s, done)
                await asyncio.wait([polled, gone], return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    polled.cancel()
                    return
                changes = polled.result()
                if isinstance(changes, Exception):
                    logger.info("stopped sending changes to an edge: %s", changes)
                    return
                yield codec.encode_changes(changes._replace(waited=asked + changes.waited), number)
                number += 1
                if changes.upto < after:
                    return  # this store is behind the edge, which reconnects
                after = changes.upto
        finally:
            gone.cancel()


class CountedSource(LocalSource):
    """The log of a store; data read for a client counts as memory of its token.

    Args:
        store: has the log.
        write: of the answer.
    """

    def __init__(self, store: Store, write: Write) -> None:
        super().__init__(store, heartbeat_s=LOG_HEARTBEAT_S)
        self._write = write

    def ranges(self, tail: Tail) -> Iterator[LogRange]:
        """Yield new changes, within the limit of concurrent reads of a token."""
        found = super().ranges(tail)
        while True:
            with self._write.making:
                part = next(found, None)
                if part is None:
                    return
                self._write.hold(sum(len(change.value) for change in part.changes))
            yield part


def _send_log(source: LocalSource, write: Write, after: int, uuid: bytes, follow: bool) -> None:
    """Write the log; if it is not available, an empty stream that begins with 0."""
    if uuid in (ANY_STORE, source.uuid):
        try:
            stream.send(source, write, after, uuid=source.uuid, follow=follow)
            return
        except LogCompacted:
            pass
    stream.send(Nothing(source.version), write, 0, uuid=source.uuid)


def _answers(primary: Any, requests: list[KeyRequest]) -> Any:
    """Yield frames of answers; an error before the first one is raised."""
    part: list[Answer] = []
    size = number = 0
    for request in requests:
        box: list[Any] = []
        primary.fetch([request], box.append)
        if isinstance(box[0], Exception):
            raise box[0]
        answer = box[0][0]
        room = len(answer.value or b"")
        if part and size + room > PART_BYTES:
            yield codec.encode_answers(part, number)
            part, size, number = [], 0, number + 1
        part.append(answer)
        size += room
    yield codec.encode_answers(part, number)


def whole(query: dict[str, str], name: str, default: int | None) -> int:
    """Return a whole number of the query.

    Raises:
        InvalidRequest: the number is missing or not valid.
    """
    text = query.get(name)
    if text is None and default is not None:
        return default
    version = None if text is None else version_said(text)
    if version is None or version >= VERSION_LIMIT:
        raise InvalidRequest(f"{name} must be a version, a whole number of at least 0")
    return version

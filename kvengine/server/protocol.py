"""The connection: uvicorn's, with answers to hot reads of its own, and reasons in status lines.

Invariants:

* What is answered here is a whole request on a connection that waits for one; everything else goes
  to uvicorn as it came.
* A request's head is bounded in bytes; a client that is too slow with a request, or with taking
  its answer, is cut off by the watch over all connections.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from uvicorn.protocols.http import httptools_impl as base

from kvengine.server.hot import HotConnection, HotDoor
from kvengine.server.settings import ServerSettings

UNSAFE = re.compile(r"[^\x20-\x7e\x80-\xff]")
REASON_BYTES_MAX = 512
LINGER_S = 2.0  # so long a refused client may take to read why
HEAD_BYTES_MAX = 128 << 10  # as much as workerd accepts
NOTHING = b"connection: close\r\ncontent-length: 0\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + NOTHING
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\n" + NOTHING


class Cycle(base.RequestResponseCycle):
    """One request and its response."""

    async def send(self, message: Any) -> None:
        """Send a part of the response; its start may have a "reason" for the status line."""
        reason = message.pop("reason", None) if message["type"] == "http.response.start" else None
        if reason is None:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        status = message["status"]
        text = UNSAFE.sub(" ", reason)[:REASON_BYTES_MAX]
        usual = base.STATUS_LINE[status]
        # Nobody else sees it: with nothing to drain, super().send() does not wait.
        base.STATUS_LINE[status] = b"HTTP/1.1 %d %s\r\n" % (status, text.encode("latin-1"))
        try:
            await super().send(message)
        finally:
            base.STATUS_LINE[status] = usual


class Protocol(base.HttpToolsProtocol):
    """A connection of the server."""

    hot: HotDoor | None = None
    hot_connection: HotConnection | None = None
    waits = False  # for a request, of which nothing has come
    has_written = False  # through the transport, which may still hold some of it
    head_bytes = 0  # of a request whose head is not whole yet
    moved_at = 0.0  # when bytes came or went
    head_began = 0.0
    left_to_write = 0
    is_refused = False  # what comes is dropped; the connection ends soon
    is_leaving = False  # the next answer is the last one
    is_reading_head = False
    is_reading_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.moved_at = time.monotonic()
        if self.hot is not None:
            found = None if self.scheme == "https" else transport.get_extra_info("socket")
            self.hot_connection = HotConnection(self.hot, -1 if found is None else found.fileno())
            self.waits = True

    def data_received(self, data: bytes) -> None:
        """Take bytes that came."""
        if self.waits and not self.flow.write_paused:
            hot: Any = self.hot_connection
            if self.has_written:
                self.has_written = self.transport.get_write_buffer_size() > 0
            rest = hot.answer(data, not self.has_written)
            if rest:
                self.has_written = True
                self.transport.write(rest)
            if hot.size:
                self.moved_at = 0.0  # the watch sets it: looking at the clock costs more
                if hot.size == len(data):
                    return
                data = data[hot.size :]
        elif self.is_refused:
            return
        self.moved_at = time.monotonic()
        super().data_received(data)
        if self.is_reading_head and not self.is_refused:
            self.head_bytes += len(data)
            if self.head_bytes > HEAD_BYTES_MAX:
                self._refuse(TOO_LARGE)

    def _waits_for_request(self) -> bool:
        """True if the connection waits for a request, and has no part of one."""
        cycle = self.cycle
        return (
            not self.is_reading_head
            and not self.is_reading_body
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def on_message_begin(self) -> None:
        """A request begins."""
        self.waits, self.has_written = False, True
        self.is_reading_head, self.head_bytes, self.head_began = True, 0, self.moved_at
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head of a request is whole."""
        self.is_reading_head, self.is_reading_body = False, True
        super().on_headers_complete()
        if self.is_leaving:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """A request has come to its end."""
        self.is_reading_body = False
        super().on_message_complete()
        self._look_for_next()

    def on_response_complete(self) -> None:
        """A request was answered."""
        super().on_response_complete()
        self._look_for_next()

    def _look_for_next(self) -> None:
        """Note whether the connection waits for a request now."""
        if self.hot is not None and self._waits_for_request() and not self.pipeline:
            self.waits = not self.is_leaving
            # The watch closes idle connections; a timer for each read would cost more than it.
            self._unset_keepalive_if_required()

    def look(self, now: float, settings: ServerSettings) -> None:
        """Cut the client off if it is too slow; called once a second."""
        if self.transport.is_closing():
            return
        left = self.transport.get_write_buffer_size()
        if self.moved_at == 0.0 or left < self.left_to_write:
            self.moved_at = now
        self.left_to_write = left
        still = now - self.moved_at
        if self.is_refused:
            if now - self.moved_at > LINGER_S:
                self.transport.abort()
        elif left:
            if still > settings.write_timeout_s:
                self.transport.abort()
        elif self.is_reading_head:
            if now - self.head_began > settings.head_timeout_s:
                self._refuse(TOO_SLOW)
        elif self.is_reading_body and not self.flow.read_paused:
            if still > settings.body_timeout_s:
                self._refuse(TOO_SLOW)
        elif self._waits_for_request() and still > settings.idle_timeout_s:
            self.transport.close()

    def leave(self) -> None:
        """Close the connection with the next answer."""
        self.is_leaving, self.waits = True, False
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def close_if_idle(self) -> None:
        """Close the connection if nothing is under way on it."""
        if self._waits_for_request():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
        size = b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(msg)
        self._refuse(head + size + msg.encode("ascii", "replace"))

    def _refuse(self, answer: bytes) -> None:
        """Answer, unless an answer has begun, and close.

        What the client still sends is read for a moment: closing at once would reset the
        connection, and the client would not see the answer.
        """
        cycle = self.cycle
        self.is_refused, self.waits = True, False
        self.moved_at = time.monotonic()
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(answer)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


base.RequestResponseCycle = Cycle  # type: ignore[misc]  # uvicorn makes it by this name

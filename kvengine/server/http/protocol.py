"""A connection: uvicorn's protocol with a fast path for hot reads.

llhttp reads the head of a request, framing.pyx its body.

Invariants:

* The fast path answers only whole requests on a connection that waits for one; everything else goes
  to uvicorn unchanged.
* The head of a request is bounded in bytes and in headers.  The bytes after a request wait unparsed
  until it is answered; all connections together hold a bounded number of them.
* A client that sends a request or reads an answer too slowly is disconnected, even if it moves a
  byte now and then.
* A client that half-closes after a whole request still gets its answer, but no stream.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kvengine.server.http.body.pace import Pace
from kvengine.server.http.cycle import Cycle
from kvengine.server.http.framing import Body
from kvengine.server.http.head import HEAD_BYTES_MAX, HEADERS_MAX, HOST
from kvengine.server.http.hot import HotConnection, HotEndpoint
from kvengine.server.http.messages import ENDED, LENGTH
from kvengine.server.http.refusals import (
    NO_HTTP,
    TOO_LARGE,
    TOO_LONG,
    TOO_MANY,
    TOO_SLOW,
    UNKNOWN_CODING,
    encoded_target,
)
from kvengine.server.settings import ServerSettings

BLANK_BYTES_MAX = 1024  # between two requests
LINGER_S = 2.0  # time for a refused client to read the answer
LINGER_BYTES = 1 << 20  # read and dropped meanwhile
TARGET_BYTES_MAX = 16 << 10  # of a path with its query
WAITING_BYTES_MAX = 64 << 20  # of all connections, after the requests in progress
HEAD_END = b"\r\n\r\n"


class Room:
    """Limits that the connections of a server share.

    Args:
        connections: maximum of open ones; half as many from one address.
    """

    def __init__(self, connections: int) -> None:
        self.most, self.of_one, self.count = connections, max(1, connections // 2), 0
        self.by_address: dict[str, int] = {}
        self.waiting = 0  # bytes received after requests in progress

    def enter(self, address: str) -> bool:
        """Count a connection of an address; return False if there are too many."""
        self.count += 1
        mine = self.by_address[address] = self.by_address.get(address, 0) + 1
        # All clients of a Unix socket have the same address.
        return self.count <= self.most and (not address or mine <= self.of_one)

    def leave(self, address: str) -> None:
        """Stop counting a connection."""
        self.count -= 1
        left = self.by_address.pop(address) - 1
        if left:
            self.by_address[address] = left


class Protocol(HttpToolsProtocol):
    """A connection of the server."""

    hot: HotEndpoint | None = None
    room = Room(1 << 20)  # a server has its own
    hot_connection: HotConnection | None = None
    waits = False  # for the first byte of a request
    has_written = False  # to the transport, which may still buffer it
    blank_bytes = 0  # before a request
    head_bytes = 0  # of an incomplete head
    tail = b""  # the last bytes of that head
    rest = b""  # received after the request in progress
    moved_at = 0.0  # when bytes were last received or sent
    head_began = 0.0
    has_target = False  # the end of the request line has come
    left_to_write = 0
    dropped = 0
    is_refused = False  # input is dropped; the connection closes soon
    is_leaving = False  # the next answer is the last one
    is_reading_head = False
    ended: asyncio.Event  # set when the client sends no more
    coming: Pace  # of a body
    going: Pace  # of answers
    body: Body | None = None  # of an incomplete request
    address = ""  # by which the room counts it
    is_welcome = True  # False: there are too many connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start a connection, or refuse it."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.ended, self.coming, self.going = asyncio.Event(), Pace(), Pace()
        self.moved_at = time.monotonic()
        if not self.is_welcome:
            self.is_refused = True
            transport.write(TOO_MANY)  # type: ignore[attr-defined]
            transport.close()
        elif self.hot is not None:
            found = None if self.scheme == "https" else transport.get_extra_info("socket")
            self.hot_connection = HotConnection(self.hot, -1 if found is None else found.fileno())
            self.waits = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection held."""
        super().connection_lost(exc)
        self.room.leave(self.address)
        self._keep(b"")
        self.body = None

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return True if the client, which sends no more, still gets an answer."""
        self.ended.set()
        if self.is_refused or self.scheme == "https" or self.body is not None:
            return False
        cycle = self.cycle
        return bool(self.rest) or not (cycle is None or cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """Answer hot reads; pass on the rest."""
        if self.waits and not self.flow.write_paused:
            hot: Any = self.hot_connection
            if self.has_written:
                self.has_written = self.transport.get_write_buffer_size() > 0
            rest = hot.answer(data, not self.has_written)
            if rest:
                self.has_written = True
                self.transport.write(rest)
            if hot.size:
                self.moved_at = 0.0  # look() sets it: reading the clock for each request is slow
                if hot.size == len(data):
                    return
                data = data[hot.size :]
        elif self.is_refused:
            self.dropped += len(data)
            if self.dropped > LINGER_BYTES and not self.transport.is_closing():
                self.flow.pause_reading()
            return
        self.moved_at = time.monotonic()
        self._unset_keepalive_if_required()
        self._take(self.rest + data if self.rest else data)

    def _take(self, data: bytes) -> None:
        """Parse the current request, and then the next ones."""
        while data and not self.is_refused:
            if self.body is not None:
                data = self._take_body(self.body, data)
            elif self.cycle is not None and not self.cycle.response_complete:
                self.flow.pause_reading()
                break
            else:
                data = self._take_head(data)
        self._keep(b"" if self.is_refused else data)

    def _keep(self, data: bytes) -> None:
        """Keep the bytes after the current request."""
        self.room.waiting += len(data) - len(self.rest)
        self.rest = data
        if data and self.room.waiting > WAITING_BYTES_MAX:
            self._keep(b"")
            self.leave()  # after the answer in progress

    def _take_head(self, data: bytes) -> bytes:
        """Pass a head to llhttp; return the bytes after it."""
        if self.head_bytes == 0:
            size = len(data)
            data = data.lstrip(b"\r\n")  # RFC 9112, 2.2
            self.blank_bytes += size - len(data)
            if self.blank_bytes > BLANK_BYTES_MAX:
                self._refuse(TOO_LARGE)
            if not data or self.is_refused:
                return b""
            self.tail, self.head_began = b"", self.moved_at
            self.parser, self.has_target = httptools.HttpRequestParser(self), False
        end = (self.tail + data).find(HEAD_END)
        size = len(data) if end < 0 else end + len(HEAD_END) - len(self.tail)
        self.head_bytes += size
        if self.head_bytes > HEAD_BYTES_MAX:
            self._refuse(TOO_LARGE)
            return b""
        piece = data if size == len(data) else data[:size]
        if not self.has_target:
            self.has_target = b"\n" in piece
            given = piece if piece.isascii() and b"\x7f" not in piece else encoded_target(piece)
        else:
            given = piece
        self.is_reading_head = True
        try:
            self.parser.feed_data(given)
        except httptools.HttpParserUpgrade:
            pass  # the server ignores Upgrade (RFC 9110, 7.8)
        except httptools.HttpParserError:
            self._refuse_malformed()
        if self.is_reading_head:
            self.tail = (self.tail + piece)[-3:]
        return data[size:]

    def _take_body(self, body: Body, data: bytes) -> bytes:
        """Pass the body to the request; return the bytes after it."""
        try:
            found = body.feed(data)
        except (ValueError, OverflowError):
            self._refuse_malformed()
            return b""
        self.coming.count += body.used
        if found:
            super().on_body(found)
        if body.ended:
            self.body = None
            super().on_message_complete()
            self._look_for_next()
        return data[body.used :]

    def _waits_for_request(self) -> bool:
        """True if the connection is idle: it has no request, and no part of one."""
        cycle = self.cycle
        return (
            not self.is_reading_head
            and self.body is None
            and not self.rest
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def on_message_begin(self) -> None:
        """Start a request."""
        self.waits, self.has_written = False, True
        super().on_message_begin()
        self.scope[ENDED] = self.ended  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Check the complete head of a request, and start to answer it."""
        self.is_reading_head, self.head_bytes, self.blank_bytes = False, 0, 0
        if len(self.headers) > HEADERS_MAX or len(self.url) > TARGET_BYTES_MAX:
            self._refuse(TOO_LONG if len(self.url) > TARGET_BYTES_MAX else TOO_LARGE)
            return
        length = 0
        hosts = [value for name, value in self.headers if name == b"host"]
        is_missing = not hosts and self.parser.get_http_version() != "1.0"
        if is_missing or len(hosts) > 1 or (hosts and HOST.fullmatch(hosts[0]) is None):
            self._refuse_malformed()  # RFC 9112, 3.2
            return
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                # llhttp refuses a length with a coding, and codings that do not end in chunked.
                if value.strip().lower() != b"chunked" or self.parser.get_http_version() == "1.0":
                    self._refuse(UNKNOWN_CODING)
                    return
                length = -1
        self.scope[LENGTH] = length  # type: ignore[literal-required]
        self.body = Body(length) if length else None
        self.coming.rest()
        self._begin_cycle()
        if not length:
            super().on_message_complete()

    def _begin_cycle(self) -> None:
        """Pass the request to the application, after the previous answer."""
        url, version = httptools.parse_url(self.url), self.parser.get_http_version()
        scope: Any = self.scope
        scope.update(
            method=self.parser.get_method().decode("ascii"),
            http_version=version,
            path=unquote(url.path.decode("ascii")),
            raw_path=url.path,
            query_string=url.query or b"",
        )
        self.cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=not self.is_leaving and version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def on_body(self, body: bytes) -> None:
        """Not called: llhttp gets only heads."""

    def on_message_complete(self) -> None:
        """Not used: framing.pyx finds the end of a request."""

    def on_response_complete(self) -> None:
        """Continue after an answer."""
        super().on_response_complete()
        if self.body is not None and not self.transport.is_closing():
            # The client may or may not send the rest of the body.
            self._refuse(b"")
        if self.rest and not self.transport.is_closing():
            self._take(self.rest)
        if self.ended.is_set() and not self.rest and self.cycle.response_complete:
            self.transport.close()
        self._look_for_next()

    def _look_for_next(self) -> None:
        """Update whether the connection waits for a request."""
        if self.hot is not None and self._waits_for_request():
            self.waits = not self.is_leaving and not self.is_refused
            # look() closes idle connections; a timer for each read would cost more than the read.
            self._unset_keepalive_if_required()

    def look(self, now: float, settings: ServerSettings) -> None:
        """Disconnect the client if it is too slow; called once a second."""
        if self.transport.is_closing():
            return
        left = self.transport.get_write_buffer_size()
        if self.moved_at == 0.0 or left < self.left_to_write:
            self.moved_at = now
        self.going.count += max(0, self.left_to_write - left)
        self.left_to_write = left
        if not left:
            self.going.rest()
        if self.body is None or self.flow.read_paused:
            self.coming.rest()
        still = now - self.moved_at
        if self.is_refused:
            if now - self.moved_at > LINGER_S:
                self.transport.abort()
        elif left:
            if still > settings.write_timeout_s or self.going.is_too_slow(
                now, settings.write_timeout_s, settings.slowest_bytes_s
            ):
                self.transport.abort()
        elif self.is_reading_head:
            if now - self.head_began > settings.head_timeout_s:
                self._refuse(TOO_SLOW)
        elif self.body is not None and not self.flow.read_paused:
            if still > settings.body_timeout_s or self.coming.is_too_slow(
                now, settings.body_timeout_s, settings.slowest_bytes_s
            ):
                self._refuse(TOO_SLOW)
        elif self._waits_for_request() and still > settings.idle_timeout_s:
            self.transport.close()

    def leave(self) -> None:
        """Close the connection after the next answer."""
        self.is_leaving, self.waits = True, False
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def close_if_idle(self) -> None:
        """Close the connection if it is idle."""
        if self._waits_for_request():
            self.transport.close()

    def _refuse_malformed(self) -> None:
        """Refuse input that is not HTTP."""
        if not self.is_refused:
            self._refuse(NO_HTTP)

    def _refuse(self, answer: bytes) -> None:
        """Send an answer, unless one has begun, and close.

        Input is read and dropped for a short time: closing at once would reset the connection, and
        the client would not get the answer.
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

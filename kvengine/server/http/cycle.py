"""One request and its response: uvicorn's, with reasons in status lines."""

from __future__ import annotations

import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

UNSAFE = re.compile(r"[^\x20-\x7e\x80-\xff]")
REASON_BYTES_MAX = 512


class Cycle(RequestResponseCycle):
    """One request and its response."""

    async def send(self, message: Any) -> None:
        """Send a part of the response; its start may have a "reason" for the status line."""
        reason = message.pop("reason", None) if message["type"] == "http.response.start" else None
        if reason is None:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        text = UNSAFE.sub(" ", reason)[:REASON_BYTES_MAX].encode("latin-1")
        line = b"HTTP/1.1 %d %s\r\n" % (message["status"], text)
        transport: Any = self.transport
        # With nothing to drain, super().send() does not wait: only the head is written to it.
        self.transport = _HeadWriter(transport, line)  # type: ignore[assignment]
        try:
            await super().send(message)
        finally:
            self.transport = transport


class _HeadWriter:
    """Takes the head of a response and writes it with another status line."""

    def __init__(self, transport: Any, line: bytes) -> None:
        self._transport, self._line = transport, line

    def write(self, head: bytes) -> None:
        self._transport.write(self._line + head.partition(b"\r\n")[2])

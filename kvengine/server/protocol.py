"""The connection: uvicorn's, with answers to hot reads of its own, and reasons in status lines.

Invariants:

* What is answered here is a whole request without a body on a connection that waits for one;
  everything else goes to uvicorn as it came.
* A reason never has a line break.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http import httptools_impl as base

UNSAFE = re.compile(r"[^\x20-\x7e\x80-\xff]")
REASON_BYTES_MAX = 512

Hot = Callable[[bytes], bytes | None]  # request -> whole response; None: not one of ours


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

    hot: Hot | None = None  # set once, when the server starts

    def data_received(self, data: bytes) -> None:
        """Take bytes that came."""
        hot = self.hot
        if hot is not None and data[:4] == b"GET " and self._is_waiting():
            answer = hot(data)
            if answer is not None:
                self._unset_keepalive_if_required()
                self.transport.write(answer)
                self.server_state.total_requests += 1
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
                return
        super().data_received(data)

    def _is_waiting(self) -> bool:
        """True if the connection waits for a request, and has no part of one."""
        cycle = self.cycle
        return (cycle is None or cycle.response_complete) and not self.pipeline and self._is_fresh()

    def _is_fresh(self) -> bool:
        return not getattr(self, "_has_begun", False)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._has_begun = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """A request has come to its end."""
        self._has_begun = False
        super().on_message_complete()


base.RequestResponseCycle = Cycle  # type: ignore[misc]  # uvicorn makes it by this name

"""The ASGI application: it routes a request to its endpoint.

Invariants:

* A request with the header KV-Namespace uses workerd's protocol, whatever its path, because a key
  may be "health".
* The surface of a request is the name of an endpoint, never text from a client.
* A request returns its resources when it ends, even if its answer never began.
* A large answer counts as memory of its token until the client has received it.
* The rest of a body is read before the answer is sent, unless the client waits for 100 Continue:
  workerd reads the answer only after it has sent the whole body.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kvengine.server.auth.access import Refused
from kvengine.server.http.admission import MEMORY
from kvengine.server.http.messages import (
    PIECE_BYTES,
    ClientLeft,
    Receive,
    Request,
    Response,
    Send,
)

logger = logging.getLogger("kvengine.server")

Endpoint = Callable[[Request], Awaitable[Response]]
Guard = Callable[[Request], Response | None]
Observer = Callable[[Request, int, float], None]  # request, status, seconds
TurnedAway = Callable[[Request, Refused], Response]


class Branch:
    """An endpoint that routes by the second part of the path.

    Args:
        endpoints: by the second part of the path.
        other: answers all other paths.
    """

    def __init__(self, endpoints: dict[bytes, Endpoint], other: Endpoint) -> None:
        self._endpoints, self._other = endpoints, other

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        second = request.raw_parts[1] if len(request.raw_parts) > 1 else b""
        return await self._endpoints.get(second, self._other)(request)


class App:
    """An ASGI application of endpoints.

    Args:
        endpoints: by the first part of the path, such as b"client"; b"" answers all other paths.
        workerd: answers requests with the header KV-Namespace.
        observers: called after each answer.
        guard: returns a refusal of a request, or None to let it pass; None: no guard.
        turned_away: returns the answer to a request that raised Refused.
    """

    def __init__(
        self,
        endpoints: dict[bytes, Endpoint],
        workerd: Endpoint,
        observers: Sequence[Observer] = (),
        guard: Guard | None = None,
        turned_away: TurnedAway = lambda _request, refused: Response.text(
            refused.status, refused.why
        ),
    ) -> None:
        self._endpoints, self._workerd, self._observers = endpoints, workerd, observers
        self._guard, self._turned_away = guard, turned_away

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        response: Response | None = None
        started = time.perf_counter()
        try:
            try:
                response = None if self._guard is None else self._guard(request)
                if response is None:
                    response = await self._endpoint_of(request)(request)
                await request.drain()
                size = len(response.body) if isinstance(response.body, bytes) else 0
                if size > PIECE_BYTES and request.method != "HEAD":
                    request.take(MEMORY, size)
            except Refused as refused:
                response = self._turned_away(request, refused)
            except ClientLeft:
                return
            except Exception:
                logger.exception("%s: internal error while answering a request", request.surface)
                if response is not None and response.close is not None:
                    await response.close()
                response = Response.text(500, "Internal Server Error")
            if request.is_endless:
                response.headers = [*response.headers, (b"connection", b"close")]
            await response.send(send, head_only=request.method == "HEAD")
        finally:
            if response is not None and response.close is not None:
                await response.close()
            if request.share is not None:
                request.share.give_back()
        seconds = time.perf_counter() - started
        for observe in self._observers:
            observe(request, response.status, seconds)

    def _endpoint_of(self, request: Request) -> Endpoint:
        if request.header(b"kv-namespace") is not None:
            request.surface = "workerd"
            return self._workerd
        first = request.raw_parts[0] if request.raw_parts else b""  # "OPTIONS *" has no path
        if first not in self._endpoints:
            return self._endpoints[b""]  # the surface stays empty: the name is from a client
        request.surface = first.decode()
        return self._endpoints[first]

"""The application: from a request to the endpoint that answers it.

Invariants:

* A request with the header KV-Namespace is of workerd's protocol, whatever its path: a key may be
  called "health".
* The surface of a request is the name of an endpoint, never what a client made up.
* What a request has taken up is given back when it ends, also if its answer never began.
* An answer that is in memory as a whole counts as memory of its token until the client has taken
  it.
* What is left of a body is read before the answer goes out, unless the client waits to be asked
  for it: workerd hears an answer only when it has sent all.
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
    """An endpoint behind which there are others, by the next part of the path.

    Args:
        endpoints: by the second part of the path.
        other: takes the rest.
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
        endpoints: by the first part of the path, such as b"client"; b"" is what all else goes to.
        workerd: takes requests with the header KV-Namespace.
        observers: are told of each answer.
        guard: gives the answer to a request that no endpoint is to see; None: all may be seen.
        turned_away: gives the answer to a request for whose answer there is no room.
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
            return self._endpoints[b""]  # its name stays unsaid: it may be anything
        request.surface = first.decode()
        return self._endpoints[first]

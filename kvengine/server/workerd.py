"""The door of workerd: the protocol in which a Worker's KV binding asks."""

from __future__ import annotations

from kvengine.server.backend import Backend
from kvengine.server.messages import Request, Response


class WorkerdDoor:
    """workerd's KV protocol, over a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        return Response.text(501, "not yet")

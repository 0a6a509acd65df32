"""The door under /client/v4: which call a path means."""

from __future__ import annotations

from kvengine.server.backend import Backend
from kvengine.server.messages import Request, Response


class RestDoor:
    """Cloudflare's REST API v4 for Workers KV, over a backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        return Response.text(501, "not yet")

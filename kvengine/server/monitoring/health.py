"""Health checks: /health, /ready, /version.  They need no token.

Invariants:

* /health responds while the process runs.  /ready responds with 200 if the process can serve
  requests: the database is open and usable, its folder still exists, an edge has reached its
  primary.
* A failure of background work does not block requests: /ready reports it with status 200.
"""

from __future__ import annotations

import os

import kvengine
from kvengine.aio.edge import Edge
from kvengine.errors import KvError
from kvengine.server.backend import Backend
from kvengine.server.http.messages import Request, Response


async def health(request: Request) -> Response:
    """Answer that the process is alive."""
    request.action = "health"
    return Response.text(200, "ok")


async def show_version(request: Request) -> Response:
    """Answer which version of kvengine this is."""
    request.action = "health"
    return Response.json({"name": "kvengine", "version": kvengine.__version__})


class Ready:
    """Reports whether this process can serve requests."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.is_leaving = False  # the server is about to stop

    async def __call__(self, request: Request) -> Response:
        """Respond with 200, or with 503 and the reason."""
        request.action = "health"
        why = "the server is shutting down" if self.is_leaving else self.why_not()
        if why is not None:
            return Response.json({"ready": False, "why": why}, 503)
        warning = self.warning()
        return Response.json(
            {"ready": True} if warning is None else {"ready": True, "warning": warning}
        )

    def warning(self) -> str | None:
        """Return a problem that does not block requests; None if there is none."""
        db = self._backend.db
        if isinstance(db, Edge):
            return None
        store = db._inner.store
        if store._parts.background_error is not None:
            return f"background work failed and will be retried: {store._parts.background_error}"
        if store._parts.directory.folder is None:  # in memory
            return None
        if not os.path.lexists(store.path):
            return f"the folder of the store was moved away from {store.path}"
        try:
            store._parts.directory.check_path()
        except OSError as error:
            return str(error)
        return None

    def why_not(self) -> str | None:
        """Return why it can't serve requests; None if it can."""
        db = self._backend.db
        if isinstance(db, Edge):
            if db.closed:
                return "the edge is closed"
            return None if db._inner._node.begun else "the edge has not reached its primary yet"
        store = db._inner.store
        if store._parts.refusal is not None:
            return f"the store is read-only: {store._parts.refusal}"
        try:
            _ = store.version
            store._parts.directory.check_present()
        except (KvError, OSError) as error:
            return f"the store is not usable: {error}"
        return None

"""Health checks: /health, /ready, /version.  They need no token.

Invariants:

* /health answers if the process does.  /ready answers 200 if it can do its work: the database is
  open and usable, its folder still exists, an edge has reached its primary.
* A failure in the background does not block requests: /ready reports it, with status 200.
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
    """Answers whether requests should be sent here.

    Args:
        backend: what is asked.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.is_leaving = False  # the server is about to stop

    async def __call__(self, request: Request) -> Response:
        """Answer 200, or 503 and why not."""
        request.action = "health"
        why = "the server is shutting down" if self.is_leaving else self.why_not()
        if why is not None:
            return Response.json({"ready": False, "why": why}, 503)
        warning = self.warning()
        return Response.json(
            {"ready": True} if warning is None else {"ready": True, "warning": warning}
        )

    def warning(self) -> str | None:
        """Return what an operator should look at though requests are served; None if nothing."""
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
        """Return why it can't do its work; None if it can."""
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

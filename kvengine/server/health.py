"""Doors for who watches over servers: /health, /ready, /version.  They need no token.

Invariants:

* /health says that the process answers; /ready that it can do its work: the database is open and
  takes what it is there for, a location has heard from its center.
* What goes wrong in the background holds up no request: /ready tells of it, with status 200.
"""

from __future__ import annotations

import kvengine
from kvengine.aio.edge import Edge
from kvengine.server.backend import Backend
from kvengine.server.messages import Request, Response


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
        why = self.why_not()
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
        error = db._inner.store.background_error
        return None if error is None else f"background work fails, and is tried again: {error}"

    def why_not(self) -> str | None:
        """Return why it is not ready; None if it is."""
        if self.is_leaving:
            return "the server stops"
        db = self._backend.db
        if db.closed:
            return "the database is closed"
        if isinstance(db, Edge):
            return None if db._inner.tier.begun else "the location has not reached its center yet"
        store = db._inner.store
        if store.refusal is not None and not store.options.read_only:
            return f"the store takes no writes: {store.refusal}"
        return None

"""The state behind the endpoints of a process: a database or an edge, and access control.

Invariants:

* Endpoints name a namespace by its id, never by its title.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kvengine.aio.database import Database
from kvengine.aio.edge import Edge
from kvengine.aio.edge_namespace import EdgeNamespace
from kvengine.aio.namespace import Namespace
from kvengine.errors import KvError, NamespaceNotFound
from kvengine.namespace.limits import Limits
from kvengine.server.api.rest.envelope import not_found_bytes
from kvengine.server.auth.access import Access, Principal
from kvengine.server.auth.rate import KeyWrites
from kvengine.server.http.admission import REQUESTS, Admission, Share
from kvengine.server.http.body.incoming import IN_MEMORY_BYTES
from kvengine.server.http.hot import HotEndpoint
from kvengine.server.http.messages import Request
from kvengine.server.monitoring.figure_rows import HOT
from kvengine.server.shared import Shared


class Backend:
    """A database or an edge, as the endpoints use it.

    Args:
        db: the database; the edge on an edge server.
        account: id of the account, 32 hex digits.
        access: authorizes requests.
        key_writes: the rate limit of writes to a key.
        admission: the limits of requests in progress.
        shared: the state shared with the other processes of the server.

    Thread-safety: for one event loop.
    """

    def __init__(
        self,
        db: Database | Edge,
        account: str,
        access: Access,
        key_writes: KeyWrites,
        admission: Admission,
        shared: Shared,
    ) -> None:
        self.admission, self.shared = admission, shared
        self.db, self.account, self.access, self.key_writes = db, account, access, key_writes
        self.hot = HotEndpoint(account, access, time.monotonic, not_found_bytes(), shared.own[HOT])
        self._one_large = asyncio.Semaphore(1)
        self.stopping = asyncio.Event()  # streams end when it is set

    @property
    def database(self) -> Database:
        """The database; an edge server has none, and forwards the requests that need it."""
        if isinstance(self.db, Edge):
            raise KvError("an edge can't answer this request itself")  # a bug
        return self.db

    @property
    def limits(self) -> Limits:
        """The limits for keys, values and metadata."""
        return self.db.limits

    @property
    def clock(self) -> Any:
        """The clock by which keys expire."""
        return self.db._inner.clock

    async def admit(
        self,
        request: Request,
        namespace_id: str | None,
        *,
        header: bytes | None = None,
        **wanted: Any,
    ) -> Principal:
        """Return the principal of a request, if it is permitted, and count it as in progress.

        Args:
            request: to authorize.
            namespace_id: the namespace that it uses; None: all of them.
            header: the value to use instead of the Authorization header.
            wanted: write, admin, any_namespace; see Access.admit().

        Raises:
            Refused: the request is not permitted, or too many are in progress.
            UpstreamUnavailable: an edge can't check the token.
        """
        header = request.header(b"authorization") if header is None else header
        principal = await self.access.admit(header, namespace_id, **wanted)
        self.begin(request, principal)
        return principal

    def begin(self, request: Request, principal: Principal) -> None:
        """Count a request of a token as in progress.

        Raises:
            Refused: too many are in progress.
        """
        if request.share is None:
            request.is_revoked = lambda: self.access.is_revoked(principal)
            request.share = Share(self.admission, principal.token.id)
            request.share.take(REQUESTS)

    @asynccontextmanager
    async def large_write(self, size: int) -> AsyncIterator[None]:
        """Wait until no other large value is being written.

        Args:
            size: bytes.
        """
        if size <= IN_MEMORY_BYTES:
            yield
        else:
            async with self._one_large:
                yield

    async def namespace(self, namespace_id: str) -> Namespace | EdgeNamespace:
        """Return the namespace with an id.

        Raises:
            NamespaceNotFound: it does not exist.
        """
        try:
            found = await self.db.namespace_by_id(namespace_id)
        except NamespaceNotFound:
            self.hot.unregister(namespace_id)
            raise
        self.hot.register(namespace_id, found._inner)
        return found

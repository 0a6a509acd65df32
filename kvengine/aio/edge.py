"""Edge for asyncio.

Invariants:

* It is opened and closed, and asks its upstream, on its own threads; no thread waits for an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import Any, Self

from kvengine.aio.database import Database
from kvengine.aio.edge_namespace import EdgeNamespace
from kvengine.aio.remote import RemoteDatabase, RemoteNamespace, connect
from kvengine.aio.runner import THREADS, Runner, forwarded
from kvengine.database import edge as sync_edge
from kvengine.database.edge_arguments import check_arguments
from kvengine.edge.settings import Settings
from kvengine.errors import StoreClosed
from kvengine.namespace.interface.results import DatabaseChange
from kvengine.namespace.limits import Limits
from kvengine.options import named


class Edge:
    """An edge, for asyncio; see kvengine.Edge, which has the same methods.

    It is opened by `async with Edge(...) as edge`, by `edge = await Edge(...)`, or by the first
    call of namespace().

    Args:
        upstream: a Database, an Edge or the result of connect(), each of kvengine.aio, or the URL
            of a server.
        name: its name in the console and the metrics of the primary.
        threads: how many calls may wait for the disk or the upstream at once.
        The others are as of kvengine.Edge.

    Raises:
        InvalidType, InvalidRequest: an argument is not valid; at once.
        StoreLocked: another edge uses the folder; when it is opened.

    Thread-safety: for one event loop at a time.
    """

    def __init__(
        self,
        upstream: Database | Edge | RemoteDatabase | str,
        name: str = "edge",
        *,
        path: Any = None,
        always_current: bool = False,
        token: str | None = None,
        verify: Any = True,
        threads: int = THREADS,
        memory_bytes: int = 64 << 20,
        disk_bytes: int = 1 << 30,
        bound_s: float = 60.0,
        cache_ttl_s: float = 60.0,
        negative_ttl_s: float = 0.0,
        stale_if_error_s: float = 0.0,
        refresh_share: float = 0.75,
        poll_timeout_s: float = 2.0,
        grace_s: float = 2.0,
        timeout_s: float = 10.0,
        retry_s: float = 0.05,
        retry_max_s: float = 5.0,
        change_buffer_bytes: int = 8 << 20,
        push_bytes: int = 4096,
        watermark_groups: int = 1 << 14,
    ) -> None:
        check_arguments(
            upstream, name, always_current, Database, Edge, RemoteDatabase, " of kvengine.aio"
        )
        settings = named(Settings, locals())
        Settings(**settings)  # an invalid one is an error at once
        self.name = name
        self._own: RemoteDatabase | None = None  # a connection that ends with this edge
        if isinstance(upstream, str):
            upstream = self._own = connect(upstream, token=token, timeout=timeout_s, verify=verify)
        self.upstream: Database | Edge | RemoteDatabase = upstream
        self._options = {"path": path, "always_current": always_current, **settings}
        self._runner = Runner(threads)
        self._opening: asyncio.Future[sync_edge.Edge] | None = None
        self._edge: sync_edge.Edge | None = None
        self._namespaces: dict[str, EdgeNamespace] = {}
        self._closed = False

    @property
    def limits(self) -> Limits:
        """The limits of its namespaces."""
        return self.upstream.limits

    @property
    def closed(self) -> bool:
        """True after close(), and in a process forked after it was opened."""
        return self._closed or (self._edge is not None and self._edge.closed)

    @property
    def _inner(self) -> sync_edge.Edge:
        if self._edge is None:
            raise StoreClosed("the edge is not open: await it first, or use `async with`")
        return self._edge

    async def _open(self) -> Self:
        if self._closed:
            raise StoreClosed("the edge was closed")
        if self._edge is None:
            if self._opening is None:
                self._opening = asyncio.ensure_future(self._begin())
            try:
                self._edge = await asyncio.shield(self._opening)
            finally:
                if self._opening is not None and self._opening.done():
                    self._opening = None
        self._edge._check_usable()
        return self

    async def _begin(self) -> sync_edge.Edge:
        upstream = self.upstream
        if isinstance(upstream, Edge):
            await upstream._open()
        inner = upstream._blocking if isinstance(upstream, RemoteDatabase) else upstream._inner
        return await self._runner.run(sync_edge.Edge, inner, self.name, **self._options)

    async def namespace(self, title: str) -> EdgeNamespace:
        """Return the namespace with a title or an id, creating it if it does not exist."""
        await self._open()
        return await self._namespace(await self.upstream.namespace(title))

    async def namespace_by_id(self, namespace_id: str) -> EdgeNamespace:
        """Return the namespace with an id; never create one."""
        await self._open()
        known = self._namespaces.get(namespace_id)
        if known is not None and self._is_remote:
            return known  # its reads find out, from the edge's copies, if it is deleted
        return await self._namespace(await self.upstream.namespace_by_id(namespace_id))

    async def _namespace(self, origin: Any) -> EdgeNamespace:
        source = origin._blocking if isinstance(origin, RemoteNamespace) else origin._inner
        inner = await self._runner.run(self._inner._namespace, source)
        found = self._namespaces.get(inner.id)
        if found is None or found._inner is not inner:
            found = self._namespaces[inner.id] = EdgeNamespace(
                self._inner, inner, origin, self._runner
            )
        return found

    @property
    def _is_remote(self) -> bool:
        upstream: Any = self.upstream
        while isinstance(upstream, Edge):
            upstream = upstream.upstream
        return isinstance(upstream, RemoteDatabase)

    stats = forwarded(sync_edge.Edge.stats)

    # -- what it leaves to the database behind it

    create_namespace = forwarded(sync_edge.Edge.create_namespace)
    set_bounds = forwarded(sync_edge.Edge.set_bounds)
    namespaces = forwarded(sync_edge.Edge.namespaces)
    rename = forwarded(sync_edge.Edge.rename)
    delete = forwarded(sync_edge.Edge.delete)
    wait_for_removals = forwarded(sync_edge.Edge.wait_for_removals)
    usage = forwarded(sync_edge.Edge.usage)
    sync = forwarded(sync_edge.Edge.sync)

    async def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> AsyncGenerator[DatabaseChange, None]:
        """Yield the changes of all namespaces above a version; see kvengine.Database.tail()."""
        await self._open()
        async for change in self.upstream.tail(after, follow=follow, timeout=timeout):
            yield change

    async def close(self) -> None:
        """Wait for calls in progress, then stop listening; the upstream stays open."""
        self._closed = True
        if self._opening is not None:
            await asyncio.wait([self._opening])
            if not self._opening.cancelled() and self._opening.exception() is None:
                self._edge = self._opening.result()
            self._opening = None
        await self._runner.close(lambda: None if self._edge is None else self._edge.close())
        if self._own is not None:
            await self._own.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<kvengine.aio.Edge {self.name!r} of {self.upstream!r}>"

"""A database on a server, for asyncio.

Invariants:

* Each call is made on a thread; what goes on and on is read by the event loop itself, so it ends
  when who reads it is cancelled.
* Arguments, results and errors are those of kvengine.connect().
* In a forked child it works as before, in an event loop of the child.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Any, Self

from kvengine.aio.base import NamespaceBase
from kvengine.aio.remote_streams import followed, streamed
from kvengine.aio.runner import THREADS, Runner, forwarded
from kvengine.client import database as sync
from kvengine.client import namespace as sync_namespace
from kvengine.namespace.limits import Limits
from kvengine.namespace.results import DatabaseChange, KeyChange


class RemoteNamespace(NamespaceBase):
    """A namespace on a server; see kvengine.RemoteNamespace, which has the same methods.

    Thread-safety: for one event loop at a time.
    """

    def __init__(
        self, inner: sync_namespace.RemoteNamespace, runner: Runner, database: RemoteDatabase
    ) -> None:
        self._inner, self._runner, self._database = inner, runner, database

    def __repr__(self) -> str:
        return f"<kvengine.aio.RemoteNamespace {self.id}>"

    async def get(self, key: Any, type: str = "text", *, cache_ttl: int | None = None) -> Any:
        """Return the value of a key, or None; for a list of keys a dict."""
        found = await self._runner.run(self._inner.get, key, type, cache_ttl=cache_ttl)
        if isinstance(found, dict) and type == "stream":
            return {name: self._streamed(value) for name, value in found.items()}
        return self._streamed(found)

    async def get_many(
        self, keys: Iterable[str], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, Any]:
        """Return a dict from each key to its value, None for each that is absent."""
        found: dict[str, Any] = await self.get(list(keys), type, cache_ttl=cache_ttl)
        return found

    async def get_with_metadata(
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        """Return ValueWithMetadata; for a list a dict."""
        found = await self._runner.run(
            self._inner.get_with_metadata, key, type, cache_ttl=cache_ttl
        )
        if isinstance(key, str):
            return found._replace(value=self._streamed(found.value))
        return {
            name: one and one._replace(value=self._streamed(one.value))
            for name, one in found.items()
        }

    get_metadata = forwarded(sync_namespace.RemoteNamespace.get_metadata)

    async def history(self, key: str) -> AsyncGenerator[KeyChange, None]:
        """Yield the changes of a key that the log still has, oldest first."""
        async for item in streamed(self._database, f"ns/{self.id}/history", [key], {}):
            yield KeyChange(*item)

    async def watch(
        self, prefix: str = "", *, after: int | None = None, timeout: float | None = None
    ) -> AsyncGenerator[KeyChange, None]:
        """Yield changes as they come; see kvengine.RemoteNamespace.watch()."""
        first = await self._database.version() if after is None else after
        path = f"ns/{self.id}/watch"
        async for item in followed(self._database, path, {"prefix": prefix}, first, timeout, 0):
            yield KeyChange(*item)


class RemoteDatabase:
    """A database on a server, for asyncio; connect() gives one.

    Thread-safety: for one event loop at a time.
    """

    def __init__(self, inner: sync.RemoteDatabase, runner: Runner) -> None:
        self._inner, self._runner = inner, runner
        self._namespaces: dict[str, RemoteNamespace] = {}

    def __repr__(self) -> str:
        return f"<kvengine.aio.RemoteDatabase at {self._inner.url!r}>"

    @property
    def limits(self) -> Limits:
        """What its namespaces accept; the first time it is asked, which waits."""
        return self._inner.limits

    @property
    def clock(self) -> Any:
        """The clock by which copies of keys expire."""
        return self._inner.clock

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._inner.closed

    async def version(self) -> int:
        """Return the version of the newest change, asked now."""
        return await self._runner.run(lambda: self._inner.version)

    async def namespace(self, title: str) -> RemoteNamespace:
        """Return the namespace with a title or an id, creating it if it does not exist."""
        return self._shown(await self._runner.run(self._inner.namespace, title))

    async def namespace_by_id(self, namespace_id: str) -> RemoteNamespace:
        """Return the namespace with an id; never create one."""
        return self._shown(await self._runner.run(self._inner.namespace_by_id, namespace_id))

    def _shown(self, inner: sync_namespace.RemoteNamespace) -> RemoteNamespace:
        found = self._namespaces.get(inner.id)
        if found is None or found._inner is not inner:
            found = self._namespaces[inner.id] = RemoteNamespace(inner, self._runner, self)
        return found

    create_namespace = forwarded(sync.RemoteDatabase.create_namespace)
    namespaces = forwarded(sync.RemoteDatabase.namespaces)
    rename = forwarded(sync.RemoteDatabase.rename)
    delete = forwarded(sync.RemoteDatabase.delete)
    wait_for_removals = forwarded(sync.RemoteDatabase.wait_for_removals)
    usage = forwarded(sync.RemoteDatabase.usage)
    sync = forwarded(sync.RemoteDatabase.sync)

    async def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> AsyncGenerator[DatabaseChange, None]:
        """Yield the changes of all namespaces above a version; see kvengine.Database.tail()."""
        if follow:
            items = followed(self, "db/tail", {"follow": True}, after, timeout, 1)
        else:
            items = streamed(self, "db/tail", [after], {})
        async for item in items:
            yield DatabaseChange(*item)

    async def close(self) -> None:
        """Wait for calls in progress, then close the connections."""
        await self._runner.close(self._inner.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def connect(url: str, *, threads: int = THREADS, **options: Any) -> RemoteDatabase:
    """Return the database on a server, to be used as if it were here; nothing is asked yet.

    Args:
        url: such as "https://kv.example:8787".
        threads: how many requests may be under way at once.
        options: token, account, timeout, verify, as of kvengine.connect().

    Raises:
        InvalidType, InvalidRequest: as kvengine.connect().
    """
    return RemoteDatabase(sync.connect(url, **options), Runner(threads))

"""A database on a server, for asyncio.

Invariants:

* Each call is made by the event loop itself, and ends when it is cancelled; see remote_calls.py.
  Only files are read and written by threads.
* Arguments, results and errors are those of kvengine.connect().
* In a forked child it works as before, in an event loop of the child.
"""

from __future__ import annotations

import asyncio
import functools
import io
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
)
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from kvengine.aio.base import NamespaceBase
from kvengine.aio.connection import AsyncConnection
from kvengine.aio.remote_calls import RemoteCalls
from kvengine.aio.runner import forwarded
from kvengine.cache.single_flight import Flight
from kvengine.client import database as sync
from kvengine.client import namespace as sync_namespace
from kvengine.client.base import DatabaseBase
from kvengine.client.endpoint import TIMEOUT_S
from kvengine.engine.access.mapping import ABSENT
from kvengine.errors import KeyNotFound, VersionConflict
from kvengine.namespace.interface import filling
from kvengine.namespace.interface.backend import described_as
from kvengine.namespace.interface.results import DatabaseChange, KeyChange
from kvengine.namespace.limits import Limits, list_of_keys
from kvengine.namespace.values import encode_value

P = ParamSpec("P")
T = TypeVar("T")


def on_thread(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return the async form of the method of this name of `_blocking`, called on a thread."""
    name = method.__name__

    @functools.wraps(method)
    async def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(getattr(self._blocking, name), *args, **kwargs)

    return cast("Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]", call)


class RemoteNamespace(NamespaceBase):
    """A namespace on a server; see kvengine.RemoteNamespace, which has the same methods.

    Thread-safety: for one event loop at a time.
    """

    _runner: RemoteCalls

    def __init__(self, inner: sync_namespace.RemoteNamespace, database: RemoteDatabase) -> None:
        self._inner, self._database, self._runner = inner, database, database._runner

    def __repr__(self) -> str:
        return f"<kvengine.aio.RemoteNamespace {self.id}>"

    @property
    def _blocking(self) -> sync_namespace.RemoteNamespace:
        """The same one, whose calls wait for their answers: for edges and files."""
        return self._database._blocking._found((self.id, self._inner._number))

    @described_as(sync_namespace.RemoteNamespace.get)
    async def get(self, key: Any, type: str = "text", *, cache_ttl: int | None = None) -> Any:
        found = await self._runner.run(self._inner.get, key, type, cache_ttl=cache_ttl)
        if isinstance(found, dict) and type == "stream":
            return {name: self._streamed(value) for name, value in found.items()}
        return self._streamed(found)

    @described_as(sync_namespace.RemoteNamespace.get_many)
    async def get_many(
        self, keys: Iterable[str], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, Any]:
        found: dict[str, Any] = await self.get(list_of_keys(keys), type, cache_ttl=cache_ttl)
        return found

    @described_as(sync_namespace.RemoteNamespace.get_with_metadata)
    async def get_with_metadata(
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
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

    @described_as(sync_namespace.RemoteNamespace.ttl)
    async def ttl(self, key: str) -> float | None:
        seconds: float | None = await self._runner.run(self._inner._ttl, key)
        return seconds

    @described_as(sync_namespace.RemoteNamespace.exists)
    async def exists(self, key: str) -> bool:
        return await self.get_metadata(key) is not None

    @described_as(sync_namespace.RemoteNamespace.pop)
    async def pop(self, key: str, default: Any = ABSENT, *, type: str = "text") -> Any:
        await self._runner.run(self._inner._check_one, key)
        self._inner._single_flight.forget(key)  # also if it is absent
        await self._runner.fills_end()
        while (found := await self.get_with_metadata(key, type)).version:
            try:
                if await self.delete(key, if_version=found.version):
                    return found.value
            except VersionConflict:
                continue  # another writer was faster
        if default is ABSENT:
            raise KeyNotFound(key)
        return default

    export_file = on_thread(sync_namespace.RemoteNamespace.export_file)

    @described_as(sync_namespace.RemoteNamespace.history)
    def history(self, key: str) -> AsyncIterator[KeyChange]:
        return cast("AsyncIterator[KeyChange]", self._inner.history(key))

    @described_as(sync_namespace.RemoteNamespace.watch)
    def watch(
        self, prefix: str = "", *, after: int | None = None, timeout: float | None = None
    ) -> AsyncGenerator[KeyChange, None]:
        found = self._inner.watch(prefix, after=after, timeout=timeout)
        return cast("AsyncGenerator[KeyChange, None]", found)

    async def _collected(self, value: Any) -> Any:
        value = await super()._collected(value)
        if not hasattr(value, "read") or isinstance(value, io.BytesIO):
            return value
        limits = self._inner.limits
        return io.BytesIO(await asyncio.to_thread(encode_value, limits, value, None, None))

    async def _read_made(self, key: str, kind: str) -> Any:
        filling.check_type(kind)
        await self._runner.run(self._inner._check_one, key)
        found = await self.get_with_metadata(key, kind)
        return found.value if found.version else ABSENT

    async def _store_made(
        self, flight: Flight, key: str, value: Any, kind: str, options: dict[str, Any]
    ) -> Any:
        data = filling.encoded(self._inner.limits, value, kind)
        put = functools.partial(self.put, key, data, if_version=0, **options)
        try:
            await self._runner.fill(flight, put)
        except VersionConflict:  # another process was faster
            found = await self._read_made(key, kind)
            if found is not ABSENT:
                return found
        return filling.decoded(key, data, kind)


class RemoteDatabase:
    """A database on a server, for asyncio; connect() gives one.

    A write that is cancelled, or ends with UpstreamUnavailable, may have been carried out.

    Thread-safety: for one event loop at a time.
    """

    def __init__(self, calls: RemoteCalls, blocking: sync.RemoteDatabase) -> None:
        self._inner = self._runner = calls
        self._blocking = blocking  # for edges and files; it connects when it is used
        self._namespaces: dict[str, RemoteNamespace] = {}

    def __repr__(self) -> str:
        return f"<kvengine.aio.RemoteDatabase at {self.url!r}>"

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._blocking.url

    @property
    def limits(self) -> Limits:
        """What its namespaces accept; before the first call it is asked, which waits."""
        return self._inner._known_limits or self._blocking.limits

    @property
    def clock(self) -> Any:
        """The clock by which copies of keys expire."""
        return self._blocking.clock

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._inner.closed

    async def version(self) -> int:
        """Return the version of the newest change, requested at each call."""
        return int(await self._inner._info(1))

    async def account(self) -> str:
        """Return the account of the server, requested at each call."""
        return str(await self._inner._info(2))

    @described_as(DatabaseBase.namespace)
    async def namespace(self, title: str) -> RemoteNamespace:
        return self._shown(await self._runner.run(self._inner.namespace, title))

    @described_as(DatabaseBase.namespace_by_id)
    async def namespace_by_id(self, namespace_id: str) -> RemoteNamespace:
        return self._shown(await self._runner.run(self._inner.namespace_by_id, namespace_id))

    def _shown(self, inner: sync_namespace.RemoteNamespace) -> RemoteNamespace:
        found = self._namespaces.get(inner.id)
        if found is None or found._inner is not inner:
            found = self._namespaces[inner.id] = RemoteNamespace(inner, self)
        return found

    create_namespace = forwarded(sync.RemoteDatabase.create_namespace)
    set_bounds = forwarded(sync.RemoteDatabase.set_bounds)
    namespaces = forwarded(sync.RemoteDatabase.namespaces)
    rename = forwarded(sync.RemoteDatabase.rename)
    delete = forwarded(sync.RemoteDatabase.delete)
    wait_for_removals = forwarded(sync.RemoteDatabase.wait_for_removals)
    usage = forwarded(sync.RemoteDatabase.usage)

    @described_as(DatabaseBase.tail)
    def tail(
        self, after: int = 0, *, follow: bool = False, timeout: float | None = None
    ) -> AsyncGenerator[DatabaseChange, None]:
        found = self._inner.tail(after, follow=follow, timeout=timeout)
        return cast("AsyncGenerator[DatabaseChange, None]", found)

    sync = forwarded(sync.RemoteDatabase.sync)

    async def close(self) -> None:
        """Wait for calls in progress, then close the connections."""
        await self._inner.close()
        self._blocking.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def connect(
    url: str,
    *,
    token: str | None = None,
    account: str | None = None,
    timeout: float = TIMEOUT_S,
    verify: Any = True,
) -> RemoteDatabase:
    """Return the database on a server, to be used as if it were local.  This sends no request.

    In an event loop, 32 calls run at a time, and others wait for one to end; watches do not count.
    Cancelling a call closes its connection; a write may or may not have been carried out.

    Args:
        url, token, account, timeout, verify: as of kvengine.connect().

    Raises:
        InvalidType, InvalidRequest: as kvengine.connect().
    """
    blocking = sync.connect(url, token=token, account=account, timeout=timeout, verify=verify)
    connection = AsyncConnection(blocking._connection)
    calls = RemoteCalls(connection, blocking._account, blocking._timeout)
    return RemoteDatabase(calls, blocking)

"""The common parts of the namespaces for asyncio.

Invariants:

* Arguments, results and errors are those of the namespace inside.  It is called on a thread, or, if
  it is on a server, by the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from kvengine.aio import filling
from kvengine.aio.remote_calls import RemoteCalls
from kvengine.aio.runner import Runner, forwarded
from kvengine.aio.streams import ValueStream, collected
from kvengine.cache.single_flight import Flight
from kvengine.engine.access.mapping import ABSENT
from kvengine.errors import VersionConflict
from kvengine.namespace import namespace as sync
from kvengine.namespace import values
from kvengine.namespace.interface import filling as sync_filling
from kvengine.namespace.interface.backend import described_as
from kvengine.namespace.interface.results import Key
from kvengine.namespace.limits import Limits
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.page import key_of
from kvengine.namespace.reading import Meter


class NamespaceBase:
    """The methods that Namespace, EdgeNamespace and RemoteNamespace share.

    Thread-safety: for one event loop at a time.
    """

    _inner: Any
    _runner: Runner | RemoteCalls

    @property
    def id(self) -> str:
        """The id: 32 hex digits; it never changes."""
        return str(self._inner.id)

    @property
    def limits(self) -> Limits:
        """The limits for keys, values and metadata."""
        limits: Limits = self._inner.limits
        return limits

    @property
    def _meter(self) -> Meter:
        """The usage through this object."""
        meter: Meter = self._inner._meter
        return meter

    async def title(self) -> str:
        """Return the present title of the namespace.

        Raises:
            NamespaceNotFound: it was deleted.
        """
        return await self._runner.run(lambda: self._inner.title)

    def _streamed(self, value: Any) -> Any:
        return ValueStream(value, self._runner) if isinstance(value, values.ValueStream) else value

    # -- one key

    async def put(
        self,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
        if_version: int | None = None,
        size: int | None = None,
        durability: Any = None,
    ) -> int:
        """Store a value and return the version of the change; see kvengine.Namespace.put.

        The value may also be an async iterable of bytes, or have an async `read(n)`.
        """
        value = await self._collected(value)
        version: int = await self._runner.run(
            self._inner.put,
            key,
            value,
            type=type,
            expiration=expiration,
            expiration_ttl=expiration_ttl,
            metadata=metadata,
            if_version=if_version,
            size=size,
            durability=durability,
        )
        return version

    @described_as(sync.Namespace.add)
    async def add(
        self,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
        size: int | None = None,
        durability: Any = None,
    ) -> bool:
        try:
            await self.put(
                key,
                value,
                type=type,
                expiration=expiration,
                expiration_ttl=expiration_ttl,
                metadata=metadata,
                if_version=0,
                size=size,
                durability=durability,
            )
        except VersionConflict:
            return False
        return True

    async def _collected(self, value: Any) -> Any:
        if not hasattr(value, "__aiter__") and not hasattr(value, "read"):
            return value
        limits = await self._runner.run(lambda: self._inner.limits)  # may be asked for
        return await collected(limits, value)

    @described_as(sync.Namespace.pop)
    async def pop(self, key: str, default: Any = ABSENT, *, type: str = "text") -> Any:
        return self._streamed(await self._runner.run(self._inner.pop, key, default, type=type))

    exists = forwarded(sync.Namespace.exists)
    ttl = forwarded(sync.Namespace.ttl)
    persist = forwarded(sync.Namespace.persist)
    delete = forwarded(sync.Namespace.delete)
    touch = forwarded(sync.Namespace.touch)
    increment = forwarded(sync.Namespace.increment)

    # -- many keys

    put_many = forwarded(sync.Namespace.put_many)
    delete_many = forwarded(sync.Namespace.delete_many)
    delete_prefix = forwarded(sync.Namespace.delete_prefix)
    list = forwarded(sync.Namespace.list)
    count = forwarded(sync.Namespace.count)
    size = forwarded(sync.Namespace.size)

    @described_as(sync.Namespace.keys)
    async def keys(
        self, prefix: str = "", *, reverse: bool = False, start_after: str | None = None
    ) -> AsyncGenerator[Key, None]:
        text_bytes("prefix", prefix)
        page = await self.list(prefix, reverse=reverse, start_after=start_after)
        while True:
            for info in page.keys:
                yield key_of(info)
            if page.list_complete:
                return
            page = await self.list(prefix, cursor=page.cursor, reverse=reverse)

    # -- files

    export_file = forwarded(sync.Namespace.export_file)
    import_file = forwarded(sync.Namespace.import_file)

    # -- filling

    async def _read_made(self, key: str, kind: str) -> Any:
        return await self._runner.run(sync_filling.read, self._inner, key, kind)

    async def _store_made(
        self, flight: Flight, key: str, value: Any, kind: str, options: dict[str, Any]
    ) -> Any:
        write = sync_filling.write
        return await self._runner.run(write, self._inner, flight, key, value, kind, options)

    async def get_or_set(
        self,
        key: str,
        make: Callable[[], Any],
        *,
        type: str = "text",
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
    ) -> Any:
        """Return the value of a key; if it is absent, call or await `make` and store its result.

        When several tasks miss the key at the same time, only one calls `make`.
        """
        options = {
            "expiration": expiration,
            "expiration_ttl": expiration_ttl,
            "metadata": metadata,
        }
        return await filling.get_or_set(self, key, make, type, options)

    def memoize(
        self,
        *,
        expiration_ttl: float | None = None,
        type: str = "json",
        key: Callable[..., str] | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that stores what a function, async or not, returns in this namespace.

        The decorated function is async.  See kvengine.Namespace.memoize.
        """
        return filling.memoize(self, type, key, name, {"expiration_ttl": expiration_ttl})

"""A namespace at an edge, for asyncio.

Invariants:

* A read of a value in memory does not yield to the event loop.
* A request to the upstream occupies no thread, and continues if a task that waits for it is
  cancelled: others may wait for the same answer.
* Arguments, results and errors are those of kvengine.EdgeNamespace.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

from kvengine.aio.base import NamespaceBase
from kvengine.aio.runner import Runner, reply
from kvengine.aio.streams import ValueStream
from kvengine.database import edge
from kvengine.database import edge_namespace as sync
from kvengine.database.edge_namespace import ValueRead, value_read
from kvengine.database.edge_reading import NOT_CACHED
from kvengine.edge.messages import ReadOptions, ReadResult
from kvengine.errors import UpstreamUnavailable, copied_error
from kvengine.namespace.interface.backend import described_as
from kvengine.namespace.interface.results import KeyChange
from kvengine.namespace.values import ValueStream as BytesStream


class EdgeNamespace(NamespaceBase):
    """A namespace at an async edge; see kvengine.EdgeNamespace, which has the same methods.

    Thread-safety: for one event loop at a time.
    """

    _runner: Runner

    def __init__(
        self, at: edge.Edge, inner: sync.EdgeNamespace, origin: Any, runner: Runner
    ) -> None:
        self._edge, self._inner, self._origin, self._runner = at, inner, origin, runner
        copies = at._node.copies
        self._peek = None if copies.disk is None else copies.values.peek

    def __repr__(self) -> str:
        return f"<kvengine.aio.EdgeNamespace {self.id} at {self._edge.name!r}>"

    # -- reads

    async def get(
        self,
        key: Any,
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> Any:
        """Return the value of a key, or None; for a list of keys a dict.

        With type "stream" it is a ValueStream.  See kvengine.EdgeNamespace.get.
        """
        if not isinstance(key, str):
            return await self.get_many(
                key,
                type,
                cache_ttl=cache_ttl,
                min_version=min_version,
                stale_if_error=stale_if_error,
            )
        says_nothing = cache_ttl is None and not min_version and stale_if_error is None
        if says_nothing and self._is_in_memory(self._inner._name(key)):
            value = self._inner._try_get(key, type)
            if value is not NOT_CACHED:
                return self._streamed(value)
        shown = await self._read(key, cache_ttl, min_version, stale_if_error)
        return self._decoded(key, shown, type)

    @described_as(sync.EdgeNamespace.get_with_metadata)
    async def get_with_metadata(
        self,
        key: Any,
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> Any:
        if not isinstance(key, str):
            many = await self._read_many(key, type, cache_ttl, min_version, stale_if_error)
            found = self._inner._with_metadata_all(many, type)
            return {
                name: one and one._replace(value=self._streamed(one.value))
                for name, one in found.items()
            }
        shown = await self._read(key, cache_ttl, min_version, stale_if_error)
        one = self._inner._with_metadata(key, shown, type)
        return one._replace(value=self._streamed(one.value))

    @described_as(sync.EdgeNamespace.get_metadata)
    async def get_metadata(
        self,
        key: str,
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> Any:
        shown = await self._read(key, cache_ttl, min_version, stale_if_error)
        return self._inner._details(key, shown)

    @described_as(sync.EdgeNamespace.read)
    async def read(
        self,
        key: str,
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> ValueRead:
        shown = await self._read(key, cache_ttl, min_version, stale_if_error)
        return value_read(self._decoded(key, shown, type), shown)

    @described_as(sync.EdgeNamespace.get_many)
    async def get_many(
        self,
        keys: Iterable[str],
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> dict[str, Any]:
        found = await self._read_many(keys, type, cache_ttl, min_version, stale_if_error)
        decoded = self._inner._decoded_all(found, type)
        return {name: self._streamed(value) for name, value in decoded.items()}

    def _decoded(self, key: str, shown: ReadResult, type: str) -> Any:
        return self._streamed(self._inner._decoded(key, shown.value, type))

    def _streamed(self, value: Any) -> Any:
        if not isinstance(value, io.BytesIO):
            return super()._streamed(value)
        return ValueStream(BytesStream(value.getbuffer()), self._runner)

    async def _read(
        self, key: str, cache_ttl: Any, min_version: Any, stale_if_error: Any
    ) -> ReadResult:
        inner, name = self._inner, self._inner._name(key)
        options = inner._read_options(cache_ttl, min_version, stale_if_error)
        await self._check_living()
        inner._meter.reads += 1
        return await self._find(name, options)

    async def _read_many(
        self, keys: Any, type: str, cache_ttl: Any, min_version: Any, stale_if_error: Any
    ) -> dict[str, Any]:
        inner = self._inner
        names = inner._names(keys, type)
        options = inner._read_options(cache_ttl, min_version, stale_if_error)
        await self._check_living()
        inner._meter.reads += len(names)
        found = {key: self._lookup(name, options) for key, name in names.items()}
        missing = [key for key, shown in found.items() if shown is None]
        if missing:
            asked = await self._ask([names[key] for key in missing], options)
            found.update(zip(missing, asked, strict=True))
        return found

    async def _check_living(self) -> None:
        self._edge._check_usable()
        if not self._inner._is_known:
            invalidations = self._edge._node.invalidations
            shown = await self._find(self._inner._row, self._inner._living_options)
            self._inner._judge_living(shown, invalidations)

    def _lookup(self, name: bytes, options: ReadOptions) -> ReadResult | None:
        """Return what may be shown of what is in memory."""
        return self._edge._node.lookup(name, options) if self._is_in_memory(name) else None

    def _is_in_memory(self, name: bytes) -> bool:
        """Return False if a look at the copies would be one at the disk."""
        return self._peek is None or self._peek(name) is not None

    async def _find(self, name: bytes, options: ReadOptions) -> ReadResult:
        return self._lookup(name, options) or (await self._ask([name], options))[0]

    async def _ask(self, names: list[bytes], options: ReadOptions) -> list[ReadResult]:
        """Return what is on disk, or what the upstream says."""
        answered, done = reply()
        await self._runner.run(
            self._edge._node.read_many, [(name, options) for name in names], done
        )
        try:
            results: list[Any] = await asyncio.wait_for(answered, 2 * self._edge.settings.timeout_s)
        except TimeoutError:
            raise UpstreamUnavailable("the upstream did not answer in time") from None
        for result in results:
            if isinstance(result, Exception):
                raise copied_error(result)
        return results

    # -- what only the primary knows

    @described_as(sync.EdgeNamespace.history)
    def history(self, key: str) -> AsyncIterator[KeyChange]:
        return self._runner.iterate(lambda: self._inner.history(key))

    @described_as(sync.EdgeNamespace.watch)
    async def watch(
        self, prefix: str = "", *, after: int | None = None, timeout: float | None = None
    ) -> AsyncGenerator[KeyChange, None]:
        self._edge._check_usable()
        async for change in self._origin.watch(prefix, after=after, timeout=timeout):
            yield change

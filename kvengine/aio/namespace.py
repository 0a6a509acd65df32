"""Namespace for asyncio.

Invariants:

* A read of a small value in memory does not yield to the event loop.
* Arguments, results and errors are those of kvengine.Namespace.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any, overload

from kvengine.aio.base import NamespaceBase
from kvengine.aio.following import follow, shown
from kvengine.aio.runner import Runner
from kvengine.entry import Change
from kvengine.namespace import namespace as sync
from kvengine.namespace.interface.backend import described_as
from kvengine.namespace.interface.results import KeyChange, ValueWithMetadata
from kvengine.namespace.limits import list_of_keys
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.reading import WOULD_BLOCK
from kvengine.namespace.watching import key_change


class Namespace(NamespaceBase):
    """A namespace of an async database; see kvengine.Namespace, which has the same methods.

    Thread-safety: for one event loop at a time.
    """

    _runner: Runner

    def __init__(self, inner: sync.Namespace, runner: Runner) -> None:
        self._inner, self._runner = inner, runner

    def __repr__(self) -> str:
        return f"<kvengine.aio.Namespace {self.id}>"

    # -- reads

    @overload
    async def get(self, key: str, type: str = "text", *, cache_ttl: int | None = None) -> Any: ...
    @overload
    async def get(
        self, key: Iterable[str], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, Any]: ...
    async def get(self, key: Any, type: str = "text", *, cache_ttl: int | None = None) -> Any:
        """Return the value of a key, or None; for a list of keys a dict.

        With type "stream" it is a ValueStream.  See kvengine.Namespace.get.
        """
        if cache_ttl is not None:
            self.limits._check_cache_ttl(cache_ttl)
        if isinstance(key, str):
            value = self._inner._try_get(key, type)
            if value is not WOULD_BLOCK:
                return value
        found = await self._runner.run(self._inner.get, key, type)
        if type != "stream":
            return found
        if isinstance(found, dict):
            return {name: self._streamed(value) for name, value in found.items()}
        return self._streamed(found)

    @described_as(sync.Namespace.get_with_metadata)
    async def get_with_metadata(
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        found: Any = await self._runner.run(
            self._inner.get_with_metadata, key, type, cache_ttl=cache_ttl
        )
        if isinstance(found, ValueWithMetadata):
            return found._replace(value=self._streamed(found.value))
        return {
            name: one and one._replace(value=self._streamed(one.value))
            for name, one in found.items()
        }

    @described_as(sync.Namespace.get_many)
    async def get_many(
        self, keys: Iterable[str], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, Any]:
        return await self.get(list_of_keys(keys), type, cache_ttl=cache_ttl)

    @described_as(sync.Namespace.get_metadata)
    async def get_metadata(self, key: str) -> Any:
        return await self._runner.run(self._inner.get_metadata, key)

    # -- watching

    @described_as(sync.Namespace.watch)
    async def watch(
        self, prefix: str = "", *, after: int | None = None, timeout: float | None = None
    ) -> AsyncGenerator[KeyChange, None]:
        self._inner._check_usable()
        store = self._inner._store._parts
        first = store.version if after is None else after
        start = self._inner._prefix + text_bytes("prefix", prefix)
        tail = await self._runner.run(store.tail_from, first, start)

        def show(change: Change | None) -> KeyChange | None:
            if change is None:
                self._inner._check_usable()
                return None
            return key_change(change)

        async for change in shown(follow(self._runner, store, tail, timeout), show):
            yield change

    @described_as(sync.Namespace.history)
    def history(self, key: str) -> AsyncIterator[KeyChange]:
        return self._runner.iterate(lambda: self._inner.history(key))

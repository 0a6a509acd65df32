"""Namespace for asyncio.

Invariants:

* A read of a small value that is in memory returns without giving up the event loop's thread.
* Arguments, results and errors are those of kvengine.Namespace.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Any, overload

from kvengine.aio import filling
from kvengine.aio.following import follow, shown
from kvengine.aio.runner import Runner, forwarded
from kvengine.aio.streams import ValueStream, collected
from kvengine.entry import Change
from kvengine.namespace import namespace as sync
from kvengine.namespace import values
from kvengine.namespace.limits import Limits
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.reading import BLOCKED, Meter
from kvengine.namespace.results import KeyChange, KeyInfo, ValueWithMetadata
from kvengine.namespace.watching import key_change


class Namespace:
    """A namespace of an async database; see kvengine.Namespace, which has the same methods.

    Thread-safety: for one event loop at a time.
    """

    def __init__(self, inner: sync.Namespace, runner: Runner) -> None:
        self._inner, self._runner = inner, runner

    def __repr__(self) -> str:
        return f"<kvengine.aio.Namespace {self.id}>"

    @property
    def id(self) -> str:
        """32 hex digits, never changes."""
        return self._inner.id

    @property
    def limits(self) -> Limits:
        """What is accepted."""
        return self._inner.limits

    @property
    def meter(self) -> Meter:
        """What was used of it in this process."""
        return self._inner.meter

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
            self.limits.check_cache_ttl(cache_ttl)
        if isinstance(key, str):
            value = self._inner.get_resident(key, type)
            if value is not BLOCKED:
                return value
        found = await self._runner.run(self._inner.get, key, type)
        if type != "stream":
            return found
        if isinstance(found, dict):
            return {name: self._streamed(value) for name, value in found.items()}
        return self._streamed(found)

    def _streamed(self, value: Any) -> Any:
        return ValueStream(value, self._runner) if isinstance(value, values.ValueStream) else value

    async def get_with_metadata(
        self, key: Any, type: str = "text", *, cache_ttl: int | None = None
    ) -> Any:
        """Return ValueWithMetadata; for a list a dict.  See kvengine.Namespace."""
        found: Any = await self._runner.run(
            self._inner.get_with_metadata, key, type, cache_ttl=cache_ttl
        )
        if isinstance(found, ValueWithMetadata):
            return found._replace(value=self._streamed(found.value))
        return {
            name: one and one._replace(value=self._streamed(one.value))
            for name, one in found.items()
        }

    async def get_many(self, keys: Iterable[str], type: str = "text") -> dict[str, Any]:
        """Return a dict from each key to its value, None for each that is absent."""
        return await self.get(list(keys), type)

    async def get_metadata(self, key: str) -> Any:
        """Return KeyDetails(name, expiration, metadata, version, size), or None."""
        return await self._runner.run(self._inner.get_metadata, key)

    # -- changes

    async def put(self, key: str, value: Any, **options: Any) -> int:
        """Store a value and return the version of the change; see kvengine.Namespace.put.

        The value may be an async iterable of bytes, or have an async `read(n)`, too.
        """
        value = await collected(self.limits, value)
        return await self._runner.run(self._inner.put, key, value, **options)

    delete = forwarded(sync.Namespace.delete)
    touch = forwarded(sync.Namespace.touch)
    increment = forwarded(sync.Namespace.increment)
    put_many = forwarded(sync.Namespace.put_many)
    delete_many = forwarded(sync.Namespace.delete_many)
    delete_prefix = forwarded(sync.Namespace.delete_prefix)

    # -- files

    export = forwarded(sync.Namespace.export)
    import_ = forwarded(sync.Namespace.import_)

    # -- lists

    list = forwarded(sync.Namespace.list)
    count = forwarded(sync.Namespace.count)
    size = forwarded(sync.Namespace.size)

    def keys(
        self, prefix: str | None = None, *, reverse: bool = False, start_after: str | None = None
    ) -> AsyncIterator[KeyInfo]:
        """Return an async iterator over the keys of all pages; see list()."""
        return self._runner.iterate(
            lambda: self._inner.keys(prefix, reverse=reverse, start_after=start_after)
        )

    # -- watching

    async def watch(
        self, prefix: str = "", *, after: int | None = None, timeout: float | None = None
    ) -> AsyncGenerator[KeyChange, None]:
        """Yield the changes of keys with a prefix, as they come; see kvengine.Namespace.watch."""
        self._inner.check_usable()
        store = self._inner.store
        first = store.version if after is None else after
        start = self._inner.prefix + text_bytes("prefix", prefix)
        tail = await self._runner.run(store.tail_from, first, start)

        def show(change: Change | None) -> KeyChange | None:
            if change is None:
                self._inner.check_usable()
                return None
            return key_change(change)

        async for change in shown(follow(self._runner, store, tail, timeout), show):
            yield change

    def history(self, key: str) -> AsyncIterator[KeyChange]:
        """Return an async iterator over the changes of a key that the log still has."""
        return self._runner.iterate(lambda: self._inner.history(key))

    # -- filling

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
        """Return the value of a key; if there is none, call or await `make` and store its result.

        Of several tasks that miss the key at once only one calls `make`.
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
        """Return a decorator that keeps what a function, async or not, returns in this namespace.

        The decorated function is async.  See kvengine.Namespace.memoize.
        """
        return filling.memoize(self, type, key, name, {"expiration_ttl": expiration_ttl})

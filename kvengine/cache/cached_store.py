"""CachedStore: a store with its popular values in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from kvengine.cache.cache import CacheCore, CacheInfo
from kvengine.cache.front import Front
from kvengine.engine.access.mapping import ABSENT, Items, StoreMapping, Values
from kvengine.engine.store import Store
from kvengine.errors import InvalidType, KeyNotFound
from kvengine.file.system import fork_watch


class CachedStore(Front, StoreMapping):
    """A store with a cache that returns popular values from memory, without a copy.

    No read returns a value older than the last acknowledged write, even one made by another
    process: the cache follows the log.  Write through it, or to the store itself.

    >>> from kvengine import Store
    >>> with Store.in_memory() as store:
    ...     cached = CachedStore(store, memory_bytes=1 << 20)
    ...     store.put(b"flag", b"on")
    ...     cached[b"flag"], cached[b"flag"], cached.cache_info().hits
    1
    (b'on', b'on', 1)

    Args:
        store: an open Store; it may be read-only and follow a writer in another process.
        memory_bytes: the bytes of memory for values, keys and entries.
        policy: see kvengine.Cache.

    Raises:
        InvalidType: `store` is not a Store.
        InvalidRequest: another argument is not valid.

    Thread-safety: threads may share it.
    """

    def __new__(
        cls, store: Store, *, memory_bytes: int = 64 << 20, policy: str = "adaptive"
    ) -> Self:
        """Make the compiled part."""
        if not isinstance(store, Store):
            raise InvalidType(f"a CachedStore needs a Store, not {type(store).__name__}")
        cache = CacheCore(memory_bytes=memory_bytes, policy=policy)
        made = super().__new__(cls, store, cache)
        made._cache = cache
        fork_watch(made, CachedStore._after_fork)
        return made

    _cache: CacheCore

    def __getitem__(self, key: Any) -> bytes:
        value: bytes | None = self.get(key)
        if value is None:
            raise KeyNotFound(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.store[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.store[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.store)

    def __len__(self) -> int:
        return len(self.store)

    def keys(self) -> Any:
        """Return a view of the keys; see Store.keys()."""
        return self.store.keys()

    def items(self) -> Items:
        """Return a view of the (key, value) pairs; see Store.items()."""
        return self.store.items()

    def values(self) -> Values:
        """Return a view of the values; see Store.values()."""
        return self.store.values()

    def pop(self, key: Any, default: Any = ABSENT) -> Any:
        """Delete a key and return its value, or `default`; see Store.pop()."""
        return self.store.pop(key, default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key; store `default` first if the key is absent."""
        return self.store.setdefault(key, default)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Put many pairs; see Store.update()."""
        self.store.update(other, **more)

    def clear(self) -> None:
        """Delete every key; see Store.clear()."""
        self.store.clear()

    def put(
        self,
        key: Any,
        value: Any,
        *,
        metadata: Any = b"",
        expires_at: float | None = None,
        if_version: int | None = None,
        durability: str | None = None,
    ) -> int:
        """Store a value and return the version of the change; see Store.put()."""
        return self.store.put(
            key,
            value,
            metadata=metadata,
            expires_at=expires_at,
            if_version=if_version,
            durability=durability,
        )

    def delete(
        self, key: Any, *, if_version: int | None = None, durability: str | None = None
    ) -> int:
        """Delete a key and return the version of the change; see Store.delete()."""
        return self.store.delete(key, if_version=if_version, durability=durability)

    def cache_info(self) -> CacheInfo:
        """Return CacheInfo(hits, misses, maxsize, currsize); sizes in bytes."""
        return self._cache.cache_info()

    def __repr__(self) -> str:
        return f"<kvengine.CachedStore of {self.store!r}>"

"""Cache: the memory cache with the conventions of cachetools."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any

from kvengine.cache.cache import CacheCore, CacheInfo
from kvengine.cache.memoize import memoize
from kvengine.engine.access.mapping import ABSENT

__all__ = ["Cache", "CacheInfo"]


class Items(ItemsView[Any, Any]):
    """The (key, value) pairs of a cache; what goes while they are looked at is left out."""

    _mapping: CacheCore

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for key in self._mapping:
            value = self._mapping.peek(key, ABSENT)
            if value is not ABSENT:
                yield key, value


class Values(ValuesView[Any]):
    """The values of a cache; what goes while they are looked at is left out."""

    _mapping: CacheCore

    def __contains__(self, wanted: object) -> bool:
        return any(value is wanted or value == wanted for value in self)

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in Items(self._mapping))


class Cache(CacheCore, MutableMapping[Any, Any]):
    """A bounded mapping that evicts the entries worth least.

    >>> cache = Cache(maxsize=2)
    >>> cache["a"] = 1
    >>> cache.get("a"), cache.get("b", "none")
    (1, 'none')
    >>> cache.cache_info()
    CacheInfo(hits=1, misses=1, maxsize=2, currsize=1)

    Args:
        maxsize: the largest total size of all entries; with `memory_bytes`, the largest number of
            entries.
        getsizeof: returns the size of a value; without it each entry has size 1.
        ttl: seconds until an entry expires; it expires up to 10 ms early, never late.
        memory_bytes: the bytes of memory that entries may use: keys and values, if they are str or
            bytes, and 64 bytes per entry.  For other objects only the object itself is counted;
            pass `getsizeof`, or a size to set().
        policy: "adaptive" (the default) or "lru".
        size_weight: with sizes, the worth of an entry is divided by its size to this power: 1
            maximizes the hits among requests, 0 among bytes.
        timer: returns the time in seconds; for tests.
        seed: of the hash that finds entries; None: random.  With a seed, and keys that are int or
            bytes, the same calls evict the same entries in every process.

    Raises:
        InvalidRequest: an argument is not valid.

    Thread-safety: threads may share it.
    """

    __slots__ = ()

    def items(self) -> Items:
        """Return a view of the (key, value) pairs; going through it counts no reads."""
        return Items(self)

    def values(self) -> Values:
        """Return a view of the values; going through it counts no reads."""
        return Values(self)

    def memoize(
        self, *, ttl: float | None = None, key: Callable[..., Any] | None = None
    ) -> Callable[[Callable[..., Any]], Any]:
        """Return a decorator that caches the results of a function, async or not.

        When several calls have the same arguments at the same time, only one runs the function.
        Functions may share a cache.  `function.forget(...)` removes the result of a call;
        `function.cache_info()` and `function.cache_clear()` are those of the cache.  A result that
        is being computed at that moment is returned to its waiting callers, but not cached.

        >>> cache = Cache(maxsize=100)
        >>> @cache.memoize(ttl=60)
        ... def square(number):
        ...     return number * number
        >>> square(7), square(7), square.cache_info().hits
        (49, 49, 1)

        Args:
            ttl: seconds until a result expires, instead of the cache's.
            key: computes the key of a call from its arguments; None: all arguments are the key.

        Raises:
            InvalidType: it is not a function, or is a generator; or, at a call, an argument is not
                hashable, or the result can be consumed only once.
        """
        return lambda function: memoize(self, function, ttl, key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(maxsize={self.maxsize}, currsize={self.currsize})"

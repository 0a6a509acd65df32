"""Cache: the memory cache with the conventions of cachetools."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any

from kvengine.cache.cache import CacheCore, CacheInfo
from kvengine.cache.memoize import MISSING, memoize

__all__ = ["Cache", "CacheInfo"]


class Items(ItemsView[Any, Any]):
    """The (key, value) pairs of a cache; what goes while they are looked at is left out."""

    _mapping: CacheCore

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for key in self._mapping:
            value = self._mapping.peek(key, MISSING)
            if value is not MISSING:
                yield key, value


class Values(ValuesView[Any]):
    """The values of a cache; what goes while they are looked at is left out."""

    _mapping: CacheCore

    def __contains__(self, wanted: object) -> bool:
        return any(value is wanted or value == wanted for value in self)

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in Items(self._mapping))


class Cache(CacheCore, MutableMapping[Any, Any]):
    """A mapping that is bounded, and lets go what is worth least.

    >>> cache = Cache(maxsize=2)
    >>> cache["a"] = 1
    >>> cache.get("a"), cache.get("b", "none")
    (1, 'none')
    >>> cache.cache_info()
    CacheInfo(hits=1, misses=1, maxsize=2, currsize=1)

    Args:
        maxsize: what the sizes of all entries may come to; with `memory_bytes`, how many entries
            there may be.
        getsizeof: gives the size of a value; without it each entry counts as one.
        ttl: seconds for which a value is held, never longer and at most 10 ms less.
        memory_bytes: how many bytes of memory the entries may take: their keys and values, if these
            are str or bytes, and 64 bytes for each entry.  Of other objects only the object itself
            is counted: give `getsizeof`, or a size to set().
        policy: "adaptive" (the default) or "lru".
        size_weight: with sizes, what an entry is worth is divided by its size to this power: with 1
            most requests are hits, with 0 most bytes.
        timer: gives the time in seconds; for tests.
        seed: of the hash that finds entries; None: by chance.  With one, and keys that are int or
            bytes, the same calls let the same entries go, in every process.

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
        """Return a decorator that keeps what a function, also an async one, returns.

        Of several calls with the same arguments at once only one runs the function.  Functions may
        share a cache.  `function.forget(...)` drops what a call has kept, `function.cache_info()`
        and `function.cache_clear()` are those of the cache.  What is being made at that moment is
        given to those who wait for it, and is not kept.

        >>> cache = Cache(maxsize=100)
        >>> @cache.memoize(ttl=60)
        ... def square(number):
        ...     return number * number
        >>> square(7), square(7), square.cache_info().hits
        (49, 49, 1)

        Args:
            ttl: seconds for which a result is held, instead of the cache's.
            key: gives what tells calls apart from their arguments, instead of all of them.

        Raises:
            InvalidType: it is no function, or a generator; or, when it is called, an argument
                can't be hashed, or the result can be consumed only once.
        """
        return lambda function: memoize(self, function, ttl, key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(maxsize={self.maxsize}, currsize={self.currsize})"

"""Cache: the memory cache with the conventions of cachetools."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from kvengine.tier.cache import CacheCore, CacheInfo

__all__ = ["Cache", "CacheInfo"]


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
        policy: "adaptive" (the default), "lru", "s3fifo", "wtinylfu" or "gdsf".
        size_weight: with sizes, what an entry is worth is divided by its size to this power: with 1
            most requests are hits, with 0 most bytes.
        timer: gives the time in seconds; for tests.
        seed: of the hash that finds entries; None: by chance.

    Raises:
        InvalidRequest: an argument is not valid.

    Thread-safety: threads may share it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(maxsize={self.maxsize}, currsize={self.currsize})"

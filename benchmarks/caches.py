"""Our memory cache and its peers, behind two calls: get and set.

Invariants: a peer that is not installed is named on stderr and left out; nothing stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvengine import Cache

POLICIES = ("adaptive", "lru")
Access = tuple[Callable[[Any], Any], Callable[..., Any]]  # get(key) -> None if missing, set(key, v)


def ours(policy: str, size: int, ttl: float | None = None) -> Access:
    """Our cache of so many entries."""
    cache = Cache(size, ttl=ttl, policy=policy, seed=1)
    return cache.get, cache.set


def _cachebox(size: int) -> Access:
    import cachebox

    cache: Any = cachebox.LRUCache(size)
    return cache.get, cache.insert


def _lru_dict(size: int) -> Access:
    import lru

    cache: Any = lru.LRU(size)
    return cache.get, cache.__setitem__


def _moka(size: int) -> Access:
    import moka_py

    cache: Any = moka_py.Moka(size)
    return cache.get, cache.set


def _theine(size: int) -> Access:
    import theine

    cache: Any = theine.Cache(size)
    return (lambda key: cache.get(key)[0]), cache.set


def _cachetools(size: int) -> Access:
    import cachetools

    cache: Any = cachetools.LRUCache(size)
    return cache.get, cache.__setitem__


PEERS: dict[str, Callable[[int], Access]] = {
    "cachebox LRU": _cachebox,
    "lru-dict": _lru_dict,
    "moka-py": _moka,
    "theine": _theine,
    "cachetools LRU": _cachetools,
}


def installed(say: Callable[[str], None]) -> dict[str, Callable[[int], Access]]:
    """Return the peers that can be imported; say loudly which can't."""
    found = {}
    for name, make in PEERS.items():
        try:
            make(8)
        except ImportError as error:
            say(f"!!! SKIPPED: {name} is not installed ({error}); pip install 'kvengine[bench]'")
        else:
            found[name] = make
    return found

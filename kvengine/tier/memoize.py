"""memoize: what a function returned is kept in a cache.

Invariants:

* Of all calls with the same arguments that find nothing at once, one runs the function.
* What it raised is not kept.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any

from kvengine.errors import InvalidType
from kvengine.tier.flights import AsyncFlights, Flights

MISSING = object()


class Arguments:
    """The arguments of a call, as a key: equal and hashed like its parts, and like nothing else."""

    __slots__ = ("hash", "parts")

    def __init__(self, parts: tuple[Hashable, ...]) -> None:
        self.parts, self.hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arguments) and self.parts == other.parts


def key_of(owner: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Return the key of a call of a function.

    Raises:
        InvalidType: an argument can't be hashed.
    """
    try:
        return Arguments((owner, args, *sorted(kwargs.items())))
    except TypeError as error:
        raise InvalidType(f"arguments of a memoized function are hashable: {error}") from None


def memoize(
    cache: Any, function: Callable[..., Any], ttl: float | None, key: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Return a function that keeps its results in a cache; Cache.memoize has the arguments."""
    if not callable(function):
        raise InvalidType(f"only a function is memoized, not {type(function).__name__}")

    def name(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        if key is None:
            return key_of(function, args, kwargs)
        return Arguments((function, key(*args, **kwargs)))

    if inspect.iscoroutinefunction(function):
        call = _async(cache, function, ttl, name)
    else:
        call = _sync(cache, function, ttl, name)
    call.cache = cache  # type: ignore[attr-defined]
    call.cache_info = cache.cache_info  # type: ignore[attr-defined]
    call.cache_clear = cache.clear  # type: ignore[attr-defined]
    call.forget = lambda *args, **kwargs: cache.delete(name(args, kwargs))  # type: ignore[attr-defined]
    return call


def _sync(
    cache: Any, function: Callable[..., Any], ttl: float | None, name: Callable[..., Hashable]
) -> Callable[..., Any]:
    flights = Flights()

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        key = name(args, kwargs)
        found = cache.get(key, MISSING)
        if found is not MISSING:
            return found

        def make() -> Any:
            again = cache.peek(key, MISSING)  # another thread may just have made it
            if again is not MISSING:
                return again
            result = function(*args, **kwargs)
            cache.set(key, result, None, ttl)
            return result

        return flights.run(key, make)

    return call


def _async(
    cache: Any, function: Callable[..., Any], ttl: float | None, name: Callable[..., Hashable]
) -> Callable[..., Any]:
    flights = AsyncFlights()

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        key = name(args, kwargs)
        found = cache.get(key, MISSING)
        if found is not MISSING:
            return found

        async def make() -> Any:
            again = cache.peek(key, MISSING)  # another task may just have made it
            if again is not MISSING:
                return again
            result = await function(*args, **kwargs)
            cache.set(key, result, None, ttl)
            return result

        return await flights.run(key, make)

    return call

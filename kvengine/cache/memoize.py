"""memoize: the results of a function are cached.

Invariants:

* When several calls with the same arguments miss at the same time, one runs the function.
* Exceptions are not cached.
* A result whose computation began before forget(), cache_clear() or the cache's clear() is not
  cached.
* A result that can be consumed only once is refused.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterator
from typing import Any

from kvengine.cache.single_flight import Flight, SingleFlight
from kvengine.engine.access.mapping import ABSENT
from kvengine.errors import InvalidType


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
        raise InvalidType(f"arguments of a memoized function must be hashable: {error}") from None


def is_async(function: Callable[..., Any]) -> bool:
    """True for a function, method, partial or object whose call gives a coroutine.

    Raises:
        InvalidType: it is not callable, or its call gives a generator.
    """
    if not callable(function):
        raise InvalidType(f"only functions can be memoized, not {type(function).__name__}")
    while isinstance(function, functools.partial):
        function = function.func
    forms = (function, getattr(type(function), "__call__", None))  # noqa: B004 - of an object
    if any(inspect.isgeneratorfunction(form) or inspect.isasyncgenfunction(form) for form in forms):
        raise InvalidType(
            f"{name_of(function)} is a generator: what it yields can be consumed only once; "
            "memoize a function that returns a list"
        )
    return any(inspect.iscoroutinefunction(form) for form in forms)


def name_of(function: Callable[..., Any]) -> str:
    """Return how to call a function in a message."""
    return getattr(function, "__qualname__", None) or f"an object of {type(function).__qualname__}"


def kept(function: Callable[..., Any], result: Any) -> Any:
    """Return a result that can be given out more than once.

    Raises:
        InvalidType: it can't: it is an iterator or a coroutine.
    """
    if isinstance(result, (Iterator, AsyncIterator, Coroutine)):
        if isinstance(result, Coroutine):
            result.close()
        raise InvalidType(
            f"{name_of(function)} returned a {type(result).__name__}, which can be consumed only "
            "once; return a list or another value"
        )
    return result


def memoize(
    cache: Any, function: Callable[..., Any], ttl: float | None, key: Callable[..., Any] | None
) -> Callable[..., Any]:
    """Return a function that keeps its results in a cache; Cache.memoize has the arguments."""

    def name(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        if key is None:
            return key_of(function, args, kwargs)
        return Arguments((function, key(*args, **kwargs)))

    flights = SingleFlight(cache._epoch)
    form = _async if is_async(function) else _sync
    call = form(cache, function, ttl, name, flights)

    def forget(*args: Any, **kwargs: Any) -> bool:
        """Drop what a call has kept; return True if it had."""
        wanted = name(args, kwargs)
        flights.forget(wanted)
        return bool(cache.delete(wanted))

    call.cache = cache  # type: ignore[attr-defined]
    call.cache_info = cache.cache_info  # type: ignore[attr-defined]
    call.cache_clear = cache.clear  # type: ignore[attr-defined]
    call.forget = forget  # type: ignore[attr-defined]
    return call


def _sync(
    cache: Any,
    function: Callable[..., Any],
    ttl: float | None,
    name: Callable[..., Hashable],
    flights: SingleFlight,
) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        key = name(args, kwargs)
        found = cache.get(key, ABSENT)
        if found is not ABSENT:
            return found

        def make(flight: Flight) -> Any:
            again = cache.peek(key, ABSENT)  # another thread may just have made it
            if again is not ABSENT:
                return again
            result = kept(function, function(*args, **kwargs))
            cache._set_made(flight, key, result, ttl)
            return result

        return flights.run(key, make)

    return call


def _async(
    cache: Any,
    function: Callable[..., Any],
    ttl: float | None,
    name: Callable[..., Hashable],
    flights: SingleFlight,
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        key = name(args, kwargs)
        found = cache.get(key, ABSENT)
        if found is not ABSENT:
            return found

        async def make(flight: Flight) -> Any:
            again = cache.peek(key, ABSENT)  # another task may just have made it
            if again is not ABSENT:
                return again
            result = kept(function, await function(*args, **kwargs))
            cache._set_made(flight, key, result, ttl)
            return result

        return await flights.run_async(key, make)

    return call

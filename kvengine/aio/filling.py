"""get_or_set and memoize for async functions.

Invariants:

* Of all tasks that miss a key at once one makes the value; the others wait for it, or get its
  exception.  If it is cancelled, one of the others takes over.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from kvengine.errors import InvalidRequest
from kvengine.namespace import filling
from kvengine.namespace.filling import ABSENT, Memo

if TYPE_CHECKING:
    from kvengine.aio.namespace import Namespace


class Flights:
    """Makers under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, tuple[asyncio.Future[None], asyncio.Task[Any] | None]] = {}

    async def run(self, key: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """Return what `make` gives, here or in the task that came first."""
        while key in self._flights:
            flight, owner = self._flights[key]
            if owner is asyncio.current_task():
                raise InvalidRequest(f"the value of {key!r} needs itself to be made")
            await asyncio.shield(flight)  # then look again: its value is stored, or it failed
            error = getattr(flight, "error", None)
            if error is not None:
                raise error
        return await self._make(key, make)

    async def _make(self, key: str, make: Callable[[], Awaitable[Any]]) -> Any:
        flight = _Flight(loop=asyncio.get_running_loop())
        self._flights[key] = flight, asyncio.current_task()
        try:
            return await make()
        except Exception as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.set_result(None)


class _Flight(asyncio.Future[None]):
    error: Exception | None = None


async def get_or_set(
    namespace: Namespace, flights: Flights, key: str, make: Any, kind: str, options: dict[str, Any]
) -> Any:
    """Return a value, made if it is missing; Namespace.get_or_set has the arguments."""
    inner, run = namespace._inner, namespace._runner.run
    found = await run(filling.read, inner, key, kind)
    if found is not ABSENT:
        return found

    async def fill() -> Any:
        again = await run(filling.read, inner, key, kind)  # another task may just have made it
        if again is not ABSENT:
            return again
        value = make()
        if inspect.isawaitable(value):
            value = await value
        return await run(filling.write, inner, key, value, kind, options)

    return await flights.run(key, fill)


def memoize(
    namespace: Namespace, kind: str, key: Callable[..., str] | None, options: dict[str, Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator; Namespace.memoize has the arguments."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        memo = Memo(function, key, namespace.limits.key_bytes)

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await namespace.get_or_set(
                memo.key_of(args, kwargs),
                functools.partial(function, *args, **kwargs),
                type=kind,
                **options,
            )

        async def forget(*args: Any, **kwargs: Any) -> int:
            return await namespace.delete(memo.key_of(args, kwargs))

        call.forget = forget  # type: ignore[attr-defined]
        return call

    return decorate

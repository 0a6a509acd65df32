"""get_or_set and memoize for async functions.

Invariants:

* Of all tasks that miss a key at once one makes the value; the others wait for it, or get its
  exception.  If it is cancelled, one of the others takes over.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvengine.namespace import filling
from kvengine.namespace.filling import ABSENT, Memo
from kvengine.tier.flights import AsyncFlights

if TYPE_CHECKING:
    from kvengine.aio.namespace import Namespace


async def get_or_set(
    namespace: Namespace,
    flights: AsyncFlights,
    key: str,
    make: Any,
    kind: str,
    options: dict[str, Any],
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

"""get_or_set and memoize for async functions.

Invariants:

* Of all tasks and threads that miss a key at once one makes the value; the others wait for it, or
  get its exception.  If it is cancelled, one of the others takes over.
* What is stored, and what is not, is as in namespace/interface/filling.py.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvengine.cache.memoize import is_async, kept
from kvengine.cache.single_flight import Flight
from kvengine.engine.access.mapping import ABSENT
from kvengine.namespace.interface.call_keys import CallKeys
from kvengine.namespace.interface.filling import check_make
from kvengine.namespace.limits import RELAXED

if TYPE_CHECKING:
    from kvengine.aio.base import NamespaceBase


async def get_or_set(
    namespace: NamespaceBase, key: str, make: Any, kind: str, options: dict[str, Any]
) -> Any:
    """Return a value, computing it if it is missing; see Namespace.get_or_set."""
    check_make(make)
    found = await namespace._read_made(key, kind)
    if found is not ABSENT:
        return found

    async def fill(flight: Flight) -> Any:
        again = await namespace._read_made(key, kind)  # another task may just have made it
        if again is not ABSENT:
            return again
        value = make()
        if inspect.isawaitable(value):
            value = await value
        return await namespace._store_made(flight, key, value, kind, options)

    return await namespace._inner._single_flight.run_async(key, fill)


def memoize(
    namespace: NamespaceBase,
    kind: str,
    key: Callable[..., str] | None,
    name: str | None,
    options: dict[str, Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator; Namespace.memoize has the arguments."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        is_async(function)  # refuses what is no function
        inner: Any = namespace._inner
        # None: a server would have to be asked, and here nobody may wait.
        limits = inner._known_limits if hasattr(inner, "_known_limits") else inner.limits
        keys = CallKeys(function, key, (limits or RELAXED).key_bytes, name)

        async def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
            nonlocal limits, keys
            if limits is None:
                limits = await namespace._runner.run(lambda: inner.limits)
                keys = CallKeys(function, key, limits.key_bytes, name)
            return keys.key_of(args, kwargs)

        async def make(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            result = function(*args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
            return kept(function, result)

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await namespace.get_or_set(
                await key_of(args, kwargs),
                functools.partial(make, args, kwargs),
                type=kind,
                **options,
            )

        async def forget(*args: Any, **kwargs: Any) -> int:
            return await namespace.delete(await key_of(args, kwargs))

        call.forget = forget  # type: ignore[attr-defined]
        return call

    return decorate

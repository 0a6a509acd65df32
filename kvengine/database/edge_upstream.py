"""The calls that an edge forwards to the database behind it: namespaces, log, usage.

Invariants:

* The primary answers, so nothing here is stale.
* A namespace that was deleted through an edge answers no reads there any more.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from kvengine.client.base import DatabaseBase

P = ParamSpec("P")
T = TypeVar("T")


def passed_on(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Return a method that calls the method of its name of the upstream."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: UpstreamCalls, *args: P.args, **named: P.kwargs) -> T:
        return cast("T", getattr(self._asked(), name)(*args, **named))

    call.__isabstractmethod__ = False  # type: ignore[attr-defined]  # wraps() copied it
    return cast("Callable[Concatenate[Any, P], T]", call)


class UpstreamCalls(DatabaseBase):
    """The methods of a database that an edge forwards to its upstream.

    Thread-safety: threads may share it.
    """

    upstream: Any
    _node: Any
    _check_usable: Any
    _wrote: Any

    def _asked(self) -> Any:
        self._check_usable()
        return self.upstream

    @property
    def version(self) -> int:
        return int(self._asked().version)

    create_namespace = passed_on(DatabaseBase.create_namespace)
    set_bounds = passed_on(DatabaseBase.set_bounds)
    namespaces = passed_on(DatabaseBase.namespaces)
    rename = passed_on(DatabaseBase.rename)
    wait_for_removals = passed_on(DatabaseBase.wait_for_removals)
    tail = passed_on(DatabaseBase.tail)
    usage = passed_on(DatabaseBase.usage)
    sync = passed_on(DatabaseBase.sync)

    def delete(self, namespace: str) -> None:
        lost = True  # also if it is interrupted
        try:
            self._asked().delete(namespace)
            lost = False
        finally:
            self._wrote(None, None, lost=lost)
            self._node.invalidations += 1

"""Values that are computed when they are missing: get_or_set and memoize.

Invariants:

* When several threads and tasks of this process miss a key at the same time, one computes the
  value, and the others wait for it, or get its exception.  Other processes may compute it too; the
  first one wins.
* A concurrent write is never overwritten: the computed value is stored only if the key is still
  absent, and not if it was deleted meanwhile through this namespace object.
* The caller gets the same value as a later read: it went through the same bytes.
* If an exception is raised, nothing is stored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvengine.cache.memoize import is_async, kept, name_of
from kvengine.cache.single_flight import Flight
from kvengine.engine.access.mapping import ABSENT
from kvengine.errors import InvalidRequest, InvalidType, VersionConflict
from kvengine.namespace.interface.call_keys import CallKeys
from kvengine.namespace.limits import Limits, without_alias
from kvengine.namespace.values import decode_json, encode_value

if TYPE_CHECKING:
    from kvengine.namespace.interface.one_key import KeyMethods

TYPES = ("text", "bytes", "json")


def read(namespace: KeyMethods, key: str, kind: str, newest: bool = False) -> Any:
    """Return a value, or ABSENT; None is a value of type json.

    Args:
        namespace, key: where.
        kind: one of TYPES.
        newest: a copy will not do.
    """
    check_type(kind)
    namespace._check_one(key)
    find = namespace._newest if newest else namespace.get_with_metadata
    found = find(key, kind)
    return found.value if found.version else ABSENT


def check_type(kind: str) -> None:
    """Refuse a type that get_or_set() does not have.

    Raises:
        InvalidRequest: it is not one of TYPES.
    """
    if without_alias(kind) not in TYPES:
        raise InvalidRequest(f"the type must be one of {', '.join(TYPES)}, not {kind!r}")


def encoded(limits: Limits, value: Any, kind: str) -> bytes:
    """Return a computed value in its stored form."""
    return bytes(encode_value(limits, value, "json" if kind == "json" else None, None))


def decoded(key: str, data: bytes, kind: str) -> Any:
    """Return what a read of the key returns."""
    if kind == "json":
        return decode_json(key, data)
    return data.decode("utf-8", "replace") if kind == "text" else data


def write(
    namespace: KeyMethods,
    flight: Flight,
    key: str,
    value: Any,
    kind: str,
    options: dict[str, Any],
) -> Any:
    """Store a computed value, and return what a read of the key returns."""
    data = encoded(namespace.limits, value, kind)
    put = functools.partial(namespace.put, key, data, if_version=0, **options)
    try:
        namespace._single_flight.store(key, flight, put)
    except VersionConflict:  # another process was faster, or somebody put a value
        found = read(namespace, key, kind, newest=True)
        if found is not ABSENT:
            return found
    return decoded(key, data, kind)


def check_make(make: object) -> None:
    """Refuse a value, or a coroutine, in place of a function."""
    if not callable(make):
        kind = type(make).__name__
        raise InvalidType(f"make must be a function that returns the value, not {kind}")


def get_or_set(
    namespace: KeyMethods,
    key: str,
    make: Callable[[], Any],
    kind: str,
    options: dict[str, Any],
) -> Any:
    """Return a value, computing it if it is missing; see Namespace.get_or_set."""
    check_make(make)
    found = read(namespace, key, kind)
    if found is not ABSENT:
        return found

    def fill(flight: Flight) -> Any:
        again = read(namespace, key, kind)  # another thread may just have made it
        if again is not ABSENT:
            return again
        return write(namespace, flight, key, make(), kind, options)

    return namespace._single_flight.run(key, fill)


def memoize(
    namespace: KeyMethods,
    kind: str,
    key: Callable[..., str] | None,
    name: str | None,
    options: dict[str, Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator; Namespace.memoize has the arguments."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if is_async(function):
            raise InvalidType(f"{name_of(function)} is async: use a namespace of kvengine.aio")
        keys = CallKeys(function, key, namespace.limits.key_bytes, name)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return namespace.get_or_set(
                keys.key_of(args, kwargs),
                lambda: kept(function, function(*args, **kwargs)),
                type=kind,
                **options,
            )

        call.forget = lambda *args, **kwargs: namespace.delete(  # type: ignore[attr-defined]
            keys.key_of(args, kwargs)
        )
        return call

    return decorate

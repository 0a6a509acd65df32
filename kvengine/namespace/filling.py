"""Values that are made when they are missing: get_or_set and memoize.

Invariants:

* Of all threads of this process that miss a key at once, one makes the value; the others wait for
  it, or get its exception.  Other processes may make it too; the last one wins.
* What the maker's caller gets is what a later read gives: it went through the same bytes.
* An exception stores nothing.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import xxhash

from kvengine.errors import InvalidRequest, InvalidType
from kvengine.namespace.values import decode_json, encode_value
from kvengine.tier.flights import Flights

if TYPE_CHECKING:
    from kvengine.namespace.namespace import Namespace

TYPES = ("text", "bytes", "json")
ABSENT = object()


def read(namespace: Namespace, key: str, kind: str) -> Any:
    """Return a value, or ABSENT; None is a value of type json."""
    if kind not in TYPES:
        raise InvalidRequest(f"the type must be one of {', '.join(TYPES)}, not {kind!r}")
    found = namespace.get_with_metadata(key, kind)
    return found.value if found.version else ABSENT


def write(namespace: Namespace, key: str, value: Any, kind: str, options: dict[str, Any]) -> Any:
    """Store a value, and return what a read of it gives."""
    data = bytes(encode_value(namespace.limits, value, "json" if kind == "json" else None, None))
    namespace.put(key, data, **options)
    if kind == "bytes":
        return data
    return decode_json(key, data) if kind == "json" else data.decode("utf-8", "replace")


def get_or_set(
    namespace: Namespace,
    flights: Flights,
    key: str,
    make: Callable[[], Any],
    kind: str,
    options: dict[str, Any],
) -> Any:
    """Return a value, made if it is missing; Namespace.get_or_set has the arguments."""
    found = read(namespace, key, kind)
    if found is not ABSENT:
        return found

    def fill() -> Any:
        again = read(namespace, key, kind)  # another thread may just have made it
        if again is not ABSENT:
            return again
        return write(namespace, key, make(), kind, options)

    return flights.run(key, fill)


# -- memoize


class Memo:
    """How the calls of a function become keys.

    Raises:
        InvalidType: `key` is no callable.
    """

    def __init__(
        self, function: Callable[..., Any], key: Callable[..., str] | None, key_bytes: int
    ) -> None:
        if key is not None and not callable(key):
            raise InvalidType(f"key must be callable or None, not {type(key).__name__}")
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._signature, self._key = inspect.signature(function), key
        self._key_bytes = key_bytes

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the key of a call: equal arguments, however they are passed, give the same one.

        Raises:
            InvalidType: an argument has no form in JSON.
        """
        if self._key is not None:
            return self._key(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            text = json.dumps(list(bound.arguments.values()), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidType(
                f"the arguments of {self._name} can't be a key ({error}); give memoize a key="
            ) from None
        key = f"{self._name}:{text}"
        if len(key.encode()) > self._key_bytes:
            digest = xxhash.xxh3_128_hexdigest(text.encode())
            key = f"{self._name[: self._key_bytes // 8]}:{digest}"
        return key


def memoize(
    namespace: Namespace,
    kind: str,
    key: Callable[..., str] | None,
    options: dict[str, Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator; Namespace.memoize has the arguments."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):
            raise InvalidType(
                f"{function.__qualname__} is async: use memoize of a namespace of kvengine.aio"
            )
        memo = Memo(function, key, namespace.limits.key_bytes)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return namespace.get_or_set(
                memo.key_of(args, kwargs),
                functools.partial(function, *args, **kwargs),
                type=kind,
                **options,
            )

        call.forget = lambda *args, **kwargs: namespace.delete(  # type: ignore[attr-defined]
            memo.key_of(args, kwargs)
        )
        return call

    return decorate

"""A namespace as a dict.

Invariants:

* Everything here is built on the methods of one_key.py and many_keys.py.
* popitem and setdefault change exactly what they have read, or read again.
* A key that is deleted while a view is iterated is left out.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from itertools import chain
from typing import Any

from kvengine.errors import KeyNotFound
from kvengine.namespace.interface.many_keys import NamespaceMethods
from kvengine.namespace.values import encode_value

PAIRS_AT_ONCE = 1000
FIRST_KEYS = 8  # that popitem() tries: others may take the first ones


class Items(ItemsView[str, Any]):
    """The (key, value) pairs of a namespace, in the order of the keys."""

    def __init__(self, namespace: NamespaceMapping, type: str = "text") -> None:
        super().__init__(namespace)
        self._namespace, self._type = namespace, type

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return self._pairs(iter(self._namespace))

    def __reversed__(self) -> Iterator[tuple[str, Any]]:
        return self._pairs(reversed(self._namespace))

    def _pairs(self, keys: Iterator[str]) -> Iterator[tuple[str, Any]]:
        for key in keys:
            value = self._namespace.get(key, self._type)
            if value is not None:
                yield key, value

    def __repr__(self) -> str:
        return f"<items of {self._namespace!r}>"


class Values(ValuesView[Any]):
    """The values of a namespace, as text, in the order of their keys."""

    def __init__(self, namespace: NamespaceMapping) -> None:
        super().__init__(namespace)
        self._namespace = namespace

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in Items(self._namespace))

    def __reversed__(self) -> Iterator[Any]:
        return (value for _, value in reversed(Items(self._namespace)))

    def __contains__(self, wanted: object) -> bool:
        return any(value == wanted for value in self)

    def __repr__(self) -> str:
        return f"<values of {self._namespace!r}>"


def _bytes_at_most(given: Any, unknown: int = 0) -> int:
    """Return at least how many bytes a key or a value takes; `unknown` for what does not say."""
    if isinstance(given, str):
        return len(given) if given.isascii() else 4 * len(given)
    if isinstance(given, (bytes, bytearray)):
        return len(given)
    return given.nbytes if isinstance(given, memoryview) else unknown


class NamespaceMapping(NamespaceMethods, MutableMapping[str, Any]):  # type: ignore[misc]
    """What every namespace is: get() and keys() are not those of a Mapping.

    Values that come from here are text, unless a `type` says otherwise.

    Thread-safety: threads may share it.
    """

    # Of two namespaces one is the other or is not: to compare their pairs would read them all.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __getitem__(self, key: str) -> Any:
        self._check_one(key)
        value = self.get(key)
        if value is None:
            raise KeyNotFound(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyNotFound(key)

    def __len__(self) -> int:
        return int(self.count())

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __reversed__(self) -> Iterator[str]:
        return self.keys(reverse=True)

    def items(self) -> Items:
        """Return a view of the (key, value) pairs, in key order; see also export_file().

        If a key is deleted meanwhile, dict(kv.items()) omits it, while dict(kv) raises KeyNotFound.
        """
        return Items(self)

    def values(self) -> Values:
        """Return a view of the values, in the order of their keys."""
        return Values(self)

    def popitem(self) -> tuple[str, Any]:
        """Delete the first key and return it with its value.

        Raises:
            KeyError: the namespace is empty.
        """
        cursor, most = None, min(FIRST_KEYS, self.limits.list_keys)
        while True:
            page = self.list(limit=most, cursor=cursor)
            for key in page.keys:
                value = self.pop(key.name, None)
                if value is not None:
                    return key.name, value
            if page.list_complete:
                raise KeyError("the namespace is empty")
            cursor = page.cursor

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, as text; store `default` first if the key is absent."""
        self._check_one(key)
        data: bytes | None = None
        while (found := self.get(key)) is None:
            if data is None:  # a stream can be read only once
                data = bytes(encode_value(self.limits, default, None, None))
            if self.add(key, data):
                return data.decode("utf-8", "replace")
        return found

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store many pairs, up to a thousand at a time; for an atomic write use put_many().

        If `other` is a namespace, its values are copied without expiration and metadata.  If a pair
        is refused, or `other` raises an error, pairs stored before stay.
        """
        pairs: Iterable[tuple[str, Any]]
        if isinstance(other, NamespaceMapping):
            pairs = Items(other, "bytes")
        elif isinstance(other, Mapping):
            pairs = other.items()
        elif hasattr(other, "keys"):
            pairs = ((key, other[key]) for key in other.keys())  # noqa: SIM118
        else:
            pairs = other
        for some in self._portions(chain(pairs, more.items())):
            self.put_many(some)

    def _portions(self, pairs: Iterable[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
        """Split pairs into portions for put_many()."""
        limits = self.limits
        most = min(PAIRS_AT_ONCE, limits.bulk_pairs)
        some: dict[str, Any] = {}
        size = 0
        for key, value in pairs:
            more = _bytes_at_most(key) + _bytes_at_most(value, limits.value_bytes)
            if some and (len(some) >= most or size + more > limits.bulk_bytes):
                yield some
                some, size = {}, 0
            some[key] = value
            size += more
        if some:
            yield some

    def clear(self) -> None:
        """Delete every key; see delete_prefix()."""
        self.delete_prefix("")

"""A namespace as a dict, and the calls that users of redis-py and diskcache expect.

Invariants:

* Everything here is made of a few methods that each namespace has: local, edge and remote.
* pop, popitem, setdefault and add change what they have seen, or look again: no two callers get the
  same value from pop(), and of several add() one returns True.
* A key that is deleted while a view is iterated is left out.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from itertools import chain
from typing import Any

from kvengine.errors import InvalidType, KeyNotFound, VersionConflict
from kvengine.namespace.page import key_of
from kvengine.namespace.results import Key
from kvengine.namespace.values import encode_value

ABSENT: Any = object()
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


class NamespaceMapping(MutableMapping[str, Any]):
    """What every namespace offers over its own get, put, delete and list.

    Values that come from here are text, unless a `type` says otherwise.

    Thread-safety: threads may share it.
    """

    get_with_metadata: Any
    get: Any
    put: Any
    put_many: Any
    delete: Any
    delete_prefix: Any
    export_file: Any
    import_file: Any
    count: Any
    list: Any
    limits: Any
    _single_flight: Any
    _list_all: Any  # (prefix, reverse, start_after) -> an iterator of KeyInfo
    _expires_at_of: Any  # (key) -> seconds since the epoch, or None
    _now: Any  # () -> seconds since the epoch, by the clock of the database

    # Of two namespaces one is the other or is not: to compare their pairs would read them all.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    # -- one key

    def exists(self, key: str) -> bool:
        """Return True if a key has a value."""
        return key in self

    def add(
        self,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
        size: int | None = None,
        durability: Any = None,
    ) -> bool:
        """Store a value if the key has none; return True if it was stored.

        See put() for the arguments and errors.
        """
        try:
            self.put(
                key,
                value,
                type=type,
                expiration=expiration,
                expiration_ttl=expiration_ttl,
                metadata=metadata,
                if_version=0,
                size=size,
                durability=durability,
            )
        except VersionConflict:
            return False
        return True

    def pop(self, key: str, default: Any = ABSENT, *, type: str = "text") -> Any:
        """Delete a key and return the value that it had, or `default`.

        What get_or_set() makes for it at this moment is not stored.  It counts as a read and, if
        there was a value, a delete.

        Args:
            type: "text", "json", "bytes" or "stream".

        Raises:
            KeyNotFound: there is no value, and no default.
            InvalidRequest: the value is not JSON, but `type` is; it stays.
            UpstreamUnavailable: a server did not answer; the key may have been deleted.
        """
        self._check_one(key)
        self._single_flight.forget(key)  # also if it is absent
        while (found := self.get_with_metadata(key, type)).version:
            try:
                if self.delete(key, if_version=found.version):
                    return found.value
            except VersionConflict:
                continue  # another writer was faster
        if default is ABSENT:
            raise KeyNotFound(key)
        return default

    def ttl(self, key: str) -> float | None:
        """Return the seconds until a key expires; None if it never does, or has no value."""
        expires_at = self._expires_at_of(key)
        return None if expires_at is None else max(expires_at - self._now(), 0.0)

    def _check_one(self, key: Any) -> None:
        """Refuse what get() takes for several keys."""
        if not isinstance(key, str):
            self.limits.refuse_key(key)

    # -- as a dict

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

    def keys(  # type: ignore[override]  # an iterator: list() would ask a view for its length
        self, prefix: str = "", *, reverse: bool = False, start_after: str | None = None
    ) -> Iterator[Key]:
        """Return an iterator over the keys, in the order of their UTF-8 bytes.

        Each is a str that also has `expiration` and `metadata`; see Key.

        Args:
            prefix: only keys that begin with it.
            reverse: the last key first.
            start_after: only keys behind this one, in the direction of the iterator.

        Raises:
            InvalidType: an argument is not a str.
            InvalidRequest: an argument is not text that UTF-8 can encode.
        """
        if not isinstance(prefix, str):
            raise InvalidType(f"prefix must be a str, not {type(prefix).__name__}")
        return map(key_of, self._list_all(prefix, reverse, start_after))

    def items(self) -> Items:
        """Return a view of the (key, value) pairs, in key order; see also export_file().

        dict(kv.items()) leaves out a key that is deleted meanwhile; dict(kv) raises KeyNotFound.
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
        """Return the value of a key, as text; store `default` first if there is none."""
        self._check_one(key)
        data: bytes | None = None
        while (found := self.get(key)) is None:
            if data is None:  # a stream can be read only once
                data = bytes(encode_value(self.limits, default, None, None))
            if self.add(key, data):
                return data.decode("utf-8", "replace")
        return found

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store many pairs, up to a thousand at a time; put_many() stores all of them or none.

        Of another namespace it takes the values as they are, without expiration and metadata.
        If a pair is refused, or `other` raises, what was stored before stays.
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
        """Cut pairs into portions that put_many() takes."""
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

    # -- the names in 0.1

    def export(self, *args: Any, **named: Any) -> Any:
        """Call export_file()."""
        return self.export_file(*args, **named)

    def import_(self, *args: Any, **named: Any) -> Any:
        """Call import_file()."""
        return self.import_file(*args, **named)

"""A store as a dict: the methods of MutableMapping, each atomic for other threads and processes.

Invariants:

* A key that is deleted while a view is iterated is left out.
* pop, popitem and setdefault change exactly what they have read, or read again; no two callers get
  the same value from pop.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, MutableMapping, ValuesView
from typing import Any

from kvengine.errors import KeyNotFound, VersionConflict

ABSENT: Any = object()


class Items(ItemsView[bytes, bytes]):
    """The (key, value) pairs of a store, in the order of the keys."""

    def __init__(self, store: StoreMapping) -> None:
        super().__init__(store)
        self._store = store

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._pairs(iter(self._store))

    def __reversed__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._pairs(reversed(self._store.keys()))

    def _pairs(self, keys: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
        # One value at a time: a scan holds up to a thousand, each as large as it likes.
        for key in keys:
            value = self._store.get(key)
            if value is not None:
                yield key, value

    def __repr__(self) -> str:
        return f"<items of {self._store!r}>"


class Values(ValuesView[bytes]):
    """The values of a store, in the order of their keys."""

    def __init__(self, store: StoreMapping) -> None:
        super().__init__(store)
        self._store = store

    def __iter__(self) -> Iterator[bytes]:
        return (value for _, value in Items(self._store))

    def __reversed__(self) -> Iterator[bytes]:
        return (value for _, value in reversed(Items(self._store)))

    def __contains__(self, wanted: object) -> bool:
        return any(value == wanted for value in self)

    def __repr__(self) -> str:
        return f"<values of {self._store!r}>"


class StoreMapping(MutableMapping[bytes, bytes]):
    """The methods of a dict, over get_entry, put, delete and keys.

    Thread-safety: threads may share it.
    """

    get_entry: Any
    put: Any
    delete: Any
    batch: Any
    _parts: Any
    keys: Any

    def items(self) -> Items:
        """Return a view of the (key, value) pairs, in byte order of the keys; see also scan()."""
        self._parts.check_usable()
        return Items(self)

    def values(self) -> Values:
        """Return a view of the values, in byte order of their keys."""
        self._parts.check_usable()
        return Values(self)

    def pop(self, key: Any, default: Any = ABSENT) -> Any:
        """Delete a key and return its value, or `default`.

        Raises:
            KeyNotFound: the key is absent, and there is no default.
        """
        while (entry := self.get_entry(key)) is not None:
            try:
                if self.delete(key, if_version=entry.version):
                    return entry.value
            except VersionConflict:
                continue  # another writer was faster
        if default is ABSENT:
            raise KeyNotFound(key)
        return default

    def popitem(self) -> tuple[bytes, bytes]:
        """Delete the first key and return it with its value.

        Raises:
            KeyError: the store is empty.
        """
        for key in self:
            value = self.pop(key, None)
            if value is not None:
                return key, value
        raise KeyError("the store is empty")

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key; store `default` first if the key is absent."""
        while True:
            found = self.get(key)
            if found is not None:
                return found
            try:
                self.put(key, default, if_version=0)
            except VersionConflict:
                continue  # another writer was faster
            return default

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Put many pairs, in batches of a few thousand."""
        pairs: Iterable[Any] = other.items() if hasattr(other, "items") else other
        if not hasattr(other, "items") and hasattr(other, "keys"):
            pairs = ((key, other[key]) for key in other.keys())  # noqa: SIM118
        batch = self.batch()
        for key, value in pairs:
            batch.put(key, value)
            if len(batch) >= 4096 or batch.size_bytes >= 16 << 20:
                batch.commit()
        for name, value in more.items():
            batch.put(name, value)  # a str key is refused in there
        batch.commit()

    def clear(self) -> None:
        """Delete every key, in batches."""
        batch = self.batch()
        for key in self.keys():
            batch.delete(key)
            if len(batch) >= 4096:
                batch.commit()
        batch.commit()

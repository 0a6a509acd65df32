"""What a Store does, in a dict: the reference that tests compare a store with.

Invariants:

* Same method names, arguments, results and errors as kvengine.Store, as far as it goes; nothing
  is shared with the engine but errors, limits and the plain data of kvengine.entry.
* `history` holds every change ever made, by version; what tail() of a store may give follows from
  it.
* Slow and simple: everything is sorted at each scan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Self

from kvengine.clock import Clock, SystemClock
from kvengine.entry import Change, Entry
from kvengine.errors import InvalidRequest, InvalidType, KeyNotFound, LogCompacted, VersionConflict
from kvengine.options import (
    DURABILITIES,
    KEY_BYTES_MAX,
    METADATA_BYTES_MAX,
    VALUE_BYTES_MAX,
    VERSION_LIMIT,
)


def as_bytes(what: str, value: Any, smallest: int, largest: int) -> bytes:
    """Return a buffer as bytes of an allowed size.

    Raises:
        InvalidType: it is not a contiguous buffer.
        InvalidRequest: it is too small or too large.
    """
    if isinstance(value, str):
        raise InvalidType(f"{what} must be bytes, not str")
    try:
        with memoryview(value) as view:
            contiguous, data = view.c_contiguous, view.tobytes()
    except (TypeError, ValueError) as error:
        raise InvalidType(f"{what} must be bytes: {error}") from None
    if not contiguous:
        raise InvalidType(f"{what} must be contiguous")
    if not smallest <= len(data) <= largest:
        raise InvalidRequest(f"{what} has {smallest} to {largest} bytes, not {len(data)}")
    return data


class Model:
    """A dict that behaves as a Store.

    Args:
        clock: says which entries have expired.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._entries: dict[bytes, Entry] = {}
        self.history: list[Change] = []

    # -- reading

    @property
    def version(self) -> int:
        """The version of the newest change."""
        return len(self.history)

    def get_entry(self, key: Any) -> Entry | None:
        """Return the entry of a key that has not expired, or None.

        Raises:
            InvalidRequest: the key is empty or too long, or InvalidType, not bytes-like.
        """
        entry = self._entries.get(as_bytes("a key", key, 1, KEY_BYTES_MAX))
        if entry is None:
            return None
        if entry.expires_at is not None and entry.expires_at <= self._clock.time():
            return None
        return entry

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, or `default`."""
        entry = self.get_entry(key)
        return default if entry is None else entry.value

    def get_many(self, keys: Iterable[Any]) -> list[bytes | None]:
        """Return the values of many keys, None for each that is absent."""
        return [self.get(key) for key in keys]

    def __contains__(self, key: Any) -> bool:
        return self.get_entry(key) is not None

    def __getitem__(self, key: Any) -> bytes:
        entry = self.get_entry(key)
        if entry is None:
            raise KeyNotFound(key)
        return entry.value

    def __len__(self) -> int:
        return sum(1 for _ in self.keys())

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    # -- scans

    def scan(
        self,
        prefix: Any = b"",
        *,
        start_after: Any = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Entry]:
        """Return the entries of the living keys with a prefix, in byte order.

        Raises:
            InvalidType: a prefix or key is not bytes-like, or the limit is not an int.
            InvalidRequest: the limit is negative.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
            raise InvalidType("limit must be an int")
        if limit is not None and limit < 0:
            raise InvalidRequest("limit must be 0 or more")
        begin = as_bytes("prefix", prefix, 0, 1 << 60)
        after = None if start_after is None else as_bytes("start_after", start_after, 0, 1 << 60)
        found = []
        for key in sorted(self._entries, reverse=reverse):
            entry = self.get_entry(key)
            if entry is None or not key.startswith(begin):
                continue
            if after is None or (key < after if reverse else key > after):
                found.append(entry)
        return iter(found[:limit])

    def keys(
        self,
        prefix: Any = b"",
        *,
        start_after: Any = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[bytes]:
        """Return the living keys with a prefix, in byte order; see scan()."""
        found = self.scan(prefix, start_after=start_after, limit=limit, reverse=reverse)
        return (entry.key for entry in found)

    # -- changes

    def put(
        self,
        key: Any,
        value: Any,
        *,
        metadata: Any = b"",
        expires_at: Any = None,
        if_version: Any = None,
        durability: Any = None,
    ) -> int:
        """Store a value under a key and return the version of the change.

        Raises:
            InvalidRequest: an argument is out of range, or InvalidType, of the wrong type.
            VersionConflict: the key has another version than `if_version`.
        """
        change = self._checked_put(key, value, metadata, expires_at)
        self._check_durability(durability)
        self._check_version(change.key, if_version)
        return self._apply([change])

    def delete(self, key: Any, *, if_version: Any = None, durability: Any = None) -> int:
        """Delete a key and return the version of the change; 0 if it is absent.

        Raises:
            VersionConflict: the key has another version than `if_version`.
        """
        name = as_bytes("a key", key, 1, KEY_BYTES_MAX)
        self._check_durability(durability)
        self._check_version(name, if_version)
        if self.get_entry(name) is None:
            return 0
        return self._apply([Change(0, "delete", name, b"", b"", None)])

    def batch(self, durability: Any = None) -> ModelBatch:
        """Return an empty batch; as a context manager it commits on a clean exit."""
        return ModelBatch(self, durability)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        if not self.delete(key):
            raise KeyNotFound(key)

    # -- the log

    def tail(self, after: int = 0, *, forgotten: int = 0) -> Iterator[Change]:
        """Yield the newest change of each key above a version: what every store must still give.

        Args:
            after: a version.
            forgotten: deletes up to this version are no longer in the log.

        Raises:
            LogCompacted: `after` lies before what was forgotten.
        """
        if 0 < after < forgotten:
            raise LogCompacted(after, forgotten)
        newest = {change.key: change for change in self.history}
        for change in sorted(newest.values()):
            if change.version > after:
                yield change

    # -- parts

    def _check_durability(self, durability: Any) -> None:
        if durability is not None and durability not in DURABILITIES:
            raise InvalidRequest("durability")

    def _check_version(self, key: bytes, if_version: Any) -> None:
        if if_version is None:
            return
        if isinstance(if_version, bool) or not isinstance(if_version, int):
            raise InvalidType("if_version must be an int")
        if not 0 <= if_version < VERSION_LIMIT:
            raise InvalidRequest("if_version must be a version or 0")
        entry = self.get_entry(key)
        found = 0 if entry is None else entry.version
        if found != if_version:
            raise VersionConflict(if_version, found)

    def _checked_put(self, key: Any, value: Any, metadata: Any, expires_at: Any) -> Change:
        name = as_bytes("a key", key, 1, KEY_BYTES_MAX)
        data = as_bytes("a value", value, 0, VALUE_BYTES_MAX)
        extra = as_bytes("metadata", metadata, 0, METADATA_BYTES_MAX)
        if expires_at is not None:
            if isinstance(expires_at, bool) or not isinstance(expires_at, (int, float)):
                raise InvalidType("expires_at must be a number")
            if not math.isfinite(expires_at) or not expires_at > self._clock.time():
                raise InvalidRequest("expires_at must lie in the future")
            expires_at = float(expires_at)
        return Change(0, "put", name, data, extra, expires_at)

    def _apply(self, changes: list[Change]) -> int:
        for change in changes:
            change = change._replace(version=self.version + 1)
            self.history.append(change)
            if change.kind == "delete":
                self._entries.pop(change.key, None)
            else:
                self._entries[change.key] = Entry(
                    change.key, change.value, change.metadata, change.expires_at, change.version
                )
        return self.version


class ModelBatch:
    """Several changes that are made all together or not at all; see Model.batch()."""

    def __init__(self, model: Model, durability: Any) -> None:
        self._model, self._changes = model, list[Change]()
        self._durability = durability
        self.version: int | None = None

    def put(self, key: Any, value: Any, *, metadata: Any = b"", expires_at: Any = None) -> None:
        """Add a put; arguments as in Model.put()."""
        self._changes.append(self._model._checked_put(key, value, metadata, expires_at))

    def delete(self, key: Any) -> None:
        """Add a delete; an absent key is not an error."""
        name = as_bytes("a key", key, 1, KEY_BYTES_MAX)
        self._changes.append(Change(0, "delete", name, b"", b"", None))

    def __len__(self) -> int:
        return len(self._changes)

    def commit(self) -> int:
        """Make the changes; a batch of one delete of an absent key changes nothing."""
        changes, self._changes = self._changes, []
        self._model._check_durability(self._durability)
        if len(changes) == 1 and changes[0].kind == "delete":
            self._model.delete(changes[0].key)
            self.version = self._model.version
        else:
            self.version = self._model._apply(changes)
        return self.version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.commit()
        else:
            self._changes = []

"""Writing a key of a namespace in a store: put, delete, and changes that read first.

Invariants:

* Arguments are checked completely before anything is written.
* A write to a namespace that was deleted meanwhile leaves nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kvengine.cache.single_flight import SingleFlight
from kvengine.errors import (
    InvalidRequest,
    InvalidType,
    KeyNotFound,
    KvError,
    NamespaceNotFound,
    StoreClosed,
    VersionConflict,
)
from kvengine.namespace.bounds import Bounds, Evictor
from kvengine.namespace.interface.mapping import NamespaceMapping
from kvengine.namespace.layout import PREFIX_BYTES
from kvengine.namespace.reading import NamespaceReader
from kvengine.namespace.values import encode_metadata, encode_value

ATTEMPTS = 1000  # each failure means that another writer was faster, or that a second ended
INCREMENT_BITS = 63
NUMBER = re.compile(rb"[+-]?[0-9]{1,19}")


class NamespaceWriter(NamespaceReader, NamespaceMapping):  # type: ignore[misc]  # get() has a type
    """A namespace's reads, and the writes of single keys.

    Thread-safety: threads may share it.
    """

    id: str  # 32 hex digits, never changes
    _number: int  # what its keys in the store begin with

    def __init__(self, store: Any, prefix: bytes, limits: Any, meter: Any, *, id: str) -> None:
        self.id, self._single_flight = id, SingleFlight()
        self._number = int.from_bytes(prefix[1:], "big")
        self._title_of: Callable[[str], str] | None = None  # raises if the namespace was deleted
        self._bounds_of: Callable[[str], Bounds | None] | None = None  # asked behind _title_of()
        self._evictor: Evictor | None = None  # there are no bounds

    @property
    def title(self) -> str:
        self._check_usable()
        return self.id if self._title_of is None else self._title_of(self.id)

    def _look_again(self) -> None:
        if self._title_of is not None:
            self._title_of(self.id)
        if self._bounds_of is not None:
            self._bound_by(self._bounds_of(self.id))

    def _bound_by(self, bounds: Bounds | None) -> None:
        """Keep within these bounds from now on; writes do."""
        if bounds is None:
            self._evictor = self._recency = None
        elif self._evictor is None or self._evictor.bounds != bounds:
            self._evictor = Evictor(self._store, self._prefix, self._meter, bounds)
            self._recency = self._evictor.recency

    def _check_fits(self, name: bytes, data: Any, metadata: bytes) -> None:
        """Refuse a key that the bounds would never let stay."""
        if self._evictor is not None:
            self._evictor.check_size(len(name) - PREFIX_BYTES + len(data) + len(metadata))

    def _expires_at(self, expiration: int | None, expiration_ttl: float | None) -> float | None:
        if expiration is None and expiration_ttl is None:
            return None
        now = self._store._parts.options.clock.time()
        ends: float | None = self.limits._expires_at(now, expiration, expiration_ttl)
        return ends

    # -- changes

    def put(
        self,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
        if_version: int | None = None,
        size: int | None = None,
        durability: Any = None,
    ) -> int:
        name = self._name(key)
        expires_at = self._expires_at(expiration, expiration_ttl)
        extra = encode_metadata(self.limits, metadata)
        data = encode_value(self.limits, value, type, size)
        self._check_usable()
        if self._evictor is not None:
            self._check_fits(name, data, extra)
        for _ in range(ATTEMPTS):
            try:
                version: int = self._store.put(
                    name,
                    data,
                    metadata=extra,
                    expires_at=expires_at,
                    if_version=if_version,
                    durability=durability,
                )
            except InvalidRequest:
                if not self._has_ended(expires_at):
                    raise
                expires_at = self._expires_at(expiration, expiration_ttl)
                continue
            self._meter.writes += 1
            self._meter.bytes_in += len(data)
            self._stays(name)
            return version
        raise _contention(key)

    _put = put  # the one that counts: no call in between

    def _delete(self, key: str, if_version: int | None, durability: Any) -> int:
        name = self._name(key)
        self._check_usable()
        version = self._store.delete(name, if_version=if_version, durability=durability)
        self._meter.deletes += 1
        return version

    def _touch(
        self,
        key: str,
        expiration: int | None,
        expiration_ttl: float | None,
        if_version: int | None,
    ) -> int:
        self._name(key)  # what is wrong with it comes first
        if expiration is None and expiration_ttl is None:
            raise InvalidRequest(
                "touch() needs expiration or expiration_ttl; persist() removes the expiration"
            )
        return self._change_expiration(key, expiration, expiration_ttl, if_version)

    def _persist(self, key: str) -> int:
        return self._change_expiration(key, None, None, None)

    def _change_expiration(
        self,
        key: str,
        expiration: int | None,
        expiration_ttl: float | None,
        if_version: int | None,
    ) -> int:
        name = self._name(key)
        _check_version(if_version)
        self._check_usable()
        for _ in range(ATTEMPTS):
            expires_at = self._expires_at(expiration, expiration_ttl)
            entry = self._store.get_entry(name)
            found = 0 if entry is None else entry.version
            if if_version is not None and if_version != found:
                raise VersionConflict(if_version, found)
            if entry is None:
                self._check_usable()  # absent, or its namespace was deleted meanwhile
                return 0
            if expires_at is None and entry.expires_at is None:
                return 0
            try:
                version: int = self._store.put(
                    name,
                    entry.value,
                    metadata=entry.metadata,
                    expires_at=expires_at,
                    if_version=found,
                )
            except VersionConflict:
                continue
            except InvalidRequest:
                if not self._has_ended(expires_at):
                    raise
                continue
            self._meter.writes += 1
            self._stays(name)
            return version
        raise _contention(key)

    def _increment(
        self, key: str, by: int, initial: int, expiration_ttl: float | None, must_exist: bool
    ) -> int:
        for what, number in (("by", by), ("initial", initial)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise InvalidType(f"{what} must be an int, not {type(number).__name__}")
        name = self._name(key)
        self._check_usable()
        for _ in range(ATTEMPTS):
            end: float | None = self._expires_at(None, expiration_ttl)
            entry = self._store.get_entry(name)
            if entry is not None:
                end = entry.expires_at
            elif must_exist:
                self._check_usable()
                raise KeyNotFound(key)
            total = by + (initial if entry is None else _number(key, entry.value))
            if not -(1 << INCREMENT_BITS) <= total < 1 << INCREMENT_BITS:
                raise InvalidRequest(f"the sum at {key!r} would have more than 64 bits")
            data = b"%d" % total
            self._check_fits(name, data, b"" if entry is None else entry.metadata)
            try:
                self._store.put(
                    name,
                    data,
                    metadata=b"" if entry is None else entry.metadata,
                    expires_at=end,
                    if_version=0 if entry is None else entry.version,
                )
            except VersionConflict:
                continue
            except InvalidRequest:
                if not self._has_ended(end):
                    raise
                continue
            self._meter.reads += 1
            self._meter.writes += 1
            self._meter.bytes_in += len(data)
            self._stays(name)
            return total
        raise _contention(key)

    def _has_ended(self, expires_at: float | None) -> bool:
        """True if a key's last second ended since it was computed: between two looks at the clock,
        or while a slow stream was read.
        """
        return expires_at is not None and expires_at <= self._store._parts.options.clock.time()

    def _stays(self, *names: bytes) -> None:
        """End writes: take them back if the namespace was deleted meanwhile, else evict others."""
        try:
            self._check_usable()
        except NamespaceNotFound:
            with suppress(KvError), self._store.batch() as batch:
                for name in names:
                    batch.delete(name)
            raise
        except StoreClosed:
            return  # the write was done before that
        if self._evictor is not None:
            self._evictor.wrote(names)


def _check_version(if_version: Any) -> None:
    if if_version is None:
        return
    if isinstance(if_version, bool) or not isinstance(if_version, int):
        raise InvalidType(f"if_version must be an int, not {type(if_version).__name__}")
    if if_version < 0:
        raise InvalidRequest(f"if_version must be a version or 0, not {if_version}")


def _number(key: str, value: bytes) -> int:
    if not NUMBER.fullmatch(value):
        raise InvalidRequest(f"the value of {key!r} is not a whole number of 64 bits")
    return int(value)


def _contention(key: str) -> KvError:
    return KvError(f"gave up on {key!r} after {ATTEMPTS} conflicting writes; try again")

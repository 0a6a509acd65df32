"""A namespace at an edge.

Invariants:

* A read costs one lookup among the copies, and asks the upstream only if no copy is good enough.
* Everything that is not a read is in edge_writing.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from kvengine.database.catalog_rows import is_living_record
from kvengine.database.edge_writing import EdgeWriter
from kvengine.edge.messages import ReadOptions, ReadResult
from kvengine.errors import InvalidRequest, NamespaceNotFound
from kvengine.namespace.interface.results import KeyDetails, ValueWithMetadata
from kvengine.namespace.layout import catalog_key
from kvengine.namespace.limits import list_of_keys
from kvengine.namespace.values import decode_metadata

if TYPE_CHECKING:
    from kvengine.database.edge import Edge


class ValueRead(NamedTuple):
    """A value, and what an edge knows of it; for an absent key the version is 0."""

    value: Any
    metadata: Any
    expiration: int | None
    version: int
    age: float  # seconds: how long ago it was the newest, at the most
    cache_status: str  # HIT, MISS, REVALIDATE (asked again), STALE (the upstream did not answer)


def value_read(value: Any, shown: ReadResult) -> ValueRead:
    """Return a decoded value with its details."""
    return ValueRead(
        value,
        decode_metadata(shown.metadata),
        None if shown.expires_at is None else math.ceil(shown.expires_at),
        shown.version,
        shown.age,
        shown.status,
    )


class EdgeNamespace(EdgeWriter):
    """A namespace as an edge shows it; see Edge.namespace().

    Thread-safety: threads may share it.
    """

    def __init__(self, edge: Edge, origin: Any) -> None:
        super().__init__(edge, origin)
        self._row = catalog_key(origin.id)

    # -- reading

    def _get(
        self, key: Any, type: str, cache_ttl: Any, min_version: Any, stale_if_error: Any
    ) -> Any:
        if not isinstance(key, str):
            return self.get_many(
                key,
                type,
                cache_ttl=cache_ttl,
                min_version=min_version,
                stale_if_error=stale_if_error,
            )
        shown = self._read(key, cache_ttl, min_version, stale_if_error)
        return self._decoded(key, shown.value, type)

    def get_with_metadata(
        self,
        key: Any,
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> Any:
        """Return ValueWithMetadata(value, metadata, cache_status, version); for a list a dict.

        For an absent key the value is None and the version 0; in a dict, the entry itself is None.
        See get().
        """
        if not isinstance(key, str):
            found = self._read_many(key, type, cache_ttl, min_version, stale_if_error)
            return self._with_metadata_all(found, type)
        shown = self._read(key, cache_ttl, min_version, stale_if_error)
        return self._with_metadata(key, shown, type)

    def get_metadata(
        self,
        key: str,
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> KeyDetails | None:
        """Return KeyDetails(name, expiration, metadata, version, size), or None; see get()."""
        return self._details(key, self._read(key, cache_ttl, min_version, stale_if_error))

    def read(
        self,
        key: str,
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> ValueRead:
        """Return ValueRead(value, metadata, expiration, version, age, cache_status); see get()."""
        shown = self._read(key, cache_ttl, min_version, stale_if_error)
        return value_read(self._decoded(key, shown.value, type), shown)

    def get_many(
        self,
        keys: Iterable[str],
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> dict[str, Any]:
        """Return a dict from each key to its value; one request gets all that are not cached."""
        found = self._read_many(keys, type, cache_ttl, min_version, stale_if_error)
        return self._decoded_all(found, type)

    def _read_many(
        self, keys: Any, type: str, cache_ttl: Any, min_version: Any, stale_if_error: Any
    ) -> dict[str, Any]:
        names = self._names(keys, type)
        options = self._read_options(cache_ttl, min_version, stale_if_error)
        if not self._is_known:
            self._check_living()
        self._meter.reads += len(names)
        found = {key: self._edge._node.lookup(name, options) for key, name in names.items()}
        missing = [key for key, shown in found.items() if shown is None]
        if missing:
            asked = self._edge._ask_many([names[key] for key in missing], options)
            found.update(zip(missing, asked, strict=True))
        return found

    def _names(self, keys: Iterable[str], type: str) -> dict[str, bytes]:
        """Return the names in the store of the keys of one request."""
        wanted = list_of_keys(keys)
        self.limits._check_get_type(type)
        self.limits._check_get_count(len(wanted))
        return {key: self._name(key) for key in wanted}

    def _decoded_all(self, found: dict[str, Any], type: str) -> dict[str, Any]:
        self.limits._check_get_size(sum(len(shown.value or b"") for shown in found.values()))
        return {key: self._decoded(key, shown.value, type) for key, shown in found.items()}

    def _with_metadata(self, key: str, shown: ReadResult, type: str) -> ValueWithMetadata:
        value = self._decoded(key, shown.value, type)
        return ValueWithMetadata(
            value, decode_metadata(shown.metadata), shown.status, shown.version
        )

    def _with_metadata_all(self, found: dict[str, Any], type: str) -> dict[str, Any]:
        self.limits._check_get_size(sum(len(shown.value or b"") for shown in found.values()))
        return {
            key: self._with_metadata(key, shown, type) if shown.version else None
            for key, shown in found.items()
        }

    def _details(self, key: str, shown: ReadResult) -> KeyDetails | None:
        if shown.value is None:
            return None
        found = value_read(None, shown)
        return KeyDetails(key, found.expiration, found.metadata, found.version, len(shown.value))

    def __contains__(self, key: object) -> bool:
        return self._read(key, None, 0, None).version != 0

    def _ttl(self, key: str) -> float | None:
        ends = self._read(key, None, 0, None).expires_at
        return None if ends is None else ends - float(self._edge.clock.time())

    def _read(self, key: Any, cache_ttl: Any, min_version: Any, stale_if_error: Any) -> ReadResult:
        edge, name = self._edge, self._name(key)
        options = self._read_options(cache_ttl, min_version, stale_if_error)
        if not self._is_known:
            self._check_living()
        self._meter.reads += 1
        return edge._node.lookup(name, options) or edge._ask(name, options)

    def _read_options(self, cache_ttl: Any, min_version: Any, stale_if_error: Any) -> ReadOptions:
        self._edge._check_usable()
        ttl, least, stale = self._options
        if self._edge._current_store is not None:
            least = self._edge._current_store.version
        if cache_ttl is not None:
            self.limits._check_cache_ttl(cache_ttl)
            ttl = float(cache_ttl)
        if min_version != 0 or isinstance(min_version, bool):
            whole = isinstance(min_version, int) and not isinstance(min_version, bool)
            if not whole or not 0 <= min_version < 1 << 64:
                raise InvalidRequest(
                    f"min_version must be a version, an int of at least 0, not {min_version!r}"
                )
            least = max(least, min_version)
        if stale_if_error is not None:
            number = isinstance(stale_if_error, (int, float))
            if not number or isinstance(stale_if_error, bool) or not stale_if_error >= 0:
                raise InvalidRequest(
                    f"stale_if_error must be a number of seconds, not {stale_if_error!r}"
                )
            stale = stale_if_error
        return ReadOptions(ttl, least, stale)

    def _check_living(self) -> None:
        """Request the record of the namespace, which is cached and kept current like a value."""
        invalidations, options = self._edge._node.invalidations, self._living_options
        shown = self._edge._node.lookup(self._row, options) or self._edge._ask(self._row, options)
        self._judge_living(shown, invalidations)

    @property
    def _living_options(self) -> ReadOptions:
        return ReadOptions(self._edge.settings.bound_s, 0, self._options.stale_if_error)

    def _judge_living(self, shown: ReadResult, invalidations: int) -> None:
        """Take note of the record of the namespace, asked for after so many invalidations."""
        if not is_living_record(shown.value):
            raise NamespaceNotFound(self.id)
        self._is_there(max(self._edge.settings.bound_s - shown.age, 0.0), invalidations)

    def __repr__(self) -> str:
        return f"<kvengine.EdgeNamespace {self.id} at {self._edge.name!r}>"

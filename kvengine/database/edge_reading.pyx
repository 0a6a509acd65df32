"""Reading a key from a copy at an edge: no Python between the caller and the copy.

Invariants:

* EdgeNamespace, in Python, handles keys that are not cached, and reads with options.
* Every read is counted once, wherever it is answered.
* A namespace answers no read while it is unknown whether it still exists.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t

from kvengine.namespace.naming cimport NAME_BYTES_MAX, Naming
from kvengine.namespace.reading cimport BYTES, JSON, TEXT, Kind, Meter, kind_of
from kvengine.edge.lookup cimport CacheEntry, Lookup

import io

from kvengine.namespace.values import decode_json


class NotCached:
    """The type of NOT_CACHED, which means that the upstream must be asked."""

    def __repr__(self) -> str:
        return "<not cached>"


NOT_CACHED = NotCached()
cdef object not_cached = NOT_CACHED


cdef class EdgeReader(Naming):
    """The reads of a namespace that an edge answers from its copies.

    Args:
        node: the edge.
        prefix: the five bytes that the namespace's keys begin with.
        limits: a kvengine.namespace.limits.Limits.
        meter: counts what is used.
        options: a kvengine.edge.messages.ReadOptions.
        origin_store: the store whose newest version each read must be true of, or None.

    Thread-safety: threads may share it.
    """

    def __cinit__(
        self, Lookup node not None, bytes prefix not None, limits, Meter meter not None, options,
        origin_store, *args, **kwargs,
    ) -> None:
        self.name_keys(prefix, limits)
        self.node, self._meter, self._options = node, meter, options
        self.origin_store = origin_store
        self.ttl, self.look_at = options.ttl, float("-inf")

    def _is_there(self, double seconds, uint64_t invalidations) -> None:
        """Take the namespace as existing for this long, unless it is invalidated before."""
        self.look_at, self.invalidations = self.node.now() + seconds, invalidations

    @property
    def _is_known(self) -> bool:
        """True while the namespace is known to exist."""
        return self.known()

    cdef bint known(self) except -1:
        return self.node.invalidations == self.invalidations and self.node.now() < self.look_at

    cdef CacheEntry find_cached(self, object key):
        """Return the copy of a key that may be shown to a read without options, or None."""
        cdef char[NAME_BYTES_MAX] name
        cdef uint64_t min_version = 0
        cdef Py_ssize_t size = self.name_of(key, name)
        if self.node.closed or not self.known():
            return None
        if self.origin_store is not None:
            min_version = self.origin_store.version
        cdef CacheEntry cached = self.node.find(name[:size], self._options, self.ttl, min_version)
        if cached is not None:
            self._meter.reads += 1
        return cached

    cdef object value_as(self, object key, bytes value, Kind kind):
        """Return a value in the requested type."""
        if value is None:
            return None
        self._meter.bytes_out += PyBytes_GET_SIZE(value)
        if kind == TEXT:
            return PyUnicode_DecodeUTF8(
                PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), "replace")
        if kind == BYTES:
            return value
        return decode_json(key, value) if kind == JSON else io.BytesIO(value)

    def _decoded(self, key, value, type="text") -> object:
        """Return a value in the requested type: text, bytes, json or stream."""
        return self.value_as(key, value, kind_of(type))

    def _try_get(self, key, type="text") -> object:
        """Return what get() returns if that needs no request to the upstream, else NOT_CACHED."""
        cdef Kind kind = kind_of(type)
        cdef CacheEntry cached = self.find_cached(key)
        return not_cached if cached is None else self.value_as(key, cached.value, kind)

    def _try_read(self, key) -> object:
        """Return (value, metadata, expires_at, version, status) of a key, or None if it is absent.

        The metadata is JSON, b"" if there is none; the status "HIT".  If the upstream has to be
        asked, it is NOT_CACHED.  For servers, which send bytes on as they are.
        """
        cdef CacheEntry cached = self.find_cached(key)
        if cached is None:
            return not_cached
        if cached.value is None:
            return None
        self._meter.bytes_out += PyBytes_GET_SIZE(cached.value)
        return (cached.value, cached.metadata, cached.expires_at, cached.version, "HIT")

    def get(
        self, key, type="text", *, cache_ttl=None, min_version=0, stale_if_error=None,
    ) -> object:
        """Return the value of a key, or None; for a list of keys a dict.

        Args:
            key: 1 to 512 bytes as UTF-8, not "." or ".."; or a list of keys.
            type: "text", "json", "bytes" or "stream".
            cache_ttl: how old the value may be, in seconds, instead of the edge's `cache_ttl_s`.
                Above 60, this read gives up the bound of 60 seconds.
            min_version: the value must be as of this version of the database or a later one; with
                the version of a write, every edge returns the written value or a newer one.
            stale_if_error: how old the value may be, in seconds, if the upstream does not answer.

        Raises:
            InvalidRequest: a key or an option is not valid, or the value is not JSON.
            NamespaceNotFound: the namespace was deleted.
            UpstreamUnavailable: no copy is new enough, and the upstream does not answer.
        """
        cdef Kind kind
        cdef CacheEntry cached
        if isinstance(key, str) and cache_ttl is None and min_version is ZERO and (
            stale_if_error is None
        ):
            kind = kind_of(type)
            cached = self.find_cached(key)
            if cached is not None:
                return self.value_as(key, cached.value, kind)
        return self._get(key, type, cache_ttl, min_version, stale_if_error)

    def _get(self, key, type, cache_ttl, min_version, stale_if_error) -> object:
        """Read a key that is not cached; EdgeNamespace implements it."""


cdef object ZERO = 0

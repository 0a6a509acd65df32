"""The copies of an edge, as its compiled readers see them."""

from libc.stdint cimport uint64_t

from kvengine.cache.cache cimport CacheCore

cdef class CacheEntry:
    cdef readonly bytes value       # None: absent
    cdef readonly bytes metadata
    cdef readonly object expires_at
    cdef readonly uint64_t version  # 0: absent
    cdef readonly uint64_t as_of    # it was current at this version of the primary
    cdef readonly double validated_at  # ... which was at this moment
    cdef public double read_at
    cdef public bint from_disk

cdef class Lookup:
    cdef public double synced_at
    cdef public uint64_t position, covered_from, min_version, known_version, invalidations
    cdef public bint closed
    cdef readonly uint64_t memory_hits, disk_hits
    cdef CacheCore values, absent
    cdef object disk, wall, monotonic
    cdef bint machine_time
    cdef double negative_ttl_s, refresh_share

    cdef double now(self) except? -1
    cdef CacheEntry cached_entry(self, bytes key)
    cdef CacheEntry find(self, bytes key, object options, double ttl, uint64_t min_version)

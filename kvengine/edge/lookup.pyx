"""Looking up copies: the fast path of a read, without a request to the upstream.

Invariants:

* A copy is shown only if it was certainly current less than its time to live ago.
* No value is shown that is older than one shown before, or written here.
* A copy never changes, except for the time of its last read: a new value or a new age is a new
  copy.
"""

from libc.stdint cimport uint64_t

import sys
import time

from kvengine.edge import messages

cdef extern from "<time.h>":
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *moment) nogil

CLOCK_RATES = 1.001  # clocks of two machines may differ in speed by a thousandth
COPY_BYTES = 250  # of memory: a copy, its key and its slot in the cache, without their content

cdef double FASTEST = CLOCK_RATES
cdef double NEVER_READ = messages.NEVER
cdef object new_tuple = tuple.__new__
cdef object READ_RESULT = messages.ReadResult


cdef class CacheEntry:
    """A copy of a value, or the knowledge that a key is absent (`version` is 0)."""

    def __cinit__(
        self, bytes value, bytes metadata, expires_at, uint64_t version, uint64_t as_of,
        double validated_at,
    ) -> None:
        self.value, self.metadata, self.expires_at = value, metadata, expires_at
        self.version, self.as_of, self.validated_at = version, as_of, validated_at
        self.read_at = NEVER_READ

    def revalidated(self, uint64_t as_of, double validated_at) -> CacheEntry:
        """Return the same value, known to be current at a later moment."""
        return CacheEntry(
            self.value, self.metadata, self.expires_at, self.version, max(as_of, self.as_of),
            max(validated_at, self.validated_at))

    def shown(self, age: float, as_of: int, status: str) -> messages.ReadResult:
        """Return the copy as the result of a read."""
        return new_tuple(READ_RESULT, (
            self.value, self.metadata, self.expires_at, self.version, age, status, as_of))

    @property
    def size(self) -> int:
        """The bytes of memory it uses, without its key."""
        return COPY_BYTES + (0 if self.value is None else len(self.value)) + len(self.metadata)


cdef class Lookup:
    """The copies and what is known about their age; the base class of an edge.

    synced_at: at this moment, nothing newer than `position` existed.
    position: changes up to this version have been applied to the copies.
    covered_from: no change since this version was missed.
    min_version: nothing older than this version of the primary is shown.
    known_version: the highest known version of the primary.
    invalidations: a counter; when it moves, compiled readers check again whether they may read.

    Thread-safety: any thread may read; changes need the lock of the edge.
    """

    def __init__(self, copies, settings, monotonic, wall) -> None:
        self.values, self.absent, self.disk = copies.values, copies.absent, copies.disk
        self.monotonic, self.wall = monotonic, wall
        # The same clock, without a call.
        self.machine_time = monotonic is time.monotonic and sys.platform == "linux"
        self.negative_ttl_s, self.refresh_share = settings.negative_ttl_s, settings.refresh_share
        self.synced_at = NEVER_READ

    cdef double now(self) except? -1:
        cdef timespec moment
        if not self.machine_time:
            return self.monotonic()
        clock_gettime(CLOCK_MONOTONIC, &moment)
        return moment.tv_sec + moment.tv_nsec * 1e-9

    cdef CacheEntry cached_entry(self, bytes key):
        """Return the copy of a key, or None."""
        cdef object cached = self.values.lookup(key, None)
        if cached is None and self.negative_ttl_s > 0:
            cached = self.absent.lookup(key, None)
        if cached is None and self.disk is not None:
            cached = self._from_disk(key)
        return cached

    cdef CacheEntry find(self, bytes key, object options, double ttl, uint64_t min_version):
        """Return the copy of a key if it may be shown, or None."""
        # Read first: a change that comes meanwhile makes the copy look older, never younger.
        cdef double synced_at = self.synced_at, validated_at, now, age, limit = ttl
        cdef uint64_t position = self.position, covered_from = self.covered_from, as_of
        cdef CacheEntry cached = self.cached_entry(key)
        if cached is None:
            return None
        validated_at, as_of = cached.validated_at, cached.as_of
        if as_of >= covered_from:
            validated_at, as_of = max(validated_at, synced_at), max(as_of, position)
        if as_of < min_version or as_of < self.min_version:
            return None
        now = self.now()
        age = (now - validated_at) * FASTEST
        if cached.version == 0:
            limit = min(limit, self.negative_ttl_s)
        if age >= limit or cached.expires_at is not None and cached.expires_at <= self.wall():
            return None
        if cached.from_disk:
            self.disk_hits += 1
            cached.from_disk = False
        else:
            self.memory_hits += 1
        cached.read_at = now
        if age > limit * self.refresh_share:
            self._refresh(key, cached, options)
        return cached

    def lookup(self, bytes key, options) -> messages.ReadResult | None:
        """Return the copy of a key as a ReadResult if it may be shown, or None."""
        cdef double synced_at = self.synced_at
        cdef uint64_t position = self.position, covered_from = self.covered_from
        cdef CacheEntry cached = self.find(key, options, options.ttl, options.min_version)
        if cached is None:
            return None
        cdef double validated_at = cached.validated_at
        cdef uint64_t as_of = cached.as_of
        if as_of >= covered_from:
            validated_at, as_of = max(validated_at, synced_at), max(as_of, position)
        return cached.shown(max(cached.read_at - validated_at, 0.0) * FASTEST, as_of, "HIT")

    def _from_disk(self, bytes key) -> CacheEntry | None:
        """Return the copy on disk; reading.py implements it."""

    def _refresh(self, bytes key, CacheEntry cached, options) -> None:
        """Refresh a key whose copy will soon be too old; fetching.py implements it."""

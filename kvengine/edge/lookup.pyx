"""Looking up copies: the cost of a read that needs no request to the upstream.

Invariants:

* A copy is shown only while it was certainly the newest value less than its time to live ago.
* Nothing is shown that is older than what was shown before, or was written here.
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

CLOCK_RATES = 1.001  # clocks of two machines may run a thousandth apart
COPY_BYTES = 250  # of memory: the copy, its key and the slot in the cache, besides their content

cdef double FASTEST = CLOCK_RATES
cdef double NEVER_READ = messages.NEVER
cdef object new_tuple = tuple.__new__
cdef object READ_RESULT = messages.ReadResult


cdef class CacheEntry:
    """A copy of a value, or the knowledge that a key is absent (`version` is 0)."""

    def __cinit__(
        self, bytes value, bytes metadata, expires_at, uint64_t version, uint64_t as_of,
        double checked,
    ) -> None:
        self.value, self.metadata, self.expires_at = value, metadata, expires_at
        self.version, self.as_of, self.checked = version, as_of, checked
        self.read_at = NEVER_READ

    def checked_again(self, uint64_t as_of, double checked) -> CacheEntry:
        """Return the same value, known to be the newest at a later moment."""
        return CacheEntry(
            self.value, self.metadata, self.expires_at, self.version, max(as_of, self.as_of),
            max(checked, self.checked))

    def shown(self, age: float, as_of: int, status: str) -> messages.ReadResult:
        """Return the copy as a reader gets it."""
        return new_tuple(READ_RESULT, (
            self.value, self.metadata, self.expires_at, self.version, age, status, as_of))

    @property
    def size(self) -> int:
        """How many bytes of memory it takes, without its key."""
        return COPY_BYTES + (0 if self.value is None else len(self.value)) + len(self.metadata)


cdef class Lookup:
    """What is held, and what is known of its age; the base of an edge.

    synced_at: when nothing newer than `position` was there.
    position: changes up to this version have been applied to the copies.
    covered_from: of copies as of this version or a later one, no change was missed.
    min_version: nothing older than this version of the primary is shown.
    known_version: the highest version of the primary that the edge knows of.
    invalidations: counts what makes compiled readers look again whether they may read.

    Thread-safety: threads may look; it is changed under the lock of the edge.
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

    cdef CacheEntry held_of(self, bytes key):
        """Return what is held of a key, or None."""
        cdef object held = self.values.lookup(key, None)
        if held is None and self.negative_ttl_s > 0:
            held = self.absent.lookup(key, None)
        if held is None and self.disk is not None:
            held = self._from_disk(key)
        return held

    cdef CacheEntry find(self, bytes key, object options, double ttl, uint64_t min_version):
        """Return the copy of a key if it may be shown, or None."""
        # First: changes that come while the copy is looked at make it look older, never younger.
        cdef double synced_at = self.synced_at, checked, now, age, limit = ttl
        cdef uint64_t position = self.position, covered_from = self.covered_from, as_of
        cdef CacheEntry held = self.held_of(key)
        if held is None:
            return None
        checked, as_of = held.checked, held.as_of
        if as_of >= covered_from:
            checked, as_of = max(checked, synced_at), max(as_of, position)
        if as_of < min_version or as_of < self.min_version:
            return None
        now = self.now()
        age = (now - checked) * FASTEST
        if held.version == 0:
            limit = min(limit, self.negative_ttl_s)
        if age >= limit or held.expires_at is not None and held.expires_at <= self.wall():
            return None
        if held.from_disk:
            self.disk_hits += 1
            held.from_disk = False
        else:
            self.memory_hits += 1
        held.read_at = now
        if age > limit * self.refresh_share:
            self._refresh(key, held, options)
        return held

    def lookup(self, bytes key, options) -> messages.ReadResult | None:
        """Return what is held of a key if it may be shown, or None."""
        cdef double synced_at = self.synced_at
        cdef uint64_t position = self.position, covered_from = self.covered_from
        cdef CacheEntry held = self.find(key, options, options.ttl, options.min_version)
        if held is None:
            return None
        cdef double checked = held.checked
        cdef uint64_t as_of = held.as_of
        if as_of >= covered_from:
            checked, as_of = max(checked, synced_at), max(as_of, position)
        return held.shown(max(held.read_at - checked, 0.0) * FASTEST, as_of, "HIT")

    def _from_disk(self, bytes key) -> CacheEntry | None:
        """Return the copy that is on disk; reading.py has it."""

    def _refresh(self, bytes key, CacheEntry held, options) -> None:
        """Ask for a key whose copy will soon be too old; reading.py has it."""

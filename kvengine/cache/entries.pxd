"""The entries of a cache."""

from cpython.list cimport PyList_GET_SIZE, PyList_SET_ITEM
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from kvengine.cache.adaptive cimport Adaptive
from kvengine.cache.policy cimport Policy
from kvengine.cache.table cimport NO_SLOT, Table

cdef extern from "<time.h>":
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int CLOCK_MONOTONIC_COARSE
    int clock_gettime(int clock, timespec *moment) nogil
    int clock_getres(int clock, timespec *step) nogil

cdef class Entries:
    cdef Table table
    cdef Policy policy
    cdef Adaptive adaptive      # the policy, if it is one
    cdef int sample_shift       # that of the policy
    cdef list objects           # key and value of each slot
    cdef uint64_t seed
    cdef bint is_stable         # the same keys lead to the same decisions in every process
    cdef int64_t capacity       # what the sizes of all entries may come to
    cdef int64_t entries_max
    cdef int64_t fitted         # the entries for which the policy has room
    cdef object timer           # None: the clock of the machine
    cdef double began           # on that clock: where the times of entries begin
    cdef double tick            # by how much it may be behind
    cdef int exact              # a clock that is not behind by more than some milliseconds
    cdef bint ends              # some entry has a time to live
    cdef int32_t hand           # the slot that is checked next for expiry
    cdef uint64_t changes       # of the index; detects changes made by foreign code

    cdef double clock(self) except? -1
    cdef double ending(self, double seconds) except? -1
    cdef int32_t find(self, object key, uint32_t *hash) except -2
    cdef void touch(self, int32_t slot) noexcept
    cdef int reserve(self) except -1
    cdef bint insert(
        self, int32_t slot, uint32_t hash, object key, object value, uint32_t size, double end,
    ) noexcept
    cdef bint replace(self, int32_t slot, uint32_t size, double end) noexcept
    cdef object remove(self, object key, object default)
    cdef bint shrink(self, int32_t newest) noexcept
    cdef void forget(self, int32_t slot) noexcept
    cdef int remove_expired(self, int count, double asked) noexcept
    cdef void drop_dead(self) noexcept

    cdef inline double asked(self) except? -1:
        """Ask the timer, which may be Python code; what it says is for now()."""
        return self.clock() - self.began if self.ends and self.timer is not None else 0.0

    cdef inline double now(self, double asked) noexcept:
        """Return the time in seconds since the cache began."""
        cdef timespec moment
        if self.timer is not None:
            return asked
        clock_gettime(CLOCK_MONOTONIC_COARSE, &moment)
        return moment.tv_sec + moment.tv_nsec * 1e-9 - self.began

    cdef inline bint is_ready(self) noexcept:
        """True if there is what another entry needs."""
        return self.table.has_room() and (
            self.table.free != NO_SLOT
            or PyList_GET_SIZE(self.objects) >= 2 * (self.table.used + 1)
        ) and (self.adaptive is None or not self.adaptive.wanted)

    cdef inline void place(self, int32_t slot, object key, object value) noexcept:
        """Let a slot that has no objects have these; those of a free slot are None."""
        Py_DECREF(None)
        Py_DECREF(None)
        Py_INCREF(key)
        Py_INCREF(value)
        PyList_SET_ITEM(self.objects, 2 * slot, key)
        PyList_SET_ITEM(self.objects, 2 * slot + 1, value)

    cdef inline void drop_removed(self) noexcept:
        """Drop the objects of entries that are gone; what is dropped may run any code."""
        if self.table.dead != NO_SLOT:
            self.drop_dead()

cdef int64_t memory_of(object thing) except -1

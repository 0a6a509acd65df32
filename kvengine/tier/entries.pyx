"""The entries of a cache: keys and values by slot, found by key, gone when their time is over.

Invariants:

* The key of slot n is object 2 * n, its value object 2 * n + 1; the garbage collector sees both.
* No foreign code (`__eq__`, `__hash__`, `__del__`, a timer) runs while the structure is between
  two states; where it runs, everything is looked up again if something has changed.
* An entry ends at its time or up to 10 ms before, never after.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM
from cpython.object cimport Py_EQ, PyObject, PyObject_Hash, PyObject_RichCompareBool
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from kvengine.engine.hash cimport xxh3
from kvengine.tier.adaptive cimport is_sample
from kvengine.tier.greedy cimport mark
from kvengine.tier.table cimport NO_SLOT, behind, home_of, mixed

cdef extern from "<time.h>":
    struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC_COARSE
    int clock_gettime(int clock, timespec *moment) nogil

cdef enum:
    TIME_MAX = 0xFFFFFFFF       # milliseconds
    HALF_TIME = 0x7FFFFFFF


cdef class Entries:
    """Keys and values by slot.

    Thread-safety: threads may share it; each call is one step for the others.
    """

    # -- time

    cdef double clock(self) except? -1:
        cdef timespec moment
        if self.timer is not None:
            return self.timer()
        clock_gettime(CLOCK_MONOTONIC_COARSE, &moment)
        return moment.tv_sec + moment.tv_nsec * 1e-9

    cdef uint32_t now(self) except? 0:
        """Return the time in milliseconds since `began`, from 1 on."""
        cdef double passed = (self.clock() - self.began) * 1000.0
        return <uint32_t>min(max(passed, 1.0), <double>TIME_MAX)

    cdef uint32_t ending(self, double seconds) except? 0:
        """Return when an entry ends that comes now; never later than it should."""
        cdef uint32_t now = self.now()
        if now > HALF_TIME:
            self.rebase()
            now = self.now()
        self.ends = True
        return <uint32_t>min(now + seconds * 1000.0, <double>(TIME_MAX - 1))

    cdef void rebase(self) noexcept:
        """Let times begin later, every few weeks."""
        cdef int32_t slot
        self.began += HALF_TIME / 1000.0
        for slot in range(self.table.used):
            if self.table.slots[slot].expires:
                self.table.slots[slot].expires = max(
                    <int64_t>self.table.slots[slot].expires - HALF_TIME, 1)

    cdef bint has_ended(self, int32_t slot) except -1:
        return self.table.slots[slot].expires and self.now() >= self.table.slots[slot].expires

    # -- finding

    cdef int32_t find(self, object key, uint32_t *hash) except -2:
        """Return the slot of a key, also one that has ended, or NO_SLOT."""
        cdef uint32_t mine, place
        cdef int32_t slot
        cdef PyObject *other
        cdef object held
        cdef uint64_t changes
        if self.is_stable and PyBytes_CheckExact(key):
            mine = mixed(xxh3(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), 0), self.seed)
        else:
            mine = mixed(<uint64_t>PyObject_Hash(key), self.seed)
        hash[0] = mine
        place = home_of(mine, self.table.places)
        while True:
            slot = self.table.index[place]
            if slot == NO_SLOT:
                return NO_SLOT
            if self.table.slots[slot].hash == mine:
                other = PyList_GET_ITEM(self.objects, 2 * slot)
                if other == <PyObject *>key:
                    return slot
                held = <object>other
                changes = self.changes
                if PyObject_RichCompareBool(held, key, Py_EQ):
                    if changes == self.changes:
                        return slot
                if changes != self.changes:
                    place = home_of(mine, self.table.places)
                    continue
            place = behind(place, self.table.places)

    cdef void touch(self, int32_t slot) noexcept:
        """Tell the policy that an entry was read."""
        cdef uint32_t hash
        if self.greedy is not None:
            mark(&self.table.slots[slot], self.greedy.epoch)
            self.greedy.operations += 1
            if self.sample_shift:
                hash = self.table.slots[slot].hash
                if is_sample(hash, self.sample_shift):
                    self.adaptive.sampled_hit(slot)
        elif self.policy.is_lazy:
            if self.table.slots[slot].ref < 3:
                self.table.slots[slot].ref += 1
        else:
            self.policy.hit(slot)

    cdef int drop_ended(self, object key) except -1:
        """Remove an entry that has ended; a timer may have run, so it is looked up again."""
        cdef uint32_t hash
        cdef int32_t slot = self.find(key, &hash)
        if slot != NO_SLOT and self.has_ended(slot):
            self.forget(slot)
        return 0

    cdef bint shrink(self, int32_t newest) except -1:
        """Let entries go until the bounds hold; their objects go last, when all is done.

        Return True if the newest is among them.
        """
        cdef bint is_gone = False
        cdef object key = None, value = None
        cdef list more = None
        cdef int32_t slot
        while self.policy.bytes > self.capacity or self.table.count > self.entries_max:
            slot = self.policy.victim()
            is_gone |= slot == newest
            if key is not None:
                if more is None:
                    more = []
                more.append(key)
                more.append(value)
            key = <object>PyList_GET_ITEM(self.objects, 2 * slot)
            value = <object>PyList_GET_ITEM(self.objects, 2 * slot + 1)
            self.objects[2 * slot] = self.objects[2 * slot + 1] = None
            self.table.give_back(slot)
        self.policy.settle()
        self.changes += 1
        if self.adaptive is not None:
            self.sample_shift = self.adaptive.sample_shift
        return is_gone

    cdef object forget(self, int32_t slot):
        """Remove an entry; return key and value, which nobody else may hold any more."""
        cdef tuple gone = (
            <object>PyList_GET_ITEM(self.objects, 2 * slot),
            <object>PyList_GET_ITEM(self.objects, 2 * slot + 1),
        )
        self.policy.remove(slot)
        self.objects[2 * slot] = self.objects[2 * slot + 1] = None
        self.table.give_back(slot)
        self.changes += 1
        return gone

    cdef int look_for_ended(self) except -1:
        """Look at two slots, in turn, and remove what has ended."""
        cdef int32_t slot
        cdef list gone = None       # goes last, when all is done
        for _ in range(2):
            slot = self.hand
            self.hand = slot + 1 if slot + 1 < self.table.used else 0
            if slot < self.table.used and self.table.slots[slot].queue and self.has_ended(slot):
                if slot < self.table.used and self.table.slots[slot].queue:
                    if gone is None:
                        gone = []
                    gone.append(self.forget(slot))
        return 0

    def expire(self) -> int:
        """Remove all entries that have ended; return how many there were."""
        cdef int32_t slot
        cdef int count = 0
        if not self.ends:
            return 0
        cdef list gone = []
        for slot in range(self.table.used):
            if self.table.slots[slot].queue and self.has_ended(slot):
                if slot < self.table.used and self.table.slots[slot].queue:
                    gone.append(self.forget(slot))
                    count += 1
        return count

"""The entries of a cache: keys and values by slot, found by key, removed when they expire.

Invariants:

* The key of slot n is object 2 * n, its value object 2 * n + 1; the garbage collector sees both.
* No Python code runs between the moment when a slot is found and the last use of it.  Python code
  may be in keys, values and timers, and it may run whenever an object that the collector tracks is
  allocated (Python 3.11 collects, and calls finalizers, at any such allocation): a list, a tuple, a
  bound method, an exception.  It may call the cache again, or let other threads do so.  So a call
  has four steps: ask a Python timer (`asked`) and allocate memory (`reserve`); find; change
  everything, in functions that are `noexcept` and create and drop no object; and drop the objects
  of removed entries (`drop_removed`), after which it uses nothing that it found.
* Where a comparison runs Python code, `find` checks again what that code may have changed.
* An entry is never returned after it expires, and expires at most 10 ms early.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_SET_ITEM
from cpython.object cimport Py_EQ, PyObject, PyObject_Hash
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from kvengine.engine.index.hash cimport xxh3
from kvengine.cache.adaptive cimport is_sample
from kvengine.cache.greedy cimport mark
from kvengine.cache.table cimport NO_SLOT, behind, home_of, mixed

cdef extern from "Python.h":
    int PyObject_RichCompareBool(PyObject *one, PyObject *other, int operator)
    bint PyUnicode_CheckExact(object o)
    bint PyLong_CheckExact(object o)
    Py_ssize_t PyUnicode_GET_LENGTH(object o)
    int PyUnicode_KIND(object o)
    ctypedef struct PyTypeObject:
        Py_ssize_t tp_basicsize
    PyTypeObject *Py_TYPE(object o)

cdef enum:
    ATTEMPTS = 1000             # of a lookup that comparisons disturb
    STR_BYTES = 56              # of an object besides its content
    BYTES_BYTES = 33


cdef double TICK_MAX = 0.005


cdef inline double seconds_of(timespec moment) noexcept nogil:
    return moment.tv_sec + moment.tv_nsec * 1e-9


cdef class Entries:
    """Keys and values by slot.

    Thread-safety: threads may share it; each call is one step for the others.
    """

    def __cinit__(self, *args, **options) -> None:
        cdef timespec step
        clock_getres(CLOCK_MONOTONIC_COARSE, &step)
        self.tick = seconds_of(step)
        self.exact = CLOCK_MONOTONIC if self.tick > TICK_MAX else CLOCK_MONOTONIC_COARSE

    # -- time

    cdef double clock(self) except? -1:
        """Return the time of the timer, or of the machine to the tick: never too late."""
        cdef timespec moment
        if self.timer is not None:
            return self.timer()
        clock_gettime(CLOCK_MONOTONIC_COARSE, &moment)
        return seconds_of(moment)

    cdef double ending(self, double seconds) except? -1:
        """Return when an entry ends that comes now; never later than it should."""
        cdef timespec moment
        cdef double now
        if self.timer is not None:
            now = self.clock()
        else:
            clock_gettime(self.exact, &moment)
            now = seconds_of(moment) - self.tick
        if not self.ends:
            if not self.table.reserve_expirations():
                raise MemoryError
            self.ends = True
        return now - self.began + seconds

    # -- finding

    cdef int32_t find(self, object key, uint32_t *hash) except -2:
        """Return the slot of a key, also one that has ended, or NO_SLOT.

        Python code may run before it returns, and none after it has seen what it returns.
        """
        cdef uint32_t mine, place
        cdef int32_t slot
        cdef PyObject *held
        cdef uint64_t changes
        cdef int equal, attempts = 0
        if self.is_stable and PyBytes_CheckExact(key):
            mine = mixed(xxh3(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), 0), self.seed)
        else:
            mine = mixed(<uint64_t>PyObject_Hash(key), self.seed)
        hash[0] = mine
        place = home_of(mine, self.table.index_size)
        while True:
            slot = self.table.index[place]
            if slot == NO_SLOT:
                return NO_SLOT
            if self.table.slots[slot].hash == mine:
                held = PyList_GET_ITEM(self.objects, 2 * slot)
                if held == <PyObject *>key:
                    return slot
                changes = self.changes
                Py_INCREF(<object>held)
                equal = PyObject_RichCompareBool(held, <PyObject *>key, Py_EQ)
                Py_DECREF(<object>held)  # its finalizer runs if it is no longer here
                if equal < 0:
                    return -2
                if changes == self.changes:
                    if equal:
                        return slot
                else:
                    attempts += 1
                    if attempts == ATTEMPTS:
                        raise RuntimeError("the cache changes each time its keys are compared")
                    place = home_of(mine, self.table.index_size)
                    continue
            place = behind(place, self.table.index_size)

    cdef void touch(self, int32_t slot) noexcept:
        """Tell the policy that an entry was read."""
        cdef uint32_t hash
        if self.adaptive is not None:
            mark(&self.table.slots[slot], self.adaptive.epoch)
            self.adaptive.operations += 1
            if self.sample_shift:
                hash = self.table.slots[slot].hash
                if is_sample(hash, self.sample_shift):
                    self.adaptive.sampled(hash, self.table.slots[slot].size)
        else:
            self.policy.hit(slot)

    # -- changing

    cdef int reserve(self) except -1:
        """Get what another entry needs; anything may run meanwhile, see is_ready()."""
        self.policy.prepare()  # may run anything
        cdef uint32_t index_size = self.table.index_size
        cdef bint is_there = self.table.reserve()
        if self.table.index_size != index_size:
            self.changes += 1
        if not is_there:
            raise MemoryError
        while PyList_GET_SIZE(self.objects) < 2 * (self.table.used + 1):
            self.objects.append(None)
        return 0

    cdef bint insert(
        self, int32_t slot, uint32_t hash, object key, object value, uint32_t size, double end,
    ) noexcept:
        """Add an entry, for which there is room; return False if it is refused."""
        cdef int64_t counted
        self.policy.missed(hash, size)
        slot = self.table.take(hash)
        self.table.slots[slot].size = size
        self.table.set_end(slot, end)
        self.place(slot, key, value)
        self.policy.insert(slot)
        self.changes += 1
        if self.policy.bytes > self.capacity or self.table.count > self.entries_max:
            return not self.shrink(slot)
        self.policy.settle()
        if self.table.count > self.fitted:
            self.fitted = 2 * self.table.count
            counted = self.table.keys_to_count()
            self.policy.fit(min(self.fitted, counted) if counted else self.fitted)
        return True

    cdef bint replace(self, int32_t slot, uint32_t size, double end) noexcept:
        """Let an entry have a value of another size and end; return False if it is refused."""
        self.table.set_end(slot, end)
        if self.table.slots[slot].size == size:
            self.touch(slot)
            return True
        self.policy.resized(slot, size)
        return self.policy.bytes <= self.capacity or not self.shrink(slot)

    cdef bint shrink(self, int32_t newest) noexcept:
        """Let entries go until the bounds hold; return True if the newest is among them."""
        cdef bint is_gone = False
        cdef int32_t slot
        while self.policy.bytes > self.capacity or self.table.count > self.entries_max:
            slot = self.policy.victim()
            if slot == NO_SLOT:
                break
            is_gone |= slot == newest
            self.table.mark_dead(slot)
        self.policy.settle()
        self.changes += 1
        if self.adaptive is not None:
            self.sample_shift = self.adaptive.sample_shift
        return is_gone

    cdef void forget(self, int32_t slot) noexcept:
        """Remove an entry."""
        self.policy.remove(slot)
        self.table.mark_dead(slot)
        self.changes += 1

    cdef object remove(self, object key, object default):
        """Remove a key and return its value; `default` if it was not there."""
        cdef uint32_t hash
        cdef double asked = self.asked()
        cdef int32_t slot = self.find(key, &hash)
        cdef object found = default
        if slot == NO_SLOT:
            return default
        if not self.table.has_ended(slot, self.now(asked)):
            found = <object>PyList_GET_ITEM(self.objects, 2 * slot + 1)
        self.forget(slot)
        self.drop_removed()
        return found

    cdef int remove_expired(self, int count, double asked) noexcept:
        """Check the next so many slots and remove expired entries; return how many."""
        cdef int32_t slot
        cdef int found = 0
        cdef double now = self.now(asked)
        for _ in range(count):
            slot = self.hand
            self.hand = slot + 1 if slot + 1 < self.table.used else 0
            if slot < self.table.used and self.table.slots[slot].queue and (
                self.table.has_ended(slot, now)
            ):
                self.forget(slot)
                found += 1
        return found

    cdef void drop_dead(self) noexcept:
        """Drop the objects of entries that are gone; what is dropped may run any code."""
        cdef int32_t slot = self.table.next_dead()
        cdef PyObject *key
        cdef PyObject *value
        while slot != NO_SLOT:
            key = PyList_GET_ITEM(self.objects, 2 * slot)
            value = PyList_GET_ITEM(self.objects, 2 * slot + 1)
            Py_INCREF(None)
            Py_INCREF(None)
            PyList_SET_ITEM(self.objects, 2 * slot, None)
            PyList_SET_ITEM(self.objects, 2 * slot + 1, None)
            Py_DECREF(<object>key)
            Py_DECREF(<object>value)
            slot = self.table.next_dead()

    def expire(self) -> int:
        """Remove all expired entries; return their number."""
        cdef int count = 0
        cdef double asked = self.asked()
        if self.ends:
            count = self.remove_expired(self.table.used, asked)
            self.drop_removed()
        return count


cdef int64_t memory_of(object thing) except -1:
    """Return the memory of an object, without what it refers to."""
    if PyBytes_CheckExact(thing):
        return BYTES_BYTES + PyBytes_GET_SIZE(thing)
    if PyUnicode_CheckExact(thing):
        return STR_BYTES + PyUnicode_GET_LENGTH(thing) * PyUnicode_KIND(thing)
    if isinstance(thing, (bytes, bytearray, memoryview)):
        return BYTES_BYTES + len(thing)
    return Py_TYPE(thing).tp_basicsize

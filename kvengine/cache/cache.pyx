"""The memory cache: a bounded mapping whose policy decides what to evict.

Invariants:

* After each call, the total size is at most `capacity`, and the number of entries at most
  `entries_max`.
* The newest entry is stored, unless it is larger than the whole cache, or is large and worth less
  than the entries it would evict.
* An expired entry is never returned.
* Each call is atomic, even for code that runs in the middle of it: see entries.pyx.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_SET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from kvengine.cache.adaptive cimport Adaptive
from kvengine.cache.entries cimport Entries, memory_of
from kvengine.cache.single_flight cimport Epoch, Flight
from kvengine.cache.table cimport NO_SLOT, Table
from kvengine.cache.policy cimport Lru, Policy

import random
from typing import NamedTuple

from kvengine.errors import InvalidRequest, InvalidType

cdef enum:
    SIZE_MAX = 0xFFFFFFFF
    ENTRIES_MAX = 1 << 29
    ENTRY_BYTES = 64            # slot, its part of the index, of the list of objects, of the sketch

POLICIES = ("adaptive", "lru")


class CacheInfo(NamedTuple):
    """What functools.lru_cache tells of itself."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class Absent:
    """The type of ABSENT."""


cdef object ABSENT = Absent()


cdef class CacheCore(Entries):
    """The compiled part of kvengine.Cache, which has the arguments.

    Thread-safety: threads may share it; each call is one step for the others.
    """

    def __cinit__(
        self, maxsize=None, getsizeof=None, ttl=None, *, memory_bytes=None, policy="adaptive",
        size_weight=1.0, timer=None, seed=None,
    ) -> None:
        cdef double floor = 1.0
        self.objects, self._epoch = [], Epoch()
        self.measure, self.timer = getsizeof, timer
        self.began = self.clock()
        self.time_to_live = None if ttl is None else checked_time("ttl", ttl)
        self.is_stable = seed is not None
        self.seed = random.getrandbits(64) if seed is None else seed & (2 ** 64 - 1)
        self.entries_max = ENTRIES_MAX
        if maxsize is None and memory_bytes is None:
            raise InvalidRequest("a cache needs a bound: maxsize or memory_bytes")
        for name, bound in (("maxsize", maxsize), ("memory_bytes", memory_bytes)):
            if bound is not None and (
                isinstance(bound, bool) or not isinstance(bound, (int, float)) or not bound >= 0
            ):
                raise InvalidRequest(f"{name} must be a number of at least 0, not {bound!r}")
        if memory_bytes is not None:
            if getsizeof is not None and maxsize is not None:
                raise InvalidRequest("with memory_bytes, maxsize counts entries: no getsizeof")
            self.charges, self.capacity, floor = True, int(min(memory_bytes, 1 << 62)), 256.0
            if maxsize is not None:
                self.entries_max = int(min(maxsize, ENTRIES_MAX))
        else:
            self.capacity = int(min(maxsize, 1 << 62))
            if getsizeof is None:
                self.entries_max = min(self.capacity, <int64_t>ENTRIES_MAX)
        if not callable(getsizeof) and getsizeof is not None:
            raise InvalidType(f"getsizeof must be callable, not {type(getsizeof).__name__}")
        self.table = Table(self.entries_max + 1)
        self.policy = make_policy(policy, self.table, self.capacity, size_weight, floor)
        if isinstance(self.policy, Adaptive):
            self.adaptive = self.policy

    cdef object lookup(self, object key, object default):
        cdef uint32_t hash
        cdef double asked = self.asked()
        cdef int32_t slot = self.find(key, &hash)
        if slot == NO_SLOT:
            self.misses += 1
            return default
        if self.table.slots[slot].ends and self.table.has_ended(slot, self.now(asked)):
            self.misses += 1
            self.forget(slot)
            self.drop_removed()
            return default
        self.hits += 1
        self.touch(slot)
        return <object>PyList_GET_ITEM(self.objects, 2 * slot + 1)

    def get(self, key, default=None):
        """Return the value of a key, or `default`."""
        return self.lookup(key, default)

    def peek(self, key, default=None):
        """Return the value of a key, or `default`, without counting it as a read."""
        cdef uint32_t hash
        cdef double asked = self.asked()
        cdef int32_t slot = self.find(key, &hash)
        if slot == NO_SLOT or self.table.has_ended(slot, self.now(asked)):
            return default
        return <object>PyList_GET_ITEM(self.objects, 2 * slot + 1)

    def __getitem__(self, key):
        cdef object found = self.lookup(key, ABSENT)
        return self.__missing__(key) if found is ABSENT else found

    def __missing__(self, key):
        raise KeyError(key)

    def __contains__(self, key) -> bool:
        return self.peek(key, ABSENT) is not ABSENT

    # -- changing

    cdef int64_t size_of(self, object key, object value, object size) except -1:
        """Return what an entry counts against the bound."""
        cdef int64_t found
        if size is None:
            if self.measure is None and not self.charges:
                return 1
            size = memory_of(key) + memory_of(value) + ENTRY_BYTES if self.measure is None else (
                self.measure(value))
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not size >= 0:
            raise InvalidRequest(f"an entry's size must be a number of at least 0, not {size!r}")
        found = int(min(size, 1 << 62))
        return found

    cdef int hold(
        self, object key, object value, object size, object ttl, Flight flight=None,
        const uint64_t *moves=NULL, uint64_t expected=0, PyObject **there=NULL,
    ) except -1:
        """Hold a value, if it is worth it; return HELD, REFUSED, TOO_LARGE, LATE or THERE.

        It is LATE if the flight was forgotten, or if `moves` is no longer what was expected.  With
        `there`, a value that is there stays, and is put there as a new reference.
        """
        cdef int64_t wanted = self.size_of(key, value, size)
        cdef uint32_t hash
        cdef int32_t slot
        cdef PyObject *old = NULL
        cdef double end = INFINITY, asked
        cdef bint is_held
        if wanted > self.capacity or wanted > SIZE_MAX or self.entries_max == 0:
            if there == NULL:
                return TOO_LARGE
            wanted = -1  # only looked for
        if ttl is None:
            ttl = self.time_to_live
        if ttl is not None:
            end = self.ending(ttl)
        asked = self.asked()
        while True:
            slot = self.find(key, &hash)
            if slot != NO_SLOT or wanted < 0 or self.is_ready():
                break
            self.reserve()
        # From here on nothing is created or dropped until the last step.
        if moves != NULL and moves[0] != expected or flight is not None and flight.is_void():
            return LATE
        if there != NULL and slot != NO_SLOT and not self.table.has_ended(slot, self.now(asked)):
            there[0] = PyList_GET_ITEM(self.objects, 2 * slot + 1)
            Py_INCREF(<object>there[0])
            self.hits += 1
            self.touch(slot)
            return THERE
        if wanted < 0:
            return TOO_LARGE
        if slot == NO_SLOT:
            is_held = self.insert(slot, hash, key, value, <uint32_t>wanted, end)
            if self.ends:
                self.remove_expired(2, asked)
        else:
            old = PyList_GET_ITEM(self.objects, 2 * slot + 1)
            Py_INCREF(value)
            PyList_SET_ITEM(self.objects, 2 * slot + 1, value)
            is_held = self.replace(slot, <uint32_t>wanted, end)
        self.drop_removed()
        if old != NULL:
            Py_DECREF(<object>old)
        return HELD if is_held else REFUSED

    def set(self, key, value, size=None, ttl=None) -> bool:
        """Store a value; return False if it was not stored.

        That happens if the value is larger than the whole cache, or if it is large and worth less
        than the entries it would evict.  Then an older value of the key is removed.

        Args:
            key: any hashable object.
            value: any object.
            size: its size, instead of the one that the cache computes.
            ttl: seconds until it expires, instead of the cache's.
        """
        if ttl is not None:
            ttl = checked_time("ttl", ttl)
        cdef int outcome = self.hold(key, value, size, ttl)
        if outcome == TOO_LARGE:
            self.delete(key)
        return outcome == HELD

    def _set_made(self, Flight flight not None, key, value, ttl=None) -> bool:
        """Hold what was made in a flight, unless that was forgotten meanwhile; see set()."""
        return self.hold(key, value, None, ttl, flight) == HELD

    def __setitem__(self, key, value) -> None:
        if self.hold(key, value, None, None) == TOO_LARGE:
            raise too_large()

    def setdefault(self, key, default=None):
        """Return the value of a key; store `default` first if the key is absent."""
        cdef PyObject *there = NULL
        cdef object found
        cdef int outcome = self.hold(key, default, None, None, None, NULL, 0, &there)
        if outcome == THERE:
            found = <object>there
            Py_DECREF(found)
            return found
        self.misses += 1
        if outcome == TOO_LARGE:
            raise too_large()
        return default

    def delete(self, key) -> bool:
        """Remove a key; return True if it was present."""
        return self.remove(key, ABSENT) is not ABSENT

    def __delitem__(self, key) -> None:
        if self.remove(key, ABSENT) is ABSENT:
            raise KeyError(key)

    def pop(self, key, default=ABSENT):
        """Remove a key and return its value, or `default`.

        Raises:
            KeyError: the key is absent, and there is no default.
        """
        cdef object found = self.remove(key, ABSENT)
        if found is not ABSENT:
            self.hits += 1
            return found
        self.misses += 1
        if default is ABSENT:
            raise KeyError(key)
        return default

    def popitem(self):
        """Remove and return the (key, value) that would be evicted next.

        Raises:
            KeyError: the cache is empty.
        """
        cdef double asked = self.asked()
        cdef int32_t slot = NO_SLOT
        cdef object key = None, value = None
        if self.ends:
            self.remove_expired(self.table.used, asked)
        if self.table.count:
            slot = self.policy.victim()
        if slot != NO_SLOT:
            key = <object>PyList_GET_ITEM(self.objects, 2 * slot)
            value = <object>PyList_GET_ITEM(self.objects, 2 * slot + 1)
            self.table.mark_dead(slot)
            self.policy.settle()
            self.changes += 1
        self.drop_removed()
        if slot == NO_SLOT:
            raise KeyError(f"{type(self).__name__} is empty")
        return key, value

    def clear(self) -> None:
        """Remove all entries; keep the counts of hits and misses."""
        cdef list other = []
        self.objects, other = other, self.objects
        self.table.clear()
        self.policy.clear()
        self.hand = 0
        self.changes += 1
        self._epoch.now += 1
        other.clear()  # last: what goes may call back

    # -- looking at it

    def __len__(self) -> int:
        self.expire()
        return self.table.count

    def __iter__(self):
        """Return an iterator over the keys there are now; changes meanwhile do not disturb it."""
        cdef int32_t slot
        cdef list keys = []
        self.expire()
        for slot in range(self.table.used):
            if self.table.slots[slot].queue:
                keys.append(<object>PyList_GET_ITEM(self.objects, 2 * slot))
        return iter(keys)

    @property
    def maxsize(self) -> int:
        """What the sizes of all entries may come to."""
        return self.capacity

    @property
    def currsize(self) -> int:
        """What the sizes of all entries come to."""
        self.expire()
        return self.policy.bytes

    @property
    def getsizeof(self):
        """What gives the size of a value; None: each counts as one, or as its memory."""
        return self.measure

    @property
    def ttl(self) -> float | None:
        """For how many seconds a value is held if set() does not say."""
        return self.time_to_live

    def cache_info(self) -> CacheInfo:
        """Return CacheInfo(hits, misses, maxsize, currsize)."""
        return CacheInfo(self.hits, self.misses, self.capacity, self.policy.bytes)

    def memory_usage(self) -> int:
        """Return how many bytes the cache uses, not counting its keys and values."""
        objects = self.objects.__sizeof__()
        return self.table.memory_usage() + self.policy.memory_usage() + objects


cdef Policy make_policy(object name, Table table, double capacity, object weight, double floor):
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= 2:
        raise InvalidRequest(f"size_weight must be between 0 and 2, not {weight!r}")
    if name == "adaptive":
        return Adaptive(table, capacity, weight, floor)
    if name == "lru":
        return Lru(table, capacity)
    raise InvalidRequest(f"policy must be 'adaptive' or 'lru', not {name!r}")


cdef object too_large():
    return InvalidRequest("value too large: it is larger than the whole cache")


cdef object checked_time(str name, object seconds):
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not seconds >= 0:
        raise InvalidRequest(f"{name} must be a number of seconds, not {seconds!r}")
    return float(seconds)

"""A batch: changes that are collected first and written together.

Invariants:

* Each change is checked completely when it is added.
* The batch owns the bytes that its changes point to, until they are written or dropped.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc

from kvengine.engine.access.changing cimport Changer, checked_version, copied, set_bytes
from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.index.keys cimport checked_key
from kvengine.engine.log.record cimport DELETE, PUT
from kvengine.engine.access.change cimport Change

from kvengine.errors import InvalidRequest
from kvengine.options import BATCH_BYTES_MAX, METADATA_BYTES_MAX, VALUE_BYTES_MAX

cdef uint64_t VALUE_MAX = VALUE_BYTES_MAX
cdef uint64_t METADATA_MAX = METADATA_BYTES_MAX
cdef uint64_t BATCH_MAX = BATCH_BYTES_MAX

cdef enum:
    ROOM_MIN = 16
    OVERHEAD_BYTES = 64         # of a record, at most

cdef struct Owned:              # what a change points to; NULL: nothing
    PyObject *key
    PyObject *value
    PyObject *metadata


cdef class Batch:
    """Several changes that become visible, and survive a crash, all together or not at all.

    Use as a context manager: commits on a clean exit, drops everything on an exception.

    Thread-safety: for one thread.
    """

    cdef Changer store
    cdef object durability
    cdef Change *changes
    cdef Owned *owned           # one for each change
    cdef Py_ssize_t count, room
    cdef uint64_t size
    cdef readonly object version  # of the last change, once committed
    # It leads to deletes, so on a full disk it may use what is kept back for those.
    cdef public bint _makes_room

    def __cinit__(self, store: Changer, durability: object = None) -> None:
        self.store, self.durability = store, durability

    def __dealloc__(self) -> None:
        self._drop()

    def put(self, key, value, *, metadata=b"", expires_at=None) -> None:
        """Add a put; arguments as in Store.put()."""
        cdef Change change
        cdef bytes name = checked_key(key)
        change.kind = PUT
        change.expires_at = 0 if expires_at is None else self.store.checked_expiry(expires_at)
        if type(value) is not bytes:
            value = copied(value, "a value", VALUE_MAX)
        if type(metadata) is not bytes:
            metadata = copied(metadata, "metadata", METADATA_MAX)
        set_bytes(&change, <bytes>value, <bytes>metadata)
        self._add(&change, name, <PyObject *>value, <PyObject *>metadata)

    def delete(self, key) -> None:
        """Add a delete; an absent key is not an error."""
        cdef Change change
        change.kind = DELETE
        change.expires_at = 0
        change.value = change.metadata = NULL
        change.value_size = change.metadata_size = 0
        self._add(&change, checked_key(key), NULL, NULL)

    cdef int _add(
        self, Change *change, bytes key, PyObject *value, PyObject *metadata
    ) except -1:
        change.key = PyBytes_AS_STRING(key)
        change.key_size = PyBytes_GET_SIZE(key)
        cdef uint64_t size = (
            OVERHEAD_BYTES + change.key_size + change.metadata_size + change.value_size)
        if self.size + size > BATCH_MAX:
            raise InvalidRequest(
                f"a batch can have at most {BATCH_MAX} bytes, not {self.size + size}")
        if self.count == self.room:
            self._more_room()
        change.hash = xxh3(change.key, change.key_size, self.store.seed)
        self.changes[self.count] = change[0]
        self.owned[self.count] = Owned(<PyObject *>key, value, metadata)
        Py_INCREF(key)
        if value != NULL:
            Py_INCREF(<object>value)
            Py_INCREF(<object>metadata)
        self.count += 1
        self.size += size
        return 0

    cdef int _more_room(self) except -1:
        cdef Py_ssize_t room = max(2 * self.room, <Py_ssize_t>ROOM_MIN)
        cdef Change *changes = <Change *>realloc(self.changes, room * sizeof(Change))
        if changes == NULL:
            raise MemoryError
        self.changes = changes
        cdef Owned *owned = <Owned *>realloc(self.owned, room * sizeof(Owned))
        if owned == NULL:
            raise MemoryError
        self.owned, self.room = owned, room
        return 0

    cdef void _drop(self) noexcept:
        """Forget all changes."""
        cdef Owned *owned = self.owned
        cdef Py_ssize_t n = self.count, i
        free(self.changes)
        self._forget()
        for i in range(n):
            Py_XDECREF(owned[i].key)
            Py_XDECREF(owned[i].value)
            Py_XDECREF(owned[i].metadata)
        free(owned)

    cdef void _forget(self) noexcept:
        self.changes, self.owned, self.count, self.room, self.size = NULL, NULL, 0, 0, 0

    def __len__(self) -> int:
        return self.count

    @property
    def size_bytes(self) -> int:
        """Bytes that the batch takes in the log, about."""
        return self.size

    def commit(self, *, if_version=None) -> int:
        """Write everything added so far and return the version of the last change.

        Whether that succeeds or not, the batch is empty afterwards.

        Args:
            if_version: write only if each of the keys has this version now (0: if none is there).

        Raises:
            VersionConflict: a key has another version; nothing was written.
        """
        cdef Batch taken = Batch(self.store)  # what is added meanwhile is for the next commit
        taken._makes_room = self._makes_room
        taken.changes, taken.owned, taken.count = self.changes, self.owned, self.count
        self._forget()
        cdef int64_t wanted = -1 if if_version is None else checked_version(if_version)
        self.version = taken._write(wanted, self.durability)
        return self.version

    cdef uint64_t _write(self, int64_t if_version, object durability) except? 0:
        return self.store.commit(self.changes, self.count, if_version, durability, self._makes_room)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is None:
            self.commit()
        else:
            self._drop()

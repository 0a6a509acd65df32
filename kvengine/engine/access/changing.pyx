"""The calls that change a store: put, delete and item assignment; batch.pyx collects changes.

Invariants:

* Arguments are checked completely before anything is written.
* Waiters wake when the change is visible, before it is durable.
* A call returns when its change is as durable as requested.  It waits without the GIL and without
  the writer's lock, so that many threads share one sync.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint64_t

from kvengine.engine.log.futex_word cimport wake_waiters
from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.index.keys cimport checked_key
from kvengine.engine.log.record cimport DELETE, PUT
from kvengine.engine.access.change cimport Change, Write
from kvengine.engine.access.writing cimport Writer

from time import sleep

from kvengine.engine.jobs.compaction import PAUSE_MAX_S
from kvengine.engine.log.durability import level_of
from kvengine.errors import InvalidRequest, InvalidType, copied_error
from kvengine.options import METADATA_BYTES_MAX, VALUE_BYTES_MAX, VERSION_LIMIT

cdef uint64_t VALUE_MAX = VALUE_BYTES_MAX
cdef uint64_t METADATA_MAX = METADATA_BYTES_MAX
cdef double PAUSE_MAX = PAUSE_MAX_S


cdef int hold(object value, Py_buffer *view, str what, uint64_t limit) except -1:
    """Get at the bytes of a value or of metadata; the caller releases the view."""
    if isinstance(value, str):
        raise InvalidType(f"{what} must be bytes, not str; encode it first")
    try:
        PyObject_GetBuffer(value, view, PyBUF_SIMPLE)
    except (TypeError, BufferError, ValueError) as error:
        raise InvalidType(
            f"{what} must be bytes or a contiguous buffer, not {type(value).__name__}: {error}"
        ) from None
    if <uint64_t>view.len > limit:
        size = view.len
        PyBuffer_Release(view)
        raise InvalidRequest(f"{what} can have at most {limit} bytes, not {size}")
    return 0


cdef int set_bytes(Change *change, bytes value, bytes metadata) except -1:
    """Point a change at its value and metadata; their sizes are checked."""
    change.value = PyBytes_AS_STRING(value)
    change.value_size = PyBytes_GET_SIZE(value)
    change.metadata = PyBytes_AS_STRING(metadata)
    change.metadata_size = PyBytes_GET_SIZE(metadata)
    if change.value_size > VALUE_MAX:
        raise InvalidRequest(
            f"a value can have at most {VALUE_MAX} bytes, not {change.value_size}")
    if change.metadata_size > METADATA_MAX:
        raise InvalidRequest(
            f"metadata can have at most {METADATA_MAX} bytes, not {change.metadata_size}")
    return 0


cdef int64_t checked_version(object if_version) except -2:
    if if_version is None:
        return -1
    if isinstance(if_version, bool) or not isinstance(if_version, int):
        raise InvalidType(f"if_version must be an int, not {type(if_version).__name__}")
    if not 0 <= if_version < VERSION_LIMIT:
        raise InvalidRequest(f"if_version must be a version or 0, not {if_version}")
    return if_version


cdef bytes copied(object value, str what, uint64_t limit):
    """Return the bytes of a buffer, which may change after the call."""
    cdef Py_buffer view
    hold(value, &view, what, limit)
    try:
        return (<char *>view.buf)[:view.len]
    finally:
        PyBuffer_Release(&view)


cdef class Changer(Writer):
    """A Writer that checks what it writes."""

    cdef double checked_expiry(self, object expires_at) except? -1:
        """Return a moment in the future as seconds since the epoch; 0 for None."""
        if expires_at is None:
            return 0
        if isinstance(expires_at, bool) or not isinstance(expires_at, (int, float)):
            raise InvalidType(
                f"expires_at must be seconds since the epoch, not {type(expires_at).__name__}")
        try:
            moment = float(expires_at)
        except OverflowError:
            raise InvalidRequest("expires_at is too far in the future") from None
        if not isfinite(moment) or not moment > self.now():
            raise InvalidRequest(
                f"expires_at must be a moment in the future, not {expires_at}")
        return moment

    cdef object put_one(
        self, object key, object value, object metadata, object expires_at, object if_version,
        object durability,
    ):
        """Store a value under a key and return the version of the change."""
        cdef Change change
        cdef Py_buffer value_view, metadata_view
        cdef bytes name = checked_key(key)
        cdef int level = self.level if durability is None else level_of(durability)
        cdef int64_t wanted = -1 if if_version is None else checked_version(if_version)
        change.kind = PUT
        change.expires_at = 0 if expires_at is None else self.checked_expiry(expires_at)
        change.key = PyBytes_AS_STRING(name)
        change.key_size = PyBytes_GET_SIZE(name)
        change.hash = xxh3(change.key, change.key_size, self.seed)
        if type(value) is bytes and type(metadata) is bytes:
            set_bytes(&change, <bytes>value, <bytes>metadata)
            return self._one(&change, wanted, level)
        hold(metadata, &metadata_view, "metadata", METADATA_MAX)
        try:
            hold(value, &value_view, "a value", VALUE_MAX)
            try:
                change.metadata = <const char *>metadata_view.buf
                change.metadata_size = metadata_view.len
                change.value = <const char *>value_view.buf
                change.value_size = value_view.len
                return self._one(&change, wanted, level)
            finally:
                PyBuffer_Release(&value_view)
        finally:
            PyBuffer_Release(&metadata_view)

    cdef object delete_one(self, object key, object if_version, object durability):
        """Delete a key and return the version of the change; 0 if there was nothing to delete."""
        cdef Change change
        cdef bytes name = checked_key(key)
        cdef int level = self.level if durability is None else level_of(durability)
        cdef int64_t wanted = -1 if if_version is None else checked_version(if_version)
        change.kind = DELETE
        change.expires_at = 0
        change.key = PyBytes_AS_STRING(name)
        change.key_size = PyBytes_GET_SIZE(name)
        change.hash = xxh3(change.key, change.key_size, self.seed)
        change.metadata = change.value = NULL
        change.metadata_size = change.value_size = 0
        return self._one(&change, wanted, level)

    cdef object _one(self, Change *change, int64_t if_version, int level):
        cdef double moment = 0
        if if_version >= 0 or change.kind == DELETE:
            moment = self.now()
        return self.write(change, 1, if_version, moment, level, False)

    cdef uint64_t commit(
        self, Change *changes, Py_ssize_t n, int64_t if_version, object durability,
        bint makes_room,
    ) except? 0:
        """Write changes, all checked, as one batch; return the version of the last."""
        cdef int level = self.level if durability is None else level_of(durability)
        cdef double moment = 0
        if n == 0:
            self.check_usable()
            return self.applied
        if if_version >= 0 or n == 1 and changes[0].kind == DELETE:
            moment = self.now()
        return self.write(changes, n, if_version, moment, level, makes_room) or self.applied

    cdef uint64_t write(
        self, Change *changes, Py_ssize_t n, int64_t if_version, double moment, int level,
        bint makes_room,
    ) except? 0:
        """Write changes as one batch, after the pause that the last write left, if any.

        Returns the version of the last, 0 if there was nothing to do.  An exception of a signal
        handler may end the wait for the disk: then the changes are made, and may be durable.
        """
        cdef Write write
        cdef double pause = self.pause_s
        if self.follows is not None:
            raise copied_error(self.follows)
        if pause > 0:
            self.pause_s = max(pause - PAUSE_MAX, 0.0)  # the rest is for the next writes
            sleep(min(pause, PAUSE_MAX))  # for the background thread, which needs the lock
        write.changes, write.n, write.numbered = changes, n, False
        write.if_version, write.moment, write.level = if_version, moment, level
        write.makes_room = makes_room
        write.waits = write.done = write.begun = write.grown = write.passed_on = False
        write.file = NULL
        self.perform(&write)
        if not write.done:
            return 0
        wake_waiters(self.futex)
        if self.waiters:
            self._wake()
        if level <= 1:
            self.commits.wait(write.version, level == 0)
        elif level == 2 and not self.commits.is_sync_due:
            self._sync_soon()
        return write.version

"""Appending: records at the end of the log, and then the version that makes them visible.

Invariants:

* Up to the append everything may fail, and has changed nothing; after it nothing may fail.
* `writing` on the page is not 0 while there may be invisible bytes after the end of the log.  A
  process that finds it so begins a new segment, and leaves these bytes untouched.
* The version is stored after its records are complete and indexed; only for a large write the index
  is updated afterwards.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from kvengine.engine.access.change cimport Change, Write
from kvengine.engine.access.indexing cimport show
from kvengine.engine.access.log_end cimport BEHIND, DONE, FULL, GONE, LOST, NO_MEMORY, SYSTEM
from kvengine.engine.log.page cimport (
    ALLOCATED, DURABLE as DURABLE_WORD, SEGMENT, SPARSE, VERSION, WRITING, load_word, store_word,
)
from kvengine.engine.log.record cimport (
    DELETE, DURABLE, EXPIRES, GAP, MORE, aligned, encode,
)
from kvengine.engine.log.segment cimport SEGMENT_MAP_BYTES, Segment
from kvengine.file.mapped cimport MappedFile, write_fully

from kvengine.errors import StoreReadOnly

cdef enum:
    GIL_BYTES_MAX = 65536       # larger writes release the GIL
    SMALL_BYTES = 16384         # records up to here are put together on the C stack
    # One call for each larger write is cheaper than what the system does for pages that were
    # stored to, when they are written back.
    IN_PLACE_BYTES_MAX = 4096

cdef object INDEX_BEHIND_LOG = StoreReadOnly(
    "the store is read-only: the last change is in the log, but the index could not take it in; "
    "close the store and open it again")


cdef int make_room(LogEnd self, Write *write) except -1:
    """Have the bytes after the end of the log in one segment, allocated on disk."""
    cdef uint64_t end = 0
    cdef int code
    cdef uint64_t begun = load_word(&self.page[SEGMENT])
    cdef bint is_torn = load_word(&self.page[WRITING]) != 0
    if begun > self.known_segment:
        return BEHIND  # another process has begun one, and written nothing yet
    if self.active_slot:
        end = self.segments.rows[self.active_slot].end
    if (
        self.active_slot == 0 or begun != self.segments.rows[self.active_slot].id
        or end >= self.segment_bytes or end + write.size > SEGMENT_MAP_BYTES
        or is_torn  # whoever did it was killed: leave its tail alone
    ):
        if self.commits.is_lost():
            return GONE
        code = self.begin_segment(self.next_segment)
        if code == FULL:
            return FULL
        if code:
            return refused(self, write, code - SYSTEM, self.next_segment.file, "begin a segment")
        write.begun = True
        end = self.segments.rows[self.active_slot].end
    if end + write.size > load_word(&self.page[ALLOCATED]):
        code = self.grow(aligned(end + write.size), only_deletes(write))
        if code:
            return refused(self, write, code, self.active, "grow")
        write.grown = True
        if self.commits.is_lost():  # with "os" no sync would notice it
            return GONE
    return DONE


cdef int refused(LogEnd self, Write *write, int code, MappedFile file, const char *what) noexcept:
    """Keep what _fail() says of a refusal of the system, when the lock is given back."""
    Py_INCREF(file)
    write.file, write.error, write.what = <PyObject *>file, code, what
    return SYSTEM


cdef int append(LogEnd self, Write *write) except -1:
    """Lay the records out behind the end of the log; nothing points to them yet."""
    cdef Segment *row = &self.segments.rows[self.active_slot]
    cdef MappedFile active = self.active
    cdef uint64_t start = row.end, size = write.size
    cdef char[SMALL_BYTES] small
    cdef char *target = small
    cdef char *buffer = NULL
    cdef bint in_place = (
        self.store_to_mapping and write.level > 1 and size <= IN_PLACE_BYTES_MAX
        and active.hook is None and not load_word(&self.page[SPARSE]))
    cdef uint64_t end
    cdef int code = 0
    cdef uint8_t first = 0
    if in_place:
        code = self.prepare(start, start + size)
        target = row.base + start
    elif size > SMALL_BYTES:
        target = buffer = <char *>malloc(size)
        if buffer == NULL:
            return NO_MEMORY
    if load_word(&self.page[DURABLE_WORD]) >= self.applied:
        first = DURABLE
    store_word(&self.page[WRITING], 1)
    try:
        if code == 0 and size > GIL_BYTES_MAX and active.hook is None:
            return pass_on_large(self, write, buffer, first)
        if code == 0:
            end = lay_out(target, start, row.salt, write, self.applied, first)
            if not in_place:
                code = active.try_write(target, end, start)
    finally:
        if buffer != NULL:
            free(buffer)
        if code:
            store_word(&self.page[WRITING], 0)
    if code:
        return refused(self, write, code, active, "write")
    row.end = start + end
    self.taken_in += end
    return DONE


cdef int pass_on_large(LogEnd self, Write *write, char *buffer, uint8_t first) noexcept:
    """Append and publish without the GIL, and pass the write lock on: the index follows then."""
    cdef Segment *row = &self.segments.rows[self.active_slot]
    cdef MappedFile active = self.active
    cdef uint64_t start = row.end, salt = row.salt, before = self.applied, end
    cdef uint64_t version
    cdef int fd = active.fd, code
    with nogil:
        end = lay_out(buffer, start, salt, write, before, first)
        code = write_fully(fd, buffer, end, start)
        if code == 0:
            version = write.changes[write.n - 1].version
            store_word(&self.page[VERSION], version)
        store_word(&self.page[WRITING], 0)
        if code == 0:
            self.release_write_lock()
    if code:
        return refused(self, write, code, active, "write")
    active.size_bytes = max(active.size_bytes, start + end)  # others may have let it grow
    write.version, write.done, write.passed_on = version, True, True
    if self.applied != before:  # another thread, which read meanwhile, has taken some of it in
        return DONE
    row = &self.segments.rows[self.active_slot]
    row.end = start + end
    self.taken_in += end
    return show_all(self, write)


cdef int publish(LogEnd self, Write *write) noexcept:
    """Let the index point to the records, which are in the log; nothing may fail any more."""
    cdef int code = show_all(self, write)
    store_word(&self.page[VERSION], self.applied)
    store_word(&self.page[WRITING], 0)
    write.done = True
    return code


cdef int show_all(LogEnd self, Write *write) noexcept:
    cdef Py_ssize_t i
    cdef int code = DONE
    for i in range(write.n):
        if not show(self, &write.changes[i]):
            # Rather no more writes than a version that is given twice.
            self.refusal = INDEX_BEHIND_LOG
            code = LOST
            break
    self.applied = write.version = write.changes[write.n - 1].version
    self.commits.version = self.applied
    return code


cdef uint64_t lay_out(
    char *target, uint64_t start, uint64_t salt, Write *write, uint64_t before, uint8_t first,
) noexcept nogil:
    """Write records to `target`, behind those up to version `before`; return their size."""
    cdef uint64_t end = 0
    cdef Change *changes = write.changes
    cdef Py_ssize_t i, n = write.n
    cdef uint8_t flags
    for i in range(n):
        flags = (first if i == 0 else 0) | (MORE if i < n - 1 else 0)
        if changes[i].expires_at:
            flags |= EXPIRES
        if changes[i].version != before + 1:
            flags |= GAP
        before = changes[i].version
        changes[i].offset = start + end
        changes[i].size = encode(
            target + end, changes[i].version, <uint8_t>changes[i].kind, flags,
            changes[i].expires_at, changes[i].key, <uint16_t>changes[i].key_size,
            changes[i].metadata, <uint16_t>changes[i].metadata_size,
            changes[i].value, <uint32_t>changes[i].value_size, salt + start + end)
        end += changes[i].size
    return end


cdef bint only_deletes(const Write *write) noexcept nogil:
    """True if a write makes the store smaller, in the end."""
    cdef Py_ssize_t i
    for i in range(0 if write.makes_room else write.n):
        if write.changes[i].kind != DELETE:
            return False
    return True

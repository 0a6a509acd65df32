"""A selection: the next keys of a scan, merged from all sources of the key order.

Invariants:

* Keys come in the order of their bytes, each once, with the newest address in any source.
* A block of a run is read only after its checksum was verified.
* Finding the next keys takes a search in each source, whatever the size of the store.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memset

from kvengine.engine.order.key_buffer cimport KeyBuffer, seek_entries
from kvengine.engine.order.key_run cimport KeyRun, Place, read_entry, seek_run, step_run
from kvengine.engine.order.key_sort cimport KeyEntry, compare, prefix_of


cdef class Selection:
    """The next few keys of a scan, in order, each once.

    Keys point into buffers and runs, which are held until the next collect().
    """

    def __cinit__(self, room: int) -> None:
        self.room = room
        self.entries = <KeyEntry *>malloc(room * sizeof(KeyEntry))
        self.limits = <uint64_t *>malloc(room * sizeof(uint64_t))
        if self.entries == NULL or self.limits == NULL:
            raise MemoryError

    def __dealloc__(self) -> None:
        free(self.entries)
        free(self.limits)
        free(self.sources)

    def key(self, index: int) -> bytes:
        """Return a key that was collected."""
        cdef KeyEntry *entry = &self.entries[index]
        return entry.key[:entry.size]

    cdef int collect(
        self, list buffers, list runs, bytes prefix, object start_after, bint reverse,
        bint frozen,
    ) except -1:
        """Find the next keys with a prefix behind `start_after`; as many as there is room for.

        With `frozen`, no buffer among the sources changes any more, so the GIL is released.
        """
        cdef KeyEntry bound
        cdef KeyEntry *from_here = &bound
        cdef bytes text = prefix, beyond = successor(prefix)
        cdef bint after = False, done
        cdef const char *start = PyBytes_AS_STRING(prefix)
        cdef uint32_t size = <uint32_t>PyBytes_GET_SIZE(prefix)
        if reverse:
            text = beyond
            if start_after is not None and (not beyond or start_after < beyond):
                text = start_after
            elif not beyond:
                from_here = NULL
        elif start_after is not None and start_after >= prefix:
            text, after = start_after, True
        bound.key, bound.size = PyBytes_AS_STRING(text), <uint32_t>PyBytes_GET_SIZE(text)
        bound.prefix = prefix_of(bound.key, bound.size)
        while True:
            self._add_sources(buffers, runs)
            if frozen:
                with nogil:
                    done = self._select(from_here, after, reverse, start, size)
            else:
                done = self._select(from_here, after, reverse, start, size)
            if done:
                return 0
            # The GIL is free while a block is verified, so begin again afterwards.
            (<KeyRun>runs[self.stopped.number]).verify_block(self.unverified)

    cdef int _add_sources(self, list buffers, list runs) except -1:
        """List the sources, newest first, so that the first of equals is the newest."""
        cdef KeyBuffer buffer
        cdef KeyRun run
        cdef Source *source
        cdef int part
        cdef Py_ssize_t i
        cdef Py_ssize_t room = len(runs)
        self.count = self.source_count = 0
        self.held = [buffers, runs]
        for buffer in buffers:
            buffer.settle()
            room += buffer.sorted_runs
        if room > self.source_room:
            free(self.sources)
            self.source_room = 0
            self.sources = <Source *>malloc(room * sizeof(Source))
            if self.sources == NULL:
                raise MemoryError
            self.source_room = room
        for buffer in reversed(buffers):
            for part in range(buffer.sorted_runs - 1, -1, -1):
                source = self._next_source()
                source.entries = buffer.entries
                source.start, source.end = buffer.starts[part], buffer.end_of(part)
                source.limit = ~<uint64_t>0
        for i in range(len(runs) - 1, -1, -1):
            run = runs[i]
            source = self._next_source()
            source.run, source.number, source.limit = &run.view, i, run.segment_limit
        return 0

    cdef Source *_next_source(self) noexcept:
        cdef Source *source = &self.sources[self.source_count]
        memset(source, 0, sizeof(Source))
        self.source_count += 1
        return source

    cdef bint _select(
        self, const KeyEntry *bound, bint after, bint reverse, const char *prefix, uint32_t size,
    ) noexcept nogil:
        """Place every source, then merge; False if a block must be verified first."""
        cdef Py_ssize_t i
        for i in range(self.source_count):
            if not self._position(&self.sources[i], bound, after, reverse):
                self.stopped = &self.sources[i]
                return False
        return self._merge(prefix, size, reverse)

    cdef bint _position(
        self, Source *source, const KeyEntry *key, bint after, bint reverse
    ) noexcept nogil:
        """Go to the first entry behind a key (or at it); in reverse to the last before it."""
        if source.run == NULL:
            source.index = source.end
            if key != NULL:
                source.index = seek_entries(
                    source.entries, source.start, source.end, key, after)
            if reverse:
                return self._advance(source, True)
            source.alive = source.index < source.end
            if source.alive:
                source.entry = source.entries[source.index]
            return True
        source.place = Place(source.run.blocks, 0)
        if key != NULL and not seek_run(source.run, key, after, &source.place, &self.unverified):
            return False
        if reverse:
            return self._advance(source, True)
        source.alive = source.place.block < source.run.blocks
        if source.alive:
            read_entry(source.run, source.place.block, source.place.index, &source.entry)
        return True

    cdef bint _advance(self, Source *source, bint reverse) noexcept nogil:
        """Go on by one entry; False if a block must be verified first."""
        if source.run == NULL:
            if reverse:
                source.alive = source.index > source.start
                source.index -= 1
            else:
                source.index += 1
                source.alive = source.index < source.end
            if source.alive:
                source.entry = source.entries[source.index]
            return True
        if not step_run(source.run, &source.place, reverse, &source.alive, &self.unverified):
            return False
        if source.alive:
            read_entry(source.run, source.place.block, source.place.index, &source.entry)
        return True

    cdef bint _merge(self, const char *prefix, uint32_t size, bint reverse) noexcept nogil:
        """Take the least key of all sources (in reverse the greatest) until there is no room."""
        cdef Source *best
        cdef Source *source
        cdef Py_ssize_t i
        cdef int order
        while self.count < self.room:
            best = NULL
            for i in range(self.source_count):
                source = &self.sources[i]
                if not source.alive:
                    continue
                if best == NULL:
                    best = source
                    continue
                order = compare(&source.entry, &best.entry)
                if order > 0 if reverse else order < 0:
                    best = source
            if best == NULL or not begins_with(&best.entry, prefix, size):
                return True
            if self.count == 0 or compare(&best.entry, &self.entries[self.count - 1]) != 0:
                self.entries[self.count] = best.entry
                self.limits[self.count] = best.limit
                self.count += 1
            if not self._advance(best, reverse):
                self.stopped = best
                return False
        return True


cdef inline bint begins_with(
    const KeyEntry *entry, const char *prefix, uint32_t size
) noexcept nogil:
    return size == 0 or entry.size >= size and memcmp(entry.key, prefix, size) == 0


cdef bytes successor(bytes prefix):
    """Return the least string greater than all strings with a prefix; b"" if there is none."""
    cdef bytes stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b""
    cdef Py_ssize_t last = len(stripped) - 1  # indices below 0 do not work in here
    return stripped[:last] + bytes([<unsigned char>stripped[last] + 1])

"""Key order: all keys that may be alive, in the order of their bytes, for scans.

New keys go to a buffer in memory.  A full buffer is frozen and written to a run; runs of similar
size are merged.  Overwrites and deletes never come here.

Invariants:

* The union of buffer, frozen buffers and runs holds every living key; it may hold dead ones, and
  a key may be in several of them.  The index decides who is alive.
* Frozen buffers and runs never change, so they can be written and merged without stopping anyone.
* `removals_mark` of a source: if the store's count of removals is still this, nothing in it died.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memset

from kvengine.engine.key_buffer cimport compare, prefix_of, seek_entries
from kvengine.engine.key_run cimport RunWriter, read_entry, seek_run, step_run

from kvengine.errors import CorruptData
from kvengine.file.directory import Directory

cdef enum:
    WRITE_KEYS = 16384          # merged at once, without the GIL, when a run is written
    KEYS_A_FLUSH = 900          # at most a megabyte of blocks, even of the longest keys


cdef class KeyOrder:
    """The key order of one store.

    Thread-safety: changed while holding the GIL.
    """

    def __cinit__(self, capacity: int) -> None:
        self.capacity = capacity
        self.active = KeyBuffer(0)
        self.frozen, self.runs = [], []

    cdef int add(self, const char *key, uint32_t size, uint64_t address) except -1:
        """Take in a key that was not alive before."""
        return self.active.add(key, size, address)

    cdef bint all_alive(self, uint64_t removals) except? False:
        """True if no key in here can have died, so that the index need not be asked."""
        cdef KeyBuffer buffer
        cdef KeyRun run
        if self.active.count and self.active.removals_mark != removals:
            return False
        for buffer in self.frozen:
            if buffer.removals_mark != removals:
                return False
        for run in self.runs:
            if run.removals_mark != removals:
                return False
        return True

    def is_full(self) -> bool:
        """True if the buffer should be frozen."""
        return self.active.count >= self.capacity

    def has_frozen(self) -> bool:
        """True if there are buffers that await their run."""
        return len(self.frozen) > 0

    def freeze(self, removals: int) -> None:
        """Begin a new buffer; the old one awaits its run."""
        if self.active.count:
            self.frozen.append(self.active)
        self.active = KeyBuffer(removals)

    def begin(self, removals: int) -> None:
        """Recovery is over: what is in the buffer may be dead, what comes next is not."""
        if self.active.count == 0:
            self.active = KeyBuffer(removals)

    def newest_mark(self) -> int:
        """Return the highest removals_mark of the runs; 0 if there are none."""
        return max([run.removals_mark for run in self.runs], default=0)

    def run_names(self) -> list[str]:
        """Return the file names of the runs, oldest first."""
        return [run.name for run in self.runs]

    def counts(self) -> list[int]:
        """Return how many entries each run has, oldest first."""
        return [run.count for run in self.runs]

    def memory_bytes(self) -> int:
        """Return the bytes of RAM that the buffers take."""
        return self.active.memory_bytes() + sum(buffer.memory_bytes() for buffer in self.frozen)

    # -- files

    def load(self, directory: Directory, names: list[str], uuid: bytes) -> None:
        """Open the runs that the manifest names; only their headers are read."""
        self.runs = [self.open_run(directory, name, uuid) for name in names]

    def open_run(self, directory: Directory, name: str, uuid: bytes) -> KeyRun:
        """Open one run.

        Raises:
            CorruptData: it is missing or damaged.
        """
        try:
            file = directory.open(name, map_bytes=max(directory.size(name), 1))
        except FileNotFoundError:
            raise CorruptData(
                "key run", file=name, offset=0, expected="a file", found="none"
            ) from None
        return KeyRun(file, name, uuid)

    def write_frozen(
        self, directory: Directory, name: str, segment_limit: int, uuid: bytes,
    ) -> None:
        """Write all frozen buffers to one run and let it take their place."""
        cdef list buffers = list(self.frozen)
        mark = min(buffer.removals_mark for buffer in buffers)
        for buffer in buffers:
            buffer.settle_fully()
        run = self._write(directory, name, buffers, [], segment_limit, mark, uuid, None)
        self.frozen = self.frozen[len(buffers):]
        if run is not None:
            self.runs = [*self.runs, run]

    def merge(
        self, directory: Directory, name: str, first: int, last: int, segment_limit: int,
        removals: int, uuid: bytes, resolve: object,
    ) -> list[str]:
        """Merge the runs [first, last) into one; return the names that are no longer used.

        With `resolve`, a function that drops dead keys from a Selection, `removals` is the
        count before it was first called.  Without, the runs keep what they have.
        """
        cdef list old = self.runs[first:last]
        cdef KeyRun run
        if resolve is None:
            segment_limit = min(run.segment_limit for run in old)
            removals = min(run.removals_mark for run in old)
        new = self._write(directory, name, [], old, segment_limit, removals, uuid, resolve)
        self.runs = [*self.runs[:first], *([new] if new is not None else []), *self.runs[last:]]
        return [run.name for run in old]

    def _write(
        self, directory: Directory, name: str, buffers: list, runs: list, segment_limit: int,
        removals: int, uuid: bytes, resolve: object,
    ) -> KeyRun | None:
        cdef Selection selection = Selection(WRITE_KEYS)
        cdef bytes after = None
        output = directory.create(name)
        cdef RunWriter writer = RunWriter(output)
        try:
            while True:
                selection.collect(buffers, runs, b"", after, False, True)
                if selection.count == 0:
                    break
                after = selection.key(selection.count - 1)
                if resolve is not None:
                    resolve(selection)
                add_selection(writer, selection)
            header = writer.finish(uuid, segment_limit, removals)
            output.sync()
        finally:
            output.close()
        if writer.count == 0:
            directory.remove(name)
            return None
        file = directory.open(name, writable=True, map_bytes=output.size)
        file.write(header, 0)
        file.flush()
        return self.open_run(directory, name, uuid)

    def problems(self) -> list[CorruptData]:
        """Check every block of every run; return what is wrong."""
        return [problem for run in self.runs for problem in run.problems()]

    def buffers(self) -> list[KeyBuffer]:
        """Return all buffers, oldest first."""
        return [*self.frozen, self.active]


cdef int add_selection(RunWriter writer, Selection selection) except -1:
    """Append all keys of a selection to a run."""
    cdef Py_ssize_t i = 0, end
    while i < selection.count:
        end = min(i + KEYS_A_FLUSH, selection.count)
        with nogil:
            while i < end:
                writer.add(&selection.entries[i])
                i += 1
        writer.flush(False)
    return 0


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
            # The GIL is free while a block is proven, so begin again afterwards.
            (<KeyRun>runs[self.stopped.number]).prove(self.unproven)

    cdef int _add_sources(self, list buffers, list runs) except -1:
        """List the sources, newest first, so that the first of equals is the newest."""
        cdef KeyBuffer buffer
        cdef KeyRun run
        cdef Source *source
        cdef int stretch
        cdef Py_ssize_t i
        cdef Py_ssize_t room = len(runs)
        self.count = self.source_count = 0
        self.held = [buffers, runs]
        for buffer in buffers:
            buffer.settle()
            room += buffer.stretches
        if room > self.source_room:
            free(self.sources)
            self.source_room = 0
            self.sources = <Source *>malloc(room * sizeof(Source))
            if self.sources == NULL:
                raise MemoryError
            self.source_room = room
        for buffer in reversed(buffers):
            for stretch in range(buffer.stretches - 1, -1, -1):
                source = self._next_source()
                source.entries = buffer.entries
                source.start, source.end = buffer.starts[stretch], buffer.end_of(stretch)
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
        """Place every source, then merge; False if a block must be proven first."""
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
        if key != NULL and not seek_run(source.run, key, after, &source.place, &self.unproven):
            return False
        if reverse:
            return self._advance(source, True)
        source.alive = source.place.block < source.run.blocks
        if source.alive:
            read_entry(source.run, source.place.block, source.place.index, &source.entry)
        return True

    cdef bint _advance(self, Source *source, bint reverse) noexcept nogil:
        """Go on by one entry; False if a block must be proven first."""
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
        if not step_run(source.run, &source.place, reverse, &source.alive, &self.unproven):
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
            if best == NULL or best.entry.size < size or memcmp(best.entry.key, prefix, size) != 0:
                return True
            if self.count == 0 or compare(&best.entry, &self.entries[self.count - 1]) != 0:
                self.entries[self.count] = best.entry
                self.limits[self.count] = best.limit
                self.count += 1
            if not self._advance(best, reverse):
                self.stopped = best
                return False
        return True


cdef bytes successor(bytes prefix):
    """Return the least string greater than all strings with a prefix; b"" if there is none."""
    cdef bytes stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b""
    cdef Py_ssize_t last = len(stripped) - 1  # indices below 0 do not work in here
    return stripped[:last] + bytes([<unsigned char>stripped[last] + 1])


def choose_merge(counts: list[int]) -> tuple[int, int] | None:
    """Return the range of neighboring runs to merge, or None.

    Runs are merged four at a time with others of a similar size, so that a key is copied a
    logarithmic number of times and a scan merges a logarithmic number of runs.
    """
    for first in range(len(counts) - 3):
        group = counts[first:first + 4]
        if max(group) < 4 * max(min(group), 1):
            return first, first + 4
    if len(counts) > 24:  # sizes grew in an odd order; keep scans short
        return len(counts) - 8, len(counts)
    return None

"""Key order: all keys that may be live, in the order of their bytes, for scans.

New keys go to a buffer in memory.  A full buffer is frozen and written to a run; runs of similar
size are merged.  Overwrites and deletes never come here.

Invariants:

* The union of buffer, frozen buffers and runs has every live key.  It may have dead ones, and a key
  may be in several of them.  The index decides which keys are live.
* Frozen buffers and runs never change, so they can be written and merged without stopping others.
* `removals_mark` of a source: if it equals the store's count of removals, no key in it has died.
"""

from kvengine.engine.order.key_run cimport KeyRun, RunWriter, WRITE_BYTES
from kvengine.engine.access.reading cimport Reader
from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.order.key_sort cimport KeyEntry, compare
from kvengine.engine.order.selection cimport Selection

from kvengine.errors import CorruptData
from kvengine.file.directory import Directory

cdef enum:
    WRITE_KEYS = 16384          # merged at once, without the GIL, when a run is written
    DEAD_MIN = 1024             # keys in the buffer before checking which are dead
    DEAD_SHARE = 4              # runs with so many entries for each living key are mostly dead


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
        self.active, self.kept = KeyBuffer(removals), 0

    # -- keys that are removed soon after they were new, as in a cache

    def may_drop_dead(self, removals: int) -> bool:
        """True if many keys of the buffer may be dead, and many are new since drop_dead()."""
        cdef uint64_t count = self.active.count
        return (
            count >= 2 * self.kept + DEAD_MIN
            and 2 * (<uint64_t>removals - self.active.removals_mark) >= count)

    def drop_dead(self, reader: Reader) -> None:
        """Keep only live keys in the buffer, each once; the caller keeps writers out."""
        cdef KeyBuffer old = self.active, new = KeyBuffer(reader.removals)
        cdef KeyEntry *entry
        cdef uint64_t i
        old.settle_fully()
        for i in range(old.count):
            entry = &old.entries[i]
            if i + 1 < old.count and compare(entry, entry + 1) == 0:
                continue  # the newest of equals comes last
            if reader.locate(
                xxh3(entry.key, entry.size, reader.seed), entry.key, entry.size
            ) != NULL:
                new.add(entry.key, entry.size, entry.address)
        self.active, self.kept = new, new.count

    def is_mostly_dead(self, living: int) -> bool:
        """True if the runs have far more entries than the store has keys."""
        return sum(self.counts()) > DEAD_SHARE * living + self.capacity

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
        cdef RunWriter writer
        output = directory.create(name)
        try:
            writer = RunWriter(output)
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
            output.close()
            if writer.count == 0:
                directory.remove(name)
                return None
            file = directory.open(name, writable=True, map_bytes=output.size)
            file.write(header, 0)
            file.flush()
            return self.open_run(directory, name, uuid)
        except BaseException:  # the next attempt has another name
            output.close()
            directory.remove(name)
            raise

    def problems(self) -> list[CorruptData]:
        """Check every block of every run; return what is wrong."""
        return [problem for run in self.runs for problem in run.problems()]

    def buffers(self) -> list[KeyBuffer]:
        """Return all buffers, oldest first."""
        return [*self.frozen, self.active]


cdef bint all_alive(Reader reader, Selection selection) except? False:
    """True if no key that a selection was taken from can have died: the index need not be asked.

    It is the sources of the selection that count, not those that the key order has by now: a merge
    leaves out dead keys, and says so with its own mark.  Their entries are as many as the index has
    keys, so that neither a mark nor a number in a file is believed alone.
    """
    cdef list buffers, runs
    cdef KeyBuffer buffer
    cdef KeyRun run
    cdef uint64_t entries = 0
    buffers, runs = selection.held
    for buffer in buffers:
        if buffer.count and buffer.removals_mark != reader.removals:
            return False
        entries += buffer.count
    for run in runs:
        if run.removals_mark != reader.removals:
            return False
        entries += run.count
    return entries == reader.index.count


cdef int add_selection(RunWriter writer, Selection selection) except -1:
    """Append all keys of a selection to a run."""
    cdef Py_ssize_t i = 0
    while i < selection.count:
        with nogil:
            while i < selection.count and writer.filled < WRITE_BYTES:
                writer.add(&selection.entries[i])
                i += 1
        writer.flush(False)
    return 0


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

"""The end of the log: who may append to it, and the segment that is appended to.

Invariants:

* One thread at a time has the writer's lock.  While a write has it no Python code runs: nothing is
  called, nothing raised, no object made that the collector counts.  So a signal handler or a
  finalizer that writes never finds the lock held by its own thread, but inside exclusively(),
  where it gets StoreBusy at once.
* Going on in a new segment is one step: the table, the list of segments, what is synced and where
  records go change together, and what may fail comes before.
* A list of segments is replaced, never changed, so who iterates over one is not disturbed.
* In a forked child nobody may append.
"""

from libc.errno cimport EDQUOT, ENOSPC

from kvengine.engine.durable cimport (
    kv_publish, kv_thread, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock,
    pthread_mutex_trylock, pthread_mutex_unlock,
)
from kvengine.engine.segment cimport SEGMENT_HEADER_BYTES
from kvengine.file.mapped cimport storage_error

from kvengine.errors import StoreBusy, StoreClosed, again

cdef extern from "Python.h":
    int PyGC_Enable()
    int PyGC_Disable()

cdef extern from *:
    """
    #include <pthread.h>
    /* Counted by the system's own handler: it comes before any Python code in the child. */
    static unsigned int kv_forks = 0;
    static void kv_forked(void) { kv_forks++; }
    static void kv_watch_forks(void) { pthread_atfork(NULL, NULL, kv_forked); }
    """
    unsigned int kv_forks
    void kv_watch_forks()

cdef enum:
    GROW_STEP_BYTES_MAX = 4 << 20
    GROW_STEP_BYTES_MIN = 16 << 10
    BLOCK_BYTES = 4096

FORKED = (
    "the store was opened for writing before a fork, and stays with the parent process: open it in "
    "the child, after the fork (with gunicorn in post_fork, or without --preload), with "
    "read_only=True while another process has it open for writing")
cdef str BUSY = (
    "this thread is in the middle of a step that keeps writers out; call again when it is over, "
    "for example from another thread")


cdef class LogEnd(Reader):
    """A Reader that knows where the log ends."""

    def __cinit__(self, *args, **kwargs) -> None:
        pthread_mutex_init(&self.lock, NULL)
        self.begun = &self.not_begun
        self.forks = kv_forks
        self.rows, self.next_id = [], 1

    def __dealloc__(self) -> None:
        pthread_mutex_destroy(&self.lock)

    # -- the lock

    def _make_segment(self) -> None:
        """Make `next_segment`, to go on in; the store overrides it."""

    def _has_begun(self) -> None:
        """The log goes on in a new segment; the store overrides it."""

    def _sync_soon(self) -> None:
        """What was written is to be on disk in a while; the store overrides it."""

    def _has_grown(self) -> None:
        """The log takes more disk; the store overrides it."""

    def _find_space(self, deletes: bool) -> bool:
        """The disk is full: True if the write may try once more; the store overrides it."""
        return False

    cdef int acquire(self) except -1:
        """Become the one thread that writes; from here to release() no Python code may run."""
        if self.unusable is not None:
            raise again(self.unusable)
        if self.forks == kv_forks and pthread_mutex_trylock(&self.lock) == 0:
            self.owner = kv_thread()
            return 0
        return self.take_lock()

    cdef int take_lock(self) except -1:
        """The same, on a closed store, too."""
        if self.forks != kv_forks:
            raise StoreClosed(FORKED)
        if pthread_mutex_trylock(&self.lock) != 0:
            if self.owner == kv_thread():
                raise StoreBusy(BUSY)
            with nogil:
                pthread_mutex_lock(&self.lock)
        self.owner = kv_thread()
        return 0

    cdef void release(self) noexcept:
        self.owner = 0
        pthread_mutex_unlock(&self.lock)

    def refuse_inside(self) -> None:
        """Refuse what would wait for another thread that may need the writer's lock.

        Raises:
            StoreBusy: this very thread has it.
        """
        if self.owner == kv_thread():
            raise StoreBusy(BUSY)

    def exclusively(self, action: object, *args: object) -> object:
        """Call `action` while no other thread writes, and return what it returns.

        It is compiled code, or runs on the job thread: so no signal handler can come in between.
        No finalizer does, for garbage is not collected meanwhile.  It is also for a store that
        takes no more writes: after a sync that failed one still wants to look.

        Raises:
            StoreClosed: the process was forked since the store was opened.
            StoreBusy: called from inside such an action.
        """
        self.take_lock()
        cdef bint collects = PyGC_Disable()
        try:
            return action(*args)
        finally:
            if collects:
                PyGC_Enable()
            self.release()

    def after_fork(self, goes_on: bool = False) -> None:
        """In a child: the thread that held the lock is not here; a reader goes on."""
        pthread_mutex_init(&self.lock, NULL)
        self.owner = 0
        if goes_on:
            self.forks = kv_forks
        if self.commits is not None:
            self.commits.after_fork()

    # -- what jobs, opening and closing change

    def configure_writes(
        self, order: KeyOrder, commits: CommitGroup, level: int, segment_bytes: int,
        store_to_mapping: bool,
    ) -> None:
        """Set what the writer needs beside what every reader has."""
        self.order, self.commits, self.level = order, commits, level
        self.segment_bytes, self.store_to_mapping = segment_bytes, store_to_mapping
        self.forks = kv_forks

    def rebase(self, order: KeyOrder) -> None:
        """Use another key order, and begin a segment with the next write."""
        self.order, self.active, self.active_slot = order, None, 0

    def activate(self, segment_id: int) -> None:
        """Append to this segment from now on."""
        self.active_slot = self.segments.slots[segment_id]
        self.active = self.segments.file(self.active_slot)

    def refuse_writes(self, error: BaseException | None) -> None:
        """Let every write raise this error from now on."""
        self.refusal = error

    def stop_writes(self, error: BaseException) -> None:
        """Let a write that is under way end; later ones raise this error, as every other call."""
        self.take_lock()
        self.unusable = error
        self.release()

    def freeze_keys(self) -> None:
        """Begin a new buffer of keys; the old one awaits its run."""
        self.exclusively(self.order.freeze, self.removals)

    def take_id(self) -> int:
        """Return a number that no file of this store had before."""
        cdef uint64_t number = self.next_id
        self.next_id += 1
        return number

    def replace_rows(self, rows: list, others: list) -> bool:
        """Put another list of segments in the place of this one; False: it is not the list."""
        if self.rows is not rows:
            return False
        self.rows = others
        return True

    def log_bytes(self) -> int:
        """Return the bytes of all records."""
        cdef uint64_t slot, total = 0
        for row in self.rows:
            slot = self.segments.slots[row.id]
            total += self.segments.rows[slot].end - SEGMENT_HEADER_BYTES
        return total

    # -- segments

    def end_segment(self, next_segment: NextSegment) -> bool:
        """Go on in another segment; False: it does not fit any more, make another one."""
        cdef int code
        self.acquire()
        try:
            code = self.begin_segment(next_segment)
        finally:
            self.release()
        if code > FULL:
            raise storage_error(code - SYSTEM, "cannot begin a segment", next_segment.file.name)
        return code == DONE

    def offer_segment(self, made: NextSegment | None) -> NextSegment | None:
        """Keep a segment to go on in when this one is full; return the one that was kept."""
        kept, self.next_segment = self.next_segment, made
        return kept

    cdef int grow(self, uint64_t end, bint deletes) except -1:
        """Have disk for the segment up to `end`, and some more; return the number of an error."""
        cdef uint64_t allocated = self.active.size_bytes
        cdef uint64_t step = min(allocated, <uint64_t>GROW_STEP_BYTES_MAX)
        cdef int code = ENOSPC
        if self.is_tight and not deletes:
            return ENOSPC
        if not self.is_tight:
            code = self.active.try_reserve(
                max(end, allocated + max(step, <uint64_t>GROW_STEP_BYTES_MIN)))
        if code == ENOSPC or code == EDQUOT:  # then only what is needed
            code = self.active.try_reserve((end + BLOCK_BYTES - 1) & ~<uint64_t>(BLOCK_BYTES - 1))
        return code

    cdef int begin_segment(self, NextSegment segment) except -1:
        """Go on in a segment that was made.  Whatever may fail comes first, then one step.

        Returns DONE, FULL if another one must be made, or SYSTEM plus the number of an error.
        """
        cdef int code
        if (
            segment is None or segment.slot == 0 or segment.table is not self.segments
            or segment.rows is not self.rows or segment.first_version != self.applied + 1
            or segment.id + 1 != self.next_id  # a manifest may say that it names all below
        ):
            return FULL
        self.commits.keep()
        code = segment.write_header()
        if code:
            return SYSTEM + code
        if segment.slot == 0:  # given up meanwhile: a hook of tests lets other threads in
            return FULL
        self.rows = segment.begun
        kv_publish(self.begun, segment.first_version)  # before the old one may be cut
        self.commits.go_on_in(segment.file)
        self.active, self.active_slot = segment.file, segment.slot
        segment.slot = 0  # it is the table's now
        self.next_segment = None
        return DONE


kv_watch_forks()

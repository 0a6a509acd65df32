"""The end of the log: who may append to it, and the segment that is appended to.

Invariants:

* One thread of all processes at a time has the pen, the mutex on the control page.  It is never
  waited for, nor held, while another thread, the GIL or a sync is waited for: who finds it taken
  lets go of everything and comes again.  So it depends on nobody but the one who writes, and if
  that one is killed it falls to the next.
* One thread of this process at a time writes, or keeps writers out (`owner`, guarded by the GIL).
  While a write is under way no Python code runs: nothing is called, nothing raised, no object made
  that the collector counts.  So a signal handler or a finalizer that writes never finds its own
  thread in the way, but inside exclusively(), where it gets StoreBusy at once.
* Passing the pen from process to process costs more than a put, so who finds it taken sleeps for
  some microseconds; its holder makes more puts meanwhile.  One that has slept for a millisecond
  says so, and the others give way once.
* Going on in a new segment is one step: the table, the list of segments, what is synced and where
  records go change together, and what may fail comes before.
* A list of segments is replaced, never changed, so who iterates over one is not disturbed.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EBUSY, EDQUOT, ENOSPC, errno

from kvengine.engine.durable cimport (
    kv_load, kv_thread, pthread_cond_destroy, pthread_cond_init,
    pthread_cond_signal, pthread_cond_wait, pthread_mutex_destroy, pthread_mutex_init,
    pthread_mutex_lock, pthread_mutex_unlock,
)
from kvengine.engine.page cimport (
    ALLOCATED, BEGUN, FLOOR, GENERATION, HELD, HUNGRY, JOB_BEAT, JOB_TOKEN, NEXT_ID, PEN, PREPARED,
    SEGMENT, SPARSE, VERSION, WRITING, add_word, give_mutex, load_word, now_us, store_word,
    try_mutex, wait_for_pen,
)
from kvengine.engine.segment cimport SEGMENT_HEADER_BYTES
from kvengine.file.folder cimport Folder
from kvengine.file.mapped cimport storage_error

from kvengine.errors import StoreBusy, StoreClosed

cdef extern from "<stdio.h>" nogil:
    int renameat(int old_folder, const char *old_name, int new_folder, const char *new_name)

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
    SPINS = 300                 # looks at the pen before a sleep: some microseconds
    SLEEP_US = 50
    HUNGRY_US = 1000            # who has waited for so long says so,
    PATIENT_US = 20000          # and after this looks less often
    LONG_SLEEP_US = 500

cdef int NOT_MINE = -1
cdef int OTHER = -2
LOST_JOBS, REPLACED = NOT_MINE, OTHER

FORKED = (
    "the process was forked by code that Python does not know of since the store was opened: open "
    "it again in the child")
cdef str BUSY = (
    "this thread is in the middle of a step that keeps writers out; call again when it is over, "
    "for example from another thread")


cdef class LogEnd(Reader):
    """A Reader that knows where the log ends."""

    def __cinit__(self, *args, **kwargs) -> None:
        self._make_door()
        self.page = self.no_page
        self.bell = &self.no_bell
        self.forks = kv_forks
        self.rows = []

    cdef void _make_door(self) noexcept:
        pthread_mutex_init(&self.door, NULL)
        pthread_cond_init(&self.opened, NULL)

    def __dealloc__(self) -> None:
        pthread_cond_destroy(&self.opened)
        pthread_mutex_destroy(&self.door)

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

    # -- who writes

    cdef int acquire(self) except -1:
        """Become the one thread that writes; from here to release() no Python code may run."""
        cdef uint64_t since = 0
        while True:
            if self.unusable is not None:
                self._refuse_use()
            self.enter()
            if self.take_pen():
                return 0
            self._wait_for_pen(&since)

    cdef int enter(self) except -1:
        """Become the one thread of this process that writes, or keeps others from it."""
        if self.forks != kv_forks:
            raise StoreClosed(FORKED)
        while self.owner != 0:
            if self.owner == kv_thread():
                raise StoreBusy(BUSY)
            self.sleepers += 1
            with nogil:
                pthread_mutex_lock(&self.door)
                if kv_load(&self.owner) != 0:
                    pthread_cond_wait(&self.opened, &self.door)
                pthread_mutex_unlock(&self.door)
            self.sleepers -= 1
        self.owner = kv_thread()
        return 0

    cdef void leave(self) noexcept:
        self.owner = 0
        if self.sleepers:
            pthread_mutex_lock(&self.door)
            pthread_cond_signal(&self.opened)
            pthread_mutex_unlock(&self.door)

    cdef bint take_pen(self) except -1:
        """Take the pen if it is free; if not leave(), and return False."""
        cdef uint64_t hungry = load_word(&self.page[HUNGRY])
        cdef int code = EBUSY
        if hungry == 0 or hungry == self.given_way:
            code = try_mutex(&self.page[PEN])
        else:
            self.given_way = hungry
        if code == 0:
            store_word(&self.page[HELD], 1)
            if hungry:
                store_word(&self.page[HUNGRY], 0)
            return True
        self.leave()
        if code != EBUSY:
            raise storage_error(
                code, "cannot take the pen; close the store in all processes and open it again",
                "CONTROL")
        return False

    cdef void give_pen(self) noexcept nogil:
        store_word(&self.page[HELD], 0)
        give_mutex(&self.page[PEN])

    cdef int _wait_for_pen(self, uint64_t *since) except -1:
        """Sleep for a moment; `since` is when that began, 0 at first."""
        cdef uint64_t now = now_us()
        cdef uint64_t waited
        cdef long sleep_us = SLEEP_US
        if since[0] == 0:
            since[0] = now
        waited = now - since[0]
        if waited > HUNGRY_US:
            self.given_way = now  # not to itself
            store_word(&self.page[HUNGRY], now)
        if waited > PATIENT_US:  # a large write, or one that was stopped in the middle
            sleep_us = LONG_SLEEP_US
            PyErr_CheckSignals()
        with nogil:
            wait_for_pen(self.page, SPINS, sleep_us)
        return 0

    cdef void release(self) noexcept:
        self.give_pen()
        self.leave()

    def refuse_inside(self) -> None:
        """Refuse what would wait for another thread that may need to keep writers out.

        Raises:
            StoreBusy: this very thread does.
        """
        if self.owner == kv_thread():
            raise StoreBusy(BUSY)

    def exclusively(self, action: object, *args: object) -> object:
        """Call `action` while no other thread changes the index, and return what it returns.

        It is compiled code, or runs on the job thread: so no signal handler can come in between.
        No finalizer does, for garbage is not collected meanwhile.  It is also for a store that
        takes no more writes: after a sync that failed one still wants to look.  Other processes
        write on; what they have written is followed after.

        Raises:
            StoreClosed: the process was forked since the store was opened.
            StoreBusy: called from inside such an action.
        """
        self.enter()
        self.frozen += 1
        cdef bint collects = PyGC_Disable()
        try:
            return action(*args)
        finally:
            if collects:
                PyGC_Enable()
            self.frozen -= 1
            self.leave()

    def with_pen(self, action: object, *args: object) -> object:
        """The same, and no other process writes either: for the shortest of steps."""
        self.acquire()
        self.frozen += 1
        cdef bint collects = PyGC_Disable()
        try:
            return action(*args)
        finally:
            if collects:
                PyGC_Enable()
            self.frozen -= 1
            self.release()

    def after_fork(self) -> None:
        """In a child: the threads that wrote, or waited to, are not here."""
        self._make_door()
        self.owner = self.sleepers = self.frozen = 0
        self.forks = kv_forks

    # -- what jobs, opening and closing change

    def configure_writes(
        self, order: KeyOrder, commits: CommitGroup, level: int, segment_bytes: int,
        store_to_mapping: bool,
    ) -> None:
        """Set what the writer needs beside what every reader has."""
        self.order, self.commits, self.level = order, commits, level
        self.segment_bytes, self.store_to_mapping = segment_bytes, store_to_mapping

    def rebase(self) -> None:
        """Begin a segment with the next write."""
        self.active, self.active_slot = None, 0

    def refuse_writes(self, error: BaseException | None) -> None:
        """Let every write raise this error from now on."""
        self.refusal = error

    def stop_writes(self, error: BaseException) -> None:
        """Let a write that is under way end; later ones raise this error, as every other call."""
        self.enter()
        self.unusable = error
        self.leave()

    def freeze_keys(self) -> None:
        """Begin a new buffer of keys; the old one awaits its run."""
        self.exclusively(self.order.freeze, self.removals)

    def take_id(self) -> int:
        """Return a number that no file of this store had before."""
        return add_word(&self.page[NEXT_ID], 1)

    @property
    def next_id(self) -> int:
        """The number after those that files have."""
        return load_word(&self.page[NEXT_ID])

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

    def raise_floor(self) -> int:
        """Return a number from which on every segment begins that is not in `rows` yet.

        A manifest may say so: what was made ahead with a lower number is not begun any more.
        0: another process has begun one meanwhile.
        """
        cdef uint64_t floor = 0, begun
        self.acquire()
        begun = load_word(&self.page[SEGMENT])
        if begun <= self.known_segment:
            floor = load_word(&self.page[NEXT_ID])
            store_word(&self.page[FLOOR], floor)
        self.release()
        return floor

    def commit_manifest(
        self, act: object, folder: Folder | None, temporary: str, name: str, token: int,
        before: int, floor: int,
    ) -> int:
        """Put a manifest in place, if this store still has the jobs and nobody replaced it.

        No process writes meanwhile.  Return 0, LOST_JOBS or REPLACED.

        Args:
            act: does it, where there is no folder on disk (or one of tests).
            before: the generation that it follows.

        Raises:
            StorageError: the system refuses.
        """
        cdef bytes source = temporary.encode(), target = name.encode()
        cdef const char *old = source
        cdef const char *new = target
        cdef uint64_t mine = token, generation = before
        cdef int fd = -1 if folder is None else folder.fd
        cdef int code = 0
        self.acquire()
        try:
            if load_word(&self.page[JOB_TOKEN]) != mine:
                code = NOT_MINE
            elif load_word(&self.page[GENERATION]) > generation:
                code = OTHER
            elif fd < 0:
                act()
            elif renameat(fd, old, fd, new) != 0:
                code = errno
            if code == 0:
                store_word(&self.page[GENERATION], generation + 1)
        finally:
            self.release()
        if code > 0:
            raise storage_error(code, f"cannot rename {temporary}", name)
        return code

    # -- who does the jobs

    def claim_jobs(self, token: int, stale_ms: int) -> bool:
        """Be the one store of all processes that does jobs; False if another one does.

        One that was not seen for so long is gone, or was stopped: what it still does is refused.
        """
        cdef uint64_t now = now_us() // 1000, mine = token, limit = stale_ms
        cdef uint64_t holder, seen
        self.acquire()
        holder, seen = load_word(&self.page[JOB_TOKEN]), load_word(&self.page[JOB_BEAT])
        if holder == 0 or now > seen + limit or seen > now + limit:
            holder = mine
        if holder == mine:
            store_word(&self.page[JOB_BEAT], now)
            store_word(&self.page[JOB_TOKEN], mine)
        self.release()
        return holder == mine

    def still_has_jobs(self, token: int) -> bool:
        """True if it does; from now on it was seen."""
        cdef uint64_t mine = token
        if load_word(&self.page[JOB_TOKEN]) != mine:
            return False
        store_word(&self.page[JOB_BEAT], now_us() // 1000)
        return True

    def end_jobs(self, token: int) -> None:
        """Let another store do jobs."""
        cdef uint64_t mine = token
        self.enter()
        if load_word(&self.page[JOB_TOKEN]) == mine:
            store_word(&self.page[JOB_BEAT], now_us() // 1000)
            store_word(&self.page[JOB_TOKEN], 0)
        self.leave()

    def jobs_seen_ms(self) -> int:
        """Return how many milliseconds ago a store was seen doing jobs."""
        return max(now_us() // 1000 - load_word(&self.page[JOB_BEAT]), 0)

    def offer_segment(self, made: NextSegment | None) -> NextSegment | None:
        """Keep a segment to go on in when this one is full; return the one that was kept."""
        kept, self.next_segment = self.next_segment, made
        return kept

    cdef int grow(self, uint64_t end, bint deletes) except -1:
        """Have disk for the segment up to `end`, and some more; return the number of an error."""
        cdef uint64_t allocated = load_word(&self.page[ALLOCATED])
        cdef uint64_t step = min(allocated, <uint64_t>GROW_STEP_BYTES_MAX)
        cdef int code = ENOSPC
        if self.is_tight and not deletes:
            return ENOSPC
        self.active.size_bytes = allocated
        if not self.is_tight:
            code = self.active.try_reserve(
                max(end, allocated + max(step, <uint64_t>GROW_STEP_BYTES_MIN)), True)
        if code == ENOSPC or code == EDQUOT:  # then only what is needed
            code = self.active.try_reserve(
                (end + BLOCK_BYTES - 1) & ~<uint64_t>(BLOCK_BYTES - 1), True)
        if self.active.sparse:
            store_word(&self.page[SPARSE], 1)
        store_word(&self.page[ALLOCATED], self.active.size_bytes)
        return code

    cdef int prepare(self, uint64_t start, uint64_t end) noexcept:
        """Make storing into the mapping cheap; return the number of an error."""
        cdef int code
        if end <= load_word(&self.page[PREPARED]):
            return 0
        self.active.size_bytes = load_word(&self.page[ALLOCATED])
        self.active.prepared = load_word(&self.page[PREPARED])
        code = self.active.try_prepare(start, end)
        store_word(&self.page[PREPARED], self.active.prepared)
        return code

    cdef int begin_segment(self, NextSegment segment) except -1:
        """Go on in a segment that was made.  Whatever may fail comes first, then one step.

        Returns DONE, FULL if another one must be made, or SYSTEM plus the number of an error.
        """
        cdef uint64_t torn = load_word(&self.page[WRITING])
        cdef int code
        if (
            segment is None or segment.slot == 0 or segment.table is not self.segments
            or segment.rows is not self.rows or segment.first_version != self.applied + 1
            or self.applied != load_word(&self.page[VERSION])
            or segment.id < load_word(&self.page[FLOOR])  # a manifest says that it names all below
            or segment.id <= load_word(&self.page[SEGMENT])
        ):
            return FULL
        self.commits.keep()
        store_word(&self.page[WRITING], 1)
        store_word(&self.page[FLOOR], segment.id + 1)
        code = segment.write_header()
        if code:
            store_word(&self.page[WRITING], torn)
            return SYSTEM + code
        if segment.slot == 0:  # given up meanwhile: a hook of tests lets other threads in
            return FULL
        store_word(&self.page[ALLOCATED], segment.file.size_bytes)
        store_word(&self.page[PREPARED], 0)
        store_word(&self.page[SPARSE], segment.file.sparse)
        store_word(&self.page[BEGUN], segment.first_version)
        store_word(&self.page[SEGMENT], segment.id)
        store_word(&self.page[WRITING], 0)
        self.go_on_in(segment)
        self.next_segment = None
        return DONE

    cdef void go_on_in(self, NextSegment segment) noexcept:
        self.rows = segment.begun
        self.segments.slots[segment.id] = segment.slot
        if self.commits is not None:
            self.commits.go_on_in(segment.file, segment.id)
        self.active, self.active_slot = segment.file, segment.slot
        self.known_segment = segment.id
        segment.slot = 0  # it is the table's now

    def follow_into(self, segment: NextSegment) -> bool:
        """Read on in a segment that another process has begun; False: it does not fit any more."""
        self.enter()
        try:
            if (
                segment.slot == 0 or segment.table is not self.segments
                or segment.rows is not self.rows or segment.first_version != self.applied + 1
            ):
                return False
            if self.commits is not None:
                self.commits.keep()
            self.go_on_in(segment)
            return True
        finally:
            self.leave()


kv_watch_forks()

"""The end of the log: the segment that is appended to, and its synchronization with jobs.

Invariants:

* Continuing in a new segment is atomic: the table, the list of segments, what is synced and where
  records go change together, and everything that may fail comes before.
* A manifest takes its place under the write lock, if the store still holds the job lease and no
  other process has replaced the manifest.
* A list of segments is replaced, never changed, so an iteration over one is not disturbed.
"""

from libc.errno cimport EDQUOT, ENOSPC, errno

from kvengine.engine.log.page cimport (
    ALLOCATED, BEGUN, GENERATION, JOB_BEAT, JOB_TOKEN, JOB_WANTED, MIN_SEGMENT, NAMED, NEXT_ID,
    PREPARED, SEGMENT, SPARSE, TAKEN_OVER, TIGHT, VERSION, WRITING, add_word, load_word, now_us,
    raise_word, store_word, swap_word,
)
from kvengine.engine.log.control cimport Control
from kvengine.engine.log.futex_word cimport FUTEX_OFFSET
from kvengine.engine.log.segment cimport SEGMENT_HEADER_BYTES
from kvengine.file.folder cimport Folder
from kvengine.file.mapped cimport storage_error

cdef extern from "<stdio.h>" nogil:
    int renameat(int old_folder, const char *old_name, int new_folder, const char *new_name)

cdef enum:
    GROW_STEP_BYTES_MAX = 4 << 20
    GROW_STEP_BYTES_MIN = 16 << 10
    BLOCK_BYTES = 4096

cdef int NOT_MINE = -1
cdef int OTHER = -2
LOST_JOBS, REPLACED = NOT_MINE, OTHER


cdef class LogEnd(WriteLock):
    """A Reader that knows where the log ends."""

    def __cinit__(self, *args, **kwargs) -> None:
        self.futex = &self.no_futex
        self.rows = []

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

    # -- what jobs, opening and closing change

    def configure_writes(
        self, order: KeyOrder, commits: CommitGroup, level: int, segment_bytes: int,
        store_to_mapping: bool,
    ) -> None:
        """Set what the writer needs beside what every reader has."""
        self.order, self.commits, self.level = order, commits, level
        self.segment_bytes, self.store_to_mapping = segment_bytes, store_to_mapping

    def connect_reader(self, Control control not None) -> None:
        """See with one load that others have gone on."""
        self.control_page, self.followed = control, 0
        self.page = control.words
        self.published = &control.words[VERSION]

    def connect_writer(self, Control control not None) -> None:
        """Write together with others."""
        self.commits.page, self.commits.keeper = control.words, control
        self.futex = <uint32_t *>(control.file.base + FUTEX_OFFSET)
        self.connect_reader(control)
        self.connect_write_lock(control.words)

    def rebase(self) -> None:
        """Begin a segment with the next write."""
        self.active, self.active_slot = None, 0

    def refuse_writes(self, error: BaseException | None) -> None:
        """Make every later write raise this error."""
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

    def raise_min_segment(self) -> int:
        """Return a number from which on every segment begins that is not in `rows` yet.

        A manifest may say so: what was made ahead with a lower number is not begun any more.
        0: another process has begun one meanwhile.
        """
        cdef uint64_t min_segment = 0, begun
        self.acquire()
        begun = load_word(&self.page[SEGMENT])
        if begun <= self.known_segment:
            min_segment = load_word(&self.page[NEXT_ID])
            store_word(&self.page[MIN_SEGMENT], min_segment)
        self.release()
        return min_segment

    def commit_manifest(
        self, act: object, folder: Folder | None, temporary: str, name: str, token: int,
        before: int,
    ) -> int:
        """Put a manifest in place if this store still has the lease and the old one is unchanged.

        The write lock is held meanwhile.  Return 0, LOST_JOBS or REPLACED.

        Args:
            act: replaces the manifest where there is no folder on disk, or a folder of tests.
            before: the generation that it follows.

        Raises:
            StorageError: a system call failed.
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

    # -- the job lease

    def claim_jobs(self, token: int, stale_ms: int, waits: bool = False) -> bool:
        """Be the one store of all processes that does jobs; False if another one does.

        One that was not seen for so long is gone, or was stopped: what it still does is refused.

        Args:
            waits: the one that does jobs should know of this one; see jobs_are_wanted().
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
        elif waits:
            store_word(&self.page[JOB_WANTED], now)
        self.release()
        return holder == mine

    def jobs_are_wanted(self, within_ms: int) -> bool:
        """True if another store has waited so lately for this one to be done with its jobs."""
        cdef uint64_t now = now_us() // 1000, limit = within_ms
        return now <= load_word(&self.page[JOB_WANTED]) + limit

    def still_has_jobs(self, token: int) -> bool:
        """True if it does, and others know it for a while.

        One that was stopped in here may tell it of another, once: that one lasts longer then.
        """
        cdef uint64_t mine = token
        if load_word(&self.page[JOB_TOKEN]) != mine:
            return False
        raise_word(&self.page[JOB_BEAT], now_us() // 1000)
        return load_word(&self.page[JOB_TOKEN]) == mine

    def end_jobs(self, token: int) -> None:
        """Let another store do jobs, unless one has claimed them already."""
        cdef uint64_t mine = token
        self.enter()
        if load_word(&self.page[JOB_TOKEN]) == mine:
            raise_word(&self.page[JOB_BEAT], now_us() // 1000)
            swap_word(&self.page[JOB_TOKEN], mine, 0)
        self.leave()

    def jobs_seen_ms(self) -> int:
        """Return how many milliseconds ago a store was seen doing jobs."""
        return max(now_us() // 1000 - load_word(&self.page[JOB_BEAT]), 0)

    # -- disk

    @property
    def is_disk_low(self) -> bool:
        """True if the disk is full: only deletes may take more of it, in every process."""
        return load_word(&self.page[TIGHT]) != 0

    @is_disk_low.setter
    def is_disk_low(self, value: bool) -> None:
        store_word(&self.page[TIGHT], value)

    def enter_low_disk(self) -> bool:
        """Set `is_disk_low`; False if it was set already."""
        return add_word(&self.page[TIGHT], 1) == 0

    @property
    def is_unnamed(self) -> bool:
        """True if a sync with names must come before the next segment; see waits_for_name()."""
        return self.waits_for_name()

    def offer_segment(self, made: NextSegment | None) -> NextSegment | None:
        """Keep a segment to go on in when this one is full; return the one that was kept."""
        kept, self.next_segment = self.next_segment, made
        return kept

    cdef int grow(self, uint64_t end, bint deletes) except -1:
        """Have disk for the segment up to `end`, and some more; return the number of an error."""
        cdef uint64_t allocated = load_word(&self.page[ALLOCATED])
        cdef uint64_t step = min(allocated, <uint64_t>GROW_STEP_BYTES_MAX)
        cdef int code = ENOSPC
        cdef bint tight = load_word(&self.page[TIGHT]) != 0
        if tight and not deletes:
            return ENOSPC
        self.active.size_bytes = allocated
        if not tight:
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
            or segment.id < load_word(&self.page[MIN_SEGMENT])  # a manifest names all below
            or segment.id <= load_word(&self.page[SEGMENT])
            or self.waits_for_name()
        ):
            return FULL
        self.commits.keep()
        store_word(&self.page[WRITING], 1)
        store_word(&self.page[MIN_SEGMENT], segment.id + 1)
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
        if torn:
            store_word(&self.page[TAKEN_OVER], segment.id)
        store_word(&self.page[SEGMENT], segment.id)
        store_word(&self.page[WRITING], 0)
        self.switch_to(segment)
        self.next_segment = None
        return DONE

    cdef bint waits_for_name(self) noexcept:
        """True if no segment may begin before the newest one is on disk.

        It was begun because a writer was killed.  If that writer's tail were left by a power cut,
        and this segment not, but the next, what never was visible would pass for what came before.
        """
        cdef uint64_t taken_over = load_word(&self.page[TAKEN_OVER])
        return (
            taken_over != 0 and taken_over == load_word(&self.page[SEGMENT])
            and load_word(&self.page[NAMED]) < taken_over)

    cdef void switch_to(self, NextSegment segment) noexcept:
        self.rows = segment.begun
        self.segments.slots[segment.id] = segment.slot
        if self.commits is not None:
            self.commits.switch_to(segment.file, segment.id)
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
            self.switch_to(segment)
            return True
        finally:
            self.leave()

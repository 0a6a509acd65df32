"""Group commit: all that wait for the disk at the same time, in any process, share one sync.

Invariants:

* wait(version) returns only after a sync that began when all changes up to `version` were written.
* One thread at a time syncs for all; the others sleep.  Its lock only saves syncs: if it is held
  for longer than a sync takes (its holder may be stopped), each thread syncs on its own.
* Before the sync, the thread waits for as many as shared the last one, but no longer than a part of
  the time of a sync: threads that write in a loop come back together, and a single one never waits.
* Nothing is reported durable in a folder that is gone, or now holds another store.
* A sync waits for neither the GIL nor Python code, so it holds up no thread.  Test folders are
  Python code: there each thread syncs on its own.
* After the first failed sync nothing is reported durable again, in any process: the kernel may have
  dropped the dirty pages and would report the next sync as a success.
"""

from libc.errno cimport EBUSY, EIO, ESTALE, errno

from kvengine.engine.log.page cimport (
    ARRIVED, DURABLE, EXPECTED, FAILED, GATHERED, GATHERING, LED_SINCE, NAMED, SEGMENT, SYNCED,
    SYNC_LOCK, VERSION, add_count, give_mutex, load_count, load_word, lower_count, now_us,
    raise_word, sleep_on, store_word, take_count, try_mutex, wake_all,
)
from kvengine.file.folder cimport PRESENT
from kvengine.file.mapped cimport MappedFile, storage_error

from kvengine.errors import KvError, StoreClosed, StoreReadOnly, copied_error
from kvengine.file.local import LocalDirectory

cdef extern from "<unistd.h>" nogil:
    int fdatasync(int fd)
    int fsync(int fd)

cdef enum:
    SERVED = -1                 # by the sync of another
    REFUSED = -2                # a sync has failed before
    GATHER_PERCENT = 60         # of the time of a sync: the longest wait for company
    CHECK_NS = 5000000          # between checks of a sleeper: the syncing process may have died
    PATIENCE_US = 20000         # the lock may be held for so long, and four syncs; then each syncs

cdef str TAKEN_BACK = (
    "a change was undone before it was on disk, perhaps because another program has written to "
    "this file; close the store in all processes, open it again and check its content")
cdef uint64_t[64] no_page       # of a group that has not begun


cdef class CommitGroup:
    """How far the log is on disk, and the threads that wait for it.

    Thread-safety: threads may share it; lists change while holding the GIL.
    """

    def __cinit__(self) -> None:
        self.unsynced, self.idle = [], []
        self.page = no_page

    def begin(
        self, folder: object, unsynced: list, file: MappedFile | None, segment_id: int,
        version: int,
    ) -> None:
        """Start with what was opened: segments that may not be on disk, the last one apart."""
        self.folder, self.unsynced, self.active = folder, unsynced, file
        self.active_id = segment_id
        self.held = folder.folder
        self.is_plain = type(folder) is LocalDirectory
        self.version = version

    cdef int keep(self) except -1:
        """Sync the active segment with the next sync, too, when writes have gone on elsewhere."""
        if self.active is not None:
            self.unsynced.append(self.active)
        return 0

    cdef void switch_to(self, MappedFile file, uint64_t segment_id) noexcept:
        """The log goes on in a new segment; keep() was called."""
        self.active, self.active_id = file, segment_id

    cdef void start_over(
        self, list unsynced, MappedFile file, uint64_t segment_id, uint64_t version,
    ) noexcept:
        """Know the segments that may not be on disk under other objects, and all of them."""
        self.unsynced, self.active, self.active_id = unsynced, file, segment_id
        self.version = version

    def close_descriptors(self, files: list) -> None:
        """Give back the descriptors of files that need no sync any more, once none is under way."""
        self.idle.extend(files)
        self._close_idle()

    cdef int _close_idle(self) except -1:
        cdef MappedFile file
        while self.idle and self.syncing == 0:
            file = self.idle.pop()
            file.close_descriptor()
        return 0

    cdef int wait(self, uint64_t version, bint alone) except -1:
        """Return 0 when everything up to `version` is on disk.

        With `alone` the calling thread syncs itself, whatever others have done already.

        Raises:
            StoreReadOnly: a sync failed, this one or one before.
            StoreClosed: it is not on disk, and syncing has ended.
            StorageError: it was taken back meanwhile.
        """
        cdef Plan plan
        cdef int code
        while alone or load_word(&self.page[DURABLE]) < version:
            self.refuse_failed()
            if not self.is_plain:
                return self._wait_in_python(version, alone)
            files = self._plan(&plan)
            _active = self.active  # stays open; once it is filled it needs a sync that begins later
            self.syncing += 1
            with nogil:
                code = self._sync(&plan) if alone else self._take_part(&plan, version)
            self.syncing -= 1
            self._close_idle()
            if code == 0:
                self._prune(files)
            elif code > 0:
                self._fail_with(code)
            # The version of a writable store never decreases: the page was damaged.
            if code == 0 and plan.version < version and load_word(&self.page[DURABLE]) < version:
                raise storage_error(EIO, TAKEN_BACK, "CONTROL")
            if code == 0 or code == SERVED:
                return 0
        return 0

    cdef bint is_lost(self) noexcept nogil:
        """True if writes go to a folder that was removed or replaced."""
        return self.held is not None and self.held.state() != PRESENT

    cdef list _plan(self, Plan *plan):
        """Say what must be synced; return the segments that were filled before."""
        cdef MappedFile file
        cdef list files
        while len(self.unsynced) > FILES_AT_ONCE:
            file = self.unsynced[0]
            self.syncing += 1  # keeps its descriptor open
            code = file.try_sync() if file.fd >= 0 else 0
            self.syncing -= 1
            if code:
                self._fail_with(code)
            self._prune([file])
        files = list(self.unsynced)
        plan.n = 0
        for file in files:
            if file.fd >= 0 and plan.n < FILES_AT_ONCE:  # else it is on disk
                plan.fds[plan.n] = file.fd
                plan.n += 1
        plan.active, plan.segment, plan.version = -1, self.active_id, self.version
        if self.active is not None:
            file = self.active
            plan.active = file.fd
        plan.folder = self.held.fd if load_word(&self.page[NAMED]) < self.active_id else -1
        return files

    cdef void _prune(self, list files) noexcept:
        """Filled segments among these are on disk; they may have been taken out meanwhile."""
        self.unsynced = [file for file in self.unsynced if all([file is not f for f in files])]

    cdef int _take_part(self, Plan *plan, uint64_t version) noexcept nogil:
        """Sync for all, or sleep while another does; return 0, SERVED, REFUSED or an error."""
        cdef uint64_t since = now_us()
        cdef uint32_t gathered = load_count(&self.page[GATHERED])
        cdef int code
        add_count(&self.page[ARRIVED])
        if load_count(&self.page[GATHERING]):
            wake_all(&self.page[ARRIVED])
        code = self._lead_or_sleep(plan, version, since)
        if load_count(&self.page[GATHERED]) == gathered:
            lower_count(&self.page[ARRIVED])  # it did not come for the next sync, but for this one
        return code

    cdef int _lead_or_sleep(self, Plan *plan, uint64_t version, uint64_t since) noexcept nogil:
        cdef uint32_t seen
        cdef int code
        while True:
            seen = load_count(&self.page[SYNCED])
            if load_word(&self.page[DURABLE]) >= version:
                return SERVED
            if load_word(&self.page[FAILED]):
                return REFUSED
            code = try_mutex(&self.page[SYNC_LOCK])
            if code == 0:
                store_word(&self.page[LED_SINCE], now_us())
                code = self._lead(plan, version)
                store_word(&self.page[LED_SINCE], 0)
                add_count(&self.page[SYNCED])
                give_mutex(&self.page[SYNC_LOCK])
                wake_all(&self.page[SYNCED])
                return code
            if code != EBUSY or self._is_stuck(since):
                return self._sync(plan)
            sleep_on(&self.page[SYNCED], seen, CHECK_NS)

    cdef bint _is_stuck(self, uint64_t since) noexcept nogil:
        """True if the one that syncs for all takes too long; one waits for it since `since`."""
        cdef uint64_t now = now_us(), led_since = load_word(&self.page[LED_SINCE])
        if led_since == 0 or led_since > now:  # it has just taken the lock, or has another clock
            led_since = since
        return now - led_since > PATIENCE_US + self.sync_ns // 250

    cdef int _lead(self, Plan *plan, uint64_t version) noexcept nogil:
        if load_word(&self.page[DURABLE]) >= version:
            return SERVED
        if load_word(&self.page[FAILED]):
            return REFUSED
        self._gather()
        return self._sync(plan)

    cdef void _gather(self) noexcept nogil:
        """Give the threads that shared the last sync a moment to return."""
        cdef uint32_t expected = load_count(&self.page[EXPECTED])
        cdef uint32_t here = load_count(&self.page[ARRIVED])
        cdef uint64_t now = now_us()
        cdef uint64_t until = now + self.sync_ns * GATHER_PERCENT // 100000
        if expected > 1:
            add_count(&self.page[GATHERING])
            while here < expected and now < until:
                sleep_on(&self.page[ARRIVED], here, (until - now) * 1000)
                here = load_count(&self.page[ARRIVED])
                now = now_us()
            take_count(&self.page[GATHERING])
        store_word(&self.page[EXPECTED], take_count(&self.page[ARRIVED]))
        add_count(&self.page[GATHERED])

    cdef int _sync(self, Plan *plan) noexcept nogil:
        """Bring to disk what a plan says, and say so to all; return the number of an error."""
        # What is visible now lies in these files, unless the log has gone on elsewhere.
        cdef uint64_t version = load_word(&self.page[VERSION])
        cdef uint64_t begun = now_us()
        cdef int i
        if load_word(&self.page[SEGMENT]) != plan.segment or version < plan.version:
            version = plan.version
        for i in range(plan.n):
            if fdatasync(plan.fds[i]) != 0:
                return self._refuse(errno)
        if plan.active >= 0 and fdatasync(plan.active) != 0:
            return self._refuse(errno)
        if self.is_lost():
            return ESTALE
        if plan.folder >= 0:
            if fsync(plan.folder) != 0:
                return self._refuse(errno)
            raise_word(&self.page[NAMED], plan.segment)
        self.sync_ns = (now_us() - begun) * 1000
        if load_word(&self.page[FAILED]):
            return REFUSED
        raise_word(&self.page[DURABLE], version)
        return 0

    cdef int _refuse(self, int code) noexcept nogil:
        """A sync failed: nothing is durable from here on, in no process."""
        store_word(&self.page[FAILED], code)
        return code

    cdef int _wait_in_python(self, uint64_t version, bint alone) except -1:
        """As wait(), in a folder of tests."""
        cdef uint32_t seen
        while self.leader != 0 and self.leader != kv_thread():
            seen = load_count(&self.page[SYNCED])
            with nogil:
                sleep_on(&self.page[SYNCED], seen, CHECK_NS)
            if load_word(&self.page[DURABLE]) >= version and not alone:
                return 0
        cdef uint64_t before = self.leader
        self.leader = kv_thread()
        try:
            self._sync_in_python()
        finally:
            self.leader = before
            add_count(&self.page[SYNCED])
            wake_all(&self.page[SYNCED])
        return 0

    cdef int _sync_in_python(self) except -1:
        """Sync whatever needs it; the same thread may come again in between, and do it, too."""
        cdef uint64_t version = self.version, segment = self.active_id
        cdef MappedFile file
        self.refuse_failed()
        try:
            while self.unsynced:
                file = self.unsynced[0]
                if file.fd >= 0:
                    file.sync()
                self._prune([file])
            if self.active is not None:
                file = self.active
                file.sync()
            if load_word(&self.page[NAMED]) < segment:
                self.folder.sync()
                raise_word(&self.page[NAMED], segment)
            self.folder.check_present()
        except OSError as error:
            self.fail(error)
            raise self._error_of_write() from error
        self.refuse_failed()
        raise_word(&self.page[DURABLE], version)
        return 0

    def _fail_with(self, code: int) -> None:
        """Raise what a refusal of the system means."""
        problem = None if self.held is None else self.held.problem()
        if code != ESTALE or problem is None:
            name = "the log" if self.active is None else (<MappedFile>self.active).name
            problem = storage_error(code, "cannot sync", name)
        self.fail(problem)
        raise self._error_of_write() from problem

    def fail(self, error: OSError) -> None:
        """What was written may not be on disk and never get there: accept no more writes."""
        if not self.is_lost():
            store_word(&self.page[FAILED], error.errno or 5)
        if self.failure is None:
            self.failure = error
            if self.on_failure is not None:
                self.on_failure(self._error_of_write())

    def refuse_failed(self) -> None:
        """Refuse what needs the disk once a sync has failed, here or in another process.

        Raises:
            StoreReadOnly: that is so.
            StoreClosed: syncing has ended.
        """
        cdef int code
        if self.failure is None:
            code = <int>(load_word(&self.page[FAILED]) & 0x7FFFFFFF)
            if code == 0:
                return
            self.fail(storage_error(code, "cannot sync (another process)", "the log"))
        raise self._error_of_write()

    def _error_of_write(self) -> KvError:
        if isinstance(self.failure, StoreClosed):
            return copied_error(self.failure)
        what = "" if self.is_lost() else " since a sync failed"
        return StoreReadOnly(f"the store is read-only{what}: {self.failure}", self.failure)

    def forget_files(self) -> bool:
        """Release all files; False if a thread is syncing one.

        Later calls that wait for the disk raise StoreClosed.
        """
        if self.syncing:
            return False
        if self.failure is None:
            self.failure = StoreClosed("the store was closed before a write was synced")
        self.active, self.unsynced, self.held, self.folder = None, [], None, None
        return True

    def check_present(self) -> None:
        """Accept no more writes if the folder is gone, or holds another store.

        Raises:
            StorageError: that is so.
        """
        problem = None if self.held is None else self.held.problem()
        if problem is not None:
            self.fail(problem)
            raise problem

    def sync_file(self, file: MappedFile) -> None:
        """Sync a segment that nothing is appended to any more.

        Raises:
            StoreReadOnly: it failed.
        """
        try:
            file.sync()
        except OSError as error:
            self.fail(error)
            raise self._error_of_write() from error

    def sync(self, always: bool = False) -> None:
        """Wait until everything written so far is on disk.

        With `always` the segment being written is synced even if it holds no new record: its
        header and its name may be new.

        Raises:
            StoreReadOnly, StoreClosed, StorageError: see wait().
        """
        # A segment may be left over though its records are on disk: of a writer that was killed.
        cdef bint alone = always or len(self.unsynced) > 0
        cdef uint64_t version = self.version
        if alone or load_word(&self.page[DURABLE]) < version or self.failure is not None:
            self.wait(version, alone)

    @property
    def durable_version(self) -> int:
        """Changes up to this version are on disk."""
        return load_word(&self.page[DURABLE])

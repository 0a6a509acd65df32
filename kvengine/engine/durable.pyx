"""Group commit: threads that wait for the disk at the same time share one sync.

Invariants:

* wait(ticket) returns only after a sync that began when all bytes up to `ticket` were written.
* One thread at a time syncs; the others sleep, and any of them may be the next.
* Before it syncs, it waits for as many threads as shared the last sync, but no longer than a part
  of what a sync takes: threads that write in a loop come back together, and a thread that is
  alone never waits.
* Nothing is reported durable in a folder that is gone, or holds another store by now.
* No Python code runs in a thread that syncs a folder on disk: a signal handler or a finalizer that
  waited there for a job, or raised an OSError, would hang, or pass for a sync that failed.  Folders
  of tests are in Python: what interrupts them and wants to sync as well does so at once.
* After the first failed sync nothing is ever reported durable again: the kernel may have dropped
  the dirty pages and would call the next sync a success.
"""

from libc.errno cimport ESTALE, errno

from kvengine.file.folder cimport PRESENT
from kvengine.file.mapped cimport MappedFile, storage_error

from kvengine.errors import InvalidRequest, KvError, StoreClosed, StoreReadOnly, again
from kvengine.file.local import LocalDirectory

cdef extern from "<unistd.h>" nogil:
    int fdatasync(int fd)
    int fsync(int fd)

cdef extern from *:
    """
    static inline int kv_load_int(const int *place) {
        return __atomic_load_n(place, __ATOMIC_SEQ_CST);
    }
    static inline void kv_store_int(int *place, int value) {
        __atomic_store_n(place, value, __ATOMIC_SEQ_CST);
    }
    """
    int kv_load_int(const int *place) noexcept nogil
    void kv_store_int(int *place, int value) noexcept nogil

cdef enum:
    NEEDS_GIL = -1
    GATHER_PERCENT = 30         # of the time of a sync: the longest wait for company

LEVELS = {"sync": 0, "group": 1, "interval": 2, "os": 3}


def level_of(durability: object) -> int:
    """Return the number of a durability.

    Raises:
        InvalidRequest: there is no such durability.
    """
    try:
        return LEVELS[durability]
    except (KeyError, TypeError):
        raise InvalidRequest(
            f"durability must be one of {', '.join(LEVELS)}, not {durability!r}") from None


cdef class CommitGroup:
    """How far the log is on disk, and those who wait for it.

    Thread-safety: counters change while holding the GIL; the mutex is never held while waiting
    for the GIL.
    """

    def __cinit__(self) -> None:
        self._make_locks()
        self.unsynced = []
        self.only_fd = -1

    cdef void _make_locks(self) noexcept:
        pthread_mutex_init(&self.mutex, NULL)
        cdef pthread_condattr_t attributes
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(&self.changed, &attributes)
        pthread_cond_init(&self.arrived, &attributes)
        pthread_condattr_destroy(&attributes)

    def __dealloc__(self) -> None:
        pthread_cond_destroy(&self.changed)
        pthread_cond_destroy(&self.arrived)
        pthread_mutex_destroy(&self.mutex)

    def begin(
        self, folder: object, unsynced: list, file: MappedFile | None, version: int, durable: bool,
    ) -> None:
        """Start with what recovery found; `durable` says that it is known to be on disk.

        The names of its segments may not be: a process that was killed can have made them.
        """
        self.folder, self.unsynced, self.active = folder, unsynced, file
        self.held = folder.folder
        self.is_plain = type(folder) is LocalDirectory
        self.version = version
        self.durable_version = version if durable else 0
        self.appended = 1
        self.synced = 1 if durable else 0
        self.begun_files += len(unsynced) + (file is not None)

    def after_fork(self) -> None:
        """In a child: threads that held locks are not here."""
        self.syncing, self.leader, self.here, self.gathering = False, 0, 0, 0
        self._make_locks()

    cdef int keep(self) except -1:
        """Sync the active segment with the next sync, too, when writes have gone on elsewhere."""
        kv_store_int(&self.only_fd, -1)
        if self.active is not None:
            self.unsynced.append(self.active)
        return 0

    cdef void go_on_in(self, MappedFile file) noexcept:
        """Writes go to a new segment from now on; keep() was called."""
        self.active = file
        self.begun_files += 1

    cdef int wait(self, uint64_t ticket, bint alone) except -1:
        """Return when everything up to `ticket` is on disk.

        With `alone` the calling thread syncs itself, whatever others have done already.

        Raises:
            StoreReadOnly: a sync failed, this one or one before.
            StoreClosed: it is not on disk, and nobody syncs any more.
        """
        cdef bint lead
        cdef int code = NEEDS_GIL
        if self.syncing and self.leader == kv_thread():
            # A signal handler or a finalizer that came while this very thread was syncing.
            code = self._sync_and_note()
            if code:
                self._failed(self._refusal())
            return 0
        while True:
            with nogil:
                lead = self._queue(ticket, alone)
                if lead and not alone and not self.has_failed:
                    code = self._lead_without_gil()
            if lead and code == 0:
                return 0
            if self.has_failed:
                if lead:
                    self._hand_over()
                if self.folder is None and self.synced >= ticket:
                    return 0  # close() came first, and brought it to the disk
                raise self._error_of_write()
            if lead:
                return self._lead(code)
            if self.synced >= ticket:
                return 0

    cdef bint is_lost(self) noexcept nogil:
        """True if what is written goes to a folder that nobody will find again."""
        return self.held is not None and self.held.state() != PRESENT

    cdef bint _queue(self, uint64_t ticket, bint alone) noexcept nogil:
        """Sleep while another thread syncs; True if this thread is the next to do it."""
        cdef bint lead
        pthread_mutex_lock(&self.mutex)
        self.here += 1
        if self.gathering and self.here >= self.gathering:
            pthread_cond_signal(&self.arrived)
        while self.syncing:
            pthread_cond_wait(&self.changed, &self.mutex)
            if self.synced >= ticket and not alone:
                break
        lead = not self.syncing and (alone or self.synced < ticket)
        if lead:
            self.syncing, self.leader = True, kv_thread()
            if not alone and self.expected > 1:
                self._gather()
            self.expected, self.here = self.here, 0
        pthread_mutex_unlock(&self.mutex)
        return lead

    cdef void _gather(self) noexcept nogil:
        """Give those who shared the last sync a moment to come back."""
        cdef timespec until
        cdef uint64_t ns
        clock_gettime(CLOCK_MONOTONIC, &until)
        ns = <uint64_t>until.tv_nsec + self.sync_ns * GATHER_PERCENT // 100
        until.tv_sec += <long>(ns // 1000000000)
        until.tv_nsec = <long>(ns % 1000000000)
        self.gathering = self.expected
        while self.here < self.gathering:
            if pthread_cond_timedwait(&self.arrived, &self.mutex, &until) != 0:
                break
        self.gathering = 0

    cdef int _lead_without_gil(self) noexcept nogil:
        """Sync the one file that needs it; a number of an error, or NEEDS_GIL if there are more.

        Those who wait for the GIL would hold up the sync, and those who wait for the sync too.
        """
        # In this order: all bytes of the version are among the target, and all of the target in
        # the file, for switch() takes the descriptor away before anything goes elsewhere.
        cdef uint64_t version = kv_load(&self.version)
        cdef uint64_t target = kv_load(&self.appended)
        cdef int fd = kv_load_int(&self.only_fd)
        cdef timespec begun
        if fd < 0:
            return NEEDS_GIL
        clock_gettime(CLOCK_MONOTONIC, &begun)
        if fdatasync(fd) != 0:
            return errno
        if self.is_lost():
            return NEEDS_GIL  # to say so
        pthread_mutex_lock(&self.mutex)
        self._note(target, version, &begun)
        self.syncing, self.leader = False, 0
        pthread_mutex_unlock(&self.mutex)
        pthread_cond_broadcast(&self.changed)
        return 0

    cdef void _note(self, uint64_t target, uint64_t version, const timespec *begun) noexcept nogil:
        """The log is on disk up to `target`."""
        cdef timespec now
        clock_gettime(CLOCK_MONOTONIC, &now)
        self.sync_ns = <uint64_t>(now.tv_sec - begun.tv_sec) * 1000000000 \
            + <uint64_t>now.tv_nsec - <uint64_t>begun.tv_nsec
        kv_publish(&self.synced, max(self.synced, target))
        self.durable_version = max(self.durable_version, version)
        if self.control != NULL:
            kv_publish(self.control, self.durable_version)

    cdef int _lead(self, int code) except -1:
        """Sync whatever needs it, unless that has failed already with `code`."""
        try:
            if code == NEEDS_GIL:
                code = self._sync_and_note()
            else:
                self._keep(code, "cannot sync", self.active.name)
        finally:
            self._hand_over()
        if code:
            self._failed(self._refusal())
        return 0

    cdef int _sync_and_note(self) except -1:
        """Sync whatever needs it; the same thread may come again in between, and do it, too.

        Returns the number of an error, and keeps what _refusal() says of it.
        """
        cdef uint64_t version = kv_load(&self.version)
        cdef uint64_t target = kv_load(&self.appended)
        cdef timespec begun
        cdef int code
        if self.has_failed:
            raise self._error_of_write()
        clock_gettime(CLOCK_MONOTONIC, &begun)
        try:
            code = self._sync_all()
        except OSError as error:  # of a folder in Python
            self._failed(error)
        if code == 0:
            self._note(target, version, &begun)
        return code

    cdef int _sync_all(self) except -1:
        cdef MappedFile file
        cdef uint64_t begun
        cdef int code
        while self.unsynced:
            file = self.unsynced[0]
            code = file.try_sync()
            if code:
                return self._keep(code, "cannot sync", file.name)
            if self.unsynced and self.unsynced[0] is file:
                self.unsynced.pop(0)
        file = self.active
        if file is not None:
            code = file.try_sync()
            if code:
                return self._keep(code, "cannot sync", file.name)
        begun = self.begun_files
        if begun != self.named_files:
            if not self.is_plain:
                self.folder.sync()
            elif not self.is_lost():
                with nogil:
                    code = errno if fsync(self.held.fd) != 0 else 0
                if code:
                    return self._keep(code, "cannot sync the folder", self.held.path)
            self.named_files = max(self.named_files, begun)
        if not self.is_plain:
            self.folder.check_present()
        elif self.is_lost():
            return self._keep(ESTALE, "", None)
        self._choose_fd()
        return 0

    cdef int _keep(self, int code, const char *what, str name) noexcept:
        """A sync failed: nothing is durable from here on, whatever else runs before it is said."""
        if not self.has_failed:
            self.failed_code, self.failed_what, self.failed_name = code, what, name
        self.has_failed = True
        return code

    cdef object _refusal(self):
        """Return the error for what _keep() kept."""
        cdef object problem = None if self.held is None else self.held.problem()
        if self.failed_name is None and problem is not None:
            return problem
        return storage_error(
            self.failed_code, self.failed_what.decode() or "the folder is gone",
            self.failed_name or "the log")

    cdef void _choose_fd(self) noexcept:
        """Let syncs go without the GIL if only the segment being written needs them."""
        cdef MappedFile file = <MappedFile>self.active
        cdef bint simple = (
            file is not None and file.hook is None and not self.unsynced
            and self.begun_files == self.named_files)
        kv_store_int(&self.only_fd, file.fd if simple else -1)

    cdef void _hand_over(self) noexcept:
        with nogil:
            pthread_mutex_lock(&self.mutex)
            self.syncing, self.leader = False, 0
            pthread_cond_broadcast(&self.changed)
            pthread_mutex_unlock(&self.mutex)

    def _failed(self, error: OSError) -> None:
        self.fail(error)
        raise self._error_of_write() from error

    def fail(self, error: OSError) -> None:
        """What was written may not be on disk and never get there: accept no more writes."""
        self.has_failed = True
        if self.failure is None:
            self.failure = error
            if self.on_failure is not None:
                self.on_failure(self._error_of_write())

    def _error_of_write(self) -> KvError:
        """Return why a write can't reach the disk any more."""
        if isinstance(self.failure, StoreClosed):
            return again(self.failure)
        # None: another thread is about to say it.
        cause = self._refusal() if self.failure is None else self.failure
        what = "" if self.is_lost() else " since a sync failed"
        return StoreReadOnly(f"the store is read-only{what}: {cause}", cause)

    def forget_files(self) -> bool:
        """Hold no file any more; False if a thread syncs one just now.

        Who comes later to wait for the disk is told that it came too late.
        """
        if self.syncing:
            return False
        self.has_failed = True
        if self.failure is None:
            self.failure = StoreClosed("the store was closed before a write was synced")
        kv_store_int(&self.only_fd, -1)
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
            self._failed(error)

    def sync(self, always: bool = False) -> None:
        """Return when everything written so far is on disk.

        With `always` the segment being written is synced even if it holds no new record: its
        header and its name may be new.

        Raises:
            StoreReadOnly: a sync failed, this one or one before.
        """
        # A segment may be left over though its records are on disk: of a writer that was killed.
        cdef bint alone = always or len(self.unsynced) > 0
        if alone or self.synced < self.appended or self.failure is not None:
            self.wait(self.appended, alone)

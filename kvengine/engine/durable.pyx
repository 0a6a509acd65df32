"""Group commit: threads that wait for the disk at the same time share one sync.

Invariants:

* wait(ticket) returns only after a sync that began when all bytes up to `ticket` were written.
* One thread at a time syncs; the others sleep, and any of them may be the next.
* After the first failed sync nothing is ever reported durable again: the kernel may have dropped
  the dirty pages and would call the next sync a success.
"""

from kvengine.file.mapped cimport MappedFile

from kvengine.errors import StoreReadOnly


cdef class CommitGroup:
    """How far the log is on disk, and those who wait for it.

    Thread-safety: counters change while holding the GIL; the mutex is never held while waiting
    for the GIL.
    """

    def __cinit__(self) -> None:
        pthread_mutex_init(&self.mutex, NULL)
        pthread_cond_init(&self.changed, NULL)
        self.unsynced = []

    def __dealloc__(self) -> None:
        pthread_cond_destroy(&self.changed)
        pthread_mutex_destroy(&self.mutex)

    def begin(
        self, folder: object, unsynced: list, file: MappedFile | None, version: int, durable: bool,
    ) -> None:
        """Start with what recovery found; `durable` says that it is known to be on disk."""
        self.folder, self.unsynced, self.active = folder, unsynced, file
        self.version = version
        self.durable_version = version if durable else 0
        self.appended = 1
        self.synced = 1 if durable else 0

    def switch(self, file: MappedFile) -> None:
        """Writes go to a new segment from now on; the old one still awaits its sync, if any."""
        if self.active is not None and self.synced < self.appended:
            self.unsynced.append(self.active)
        self.active = file
        self.folder_is_stale = True

    cdef int wait(self, uint64_t ticket, bint alone) except -1:
        """Return when everything up to `ticket` is on disk.

        With `alone` the calling thread syncs itself, whatever others have done already.

        Raises:
            StoreReadOnly: a sync failed, this one or one before.
        """
        cdef bint lead
        cdef uint64_t target, version
        while True:
            with nogil:
                pthread_mutex_lock(&self.mutex)
                while self.syncing:
                    pthread_cond_wait(&self.changed, &self.mutex)
                    if self.synced >= ticket and not alone:
                        break
                lead = not self.syncing and (alone or self.synced < ticket)
                if lead:
                    self.syncing = True
                pthread_mutex_unlock(&self.mutex)
            if self.failure is not None:
                if lead:
                    self._hand_over()
                raise StoreReadOnly(
                    f"the store is read-only since a sync failed: {self.failure}", self.failure)
            if not lead:
                if self.synced >= ticket:
                    return 0
                continue
            target = self.appended
            version = self.version
            try:
                self._sync_all()
                self.synced = max(self.synced, target)
                self.durable_version = max(self.durable_version, version)
                if self.control != NULL:
                    self.control[0] = self.durable_version
            except BaseException as error:
                if isinstance(error, OSError):
                    self.failure = error
                    raise StoreReadOnly(
                        f"the store is read-only now: a sync failed: {error}", error) from error
                raise
            finally:
                self._hand_over()
            return 0

    cdef int _sync_all(self) except -1:
        while self.unsynced:
            (<MappedFile>self.unsynced[0]).sync()
            self.unsynced.pop(0)
        if self.active is not None:
            (<MappedFile>self.active).sync()
        if self.folder_is_stale:
            self.folder_is_stale = False
            try:
                self.folder.sync()
            except BaseException:
                self.folder_is_stale = True
                raise
        return 0

    def _hand_over(self) -> None:
        with nogil:
            pthread_mutex_lock(&self.mutex)
            self.syncing = False
            pthread_cond_broadcast(&self.changed)
            pthread_mutex_unlock(&self.mutex)

    def sync(self) -> None:
        """Return when everything written so far is on disk.

        Raises:
            StoreReadOnly: a sync failed, this one or one before.
        """
        if self.synced < self.appended or self.failure is not None:
            self.wait(self.appended, False)

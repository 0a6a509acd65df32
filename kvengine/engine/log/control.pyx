"""The control page: 4 KiB of memory shared by the processes that have a store open.

It is never the source of truth; the log and the manifest are.  A process that opens a store alone
recovers it from those and initializes the page; a process that joins later trusts it.

Invariants:

* Each word is stored atomically, after the change that it describes: a version after its records,
  `losses` after `lost_after`.  So all are stored with RELEASE and read with ACQUIRE.
* `version` is trusted only on the boot that wrote it: after a power cut the page may be ahead of
  the log.  `durable_version` was true when it was stored, so it stays true.
* `pid` is 0 while a process that is alone initializes the store, and after the last one has closed.
  So a reader that can't distinguish boots knows whether there is a writer.
* `losses` increases when visible changes are undone: readers start over.
* The words that a write needs (`segment`, `allocated`, ...) change only under the write lock.
"""

from libc.errno cimport EIO
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from kvengine.engine.log.futex_word cimport FUTEX_OFFSET, wake_waiters
from kvengine.engine.log.page cimport (
    ALLOCATED, ARRIVED, BEGUN, FUTEX, BOOT, DURABLE, EPOCH, EXPECTED, FAILED, MIN_SEGMENT, GATHERED,
    GATHERING, GENERATION, STARVED, INODE, INSIDE, IS_SHARED, JOB_BEAT, JOB_TOKEN, JOB_WANTED,
    LAYOUT, LED_SINCE, LOSSES, LOST_AFTER, MAGIC_WORD, MUTEX_LAYOUT, NAMED, NEXT_ID, WRITE_LOCK,
    PID, PID_NAMESPACE, PID_START, PREPARED, SEGMENT, SHARED, SPARSE, SYNCED, SYNC_LOCK, TAKEN_OVER,
    TIGHT, VERSION, WILL_BE_SHARED, WRITING, barrier, has_barrier, load_word, make_mutex, now_us,
    store_word,
)
from kvengine.file.mapped cimport MappedFile, storage_error

import secrets

from kvengine.errors import StorageError
from kvengine.file.folder import rest

PAGE_BYTES = 4096
cdef double LOOK_S = 0.0001  # between two checks of the word INSIDE
cdef double DRAIN_S = 0.1  # no processor keeps a store to itself for so long

cdef uint64_t MAGIC = 0x32304C5254434B56   # "VKCTRL02" as little-endian bytes
cdef uint64_t OLD_MAGIC = 0x31304C5254434B56    # of 0.1, which has fewer words


def written_over(name: str) -> StorageError:
    """Return the error for a control page that another program changed."""
    return storage_error(
        EIO, "another program has overwritten or truncated this file, which the processes "
        "that have the store open share; close the store in all of them, and open it again", name)


cdef class Control:
    """One mapped control page.

    Thread-safety: words are read and stored whole, so any number of processes may look on.
    """

    def __cinit__(self, file: MappedFile) -> None:
        self.file = file
        self.words = <uint64_t *>file.base
        self.inode = file.inode

    cdef uint64_t word(self, int which) noexcept nogil:
        return load_word(&self.words[which])

    cdef void set_word(self, int which, uint64_t value) noexcept nogil:
        store_word(&self.words[which], value)

    # -- for a process that has the store to itself

    def prepare(self) -> None:
        """A process alone with the store is finding the end of the log; no writes yet."""
        self.set_word(PID, 0)

    def leave(self) -> None:
        """The last one goes; what was written stays to be read."""
        self.set_word(PID, 0)

    def take_back(self, version: int) -> None:
        """Changes above a version were visible, and are lost."""
        self.set_word(LOST_AFTER, version)
        self.set_word(LOSSES, self.word(LOSSES) + 1)
        self.set_word(VERSION, version)

    def set_up(
        self, boot: int, pid: int, version: int, durable_version: int, generation: int,
        next_id: int, min_segment: int, pid_namespace: int, pid_start: int,
    ) -> None:
        """Set what recovery found, before any write.  begin_in() sets where the log continues.

        Raises:
            StorageError: this system has no mutexes that processes can share.
        """
        cdef int code
        if self.is_foreign:
            self.set_word(MAGIC_WORD, 0)
        if self.word(BOOT) == <uint64_t>boot and version < self.word(VERSION):
            self.take_back(version)
        self.set_word(VERSION, version)
        self.set_word(DURABLE, durable_version)
        self.set_word(GENERATION, generation)
        for word in (
            WRITING, ALLOCATED, PREPARED, FAILED, SEGMENT, NAMED, BEGUN, STARVED, JOB_TOKEN,
            JOB_BEAT, JOB_WANTED, SYNCED, ARRIVED, EXPECTED, GATHERING, GATHERED, LED_SINCE,
            SPARSE, TAKEN_OVER, TIGHT,
        ):
            self.set_word(word, 0)
        self.set_word(NEXT_ID, next_id)
        self.set_word(MIN_SEGMENT, min_segment)
        self.set_word(LAYOUT, MUTEX_LAYOUT)
        self.set_word(PID_NAMESPACE, pid_namespace)
        self.set_word(PID_START, pid_start)
        self.set_word(INODE, self.inode)
        memset(&self.words[WRITE_LOCK], 0, 128)
        code = make_mutex(&self.words[WRITE_LOCK]) or make_mutex(&self.words[SYNC_LOCK])
        if code:
            raise storage_error(code, "cannot share a mutex with other processes", self.file.name)
        self.set_word(INSIDE, 0)
        self.set_word(SHARED, 0 if has_barrier() else IS_SHARED)
        self.set_word(EPOCH, secrets.randbits(64) | 1)
        self.set_word(BOOT, boot)  # from now on the version is trusted
        self.set_word(MAGIC_WORD, MAGIC)
        self.set_word(PID, pid)  # at work
        wake_waiters(<uint32_t *>(self.file.base + FUTEX_OFFSET))

    def begin_in(
        self, segment_id: int, first_version: int, allocated: int, taken_over: bool = False,
    ) -> None:
        """Say in which segment the log goes on; `taken_over`: see LogEnd.waits_for_name()."""
        self.set_word(ALLOCATED, allocated)
        self.set_word(PREPARED, 0)
        self.set_word(BEGUN, first_version)
        self.set_word(TAKEN_OVER, segment_id if taken_over else 0)
        self.set_word(SEGMENT, segment_id)

    # -- for everybody

    def share(self, seconds: float) -> bool:
        """Let the write lock be shared; False if the one who is alone has been writing for so long.

        Then it was stopped or killed in the middle of it.
        """
        cdef uint64_t until = now_us() + <uint64_t>(<double>seconds * 1e6)
        cdef bint done
        if self.word(SHARED) == IS_SHARED:
            return True
        self.set_word(SHARED, WILL_BE_SHARED)
        with nogil:
            done = barrier()
        if not done:  # forbidden to this process, but not to the other one
            rest(DRAIN_S)
        while self.word(INSIDE) != 0:
            if now_us() > until:
                return False
            rest(LOOK_S)
        self.set_word(SHARED, IS_SHARED)
        return True

    def release_dead_owner(self) -> None:
        """Clear INSIDE: the process that had the store to itself is dead."""
        self.set_word(INSIDE, 0)
        self.set_word(SHARED, IS_SHARED)

    def check(self, applied: int, seen_losses: int, known_id: int) -> None:
        """Raise StorageError if another program has written to the page.

        Args:
            applied, seen_losses: what a store has read; so far, at least, the page was once.
            known_id: an id that a file has.
        """
        cdef uint64_t version = self.word(VERSION)
        if self.word(MAGIC_WORD) == MAGIC and self.word(NEXT_ID) > <uint64_t>known_id and (
                version >= <uint64_t>applied or self.word(LOSSES) != <uint64_t>seen_losses):
            return
        raise written_over(self.file.name)

    @property
    def is_valid(self) -> bool:
        """True if this page was ever initialized."""
        return self.word(MAGIC_WORD) == MAGIC

    @property
    def is_readable(self) -> bool:
        """True if the page holds a version; it may be a page of kvengine 0.1."""
        return self.word(MAGIC_WORD) == MAGIC or self.word(MAGIC_WORD) == OLD_MAGIC

    @property
    def is_foreign(self) -> bool:
        """True if another version of kvengine has set it up."""
        return self.word(MAGIC_WORD) not in (0, MAGIC)

    @property
    def fits(self) -> bool:
        """True if the mutex on the page has the layout that this process expects."""
        return self.word(LAYOUT) == MUTEX_LAYOUT

    @property
    def is_copy(self) -> bool:
        """True if this is a copy of the file that was set up: others, if any, share that one."""
        return self.word(INODE) != self.inode

    @property
    def pid_namespace(self) -> int:
        """The PID namespace of the processes that share the page; 0: unknown."""
        return self.word(PID_NAMESPACE)

    @property
    def min_segment(self) -> int:
        """No segment with a lower number may begin any more."""
        return self.word(MIN_SEGMENT)

    @property
    def segment(self) -> int:
        """The id of the segment that was begun last; 0: none."""
        return self.word(SEGMENT)

    @property
    def named(self) -> int:
        """Names of segments up to this id are on disk."""
        return self.word(NAMED)

    @named.setter
    def named(self, value: int) -> None:
        self.set_word(NAMED, value)

    @property
    def epoch(self) -> int:
        """Which setting-up of the page this is."""
        return self.word(EPOCH)

    @property
    def failed(self) -> int:
        """The number of the error with which a sync failed; 0: none did."""
        return self.word(FAILED)

    @property
    def boot(self) -> int:
        """The id of the boot on which it was set up."""
        return self.word(BOOT)

    @property
    def pid(self) -> int:
        """The process that initialized it; 0: the store is not open for writing."""
        return self.word(PID)

    @property
    def pid_start(self) -> int:
        """When that process began, see process_start(); 0: not known."""
        return self.word(PID_START)

    @property
    def losses(self) -> int:
        """How often changes that were visible were taken back."""
        return self.word(LOSSES)

    @property
    def lost_after(self) -> int:
        """The version above which they were taken back, the last time."""
        return self.word(LOST_AFTER)

    def snapshot(self) -> tuple[int, ...]:
        """Return all that only writers change: while it stays equal, none was there."""
        cdef int i
        return tuple([self.word(i) for i in range(9) if i != FUTEX])

    @property
    def version(self) -> int:
        """The version of the last change that is visible."""
        return self.word(VERSION)

    @version.setter
    def version(self, value: int) -> None:
        self.set_word(VERSION, value)

    @property
    def durable_version(self) -> int:
        """Changes up to this version were on disk."""
        return self.word(DURABLE)

    @durable_version.setter
    def durable_version(self, value: int) -> None:
        self.set_word(DURABLE, value)

    @property
    def generation(self) -> int:
        """The generation of the manifest."""
        return self.word(GENERATION)

    @property
    def begun(self) -> int:
        """The first version of the segment that was begun last; 0 if there is none."""
        return self.word(BEGUN)

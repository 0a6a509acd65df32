"""The control page: what the writer tells other processes, in one mapped page of 4 KiB.

It is a notice board, never the truth.  Recovery uses it only to notice that something is missing.

Invariants:

* Each word is stored whole, and after what it stands for: a version after its records, `losses`
  after `lost_after`.  So all are stored with RELEASE and read with ACQUIRE.
* `version` is trusted only on the boot that wrote it: after a power cut the page may be ahead of
  the log.  `durable_version` was true when it was stored, so it stays true.
* `pid` is 0 from the moment a writer has the lock until it has decided where the log ends, and
  after it has left: so a reader that can't tell boots apart knows whether a writer is at work.
* `losses` grows when changes that were visible are taken back: readers start over.
"""

from libc.stdint cimport uint32_t, uint64_t

from kvengine.engine.bell cimport BELL_OFFSET, ring
from kvengine.engine.durable cimport kv_publish
from kvengine.engine.reading cimport Reader, coarse_ms, kv_acquire
from kvengine.engine.writing cimport Writer
from kvengine.file.mapped cimport MappedFile

PAGE_BYTES = 4096

cdef enum:
    MAGIC_WORD = 0
    BOOT = 1
    PID = 2
    VERSION = 3
    DURABLE = 4
    GENERATION = 5
    BEGUN = 6
    LOSSES = 8                  # 7 is the bell
    LOST_AFTER = 9

cdef uint64_t MAGIC = 0x31304C5254434B56   # "VKCTRL01" as little-endian bytes


cdef class Control:
    """One mapped control page.

    Thread-safety: words are read and stored whole, so any number of processes may look on.
    """

    def __cinit__(self, file: MappedFile) -> None:
        self.file = file
        self.words = <uint64_t *>file.base

    cdef uint64_t word(self, int which) noexcept nogil:
        return kv_acquire(&self.words[which])

    cdef void set_word(self, int which, uint64_t value) noexcept nogil:
        kv_publish(&self.words[which], value)

    def prepare(self) -> None:
        """A writer has the lock and looks where the log ends; nobody is at work yet."""
        self.set_word(PID, 0)

    def leave(self) -> None:
        """The writer goes; what it has written stays to be read."""
        self.set_word(PID, 0)

    def take_back(self, version: int) -> None:
        """Changes above a version were visible, and are lost."""
        self.set_word(LOST_AFTER, version)
        self.set_word(LOSSES, self.word(LOSSES) + 1)
        self.set_word(VERSION, version)

    def begin(
        self, boot: int, pid: int, version: int, durable_version: int, generation: int, begun: int
    ) -> None:
        """Announce a new writer."""
        if self.word(BOOT) == <uint64_t>boot and version < self.word(VERSION):
            self.take_back(version)
        self.set_word(VERSION, version)
        self.set_word(DURABLE, durable_version)
        self.set_word(GENERATION, generation)
        self.set_word(BEGUN, begun)
        self.set_word(BOOT, boot)  # from now on the version is trusted
        self.set_word(MAGIC_WORD, MAGIC)
        self.set_word(PID, pid)  # at work
        ring(<uint32_t *>(self.file.base + BELL_OFFSET))

    def connect_writer(self, store: Writer) -> None:
        """Let the writer store its version here with each write."""
        store.control = &self.words[VERSION]
        store.begun = &self.words[BEGUN]
        store.commits.control = &self.words[DURABLE]
        store.bell = <uint32_t *>(self.file.base + BELL_OFFSET)
        store.control_page = self

    def connect_reader(self, store: Reader) -> None:
        """Let the reader see with one load that the writer has gone on."""
        store.control_page = self
        store.published = &self.words[VERSION]

    @property
    def is_valid(self) -> bool:
        """True if a writer has ever set this page up."""
        return self.word(MAGIC_WORD) == MAGIC

    @property
    def boot(self) -> int:
        """The id of the boot on which the last writer ran."""
        return self.word(BOOT)

    @property
    def pid(self) -> int:
        """The process that writes; 0: none that has found the end of the log."""
        return self.word(PID)

    @property
    def losses(self) -> int:
        """How often changes that were visible were taken back."""
        return self.word(LOSSES)

    @property
    def lost_after(self) -> int:
        """The version above which they were taken back, the last time."""
        return self.word(LOST_AFTER)

    def snapshot(self) -> tuple[int, ...]:
        """Return all that only a writer changes: while it stays equal, none was there."""
        cdef int i
        return tuple([self.word(i) for i in range(9) if i != 7])

    @property
    def version(self) -> int:
        """The version of the last change that the writer made visible."""
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
        """The generation of the writer's manifest."""
        return self.word(GENERATION)

    @generation.setter
    def generation(self, value: int) -> None:
        self.set_word(GENERATION, value)

    @property
    def begun(self) -> int:
        """The first version of the segment being written; 0 if there is none."""
        return self.word(BEGUN)

    @begun.setter
    def begun(self, value: int) -> None:
        self.set_word(BEGUN, value)


def follow_nobody_yet(reader: Reader) -> None:
    """Let a reader of a folder without a control page look now and then whether one came."""
    reader.published = &reader.applied


def look_is_due(reader: Reader, interval_ms: int) -> bool:
    """True if a reader has not looked at its folder for so long; then it is to do so now."""
    cdef uint64_t now = coarse_ms()
    if now < reader.look_at_ms:
        return False
    reader.look_at_ms = now + <uint64_t>interval_ms
    return True

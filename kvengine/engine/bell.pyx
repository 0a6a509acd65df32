"""The bell on the control page: who waits for the writer in another process sleeps in the kernel.

Invariants:

* The word is 1 while somebody may wait for it, else 0.  A writer that finds 0 does nothing more.
* Nobody who sleeps misses a write: the word is set before the version is looked at, the version
  is stored before the word is looked at, and the kernel lets nobody sleep on a word that is 0.
* A waiter that was killed leaves at most one needless call to the next write.
"""

from libc.stdint cimport uint32_t, uint64_t

from kvengine.engine.bell cimport BELL_OFFSET, rest, ring
from kvengine.engine.control cimport Control
from kvengine.file.mapped cimport MappedFile

cdef extern from *:
    int futex_is_there "KV_HAS_FUTEX"

HAS_FUTEX = bool(futex_is_there)
LONGEST_REST_S = 0.5  # then the waiter looks by itself, whatever happened to the writer


cdef class Bell:
    """The word of one control page, mapped to be written.

    Thread-safety: any number of threads and processes may sleep and ring.
    """

    cdef MappedFile file
    cdef Control page
    cdef uint32_t *word

    def __cinit__(self, file: MappedFile, page: Control) -> None:
        self.file, self.page = file, page
        self.word = <uint32_t *>(file.base + BELL_OFFSET)

    def sleep(self, version: int, seconds: float) -> None:
        """Return when the page shows another version, when it rings, or after a time."""
        cdef double limit = min(seconds, LONGEST_REST_S)
        cdef uint64_t known = version
        if limit > 0:
            with nogil:
                rest(self.word, &self.page.words[3], known, limit)

    def ring(self) -> None:
        """Let everyone who sleeps look again."""
        ring(self.word)

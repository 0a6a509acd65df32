"""The futex of the control page: waiters for writes of other processes sleep in the kernel.

The lowest bit of the word says that a process may be sleeping; the bits above it count how often
waiters were woken.

Invariants:

* A writer that finds the bit clear does nothing more.
* No sleeper misses a write.  The sleeper sets the bit, then checks the version, and the kernel lets
  it sleep only while the word is what it was when the bit was set.  The writer stores the version,
  then checks the bit.  So either the sleeper sees the version, or the writer sees the bit: then it
  increases the count, and the kernel refuses later sleepers and wakes earlier ones.  The count
  matters if another sleeper sets the bit again in between: with a bit alone the first would sleep
  on.
* The same holds for `stop`, which is stored where the writer stores the version.
* A killed sleeper costs the next write at most one needless call.  If a writer is killed between
  the count and the call, others sleep until they check by themselves.
"""

from libc.stdint cimport uint32_t, uint64_t

from kvengine.engine.log.futex_word cimport FUTEX_OFFSET, wake_waiters
from kvengine.engine.log.control cimport Control
from kvengine.file.mapped cimport MappedFile

cdef extern from *:
    """
    static uint32_t kv_prepare(uint32_t *word) {
        return __atomic_fetch_or(word, 1, __ATOMIC_SEQ_CST) | 1;
    }

    /* Sleep until waiters are woken, unless the version is another one, or `stop` is set. */
    static void kv_rest(
        uint32_t *word, uint32_t prepared, const uint64_t *version, uint64_t known,
        const int *stop, double seconds
    ) {
        struct timespec limit;
        limit.tv_sec = (time_t)seconds;
        limit.tv_nsec = (long)((seconds - (double)limit.tv_sec) * 1e9);
        if (__atomic_load_n(version, __ATOMIC_SEQ_CST) == known
                && !__atomic_load_n(stop, __ATOMIC_SEQ_CST))
            kv_futex(word, FUTEX_WAIT, prepared, &limit);
    }

    /* The same without a word: look now and then. */
    static void kv_look(
        const uint64_t *version, uint64_t known, const int *stop, double seconds
    ) {
        double pause = 0.0002;
        while (seconds > 0 && __atomic_load_n(version, __ATOMIC_SEQ_CST) == known
                && !__atomic_load_n(stop, __ATOMIC_SEQ_CST)) {
            struct timespec length = {0, (long)(pause * 1e9)};
            nanosleep(&length, NULL);
            seconds -= pause;
            pause = pause * 1.5 < 0.005 ? pause * 1.5 : 0.005;
        }
    }
    static void kv_set(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_SEQ_CST); }
    """
    int futex_is_there "KV_HAS_FUTEX"
    uint32_t kv_prepare(uint32_t *word) noexcept nogil
    void kv_rest(
        uint32_t *word, uint32_t prepared, const uint64_t *version, uint64_t known,
        const int *stop, double seconds,
    ) noexcept nogil
    void kv_look(
        const uint64_t *version, uint64_t known, const int *stop, double seconds,
    ) noexcept nogil
    void kv_set(int *flag, int value) noexcept nogil

HAS_FUTEX = bool(futex_is_there)
SLEEP_MAX_S = 0.5  # then the sleeper looks by itself, whatever happened to the writers


cdef class Futex:
    """The futex of one control page.

    Args:
        page: its version is looked at.
        file: the page, mapped to be written; None: the page may only be read, so it is looked at
            every 0.2 to 5 ms.

    Thread-safety: any number of threads and processes may sleep and wake.
    """

    cdef MappedFile file
    cdef readonly Control page
    cdef uint32_t *word         # NULL: there is none to sleep on
    cdef int is_stopped

    def __cinit__(self, page: Control, file: MappedFile = None) -> None:
        self.page, self.file = page, file
        if file is not None:
            self.word = <uint32_t *>(file.base + FUTEX_OFFSET)

    def prepare(self) -> int:
        """Register a sleeper; return the value that sleep() compares."""
        return 0 if self.word == NULL else kv_prepare(self.word)

    def sleep(self, prepared: int, version: int, seconds: float) -> None:
        """Return when it is woken, or did since prepare(); when the page shows another version; or
        after a time.
        """
        cdef double limit = min(seconds, SLEEP_MAX_S)
        cdef uint32_t bits = prepared
        cdef uint64_t known = version
        cdef const uint64_t *shown = &self.page.words[3]
        if limit <= 0:
            return
        with nogil:
            if self.word != NULL:
                kv_rest(self.word, bits, shown, known, &self.is_stopped, limit)
            else:
                kv_look(shown, known, &self.is_stopped, limit)

    def stop(self) -> None:
        """End all sleeps here; sleepers, in other processes too, check again."""
        kv_set(&self.is_stopped, 1)
        if self.word != NULL:
            wake_waiters(self.word)

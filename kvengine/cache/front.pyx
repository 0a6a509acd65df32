"""A cache in front of a store in the same process: the compiled part of CachedStore.

Invariants:

* No value is returned that is older than the newest write acknowledged before the call, even by
  another process: each read compares the store's version, and first drops from the cache what has
  changed since the last comparison.
* A value is cached only if no change was processed from the start of its read until it is put into
  the cache.
* A call from inside the processing of changes (by a finalizer, a signal handler) reads the store.
* An expired value is not returned.
"""

from kvengine.engine.index.keys cimport checked_key
from kvengine.engine.access.calls cimport StoreCalls
from kvengine.cache.cache cimport CacheCore, TOO_LARGE

from kvengine.engine.jobs.holding import OwnedLock
from kvengine.errors import LogCompacted


cdef class Expiring:
    """A value that ends."""

    cdef bytes value
    cdef double expires_at

    def __cinit__(self, bytes value, double expires_at) -> None:
        self.value, self.expires_at = value, expires_at


cdef class Front:
    """Popular values of a store in memory.

    Args:
        store: an open Store.
        cache: where values are kept.

    Thread-safety: threads may share it.
    """

    def __cinit__(
        self, StoreCalls store not None, CacheCore cache not None, *args, **kwargs,
    ) -> None:
        self.store, self.parts, self.cache, self.lock = store, store._parts, cache, OwnedLock()
        self._begin_again()

    def _after_fork(self) -> None:
        """In a child process: release the lock, and redo what was half done."""
        self.lock.after_fork_in_child()
        self.moves += self.moves & 1
        self.cache.clear()

    def _begin_again(self) -> None:
        """Forget everything, and go on from the newest version."""
        self.tail = self.parts.tail_from(self.parts.version, b"")
        self.cache.clear()
        self.seen = self.tail.seen

    cdef bint keep_up(self) except -1:
        """Drop what has changed since the last look; return False if this thread is at it."""
        self.parts.begin()
        if self.parts.applied == self.seen:
            return True
        if self.lock.is_mine():
            return False
        with self.lock.held():
            self.moves += 1
            try:
                for change in self.tail.changes():
                    self.cache.delete(change.key)
                self.seen = self.tail.seen
            except LogCompacted:
                self._begin_again()
            except BaseException:
                self.cache.clear()
                raise
            finally:
                self.moves += 1
        return True

    cdef object read(self, object key):
        """Return the value of a key, or None."""
        cdef bytes name = <bytes>key if type(key) is bytes else checked_key(key)
        cdef uint64_t moves
        cdef Expiring expiring
        if not self.keep_up():
            entry = self.store.get_entry(name)
            return None if entry is None else entry[1]
        found = self.cache.lookup(name, None)
        if found is not None:
            if type(found) is bytes:
                return found
            expiring = found
            if expiring.expires_at > self.parts.now():
                return expiring.value
            self.cache.delete(name)
        moves = self.moves
        entry = self.store.get_entry(name)
        if entry is None:
            return None
        _, value, _, expires_at, _ = entry
        if moves == self.moves and not moves & 1:  # else a change may have been missed
            held, size = value, None
            if expires_at is not None:
                held, size = Expiring(value, expires_at), len(name) + len(value) + 160
            if self.cache.hold(name, held, size, None, None, &self.moves, moves) == TOO_LARGE:
                self.cache.delete(name)
        return value

    def get(self, key, default=None) -> object:
        """Return the value of a key, or `default`.

        Raises:
            InvalidRequest: the key is not valid.
            CorruptData: the record is damaged; the error has the file and the offset.
            StoreClosed: the store was closed.
        """
        value = self.read(key)
        return default if value is None else value

    def get_many(self, keys) -> list:
        """Return a list of the values of keys, None for each that is absent."""
        return [self.read(key) for key in keys]

    def __contains__(self, key) -> bool:
        return self.read(key) is not None

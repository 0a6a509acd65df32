"""Removal: the keys of deleted namespaces are removed in the background.

Invariants:

* A namespace stays in the catalog until its last key is removed, so a removal interrupted by a
  crash or close() continues at the next open.
* A removal that fails (because the disk is full, for example) is retried after increasing pauses,
  and at once when another namespace is deleted.
* One process at a time removes keys, under a lease; the others check from time to time whether it
  makes progress.  If it removed nothing for two seconds it was stopped, and another process
  replaces its lease.  If both work for a moment, both delete keys that are not needed.
* A removal pauses between its batches for as long as they took, so it uses at most half of the
  write capacity.
* The thread refers to store and catalog only while it works, never to the database.  It ends with
  its work, or when the database has no references.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable

from kvengine.database.catalog import Catalog
from kvengine.database.catalog_rows import Row
from kvengine.engine.following.changes import Changes, Flag
from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.store import Store
from kvengine.errors import KvError, StoreClosed, StoreReadOnly
from kvengine.file.lease import Lease, take
from kvengine.file.system import fork_watch
from kvengine.namespace.layout import data_prefix, import_prefix

logger = logging.getLogger("kvengine")
BATCH_KEYS = 1000
RETRY_S, RETRY_MAX_S = 1.0, 60.0  # after a failure; twice as long after each further one
LEASE_NAME = "REMOVAL.lock"
OTHERS_S = 0.25  # between two looks at what another process removes
STUCK_S = 2.0  # one that has removed nothing for so long was stopped


class Remover:
    """A thread that exists while there is something to remove.

    Thread-safety: threads may share it.
    """

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store, self._catalog = store, catalog
        self._lock = OwnedLock()
        self._renew()
        fork_watch(self, Remover.after_fork)

    def _renew(self) -> None:
        self._thread: threading.Thread | None = None
        self._stopping, self._wanted, self._ended = Flag(), Flag(), Changes()
        self._failures = 0  # in a row
        self._lease: Lease | None = None
        self._seen: tuple[object, float] = (None, 0.0)  # how far another process was, since when

    def begin(self) -> None:
        """Start removing in the background."""
        with self._lock.held():
            if self._stopping.is_set() or not self._catalog.deleting():
                return
            self._failures = 0
            self._wanted.set()
            if self._is_running():
                return
            wanted = self._wanted
            reference = weakref.ref(self, lambda _: wanted.set())
            self._thread = threading.Thread(
                target=_work, args=(reference, wanted), name="kvengine-removal", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # the program ends: the next open does it
                self._thread.start()

    def weakly(self) -> Callable[[], None]:
        """Return a function that calls begin() while this exists, without a reference cycle."""
        reference = weakref.WeakMethod(self.begin)

        def call() -> None:
            begin = reference()
            if begin is not None:
                begin()

        return call

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def after_fork(self) -> None:
        """In a child process, which has neither the thread nor an open store."""
        self._lock.after_fork_in_child()
        self._renew()

    def stop(self) -> None:
        """Stop the thread after its present batch."""
        self._stopping.set()
        self._wanted.set()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def wait(self) -> None:
        """Wait until nothing is left to remove, or nothing more can be removed now."""
        thread = self._thread
        if thread is None or not thread.is_alive() or thread is threading.current_thread():
            return
        while not self._ended.wait_for(lambda: self._failures > 0 or self._thread is not thread, 1):
            if not thread.is_alive():
                return
        if self._thread is not thread:
            thread.join()

    def step(self) -> float | None:
        """Remove what is due; return the seconds until the next attempt, None: never."""
        try:
            return self._work()
        except (StoreClosed, StoreReadOnly) as error:
            self._end()
            if isinstance(error, StoreReadOnly):
                logger.warning(
                    "can't remove the keys of deleted namespaces until the next open: %s", error
                )
            return None
        except (KvError, OSError, MemoryError) as error:
            if not self._failures:
                logger.warning(
                    "removing the keys of deleted namespaces failed and will be retried: %s",
                    str(error),  # itself would keep frames, and with them the store
                )
            pause = min(RETRY_S * 2.0 ** min(self._failures, 16), RETRY_MAX_S)
            self._failures += 1
            self._ended.notify()
            return pause

    def _work(self) -> float | None:
        """Remove what is due, unless another process is doing it."""
        row = self._next()
        if row is None:
            return None
        directory = self._store._parts.directory
        self._lease = take(directory, LEASE_NAME)
        if self._lease is None and self._is_stuck(row):
            directory.remove(LEASE_NAME)
            self._lease = take(directory, LEASE_NAME)
        if self._lease is None:
            return OTHERS_S
        self._seen = (None, 0.0)
        try:
            while row := self._next():
                if not self._lease.is_held:
                    return OTHERS_S
                self._remove(row)
                self._failures = 0
            return None
        finally:
            self._lease.release()

    def _is_stuck(self, row: Row) -> bool:
        """True if the process that removes a namespace has made no progress for a while."""
        first = [next(iter(self._store.keys(p, limit=1)), None) for p in prefixes(row)]
        now, (before, since) = time.monotonic(), self._seen
        if before != (row.number, first):
            self._seen = ((row.number, first), now)
            return False
        return now - since >= STUCK_S

    def _goes_on(self) -> bool:
        """False if this thread should end, or another process has taken over."""
        return not self._stopping.is_set() and (self._lease is None or self._lease.is_held)

    def _next(self) -> Row | None:
        """Return what to remove now; with None the thread ends."""
        with self._lock.held():
            rows = [] if self._stopping.is_set() else self._catalog.deleting()
            if not rows:
                self._end()
            return rows[0] if rows else None

    def _end(self) -> None:
        with self._lock.held():
            self._thread = None
        self._ended.notify()

    def _remove(self, row: Row) -> None:
        """Delete all keys of a namespace, unless stopped before the end."""
        for prefix in prefixes(row):
            while self._sweep(prefix):
                pass  # once more: a writer that was slow may have left something
        if self._goes_on():
            self._catalog.end_removal(row)

    def _sweep(self, prefix: bytes) -> int:
        """Delete the keys with a prefix; return how many there were."""
        found, last = 0, None
        while self._goes_on():
            began = time.monotonic()
            # Behind the last one: the start is ever more keys that are gone.
            keys = list(self._store.keys(prefix, start_after=last, limit=BATCH_KEYS))
            if not keys:
                break
            with self._store.batch(durability="os") as batch:
                for key in keys:
                    batch.delete(key)
            found, last = found + len(keys), keys[-1]
            self._stopping.wait(time.monotonic() - began)
        return found


def prefixes(row: Row) -> tuple[bytes, bytes]:
    """Return the prefixes of the keys of a namespace."""
    return data_prefix(row.number), import_prefix(row.number)


def _work(reference: weakref.ref[Remover], wanted: Flag) -> None:
    """The loop of the thread; it refers to the remover only while it works."""
    pause: float | None = 0.0
    while pause is not None:
        wanted.wait(pause)
        wanted.clear()
        remover = reference()
        pause = None if remover is None else remover.step()
        del remover

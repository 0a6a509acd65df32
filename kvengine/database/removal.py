"""Removal: the keys of deleted namespaces go in the background.

Invariants:

* What is being removed is in the catalog until its last key is gone, so a removal that a crash or
  a close cut short goes on at the next open.
* A removal waits between its batches for as long as they took, so that it takes half of what
  writers could have at most.
* The thread refers to store and catalog, not to the database, and ends with its work.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from kvengine.database.catalog import Catalog, Row
from kvengine.engine.changes import Flag
from kvengine.engine.holding import OwnedLock
from kvengine.engine.store import Store
from kvengine.errors import KvError, StoreClosed
from kvengine.namespace.layout import data_prefix, import_prefix

logger = logging.getLogger("kvengine")
BATCH_KEYS = 1000


class Remover:
    """A thread that is there while there is something to remove.

    Thread-safety: threads may share it.
    """

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store, self._catalog = store, catalog
        self._lock = OwnedLock()
        self._thread: threading.Thread | None = None
        self._stopping = Flag()

    def begin(self) -> None:
        """Remove what is to be removed, in the background."""
        with self._lock.held():
            if self._is_running() or self._stopping.is_set() or not self._catalog.deleting():
                return
            self._thread = threading.Thread(target=self._run, name="kvengine-removal", daemon=True)
            with contextlib.suppress(RuntimeError):  # the program ends: the next open does it
                self._thread.start()

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def after_fork(self) -> None:
        """In a child process: the thread is not there, nor is there anything to write to."""
        self._lock.after_fork_in_child()
        self._thread, self._stopping = None, Flag()

    def stop(self) -> None:
        """Let the thread end after its present batch."""
        self._stopping.set()
        self.wait()

    def wait(self) -> None:
        """Return when nothing is left to remove, or nothing more can be."""
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        try:
            while row := self._next():
                self._remove(row)
        except StoreClosed:
            self._end()
        except (KvError, OSError) as error:
            self._end()
            logger.warning("the keys of deleted namespaces stay until the next open: %s", error)

    def _next(self) -> Row | None:
        """Return what to remove now; with None the thread ends."""
        with self._lock.held():
            rows = [] if self._stopping.is_set() else self._catalog.deleting()
            if not rows:
                self._thread = None
            return rows[0] if rows else None

    def _end(self) -> None:
        with self._lock.held():
            self._thread = None

    def _remove(self, row: Row) -> None:
        """Delete what there is of a namespace, unless stopped before the end."""
        for prefix in (data_prefix(row.number), import_prefix(row.number)):
            while self._sweep(prefix):
                pass  # once more: a writer that was slow may have left something
        if not self._stopping.is_set():
            self._catalog.end_removal(row)

    def _sweep(self, prefix: bytes) -> int:
        """Delete the keys with a prefix; return how many there were."""
        found, last = 0, None
        while not self._stopping.is_set():
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

"""Removal: the keys of deleted namespaces go in the background.

Invariants:

* What is being removed is in the catalog until its last key is gone, so a removal that a crash or
  a close cut short goes on at the next open.
* A removal waits between its batches for as long as they took, so that it takes half of what
  writers could have at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from kvengine.database.catalog import Catalog, Row
from kvengine.engine.store import Store
from kvengine.errors import KvError
from kvengine.namespace.layout import data_prefix, import_prefix

BATCH_KEYS = 1000


class Remover:
    """A thread that is there while there is something to remove.

    Thread-safety: threads may share it.
    """

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store, self._catalog = store, catalog
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def begin(self) -> None:
        """Remove what is to be removed, in the background."""
        with self._lock:
            if self._thread is None and self._catalog.deleting() and not self._stopping.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="kvengine-removal", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Let the thread end after its present batch."""
        self._stopping.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def wait(self) -> None:
        """Return when nothing is left to remove, or nothing can be removed."""
        while True:
            with self._lock:
                thread = self._thread
            if thread is None:
                return
            thread.join()

    def _run(self) -> None:
        try:
            finished = all(self._remove(row) for row in self._rows())
        except (KvError, OSError):
            finished = False  # a store that is closed or full; the next delete or open goes on
        with self._lock:
            self._thread = None
        if finished:
            self.begin()  # a namespace may have been deleted just now

    def _rows(self) -> Iterator[Row]:
        while rows := self._catalog.deleting():
            yield from rows

    def _remove(self, row: Row) -> bool:
        """Delete the keys of a namespace and what imports left; False if it was stopped."""
        if not all(map(self._empty, (import_prefix(row.number), data_prefix(row.number)))):
            return False
        self._catalog.end_removal(row)
        return True

    def _empty(self, prefix: bytes) -> bool:
        """Delete all keys with a prefix; False if it was stopped."""
        last = None  # dead keys are passed over once, not anew for each batch
        while not self._stopping.is_set():
            began = time.monotonic()
            keys = list(self._store.keys(prefix, start_after=last, limit=BATCH_KEYS))
            if not keys and last is None:
                return True
            last = keys[-1] if keys else None  # at the end, once more from the beginning
            with self._store.batch(durability="os") as batch:
                for key in keys:
                    batch.delete(key)
            self._stopping.wait(time.monotonic() - began)
        return False

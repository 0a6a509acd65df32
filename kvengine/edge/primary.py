"""The primary: a store as the upstream of edges.

Invariants:

* `as_of` of an answer is the newest version before the value was read.
* Every change in the log reaches the change buffer in order.  A poll from before the change buffer
  reads the log; one from before the log gets the answer that changes are gone.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence

from kvengine.edge.change_buffer import EVENTS_PER_BATCH, CallLater, ChangeBuffer
from kvengine.edge.messages import Answer, ChangeBatch, ChangeEvent, Done, KeyRequest
from kvengine.edge.settings import Settings
from kvengine.engine.following.changes import Flag
from kvengine.engine.store import Store
from kvengine.entry import Change
from kvengine.errors import KvError, LogCompacted

logger = logging.getLogger("kvengine")
AFTER_ERROR_S = 1.0


class Primary:
    """A store that edges fetch from and poll.

    Args:
        store: an open store; it may be read-only and follow a writer in another process.
        settings: `change_buffer_bytes` and `push_bytes` of it.
        monotonic: returns the time, in seconds.
        later: calls a function after some seconds.
        concerns: returns whether changes of a key are sent to edges; None: all are.
        check: raises if a key must not be read any more; None: all may be read.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        monotonic: Callable[[], float],
        later: CallLater,
        concerns: Callable[[bytes], bool] | None = None,
        check: Callable[[bytes], None] | None = None,
    ) -> None:
        self.store, self._settings = store, settings
        self._concerns, self._check = concerns, check
        self._pumping = threading.Lock()
        self.change_buffer = ChangeBuffer(
            settings.change_buffer_bytes, monotonic, later, lambda: 0.0
        )
        self._begin_at_end()
        self.change_buffer.restart(self._tail.seen)
        # Locked until something was written.  An Event would not do: a signal handler that writes
        # while its thread is in set() would wait for itself.
        self._written = threading.Lock()
        self._written.acquire()
        self._thread: threading.Thread | None = None
        self._ended = Flag()

    # -- as an upstream

    def fetch(self, requests: Sequence[KeyRequest], done: Done) -> None:
        """Call `done` with an Answer for each key, or with the error instead."""
        try:
            answers = [self._answer(request) for request in requests]
        except (KvError, OSError) as error:
            done(error)
            return
        done(answers)

    def _answer(self, request: KeyRequest) -> Answer:
        if self._check is not None:
            self._check(request.key)
        as_of = self.store.version  # first: what is read then is at least as new
        entry = self.store.get_entry(request.key)
        if entry is None:
            return Answer(0, as_of, 0.0)
        if entry.version == request.known:
            return Answer(entry.version, max(as_of, entry.version), 0.0, unchanged=True)
        return Answer(
            entry.version,
            max(as_of, entry.version),
            0.0,
            entry.value,
            entry.metadata,
            entry.expires_at,
        )

    def poll(self, after: int, poll_timeout_s: float, done: Done) -> None:
        """Call `done` with the changes after a version, at the latest after `poll_timeout_s`."""
        try:
            self.pump(wait=False)
            behind = after < self.change_buffer.start
            changes = self._from_log(after) if behind else None
        except (KvError, OSError) as error:
            done(error)
            return
        if changes is not None:
            done(changes)
        else:
            self.change_buffer.poll(after, poll_timeout_s, done)

    def origin_version(self, done: Done) -> None:
        """Call `done` with the newest version."""
        try:
            version = self.store.version
        except (KvError, OSError) as error:
            done(error)
        else:
            done(version)

    # -- the log

    def pump(self, *, wait: bool = True) -> None:
        """Copy new changes from the log to the change buffer.

        Args:
            wait: if another thread is in pump(), wait and look again.  False: leave the rest to the
                thread of the primary; a poll that is sent from inside pump() must not wait for it.
        """
        if self._tail.seen == self.store.version or not self._pumping.acquire(blocking=wait):
            return
        try:
            found = self._new_events()
            if found is None:
                self._begin_at_end()
                self.change_buffer.restart(self._tail.seen)
            else:
                self.change_buffer.append(found, self._tail.seen)
        finally:
            self._pumping.release()

    def _begin_at_end(self) -> None:
        self._tail = self.store._parts.tail_from(self.store.version, b"")

    def _new_events(self) -> list[ChangeEvent] | None:
        """Return what is new in the log; None: a compaction has removed deletes before."""
        try:
            changes = self._tail.changes()
        except LogCompacted:
            return None
        # A tail from 0 is never refused: an empty replica misses no deletes.  An edge that has
        # received no changes may have copies, so it would miss them.
        if self._tail.seen < self.store._parts.manifest.forgotten:
            return None
        return [self._event(change) for change in changes if self._is_relevant(change)]

    def _is_relevant(self, change: Change) -> bool:
        return self._concerns is None or self._concerns(change.key)

    def _event(self, change: Change) -> ChangeEvent:
        value = change.value
        if change.kind != "put":
            return ChangeEvent(change.version, change.key, False)
        if value is None or len(value) > self._settings.push_bytes:
            return ChangeEvent(change.version, change.key, True)
        return ChangeEvent(
            change.version, change.key, True, value, change.metadata, change.expires_at
        )

    def _from_log(self, after: int) -> ChangeBatch:
        """Return the changes after a version that the change buffer no longer has."""
        newest, age, found = self.store.version, 0.0, []
        upto = newest
        try:
            for change in self.store.tail(after):
                if self._is_relevant(change):
                    found.append(self._event(change))
                if len(found) == EVENTS_PER_BATCH:
                    upto, age = found[-1].version, float("inf")
                    break
        except LogCompacted:
            return ChangeBatch(after, newest, 0.0, gone=True)
        if after < self.store._parts.manifest.forgotten:  # from 0; see _new_events
            return ChangeBatch(after, newest, 0.0, gone=True)
        # Changes that came during the read may be missing from it: the next poll returns them.
        return ChangeBatch(after, upto, age, tuple(n for n in found if n.version <= upto))

    # -- the thread

    def begin(self) -> None:
        """Start a thread that copies changes to the change buffer as they come."""
        self._thread = threading.Thread(target=self._run, name="kvengine-primary", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; the store stays open."""
        self._ended.set()
        self.change_buffer.close()
        self._wake()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        with self.store._parts.waiting.listening(self.store._parts, self._wake) as look_s:
            self._follow(lambda: self._written.acquire(timeout=look_s))

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is awake already
            self._written.release()

    def _follow(self, wait: Callable[[], object]) -> None:
        said = ""
        while not self._ended.is_set():
            try:
                self.pump()
                wait()
            except (KvError, OSError) as error:
                if self._ended.is_set() or self.store.closed:
                    return
                if str(error) != said:  # not once per second
                    logger.warning("can't send changes to edges from this process: %s", error)
                said = str(error)
                self._ended.wait(AFTER_ERROR_S)

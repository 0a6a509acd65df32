"""The change buffer: recent changes, for the edges that poll this node.

Invariants:

* It holds every change between `start` and `version`, in order; older ones are evicted to stay
  within the memory limit.
* A poll from before `start` gets the answer that changes are gone, never only some of them.
* A poll is answered once: when something changes, or at its timeout.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kvengine.edge.messages import ChangeBatch, ChangeEvent, Done

EVENT_BYTES = 200  # of memory, besides key, value and metadata
EVENTS_PER_BATCH = 10_000

CallLater = Callable[[float, Callable[[], None]], object]  # calls a function in so many seconds


class BufferedChange(NamedTuple):
    """A change in the change buffer."""

    event: ChangeEvent
    made_at: float  # when it was made, on the clock of this node


class Waiter(NamedTuple):
    """A poll that waits for a change."""

    after: int
    done: Done
    since: float


class ChangeBuffer:
    """Recent changes, and the polls that wait for the next one.

    Args:
        room: the bytes of memory for changes.
        monotonic: returns the time, in seconds.
        later: calls a function after some seconds.
        age: returns how long ago, at most, nothing newer than its content existed.

    Thread-safety: threads may share it; `done` of a poll is called without a lock.
    """

    def __init__(
        self, room: int, monotonic: Callable[[], float], later: CallLater, age: Callable[[], float]
    ) -> None:
        self._room, self._monotonic, self._later, self._age = room, monotonic, later, age
        self._lock = threading.RLock()  # a finalizer may close it while its thread holds it
        # Changes come in order.  An append is one step, whatever interrupts the thread; to add to a
        # SortedKeyList takes several, and what an exception left between them would stay wrong.
        self._entries: list[BufferedChange] = []
        self._bytes = 0
        self._waiters: dict[int, Waiter] = {}
        self._tickets = 0
        self.start = self.version = 0

    def restart(self, version: int) -> None:
        """Drop everything: changes up to this version are unknown here."""
        with self._lock:
            self._entries.clear()
            self._bytes, self.start, self.version = 0, version, version
        self._wake()

    def append(self, events: Iterable[ChangeEvent], upto: int) -> None:
        """Add changes; there are no others up to this version."""
        now = self._monotonic()
        with self._lock:
            for event in events:
                self._entries.append(BufferedChange(event, now - event.ago))
                self._bytes += _size(event)
            if self._bytes > self._room:
                self._drop(self._room * 3 // 4)
            self.version = max(self.version, upto)
        self._wake()

    def _drop(self, room: int) -> None:
        """Evict the oldest changes, many at once, because the others move in the list."""
        count = 0
        while self._bytes > room:
            self._bytes -= _size(self._entries[count].event)
            count += 1
        self.start = self._entries[count - 1].event.version
        del self._entries[:count]

    def poll(self, after: int, poll_timeout_s: float, done: Done) -> None:
        """Call `done` with the changes after a version, or wait until there are some.

        Args:
            after: a version.
            poll_timeout_s: seconds after which it gets a batch without changes.
            done: called with a ChangeBatch.
        """
        with self._lock:
            waits = self.start <= after == self.version
            if waits:
                self._tickets += 1
                ticket = self._tickets
                self._waiters[ticket] = Waiter(after, done, self._monotonic())
        if waits:
            self._later(poll_timeout_s, lambda: self._expire(ticket))
        else:
            done(self.changes(after))

    def changes(self, after: int) -> ChangeBatch:
        """Return what has changed since a version."""
        age, now = self._age(), self._monotonic()  # before reading the entries
        with self._lock:
            if after < self.start:
                return ChangeBatch(after, self.version, age, gone=True)
            first = self._first(after)
            found = [
                event._replace(ago=now - made_at)
                for event, made_at in self._entries[first : first + EVENTS_PER_BATCH]
            ]
            upto = max(after, self.version) if after <= self.version else self.version
            if first + len(found) < len(self._entries):
                upto, age = found[-1].version, float("inf")
        return ChangeBatch(after, upto, age, tuple(found))

    def entries(self, after: int) -> list[BufferedChange]:
        """Return the buffered changes after a version, and when they were made."""
        with self._lock:
            return self._entries[self._first(after) :]

    def _first(self, after: int) -> int:
        return bisect_right(self._entries, after, key=lambda entry: entry.event.version)

    def close(self) -> None:
        """Drop all waiting polls."""
        with self._lock:
            self._waiters.clear()

    def _expire(self, ticket: int) -> None:
        with self._lock:
            waiter = self._waiters.pop(ticket, None)
        if waiter is not None:
            self._answer(waiter, self.changes(waiter.after))

    def _answer(self, waiter: Waiter, changes: ChangeBatch) -> None:
        waiter.done(changes._replace(waited=self._monotonic() - waiter.since))

    def _wake(self) -> None:
        with self._lock:
            awake = [t for t, waiter in self._waiters.items() if waiter.after != self.version]
            woken = [self._waiters.pop(ticket) for ticket in awake if ticket in self._waiters]
        answers: dict[int, ChangeBatch] = {}  # most polls are from the same version
        for waiter in woken:
            if waiter.after not in answers:
                answers[waiter.after] = self.changes(waiter.after)
            self._answer(waiter, answers[waiter.after])


def _size(event: ChangeEvent) -> int:
    return EVENT_BYTES + len(event.key) + len(event.value or b"") + len(event.metadata)

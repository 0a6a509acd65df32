"""Named consumers: readers of the log whose position is stored.

Invariants:

* Unacknowledged changes are returned again: after a crash, and by each new call.
* Changes are returned, and a position moves, only under the lease of the name (leases.py); the
  position is read again after the lease was taken.  So one process gets a change, and another one
  gets it only after the first has released the lease or died without acknowledging the change.
* A version that was not returned under the lease can't be acknowledged.
* A consumer that is too far behind gets an error, and moves only when it calls restart().
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from kvengine.engine.following import leases, positions
from kvengine.engine.following.positions import Position
from kvengine.engine.following.tail import LogRange, Tail
from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.log.log_walk import Selector
from kvengine.engine.parts import StoreParts
from kvengine.entry import Change
from kvengine.errors import InvalidRequest, LogCompacted
from kvengine.file.lease import Lease
from kvengine.file.system import fork_watch

SIZE = 1000  # changes in a batch
BATCH_BYTES = 8 << 20
LOOK_S = 60.0  # one that has everything says so now and then while it waits
LEASE_LOOK_S = 0.05  # between two attempts to take a lease that another process has

C = TypeVar("C")


class ConsumerInfo(NamedTuple):
    """The position of a consumer."""

    name: str
    position: int  # changes up to this version are acknowledged
    lag: int  # versions behind the store
    seen_at: float  # seconds since the epoch; when it last came forward, or had everything


class Consumer(Generic[C]):
    """A named reader of the log of a store; store.consumer() and db.consumer() return one.

    The store keeps its position, and keeps deletes for it as long as it moves within the store's
    `retention_s`.  Acknowledge a change after you have applied it: after a crash, changes not yet
    acknowledged are returned again, so applying a change twice must be harmless.  While the
    position is 0, it is unknown what was applied before: start as after restart().

    Any number of processes may use the same name; one at a time has its *lease*.  changes() and
    batches() take the lease when they begin.  It lasts, so that changes can be acknowledged,
    until release(), the end of the store or of the process, or until the last Consumer of the name
    is dropped.  Meanwhile another process that follows waits, and then continues after the last
    acknowledged change.

    Thread-safety: threads may share it, but each call of changes() returns the same changes; so do
    several consumers with the same name in one Store or Database.
    """

    def __init__(
        self,
        store: StoreParts,
        name: object,
        show: Callable[[Change], C | None],
        prefix: bytes = b"",
    ) -> None:
        self._store, self._show, self._keys = store, show, Selector(prefix)
        self._lock = OwnedLock()  # of what is given, and of the lease
        self._lease: Lease | None = None
        self._lost = store.lost_after  # as of the present scan
        self._name = positions.checked_name(name)
        self._base = 0  # of the present scan
        store.check_usable()
        if positions.load(store, self._name) is None:
            positions.change(
                store, self._name, lambda old: old or positions.begun(store, self._name)
            )
        self._given = self._kept = self.position  # given out, and acknowledged, under the lease
        fork_watch(self, Consumer._after_fork)

    def _after_fork(self) -> None:
        self._lock.after_fork_in_child()

    @property
    def name(self) -> str:
        """The name under which the store keeps its position."""
        return self._name

    @property
    def position(self) -> int:
        """Changes up to this version are acknowledged."""
        return self._load().position

    @property
    def lag(self) -> int:
        """How many versions the store is ahead."""
        return max(0, self._store.version - self.position)

    def changes(self, follow: bool = False, timeout: float | None = None) -> Iterator[C]:
        """Return an iterator over the changes after the position, in order.

        If another process has the lease, the iterator ends at once, or with `follow` waits for it.

        Args:
            follow: wait for more changes, and for the lease; otherwise end with the present ones.
            timeout: with `follow`, end after this many seconds without a change; None: never.

        Raises:
            ConsumerLocked: the lease was lost: its file was removed.
            StorageError: this process may not write to the folder.
            LogCompacted: deletes after the position have been compacted away, or changes before it
                were lost (by a power cut, or because a backup was restored); see restart().
        """
        for lease, part in self._ranges(SIZE, follow, timeout):
            for change in part.changes:
                if not self._has(lease):
                    return
                shown = self._show(change)
                self._give(change.version)
                if shown is not None:
                    yield shown
            self._give(part.upto)

    def batches(
        self, size: int = SIZE, *, follow: bool = False, timeout: float | None = None
    ) -> Iterator[list[C]]:
        """Return an iterator over lists of up to `size` changes; see changes().

        It does not wait for a list to be full.
        """
        check_size(size)
        return self._batches(size, follow, timeout)

    def _batches(self, size: int, follow: bool, timeout: float | None) -> Iterator[list[C]]:
        for _, part in self._ranges(size, follow, timeout):
            shown = self._shown_of(part)
            if shown:
                yield shown

    def _shown_of(self, part: LogRange) -> list[C]:
        """Return the visible changes of a range, which may be acknowledged now."""
        shown = [c for change in part.changes if (c := self._show(change)) is not None]
        self._give(part.upto)
        return shown

    def _note_read(self, version: int) -> None:
        """Say that changes up to a version were read in another way; they may be acknowledged.

        Raises:
            ConsumerLocked: another process has the lease.
        """
        self._must_have_lease()
        self._give(version)

    def acknowledge(self, version: int) -> None:
        """Record in the store that all changes up to a version have been applied.

        A version below the position changes nothing.

        Raises:
            InvalidRequest: this object has not returned that version under its lease.
            ConsumerLocked: the lease was lost, and with it the right to move the position.
            LogCompacted: changes already returned have been lost; continue after the position.
        """
        if isinstance(version, bool) or not isinstance(version, int) or version < 0:
            raise InvalidRequest(f"a version must be an int of at least 0, not {version!r}")
        lease = self._lease
        given = self._kept if lease is None else self._given
        if version > given:
            raise InvalidRequest(
                f"version {version} was not given to consumer {self._name!r}, only up to {given}"
            )
        store = self._store
        store.check_usable()
        if lease is None:
            return
        if store.options.durability != "os":
            store.sync()  # a position must not survive a power cut that its changes do not
        if store.lost_after != self._lost:
            raise LogCompacted(version, store.lost_after[1] if store.lost_after else 0)

        def move(old: Position) -> Position:
            if not lease.is_held:
                raise leases.locked(store, self._name)
            return positions.moved(old, version, self._base, store.options.clock.time())

        self._change(move)
        self._kept = max(self._kept, version)

    def release(self) -> None:
        """Release the lease, so that another process can get the next changes.

        Iterators already started end; the next one takes the lease again.  Without a lease, this
        does nothing.
        """
        with self._lock.held():
            leases.leases_of(self._store).leave(self._name, self)
            self._lease, self._given = None, self._kept

    def restart(self) -> None:
        """Start over at version 0: first comes a snapshot of the present state, then new changes.

        The snapshot has every live key, but not all deleted keys.  So the consumer must first drop
        all keys that it holds; or it records each key that it gets, and drops the others when
        changes() has ended without `follow`.

        Raises:
            ConsumerLocked: another process has the lease.
        """
        self._must_have_lease()
        self._change(lambda _: positions.begun(self._store, self._name))
        with self._lock.held():
            self._given = self._kept = self._base = 0

    def remove(self) -> None:
        """Remove the consumer and its position.  Removing it twice is not an error."""
        self.release()
        for suffix in (positions.SUFFIX, positions.SUFFIX + ".tmp", leases.SUFFIX):
            self._store.directory.remove(self._name + suffix)

    def __repr__(self) -> str:
        return f"<kvengine.Consumer {self._name!r}>"

    def _load(self) -> Position:
        self._store.check_usable()
        return self._there(positions.load(self._store, self._name))

    def _there(self, found: Position | None) -> Position:
        if found is None:
            raise InvalidRequest(f"consumer {self._name!r} was removed")
        return found

    def _change(self, action: Callable[[Position], Position]) -> None:
        self._store.check_usable()
        positions.change(self._store, self._name, lambda old: action(self._there(old)))

    def _give(self, version: int) -> None:
        if version > self._given:
            with self._lock.held():
                self._given = max(self._given, version)

    def _ranges(
        self, size: int, follow: bool, timeout: float | None
    ) -> Iterator[tuple[Lease, LogRange]]:
        deadline = None if timeout is None else time.monotonic() + timeout
        lease = self._wait_for_lease(follow, deadline)
        if lease is None:
            return
        tail = self._tail()
        while self._goes_on(lease):
            for part in self._read(tail, size):
                if timeout is not None and part.changes:
                    deadline = time.monotonic() + timeout
                yield lease, part
                if not self._goes_on(lease):
                    return
            rest = LOOK_S if deadline is None else deadline - time.monotonic()
            if not follow or rest <= 0:
                return
            self._renew_lease()
            self._store.waiting.wait(self._store, tail.seen, min(rest, LOOK_S))

    def _wait_for_lease(self, follow: bool, deadline: float | None) -> Lease | None:
        while (lease := self._take_lease()) is None and follow:
            rest = LEASE_LOOK_S if deadline is None else deadline - time.monotonic()
            if rest <= 0:
                return None
            time.sleep(min(rest, LEASE_LOOK_S))  # gevent replaces it
        return lease

    def _must_have_lease(self) -> None:
        if self._take_lease() is None:
            raise leases.locked(self._store, self._name)

    def _take_lease(self) -> Lease | None:
        """Return the lease, taking it if need be; None if another process has it."""
        self._store.check_usable()
        with self._lock.held():
            lease = self._lease
            if lease is None or not lease.is_held:
                self._load()  # one that was removed leaves no lease behind
                lease = leases.leases_of(self._store).take(self._store, self._name, self)
                if lease is not None:
                    self._given = self._kept = self.position  # others may have moved it
                    self._lease = lease
            return lease

    def _has(self, lease: Lease) -> bool:
        """False if a lease was let go of: then the iterators that began under it end."""
        return self._lease is lease and not lease.is_over

    def _goes_on(self, lease: Lease) -> bool:
        """The same as _has(), and see whether it was lost.

        Raises:
            ConsumerLocked: it was: its file is gone.
        """
        if not self._has(lease):
            return False
        if not lease.is_held:
            raise leases.locked(self._store, self._name)
        return True

    def _tail(self) -> Tail:
        """Return the place in the log behind what was acknowledged; the async form uses it."""
        start = self._load()
        self._lost = self._store.lost_after
        if start.lost is not None:  # and others may have been given their versions since
            raise LogCompacted(start.position, start.lost)
        if start.position > self._store.version:
            raise LogCompacted(start.position, self._store.version)
        return Tail(self._store, start.position, self._keys, start.forgotten)

    def _read(self, tail: Tail, size: int) -> Iterator[LogRange]:
        """Return an iterator over what is new in a tail; the async form uses it."""
        for part in tail.ranges(size, BATCH_BYTES):
            self._base = tail.base
            yield part

    def _renew_lease(self) -> None:
        """One that waits for changes with nothing to acknowledge comes forward, too."""
        found, now = self._load(), self._store.options.clock.time()
        late = now - found.seen_at > self._store.options.retention_s / 8
        if late and found.position >= self._given:
            self._change(lambda old: positions.moved(old, 0, 0, now))


def check_size(size: object) -> None:
    """Refuse what can't be the number of changes in a batch."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidRequest(f"size must be an int of at least 1, not {size!r}")


def consumers_of(store: StoreParts) -> list[ConsumerInfo]:
    """Return all consumers of a store, by name."""
    version = store.version
    found = (positions.load(store, name) for name in positions.names(store))
    return [
        ConsumerInfo(at.name, at.position, max(0, version - at.position), at.seen_at)
        for at in found
        if at is not None
    ]

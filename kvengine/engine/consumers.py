"""Consumers: readers of the log with a name, whose place in it is kept.

Invariants:

* A consumer goes on behind what was acknowledged: a change that was given out, and not
  acknowledged, is given out again.  None is left out.
* A consumer that may have missed a delete is told so, and not given anything more.
* Of several who take up a consumer the last one has it; the others can't acknowledge any more.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from kvengine.engine import positions
from kvengine.engine.positions import Position
from kvengine.engine.tail import Tail, follow
from kvengine.entry import Change, ConsumerInfo
from kvengine.errors import ChangesGone, ConsumerTaken, InvalidRequest

if TYPE_CHECKING:
    from kvengine.engine.store import Store

Shown = TypeVar("Shown")


class Consumer(Generic[Shown]):
    """A reader of the log whose place is kept, across restarts; see Store.consumer().

    >>> from kvengine import Store
    >>> store = Store.in_memory()
    >>> search = store.consumer("search-index")
    >>> store.put(b"a", b"1"), store.put(b"b", b"2")
    (1, 2)
    >>> for change in search.changes():
    ...     print(change.version, change.key)    # do something with it, then say so
    ...     search.acknowledge(change.version)
    1 b'a'
    2 b'b'
    >>> search.lag
    0

    Changes come at least once: who dies between doing something and acknowledging it is given the
    change again.  To apply a change twice must therefore do no harm; its version tells it apart.

    Thread-safety: for one thread; another one, or another process, may take over by asking for
    the consumer again.
    """

    def __init__(
        self, store: Store, name: str, prefix: bytes, shown: Callable[[Change], Shown | None]
    ) -> None:
        self.name = positions.check_name(name)
        self._store, self._prefix, self._shown = store, prefix, shown
        self._lock = threading.Lock()
        store.check_usable()
        if store.is_frozen:
            raise InvalidRequest("a snapshot has no consumers: ask the store itself")
        found = positions.load(store.directory, name)
        if found is None:
            found = Position(name, 0, begun=False, since=0, moved_at=self._now(), owner="")
        self._state = replace(found, owner=secrets.token_hex(8))
        positions.save(store.directory, self._state)
        self._given = self._state.position

    def _now(self) -> float:
        return self._store.options.clock.time()

    @property
    def position(self) -> int:
        """Changes up to this version were acknowledged."""
        return self._state.position

    @property
    def lag(self) -> int:
        """How many versions the store is ahead."""
        return max(self._store.version - self.position, 0)

    # -- reading

    def changes(self, *, follow: bool = False, timeout: float | None = None) -> Iterator[Shown]:
        """Return an iterator over the changes behind what was acknowledged, in order.

        Args:
            follow: wait for more; else end with what is there now.
            timeout: with `follow`, end when nothing came for so many seconds; None: never.

        Raises:
            ChangesGone: the consumer has not moved for longer than the store's `retention_s`, and
                deletes that it has not seen have been forgotten; see restart().
        """
        for change in self._raw(follow, timeout):
            if change is not None:
                self._given = max(self._given, change.version)
                shown = self._shown(change)
                if shown is not None:
                    yield shown

    def batches(
        self, size: int = 1000, *, follow: bool = False, timeout: float | None = None
    ) -> Iterator[list[Shown]]:
        """Return an iterator over lists of up to `size` changes; acknowledge() after each.

        With `follow` a list is given as soon as there is nothing more at the moment.  Arguments
        and errors as of changes().
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidRequest(f"size must be a number from 1 on, not {size!r}")
        batch: list[Change] = []
        for change in self._raw(follow, timeout):
            if change is not None:
                batch.append(change)
            if batch and (change is None or len(batch) == size):
                yield self._shown_of(batch)
                batch = []
        if batch:
            yield self._shown_of(batch)

    def _shown_of(self, batch: list[Change]) -> list[Shown]:
        self._given = max(self._given, batch[-1].version)
        return [shown for change in batch if (shown := self._shown(change)) is not None]

    def _raw(self, follows: bool, timeout: float | None) -> Iterator[Change | None]:
        """Yield changes, and with `follows` None each time before waiting."""
        tail = self._begin()
        try:
            if follows:
                for change in follow(self._store, tail, timeout):
                    if change is None:
                        self._given = max(self._given, tail.seen)
                    yield change
            else:
                yield from tail.news()
                self._given = max(self._given, tail.seen)
        except ChangesGone as error:
            error.add_note(f"consumer {self.name!r}: restart() begins again with the whole store")
            raise

    def _begin(self) -> Tail:
        """Return the place in the log from which to go on."""
        state = self._state
        self._store.check_usable()  # which brings the manifest of a follower up to date
        if state.position == 0:
            forgotten = self._store.manifest.forgotten
            if not state.begun:
                self._save(replace(state, begun=True, since=forgotten, moved_at=self._now()))
            elif state.since < forgotten:
                error = ChangesGone(state.since, forgotten)
                error.add_note(f"consumer {self.name!r}: restart() begins again")
                raise error
        self._given = state.position
        return self._store.tail_from(state.position, self._prefix)

    # -- saying how far it is

    def acknowledge(self, version: int | None = None) -> None:
        """Write down that all changes up to a version need not be given out again.

        It is on disk when the call returns; with many small changes, acknowledge some at once.

        Args:
            version: of a change that was given out; None: of the last one.

        Raises:
            InvalidRequest: no change of that version has been given out.
            ConsumerTaken: another process, or thread, has taken up the consumer since.
        """
        if version is None:
            version = self._given
        if isinstance(version, bool) or not isinstance(version, int) or version < 0:
            raise InvalidRequest(f"version must be that of a change, not {version!r}")
        if version > self._given:
            raise InvalidRequest(
                f"version {version} can't be acknowledged: {self.name!r} was given changes up to "
                f"{self._given}"
            )
        if version > self.position:
            self._save(replace(self._state, position=version, moved_at=self._now()))

    def restart(self) -> None:
        """Begin again with the whole store, after ChangesGone.

        The changes that come then are the newest ones of all keys that there are, and after them
        what is new: a snapshot and the catching up are one scan.  Deletes that were forgotten are
        not among them.  So drop all that was built from earlier changes before; or note which
        keys come up to the version that the store has now, and then drop the others.
        """
        self._save(replace(self._state, position=0, begun=False, moved_at=self._now()))
        self._given = 0

    def remove(self) -> None:
        """Forget the consumer; nothing is kept for it any more."""
        self._check_owner()
        self._store.directory.remove(self.name + positions.SUFFIX)
        self._store.directory.sync()

    def _save(self, state: Position) -> None:
        with self._lock:
            self._check_owner()
            positions.save(self._store.directory, state)
            self._state = state

    def _check_owner(self) -> None:
        self._store.check_usable()
        found = positions.load(self._store.directory, self.name)
        if found is None or found.owner != self._state.owner:
            raise ConsumerTaken(self.name, removed=found is None)

    def __repr__(self) -> str:
        return f"<kvengine.Consumer {self.name!r} at version {self.position}>"


def infos(store: Store) -> list[ConsumerInfo]:
    """Return what is known of each consumer of a store, by name.

    Raises:
        CorruptData: the position of one of them is damaged; the error names its file.
    """
    version = store.version
    found = (positions.load(store.directory, name) for name in positions.names(store.directory))
    return [
        ConsumerInfo(one.name, one.position, max(version - one.position, 0), one.moved_at)
        for one in found
        if one is not None
    ]

"""Follower: a replica of a store, kept equal to it by its log.

Invariants:

* A reader of the replica sees a state that its source once had, never a mixture.  Before the first
  one is complete there is nothing to read.
* A replica that is too far behind loads a new copy beside the old one, so no delete is missed.
* A source that is another store, or lost what the replica has, is an error; nothing is overwritten.
* Until promote() no user and no other process can write to the replica; then it follows no more.
* What an interrupted pull has left is discarded before the next one.  A second call in the same
  thread, from a handler or a finalizer, fails at once.  In a forked child nothing is followed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Self

from kvengine.engine.following import replica
from kvengine.engine.following.changes import Changes
from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.store import Store
from kvengine.errors import (
    ConsumerLocked,
    CorruptData,
    InvalidRequest,
    LogCompacted,
    NotCaughtUp,
    ReplicaDiverged,
    StoreClosed,
    copied_error,
)
from kvengine.file.system import fork_watch
from kvengine.replication import origin
from kvengine.replication.applier import Applier, MissingPiece
from kvengine.replication.difference import View, find_difference, moment_after
from kvengine.replication.divergence_check import DivergenceCheck
from kvengine.replication.frozen import FrozenStore, Snapshot
from kvengine.replication.local_source import LocalSource
from kvengine.replication.network.messages import Piece, Source
from kvengine.replication.promoting import checked_uuid
from kvengine.replication.selection import KeyRange, Selection, select

logger = logging.getLogger("kvengine")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0  # after a failure
NOTE_S = 30.0  # how often a position that no record tells is written down
HOPELESS = (ReplicaDiverged, CorruptData, InvalidRequest, StoreClosed)


class Follower:
    """A replica of another store.

    Args:
        source: where the log comes from.
        path: the folder of the replica; None: in memory.
        prefixes: hold only keys that begin with one of them; None: all keys.
        name: as a consumer of this name the source, if it is of this process, keeps deletes for
            the replica, for its `retention_s`; None: a replica that is too far behind starts over.
        background: follow in a thread of its own; else only catch_up() does.
        start_over: replace what the folder holds: a promoted store, or a replica of other keys.
        options: of the replica, as of Store; other processes may read it with read_only=True.

    Raises:
        InvalidRequest: the folder holds a store that is not a replica, or a replica of other keys.
        ReplicaDiverged: the folder holds a replica of another store.
        StoreLocked: another process has the folder open without read_only=True.

    Thread-safety: threads may share it.
    """

    def __init__(
        self,
        source: Source,
        path: Any = None,
        *,
        prefixes: Iterable[bytes] | None = None,
        name: str | None = None,
        background: bool = True,
        start_over: bool = False,
        **options: Any,
    ) -> None:
        self._source: Source = source
        self._consumer = origin.consumer_of(source, name)
        self._changed = Changes()  # of position, error and what ended
        self._lock = OwnedLock()  # its holder may write to the replica
        self._is_whole = True  # False: a piece was being taken in
        self._ended = self._promoted = self._is_forked = False
        self._thread: threading.Thread | None = None
        self._applier: Applier | None = None
        self.error: BaseException | None = None  # why it stopped, or was delayed
        self._shares = not options.get("exclusive", False)  # as soon as it is promoted
        self._store = origin.open_alone(path, options, start_over=start_over)
        try:
            self._selection = self._select(prefixes)
            self._begin()
            fork_watch(self, Follower._after_fork)
            if background:
                name = "kvengine-replica"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
        except BaseException:
            self._ended = True
            self._store.close()
            raise

    def _after_fork(self) -> None:
        """In a child process: neither the thread nor the lock of the replica is there."""
        self._changed, self._thread = Changes(), None
        self._lock.after_fork_in_child()
        self._ended = self._is_forked = True
        self.error = StoreClosed(origin.FORKED)
        if not self._promoted:
            origin.only_read(self._store)

    def _select(self, prefixes: Iterable[bytes] | None) -> Selection:
        return select(prefixes)

    def _begin(self) -> None:
        """See what the folder holds."""
        store = self._store
        uuid = checked_uuid(self._source, store, now=store._parts.manifest.origin is None)
        self._is_checked = uuid is not None
        self._noted_at = time.monotonic()
        held = origin.position_in(store, uuid, self._selection)
        self.position = held or 0  # it holds what the source held at this version
        self._starts_over = held is None  # what comes takes the place of all that is there
        self._ready = not self._starts_over

    # -- what it holds

    @property
    def store(self) -> Store:
        """The replica: it refuses writes until promote().

        Raises:
            NotCaughtUp: the first copy is not complete yet; see wait().
        """
        if not self._ready:
            text = "does not yet have a complete first copy of its source"
            raise NotCaughtUp(f"the replica in {self._store.path} {text}") from self.error
        return self._store

    @property
    def lag(self) -> int:
        """How many versions the source is known to be ahead."""
        return max(0, self._source.version - self.position)

    @property
    def caught_up(self) -> bool:
        """True if the replica has the newest known state of its source."""
        return self._ready and self.lag == 0

    def wait(self, version: int | None = None, timeout: float | None = None) -> bool:
        """Wait until the replica has reached a version; return False on a timeout.

        Args:
            version: None: the newest version of the source, as of now.
            timeout: seconds; None: no limit.

        Raises:
            ReplicaDiverged: or another error after which it does not continue.
            StoreClosed: the replica was closed or promoted before that.
        """
        origin.check_not_inside(self._lock)
        goal = self._source.version if version is None else version

        def is_over() -> bool:
            return (self._ready and self.position >= goal) or self._ended

        self._changed.wait_for(is_over, timeout)
        if self._ready and self.position >= goal:
            return True
        if self._ended:
            raise copied_error(self.error) if self.error else StoreClosed("it does not follow")
        return False

    # -- following

    def catch_up(self) -> int:
        """Copy what the source has now; return the version of the replica.

        Raises:
            ReplicaDiverged: the source is not the one that the replica followed.
            StoreClosed: the replica was closed or promoted.
        """
        if self._thread is not None:
            self.wait()
            return self.position
        origin.check_not_inside(self._lock)
        with self._lock.held():
            if self._ended:
                raise copied_error(self.error) if self.error else StoreClosed("closed or promoted")
            self._follow(self._source, follow=False)
            return self.position

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._ended:
            before = self.position
            try:
                self._follow(self._source, follow=True)
            except HOPELESS as error:
                self._end(error)
                return
            except Exception as error:  # noqa: BLE001  # whatever a transport raises
                if self.error is None:  # once, not with each attempt
                    logger.warning("a replica can't follow its source and will retry: %s", error)
                self.error = error
            except BaseException as error:  # noqa: BLE001  # SystemExit of a transport
                self._end(error)
                return
            pause_s = FIRST_PAUSE_S if self.position > before else min(2 * pause_s, LONGEST_PAUSE_S)
            self._changed.wait_for(lambda: self._ended, pause_s)

    def _end(self, error: BaseException | None) -> None:
        if not self._ended:
            self.error, self._ended = error, True
        self._changed.notify()

    def _follow(self, source: Source, *, follow: bool) -> None:
        """Take over what the source gives; without `follow`, up to what it has now."""
        compares = True
        if not self._is_checked:
            self._is_checked = checked_uuid(self._source, self._store, now=True) is not None
        while True:
            with self._lock.held():
                if self._ended:
                    return
                self._settle()
                if self._applier is None:
                    self._applier = Applier(
                        self._store, self.position, self._selection, start_over=self._starts_over
                    )
                applier, check = self._applier, None
                if compares and not self._starts_over and applier.seen == self.position:
                    check = DivergenceCheck(self._store, self.position)
            if source.version < applier.seen:
                raise ReplicaDiverged(
                    f"the source is at version {source.version}, but had sent {applier.seen} "
                    "before: it lost changes; nothing was overwritten"
                )
            after = applier.seen if check is None else check.after
            try:
                self._feed(source.pieces(after, follow=follow), applier, check)
                return
            except LogCompacted:
                if after < applier.seen:  # only the versions to compare with are gone
                    compares = False
                    continue
                with self._lock.held():
                    if self._applier is not applier:
                        return
                    self._drop_applier()
                    self._starts_over = True

    def _settle(self) -> None:
        """After an interruption: what is not whole must come again; see what the replica holds."""
        if self._is_whole:
            return
        self._drop_applier()
        held = self._store._parts.manifest.origin
        if held is not None and held.position is not None:
            self._moved(max(self.position, held.position, self._store._parts.applied_version))
        self._is_whole = True

    def _feed(self, pieces: Iterator[Piece], to: Applier, check: DivergenceCheck | None) -> None:
        for piece in pieces:
            with self._lock.held():
                if self._ended or self._applier is not to:  # closed, or moved on without us
                    return
                if check is not None:
                    check.compare(piece)
                try:
                    self._is_whole = False
                    if to.take(piece):
                        self._moved(to.position)
                    self._is_whole = True
                except MissingPiece:
                    self._is_whole = True
                    raise
                except BaseException:
                    self._settle()
                    raise
                if self._ready and time.monotonic() - self._noted_at > NOTE_S:
                    self._note()

    def _drop_applier(self) -> None:
        """What is not whole must come again."""
        with self._lock.held():
            applier, self._applier = self._applier, None
            if applier is not None and not self._store.closed:
                applier.discard()

    def _moved(self, position: int) -> None:
        """The replica holds what the source held at a version."""
        self.position, self._ready, self._starts_over, self.error = position, True, False, None
        self._changed.notify()

    def _note(self) -> None:
        self._noted_at = time.monotonic()
        if self._ready and self.position > self._store._parts.applied_version:
            replica.note_position(self._store._parts, self.position)
        if self._ready and self._consumer is not None:
            with contextlib.suppress(StoreClosed, ConsumerLocked):  # another process has the name
                self._consumer._note_read(self.position)
                self._consumer.acknowledge(self.position)

    # -- proof

    def differences(self, view: View | None = None, *, limit: int = 100) -> list[KeyRange]:
        """Catch up to exactly the version of a view of the source; return where the two differ.

        An empty list proves that the replica equals the source at that version (then `position`).
        Otherwise each differing key is a range of its own; the search ends after `limit` of them.
        The source may change meanwhile; the replica follows again afterwards.

        Args:
            view: the source as of one moment; None: as of now, if the source is in this process.
            limit: the largest number of keys to find.

        Raises:
            InvalidRequest: the view is older than the replica, or there is none.
        """
        origin.check_not_inside(self._lock)
        with self._lock.held(), contextlib.ExitStack() as stack:
            if self._ended:
                raise copied_error(self.error) if self.error else StoreClosed("closed or promoted")
            if view is None:
                if not isinstance(self._source, LocalSource):
                    raise InvalidRequest("this source gives no view of itself; give one")
                view = stack.enter_context(Snapshot(self._source.store))
            if not self._ready or self.position < view.version:
                self._drop_applier()
                self._follow(view, follow=False)
                self._drop_applier()
            if self.position != view.version:
                raise InvalidRequest(
                    f"the view is at version {view.version}, the replica has come to "
                    f"{self.position} already; compare with a newer view"
                )
            return find_difference(
                view,
                FrozenStore(self._store),
                moment=moment_after(self._store._parts.options.clock.time()),
                ranges=self._selection.ranges(),
                limit=limit,
            )

    # -- the end

    def promote(self) -> Store:
        """Stop following and allow writes; return the store at `position`, which the caller closes.

        Raises:
            NotCaughtUp: the first copy is not complete yet.
            StoreClosed: the replica was closed.
        """
        origin.check_not_inside(self._lock)
        with self._lock.held():
            if self._promoted:
                return self._store
            if self._is_forked:  # the parent follows, and may promote
                raise StoreClosed(origin.FORKED)
            store = self.store
            store._parts.check_usable()
            self._drop_applier()
            replica.promote(store._parts, self.position)
            self._promoted = True
            self._end(None)
            if self._shares:
                replica.share(store._parts)
        return store

    def close(self) -> None:
        """Stop following, and close the replica, unless it was promoted."""
        origin.check_not_inside(self._lock)
        with self._lock.held():
            self._end(None)
            if not self._promoted:
                try:
                    if not self._store.closed:
                        self._drop_applier()
                        self._note()
                finally:
                    if self._consumer is not None:
                        self._consumer.release()
                    self._store.close()  # again: an interrupted close continues

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kvengine.Follower {self._store.path!r} at version {self.position}>"

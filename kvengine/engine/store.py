"""Store: a durable mapping of bytes to bytes, with a log of its changes.

Invariants:

* Any number of processes read and write a store, one write at a time; each follows the others.
* Background work is one job of all processes at a time; it keeps writers out for a moment at most.
* After close() calls raise StoreClosed.  A forked child opens its own at the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kvengine.engine import opening
from kvengine.engine.access.batch import Batch
from kvengine.engine.access.mapping import StoreMapping
from kvengine.engine.following import digesting
from kvengine.engine.following.consumer import Consumer, ConsumerInfo, consumers_of
from kvengine.engine.following.tail import Tail
from kvengine.engine.following.tail import follow as follow_log
from kvengine.engine.following.waiting import check_timeout, check_version
from kvengine.engine.jobs import maintenance
from kvengine.engine.jobs.job_thread import Reports
from kvengine.engine.log.log_walk import Selector
from kvengine.engine.order.scan import entries_chunk, keys_chunk, recount_groups
from kvengine.engine.order.scanning import EVERYTHING, Keys, bytes_of, chunks, scan_arguments
from kvengine.engine.recovery import backup, verifying
from kvengine.engine.store_settings import StoreSettings
from kvengine.entry import Change, Digest, Entry, GroupSize, Stats, VerifyReport
from kvengine.errors import InvalidRequest

Progress = Callable[[int, int], None]


class Store(StoreSettings, StoreMapping):
    """A store in a folder.

    Any number of processes of one machine may read and write it; a read sees every write that had
    returned before, in whatever process.  A forked child opens it again at its first use.

    Args:
        path: the folder; made if it does not exist.
        durability: how far a write has got when the call returns: "group" (on disk; threads and
            processes that wait at the same time share one sync), "sync" (on disk by a sync of its
            own), "interval" (on disk within `sync_interval_s`), "os" (safe from the death of the
            process, not of the machine).
        read_only: do not write; it sees what other processes write.
        exclusive: let no other process open it for writing until this one has closed it.
        The others are settings that few need: kvengine.options.Options says what each is for.

    Raises:
        StoreLocked: another process has it open with ``exclusive=True``, or this call has
            ``exclusive=True`` and another process has it open for writing.
        NotAStore: the path is a file or a folder with other things in it.
        UnsupportedFormat: another version of kvengine wrote it, or has it open.
        CorruptData: the store is damaged; see kvengine.salvage.
        StorageError: the system refuses; or the folder is on a network file system, see
            `allow_network_filesystem` in kvengine.options.Options; or a process in a container with
            another PID namespace or C library has it open for writing.

    Thread-safety: threads may share a store; writes are done one at a time.
    """

    # -- scans

    def keys(
        self,
        prefix: Any = b"",
        *,
        start_after: Any = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Any:
        """Return an iterator of the living keys with a prefix, in byte order.

        Without arguments it is also a view, as of a dict: len(), `in`, set operations.

        Args:
            prefix: only keys that begin with it.
            start_after: only keys behind this one, in the direction of the scan.
            limit: at most so many.
            reverse: from the last to the first.
        """
        self.check_usable()
        arguments = scan_arguments(prefix, start_after, limit, reverse)
        if arguments == EVERYTHING:
            return Keys(self, self)
        return chunks(self, keys_chunk, arguments)

    def scan(
        self,
        prefix: Any = b"",
        *,
        start_after: Any = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Entry]:
        """Return the entries of the living keys with a prefix, in byte order; see keys()."""
        self.check_usable()
        arguments = scan_arguments(prefix, start_after, limit, reverse)
        return chunks(self, entries_chunk, arguments)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.keys())

    def __len__(self) -> int:
        self.check_usable()
        if self.segment_table.may_expire():
            return sum(1 for _ in self.keys())
        return self.key_index.count

    def __bool__(self) -> bool:
        return next(iter(self.keys(limit=1)), None) is not None

    def __repr__(self) -> str:
        state = "closed" if self.closed else "read-only" if self.options.read_only else "open"
        return f"<kvengine.Store {self.directory.path!r} {state}>"

    # -- changes

    def batch(self, durability: Any = None) -> Batch:
        """Return an empty batch; as a context manager it commits on a clean exit."""
        self.check_usable()
        return Batch(self, durability)

    # -- the log

    def tail(
        self,
        after: int = 0,
        *,
        prefix: Any = b"",
        follow: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Change]:
        """Return an iterator over the changes with versions above `after`, in order.

        Where the log has been compacted only the newest change of each key is left, so
        tail(0) is a copy of the store and tail(version) what is new since.

        Args:
            after: a version; 0 for all that the log has.
            prefix: only changes of keys that begin with it.
            follow: wait for more; else end with what is there now.
            timeout: with `follow`, end when nothing came for so many seconds; None: never.

        Raises:
            LogCompacted: deletes after `after` have been forgotten, or the store is not as far as
                `after`, so changes were lost; start again from 0.
        """
        if follow:
            found = self.follow(after, prefix, timeout)
            return (change for change in found if change is not None)
        return self.tail_from(after, prefix).news()

    def follow(
        self, after: int, prefix: Any = b"", timeout: float | None = None
    ) -> Iterator[Change | None]:
        """As tail() with `follow`, but gives None each time before it waits.

        So the caller can see to other things that a change may mean.
        """
        check_timeout(timeout)
        return follow_log(self, self.tail_from(after, prefix), timeout)

    def tail_from(self, after: int, prefix: Any) -> Tail:
        """Return a place in the log, behind a version, from which one can go on and on."""
        self.check_usable()
        check_version("after", after)
        return Tail(self, after, Selector(bytes_of("prefix", prefix)))

    def consumer(self, name: str) -> Consumer[Change]:
        """Return the consumer of a name, at the position that the store keeps; new ones at 0.

        Several processes may ask for the same name: one at a time gets the changes; see Consumer.

        Raises:
            InvalidRequest: the name is not 1 to 64 ASCII letters, digits, "-" and "_".
            CorruptData: the file with its position is damaged.
            StorageError: this process may not write to the folder.
        """
        return Consumer(self, name, lambda change: change)

    def consumers(self) -> list[ConsumerInfo]:
        """Return ConsumerInfo(name, position, lag, seen_at) of all consumers, by name."""
        self.check_usable()
        return consumers_of(self)

    def history(self, key: Any) -> Iterator[Change]:
        """Return an iterator over the changes of a key that the log still has, oldest first.

        Compaction leaves only the newest.  The whole log is read.
        """
        self.check_usable()
        return Tail(self, 0, Selector(bytes_of("key", key), whole=True)).news()

    def wait(self, after: int, timeout: float | None = None) -> int:
        """Return the store's version when it is above `after`, or at the latest after a time.

        The next write wakes the waiter, also in another process.  Where the system has no futex,
        or the reader may not write to the folder, it looks for news every 0.2 to 5 ms.

        Args:
            after: a version.
            timeout: seconds; None: as long as it takes.

        Raises:
            StoreClosed: the store was closed meanwhile.
            InvalidRequest: without a timeout, on a snapshot.
        """
        check_timeout(timeout)
        return self.waiting.wait(self, after, timeout)

    def snapshot(self) -> Store:
        """Return the store as it is now, to read: a context manager.

        Everything acknowledged is in it, and nothing that comes later; what expires does so in it
        too.  It is a reader of the same files that does not follow the writer, so it costs what
        opening one costs, and keeps the space of what it holds until it is closed and dropped.

        Raises:
            InvalidRequest: this is a snapshot already.
        """
        self.check_usable()
        if self.is_frozen:
            raise InvalidRequest("this store is a snapshot already: share it")
        return opening.snapshot(self)

    def _wake(self) -> None:
        self.waiting.wake()

    # -- maintenance

    def compact(self, progress: Progress | None = None) -> int:
        """Give back the space of dead records now; return how many bytes that were.

        The work is done on a thread of the store's; Ctrl-C, or an exception of `progress`, ends
        the wait, and the work at its next safe point: then nothing has changed, or it is done.

        Args:
            progress: called now and then with (bytes read, bytes to read), in this thread.
        """
        self._check_writable()
        reports = Reports(progress)
        return self.maintenance.run(lambda: maintenance.compact_fully(self, reports.add), reports)

    def checkpoint(self) -> None:
        """Save the index now, so that the next open has nothing to replay."""
        self._check_writable()
        self.maintenance.run(lambda: maintenance.checkpoint_now(self))

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Read every byte of the store and compare it with its checksum.

        Works on a store that is read-only since a sync failed, too.
        """
        self.check_usable()
        return verifying.verify_open(self, progress)

    def backup(self, target: Any, progress: Progress | None = None) -> int:
        """Make a consistent copy in a new folder while the store is in use.

        Closed files are hard links where the file system allows it.  Returns the version up to
        which the copy goes.  After a sync that failed the copy has all that can still be read, also
        what is not on the disk of this store.

        Args:
            target: a folder that is empty, or is made.
            progress: called with (bytes copied, bytes to copy), in this thread; writes and
                compaction go on meanwhile.
        """
        self.check_usable()
        return backup.backup(self, target, progress)

    def group_size(self, group: bytes) -> GroupSize:
        """Return GroupSize(keys, bytes) of the living keys that begin with a group's bytes.

        It is counted with each change (option `groups`), so nothing is scanned; only a store that
        was written without that option is scanned once.  Bytes are those of keys, values and
        metadata.

        Raises:
            InvalidRequest: keys are not counted, or not by this group.
        """
        self.check_usable()
        groups = self.groups  # another thread may start over meanwhile
        if groups is None:
            raise InvalidRequest("keys are not counted; open the store with groups=(start, size)")
        if groups.stale:
            groups = self.exclusively(recount_groups, self)
        return groups.sizes(bytes_of("group", group), self.options.clock.time())

    def digest(self, *, start: Any = b"", end: Any = None, moment: int | None = None) -> Digest:
        """Return Digest(version, moment, keys, sum): two stores that hold the same have the same.

        The sum is over keys, values, metadata, expiry and versions, and not over how they lie in
        files.  Of a range of keys, and on a store that only reads, it costs a scan.  Of all keys it
        does so when it is asked for first; from then on it goes along with each change.

        Args:
            start, end: only keys from `start` on, and before `end`; None: to the last.
            moment: what expires up to this second is left out, so that it does not matter whether
                it is still there; None: a minute from now.  Give two stores the same.

        Raises:
            InvalidRequest: the moment is no whole second.
        """
        self.check_usable()
        last = None if end is None else bytes_of("end", end)
        return digesting.digest(self, bytes_of("start", start), last, moment)

    def stats(self) -> Stats:
        """Return figures about the store."""
        self.check_usable()
        return maintenance.stats(self)

    @property
    def path(self) -> str:
        """The folder of the store."""
        return self.directory.path

"""Store: a durable mapping of bytes to bytes, with a log of its changes.

Invariants:

* Any number of processes read and write a store, one write at a time; each follows the others.
* Background work is one job at a time in all processes; it blocks writers at most for a moment.
* After close() calls raise StoreClosed.  A forked child opens its own at the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from kvengine.engine import opening
from kvengine.engine.access.batch import Batch
from kvengine.engine.access.mapping import StoreMapping
from kvengine.engine.following import digesting
from kvengine.engine.following.consumer import Consumer, ConsumerInfo, consumers_of
from kvengine.engine.following.tail import Tail
from kvengine.engine.following.waiting import check_timeout
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

    Any number of processes on one machine may read and write it.  A read sees every write that
    returned before the read began, in any process.  A forked child opens it again at its first use.

    Args:
        path: the folder; created if it does not exist.
        durability: what a write has survived when the call returns: "group" (it is on disk; threads
            and processes that wait at the same time share one sync), "sync" (it is on disk, by a
            sync of its own), "interval" (it will be on disk within `sync_interval_s`), "os" (it
            survives the process, but not the machine).
        read_only: do not write; follow what other processes write.
        exclusive: let no other process open it for writing until this one has closed it.
        The others are settings that few need: kvengine.options.Options says what each is for.

    Raises:
        StoreLocked: another process has it open with ``exclusive=True``, or this call has
            ``exclusive=True`` and another process has it open for writing.
        NotAStore: the path is a file or a folder with other things in it.
        UnsupportedFormat: another version of kvengine wrote it, or has it open.
        CorruptData: the store is damaged; see kvengine.salvage.
        StorageError: the operating system reported an error; or the folder is on a network file
            system, see `allow_network_filesystem` in kvengine.options.Options; or a process in a
            container with another PID namespace or C library has it open for writing.

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
        """Return an iterator over the live keys with a prefix, in byte order.

        Without arguments it is also a view, as of a dict: len(), `in`, set operations.

        Args:
            prefix: only keys that begin with it.
            start_after: only keys after this one, in the direction of the scan.
            limit: the largest number of keys.
            reverse: from the last to the first.
        """
        self._parts.check_usable()
        arguments = scan_arguments(prefix, start_after, limit, reverse)
        if arguments == EVERYTHING:
            return Keys(self, self._parts)
        return chunks(self._parts, keys_chunk, arguments)

    def scan(
        self,
        prefix: Any = b"",
        *,
        start_after: Any = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Entry]:
        """Return the entries of the live keys with a prefix, in byte order; see keys()."""
        self._parts.check_usable()
        arguments = scan_arguments(prefix, start_after, limit, reverse)
        return chunks(self._parts, entries_chunk, arguments)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.keys())

    def __len__(self) -> int:
        self._parts.check_usable()
        if self._parts.segment_table.may_expire():
            return sum(1 for _ in self.keys())
        return self._parts.key_index.count

    def __bool__(self) -> bool:
        return next(iter(self.keys(limit=1)), None) is not None

    def __repr__(self) -> str:
        read_only = self._parts.options.read_only
        state = "closed" if self.closed else "read-only" if read_only else "open"
        return f"<kvengine.Store {self.path!r} {state}>"

    # -- changes

    def batch(self, durability: Any = None) -> Batch:
        """Return an empty batch; as a context manager it commits on a clean exit."""
        self._parts.check_usable()
        return Batch(self._parts, durability)

    def sync(self) -> None:
        """Return when everything written so far is on disk; for a reader, all that it shows."""
        self._parts.sync()

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

        Compaction keeps only the newest change of each key.  So tail(0) is a copy of the store, and
        tail(version) has the changes since.

        Args:
            after: a version; 0: the whole log.
            prefix: only changes of keys that begin with it.
            follow: wait for more changes; otherwise end with the present ones.
            timeout: with `follow`, end after this many seconds without a change; None: never.

        Raises:
            LogCompacted: deletes after `after` have been compacted away, or the store has not
                reached `after`, so changes were lost; start over from 0.
        """
        if follow:
            found = self._parts.follow(after, prefix, timeout)
            return (change for change in found if change is not None)
        return self._parts.tail_from(after, prefix).changes()

    def consumer(self, name: str) -> Consumer[Change]:
        """Return the consumer with a name, at its stored position; a new one starts at 0.

        Several processes may use the same name; one at a time gets the changes.  See Consumer.

        Raises:
            InvalidRequest: the name is not 1 to 64 ASCII letters, digits, "-" and "_".
            CorruptData: the file with its position is damaged.
            StorageError: this process may not write to the folder.
        """
        return Consumer(self._parts, name, lambda change: change)

    def consumers(self) -> list[ConsumerInfo]:
        """Return ConsumerInfo(name, position, lag, seen_at) of all consumers, by name."""
        self._parts.check_usable()
        return consumers_of(self._parts)

    def history(self, key: Any) -> Iterator[Change]:
        """Return an iterator over the changes of a key that the log still has, oldest first.

        Compaction keeps only the newest.  The whole log is read.
        """
        self._parts.check_usable()
        return Tail(self._parts, 0, Selector(bytes_of("key", key), whole=True)).changes()

    def wait(self, after: int, timeout: float | None = None) -> int:
        """Wait until the store's version is above `after`, or for `timeout`; return the version.

        The next write in any process wakes the caller.  Where the system has no futex, or the
        reader may not write to the folder, this polls every 0.2 to 5 ms.

        Args:
            after: a version.
            timeout: seconds; None: no limit.

        Raises:
            StoreClosed: the store was closed meanwhile.
            InvalidRequest: no timeout was given on a snapshot.
        """
        check_timeout(timeout)
        return self._parts.waiting.wait(self._parts, after, timeout)

    def snapshot(self) -> Self:
        """Return a read-only snapshot of the store, as a context manager.

        It has everything acknowledged so far, and no later change; keys still expire in it.  It is
        a reader of the same files that does not follow the writer.  So it costs as much as opening
        a reader, and keeps its disk space in use until it is closed and dropped.

        Raises:
            InvalidRequest: this is already a snapshot.
        """
        self._parts.check_usable()
        if self._parts.is_frozen:
            raise InvalidRequest("this store is already a snapshot; use it directly")
        return self._of(opening.snapshot(self._parts))

    # -- maintenance

    def compact(self, progress: Progress | None = None) -> int:
        """Reclaim the space of dead records now; return how many bytes were freed.

        The work runs on a thread of the store.  Ctrl-C, or an exception from `progress`, ends the
        wait, and stops the work at its next safe point: then it is either done or has changed
        nothing.

        Args:
            progress: called from time to time with (bytes read, bytes to read), in this thread.
        """
        self._parts._check_writable()
        parts, reports = self._parts, Reports(progress)
        return parts.maintenance.run(lambda: maintenance.compact_fully(parts, reports.add), reports)

    def checkpoint(self) -> None:
        """Save the index now, so that the next open has nothing to replay."""
        self._parts._check_writable()
        self._parts.maintenance.run(lambda: maintenance.checkpoint_now(self._parts))

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Read every byte of the store and verify all checksums.

        This works even on a store that a failed sync has made read-only.
        """
        self._parts.check_usable()
        return verifying.verify_open(self._parts, progress)

    def backup(self, target: Any, progress: Progress | None = None) -> int:
        """Make a consistent copy in a new folder while the store is in use; return its version.

        Closed files become hard links where the file system allows it.  After a failed sync, the
        copy has everything that can still be read, even if it never reached the disk of this store.

        Args:
            target: an empty folder, or one to create.
            progress: called with (bytes copied, bytes to copy), in this thread; writes and
                compaction continue meanwhile.
        """
        self._parts.check_usable()
        return backup.backup(self._parts, target, progress)

    def group_size(self, group: bytes) -> GroupSize:
        """Return GroupSize(keys, bytes) of the live keys that begin with a group's bytes.

        Each change updates it (option `groups`), so this does not scan; only a store written
        without that option is scanned once.  Bytes are those of keys, values and metadata.

        Raises:
            InvalidRequest: keys are not counted, or not by this group.
        """
        self._parts.check_usable()
        groups = self._parts.groups  # another thread may start over meanwhile
        if groups is None:
            raise InvalidRequest(
                "keys are not counted by group; open the store with groups=(start, size)"
            )
        if groups.stale:
            groups = self._parts.exclusively(recount_groups, self._parts)
        return groups.sizes(bytes_of("group", group), self._parts.options.clock.time())

    def digest(self, *, start: Any = b"", end: Any = None, moment: int | None = None) -> Digest:
        """Return Digest(version, moment, keys, sum); stores with equal content have equal digests.

        The sum covers keys, values, metadata, expiration and versions, but not the layout of files.
        For a range of keys, and on a read-only store, it costs a scan.  For all keys, only the
        first call does; after that the sum is updated with each change.

        Args:
            start, end: only keys from `start` up to, but not including, `end`; None: to the last.
            moment: records that expire up to this second are left out, so that it does not matter
                whether they are still there; None: a minute from now.  Compare two stores with the
                same moment.

        Raises:
            InvalidRequest: the moment is not a whole second.
        """
        self._parts.check_usable()
        last = None if end is None else bytes_of("end", end)
        return digesting.digest(self._parts, bytes_of("start", start), last, moment)

    def stats(self) -> Stats:
        """Return figures about the store."""
        self._parts.check_usable()
        return maintenance.stats(self._parts)

    @property
    def path(self) -> str:
        """The folder of the store."""
        return self._parts.directory.path

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._parts.is_refused

    def close(self) -> None:
        """Save what makes the next open fast, and release all resources.

        Another thread that calls close() waits until it is done.  If close() is interrupted, the
        store is still open, or can be closed again.

        Raises:
            StoreBusy: called from a signal handler that interrupted close() in the same thread.
        """
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

"""StoreParts: the files of an open store, and how the engine changes that set.

Invariants:

* `rows` lists the segments in the order of their versions; only the last one is written to.
* `rows` is replaced atomically, by the writer or by a job.
* Files are numbered; a number is never reused.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from kvengine.engine.following.digest import DigestSum
from kvengine.engine.following.waiting import Waiting
from kvengine.engine.jobs.holding import OwnedLock
from kvengine.engine.jobs.interval_sync import IntervalSync
from kvengine.engine.jobs.job_thread import JobThread
from kvengine.engine.log import manifest as manifests
from kvengine.engine.log import segment_file
from kvengine.engine.log.control import Control
from kvengine.engine.log.manifest import LOG, Manifest, SegmentRow
from kvengine.engine.log.reserve import Reserve
from kvengine.engine.log.segment import NextSegment
from kvengine.engine.log.segment_file import SegmentHeader
from kvengine.engine.order.key_order import choose_merge
from kvengine.engine.order.scan import living
from kvengine.engine.store_files import StoreFiles
from kvengine.engine.store_folder import newest_manifest
from kvengine.errors import StoreClosed, copied_error
from kvengine.file.mapped import MappedFile

T = TypeVar("T")
IN_STEP_S = 1.0  # how long files that others have replaced are used on, at least
OTHERS_FIRST_MS = 2000  # so long a process that has done a job goes before others
ATTEMPTS_MAX = 100  # without a lock; then writers are locked out


@dataclass(frozen=True, slots=True)
class Moment:
    """What a store consists of at one moment; files and ends of segments by id."""

    version: int
    manifest: Manifest
    rows: tuple[SegmentRow, ...]
    files: dict[int, MappedFile]
    ends: dict[int, int]


class LogFollower(Protocol):
    """What follows the other processes that have the store open: see following/follower.py."""

    def catch_up(self) -> bool: ...
    def follow_further(self) -> None: ...
    def start_over(self) -> None: ...
    def refresh(self) -> bool: ...
    def sync(self) -> None: ...
    def belong_to(self, store: StoreParts) -> None: ...


class StoreParts(StoreFiles):
    """What the parts of the engine know of a store; OpenStore is what they make of it."""

    closing: OwnedLock  # one thread closes, others wait until it has
    waiting: Waiting
    jobs: OwnedLock  # held while a job runs
    files: OwnedLock  # held while a job, or starting over, changes what there is
    moving: OwnedLock  # one position of a consumer at a time
    retired_slots: list[int]  # of segments that a saved index still mentions
    saved_version: int  # of the saved index
    saved_taken_in: int  # `taken_in` when it was saved
    is_compacting_in_background: bool
    behind_since: float | None  # when background work noticed files of other processes
    maintenance: JobThread
    interval_sync: IntervalSync
    reserve: Reserve
    follower: LogFollower | None
    is_released = True  # close() has nothing left to release
    is_forked = False  # the parent of this process opened it for writing: open it again
    is_opening_again = False  # this is being done: what the thread calls that does it is right
    page_of_writer: Control | None = None  # of a snapshot: what the store that made it saw
    lost_after: tuple[int, int] | None = None  # a reader saw changes that the writer lost: above it
    frozen_at: int | None = None  # the version that it reads up to; None: all there is
    digest_sum: DigestSum | None = None  # of all records, once requested

    def _make_segment(self) -> None:
        """Make what the log can go on in; the writer begins it in one step, under its lock.

        Whatever interrupts this leaves at most a file that the next open removes.
        """
        made = self.next_segment
        page = self.control_page
        assert page is not None
        page.check(self.applied_version, self.seen_losses, self.known_segment)
        if self.is_unnamed:
            self.commits.sync(always=True)
        if (
            made is None
            or made.id < page.min_segment
            or made.id <= page.segment
            or made.table is not self.segment_table
        ):
            self._drop(self.offer_segment(None))
            segment_id = self.take_id()
            header = SegmentHeader(LOG, self.manifest.uuid, segment_id, 0, secrets.randbits(64))
            file = segment_file.make(self.directory, segment_id)
            made = NextSegment(self.segment_table, file, segment_id, header.salt, header.encode())
            self._drop(self.offer_segment(made))  # of another thread, or of a signal handler
        self.keep_up()
        rows, version = self.rows, self.applied_version
        begun = [*rows, SegmentRow(made.id, LOG, version + 1)]
        if rows and rows[-1].last_version is None:
            begun[-2] = rows[-1].ended(version)
        made.fit(rows, begun, version + 1)

    def drop_next_segment(self) -> None:
        """Give back a segment that was made and not begun."""
        self._drop(self.offer_segment(None))

    def _drop(self, made: NextSegment | None) -> None:
        if made is not None and made.drop():
            with contextlib.suppress(OSError, StoreClosed):  # the next open removes it
                self.directory.remove(segment_file.file_name(made.id))

    def _has_begun(self) -> None:
        """The log goes on in a new segment."""
        if len(self.rows) > 1 or self.is_behind_files():
            self.maintenance.wake()

    def _sync_soon(self) -> None:
        """Something was written with durability "interval", and no thread is to sync it yet."""
        self.interval_sync.ask(self.commits, self.options.sync_interval_s)

    def keep_reserve(self) -> None:
        """Keep back some of the disk, if there is room for it."""
        self.is_disk_low = not self.reserve.keep(self.log_bytes(), self.is_disk_low)

    def _find_space(self, deletes: bool) -> bool:
        """The disk is full: True if a write may try again, deletes in what was kept back."""
        if deletes:
            return self.enter_low_disk() and self.reserve.give_half()
        if self.is_disk_low:
            self.keep_reserve()
            return not self.is_disk_low
        return False

    def swap_rows(self, old: list[SegmentRow], new: list[SegmentRow]) -> None:
        """Put other segments in the place of neighboring ones, unless that was done before."""
        swapped = False
        while not swapped:
            rows = self.rows
            swapped = self.replace_rows(rows, manifests.with_others(rows, old, new))

    def as_of_now(self) -> Moment:
        """Return a consistent view of what the store consists of."""

        def look() -> Moment:
            table = self.segment_table
            return Moment(
                version=self.applied_version,
                manifest=self.manifest,
                rows=tuple(self.rows),
                files={row.id: table.segment_file(row.id) for row in self.rows},
                ends={row.id: table.counters(row.id)[1] for row in self.rows},
            )

        return self.consistent_read(look)

    def consistent_read(self, action: Callable[[], T]) -> T:
        """Call `action`, which only reads, and return a result from between two changes.

        Takes no lock: if something changed meanwhile, it calls `action` again.
        """
        if self.is_frozen:
            return action()
        for _ in range(ATTEMPTS_MAX):
            rows, version, table = self.rows, self.applied_version, self.segment_table
            try:
                result = action()
            except KeyError:  # of a segment that went meanwhile
                if self.rows is rows and self.segment_table is table:
                    raise
                continue
            if (
                self.rows is rows
                and self.applied_version == version
                and self.segment_table is table
            ):
                return result
        return self.exclusively(action)

    def end_active_segment(self) -> None:
        """Go on in a new segment, so that the present one can be compacted."""
        while (rows := self.rows) and rows[-1].last_version is None:
            _, size, _, _, _ = self.segment_table.counters(rows[-1].id)
            if size == segment_file.HEADER_BYTES:
                return
            self.keep_up()
            self._make_segment()
            made = self.next_segment
            if made is not None and self.end_segment(made):
                self._has_begun()
                return

    def sync(self) -> None:
        """Wait until everything written so far is on disk; for a reader, all that it has seen."""
        self.check_usable()
        if self.commits is not None:
            self.commits.sync()
        elif self.follower is not None:
            self.follower.sync()

    @property
    def background_error(self) -> str | None:
        """Why background work does not succeed just now; None if it does.  See also stats()."""
        both = (self.maintenance.failures, self.interval_sync.failures)
        return next((failures.last_error for failures in both if failures.consecutive), None)

    @property
    def is_read_only(self) -> bool:
        """True if users can't write: to a reader, or to a replica that was not promoted."""
        return self.options.read_only or self.follows is not None

    @property
    def has_open_segment(self) -> bool:
        """True if the last segment is being written."""
        rows = self.rows
        return bool(rows) and rows[-1].last_version is None

    # -- key order

    def flush_keys(self) -> None:
        """Write new keys to a run when there are enough, and merge runs that became many."""
        try:
            if self.key_order.may_drop_dead(self.removals):
                self.exclusively(self.key_order.drop_dead, self)
            if self.key_order.is_full():
                self.freeze_keys()
            if self.key_order.has_frozen():
                self.replace_manifest(key_runs=self.write_key_run())
            self.merge_keys(everything=self.key_order.is_mostly_dead(self.key_index.count))
        finally:
            self.remove_loose()

    def _new_run(self) -> str:
        """Return the name of a key run that is about to be written."""
        name = f"{self.take_id():08x}.keys"
        self.loose.add(name)
        return name

    def write_key_run(self) -> tuple[str, ...]:
        """Write frozen key buffers to a run; return the names of all runs."""
        if self.key_order.has_frozen():
            self.key_order.write_frozen(
                self.directory, self._new_run(), self.next_id, self.manifest.uuid
            )
        return tuple(self.key_order.run_names())

    def merge_keys(self, everything: bool = False) -> None:
        """Merge key runs that became many; with `everything` all, leaving out dead keys."""
        while True:
            counts = self.key_order.counts()
            span = (0, len(counts)) if everything else choose_merge(counts)
            if span is None or not counts:
                return
            self.maintenance.check()
            sure = self.key_order.newest_mark() == self.removals
            self.loose |= set(self.key_order.run_names()[slice(*span)])
            self.key_order.merge(
                self.directory,
                self._new_run(),
                *span,
                self.next_id,
                self.removals,
                self.manifest.uuid,
                None if sure else living(self),
            )
            self.replace_manifest(key_runs=tuple(self.key_order.run_names()))
            self.remove_loose()
            if everything:
                return

    def _check_writable(self) -> None:
        self.check_usable()
        if self.refusal is not None:
            raise copied_error(self.refusal)

    # -- other processes

    def _follow(self) -> None:
        if self.follower is None:
            return
        generation = self.control_page.generation if self.control_page is not None else 0
        is_believed = self.follower.catch_up()
        if self.is_behind_files():
            self.maintenance.wake()
        elif is_believed:
            self.has_followed(generation)

    def is_behind_files(self) -> bool:
        """True if another process has made, or removed, files of the store since."""
        page = self.control_page
        return (
            page is not None
            and self.commits is not None
            and page.generation != self.manifest.generation
        )

    def follow_files(self) -> None:
        """As background work: go over to files that others have made, when they are not new."""
        if not self.is_behind_files() or self.unfinished is not None:  # or it made them itself
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = time.monotonic()
        elif time.monotonic() - self.behind_since >= IN_STEP_S and self.follower is not None:
            self.follower.start_over()

    def _follow_further(self) -> None:
        assert self.follower is not None
        self.follower.follow_further()

    def leaves_jobs_to_others(self) -> bool:
        """True if another process does jobs now, or has just done one, and this one would have to
        start over first.
        """
        return self.is_behind_files() and self.jobs_seen_ms() < OTHERS_FIRST_MS

    def in_step(self) -> None:
        """As a job begins: know the files that make up the store by now."""
        if self.control_page is None or self.commits is None or self.follower is None:
            return
        if self.is_same_manifest():
            return
        # The page lags behind if a process was killed as it had just replaced the manifest.
        with contextlib.suppress(FileNotFoundError):  # of a folder that is gone: the job says so
            if newest_manifest(self.directory).generation != self.manifest.generation:
                self.follower.start_over()

    def _convert(self) -> None:
        """Let the manifest say that the format is that of this version; then writes may begin."""
        self.maintenance.run(lambda: self.replace_manifest() if self.is_old_format else None)

    def read_active(self, version: int) -> bool:
        """Read on in the segment being read up to a version; False: it does not go so far."""
        rows = self.rows
        if not rows or (row := rows[-1]).last_version is not None:
            return False
        try:
            size = self.directory.size(segment_file.file_name(row.id))
        except FileNotFoundError:  # closed and compacted since the last look
            return False
        self.segment_table.set_size(row.id, size)
        return self.keep_up_to(version)

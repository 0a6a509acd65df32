"""StoreParts: the files of an open store, and how the engine changes which ones they are.

Invariants:

* `rows` lists the segments in the order of their versions; only the last one is written to.
* `rows` is replaced or appended to while no thread writes; the manifest is replaced under the job
  lock and says what `rows` says.
* Files are numbered; a number is never used twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from kvengine.engine import maintenance, opening, segment_file
from kvengine.engine.applying import Applier
from kvengine.engine.digest import DigestSum
from kvengine.engine.key_order import KeyOrder, choose_merge
from kvengine.engine.manifest import LOG, Manifest, SegmentRow
from kvengine.engine.scan import living
from kvengine.engine.waiting import Waiting
from kvengine.file.directory import Directory
from kvengine.file.mapped import MappedFile
from kvengine.options import Options

if TYPE_CHECKING:
    from kvengine.engine.follower import Follower

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Moment:
    """What a store consists of at one moment; files and ends of segments by id."""

    version: int
    manifest: Manifest
    rows: tuple[SegmentRow, ...]
    files: dict[int, MappedFile]
    ends: dict[int, int]


class StoreParts(Applier):
    """What the parts of the engine know of a store; users see Store."""

    key_order: KeyOrder
    manifest: Manifest
    follower: Follower | None
    is_frozen = False  # a reader that does not follow the writer
    digest_sum: DigestSum | None = None  # of all records, once somebody has asked

    def _start(self, directory: Directory, options: Options) -> None:
        self.directory, self.options = directory, options
        self.jobs = threading.RLock()  # one background job at a time
        self.rows: list[SegmentRow] = []  # the segments, in the order of their versions
        self.retired_slots: list[int] = []  # of segments that a saved index still mentions
        self.saved_version = 0  # of the saved index
        self.saved_appended = 0  # commits.appended when it was saved
        self.next_id = 1
        self.is_compacting_in_background = False
        self.maintenance = maintenance.Maintenance(self)
        self.waiting = Waiting()
        self.follower = None
        opening.open_store(self)

    def _next_segment(self) -> None:
        """Begin a new segment; called by the writer, under its lock."""
        segment_id = self.take_id()
        file, salt = segment_file.create(
            self.directory, segment_id, LOG, self.manifest.uuid, self.applied_version + 1
        )
        self.segment_table.append(file, segment_id, salt, segment_file.HEADER_BYTES, True)
        if self.has_open_segment:
            self.rows[-1] = self.rows[-1].ended(self.applied_version)
        if self.control_page is not None:  # before the old segment may be cut to its length
            self.control_page.begun = self.applied_version + 1
        self.rows.append(SegmentRow(segment_id, LOG, self.applied_version + 1))
        self.commits.switch(file)
        self.activate(segment_id)
        if len(self.rows) > 1:
            self.maintenance.wake()

    def _has_grown(self) -> None:
        """The log takes more disk; called by the writer when it allocates some."""
        if maintenance.is_due(self):
            self.maintenance.wake()
            maintenance.pace(self)

    def take_id(self) -> int:
        """Return a number that no file of this store had before."""
        self.next_id += 1
        return self.next_id - 1

    def swap_rows(self, old: list[SegmentRow], new: list[SegmentRow]) -> None:
        """Put other segments in the place of neighboring ones."""
        ids = {row.id for row in old}

        def swap() -> None:
            position = next((i for i, row in enumerate(self.rows) if row.id in ids), 0)
            kept = [row for row in self.rows if row.id not in ids]
            self.rows = kept[:position] + new + kept[position:]

        self.exclusively(swap)

    def replace_manifest(self, **changes: Any) -> None:
        """Write a new manifest; the caller holds the job lock.

        First everything that it refers to is brought to disk, names and all: other files refer
        to records, and after a power cut none of it may be there without the rest.
        """
        self.commits.check_present()
        rows: tuple[SegmentRow, ...] = tuple(changes.pop("segments", self.rows))
        named = {row.id for row in self.manifest.segments}
        begun = any(row.size_bytes is None and row.id not in named for row in rows)
        self.commits.sync(always=begun)
        self.directory.sync()
        newest = max((row.id for row in rows), default=0)
        changes.setdefault("next_id", max(newest + 1, self.manifest.next_id))
        manifest = self.manifest.next(segments=rows, **changes)
        data = manifest.encode()
        try:
            self.directory.replace("MANIFEST", data, durable=True)
        except OSError as error:
            if not self._is_manifest(data):
                raise
            # It is in place, but after a power cut the old one may be back.
            self.commits.fail(error)
        self.manifest = manifest
        if self.control_page is not None:
            self.control_page.generation = manifest.generation

    def _is_manifest(self, data: bytes) -> bool:
        """True if these bytes are the manifest in the folder, or might be."""
        try:
            return self.directory.read("MANIFEST") == data
        except OSError:
            return True

    def remove_file(self, name: str) -> None:
        """Remove a file that the manifest does not name any more, if the manifest is on disk."""
        if self.commits.failure is None:
            self.directory.remove(name)

    def as_of_now(self) -> Moment:
        """Return what the store consists of, all as of one moment."""

        def look() -> Moment:
            table = self.segment_table
            return Moment(
                version=self.applied_version,
                manifest=self.manifest,
                rows=tuple(self.rows),
                files={row.id: table.segment_file(row.id) for row in self.rows},
                ends={row.id: table.counters(row.id)[1] for row in self.rows},
            )

        return self.undisturbed(look)

    def undisturbed(self, action: Callable[[], T]) -> T:
        """Call `action` while neither the segments nor what is in them can change."""
        if self.follower is not None:
            return self.follower.undisturbed(action)
        return action() if self.options.read_only else self.exclusively(action)

    def end_active_segment(self) -> None:
        """Go on in a new segment, so that the present one can be compacted."""

        def end() -> None:
            if self.has_open_segment:
                _, size, _, _, _ = self.segment_table.counters(self.rows[-1].id)
                if size > segment_file.HEADER_BYTES:
                    self._next_segment()

        self.exclusively(end)

    @property
    def is_read_only(self) -> bool:
        """True if users can't write: to a reader, or to a replica that was not promoted."""
        return self.options.read_only or self.follows is not None

    @property
    def has_open_segment(self) -> bool:
        """True if the last segment is being written."""
        return bool(self.rows) and self.rows[-1].last_version is None

    # -- key order

    def flush_keys(self) -> None:
        """Write new keys to a run when there are enough, and merge runs that became many."""
        if self.key_order.is_full():
            self.exclusively(lambda: self.key_order.freeze(self.removals))
        if self.key_order.has_frozen():
            runs = self.write_key_run()
            self.replace_manifest(key_runs=runs)
        self.merge_keys()

    def write_key_run(self) -> tuple[str, ...]:
        """Write frozen key buffers to a run; return the names of all runs."""
        if self.key_order.has_frozen():
            run_id = self.take_id()
            self.key_order.write_frozen(
                self.directory, f"{run_id:08x}.keys", self.next_id, self.manifest.uuid
            )
        return tuple(self.key_order.run_names())

    def merge_keys(self, everything: bool = False) -> None:
        """Merge key runs that became many; with `everything` all, leaving out dead keys."""
        while True:
            counts = self.key_order.counts()
            span = (0, len(counts)) if everything else choose_merge(counts)
            if span is None or not counts:
                return
            sure = self.key_order.newest_mark() == self.removals
            gone = self.key_order.merge(
                self.directory,
                f"{self.take_id():08x}.keys",
                *span,
                self.next_id,
                self.removals,
                self.manifest.uuid,
                None if sure else living(self),
            )
            self.replace_manifest(key_runs=tuple(self.key_order.run_names()))
            for name in gone:
                self.remove_file(name)
            if everything:
                return

    def reload(self) -> None:
        """A reader starts over from the newest files."""
        opening.reload(self)

"""The set of files of a store: the manifest that lists them, and the removal of others.

Invariants:

* Only jobs replace the manifest.  Until its rename nothing has changed; after it the change is
  completed, however often that is interrupted, and never undone.
* No file is removed that the manifest on disk names, or may name.
* A manifest takes its place only while this store holds the job lease, and only after the one that
  it was made from: so of two processes that do jobs, only one has an effect.
* A segment begun after that has an id that no manifest took for an older one (min_segment).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvengine.engine.access.applying import Applier
from kvengine.engine.access.log_end import LOST_JOBS
from kvengine.engine.index import index_file
from kvengine.engine.jobs.holding import Pins
from kvengine.engine.jobs.job_lease import JobsLost
from kvengine.engine.log import manifest as manifests
from kvengine.engine.log import segment_file
from kvengine.engine.log.manifest import Manifest, SegmentRow
from kvengine.engine.log.names import MANIFEST_NAME, id_of, is_manifest_to_be
from kvengine.engine.log.segment import SegmentTable
from kvengine.engine.order.key_order import KeyOrder
from kvengine.errors import KvError, StorageError
from kvengine.file.directory import Directory
from kvengine.file.folder import Folder
from kvengine.options import Options


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A manifest that may be in place by now, and what must follow then."""

    manifest: Manifest
    before: object  # the stamp of the file that it replaces
    finish: Callable[[], None]  # may be called again when it was interrupted
    table: SegmentTable  # of the store then: one that has started over since has nothing to finish


def _nothing() -> None:
    """A change of the manifest that nothing has to follow."""


class StoreFiles(Applier):
    """An Applier whose files are those that a manifest names."""

    options: Options
    directory: Directory
    key_order: KeyOrder
    manifest: Manifest
    token: int  # identifies this store in the job lease
    loose: set[str]  # files that go once no manifest names them
    pins: Pins  # users of files by name; no pinned file is removed
    unfinished: Unfinished | None
    is_settled: bool  # closing has come to where only the folder is to be given back
    is_frozen = False  # a reader that does not follow the writer
    manifest_seen: tuple[object, Manifest | None] = (None, None)  # what it was when, on disk

    def replace_manifest(
        self,
        finish: Callable[[], None] = _nothing,
        swap: tuple[list[SegmentRow], list[SegmentRow]] = ([], []),
        **changes: Any,
    ) -> None:
        """Write a new manifest, as a job, then call `finish`.

        First everything that it refers to is brought to disk, names and all: other files refer
        to records, and after a power cut none of it may be there without the rest.

        The rename is the point of no return.  When this raises before it, nothing has changed.
        What comes after it is completed: now, or if that is interrupted before the next job.

        Args:
            swap: segments, and the others that take their place.

        Raises:
            JobsLost: another process does the jobs by now.
        """
        self.resume()
        self.commits.check_present()
        table = self.segment_table
        min_segment = self._raise_min_segment()
        if self.segment_table is not table:  # it has started over, so what the job knows is old
            raise JobsLost("the files of the store were replaced during this job")
        given = changes.pop("segments", None)
        rows = tuple(manifests.with_others(self.rows, *swap) if given is None else given)
        rows = tuple(row for row in rows if row.id < min_segment)  # others may have begun since
        named = {row.id for row in self.manifest.segments}
        begun = any(row.size_bytes is None and row.id not in named for row in rows)
        self.commits.sync(always=begun)
        self.directory.sync()
        before = self.manifest
        manifest = before.next(segments=rows, next_id=min_segment, **changes)
        unfinished = Unfinished(
            manifest, self.directory.stamp(MANIFEST_NAME), finish, self.segment_table
        )
        self.unfinished = unfinished
        try:
            self._put_in_place(manifest, before.generation)
        except OSError as error:
            if not self._has_taken_place(unfinished):
                self.unfinished = None
                raise
            # It is in place, but after a power cut the old one may be back.
            self.commits.fail(error)
        except BaseException:
            self.resume()
            raise
        self._complete()
        self.commits.refuse_failed()
        self._find_strays()

    def _raise_min_segment(self) -> int:
        """Return raise_min_segment(), once the log was followed so far.

        With one that is too low a manifest would leave out segments that it should name.
        """
        while not (min_segment := self.raise_min_segment()):
            self._follow_further()
        page, known = self.control_page, max(self.known_segment, self.manifest.next_id - 1)
        assert page is not None
        page.check(self.applied_version, self.seen_losses, known)
        return min_segment

    def _put_in_place(self, manifest: Manifest, before: int) -> None:
        def rename(act: Callable[[], None], folder: Folder | None, temporary: str) -> None:
            folder = folder if self.directory.folder is folder else None
            stamp = self.directory.stamp(temporary)
            code = self.commit_manifest(act, folder, temporary, MANIFEST_NAME, self.token, before)
            if code:
                raise JobsLost(
                    "another process has taken over the jobs of the store"
                    if code == LOST_JOBS
                    else "another process has replaced the manifest"
                )
            # Not a look at what is in place: another process may have replaced it meanwhile.
            self.manifest_seen = (stamp, manifest)

        self.directory.replace(
            MANIFEST_NAME,
            manifest.encode(),
            temporary=f"{MANIFEST_NAME}.{self.token:x}.tmp",
            rename=rename,
        )

    def resume(self) -> None:
        """Complete a change of the manifest that was interrupted past its point of no return."""
        if self.unfinished is None:
            return
        if self.manifest is not self.unfinished.manifest:
            if not self._has_taken_place(self.unfinished):
                self.unfinished = None
                return
            try:
                self.directory.sync()
            except OSError as error:
                self.commits.fail(error)
        self._complete()

    def _complete(self) -> None:
        """The manifest is in place: let the rest of the store follow."""
        if self.unfinished is not None:
            if self.unfinished.table is self.segment_table:
                self.manifest = self.unfinished.manifest
                self.is_old_format = False
                self.unfinished.finish()
            self.unfinished = None

    def note_manifest(self) -> None:
        """The manifest on disk is the one that this store knows; no descriptor is needed to see."""
        self.manifest_seen = (self.directory.stamp(MANIFEST_NAME), self.manifest)

    def is_same_manifest(self) -> bool:
        """True if it still is."""
        stamp, manifest = self.manifest_seen
        return manifest is self.manifest and stamp == self.directory.stamp(MANIFEST_NAME)

    def _has_taken_place(self, unfinished: Unfinished) -> bool:
        """True if this manifest is in the folder; ask the disk.

        If it can't be known the store goes read-only, and no file is removed any more.
        """
        before = unfinished.before
        if before is not None and self.directory.stamp(MANIFEST_NAME) == before:
            return False  # nothing need be opened to know that: descriptors may have run out
        try:
            there = self.directory.read(MANIFEST_NAME)
        except (OSError, KvError) as error:
            with contextlib.suppress(StorageError):  # if the folder is gone, that is the reason
                self.commits.check_present()
            self.commits.fail(OSError(f"can't determine which manifest is in place: {error}"))
            return False
        # One of another process may have the same generation.
        return there == unfinished.manifest.encode()

    def remove_loose(self) -> None:
        """Remove files that are not, or no longer, part of the store.

        Removes nothing while files are pinned or it is uncertain which manifest is on disk.  If a
        system call fails, the next job tries again.
        """
        if not self.loose or self.pins.count or self.unfinished or self.commits.failure:
            return
        named = self._named()
        for name in sorted(self.loose):
            with contextlib.suppress(OSError):
                if name not in named:
                    self.directory.remove(name)
                self.loose.discard(name)

    def _named(self) -> set[str]:
        """Return the names of the files that are in use."""
        named = {segment_file.file_name(row.id) for row in self.manifest.segments}
        named |= {segment_file.file_name(row.id) for row in list(self.rows)}
        named |= {*self.manifest.key_runs, *self.key_order.run_names()}
        if self.manifest.index is not None:
            named.add(index_file.file_name(self.manifest.index[0]))
        return named

    def _find_strays(self) -> None:
        """A manifest has just taken its place: what was killed before left files, which go now.

        Those below min_segment that it does not name never will be: no segment among them may begin
        any more, and no job that made one may replace this manifest.  Only a replica makes files
        for later, and has the store for itself.  In memory nobody else was ever there.
        """
        min_segment = self.manifest.next_id
        is_shared = self.directory.folder is not None and not self.options.exclusive
        if not is_shared or self.manifest.origin is not None:
            return
        with contextlib.suppress(OSError):
            names = self.directory.names()
            self.loose |= {
                name for name in names if (id_of(name) or min_segment) < min_segment
            } - self._named()
            if not self.still_has_jobs(self.token):
                return
            for name in names:  # no other process is about to replace the manifest
                if is_manifest_to_be(name):
                    self.directory.remove(name)

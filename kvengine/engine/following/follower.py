"""A process keeps up with the other writers of a store, through the log alone.

Invariants:

* Each call checks one word of the control page.  Only if it has changed, the log is read, up to the
  version in that word (indexing.pyx).  This module handles the rest: the next segment, lost
  changes, and replaced files.
* Nothing is read after the visible version: batches stay whole, and others may be writing there.
* A segment counts up to the version before the first one of the next segment: bytes after that were
  left by a killed writer and never visible.  Which segment is next is certain only while none was
  compacted away, which the generation of the manifest tells.
* Segments that compaction removed stay mapped until this process starts over from the newest saved
  index; its reads are correct meanwhile.
* Each step is atomic, and determines anew what there is to do.  So threads, and handlers that
  interrupt a step, may run it at the same time: the first one counts.
* Twice per second of ongoing reads, a reader checks whether the folder is still the one that was
  opened, and whether the page belongs to a writer: no reader returns old data forever.
"""

from __future__ import annotations

import contextlib
import errno
import weakref
from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple, NoReturn

from kvengine.engine.access.indexing import check_is_due, follow_without_page
from kvengine.engine.log import manifest as manifests
from kvengine.engine.log import segment_file
from kvengine.engine.log.control import Control
from kvengine.engine.log.manifest import LOG, Manifest, SegmentRow
from kvengine.engine.log.names import MANIFEST_NAME, id_of
from kvengine.engine.log.segment import MAP_BYTES, NextSegment, bytes_at
from kvengine.engine.log.writer_page import WriterPage, is_foreign, open_page
from kvengine.engine.parts import StoreParts
from kvengine.engine.recovery import loading, trust
from kvengine.engine.store_folder import newest_manifest
from kvengine.errors import CorruptData, StorageError, StoreClosed, copied_error

CHECK_MS = 500  # between two checks of the folder
ATTEMPTS_MAX = 100  # at segments and a manifest that are replaced meanwhile


class NewerSegment(NamedTuple):
    """A segment that was begun after the newest one here."""

    id: int
    first_version: int


class Follower:
    """Follows the other processes that have a store open.

    Args:
        store: what follows.
        page: the control page, mapped before the store was read; None: there was none.

    Thread-safety: threads may share it.
    """

    def __init__(self, store: StoreParts, page: WriterPage | None) -> None:
        self._reference = weakref.ref(store)  # the store has this, and goes when it is dropped
        self._stamp = store.directory.stamp(MANIFEST_NAME)
        # The newest segment, and those found when it was.
        self._ahead: tuple[int, list[NewerSegment]] = (0, [])
        self._latest: Manifest | None = None
        self._foreign_seen = 0  # consecutive checks that found another version in use
        self._connect(page)

    @property
    def _store(self) -> StoreParts:
        store = self._reference()
        assert store is not None
        return store

    def belong_to(self, store: StoreParts) -> None:
        """Know the store again, which is about to go: the collector has cut what was weak."""
        self._reference = weakref.ref(store)

    def _connect(self, page: WriterPage | None) -> None:
        self._page = page
        if page is None:
            follow_without_page(self._store)
        else:
            self._store.connect_reader(page.control)

    def catch_up(self) -> bool:
        """Catch up with other writers; False if no control page says how far they are."""
        store = self._store
        looks = store.looks and check_is_due(store, CHECK_MS)
        if looks:
            self._look()
        # After a power cut the page means nothing until a writer was there.
        if self._page is None or not self._page.is_trusted(ask=looks):
            return False
        store.keep_up()
        return True

    def follow_further(self) -> None:
        """Take the next step: into the next segment, or over again from the newest files."""
        assert self._page is not None
        store, control = self._store, self._page.control
        control.check(store.applied_version, store.seen_losses, store.known_segment)
        if control.losses != store.seen_losses:
            self.start_over()
            return
        rows = store.rows
        try:
            with self._files_there():
                following = self._next(control)
            self._go_on(following, control.version)
        except KeyError:  # of a segment that went meanwhile
            if store.rows is rows:
                raise

    def _go_on(self, following: NewerSegment | None, version: int) -> None:
        store = self._store
        if following is None:
            self._start_over_unless_there(version)
            return
        last = following.first_version - 1
        if store.applied_version < last and not store.read_active(last):
            self._start_over_unless_there(last)
        elif store.applied_version == last:
            self._open_next(following)

    def _start_over_unless_there(self, version: int) -> None:
        """The log does not go on from here: its segments were replaced, or it is damaged."""
        store = self._store
        self.start_over()
        if store.applied_version < min(version, self._page.control.version if self._page else 0):
            raise CorruptData(
                "log",
                file=store.directory.path,
                offset=0,
                expected=f"changes up to version {version}",
                found=f"version {store.applied_version}",
            )

    def _next(self, control: Control) -> NewerSegment | None:
        """Return the segment in which the log goes on; None: it is not there."""
        rows, ahead = self._store.rows, self._ahead  # other threads replace them meanwhile
        newest = rows[-1].id if rows else 0
        begun = control.segment
        if ahead[0] != begun or not any(one.id == newest for one in ahead[1]):
            self._ahead = ahead = (begun, self._list(control, newest, begun))
        place = next((at for at, one in enumerate(ahead[1], 1) if one.id == newest), None)
        return None if place is None else next(iter(ahead[1][place:]), None)

    def _list(self, control: Control, newest: int, begun: int) -> list[NewerSegment]:
        """List the segments of the log from one on, those that count, each behind the other.

        The list ends where one is missing: it was compacted since.
        """
        rows: list[SegmentRow] = []
        for _ in range(ATTEMPTS_MAX):
            manifest = self._manifest(control)
            rows = [*manifest.segments, *self._after(manifest, begun)]
            if control.generation <= manifest.generation:
                break  # so nothing that began after it was removed before we looked
        if newest == 0:  # nothing was written before
            rows.insert(0, SegmentRow(0, LOG, 1, 0))
        place = next((at for at, row in enumerate(rows) if row.id == newest), len(rows))
        found: list[NewerSegment] = []
        for row, after in zip_longest(rows[place:], rows[place + 1 :]):
            found.append(NewerSegment(row.id, row.first_version))
            if after is None or after.kind != LOG:
                break
            if row.kind == LOG and row.last_version not in {None, after.first_version - 1}:
                break
        return found

    def _manifest(self, control: Control) -> Manifest:
        """Return the newest manifest."""
        manifest = self._latest or self._store.manifest
        if manifest.generation < max(control.generation, self._store.manifest.generation):
            data = self._store.directory.read(MANIFEST_NAME)
            self._latest = manifest = manifests.decode(data, MANIFEST_NAME)
        return manifest

    def _after(self, manifest: Manifest, begun: int) -> list[SegmentRow]:
        """Return the segments that were begun after a manifest was written."""
        directory = self._store.directory
        names = [name for name in directory.names() if (id_of(name) or 0) <= begun]
        return trust.rows_after_manifest(directory, names, manifest)

    def _open_next(self, following: NewerSegment) -> None:
        store = self._store
        name = segment_file.file_name(following.id)
        try:
            file = store.directory.open(
                name, writable=not store.options.read_only, map_bytes=MAP_BYTES
            )
        except FileNotFoundError:
            self.start_over()
            return
        header = segment_file.decode(bytes_at(file, 0, segment_file.HEADER_BYTES), name)
        rows = store.rows
        if rows and rows[-1].id >= following.id:
            return  # it started over meanwhile
        begun = [*rows, SegmentRow(header.id, LOG, header.first_version)]
        if rows and rows[-1].last_version is None:
            begun[-2] = rows[-1].ended(header.first_version - 1)
        made = NextSegment(store.segment_table, file, header.id, header.salt, header.encode())
        made.fit(rows, begun, header.first_version)
        if not store.follow_into(made):  # another thread was quicker
            made.drop()
        elif store.commits is not None and len(begun) > 1:
            store.maintenance.watch()  # its writer may be killed before closing it

    def refresh(self) -> bool:
        """Start over if files that this process knows were replaced; return whether they were."""
        before = self._store.manifest.generation
        if self._page is not None and self._page.control.generation > before:
            self.start_over()
        return self._store.manifest.generation != before

    def sync(self) -> None:
        """Wait until everything that the reader shows is on disk."""
        self.catch_up()
        store, page = self._store, self._page
        if page is not None and page.control.durable_version >= store.applied_version:
            return
        moment = store.as_of_now()
        for row in moment.rows:
            if row.size_bytes is None:  # the others are
                moment.files[row.id].flush()
        store.directory.sync()

    def start_over(self) -> None:
        """Load the newest saved index and replay what came after it."""
        store = self._store
        with store.files.held():  # no job of this store comes between
            self._ahead = (0, [])
            with self._files_there():
                loading.recover_beside(store, self._page, newest_manifest(store.directory))

    # -- identity of the folder

    @contextlib.contextmanager
    def _files_there(self) -> Iterator[None]:
        """Say of a file that is gone, though the store needs it, what that means."""
        try:
            yield
        except FileNotFoundError as error:
            directory = self._store.directory
            directory.check_present()
            raise StorageError(
                errno.ENOENT,
                f"the file {error.filename} was removed from the folder of the store while it was "
                "open; read or back up what you still need, then close it",
                directory.path,
            ) from error

    def _look(self) -> None:
        """See whether this is still the store that was opened, and who writes to it.

        Raises:
            StoreClosed: it is not; every call raises that from now on.
        """
        store = self._store
        page = open_page(store.directory) if self._page is None else None
        self._check_folder()  # then the page is that of the same store
        if self._page is not None:
            self.refresh()
        elif page is not None:
            store.seen_losses = page.control.losses  # none of what was read is among them
            self._connect(page)
            self.start_over()
        elif is_foreign(store.directory):
            self._foreign_seen += 1
            if self._foreign_seen > 1:  # once is fine: a conversion may be starting
                self._give_up("is open for writing in another version of kvengine")

    def _check_folder(self) -> None:
        store = self._store
        try:
            store.directory.check_present()
            store.directory.check_path()
        except StorageError as error:
            self._give_up("was removed or replaced", error)
        known = store.manifest  # before the file is read: another thread may start over meanwhile
        stamp = store.directory.stamp(MANIFEST_NAME)
        if stamp is None:
            self._give_up("was emptied")
        if stamp != self._stamp:
            manifest = manifests.decode(store.directory.read(MANIFEST_NAME), MANIFEST_NAME)
            if manifest.uuid != known.uuid:
                self._give_up("now holds another store")
            if manifest.generation < known.generation:
                self._give_up("was reset to an older state")
            self._stamp = stamp

    def _give_up(self, what: str, cause: BaseException | None = None) -> NoReturn:
        error = StoreClosed(
            f"the folder {self._store.directory.path} {what} since it was opened: open it again"
        )
        self._store.refuse(error)
        self._store.directory.close()
        raise copied_error(error) from cause

"""A reader process keeps up with the writer: the log is its only source of news.

Invariants:

* A follower looks at one word of the control page with each call; only if that has changed does
  it read what was appended, up to the version that the word said.
* It never reads behind what the writer has made visible: batches stay whole, and the writer may
  be at work there, or cut the file.
* Segments that compaction removed stay mapped until the follower starts over from the newest
  saved index, which it does when it notices; what it reads is right in between.
* What a catch-up does is whole after each step, so a handler that interrupts it may read; one that
  did not come to its end is not gone on from: the next starts over.
* Twice a second of ongoing reads it looks whether the folder is still the one that was opened, and
  whether the page is the writer's: nobody is shown old data forever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn, TypeVar

from kvengine.engine import manifest as manifests
from kvengine.engine import segment_file
from kvengine.engine.control import follow_nobody_yet, look_is_due
from kvengine.engine.holding import OwnedLock
from kvengine.engine.manifest import LOG, SegmentRow
from kvengine.engine.names import MANIFEST_NAME, id_of, is_segment
from kvengine.engine.replay import Replay
from kvengine.engine.segment import MAP_BYTES, bytes_at
from kvengine.engine.segment_file import SegmentHeader
from kvengine.engine.writer_page import WriterPage, open_page
from kvengine.errors import CorruptData, StorageError, StoreClosed, again
from kvengine.file.mapped import MappedFile

if TYPE_CHECKING:
    from kvengine.engine.parts import StoreParts

T = TypeVar("T")
LOOK_MS = 500  # between two looks at the folder


class Follower:
    """Follows the writer of a store from another process.

    Args:
        store: the reader.
        page: the control page, mapped before the store was read; None: there was none.

    Thread-safety: one thread catches up, others wait for it.
    """

    def __init__(self, store: StoreParts, page: WriterPage | None) -> None:
        self._store = store
        self._generation = store.manifest.generation
        self._stamp = store.directory.stamp(MANIFEST_NAME)
        self._lock = OwnedLock()
        self._is_whole = True  # False: a catch-up was cut short
        self._connect(page)

    def _connect(self, page: WriterPage | None) -> None:
        self._page = page
        if page is None:
            follow_nobody_yet(self._store)
        else:
            self._losses = page.control.losses
            page.control.connect_reader(self._store)

    def catch_up(self) -> None:
        """Apply what the writer has made visible since the last time."""
        if not self._lock.is_mine():  # else a handler reads what was applied so far
            with self._lock.held():
                self._catch_up()

    def _catch_up(self) -> None:
        store = self._store
        if store.is_refused:
            return
        looks = look_is_due(store, LOOK_MS)
        if looks:
            self._look()
        if self._page is None:
            return
        control, target = self._page.control, self._page.control.version
        if target == store.applied_version and self._is_whole and control.losses == self._losses:
            return
        if not self._page.is_trusted(ask=looks):
            return  # after a power cut the page means nothing until a writer was there
        if control.losses != self._losses:
            store.lost_after = (control.losses, control.lost_after)
        if not self._is_whole or control.losses != self._losses:
            self._is_whole, self._losses = False, control.losses
            self.start_over()
        self._is_whole = False
        if control.generation != self._generation or target < store.applied_version:
            self._look_at_manifest(target)
        # The page is read each time: what it said before may have been taken back.
        while store.applied_version < (target := min(target, control.version)):
            if not self._read_on(target) and not self._open_next():
                self.start_over()
                if store.applied_version < min(target, control.version):
                    raise CorruptData(
                        "log",
                        file=store.directory.path,
                        offset=0,
                        expected=f"changes up to version {target}",
                        found=f"version {store.applied_version}",
                    )
        self._is_whole = True

    def refresh(self) -> bool:
        """Start over if files that the reader knows were replaced; return whether they were."""
        with self._lock.held():
            before = self._store.manifest.generation  # catching up may have seen a newer one
            if self._page is not None and self._page.control.generation > before:
                self._is_whole = False
                self.start_over()
                self._is_whole = True
            return self._store.manifest.generation != before

    def sync(self) -> None:
        """Return when what the reader shows is on disk, whatever its writer waits for."""
        self.catch_up()
        store, page = self._store, self._page
        if page is not None and page.control.durable_version >= store.applied_version:
            return
        rows = list(store.rows)
        for row in rows:
            if row.size_bytes is None:  # the others are
                store.segment_table.segment_file(row.id).flush()
        store.directory.sync()

    def undisturbed(self, action: Callable[[], T]) -> T:
        """Call `action` while no other thread catches up."""
        with self._lock.held():
            return action()

    def after_fork(self) -> None:
        """In a child process: go on, as everything that is mapped and open is there as well."""
        self._lock.after_fork_in_child()

    def _look(self) -> None:
        """See whether this is still the store that was opened, and who writes to it.

        Raises:
            StoreClosed: it is not; every call raises that from now on.
        """
        store = self._store
        if self._page is None:
            page = open_page(store.directory)
            if page is not None:
                self._is_whole = False
                self._connect(page)
            return
        try:
            store.directory.check_present()
            store.directory.check_path()
        except StorageError as error:
            self._give_up("was removed or replaced", error)
        stamp = store.directory.stamp(MANIFEST_NAME)
        if stamp is None:
            self._give_up("was emptied")
        if stamp != self._stamp:
            manifest = manifests.decode(store.directory.read(MANIFEST_NAME), MANIFEST_NAME)
            if manifest.uuid != store.manifest.uuid:
                self._give_up("holds another store now")
            if manifest.generation < self._generation:
                self._give_up("was set back to an older state")
            self._stamp = stamp

    def _give_up(self, what: str, cause: BaseException | None = None) -> NoReturn:
        error = StoreClosed(
            f"the folder {self._store.directory.path} {what} since it was opened: open it again"
        )
        self._store.refuse(error)
        self._store.directory.close()
        raise again(error) from cause

    def start_over(self) -> None:
        """Load the newest saved index and replay what came after it."""
        self._store.reload(self._page)
        self._generation = self._store.manifest.generation

    def _look_at_manifest(self, target: int) -> None:
        data = self._store.directory.read(MANIFEST_NAME)
        manifest = manifests.decode(data, MANIFEST_NAME)
        there = {row.id for row in manifest.segments}
        if target < self._store.applied_version or any(
            row.id not in there and row.id < manifest.next_id for row in self._store.rows
        ):
            self.start_over()
        else:
            self._generation = manifest.generation

    def _read_on(self, target: int) -> bool:
        """Apply more of the newest segment; False if it has no more."""
        store = self._store
        if not store.rows or store.rows[-1].kind != LOG:
            return False
        row = store.rows[-1]
        _, end, _, _, _ = store.segment_table.counters(row.id)
        assert self._page is not None
        if self._page.control.begun != row.first_version:  # it may be cut to its length any time
            target = min(target, self._next_begins() - 1)
        if target <= store.applied_version:
            return False
        try:
            size = store.directory.size(segment_file.file_name(row.id))
        except FileNotFoundError:  # closed and compacted since the last look
            return False
        store.segment_table.segment_file(row.id).size_bytes = size
        replay = Replay(
            store,
            store.key_order,
            row.id,
            start=end,
            end=size,
            version=store.applied_version,
            contiguous=True,
            known=0,
        )
        replay.follow(target)
        return replay.offset > end

    def _next_begins(self) -> int:
        """Return the first version of the next segment; 0 if there is none."""
        return min((header.first_version for _, header in self._later_segments()), default=0)

    def _open_next(self) -> bool:
        """Open the segment in which the log goes on; False if it is not there."""
        store = self._store
        for file, header in self._later_segments():
            if header.first_version == store.applied_version + 1:
                store.segment_table.append(
                    file, header.id, header.salt, segment_file.HEADER_BYTES, False
                )
                if store.rows:
                    store.rows[-1] = store.rows[-1].ended(store.applied_version)
                store.rows.append(SegmentRow(header.id, LOG, header.first_version))
                return True
        return False

    def _later_segments(self) -> Iterator[tuple[MappedFile, SegmentHeader]]:
        """Yield the segments of the log that were begun after the newest one here."""
        newest = max((row.id for row in self._store.rows), default=0)
        for name in sorted(self._store.directory.names()):
            if not is_segment(name) or (id_of(name) or 0) <= newest:
                continue
            try:
                file = self._store.directory.open(name, map_bytes=MAP_BYTES)
            except FileNotFoundError:  # compacted away since names()
                continue
            data = bytes_at(file, 0, min(segment_file.HEADER_BYTES, file.size_bytes))
            if any(data):
                header = segment_file.decode(data, name)
                if header.kind == LOG:
                    yield file, header

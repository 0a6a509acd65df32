"""A reader process keeps up with the writer: the log is its only source of news.

Invariants:

* A follower looks at one word of the control page with each call; only if that has changed does
  it read what was appended, up to the version that the word said.
* It never reads behind what the writer has made visible: batches stay whole, and the writer may
  be at work there, or cut the file.
* Segments that compaction removed stay mapped until the follower starts over from the newest
  saved index, which it does when it notices; what it reads is right in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from kvengine.engine import manifest as manifests
from kvengine.engine import segment_file
from kvengine.engine.control import Control
from kvengine.engine.manifest import LOG, SegmentRow
from kvengine.engine.names import MANIFEST_NAME, id_of, is_segment
from kvengine.engine.replay import Replay
from kvengine.engine.segment import MAP_BYTES, bytes_at
from kvengine.engine.segment_file import SegmentHeader
from kvengine.errors import CorruptData
from kvengine.file.mapped import MappedFile

if TYPE_CHECKING:
    from kvengine.engine.parts import StoreParts

T = TypeVar("T")


class Follower:
    """Follows the writer of a store from another process.

    Thread-safety: one thread catches up, others wait for it.
    """

    def __init__(self, store: StoreParts, control: Control, boot: int) -> None:
        self._store, self._control, self._boot = store, control, boot
        self._generation = store.manifest.generation
        self._lock = threading.Lock()

    def catch_up(self) -> None:
        """Apply what the writer has made visible since the last time."""
        with self._lock:
            store, target = self._store, self._control.version
            if target == store.applied_version or self._control.boot != self._boot:
                return  # after a power cut the page means nothing until a writer was there
            if self._control.generation != self._generation or target < store.applied_version:
                self._look_at_manifest(target)
            while store.applied_version < target:
                if not self._read_on(target) and not self._open_next():
                    self.start_over()
                    if store.applied_version < target:
                        raise CorruptData(
                            "log",
                            file=store.directory.path,
                            offset=0,
                            expected=f"changes up to version {target}",
                            found=f"version {store.applied_version}",
                        )

    def refresh(self) -> bool:
        """Start over if the writer has replaced files; return whether it has."""
        with self._lock:
            before = self._generation
            if self._control.generation > before:
                self.start_over()
            return self._generation != before

    def undisturbed(self, action: Callable[[], T]) -> T:
        """Call `action` while no other thread catches up."""
        with self._lock:
            return action()

    def start_over(self) -> None:
        """Load the newest saved index and replay what came after it."""
        self._store.reload()
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
        if self._control.begun != row.first_version:  # it may be cut to its length any time
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
        replay.run(until=target)
        store.segment_table.set_end(row.id, replay.offset)
        store.set_applied(max(replay.version, store.applied_version))
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

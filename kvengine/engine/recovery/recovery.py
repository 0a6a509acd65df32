"""Recovery: from files to a working index, and the decision what a torn end means.

Invariants:

* What is recovered is a prefix of what was written, with whole batches only.
* It has at least everything that was acknowledged as durable.  If it can't, that is damage and an
  error with the place, never a silent loss.  Three witnesses say how far the log must reach: the
  manifest (its version, and closed segments), the control page, and marks inside the log itself.
* Nothing is left in the file after the recovered end, so old bytes that could pass for records
  never follow what is appended later.
"""

from dataclasses import dataclass, replace

from kvengine.engine.access.reading import Reader
from kvengine.engine.index import index_file
from kvengine.engine.index.index_file import Description
from kvengine.engine.log import segment_file
from kvengine.engine.log.control import Control
from kvengine.engine.log.manifest import LOG, Manifest, SegmentRow, with_actual_ends
from kvengine.engine.log.names import MANIFEST_NAME
from kvengine.engine.log.segment import MAP_BYTES, bytes_at
from kvengine.engine.order.key_order import KeyOrder
from kvengine.engine.recovery import trust
from kvengine.engine.recovery.replay import Replay, last_durable_mark
from kvengine.errors import CorruptData
from kvengine.file.directory import Directory
from kvengine.file.mapped import MappedFile
from kvengine.options import VERSION_LIMIT

HEADER_BYTES = segment_file.HEADER_BYTES


@dataclass(slots=True)
class LogEnd:
    """Where the recovered log ends."""

    version: int = 0
    segment_id: int = 0  # the segment that goes on; 0: there is none
    offset: int = 0
    bad_offset: int = 0  # behind the records of a batch that has no end


class Recovery:
    """One recovery, into a reader that is not in use yet.

    Args:
        writable: open what will be written to for that.
        alone: no other process has the store; so cut off what lies behind the end of the log.
        until: beside others, read up to this version; behind it somebody may be at work.  None: up
            to the end of the log.
        control: the control page the last writer left, or None.
        boot: the id of this boot.
        with_keys: False: the key order is not wanted, only who is alive.
    """

    def __init__(
        self,
        reader: Reader,
        order: KeyOrder,
        directory: Directory,
        manifest: Manifest,
        *,
        writable: bool,
        alone: bool,
        rebuild: bool,
        until: int | None,
        control: Control | None,
        boot: int,
        with_keys: bool = True,
    ) -> None:
        self.reader, self.order, self.directory = reader, order, directory
        self.manifest, self._writable, self._alone = manifest, writable, alone
        self._until = until
        self.saved: Description | None = None
        self.rows: list[SegmentRow] = []
        self.end = LogEnd(version=0)
        self.replayed = False
        self._rebuild, self._with_keys = rebuild, with_keys
        self._control, self._must_reach, self._page_is_current = control, 0, False
        if control is not None and control.is_readable:
            self._page_is_current = control.boot == boot
            is_whole = self._page_is_current and not control.failed  # else pages may be gone
            self._must_reach = control.version if is_whole else control.durable_version
        self._must_reach = max(self._must_reach, manifest.version) if until is None else until

    def run(self) -> None:
        """Do it; afterwards `rows`, `end` and `saved` describe the store."""
        directory, manifest = self.directory, self.manifest
        if manifest.index is not None and not self._rebuild:
            self._load_index(*manifest.index)
        names = directory.names()
        rows = [*manifest.segments, *trust.rows_after_manifest(directory, names, manifest)]
        if self.saved is not None:
            trust.compare_with_manifest(self.saved, manifest)
        if self._until is not None:
            self._check_that_nothing_was_removed()
        self._open_segments(rows)
        if self.saved is not None:
            trust.compare_with_log(self.reader, self.saved, manifest, rows)
        self._replay_all(rows)
        if self._until is None:
            version = max(self.end.version, manifest.version)
            trust.refuse_lost_segments(directory, names, manifest, rows, version)
        self.reader.set_applied(max(self.end.version, manifest.version))
        self._settle_removals()

    # -- the saved index

    def _load_index(self, index_id: int, size_bytes: int) -> None:
        file, saved = index_file.load(self.directory, index_id, size_bytes, self.manifest.uuid)
        self.saved = saved
        self.reader.key_index.adopt(
            file.descriptor, file, len(saved.checksums), saved.checksums, saved.count
        )
        self.reader.key_index.restore_stash(list(saved.stash))
        if self.reader.groups is not None:
            self.reader.groups.load(saved.groups, saved.group_rows)
        self.order.load(self.directory, list(self.manifest.key_runs), self.manifest.uuid)

    def _check_that_nothing_was_removed(self) -> None:
        """A segment that was begun, closed and compacted since would leave a gap in `rows`."""
        found = self.manifest.generation
        expected = self._control.generation if self._control is not None else found
        if expected > found:
            raise CorruptData(
                "generation", file=MANIFEST_NAME, offset=0, expected=expected, found=found
            )

    def _settle_removals(self) -> None:
        """Key runs may skip the index only if nothing can have been removed since."""
        removals = self.saved.removals if self.saved else 0
        newest_mark = self.order.newest_mark()
        if self.replayed or newest_mark > removals:
            removals = max(removals, newest_mark, self.reader.removals) + 1
        self.reader.removals = removals
        self.order.begin(removals)

    # -- segments

    def _open_segments(self, rows: list[SegmentRow]) -> None:
        """Map every segment into a slot: the one the saved index knows, or a free one."""
        table = self.reader.segment_table
        known = {row.id: row for row in self.saved.segments} if self.saved else {}
        present = {row.id for row in rows}
        for saved in known.values():
            if saved.id not in present:
                table.reserve(saved.slot)
        opened = {row.id: self._open(row) for row in rows}
        for row in rows:
            file, header = opened[row.id]
            if row.id in known:
                saved = known[row.id]
                table.place(saved.slot, file, row.id, header.salt, saved.end)
                table.set_counters(row.id, saved.live, saved.tombstones, saved.expiring)
                table.set_expiries(row.id, saved.expiry_min, saved.expiry_max)
        for row in rows:
            if row.id not in known:
                file, header = opened[row.id]
                table.append(file, row.id, header.salt, HEADER_BYTES, False)
        gone = [saved.slot for saved in known.values() if saved.id not in present]
        if gone:
            self.reader.key_index.purge(gone)
            self.replayed = True
        self.retired_slots = gone

    def _open(self, row: SegmentRow) -> tuple[MappedFile, segment_file.SegmentHeader]:
        name = segment_file.file_name(row.id)
        writable = self._writable and row.size_bytes is None
        try:
            file = self.directory.open(name, writable=writable, map_bytes=MAP_BYTES)
        except FileNotFoundError:
            raise CorruptData(
                "segment file", file=name, offset=0, expected="a file", found="none"
            ) from None
        header = segment_file.decode(bytes_at(file, 0, min(HEADER_BYTES, file.size_bytes)), name)
        expected = (row.id, self.manifest.uuid, row.kind, row.first_version)
        found = (header.id, header.uuid, header.kind, header.first_version)
        if found != expected:
            raise CorruptData("segment header", file=name, offset=0, expected=expected, found=found)
        if row.size_bytes is not None:
            if file.size_bytes != row.size_bytes:
                raise CorruptData(
                    "size of a closed segment",
                    file=name,
                    offset=0,
                    expected=row.size_bytes,
                    found=file.size_bytes,
                )
            file.close_descriptor()
        return file, header

    # -- replay

    def _replay_all(self, rows: list[SegmentRow]) -> None:
        known = {row.id: row for row in self.saved.segments} if self.saved else {}
        self.end.version = self.saved.version if self.saved else 0
        for position, row in enumerate(rows):
            start = known[row.id].end if row.id in known else HEADER_BYTES
            if row.size_bytes is not None:
                self._replay_closed(row, start)
                self.rows.append(row)
                continue
            if not self._follows(row, row.id in known):
                self._stop(rows[position:])
                return
            until = self._last_version(rows, position)
            replay = self._replay(row, start, row.id in known, until)
            self.rows = [
                *with_actual_ends([*self.rows, replace(row, last_version=self.end.version)])
            ]
            self.end.segment_id, self.end.offset = row.id, replay.offset
            self.end.bad_offset = max(replay.bad_offset, replay.offset)
            if replay.code != 0:
                self._judge(row, replay)
                self._stop(rows[position + 1 :])
                return
        self._finish()

    def _follows(self, row: SegmentRow, is_saved: bool) -> bool:
        """True unless the log broke off before an open segment.

        Compaction leaves out versions, so only after another open segment, or for a segment that
        the manifest does not know, must the first version be the very next one.
        """
        is_named = any(row.id == other.id for other in self.manifest.segments)
        if is_saved or (is_named and not self.end.segment_id):
            return True
        version = self.end.version
        if not self.end.segment_id:
            version = max(version, self.manifest.version)
        return row.first_version == version + 1

    def _last_version(self, rows: list[SegmentRow], position: int) -> int | None:
        """Return the last version of a segment that counts.

        Records that a killed writer left behind don't count, nor those after the last visible
        version, where a writer may be at work.
        """
        if position + 1 == len(rows):
            return self._until
        last = rows[position + 1].first_version - 1
        return last if self._until is None else min(self._until, last)

    def _replay(self, row: SegmentRow, start: int, is_saved: bool, until: int | None) -> Replay:
        """Apply an open segment as far as it is good."""
        table = self.reader.segment_table
        replay = Replay(
            self.reader,
            self.order,
            row.id,
            start=start,
            end=table.segment_file(row.id).size_bytes,
            version=self.end.version if is_saved else row.first_version - 1,
            contiguous=True,
            known=self._known_keys(),
        )
        if until is None:
            replay.run()
        elif replay.version < until:
            replay.run(until=until)
        self.replayed = self.replayed or replay.version > self.end.version
        self.end.version = max(self.end.version, replay.version)
        table.set_end(row.id, replay.offset)
        return replay

    def _known_keys(self) -> int:
        """Return the version up to which keys need not be put in order."""
        if not self._with_keys:
            return VERSION_LIMIT
        return self.saved.version if self.saved else 0

    def _replay_closed(self, row: SegmentRow, start: int) -> None:
        """Apply what a closed segment has beyond the saved index; all of it must be good."""
        assert row.size_bytes is not None
        assert row.last_version is not None
        self.end.version = max(self.end.version, row.last_version)
        self.reader.segment_table.set_end(row.id, row.size_bytes)
        if start == row.size_bytes:
            return
        name = segment_file.file_name(row.id)
        before = row.first_version - 1
        if start > HEADER_BYTES and self.saved is not None:
            before = self.saved.version
        replay = Replay(
            self.reader,
            self.order,
            row.id,
            start=start,
            end=row.size_bytes,
            version=before,
            contiguous=row.kind == LOG,
            known=self._known_keys(),
        )
        replay.run()
        self.replayed = True
        if replay.code != 0 or replay.offset != row.size_bytes:
            raise trust.broken(name, replay)
        if replay.version > row.last_version or (
            row.kind == LOG and replay.version < row.last_version
        ):
            raise CorruptData(
                "last version of a closed segment",
                file=name,
                offset=replay.offset,
                expected=row.last_version,
                found=replay.version,
            )

    # -- the end of the log

    def _judge(self, row: SegmentRow, replay: Replay) -> None:
        """A bad record: the torn end of the last writes, or damage to what was durable?

        Raises:
            CorruptData: a witness says that the log went on.
        """
        name = segment_file.file_name(row.id)
        if self.end.version < self._must_reach:
            raise trust.broken(name, replay)
        file = self.reader.segment_table.segment_file(row.id)
        start = max(replay.bad_offset, replay.offset)
        if last_durable_mark(self.reader, row.id, start + 16, file.size_bytes):
            raise trust.broken(name, replay)

    def _finish(self) -> None:
        """The log ended without a bad record; look whether it should have gone on."""
        if not self.end.segment_id:
            self._compare_with_page("the store", 0)
            return
        name = segment_file.file_name(self.end.segment_id)
        self._compare_with_page(name, self.end.offset)
        file = self.reader.segment_table.segment_file(self.end.segment_id)
        settled = self._page_is_current and self._must_reach == self.end.version
        if self._until is None and not settled and file.size_bytes > self.end.offset:
            mark = last_durable_mark(
                self.reader, self.end.segment_id, self.end.bad_offset, file.size_bytes
            )
            if mark:
                raise CorruptData(
                    "record",
                    file=name,
                    offset=self.end.offset,
                    expected=f"records up to the durable one at byte {mark}",
                    found="the end of the log",
                )
        self._cut()

    def _compare_with_page(self, name: str, offset: int) -> None:
        dropped = 0 if self.end.segment_id else self.manifest.version  # by a compaction
        version = max(self.end.version, dropped)
        if version < self._must_reach:
            raise CorruptData(
                "end of the log",
                file=name,
                offset=offset,
                expected=f"changes up to version {self._must_reach}",
                found=f"version {version}",
            )

    def _stop(self, later: list[SegmentRow]) -> None:
        """The log ends here; segments that were begun later hold nothing that counts."""
        name = segment_file.file_name(self.end.segment_id or later[0].id)
        self._compare_with_page(name, self.end.offset)
        for row in later:
            end = self.reader.segment_table.segment_file(row.id).size_bytes
            if self._until is None and (
                row.size_bytes is not None
                or last_durable_mark(self.reader, row.id, HEADER_BYTES, end)
            ):
                raise CorruptData(
                    "versions of a segment",
                    file=segment_file.file_name(row.id),
                    offset=0,
                    expected=f"first version {self.end.version + 1}",
                    found=row.first_version,
                )
            self.reader.segment_table.retire(row.id)
            if self._alone:
                self.directory.remove(segment_file.file_name(row.id))
        if later and self._alone:
            self.directory.sync()  # else they might come back and fit what is written next
        self._cut()

    def _cut(self) -> None:
        """Leave nothing behind the end of the log."""
        if self._alone and self.end.segment_id:
            file = self.reader.segment_table.segment_file(self.end.segment_id)
            if file.size_bytes > self.end.offset:
                unclean = file.has_bytes(self.end.offset)
                file.shorten(self.end.offset)
                if unclean:
                    file.flush()  # else old bytes might come back behind what is written next

"""Verification: every byte of every file against its checksum, and the files against each other.

Invariants:

* Nothing is changed, and verification does not stop at the first problem: the report lists all.
* A damaged record costs only itself: the walk continues at the next intact one.
* Problems that a later operation would run into are found here: versions that do not increase, an
  index that does not match the log, keys that are in no run.
* Files that another process has replaced meanwhile are not damage.  So problems count only if the
  manifest is still the same, or if two passes in a row find them in a file that still exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from kvengine.engine import opening, store_folder
from kvengine.engine.access.reading import Reader
from kvengine.engine.index import index_file
from kvengine.engine.index.group_sizes import GroupSizes
from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.index.index_check import IndexCheck
from kvengine.engine.index.saved_index import SavedIndex
from kvengine.engine.log import manifest as manifests
from kvengine.engine.log import segment_file
from kvengine.engine.log.log_walk import LogWalk
from kvengine.engine.log.manifest import Manifest
from kvengine.engine.log.names import MANIFEST_NAME
from kvengine.engine.log.record import damage
from kvengine.engine.log.segment import SegmentTable, bytes_at
from kvengine.engine.open_store import OpenStore
from kvengine.engine.order.key_order import KeyOrder
from kvengine.engine.parts import Moment, StoreParts
from kvengine.engine.recovery.recovery import Recovery
from kvengine.entry import VerifyReport
from kvengine.errors import CorruptData
from kvengine.file.directory import Directory
from kvengine.file.filesystem import refuse_shared
from kvengine.file.local import LocalDirectory
from kvengine.options import Options

Progress = Callable[[int, int], None]


class Verification:
    """One pass over the files of a store."""

    def __init__(self, directory: Directory, manifest: Manifest, progress: Progress | None) -> None:
        self._directory, self._manifest, self._progress = directory, manifest, progress
        self.files = self.records = self.bytes = 0
        self._total = 0
        self.problems: list[CorruptData] = []

    def run(self, ends: dict[int, int]) -> VerifyReport:
        """Check the manifest, the segments up to the given ends, then what is derived from them."""
        self._attempt(self._manifest_file)
        rows = {row.id: row.size_bytes for row in self._manifest.segments} | dict(ends)
        index_bytes = self._manifest.index[1] if self._manifest.index else 0
        self._total = sum(size or 0 for size in rows.values()) + index_bytes
        for segment_id, size in rows.items():
            self._attempt(partial(self._segment, segment_id, size))
        if self._manifest.index is not None:
            self._attempt(self._index)
        for name in self._manifest.key_runs:
            self._attempt(partial(self._key_run, name))
        if self._progress is not None:
            self._progress(self._total, self._total)
        return VerifyReport(self.files, self.records, self.bytes, tuple(self.problems))

    def _attempt(self, check: Callable[[], None]) -> None:
        try:
            check()
        except CorruptData as error:
            self.problems.append(error)
        except FileNotFoundError as error:
            self.problems.append(_missing(error))

    def _advance(self, size: int) -> None:
        self.bytes += size
        if self._progress is not None:
            self._progress(min(self.bytes, self._total), self._total)

    def _manifest_file(self) -> None:
        try:
            data = self._directory.read(MANIFEST_NAME)
        except FileNotFoundError:
            raise CorruptData(
                "manifest", file=MANIFEST_NAME, offset=0, expected="a manifest", found="none"
            ) from None
        manifests.decode(data, MANIFEST_NAME)
        self.files += 1

    def _segment(self, segment_id: int, end: int | None) -> None:
        name = segment_file.file_name(segment_id)
        try:
            file = self._directory.open(name, map_bytes=0)
        except FileNotFoundError:
            raise CorruptData(
                "segment file", file=name, offset=0, expected="a file", found="none"
            ) from None
        header = segment_file.decode(
            bytes_at(file, 0, min(segment_file.HEADER_BYTES, file.size_bytes)), name
        )
        self._compare_header(name, header)
        self.files += 1
        if end is None:
            end = file.size_bytes
        if end > file.size_bytes:
            raise CorruptData(
                "size of a segment", file=name, offset=0, expected=end, found=file.size_bytes
            )
        first = header.first_version
        walk = LogWalk(file, header.salt, segment_file.HEADER_BYTES, end, first - 1)
        last = walk.offset
        while walk.offset < end:
            size = walk.skip_record()
            if size > 0:
                self.records += 1
            else:
                self.problems.append(
                    damage(size if size < 0 else -1, name, walk.offset, "other bytes")
                )
                if not walk.find_next():
                    break
            if walk.offset - last > 1 << 20:
                self._advance(walk.offset - last)
                last = walk.offset
        self._advance(walk.offset - last)

    def _compare_header(self, name: str, header: segment_file.SegmentHeader) -> None:
        found = (header.uuid, header.kind, header.first_version)
        for row in self._manifest.segments:
            expected = (self._manifest.uuid, row.kind, row.first_version)
            if row.id == header.id and found != expected:
                raise CorruptData(
                    "segment header", file=name, offset=0, expected=expected, found=found
                )

    def _index(self) -> None:
        assert self._manifest.index is not None
        index_id, size_bytes = self._manifest.index
        file, saved = index_file.load(self._directory, index_id, size_bytes, self._manifest.uuid)
        self.files += 1
        for shard, expected in enumerate(saved.checksums):
            piece = bytes_at(file, shard * index_file.SHARD_BYTES, index_file.SHARD_BYTES)
            if xxh3_64(piece, shard) != expected:
                self.problems.append(
                    CorruptData(
                        "checksum of the saved index",
                        file=index_file.file_name(index_id),
                        offset=shard * index_file.SHARD_BYTES,
                        expected=expected,
                        found=xxh3_64(piece, shard),
                    )
                )
            self._advance(len(piece))

    def _key_run(self, name: str) -> None:
        order = KeyOrder(1024)
        order.load(self._directory, [name], self._manifest.uuid)
        self.files += 1
        self.problems.extend(order.problems())


def verify_open(store: StoreParts, progress: Progress | None) -> VerifyReport:
    """Verify a store that is in use; its jobs go on, but leave the files that are looked at."""
    before = VerifyReport(0, 0, 0, ())
    with store.pins.pin():
        while True:
            moment = store.as_of_now()
            report = Verification(store.directory, moment.manifest, progress).run(moment.ends)
            report = merged(report, index_problems(store.directory, moment, store.options.clock))
            if report.ok or store.follower is None:
                return report
            store.follower.refresh()  # else the next pass may miss a file that is gone already
            if moment.manifest.generation == store.manifest.generation:
                return report
            if found := found_in_both(report, before):
                return replace(report, problems=found)
            before = report


def index_problems(directory: Directory, moment: Moment, clock: Any) -> list[CorruptData]:
    """Compare the index, as an open makes it from the files, with the one that the log gives.

    Takes the memory of two indexes.  What stops one of them is the only result then.
    """
    try:
        saved = None
        if moment.manifest.index is not None:
            _, saved = index_file.load(directory, *moment.manifest.index, moment.manifest.uuid)
        counted = saved.groups if saved is not None else None
        opened = _recovered(directory, moment, clock, counted, rebuild=False)
        replayed = _recovered(directory, moment, clock, counted, rebuild=True)
        if opened.retired_slots:
            opened.reader.groups = None  # an open counts them anew
        return IndexCheck(opened.reader, replayed.reader).run(opened.order)
    except CorruptData as error:
        return [error]
    except FileNotFoundError as error:  # replaced meanwhile
        return [_missing(error)]


def _missing(error: FileNotFoundError) -> CorruptData:
    name = str(error.filename)
    return CorruptData("file", file=name, offset=0, expected="a file", found="none")


def _recovered(
    directory: Directory,
    moment: Moment,
    clock: Any,
    counted: tuple[bytes, int] | None,
    *,
    rebuild: bool,
) -> Recovery:
    """Return a recovery up to a moment, into a reader of its own."""
    table, reader, order = SegmentTable(), Reader(), KeyOrder(1024)
    reader.configure(SavedIndex(table), table, moment.manifest.seed, clock, "always")
    if counted is not None:
        reader.groups = GroupSizes(*counted)
    recovery = Recovery(
        reader,
        order,
        directory,
        moment.manifest,
        writable=False,
        alone=False,
        rebuild=rebuild,
        until=moment.version,
        control=None,
        boot=0,
        with_keys=not rebuild,
    )
    recovery.run()
    return recovery


def verify(path: Any, progress: Progress | None = None) -> VerifyReport:
    """Verify a store without opening it.

    This works on a damaged store, and changes nothing.  Records after the last closed segment are
    checked as far as recovery would read them.

    Raises:
        NotAStore: there is no store at `path`.
    """
    folder = opening.folder_path(path)
    refuse_shared(folder)
    directory = LocalDirectory(folder, create=False)
    before = VerifyReport(0, 0, 0, ())
    try:
        while True:
            manifest, report = _verify_once(directory, progress)
            if report.ok:
                return report
            if store_folder.newest_manifest(directory).generation == manifest.generation:
                return report
            if found := found_in_both(report, before):
                return replace(report, problems=found)
            before = report
    except CorruptData as error:
        return VerifyReport(1, 0, 0, (error,))
    finally:
        directory.close()


def _verify_once(directory: Directory, progress: Progress | None) -> tuple[Manifest, VerifyReport]:
    manifest = store_folder.load_manifest(directory, create=False)
    problems: list[CorruptData] = []
    ends: dict[int, int] = {}
    try:
        with opening.opened(OpenStore, directory.reader(), Options(read_only=True)) as store:
            moment = store.as_of_now()
            manifest, ends = moment.manifest, moment.ends
            problems += index_problems(directory, moment, store.options.clock)
    except CorruptData as error:
        problems.append(error)
    report = Verification(directory, manifest, progress).run(ends)
    return manifest, merged(report, problems)


def merged(report: VerifyReport, more: list[CorruptData]) -> VerifyReport:
    """Return a report that also lists problems that stopped a recovery."""
    places = {_location(problem) for problem in report.problems}
    new = [problem for problem in more if _location(problem) not in places]
    return VerifyReport(report.files, report.records, report.bytes, (*report.problems, *new))


def found_in_both(report: VerifyReport, before: VerifyReport) -> tuple[CorruptData, ...]:
    """Return the problems of a pass that the one before it had found, too, in files that are there.

    What is not there may have been replaced again.
    """
    places = {_location(problem) for problem in before.problems}
    return tuple(
        problem
        for problem in report.problems
        if problem.found != "none" and _location(problem) in places
    )


def _location(problem: CorruptData) -> tuple[str, int]:
    """Where a problem is; what reads through a mapping says the whole path of the file."""
    return problem.file.rpartition("/")[2], problem.offset

"""Verification: every byte of every file compared with its checksum.

Invariants:

* Nothing is changed, and nothing stops at the first problem: the report lists what it could find.
* A damaged record costs only itself: the walk goes on at the next whole one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kvengine.engine import index_file, opening, segment_file
from kvengine.engine import manifest as manifests
from kvengine.engine.hash import xxh3_64
from kvengine.engine.key_order import KeyOrder
from kvengine.engine.log_walk import LogWalk
from kvengine.engine.manifest import Manifest
from kvengine.engine.names import MANIFEST_NAME
from kvengine.engine.record import damage
from kvengine.engine.segment import MAP_BYTES, bytes_at
from kvengine.entry import VerifyReport
from kvengine.errors import CorruptData
from kvengine.file.directory import Directory
from kvengine.file.local import LocalDirectory

if TYPE_CHECKING:
    from kvengine.engine.parts import StoreParts

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
            file = self._directory.open(name, map_bytes=MAP_BYTES)
        except FileNotFoundError:
            raise CorruptData(
                "segment file", file=name, offset=0, expected="a file", found="none"
            ) from None
        header = segment_file.decode(
            bytes_at(file, 0, min(segment_file.HEADER_BYTES, file.size_bytes)), name
        )
        self.files += 1
        if end is None:
            end = file.size_bytes
        if end > file.size_bytes:
            raise CorruptData(
                "size of a segment", file=name, offset=0, expected=end, found=file.size_bytes
            )
        walk = LogWalk(file, header.salt, segment_file.HEADER_BYTES, end)
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
    with store.pins.pin():
        while True:
            now = store.as_of_now()
            report = Verification(store.directory, now.manifest, progress).run(now.ends)
            # Beside a writer, files that it has replaced are no damage: look at the new ones.
            if report.ok or store.follower is None or not store.follower.refresh():
                return report


def verify(path: Any, progress: Progress | None = None) -> VerifyReport:
    """Verify a store that need not be able to open.

    Works on a damaged store; reads only.  Records behind the last closed segment are checked as
    far as a recovery would take them.

    Raises:
        NotAStore: there is no store at `path`.
    """
    directory = LocalDirectory(opening.folder_path(path), create=False, read_only=True)
    try:
        while True:
            manifest, report = _verify_once(path, directory, progress)
            if report.ok:
                return report
            if opening.load_manifest(directory, create=False).generation == manifest.generation:
                return report  # else a writer has replaced files meanwhile
    except CorruptData as error:
        return VerifyReport(1, 0, 0, (error,))
    finally:
        directory.close()


def _verify_once(
    path: Any, directory: Directory, progress: Progress | None
) -> tuple[Manifest, VerifyReport]:
    from kvengine.engine.store import Store  # noqa: PLC0415 (Store itself offers verify)

    manifest = opening.load_manifest(directory, create=False)
    problems = []
    ends: dict[int, int] = {}
    try:
        with Store(path, read_only=True) as store:
            manifest = store.manifest
            ends = {row.id: store.segment_table.counters(row.id)[1] for row in store.rows}
    except CorruptData as error:
        problems.append(error)
    report = Verification(directory, manifest, progress).run(ends)
    return manifest, merged(report, problems)


def merged(report: VerifyReport, more: list[CorruptData]) -> VerifyReport:
    """Return a report that also lists problems that stopped a recovery."""
    places = {_place(problem) for problem in report.problems}
    new = [problem for problem in more if _place(problem) not in places]
    return VerifyReport(report.files, report.records, report.bytes, (*report.problems, *new))


def _place(problem: CorruptData) -> tuple[str, int]:
    """Where a problem is; what reads through a mapping says the whole path of the file."""
    return problem.file.rpartition("/")[2], problem.offset

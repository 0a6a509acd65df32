"""Whether the files of a store are consistent: valid checksums do not prove that.

Invariants:

* A saved index is trusted only if it ends where records of its version do (or did, if the last one
  was damaged since), in segments that the manifest has as well.  Anything else is CorruptData; with
  rebuild=True only the log counts.
* Segments that the manifest does not name either continue the log or are older than its end.  A
  manifest that lacks the segment in which the log continues is refused; nothing is removed.
* A new segment whose header was never completely on disk holds nothing durable: it is neither
  damage nor part of the log.
"""

from collections.abc import Sequence
from itertools import pairwise, zip_longest

from kvengine.engine.access.reading import Reader
from kvengine.engine.index import index_file
from kvengine.engine.index.index_file import Description
from kvengine.engine.log import segment_file
from kvengine.engine.log.manifest import LOG, Manifest, SegmentRow
from kvengine.engine.log.names import MANIFEST_NAME, id_of, is_segment
from kvengine.engine.log.record import damage
from kvengine.engine.log.segment import bytes_at
from kvengine.engine.log.segment_file import HEADER_BYTES, SegmentHeader
from kvengine.engine.recovery.replay import BAD_VERSION_CODE, Replay, may_end_at
from kvengine.errors import CorruptData, UnsupportedFormat
from kvengine.file.directory import Directory


def rows_after_manifest(
    directory: Directory, names: Sequence[str], manifest: Manifest
) -> list[SegmentRow]:
    """Return the segments, of all files, that were begun after the manifest was written."""
    found = []
    for name in names:
        if not is_segment(name) or (id_of(name) or 0) < manifest.next_id:
            continue
        header = _header(directory, name, manifest.uuid)
        if header is not None and header.kind == LOG and header.uuid == manifest.uuid:
            found.append(SegmentRow(header.id, LOG, header.first_version))
    found.sort(key=lambda row: row.id)
    # One that another follows with the same version was begun by a process that was killed then.
    return [
        row
        for row, after in zip_longest(found, found[1:])
        if after is None or row.first_version < after.first_version
    ]


def _header(directory: Directory, name: str, uuid: bytes) -> SegmentHeader | None:
    """Return the header of a segment; None if it is gone or was never on disk as a whole."""
    try:
        file = directory.open(name, map_bytes=HEADER_BYTES)
    except FileNotFoundError:  # a stray: a new writer has cleared up since names()
        return None
    data = bytes_at(file, 0, min(HEADER_BYTES, file.size_bytes))
    try:
        return segment_file.decode(data, name)
    except (CorruptData, UnsupportedFormat):
        if segment_file.is_torn(data, id_of(name) or 0, uuid):
            return None
        raise


def refuse_lost_segments(
    directory: Directory,
    names: Sequence[str],
    manifest: Manifest,
    rows: Sequence[SegmentRow],
    version: int,
) -> None:
    """Refuse a manifest that disowns the segment in which the log goes on behind a version.

    Unnamed segments with ids below `next_id` were replaced: what they hold is older than the end.

    Raises:
        CorruptData: one of them begins with the next version.
    """
    named = {row.id for row in rows}
    for name in names:
        number = id_of(name) or 0
        if not is_segment(name) or number in named or number >= manifest.next_id:
            continue
        try:
            header = _header(directory, name, manifest.uuid)
        except (CorruptData, UnsupportedFormat):  # it will be removed
            continue
        if header is None or header.kind != LOG or header.uuid != manifest.uuid:
            continue
        if any(row.id > number and row.first_version == header.first_version for row in rows):
            continue  # its writer was killed
        if header.first_version == version + 1 and directory.size(name) > HEADER_BYTES:
            raise CorruptData(
                "next_id",
                file=MANIFEST_NAME,
                offset=0,
                expected=f"at most {number}: the log goes on in {name}",
                found=manifest.next_id,
            )


def compare_with_manifest(saved: Description, manifest: Manifest) -> None:
    """Refuse a saved index that knows more than the manifest beside it, or less of a segment.

    Raises:
        CorruptData: it is not the index of this log.
    """
    rows = {row.id: row for row in manifest.segments}
    if saved.version > manifest.version:
        raise _inconsistent(manifest, "version", manifest.version, saved.version)
    for known in saved.segments:
        row = rows.get(known.id)
        if row is None or row.size_bytes is None or row.last_version is None:
            continue
        is_whole = row.last_version <= saved.version
        if is_whole != (known.end == row.size_bytes) or known.end > row.size_bytes:
            raise _inconsistent(
                manifest, f"end of segment {row.id}", f"that of version {saved.version}", known.end
            )


def compare_with_log(
    reader: Reader, saved: Description, manifest: Manifest, rows: Sequence[SegmentRow]
) -> None:
    """Refuse a saved index that ends where no record of its version does.

    Raises:
        CorruptData: it is not the index of this log.
    """
    if not reader.key_index.check_stash():
        raise _inconsistent(manifest, "stashed entry", "the address of a record", "another one")
    present = {row.id: row for row in rows}
    begins = {row.id: after.first_version for row, after in pairwise(rows)}
    last = saved.segments[-1].id if saved.segments else 0
    for known in saved.segments:
        row = present.get(known.id)
        if row is None or known.end == reader.segment_table.segment_file(row.id).size_bytes:
            continue
        version = saved.version if known.id == last else begins.get(known.id, 0) - 1
        if not may_end_at(reader, known.id, known.end, version):
            what = f"end of segment {known.id}"
            raise _inconsistent(manifest, what, f"the end of version {version}", known.end)
    # An index of 0.1 does not say by which seed keys were hashed: a record does.
    is_right = saved.seed_check == index_file.seed_check(manifest.seed)
    if not is_right and (saved.seed_check or not reader.key_index.fits_seed()):
        raise CorruptData(
            "seed (open with rebuild=True to rebuild the index with this one)",
            file=MANIFEST_NAME,
            offset=0,
            expected="the one with which the saved index was made",
            found=manifest.seed,
        )


def _inconsistent(manifest: Manifest, what: str, expected: object, found: object) -> CorruptData:
    assert manifest.index is not None
    return CorruptData(
        f"{what} in the saved index (open with rebuild=True to rebuild it from the log)",
        file=index_file.file_name(manifest.index[0]),
        offset=0,
        expected=expected,
        found=found,
    )


def broken(name: str, replay: Replay) -> CorruptData:
    """Return the error of a log that ends where it must go on."""
    if replay.code == BAD_VERSION_CODE:
        return CorruptData(
            "version",
            file=name,
            offset=replay.bad_offset,
            expected=replay.version + 1,
            found="another version",
        )
    if replay.code == 0:
        return CorruptData(
            "record", file=name, offset=replay.offset, expected="a record", found="the end"
        )
    return damage(replay.code, name, replay.bad_offset, "other bytes")

"""The saved index: the hash index as of one version, in a file that is mapped at the next open.

FORMAT.md has the layout: shards, a description, and a trailer.

Invariants:

* A saved index is written once and never changed; opening maps it copy-on-write.
* Its description is checked at open, each shard at its first use: not only that the bytes are those
  that were written, but that they are consistent.
* It is derived: with rebuild=True a store opens without it, from the log alone.
"""

import math
import struct
from array import array
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log.manifest import NUMBER_LIMIT
from kvengine.engine.log.segment import MAP_BYTES, bytes_at
from kvengine.engine.log.segment_file import HEADER_BYTES
from kvengine.errors import CorruptData, UnsupportedFormat
from kvengine.file.directory import Directory
from kvengine.file.mapped import MappedFile
from kvengine.options import VERSION_LIMIT

MAGIC = b"kvindex\0"
FORMAT = 1
SHARD_BYTES = 65536
TRAILER = struct.Struct("<8sII16sQQQ")
TRAILER_BYTES = TRAILER.size + 8
FIXED = struct.Struct("<8Q")
SEGMENT = struct.Struct("<6Q2d")
STASHED = struct.Struct("<2Q")
GROUP = struct.Struct("<Qd2Q")
ENTRIES, SLOTS, RECORD_BYTES_MIN = 8192, 65536, 32  # of a shard; of addresses; of a record


@dataclass(frozen=True, slots=True)
class SavedSegment:
    """What the index knew about one segment; sizes in bytes."""

    id: int
    slot: int
    end: int  # records below it are in the index
    live: int
    tombstones: int
    expiring: int
    expiry_min: float  # seconds since the epoch; 0: no record expires
    expiry_max: float


@dataclass(frozen=True, slots=True)
class Description:
    """Everything about a saved index but its shards."""

    version: int  # changes up to this one are in it
    count: int
    removals: int
    segments: tuple[SavedSegment, ...]
    stash: tuple[tuple[int, int], ...]
    groups: tuple[bytes, int] | None  # by which bytes keys are counted
    group_rows: tuple[tuple[int, float, int, int], ...]  # group, expiry, keys, bytes
    checksums: Sequence[int]  # one a shard
    seed_check: int = 0  # in the trailer: see seed_check(); 0: not recorded (0.1)

    def encode(self) -> bytes:
        """Return the description as bytes."""
        checksums = array("Q", self.checksums)
        parts = [
            FIXED.pack(
                self.version,
                self.count,
                self.removals,
                len(checksums),
                len(self.segments),
                len(self.stash),
                _encode_setting(self.groups),
                len(self.group_rows),
            )
        ]
        parts += [SEGMENT.pack(*astuple(row)) for row in self.segments]
        parts += [STASHED.pack(*pair) for pair in self.stash]
        parts += [GROUP.pack(*row) for row in self.group_rows]
        return b"".join(parts) + checksums.tobytes()


def file_name(index_id: int) -> str:
    """Return the name of a saved index."""
    return f"{index_id:08x}.index"


def seed_check(seed: int) -> int:
    """Return what an index records of the seed with which its keys were hashed; never 0."""
    return xxh3_64(seed.to_bytes(8, "little")) & 0xFFFFFFFF or 1


def trailer(uuid: bytes, index_id: int, meta_offset: int, meta: bytes, *, check: int = 0) -> bytes:
    """Return the last bytes of the file; `check` is that of the seed."""
    body = TRAILER.pack(MAGIC, FORMAT, check, uuid, index_id, meta_offset, xxh3_64(meta))
    return body + struct.pack("<Q", xxh3_64(body))


def load(
    directory: Directory, index_id: int, size_bytes: int, uuid: bytes
) -> tuple[MappedFile, Description]:
    """Open a saved index and check everything but its shards.

    Raises:
        CorruptData: it is missing, has another size, or its description is damaged.
    """
    name = file_name(index_id)
    try:
        found = directory.size(name)
    except FileNotFoundError:
        found = -1
    if found != size_bytes or size_bytes < TRAILER_BYTES:
        raise _damage("size of the saved index", name, 0, size_bytes, found)
    file = directory.open(name, map_bytes=size_bytes)
    at = size_bytes - TRAILER_BYTES
    tail = bytes_at(file, at, TRAILER_BYTES)
    if struct.pack("<Q", xxh3_64(tail[:-8])) != tail[-8:]:
        raise _damage("trailer checksum", name, at, xxh3_64(tail[:-8]), "another checksum")
    magic, format_version, check, owner, number, meta_offset, checksum = TRAILER.unpack(tail[:-8])
    if magic != MAGIC or format_version != FORMAT:
        raise UnsupportedFormat(f"{name} has format {format_version}; this version reads {FORMAT}")
    if owner != uuid or number != index_id or not 0 <= meta_offset <= at:
        raise _damage("identity of the saved index", name, at, uuid.hex(), owner.hex())
    meta = bytes_at(file, meta_offset, at - meta_offset)
    if xxh3_64(meta) != checksum:
        raise _damage("description checksum", name, meta_offset, checksum, xxh3_64(meta))
    return file, _decode(meta, name, meta_offset, check)


def _decode(meta: bytes, name: str, offset: int, check: int) -> Description:
    if len(meta) < FIXED.size:
        raise _damage("description size", name, offset, FIXED.size, len(meta))
    fixed = FIXED.unpack_from(meta, 0)
    version, count, removals, shards, segments, stashed, setting, groups = fixed
    at = FIXED.size
    expected = at + segments * SEGMENT.size + stashed * STASHED.size + groups * GROUP.size
    expected += shards * 8
    if len(meta) != expected or offset != shards * SHARD_BYTES or shards == 0:
        raise _damage("description size", name, offset, expected, len(meta))
    rows = tuple(
        SavedSegment(*SEGMENT.unpack_from(meta, at + i * SEGMENT.size)) for i in range(segments)
    )
    at += segments * SEGMENT.size
    stash = tuple(STASHED.unpack_from(meta, at + i * STASHED.size) for i in range(stashed))
    at += stashed * STASHED.size
    counted = tuple(GROUP.unpack_from(meta, at + i * GROUP.size) for i in range(groups))
    at += groups * GROUP.size
    checksums = array("Q", meta[at:])
    found = Description(
        version, count, removals, rows, stash, _decode_setting(setting), counted, checksums, check
    )
    if conflict := _conflict(found):
        raise _damage("description", name, offset, "numbers that fit together", conflict)
    return found


def _conflict(found: Description) -> str | None:
    """Return what in a description can't be so, whatever the log holds; None: nothing."""
    rows = found.segments
    if not found.version < VERSION_LIMIT or found.removals >= NUMBER_LIMIT:
        return f"version {found.version}, {found.removals} removals"
    if not len(found.stash) <= found.count <= len(found.checksums) * ENTRIES + len(found.stash):
        return f"{found.count} keys"
    if len({row.slot for row in rows}) < len(rows) or len({row.id for row in rows}) < len(rows):
        return "segments that are there twice"
    for row in rows:
        if not _row_is_possible(row):
            return str(row)
    if sum(row.live for row in rows) < found.count * RECORD_BYTES_MIN:
        return f"{found.count} keys in too few bytes"
    groups = found.group_rows
    if len({row[:2] for row in groups}) < len(groups):
        return "groups that are there twice"
    if sum(keys for _, _, keys, _ in groups) > found.count or any(
        not math.isfinite(expiry) or keys == 0 or size >= NUMBER_LIMIT
        for _, expiry, keys, size in groups
    ):
        return "sizes of groups"
    return None


def _row_is_possible(row: SavedSegment) -> bool:
    """True if what an index knew of a segment can be so."""
    room = row.end - HEADER_BYTES
    first, last = row.expiry_min, row.expiry_max
    return (
        1 <= row.slot < SLOTS
        and 1 <= row.id < NUMBER_LIMIT
        and 0 <= room <= MAP_BYTES
        and row.live + row.tombstones <= room
        and row.expiring <= row.live
        and math.isfinite(first)
        and math.isfinite(last)
        and first <= last
        and (first != 0 or last != 0 or row.expiring == 0)
    )


def _encode_setting(groups: tuple[bytes, int] | None) -> int:
    """Return which keys are counted as a number: size, length of the start, start."""
    if groups is None:
        return 0
    start, size = groups
    return int.from_bytes(bytes((size, len(start))) + start.ljust(6, b"\0"), "little")


def _decode_setting(number: int) -> tuple[bytes, int] | None:
    data = number.to_bytes(8, "little")
    return (data[2 : 2 + data[1]], data[0]) if number else None


def _damage(what: str, file: str, offset: int, expected: object, found: object) -> CorruptData:
    what += " (open with rebuild=True to rebuild the index from the log)"
    return CorruptData(what, file=file, offset=offset, expected=expected, found=found)

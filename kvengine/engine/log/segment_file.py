"""The header of a segment file: 64 bytes that identify the segment and its store.

Invariants:

* The header is checked before any byte of the segment is trusted.
* Its salt is random and part of the checksum of every record, so records of another segment are
  never accepted, even in blocks that a file system reuses.
"""

import secrets
import struct
from dataclasses import dataclass

from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log.manifest import COMPACTED, LOG
from kvengine.engine.log.segment import MAP_BYTES
from kvengine.errors import CorruptData, UnsupportedFormat
from kvengine.file.directory import Directory
from kvengine.file.mapped import MappedFile
from kvengine.options import VERSION_LIMIT

MAGIC = b"kvengine"
FORMAT = 1
HEADER = struct.Struct("<8sII16sQQQ")
HEADER_BYTES = HEADER.size + 8
KNOWN_BYTES = 40  # of the header of a new segment: what follows is said nowhere else


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Which segment this is; `kind` as in the manifest."""

    kind: int
    uuid: bytes
    id: int
    first_version: int
    salt: int

    def encode(self) -> bytes:
        """Return the header as bytes."""
        body = HEADER.pack(
            MAGIC, FORMAT, self.kind, self.uuid, self.id, self.first_version, self.salt
        )
        return body + struct.pack("<Q", xxh3_64(body))


def file_name(segment_id: int) -> str:
    """Return the name of a segment's file."""
    return f"{segment_id:08x}.log"


def create(
    directory: Directory, segment_id: int, kind: int, uuid: bytes, first_version: int
) -> tuple[MappedFile, int]:
    """Make the file of a new segment, header and all; return it with its salt.

    One that is compacted is read when shorten() was called: only then is it mapped.
    """
    header = SegmentHeader(kind, uuid, segment_id, first_version, secrets.randbits(64))
    file = make(directory, segment_id, map_bytes=0 if kind == COMPACTED else MAP_BYTES)
    try:
        file.write(header.encode(), 0)
    except BaseException:
        directory.remove(file_name(segment_id))
        raise
    return file, header.salt


def make(directory: Directory, segment_id: int, map_bytes: int = MAP_BYTES) -> MappedFile:
    """Make the file of a new segment, with room for its header."""
    name = file_name(segment_id)
    file = directory.open(name, new=True, writable=True, map_bytes=map_bytes)
    try:
        file.allocate(HEADER_BYTES)
    except BaseException:
        directory.remove(name)
        raise
    return file


def decode(data: bytes, file: str) -> SegmentHeader:
    """Return the header in `data`.

    Raises:
        CorruptData: it is damaged, or no header of a segment.
        UnsupportedFormat: it was written by a version with another format.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptData(
            "segment header", file=file, offset=0, expected=f"{HEADER_BYTES} bytes", found=len(data)
        )
    body = data[: HEADER.size]
    (checksum,) = struct.unpack_from("<Q", data, HEADER.size)
    magic, format_version, kind, uuid, segment_id, first_version, salt = HEADER.unpack(body)
    if checksum != xxh3_64(body):
        raise CorruptData(
            "segment header checksum",
            file=file,
            offset=HEADER.size,
            expected=xxh3_64(body),
            found=checksum,
        )
    if magic != MAGIC or format_version != FORMAT:
        raise UnsupportedFormat(
            f"{file} has format {format_version}; this version of kvengine reads format {FORMAT}"
        )
    if kind > 1 or not 1 <= first_version < VERSION_LIMIT or f"{segment_id:08x}.log" != file:
        raise CorruptData(
            "segment header",
            file=file,
            offset=0,
            expected="the kind, first version and id of this file",
            found=f"kind {kind}, version {first_version}, id {segment_id}",
        )
    return SegmentHeader(kind, uuid, segment_id, first_version, salt)


def is_torn(data: bytes, segment_id: int, uuid: bytes) -> bool:
    """True if this is what a power cut, or a kill, may leave of the header of a new segment.

    The header is written once, before anything else is, and is on disk as a whole after the first
    sync of the file.  So if only its beginning is there and zeros follow, or zeros and then its
    end, nothing in the segment was ever durable.  Any other damage looks different: what is there
    must be, byte for byte, what was written, as far as that can be known.
    """
    data = data.ljust(HEADER_BYTES, b"\0")
    return any(
        _is_part(data, HEADER.pack(MAGIC, FORMAT, kind, uuid, segment_id, 0, 0)[:KNOWN_BYTES])
        for kind in (LOG, COMPACTED)
    )


def _is_part(data: bytes, known: bytes) -> bool:
    """True if this is a part of a header that begins with what is known."""
    begun = data.rstrip(b"\0")
    if len(begun) < HEADER_BYTES:
        checksum = struct.pack("<Q", xxh3_64(data[: HEADER.size]))[: max(len(begun) - 56, 0)]
        if known.startswith(begun[:KNOWN_BYTES]) and begun[56:] == checksum:
            return True
    missing = HEADER_BYTES - len(data.lstrip(b"\0"))
    whole = (known + data[KNOWN_BYTES:])[: HEADER.size]
    if 0 < missing <= KNOWN_BYTES:
        there = known[missing:] == data[missing:KNOWN_BYTES]
        return there and data[HEADER.size :] == struct.pack("<Q", xxh3_64(whole))
    return missing > KNOWN_BYTES

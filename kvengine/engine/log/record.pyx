"""A record: one change of one key, and the version that made it, as bytes.

FORMAT.md draws the layout.  `Header` in record.pxd is that drawing as a C struct, and
tests/engine/test_format.py fails when the two disagree.

Invariants:

* The checksum covers every byte after itself (through a second checksum for values above 4 KiB),
  so a damaged length cannot pass.
* It is seeded with the segment's salt and the record's offset, so a record that was copied to
  another place, or left over from an earlier life of the blocks, cannot pass either.
* Nothing here reads past `available`, whatever the lengths in the header say.
"""

from libc.math cimport isfinite

from kvengine.errors import CorruptData
from kvengine.options import KEY_BYTES_MAX, METADATA_BYTES_MAX, VALUE_BYTES_MAX

cdef uint64_t KEY_MAX = KEY_BYTES_MAX
cdef uint64_t METADATA_MAX = METADATA_BYTES_MAX
cdef uint64_t VALUE_MAX = VALUE_BYTES_MAX

REASONS = {
    BAD_SIZE: ("record size", "a record that ends inside the segment"),
    BAD_CHECKSUM: ("record checksum", "the checksum of the bytes that follow"),
    BAD_FIELD: ("record header", "a kind, flags and sizes that the format knows"),
    BAD_VALUE: ("value checksum", "the checksum in the record's header"),
    UNREADABLE: ("record", "bytes that can be read (was the file truncated, does the disk fail?)"),
    BAD_VERSION: ("version", "a version above those of the records before"),
    BAD_ENTRY: ("entry of the key index (open with rebuild=True to rebuild it from the log)",
                "a record of the key"),
}


cdef bint value_is_right(const Header *header, uint64_t seed) noexcept nogil:
    """True if a large value is what was written; small ones are covered by the header."""
    cdef uint8_t flags = flags_of(header)
    cdef uint64_t expected
    if not flags & LARGE:
        return True
    memcpy(&expected, <const char *>header + key_offset(flags) - 8, 8)
    cdef const char *value = value_of(header)
    cdef uint64_t covered = size_of(header) - <uint64_t>(value - <const char *>header)
    return xxh3(value, covered, seed) == expected


cdef int64_t check(
    const char *start, uint64_t available, uint64_t seed, bint with_value
) noexcept nogil:
    """Return the size of the record at `start`, END_OF_LOG, or what is wrong with it."""
    cdef const Header *header = <const Header *>start
    cdef uint64_t i
    if available < HEADER_BYTES:
        for i in range(available):  # what was allocated ahead may end in the middle of a header
            if start[i]:
                return BAD_SIZE
        return END_OF_LOG
    if header.checksum == 0 and header.version_and_kind == 0 and header.value_size == 0:
        return END_OF_LOG
    cdef uint8_t kind = kind_of(header)
    cdef uint8_t flags = flags_of(header)
    if (
        (kind != PUT and kind != DELETE)
        or flags > EXPIRES + LARGE + MORE + DURABLE + GAP
        or header.key_size == 0
        or header.key_size > KEY_MAX
        or header.metadata_size > METADATA_MAX
        or header.value_size > VALUE_MAX
        or kind == DELETE and (
            header.value_size or header.metadata_size or flags & (EXPIRES | LARGE))
        or (header.value_size > SMALL_VALUE_BYTES) != ((flags & LARGE) != 0)
    ):
        return BAD_FIELD
    cdef uint64_t size = size_of(header)
    if size > available:
        return BAD_SIZE
    if flags & EXPIRES and not (isfinite(expiry_of(header)) and expiry_of(header)):
        return BAD_FIELD
    if not checksum_is_right(header, seed):
        return BAD_CHECKSUM
    if with_value and not value_is_right(header, seed):
        return BAD_VALUE
    return <int64_t>size


cdef bint is_whole(
    const char *base, uint64_t offset, uint64_t end, uint64_t salt, uint64_t seed, uint64_t *hash
) noexcept nogil:
    """True if a record is what was written (not counting a large value); gives its key's hash."""
    cdef const Header *header = <const Header *>(base + offset)
    if check(base + offset, end - offset, salt + offset, False) <= 0:
        return False
    hash[0] = xxh3(key_of(header), header.key_size, seed)
    return True


cdef void seal(char *record, uint64_t seed) noexcept nogil:
    """Compute the checksums of a record whose other bytes are all in place."""
    cdef Header *header = <Header *>record
    cdef uint8_t flags = flags_of(header)
    cdef uint64_t size = size_of(header)
    cdef uint64_t covered = size - 8
    cdef uint64_t value_checksum
    cdef const char *value = value_of(header)
    if flags & LARGE:
        value_checksum = xxh3(value, size - <uint64_t>(value - record), seed)
        memcpy(record + key_offset(flags) - 8, &value_checksum, 8)
        covered = <uint64_t>(value - record) - 8
    header.checksum = xxh3(record + 8, covered, seed)


cdef uint64_t encode(
    char *target, uint64_t version, uint8_t kind, uint8_t flags, double expires_at,
    const char *key, uint16_t key_size, const char *metadata, uint16_t metadata_size,
    const char *value, uint32_t value_size, uint64_t seed,
) noexcept nogil:
    """Write a record to `target`, which has room for it, and return its size."""
    cdef Header *header = <Header *>target
    if value_size > SMALL_VALUE_BYTES:
        flags |= LARGE
    header.version_and_kind = version | <uint64_t>kind << 48 | <uint64_t>flags << 56
    header.value_size = value_size
    header.key_size = key_size
    header.metadata_size = metadata_size
    if flags & EXPIRES:
        memcpy(target + HEADER_BYTES, &expires_at, 8)
    cdef uint64_t end = key_offset(flags)
    memcpy(target + end, key, key_size)
    end += key_size
    if metadata_size:
        memcpy(target + end, metadata, metadata_size)
        end += metadata_size
    if value_size:
        memcpy(target + end, value, value_size)
        end += value_size
    cdef uint64_t size = aligned(end)
    memset(target + end, 0, size - end)
    seal(target, seed)
    return size


def encode_record(
    version: int, kind: int, flags: int, expires_at: float,
    key: bytes, metadata: bytes, value: bytes, seed: int,
) -> bytes:
    """Return one record as bytes; for tests and for the example in FORMAT.md."""
    target = bytearray(HEADER_BYTES + 16 + len(key) + len(metadata) + len(value) + ALIGNMENT)
    cdef char[::1] view = target
    cdef uint64_t size = encode(
        &view[0], version, kind, flags, expires_at, key, <uint16_t>len(key),
        metadata, <uint16_t>len(metadata), value, <uint32_t>len(value), seed,
    )
    return bytes(target[:size])


def decode_record(
    data: bytes, seed: int, file: str = "record", offset: int = 0,
) -> tuple[int, int, int, float, bytes, bytes, bytes]:
    """Return (version, kind, flags, expires_at, key, metadata, value).

    Raises:
        CorruptData: the bytes are not one whole, undamaged record.
    """
    cdef const char *start = data
    cdef int64_t size = check(start, <uint64_t>len(data), seed, True)
    if size <= 0 or size != len(data):
        raise damage(size if size < 0 else BAD_SIZE, file, offset, len(data))
    cdef const Header *header = <const Header *>start
    cdef uint64_t at = key_offset(flags_of(header))
    cdef uint64_t metadata_at = at + header.key_size
    cdef uint64_t value_at = metadata_at + header.metadata_size
    return (
        version_of(header), kind_of(header), flags_of(header), expiry_of(header),
        data[at:metadata_at], data[metadata_at:value_at],
        data[value_at:value_at + header.value_size],
    )


def damage(code: int, file: str, offset: int, found: object) -> CorruptData:
    """Return the error for what check() found; a size: the record is right, its place is not."""
    what, expected = REASONS[BAD_ENTRY if code > 0 else code or BAD_CHECKSUM]
    return CorruptData(what, file=file, offset=offset, expected=expected, found=found)


def layout() -> list[tuple[str, int, int]]:
    """Return (field, offset, size) for each field of the header, as the compiler laid it out."""
    cdef Header header
    cdef size_t start = <size_t>&header
    return [
        ("checksum", <size_t>&header.checksum - start, sizeof(header.checksum)),
        ("version_and_kind", <size_t>&header.version_and_kind - start,
         sizeof(header.version_and_kind)),
        ("value_size", <size_t>&header.value_size - start, sizeof(header.value_size)),
        ("key_size", <size_t>&header.key_size - start, sizeof(header.key_size)),
        ("metadata_size", <size_t>&header.metadata_size - start, sizeof(header.metadata_size)),
    ]

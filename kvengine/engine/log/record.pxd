"""Records as C sees them; FORMAT.md draws the layout."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from kvengine.engine.index.hash cimport xxh3
from kvengine.file.mapped cimport MappedFile

cdef enum:
    HEADER_BYTES = 24
    ALIGNMENT = 16
    SMALL_VALUE_BYTES = 4096    # up to here one checksum covers header and value together

    PUT = 1
    DELETE = 2

    EXPIRES = 1                 # eight bytes of expiry follow the header
    LARGE = 2                   # eight bytes of value checksum follow the header (and the expiry)
    MORE = 4                    # the batch goes on with the next record
    DURABLE = 8                 # everything before this record was on disk when it was written
    GAP = 16                    # versions between the record before and this one are not here

    # What check() says when it does not give a size.
    END_OF_LOG = 0
    BAD_SIZE = -1
    BAD_CHECKSUM = -2
    BAD_FIELD = -3
    BAD_VALUE = -4
    UNREADABLE = -5             # of load_record(): the file was shortened, or the disk fails
    BAD_VERSION = -6            # found by code that knows the records before
    BAD_ENTRY = -7              # found by code that followed an index entry

cdef packed struct Header:
    uint64_t checksum           # of everything after it, seeded with the segment's salt + offset
    uint64_t version_and_kind   # 48 bits of version, 8 of kind, 8 of flags
    uint32_t value_size
    uint16_t key_size
    uint16_t metadata_size

cdef inline uint64_t version_of(const Header *header) noexcept nogil:
    return header.version_and_kind & 0xFFFFFFFFFFFFULL

cdef inline uint8_t kind_of(const Header *header) noexcept nogil:
    return <uint8_t>(header.version_and_kind >> 48)

cdef inline uint8_t flags_of(const Header *header) noexcept nogil:
    return <uint8_t>(header.version_and_kind >> 56)

cdef inline uint64_t aligned(uint64_t size) noexcept nogil:
    return (size + ALIGNMENT - 1) & ~<uint64_t>(ALIGNMENT - 1)

cdef inline uint64_t key_offset(uint8_t flags) noexcept nogil:
    """Where the key begins: after the header and whatever the flags add to it."""
    return HEADER_BYTES + 8 * (flags & EXPIRES) + 4 * (flags & LARGE)

cdef inline const char *key_of(const Header *header) noexcept nogil:
    return <const char *>header + key_offset(flags_of(header))

cdef inline const char *value_of(const Header *header) noexcept nogil:
    return key_of(header) + header.key_size + header.metadata_size

cdef inline uint64_t size_of(const Header *header) noexcept nogil:
    """Bytes of the whole record, padding too."""
    return aligned(
        key_offset(flags_of(header)) + header.key_size + header.metadata_size + header.value_size
    )

cdef inline double expiry_of(const Header *header) noexcept nogil:
    """Seconds since the epoch, or 0 for never."""
    cdef double expires_at = 0
    if flags_of(header) & EXPIRES:
        memcpy(&expires_at, <const char *>header + HEADER_BYTES, 8)
    return expires_at

cdef inline bint checksum_is_right(const Header *header, uint64_t seed) noexcept nogil:
    """True if the header, key and metadata, and a small value, are what was written."""
    cdef uint64_t covered = size_of(header) - 8
    if flags_of(header) & LARGE:
        covered = key_offset(flags_of(header)) + header.key_size + header.metadata_size - 8
    return xxh3(<const char *>header + 8, covered, seed) == header.checksum

cdef inline bint load_record(
    MappedFile file, uint64_t *loaded, uint64_t offset, uint64_t end
) noexcept nogil:
    """Have the record at an offset before `end` in memory; False if it can't be read.

    For one who reads on and on: `loaded` says up to where that was done, 0 at first.
    """
    cdef uint64_t size = HEADER_BYTES
    if file.load_ahead(loaded, offset, size, end) != 0:
        return False
    if end - offset > size:
        size = size_of(<const Header *>(file.base + offset))
    return file.load_ahead(loaded, offset, min(size, end - offset), end) == 0

cdef bint value_is_right(const Header *header, uint64_t seed) noexcept nogil
cdef int64_t check(
    const char *start, uint64_t available, uint64_t seed, bint with_value
) noexcept nogil
cdef uint64_t encode(
    char *target, uint64_t version, uint8_t kind, uint8_t flags, double expires_at,
    const char *key, uint16_t key_size, const char *metadata, uint16_t metadata_size,
    const char *value, uint32_t value_size, uint64_t seed,
) noexcept nogil
cdef void seal(char *record, uint64_t seed) noexcept nogil
cdef bint is_whole(
    const char *base, uint64_t offset, uint64_t end, uint64_t salt, uint64_t seed, uint64_t *hash
) noexcept nogil

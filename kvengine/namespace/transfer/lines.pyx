"""From records to lines: pairs as JSON, in the shape of wrangler's bulk files.

    {"key":"a","value":"text"}
    {"key":"b","value":"/w==","base64":true,"expiration":1800000000,"metadata":{"n":1}}

Strings are escaped here and not by the json module: that takes 1.5 to 2 ns a byte, which is half
as fast as disks are.

Invariants:

* A line is one JSON object in UTF-8 without a line break, whatever the pair contains.
* A value in UTF-8 is written as text, any other in base64: no byte is changed or lost.
* Nothing points into a record after a request for its value, which may move the record.
"""

from cpython.bytearray cimport (
    PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.math cimport ceil
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from kvengine.engine.access.reading cimport Reader
from kvengine.engine.log.record cimport Header, expiry_of, key_of
from kvengine.engine.order.scan cimport Visitor

import json
from binascii import b2a_base64

from kvengine.namespace.values import decode_metadata, to_json

cdef enum:
    KEY_BYTES_MAX = 1024
    FIXED_BYTES = 128           # of a line, besides key, value and metadata
    UNLOCKED_BYTES = 1 << 16    # from here on other threads run while a value is escaped

# What stands behind the backslash for a byte; 0: it needs none, "u": four hex digits follow.
cdef uint8_t[256] ESCAPES


def _fill_escapes() -> None:
    cdef int byte
    for byte in range(128):
        text = json.dumps(chr(byte), ensure_ascii=False)
        ESCAPES[byte] = ord(text[2]) if text[1] == "\\" else 0


_fill_escapes()


cdef class Lines(Visitor):
    """Lines of the records that it is shown.

    Args:
        skip: how many bytes of a key belong to its namespace.
        full: from so many bytes on it has enough.
        first, later: what the first line, and each later one, begins with; at most one byte.

    Thread-safety: for one thread.
    """

    cdef Py_ssize_t skip, full
    cdef uint8_t lead, later    # 0: nothing
    cdef bytearray buffer
    cdef readonly Py_ssize_t used  # bytes that take() would return
    cdef readonly uint64_t keys, value_bytes  # of all lines so far
    cdef char[KEY_BYTES_MAX] last
    cdef Py_ssize_t last_size

    def __cinit__(self, skip: int, full: int, first: bytes = b"", later: bytes = b"") -> None:
        self.skip, self.full = skip, full
        self.lead = first[0] if first else 0
        self.later = later[0] if later else 0

    def take(self) -> bytearray:
        """Return the lines since the last call."""
        cdef bytearray taken = bytearray() if self.buffer is None else self.buffer
        PyByteArray_Resize(taken, self.used)
        self.buffer, self.used = None, 0
        return taken

    @property
    def last_key(self) -> str | None:
        """The key of the last line so far."""
        return self.last[:self.last_size].decode() if self.keys else None

    cdef int visit(
        self, Reader reader, const char *key, Py_ssize_t size, const Header *header,
        uint64_t address,
    ) except -1:
        cdef const char *start = key_of(header) + header.key_size
        cdef bytes metadata = PyBytes_FromStringAndSize(start, header.metadata_size)
        cdef int64_t expires_at = <int64_t>ceil(expiry_of(header))
        cdef bytes value = reader.value_at(header, address)
        self.room_for(FIXED_BYTES)
        if self.lead:
            self.add(<const char *>&self.lead, 1)
        self.lead = self.later
        self.last_size = size - self.skip
        memcpy(self.last, key + self.skip, self.last_size)
        self.keys += 1
        self.value_bytes += PyBytes_GET_SIZE(value)
        self.add(b'{"key":"', 8)
        self.add_text(<const uint8_t *>key + self.skip, size - self.skip)
        self.add(b'","value":"', 11)
        self.add_value(value)
        self.add_end(metadata, expires_at)
        return self.used >= self.full

    cdef int room_for(self, Py_ssize_t size) except -1:
        """Let there be room for so many bytes."""
        cdef Py_ssize_t wanted = self.used + size
        if self.buffer is None:
            wanted = max(wanted, self.full + self.full // 4)
            self.buffer = PyByteArray_FromStringAndSize(NULL, wanted)
        elif wanted > len(self.buffer):
            PyByteArray_Resize(self.buffer, wanted + wanted // 8)
        return 0

    cdef void add(self, const char *text, Py_ssize_t size) noexcept:
        """Add bytes for which there is room."""
        memcpy(PyByteArray_AS_STRING(self.buffer) + self.used, text, size)
        self.used += size

    cdef int add_value(self, bytes value) except -1:
        """Add a value and the quotation mark behind it."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
        cdef bytes text
        if is_utf8(value):
            self.add_text(<const uint8_t *>PyBytes_AS_STRING(value), size)
            self.room_for(FIXED_BYTES)
            self.add(b'"', 1)
            return 0
        text = b2a_base64(value, newline=False)
        self.room_for(PyBytes_GET_SIZE(text) + FIXED_BYTES)
        self.add(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        self.add(b'","base64":true', 15)
        return 0

    cdef int add_text(self, const uint8_t *text, Py_ssize_t size) except -1:
        """Add a text as the inside of a JSON string, and leave room for what is fixed."""
        cdef Py_ssize_t special = count_special(text, size)
        cdef uint8_t *target
        self.room_for(size + 5 * special + FIXED_BYTES)
        if special == 0:
            self.add(<const char *>text, size)
            return 0
        target = <uint8_t *>PyByteArray_AS_STRING(self.buffer) + self.used
        if size < UNLOCKED_BYTES:
            self.used += escape(text, size, target)
        else:
            with nogil:
                size = escape(text, size, target)
            self.used += size
        return 0

    cdef int add_end(self, bytes metadata, int64_t expires_at) except -1:
        """Add what stands behind the value."""
        cdef char[32] number
        if PyBytes_GET_SIZE(metadata):
            metadata = on_one_line(metadata)
        self.room_for(PyBytes_GET_SIZE(metadata) + FIXED_BYTES)
        if expires_at:
            self.add(b',"expiration":', 14)
            self.add(number, snprintf(number, sizeof(number), b"%lld", <long long>expires_at))
        if PyBytes_GET_SIZE(metadata):
            self.add(b',"metadata":', 12)
            self.add(PyBytes_AS_STRING(metadata), PyBytes_GET_SIZE(metadata))
        self.add(b"}\n", 2)
        return 0


cdef bytes on_one_line(bytes metadata):
    """Return metadata, which is JSON, without line breaks."""
    cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(metadata)
    cdef Py_ssize_t i
    for i in range(PyBytes_GET_SIZE(metadata)):
        if text[i] < 0x20:
            return to_json("metadata", decode_metadata(metadata))
    return metadata


cdef bint is_utf8(bytes value) except -1:
    """True if the bytes are text."""
    cdef const char *text = PyBytes_AS_STRING(value)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    if is_ascii(<const uint8_t *>text, size):
        return True
    try:
        PyUnicode_DecodeUTF8(text, size, NULL)
    except UnicodeDecodeError:
        return False
    return True


cdef bint is_ascii(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    cdef uint8_t high = 0
    cdef Py_ssize_t i
    for i in range(size):
        high |= text[i]
    return high < 0x80


cdef Py_ssize_t count_special(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    """Return how many bytes JSON wants escaped."""
    cdef Py_ssize_t count = 0, start, end, i
    cdef uint8_t some            # counts in one byte, so that the compiler takes many at once
    for start in range(0, size, 128):
        end = min(start + 128, size)
        some = 0
        for i in range(start, end):
            some += (text[i] < 0x20) | (text[i] == 0x22) | (text[i] == 0x5C)
        count += some
    return count


cdef Py_ssize_t escape(const uint8_t *text, Py_ssize_t size, uint8_t *target) noexcept nogil:
    """Write a text as JSON has it; return its size."""
    cdef uint8_t *start = target
    cdef uint8_t byte, mark
    cdef Py_ssize_t i
    for i in range(size):
        byte = text[i]
        mark = ESCAPES[byte]
        if mark == 0:
            target[0] = byte
            target += 1
            continue
        target[0], target[1] = 0x5C, mark
        target += 2
        if mark == 0x75:
            memcpy(target, b"00", 2)
            target[2] = 0x30 + (byte >> 4)
            target[3] = 0x30 + (byte & 15) if byte & 15 < 10 else 0x57 + (byte & 15)
            target += 4
    return target - start

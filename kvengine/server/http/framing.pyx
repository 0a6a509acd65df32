"""Where the body of a request ends: Content-Length, or chunks (RFC 9112, 6 and 7.1).

llhttp parses heads.  This module parses bodies: it limits chunk extensions and trailers, and leaves
the bytes after a body untouched until it is answered.

Invariants:

* Only the data of a body is passed on.  Chunk extensions and trailers are counted and dropped, so
  they never act as headers.
* A line that does not end as RFC 9112 requires is an error: if two programs parse a body
  differently, an attacker can smuggle in a request.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

EXTENSION_BYTES_MAX = 16 << 10
TRAILER_BYTES_MAX = 16 << 10
cdef Py_ssize_t extension_max = EXTENSION_BYTES_MAX, trailer_max = TRAILER_BYTES_MAX
cdef enum:
    DIGITS_MAX = 15  # of a chunk's size: it fits into 63 bits

cdef enum State:
    BODY            # of the length in Content-Length
    FIRST_DIGIT
    SIZE
    EXTENSION
    BLANK           # before an extension
    SIZE_END        # the LF of a chunk's first line
    DATA
    DATA_CR
    DATA_LF
    TRAILER_START
    TRAILER
    TRAILER_LF
    LAST_LF
    ENDED


cdef class Body:
    """An incremental parser of the body of one request.

    Args:
        length: in bytes; -1: chunked.
    """

    cdef State state
    cdef uint64_t left              # bytes of the body, or of a chunk
    cdef int digits
    cdef Py_ssize_t extensions, trailers
    cdef readonly Py_ssize_t used   # bytes that the last feed() consumed

    def __init__(self, length: int) -> None:
        self.left = 0 if length < 0 else length
        self.state = FIRST_DIGIT if length < 0 else BODY if length else ENDED
        self.digits = 0
        self.extensions = self.trailers = self.used = 0

    @property
    def ended(self) -> bool:
        """True if the body is complete."""
        return self.state == ENDED

    def feed(self, bytes data not None) -> bytes:
        """Return the data of the body in received bytes; `used` of them belong to the body.

        Raises:
            ValueError: the bytes are not a valid body.
            OverflowError: extensions or trailers are too long.
        """
        cdef const char *source = PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0, length = 0, part
        cdef bytes found
        if self.state == BODY:
            part = size if <uint64_t>size < self.left else <Py_ssize_t>self.left
            self.left -= part
            self.used = part
            if self.left == 0:
                self.state = ENDED
            return data if part == size else data[:part]
        found = PyBytes_FromStringAndSize(NULL, size)
        cdef char *into = PyBytes_AS_STRING(found)
        while at < size and self.state != ENDED:
            if self.state == DATA:
                part = size - at
                if <uint64_t>part > self.left:
                    part = <Py_ssize_t>self.left
                memcpy(into + length, source + at, part)
                length += part
                at += part
                self.left -= part
                if self.left == 0:
                    self.state = DATA_CR
                continue
            self._step(<unsigned char>source[at])
            at += 1
        self.used = at
        return found[:length]

    cdef int _step(self, unsigned char c) except -1:
        """Parse a byte of the framing."""
        cdef int value
        if self.state == FIRST_DIGIT or self.state == SIZE:
            value = hex_digit(c)
            if value >= 0:
                self.digits += 1
                if self.digits > DIGITS_MAX:
                    raise ValueError(f"the size of a chunk has more than {DIGITS_MAX} digits")
                self.left = self.left << 4 | <uint64_t>value
                self.state = SIZE
            elif self.state == SIZE and c == 13:
                self.state = SIZE_END
            elif self.state == SIZE and (c == 59 or c == 32 or c == 9):  # ";", and blanks before it
                self.state = EXTENSION if c == 59 else BLANK
                self._extended()
            else:
                raise ValueError("a chunk must begin with its size in hex digits")
        elif self.state == EXTENSION or self.state == BLANK:
            if self.state == BLANK and c == 59:
                self.state = EXTENSION
            elif self.state == BLANK and c != 13 and c != 32 and c != 9:
                raise ValueError("the size of a chunk must be followed by an extension or CR LF")
            if c == 13:
                self.state = SIZE_END
            else:
                plain(c)
                self._extended()
        elif self.state == TRAILER_START or self.state == TRAILER:
            if c == 13:
                self.state = LAST_LF if self.state == TRAILER_START else TRAILER_LF
            else:
                plain(c)
                self.state = TRAILER
            self.trailers += 1
            if self.trailers > trailer_max:
                raise OverflowError(f"trailers are longer than {TRAILER_BYTES_MAX} bytes")
        elif self.state == DATA_CR:
            if c != 13:
                raise ValueError("a chunk is longer than its size")
            self.state = DATA_LF
        elif c != 10:
            raise ValueError("a line of a chunked body ends without LF")
        elif self.state == SIZE_END:
            self.state = DATA if self.left else TRAILER_START
            self.digits = 0
        elif self.state == DATA_LF:
            self.state = FIRST_DIGIT
        elif self.state == TRAILER_LF:
            self.state = TRAILER_START
        else:  # LAST_LF
            self.state = ENDED
        return 0

    cdef int _extended(self) except -1:
        self.extensions += 1
        if self.extensions > extension_max:
            raise OverflowError(f"chunk extensions are longer than {EXTENSION_BYTES_MAX} bytes")
        return 0


cdef inline int plain(unsigned char c) except -1:
    """Raise ValueError for a control character."""
    if c < 32 and c != 9 or c == 127:
        raise ValueError("a line of a chunked body has a control character")
    return 0


cdef inline int hex_digit(unsigned char c) noexcept:
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    return c - 87 if 97 <= c <= 102 else -1

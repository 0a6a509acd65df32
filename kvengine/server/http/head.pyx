"""A parser of request heads for the fast path.

Invariants:

* A head that is not fully understood is not hot: llhttp parses it for the endpoints.
"""

import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp

HEAD_BYTES_MAX = 128 << 10  # as much as workerd accepts
HEADERS_MAX = 128
cdef Py_ssize_t head_max = HEAD_BYTES_MAX, headers_max = HEADERS_MAX
# A name or an address, and a port (RFC 9110, 4.2.3); only the characters are checked.
HOST = re.compile(rb"[!$%&'()*+,.\-0-9:;=A-Z\[\]_a-z~]*")
cdef bytes GET = b"GET /", LINE_END = b" HTTP/1.1\r\n", HEAD_END = b"\r\n\r\n"
# Prefixes of headers that may change the answer to a read.
cdef tuple NOT_HOT = (
    b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"range", b"if-", b"x-auth-",
    b"te", b"origin", b"sec-fetch-",
)


cdef class Headers:
    """Parsed headers of the requests of a connection.

    block: the raw bytes from the end of the request line to the empty line.
    is_hot: the fast path may answer a read with these headers.
    principal: of the token; None: not known yet, or not valid.
    host: the Host header; without exactly one, is_hot is False.
    host_is_own: whether host is a name of this machine; None: not checked yet.
    """

    def __init__(self, block: bytes) -> None:
        self.block, self.is_hot = block, True
        self.authorization = self.namespace_id = self.principal = self.allowed = None
        self.host = self.host_is_own = None
        lines = block[:len(block) - 4].split(b"\r\n", headers_max)
        if len(lines) > headers_max:
            self.is_hot = False
            return
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not name or not is_token(name) or not is_plain(value):
                self.is_hot = False
                return
            self.take(name.lower(), value.strip(b" \t"))
        self.is_hot = self.is_hot and self.host is not None

    cdef int take(self, bytes name, bytes value) except -1:
        if name == b"authorization":
            self.is_hot = self.is_hot and self.authorization is None
            self.authorization = value
        elif name == b"kv-namespace":
            self.is_hot = self.is_hot and self.namespace_id is None
            self.namespace_id = value
        elif name == b"host":
            self.is_hot = self.is_hot and self.host is None and HOST.fullmatch(value) is not None
            self.host = value
        elif name.startswith(NOT_HOT) or name == b"connection" and value.lower() != b"keep-alive":
            self.is_hot = False
        return 0


cdef bint is_token(bytes name):
    cdef unsigned char c
    for c in name:
        if not (c"a" <= c <= c"z" or c"A" <= c <= c"Z" or c"0" <= c <= c"9" or c == c"-"
                or c == c"_"):
            return False
    return True


cdef bint is_plain(bytes value):
    cdef unsigned char c
    for c in value:
        if c < 32 and c != 9 or c == 127:
            return False
    return True


cdef Headers headers_behind(bytes data, Py_ssize_t at, Py_ssize_t line, Headers known):
    """Return the headers after a request line, or None if they are incomplete or too long.

    Args:
        data: received bytes.
        at: offset of the end of the line.
        line: size of the line in bytes.
        known: the headers of the previous request, or None.
    """
    cdef const char *start = PyBytes_AS_STRING(data) + at
    cdef Py_ssize_t left = PyBytes_GET_SIZE(data) - at, size, end
    if known is not None:
        size = PyBytes_GET_SIZE(known.block)
        if size <= left and memcmp(start, PyBytes_AS_STRING(known.block), size) == 0:
            return known
    end = data.find(HEAD_END, at)
    return None if end < 0 or end + 4 - at + line > head_max else Headers(data[at:end + 4])


cdef Py_ssize_t line_size(bytes data, Py_ssize_t at):
    """Return the size of the request line of a GET, with its CR LF; 0: not a complete GET line."""
    cdef const char *start = PyBytes_AS_STRING(data) + at
    cdef Py_ssize_t left = PyBytes_GET_SIZE(data) - at, size
    cdef Py_ssize_t tail = PyBytes_GET_SIZE(LINE_END)
    if not begins(start, left, GET):
        return 0
    cdef const char *end = <const char *>memchr(start, c"\n", left)
    if end == NULL:
        return 0
    size = end - start + 1
    if size < 5 + tail or memcmp(end + 1 - tail, PyBytes_AS_STRING(LINE_END), tail):
        return 0
    cdef Py_ssize_t i
    for i in range(4, size - tail):
        if not 33 <= <unsigned char>start[i] <= 126:
            return 0
    return size


cdef inline int digit(char c):
    if c"0" <= c <= c"9":
        return c - c"0"
    c |= 32
    return c - c"a" + 10 if c"a" <= c <= c"f" else -1


cdef Py_ssize_t unquoted(const char *raw, Py_ssize_t size, char *into):
    """Decode %XX once; return the size, or -1 if an escape is not valid."""
    cdef Py_ssize_t at = 0, length = 0
    cdef int high, low
    while at < size:
        if raw[at] == c"%":
            if at + 2 >= size:
                return -1
            high, low = digit(raw[at + 1]), digit(raw[at + 2])
            if high < 0 or low < 0:
                return -1
            into[length] = <char>(high << 4 | low)
            at += 3
        else:
            into[length] = raw[at]
            at += 1
        length += 1
    return length

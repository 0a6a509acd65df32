"""The fast path for reads: no task, and no parsing of headers.

A keep-alive client sends the same headers with each request, so a connection parses them once, and
compares them after that.  The endpoints answer everything except a plain GET of a value in memory;
they give the same answers.

Invariants:

* A request is answered here only if it is whole, has no body, and an endpoint would answer it with
  200 or, for an absent key, with 404.
* A request is metered, and counts against the rate of its token, once: requests left to the
  endpoints do not count here.
* Each request looks up the record of its token, so a revoked token grants nothing.
* Without tokens, requests that the guard of browsers.py must check are left to the endpoints.
* Headers are compared only with those of the same connection, so the time of the comparison reveals
  nothing about the tokens of others.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.math cimport ceil
from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from kvengine.server.http.head cimport (
    Headers, begins, headers_behind, is_exactly, line_size, unquoted,
)

from kvengine.errors import KvError

cdef extern from "<sys/socket.h>":
    Py_ssize_t send(int descriptor, const void *data, size_t size, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL

cdef enum:
    KEY_MAX = 3000  # bytes of a key, each of which may be written as %XX
VALUE_BYTES_MAX = 1 << 16  # larger ones are sent in pieces, as fast as the client takes them
ANSWERS_BYTES_MAX = 1 << 18  # at once; later requests wait until the client has read these
cdef Py_ssize_t key_max = KEY_MAX, value_max = VALUE_BYTES_MAX, answers_max = ANSWERS_BYTES_MAX
cdef Py_ssize_t ID_BYTES = 32
cdef Py_ssize_t LINE_END_BYTES = 11  # of " HTTP/1.1" and the end of the line
cdef bytes VALUES = b"/values/", QUERY = b"urlencoded=true"
cdef bytes NOT_FOUND = (
    b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 10\r\n\r\nNot Found\n"
)
cdef bytes START = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: "
)
cdef bytes VERSION = b"\r\nkv-version: "
cdef bytes REST_VERSION = b"\r\nx-content-type-options: nosniff" + VERSION
# Counts: answers that took up to 2**n nanoseconds, by n; then these.
cdef enum:
    REST_HITS = 64
    WORKERD_HITS = 65
    REST_ABSENT = 66
    WORKERD_ABSENT = 67
HOT_WORDS = 68
cdef enum Surface:
    NONE
    REST
    WORKERD


cdef class HotEndpoint:
    """Answers reads of registered namespaces.

    Args:
        account: of the server.
        access: a kvengine.server.auth.access.Access.
        rest_not_found: the whole answer to a REST read of an absent key.
        now: returns the time for rate limits, in seconds.
        counts: HOT_WORDS numbers of eight bytes; they continue from their present values.

    Thread-safety: for one event loop.
    """

    def __cinit__(self, account, access, now, rest_not_found, counts) -> None:
        cdef Py_buffer view
        self.memory = memoryview(counts)  # keeps the memory in place
        PyObject_GetBuffer(self.memory, &view, PyBUF_WRITABLE)
        self.counts = <uint64_t *>view.buf
        size = view.len
        PyBuffer_Release(&view)
        if size != HOT_WORDS * 8:
            raise ValueError(f"counts must have {HOT_WORDS * 8} bytes, not {size}")

    def __init__(self, account: str, access, now, rest_not_found: bytes, counts) -> None:
        self.rest_start = f"/client/v4/accounts/{account}/storage/kv/namespaces/".encode()
        self.workerd_start = f"/workerd/{account}/".encode()
        self.access, self.now = access, now
        self.is_own_host = None  # for a server without tokens: whether a Host is allowed
        self.readers = {}
        self.rest_not_found = rest_not_found

    def register(self, namespace_id: str, reader) -> None:
        """Answer reads of a namespace from now on; `reader` has _try_read()."""
        self.readers[namespace_id.encode()] = reader

    def unregister(self, namespace_id: str) -> None:
        """Answer no more reads of a namespace."""
        self.readers.pop(namespace_id.encode(), None)

    cdef bytes read(self, bytes data, Py_ssize_t at, Py_ssize_t line, Headers headers):
        """Return the answer to a request, or None if the endpoints must answer."""
        cdef const char *start = PyBytes_AS_STRING(data) + at + 4
        cdef Py_ssize_t size = line - 4 - LINE_END_BYTES, prefix, key_size
        cdef const char *end = start + size
        cdef const char *mark
        cdef Surface surface = NONE
        cdef bytes namespace_id
        if headers.namespace_id is not None:
            surface, namespace_id, prefix = WORKERD, headers.namespace_id, 1
        elif begins(start, size, self.rest_start):
            prefix = PyBytes_GET_SIZE(self.rest_start)
            if not begins(start + prefix + ID_BYTES, size - prefix - ID_BYTES, VALUES):
                return None
            surface, namespace_id = REST, start[prefix:prefix + ID_BYTES]
            prefix += ID_BYTES + PyBytes_GET_SIZE(VALUES)
        elif begins(start, size, self.workerd_start):
            prefix = PyBytes_GET_SIZE(self.workerd_start)
            if size <= prefix + ID_BYTES or start[prefix + ID_BYTES] != c"/":
                return None
            surface, namespace_id = WORKERD, start[prefix:prefix + ID_BYTES]
            prefix += ID_BYTES + 1
        else:
            return None
        start += prefix
        mark = <const char *>memchr(start, c"?", end - start)
        if surface == REST:
            if mark != NULL:
                return None
            key_size = end - start
        else:
            if mark == NULL or not is_exactly(mark + 1, end, QUERY):
                return None
            key_size = mark - start
        if not 1 <= key_size <= key_max or memchr(start, c"/", key_size) != NULL:
            return None
        if self.is_own_host is not None and surface == REST and self.is_guarded(headers):
            return None
        return self.value_of(start, key_size, namespace_id, surface, headers)

    cdef bytes value_of(
        self, const char *raw, Py_ssize_t raw_size, bytes namespace_id, int surface,
        Headers headers,
    ):
        cdef char[KEY_MAX] name
        cdef Py_ssize_t size
        cdef bytes answer
        reader = self.readers.get(namespace_id)
        if reader is None or not self.may_read(headers, namespace_id):
            return None
        size = unquoted(raw, raw_size, name)
        if size < 0:
            return None
        try:
            key = PyUnicode_DecodeUTF8(name, size, NULL)
        except UnicodeDecodeError:
            return None
        found = reader._try_read(key)
        if found is None:
            if surface == REST:
                self.counts[REST_ABSENT] += 1
                return self.rest_not_found
            self.counts[WORKERD_ABSENT] += 1
            return NOT_FOUND
        answer = None
        if type(found) is tuple and type(found[0]) is bytes:
            answer = response(surface, <tuple>found)
        if answer is None:  # not in memory, or large: the endpoints count it
            headers.principal.allowance.give_back()
            if type(found) is tuple:
                reader._meter.reads -= 1
                reader._meter.bytes_out -= len(found[0])
            return None
        self.counts[REST_HITS if surface == REST else WORKERD_HITS] += 1
        return answer

    cdef bint is_guarded(self, Headers headers) except -1:
        """True if a page of another site may have sent a request: the guard must check it."""
        if headers.host_is_own is None:
            headers.host_is_own = bool(self.is_own_host((headers.host or b"").decode("latin-1")))
        return not headers.host_is_own

    cdef bint may_read(self, Headers headers, bytes namespace_id) except -1:
        """True if the token of a request is known, may read, and is within its rate."""
        principal = headers.principal
        if principal is None or not self.access.is_still(principal):
            principal = self.access.principal_at_hand(headers.authorization)
            headers.principal, headers.allowed = principal, None
        if headers.allowed != namespace_id:
            token = getattr(principal, "token", None)
            if token is None or not token.allows(namespace_id.decode("latin-1"), write=False):
                return False
            headers.allowed = namespace_id
        return principal.allowance.is_unlimited or principal.allowance.take(self.now())


cdef class HotConnection:
    """The hot reads of one connection.

    Args:
        endpoint: answers the reads.
        descriptor: of the socket to write answers to; -1: answer() returns them.
    """

    def __init__(self, HotEndpoint endpoint not None, int descriptor) -> None:
        self.endpoint, self.descriptor, self.headers, self.size = endpoint, descriptor, None, 0

    def answer(self, bytes data, bint at_once) -> bytes:
        """Answer the requests in the first `size` bytes; return the bytes still to be written.

        Args:
            data: received on a connection that waits for a request.
            at_once: write to the socket; no earlier answer is buffered.
        """
        cdef list found = None
        cdef bytes answer = None, first = None
        cdef Py_ssize_t at = 0, size = PyBytes_GET_SIZE(data), line, answered = 0
        cdef Headers headers
        cdef uint64_t began = nanoseconds()
        cdef int count = 0
        while at < size and answered < answers_max:
            line = line_size(data, at)
            if line == 0:
                break
            headers = headers_behind(data, at + line, line, self.headers)
            if headers is None:
                break
            self.headers = headers
            if not headers.is_hot:
                break
            try:
                answer = self.endpoint.read(data, at, line, headers)
            except KvError:
                headers.principal.allowance.give_back()
                break  # the endpoints report the error
            if answer is None:
                break
            count += 1
            if count == 1:
                first = answer
            else:
                if found is None:
                    found = [first]
                found.append(answer)
            answered += PyBytes_GET_SIZE(answer)
            at += line + PyBytes_GET_SIZE(headers.block)
        self.size = at
        if count == 0:
            return b""
        self.endpoint.counts[bits((nanoseconds() - began) // count)] += count
        answer = first if found is None else b"".join(found)
        return self.written(answer) if at_once and self.descriptor >= 0 else answer

    cdef bytes written(self, bytes answer):
        """Write to the socket as much as it accepts; return the rest."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(answer)
        cdef Py_ssize_t sent = send(
            self.descriptor, PyBytes_AS_STRING(answer), size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent == size:
            return b""
        return answer if sent < 0 else answer[sent:size]  # the transport reports an error


cdef int decimal(char *into, uint64_t number) noexcept nogil:
    """Write a number and return its number of digits; snprintf is much slower."""
    cdef char[20] digits
    cdef int count = 0, i
    while True:
        digits[count] = <char>(c"0" + number % 10)
        count += 1
        number //= 10
        if number == 0:
            break
    for i in range(count):
        into[i] = digits[count - 1 - i]
    return count


cdef bytes response(int surface, tuple found):
    """Return the answer with a value, as the endpoints give it; None if it is too large."""
    cdef bytes value = <bytes>found[0], metadata = <bytes>found[1]
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value), extra = PyBytes_GET_SIZE(metadata)
    cdef char[2048] head
    cdef int used
    if size > value_max or extra > 1024 or memchr(PyBytes_AS_STRING(metadata), 10, extra):
        return None
    memcpy(head, PyBytes_AS_STRING(START), PyBytes_GET_SIZE(START))
    used = PyBytes_GET_SIZE(START)
    used += decimal(head + used, size)
    cdef bytes version = REST_VERSION if surface == REST else VERSION
    memcpy(head + used, PyBytes_AS_STRING(version), PyBytes_GET_SIZE(version))
    used += PyBytes_GET_SIZE(version)
    used += decimal(head + used, <uint64_t>found[3])
    memcpy(head + used, b"\r\n", 2)
    used += 2
    if found[2] is not None:
        used += snprintf(
            head + used, 64, "expiration: %lld\r\n" if surface == REST else
            "cf-expiration: %lld\r\n", <long long>ceil(<double>found[2]))
    if found[4] is not None:
        used += snprintf(
            head + used, 64, "cf-cache-status: %s\r\n",
            <const char *>PyBytes_AS_STRING(found[4].encode()))
    if surface == WORKERD and extra:
        memcpy(head + used, b"cf-kv-metadata: ", 16)
        memcpy(head + used + 16, PyBytes_AS_STRING(metadata), extra)
        memcpy(head + used + 16 + extra, b"\r\n", 2)
        used += extra + 18
    memcpy(head + used, b"\r\n", 2)
    used += 2
    cdef bytes answer = PyBytes_FromStringAndSize(NULL, used + size)
    memcpy(PyBytes_AS_STRING(answer), head, used)
    memcpy(PyBytes_AS_STRING(answer) + used, PyBytes_AS_STRING(value), size)
    return answer


cdef inline uint64_t nanoseconds() noexcept nogil:
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return <uint64_t>moment.tv_sec * 1000000000 + moment.tv_nsec


cdef inline int bits(uint64_t number) noexcept nogil:
    cdef int count = 0
    while number and count < 63:
        number >>= 1
        count += 1
    return count

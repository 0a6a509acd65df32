"""Measure JSON and messages of client/packing.py without parsing them, and find cuts in JSON.

Invariants:

* No values are built, so measuring takes no memory.
* A count is at least the number of values that json.loads() or unpack() would build.  They check
  the syntax.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef enum:
    QUOTE = 34
    BACKSLASH = 92
    COMMA = 44
    COLON = 58
    OPEN_LIST = 91
    CLOSE_LIST = 93
    OPEN_OBJECT = 123
    CLOSE_OBJECT = 125
    PAIRS = 3  # OBJECT in client/packing.py: an extension type that contains a message
    LEVELS = 256  # of nested arrays


def measure_json(bytes data not None, bint only_first=False) -> tuple[int, int]:
    """Return the number of values and names in JSON, and the depth of nesting.

    Args:
        data: JSON.
        only_first: stop at the end of the first array or object.
    """
    cdef const char *text = PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0, count = 1, depth = 0, deepest = 0
    cdef unsigned char c
    with nogil:
        while at < size:
            c = <unsigned char>text[at]
            if c == QUOTE:
                at = behind_string(text, at, size)
                continue
            if c == COMMA or c == COLON:
                count += 1
            elif c == OPEN_LIST or c == OPEN_OBJECT:
                count += 1
                depth += 1
                if depth > deepest:
                    deepest = depth
            elif c == CLOSE_LIST or c == CLOSE_OBJECT:
                depth -= 1
                if only_first and depth <= 0:
                    break
            at += 1
    return count, deepest


def measure_message(bytes data not None) -> tuple[int, int]:
    """Return the number of values and names in a message, and the depth of nesting.

    Args:
        data: MessagePack.
    """
    cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at = 0, count = 0
    cdef Py_ssize_t left[LEVELS]  # values left at each level
    cdef Py_ssize_t inner, skipped
    cdef int depth = 0, deepest = 0, width
    cdef unsigned char c
    left[0] = size
    with nogil:
        while at < size:
            c = text[at]
            at += 1
            count += 1
            while left[depth] == 0:
                depth -= 1
            left[depth] -= 1
            inner = skipped = 0
            if 0x80 <= c < 0xA0:  # a short map, a short array
                inner = 2 * (c & 0x0F) if c < 0x90 else c & 0x0F
            elif 0xA0 <= c < 0xC0:  # a short text
                skipped = c & 0x1F
            elif 0xCA <= c < 0xD4:  # a number
                skipped = 4 << (c & 1) if c < 0xCC else 1 << (c & 3)
            elif 0xD4 <= c < 0xD9:  # a short extension
                skipped = 1 << (c - 0xD4)
            elif 0xC4 <= c < 0xE0:  # a size follows, of 1, 2 or 4 bytes
                if c < 0xCA:
                    width = 1 << (c - 0xC4) % 3
                else:
                    width = 1 << (c - 0xD9) if c < 0xDC else 2 << (c & 1)
                if at + width > size:
                    break
                while width > 0:
                    skipped = skipped << 8 | text[at]
                    at += 1
                    width -= 1
                if c >= 0xDC:  # an array, a map
                    inner, skipped = skipped << (c >= 0xDE), 0
            if 0xC7 <= c < 0xCA or 0xD4 <= c < 0xD9:  # the type of an extension precedes its bytes
                if at < size and text[at] == PAIRS:
                    count += skipped  # each of its values has at least one byte
                at += 1
            if inner:
                depth += 1
                deepest = max(deepest, depth)
                if depth == LEVELS - 1:
                    break
                left[depth] = inner
            at += skipped
    return count, deepest


def cuts(bytes data not None, Py_ssize_t start, Py_ssize_t end, Py_ssize_t piece) -> tuple[
    list[tuple[int, int, bool]], int
]:
    """Return the parts into which an array or an object can be cut, and its end.

    A part is (start, end, whether it is a single member).  A part of several members is not much
    longer than twice `piece`.

    Args:
        data: JSON.
        start: offset of the opening bracket.
        end: offset at which to stop.
        piece: size in bytes.
    """
    cdef const char *text = PyBytes_AS_STRING(data)
    cdef Py_ssize_t at = start + 1, depth = 1, first = start + 1, member = start + 1
    cdef unsigned char c
    found = []
    if not 0 <= start < end <= PyBytes_GET_SIZE(data):
        raise ValueError("there is no such part")
    while at < end:
        with nogil:
            while at < end:
                c = <unsigned char>text[at]
                if c == QUOTE:
                    at = behind_string(text, at, end)
                    continue
                if c == OPEN_LIST or c == OPEN_OBJECT:
                    depth += 1
                elif c == CLOSE_LIST or c == CLOSE_OBJECT:
                    depth -= 1
                    if depth == 0:
                        break
                elif c == COMMA and depth == 1:
                    if at - member > piece or at - first > piece:
                        break
                    member = at + 1
                at += 1
        if at >= end:
            break
        if at - member > piece and member > first:
            found.append((first, member - 1, False))
            first = member
        found.append((first, at, member == first))
        if depth == 0:
            return found, at + 1
        at += 1
        first = member = at
    raise ValueError("a bracket is not closed")


def colon(bytes data not None, Py_ssize_t start, Py_ssize_t end) -> int:
    """Return the offset of the colon after the name of an object member.

    Raises:
        ValueError: there is no colon.
    """
    cdef const char *text = PyBytes_AS_STRING(data)
    cdef Py_ssize_t at = start
    if not 0 <= start <= end <= PyBytes_GET_SIZE(data):
        raise ValueError("there is no such part")
    while at < end and text[at] != COLON:
        at = behind_string(text, at, end) if text[at] == QUOTE else at + 1
    if at >= end:
        raise ValueError("a member has no colon")
    return at


cdef Py_ssize_t behind_string(const char *text, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    """Return the offset after the string that begins at `at`."""
    at += 1
    while at < end and text[at] != QUOTE:
        at += 2 if text[at] == BACKSLASH else 1
    return at + 1

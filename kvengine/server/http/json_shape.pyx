"""The shape of JSON: how much there is in a text, and where it can be cut, without reading it.

Invariants:

* Nothing is built: a text of any size takes its own bytes and no more.
* What is counted is at least what json.loads() would build of it; whether it is JSON at all,
  json.loads() says.
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


def measure(bytes data not None, bint only_first=False) -> tuple[int, int]:
    """Return how many values and names there are in a text, and how deep they are nested.

    Args:
        data: text.
        only_first: look no further than the end of the array or object that it begins with.
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


def cuts(bytes data not None, Py_ssize_t start, Py_ssize_t end, Py_ssize_t piece) -> tuple[
    list[tuple[int, int, bool]], int
]:
    """Return where an array or an object can be cut, and where it ends.

    Each part has its start, its end, and whether it is one member; others are small, and together
    not much longer than twice `piece`.

    Args:
        data: text.
        start: where the bracket is.
        end: of what may be looked at.
        piece: bytes.
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
    """Return where the name of an object's member ends: the place of its colon.

    Raises:
        ValueError: there is none.
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
    """Return the place behind a string that begins here."""
    at += 1
    while at < end and text[at] != QUOTE:
        at += 2 if text[at] == BACKSLASH else 1
    return at + 1

"""Converts keys of the engine to the keys of a list page.

Invariants:

* Metadata of a whole page is parsed in one call: it was checked when it was written.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.math cimport ceil
from libc.stdint cimport int64_t

from kvengine.entry cimport new_row, set_field

from kvengine.errors import InvalidRequest, pass_on
from kvengine.namespace.interface.results import Key, KeyInfo
from kvengine.namespace.values import decode_metadata, parse_json

cdef object new_tuple = tuple.__new__
cdef object parse = parse_json


def key_infos(heads: list, skip: int) -> list:
    """Return a KeyInfo for each head; `skip` bytes of the keys are the namespace's."""
    cdef list infos = []
    cdef Py_ssize_t start = skip
    cdef tuple head
    cdef bytes key
    cdef list metadata = page_metadata(heads)
    cdef Py_ssize_t i
    for i in range(len(heads)):
        head = <tuple>heads[i]
        key = <bytes>head[0]
        try:
            name = PyUnicode_DecodeUTF8(
                PyBytes_AS_STRING(key) + start, PyBytes_GET_SIZE(key) - start, "strict")
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"key {key!r} in the store is not UTF-8: no namespace wrote it") from None
        expiration = None if head[2] is None else <int64_t>ceil(<double>head[2])
        if metadata is None:
            info = new_row(KeyInfo, 3)
            set_field(info, 0, name)
            set_field(info, 1, expiration)
            set_field(info, 2, None)
        else:
            info = new_tuple(KeyInfo, (name, expiration, metadata[i]))
        infos.append(info)
    return infos


def key_of(info: KeyInfo) -> Key:
    """Return a Key, faster than Key(info)."""
    cdef tuple name = ((<tuple>info)[0],)
    key = (<PyTypeObject *>str).tp_new(Key, <PyObject *>name, NULL)  # str.__new__(Key, name)
    key._info = info
    return key


cdef list page_metadata(list heads):
    """Return the metadata of all heads, or None if there is none."""
    cdef bint some = False
    cdef list texts = []
    cdef tuple head
    cdef bytes text
    for head in heads:
        text = <bytes>head[1]
        if PyBytes_GET_SIZE(text):
            some = True
            texts.append(text)
        else:
            texts.append(b"null")
    if not some:
        return None
    try:
        found = parse((b"[" + b",".join(texts) + b"]").decode())
        if len(found) == len(texts):
            return found
    except (ValueError, RecursionError) as error:
        pass_on(error)
    return [decode_metadata(text) for text in texts]  # says which is not JSON

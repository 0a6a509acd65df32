"""Reading a key of a namespace: from a user's str to the engine.

Invariants:

* A read costs the engine's read and the encoding of the key; there is no lookup in a table of
  namespaces.
* Every read is counted, even of an absent key.
* A namespace that any process has deleted answers no reads.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.math cimport ceil
from libc.stdint cimport int64_t, uint64_t

from kvengine.engine.index.hash cimport xxh3
from kvengine.engine.access.calls cimport StoreCalls
from kvengine.engine.access.reading cimport is_behind
from kvengine.engine.log.record cimport (
    Header, LARGE, expiry_of, flags_of, key_of, value_of, version_of,
)
from kvengine.namespace.naming cimport NAME_BYTES_MAX, Naming
from kvengine.namespace.recency cimport note_use

from kvengine.errors import InvalidRequest, NamespaceNotFound, copied_error
from kvengine.namespace.limits import list_of_keys
from kvengine.namespace.interface.results import KeyDetails, ValueWithMetadata
from kvengine.namespace.values import ValueStream, decode_json, decode_metadata

cdef object new_tuple = tuple.__new__
cdef str text_type = "text"     # interned, as are those in the code of callers
cdef str bytes_type = "bytes"
cdef object ABSENT = ValueWithMetadata(None, None, None, 0)


class WouldBlock:
    """The type of WOULD_BLOCK, which means that a read may have to wait for the disk."""

    def __repr__(self) -> str:
        return "<would block>"


WOULD_BLOCK = WouldBlock()
cdef object blocked = WOULD_BLOCK
cdef str not_json = "At least one of the requested keys corresponds to a non-json value"


cdef class Meter:
    """The usage of a namespace in this process, counted as Workers KV counts it.

    reads: keys requested, found or not.  writes, deletes: keys written, deleted.  lists: pages.
    bytes_in, bytes_out: of values.  evictions: keys deleted because of the namespace's bounds.
    """


cdef class NamespaceReader(Naming):
    """A namespace's reads.

    Args:
        store: an open Store.
        prefix: the five bytes that the namespace's keys begin with.
        limits: a kvengine.namespace.limits.Limits.
        meter: counts what is used.

    Thread-safety: threads may share it.
    """

    def __cinit__(
        self, StoreCalls store not None, bytes prefix not None, limits, Meter meter not None, *args,
        **kwargs,
    ) -> None:
        self.name_keys(prefix, limits)
        self._store, self.parts, self._meter = store, store._parts, meter
        self.follows = self.parts.published != NULL
        self.seen = 0  # nothing: the first call looks

    def _refuse(self, error: BaseException | None) -> None:
        """Make every later call raise this error."""
        self.refusal = error

    def _check_usable(self) -> None:
        """Raise if the namespace was deleted or the store closed."""
        self.parts.begin()
        self.begin()

    def _look_again(self) -> None:
        """Raise NamespaceNotFound if the namespace is not in the catalog; writing.py has it."""

    cdef int begin(self) except -1:
        """Refuse a namespace that was deleted."""
        cdef uint64_t now
        if self.refusal is not None:
            raise copied_error(self.refusal)
        if self.follows and self.parts.foreign_changes != self.seen:
            now = self.parts.foreign_changes
            try:
                self._look_again()
            except NamespaceNotFound as error:
                self.refusal = copied_error(error)  # forever: it never comes back
                raise
            self.seen = now
        return 0

    cdef const Header *find(self, object key, uint64_t *address) except? NULL:
        """Return the record of a key, or NULL."""
        cdef char[NAME_BYTES_MAX] name
        cdef Py_ssize_t size = self.name_of(key, name)
        cdef uint64_t hash = xxh3(name, size, self.parts.seed)
        if is_behind(self.parts):
            self.parts.begin()
        if self.follows or self.refusal is not None:
            self.begin()
        self._meter.reads += 1
        cdef const Header *header = self.parts.current(hash, name, size, address)
        if header == NULL:
            self.begin()  # absent, or its namespace was deleted while the key was looked for
        elif self._recency is not None:
            note_use(self._recency, hash, self.parts.applied)
        return header

    cdef object value_as(self, object key, const Header *header, uint64_t address, Kind kind):
        """Return the value of a checked record in the requested type."""
        cdef bytes data
        self._meter.bytes_out += header.value_size
        if kind == TEXT:
            if not flags_of(header) & LARGE:
                return PyUnicode_DecodeUTF8(value_of(header), header.value_size, "replace")
            data = self.parts._large_value(header, address)
            return PyUnicode_DecodeUTF8(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), "replace")
        if kind == BYTES:
            return self.parts.value_at(header, address)
        if kind == JSON:
            return decode_json(key, self.parts.value_at(header, address))
        return ValueStream(self.parts.view_at(header, address))

    # -- one key

    def get(self, key, type="text", *, cache_ttl=None):
        """Return the value of a key, or None; for a list of keys a dict.

        Args:
            key: 1 to 512 bytes as UTF-8, not "." or ".."; or a list of keys.
            type: "text" (UTF-8; invalid bytes become U+FFFD), "json", "bytes" (or
                "arrayBuffer", as in a Worker), or "stream" (a binary file that copies only what
                is read).
            cache_ttl: seconds for which an edge may cache the value; a database only checks it.

        Raises:
            InvalidRequest: a key or an option is not valid, or the value is not JSON.
            NamespaceNotFound: the namespace was deleted.
            CorruptData: the record is damaged; the error has the file and the offset.
        """
        cdef uint64_t address
        cdef const Header *header
        cdef Kind kind
        if cache_ttl is not None:
            self.limits._check_cache_ttl(cache_ttl)
        if not isinstance(key, str):
            return self.get_many(key, type)
        kind = kind_of(type)
        header = self.find(key, &address)
        if header == NULL:
            return None
        return self.value_as(key, header, address, kind)

    def _try_get(self, key, type="text"):
        """Return what get() returns if it need not wait, else WOULD_BLOCK."""
        cdef char[NAME_BYTES_MAX] name
        cdef Py_ssize_t size
        size = self.name_of(key, name)
        if kind_of(type) == STREAM:
            return blocked
        if self.parts.unusable is None and self.follows and self.parts.foreign_changes != self.seen:
            return blocked
        if self.parts.unusable is None and self.parts.would_block(
            xxh3(name, size, self.parts.seed), name, size
        ):
            return blocked
        return self.get(key, type)

    def _entry(self, key):
        """Return (value, metadata, expires_at, version, status) of a key, or None if it is absent.

        For servers, which send bytes on as they are.  A large value is a memoryview, which copies
        nothing; metadata is JSON, b"" if there is none; the status is None.

        Raises:
            InvalidRequest, NamespaceNotFound, CorruptData: as get().
        """
        cdef uint64_t address
        cdef const Header *header = self.find(key, &address)
        if header == NULL:
            return None
        cdef const char *start = key_of(header) + header.key_size
        cdef bytes metadata = start[:header.metadata_size]
        cdef double ends = expiry_of(header)
        cdef uint64_t version = version_of(header)
        self._meter.bytes_out += header.value_size
        # The value last: what runs meanwhile may move the record.
        if flags_of(header) & LARGE:
            value = self.parts.view_at(header, address)
        else:
            value = self.parts.value_at(header, address)
        return (value, metadata, ends if ends else None, version, None)

    def _try_read(self, key):
        """Return what entry() returns if it need not wait, else WOULD_BLOCK."""
        cdef char[NAME_BYTES_MAX] name
        cdef Py_ssize_t size
        if self.follows and self.parts.foreign_changes != self.seen:
            return blocked
        size = self.name_of(key, name)
        if self.parts.unusable is None and self.parts.would_block(
            xxh3(name, size, self.parts.seed), name, size
        ):
            return blocked
        return self._entry(key)

    def get_with_metadata(self, key, type="text", *, cache_ttl=None):
        """Return ValueWithMetadata(value, metadata, cache_status, version); for a list a dict.

        For an absent key all fields are None, and the version is 0; in a dict, the entry itself is
        None.  See get() for the arguments and errors.
        """
        cdef uint64_t address
        cdef const Header *header
        cdef Kind kind
        if cache_ttl is not None:
            self.limits._check_cache_ttl(cache_ttl)
        if not isinstance(key, str):
            return self.read_each(self.checked_keys(key, type), kind_of(type), True)
        kind = kind_of(type)
        header = self.find(key, &address)
        if header == NULL:
            return ABSENT
        return self.described(key, header, address, kind)

    cdef object described(self, object key, const Header *header, uint64_t address, Kind kind):
        """Return the ValueWithMetadata of a checked record."""
        cdef const char *start = key_of(header) + header.key_size
        cdef bytes metadata = start[:header.metadata_size]
        cdef uint64_t version = version_of(header)
        # The value last: what runs meanwhile may move the record.
        value = self.value_as(key, header, address, kind)
        return new_tuple(ValueWithMetadata, (value, decode_metadata(metadata), None, version))

    def get_metadata(self, key):
        """Return KeyDetails(name, expiration, metadata, version, size), or None; not the value."""
        cdef uint64_t address, version
        cdef const Header *header = self.find(key, &address)
        if header == NULL:
            return None
        cdef const char *start = key_of(header) + header.key_size
        cdef double expires_at = expiry_of(header)
        cdef uint64_t size = header.value_size
        version = version_of(header)
        cdef bytes metadata = start[:header.metadata_size]
        return KeyDetails(
            key,
            <int64_t>ceil(expires_at) if expires_at else None,
            decode_metadata(metadata),
            version,
            size,
        )

    def _expires_at_of(self, key):
        """Return the exact expiration of a key; None: it never expires, or is absent."""
        cdef uint64_t address
        cdef const Header *header = self.find(key, &address)
        cdef double ends = 0 if header == NULL else expiry_of(header)
        return ends if ends else None

    def __contains__(self, key) -> bool:
        cdef uint64_t address
        return self.find(key, &address) != NULL

    # -- many keys

    def get_many(self, keys, type="text", *, cache_ttl=None) -> dict:
        """Return a dict from each key to its value, None for each that is absent.

        Per key, this is much faster than get().  See get() for arguments and errors.
        """
        if cache_ttl is not None:
            self.limits._check_cache_ttl(cache_ttl)
        cdef list wanted = self.checked_keys(keys, type)
        cdef Kind kind = kind_of(type)
        cdef list values
        if kind == STREAM or self.limits.get_bytes is not None:
            return self.read_each(wanted, kind, False)
        names = [self._name(key) for key in wanted]
        values = self.parts.read_many(names)
        self.begin()  # its namespace may have been deleted meanwhile
        self._meter.reads += len(wanted)
        if self._recency is not None:
            self._recency.note(
                [name for name, value in zip(names, values) if value is not None],
                self.parts.applied)
        return {key: self.decoded(key, value, kind) for key, value in zip(wanted, values)}

    cdef dict read_each(self, list wanted, Kind kind, bint with_metadata):
        """Read keys one after another, until their values are too large together."""
        cdef dict found = {}
        cdef uint64_t most = self.limits.get_bytes or ~<uint64_t>0, size = 0, address
        cdef Kind stored = BYTES if kind == JSON else kind
        cdef const Header *header
        for key in wanted:
            header = self.find(key, &address)
            if header == NULL:
                found[key] = None
                continue
            size += header.value_size
            if size > most:
                self.limits._check_get_size(size)
            if with_metadata:
                result = self.described(key, header, address, stored)
                if kind == JSON:
                    result = result._replace(value=json_of_many(key, result.value))
            else:
                result = self.value_as(key, header, address, stored)
                if kind == JSON:
                    result = json_of_many(key, result)
            found[key] = result
        return found

    cdef list checked_keys(self, object keys, object type):
        cdef list wanted = list_of_keys(keys)
        self.limits._check_get_type(type)
        self.limits._check_get_count(len(wanted))
        self._check_usable()
        return wanted

    cdef object decoded(self, object key, object value, Kind kind):
        if value is None:
            return None
        self._meter.bytes_out += len(value)
        if kind == TEXT:
            return PyUnicode_DecodeUTF8(
                PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), "replace")
        return value if kind == BYTES else json_of_many(key, value)


cdef object json_of_many(object key, object value):
    """Return one of many values as JSON; the error is that of Workers KV, its cause says more."""
    try:
        return decode_json(key, value)
    except InvalidRequest as error:
        raise InvalidRequest(not_json) from error


cdef Kind kind_of(object type) except *:
    """Return the kind of value for a type."""
    if type is text_type:
        return TEXT
    if type is bytes_type:
        return BYTES
    if isinstance(type, str):
        if type == "text":
            return TEXT
        if type == "bytes" or type == "arrayBuffer":
            return BYTES
        if type == "json":
            return JSON
        if type == "stream":
            return STREAM
    raise InvalidRequest(
        'Unknown response type. Possible types are "text", "bytes", "json", and "stream", '
        f"not {type!r}.")

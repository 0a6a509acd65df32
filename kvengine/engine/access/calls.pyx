"""The calls of users on one key, or on many; store.py has the others.

Invariants:

* One attribute is not for users, `_parts`: the store as the engine knows it.
"""

from kvengine.engine.access.changing cimport Changer

from kvengine.errors import KeyNotFound, StoreClosed

cdef Changer NOT_OPEN = Changer()
NOT_OPEN.refuse(StoreClosed("the store was not opened"))


cdef class StoreCalls:
    """What users call of a store, as far as it is compiled.

    Thread-safety: threads may share it; see reading.pyx and writing.pyx.
    """

    def __cinit__(self, *args, **kwargs) -> None:
        self._parts = NOT_OPEN

    def get(self, key, default=None):
        """Return the value of a key, or `default`.

        Args:
            key: bytes or another buffer, 1 to 1,024 bytes.

        Raises:
            CorruptData: the record is damaged; the error has the file and the offset.
        """
        return self._parts.read_value(key, default)

    def get_many(self, keys) -> list:
        """Return the values of many keys in their order, None for each that is absent.

        Per key, this is much faster than get(): memory accesses for many keys overlap.
        """
        return self._parts.read_many(keys)

    def get_entry(self, key):
        """Return Entry(key, value, metadata, expires_at, version), or None."""
        return self._parts.read_entry(key)

    def get_view(self, key):
        """Return the value as a read-only memoryview without a copy, or None.

        The view stays valid and unchanged as long as it exists: overwrites, deletes, compaction and
        close() do not affect it.  It keeps the disk space of its segment in use.
        """
        return self._parts.read_view(key)

    def put(self, key, value, *, metadata=b"", expires_at=None, if_version=None, durability=None):
        """Store a value under a key and return the version of the change.

        Args:
            key: bytes or another buffer, 1 to 1,024 bytes.
            value: bytes or another buffer, at most 64 MiB.
            metadata: bytes stored with the value, at most 1,024.
            expires_at: when the key expires, in seconds since the epoch; None: never.
            if_version: write only if the key has this version now (0: only if it is absent).
            durability: "group", "sync", "interval" or "os", instead of the store's.

        Raises:
            InvalidRequest: an argument is out of range, or InvalidType, of the wrong type.
            VersionConflict: the key has another version than `if_version`.
            StoreReadOnly: the store does not accept writes.
            StorageFull: the disk is full; nothing was written.
        """
        return self._parts.put_one(key, value, metadata, expires_at, if_version, durability)

    def delete(self, key, *, if_version=None, durability=None):
        """Delete a key and return the version of the change; 0 if there was nothing to delete.

        Args:
            key: bytes or another buffer, 1 to 1,024 bytes.
            if_version: delete only if the key has this version now.
            durability: "group", "sync", "interval" or "os", instead of the store's.

        Raises:
            VersionConflict: the key has another version than `if_version`.
            StoreReadOnly: the store does not accept writes.
        """
        return self._parts.delete_one(key, if_version, durability)

    def __contains__(self, key) -> bool:
        return self._parts.has_key(key)

    @property
    def version(self) -> int:
        """The version of the newest change; 0 for a store that was never written."""
        self._parts.begin()
        return self._parts.applied

    def __getitem__(self, key):
        value = self.get(key)
        if value is None:
            raise KeyNotFound(key)
        return value

    def __setitem__(self, key, value):
        self.put(key, value)

    def __delitem__(self, key):
        if self.delete(key) == 0:
            raise KeyNotFound(key)

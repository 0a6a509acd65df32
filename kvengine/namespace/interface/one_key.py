"""The methods of every namespace for one key.

Invariants:

* Signatures and docstrings are written only here; the primitives of backend.py do the work.
* pop and add change exactly what they have read, or read again: no two callers get the same value
  from pop(), and only one of several add() returns True.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvengine.engine.access.mapping import ABSENT
from kvengine.errors import KeyNotFound, VersionConflict
from kvengine.namespace.interface import filling
from kvengine.namespace.interface.backend import Backend


class KeyMethods(Backend):
    """The methods of every namespace for one key, built on the backend.

    Thread-safety: threads may share it.
    """

    def put(
        self,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
        if_version: int | None = None,
        size: int | None = None,
        durability: Any = None,
    ) -> int:
        """Store a value and return the version of the change.

        This replaces value, expiration and metadata of an earlier put.

        Args:
            key: 1 to 512 bytes as UTF-8, not "." or "..".
            value: str, bytes-like, or a binary stream, which is read to its end; at most 25 MiB.
            type: "json": the value is any JSON value.
            expiration, expiration_ttl: when the key expires, in seconds since the epoch, or in
                seconds from now, which takes precedence.  It never expires early, and at most 10 ms
                late, or a few seconds if the lifetime is a minute or more.
            metadata: any JSON value of at most 1,024 bytes.
            if_version: write only if the key has this version now (0: only if it is absent).
            size: how many bytes a stream must have; otherwise nothing is written.
            durability: "group", "sync", "interval" or "os", instead of the database's.

        Raises:
            InvalidRequest: an argument is not valid.
            LimitExceeded: key, value or metadata is too large.
            VersionConflict: the key has another version than `if_version`.
            StoreReadOnly: the database does not accept writes.
        """
        return self._put(
            key,
            value,
            type=type,
            expiration=expiration,
            expiration_ttl=expiration_ttl,
            metadata=metadata,
            if_version=if_version,
            size=size,
            durability=durability,
        )

    def delete(self, key: str, *, if_version: int | None = None, durability: Any = None) -> int:
        """Delete a key and return the version of the change; 0 if there was nothing to delete.

        A value that get_or_set() is computing for the key at this moment is not stored.

        Raises:
            InvalidRequest: the key is not valid.
            VersionConflict: the key has another version than `if_version`.
        """
        self._single_flight.forget(key)
        return self._delete(key, if_version=if_version, durability=durability)

    def add(
        self,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
        size: int | None = None,
        durability: Any = None,
    ) -> bool:
        """Store a value if the key is absent; return True if it was stored.

        See put() for the arguments and errors.
        """
        try:
            self.put(
                key,
                value,
                type=type,
                expiration=expiration,
                expiration_ttl=expiration_ttl,
                metadata=metadata,
                if_version=0,
                size=size,
                durability=durability,
            )
        except VersionConflict:
            return False
        return True

    def pop(self, key: str, default: Any = ABSENT, *, type: str = "text") -> Any:
        """Delete a key and return its value, or `default`.

        A value that get_or_set() is computing for the key at this moment is not stored.  This
        counts as a read and, if there was a value, a delete.

        Args:
            type: "text", "json", "bytes" or "stream".

        Raises:
            KeyNotFound: the key is absent, and there is no default.
            InvalidRequest: `type` is "json", but the value is not JSON; it is not deleted.
            UpstreamUnavailable: a server did not answer; the key may have been deleted.
        """
        self._check_one(key)
        self._single_flight.forget(key)  # also if it is absent
        while (found := self._newest(key, type)).version:
            try:
                if self.delete(key, if_version=found.version):
                    return found.value
            except VersionConflict:
                continue  # another writer was faster
        if default is ABSENT:
            raise KeyNotFound(key)
        return default

    def touch(
        self,
        key: str,
        *,
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        if_version: int | None = None,
    ) -> int:
        """Change when a key expires and return the new version; 0 if the key is absent.

        Value and metadata stay.  It counts as a write.

        Args:
            expiration, expiration_ttl: one of them, as for put(); persist() removes the expiration.

        Raises:
            InvalidRequest: an argument is not valid.
            VersionConflict: the key has another version than `if_version`.
        """
        return self._touch(
            key, expiration=expiration, expiration_ttl=expiration_ttl, if_version=if_version
        )

    def persist(self, key: str) -> int:
        """Remove the expiration of a key and return the new version.

        Value and metadata stay.  If anything is written, this counts as a write.

        Returns:
            0 if there is nothing to change: the key is absent, or has no expiration.
        """
        return self._persist(key)

    def increment(
        self,
        key: str,
        by: int = 1,
        *,
        initial: int = 0,
        expiration_ttl: float | None = None,
        must_exist: bool = False,
    ) -> int:
        """Add to a number and return the sum; an absent key has the number `initial`.

        The value is the number as text.  Expiration and metadata of the key stay; only a new key
        gets `expiration_ttl`.  This counts as a read and a write.

        Args:
            must_exist: do not create the key.

        Raises:
            KeyNotFound: the key is absent, and `must_exist`.
            InvalidType: `by` or `initial` is not an int.
            InvalidRequest: the value is not a number, or the sum has more than 64 bits.
        """
        return self._increment(
            key, by, initial=initial, expiration_ttl=expiration_ttl, must_exist=must_exist
        )

    def exists(self, key: str) -> bool:
        """Return True if a key has a value."""
        return key in self

    def ttl(self, key: str) -> float | None:
        """Return the seconds until a key expires; None if it never does, or is absent."""
        seconds = self._ttl(key)
        return None if seconds is None else max(seconds, 0.0)

    def _check_one(self, key: Any) -> None:
        """Refuse what get() takes for several keys."""
        if not isinstance(key, str):
            self.limits._refuse_key(key)

    # -- filling

    def get_or_set(
        self,
        key: str,
        make: Callable[[], Any],
        *,
        type: str = "text",
        expiration: int | None = None,
        expiration_ttl: float | None = None,
        metadata: Any = None,
    ) -> Any:
        """Return the value of a key; if it is absent, call `make` and store its result.

        When several threads miss the key at the same time, only one calls `make`.  If it raises an
        error, all of them raise it, and nothing is stored.  If a value is put while `make` runs,
        that value stays and is returned.  If the key is deleted through this object while `make`
        runs, the result is returned, but not stored.

        Args:
            key: as for get().
            make: returns a str, bytes, or with type "json" any JSON value, including None.
            type: "text", "bytes" or "json": the type of the value.
            expiration, expiration_ttl, metadata: as for put().

        Raises:
            InvalidRequest: `make` calls get_or_set() for the same key.
        """
        options = {
            "expiration": expiration,
            "expiration_ttl": expiration_ttl,
            "metadata": metadata,
        }
        return filling.get_or_set(self, key, make, type, options)

    def memoize(
        self,
        *,
        expiration_ttl: float | None = None,
        type: str = "json",
        key: Callable[..., str] | None = None,
        name: str | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that stores the results of a function in this namespace.

        The key of a call consists of the function's name and its arguments with their types, or of
        a digest if that is too long.  For a lambda, a nested function, a method of an object, and
        any function in `__main__`, the name includes a digest of the code and of the captured
        values.  If a captured value is mutable, the name is valid only in this process: pass `name`
        to share results between processes.  `function.forget(...)` deletes the result of a call.

        Args:
            expiration_ttl: seconds until a result expires; None: never.
            type: "json", "text" or "bytes": what the function returns.
            key: computes the key from the arguments.
            name: the start of the keys, instead of the function's name.

        Raises:
            InvalidType: the function is async (see kvengine.aio) or a generator, or no key can be
                made of an argument.
        """
        return filling.memoize(self, type, key, name, {"expiration_ttl": expiration_ttl})

"""The methods of every namespace for one key.

Invariants:

* Signatures and docstrings are written here once, and what is done is done by the primitives of
  backend.py.
* pop and add change what they have seen, or look again: no two callers get the same value from
  pop(), and of several add() one returns True.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvengine.errors import KeyNotFound, VersionConflict
from kvengine.namespace import filling
from kvengine.namespace.backend import Backend

ABSENT: Any = object()


class KeyMethods(Backend):
    """What every namespace offers for one key, over what its backend can do.

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

        Value, expiration and metadata of an earlier put are all replaced.

        Args:
            key: 1 to 512 bytes as UTF-8, not "." or "..".
            value: str, bytes-like, or a binary stream, which is read to its end; at most 25 MiB.
            type: "json": the value is anything that JSON can say.
            expiration, expiration_ttl: when the key ends, in seconds since the epoch; or in how
                many seconds, which wins: never before, and at most 10 ms later, or some seconds if
                it is a minute or more.
            metadata: anything that JSON can say, at most 1,024 bytes of it.
            if_version: write only if the key has this version now (0: only if it is absent).
            size: how many bytes a stream must have; if it has not, nothing is written.
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

        What get_or_set() makes for it at this moment is not stored.

        Raises:
            InvalidRequest: it is no key.
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
        """Store a value if the key has none; return True if it was stored.

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
        """Delete a key and return the value that it had, or `default`.

        What get_or_set() makes for it at this moment is not stored.  It counts as a read and, if
        there was a value, a delete.

        Args:
            type: "text", "json", "bytes" or "stream".

        Raises:
            KeyNotFound: there is no value, and no default.
            InvalidRequest: the value is not JSON, but `type` is; it stays.
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
        """Let a key never expire and return the new version.

        Value and metadata stay.  It counts as a write, if anything is written.

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
        """Add to a number and return the sum; of an absent key the number is `initial`.

        The value is the number as text.  Expiration and metadata of the key stay; the lifetime is
        given to a key that is made.  It counts as a read and a write.

        Args:
            must_exist: make no key.

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
        """Return the seconds until a key expires; None if it never does, or has no value."""
        seconds = self._ttl(key)
        return None if seconds is None else max(seconds, 0.0)

    def _check_one(self, key: Any) -> None:
        """Refuse what get() takes for several keys."""
        if not isinstance(key, str):
            self.limits.refuse_key(key)

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
        """Return the value of a key; if there is none, call `make` and store what it returns.

        Of several threads that miss the key at once only one calls `make`.  What it raises is
        raised in all of them, and nothing is stored.  A value that is put while `make` runs stays,
        and is returned; after a delete through this object what was made is returned, not stored.

        Args:
            key: as for get().
            make: gives a str, bytes, or with type "json" whatever JSON can say, also None.
            type: "text", "bytes" or "json": what is returned, whether it was stored or just made.
            expiration, expiration_ttl, metadata: as for put().

        Raises:
            InvalidRequest: `make` asks for the same key.
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
        """Return a decorator that keeps what a function returns in this namespace.

        The key of a call is a name of the function and its arguments with their types, or a digest
        where that would be too long.  A function of a module is named as it is there.  Of a lambda,
        a function within a function, a method of an object and all of `__main__`, a digest of the
        code and of what it has captured belongs to the name; where that is an object that can
        change, the name is one of this process only: give `name` to share results between
        processes.  `function.forget(...)` deletes what a call has kept.

        Args:
            expiration_ttl: seconds for which a value is kept; None: forever.
            type: "json", "text" or "bytes": what the function returns.
            key: gives the key from the arguments, instead.
            name: what the keys begin with, instead of what the function is called.

        Raises:
            InvalidType: the function is async (see kvengine.aio) or a generator, or no key can be
                made of an argument.
        """
        return filling.memoize(self, type, key, name, {"expiration_ttl": expiration_ttl})

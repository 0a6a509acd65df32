"""Namespace: the keys of one application, with the methods of Workers KV and what its users miss.

Invariants:

* The work is done elsewhere, by the module of its name; this class is where users find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from kvengine.cache.single_flight import SingleFlight
from kvengine.namespace import filling, listing, watching
from kvengine.namespace.mapping import NamespaceMapping
from kvengine.namespace.results import (
    BulkReport,
    ExportReport,
    ImportReport,
    KeyChange,
    KeyInfo,
    ListResult,
)
from kvengine.namespace.transfer import bulk
from kvengine.namespace.transfer.bulk import Progress
from kvengine.namespace.transfer.export import export
from kvengine.namespace.transfer.import_ import import_
from kvengine.namespace.writing import NamespaceWriter


class Namespace(NamespaceWriter, NamespaceMapping):  # type: ignore[misc]  # get() has a type
    """A namespace of a database; see Database.namespace().

    Keys are text of 1 to 512 bytes as UTF-8.  Values are bytes, or text as UTF-8.

    Thread-safety: threads may share it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._single_flight = SingleFlight()

    def __repr__(self) -> str:
        return f"<kvengine.Namespace {self.id}>"

    def delete(self, key: str, *, if_version: int | None = None, durability: Any = None) -> int:
        """Delete a key and return the version of the change; 0 if there was nothing to delete.

        What get_or_set() makes for it at this moment is not stored.

        Raises:
            InvalidRequest: it is no key.
            VersionConflict: the key has another version than `if_version`.
        """
        self._single_flight.forget(key)
        return super().delete(key, if_version=if_version, durability=durability)

    # -- what NamespaceMapping needs

    def _now(self) -> float:
        return self.store.options.clock.time()

    # -- lists

    def list(
        self,
        prefix: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        *,
        reverse: bool = False,
        start_after: str | None = None,
        delimiter: str | None = None,
    ) -> ListResult:
        """Return a page of keys in the order of their UTF-8 bytes.

        Go on with the result's `cursor` until `list_complete`; a page may be empty before.

        Args:
            prefix: only keys with this prefix.
            limit: at most so many, 1,000 unless the limits say otherwise.
            cursor: of the page before; prefix, reverse and delimiter must be the same again.
            reverse: the last key first.
            start_after: only keys behind this one, in the direction of the list.
            delimiter: show keys that have it behind the prefix as one folder each, in `folders`.

        Raises:
            InvalidRequest: an argument is not valid, or the cursor is of another list.
        """
        return listing.list_page(self, prefix, limit, cursor, reverse, start_after, delimiter)

    def _list_all(self, prefix: str, reverse: bool, start_after: str | None) -> Iterator[KeyInfo]:
        return listing.all_keys(self, prefix, reverse, start_after)

    def count(self, prefix: str = "") -> int:
        """Return how many living keys begin with a prefix; without one at once, else by a scan."""
        if prefix == "":
            self.check_usable()
            return int(self.size().keys)
        return listing.count(self, prefix)

    # -- size

    def size(self) -> Any:
        """Return GroupSize(keys, bytes) of what lives: exact, without a scan.

        Bytes are those of keys, values and metadata.
        """
        self.check_usable()
        return listing.size_of(self.store, self.prefix)

    # -- watching

    def watch(
        self, prefix: str = "", *, after: int | None = None, timeout: float | None = None
    ) -> Iterator[KeyChange]:
        """Return an iterator over the changes of keys with a prefix, as they come.

        It sleeps until the next change, in whatever process that is made, and is woken within a
        millisecond.  Each watcher gets every change, in each process; for work that one of them
        should do, see Database.consumer.

        Args:
            prefix: only keys with this prefix.
            after: begin behind this version, for example that of the last change seen; None: now.
            timeout: end when nothing came for so many seconds; None: never.

        Raises:
            LogCompacted: deletes behind `after` have been forgotten: list, then watch from there.
            NamespaceNotFound: the namespace was deleted.
            StoreClosed: the database was closed.
        """
        return watching.watch(self, prefix, after, timeout)

    def history(self, key: str) -> Iterator[KeyChange]:
        """Return an iterator over the changes of a key that the log still has, oldest first.

        Compaction leaves only the newest.
        """
        return watching.history(self, key)

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

    # -- bulk

    def put_many(
        self,
        pairs: Mapping[str, Any] | Iterable[tuple[str, Any] | Mapping[str, Any]],
        *,
        atomic: bool = True,
        if_version: int | None = None,
        progress: Progress | None = None,
        durability: Any = None,
    ) -> BulkReport:
        """Store many values and return how many, and which were refused.

        At most 10,000 pairs and 100 MB of keys, values and metadata in one call.  Each pair counts
        as a write.  Of a key that comes twice the last value stays.

        Args:
            pairs: a mapping from key to value; or an iterable of (key, value) and of dicts with
                "key", "value" and, if wanted, "expiration", "expiration_ttl", "metadata" as in
                put(), and "base64": True for a value that is bytes in base64.
            atomic: write all pairs together or, if one can't be written, none; the error says
                which.  Else those that can't be written are in the report, the others are written.
            if_version: write only if each key has this version now (0: if all are absent); only
                with `atomic`.  No two keys have the same version, so for several keys it is 0.
            progress: called with (pairs written, pairs to write).
            durability: "group", "sync", "interval" or "os", instead of the database's.

        Raises:
            InvalidRequest: a pair can't be written, and `atomic`; or an argument is not valid.
            LimitExceeded: the call is too large; nothing was written.
            VersionConflict: a key has another version than `if_version`; nothing was written.
            StorageFull: there is no room; nothing was written.  Without `atomic`, when some
                pairs were written before, it is in the report of the others instead.
        """
        return bulk.put_many(self, pairs, atomic, if_version, progress, durability)

    def delete_many(
        self,
        keys: Iterable[str],
        *,
        atomic: bool = True,
        progress: Progress | None = None,
        durability: Any = None,
    ) -> BulkReport:
        """Delete many keys and return how many, and which were refused.

        At most 10,000 keys in one call.  Each counts as a delete, and as successful, whether it
        was there or not.  See put_many() for arguments and errors.
        """
        self._single_flight.forget_where(lambda key: True)
        return bulk.delete_many(self, keys, atomic, progress, durability)

    def delete_prefix(
        self, prefix: str, *, dry_run: bool = False, progress: Progress | None = None
    ) -> int:
        """Delete all keys that begin with a prefix and return how many; "" means all keys.

        Keys are deleted one after the other: readers see the work under way, other writers get
        their turn, and if it is interrupted it can be called again for the rest.  Each key deleted
        counts as a delete.

        Args:
            prefix: what the keys begin with.
            dry_run: delete nothing, only count the keys.
            progress: called with (keys deleted, keys there were).
        """
        if not dry_run:
            self._single_flight.forget_where(lambda key: True)
        return bulk.delete_prefix(self, prefix, dry_run, progress)

    # -- files

    def export_file(
        self,
        file: Any,
        *,
        format: Literal["ndjson", "wrangler"] = "ndjson",
        prefix: str = "",
        start_after: str | None = None,
        resume: bool = False,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write all pairs to a file, in the order of their keys, as they are at one moment.

        A file at a path gets its name when it is whole and on disk; until then it is PATH.part.
        It counts as a read for each key and a list for each thousand.

        Args:
            file: a path, or a binary file object to write to.
            format: "ndjson": on each line an object with "key" and "value" and, where there are
                such, "base64" (true: the value is no text), "expiration" and "metadata".
                "wrangler": the same as a JSON array, for `wrangler kv bulk put`.
            prefix: only keys with this prefix.
            start_after: only keys behind this one.
            resume: go on with what an interrupted export left in PATH.part, if there is any; what
                is there already stays as it was at that time.
            progress: called with (keys written, keys to write).

        Raises:
            InvalidRequest: an argument is not valid, or PATH.part is from another export.
            StorageError: the file can't be written.
        """
        return export(self, file, format, prefix, start_after, resume, progress)

    def import_file(
        self,
        file: Any,
        *,
        format: Literal["ndjson", "wrangler"] | None = None,
        atomic: bool = False,
        resume: bool = False,
        on_error: Literal["stop", "skip"] = "stop",
        progress: Progress | None = None,
    ) -> ImportReport:
        """Write the pairs of a file, made by export_file() or wrangler, over those that are there.

        Each pair is checked as put() does it, with "expiration_ttl" as another field, and counts as
        a write.  Pairs that have ended are left out.  Pairs are written in batches, and with each
        how far the import has come, so that it can be resumed whatever ends it.

        Args:
            file: a path, or a binary file object to read from.
            format: "ndjson" or "wrangler"; None: as the file begins.
            atomic: write all pairs in one batch, which has at most 128 MiB, or nothing.
            resume: go on where the last import of a file of this name ended, if it came to no end;
                up to there the file must be the same.
            on_error: at a pair that is refused "stop", or "skip" it.  An array of which an object
                is not JSON always ends the import, and so does a file that ends too early.
            progress: called with (bytes read, bytes to read).

        Raises:
            InvalidRequest: a pair is refused; the error says which, and what comes before it is
                written.  Or an argument is not valid, or the file to go on with has changed.
            StorageError: the file can't be read.
        """
        return import_(self, file, format, atomic, resume, on_error, progress)

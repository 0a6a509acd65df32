"""The methods of every namespace for many keys: bulk, lists, the log, files.

Invariants:

* Signatures and docstrings are written only here; the primitives of backend.py do the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal

from kvengine.errors import InvalidType
from kvengine.namespace.interface.one_key import KeyMethods
from kvengine.namespace.interface.results import (
    BulkReport,
    ExportReport,
    ImportReport,
    Key,
    KeyChange,
    KeyInfo,
    ListResult,
)
from kvengine.namespace.listing import text_bytes
from kvengine.namespace.page import key_of
from kvengine.namespace.transfer.bulk import Progress


class NamespaceMethods(KeyMethods):
    """The methods of every namespace for many keys, built on the backend.

    Thread-safety: threads may share it.
    """

    def put_many(
        self,
        pairs: Mapping[str, Any] | Iterable[tuple[str, Any] | Mapping[str, Any]],
        *,
        atomic: bool = True,
        if_version: int | None = None,
        progress: Progress | None = None,
        durability: Any = None,
    ) -> BulkReport:
        """Store many values; return how many were stored, and which were refused.

        At most 10,000 pairs and 100 MB of keys, values and metadata in one call.  Each pair counts
        as a write.  If a key occurs twice, its last value stays.

        Args:
            pairs: a mapping from key to value; or an iterable of (key, value) and of dicts with
                "key", "value" and optionally "expiration", "expiration_ttl", "metadata" as in
                put(), and "base64": True for a value that is encoded in base64.
            atomic: write all pairs together or, if one can't be written, none; the error says
                which.  Otherwise the report lists those refused, and the others are written.
            if_version: write only if each key has this version now (0: if all are absent); only
                with `atomic`.  No two keys have the same version, so for several keys it is 0.
            progress: called with (pairs written, pairs to write); only once with a server.
            durability: "group", "sync", "interval" or "os", instead of the database's.

        Raises:
            InvalidRequest: a pair can't be written, and `atomic`; or an argument is not valid.
            LimitExceeded: the call is too large; nothing was written.
            VersionConflict: a key has another version than `if_version`; nothing was written.
            StorageFull: the disk is full; nothing was written.  Without `atomic`, once some pairs
                have been written, the report of the others has this error instead.
        """
        return self._put_many(
            pairs, atomic=atomic, if_version=if_version, progress=progress, durability=durability
        )

    def delete_many(
        self,
        keys: Iterable[str],
        *,
        atomic: bool = True,
        progress: Progress | None = None,
        durability: Any = None,
    ) -> BulkReport:
        """Delete many keys; return how many were deleted, and which were refused.

        At most 10,000 keys in one call.  Each counts as a delete, and as successful, even if it
        was absent.  See put_many() for arguments and errors.
        """
        self._single_flight.forget_where(lambda key: True)
        return self._delete_many(keys, atomic=atomic, progress=progress, durability=durability)

    def delete_prefix(
        self, prefix: str, *, dry_run: bool = False, progress: Progress | None = None
    ) -> int:
        """Delete all keys that begin with a prefix and return how many; "" means all keys.

        This is not atomic: readers may see some keys deleted, and other writers get their turn.  If
        it is interrupted, call it again for the rest.  Each deleted key counts as a delete.

        Args:
            prefix: the start of the keys.
            dry_run: delete nothing, only count the keys.
            progress: called with (keys deleted, keys to delete).
        """
        if not dry_run:
            self._single_flight.forget_where(lambda key: True)
        return self._delete_prefix(prefix, dry_run=dry_run, progress=progress)

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

        To get the next page, pass the result's `cursor`, until `list_complete`.  A page may be
        empty.

        Args:
            prefix: only keys with this prefix.
            limit: the largest number of keys; 1,000 unless the limits say otherwise.
            cursor: from the previous page; prefix, reverse and delimiter must be the same.
            reverse: return the last key first.
            start_after: only keys after this one, in the direction of the list.
            delimiter: group keys that contain it after the prefix into `folders`.

        Raises:
            InvalidRequest: an argument is not valid, or the cursor belongs to another list.
        """
        return self._list(
            prefix, limit, cursor, reverse=reverse, start_after=start_after, delimiter=delimiter
        )

    def keys(
        self, prefix: str = "", *, reverse: bool = False, start_after: str | None = None
    ) -> Iterator[Key]:
        """Return an iterator over the keys, in the order of their UTF-8 bytes.

        Each is a str that also has `expiration` and `metadata`; see Key.

        Args:
            prefix: only keys that begin with it.
            reverse: return the last key first.
            start_after: only keys after this one, in the direction of the iterator.

        Raises:
            InvalidType: an argument is not a str.
            InvalidRequest: an argument is not text that UTF-8 can encode.
        """
        if not isinstance(prefix, str):
            raise InvalidType(f"prefix must be a str, not {type(prefix).__name__}")
        return map(key_of, self._list_all(prefix, reverse, start_after))

    def _list_all(self, prefix: str, reverse: bool, start_after: str | None) -> Iterator[KeyInfo]:
        """Return an iterator over the keys of all pages; arguments are checked at once."""
        text_bytes("prefix", prefix)
        text_bytes("start_after", start_after)
        self._check_usable()

        def pages() -> Iterator[list[KeyInfo]]:
            page = self.list(prefix, reverse=reverse, start_after=start_after)
            yield page.keys
            while not page.list_complete:
                page = self.list(prefix, cursor=page.cursor, reverse=reverse)
                yield page.keys

        return chain.from_iterable(pages())

    def count(self, prefix: str = "") -> int:
        """Return how many live keys begin with a prefix; with a prefix, this is a scan."""
        return self._count(prefix)

    def size(self) -> Any:
        """Return GroupSize(keys, bytes) of the live keys: exact, and without a scan.

        Bytes are those of keys, values and metadata.
        """
        return self._size()

    # -- the log

    def watch(
        self, prefix: str = "", *, after: int | None = None, timeout: float | None = None
    ) -> Iterator[KeyChange]:
        """Return an iterator over the changes of keys with a prefix, as they happen.

        It sleeps until the next change in any process, and wakes within a millisecond.  Each
        watcher gets every change, in each process; to divide work between processes, see
        Database.consumer.  If the connection to a server breaks, the iterator reconnects after a
        pause, and continues after the last change that it returned.

        Args:
            prefix: only keys with this prefix.
            after: start after this version, for example that of the last change seen; None: now.
            timeout: end after this many seconds without a change; None: never.

        Raises:
            LogCompacted: deletes after `after` have been compacted away: list, then watch from
                there.
            NamespaceNotFound: the namespace was deleted.
            StoreClosed: the database was closed.
        """
        return self._watch(prefix, after=after, timeout=timeout)

    def history(self, key: str) -> Iterator[KeyChange]:
        """Return an iterator over the changes of a key that the log still has, oldest first.

        Compaction keeps only the newest.
        """
        return self._history(key)

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
        """Write all pairs to a file, sorted by key, as of one moment.

        A file at a path is named PATH.part until it is complete and on disk.  This counts as a read
        for each key and a list for each thousand.  With a remote database, the pairs are not all as
        of one moment, and the export can't be resumed.

        Args:
            file: a path, or a binary file object to write to.
            format: "ndjson": on each line an object with "key" and "value" and, where they apply,
                "base64" (true: the value is not text), "expiration" and "metadata".
                "wrangler": the same as a JSON array, for `wrangler kv bulk put`.
            prefix: only keys with this prefix.
            start_after: only keys after this one.
            resume: continue an interrupted export from PATH.part, if it exists; pairs already
                written stay as they were then.
            progress: called with (keys written, keys to write).

        Raises:
            InvalidRequest: an argument is not valid, or PATH.part is from another export.
            StorageError: the file can't be written.
        """
        return self._export_file(
            file,
            format=format,
            prefix=prefix,
            start_after=start_after,
            resume=resume,
            progress=progress,
        )

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
        """Write the pairs of a file, made by export_file() or for wrangler, over existing ones.

        Each pair is checked as in put(), may have "expiration_ttl", and counts as a write.  Expired
        pairs are skipped.  Pairs are written in batches, and each batch records the progress, so
        an import can be resumed however it ended.  It works only where the database is, not
        over the network.

        Args:
            file: a path, or a binary file object to read from.
            format: "ndjson" or "wrangler"; None: detect it.
            atomic: write all pairs in one batch of at most 128 MiB, or nothing.
            resume: continue the last, incomplete import of a file of this name; up to that point
                the file must be unchanged.
            on_error: what to do at an invalid pair: "stop" or "skip" it.  Invalid JSON in an array,
                or a truncated file, always stops the import.
            progress: called with (bytes read, bytes to read).

        Raises:
            InvalidRequest: a pair is invalid; the error says which, and the pairs before it are
                written.  Or an argument is not valid, or a file to resume has changed.
            StorageError: the file can't be read.
        """
        return self._import_file(
            file,
            format=format,
            atomic=atomic,
            resume=resume,
            on_error=on_error,
            progress=progress,
        )

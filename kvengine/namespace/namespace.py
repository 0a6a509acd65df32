"""Namespace: the keys of one application, with the methods of Workers KV and what its users miss.

Invariants:

* The work is done elsewhere, by the module of its name; this class is where users find it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from kvengine.namespace import listing
from kvengine.namespace.export import Progress, export
from kvengine.namespace.import_ import import_
from kvengine.namespace.layout import PREFIX_BYTES
from kvengine.namespace.results import ExportReport, ImportReport, KeyInfo, ListResult
from kvengine.namespace.writing import NamespaceWriter


class Namespace(NamespaceWriter):
    """A namespace of a database; see Database.namespace().

    Keys are text of 1 to 512 bytes as UTF-8.  Values are bytes, or text as UTF-8.

    Thread-safety: threads may share it.
    """

    def __repr__(self) -> str:
        return f"<kvengine.Namespace {self.id}>"

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
            prefix: only keys that begin so.
            limit: at most so many, 1,000 unless the limits say otherwise.
            cursor: of the page before; all other arguments must be the same.
            reverse: the last key first.
            start_after: only keys behind this one, in the direction of the list.
            delimiter: show keys that have it behind the prefix as one folder each, in `folders`.

        Raises:
            InvalidRequest: an argument is not valid, or the cursor is of another list.
        """
        return listing.list_page(self, prefix, limit, cursor, reverse, start_after, delimiter)

    def keys(
        self, prefix: str | None = None, *, reverse: bool = False, start_after: str | None = None
    ) -> Iterator[KeyInfo]:
        """Return an iterator over the keys of all pages; see list()."""
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
        size = self.store.group_size(self.prefix)
        return size._replace(bytes=size.bytes - PREFIX_BYTES * size.keys)

    # -- files

    def export(
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
            prefix: only keys that begin so.
            start_after: only keys behind this one.
            resume: go on with what an interrupted export left in PATH.part, if there is any; what
                is there already stays as it was at that time.
            progress: called with (keys written, keys to write).

        Raises:
            InvalidRequest: an argument is not valid, or PATH.part is from another export.
            StorageError: the file can't be written.
        """
        return export(self, file, format, prefix, start_after, resume, progress)

    def import_(
        self,
        file: Any,
        *,
        format: Literal["ndjson", "wrangler"] | None = None,
        atomic: bool = False,
        resume: bool = False,
        on_error: Literal["stop", "skip"] = "stop",
        progress: Progress | None = None,
    ) -> ImportReport:
        """Write the pairs of a file, as export() or wrangler made it, over those that are there.

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

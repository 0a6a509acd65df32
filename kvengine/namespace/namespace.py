"""Namespace: the keys of one application, with the methods of Workers KV and what its users miss.

Invariants:

* The work is done elsewhere, by the module of its name; this class is where users find it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvengine.namespace import listing
from kvengine.namespace.layout import PREFIX_BYTES
from kvengine.namespace.results import KeyInfo, ListResult
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
            cursor: of the page before; prefix, reverse and delimiter must be the same again.
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

"""Namespace: the keys of one application, in a store of this machine.

Invariants:

* This class only dispatches: reading.pyx, writing.py, listing.py and others do the work; the public
  methods are in one_key.py, many_keys.py and mapping.py.
"""

from __future__ import annotations

from typing import Any

from kvengine.entry import GroupSize
from kvengine.namespace import listing, watching
from kvengine.namespace.transfer import bulk
from kvengine.namespace.transfer.export import export
from kvengine.namespace.transfer.import_ import import_
from kvengine.namespace.writing import NamespaceWriter


class Namespace(NamespaceWriter):
    """A namespace of a database; see Database.namespace().

    Keys are text of 1 to 512 bytes as UTF-8.  Values are bytes, or text as UTF-8.

    Thread-safety: threads may share it.
    """

    def __repr__(self) -> str:
        return f"<kvengine.Namespace {self.id}>"

    def _newest(self, key: str, type: str) -> Any:
        return self.get_with_metadata(key, type)

    def _ttl(self, key: str) -> float | None:
        ends = self._expires_at_of(key)
        return None if ends is None else ends - self._store._parts.options.clock.time()

    def _count(self, prefix: str) -> int:
        return listing.count(self, prefix) if prefix != "" else self._size().keys

    def _size(self) -> GroupSize:
        self._check_usable()
        return listing.size_of(self._store, self._prefix)

    _put_many = bulk.put_many
    _delete_many = bulk.delete_many
    _delete_prefix = bulk.delete_prefix
    _list = listing.list_page
    _watch = watching.watch
    _history = watching.history
    _export_file = export
    _import_file = import_

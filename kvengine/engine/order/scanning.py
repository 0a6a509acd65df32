"""The Python interface of scans: checks arguments, joins chunks, shows keys as a view.

Invariants:

* Arguments are checked when a scan is created, not when its first key is taken.
* An iterator holds no lock and no position in any structure, only the last key that it returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView, Mapping
from typing import Any, NamedTuple

from kvengine.engine.order.scan import ChunkIterator, keys_chunk
from kvengine.engine.parts import StoreParts
from kvengine.errors import InvalidRequest, InvalidType

FIRST_CHUNK, LARGEST_CHUNK = 32, 1024  # keys taken at once, growing


class ScanArguments(NamedTuple):
    """What a scan was asked for."""

    prefix: bytes
    start_after: bytes | None
    limit: int | None
    reverse: bool


def scan_arguments(prefix: Any, start_after: Any, limit: Any, reverse: Any) -> ScanArguments:
    """Return the arguments of a scan, checked.

    Raises:
        InvalidType: a prefix or key is not bytes-like, a limit not an int.
        InvalidRequest: the limit is negative.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise InvalidType(f"limit must be an int or None, not {type(limit).__name__}")
    if limit is not None and limit < 0:
        raise InvalidRequest(f"limit must be 0 or more, not {limit}")
    after = None if start_after is None else bytes_of("start_after", start_after)
    return ScanArguments(bytes_of("prefix", prefix), after, limit, bool(reverse))


def bytes_of(name: str, value: Any) -> bytes:
    """Return an argument as bytes.

    Raises:
        InvalidType: it is not bytes-like.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise InvalidType(f"{name} must be bytes, not {type(value).__name__}")


def chunks(
    store: StoreParts, read: Callable[..., list[Any]], arguments: ScanArguments
) -> Iterator[Any]:
    """Yield what `read` finds, chunk by chunk."""
    prefix, after, limit, reverse = arguments
    size = FIRST_CHUNK
    while limit is None or limit > 0:
        wanted = size if limit is None else min(size, limit)
        found = read(store, store.key_order, prefix, after, reverse, wanted)
        yield from ChunkIterator(store, found)
        if len(found) < wanted:
            return
        after = found[-1] if isinstance(found[-1], bytes) else found[-1].key
        limit = None if limit is None else limit - wanted
        size = min(2 * size, LARGEST_CHUNK)


EVERYTHING = ScanArguments(b"", None, None, False)


class Keys(KeysView[bytes], Iterator[bytes]):
    """All keys of a store: an iterator, and a view with len(), `in` and set operations."""

    def __init__(self, mapping: Mapping[bytes, bytes], store: StoreParts) -> None:
        super().__init__(mapping)
        self._of, self._store = mapping, store
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:  # noqa: PYI034 (as a view: anew for each loop)
        return chunks(self._store, keys_chunk, EVERYTHING)

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self)
        return next(self._iterator)

    def __reversed__(self) -> Iterator[bytes]:
        return chunks(self._store, keys_chunk, EVERYTHING._replace(reverse=True))

    def __repr__(self) -> str:
        return f"<keys of {self._of!r}>"

"""Read one value and send it.

Invariants:

* A large value is sent in pieces from its memory map, as fast as the client reads.
* The event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from kvengine.aio.edge_namespace import EdgeNamespace
from kvengine.aio.namespace import Namespace
from kvengine.namespace.limits import Limits
from kvengine.namespace.values import encode_metadata
from kvengine.server.http.messages import PIECE_BYTES

AT_ONCE_BYTES = 1 << 16  # values up to this size are sent with the head


class Found(NamedTuple):
    """A value to send."""

    value: bytes | memoryview
    metadata: bytes  # JSON; b"" for none
    expires_at: float | None
    version: int
    status: str | None  # the cache status at an edge: HIT, MISS, ...

    @property
    def body(self) -> bytes | AsyncIterator[bytes]:
        """The value as a body: whole if it is small, else in pieces."""
        if len(self.value) <= AT_ONCE_BYTES:
            return bytes(self.value)
        return pieces(memoryview(self.value))


async def find(
    namespace: Namespace | EdgeNamespace, key: str, cache_ttl: int | None = None
) -> Found | None:
    """Return the value of a key, or None.

    Args:
        namespace: of a database or an edge.
        key: of the value.
        cache_ttl: maximum age of an edge's copy in seconds; a database ignores it.

    Raises:
        InvalidRequest: the key or the time is not valid.
        NamespaceNotFound: the namespace was deleted.
        UpstreamUnavailable: an edge can't reach its primary.
    """
    if cache_ttl is not None:
        namespace.limits._check_cache_ttl(cache_ttl)
    if isinstance(namespace, EdgeNamespace):
        return await _copy(namespace, key, cache_ttl)
    entry: Any = namespace._inner._try_read(key)
    if entry is not None and type(entry) is not tuple:
        entry = await namespace._runner.run(namespace._inner._entry, key)
    return None if entry is None else Found(*entry)


async def _copy(namespace: EdgeNamespace, key: str, cache_ttl: int | None) -> Found | None:
    if cache_ttl is None:
        entry: Any = namespace._inner._try_read(key)
        if entry is None:
            return None
        if type(entry) is tuple:
            return Found(*entry)
    read = await namespace.read(key, "bytes", cache_ttl=cache_ttl)
    if read.version == 0:
        return None
    metadata = encode_metadata(UNBOUNDED, read.metadata)
    return Found(read.value, metadata, read.expiration, read.version, read.cache_status)


UNBOUNDED = Limits()  # stored metadata was checked before


async def pieces(view: memoryview) -> AsyncIterator[bytes]:
    """Yield a value in pieces, each read on a thread, because it may wait for the disk."""
    with view:
        for start in range(0, len(view), PIECE_BYTES):
            yield await asyncio.to_thread(bytes, view[start : start + PIECE_BYTES])

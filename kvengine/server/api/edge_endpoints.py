"""The endpoints of an edge: it answers reads of values, and forwards the rest to its primary.

Invariants:

* Copies that a write changed are invalidated before its client gets the answer.  The client gets
  the answer of the primary even if a later step fails.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from kvengine.aio.edge import Edge
from kvengine.errors import KvError, RateLimited, UpstreamUnavailable
from kvengine.server.api.rest.endpoint import STORAGE
from kvengine.server.api.workerd import PREFIX_PARTS
from kvengine.server.http.app import Endpoint
from kvengine.server.http.messages import Request, Response, decoded

if TYPE_CHECKING:
    from kvengine.server.api.forward import AfterWrite

logger = logging.getLogger("kvengine.server")
VALUES_PARTS = 10  # client v4 accounts A storage kv namespaces NS values KEY
WORKERD = b"kv-namespace"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
LOOK_UP_S = 1.0


class EdgeEndpoint:
    """An endpoint that answers reads of values, and forwards the rest.

    Args:
        own: answers the reads.
        primary: a Forwarder.
    """

    def __init__(self, own: Endpoint, primary: Endpoint) -> None:
        self._own, self._primary = own, primary

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        return await (self._own if is_read(request) else self._primary)(request)


def is_read(request: Request) -> bool:
    """Return whether a request reads values, and nothing else."""
    rest = _rest(request)
    if request.method in ("GET", "HEAD"):
        return len(rest) == 1 and rest[0] != b""
    return request.method == "POST" and rest == [b"bulk", b"get"]


def _rest(request: Request) -> list[bytes]:
    """Return the path after the namespace: a key, or b"bulk" and b"get"; [] for other paths."""
    parts = request.raw_parts
    if request.header(WORKERD) is not None:
        return parts
    if parts[0] == b"workerd":
        return parts[PREFIX_PARTS:]
    if parts[0] == b"client" and parts[4:7] == STORAGE:
        if len(parts) == VALUES_PARTS and parts[8] == b"values":
            return parts[9:]
        return parts[8:] if parts[8:] == [b"bulk", b"get"] else []
    return []


def wrote_here(edge: Edge) -> AfterWrite:
    """Return a function that invalidates copies after a forwarded write.

    Args:
        edge: open.
    """

    async def wrote(request: Request, version: int | None) -> None:
        edge._inner._node.record_write(await _names(edge, request), version)

    return wrote


async def _names(edge: Edge, request: Request) -> list[bytes] | None:
    """Return the names in the store of the keys that a write has changed; None: not known."""
    rest = _rest(request)
    if request.method not in ("PUT", "DELETE") or len(rest) != 1:
        return None
    parts, header = request.raw_parts, request.header(WORKERD)
    if header is None:
        header = parts[7] if parts[0] == b"client" else parts[2]
    is_plain = parts[0] != b"client" and "urlencoded" not in request.query
    key = rest[0].decode("ascii", "replace") if is_plain else decoded(rest[0])
    if key is None:
        return None
    try:
        async with asyncio.timeout(LOOK_UP_S):  # the write is done, so its client should not wait
            namespace = await edge.namespace_by_id(header.decode("ascii", "replace"))
        return [namespace._inner._name(key)]
    except (KvError, TimeoutError):
        return None


async def open_edge(
    url: str,
    *,
    token: str | None,
    name: str,
    path: str | None = None,
    verify: Any = True,
    **settings: Any,
) -> Edge:
    """Return an open edge of a primary; wait until the primary can be reached.

    Args:
        url: of the primary.
        token: may read all namespaces; None: from KVENGINE_TOKEN.
        name: of the edge.
        path: a folder for copies that survive a restart; None: copies are in memory only.
        verify: True, or an ssl.SSLContext with the trusted CAs.
        settings: see kvengine.edge.settings.Settings.

    Raises:
        AccessDenied: the primary refuses the token.
        InvalidRequest, StoreLocked, NotAStore: as kvengine.Edge.
    """
    edge = Edge(url, name, path=path, token=token, verify=verify, **settings)
    pause = FIRST_PAUSE_S
    try:
        while True:
            try:
                return await edge._open()
            except (UpstreamUnavailable, RateLimited) as error:
                if pause == FIRST_PAUSE_S:
                    logger.warning("waiting for the primary: %s", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
    except BaseException:
        await edge.close()
        raise

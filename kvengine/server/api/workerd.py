"""The endpoint of workerd's protocol, which the KV binding of a Worker uses.

    GET     /KEY?urlencoded=true[&cache_ttl=N]      the value; CF-KV-Metadata
    PUT     /KEY?urlencoded=true[&expiration=N][&expiration_ttl=N]
    DELETE  /KEY?urlencoded=true
    GET     /?key_count_limit=N&prefix=P&cursor=C   a page of keys
    POST    /bulk/get                               many values

The path before it, /workerd/{account}/{namespace}, or the header KV-Namespace names the namespace.
Requests, responses and texts are those of workerd and Miniflare
(workerd src/workerd/api/kv.c++, workers-sdk packages/miniflare/src/workers/kv).

Invariants:

* The reason phrase describes an error, because a program in a Worker sees nothing else.
* 404 means only that a key is absent: workerd returns null for it.
"""

from __future__ import annotations

import json
import math
from typing import Any

from kvengine.aio.edge_namespace import EdgeNamespace
from kvengine.aio.namespace import Namespace
from kvengine.errors import (
    InvalidRequest,
    KvError,
    LimitExceeded,
    NamespaceNotFound,
    StorageFull,
    StoreReadOnly,
    UpstreamUnavailable,
)
from kvengine.namespace.interface.results import KeyInfo
from kvengine.namespace.limits import Limits
from kvengine.namespace.values import to_json
from kvengine.server.api.values import find
from kvengine.server.api.workerd_bulk import values_of
from kvengine.server.api.workerd_checks import check_key, check_length, number
from kvengine.server.auth.access import Refused
from kvengine.server.backend import Backend
from kvengine.server.http.body.incoming import Incoming
from kvengine.server.http.messages import Request, Response, decoded

PREFIX_PARTS = 3  # "workerd", account, namespace
OCTETS = (b"content-type", b"application/octet-stream")


class WorkerdEndpoint:
    """workerd's KV protocol, over a backend.

    Args:
        backend: has the namespaces.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        try:
            account, namespace_id, rest = where(request)
            request.namespace_id = namespace_id
            request.action = action_of(request.method, rest)
            write = request.action in ("write", "delete")
            await self._backend.admit(request, namespace_id, write=write)
            if account not in (None, self._backend.account):
                raise Refused(403, "this server belongs to another account")
            return await self._answer(request, namespace_id, rest)
        except Refused as error:
            return refusal(error.status, error.why, error.retry_after_s)
        except NamespaceNotFound:
            return refusal(400, "namespace not found")  # with 404, every key would seem absent
        except InvalidRequest as error:
            return refusal(error.status if isinstance(error, LimitExceeded) else 400, str(error))
        except (UpstreamUnavailable, StoreReadOnly, StorageFull) as error:
            return refusal(503, str(error))
        except KvError as error:
            return refusal(500, str(error))

    async def _answer(self, request: Request, namespace_id: str, rest: list[bytes]) -> Response:
        limits = self._backend.limits
        if request.method == "POST" and rest == [b"bulk", b"get"]:
            namespace = await self._backend.namespace(namespace_id)
            return Response.json(await values_of(namespace, limits, request))
        if request.method == "GET" and rest in ([], [b""]):
            return await self._list(request, namespace_id)
        if len(rest) > 1:
            raise InvalidRequest("Key names must be percent-encoded, slashes too")
        key = key_of(request, rest[0] if rest else b"", limits)
        match request.method:
            case "GET" | "HEAD":
                return await self._get(request, namespace_id, key)
            case "PUT":
                return await self._put(request, namespace_id, key)
            case "DELETE":
                version = await (await self._own(namespace_id)).delete(key)
                return written(version)
        return refusal(405, "Method Not Allowed")

    async def _own(self, namespace_id: str) -> Namespace:
        found = await self._backend.namespace(namespace_id)
        if isinstance(found, EdgeNamespace):
            raise UpstreamUnavailable("an edge can't answer this request itself")
        return found

    async def _get(self, request: Request, namespace_id: str, key: str) -> Response:
        cache_ttl = number(request.query, "cache_ttl")
        found = await find(await self._backend.namespace(namespace_id), key, cache_ttl)
        if found is None:
            return refusal(404, "Not Found")
        headers = [
            OCTETS,
            (b"content-length", b"%d" % len(found.value)),
            (b"kv-version", b"%d" % found.version),
        ]
        if found.expires_at is not None:
            headers.append((b"cf-expiration", b"%d" % math.ceil(found.expires_at)))
        if found.status is not None:
            headers.append((b"cf-cache-status", found.status.encode()))
        if found.metadata:
            headers.append((b"cf-kv-metadata", found.metadata))
        return Response(200, found.body, headers)

    async def _put(self, request: Request, namespace_id: str, key: str) -> Response:
        limits, query = self._backend.limits, request.query
        times: dict[str, Any] = {
            name: number(query, name) for name in ("expiration", "expiration_ttl")
        }
        limits._expires_at(self._backend.clock.time(), **times)
        metadata = metadata_of(request.header(b"cf-kv-metadata"), limits)
        value = Incoming(limits.value_bytes, request.take, request.content_length)
        async for chunk in request.chunks():
            value.add(chunk)
        limits._check_value_size(value.size)
        namespace = await self._own(namespace_id)
        if not self._backend.key_writes.take(namespace_id, key):
            raise Refused(429, "Too Many Requests", 1)
        async with self._backend.large_write(value.size):
            return written(await namespace.put(key, value.view(), metadata=metadata, **times))

    async def _list(self, request: Request, namespace_id: str) -> Response:
        query, limits = request.query, self._backend.limits
        limit, prefix = number(query, "key_count_limit"), query.get("prefix", "")
        if limit is not None:
            limits._check_list_limit(limit)
        check_length(prefix, limits)
        namespace = await self._own(namespace_id)
        page = await namespace.list(prefix or None, limit, query.get("cursor") or None)
        found: dict[str, Any] = {
            "keys": [shown(one) for one in page.keys],
            "list_complete": page.list_complete,
        }
        if page.cursor is not None:
            found["cursor"] = page.cursor
        return Response.json(found)


def where(request: Request) -> tuple[str | None, str, list[bytes]]:
    """Return the account, if the path names one, the namespace, and the rest of the path.

    Raises:
        InvalidRequest: the path is too short.
    """
    parts = request.raw_parts
    header = request.header(b"kv-namespace")
    if header is not None:
        return None, header.decode("ascii", "replace"), parts
    if len(parts) < PREFIX_PARTS:
        raise InvalidRequest("the path must begin with /workerd/{account}/{namespace}")
    account, namespace_id = (part.decode("ascii", "replace") for part in parts[1:PREFIX_PARTS])
    return account, namespace_id, parts[PREFIX_PARTS:]


def action_of(method: str, rest: list[bytes]) -> str:
    """Return the metered action of a request."""
    match method:
        case "PUT":
            return "write"
        case "DELETE":
            return "delete"
        case "GET" if rest in ([], [b""]):
            return "list"
    return "read"


def key_of(request: Request, part: bytes, limits: Limits) -> str:
    """Return the key in a path.

    Raises:
        InvalidRequest: the key is not valid.
    """
    key = decoded(part) if "urlencoded" in request.query else part.decode("ascii", "replace")
    if key is None:
        raise InvalidRequest("Could not URL-decode key name")
    check_key(key, limits)
    return key


def metadata_of(header: bytes | None, limits: Limits) -> Any:
    """Return the metadata of a header with JSON in UTF-8.

    Raises:
        LimitExceeded: the metadata is too long.
        InvalidRequest: the metadata is not JSON.
    """
    if not header:
        return None
    limits._check_metadata_size(len(header))
    try:
        return json.loads(header.decode())
    except (ValueError, RecursionError):
        raise InvalidRequest("Metadata must be JSON in UTF-8.") from None


def shown(info: KeyInfo) -> dict[str, Any]:
    """Return the entry of a key in a list; its metadata is JSON in a string."""
    found: dict[str, Any] = {"name": info.name}
    if info.expiration is not None:
        found["expiration"] = info.expiration
    if info.metadata is not None:
        found["metadata"] = to_json("metadata", info.metadata).decode()
    return found


def written(version: int) -> Response:
    """Return the response to a write."""
    return Response(200, b"", [(b"kv-version", b"%d" % version)])


def refusal(status: int, why: str, retry_after_s: int = 0) -> Response:
    """Return a response with the error in its status line."""
    response = Response.text(status, why, reason=why)
    if retry_after_s:
        response.headers = [*response.headers, (b"retry-after", b"%d" % retry_after_s)]
    return response

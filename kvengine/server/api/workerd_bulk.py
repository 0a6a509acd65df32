"""The bulk get of workerd's protocol.

Invariants:

* The response has every requested key, in order: it becomes a Map in the Worker.
* The checks and their order are those of Miniflare.
"""

from __future__ import annotations

from typing import Any

from kvengine.aio.edge_namespace import EdgeNamespace
from kvengine.aio.namespace import Namespace
from kvengine.errors import InvalidRequest
from kvengine.namespace.limits import Limits
from kvengine.server.api.workerd_checks import check_key, number
from kvengine.server.http.body.json_body import json_of
from kvengine.server.http.messages import Request

BODY_BYTES_MAX = 1 << 20


async def values_of(
    namespace: Namespace | EdgeNamespace, limits: Limits, request: Request
) -> dict[str, Any]:
    """Return the response to a bulk get.

    Raises:
        InvalidRequest: the request is not valid, or a value is not JSON.
        LimitExceeded: the total size of the values is too large.
    """
    asked = await _asked(request)
    keys, kind = asked["keys"], asked.get("type", "text")
    if kind not in ("text", "json"):
        raise InvalidRequest(f'"{str(kind)[:40]}" is not a valid type. Use "json" or "text"')
    limits._check_get_count(len(keys))
    for key in keys:
        if not isinstance(key, str):
            raise InvalidRequest("Key names must be strings")
        check_key(key, limits)
    if asked.get("cacheTtl") is not None:
        limits._check_cache_ttl(number({"": str(asked["cacheTtl"])}, ""))
    wanted = list(dict.fromkeys(keys))
    if not asked.get("withMetadata"):
        found: dict[str, Any] = await namespace.get(wanted, kind)
        return found
    read = await namespace.get_with_metadata(wanted, kind)
    return {key: _described(kind, one) for key, one in read.items()}


async def _asked(request: Request) -> dict[str, Any]:
    text = f"the body can have at most {BODY_BYTES_MAX} bytes"
    asked: Any = await json_of(request, BODY_BYTES_MAX, text)
    if not isinstance(asked, dict) or not isinstance(asked.get("keys"), list):
        raise InvalidRequest('the body must be an object such as {"keys": ["a", "b"]}')
    return asked


def _described(kind: str, one: Any) -> Any:
    """Return a value with its metadata; None for an absent key or a JSON null."""
    if one is None or (kind == "json" and one.value is None):
        return None
    return {"value": one.value, "metadata": one.metadata}

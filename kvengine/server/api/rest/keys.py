"""Listing keys.

Invariants:

* An empty page has no cursor: the Python SDK stops at an empty page, so pages of only expired keys
  are skipped here.
"""

from __future__ import annotations

from typing import Any

from kvengine.errors import InvalidRequest
from kvengine.namespace.interface.results import KeyInfo
from kvengine.server.api.rest.call import Call
from kvengine.server.api.rest.envelope import success
from kvengine.server.api.rest.numbers import whole
from kvengine.server.http.messages import Response

LIMIT_MIN = 10  # Cloudflare's, for the REST API


async def list_(call: Call) -> Response:
    """Respond with a page of keys.

    Options beyond Cloudflare's: `delimiter` (folders are in result_info), `reverse=true`,
    `start_after`.
    """
    query = call.request.query
    limit = whole(query, "limit")
    if limit is not None and limit < LIMIT_MIN and call.backend.limits.get_keys is not None:
        raise InvalidRequest(
            f"Invalid key_count_limit of {limit}. "
            f"Please specify an integer of at least {LIMIT_MIN}."
        )
    namespace = await call.own_namespace()
    options: dict[str, Any] = {
        "reverse": query.get("reverse") == "true",
        "delimiter": query.get("delimiter") or None,
    }
    cursor, after = query.get("cursor") or None, query.get("start_after") or None
    while True:
        page = await namespace.list(
            query.get("prefix") or None, limit, cursor, start_after=after, **options
        )
        cursor, after = page.cursor, None
        if page.keys or page.folders or page.list_complete:
            break
    info: dict[str, Any] = {"count": len(page.keys), "cursor": page.cursor or ""}
    if options["delimiter"] is not None:
        info["folders"] = list(page.folders)
    return success([shown(one) for one in page.keys], info)


def shown(info: KeyInfo) -> dict[str, Any]:
    """Return the entry of a key in a list."""
    found: dict[str, Any] = {"name": info.name}
    if info.expiration is not None:
        found["expiration"] = info.expiration
    if info.metadata is not None:
        found["metadata"] = info.metadata
    return found

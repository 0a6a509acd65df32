"""Calls about namespaces themselves.

Invariants:

* A page behind the last one is empty: that is how clients find the end.
* A token for some namespaces sees only these.
"""

from __future__ import annotations

from typing import Any

from kvengine.errors import InvalidRequest
from kvengine.namespace.interface.results import NamespaceInfo
from kvengine.server.api.rest.call import Call
from kvengine.server.api.rest.envelope import MALFORMED, ApiError, success
from kvengine.server.api.rest.numbers import whole
from kvengine.server.http.body.json_body import json_of
from kvengine.server.http.messages import Response

PER_PAGE, PER_PAGE_MAX = 20, 1000
BODY_BYTES_MAX = 1 << 16


async def list_(call: Call) -> Response:
    """Answer with a page of namespaces."""
    query = call.request.query
    page = whole(query, "page")
    per_page = whole(query, "per_page")
    page = 1 if page is None else page
    per_page = PER_PAGE if per_page is None else per_page
    if not 1 <= per_page <= PER_PAGE_MAX:
        raise InvalidRequest(f"per_page must be between 1 and {PER_PAGE_MAX}, not {per_page}")
    if page < 1:
        raise InvalidRequest(f"page must be at least 1, not {page}")
    order: Any = query.get("order", "id")
    direction: Any = query.get("direction", "asc")
    infos = await call.backend.database.namespaces(order=order, direction=direction)
    allowed = call.principal.token.namespaces if call.principal is not None else None
    if allowed is not None:
        infos = [info for info in infos if info.id in allowed]
    found = infos[(page - 1) * per_page : page * per_page]
    info = {
        "page": page,
        "per_page": per_page,
        "count": len(found),
        "total_count": len(infos),
        "total_pages": -(-len(infos) // per_page),
    }
    return success([shown(one) for one in found], info)


async def create(call: Call) -> Response:
    """Make a namespace."""
    info = await call.backend.database.create_namespace(await _title(call))
    return success(shown(info))


async def get(call: Call) -> Response:
    """Answer with a namespace."""
    return success(shown(await _info(call)))


async def rename(call: Call) -> Response:
    """Give a namespace another title."""
    title = await _title(call)
    info = await _info(call)
    return success(shown(await call.backend.database.rename(info.id, title)))


async def delete(call: Call) -> Response:
    """Delete a namespace with its keys."""
    info = await _info(call)
    await call.backend.database.delete(info.id)
    call.backend.hot.unregister(info.id)
    return success(None)


def shown(info: NamespaceInfo) -> dict[str, Any]:
    """Return a namespace as the API shows it."""
    return {"id": info.id, "title": info.title, "supports_url_encoding": True}


async def _info(call: Call) -> NamespaceInfo:
    inner = (await call.own_namespace())._inner
    return NamespaceInfo(inner.id, inner.title)


async def _title(call: Call) -> str:
    text = f"the body can have at most {BODY_BYTES_MAX} bytes"
    found = await json_of(call.request, BODY_BYTES_MAX, text)
    if not isinstance(found, dict):
        raise ApiError(400, MALFORMED, 'the body must be an object such as {"title": "..."}')
    if not isinstance(found.get("title"), str):
        raise ApiError(400, 10019, 'the body must have a "title" that is a string')
    title: str = found["title"]
    return title

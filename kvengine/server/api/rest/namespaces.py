"""Calls for namespaces.

Invariants:

* A page after the last one is empty: this is how clients find the end.
* A token for some namespaces sees only these.
* Cloudflare's clients do not know bounds: a namespace without bounds looks as at Cloudflare, and a
  body without bounds does not change them.
"""

from __future__ import annotations

from typing import Any

from kvengine.errors import InvalidRequest
from kvengine.namespace.bounds import bounds_of
from kvengine.namespace.interface.results import NamespaceInfo
from kvengine.server.api.rest.call import Call
from kvengine.server.api.rest.envelope import MALFORMED, ApiError, success
from kvengine.server.api.rest.numbers import whole
from kvengine.server.http.body.json_body import json_of
from kvengine.server.http.messages import Response

PER_PAGE, PER_PAGE_MAX = 20, 1000
BODY_BYTES_MAX = 1 << 16
BOUNDS = ("max_bytes", "max_keys", "eviction")


async def list_(call: Call) -> Response:
    """Respond with a page of namespaces."""
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
    """Create a namespace."""
    body = await _body(call)
    title, bounds = _title(body), _bounds(body) or {}
    info = await call.backend.database.create_namespace(title, **bounds)
    return success(shown(info))


async def get(call: Call) -> Response:
    """Respond with a namespace."""
    return success(shown(await _info(call)))


async def change(call: Call) -> Response:
    """Rename a namespace, and set its bounds if the body has any."""
    body = await _body(call)
    title, bounds = _title(body), _bounds(body)
    info = await _info(call)
    info = await call.backend.database.rename(info.id, title)
    if bounds is not None:
        info = await call.backend.database.set_bounds(info.id, **bounds)
    return success(shown(info))


async def delete(call: Call) -> Response:
    """Delete a namespace with its keys."""
    info = await _info(call)
    await call.backend.database.delete(info.id)
    call.backend.hot.unregister(info.id)
    return success(None)


def shown(info: NamespaceInfo) -> dict[str, Any]:
    """Return a namespace as the API shows it."""
    found = {"id": info.id, "title": info.title, "supports_url_encoding": True}
    if info.eviction is not None:
        found |= {name: getattr(info, name) for name in BOUNDS}
    return found


async def _info(call: Call) -> NamespaceInfo:
    inner = (await call.own_namespace())._inner
    title = inner.title  # reads the changes of other processes first
    evictor = inner._evictor
    return NamespaceInfo(inner.id, title, *(() if evictor is None else evictor.bounds))


async def _body(call: Call) -> dict[str, Any]:
    text = f"the body can have at most {BODY_BYTES_MAX} bytes"
    found = await json_of(call.request, BODY_BYTES_MAX, text)
    if not isinstance(found, dict):
        raise ApiError(400, MALFORMED, 'the body must be an object such as {"title": "..."}')
    return found


def _title(body: dict[str, Any]) -> str:
    title = body.get("title")
    if not isinstance(title, str):
        raise ApiError(400, 10019, 'the body must have a "title" that is a string')
    return title


def _bounds(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the checked bounds in a body; None: it has none.

    Raises:
        InvalidType, InvalidRequest: see bounds_of(); or eviction has no bound.
    """
    if body.keys().isdisjoint(BOUNDS):
        return None
    found = {name: body.get(name) for name in BOUNDS}
    if found["eviction"] is None:
        found["eviction"] = "lru"
    if bounds_of(**found) is None and body.get("eviction") is not None:
        raise InvalidRequest("eviction needs max_bytes or max_keys")
    return found

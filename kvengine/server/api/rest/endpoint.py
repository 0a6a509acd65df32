"""The endpoint under /client/v4: it routes and authorizes the calls of the REST API.

Invariants:

* The path is split before it is decoded, and a key is decoded once: "%2F" in it does not separate
  parts, and "%25" does not start an escape.
* A key is the rest of the path, so clients need not encode its slashes.
* The token is checked first: without a valid token, a client learns nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from kvengine.errors import InvalidRequest, KvError
from kvengine.server.api.rest import bulk, keys, namespaces, people, values
from kvengine.server.api.rest.call import Call
from kvengine.server.api.rest.envelope import (
    METHOD_NOT_ALLOWED,
    NO_ROUTE,
    ApiError,
    api_error,
    failure,
)
from kvengine.server.auth.access import Refused
from kvengine.server.backend import Backend
from kvengine.server.http.messages import Request, Response, credentials, decoded

if TYPE_CHECKING:
    from kvengine.server.api.analytics import Analytics

Handler = Callable[[Call], Awaitable[Response]]

# By the path after the namespaces of an account; "+" is an id or a key.
CALLS: dict[tuple[bytes, ...], dict[str, tuple[str, str, Handler]]] = {
    (): {
        "GET": ("list namespaces", "list", namespaces.list_),
        "POST": ("create namespace", "admin", namespaces.create),
    },
    (b"+",): {
        "GET": ("get namespace", "admin", namespaces.get),
        "PUT": ("rename namespace", "admin", namespaces.change),
        "DELETE": ("remove namespace", "admin", namespaces.delete),
    },
    (b"+", b"keys"): {"GET": ("list keys", "list", keys.list_)},
    (b"+", b"values", b"+"): {
        "GET": ("get", "read", values.get),
        "HEAD": ("get", "read", values.get),
        "PUT": ("put", "write", values.put),
        "DELETE": ("remove key", "delete", values.delete),
    },
    (b"+", b"metadata", b"+"): {"GET": ("get", "read", values.metadata)},
    (b"+", b"bulk"): {
        "PUT": ("bulk put keys", "write", bulk.put),
        "DELETE": ("bulk remove keys", "delete", bulk.delete),
    },
    (b"+", b"bulk", b"get"): {"POST": ("bulk get keys", "read", bulk.get)},
    (b"+", b"bulk", b"delete"): {"POST": ("bulk remove keys", "delete", bulk.delete)},
}
KEYED = (b"values", b"metadata")  # a key follows them
START = [b"client", b"v4", b"accounts"]
GRAPHQL = [b"client", b"v4", b"graphql"]
STORAGE = [b"storage", b"kv", b"namespaces"]


class RestEndpoint:
    """Cloudflare's REST API v4 for Workers KV, over a backend.

    Args:
        backend: has the namespaces.
        analytics: returns the endpoint of queries; None: there is none.
    """

    def __init__(self, backend: Backend, analytics: Callable[[], Analytics] | None = None) -> None:
        self._backend, self._analytics = backend, analytics

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        operation = "request"
        try:
            parts = request.raw_parts
            if parts == GRAPHQL and self._analytics is not None:
                return await self._query(self._analytics(), request)
            if parts[:3] != START or len(parts) < 7 or parts[4:7] != STORAGE:
                return await people.answer(self._backend, request)
            operation, handler, call = self._call(request, parts)
            await self._admit(request, call)
            return await handler(call)
        except ApiError as error:
            return failure(error)
        except (KvError, Refused) as error:
            return failure(api_error(error, operation))

    async def _query(self, analytics: Analytics, request: Request) -> Response:
        request.action = "admin"
        if request.method != "POST":
            raise ApiError(
                405, METHOD_NOT_ALLOWED, f"method {request.method} is not allowed here; use POST"
            )
        principal = await self._backend.admit(
            request, None, header=credentials(request), write=False, any_namespace=True
        )
        return await analytics.answer(request, principal)

    def _call(self, request: Request, parts: list[bytes]) -> tuple[str, Handler, Call]:
        """Return the name of a call, its handler, and its arguments."""
        rest = parts[7:]
        if len(rest) > 3 and rest[1] in KEYED:
            rest = [*rest[:2], b"/".join(rest[2:])]
        shape = tuple(part if number % 2 else b"+" for number, part in enumerate(rest))
        if rest and rest[-1] == b"":  # the path ends in a slash
            shape = (*shape[:-1], b"")
        methods = CALLS.get(shape)
        if methods is None and len(rest) == 3 and rest[1] == b"bulk":
            methods = CALLS.get((b"+", *rest[1:]))
        if methods is None:
            raise no_route(request)
        if request.method not in methods:
            raise ApiError(
                405,
                METHOD_NOT_ALLOWED,
                f"method {request.method} is not allowed here; use {', '.join(methods)}",
            )
        operation, request.action, handler = methods[request.method]
        account = parts[3].decode("ascii", "replace")
        namespace_id = rest[0].decode("ascii", "replace") if rest else None
        request.namespace_id = namespace_id
        key = None
        if shape[-1:] == (b"+",) and len(rest) == 3:
            key = decoded(rest[2])
            if key is None:
                raise InvalidRequest("Could not URL-decode key name")
        return operation, handler, Call(self._backend, request, account, namespace_id, key)

    async def _admit(self, request: Request, call: Call) -> None:
        """Check that the token of a request allows it.

        Raises:
            Refused: the token does not allow it.
        """
        action = request.action
        is_list = action == "list" and call.namespace_id is None
        changes_namespaces = action == "admin" and request.method != "GET"
        principal = await self._backend.admit(
            request,
            None if changes_namespaces else call.namespace_id,
            header=credentials(request),
            write=changes_namespaces or action in ("write", "delete"),
            any_namespace=is_list,
        )
        if call.account != self._backend.account:
            raise Refused(403, "this server belongs to another account")
        call.principal = principal


def no_route(request: Request) -> ApiError:
    """Return the error for an unknown path."""
    text = f"No route for that URI: {request.method} with {len(request.raw_parts)} parts of a path"
    return ApiError(404, NO_ROUTE, text)

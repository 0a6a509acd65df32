"""The endpoint under /v1/tokens: token management, for admin tokens.

GET     /v1/tokens          lists all; answers {"tokens": [...]}
POST    /v1/tokens          JSON with name, namespaces, write, admin, expires_in_s, rate;
                            answers {"secret": ..., "token": {...}}
DELETE  /v1/tokens/{id}     revokes one
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import asdict
from typing import Any

from kvengine.errors import InvalidRequest, KeyNotFound, KvError, LimitExceeded
from kvengine.server.auth.access import Refused
from kvengine.server.auth.token_store import TokenStore
from kvengine.server.backend import Backend
from kvengine.server.http.body.json_body import json_of
from kvengine.server.http.messages import Request, Response

BODY_BYTES_MAX = 1 << 16
FIELDS = set(inspect.signature(TokenStore.create).parameters) - {"self"}


class TokenEndpoint:
    """Tokens over HTTP.

    Args:
        backend: has the tokens.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        request.action = "admin"
        try:
            await self._backend.admit(request, None, write=True, admin=True)
            return await self._answer(request)
        except Refused as refusal:
            return refused(refusal)

    async def _answer(self, request: Request) -> Response:
        store = TokenStore(self._backend.database._inner, self._backend.account)
        parts = request.path.split("/")[3:]
        try:
            match request.method, parts:
                case "GET", []:
                    found = await asyncio.to_thread(store.all)
                    return Response.json({"tokens": [asdict(token) for token in found]})
                case "POST", []:
                    options = await self._options(request)
                    secret, token = await asyncio.to_thread(lambda: store.create(**options))
                    return Response.json({"secret": secret, "token": asdict(token)}, 201)
                case "DELETE", [token_id]:
                    gone = await asyncio.to_thread(store.revoke, token_id)
                    return Response.json({"token": asdict(gone)})
        except KeyNotFound:
            return Response.json({"error": "no token has this id"}, 404)
        except KvError as error:
            status = error.status if isinstance(error, LimitExceeded) else 400
            return Response.json({"error": str(error)}, status)
        return Response.json({"error": f"method {request.method} is not allowed here"}, 405)

    async def _options(self, request: Request) -> dict[str, Any]:
        text = "the body can have at most 65536 bytes"
        found = await json_of(request, BODY_BYTES_MAX, text)
        if not isinstance(found, dict) or "name" not in found or set(found) - FIELDS:
            names = ", ".join(sorted(FIELDS))
            raise InvalidRequest(f"the body must be a JSON object with a name and any of {names}")
        return found


def refused(refusal: Refused) -> Response:
    """Return the response to a request that is refused."""
    response = Response.json({"error": refusal.why}, refusal.status)
    if refusal.retry_after_s:
        response.headers = [*response.headers, (b"retry-after", b"%d" % refusal.retry_after_s)]
    return response

"""Calls for the user and the account: wrangler makes them when no account is configured.

Invariants:

* They show only the account of the token.
"""

from __future__ import annotations

from typing import Any

from kvengine.server.api.rest.envelope import NO_ROUTE, ApiError, success
from kvengine.server.backend import Backend
from kvengine.server.http.messages import Request, Response, credentials


async def answer(backend: Backend, request: Request) -> Response:
    """Answer a request under /client/v4 that is not about KV.

    Raises:
        ApiError: there is no such call.
        Refused: the token is not valid.
    """
    request.action = "admin"
    principal = await backend.admit(
        request, None, header=credentials(request), write=False, any_namespace=True
    )
    token = principal.token
    account = {"id": backend.account, "name": "kvengine"}
    page = {"page": 1, "per_page": 20, "count": 1, "total_count": 1, "total_pages": 1}
    match request.method, request.path.removeprefix("/client/v4").split("/")[1:]:
        case "GET", ["accounts"]:
            return success(_first_page(request, account), page)
        case "GET", ["accounts", backend.account]:
            return success(account)
        case "GET", ["memberships"]:
            member = {"id": backend.account, "status": "accepted", "account": account, "roles": []}
            return success(_first_page(request, member), page)
        case "GET", ["user"]:
            return success({"id": token.id, "email": f"{token.id}@kvengine.invalid"})
        case "GET", ["user", "tokens", "verify"]:
            return success({"id": token.id, "status": "active"})
    raise ApiError(404, NO_ROUTE, "No route for that URI")


def _first_page(request: Request, one: Any) -> list[Any]:
    return [one] if request.query.get("page", "1") == "1" else []

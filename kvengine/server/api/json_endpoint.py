"""JSON endpoints for the console and for monitoring.

    GET   /v1/me                        the permissions of the token, and the server
    GET   /v1/namespaces                namespaces with their keys and bytes
    GET   /v1/usage[?month=&namespace=] the usage, and its price
    POST  /v1/delete-prefix/ID          {"prefix": ..., "dry_run": true}; answers {"keys": 12}
    GET   /v1/live                      a stream of figures, edges and changes: live.py

Invariants:

* A token sees only the namespaces that it may read.
* An error is {"error": text}, with the same status as on other endpoints.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import kvengine
from kvengine.client.failures import status_of
from kvengine.errors import InvalidRequest, KvError
from kvengine.metering.pricing import price
from kvengine.metering.usage import Usage
from kvengine.server.api.token_endpoint import refused
from kvengine.server.auth.access import Refused
from kvengine.server.auth.tokens import Token
from kvengine.server.backend import Backend
from kvengine.server.http.body.json_body import json_of
from kvengine.server.http.messages import Request, Response, decoded

BODY_BYTES_MAX = 1 << 16
ANSWERS_IN_JSON = (b"me", b"namespaces", b"usage", b"delete-prefix", b"live")
Answer = Callable[[Request], Awaitable[Response]]


class JsonEndpoint:
    """The JSON endpoints.

    Args:
        backend: with a database.
        live: answers GET /v1/live.
    """

    def __init__(self, backend: Backend, live: Answer) -> None:
        self._backend = backend
        self._answers: dict[tuple[str, str], Answer] = {
            ("GET", "me"): self._me,
            ("GET", "namespaces"): self._namespaces,
            ("GET", "usage"): self._usage,
            ("POST", "delete-prefix"): self._delete_prefix,
            ("GET", "live"): live,
        }

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        name = (decoded(request.raw_parts[1]) if len(request.raw_parts) > 1 else None) or ""
        is_long = len(request.raw_parts) != (3 if name == "delete-prefix" else 2)
        answer = self._answers.get((request.method, name))
        try:
            if is_long or answer is None:
                await self._token(request)
                status = 404 if is_long else 405
                return error(status, f"method {request.method} is not allowed here")
            request.action = "admin"
            return await answer(request)
        except Refused as refusal:
            return refused(refusal)
        except KvError as failed:
            return error(status_of(failed), str(failed))
        except OSError as failed:
            return error(500, f"disk error on the server: {type(failed).__name__}")

    async def _token(self, request: Request, namespace_id: str | None = None) -> Token:
        principal = await self._backend.admit(
            request,
            namespace_id,
            write=False,
            any_namespace=namespace_id is None,
        )
        return principal.token

    async def _me(self, request: Request) -> Response:
        token = await self._token(request)
        return Response.json({
            "account": self._backend.account,
            "name": token.name,
            "namespaces": token.namespaces,
            "write": token.write,
            "admin": token.admin,
            "expires": token.expires,
            "is_open": self._backend.access.is_open,
            "server": f"kvengine {kvengine.__version__}",
        })  # fmt: skip

    async def _namespaces(self, request: Request) -> Response:
        request.action = "list"
        token = await self._token(request)
        db = self._backend.database

        def sized() -> list[dict[str, Any]]:
            found = []
            for info in db._inner.namespaces():
                if token.allows(info.id, write=False):
                    size = db._inner.namespace_by_id(info.id).size()
                    found.append(
                        {"id": info.id, "title": info.title, "keys": size.keys, "bytes": size.bytes}
                    )
            return sorted(found, key=lambda one: str(one["title"]))

        return Response.json({"namespaces": await db._runner.run(sized)})

    async def _usage(self, request: Request) -> Response:
        namespace_id = request.query.get("namespace") or None
        token = await self._token(request, namespace_id)
        month = request.query.get("month") or None
        db = self._backend.database
        if namespace_id is None and token.namespaces is not None:
            raise Refused(403, "this token is limited to some namespaces: add ?namespace=ID")
        used = await db._runner.run(lambda: db._inner.usage(namespace_id, month=month))
        return Response.json(used_as_json(used, with_bill=namespace_id is None))

    async def _delete_prefix(self, request: Request) -> Response:
        namespace_id = decoded(request.raw_parts[2]) or ""
        request.namespace_id = namespace_id
        token = await self._token(request, namespace_id)
        text = f"the body can have at most {BODY_BYTES_MAX} bytes"
        asked = await json_of(request, BODY_BYTES_MAX, text)
        if (
            not isinstance(asked, dict)
            or not isinstance(asked.get("prefix"), str)
            or not isinstance(asked.get("dry_run"), bool)
        ):
            raise InvalidRequest('the body must be like {"prefix": "a/", "dry_run": true}')
        dry_run = asked["dry_run"]
        request.action = "list" if dry_run else "delete"
        if not token.allows(namespace_id, write=not dry_run):
            raise Refused(403, "this token may not write to this namespace")
        db = self._backend.database

        def run() -> int:
            namespace = db._inner.namespace_by_id(namespace_id)
            return namespace.delete_prefix(asked["prefix"], dry_run=dry_run)

        return Response.json({"keys": await db._runner.run(run), "dry_run": dry_run})


def used_as_json(used: Usage, *, with_bill: bool) -> dict[str, Any]:
    """Return usage as JSON, with its price if it is of the whole database."""
    found = used.as_json()
    if with_bill:
        bill = price(used)
        found["bill"] = {
            "total": str(bill.total),
            "lines": [
                {
                    "what": line.what,
                    "used": f"{line.used:f}",
                    "included": f"{line.included:f}",
                    "amount": f"{line.amount:f}",
                }
                for line in bill.lines
            ],
        }
    return found


def error(status: int, text: str) -> Response:
    """Return an error response."""
    return Response.json({"error": text}, status)

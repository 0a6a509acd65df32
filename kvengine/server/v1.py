"""The door under /v1: kvengine's own protocol, for kvengine.connect() and locations.

Invariants:

* Each answer says which store it is; each refusal is an error of kvengine, as JSON.
* Nothing is done for a token that does not allow it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from kvengine.client.connection import STORE_HEADER
from kvengine.client.failures import encode_error, status_of
from kvengine.client.packing import pack, unpack
from kvengine.errors import AccessDenied, InvalidRequest, KvError, NamespaceNotFound, ProtocolError
from kvengine.namespace.limits import Limits
from kvengine.server import calls
from kvengine.server.access import Principal
from kvengine.server.backend import Backend
from kvengine.server.calls import Call
from kvengine.server.going_on import Write, written
from kvengine.server.log_door import BINARY, LogDoor
from kvengine.server.messages import Request, Response, decoded
from kvengine.server.tokens import Token

FRAMING_BYTES = 16 << 20  # of a message, besides the values of a bulk call


class V1Door:
    """Kvengine's own protocol, over a backend with a database.

    Args:
        backend: with a database; a location forwards what comes here.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        log = LogDoor(backend)
        self._doors: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
            "log": ("GET", log.log),
            "fetch": ("POST", log.fetch),
            "news": ("GET", log.news),
            "version": ("POST", self._version),
        }

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        try:
            response = await self._answer(request)
        except KvError as error:
            response = Response.json(encode_error(error), status_of(error))
        except OSError as error:
            said = KvError(f"the server's disk: {type(error).__name__}")
            response = Response.json(encode_error(said), 500)
        store = self._backend.database._inner.store
        response.headers = [
            *response.headers, (STORE_HEADER.encode(), store.manifest.uuid.hex().encode())
        ]  # fmt: skip
        return response

    async def _answer(self, request: Request) -> Response:
        principal = await self._backend.access.principal(request.header(b"authorization"))
        if principal is None:
            error = encode_error(AccessDenied("no token, or one that is not valid here"))
            response = Response.json(error, 401)
            response.headers = [*response.headers, (b"www-authenticate", b"Bearer")]
            return response
        if not principal.allowance.take(time.monotonic()):
            response = Response.json(encode_error(KvError("too many requests")), 429)
            pause = b"%d" % max(1, math.ceil(principal.allowance.wait_s))
            response.headers = [*response.headers, (b"retry-after", pause)]
            return response
        parts = [decoded(part) for part in request.raw_parts[1:]]
        match parts:
            case [str(name)] if name in self._doors:
                return await self._door(request, principal, name)
            case ["db", str(method)]:
                return await self._database(request, principal.token, method)
            case ["ns", str(namespace_id), str(method)]:
                return await self._namespace(request, principal.token, namespace_id, method)
        return _nothing("there is nothing here")

    async def _door(self, request: Request, principal: Principal, name: str) -> Response:
        method, door = self._doors[name]
        if request.method != method:
            return _wrong_method(method)
        if name != "version" and not principal.token.allows(None, write=False):
            raise AccessDenied("the token must be allowed to read all namespaces")
        return await door(request)

    async def _version(self, request: Request) -> Response:
        db = self._backend.database._inner
        limits: Limits = self._backend.limits
        found = {
            "version": db.version, "account": self._backend.account, "limits": asdict(limits)
        }  # fmt: skip
        return Response(200, pack(found), [BINARY])

    # -- calls

    async def _arguments(self, request: Request) -> tuple[list[Any], dict[str, Any]]:
        most = max(self._backend.limits.bulk_bytes, self._backend.limits.value_bytes)
        body = await request.body(most + FRAMING_BYTES, "a request of {size} bytes is too large")
        try:
            args, named = unpack(body)
        except (ProtocolError, TypeError, ValueError) as error:
            raise InvalidRequest(f"the body is not [arguments, named]: {error}") from None
        if not isinstance(args, list) or not isinstance(named, dict):
            raise InvalidRequest("the body is not [arguments, named]")
        return args, named

    async def _run(self, call: Callable[[], bytes]) -> Response:
        runner = self._backend.database._runner
        try:
            return Response(200, await runner.run(call), [BINARY])
        except TypeError as error:  # an argument that the method does not have
            if isinstance(error, KvError):
                raise
            raise InvalidRequest(f"the call does not fit the method: {error}") from None

    async def _namespace(
        self, request: Request, token: Token, namespace_id: str, method: str
    ) -> Response:
        call = calls.NAMESPACE_CALLS.get(method) or calls.NAMESPACE_STREAMS.get(method)
        if call is None:
            return _nothing(f"namespaces have no method {method!r} here")
        if request.method != "POST":
            return _wrong_method("POST")
        request.action, request.namespace_id = call.action, namespace_id
        _check(token, call, namespace_id)
        args, named = await self._arguments(request)
        db = self._backend.database._inner
        if method in calls.NAMESPACE_STREAMS:
            namespace = await self._found(namespace_id)
            begin = calls.namespace_stream(namespace, method, args, named)
            return self._stream(request, begin)
        return await self._run(
            lambda: calls.namespace_call(db.namespace_by_id(namespace_id), method, args, named)
        )

    async def _found(self, namespace_id: str) -> Any:
        return (await self._backend.database.namespace_by_id(namespace_id))._inner

    def _stream(self, request: Request, begin: Any) -> Response:
        def make(write: Write) -> None:
            calls.iterated(begin, write)

        return Response(200, written(make, request, self._backend.stopping), [BINARY])

    async def _database(self, request: Request, token: Token, method: str) -> Response:
        call = calls.DATABASE_CALLS.get(method) or calls.DATABASE_STREAMS.get(method)
        if call is None:
            return _nothing(f"databases have no method {method!r} here")
        if request.method != "POST":
            return _wrong_method("POST")
        request.action = call.action
        if method not in ("namespace", "namespace_by_id", "namespaces"):
            _check(token, call, None)
        args, named = await self._arguments(request)
        db = self._backend.database._inner
        if method in calls.DATABASE_STREAMS:
            return self._stream(request, calls.database_stream(db, method, args, named))
        if method in ("namespace", "namespace_by_id", "namespaces"):
            return await self._run(lambda: pack(_names(db, token, method, args, named)))
        return await self._run(lambda: pack(getattr(db, method)(*args, **named)))


def _names(db: Any, token: Token, method: str, args: list[Any], named: dict[str, Any]) -> Any:
    """Return what a token may know of which namespaces there are."""
    if method == "namespaces":
        if token.namespaces is None:
            return db.namespaces(*args, **named)
        page, per_page = named.pop("page", 1), named.pop("per_page", None)
        seen = [info for info in db.namespaces(**named) if info.id in token.namespaces]
        if per_page is None:
            return seen if page == 1 else []
        return seen[(page - 1) * per_page : page * per_page]
    if method == "namespace_by_id" or token.admin:
        found = getattr(db, method)(*args, **named)
    else:
        (title,) = args
        wanted = [info for info in db.namespaces() if title in (info.title, info.id)]
        if not wanted and token.namespaces is None:
            raise AccessDenied("the token does not allow to make a namespace, and there is none")
        found = db.namespace_by_id(wanted[0].id) if wanted else None
    if found is None or not token.allows(found.id, write=False):
        raise NamespaceNotFound(str(args[0]))
    return [found.id, found.number]


def _check(token: Token, call: Call, namespace_id: str | None) -> None:
    if not token.allows(namespace_id, write=call.write):
        what = "write" if call.write else "read"
        where = "all namespaces" if namespace_id is None else f"namespace {namespace_id}"
        raise AccessDenied(f"the token does not allow to {what} {where}")
    if call.admin and not token.admin:
        raise AccessDenied("the token does not allow to administer the database")


def _nothing(text: str) -> Response:
    return Response.json(encode_error(InvalidRequest(text)), 404)


def _wrong_method(allowed: str) -> Response:
    response = Response.json(encode_error(InvalidRequest(f"the method must be {allowed}")), 405)
    response.headers = [*response.headers, (b"allow", allowed.encode())]
    return response

"""The endpoint under /v1: kvengine's protocol, for kvengine.connect() and edges.

Invariants:

* Each response names its store; each refusal is an error of kvengine as JSON.
* A call runs only if its token allows it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from kvengine.client.endpoint import STORE_HEADER
from kvengine.client.failures import encode_error, status_of
from kvengine.client.packing import pack, unpack
from kvengine.errors import (
    AccessDenied,
    InvalidRequest,
    KvError,
    NamespaceNotFound,
    ProtocolError,
    UpstreamUnavailable,
)
from kvengine.namespace.limits import Limits
from kvengine.server.api import calls
from kvengine.server.api.calls import Call
from kvengine.server.api.log_endpoint import BINARY, LogEndpoint
from kvengine.server.auth.access import Refused
from kvengine.server.auth.tokens import Token
from kvengine.server.backend import Backend
from kvengine.server.http.admission import WATCHES
from kvengine.server.http.body.body_shape import measure_message
from kvengine.server.http.body.json_body import understood
from kvengine.server.http.body.streaming import Write, written
from kvengine.server.http.messages import Request, Response, decoded
from kvengine.server.monitoring.live import Live

SCOPED = ("namespace", "namespace_by_id", "namespaces")  # return only what the token may see
EDGE = "edge"  # the client is an edge, which must be allowed to read all namespaces
REPORT_BYTES_MAX = 1 << 12
FRAMING_BYTES = 16 << 20  # of a message, besides the values of a bulk call


class V1Endpoint:
    """Kvengine's own protocol, over a backend with a database.

    Args:
        backend: with a database; an edge forwards these requests.
        live: gets the reports of edges.
    """

    def __init__(self, backend: Backend, live: Live) -> None:
        self._backend, self._live = backend, live
        log = LogEndpoint(backend)
        self._endpoints: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
            "log": ("GET", log.log),
            "fetch": ("POST", log.fetch),
            "changes": ("GET", log.changes),
            "version": ("POST", self._version),
        }

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        try:
            response = await self._answer(request)
        except Refused as refusal:
            response = turned_away(refusal)
        except KvError as error:
            response = Response.json(encode_error(error), status_of(error))
        except OSError as error:
            said = KvError(f"disk error on the server: {type(error).__name__}")
            response = Response.json(encode_error(said), 500)
        store = self._backend.database._inner.store
        response.headers = [
            *response.headers, (STORE_HEADER.encode(), store._parts.manifest.uuid.hex().encode())
        ]  # fmt: skip
        return response

    async def _answer(self, request: Request) -> Response:
        parts = [decoded(part) for part in request.raw_parts[1:]]
        match parts:
            case [str(name)] if name in self._endpoints:
                method, endpoint = self._endpoints[name]
                is_open = name == "version" and EDGE not in request.query
                await self._admit(request, None, Call("read"), any_namespace=is_open)
                return (
                    await endpoint(request) if request.method == method else _wrong_method(method)
                )
            case ["edge", str(name)]:
                await self._admit(request, None, Call("read"))
                return await self._edge_report(request, name)
            case ["db", str(method)]:
                return await self._database(request, method)
            case ["ns", str(namespace_id), str(method)]:
                return await self._namespace(request, namespace_id, method)
        await self._admit(request, None, Call("read"), any_namespace=True)
        return _nothing("not found")

    async def _admit(
        self, request: Request, namespace_id: str | None, call: Call, *, any_namespace: bool = False
    ) -> Token:
        principal = await self._backend.admit(
            request,
            namespace_id,
            write=call.write,
            admin=call.admin,
            any_namespace=any_namespace,
        )
        return principal.token

    async def _version(self, request: Request) -> Response:
        db = self._backend.database._inner
        limits: Limits = self._backend.limits
        found = {
            "version": db.version, "account": self._backend.account, "limits": asdict(limits)
        }  # fmt: skip
        return Response(200, pack(found), [BINARY])

    async def _edge_report(self, request: Request, name: str) -> Response:
        """Record the report of an edge."""
        request.action = "edge"
        if request.method != "POST":
            return _wrong_method("POST")
        body = await request.body(REPORT_BYTES_MAX, "an edge's report of {size} bytes is too large")
        try:
            report = unpack(body)
        except (ProtocolError, TypeError, ValueError) as error:
            raise InvalidRequest(f"invalid report of an edge: {error}") from None
        self._live.record(name, report)
        return Response(200, pack(None), [BINARY])

    # -- calls

    async def _arguments(self, request: Request) -> tuple[list[Any], dict[str, Any]]:
        most = max(self._backend.limits.bulk_bytes, self._backend.limits.value_bytes)
        body = await request.body(most + FRAMING_BYTES, "a request of {size} bytes is too large")
        try:
            args, named = await understood(request, body, unpack, measure_message)
        except (ProtocolError, TypeError, ValueError) as error:
            text = f"the body must be [arguments, named arguments]: {error}"
            raise InvalidRequest(text) from None
        if not isinstance(args, list) or not isinstance(named, dict):
            raise InvalidRequest("the body must be [arguments, named arguments]")
        return args, named

    async def _run(self, call: Callable[[], bytes]) -> Response:
        db = self._backend.database
        try:
            data = await db._runner.run(call)
            # The newest version of the database, which is at least that of the write.
            return Response(200, data, [BINARY, (b"kv-version", b"%d" % db.version)])
        except TypeError as error:  # the method does not take these arguments
            if isinstance(error, KvError):
                raise
            raise InvalidRequest(f"invalid arguments: {error}") from None

    async def _namespace(self, request: Request, namespace_id: str, method: str) -> Response:
        call = calls.NAMESPACE_CALLS.get(method) or calls.NAMESPACE_STREAMS.get(method)
        await self._admit(request, namespace_id, call or Call("read"))
        if call is None:
            return _nothing(f"namespaces have no method {method!r} here")
        if request.method != "POST":
            return _wrong_method("POST")
        request.action, request.namespace_id = call.action, namespace_id
        args, named = await self._arguments(request)
        key = named.get("key", args[0] if args else None)
        if call.writes_key and not self._backend.key_writes.take(namespace_id, str(key)):
            raise Refused(429, "a key can be written only once per second", 1)
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
        request.take(WATCHES)

        def make(write: Write) -> None:
            calls.iterated(begin, write)

        return Response(200, written(make, request, self._backend.stopping), [BINARY])

    async def _database(self, request: Request, method: str) -> Response:
        call = calls.DATABASE_CALLS.get(method) or calls.DATABASE_STREAMS.get(method)
        token = await self._admit(
            request, None, call or Call("read"), any_namespace=method in SCOPED
        )
        if call is None:
            return _nothing(f"databases have no method {method!r} here")
        if request.method != "POST":
            return _wrong_method("POST")
        request.action = call.action
        args, named = await self._arguments(request)
        db = self._backend.database._inner
        if method in calls.DATABASE_STREAMS:
            return self._stream(request, calls.database_stream(db, method, args, named))
        if method in SCOPED:
            return await self._run(lambda: pack(_names(db, token, method, args, named)))
        return await self._run(lambda: pack(getattr(db, method)(*args, **named)))


def _names(db: Any, token: Token, method: str, args: list[Any], named: dict[str, Any]) -> Any:
    """Return the namespaces that a token may see, or the one that it asks for."""
    if method == "namespaces":
        if token.namespaces is None:
            return db.namespaces(*args, **named)
        page, per_page = named.pop("page", 1), named.pop("per_page", None)
        seen = [info for info in db.namespaces(**named) if info.id in token.namespaces]
        if per_page is None:
            return seen if page == 1 else []
        return seen[(page - 1) * per_page : page * per_page]
    if len(args) != 1 or named:
        raise TypeError(f"{method}() takes one title or id")
    (title,) = args
    if method == "namespace_by_id" or token.allows(None, write=True):
        found = getattr(db, method)(title)
    else:
        wanted = [info for info in db.namespaces() if title in (info.title, info.id)]
        if not wanted and token.namespaces is None:
            raise AccessDenied(
                f"namespace {title!r} does not exist, and a read-only token can't create it"
            )
        found = db.namespace_by_id(wanted[0].id) if wanted else None
    if found is None or not token.allows(found.id, write=False):
        raise NamespaceNotFound(str(title))
    return [found.id, found._number]


def turned_away(refusal: Refused) -> Response:
    """Return the response to a request that is not admitted."""
    kind = UpstreamUnavailable if refusal.status == 503 else AccessDenied
    response = Response.json(encode_error(kind(refusal.why)), refusal.status)
    if refusal.retry_after_s:
        pause = (b"retry-after", b"%d" % refusal.retry_after_s)
        response.headers = [*response.headers, pause]
    return response


def _nothing(text: str) -> Response:
    return Response.json(encode_error(InvalidRequest(text)), 404)


def _wrong_method(allowed: str) -> Response:
    response = Response.json(encode_error(InvalidRequest(f"the method must be {allowed}")), 405)
    response.headers = [*response.headers, (b"allow", allowed.encode())]
    return response

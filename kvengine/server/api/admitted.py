"""Check tokens before an edge forwards requests to its primary.

Invariants:

* A request is forwarded only with a valid token.
"""

from __future__ import annotations

from kvengine.client.failures import encode_error
from kvengine.errors import KvError, UpstreamUnavailable
from kvengine.server.api.rest.envelope import UNAVAILABLE, ApiError, api_error, failure
from kvengine.server.api.v1 import turned_away
from kvengine.server.api.workerd import refusal
from kvengine.server.auth.access import Refused
from kvengine.server.backend import Backend
from kvengine.server.http.admission import stream_kind
from kvengine.server.http.app import Endpoint
from kvengine.server.http.messages import Request, Response, credentials


class Admitted:
    """An endpoint that forwards requests with a valid token.

    Args:
        backend: of this server.
        primary: a Forwarder.
    """

    def __init__(self, backend: Backend, primary: Endpoint) -> None:
        self._backend, self._primary = backend, primary

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        is_rest = request.surface == "client"
        header = credentials(request) if is_rest else request.header(b"authorization")
        try:
            principal = await self._backend.access.principal(header)
            if principal is None:
                raise Refused(401, "missing or invalid token")
            self._backend.begin(request, principal)
            kind = stream_kind(request.raw_parts)
            if kind is not None:
                request.take(kind)
            request.stopping = self._backend.stopping
            return await self._primary(request)
        except Refused as refused:
            return not_admitted(request, refused)
        except KvError as error:
            return unavailable(request, str(error))


def not_admitted(request: Request, refused: Refused) -> Response:
    """Return the response to a request that is not forwarded, in the format of its surface."""
    if request.surface == "workerd":
        return refusal(refused.status, refused.why, refused.retry_after_s)
    if request.surface == "client":
        return failure(api_error(refused, "request"))
    return turned_away(refused)


def unavailable(request: Request, why: str) -> Response:
    """Return the response for an unavailable primary, in the format of the surface."""
    if request.surface == "workerd":
        return refusal(503, why)
    if request.surface == "client":
        return failure(ApiError(503, UNAVAILABLE, why))
    return Response.json(encode_error(UpstreamUnavailable(why)), 503)

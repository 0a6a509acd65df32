"""The response envelope of Cloudflare's API, and its error codes.

Codes and texts are Cloudflare's where they are known (research/workers-kv.md 2.3, 2.4).  Cloudflare
does not document the statuses of most codes, so they follow HTTP.

Invariants:

* Every response except a value is an envelope.  An error never has a 2xx status, which is all that
  clients check.
* 409 is never used: the official SDKs retry such a request.
"""

from __future__ import annotations

import re
from typing import Any

from kvengine.errors import (
    InvalidRequest,
    KvError,
    LimitExceeded,
    NamespaceExists,
    NamespaceNotFound,
    StorageFull,
    StoreReadOnly,
    UpstreamUnavailable,
    VersionConflict,
)
from kvengine.server.auth.access import Refused
from kvengine.server.http.messages import Response

AUTHENTICATION = 10000
UNAVAILABLE = 10001
MALFORMED = 10012
KEY_NOT_FOUND = 10009
NAMESPACE_NOT_FOUND = 10013
NAMESPACE_EXISTS = 10014
TOO_MANY_REQUESTS = 10022
TOO_LARGE = 10024
INVALID = 10029
METHOD_NOT_ALLOWED = 10405
NO_ROUTE = 7003
VERSION_CONFLICT = 10900  # ours: if_version is an addition

# Codes by the text of an error; the first match counts.
CODES = (
    (re.compile("Invalid expiration_ttl"), 10034),
    (re.compile("Invalid expiration"), 10033),
    (re.compile("key_count_limit"), 10028),
    (re.compile("Metadata length|metadata must be|metadata is"), 10047),
    (re.compile("Value length"), TOO_LARGE),
    (re.compile("UTF-8 encoded length"), 10030),
    (re.compile("key name|Key name|a key must be"), 10042),
    (re.compile('list keys" cursor'), 10041),
    (re.compile("page must"), 10007),
    (re.compile("per_page must"), 10008),
    (re.compile("order must"), 10043),
    (re.compile("direction must"), 10044),
    (re.compile("a title must have 1 to .*not 0"), 10019),
    (re.compile("A bulk call"), TOO_LARGE),
)


class ApiError(Exception):
    """A request that is refused."""

    def __init__(self, status: int, code: int, message: str, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after_s = retry_after_s


def success(result: Any, result_info: dict[str, Any] | None = None) -> Response:
    """Return a response with a result."""
    envelope = {"result": result, "success": True, "errors": [], "messages": []}
    if result_info is not None:
        envelope["result_info"] = result_info
    return Response.json(envelope)


def failure(error: ApiError) -> Response:
    """Return an error response."""
    envelope = {
        "result": None,
        "success": False,
        "errors": [{"code": error.code, "message": error.message}],
        "messages": [],
    }
    response = Response.json(envelope, error.status)
    if error.retry_after_s:
        response.headers = [*response.headers, (b"retry-after", b"%d" % error.retry_after_s)]
    return response


def not_found() -> ApiError:
    """Return the error for an absent key."""
    return ApiError(404, KEY_NOT_FOUND, "get: 'key not found'")


def not_found_bytes() -> bytes:
    """Return the raw response to a read of an absent key, for the fast path."""
    response = failure(not_found())
    assert isinstance(response.body, bytes)
    headers = [*response.headers, (b"content-length", b"%d" % len(response.body))]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 404 Not Found\r\n" + lines + b"\r\n" + response.body


def api_error(error: KvError | Refused, operation: str) -> ApiError:
    """Return the API error for an error of kvengine.

    Args:
        error: to convert.
        operation: Cloudflare's name of the call, such as "get".
    """
    match error:
        case Refused(status=429):
            return ApiError(429, TOO_MANY_REQUESTS, error.why, error.retry_after_s)
        case Refused(status=503):
            return ApiError(503, UNAVAILABLE, error.why, error.retry_after_s)
        case Refused():
            return ApiError(error.status, AUTHENTICATION, f"Authentication error: {error.why}")
        case NamespaceNotFound():
            return ApiError(404, NAMESPACE_NOT_FOUND, f"{operation}: 'namespace not found'")
        case NamespaceExists():
            text = "a namespace with this account ID and title already exists"
            return ApiError(400, NAMESPACE_EXISTS, text)
        case VersionConflict():
            return ApiError(412, VERSION_CONFLICT, f"{operation}: '{error}'")
        case InvalidRequest():
            status = error.status if isinstance(error, LimitExceeded) else 400
            return ApiError(status, code_of(str(error)), f"{operation}: '{error}'")
        case UpstreamUnavailable() | StoreReadOnly() | StorageFull():
            return ApiError(503, UNAVAILABLE, f"{operation}: '{error}'")
    return ApiError(500, UNAVAILABLE, f"{operation}: '{error}'")


def code_of(text: str) -> int:
    """Return the error code for the text of an error."""
    return next((code for pattern, code in CODES if pattern.search(text)), INVALID)

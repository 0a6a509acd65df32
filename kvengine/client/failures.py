"""Errors over HTTP: a name and attributes, so that the client raises the same error.

Invariants:

* Only errors of kvengine are transferred; any other response is UpstreamUnavailable.
"""

from __future__ import annotations

import json
from typing import Any

from kvengine import errors
from kvengine.errors import (
    AccessDenied,
    InvalidRequest,
    KvError,
    LimitExceeded,
    NamespaceExists,
    NamespaceNotFound,
    RateLimited,
    StoreReadOnly,
    UpstreamUnavailable,
    VersionConflict,
    pass_on,
)

STATUSES: dict[type[KvError], int] = {
    NamespaceNotFound: 404,
    NamespaceExists: 409,
    VersionConflict: 412,
    AccessDenied: 403,
    RateLimited: 429,
    InvalidRequest: 400,
    StoreReadOnly: 503,
    UpstreamUnavailable: 503,
}


def status_of(error: KvError) -> int:
    """Return the status of an answer that says an error."""
    if isinstance(error, LimitExceeded):
        return error.status
    for kind, status in STATUSES.items():
        if isinstance(error, kind):
            return status
    return 500


def encode_error(error: KvError) -> dict[str, Any]:
    """Return an error as a JSON object."""
    fields = {name: value for name, value in vars(error).items() if _is_plain(value)}
    args = [value if _is_plain(value) else str(value) for value in error.args]
    return {"error": {"name": type(error).__name__, "args": args, "fields": fields}}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def decode_error(data: Any, status: int) -> KvError:
    """Return the error that an answer says."""
    try:
        found = data["error"]
        kind = getattr(errors, found["name"])
        if not issubclass(kind, KvError) or not isinstance(found["args"], list):
            raise TypeError("no error of kvengine")
        error: KvError = kind.__new__(kind, *found["args"])
        vars(error).update(found["fields"])
        str(error)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as failure:
        pass_on(failure)
        hint = "; check the URL: is it that of a kvengine server?" if status == 404 else ""
        return UpstreamUnavailable(
            f"the server responded with status {status}, without an error message{hint}"
        )
    return error


def error_of(status: int, body: bytes) -> KvError:
    """Return the error of an answer whose status says that there is one."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as failure:
        pass_on(failure)
        data = None
    return decode_error(data, status)

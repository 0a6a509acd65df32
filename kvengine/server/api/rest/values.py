"""Calls for one value.

Unlike at Cloudflare, responses have the header `kv-version`, and writes take `if_version`.

Invariants:

* A refused write changes nothing, and its body is read to the end.
"""

from __future__ import annotations

import json
import math
from typing import Any

from kvengine.errors import InvalidRequest
from kvengine.server.api.rest.call import Call
from kvengine.server.api.rest.envelope import not_found, success
from kvengine.server.api.rest.form_metadata import assembled
from kvengine.server.api.rest.multipart import Form, boundary_of, read_form
from kvengine.server.api.rest.numbers import whole
from kvengine.server.api.values import find
from kvengine.server.auth.access import Refused
from kvengine.server.http.messages import Request, Response

NO_SNIFFING = (b"x-content-type-options", b"nosniff")  # a browser must not run a stored value
OCTETS = (b"content-type", b"application/octet-stream")
METADATA_BYTES_READ = 1 << 16  # kept of a part that is too long, to report its length as JSON


async def get(call: Call) -> Response:
    """Respond with the value, without an envelope."""
    found = await find(await call.namespace(), call.key_name)
    if found is None:
        raise not_found()
    headers = [
        OCTETS,
        (b"content-length", b"%d" % len(found.value)),
        NO_SNIFFING,
        (b"kv-version", b"%d" % found.version),
    ]
    if found.expires_at is not None:
        headers.append((b"expiration", b"%d" % math.ceil(found.expires_at)))
    if found.status is not None:
        headers.append((b"cf-cache-status", found.status.encode()))
    return Response(200, found.body, headers)


async def metadata(call: Call) -> Response:
    """Respond with the metadata of a key; null if it has none."""
    found = await (await call.own_namespace()).get_metadata(call.key_name)
    if found is None:
        raise not_found()
    return success(found.metadata)


async def put(call: Call) -> Response:
    """Write a value, with metadata if the body is a form."""
    request, limits = call.request, call.backend.limits
    query = request.query
    namespace = await call.own_namespace()
    namespace._inner._name(call.key_name)  # refuses an invalid key before the body is read
    names = ("expiration", "expiration_ttl", "if_version")
    options: dict[str, Any] = {name: whole(query, name) for name in names}
    now = call.backend.database.clock.time()
    limits._expires_at(now, options["expiration"], options["expiration_ttl"])
    declared = request.content_length or 0
    if declared > limits.value_bytes and not is_form(request):
        limits._check_value_size(declared)  # before a client with Expect: 100-continue sends it
    form = await body_of(request, limits.value_bytes)
    limits._check_value_size(form.value.size)
    limits._check_metadata_size(
        form.metadata_size if form.metadata_size > METADATA_BYTES_READ else 0
    )
    found: Any = None
    if form.fields:
        found = assembled(form.fields)
    elif form.has_metadata:
        found = metadata_of(bytes(form.metadata))
    if not call.backend.key_writes.take(namespace.id, call.key_name):
        raise Refused(429, "a key can be written only once per second", 1)
    async with call.backend.large_write(form.value.size):
        version = await namespace.put(call.key_name, form.value.view(), metadata=found, **options)
    return written(version)


async def delete(call: Call) -> Response:
    """Delete a key; succeeds if it is absent."""
    namespace = await call.own_namespace()
    if_version = whole(call.request.query, "if_version")
    version = await namespace.delete(call.key_name, if_version=if_version)
    return written(version)


def is_form(request: Request) -> bool:
    """True if the body of a request is multipart/form-data."""
    return (request.header(b"content-type") or b"").lower().startswith(b"multipart/form-data")


async def body_of(request: Request, most: int) -> Form:
    """Return the value and the metadata in a body.

    Only the length of a part that is too long is kept.

    Raises:
        InvalidRequest: a form has no value, or is not valid.
    """
    kind = request.header(b"content-type") or b""
    if is_form(request):
        form = Form(most, METADATA_BYTES_READ, request)
        await read_form(request.chunks(), boundary_of(kind), form)
        return form
    form = Form(most, METADATA_BYTES_READ, request)
    async for chunk in request.chunks():
        form.value.add(chunk)
    return form


def metadata_of(data: bytes) -> object:
    """Return the metadata of a form: JSON, whatever the content type of the part.

    Raises:
        InvalidRequest: the metadata is not JSON.
    """
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidRequest("metadata must be JSON") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def written(version: int) -> Response:
    """Return the response to a write."""
    response = success({})
    response.headers = [*response.headers, (b"kv-version", b"%d" % version)]
    return response

"""Calls for many keys.

Invariants:

* A bulk call is atomic; errors are found before anything is written.
* A body of up to 100 MB is spooled to a temporary file and read item by item.  A bulk write uses
  the memory of its batch, and only one large one runs at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from kvengine.aio.edge_namespace import EdgeNamespace
from kvengine.aio.namespace import Namespace
from kvengine.errors import InvalidRequest, InvalidType, LimitExceeded
from kvengine.namespace.interface.results import BulkReport
from kvengine.namespace.transfer.pairs import PAIR_FIELDS, located
from kvengine.server.api.rest.call import Call
from kvengine.server.api.rest.envelope import MALFORMED, ApiError, success
from kvengine.server.api.rest.json_array import items
from kvengine.server.api.rest.numbers import whole_float
from kvengine.server.http.body.incoming import IN_MEMORY_BYTES, Taking, temporary
from kvengine.server.http.body.json_body import json_of
from kvengine.server.http.messages import Request, Response

GET_BODY_BYTES_MAX = 1 << 20
TIMES = ("expiration", "expiration_ttl")


async def put(call: Call) -> Response:
    """Write many pairs."""
    namespace = await call.own_namespace()

    def write(file: BinaryIO) -> BulkReport:
        report: BulkReport = namespace._inner.put_many(pairs(file), atomic=True)
        return report

    return await _from_body(call, namespace, write)


async def delete(call: Call) -> Response:
    """Delete many keys."""
    namespace = await call.own_namespace()

    def write(file: BinaryIO) -> BulkReport:
        report: BulkReport = namespace._inner.delete_many(names(file), atomic=True)
        return report

    return await _from_body(call, namespace, write)


async def _from_body(
    call: Call, namespace: Namespace, write: Callable[[BinaryIO], BulkReport]
) -> Response:
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
        size = await spool(call.request, file, namespace.limits.bulk_bytes)
        file.seek(0)
        plain: Any = file
        async with call.backend.large_write(size):
            report = await namespace._runner.run(write, plain)
    answer = {
        "successful_key_count": report.successful_key_count,
        "unsuccessful_keys": [failure["key"] for failure in report.unsuccessful_keys],
    }
    response = success(answer)
    version = call.backend.database.version
    response.headers = [*response.headers, (b"kv-version", b"%d" % version)]
    return response


async def spool(request: Request, file: Any, most: int) -> int:
    """Write a body to a file and return its size.

    Raises:
        LimitExceeded: the body is too large; it was read to its end.
        Refused: bodies use too much already.
    """
    size, taking = 0, Taking(request.take, most, request.content_length)
    async for chunk in request.chunks():
        size += len(chunk)
        if size <= most:
            taking.add(len(chunk))
            with temporary():
                file.write(chunk)
    if size > most:
        raise LimitExceeded(f"A bulk call can have at most {most} bytes, not {size}.", 413)
    return size


def pairs(file: BinaryIO) -> Iterator[Any]:
    """Yield the pairs of a bulk write.

    Raises:
        InvalidRequest: the body is not an array of objects; the namespace checks their contents.
    """
    for index, item in enumerate(items(file)):
        if not isinstance(item, dict):
            raise InvalidType(f'index {index}: expected an object with "key" and "value"')
        if not isinstance(item.get("value", ""), str):
            raise InvalidType(f"index {index}: the value must be a string")
        # Cloudflare ignores fields that it does not know; clients rely on it (workers-sdk#1677).
        known = {name: item[name] for name in PAIR_FIELDS if name in item}
        times = {name: whole_float(item[name]) for name in TIMES if name in item}
        for name, time in times.items():
            if isinstance(time, float):
                text = f"Invalid {name} of {time!r}. Please specify an integer, not float."
                raise located(InvalidType(text), f"index {index}", str(item.get("key", "")))
        yield known | times


def names(file: BinaryIO) -> Iterator[Any]:
    """Yield the keys of a bulk delete; wrangler may send {"name": key}.

    Raises:
        InvalidRequest: the body is not an array.
    """
    for item in items(file):
        yield item["name"] if isinstance(item, dict) and "name" in item else item


async def get(call: Call) -> Response:
    """Respond with many values."""
    text = f"the body of a bulk get can have at most {GET_BODY_BYTES_MAX} bytes"
    asked = await json_of(call.request, GET_BODY_BYTES_MAX, text)
    if not isinstance(asked, dict) or not isinstance(asked.get("keys"), list):
        raise ApiError(400, MALFORMED, 'the body must be an object such as {"keys": ["a", "b"]}')
    kind = asked.get("type", "text")
    if kind not in ("text", "json"):
        raise InvalidRequest(f'"{str(kind)[:40]}" is not a valid type. Use "json" or "text"')
    namespace = await call.namespace()
    keys = list(dict.fromkeys(asked["keys"])) if _are_names(asked["keys"]) else asked["keys"]
    if not asked.get("withMetadata"):
        return success({"values": await namespace.get(keys, kind)})
    values = await namespace.get_with_metadata(keys, kind)
    found: dict[str, Any] = dict.fromkeys(keys)
    for key, one in values.items():
        if one is not None:
            found[key] = {"value": one.value, "metadata": one.metadata}
            expiration = await _expiration(namespace, key)
            if expiration is not None:
                found[key]["expiration"] = expiration
    return success({"values": found})


def _are_names(keys: list[Any]) -> bool:
    return all(isinstance(key, str) for key in keys)


async def _expiration(namespace: Namespace | EdgeNamespace, key: str) -> int | None:
    if isinstance(namespace, EdgeNamespace):
        return (await namespace.read(key, "bytes")).expiration
    details = await namespace.get_metadata(key)
    return None if details is None else details.expiration

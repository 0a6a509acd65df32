"""Parse bodies of many values: within limits, and outside the event loop.

Invariants:

* The number and depth of the values are checked before any value is built; their memory counts as
  memory of the token.
* A body above SMALL_BYTES is parsed on a thread, and a large one in pieces, so that other requests
  run between two pieces.
* The result for JSON equals that of json.loads() for the whole body.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kvengine.errors import LimitExceeded
from kvengine.server.http.admission import MEMORY
from kvengine.server.http.body.body_shape import colon, cuts, measure_json
from kvengine.server.http.messages import Request

T = TypeVar("T")
Measure = Callable[[bytes], tuple[int, int]]
SMALL_BYTES = 16 << 10  # parsed at once
PIECE_BYTES = 32 << 10
VALUES_MAX = 500_000
DEPTH_MAX = 200
BYTES_OF_A_VALUE = 64  # of memory, estimated
EXECUTOR = ThreadPoolExecutor(2, thread_name_prefix="kvengine-parse")
BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"


async def json_of(request: Request, most: int, refusal: str) -> Any:
    """Return the JSON value of the body of a request; None if it is not JSON.

    Args:
        request: has the body.
        most: maximum size in bytes.
        refusal: text of the error for a larger body; "{size}" is replaced with its size.

    Raises:
        LimitExceeded: the body is too large, or has too many values.
        Refused: bodies use too much memory already.
        ClientLeft: the client did not send all of it.
    """
    data = await request.body(most, refusal)
    try:
        return await understood(request, data, loads, measure_json)
    except (ValueError, RecursionError):
        return None


async def understood(
    request: Request, body: bytes, call: Callable[[bytes], T], measure: Measure
) -> T:
    """Return the result of parsing a body with `call`.

    Args:
        request: has the body.
        body: the whole body.
        call: parses it.
        measure: returns the number of values and the depth of nesting.

    Raises:
        LimitExceeded: the body has too many values, or they are nested too deep.
        Refused: bodies use too much memory already.
    """
    if len(body) <= SMALL_BYTES:
        check_shape(body, measure)
        return call(body)
    loop = asyncio.get_running_loop()
    async with request.semaphore():  # so that one token can't use all threads
        values = await loop.run_in_executor(EXECUTOR, check_shape, body, measure)
        request.take(MEMORY, values * BYTES_OF_A_VALUE)
        return await loop.run_in_executor(EXECUTOR, call, body)


def check_shape(body: bytes, measure: Measure) -> int:
    """Return the number of values in a body.

    Raises:
        LimitExceeded: there are too many, or they are nested too deep.
    """
    values, depth = measure(body)
    if values > VALUES_MAX or depth > DEPTH_MAX:
        raise LimitExceeded(
            f"a body can have at most {VALUES_MAX} values and {DEPTH_MAX} levels of nesting, not "
            f"{values} and {depth}",
            413,
        )
    return values


def loads(data: bytes) -> Any:
    """Return the value of JSON in UTF-8.

    Raises:
        ValueError: the data is not JSON.
    """
    start = len(BOM) if data.startswith(BOM) else 0
    return _part(data, start, len(data))


def _part(data: bytes, start: int, end: int) -> Any:
    if end - start <= 2 * PIECE_BYTES:
        return json.loads(data[start:end].decode())
    while start < end and data[start] in BLANK:
        start += 1
    bracket = data[start : start + 1]
    if bracket not in (b"[", b"{"):
        return json.loads(data[start:end].decode())
    parts, behind = cuts(data, start, end, PIECE_BYTES)
    closing = data[behind - 1 : behind]
    if closing != (b"]" if bracket == b"[" else b"}") or data[behind:end].strip(BLANK):
        raise ValueError("brackets do not match")
    if len(parts) == 1 and not data[parts[0][0] : parts[0][1]].strip(BLANK):
        return [] if bracket == b"[" else {}
    return _array(data, parts) if bracket == b"[" else _object(data, parts)


def _array(data: bytes, parts: list[tuple[int, int, bool]]) -> list[Any]:
    found: list[Any] = []
    for start, end, is_one in parts:
        if is_one and end - start > 2 * PIECE_BYTES:
            found.append(_part(data, start, end))
            continue
        some = json.loads("[" + data[start:end].decode() + "]")
        if not some:
            raise ValueError("a value is missing")
        found += some
    return found


def _object(data: bytes, parts: list[tuple[int, int, bool]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for start, end, is_one in parts:
        if is_one and end - start > 2 * PIECE_BYTES:
            mark = colon(data, start, end)
            name = json.loads(data[start:mark].decode())
            if not isinstance(name, str):
                raise ValueError("a name is not a string")
            found[name] = _part(data, mark + 1, end)
            continue
        some = json.loads("{" + data[start:end].decode() + "}")
        if not some:
            raise ValueError("a member is missing")
        found |= some
    return found

"""Bodies of many values: bounded before they are understood, and understood beside the event loop.

Invariants:

* How many values a body has, and how deep, is known before one of them is made; what they will
  take is counted as memory of the token.
* A body above SMALL_BYTES is understood on a thread, and a large one in pieces: the interpreter
  is free between two of them, so others are answered.
* What is returned of JSON is what json.loads() returns of the whole.
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
SMALL_BYTES = 16 << 10  # understood at once
PIECE_BYTES = 32 << 10
VALUES_MAX = 500_000
DEPTH_MAX = 200
BYTES_OF_A_VALUE = 64  # of memory, about
EXECUTOR = ThreadPoolExecutor(2, thread_name_prefix="kvengine-parse")
BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"


async def json_of(request: Request, most: int, refusal: str) -> Any:
    """Return what the body of a request says; None if it is not JSON.

    Args:
        request: whose body it is.
        most: bytes.
        refusal: what is said of more; "{size}" in it is the size of the body.

    Raises:
        LimitExceeded: it is too large, or has too many values.
        Refused: bodies take up too much already.
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
    """Return what `call` makes of a body.

    Args:
        request: whose body it is.
        body: all of it.
        call: understands it.
        measure: returns how many values it has, and how deep they are nested.

    Raises:
        LimitExceeded: it has too many values, or they are nested too deep.
        Refused: bodies take up too much already.
    """
    if len(body) <= SMALL_BYTES:
        check_shape(body, measure)
        return call(body)
    loop = asyncio.get_running_loop()
    async with request.semaphore():  # so that a token's many bodies leave a thread for others
        values = await loop.run_in_executor(EXECUTOR, check_shape, body, measure)
        request.take(MEMORY, values * BYTES_OF_A_VALUE)
        return await loop.run_in_executor(EXECUTOR, call, body)


def check_shape(body: bytes, measure: Measure) -> int:
    """Return how many values a body has.

    Raises:
        LimitExceeded: too many, or too deep.
    """
    values, depth = measure(body)
    if values > VALUES_MAX or depth > DEPTH_MAX:
        raise LimitExceeded(
            f"a body can have at most {VALUES_MAX} values and {DEPTH_MAX} levels of nesting", 413
        )
    return values


def loads(data: bytes) -> Any:
    """Return what JSON in UTF-8 says.

    Raises:
        ValueError: it is none.
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

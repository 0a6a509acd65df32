"""Values as streams, in both directions.

Invariants:

* A value that comes as a stream is complete, and within its limit, before anything is written.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

from kvengine.aio.remote_calls import RemoteCalls
from kvengine.aio.runner import Runner
from kvengine.errors import InvalidType
from kvengine.namespace import values
from kvengine.namespace.limits import Limits

CHUNK_BYTES = 1 << 16


class ValueStream:
    """A value to read piece by piece: `await read(n)`, or `async for piece in stream`.

    It stays readable, with these bytes, whatever happens to the key and to the database.
    """

    def __init__(self, inner: values.ValueStream, runner: Runner | RemoteCalls) -> None:
        self._inner, self._runner = inner, runner

    def __len__(self) -> int:
        return len(self._inner)

    async def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`; b"" at the end."""
        return await self._runner.run(self._inner.read, size) or b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read(CHUNK_BYTES):
            yield piece


async def collected(limits: Limits, value: Any) -> Any:
    """Return a value; if it is an async stream, what it holds.

    Raises:
        LimitExceeded: it is too long; no more of it was read than shows that.
        InvalidType: the stream gives something else than bytes.
    """
    if hasattr(value, "__aiter__") and not inspect.iscoroutinefunction(
        getattr(value, "read", None)
    ):
        pieces = aiter(value)
    elif inspect.iscoroutinefunction(getattr(value, "read", None)):
        pieces = _read(value)
    else:
        return value
    data = bytearray()
    async for piece in pieces:
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise InvalidType(f"a stream must return bytes, not {type(piece).__name__}")
        data += piece
        limits._check_value_size(len(data))
    return data


async def _read(stream: Any) -> AsyncIterator[Any]:
    while piece := await stream.read(CHUNK_BYTES):
        yield piece

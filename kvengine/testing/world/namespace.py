"""A namespace of a world: what a program that is tested reads and writes at a node."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from kvengine.database.edge_namespace import ValueRead
from kvengine.errors import InvalidRequest
from kvengine.namespace.interface.results import ValueWithMetadata

if TYPE_CHECKING:
    from kvengine.edge.messages import ReadResult
    from kvengine.testing.world.clients import Clients


class WorldNamespace:
    """Values at a node of a world, with the methods that programs use most.

    Time passes in the world until each call has its answer.  Arguments, results and errors are
    those of kvengine.EdgeNamespace; metadata is not kept.
    """

    def __init__(self, world: Clients, node: str) -> None:
        self._world, self.node = world, node

    def get(
        self,
        key: str,
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> Any:
        """Return the value of a key, or None; see EdgeNamespace.get()."""
        return _decoded(self._read(key, cache_ttl, min_version, stale_if_error), type)

    def get_many(
        self,
        keys: list[str],
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> dict[str, Any]:
        """Return a dict from each key to its value."""
        return {
            key: _decoded(self._read(key, cache_ttl, min_version, stale_if_error), type)
            for key in keys
        }

    def get_with_metadata(
        self,
        key: str,
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> ValueWithMetadata:
        """Return ValueWithMetadata(value, metadata, cache_status, version)."""
        shown = self._read(key, cache_ttl, min_version, stale_if_error)
        return ValueWithMetadata(_decoded(shown, type), None, shown.status, shown.version)

    def read(
        self,
        key: str,
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> ValueRead:
        """Return ValueRead(value, metadata, expiration, version, age, cache_status)."""
        shown = self._read(key, cache_ttl, min_version, stale_if_error)
        expiration = None if shown.expires_at is None else math.ceil(shown.expires_at)
        value = _decoded(shown, type)
        return ValueRead(value, None, expiration, shown.version, shown.age, shown.status)

    def _read(
        self,
        key: str,
        cache_ttl: int | None,
        min_version: int,
        stale_if_error: float | None,
    ) -> ReadResult:
        return self._world.read(
            self.node,
            key.encode(),
            ttl=cache_ttl,
            min_version=min_version,
            stale_if_error=stale_if_error,
        )

    def put(
        self,
        key: str,
        value: Any,
        *,
        type: str | None = None,
        expiration_ttl: float | None = None,
    ) -> int:
        """Store a value and return its version.

        Args:
            key: the key.
            value: str or bytes; with type "json" anything that JSON can say.
            type: None or "json".
            expiration_ttl: seconds after which it is gone.

        Raises:
            UpstreamUnavailable: it was not acknowledged; it may have been stored all the same.
        """
        if type == "json":
            value = json.dumps(value)
        data = value.encode() if isinstance(value, str) else bytes(value)
        return self._world.write(self.node, key.encode(), data, ttl=expiration_ttl)

    def delete(self, key: str) -> int:
        """Delete a key and return the version of the change; see put() for errors."""
        return self._world.write(self.node, key.encode(), None)

    def __contains__(self, key: str) -> bool:
        return self._read(key, None, 0, None).version != 0

    def __repr__(self) -> str:
        return f"<namespace of a world at {self.node!r}>"


def _decoded(shown: ReadResult, type: str) -> Any:
    if type not in ("text", "bytes", "json"):
        raise InvalidRequest(f'in a world a type is "text", "bytes" or "json", not {type!r}')
    value = shown.value
    if value is None or type == "bytes":
        return value
    return json.loads(value) if type == "json" else value.decode("utf-8", "replace")

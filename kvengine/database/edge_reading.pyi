from collections.abc import Iterable
from typing import Any, Self, overload

from typing_extensions import disjoint_base

from kvengine.edge.lookup import Lookup
from kvengine.edge.messages import ReadOptions
from kvengine.engine.store import Store
from kvengine.namespace.limits import Limits
from kvengine.namespace.naming import Naming
from kvengine.namespace.reading import Meter

class NotCached: ...

NOT_CACHED: NotCached

@disjoint_base
class EdgeReader(Naming):
    _meter: Meter
    _options: ReadOptions

    def __new__(
        cls,
        node: Lookup,
        prefix: bytes,
        limits: Limits,
        meter: Meter,
        options: ReadOptions,
        origin_store: Store | None,
        *args: Any,
        **kwargs: Any,
    ) -> Self: ...
    def _is_there(self, seconds: float, invalidations: int) -> None: ...
    @property
    def _is_known(self) -> bool: ...
    def _decoded(self, key: str, value: bytes | None, type: str = "text") -> Any: ...
    def _try_get(self, key: str, type: str = "text") -> Any: ...
    def _try_read(
        self, key: str
    ) -> tuple[bytes, bytes, float | None, int, str | None] | NotCached | None: ...
    @overload
    def get(
        self,
        key: str,
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> Any: ...
    @overload
    def get(
        self,
        key: Iterable[str],
        type: str = "text",
        *,
        cache_ttl: int | None = None,
        min_version: int = 0,
        stale_if_error: float | None = None,
    ) -> dict[str, Any]: ...

from collections.abc import Iterable
from typing import Any, Self, overload

from typing_extensions import disjoint_base

from kvengine.engine.store import Store
from kvengine.namespace.interface.results import KeyDetails, ValueWithMetadata
from kvengine.namespace.limits import Limits
from kvengine.namespace.naming import Naming
from kvengine.namespace.recency import Recency

class WouldBlock: ...

WOULD_BLOCK: WouldBlock

@disjoint_base
class Meter:
    reads: int
    writes: int
    deletes: int
    lists: int
    bytes_in: int
    bytes_out: int
    evictions: int

@disjoint_base
class NamespaceReader(Naming):
    _store: Store
    _meter: Meter
    _recency: Recency | None

    def __new__(
        cls, store: Store, prefix: bytes, limits: Limits, meter: Meter, *args: Any, **kwargs: Any
    ) -> Self: ...
    def _refuse(self, error: BaseException | None) -> None: ...
    def _check_usable(self) -> None: ...
    @overload
    def get(self, key: str, type: str = "text", *, cache_ttl: int | None = None) -> Any: ...
    @overload
    def get(
        self, key: Iterable[str], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, Any]: ...
    def _try_get(self, key: str, type: str = "text") -> Any: ...
    def _entry(
        self, key: str
    ) -> tuple[bytes | memoryview, bytes, float | None, int, str | None] | None: ...
    def _try_read(
        self, key: str
    ) -> tuple[bytes | memoryview, bytes, float | None, int, str | None] | WouldBlock | None: ...
    @overload
    def get_with_metadata(
        self, key: str, type: str = "text", *, cache_ttl: int | None = None
    ) -> ValueWithMetadata: ...
    @overload
    def get_with_metadata(
        self, key: list[str] | tuple[str, ...], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, ValueWithMetadata | None]: ...
    def get_metadata(self, key: str) -> KeyDetails | None: ...
    def _expires_at_of(self, key: str) -> float | None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def get_many(
        self, keys: Iterable[str], type: str = "text", *, cache_ttl: int | None = None
    ) -> dict[str, Any]: ...

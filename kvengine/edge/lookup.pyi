from collections.abc import Callable
from typing import Any, Protocol, Self

from typing_extensions import disjoint_base

from kvengine.edge.messages import ReadOptions, ReadResult
from kvengine.edge.settings import Settings

CLOCK_RATES: float
COPY_BYTES: int

class _Copies(Protocol):
    values: Any
    absent: Any

    @property
    def disk(self) -> object: ...

@disjoint_base
class CacheEntry:
    value: bytes | None
    metadata: bytes
    expires_at: float | None
    version: int
    as_of: int
    validated_at: float
    read_at: float
    from_disk: bool

    def __new__(
        cls,
        value: bytes | None,
        metadata: bytes,
        expires_at: float | None,
        version: int,
        as_of: int,
        validated_at: float,
    ) -> Self: ...
    def revalidated(self, as_of: int, validated_at: float) -> CacheEntry: ...
    def shown(self, age: float, as_of: int, status: str) -> ReadResult: ...
    @property
    def size(self) -> int: ...

@disjoint_base
class Lookup:
    synced_at: float
    position: int
    covered_from: int
    min_version: int
    known_version: int
    invalidations: int
    closed: bool
    memory_hits: int
    disk_hits: int

    def __init__(
        self,
        copies: _Copies,
        settings: Settings,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None: ...
    def lookup(self, key: bytes, options: ReadOptions) -> ReadResult | None: ...

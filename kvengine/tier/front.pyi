from collections.abc import Iterable
from typing import Any, Self

from typing_extensions import disjoint_base

from kvengine.engine.store import Store
from kvengine.tier.cache import CacheCore

@disjoint_base
class Expiring:
    def __new__(cls, value: bytes, expires_at: float) -> Self: ...

@disjoint_base
class Front:
    store: Store

    def __new__(cls, store: Store, cache: CacheCore, *args: Any, **kwargs: Any) -> Self: ...
    def begin_again(self) -> None: ...
    def get(self, key: Any, default: Any = None) -> Any: ...
    def get_many(self, keys: Iterable[Any]) -> list[bytes | None]: ...
    def __contains__(self, key: object, /) -> bool: ...

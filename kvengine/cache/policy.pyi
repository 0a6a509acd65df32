from typing import Any, Self

from typing_extensions import disjoint_base

from kvengine.cache.table import Table

@disjoint_base
class Policy:
    def __new__(cls, table: Table, capacity: float, *args: Any) -> Self: ...
    def memory_usage(self) -> int: ...

@disjoint_base
class Lru(Policy):
    def __init__(self, *args: Any) -> None: ...

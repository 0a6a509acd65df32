from typing import Any, Self

from typing_extensions import disjoint_base

from kvengine.cache.greedy import Greedy

CANDIDATES: tuple[tuple[float, int, bool], ...]
FIRST_CANDIDATE: int

@disjoint_base
class Shadow:
    def __new__(
        cls, capacity: float, entries: int, candidate: Any, size_weight: float, size_floor: float
    ) -> Self: ...
    def memory_usage(self) -> int: ...

@disjoint_base
class Adaptive(Greedy):
    chosen: int

    def __init__(
        self, table: Any, capacity: Any, size_weight: float = 1.0, size_floor: float = 1.0
    ) -> None: ...
    def memory_usage(self) -> int: ...

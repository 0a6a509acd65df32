from typing import Any

from typing_extensions import disjoint_base

from kvengine.cache.policy import Policy

@disjoint_base
class Greedy(Policy):
    def __init__(
        self,
        table: Any,
        capacity: Any,
        size_weight: float = 1.0,
        size_floor: float = 1.0,
        window: float = 0.01,
        admission: int = 0,
        by_frequency: bool = True,
    ) -> None: ...
    def memory_usage(self) -> int: ...

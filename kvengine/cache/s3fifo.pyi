from typing import Any, Self

from typing_extensions import disjoint_base

from kvengine.cache.policy import Policy

@disjoint_base
class S3Fifo(Policy):
    def __new__(cls, *args: Any) -> Self: ...
    def memory_usage(self) -> int: ...

from typing import Any

from typing_extensions import disjoint_base

from kvengine.cache.policy import Policy

@disjoint_base
class WTinyLfu(Policy):
    def __init__(self, *args: Any) -> None: ...
    def memory_usage(self) -> int: ...

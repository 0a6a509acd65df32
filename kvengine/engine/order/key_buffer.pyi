from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class KeyBuffer:
    count: int
    sorted_runs: int
    removals_mark: int

    def __new__(cls, removals_mark: int) -> Self: ...
    def settle_fully(self) -> None: ...
    def memory_bytes(self) -> int: ...

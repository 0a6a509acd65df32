from typing import Any, Self

from typing_extensions import disjoint_base

SLOTS: int
TABLE_BYTES: int

@disjoint_base
class RateTable:
    def __new__(cls, memory: Any) -> Self: ...

@disjoint_base
class SharedAllowance:
    is_unlimited: bool

    def __init__(self, table: RateTable, digest: bytes, rate: float) -> None: ...
    def take(self, now: float) -> bool: ...
    def give_back(self) -> None: ...
    @property
    def wait_s(self) -> float: ...

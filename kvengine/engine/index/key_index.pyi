from typing import Self

from typing_extensions import disjoint_base

from kvengine.engine.log.segment import SegmentTable

@disjoint_base
class KeyIndex:
    count: int
    seed: int

    def __new__(cls, segments: SegmentTable) -> Self: ...
    def settle(self) -> bool: ...

def hash_of(key: bytes, seed: int) -> int: ...

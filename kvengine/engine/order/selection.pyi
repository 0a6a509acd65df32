from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class Selection:
    count: int

    def __new__(cls, room: int) -> Self: ...
    def key(self, index: int) -> bytes: ...

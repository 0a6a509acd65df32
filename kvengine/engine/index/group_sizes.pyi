from collections.abc import Iterable
from typing import Self

from typing_extensions import disjoint_base

from kvengine.entry import GroupSize

@disjoint_base
class GroupSizes:
    first: bytes
    size: int
    stale: bool

    def __new__(cls, first: bytes, size: int) -> Self: ...
    def clear(self) -> None: ...
    def invalidate(self) -> None: ...
    def sizes(self, group: bytes, now: float) -> GroupSize: ...
    def saved_rows(self) -> list[tuple[int, float, int, int]]: ...
    def load(
        self, setting: tuple[bytes, int] | None, rows: Iterable[tuple[int, float, int, int]]
    ) -> None: ...

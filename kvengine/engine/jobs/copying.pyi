from typing import Self

from typing_extensions import disjoint_base

from kvengine.engine.access.writing import Writer
from kvengine.file.mapped import MappedFile

@disjoint_base
class Copier:
    forgotten: int
    last_offset: int
    last_version: int
    living: int

    def __new__(cls, store: Writer, *, now: float, keep_after: int, drop_deletes: bool) -> Self: ...
    def begin(self, first_version: int, *, has_marked_gaps: bool) -> None: ...
    def copy(
        self, segment_id: int, offset: int, output: MappedFile, number: int, salt: int, end: int
    ) -> tuple[int, int]: ...
    def publish(self, slots: list[int]) -> bool: ...

from typing import Self

from typing_extensions import disjoint_base

from kvengine.engine.access.reading import Reader
from kvengine.entry import Change
from kvengine.file.mapped import MappedFile

MANY_BYTES: int

@disjoint_base
class Selector:
    def __new__(cls, start: bytes, *, whole: bool = False) -> Self: ...

@disjoint_base
class LogWalk:
    offset: int
    version: int

    def __new__(
        cls, file: MappedFile, salt: int, start: int, end: int, version: int = 0
    ) -> Self: ...
    def changes(
        self, after: int, limit: int, keys: Selector, bytes_limit: int = ...
    ) -> list[Change]: ...
    def skip_record(self) -> int: ...
    def next_change(self) -> tuple[Change | None, int]: ...
    def find_next(self) -> bool: ...

def walks_behind(
    store: Reader, after: int, segment_id: int, offset: int
) -> tuple[list[LogWalk], int, tuple[int, int]]: ...

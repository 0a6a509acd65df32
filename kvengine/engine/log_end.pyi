from collections.abc import Callable
from typing import TypeVar

from typing_extensions import disjoint_base

from kvengine.engine.durable import CommitGroup
from kvengine.engine.key_order import KeyOrder
from kvengine.engine.manifest import SegmentRow
from kvengine.engine.reading import Reader
from kvengine.engine.segment import NextSegment

_Result = TypeVar("_Result")

@disjoint_base
class LogEnd(Reader):
    commits: CommitGroup
    refusal: BaseException | None
    rows: list[SegmentRow]
    next_id: int
    is_tight: bool
    next_segment: NextSegment | None

    def configure_writes(
        self,
        order: KeyOrder,
        commits: CommitGroup,
        level: int,
        segment_bytes: int,
        store_to_mapping: bool,
    ) -> None: ...
    def rebase(self, order: KeyOrder) -> None: ...
    def activate(self, segment_id: int) -> None: ...
    def refuse_writes(self, error: BaseException | None) -> None: ...
    def stop_writes(self, error: BaseException) -> None: ...
    def exclusively(self, action: Callable[..., _Result], *args: object) -> _Result: ...
    def after_fork(self, goes_on: bool = False) -> None: ...
    def freeze_keys(self) -> None: ...
    def take_id(self) -> int: ...
    def replace_rows(self, rows: list[SegmentRow], others: list[SegmentRow]) -> bool: ...
    def log_bytes(self) -> int: ...
    def end_segment(self, next_segment: NextSegment) -> bool: ...

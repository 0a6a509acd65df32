from typing import Any, Self

from typing_extensions import disjoint_base

from kvengine.clock import Clock
from kvengine.engine.following.digest import DigestSum
from kvengine.engine.index.group_sizes import GroupSizes
from kvengine.engine.index.saved_index import SavedIndex
from kvengine.engine.log.control import Control
from kvengine.engine.log.segment import SegmentTable

@disjoint_base
class Reader:
    control_page: Control | None
    groups: GroupSizes | None
    digest_changes: DigestSum | None
    removals: int
    looks: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    @property
    def version(self) -> int: ...
    def configure(
        self, index: SavedIndex, segments: SegmentTable, seed: int, clock: Clock, verify: str
    ) -> None: ...
    def set_applied(self, version: int) -> None: ...
    def refuse(self, error: BaseException | None) -> None: ...
    def _refuse_use(self) -> None: ...
    def check_usable(self) -> None: ...
    @property
    def key_index(self) -> SavedIndex: ...
    @property
    def segment_table(self) -> SegmentTable: ...
    @property
    def applied_version(self) -> int: ...
    @property
    def is_refused(self) -> bool: ...

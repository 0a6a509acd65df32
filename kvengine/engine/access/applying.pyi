from typing import Self, final

from kvengine.engine.access.changing import Changer
from kvengine.engine.access.reading import Reader
from kvengine.engine.following.digest import DigestSum
from kvengine.engine.log.manifest import Manifest, SegmentRow
from kvengine.engine.order.key_order import KeyOrder
from kvengine.entry import Change
from kvengine.options import BATCH_BYTES_MAX as BATCH_BYTES_MAX

def size_of_change(change: Change) -> int: ...

@final
class Changes:
    def __new__(cls, given: tuple[Change, ...], seed: int, after: int) -> Self: ...

class Applier(Changer):
    def announce(self) -> None: ...
    def count_changes(self, changes: DigestSum) -> int: ...
    def take_over(
        self,
        other: Reader,
        order: KeyOrder,
        rows: list[SegmentRow],
        manifest: Manifest,
        active_id: int,
        goes_back: bool = True,
        **beside: object,
    ) -> bool: ...
    def apply(self, changes: tuple[Change, ...], durability: str | None = None) -> int: ...

def packed(changes: tuple[Change, ...], after: int, salt: int, start: int) -> bytes: ...

from typing import Self, final

from kvengine.engine.access.reading import Reader
from kvengine.engine.following.digest import DigestSum
from kvengine.engine.jobs.gil import yield_gil as yield_gil
from kvengine.engine.order.key_order import KeyOrder

@final
class RangeWalk:
    def __new__(cls, reader: Reader, order: KeyOrder, start: bytes, end: bytes | None) -> Self: ...
    def summed(self) -> DigestSum: ...
    def cut(self, step: int, moment: int) -> list[bytes]: ...

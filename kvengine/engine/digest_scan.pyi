from typing import Self, final

from kvengine.engine.digest import DigestSum
from kvengine.engine.key_order import KeyOrder
from kvengine.engine.reading import Reader
from kvengine.engine.turns import let_others_run as let_others_run

@final
class RangeWalk:
    def __new__(cls, reader: Reader, order: KeyOrder, start: bytes, end: bytes | None) -> Self: ...
    def summed(self) -> DigestSum: ...
    def cut(self, step: int, moment: int) -> list[bytes]: ...

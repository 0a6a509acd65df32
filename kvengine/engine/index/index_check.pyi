from typing import Self

from typing_extensions import disjoint_base

from kvengine.engine.access.reading import Reader
from kvengine.engine.order.key_order import KeyOrder
from kvengine.errors import CorruptData

REBUILD: str

@disjoint_base
class IndexCheck:
    problems: list[CorruptData]

    def __new__(cls, opened: Reader, replayed: Reader) -> Self: ...
    def run(self, order: KeyOrder) -> list[CorruptData]: ...

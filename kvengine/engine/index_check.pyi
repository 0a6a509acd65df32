from typing import Self

from typing_extensions import disjoint_base

from kvengine.engine.key_order import KeyOrder
from kvengine.engine.reading import Reader
from kvengine.errors import CorruptData

REBUILD: str

@disjoint_base
class IndexCheck:
    problems: list[CorruptData]

    def __new__(cls, opened: Reader, told: Reader) -> Self: ...
    def run(self, order: KeyOrder) -> list[CorruptData]: ...

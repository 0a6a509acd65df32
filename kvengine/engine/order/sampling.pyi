from typing import Self, final

from kvengine.engine.access.reading import Reader
from kvengine.engine.order.key_order import KeyOrder

@final
class Sampler:
    def __new__(cls, wanted: int) -> Self: ...

def sample(
    reader: Reader, order: KeyOrder, prefix: bytes, wanted: int
) -> list[tuple[bytes, int, int]]: ...

from typing import Self

from typing_extensions import disjoint_base

from kvengine.engine.access.reading import Reader
from kvengine.engine.order.key_order import KeyOrder
from kvengine.options import VALUE_BYTES_MAX as VALUE_BYTES_MAX

BAD_VERSION_CODE: int

@disjoint_base
class Replay:
    offset: int
    version: int
    bad_offset: int
    code: int

    def __new__(
        cls,
        reader: Reader,
        order: KeyOrder,
        segment_id: int,
        *,
        start: int,
        end: int,
        version: int,
        contiguous: bool,
        known: int,
    ) -> Self: ...
    def run(self, until: int = 0) -> None: ...
    def follow(self, until: int) -> None: ...

def last_durable_mark(segments: Reader, segment_id: int, start: int, end: int) -> int: ...
def may_end_at(segments: Reader, segment_id: int, end: int, version: int) -> bool: ...

from typing import Self

from typing_extensions import disjoint_base

from kvengine.engine.order.scan import Visitor

@disjoint_base
class Lines(Visitor):
    used: int
    keys: int
    value_bytes: int

    def __new__(cls, skip: int, full: int, first: bytes = b"", later: bytes = b"") -> Self: ...
    def take(self) -> bytearray: ...
    @property
    def last_key(self) -> str | None: ...

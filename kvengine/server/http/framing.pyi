from typing_extensions import disjoint_base

EXTENSION_BYTES_MAX: int
TRAILER_BYTES_MAX: int

@disjoint_base
class Body:
    used: int

    def __init__(self, length: int) -> None: ...
    @property
    def ended(self) -> bool: ...
    def feed(self, data: bytes) -> bytes: ...

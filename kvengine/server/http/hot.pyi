from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

ANSWERS_BYTES_MAX: int
HOT_WORDS: int
VALUE_BYTES_MAX: int

@disjoint_base
class HotEndpoint:
    is_own_host: Callable[[str], bool] | None
    readers: dict[bytes, Any]

    def __init__(
        self,
        account: str,
        access: Any,
        now: Callable[[], float],
        rest_not_found: bytes,
        counts: Any,
    ) -> None: ...
    def register(self, namespace_id: str, reader: Any) -> None: ...
    def unregister(self, namespace_id: str) -> None: ...

@disjoint_base
class HotConnection:
    size: int

    def __init__(self, endpoint: HotEndpoint, descriptor: int) -> None: ...
    def answer(self, data: bytes, at_once: bool) -> bytes: ...

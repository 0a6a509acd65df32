import re
from typing import Any

from typing_extensions import disjoint_base

HEAD_BYTES_MAX: int
HEADERS_MAX: int
HOST: re.Pattern[bytes]

@disjoint_base
class Headers:
    block: bytes
    is_hot: bool
    authorization: bytes | None
    namespace_id: bytes | None
    host: bytes | None
    host_is_own: bool | None
    principal: Any
    allowed: bytes | None

    def __init__(self, block: bytes) -> None: ...

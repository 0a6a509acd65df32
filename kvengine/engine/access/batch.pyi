from types import TracebackType
from typing import Self

from typing_extensions import Buffer, disjoint_base

from kvengine.engine.access.changing import Changer
from kvengine.options import BATCH_BYTES_MAX as BATCH_BYTES_MAX
from kvengine.options import METADATA_BYTES_MAX as METADATA_BYTES_MAX
from kvengine.options import VALUE_BYTES_MAX as VALUE_BYTES_MAX

@disjoint_base
class Batch:
    version: int | None
    _makes_room: bool

    def __new__(cls, store: Changer, durability: str | None = None) -> Self: ...
    def put(
        self,
        key: Buffer,
        value: Buffer,
        *,
        metadata: Buffer = b"",
        expires_at: float | None = None,
    ) -> None: ...
    def delete(self, key: Buffer) -> None: ...
    def __len__(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    def commit(self, *, if_version: int | None = None) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

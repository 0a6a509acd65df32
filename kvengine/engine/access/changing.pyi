from typing_extensions import Buffer

from kvengine.engine.access.writing import Writer
from kvengine.engine.jobs.compaction import PAUSE_MAX_S as PAUSE_MAX_S
from kvengine.options import METADATA_BYTES_MAX as METADATA_BYTES_MAX
from kvengine.options import VALUE_BYTES_MAX as VALUE_BYTES_MAX
from kvengine.options import VERSION_LIMIT as VERSION_LIMIT

class Changer(Writer):
    def put(
        self,
        key: Buffer,
        value: Buffer,
        *,
        metadata: Buffer = b"",
        expires_at: float | None = None,
        if_version: int | None = None,
        durability: str | None = None,
    ) -> int: ...
    def delete(
        self, key: Buffer, *, if_version: int | None = None, durability: str | None = None
    ) -> int: ...
    def __getitem__(self, key: Buffer, /) -> bytes: ...
    def __setitem__(self, key: Buffer, value: Buffer, /) -> None: ...
    def __delitem__(self, key: Buffer, /) -> None: ...

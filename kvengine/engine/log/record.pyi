from kvengine.errors import CorruptData
from kvengine.options import KEY_BYTES_MAX as KEY_BYTES_MAX
from kvengine.options import METADATA_BYTES_MAX as METADATA_BYTES_MAX
from kvengine.options import VALUE_BYTES_MAX as VALUE_BYTES_MAX

REASONS: dict[int, tuple[str, str]]

def encode_record(
    version: int,
    kind: int,
    flags: int,
    expires_at: float,
    key: bytes,
    metadata: bytes,
    value: bytes,
    seed: int,
) -> bytes: ...
def decode_record(
    data: bytes, seed: int, file: str = "record", offset: int = 0
) -> tuple[int, int, int, float, bytes, bytes, bytes]: ...
def damage(code: int, file: str, offset: int, found: object) -> CorruptData: ...
def layout() -> list[tuple[str, int, int]]: ...

from kvengine.errors import CorruptData

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

from typing_extensions import Buffer

LOOPS: tuple[str, ...]

def xxh3_64(data: Buffer, seed: int = 0, *, loop: str | None = None) -> int: ...

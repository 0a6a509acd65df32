import struct
from typing import Self

from typing_extensions import disjoint_base

from kvengine.engine.log.manifest import NUMBER_LIMIT as NUMBER_LIMIT
from kvengine.errors import CorruptData
from kvengine.file.directory import OutputFile
from kvengine.file.mapped import MappedFile

MAGIC: bytes
FORMAT: int
ENTRIES_MAX: int
HEADER: struct.Struct
REBUILD: str

@disjoint_base
class KeyRun:
    name: str
    count: int
    segment_limit: int
    removals_mark: int

    def __new__(cls, file: MappedFile, name: str, uuid: bytes) -> Self: ...
    def problems(self) -> list[CorruptData]: ...

@disjoint_base
class RunWriter:
    blocks: int
    count: int

    def __new__(cls, output: OutputFile) -> Self: ...
    def finish(self, uuid: bytes, segment_limit: int, removals_mark: int) -> bytes: ...
    def add_key(self, key: bytes, address: int) -> None: ...

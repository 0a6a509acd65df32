from typing import Self

from typing_extensions import disjoint_base

from kvengine.engine.reading import Reader
from kvengine.engine.writing import Writer
from kvengine.file.mapped import MappedFile

PAGE_BYTES: int

@disjoint_base
class Control:
    version: int
    durable_version: int
    generation: int
    begun: int

    def __new__(cls, file: MappedFile) -> Self: ...
    def begin(
        self, boot: int, pid: int, version: int, durable_version: int, generation: int, begun: int
    ) -> None: ...
    def connect_writer(self, store: Writer) -> None: ...
    def connect_reader(self, store: Reader) -> None: ...
    @property
    def is_valid(self) -> bool: ...
    @property
    def boot(self) -> int: ...

from collections.abc import Callable
from typing import Any, Self, final

from typing_extensions import disjoint_base

from kvengine.engine.access.reading import Reader
from kvengine.engine.index.group_sizes import GroupSizes
from kvengine.engine.order.key_order import KeyOrder
from kvengine.engine.order.selection import Selection
from kvengine.entry import Entry

@disjoint_base
class Visitor: ...

def keys_chunk(
    reader: Reader,
    order: KeyOrder,
    prefix: bytes,
    start_after: bytes | None,
    reverse: bool,
    limit: int,
) -> list[bytes]: ...
def entries_chunk(
    reader: Reader,
    order: KeyOrder,
    prefix: bytes,
    start_after: bytes | None,
    reverse: bool,
    limit: int,
) -> list[Entry]: ...
def heads_page(
    reader: Reader,
    order: KeyOrder,
    prefix: bytes,
    start_after: bytes | None,
    reverse: bool,
    limit: int,
    examine: int,
) -> tuple[list[tuple[bytes, bytes, float | None, int, int]], bytes | None]: ...
def recount_groups(reader: Reader) -> GroupSizes: ...
def visit_records(
    reader: Reader,
    order: KeyOrder,
    prefix: bytes,
    start_after: bytes | None,
    visitor: Visitor,
) -> bytes | None: ...
def living(reader: Reader) -> Callable[[Selection], None]: ...

@final
class ChunkIterator:
    def __new__(cls, reader: Reader, found: list[Any]) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

"""What a namespace hands out.  Plain data; nothing here acts."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict


class KeyInfo(NamedTuple):
    """A key as a list shows it."""

    name: str
    expiration: int | None = None  # seconds since the epoch; None: never
    metadata: Any = None  # what JSON gives; None: there is none


class KeyDetails(NamedTuple):
    """A key with everything but its value."""

    name: str
    expiration: int | None
    metadata: Any
    version: int
    size: int  # of the value, in bytes


class ListResult(NamedTuple):
    """A page of a list, which goes on while `list_complete` is false, also if `keys` is empty."""

    keys: list[KeyInfo]
    list_complete: bool
    cursor: str | None = None  # None when the list is complete
    folders: tuple[str, ...] = ()  # with a delimiter: what the keys left out begin with


class ValueWithMetadata(NamedTuple):
    """A value with its metadata; of an absent key all is None, and the version 0."""

    value: Any
    metadata: Any
    cache_status: str | None  # None here: nothing stands between a database and its disk
    version: int


class KeyChange(NamedTuple):
    """One step in the life of a key."""

    version: int
    kind: Literal["put", "delete"]
    name: str
    value: bytes | None  # None: deleted
    metadata: Any
    expiration: int | None


class DatabaseChange(NamedTuple):
    """A KeyChange, and the namespace in which it was made."""

    namespace_id: str
    version: int
    kind: Literal["put", "delete"]
    name: str
    value: bytes | None
    metadata: Any
    expiration: int | None


class Failure(TypedDict):
    """A pair of a bulk call that was refused."""

    key: str
    error: str


@dataclass(frozen=True, slots=True)
class BulkReport:
    """What became of the pairs of a bulk call."""

    successful_key_count: int
    unsuccessful_keys: list[Failure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when every pair was taken."""
        return not self.unsuccessful_keys

"""What a namespace returns, as plain data."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self, TypedDict


class NamespaceInfo(NamedTuple):
    """A namespace as a list shows it."""

    id: str  # 32 hex digits
    title: str
    max_bytes: int | None = None  # what it may hold; None: there is no such bound
    max_keys: int | None = None
    eviction: Literal["lru", "lfu"] | None = None  # which keys are evicted; None: no bounds


class KeyInfo(NamedTuple):
    """A key as a list shows it."""

    name: str
    expiration: int | None = None  # seconds since the epoch; None: never
    metadata: Any = None  # what JSON gives; None: there is none


class Key(str):
    """The name of a key, with its expiration and metadata.

    It is a str, equal to any str with the same characters.
    """

    __slots__ = ("_info",)

    _info: KeyInfo

    def __new__(cls, info: KeyInfo) -> Self:
        """Make one of a row of a list."""
        key = super().__new__(cls, info.name)
        key._info = info
        return key

    def __reduce__(self) -> tuple[Any, ...]:  # pickle and copy would give a str to __new__()
        return type(self), (self._info,)

    @property
    def name(self) -> str:
        """The name alone, as in KeyInfo."""
        return self._info.name

    @property
    def expiration(self) -> int | None:
        """Seconds since the epoch; None: never."""
        return self._info.expiration

    @property
    def metadata(self) -> Any:
        """What JSON gives; None: there is none."""
        return self._info.metadata


class KeyDetails(NamedTuple):
    """A key with everything but its value."""

    name: str
    expiration: int | None
    metadata: Any
    version: int
    size: int  # of the value, in bytes


class ListResult(NamedTuple):
    """A page of a list; more follow while `list_complete` is false, even if `keys` is empty."""

    keys: list[KeyInfo]
    list_complete: bool
    cursor: str | None = None  # None when the list is complete
    folders: tuple[str, ...] = ()  # with a delimiter: what the keys left out begin with


class ValueWithMetadata(NamedTuple):
    """A value with its metadata; for an absent key all fields are None, and the version is 0."""

    value: Any
    metadata: Any
    cache_status: str | None  # None here: nothing stands between a database and its disk
    version: int


class KeyChange(NamedTuple):
    """One change of a key."""

    version: int
    kind: Literal["put", "delete"]
    name: str
    value: bytes | None  # None: deleted
    metadata: Any
    expiration: int | None


class DatabaseChange(NamedTuple):
    """A KeyChange and its namespace."""

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
    """The outcome of a bulk call."""

    successful_key_count: int
    unsuccessful_keys: list[Failure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if no pair was refused."""
        return not self.unsuccessful_keys


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote; if it was resumed, what it added."""

    keys: int
    bytes: int  # of the file
    last_key: str | None  # where a later export goes on, with start_after
    version: int  # of the database at that moment


class RefusedLine(TypedDict):
    """A line of an imported file that was skipped."""

    line: int
    error: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The outcome of an import; if it was resumed, of this call."""

    keys: int  # pairs that were written
    bytes: int  # of their values
    expired: int  # pairs that were left out because they had ended before
    skipped: int  # lines that were left out because they were refused
    refused: list[RefusedLine] = field(default_factory=list)  # the first thousand of them
    resumed_at: int = 0  # the byte of the file at which it went on; 0: from the beginning

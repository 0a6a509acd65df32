"""How far consumers of the log have come: a small file for each, in the folder of the store.

Invariants:

* A file is replaced as a whole and ends with a checksum of itself, so it is right or damaged.
* Deletes that a consumer may not have seen are kept, unless it has not moved for `retention_s`.
* A damaged file is an error for its consumer, and holds back as one that has seen nothing would.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict, dataclass

from kvengine.engine.hash import xxh3_64
from kvengine.errors import CorruptData, InvalidRequest, InvalidType
from kvengine.file.directory import Directory

FORMAT = 1
SUFFIX = ".consumer"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
CHECKSUM_BYTES = 17

logger = logging.getLogger("kvengine")


@dataclass(frozen=True, slots=True)
class Position:
    """What is written down of a consumer."""

    name: str
    position: int  # changes up to this version were acknowledged
    begun: bool  # position 0: something may have been given out ...
    since: int  # ... when deletes up to this version had been forgotten
    moved_at: float  # seconds since the epoch: when it was acknowledged last, or begun
    owner: str  # who may acknowledge: the last one that took up the consumer

    @property
    def needed(self) -> int | None:
        """Deletes above this version must be kept for it; None: it has seen nothing yet."""
        return self.position or (self.since if self.begun else None)


def check_name(name: object) -> str:
    """Return the name of a consumer.

    Raises:
        InvalidRequest: it can't be one, or InvalidType, it is no str.
    """
    if not isinstance(name, str):
        raise InvalidType(f"the name of a consumer must be a str, not {type(name).__name__}")
    if NAME.fullmatch(name) is None:
        raise InvalidRequest(
            "the name of a consumer has 1 to 100 letters, digits, '_', '-' and '.', and does not "
            f"begin with '.'; not {name!r}"
        )
    return name


def encode(position: Position) -> bytes:
    """Return a position as the bytes of its file."""
    body = json.dumps({"format": FORMAT, **asdict(position)}, separators=(",", ":")).encode()
    return body + b"\n" + b"%016x\n" % xxh3_64(body)


def decode(data: bytes, file: str) -> Position:
    """Return the position in the bytes of a file.

    Raises:
        CorruptData: they are not those of a whole, undamaged file.
    """
    body, newline, checksum = (
        data[: -CHECKSUM_BYTES - 1],
        data[-CHECKSUM_BYTES - 1 : -CHECKSUM_BYTES],
        data[-CHECKSUM_BYTES:],
    )
    expected = b"%016x\n" % xxh3_64(body)
    if newline != b"\n" or checksum != expected:
        raise _damaged(file, f"a checksum of {expected.decode().strip()}", repr(checksum))
    try:
        fields = json.loads(body)
        if fields.pop("format") != FORMAT:
            raise ValueError("another format")
        return Position(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(file, f"the fields of format {FORMAT}", repr(error)) from error


def _damaged(file: str, expected: str, found: str) -> CorruptData:
    return CorruptData(
        "position of a consumer (remove the file and it begins anew)",
        file=file,
        offset=0,
        expected=expected,
        found=found,
    )


def load(directory: Directory, name: str) -> Position | None:
    """Return the position of a consumer; None if there is none of that name.

    Raises:
        CorruptData: its file is damaged.
    """
    try:
        data = directory.read(name + SUFFIX)
    except FileNotFoundError:
        return None
    return decode(data, name + SUFFIX)


def save(directory: Directory, position: Position) -> None:
    """Write down a position; it is on disk when the call returns."""
    directory.replace(position.name + SUFFIX, encode(position))


def names(directory: Directory) -> list[str]:
    """Return the names of all consumers, sorted."""
    found = (name.removesuffix(SUFFIX) for name in directory.names() if name.endswith(SUFFIX))
    return sorted(name for name in found if NAME.fullmatch(name))


def oldest_needed(directory: Directory, now: float, retention_s: float) -> int | None:
    """Return up to which version every consumer knows of deletes; None if there is none."""
    oldest: int | None = None
    for name in names(directory):
        try:
            position = load(directory, name)
        except CorruptData as error:
            logger.warning("deletes are kept for a consumer whose position is damaged: %s", error)
            return 0
        if position is None or now - position.moved_at > retention_s:
            continue
        if position.needed is not None:
            oldest = position.needed if oldest is None else min(oldest, position.needed)
    return oldest

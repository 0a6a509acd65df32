"""The positions of named consumers: one small file each in the folder of the store.

Invariants:

* Only a restart moves a position backward; after a crash it is the old or the new one.
* If a position is ahead of the log (after a power cut, or a restored backup), the next writer marks
  it before it writes anything: other changes will get the acknowledged versions.
* Any process with write access to the folder may change it, one at a time.
* A damaged file is an error that names it, for its consumer and for a compaction, which then drops
  no deletes.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from kvengine.engine.index.hash import xxh3_64
from kvengine.engine.log.names import consumer_of
from kvengine.engine.parts import StoreParts
from kvengine.errors import (
    CorruptData,
    InvalidRequest,
    InvalidType,
    StoreBusy,
    UnsupportedFormat,
    pass_on,
)
from kvengine.options import VERSION_LIMIT

FORMAT = 1
SUFFIX = ".consumer"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a consumer has come; FORMAT.md has what each field means."""

    uuid: str
    name: str
    position: int
    forgotten: int
    seen_at: float
    lost: int | None = None  # what was acknowledged above this version was lost; None: nothing

    def encode(self) -> bytes:
        """Return the position as the bytes of its file."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        body = json.dumps({"format": FORMAT, **fields}, separators=(",", ":")).encode()
        return body + b"\n" + b"%016x\n" % xxh3_64(body)


def decode(data: bytes, file: str) -> Position:
    """Return the position in the bytes of a file.

    Raises:
        CorruptData: they are not a whole, undamaged position.
        UnsupportedFormat: it was written by a version with another format.
    """
    body, checksum = data[:-18], data[-18:]
    expected = b"\n%016x\n" % xxh3_64(body)
    if checksum != expected:
        raise _damaged(file, len(body), expected.decode().strip(), repr(checksum))
    try:
        fields: dict[str, Any] = dict(json.loads(body))
        if fields.pop("format") != FORMAT:
            raise UnsupportedFormat(f"{file} has another format; this kvengine reads {FORMAT}")
        found = _checked(Position(**fields))
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        pass_on(error)
        raise _damaged(
            file, 0, f"the fields of format {FORMAT}", f"{type(error).__name__}: {error}"
        ) from None
    if f"{found.name}{SUFFIX}" != file:
        raise _damaged(file, 0, f"the position of {file}", f"that of {found.name!r}")
    return found


def _checked(found: Position) -> Position:
    numbers = (found.position, found.forgotten, 0 if found.lost is None else found.lost)
    if not all(type(number) is int and 0 <= number < VERSION_LIMIT for number in numbers):
        raise ValueError(f"{numbers} are not versions")
    if type(found.uuid) is not str or type(found.seen_at) not in (int, float):
        raise TypeError("expected a uuid and a time")
    if not math.isfinite(found.seen_at):
        raise ValueError(f"{found.seen_at} is not a time")
    return found


def _damaged(file: str, offset: int, expected: str, found: str) -> CorruptData:
    return CorruptData(
        "position of a consumer (remove the file to start over)",
        file=file,
        offset=offset,
        expected=expected,
        found=found,
    )


def checked_name(name: object) -> str:
    """Return the name of a consumer.

    Raises:
        InvalidRequest: it is not 1 to 64 letters, digits, "-" and "_", or begins with these two.
    """
    if not isinstance(name, str):
        raise InvalidType(f"the name of a consumer must be str, not {type(name).__name__}")
    if not NAME.fullmatch(name):
        raise InvalidRequest(
            "the name of a consumer has 1 to 64 ASCII letters, digits, '-' and '_', and begins "
            f"with a letter or a digit; {name!r} does not"
        )
    return name


def load(store: StoreParts, name: str) -> Position | None:
    """Return the position of a consumer; None if it does not exist."""
    file = name + SUFFIX
    try:
        found = decode(store.directory.read(file), file)
    except FileNotFoundError:
        return None
    own = store.manifest.uuid.hex()
    if found.uuid != own:
        raise _damaged(file, 0, f"a position in the store {own}", f"one in {found.uuid}")
    return found


def change(
    store: StoreParts, name: str, action: Callable[[Position | None], Position | None]
) -> Position | None:
    """Replace a position by what `action` makes of it, alone; return what is there then."""
    file, there = name + SUFFIX, None
    durable = store.options.durability != "os"

    def act(data: bytes | None) -> bytes | None:
        nonlocal there
        old = None if data is None else decode(data, file)
        new = action(old)
        there = old if new is None else new
        return None if new is None else new.encode()

    if store.moving.is_mine():
        raise StoreBusy(
            f"the position of consumer {name!r} can't be changed in a signal handler or a "
            "finalizer that interrupted this very thread while it changed one: do it afterwards"
        )
    with store.moving.held():
        store.directory.update(file, act, durable=durable)
    return there


def mark_lost(store: StoreParts, consumers: list[str]) -> None:
    """Note which consumers have acknowledged more than a writer has found; before it writes."""
    version = store.applied_version
    for name in consumers:
        try:
            found = load(store, name)
        except (CorruptData, UnsupportedFormat):
            continue  # its consumer raises the error
        if found is not None and found.position > version:
            change(store, name, lambda old: old and _lost(old, version))


def _lost(old: Position, version: int) -> Position | None:
    if old.position <= version:
        return None
    return replace(old, lost=version if old.lost is None else min(old.lost, version))


def begun(store: StoreParts, name: str) -> Position:
    """Return the position of a consumer that has seen nothing."""
    return Position(store.manifest.uuid.hex(), name, 0, 0, store.options.clock.time())


def moved(old: Position, version: int, forgotten: int, now: float) -> Position:
    """Return a position that has come forward; never back."""
    return replace(
        old,
        position=max(old.position, version),
        forgotten=max(old.forgotten, forgotten),
        seen_at=max(old.seen_at, now),
    )


def names(store: StoreParts) -> list[str]:
    """Return the names of all consumers, sorted."""
    return consumers_in(store.directory.names())


def consumers_in(files: list[str]) -> list[str]:
    """Return the names of the consumers whose positions are among some files, sorted."""
    found = (consumer_of(name) for name in files)
    return sorted(name for name in found if name is not None)


def oldest_held(store: StoreParts) -> int:
    """Return the version above which deletes are kept for consumers that come forward."""
    oldest, now = VERSION_LIMIT, store.options.clock.time()
    for name in names(store):
        try:
            found = load(store, name)
        except (CorruptData, UnsupportedFormat) as error:
            logger.warning("no deletes are dropped: %s", error)
            return 0
        if (
            found is not None
            and found.lost is None
            and now - found.seen_at < store.options.retention_s
        ):
            oldest = min(oldest, found.position)
    return oldest

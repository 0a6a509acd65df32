"""The names of the files in a store's folder.

Invariants:

* A file with any other name is not part of a store: it is neither read nor removed.
* Ids are never reused, so a name never stands for two files.
"""

import re

from kvengine.file.directory import GUARD_NAME
from kvengine.file.local import LOCK_NAME, OPENING_NAME

MANIFEST_NAME = "MANIFEST"
CONTROL_NAME = "CONTROL"
RESERVE_NAME = "RESERVE"

_CONSUMER = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.consumer")
_MANIFEST_TMP = re.compile(r"MANIFEST\.[0-9a-f]{1,16}\.tmp")
_LEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.lease")
_DATA = re.compile(r"([0-9a-f]{8,16})\.(log|index|keys)")


def id_of(name: str) -> int | None:
    """Return the id of a segment, saved index or key run; None if the name is none of theirs."""
    match = _DATA.fullmatch(name)
    return int(match[1], 16) if match else None


def consumer_of(name: str) -> str | None:
    """Return the name of the consumer whose position is in a file; None if it is none."""
    match = _CONSUMER.fullmatch(name)
    return match[1] if match else None


def is_segment(name: str) -> bool:
    """True if this is the name of a segment file."""
    return name.endswith(".log") and is_data(name)


def is_data(name: str) -> bool:
    """True if this is the name of a file with records, or of one derived from them."""
    return _DATA.fullmatch(name) is not None


def is_manifest_to_be(name: str) -> bool:
    """True if this is the name of a manifest that is being written, or was never put in place."""
    return _MANIFEST_TMP.fullmatch(name) is not None


def is_own(name: str) -> bool:
    """True if this is the name of a file that belongs to a store."""
    if name in (GUARD_NAME, RESERVE_NAME, OPENING_NAME) or is_manifest_to_be(name):
        return True
    if consumer_of(name.removesuffix(".tmp")) is not None:
        return True
    if _LEASE.fullmatch(name) is not None:  # of a consumer
        return True
    return is_data(name) or name.removesuffix(".tmp") in (MANIFEST_NAME, CONTROL_NAME, LOCK_NAME)

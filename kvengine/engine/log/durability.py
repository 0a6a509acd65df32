"""The levels of durability as numbers, which compiled code compares."""

from __future__ import annotations

from kvengine.errors import InvalidRequest

LEVELS = {"sync": 0, "group": 1, "interval": 2, "os": 3}


def level_of(durability: object) -> int:
    """Return the number of a durability.

    Raises:
        InvalidRequest: there is no such durability.
    """
    found = LEVELS.get(durability) if isinstance(durability, str) else None
    if found is None:
        raise InvalidRequest(f"durability must be one of {', '.join(LEVELS)}, not {durability!r}")
    return found

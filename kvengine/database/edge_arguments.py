"""Checks the arguments of an edge.

Invariants:

* Invalid arguments are refused at once, before anything is opened or requested.
"""

from __future__ import annotations

from typing import Any

from kvengine.errors import InvalidRequest, InvalidType


def check_arguments(
    upstream: Any,
    name: Any,
    always_current: Any,
    database: type,
    edge: type,
    remote: type,
    where: str = "",
) -> None:
    """Refuse invalid arguments.

    Raises:
        InvalidType, InvalidRequest: an argument is not valid.
    """
    if not isinstance(upstream, (database, edge, remote, str)):
        raise InvalidType(
            f"the upstream must be a Database or an Edge{where}, the result of connect(), or a "
            f"URL, not {type(upstream).__name__}"
        )
    if not isinstance(name, str):
        raise InvalidType(f"an edge's name must be str, not {type(name).__name__}")
    if not name or not name.isprintable():
        raise InvalidRequest(f"an edge's name must consist of printable characters, not {name!r}")
    if not isinstance(always_current, bool):
        raise InvalidType(f"always_current must be True or False, not {always_current!r}")
    if always_current and not isinstance(upstream, database):
        raise InvalidRequest("always_current needs a Database as the upstream")

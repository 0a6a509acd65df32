"""Numbers in queries, as clients write them.

Invariants:

* A whole number may be written as a float: the Python SDK sends `60.0`.
"""

from __future__ import annotations

import re
from typing import Any

from kvengine.errors import InvalidRequest

NUMBER = re.compile(r"-?[0-9]{1,18}(\.0{1,9})?")


def whole(query: dict[str, str], name: str) -> int | None:
    """Return a number of a query, or None if it is missing.

    Raises:
        InvalidRequest: the text is not a whole number.
    """
    text = query.get(name)
    if text is None:
        return None
    if not NUMBER.fullmatch(text):
        raise InvalidRequest(f"Invalid {name} of {text[:40]}. Please specify an integer.")
    return int(text.partition(".")[0])


def whole_float(value: Any) -> Any:
    """Return a whole float as an int, any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value

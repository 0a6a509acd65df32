"""Converts a piece of a file to the fields of a pair, and reports errors in it.

Invariants:

* Only standard JSON is accepted: no NaN, no Infinity.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from kvengine.errors import InvalidRequest, InvalidType, pass_on

EXPECTED = 'expected an object like {"key": "a", "value": "b"}'
TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


class NotJson(InvalidRequest):
    """A line is not JSON."""


def fields_of(line: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object.

    Raises:
        NotJson: it is not JSON in UTF-8.
        InvalidType: it is not an object.
    """
    try:
        fields = DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:
        pass_on(error)
        raise NotJson(why_not(error)) from None
    if type(fields) is dict:
        return fields
    raise InvalidType(f"{EXPECTED}, found {json_type(fields)}")


def why_not(error: Exception, start: int = 0, expected: str = EXPECTED) -> str:
    """Return why a text is not what was expected; positions in it are counted from `start`."""
    if isinstance(error, json.JSONDecodeError):
        return f"{expected}, but it is not JSON: {error.msg} at character {error.pos - start + 1}"
    if isinstance(error, UnicodeDecodeError):
        return f"{expected}, but it is not UTF-8: {error.reason} at byte {error.start + 1}"
    return f"{expected}, but it is not JSON: {error}"  # NaN; digits or brackets beyond all bounds


def json_type(value: Any) -> str:
    """Return the JSON name of a value's type, for messages."""
    return f"a JSON {TYPES.get(type(value), 'number')}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)

"""Parse metadata in form fields: `metadata[author]`, `metadata[tags][]`, `metadata[a][b]`.

Cloudflare's SDKs send an object this way (cloudflare-typescript#2664).  All values are strings,
because a form does not distinguish 1 from "1".

Invariants:

* Each name is one place in the object, and no place has two values: ambiguous fields are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from kvengine.errors import InvalidRequest

NAME = re.compile(r"metadata((?:\[[^\[\]]*\])+)")
DEPTH_MAX = 32


def assembled(fields: Iterable[tuple[str, bytes | bytearray]]) -> dict[str, Any]:
    """Return the object that form fields describe.

    Raises:
        InvalidRequest: a name is not valid, or two fields conflict.
    """
    found: dict[str, Any] = {}
    for name, data in fields:
        match = NAME.fullmatch(name)
        path = [] if match is None else re.findall(r"\[([^\[\]]*)\]", match[1])
        if not path or len(path) > DEPTH_MAX or "" in path[:-1] or path == [""]:
            raise InvalidRequest(
                f"{name[:100]!r} is not a valid metadata field; use metadata[name], "
                "metadata[name][inner] or metadata[name][]"
            )
        try:
            _put(found, path, data.decode())
        except UnicodeDecodeError:
            raise InvalidRequest(f"the field {name[:100]!r} of the form is not UTF-8") from None
    return found


def _put(found: dict[str, Any], path: list[str], value: str) -> None:
    is_item = path[-1] == ""
    *inner, last = path[:-1] if is_item else path
    for name in inner:
        found = found.setdefault(name, {})
        if not isinstance(found, dict):
            raise _ambiguous(name)
    if is_item:
        items = found.setdefault(last, [])
        if not isinstance(items, list):
            raise _ambiguous(last)
        items.append(value)
    elif found.setdefault(last, value) is not value:
        raise _ambiguous(last)


def _ambiguous(name: str) -> InvalidRequest:
    return InvalidRequest(f"the form has two values for the metadata field {name[:100]!r}")

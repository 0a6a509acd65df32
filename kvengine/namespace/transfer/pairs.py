"""One pair of a bulk write: its forms, and the errors for an invalid one.

Invariants:

* An unknown field is refused: otherwise a misspelled one would be lost silently.
* An error about a pair names its key, never its value.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

from kvengine.errors import InvalidRequest, InvalidType, LimitExceeded
from kvengine.namespace.limits import Limits
from kvengine.namespace.values import encode_value

PAIR_FIELDS = ("key", "value", "base64", "expiration", "expiration_ttl", "metadata")
LINE_BREAKS = {ord("\r"): None, ord("\n"): None}
SHOWN_CHARS = 100  # of a key, in the text of an error


class Pair(NamedTuple):
    """A key and its value, with the fields of a bulk write of the REST API."""

    key: Any
    value: Any
    base64: Any = None  # True: the value is text that stands for bytes
    expiration: Any = None
    expiration_ttl: Any = None
    metadata: Any = None


def pair_of(item: Any) -> Pair:
    """Return (key, value), or a dict with the fields of Pair, as a Pair.

    Raises:
        InvalidRequest: it is neither; what the fields hold is not looked at.
    """
    if isinstance(item, Mapping):
        for name in item:
            if name not in PAIR_FIELDS:
                raise InvalidRequest(
                    f"unknown field {name!r} in a pair; expected {', '.join(PAIR_FIELDS)}"
                )
        for name in ("key", "value"):
            if name not in item:
                raise InvalidRequest(f'the pair has no "{name}"')
        return Pair(**item)
    if not isinstance(item, (tuple, list)):
        found = type(item).__name__
    elif len(item) == 2:
        return Pair(*item)
    else:
        found = f"a {type(item).__name__} of {len(item)}"
    raise InvalidType(f'a pair must be (key, value) or a dict with "key" and "value", not {found}')


def encode_pair_value(limits: Limits, pair: Pair) -> Any:
    """Return the value of a pair as bytes or a buffer of bytes.

    Raises:
        InvalidRequest: it is not a valid value, or not valid base64.
        LimitExceeded: it is too long.
    """
    value = pair.value
    if pair.base64 is not None and not isinstance(pair.base64, bool):
        raise InvalidType(f"base64 must be true or false, not {type(pair.base64).__name__}")
    if pair.base64:
        if not isinstance(value, str):
            raise InvalidType(f"a value in base64 must be a str, not {type(value).__name__}")
        try:
            # Line breaks stand in what many encoders write (RFC 2045).
            value = base64.b64decode(value.translate(LINE_BREAKS), validate=True)
        except ValueError as error:
            raise InvalidRequest(f"the value is not base64: {error}") from None
    return encode_value(limits, value, None, None)


def key_of(item: Any) -> str:
    """Return the key of what should be a pair or a key, for a report; "" if it has none."""
    if isinstance(item, Mapping):
        item = item.get("key", "")
    elif isinstance(item, (tuple, list)):
        item = item[0] if item else ""
    return item if isinstance(item, str) else repr(item)


def located(error: InvalidRequest, where: str, key: str) -> InvalidRequest:
    """Return an error of the same kind that also says which pair or key it is about."""
    shown = key if len(key) <= SHOWN_CHARS else key[:SHOWN_CHARS] + "..."
    text = f"{where}, key {shown!r}: {error}" if key else f"{where}: {error}"
    if isinstance(error, LimitExceeded):
        return LimitExceeded(text, error.status)
    return InvalidType(text) if isinstance(error, InvalidType) else InvalidRequest(text)

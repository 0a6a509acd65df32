"""Checks of keys and numbers, with the error texts of workerd's protocol.

Texts: workers-sdk packages/miniflare/src/workers/kv/validator.worker.ts.
"""

from __future__ import annotations

from kvengine.errors import InvalidRequest, LimitExceeded
from kvengine.namespace.limits import ILLEGAL_KEYS, Limits


def check_key(key: str, limits: Limits) -> None:
    """Refuse an invalid key, with the error text of this protocol."""
    if key == "":
        raise InvalidRequest("Key names must not be empty")
    if key in ILLEGAL_KEYS:
        raise InvalidRequest(f'Illegal key name "{key}". Please use a different name.')
    check_length(key, limits)


def check_length(text: str, limits: Limits) -> None:
    """Refuse text that is longer than a key may be."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.key_bytes:
        raise LimitExceeded(
            f"UTF-8 encoded length of {size} exceeds key length limit of {limits.key_bytes}.", 414
        )


def number(query: dict[str, str], name: str) -> int | None:
    """Return a number of a query; None if it is missing, 0 if it is not a number."""
    text = query.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return 0

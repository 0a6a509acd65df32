"""The header that carries a token.

Invariants:

* A token that can't be sent is refused here; the error does not contain it.
"""

from __future__ import annotations

import re

from kvengine.errors import InvalidRequest

_SENDABLE = re.compile(r"[ -~]*[!-~]")


def bearer(token: str) -> str:
    """Return the value of the Authorization header for a token.

    Raises:
        InvalidRequest: it is empty, ends in a space, or has a character that no header can have.
    """
    if _SENDABLE.fullmatch(token):
        return f"Bearer {token}"
    raise InvalidRequest(
        "the token is empty"
        if not token
        else "a token may contain only printable ASCII characters, and no space at its end; "
        "check for a line break in the variable or file it comes from"
    )

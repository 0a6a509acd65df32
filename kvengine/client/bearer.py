"""The header that carries a token.

Invariants:

* A token that can't be sent is refused here, in words that do not repeat it.
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
        "a token can't be empty"
        if not token
        else "a token has only printable ASCII characters and no space at its end; "
        "is there a line break in the variable or file it came from?"
    )

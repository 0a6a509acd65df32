"""Tokens are stored as records, so that replicas and edges have them too.

    b"t" + SHA-256 of the token     JSON: id, name, account, namespaces, write, admin, created, rate

Invariants:

* The store never holds a token, only its SHA-256.  A token has 240 random bits, so nobody can
  guess it from its digest.
* A record never changes; a token is revoked by deleting its record.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any

from kvengine.errors import InvalidRequest

TOKEN_START = "kve_"  # noqa: S105 - a prefix by which secret scanners find tokens
TOKEN_BYTES = 30
ID_BYTES = 6


@dataclass(frozen=True, slots=True)
class Token:
    """What a token allows."""

    id: str  # 12 hex digits; revoke() takes it
    name: str
    account: str
    namespaces: tuple[str, ...] | None = None  # ids; None: all
    write: bool = False
    admin: bool = False  # may make, list and revoke tokens
    created: int = 0  # seconds since the epoch
    expires: int | None = None
    rate: float | None = None  # requests per second; None: the server's

    def encode(self) -> bytes:
        """Return the record of the token."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    def allows(self, namespace: str | None, *, write: bool) -> bool:
        """True if it may read or write a namespace; None: all of them, and their list."""
        if write and not self.write:
            return False
        return self.namespaces is None or namespace in self.namespaces


def decode(data: bytes) -> Token:
    """Return the token of a record.

    Raises:
        InvalidRequest: the record is damaged.
    """
    try:
        fields: dict[str, Any] = json.loads(data)
        if fields["namespaces"] is not None:
            fields["namespaces"] = tuple(fields["namespaces"])
        return Token(**fields)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise InvalidRequest(f"the record of a token in the store is damaged: {error}") from None


def digest(token: bytes) -> bytes:
    """Return the SHA-256 of a token, which is the key of its record."""
    return hashlib.sha256(token).digest()


def is_same(found: bytes, expected: bytes) -> bool:
    """True if two digests are equal, in constant time."""
    return hmac.compare_digest(found, expected)


def new_secret() -> str:
    """Return a new token, which is shown once and never stored."""
    return TOKEN_START + secrets.token_urlsafe(TOKEN_BYTES)


def new_id() -> str:
    """Return the id of a new token."""
    return secrets.token_hex(ID_BYTES)

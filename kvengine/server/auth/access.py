"""Authorization: from a request's header to the permissions of its token.

Invariants:

* A revoked token grants nothing: each request looks up the record of its token.  An edge looks it
  up in its copies, from which the primary's log removes it.
* Tokens are compared by their digests, in constant time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kvengine.namespace.layout import TOKENS
from kvengine.server.auth import tokens
from kvengine.server.auth.rates import Allowance, RateTable
from kvengine.server.auth.tokens import Token

BEARER = b"bearer "  # the scheme is case-insensitive (RFC 9110 11.1)
REMEMBERED_MAX = 10_000
OPEN = tokens.digest(b"")  # all requests without a token share this allowance


class Records(Protocol):
    """Reads the records of tokens."""

    def find_cached(self, key: bytes) -> bytes | object | None:
        """Return a record, None if it does not exist, or WAIT if read() must fetch it."""

    async def read(self, key: bytes) -> bytes | None:
        """Return a record, or None if it does not exist."""


WAIT = object()


class Refused(Exception):
    """A request that a token does not allow.

    status: 401 no valid token, 403 not permitted, 429 too many requests.
    retry_after_s: with 429, whole seconds until the next request is permitted.
    """

    def __init__(self, status: int, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.status, self.why, self.retry_after_s = status, why, retry_after_s


@dataclass(slots=True)
class Principal:
    """A token in use."""

    token: Token
    allowance: Allowance
    record: bytes | None  # which the token was decoded from; None: not in the store
    key: bytes = b""  # of the record


class Access:
    """The tokens of a server.

    Args:
        records: reads the records of tokens.
        account: of the server; tokens of other accounts are not valid here.
        first: a full-access token, from the environment.
        is_open: no token is required.
        rate: requests per second of each token; None: unlimited.
        now: returns the time, in seconds, on a clock that all processes share.
        rates: of all processes of the server.

    Thread-safety: for one event loop.
    """

    def __init__(
        self,
        records: Records,
        account: str,
        *,
        first: str | None,
        is_open: bool,
        rate: float | None,
        now: Callable[[], float],
        rates: RateTable,
    ) -> None:
        self._rates = rates
        self._records, self._account, self._rate, self._now = records, account, rate, now
        self.is_open = is_open
        self._known: dict[bytes, Principal] = {}
        everything = Token("first", "first", account, write=True, admin=True)
        self._first_digest = None if first is None else tokens.digest(first.encode())
        allowance = Allowance(rates, self._first_digest or OPEN, rate)
        self._first = Principal(everything, allowance, None)

    def principal_at_hand(self, header: bytes | None) -> Principal | object | None:
        """Return the principal of an Authorization header; None: not valid; WAIT: not known yet."""
        if self.is_open:
            return self._first
        if header is None or header[: len(BEARER)].lower() != BEARER:
            return None
        digest = tokens.digest(header[len(BEARER) :].strip())
        if self._first_digest is not None and tokens.is_same(digest, self._first_digest):
            return self._first
        record = self._records.find_cached(TOKENS + digest)
        if record is WAIT:
            return WAIT
        return self._understood(digest, record)  # type: ignore[arg-type]  # bytes or None

    async def admit(
        self,
        header: bytes | None,
        namespace_id: str | None,
        *,
        write: bool,
        admin: bool = False,
        any_namespace: bool = False,
    ) -> Principal:
        """Return the principal of a request, if it is permitted.

        Args:
            header: the Authorization header.
            namespace_id: the namespace of the request; None: all of them.
            write: the request changes something.
            admin: the request requires an admin token.
            any_namespace: the response shows only what the token allows.

        Raises:
            Refused: the request is not permitted.
            UpstreamUnavailable: an edge can't check the token.
        """
        principal = await self.principal(header)
        if principal is None:
            raise Refused(401, "missing or invalid token")
        if not principal.allowance.take(self._now()):
            wait_s = max(1, math.ceil(principal.allowance.wait_s))
            raise Refused(429, "too many requests with this token", wait_s)
        if admin and not principal.token.admin:
            raise Refused(403, "this requires an admin token")
        allows = any_namespace or principal.token.allows(namespace_id, write=write)
        if not admin and not allows:
            what = "write to" if write else "read"
            raise Refused(403, f"this token may not {what} this namespace")
        return principal

    def is_still(self, principal: Principal) -> bool:
        """True if a principal's token is known to be valid still, without a read."""
        record = principal.record
        return record is None or self._records.find_cached(principal.key) == record

    def is_revoked(self, principal: Principal) -> bool:
        """True if a principal's token is known to be revoked or expired."""
        if principal.record is None:
            return False
        return self._records.find_cached(principal.key) not in (principal.record, WAIT)

    async def principal(self, header: bytes | None) -> Principal | None:
        """Return the principal of an Authorization header; None: missing or not valid.

        Raises:
            UpstreamUnavailable: an edge can't check the token.
        """
        found = self.principal_at_hand(header)
        if found is WAIT:
            digest = tokens.digest((header or b"")[len(BEARER) :].strip())
            found = self._understood(digest, await self._records.read(TOKENS + digest))
        return found  # type: ignore[return-value]

    def _understood(self, digest: bytes, record: bytes | None) -> Principal | None:
        if record is None:
            self._known.pop(digest, None)
            return None
        known = self._known.get(digest)
        if known is None or known.record != record:
            token = tokens.decode(record)
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            rate = self._rate if token.rate is None else token.rate
            allowance = Allowance(self._rates, digest, rate)
            known = self._known[digest] = Principal(token, allowance, record, TOKENS + digest)
        return known if known.token.account == self._account else None

"""Authorization: from a request's header to the permissions of its token.

Invariants:

* A token that was revoked opens nothing any more: its record is looked for on each request.  At an
  edge that is the edge's copy, which the primary's log removes.
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
OPEN = tokens.digest(b"")  # whose allowance everybody has who needs no token


class Records(Protocol):
    """Where the records of tokens are read."""

    def find_cached(self, key: bytes) -> bytes | object | None:
        """Return a record, None if it does not exist, or WAIT if it must be requested."""

    async def read(self, key: bytes) -> bytes | None:
        """Return a record, or None if it does not exist."""


WAIT = object()


class Refused(Exception):
    """A request that a token does not allow.

    status: 401 no valid token, 403 it may not do that, 429 too often.
    retry_after_s: with 429, whole seconds until it may be asked again.
    """

    def __init__(self, status: int, why: str, retry_after_s: int = 0) -> None:
        super().__init__(why)
        self.status, self.why, self.retry_after_s = status, why, retry_after_s


@dataclass(slots=True)
class Principal:
    """A token in use."""

    token: Token
    allowance: Allowance
    record: bytes | None  # as it was when the token was understood; None: not in the store
    key: bytes = b""  # of the record


class Access:
    """The tokens of a server.

    Args:
        records: where tokens are found.
        account: whose server it is; tokens of other accounts open nothing.
        first: a full-access token, from the environment.
        is_open: no token is required.
        rate: requests per second of each token; None: unlimited.
        now: tells the time, in seconds, on a clock that all processes have.
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
        """Return whose request has this Authorization header, None, or WAIT."""
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
        """Return whose request this is, if it may be answered.

        Args:
            header: the Authorization header.
            namespace_id: what is asked for; None: something about all of them.
            write: it changes something.
            admin: it is for those who may administer.
            any_namespace: the answer shows only what the token allows.

        Raises:
            Refused: it may not.
            UpstreamUnavailable: an edge can't find out.
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
        """True if a principal's token was not revoked since, as far as is known at once."""
        record = principal.record
        return record is None or self._records.find_cached(principal.key) == record

    def is_revoked(self, principal: Principal) -> bool:
        """True if a principal's token is known to be revoked, expired or changed since."""
        if principal.record is None:
            return False
        return self._records.find_cached(principal.key) not in (principal.record, WAIT)

    async def principal(self, header: bytes | None) -> Principal | None:
        """Return whose request has this Authorization header; None: nobody's.

        Raises:
            UpstreamUnavailable: an edge can't find out.
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

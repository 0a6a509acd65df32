"""Rates of tokens, for tests: tables of their own, and what a table is compared with."""

from __future__ import annotations

from kvengine.server.auth.rates import Allowance, RateTable
from kvengine.server.shared import TOKENS_BYTES


def table(size: int = TOKENS_BYTES) -> RateTable:
    """Return an empty table."""
    return RateTable(bytearray(size))


def allowance(rate: float | None) -> Allowance:
    """Return the bucket of a token that nobody else uses."""
    return Allowance(table(), b"a" * 32, rate)

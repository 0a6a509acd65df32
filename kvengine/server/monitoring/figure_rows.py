"""The layout of the figures of a process in shared memory: eight-byte numbers at fixed places.

Invariants:

* All processes of a server use the same layout, and memory does not grow with what clients send.
  A kind without a place counts as "other", a status without one as the first of its class.
"""

from __future__ import annotations

from typing import NamedTuple

from kvengine.server.http.hot import HOT_WORDS

BOUNDS_S = (
    0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.0001, 0.0002, 0.0005, 0.001, 0.002,
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
BUCKETS = len(BOUNDS_S) + 1
SURFACES = ("rest", "workerd", "v1", "console", "other")
ACTIONS = (
    "read", "write", "delete", "list", "admin", "health", "watch", "log", "fetch", "changes",
    "edge", "other",
)  # fmt: skip
STATUSES = (
    200, 201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408,
    409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 428, 429, 431, 500, 501, 502, 503, 504,
    505, 507,
)  # fmt: skip


class Kind(NamedTuple):
    """A kind of request."""

    surface: str
    action: str


KINDS = tuple(Kind(surface, action) for surface in SURFACES for action in ACTIONS)
KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
STATUS_NUMBERS = {status: number for number, status in enumerate(STATUSES)}

CONNECTIONS = 0  # open now
HOT = slice(1, 1 + HOT_WORDS)
REQUESTS = slice(HOT.stop, HOT.stop + len(KINDS) * len(STATUSES))
TIMES = slice(REQUESTS.stop, REQUESTS.stop + len(KINDS) * BUCKETS)
TOTALS = slice(TIMES.stop, TIMES.stop + len(KINDS))  # nanoseconds
ROW_BYTES = -(-TOTALS.stop * 8 // 4096) * 4096


def kind_number(surface: str, action: str) -> int:
    """Return the number of a kind of request."""
    known = action if action in ACTIONS else "other"
    return KIND_NUMBERS[Kind(surface if surface in SURFACES else "other", known)]


def status_number(status: int) -> int:
    """Return the number of a status."""
    found = STATUS_NUMBERS.get(status)
    return STATUS_NUMBERS.get(status // 100 * 100, 0) if found is None else found
